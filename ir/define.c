/* Raised operations in terms of others, one function each. The formulas are those of
 * stdlib/nn.alpha, so that what was written there comes back as the same nodes; no stop_gradient,
 * since gradients are taken before. */
#include "ir/ir.h"

#include <math.h>

static Node *spread(Graph *g, Node *x, const Type *t) { return ir_expand(g, x, t->rank, t->dim); }

static Node *times(Graph *g, Node *x, double factor) {
  return ir_mul(g, x, ir_const(g, factor, &x->type));
}

/* x − max(x), so that no exponential overflows and one is 1 */
static Node *below_largest(Graph *g, Node *x, int axis) {
  return ir_sub(g, x, spread(g, ir_reduce(g, OP_reduce_max, x, 1, &axis), &x->type));
}

static Node *define_softmax(Graph *g, const Node *n, Node *const *src) {
  int axis = (int)n->ints[0];
  Node *e = ir_exp(g, below_largest(g, src[0], axis));
  return ir_div(g, e, spread(g, ir_reduce(g, OP_reduce_sum, e, 1, &axis), &n->type));
}

/* log Σ eᵈ */
static Node *log_sum(Graph *g, Node *d, int axis) {
  return ir_log(g, ir_reduce(g, OP_reduce_sum, ir_exp(g, d), 1, &axis));
}

static Node *define_log_softmax(Graph *g, const Node *n, Node *const *src) {
  int axis = (int)n->ints[0];
  Node *d = below_largest(g, src[0], axis);
  return ir_sub(g, d, spread(g, log_sum(g, d, axis), &n->type));
}

/* x / √(mean(x²) + eps) */
static Node *scaled(Graph *g, const Node *n, Node *x, const int *axis) {
  Node *square = ir_mean(g, ir_mul(g, x, x), n->n_int, axis);
  Node *scale = ir_rsqrt(g, ir_add(g, square, ir_const(g, n->value, &square->type)));
  return ir_mul(g, x, spread(g, scale, &x->type));
}

static Node *define_norm(Graph *g, const Node *n, Node *const *src) {
  int axis[IR_MAX_RANK];
  for (int i = 0; i < n->n_int; i++) axis[i] = (int)n->ints[i];
  Node *x = src[0];
  if (n->op == OP_layer_norm) x = ir_sub(g, x, spread(g, ir_mean(g, x, n->n_int, axis), &x->type));
  return scaled(g, n, x, axis);
}

/* log Σ eᵈ − (x[y] − max(x)) with d = x − max(x); picked by a comparison, since 0 · ∞ is NaN, and before the maximum need be
 * known. */
static Node *define_cross_entropy(Graph *g, const Node *n, Node *const *src) {
  int axis = n->type.rank;
  Node *x = src[0], *most = ir_reduce(g, OP_reduce_max, x, 1, &axis);
  Node *lse = log_sum(g, below_largest(g, x, axis), axis);
  Type ids = x->type;
  ids.dtype = DT_i32;
  int64_t row[IR_MAX_RANK];
  for (int i = 0; i < axis; i++) row[i] = ids.dim[i];
  row[axis] = 1;
  Node *y = ir_reshape(g, src[1], axis + 1, row);
  Node *hit = ir_eq(g, ir_iota(g, axis, &ids), spread(g, y, &ids));
  Node *picked =
    ir_reduce(g, OP_reduce_sum, ir_where(g, hit, x, ir_const(g, 0, &x->type)), 1, &axis);
  Node *inside = ir_and(g, ir_ge(g, y, ir_const(g, 0, &y->type)),
                        ir_lt(g, y, ir_const(g, (double)x->type.dim[axis], &y->type)));
  Node *loss = ir_sub(g, lse, ir_sub(g, picked, most));
  loss = ir_where(g, inside, loss, ir_const(g, INFINITY, &lse->type));
  return ir_reshape(g, loss, n->type.rank, n->type.dim);
}

