/* The planner's referee: replays a plan on a map of who wrote which bytes. Shares nothing with the
 * planner but the plan. */
#include "passes/plan_internal.h"

#include <inttypes.h>
#include <stdlib.h>

typedef struct Owned { /* bytes that hold the whole value of a node */
  PlanPlace place;
  const Node *node;
  int step;              /* that wrote it, −1: there from the start */
  int read, read_before; /* the last two steps that read it, −1 */
} Owned;

typedef struct Checker {
  const Plan *plan;
  const Layout *layout;
  Buf *errors;
  Owned *owned;
  int n, cap;
  int *last;  /* by node id: where in `owned` it was put last, as a first guess */
  int *epoch; /* by step: barriers up to and before it */
} Checker;

static bool same(const PlanPlace *a, const PlanPlace *b) {
  return a->chunk == b->chunk && a->offset == b->offset && a->bytes == b->bytes &&
         a->run == b->run && a->pitch == b->pitch;
}

static Owned *find(Checker *c, const PlanPlace *p, const Node *n) {
  for (int i = c->last[n->id], left = c->n; left > 0; i++, left--) {
    Owned *o = &c->owned[i % c->n];
    if (o->node == n && same(&o->place, p)) return o;
  }
  return NULL;
}

static void own(Checker *c, const PlanPlace *p, const Node *n, int step) {
  if (c->n == c->cap) {
    c->cap = c->cap ? 2 * c->cap : 64;
    c->owned = xrealloc(c->owned, sizeof *c->owned * (size_t)c->cap);
  }
  c->last[n->id] = c->n;
  c->owned[c->n++] = (Owned){.place = *p, .node = n, .step = step, .read = -1, .read_before = -1};
}

static void check_read(Checker *c, int step, const Node *n, const PlanPlace *p) {
  Owned *o = find(c, p, n);
  if (!o) {
    buf_printf(c->errors, "step %d reads %%%d where it is not\n", step, n->id);
    return;
  }
  if (o->step >= 0 && c->epoch[o->step] == c->epoch[step])
    buf_printf(c->errors, "step %d reads %%%d of step %d with no barrier between\n", step, n->id,
               o->step);
  o->read_before = o->read;
  o->read = step;
}

static bool kernel_domain(const KernelJob *job, Domain *d) {
  const Node *n = job->anchor ? job->anchor : job->out[0];
  *d = (Domain){type_count(&n->type), 1, 1};
  return !plan_reduces(n) || plan_domain(n, d);
}

/* Whether the kernel reads the old value only at the place where it computes one of its outs, so
 * that this one may lie over it. */
static bool reads_flat(const KernelJob *job, const Node *old) {
  Domain d;
  Reach reach;
  return kernel_domain(job, &d) && plan_reach(job, &d, old, &reach) && reach.flat;
}

static void check_write(Checker *c, int step, const Node *n, const PlanPlace *p) {
  const PlanStep *s = &c->plan->step[step];
  uint64_t align = p->run ? PLAN_ALIGN_RUNS : PLAN_ALIGN;
  if (p->chunk < 0 || p->chunk >= c->layout->n_chunk || p->offset % align || p->run % align ||
      p->pitch % align || plan_end(p) + PLAN_ALIGN > c->layout->chunk[p->chunk].bytes ||
      p->bytes != layout_bytes(c->layout, &n->type))
    buf_printf(c->errors, "step %d writes out of its chunk\n", step);
  int kept = 0;
  for (int i = 0; i < c->n; i++) {
    const Owned *o = &c->owned[i];
    if (!plan_overlap(&o->place, p)) {
      if (c->last[o->node->id] == i) c->last[o->node->id] = kept;
      if (kept++ < i) c->owned[kept - 1] = *o;
      continue;
    }
    if (o->step == step)
      buf_printf(c->errors, "step %d writes two results to one place\n", step);
    else if (o->step >= 0 && c->epoch[o->step] == c->epoch[step])
      buf_printf(c->errors, "step %d overwrites step %d with no barrier between\n", step, o->step);
    bool reads_it = o->read == step;
    int other = reads_it ? o->read_before : o->read;
    if (other >= 0 && c->epoch[other] == c->epoch[step])
      buf_printf(c->errors, "step %d overwrites what step %d reads with no barrier between\n", step,
                 other);
    if (reads_it && (s->job.copy || !same(&o->place, p) || !reads_flat(&s->job, o->node)))
      buf_printf(c->errors, "step %d overwrites %%%d while it reads it\n", step, o->node->id);
  }
  c->n = kept;
  own(c, p, n, step);
}

