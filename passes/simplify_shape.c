/* The rules of simplify about reductions, products and sums that are less than they look, and about
 * broadcasts. */
#include "passes/simplify.h"

/* ---- reductions ---- */
/* The axes of a reduction along which `t` is longer than 1. */
static int long_axes(const Node *n, const Type *t, int *axis) {
  int n_axis = 0;
  for (int i = 0; i < n->n_int; i++)
    if (t->dim[n->ints[i]] > 1) axis[n_axis++] = (int)n->ints[i];
  return n_axis;
}

Node *simplify_reduce_fewer(Graph *g, Node *n) {
  int axis[IR_MAX_RANK], n_axis = long_axes(n, &n->src[0]->type, axis);
  if (n_axis == n->n_int) return NULL;
  return n_axis ? ir_reduce(g, n->op, n->src[0], n_axis, axis) : n->src[0];
}

Node *simplify_scan_of_one(Graph *g, Node *n) {
  if (n->src[0]->type.dim[n->ints[0]] != 1) return NULL;
  return n->op == OP_cumsum ? n->src[0] : ir_const(g, 0, &n->type);
}

/* How often each element of an expand's source occurs in one sum over it. */
static int64_t count_repeats(const Node *n) {
  int64_t repeats = 1;
  for (int i = 0; i < n->n_int; i++)
    if (n->src[0]->src[0]->type.dim[n->ints[i]] == 1) repeats *= n->src[0]->type.dim[n->ints[i]];
  return repeats;
}

/* Only what the source of the expand really has is reduced. */
static Node *reduce_source(Graph *g, const Node *n) {
  Node *x = n->src[0]->src[0];
  int axis[IR_MAX_RANK], n_axis = long_axes(n, &x->type, axis);
  return n_axis ? ir_reduce(g, n->op, x, n_axis, axis) : x;
}

Node *simplify_sum_expand(Graph *g, Node *n) {
  double repeats = (double)count_repeats(n);
  if (dtype_round((DType)n->type.dtype, repeats) != repeats) return NULL;
  Node *y = reduce_source(g, n);
  if (repeats > 1) y = ir_mul(g, y, ir_const(g, repeats, &y->type));
  return ir_expand(g, y, n->type.rank, n->type.dim);
}

Node *simplify_reduce_expand(Graph *g, Node *n) {
  if (n->op == OP_reduce_prod && count_repeats(n) > 1) return NULL;
  return ir_expand(g, reduce_source(g, n), n->type.rank, n->type.dim);
}

Node *simplify_reduce_reduce(Graph *g, Node *n) {
  const Node *x = n->src[0];
  int axis[2 * IR_MAX_RANK], n_axis = 0;
  bool taken[IR_MAX_RANK] = {0};
  for (int i = 0; i < n->n_int; i++) taken[n->ints[i]] = true;
  for (int i = 0; i < x->n_int; i++) taken[x->ints[i]] = true;
  for (int i = 0; i < n->type.rank; i++)
    if (taken[i]) axis[n_axis++] = i;
  return ir_reduce(g, n->op, x->src[0], n_axis, axis);
}

Node *simplify_sum_neg(Graph *g, Node *n) {
  int axis[IR_MAX_RANK];
  for (int i = 0; i < n->n_int; i++) axis[i] = (int)n->ints[i];
  return ir_neg(g, ir_reduce(g, OP_reduce_sum, n->src[0]->src[0], n->n_int, axis));
}

/* ---- products ---- */
/* x[…, m, k] · one matrix for the whole batch: one product with all rows of x. */
Node *simplify_matmul_batch(Graph *g, Node *n) {
  Node *x = n->src[0], *y = n->src[1];
  int rank = n->type.rank;
  if (rank < 3 || y->op != OP_expand || y->region != n->region) return NULL;
  Node *w = y->src[0];
  const int64_t *k = &y->type.dim[rank - 2];
  if (w->type.dim[rank - 2] != k[0] || w->type.dim[rank - 1] != k[1]) return NULL;
  for (int i = 0; i < rank - 2; i++)
    if (w->type.dim[i] != 1) return NULL;
  int64_t rows = type_count(&x->type) / k[0];
  Node *flat = ir_matmul(g, ir_reshape(g, x, 2, (int64_t[]){rows, k[0]}), ir_reshape(g, w, 2, k));
  return ir_reshape(g, flat, rank, n->type.dim);
}

/* ---- sums of pads ---- */
static bool is_zero_pad(const Node *x, const Node *n) {
  return x->op == OP_pad && x->region == n->region && x->value == 0;
}

/* x then y along the axis, each padded with zeros where the other is: a concat, which is how the
 * gradient of a split looks. A −0 becomes 0 in the sum and stays in the concat. */