/* (1 + tanh u) / 2 = sigmoid(2u), which does not cancel for negative x */
static Node *define_gelu_tanh(Graph *g, Node *x) {
  Node *cube = ir_mul(g, ir_mul(g, times(g, x, 0.044715), x), x);
  return ir_mul(g, x, ir_sigmoid(g, times(g, ir_add(g, x, cube), 1.5957691216057308)));
}

/* 1 + erf(x / √2) = erfc(−x / √2), which does not cancel for negative x */
static Node *define_gelu_erf(Graph *g, Node *x) {
  return ir_mul(g, times(g, x, 0.5), ir_erfc(g, times(g, x, -0.7071067811865476)));
}

/* Every second element of the last dimension from `first` (interleaved), or its half. */
static Node *one_of_pairs(Graph *g, Node *x, bool interleaved, int first, const Type *half) {
  int64_t begin[IR_MAX_RANK] = {0}, end[IR_MAX_RANK], pairs[IR_MAX_RANK];
  int r = half->rank;
  for (int i = 0; i < r; i++) pairs[i] = end[i] = half->dim[i];
  if (!interleaved) {
    begin[r - 1] = first * half->dim[r - 1];
    end[r - 1] += begin[r - 1];
    return ir_slice(g, x, begin, end);
  }
  /* the rank may be the largest already: leading dimensions become one */
  int64_t outer = type_count(half) / half->dim[r - 1];
  Node *seen = ir_reshape(g, x, 3, (int64_t[]){outer, half->dim[r - 1], 2});
  Node *part =
    ir_slice(g, seen, (int64_t[]){0, 0, first}, (int64_t[]){outer, half->dim[r - 1], first + 1});
  return ir_reshape(g, part, r, pairs);
}

static Node *define_rope(Graph *g, const Node *n, Node *const *src) {
  const Type *half = &src[1]->type;
  int r = half->rank;
  bool interleaved = n->ints[0] != 0;
  Node *u = one_of_pairs(g, src[0], interleaved, 0, half);
  Node *w = one_of_pairs(g, src[0], interleaved, 1, half);
  Node *turned[] = {ir_sub(g, ir_mul(g, u, src[1]), ir_mul(g, w, src[2])),
                    ir_add(g, ir_mul(g, w, src[1]), ir_mul(g, u, src[2]))};
  if (!interleaved) return ir_concat(g, r - 1, 2, turned);
  int64_t column[] = {type_count(half), 1};
  for (int i = 0; i < 2; i++) turned[i] = ir_reshape(g, turned[i], 2, column);
  return ir_reshape(g, ir_concat(g, 1, 2, turned), r, n->type.dim);
}

static Node *define(Graph *g, const Node *n, Node *const *src) {
  switch (n->op) {
  case OP_softmax: return define_softmax(g, n, src);
  case OP_log_softmax: return define_log_softmax(g, n, src);
  case OP_layer_norm:
  case OP_rms_norm: return define_norm(g, n, src);
  case OP_cross_entropy: return define_cross_entropy(g, n, src);
  case OP_gelu_tanh: return define_gelu_tanh(g, src[0]);
  case OP_gelu_erf: return define_gelu_erf(g, src[0]);
  case OP_silu: return ir_mul(g, src[0], ir_sigmoid(g, src[0]));
  case OP_rope: return define_rope(g, n, src);
  default: die("define: %s is not raised", ir_op[n->op].name);
  }
}

/* A raised operation of 16-bit type rounds once, at its end, as every operation does. */
Node *ir_define(Graph *g, const Node *n, Node *const *src) {
  if (!dtype_is_16((DType)n->type.dtype)) return define(g, n, src);
  Node wide = *n, *x[IR_MAX_SRC];
  wide.type.dtype = DT_f32;
  for (int i = 0; i < n->n_src; i++)
    x[i] = dtype_is_16((DType)src[i]->type.dtype) ? ir_cast(g, src[i], DT_f32) : src[i];
  return ir_cast(g, define(g, &wide, x), (DType)n->type.dtype);
}
