/* Where kernels round to 16 bits, for whoever compares their results with exact ones. */
#include "codegen/plan.h"

double cg_unit_roundoff(DType d) { return d == DT_bf16 ? 0x1p-8 : d == DT_f16 ? 0x1p-11 : 0; }

Node *cg_unrounded(Graph *g, Node *root) {
  bool moves = root->op == OP_permute || root->op == OP_reshape;
  Node *x = moves ? cg_unrounded(g, root->src[0]) : root;
  if (moves && x == root->src[0]) return root;
  if (root->op == OP_reshape) return ir_reshape(g, x, root->type.rank, root->type.dim);
  if (moves) return ir_rebuild(g, root, &x);
  bool narrows = root->op == OP_cast && dtype_is_16((DType)root->type.dtype);
  return narrows && root->src[0]->type.dtype == DT_f32 ? root->src[0] : root;
}

double cg_rounded_terms(const Node *out, const bool *stored, const Target *target) {
  Strided q;
  while ((ir_op[out->op].flags & IR_VIEW) || out->op == OP_cast) out = out->src[0];
  if (!ir_attention_sources(out->op) || out->op == OP_attention_lse) return 0;
  if (!cg_strided(out->src[0], stored, &q)) return 0;
  DType d = (DType)q.base->type.dtype;
  bool units = d == DT_f16 ? target->matrix_f16.m : d == DT_bf16 && target->matrix_bf16.m;
  return units ? cg_unit_roundoff(d) : 0;
}
