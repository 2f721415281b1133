/* raise, cross-entropy: −log softmax(x)[y] per row.
 *
 *   picked     Σ where(iota = y, x, 0) over the last axis; the same of a product with the one-hot
 *              rows, where x is a log-softmax; or a gather from x laid flat, where y is provably
 *              inside (an index outside would read another row)
 *   loss       log Σ eˣ − picked, of x or of x − max(x); or picked from log_softmax(x), negated
 *   checked    loss / (0 ≤ y < v), which is infinite outside; the same for targets that are not
 *              ignored, as where(counted, loss / (inside or not counted), …)
 *
 * The raised operation is infinite for a target outside, what was written may not be: that stays,
 * as where(inside, cross_entropy, …), unless the targets are checked or provably inside. */
#include "passes/raise.h"

#include <math.h>
#include <string.h>

static Node *below_reshapes(Node *n) {
  while (n->op == OP_reshape) n = n->src[0];
  return n;
}

/* Equal up to reshapes, which keep the order of elements. */
static bool same_elements(Node *a, Node *b) { return below_reshapes(a) == below_reshapes(b); }

/* ---- what is known of targets ---- */
typedef struct Range {
  double lo, hi;
} Range;

static Range range_of(const Node *n, int depth) {
  Range all = {-INFINITY, INFINITY}, a, b;
  if (n->op == OP_const) return (Range){n->value, n->value};
  if (depth == 0) return all;
  switch (n->op) {
  case OP_reshape:
  case OP_expand:
  case OP_permute:
  case OP_slice: return range_of(n->src[0], depth - 1);
  case OP_iota: return (Range){0, (double)n->type.dim[n->ints[0]] - 1};
  case OP_min:
  case OP_max:
  case OP_where:
    a = range_of(n->src[n->n_src - 2], depth - 1);
    b = range_of(n->src[n->n_src - 1], depth - 1);
    if (n->op == OP_min) return (Range){fmin(a.lo, b.lo), fmin(a.hi, b.hi)};
    if (n->op == OP_max) return (Range){fmax(a.lo, b.lo), fmax(a.hi, b.hi)};
    return (Range){fmin(a.lo, b.lo), fmax(a.hi, b.hi)};
  case OP_mod:
    b = range_of(n->src[1], depth - 1);
    return b.lo == b.hi && b.lo > 0 ? (Range){0, b.lo - 1} : all;
  default: return all;
  }
}

static bool surely_inside(const Node *y, int64_t v) {
  Range r = range_of(y, 8);
  return r.lo >= 0 && r.hi <= (double)v - 1;
}

/* Narrows r by a condition that says nothing but bounds of y. */
static bool bounds(Node *n, Node *y, bool negated, Range *r) {
  n = below_reshapes(n);
  if (n->op == OP_not) return bounds(n->src[0], y, !negated, r);
  if (n->op == (negated ? OP_or : OP_and))
    return bounds(n->src[0], y, negated, r) && bounds(n->src[1], y, negated, r);
  if (n->op != OP_lt && n->op != OP_le && n->op != OP_gt && n->op != OP_ge) return false;
  int at = same_elements(n->src[0], y) ? 0 : 1;
  const Node *c = n->src[1 - at];
  if (!same_elements(n->src[at], y) || c->op != OP_const) return false;
  bool below = (n->op == OP_lt || n->op == OP_le) != (at == 1),
       strict = n->op == OP_lt || n->op == OP_gt;
  if (negated) below = !below, strict = !strict;
  if (below)
    r->hi = fmin(r->hi, c->value - strict);
  else
    r->lo = fmax(r->lo, c->value + strict);
  return true;
}

static bool says_inside(Node *n, Node *y, int64_t v) {
  Range r = {-INFINITY, INFINITY};
  return bounds(n, y, false, &r) && r.lo == 0 && r.hi == (double)v - 1;
}

/* ---- picked ---- */
typedef struct Pick {
  Node *x, *y; /* [n…, v], and i32 with an element for each row */
} Pick;

static bool is_number(const Node *n, double value) {
  return n->op == OP_const && n->value == value;
}

