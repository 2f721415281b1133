/* Enumerants that are newer than the oldest SPIRV-Headers alphac builds with (1.3.239), under names of
 * our own, which newer headers do not have. */
#ifndef CODEGEN_SPIRV_NEWER_H
#define CODEGEN_SPIRV_NEWER_H

enum { /* SPV_KHR_cooperative_matrix */
       SPV_CapabilityCooperativeMatrixKHR = 6022,
       SPV_OpTypeCooperativeMatrixKHR = 4456,
       SPV_OpCooperativeMatrixLoadKHR = 4457,
       SPV_OpCooperativeMatrixStoreKHR = 4458,
       SPV_OpCooperativeMatrixMulAddKHR = 4459,
       SPV_OpCooperativeMatrixLengthKHR = 4460,
       SPV_CooperativeMatrixLayoutRowMajorKHR = 0,
       SPV_CooperativeMatrixLayoutColumnMajorKHR = 1
};

enum { /* SPV_NV_cooperative_matrix2 */
       SPV_CapabilityCooperativeMatrixReductionsNV = 5430,
       SPV_CapabilityCooperativeMatrixConversionsNV = 5431,
       SPV_OpCooperativeMatrixReduceNV = 5366,
       SPV_CooperativeMatrixReduceRowNV = 1
};

enum { /* SPV_KHR_bfloat16 */
       SPV_FPEncodingBFloat16KHR = 0,
       SPV_CapabilityBFloat16TypeKHR = 5116,
       SPV_CapabilityBFloat16CooperativeMatrixKHR = 5118
};

#endif
