/* Short names for float instructions, inside the files that emit mathematics. `x…` ones are exact:
 * never contracted. */
#ifndef CODEGEN_EMIT_MATH_H
#define CODEGEN_EMIT_MATH_H

#include "codegen/kernel.h"

static inline SpvId add_f(Kernel *k, SpvId x, SpvId y) { return spv_bin(k->b, SpvOpFAdd, x, y); }
static inline SpvId sub_f(Kernel *k, SpvId x, SpvId y) { return spv_bin(k->b, SpvOpFSub, x, y); }
static inline SpvId mul_f(Kernel *k, SpvId x, SpvId y) { return spv_bin(k->b, SpvOpFMul, x, y); }
static inline SpvId div_f(Kernel *k, SpvId x, SpvId y) { return spv_bin(k->b, SpvOpFDiv, x, y); }
static inline SpvId neg_f(Kernel *k, SpvId x) { return spv_un(k->b, SpvOpFNegate, x); }
static inline SpvId abs_f(Kernel *k, SpvId x) { return spv_glsl(k->b, GLSLstd450FAbs, x); }
static inline SpvId round_f(Kernel *k, SpvId x) { return spv_glsl(k->b, GLSLstd450RoundEven, x); }
static inline SpvId xadd(Kernel *k, SpvId x, SpvId y) { return spv_exact(k->b, SpvOpFAdd, x, y); }
static inline SpvId xsub(Kernel *k, SpvId x, SpvId y) { return spv_exact(k->b, SpvOpFSub, x, y); }
static inline SpvId xmul(Kernel *k, SpvId x, SpvId y) { return spv_exact(k->b, SpvOpFMul, x, y); }
static inline SpvId less_f(Kernel *k, SpvId x, SpvId y) {
  return spv_cmp(k->b, SpvOpFOrdLessThan, x, y);
}
static inline SpvId equal_f(Kernel *k, SpvId x, SpvId y) {
  return spv_cmp(k->b, SpvOpFOrdEqual, x, y);
}
static inline SpvId const_f(Kernel *k, float v) { return spv_f(k->b, v); }
static inline SpvId const_u(Kernel *k, uint32_t v) { return spv_u(k->b, v); }
static inline SpvId op_u(Kernel *k, SpvOp op, SpvId x, uint32_t c) {
  SpvId y = spv_u(k->b, c);
  return spv_bin(k->b, op, x, y);
}
static inline SpvId choose(Kernel *k, SpvId c, SpvId x, SpvId y) {
  return spv_select(k->b, c, x, y);
}
static inline SpvId both(Kernel *k, SpvId c, SpvId d) {
  return spv_bin(k->b, SpvOpLogicalAnd, c, d);
}
static inline SpvId either(Kernel *k, SpvId c, SpvId d) {
  return spv_bin(k->b, SpvOpLogicalOr, c, d);
}
static inline SpvId as_bits(Kernel *k, SpvId x) {
  SpvId type = spv_u32(k->b);
  return spv_bitcast(k->b, type, x);
}
static inline SpvId as_float(Kernel *k, SpvId x) {
  SpvId type = spv_f32(k->b);
  return spv_bitcast(k->b, type, x);
}

#endif