/* iota along the last axis = what is the same along it. */
static bool find_hits(Node *n, Node **y) {
  int last = n->type.rank - 1;
  if (n->op != OP_eq) return false;
  for (int i = 0; i < 2; i++) {
    const Node *target = n->src[1 - i];
    if (target->op != OP_expand || target->type.dtype != DT_i32) continue;
    if (!is_index_along(n->src[i], last, 1)) continue;
    const Type *t = &target->src[0]->type;
    bool rows = t->dim[last] == 1;
    for (int d = 0; d < last; d++) rows = rows && t->dim[d] == target->type.dim[d];
    if (rows) return *y = target->src[0], true;
  }
  return false;
}

/* A sum over the last axis, and perhaps others. */
static bool find_sum_of_hits(Node *n, Pick *p) {
  if (n->op != OP_reduce_sum || n->ints[n->n_int - 1] != n->type.rank - 1) return false;
  Node *s = n->src[0];
  if (s->region != n->region) return false;
  if (s->op == OP_where && is_number(s->src[2], 0) && find_hits(s->src[0], &p->y))
    return p->x = s->src[1], true;
  for (int i = 0; i < 2 && s->op == OP_mul; i++) {
    Node *hit = s->src[i];
    p->x = s->src[1 - i];
    if (hit->op == OP_cast && p->x->op == OP_log_softmax && find_hits(hit->src[0], &p->y))
      return true;
  }
  return false;
}

/* table[row · v + y] */
static bool find_gather(Node *n, Pick *p) {
  if (n->op != OP_gather || n->src[0]->op != OP_reshape || n->src[0]->type.rank != 1) return false;
  Node *ids = n->src[1];
  p->x = n->src[0]->src[0];
  int64_t v = p->x->type.rank ? p->x->type.dim[p->x->type.rank - 1] : 1;
  if (ids->op != OP_add || ids->type.rank != 1 || ids->type.dim[0] * v != type_count(&p->x->type))
    return false;
  for (int i = 0; i < 2; i++) {
    p->y = ids->src[1 - i];
    if (is_index_along(ids->src[i], 0, v) && surely_inside(p->y, v)) return true;
  }
  return false;
}

/* ---- the loss ---- */
/* cross_entropy(x, y) as a column [n…, 1] beside x. */
static Node *column(Graph *g, Node *x, Node *y) {
  int r = x->type.rank - 1;
  int64_t dim[IR_MAX_RANK];
  for (int i = 0; i < r; i++) dim[i] = x->type.dim[i];
  dim[r] = 1;
  Type rows = type_of(DT_i32, r, dim);
  while (y->op == OP_reshape && !type_eq(&y->type, &rows)) y = y->src[0];
  y = ir_reshape(g, y, r, dim);
  return ir_reshape(g, ir_make(g, OP_cross_entropy, NULL, NULL, 2, (Node *[]){x, y}), r + 1, dim);
}

/* where(inside, loss, otherwise), of loss's shape */
static Node *unless_outside(Graph *g, Node *loss, Node *x, Node *y, Node *otherwise) {
  int64_t v = x->type.dim[x->type.rank - 1];
  if (surely_inside(y, v)) return loss;
  y = ir_reshape(g, y, loss->type.rank, loss->type.dim);
  Node *inside =
    ir_and(g, ir_ge(g, y, ir_const(g, 0, &y->type)), ir_lt(g, y, ir_const(g, (double)v, &y->type)));
  return ir_where(g, inside, loss, otherwise);
}

static const Term *shifted, *plain, *whole;

static void parse_patterns(void) {
  if (shifted) return;
  shifted = raise_pattern("log(sum(exp(z:below(x))))");
  plain = raise_pattern("log(sum(exp(x)))");
  whole = raise_pattern("add(largest(x), log(sum(exp(below(x)))))");
}

/* The logits x whose log Σ eˣ is `lse`, less what was taken off them in `picked`. */
static Node *logits_of(Node *lse, const Node *picked) {
  TermMatch m;
  Node *x = NULL;
  if (term_match_loosely(shifted, lse, &m) && m.var[TV_z] == picked)
    x = m.var[TV_x];
  else if ((term_match_loosely(plain, lse, &m) || term_match_loosely(whole, lse, &m)) &&
           m.var[TV_x] == picked)
    x = m.var[TV_x];
  bool rows = x && m.n_axis == 1 && m.axis[0] == x->type.rank - 1 &&
              m.length == x->type.dim[x->type.rank - 1] && shape_eq(&x->type, &picked->type);
  return rows ? x : NULL;
}

