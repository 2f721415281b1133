/* 16-bit types, and matrices that a subgroup holds together (SPV_KHR_cooperative_matrix).
 *
 * A module with matrices uses the Vulkan memory model, as the extension demands: what invocations exchange through workgroup
 * memory is accessed as non-private (spv_get, spv_set and the matrix accesses see to it), and spv_barrier makes it available
 * and visible. Physical buffers stay private: no invocation reads there what another one wrote in the same dispatch. */
#include "codegen/spirv/internal.h"
#include "codegen/spirv/newer.h"

/* Without Int16 no pointer may be cast to one to it. */
SpvId spv_u16(Spv *b) {
  spv_capability(b, SpvCapabilityInt16);
  spv_capability(b, SpvCapabilityStorageBuffer16BitAccess);
  return spv_global(b, SpvOpTypeInt, 0, 2, (uint32_t[]){16, 0});
}

SpvId spv_f16(Spv *b) {
  spv_capability(b, SpvCapabilityFloat16);
  return spv_global(b, SpvOpTypeFloat, 0, 1, (uint32_t[]){16});
}

SpvId spv_bf16(Spv *b) {
  spv_capability(b, (SpvCapability)SPV_CapabilityBFloat16TypeKHR);
  spv_extension(b, "SPV_KHR_bfloat16");
  return spv_global(b, SpvOpTypeFloat, 0, 2, (uint32_t[]){16, SPV_FPEncodingBFloat16KHR});
}

/* From here on accesses are as the Vulkan memory model needs them; those before were not. */
static void use_vulkan_memory(Spv *b) {
  if (b->shared_accessed && !b->vulkan_memory)
    die("spirv: a matrix type is made only after workgroup memory was accessed");
  b->vulkan_memory = true;
  spv_capability(b, SpvCapabilityVulkanMemoryModel);
}

SpvId spv_matrix(Spv *b, SpvId element, uint32_t rows, uint32_t columns, SpvMatrixUse use) {
  use_vulkan_memory(b);
  spv_capability(b, (SpvCapability)SPV_CapabilityCooperativeMatrixKHR);
  spv_extension(b, "SPV_KHR_cooperative_matrix");
  bool has_bf16 = spv_has_capability(b, (SpvCapability)SPV_CapabilityBFloat16TypeKHR);
  if (has_bf16 && element == spv_bf16(b))
    spv_capability(b, (SpvCapability)SPV_CapabilityBFloat16CooperativeMatrixKHR);
  SpvId scope = spv_u(b, SpvScopeSubgroup);
  SpvId n_row = spv_u(b, rows);
  SpvId n_column = spv_u(b, columns);
  SpvId role = spv_u(b, use);
  SpvId type = spv_global(b, (SpvOp)SPV_OpTypeCooperativeMatrixKHR, 0, 5,
                          (uint32_t[]){element, scope, n_row, n_column, role});
  return b->type[type] = element, type;
}

SpvId spv_matrix_zero(Spv *b, SpvId type) {
  if (spv_type(b, type) != spv_f32(b)) die("spirv: a matrix of zeros that is no sum");
  SpvId zero = spv_f(b, 0);
  return spv_global(b, SpvOpConstantComposite, type, 1, &zero);
}

/* 1 of a 16-bit type is 0x3c00 in f16, 0x3f80 in bf16 */
SpvId spv_matrix_ones(Spv *b, SpvId type) {
  SpvId element = spv_type(b, type);
  bool half = spv_has_capability(b, SpvCapabilityFloat16) && element == spv_f16(b);
  SpvId one = spv_global(b, SpvOpConstant, element, 1, (uint32_t[]){half ? 0x3c00 : 0x3f80});
  return spv_global(b, SpvOpConstantComposite, type, 1, &one);
}

/* layout, stride and how the memory is accessed; returns how many */
static int access_of(Spv *b, SpvId pointer, bool column_major, SpvId stride, uint32_t align,
                     uint32_t *operand) {
  int n = 0;
  operand[n++] = spv_u(b, column_major ? SPV_CooperativeMatrixLayoutColumnMajorKHR
                                       : SPV_CooperativeMatrixLayoutRowMajorKHR);
  operand[n++] = stride;
  if (spv_is_shared(b, pointer))
    operand[n++] = SpvMemoryAccessNonPrivatePointerMask;
  else {
    operand[n++] = SpvMemoryAccessAlignedMask;
    operand[n++] = align;
  }
  return n;
}

SpvId spv_matrix_load(Spv *b, SpvId type, SpvId pointer, bool column_major, SpvId stride,
                      uint32_t align) {
  uint32_t operand[5] = {pointer};
  int n = 1 + access_of(b, pointer, column_major, stride, align, operand + 1);
  return spv_result_n(b, (SpvOp)SPV_OpCooperativeMatrixLoadKHR, type, n, operand);
}

void spv_matrix_store(Spv *b, SpvId pointer, SpvId matrix, bool column_major, SpvId stride,
                      uint32_t align) {
  uint32_t operand[6] = {pointer, matrix};
  int n = 2 + access_of(b, pointer, column_major, stride, align, operand + 2);
  spv_effect_n(b, (SpvOp)SPV_OpCooperativeMatrixStoreKHR, n, operand);
}

SpvId spv_matrix_mul_add(Spv *b, SpvId x, SpvId y, SpvId sum) {
  return spv_result(b, (SpvOp)SPV_OpCooperativeMatrixMulAddKHR, spv_type(b, sum), x, y, sum);
}
