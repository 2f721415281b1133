/* align: where inside a kernel a value is asked for. A kernel of domain outer · red · inner computes
 * some values once per place: its outs, the reductions and the product inside. Each of them may be
 * asked for at its own place only,
 *
 *   FULL  outer · red · inner elements, at the same flat index
 *   KEPT  outer · inner elements, at the flat index without red
 *
 * since anything else belongs to another invocation. Going from an out towards its sources,
 * elementwise operations and reshapes keep the place, an expand of exactly red leads from FULL to
 * KEPT, a reduction over red from KEPT to FULL, and all else to arbitrary indices. */
#include "passes/plan_internal.h"

#include <string.h>

typedef enum Place { PLACE_full, PLACE_kept, PLACE_any } Place;

enum { SEEN = 1024, MAX_VISITS = 240 };

typedef struct Walk {
  const KernelJob *job;
  Domain d;
  const Node *flat;
  bool stores_full; /* some out is FULL, and red > 1 */
  Reach *reach;
  uint64_t seen[SEEN]; /* keys of what was visited, hashed; 0: empty */
  int n_seen;
} Walk;

/* The axes of `mark` as one block of neighbouring dimensions, those of length 1 aside. */
static bool block(const Type *t, const bool *mark, Domain *d) {
  *d = (Domain){1, 1, 1};
  for (int i = 0; i < t->rank; i++) {
    if (t->dim[i] == 1) continue;
    if (mark[i] && d->inner > 1) return false;
    if (mark[i])
      d->red *= t->dim[i];
    else if (d->red > 1)
      d->inner *= t->dim[i];
    else
      d->outer *= t->dim[i];
  }
  return d->red > 1;
}

bool plan_domain(const Node *n, Domain *d) {
  bool mark[IR_MAX_RANK] = {0};
  for (int i = 0; i < n->n_int; i++) mark[n->ints[i]] = true;
  return block(&n->src[0]->type, mark, d);
}

static bool same_domain(const Domain *a, const Domain *b) {
  return a->outer == b->outer && a->red == b->red && a->inner == b->inner;
}

static bool expands_red(const Walk *w, const Node *n) {
  bool mark[IR_MAX_RANK] = {0};
  Domain d;
  for (int i = 0; i < n->type.rank; i++)
    mark[i] = n->src[0]->type.dim[i] == 1 && n->type.dim[i] > 1;
  return block(&n->type, mark, &d) && same_domain(&d, &w->d);
}

/* Its kernel can compute functions of it. */
static bool is_product(const Node *n) { return n->op == OP_matmul || n->op == OP_scatter_add; }

static int64_t full_count(const Walk *w) { return w->d.outer * w->d.red * w->d.inner; }
static int64_t kept_count(const Walk *w) { return w->d.outer * w->d.inner; }

/* The only element of a tensor is at every place that has one element. */
static Place normal(const Walk *w, const Node *n, Place at) {
  if (at == PLACE_any && type_count(&n->type) == 1 && kept_count(w) == 1) at = PLACE_kept;
  return at == PLACE_kept && w->d.red == 1 ? PLACE_full : at;
}

static bool at_own_place(const Walk *w, const Node *n, Place at) {
  int64_t count = type_count(&n->type);
  return (at == PLACE_full && count == full_count(w)) ||
         (at == PLACE_kept && count == kept_count(w));
}

static bool first_visit(Walk *w, const Node *n, Place at, bool below) {
  uint64_t key = 1 + ((uint64_t)n->id * 4 + at) * 2 + below;
  for (uint64_t h = key * 0x9e3779b97f4a7c15u >> 40;; h++) {
    uint64_t *slot = &w->seen[h % SEEN];
    if (*slot == key) return false;
    if (*slot) continue;
    *slot = key;
    w->n_seen++;
    return true;
  }
}

static bool add_operand(Walk *w, Node *n, Place at) {
  Reach *r = w->reach;
  /* One invocation stores a row's KEPT results while others may still be at its FULL ones. */
  if (n == w->flat && (!at_own_place(w, n, at) || (at == PLACE_kept && w->stores_full)))
    r->flat = false;
  for (int i = 0; i < r->n_operand; i++)
    if (r->operand[i] == n) return true;
  if (r->n_operand == CG_MAX_SLOTS) return false;
  r->operand[r->n_operand++] = n;
  return true;
}

/* A value that the kernel computes once per place. `below` a reduction over columns no other
 * reduction can be had. */
static bool shared_ok(const Walk *w, const Node *n, Place at, bool below) {
  Domain d;
  if (is_product(n) && n != w->job->anchor) return false;
  if (!plan_reduces(n)) return at_own_place(w, n, at);
  if (below && w->d.inner > 1) return false;
  return at == PLACE_kept && plan_domain(n, &d) && same_domain(&d, &w->d);
}

static bool visit(Walk *w, Node *n, Place at, bool below);

static bool visit_sources(Walk *w, const Node *n, Place at, bool below) {
  bool ok = true;
  for (int s = 0; ok && s < n->n_src; s++) ok = visit(w, n->src[s], at, below);
  return ok;
}

