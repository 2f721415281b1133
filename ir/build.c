/* Construction of common nodes, one function each. */
#include "ir/ir.h"

#include <stdlib.h>
#include <string.h>

#define DEFINE(op)                                                                                 \
  Node *ir_##op(Graph *g, Node *x) { return ir_make(g, OP_##op, NULL, NULL, 1, &x); }
IR_UNARY(DEFINE)
#undef DEFINE
#define DEFINE(op)                                                                                 \
  Node *ir_##op(Graph *g, Node *x, Node *y) {                                                      \
    return ir_make(g, OP_##op, NULL, NULL, 2, (Node *[]){x, y});                                   \
  }
IR_BINARY(DEFINE)
#undef DEFINE

Node *ir_const(Graph *g, double value, const Type *t) {
  return ir_make(g, OP_const, t, &(Attr){.value = dtype_round(t->dtype, value)}, 0, NULL);
}

Node *ir_leaf(Graph *g, Op op, const char *name, const Type *t) {
  return ir_make(g, op, t, &(Attr){.name = name}, 0, NULL);
}

Node *ir_iota(Graph *g, int axis, const Type *t) {
  return ir_make(g, OP_iota, t, &(Attr){.n_int = 1, .ints = {axis}}, 0, NULL);
}

Node *ir_where(Graph *g, Node *c, Node *y, Node *z) {
  return ir_make(g, OP_where, NULL, NULL, 3, (Node *[]){c, y, z});
}

Node *ir_cast(Graph *g, Node *x, DType to) {
  if (x->type.dtype == to) return x;
  Type t = x->type;
  t.dtype = (uint8_t)to;
  return ir_make(g, OP_cast, &t, NULL, 1, &x);
}

static int by_value(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

Node *ir_reduce(Graph *g, Op op, Node *x, int n_axis, const int *axis) {
  if (n_axis == 0) return x;
  Attr attr = {.n_int = n_axis};
  for (int i = 0; i < n_axis; i++) attr.ints[i] = axis[i];
  qsort(attr.ints, (size_t)n_axis, sizeof *attr.ints, by_value);
  return ir_make(g, op, NULL, &attr, 1, &x);
}

Node *ir_mean(Graph *g, Node *x, int n_axis, const int *axis) {
  Node *sum = ir_reduce(g, OP_reduce_sum, x, n_axis, axis);
  return ir_div(g, sum,
                ir_const(g, (double)(type_count(&x->type) / type_count(&sum->type)), &sum->type));
}

Node *ir_argmax(Graph *g, Node *x, int axis) {
  return ir_make(g, OP_argmax, NULL, &(Attr){.n_int = 1, .ints = {axis}}, 1, &x);
}

Node *ir_cumsum(Graph *g, Node *x, int axis, bool reverse) {
  return ir_make(g, OP_cumsum, NULL, &(Attr){.n_int = 2, .ints = {axis, reverse}}, 1, &x);
}

Node *ir_reshape(Graph *g, Node *x, int rank, const int64_t *dim) {
  Type t = type_of(x->type.dtype, rank, dim);
  return type_eq(&t, &x->type) ? x : ir_make(g, OP_reshape, &t, NULL, 1, &x);
}

Node *ir_expand(Graph *g, Node *x, int rank, const int64_t *dim) {
  Type t = type_of(x->type.dtype, rank, dim);
  return type_eq(&t, &x->type) ? x : ir_make(g, OP_expand, &t, NULL, 1, &x);
}

Node *ir_permute(Graph *g, Node *x, const int *perm) {
  Attr attr = {.n_int = x->type.rank};
  bool same = true;
  for (int i = 0; i < x->type.rank; i++) {
    attr.ints[i] = perm[i];
    same = same && perm[i] == i;
  }
  return same ? x : ir_make(g, OP_permute, NULL, &attr, 1, &x);
}

Node *ir_slice(Graph *g, Node *x, const int64_t *begin, const int64_t *end) {
  int rank = x->type.rank;
  Attr attr = {.n_int = 2 * rank};
  bool whole = true;
  for (int i = 0; i < rank; i++) {
    attr.ints[i] = begin[i];
    attr.ints[rank + i] = end[i];
    whole = whole && begin[i] == 0 && end[i] == x->type.dim[i];
  }
  return whole ? x : ir_make(g, OP_slice, NULL, &attr, 1, &x);
}

Node *ir_pad(Graph *g, Node *x, const int64_t *lo, const int64_t *hi, double fill) {
  int rank = x->type.rank;
  Attr attr = {.n_int = 2 * rank, .value = dtype_round(x->type.dtype, fill)};
  bool none = true;
  for (int i = 0; i < rank; i++) {
    attr.ints[i] = lo[i];
    attr.ints[rank + i] = hi[i];
    none = none && lo[i] == 0 && hi[i] == 0;
  }
  return none ? x : ir_make(g, OP_pad, NULL, &attr, 1, &x);
}

/* A concat node holds at most IR_MAX_SRC sources; longer lists become a tree. */
Node *ir_concat(Graph *g, int axis, int n, Node *const *src) {
  if (n == 1) return src[0];
  Attr attr = {.n_int = 1, .ints = {axis}};
  if (n <= IR_MAX_SRC) return ir_make(g, OP_concat, NULL, &attr, n, src);
  Node *part[IR_MAX_SRC];
  int n_part = 0, per = (n + IR_MAX_SRC - 1) / IR_MAX_SRC;
  for (int i = 0; i < n; i += per)
    part[n_part++] = ir_concat(g, axis, i + per < n ? per : n - i, src + i);
  return ir_concat(g, axis, n_part, part);
}

Node *ir_scatter_add(Graph *g, Node *ids, Node *x, int64_t rows) {
  Type t = {
    .dtype = x->type.dtype, .rank = (uint8_t)(1 + x->type.rank - ids->type.rank), .dim = {rows}};
  for (int i = 1; i < t.rank; i++) t.dim[i] = x->type.dim[ids->type.rank + i - 1];
  return ir_make(g, OP_scatter_add, &t, NULL, 2, (Node *[]){ids, x});
}

Node *ir_random(Graph *g, Node *rng, int64_t place, const Type *t) {
  return ir_make(g, OP_random, t, &(Attr){.n_int = 1, .ints = {place}}, 1, &rng);
}

Node *ir_broadcast(Graph *g, Node *x, int rank, const int64_t *dim) {
  int missing = rank - x->type.rank;
  int64_t padded[IR_MAX_RANK];
  for (int i = 0; i < rank; i++) padded[i] = i < missing ? 1 : x->type.dim[i - missing];
  return ir_expand(g, ir_reshape(g, x, rank, padded), rank, dim);
}

Node *ir_squeeze(Graph *g, Node *x, int n_axis, const int *axis) {
  bool drop[IR_MAX_RANK] = {0};
  for (int i = 0; i < n_axis; i++) drop[axis[i]] = true;
  int64_t dim[IR_MAX_RANK];
  int rank = 0;
  for (int i = 0; i < x->type.rank; i++)
    if (!drop[i]) dim[rank++] = x->type.dim[i];
  return ir_reshape(g, x, rank, dim);
}
