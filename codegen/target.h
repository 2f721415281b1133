/* What a device can do, as far as code generation depends on it. */
#ifndef CODEGEN_TARGET_H
#define CODEGEN_TARGET_H

#include <stdbool.h>
#include <stdint.h>

/* Matrix units, as VK_KHR_cooperative_matrix offers them at subgroup scope: products of m × k by k × n
 * 16-bit elements, added up in f32. m = 0: none. */
typedef struct TargetMatrix {
  uint32_t m, n, k;
} TargetMatrix;

/* Which of a kernel's forms was the fastest when `alphac tune` measured them on this device: kernels and
 * forms by the names that cg_form_key and cg_forms give them. */
typedef struct TunedForm {
  const char *kernel, *form;
  double us; /* it took */
} TunedForm;

typedef struct Tuning {
  TunedForm *of;
  int n;
} Tuning;

typedef struct Target {
  const char *name;       /* "portable", or the device's name */
  uint32_t subgroup_size; /* 0: unknown, use no subgroup operations */
  bool subgroup_shuffle, subgroup_arithmetic;
  bool is_cpu; /* a CPU driver such as lavapipe: barriers are dear, one subgroup per workgroup is
                  best */
  uint32_t shared_bytes;    /* of workgroup memory */
  uint32_t max_invocations; /* per workgroup */
  bool storage16; /* buffers may have 16-bit elements, and shaders 16-bit integers: f16 and bf16
                     take 2 bytes in memory, else 4 */
  TargetMatrix matrix_f16, matrix_bf16;
  bool
    matrix_rows;  /* SPV_NV_cooperative_matrix2: rows of such matrices are reduced, and sums become
                       factors, in registers */
  uint32_t cores; /* compute units that each run workgroups of their own; 0: unknown */
  uint64_t chunk_bytes; /* largest piece of memory that one allocation may have */
  const Tuning *tuning; /* NULL: none */
  bool strict;          /* sums, differences and products round one by one: no fma */
} Target;

/* Vulkan 1.2 with bufferDeviceAddress and timelineSemaphore, nothing more: 16 KiB shared, 128
 * invocations, no subgroups. */
extern const Target target_portable;

#endif
