/* What a device can do, as far as code generation depends on it. */
#ifndef CODEGEN_TARGET_H
#define CODEGEN_TARGET_H

#include <stdbool.h>
#include <stdint.h>

typedef struct Target {
  const char *name;       /* "portable", or the device's name */
  uint32_t subgroup_size; /* 0: unknown, use no subgroup operations */
  bool subgroup_shuffle, subgroup_arithmetic;
  bool is_cpu; /* a CPU driver such as lavapipe: barriers are dear, one subgroup per workgroup is
                  best */
  uint32_t shared_bytes;    /* of workgroup memory */
  uint32_t max_invocations; /* per workgroup */
  uint64_t chunk_bytes;     /* largest piece of memory that one allocation may have */
  bool strict;              /* sums, differences and products round one by one: no fma */
} Target;

/* Vulkan 1.2 with bufferDeviceAddress and timelineSemaphore, nothing more: 16 KiB shared, 128
 * invocations, no subgroups. */
extern const Target target_portable;

#endif
