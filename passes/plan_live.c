/* The largest live set of a plan's order: the most bytes of scratch that are in use at one step,
 * wherever they lie: written by it, or read by it, or written before and read later. No placement can have a
 * smaller peak. */
#include "passes/plan_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct Range { /* bytes begin … end − 1 of a chunk */
  int chunk;
  uint64_t begin, end;
} Range;

typedef struct LiveSet { /* disjoint */
  Range *at;
  int n, cap;
  uint64_t bytes;
} LiveSet;

static void push(LiveSet *s, Range r) {
  if (r.begin >= r.end) return;
  if (s->n == s->cap) {
    s->cap = s->cap ? 2 * s->cap : 64;
    s->at = xrealloc(s->at, sizeof *s->at * (size_t)s->cap);
  }
  s->at[s->n++] = r;
  s->bytes += r.end - r.begin;
}

static void remove_range(LiveSet *s, Range r) {
  for (int i = s->n - 1; i >= 0; i--) {
    Range old = s->at[i];
    if (old.chunk != r.chunk || old.end <= r.begin || r.end <= old.begin) continue;
    s->bytes -= old.end - old.begin;
    s->at[i] = s->at[--s->n];
    push(s, (Range){old.chunk, old.begin, r.begin < old.begin ? old.begin : r.begin});
    push(s, (Range){old.chunk, r.end > old.end ? old.end : r.end, old.end});
  }
}

static void add_range(LiveSet *s, Range r) {
  remove_range(s, r);
  push(s, r);
}

static bool in_scratch(const Layout *l, const PlanPlace *p, Range *out) {
  *out = (Range){p->chunk, p->offset, plan_end(p)};
  return p->chunk >= 0 && l->chunk[p->chunk].cls == IMG_SCRATCH;
}

/* Assembled concats of which some parts have been computed and others have not, counted backwards. Parts in runs share one
 * stretch of bytes, which is in use from the first part on. */
typedef struct Open {
  struct {
    Range at;
    int left;
  } concat[16];
  int n;
} Open;

static void open_concat(Open *o, const Layout *l, const PlanStep *s) {
  Range r;
  if (!in_scratch(l, &s->result[0], &r)) return;
  if (o->n == COUNT_OF(o->concat))
    memmove(o->concat, o->concat + 1, sizeof *o->concat * (size_t)--o->n);
  o->concat[o->n].at = r;
  o->concat[o->n++].left = s->job.out[0]->n_src;
}

/* Before the step that computes the part: the stretch is free where it was the first one. */
static void remove_part(LiveSet *live, Open *o, const Range *part) {
  for (int i = o->n - 1; i >= 0; i--) {
    const Range *at = &o->concat[i].at;
    if (at->chunk != part->chunk || part->begin < at->begin || part->end > at->end) continue;
    if (--o->concat[i].left == 0) remove_range(live, *at);
    return;
  }
}

uint64_t plan_live_bytes(const Plan *plan, const Layout *l) {
  LiveSet live = {0}; /* behind the step */
  Open open = {0};
  uint64_t most = 0;
  Range r;
  for (int i = plan->n_step - 1; i >= 0; i--) {
    const PlanStep *s = &plan->step[i];
    if (s->assembles) {
      open_concat(&open, l, s);
      continue;
    }
    PlanPlace operand[CG_MAX_SLOTS];
    int n = plan_step_reads(plan, s, operand);
    for (int o = 0; o < s->job.n_out; o++)
      if (in_scratch(l, &s->result[o], &r)) add_range(&live, r);
    for (int k = 0; k < n; k++)
      if (in_scratch(l, &operand[k], &r)) add_range(&live, r);
    if (live.bytes > most) most = live.bytes;
    for (int o = 0; o < s->job.n_out; o++) {
      if (!in_scratch(l, &s->result[o], &r)) continue;
      if (s->result[o].run)
        remove_part(&live, &open, &r);
      else
        remove_range(&live, r);
    }
    for (int k = 0; k < n; k++)
      if (in_scratch(l, &operand[k], &r)) add_range(&live, r);
  }
  free(live.at);
  return most;
}