/* lse − picked */
static Node *raise_difference(Graph *g, Node *n) {
  Pick p;
  Node *lse = below_reshapes(n->src[0]), *picked = below_reshapes(n->src[1]);
  bool sum = find_sum_of_hits(picked, &p) && picked->n_int == 1;
  if ((!sum && !find_gather(picked, &p)) || lse->region != n->region) return NULL;
  Node *x = logits_of(lse, p.x);
  if (!x || picked->region != n->region) return NULL;
  Node *loss = ir_reshape(g, column(g, x, p.y), n->type.rank, n->type.dim);
  return unless_outside(g, loss, x, p.y, ir_reshape(g, lse, n->type.rank, n->type.dim));
}

/* Picked from a log-softmax: the loss negated. */
static Node *raise_log_likelihood(Graph *g, Node *n) {
  Pick p;
  bool sum = find_sum_of_hits(n, &p);
  if ((!sum && !find_gather(n, &p)) || p.x->op != OP_log_softmax || p.x->region != n->region)
    return NULL;
  if (p.x->ints[0] != p.x->type.rank - 1) return NULL;
  Node *loss = ir_neg(g, column(g, p.x->src[0], p.y));
  if (!sum) return ir_reshape(g, loss, n->type.rank, n->type.dim);
  loss = unless_outside(g, loss, p.x->src[0], p.y, ir_const(g, 0, &loss->type));
  int axis[IR_MAX_RANK];
  for (int i = 0; i < n->n_int - 1; i++) axis[i] = (int)n->ints[i];
  return ir_reduce(g, OP_reduce_sum, loss, n->n_int - 1, axis);
}

/* The cross-entropy that `n` is where targets are inside; NULL where it is none. */
static Node *loss_inside(Node *n, Node **targets, int64_t *v) {
  n = below_reshapes(n);
  Node *loss = n->op == OP_where ? n->src[1] : n, *op = below_reshapes(loss);
  if (op->op != OP_cross_entropy) return NULL;
  *targets = op->src[1];
  *v = op->src[0]->type.dim[op->type.rank];
  return n->op != OP_where || says_inside(n->src[0], *targets, *v) ? loss : NULL;
}

/* The condition that is cast to be divided by; NULL: something else. */
static Node *divisor(const Node *n) {
  const Node *c = below_reshapes(n->src[1]);
  return c->op == OP_cast ? below_reshapes(c->src[0]) : NULL;
}

/* loss / inside */
static Node *raise_checked(Graph *g, Node *n) {
  Node *y, *inside = divisor(n);
  int64_t v;
  Node *loss = inside ? loss_inside(n->src[0], &y, &v) : NULL;
  if (!loss || loss->region != n->region || !says_inside(inside, y, v)) return NULL;
  return ir_reshape(g, loss, n->type.rank, n->type.dim);
}

static bool is_opposite(Node *a, Node *b) {
  a = below_reshapes(a);
  b = below_reshapes(b);
  if (a->op == OP_not || b->op == OP_not)
    return (a->op == OP_not && same_elements(a->src[0], b)) ||
           (b->op == OP_not && same_elements(b->src[0], a));
  bool opposite = (a->op == OP_eq && b->op == OP_ne) || (a->op == OP_ne && b->op == OP_eq);
  return opposite && a->src[0] == b->src[0] && a->src[1] == b->src[1];
}

/* where(counted, loss / (inside or not counted), z) */
static Node *raise_counted(Graph *g, Node *n) {
  Node *q = below_reshapes(n->src[1]), *y;
  int64_t v;
  if (q->op != OP_div || q->region != n->region) return NULL;
  Node *either = divisor(q), *loss = either ? loss_inside(q->src[0], &y, &v) : NULL;
  if (!loss || either->op != OP_or) return NULL;
  for (int i = 0; i < 2; i++)
    if (is_opposite(either->src[i], n->src[0]) && says_inside(either->src[1 - i], y, v)) {
      loss = ir_reshape(g, loss, n->type.rank, n->type.dim);
      return ir_where(g, n->src[0], loss, n->src[2]);
    }
  return NULL;
}

Node *raise_loss(Graph *g, Node *n) {
  parse_patterns();
  switch (n->op) {
  case OP_sub: return raise_difference(g, n);
  case OP_reduce_sum:
  case OP_gather: return raise_log_likelihood(g, n);
  case OP_div: return raise_checked(g, n);
  case OP_where: return raise_counted(g, n);
  default: return NULL;
  }
}
