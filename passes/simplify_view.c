/* The rules of simplify about views: those that move nothing, merge, or can be moved out of the
 * way. */
#include "passes/simplify.h"

#include <string.h>

static Node *source(const Node *n) { return n->src[0]->src[0]; }

Node *simplify_same_type(Graph *g, Node *n) {
  (void)g;
  return type_eq(&n->type, &n->src[0]->type) ? n->src[0] : NULL;
}

Node *simplify_permute_in_order(Graph *g, Node *n) {
  (void)g;
  for (int i = 0; i < n->n_int; i++)
    if (n->ints[i] != i) return NULL;
  return n->src[0];
}

Node *simplify_concat_of_one(Graph *g, Node *n) {
  (void)g;
  return n->n_src == 1 ? n->src[0] : NULL;
}

Node *simplify_reshape_reshape(Graph *g, Node *n) {
  return ir_reshape(g, source(n), n->type.rank, n->type.dim);
}

Node *simplify_expand_expand(Graph *g, Node *n) {
  return ir_expand(g, source(n), n->type.rank, n->type.dim);
}

Node *simplify_permute_permute(Graph *g, Node *n) {
  int perm[IR_MAX_RANK];
  for (int i = 0; i < n->n_int; i++) perm[i] = (int)n->src[0]->ints[n->ints[i]];
  return ir_permute(g, source(n), perm);
}

Node *simplify_permute_expand(Graph *g, Node *n) {
  int perm[IR_MAX_RANK];
  for (int i = 0; i < n->n_int; i++) perm[i] = (int)n->ints[i];
  return ir_expand(g, ir_permute(g, source(n), perm), n->type.rank, n->type.dim);
}

/* ---- slices ---- */
Node *simplify_slice_slice(Graph *g, Node *n) {
  int rank = n->type.rank;
  int64_t begin[IR_MAX_RANK], end[IR_MAX_RANK];
  for (int i = 0; i < rank; i++) {
    begin[i] = n->src[0]->ints[i] + n->ints[i];
    end[i] = n->src[0]->ints[i] + n->ints[rank + i];
  }
  return ir_slice(g, source(n), begin, end);
}

Node *simplify_slice_expand(Graph *g, Node *n) {
  int rank = n->type.rank;
  const Type *t = &source(n)->type;
  int64_t begin[IR_MAX_RANK], end[IR_MAX_RANK];
  for (int i = 0; i < rank; i++) {
    bool repeated = t->dim[i] != n->src[0]->type.dim[i];
    begin[i] = repeated ? 0 : n->ints[i];
    end[i] = repeated ? 1 : n->ints[rank + i];
  }
  return ir_expand(g, ir_slice(g, source(n), begin, end), rank, n->type.dim);
}

Node *simplify_slice_inside_pad(Graph *g, Node *n) {
  int rank = n->type.rank;
  int64_t begin[IR_MAX_RANK], end[IR_MAX_RANK];
  for (int i = 0; i < rank; i++) {
    begin[i] = n->ints[i] - n->src[0]->ints[i];
    end[i] = n->ints[rank + i] - n->src[0]->ints[i];
    if (begin[i] < 0 || end[i] > source(n)->type.dim[i]) return NULL;
  }
  return ir_slice(g, source(n), begin, end);
}

Node *simplify_slice_beside_pad(Graph *g, Node *n) {
  int rank = n->type.rank;
  for (int i = 0; i < rank; i++) {
    int64_t lo = n->src[0]->ints[i], hi = lo + source(n)->type.dim[i];
    if (n->ints[rank + i] <= lo || n->ints[i] >= hi) return ir_const(g, n->src[0]->value, &n->type);
  }
  return NULL;
}

/* A concat of what the slice meets of its parts, if it does not meet all. */
Node *simplify_slice_concat(Graph *g, Node *n) {
  Node *x = n->src[0], *part[IR_MAX_SRC];
  int rank = n->type.rank, n_part = 0;
  int64_t axis = x->ints[0], at = 0, begin[IR_MAX_RANK], end[IR_MAX_RANK];
  int64_t from = n->ints[axis], to = n->ints[rank + axis];
  for (int i = 0; i < x->n_src; i++) {
    int64_t next = at + x->src[i]->type.dim[axis];
    n_part += from < next && to > at;
    at = next;
  }
  if (n_part == x->n_src) return NULL;
  memcpy(begin, n->ints, sizeof *begin * (size_t)rank);
  memcpy(end, n->ints + rank, sizeof *end * (size_t)rank);
  n_part = 0, at = 0;
  for (int i = 0; i < x->n_src; i++) {
    int64_t length = x->src[i]->type.dim[axis];
    if (from < at + length && to > at) {
      begin[axis] = from > at ? from - at : 0;
      end[axis] = to < at + length ? to - at : length;
      part[n_part++] = ir_slice(g, x->src[i], begin, end);
    }
    at += length;
  }
  return n_part == 1 ? part[0] : ir_concat(g, (int)axis, n_part, part);
}

