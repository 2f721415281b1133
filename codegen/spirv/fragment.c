/* What a subgroup does with its matrices besides products: its invocations' elements one by one, and, with
 * SPV_NV_cooperative_matrix2, reductions of rows and sums that become factors without a way through memory. */
#include "codegen/spirv/internal.h"
#include "codegen/spirv/newer.h"

static void use_matrix2(Spv *b, uint32_t capability) {
  spv_capability(b, (SpvCapability)capability);
  spv_extension(b, "SPV_NV_cooperative_matrix2");
}

SpvId spv_matrix_length(Spv *b, SpvId type) {
  SpvId u32 = spv_u32(b);
  return spv_pure(b, (SpvOp)SPV_OpCooperativeMatrixLengthKHR, u32, type);
}

SpvId spv_matrix_fill(Spv *b, SpvId type, float v) {
  if (spv_type(b, type) != spv_f32(b)) die("spirv: a matrix of numbers that is no sum");
  SpvId value = spv_f(b, v);
  return spv_global(b, SpvOpConstantComposite, type, 1, &value);
}

#define PUT(b, s, op, ...)                                                                         \
  spv_put(b, s, op, COUNT_OF(((uint32_t[]){__VA_ARGS__})), (uint32_t[]){__VA_ARGS__})

/* f32 of two f32: their larger, or their sum. */
static SpvId reduction_of(Spv *b, SpvRowReduction of) {
  if (b->row_reduction[of]) return b->row_reduction[of];
  SpvId f32 = spv_f32(b);
  SpvId type = spv_global(b, SpvOpTypeFunction, 0, 3, (uint32_t[]){f32, f32, f32});
  SpvId f = spv_new_id(b), x = spv_new_id(b), y = spv_new_id(b), label = spv_new_id(b),
        result = spv_new_id(b);
  Words *out = &b->function;
  PUT(b, out, SpvOpFunction, f32, f, SpvFunctionControlMaskNone, type);
  PUT(b, out, SpvOpFunctionParameter, f32, x);
  PUT(b, out, SpvOpFunctionParameter, f32, y);
  PUT(b, out, SpvOpLabel, label);
  if (of == SPV_row_max)
    PUT(b, out, SpvOpExtInst, f32, result, b->glsl, GLSLstd450FMax, x, y);
  else
    PUT(b, out, SpvOpFAdd, f32, result, x, y);
  PUT(b, out, SpvOpReturnValue, result);
  spv_put(b, out, SpvOpFunctionEnd, 0, NULL);
  return b->row_reduction[of] = f;
}

SpvId spv_matrix_reduce_rows(Spv *b, SpvId matrix, SpvRowReduction of) {
  use_matrix2(b, SPV_CapabilityCooperativeMatrixReductionsNV);
  SpvId function = reduction_of(b, of);
  return spv_result(b, (SpvOp)SPV_OpCooperativeMatrixReduceNV, spv_type(b, matrix), matrix,
                    SPV_CooperativeMatrixReduceRowNV, function);
}

SpvId spv_matrix_as_factor(Spv *b, SpvId type, SpvId sum) {
  use_matrix2(b, SPV_CapabilityCooperativeMatrixConversionsNV);
  return spv_result(b, SpvOpFConvert, type, sum);
}

SpvId spv_any(Spv *b, SpvId condition) {
  spv_capability(b, SpvCapabilityGroupNonUniform);
  spv_capability(b, SpvCapabilityGroupNonUniformVote);
  SpvId scope = spv_u(b, SpvScopeSubgroup);
  SpvId type = spv_bool(b);
  return spv_result(b, SpvOpGroupNonUniformAny, type, scope, condition);
}
