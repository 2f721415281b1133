/* merge: two kernels as one, where codegen/plan.h's promises hold for the whole (plan_align.c), its slots suffice, and no third
 * kernel has to run between them. */
#include "passes/plan_group.h"

#include <stdlib.h>
#include <string.h>

enum {
  MAX_BETWEEN = 4096, /* kernels that may stand between two that become one */
  FEW_ROWS = 16,      /* fewer leave a device idle … */
  FEW_VALUES = 16384, /* … unless there is little to do */
  OTHER_SLOTS = 5     /* of a kernel with its own loop that are neither results nor operands */
};

/* ---- who reads what ---- */

void group_add_reader(Grouper *s, const Node *n, int kernel) {
  Readers *r = &s->readers[n->id];
  for (int i = 0; i < r->n; i++)
    if (r->kernel[i] == kernel) return;
  if (r->n == r->cap) {
    r->cap = r->cap ? 2 * r->cap : 4;
    r->kernel = xrealloc(r->kernel, sizeof *r->kernel * (size_t)r->cap);
  }
  r->kernel[r->n++] = kernel;
}

static void drop_reader(Grouper *s, const Node *n, int kernel) {
  Readers *r = &s->readers[n->id];
  for (int i = 0; i < r->n; i++)
    if (r->kernel[i] == kernel) {
      memmove(r->kernel + i, r->kernel + i + 1, sizeof *r->kernel * (size_t)(r->n - i - 1));
      r->n--;
      return;
    }
}

/* ---- paths ---- */

/* Marks the kernels between two places of the order that need, directly or not, a result of `a`,
 * which stands at the first one. */
static void mark_dependents(Grouper *s, int a, int to) {
  const Planner *p = s->p;
  s->serial++;
  s->mark[a] = s->serial;
  for (int at = s->place[a] + 1; at < to; at++) {
    int k = s->order[at];
    if (k < 0) continue;
    for (int o = 0; o < p->kernel[k].n_operand && s->mark[k] != s->serial; o++) {
      int before = p->kernel_of[p->kernel[k].operand[o]->id];
      if (before >= 0 && s->mark[before] == s->serial) s->mark[k] = s->serial;
    }
  }
}

/* Whether one of the two needs, through a third kernel, a result of the other; true also where too
 * many stand between them. Leaves the third ones that need the earlier one marked. */
static bool path(Grouper *s, int a, int b) {
  const Planner *p = s->p;
  if (s->place[a] > s->place[b]) {
    int t = a;
    a = b;
    b = t;
  }
  if (s->place[b] - s->place[a] > MAX_BETWEEN) return true;
  mark_dependents(s, a, s->place[b]);
  for (int o = 0; o < p->kernel[b].n_operand; o++) {
    int before = p->kernel_of[p->kernel[b].operand[o]->id];
    if (before >= 0 && before != a && s->mark[before] == s->serial) return true;
  }
  return false;
}

/* One kernel stands for two in the order: after what neither needs from the earlier one, before what
 * does. Needs the marks that path() has left. */
static void move_together(Grouper *s, int a, int b, int into) {
  int from = s->place[a] < s->place[b] ? s->place[a] : s->place[b];
  int to = s->place[a] + s->place[b] - from, n_late = 0, at = from;
  int *late = s->stack;
  for (int i = from; i <= to; i++) {
    int k = s->order[i];
    if (k < 0 || k == a || k == b) continue;
    if (s->mark[k] == s->serial)
      late[n_late++] = k;
    else
      s->order[at++] = k;
  }
  s->order[at++] = into;
  for (int i = 0; i < n_late; i++) s->order[at++] = late[i];
  while (at <= to) s->order[at++] = -1;
  for (int i = from; i <= to; i++)
    if (s->order[i] >= 0) s->place[s->order[i]] = i;
}

/* ---- two kernels as one ---- */

static bool same_domain(const Kernel *a, const Kernel *b) {
  return memcmp(&a->domain, &b->domain, sizeof a->domain) == 0;
}

static bool rows_take(const Domain *d, int64_t elements) {
  int64_t kept = d->outer * d->inner, full = kept * d->red;
  if (elements == kept) return true;
  return elements == full && d->inner == 1 && (kept >= FEW_ROWS || full <= FEW_VALUES);
}

static bool asks_queries(const Kernel *k) { return k->anchor->op == OP_attention_dq; }

/* Whose loop the union would have; NULL in *anchor: a map. false where the two do not go
 * together. */