static Node *join(Graph *g, const Node *n, const Node *x, const Node *y) {
  if (!is_zero_pad(x, n) || !is_zero_pad(y, n)) return NULL;
  int rank = n->type.rank, axis = -1;
  int64_t lo[IR_MAX_RANK], hi[IR_MAX_RANK];
  for (int i = 0; i < rank; i++) {
    lo[i] = x->ints[i];
    hi[i] = y->ints[rank + i];
    if (lo[i] == y->ints[i] && hi[i] == x->ints[rank + i]) continue;
    bool follows = y->ints[i] == lo[i] + x->src[0]->type.dim[i];
    if (axis >= 0 || !follows || x->ints[rank + i] != hi[i] + y->src[0]->type.dim[i]) return NULL;
    axis = i;
  }
  if (axis < 0) return NULL;
  return ir_pad(g, ir_concat(g, axis, 2, (Node *[]){x->src[0], y->src[0]}), lo, hi, 0);
}

Node *simplify_add_pads(Graph *g, Node *n) {
  Node *z = join(g, n, n->src[0], n->src[1]);
  return z ? z : join(g, n, n->src[1], n->src[0]);
}

/* Where one of the two pads is not zero, the other is: no sum is rounded otherwise. */
Node *simplify_add_pads_apart(Graph *g, Node *n) {
  for (int i = 0; i < 4; i++) {
    Node *sum = n->src[i & 1], *pad = n->src[1 - (i & 1)];
    if (sum->op != OP_add || sum->region != n->region) continue;
    Node *x = sum->src[i >> 1], *other = sum->src[1 - (i >> 1)], *z = join(g, n, other, pad);
    if (!z) z = join(g, n, pad, other);
    if (z) return ir_add(g, x, z);
  }
  return NULL;
}

/* ---- broadcasts ---- */
/* y where x is expand(neg(y)), as large as x. */
static Node *expanded_neg(Graph *g, const Node *n, const Node *x) {
  if (x->op != OP_expand || x->region != n->region) return NULL;
  const Node *y = x->src[0];
  if (y->op != OP_neg || y->region != n->region) return NULL;
  return ir_expand(g, y->src[0], x->type.rank, x->type.dim);
}

Node *simplify_add_expanded_neg(Graph *g, Node *n) {
  for (int i = 0; i < 2; i++) {
    Node *y = expanded_neg(g, n, n->src[i]);
    if (y) return ir_sub(g, n->src[1 - i], y);
  }
  return NULL;
}

Node *simplify_sub_expanded_neg(Graph *g, Node *n) {
  Node *y = expanded_neg(g, n, n->src[1]);
  return y ? ir_add(g, n->src[0], y) : NULL;
}

/* A reshape that only puts in or drops dimensions of length 1. */
static bool is_squeeze(const Node *n) {
  if (n->op != OP_reshape) return false;
  const Type *a = &n->type, *b = &n->src[0]->type;
  int i = 0, k = 0;
  for (;;) {
    while (i < a->rank && a->dim[i] == 1) i++;
    while (k < b->rank && b->dim[k] == 1) k++;
    if (i == a->rank || k == b->rank) return i == a->rank && k == b->rank;
    if (a->dim[i++] != b->dim[k++]) return false;
  }
}

/* f(view x, view y, const) is view f(x, y, const); NULL where sources are other than such views. */
static Node *below_views(Graph *g, Node *n, Op view) {
  const Type *shape = NULL;
  for (int i = 0; i < n->n_src; i++) {
    const Node *x = n->src[i];
    if (x->op == OP_const) continue;
    if (x->op != view || x->region != n->region) return NULL;
    if (view == OP_reshape && !is_squeeze(x)) return NULL;
    if (shape && !shape_eq(shape, &x->src[0]->type)) return NULL;
    shape = &x->src[0]->type;
  }
  if (!shape) return NULL;
  Node *src[3];
  Type t = *shape;
  for (int i = 0; i < n->n_src; i++) {
    t.dtype = n->src[i]->type.dtype;
    src[i] = n->src[i]->op == OP_const ? ir_const(g, n->src[i]->value, &t) : n->src[i]->src[0];
  }
  t.dtype = n->type.dtype;
  return ir_make(g, n->op, ir_op[n->op].given ? &t : NULL, NULL, n->n_src, src);
}

/* Each value is computed once. */
Node *simplify_expand_last(Graph *g, Node *n) {
  Node *x = below_views(g, n, OP_expand);
  return x ? ir_expand(g, x, n->type.rank, n->type.dim) : NULL;
}

/* So that views meet. */
Node *simplify_reshape_last(Graph *g, Node *n) {
  Node *x = below_views(g, n, OP_reshape);
  return x ? ir_reshape(g, x, n->type.rank, n->type.dim) : NULL;
}
