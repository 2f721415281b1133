/* From what a device tells of itself to what code generation asks of a target. */
#ifndef DRIVER_DEVICE_TARGET_H
#define DRIVER_DEVICE_TARGET_H

#include "codegen/target.h"
#include "runtime/vk/vk.h"

static inline Target device_target(const DeviceInfo *d, const char *name) {
  return (Target){.name = name,
                  .subgroup_size = d->subgroup_size,
                  .subgroup_shuffle = d->subgroup_shuffle,
                  .subgroup_arithmetic = d->subgroup_arithmetic,
                  .is_cpu = d->is_cpu,
                  .shared_bytes = d->shared_bytes,
                  .max_invocations = d->max_invocations,
                  .storage16 = d->storage16,
                  .matrix_f16 = {d->matrix_f16.m, d->matrix_f16.n, d->matrix_f16.k},
                  .matrix_bf16 = {d->matrix_bf16.m, d->matrix_bf16.n, d->matrix_bf16.k},
                  .matrix_rows = d->matrix_rows,
                  .cores = d->cores,
                  .chunk_bytes = d->max_allocation};
}

#endif
