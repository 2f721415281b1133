/* The part of simplify that looks at shapes: merging views, moving them out of the way, and
 * reductions, products, sums and lookups that are less than they look. */
#include "passes/simplify.h"

#include <string.h>

/* The first source, where it is a node `op` of the same region; else NULL. */
static Node *inner(const Node *n, Op op) {
  return n->src[0]->op == op && n->src[0]->region == n->region ? n->src[0] : NULL;
}

static Node *simplify_reshape(Graph *g, Node *n) {
  if (type_eq(&n->type, &n->src[0]->type)) return n->src[0];
  Node *x = inner(n, OP_reshape);
  return x ? ir_reshape(g, x->src[0], n->type.rank, n->type.dim) : NULL;
}

static Node *simplify_expand(Graph *g, Node *n) {
  if (type_eq(&n->type, &n->src[0]->type)) return n->src[0];
  Node *x = inner(n, OP_expand);
  return x ? ir_expand(g, x->src[0], n->type.rank, n->type.dim) : NULL;
}

static Node *simplify_permute(Graph *g, Node *n) {
  int perm[IR_MAX_RANK];
  bool same = true;
  for (int i = 0; i < n->n_int; i++) same = same && n->ints[i] == i;
  if (same) return n->src[0];
  Node *x = inner(n, OP_permute);
  if (!x) return NULL;
  for (int i = 0; i < n->n_int; i++) perm[i] = (int)x->ints[n->ints[i]];
  return ir_permute(g, x->src[0], perm);
}

/* The part of a concat's source that a slice lies in, if it lies in one. */
static Node *slice_of_concat(Graph *g, Node *n, Node *x) {
  int rank = n->type.rank;
  int64_t axis = x->ints[0], at = 0, begin[IR_MAX_RANK], end[IR_MAX_RANK];
  for (int i = 0; i < x->n_src; at += x->src[i++]->type.dim[axis]) {
    if (n->ints[axis] < at || n->ints[rank + axis] > at + x->src[i]->type.dim[axis]) continue;
    memcpy(begin, n->ints, sizeof *begin * (size_t)rank);
    memcpy(end, n->ints + rank, sizeof *end * (size_t)rank);
    begin[axis] -= at;
    end[axis] -= at;
    return ir_slice(g, x->src[i], begin, end);
  }
  return NULL;
}

static Node *simplify_slice(Graph *g, Node *n) {
  int rank = n->type.rank;
  Node *x;
  int64_t begin[IR_MAX_RANK], end[IR_MAX_RANK];
  if (type_eq(&n->type, &n->src[0]->type)) return n->src[0];
  if ((x = inner(n, OP_concat))) return slice_of_concat(g, n, x);
  if ((x = inner(n, OP_slice))) {
    for (int i = 0; i < rank; i++) {
      begin[i] = x->ints[i] + n->ints[i];
      end[i] = x->ints[i] + n->ints[rank + i];
    }
    return ir_slice(g, x->src[0], begin, end);
  }
  if (!(x = inner(n, OP_pad))) return NULL;
  for (int i = 0; i < rank; i++) { /* inside what was padded */
    begin[i] = n->ints[i] - x->ints[i];
    end[i] = n->ints[rank + i] - x->ints[i];
    if (begin[i] < 0 || end[i] > x->src[0]->type.dim[i]) return NULL;
  }
  return ir_slice(g, x->src[0], begin, end);
}

static Node *simplify_pad(Graph *g, Node *n) {
  if (type_eq(&n->type, &n->src[0]->type)) return n->src[0];
  Node *x = inner(n, OP_pad);
  if (!x || memcmp(&x->value, &n->value, sizeof n->value) != 0) return NULL;
  int64_t lo[IR_MAX_RANK], hi[IR_MAX_RANK];
  for (int i = 0; i < n->type.rank; i++) {
    lo[i] = n->ints[i] + x->ints[i];
    hi[i] = n->ints[n->type.rank + i] + x->ints[n->type.rank + i];
  }
  return ir_pad(g, x->src[0], lo, hi, n->value);
}

/* Casts merge where the first loses nothing: every value of the source type is one of the type
 * between. */
static Node *simplify_cast(Graph *g, Node *n) {
  if (type_eq(&n->type, &n->src[0]->type)) return n->src[0];
  Node *x = inner(n, OP_cast);
  if (!x) return NULL;
  DType from = (DType)x->src[0]->type.dtype, between = (DType)x->type.dtype;
  bool lossless = from == DT_bool || (between == DT_f32 && dtype_is_float(from));
  return lossless ? ir_cast(g, x->src[0], (DType)n->type.dtype) : NULL;
}

/* Axes of length 1 need no reduction. Over an expand, only what the source really has is reduced,
 * and a sum multiplied by how often each element was repeated. */
static Node *simplify_reduce(Graph *g, Node *n, bool strict) {
  Node *x = inner(n, OP_expand);
  const Type *t = x ? &x->src[0]->type : &n->src[0]->type;
  int axis[IR_MAX_RANK], n_axis = 0;
  int64_t repeated = 1;
  for (int i = 0; i < n->n_int; i++) {
    int a = (int)n->ints[i];
    if (t->dim[a] > 1)
      axis[n_axis++] = a;
    else
      repeated *= n->src[0]->type.dim[a];
  }
  if (!x) return n_axis < n->n_int ? ir_reduce(g, n->op, n->src[0], n_axis, axis) : NULL;
  if (repeated > 1 && n->op == OP_reduce_sum && strict && n->type.dtype != DT_i32) return NULL;
  if (repeated > 1 &&
      (n->op == OP_reduce_prod || dtype_round(t->dtype, (double)repeated) != (double)repeated))
    return NULL;
  Node *y = ir_reduce(g, n->op, x->src[0], n_axis, axis);
  if (repeated > 1 && n->op == OP_reduce_sum)
    y = ir_mul(g, y, ir_const(g, (double)repeated, &y->type));
  return ir_expand(g, y, n->type.rank, n->type.dim);
}

