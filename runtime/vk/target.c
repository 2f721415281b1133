/* What a device must have for an image's kernels, and which of a model's targets suits it best. */
#include "runtime/vk/internal.h"

#include <inttypes.h>

/* What the target asks for as a whole; what single kernels ask for: pipeline.c. */
static void list_lacks(const Device *d, const ImgTarget *t, Buf *lack) {
  const DeviceInfo *info = &d->info;
  bool sized = t->subgroup_size == info->subgroup_size ||
               (t->subgroup_size >= d->min_subgroup && t->subgroup_size <= d->max_subgroup);
  if (t->subgroup_size && !sized)
    buf_printf(lack, ", subgroups of %u (it has %u)", t->subgroup_size, info->subgroup_size);
  if (t->subgroup_shuffle && !info->subgroup_shuffle) buf_str(lack, ", subgroup shuffle");
  if (t->subgroup_arithmetic && !info->subgroup_arithmetic) buf_str(lack, ", subgroup arithmetic");
  if (t->storage16 && !info->storage16)
    buf_str(lack, ", 16-bit elements in buffers (storageBuffer16BitAccess and shaderInt16)");
  if (t->shared_bytes > info->shared_bytes)
    buf_printf(lack, ", %u bytes of workgroup memory (it has %u)", t->shared_bytes,
               info->shared_bytes);
  if (t->max_invocations > info->max_invocations)
    buf_printf(lack, ", workgroups of %u invocations (it has %u)", t->max_invocations,
               info->max_invocations);
}

bool vk_accepts(const Device *d, const Image *m, Buf *why) {
  Buf lack = {0};
  list_lacks(d, &m->target, &lack);
  bool ok = !lack.len;
  if (!ok) buf_printf(why, "device %s lacks: %s", d->info.name, lack.data + 2);
  buf_free(&lack);
  return ok && pipelines_check(d, m, why);
}

/* Nothing speaks against it but what a model can be run without: a GPU runs kernels for CPUs, slowly, and
 * not every program needs every piece of memory. */
static bool suits(const Device *d, const Image *m) {
  if (m->target.cpu && !d->info.is_cpu) return false;
  for (uint32_t i = 0; i < m->n_chunk; i++)
    if (m->chunk[i].bytes > d->info.max_allocation) return false;
  return true;
}

const Image *vk_choose(const Device *d, const Image *target, uint32_t n, Buf *why) {
  const Image *found = NULL;
  Buf lack = {0};
  for (uint32_t i = 0; i < n; i++) {
    const Image *m = &target[i];
    buf_clear(&lack);
    if (vk_accepts(d, m, &lack)) {
      if (!found) found = m;
      if (!suits(d, m)) continue;
      found = m;
      break;
    }
    buf_printf(why, "%s%s: %s", i ? "\n  " : "", m->target.name, lack.data);
  }
  buf_free(&lack);
  return found;
}
