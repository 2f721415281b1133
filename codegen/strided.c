/* Views of stored nodes, widened or not, as base + Σ index·stride; and of computed values the same of the largest operand that
 * they are computed from element by element. */
#include "codegen/plan.h"

#include <stdlib.h>
#include <string.h>

static void contiguous(Node *n, Strided *s) {
  *s = (Strided){.base = n};
  shape_strides(&n->type, s->stride);
}

/* Strides of `to` over the same elements as `from` with `stride`; false where none exist.
 * Dimensions of 1 do not matter. */
static bool reshape(const Type *from, const Type *to, int64_t *stride) {
  int64_t dim[IR_MAX_RANK], old[IR_MAX_RANK], result[IR_MAX_RANK] = {0};
  int n = 0, i = 0, j = 0;
  for (int d = 0; d < from->rank; d++) {
    if (from->dim[d] == 1) continue;
    if (n &&
        old[n - 1] ==
          stride[d] * from->dim[d]) { /* runs on from the dimension before: one longer dimension */
      dim[n - 1] *= from->dim[d];
      old[n - 1] = stride[d];
    } else {
      dim[n] = from->dim[d];
      old[n++] = stride[d];
    }
  }
  for (i = 0; i < n; i++) { /* each run must be a product of the new dimensions in order */
    int64_t left = dim[i];
    while (left > 1) {
      while (j < to->rank && to->dim[j] == 1) j++;
      if (j == to->rank || left % to->dim[j] != 0) return false;
      left /= to->dim[j];
      result[j++] = old[i] * left;
    }
  }
  memcpy(stride, result, sizeof result);
  return true;
}

bool cg_widens(const Node *n) {
  return n->op == OP_cast && n->type.dtype == DT_f32 && dtype_is_16((DType)n->src[0]->type.dtype);
}

bool cg_reads_through(const Node *n) { return (ir_op[n->op].flags & IR_VIEW) || cg_widens(n); }

static bool keeps_layout(const Node *n) {
  return (ir_op[n->op].flags & (IR_EW | IR_VIEW)) || n->op == OP_pad;
}

/* The elements of the largest stored node below n, through what keeps a layout; 0: none. */
static int64_t largest(const Node *n, const bool *stored, int64_t *seen) {
  int64_t most = 0;
  if (stored[n->id]) return type_count(&n->type);
  if (seen[n->id]) return seen[n->id] - 1;
  for (int i = 0; i < n->n_src && keeps_layout(n); i++) {
    int64_t here = largest(n->src[i], stored, seen);
    if (here > most) most = here;
  }
  seen[n->id] = most + 1;
  return most;
}

/* `seen`, where given: computed values lie as their source with the largest stored node below. */
static bool lies(const Node *n, const bool *stored, int64_t *seen, Strided *out) {
  if (stored[n->id]) {
    contiguous((Node *)n, out);
    return true;
  }
  const Node *x = NULL;
  if (cg_reads_through(n)) x = n->src[0];
  for (int i = 0; !x && seen && i < n->n_src && keeps_layout(n); i++)
    if (largest(n->src[i], stored, seen) == largest(n, stored, seen)) x = n->src[i];
  if (!x || !lies(x, stored, seen, out)) return false;
  int64_t old[IR_MAX_RANK];
  memcpy(old, out->stride, sizeof old);
  switch (n->op) {
  case OP_reshape: return reshape(&x->type, &n->type, out->stride);
  case OP_expand:
    for (int i = 0; i < x->type.rank; i++)
      if (x->type.dim[i] == 1) out->stride[i] = 0;
    return true;
  case OP_permute:
    for (int i = 0; i < x->type.rank; i++) out->stride[i] = old[n->ints[i]];
    return true;
  case OP_slice:
    for (int i = 0; i < x->type.rank; i++) out->offset += n->ints[i] * old[i];
    return true;
  default: return true; /* element by element */
  }
}

bool cg_strided(const Node *n, const bool *stored, Strided *out) {
  return lies(n, stored, NULL, out);
}

bool cg_lies_as(const Node *n, const bool *stored, Strided *out) {
  int64_t *seen = xcalloc((size_t)n->id + 1, sizeof *seen);
  bool found = largest(n, stored, seen) > 0 && lies(n, stored, seen, out);
  free(seen);
  return found;
}

bool cg_store_strides(const Node *anchor, const Node *out, int64_t *stride) {
  Strided s;
  contiguous((Node *)out, &s);
  for (const Node *n = out; n != anchor; n = n->src[0]) {
    int64_t old[IR_MAX_RANK];
    memcpy(old, s.stride, sizeof old);
    if (n->op == OP_cast) continue;
    if (n->op == OP_permute) {
      for (int i = 0; i < n->type.rank; i++) s.stride[n->ints[i]] = old[i];
    } else if (n->op != OP_reshape || !reshape(&n->type, &n->src[0]->type, s.stride)) {
      return false;
    }
  }
  memcpy(stride, s.stride, sizeof s.stride);
  return true;
}