static void check_ends(Checker *c) {
  const Graph *g = c->plan->graph;
  for (int i = 0; i < g->n_output; i++) {
    const Output *o = &g->output[i];
    PlanPlace to = c->plan->output[i];
    if (o->kind == OUT_update) {
      const LayoutList *list[2] = {&c->layout->param, &c->layout->state};
      for (int l = 0; l < 2; l++)
        for (int t = 0; t < list[l]->n; t++)
          if (list[l]->tensor[t].name == o->name) to = list[l]->tensor[t].place;
    }
    if (!find(c, &to, plan_home(o->node)))
      buf_printf(c->errors, "%s is not in its place at the end\n", o->name);
  }
}

/* Params and states that the program does not replace hold at the end what they held at the
 * start. */
static void check_kept(Checker *c) {
  const Graph *g = c->plan->graph;
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    if (n->op != OP_param && n->op != OP_state) continue;
    bool replaced = false;
    for (int o = 0; o < g->n_output; o++)
      replaced = replaced || (g->output[o].kind == OUT_update && g->output[o].name == n->name);
    if (!replaced && !find(c, &c->plan->place[i], n))
      buf_printf(c->errors, "%s is overwritten\n", n->name);
  }
}

/* Whether the results of the kernel can be computed together. */
static void check_together(Checker *c, int step) {
  const KernelJob *job = &c->plan->step[step].job;
  Domain d;
  Reach reach;
  if (job->n_out > 1 && (!kernel_domain(job, &d) || !plan_reach(job, &d, NULL, &reach)))
    buf_printf(c->errors, "step %d: its results do not belong in one kernel\n", step);
}

/* A kernel stores its results as the plan's places say. */
static void check_runs(Checker *c, int step) {
  const PlanStep *s = &c->plan->step[step];
  for (int o = 0; o < s->job.n_out; o++) {
    KernelRuns lies = s->job.runs ? s->job.runs[o] : (KernelRuns){0};
    uint64_t element = cg_element_bytes(c->layout->target, (DType)s->job.out[o]->type.dtype);
    if (element * (uint64_t)lies.run != s->result[o].run ||
        (lies.run && element * (uint64_t)lies.pitch != s->result[o].pitch))
      buf_printf(c->errors, "step %d stores %%%d in other runs than its place has\n", step,
                 s->job.out[o]->id);
  }
}

/* An assembled concat is there when all its sources lie where they belong in it. */
static void check_assembled(Checker *c, int step) {
  const PlanStep *s = &c->plan->step[step];
  const Node *n = s->job.out[0];
  PlanPlace at = s->result[0];
  uint64_t pieces = 1;
  for (int i = 0; i < n->ints[0]; i++) pieces *= (uint64_t)n->type.dim[i];
  for (int i = 0; i < n->n_src; i++) {
    const Node *home = plan_home(n->src[i]);
    at.bytes = layout_bytes(c->layout, &home->type);
    at.run = pieces > 1 ? at.bytes / pieces : 0;
    at.pitch = pieces > 1 ? layout_bytes(c->layout, &n->type) / pieces : 0;
    if (!find(c, &at, home))
      buf_printf(c->errors, "step %d: %%%d is not in its place in %%%d\n", step, home->id, n->id);
    at.offset += at.bytes / pieces;
  }
  own(c, &s->result[0], n, step);
}

bool plan_check(const Plan *plan, const Layout *layout, Buf *errors) {
  size_t before = errors->len;
  Checker c = {.plan = plan, .layout = layout, .errors = errors};
  c.epoch = xcalloc((size_t)plan->n_step + 1, sizeof *c.epoch);
  c.last = xcalloc((size_t)plan->graph->n_node + 1, sizeof *c.last);
  for (int i = 0; i < plan->graph->n_node; i++)
    if (plan_given(plan->graph->node[i]) && plan->place[i].chunk >= 0)
      own(&c, &plan->place[i], plan->graph->node[i], -1);
  for (int i = 0; i < plan->n_step; i++) {
    const PlanStep *s = &plan->step[i];
    c.epoch[i] = (i ? c.epoch[i - 1] : 0) + s->barrier;
    if (s->assembles) {
      check_assembled(&c, i);
      continue;
    }
    check_together(&c, i);
    check_runs(&c, i);
    if (s->job.copy) {
      check_read(&c, i, s->job.out[0], &s->source);
    } else {
      Node *operand[CG_MAX_SLOTS];
      int n = cg_operands(&s->job, operand, CG_MAX_SLOTS);
      for (int o = 0; o < n; o++) check_read(&c, i, operand[o], &plan->place[operand[o]->id]);
    }
    for (int o = 0; o < s->job.n_out; o++) check_write(&c, i, s->job.out[o], &s->result[o]);
  }
  check_ends(&c);
  check_kept(&c);
  free(c.epoch);
  free(c.last);
  free(c.owned);
  return errors->len == before;
}
