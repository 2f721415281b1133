/* A product's operands: in memory, read by strides, or computed element by element as they are loaded (the product's prologue):
 * scaled, shifted, normalised, masked, activated, rounded to 16 bits, whatever expressions compute in place.
 *
 *   source[b…, row, term] = f(operands at any index)
 *
 * The expression is emitted where the tile's elements are asked for. It is asked for neighbours along the dimension along which its
 * largest operand lies in memory, so that this one is read several elements at once; others are where their own layout allows it. */
#include "codegen/matmul.h"

#include <stdlib.h>

/* ---- what it is ---- */

DType matmul_type(const Node *n, const bool *stored) {
  while (!(stored && stored[n->id]) && (ir_op[n->op].flags & IR_VIEW)) n = n->src[0];
  return (DType)(!(stored && stored[n->id]) && cg_widens(n) ? n->src[0] : n)->type.dtype;
}

/* Whether all below the operand can be computed in place, and is no result of this kernel. */
static bool is_computable(const KernelJob *job, const Node *n, bool *seen) {
  if (seen[n->id]) return true;
  seen[n->id] = true;
  if (cg_is_out(job, n)) return false;
  if (job->stored[n->id]) return true;
  bool ok = matmul_anywhere(n->op);
  for (int i = 0; ok && i < n->n_src; i++) ok = is_computable(job, n->src[i], seen);
  return ok;
}

static bool find_layout(const KernelJob *job, Node *n, Strided *v, bool *computed) {
  *computed = false;
  if (cg_strided(n, job->stored, v)) return true;
  *computed = true;
  bool *seen = xcalloc((size_t)n->id + 1, sizeof *seen);
  bool ok = is_computable(job, n, seen);
  free(seen);
  return ok && cg_lies_as(n, job->stored, v);
}

bool matmul_side(const Matmul *mm, const KernelJob *job, Side *s, bool is_b) {
  Node *n = mm->product->src[is_b];
  int row_dim = mm->n_batch + is_b, k_dim = mm->n_batch + !is_b;
  Strided v;
  *s = (Side){.source = n, .is_b = is_b, .type = matmul_type(n, job->stored)};
  if (!find_layout(job, n, &v, &s->computed)) return false;
  s->base = v.base;
  s->offset = v.offset;
  s->row = v.stride[row_dim];
  s->k = v.stride[k_dim];
  for (int i = 0; i < mm->n_batch; i++) s->batch[i] = v.stride[i];
  if (n->type.dim[k_dim] == 1) s->k = 1; /* never stepped */
  s->unit_k = s->k == 1;
  s->unit_row = !s->unit_k && s->row == 1;
  int64_t other = s->unit_k ? s->row : s->k;
  int64_t length = s->unit_k ? mm->kk : n->type.dim[row_dim];
  bool ok = (s->unit_k || s->unit_row) && other % 4 == 0 && s->offset % 4 == 0;
  for (int i = 0; i < mm->n_batch; i++) ok = ok && (s->batch[i] % 4 == 0 || mm->batch_dim[i] == 1);
  if (s->unit_row) ok = ok && length % 4 == 0; /* clamped runs stay aligned */
  s->aligned = ok && type_count(&s->base->type) >= 4;
  int64_t whole = (length + 3) / 4 * 4;
  s->padded = s->unit_row && !s->computed && length % 4 != 0 && mm->batches == 1 &&
              other % 4 == 0 && s->offset % 4 == 0 && other >= whole &&
              s->offset + (mm->kk - 1) * other + whole <= type_count(&s->base->type);
  return true;
}

/* ---- computed ---- */

/* The operand's index at a batch, row and term. */
static void place(const Matmul *mm, const Side *s, const Ix *const *batch, const Ix *row,
                  const Ix *term, const Ix **index) {
  for (int i = 0; i < mm->n_batch; i++) index[i] = batch[i];
  index[mm->n_batch + s->is_b] = row;
  index[mm->n_batch + !s->is_b] = term;
}

SpvId matmul_value_at(const Matmul *mm, const Side *s, const Ix *const *batch, const Ix *row,
                      const Ix *term) {
  const Ix *index[IR_MAX_RANK];
  place(mm, s, batch, row, term, index);
  return expr_value(mm->k, s->source, index);
}

static int64_t length_of(const Matmul *mm, const Side *s, bool along_k) {
  return along_k ? mm->kk : s->is_b ? mm->n : mm->m;
}

/* The place of n neighbours from a multiple of n on. */
static const Ix *first_of(const Matmul *mm, SpvId id, int64_t length, int n) {
  IxTable *t = mm->k->ix;
  if (n == 1) return ix_value(t, id, length);
  Spv *b = mm->k->b;
  SpvId by = spv_u(b, n == 8 ? 3 : n / 2); /* its logarithm */
  SpvId unit = spv_bin(b, SpvOpShiftRightLogical, id, by);
  return ix_mul(t, ix_value(t, unit, (length + n - 1) / n), n);
}

void matmul_values(const Matmul *mm, const Side *s, SpvId row, SpvId term, bool along_k, int n,
                   SpvId *value) {
  IxTable *t = mm->k->ix;
  const Ix *at_row = first_of(mm, row, length_of(mm, s, false), along_k ? 1 : n);
  const Ix *at_term = first_of(mm, term, length_of(mm, s, true), along_k ? n : 1);
  mm->k->wide = true;
  for (int i = 0; i < n; i++) {
    const Ix *more = ix_const(t, i);
    value[i] = matmul_value_at(mm, s, mm->batch, along_k ? at_row : ix_add(t, at_row, more),
                               along_k ? ix_add(t, at_term, more) : at_term);
  }
}

void matmul_values_hoist(const Matmul *mm, const Side *s, SpvId row, int n) {
  IxTable *t = mm->k->ix;
  const Ix *index[IR_MAX_RANK], *first = first_of(mm, row, length_of(mm, s, false), n);
  const Ix *any = ix_value(t, 0, mm->kk);
  mm->k->wide = true;
  for (int i = 0; i < n; i++) {
    place(mm, s, mm->batch, ix_add(t, first, ix_const(t, i)), any, index);
    expr_hoist(mm->k, s->source, index, any);
  }
}