static bool visit(Walk *w, Node *n, Place at, bool below) {
  at = normal(w, n, at);
  if (!first_visit(w, n, at, below)) return true;
  if (w->n_seen > MAX_VISITS) return false;
  bool stored = w->job->stored[n->id], out = cg_is_out(w->job, n);
  if (stored && !out) return add_operand(w, n, at);
  if ((out || plan_reduces(n) || is_product(n)) && !shared_ok(w, n, at, below)) return false;
  if (n->op == OP_random) w->reach->n_random++;
  if (plan_reduces(n))
    return ++w->reach->n_reduction <= CG_MAX_REDUCTIONS && visit(w, n->src[0], PLACE_full, true);
  if ((ir_op[n->op].flags & IR_EW) || n->op == OP_reshape) return visit_sources(w, n, at, below);
  if (n->op == OP_expand && at == PLACE_full && expands_red(w, n))
    return visit(w, n->src[0], PLACE_kept, below);
  return visit_sources(w, n, PLACE_any, below);
}

/* ---- kernels with a loop of their own ---- */

/* Only tells where the value is stored. */
static bool moves(const Node *n) { return n->op == OP_permute || n->op == OP_reshape; }

/* An f32 value rounded to 16 bits. */
static bool narrows(const Node *n) {
  return n->op == OP_cast && dtype_is_16((DType)n->type.dtype) && n->src[0]->type.dtype == DT_f32;
}

static bool has_own_loop(const Node *anchor) {
  return anchor && !plan_reduces(anchor) && !is_product(anchor);
}

bool plan_same_arguments(const Node *a, const Node *b) {
  return a->n_src == b->n_src && a->value == b->value && a->n_int == b->n_int &&
         memcmp(a->src, b->src, sizeof *a->src * (size_t)a->n_src) == 0 &&
         memcmp(a->ints, b->ints, sizeof *a->ints * (size_t)a->n_int) == 0;
}

bool plan_siblings(const Node *a, const Node *b) {
  if (a == b) return true;
  if (!plan_is_attention(a->op) || !plan_is_attention(b->op)) return false;
  if (ir_attention_sources(a->op) != ir_attention_sources(b->op)) {
    if (a->op != OP_attention && a->op != OP_attention_lse) return false;
    if (b->op != OP_attention && b->op != OP_attention_lse) return false;
    AttentionAttr x = ir_attention(a), y = ir_attention(b);
    return a->src[0] == b->src[0] && a->src[1] == b->src[1] && x.mask == y.mask &&
           x.scale == y.scale && x.cap == y.cap && x.lo == y.lo && x.hi == y.hi &&
           x.shift == y.shift;
  }
  bool together = ir_attention(a).shift || (a->op != OP_attention_dq && b->op != OP_attention_dq);
  return together && plan_same_arguments(a, b);
}

/* Outs are the anchor, its siblings, and of attention such permuted and rounded. */
static bool visit_own_loop(Walk *w) {
  const KernelJob *job = w->job;
  int64_t stride[IR_MAX_RANK];
  for (int i = 0; i < job->n_out; i++) {
    const Node *n = job->out[i];
    while (plan_is_attention(job->anchor->op) && (moves(n) || narrows(n))) n = n->src[0];
    if (n != job->out[i] && !cg_store_strides(n, job->out[i], stride)) return false;
    if (!plan_siblings(n, job->anchor) || !visit_sources(w, n, PLACE_any, false)) return false;
  }
  return true;
}

/* ---- sums over k beside a product ---- */

bool plan_is_k_sum(const Node *product, const Node *sum, const bool *stored) {
  return cg_sums_operand(product, 0, sum, stored) || cg_sums_operand(product, 1, sum, stored);
}

bool plan_reach(const KernelJob *job, const Domain *d, const Node *flat, Reach *reach) {
  Walk w = {.job = job, .d = *d, .flat = flat, .reach = reach};
  *reach = (Reach){.flat = true};
  if (has_own_loop(job->anchor)) {
    reach->flat = false;
    return visit_own_loop(&w);
  }
  for (int i = 0; i < job->n_out; i++)
    w.stores_full = w.stores_full || (d->red > 1 && !plan_reduces(job->out[i]) &&
                                      type_count(&job->out[i]->type) == full_count(&w));
  for (int i = 0; i < job->n_out; i++) {
    Node *n = job->out[i];
    if (job->anchor && job->anchor->op == OP_matmul && plan_is_k_sum(job->anchor, n, job->stored))
      continue;
    while (job->anchor && job->anchor->op == OP_matmul && moves(n)) {
      if (n->op == OP_permute) reach->flat = false; /* it is stored elsewhere than it is computed */
      n = n->src[0];
    }
    Place at = !plan_reduces(n) && type_count(&n->type) == full_count(&w) ? PLACE_full : PLACE_kept;
    if (at == PLACE_full && d->inner > 1 && d->red > 1) return false;
    if (!visit(&w, n, at, false)) return false;
  }
  return true;
}