static Node *simplify_scan(Graph *g, Node *n) {
  if (n->src[0]->type.dim[n->ints[0]] != 1) return NULL;
  return n->op == OP_cumsum ? n->src[0] : ir_const(g, 0, &n->type);
}

/* x[…, m, k] · one matrix for the whole batch: one product with all rows of x. */
static Node *simplify_matmul(Graph *g, Node *n) {
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

/* Rows 0 … n−1 in order are a slice. */
static Node *simplify_gather(Graph *g, Node *n) {
  Node *table = n->src[0], *ids = n->src[1];
  if (ids->op != OP_iota || ids->type.rank != 1 || ids->type.dim[0] > table->type.dim[0])
    return NULL;
  int64_t begin[IR_MAX_RANK] = {0}, end[IR_MAX_RANK];
  for (int i = 0; i < table->type.rank; i++) end[i] = table->type.dim[i];
  end[0] = ids->type.dim[0];
  return ir_slice(g, table, begin, end);
}

/* Sources that are concats along the same axis give theirs. */
static Node *simplify_concat(Graph *g, Node *n) {
  Node *src[IR_MAX_SRC];
  int n_src = 0;
  bool nested = false;
  if (n->n_src == 1) return n->src[0];
  for (int i = 0; i < n->n_src; i++) {
    Node *x = n->src[i];
    bool opens = x->op == OP_concat && x->region == n->region && x->ints[0] == n->ints[0];
    if (n_src + (opens ? x->n_src : 1) > IR_MAX_SRC) return NULL;
    for (int k = 0; k < (opens ? x->n_src : 1); k++) src[n_src++] = opens ? x->src[k] : x;
    nested = nested || opens;
  }
  return nested ? ir_concat(g, (int)n->ints[0], n_src, src) : NULL;
}

static bool is_zero_pad(const Node *x, const Node *n) {
  return x->op == OP_pad && x->region == n->region && x->value == 0;
}

/* x then y along the axis, each padded with zeros where the other is: a concat, which is how the
 * gradient of a split looks. A −0 becomes 0 in the sum and stays in the concat. */
static Node *add_of_pads(Graph *g, Node *n, const Node *x, const Node *y) {
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

static Node *simplify_add(Graph *g, Node *n) {
  Node *x = n->src[0], *y = n->src[1];
  if (!is_zero_pad(x, n) || !is_zero_pad(y, n)) return NULL;
  Node *z = add_of_pads(g, n, x, y);
  return z ? z : add_of_pads(g, n, y, x);
}

/* A reshape that only inserts or drops dimensions of length 1. */
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

/* f(expand x, expand y, const) is expand f(x, y, const): each value is computed once. The same for
 * reshapes that insert or drop dimensions of length 1, so that views meet. */
static Node *simplify_elementwise(Graph *g, Node *n) {
  const Node *view = NULL;
  for (int i = 0; i < n->n_src; i++) {
    const Node *x = n->src[i];
    if (x->op == OP_const) continue;
    if ((x->op != OP_expand && !is_squeeze(x)) || x->region != n->region) return NULL;
    if (view && (view->op != x->op || !shape_eq(&view->src[0]->type, &x->src[0]->type)))
      return NULL;
    view = x;
  }
  if (!view) return NULL;
  Node *src[3];
  Type t = view->src[0]->type;
  for (int i = 0; i < n->n_src; i++) {
    t.dtype = n->src[i]->type.dtype;
    src[i] = n->src[i]->op == OP_const ? ir_const(g, n->src[i]->value, &t) : n->src[i]->src[0];
  }
  t.dtype = n->type.dtype;
  Node *small = ir_make(g, n->op, ir_op[n->op].given ? &t : NULL, NULL, n->n_src, src);
  return view->op == OP_expand ? ir_expand(g, small, n->type.rank, n->type.dim)
                               : ir_reshape(g, small, n->type.rank, n->type.dim);
}

Node *simplify_shape(Graph *g, Node *n, bool strict) {
  switch (n->op) {
  case OP_reshape: return simplify_reshape(g, n);
  case OP_expand: return simplify_expand(g, n);
  case OP_permute: return simplify_permute(g, n);
  case OP_slice: return simplify_slice(g, n);
  case OP_pad: return simplify_pad(g, n);
  case OP_cast: {
    Node *y = simplify_cast(g, n);
    return y ? y : simplify_elementwise(g, n);
  }
  case OP_add: {
    Node *y = strict && n->type.dtype != DT_i32 ? NULL : simplify_add(g, n);
    return y ? y : simplify_elementwise(g, n);
  }
  case OP_concat: return simplify_concat(g, n);
  case OP_reduce_sum:
  case OP_reduce_prod:
  case OP_reduce_max:
  case OP_reduce_min: return simplify_reduce(g, n, strict);
  case OP_cumsum:
  case OP_argmax: return simplify_scan(g, n);
  case OP_matmul: return simplify_matmul(g, n);
  case OP_gather: return simplify_gather(g, n);
  default: return ir_op[n->op].flags & IR_EW ? simplify_elementwise(g, n) : NULL;
  }
}