/* ---- pads and casts ---- */
Node *simplify_pad_pad(Graph *g, Node *n) {
  const Node *x = n->src[0];
  if (memcmp(&x->value, &n->value, sizeof n->value) != 0) return NULL;
  int64_t lo[IR_MAX_RANK], hi[IR_MAX_RANK];
  for (int i = 0; i < n->type.rank; i++) {
    lo[i] = n->ints[i] + x->ints[i];
    hi[i] = n->ints[n->type.rank + i] + x->ints[n->type.rank + i];
  }
  return ir_pad(g, source(n), lo, hi, n->value);
}

/* The first loses nothing: every value of the source type is one of the type between. */
Node *simplify_cast_cast(Graph *g, Node *n) {
  DType from = (DType)source(n)->type.dtype, between = (DType)n->src[0]->type.dtype;
  bool lossless = from == DT_bool || (between == DT_f32 && dtype_is_float(from));
  return lossless ? ir_cast(g, source(n), (DType)n->type.dtype) : NULL;
}

/* ---- concats ---- */
/* Sources that are concats along the same axis give theirs. */
Node *simplify_concat_nested(Graph *g, Node *n) {
  Node *src[IR_MAX_SRC];
  int n_src = 0;
  bool nested = false;
  for (int i = 0; i < n->n_src; i++) {
    Node *x = n->src[i];
    bool opens = x->op == OP_concat && x->region == n->region && x->ints[0] == n->ints[0];
    if (n_src + (opens ? x->n_src : 1) > IR_MAX_SRC) return NULL;
    for (int k = 0; k < (opens ? x->n_src : 1); k++) src[n_src++] = opens ? x->src[k] : x;
    nested = nested || opens;
  }
  return nested ? ir_concat(g, (int)n->ints[0], n_src, src) : NULL;
}

/* Whether y is what follows x of the same tensor along the axis. */
static bool side_by_side(const Node *x, const Node *y, int64_t axis) {
  if (x->op != OP_slice || y->op != OP_slice || x->region != y->region || x->src[0] != y->src[0])
    return false;
  int rank = x->type.rank;
  for (int i = 0; i < rank; i++) {
    if (i == axis ? x->ints[rank + i] != y->ints[i]
                  : x->ints[i] != y->ints[i] || x->ints[rank + i] != y->ints[rank + i])
      return false;
  }
  return true;
}

Node *simplify_concat_slices(Graph *g, Node *n) {
  Node *src[IR_MAX_SRC];
  int n_src = 0, rank = n->type.rank;
  int64_t axis = n->ints[0], end[IR_MAX_RANK];
  for (int i = 0; i < n->n_src; i++) {
    Node *x = n->src[i], *last = n_src ? src[n_src - 1] : NULL;
    if (last && x->region == n->region && side_by_side(last, x, axis)) {
      memcpy(end, x->ints + rank, sizeof *end * (size_t)rank);
      src[n_src - 1] = ir_slice(g, x->src[0], last->ints, end);
    } else {
      src[n_src++] = x;
    }
  }
  if (n_src == n->n_src) return NULL;
  return n_src == 1 ? src[0] : ir_concat(g, (int)axis, n_src, src);
}

/* Rows 0 … n−1 in order. */
Node *simplify_gather_in_order(Graph *g, Node *n) {
  Node *table = n->src[0], *ids = n->src[1];
  if (ids->op != OP_iota || ids->type.rank != 1 || ids->type.dim[0] > table->type.dim[0])
    return NULL;
  int64_t begin[IR_MAX_RANK] = {0}, end[IR_MAX_RANK];
  for (int i = 0; i < table->type.rank; i++) end[i] = table->type.dim[i];
  end[0] = ids->type.dim[0];
  return ir_slice(g, table, begin, end);
}