static bool common_loop(const Planner *p, const Kernel *a, const Kernel *b, const Kernel **loop) {
  if (!a->anchor) {
    const Kernel *t = a;
    a = b;
    b = t;
  }
  *loop = a;
  if (!a->domain.red || !b->domain.red) return false; /* a reduction over scattered axes */
  if (!a->anchor) return a->domain.outer == b->domain.outer;
  if (!b->anchor) {
    if (plan_reduces(a->anchor)) return rows_take(&a->domain, b->domain.outer);
    return a->domain.outer == b->domain.outer;
  }
  if (plan_reduces(a->anchor) && plan_reduces(b->anchor)) return same_domain(a, b);
  if (plan_reduces(a->anchor) && b->anchor->op == OP_matmul) {
    const Kernel *t = a;
    *loop = a = b;
    b = t;
  }
  if (a->anchor->op == OP_matmul)
    return b->n_out == 1 && plan_is_k_sum(a->anchor, b->out[0], p->stored);
  return plan_siblings(a->anchor, b->anchor) &&
         (!asks_queries(a) == !asks_queries(b) || cg_attention_together(p->target, a->anchor));
}

static bool read_elsewhere(const Grouper *s, const Node *n, int a, int b) {
  const Readers *r = &s->readers[n->id];
  for (int i = 0; i < r->n; i++)
    if (r->kernel[i] != a && r->kernel[i] != b) return true;
  return false;
}

/* The results of both by rising id; those that nobody else reads go to `inner`. */
static bool join_outs(const Grouper *s, int a, int b, Kernel *k, Node **inner, int *n_inner) {
  const Kernel *x = &s->p->kernel[a], *y = &s->p->kernel[b];
  int i = 0, j = 0;
  *n_inner = 0;
  while (i < x->n_out || j < y->n_out) {
    bool first = j == y->n_out || (i < x->n_out && x->out[i]->id < y->out[j]->id);
    Node *n = first ? x->out[i++] : y->out[j++];
    if (!s->firm[n->id] && !read_elsewhere(s, n, a, b))
      inner[(*n_inner)++] = n;
    else if (k->n_out == CG_MAX_OUT)
      return false;
    else
      k->out[k->n_out++] = n;
  }
  return k->n_out > 0;
}

static bool slots_suffice(const Kernel *k, const Reach *r) {
  int others = k->anchor && !plan_reduces(k->anchor) ? OTHER_SLOTS : 1;
  return k->n_out + r->n_operand + r->n_random + others <= CG_MAX_SLOTS;
}

static void commit(Grouper *s, int from, int into, Kernel *k, const Reach *r) {
  Planner *p = s->p;
  int part[2] = {from, into};
  for (int i = 0; i < 2; i++) {
    Kernel *old = &p->kernel[part[i]];
    for (int o = 0; o < old->n_operand; o++) drop_reader(s, old->operand[o], part[i]);
    for (int o = 0; o < old->n_out; o++) p->kernel_of[old->out[o]->id] = -1;
  }
  k->n_operand = r->n_operand;
  k->operand = arena_copy(p->arena, r->operand, sizeof *k->operand * (size_t)r->n_operand);
  p->kernel[from].gone = true;
  p->kernel[into] = *k;
  for (int o = 0; o < k->n_operand; o++) group_add_reader(s, k->operand[o], into);
  for (int o = 0; o < k->n_out; o++) p->kernel_of[k->out[o]->id] = into;
}

/* The region that all of its results are recomputed for; 0 where they are not. */
static int recomputed(const Kernel *k) {
  int region = k->out[0]->region;
  for (int i = 1; i < k->n_out; i++)
    if (k->out[i]->region != region) return 0;
  return region < 0 ? region : 0;
}

/* What is recomputed must not come early, with what it is computed from or reads as well; with what
 * asks for it is right. */
static bool keeps_late(const Kernel *a, const Kernel *b, bool b_asks) {
  int x = recomputed(a), y = recomputed(b);
  return x == y || (b_asks && y == 0);
}

bool group_merge(Grouper *s, int a, int b, bool b_asks) {
  Planner *p = s->p;
  if (a == b || a < 0 || b < 0 || p->kernel[a].gone || p->kernel[b].gone) return false;
  if (!keeps_late(&p->kernel[a], &p->kernel[b], b_asks)) return false;
  if (p->kernel[a].assembles || p->kernel[b].assembles) return false;
  const Kernel *loop;
  if (!common_loop(p, &p->kernel[a], &p->kernel[b], &loop)) return false;
  Kernel k = {.anchor = loop->anchor, .domain = loop->domain};
  Node *inner[2 * CG_MAX_OUT];
  int n_inner;
  if (!join_outs(s, a, b, &k, inner, &n_inner)) return false;
  for (int i = 0; i < n_inner; i++) p->stored[inner[i]->id] = false;
  KernelJob job = plan_job(p, &k);
  Reach reach;
  bool ok = plan_reach(&job, &k.domain, NULL, &reach) && slots_suffice(&k, &reach) &&
            (!k.anchor || k.anchor->op != OP_matmul || cg_matmul_accepts(&job)) && !path(s, a, b);
  for (int i = 0; i < n_inner && !ok; i++) p->stored[inner[i]->id] = true;
  if (!ok) return false;
  move_together(s, a, b, a < b ? b : a);
  commit(s, a < b ? a : b, a < b ? b : a, &k, &reach);
  return true;
}
