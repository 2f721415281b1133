/* Pipelines: made from the image's modules when a program first needs them, and kept by the
 * driver's cache in a file that belongs to one device and driver. A cache file that is missing,
 * damaged or cannot be written costs time and nothing else. */
#include "runtime/vk/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- what modules ask of the device ---- */

enum { SPV_HEADER_WORDS = 5, SPV_OpCapability = 17 };

static bool subgroup_can(const Device *d, VkSubgroupFeatureFlags what) {
  return (d->subgroup_operations & what) == what;
}

/* Does the device have a SPIR-V capability? Those that every Vulkan 1.2 device with device
 * addresses has, or that vkCreateDevice was asked for, or that only the driver can judge, count as
 * had. */
static bool capability_had(const Device *d, uint32_t capability, const char **name) {
  switch (capability) {
  case 10: return *name = "64-bit floats", d->float64;
  case 11: return *name = "64-bit integers", d->int64;
  case 22: return *name = "16-bit integers", d->int16;
  case 61: return *name = "subgroups", subgroup_can(d, VK_SUBGROUP_FEATURE_BASIC_BIT);
  case 62: return *name = "subgroup votes", subgroup_can(d, VK_SUBGROUP_FEATURE_VOTE_BIT);
  case 63:
    return *name = "subgroup arithmetic", subgroup_can(d, VK_SUBGROUP_FEATURE_ARITHMETIC_BIT);
  case 64: return *name = "subgroup ballots", subgroup_can(d, VK_SUBGROUP_FEATURE_BALLOT_BIT);
  case 65: return *name = "subgroup shuffle", subgroup_can(d, VK_SUBGROUP_FEATURE_SHUFFLE_BIT);
  case 66:
    return *name = "relative subgroup shuffle",
           subgroup_can(d, VK_SUBGROUP_FEATURE_SHUFFLE_RELATIVE_BIT);
  case 67: return *name = "clustered subgroups", subgroup_can(d, VK_SUBGROUP_FEATURE_CLUSTERED_BIT);
  case 5345: return *name = "the Vulkan memory model", d->memory_model;
  default: return true;
  }
}

static bool check_capabilities(const Device *d, const ImgModule *m, Buf *why) {
  for (uint32_t at = SPV_HEADER_WORDS; at + 1 < m->n_word; at += m->word[at] >> 16) {
    if (m->word[at] != (2u << 16 | SPV_OpCapability)) break; /* capabilities come first */
    const char *name;
    if (capability_had(d, m->word[at + 1], &name)) continue;
    buf_printf(why, "device %s has no %s, which kernel %s needs", d->info.name, name, m->name);
    return false;
  }
  return true;
}

static bool check_module(const Device *d, const ImgModule *m, Buf *why) {
  uint64_t invocations = 1;
  bool fits = true;
  for (int i = 0; i < 3; i++) {
    invocations *= m->local[i];
    fits = fits && m->local[i] <= d->limit.maxComputeWorkGroupSize[i];
  }
  if (!fits || invocations > d->info.max_invocations) {
    buf_printf(why, "kernel %s has workgroups of %u × %u × %u; device %s allows %u invocations",
               m->name, m->local[0], m->local[1], m->local[2], d->info.name,
               d->info.max_invocations);
    return false;
  }
  bool sized = !m->subgroup_size || m->subgroup_size == d->info.subgroup_size ||
               (m->subgroup_size >= d->min_subgroup && m->subgroup_size <= d->max_subgroup);
  if (!sized) {
    buf_printf(why, "kernel %s needs subgroups of %u; device %s has %u", m->name, m->subgroup_size,
               d->info.name, d->info.subgroup_size);
    return false;
  }
  return check_capabilities(d, m, why);
}

/* ---- the cache file: magic, XXH3 of the rest, the driver's bytes ---- */

static const char cache_magic[8] = "alphapc1";
enum { CACHE_HEAD = 16 };

/* The file's path in `out`; false where there is no home. Makes the directories when asked. */
static bool cache_path(const Device *d, bool make, Buf *out) {
  const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  if (base && base[0] == '/') {
    buf_str(out, base);
  } else if (home && home[0] == '/') {
    buf_printf(out, "%s/.cache", home);
  } else {
    return false;
  }
  if (make) mkdir(out->data, 0700);
  buf_str(out, "/alphac");
  if (make) mkdir(out->data, 0755);
  buf_str(out, "/pipelines-");
  for (unsigned i = 0; i < VK_UUID_SIZE; i++) buf_printf(out, "%02x", d->uuid[i]);
  buf_printf(out, "-%x", d->driver_version);
  return true;
}

static void cache_load(const Device *d, Buf *out) {
  Buf path = {0};
  uint64_t hash;
  bool ok = cache_path(d, false, &path) && buf_read_file(out, path.data) && out->len > CACHE_HEAD &&
            memcmp(out->data, cache_magic, 8) == 0;
  if (ok) {
    memcpy(&hash, out->data + 8, 8);
    ok = hash == hash_bytes(out->data + CACHE_HEAD, out->len - CACHE_HEAD, 0);
  }
  if (!ok) buf_clear(out);
  buf_free(&path);
}

/* Written beside and renamed, so that a reader never sees half a file. */
static void cache_store(const Device *d, const Buf *data) {
  Buf path = {0}, beside = {0};
  if (cache_path(d, true, &path)) {
    buf_printf(&beside, "%s.%ld", path.data, (long)getpid());
    FILE *f = fopen(beside.data, "wb");
    if (f) {
      uint64_t hash = hash_bytes(data->data, data->len, 0);
      bool ok = fwrite(cache_magic, 8, 1, f) == 1 && fwrite(&hash, 8, 1, f) == 1 &&
                fwrite(data->data, data->len, 1, f) == 1;
      ok = fclose(f) == 0 && ok;
      if (!ok || rename(beside.data, path.data)) unlink(beside.data);
    }
  }
  buf_free(&path);
  buf_free(&beside);
}

static void cache_save(Exec *e) {
  size_t n = 0;
  Buf data = {0};
  if (!vk.GetPipelineCacheData(e->dev->device, e->cache, &n, NULL) && n) {
    void *bytes = xmalloc(n);
    if (!vk.GetPipelineCacheData(e->dev->device, e->cache, &n, bytes)) buf_put(&data, bytes, n);
    free(bytes);
  }
  if (data.len) cache_store(e->dev, &data);
  buf_free(&data);
}

/* ---- opening ---- */

bool pipelines_open(Exec *e, Buf *why) {
  VkDevice device = e->dev->device;
  for (uint32_t i = 0; i < e->image->n_module; i++)
    if (!check_module(e->dev, &e->image->module[i], why)) return false;
  VkPushConstantRange range = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
                               .size = 8 * IMG_MAX_SLOTS};
  VkPipelineLayoutCreateInfo layout = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                       .pushConstantRangeCount = 1,
                                       .pPushConstantRanges = &range};
  VkResult r = vk.CreatePipelineLayout(device, &layout, NULL, &e->layout);
  if (r) return exec_fault(e, r, "making a pipeline layout", why);
  Buf data = {0};
  if (!e->option.no_cache) cache_load(e->dev, &data);
  VkPipelineCacheCreateInfo cache = {
    .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
    .initialDataSize = data.len > CACHE_HEAD ? data.len - CACHE_HEAD : 0,
    .pInitialData = data.len > CACHE_HEAD ? data.data + CACHE_HEAD : NULL};
  r = vk.CreatePipelineCache(device, &cache, NULL, &e->cache);
  buf_free(&data);
  return r ? exec_fault(e, r, "making a pipeline cache", why) : true;
}

void pipelines_close(Exec *e) {
  VkDevice device = e->dev->device;
  for (uint32_t i = 0; i < e->image->n_module; i++)
    vk.DestroyPipeline(device, e->pipeline[i], NULL);
  vk.DestroyPipelineCache(device, e->cache, NULL);
  vk.DestroyPipelineLayout(device, e->layout, NULL);
}

/* ---- making ---- */

static bool pipeline_new(Exec *e, uint32_t index, Buf *why) {
  const ImgModule *m = &e->image->module[index];
  VkDevice device = e->dev->device;
  VkShaderModuleCreateInfo code = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                   .codeSize = 4 * (size_t)m->n_word,
                                   .pCode = m->word};
  VkShaderModule module;
  VkResult r = vk.CreateShaderModule(device, &code, NULL, &module);
  if (!r) {
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT size = {
      .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO_EXT,
      .requiredSubgroupSize = m->subgroup_size};
    VkComputePipelineCreateInfo info = {
      .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
      .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                .pNext = m->subgroup_size && e->dev->max_subgroup ? &size : NULL,
                .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                .module = module,
                .pName = "main"},
      .layout = e->layout};
    r = vk.CreateComputePipelines(device, e->cache, 1, &info, NULL, &e->pipeline[index]);
    vk.DestroyShaderModule(device, module, NULL);
  }
  if (!r) return true;
  e->pipeline[index] = VK_NULL_HANDLE;
  return exec_fault(e, r, m->name, why);
}

/* Some drivers, lavapipe among them, compile a kernel when it is first dispatched: a dispatch of no
 * workgroups makes them do it here, where its progress is shown and no step is timed. */
static bool pipeline_warm(Exec *e, uint32_t index, Buf *why) {
  static const uint64_t nothing[IMG_MAX_SLOTS];
  VkCommandBuffer c;
  bool ok = buffer_begin(e, &c, why);
  if (ok) {
    vk.CmdBindPipeline(c, VK_PIPELINE_BIND_POINT_COMPUTE, e->pipeline[index]);
    vk.CmdPushConstants(c, e->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof nothing, nothing);
    vk.CmdDispatch(c, 0, 0, 0);
    ok = buffer_end(e, c, why) && submit_buffer(e, c, why) && wait_for(e, e->submitted, why);
  }
  if (c && !e->lost) vk.FreeCommandBuffers(e->dev->device, e->pool, 1, &c);
  return ok;
}

bool pipelines_need(Exec *e, const ImgProgram *p, Buf *why) {
  uint32_t *missing = xcalloc(p->n_dispatch, sizeof *missing);
  bool *listed = xcalloc(e->image->n_module, sizeof *listed);
  int n = 0;
  for (uint32_t i = 0; i < p->n_dispatch; i++) {
    uint32_t m = p->dispatch[i].module;
    if (e->pipeline[m] || listed[m]) continue;
    listed[m] = true;
    missing[n++] = m;
  }
  bool ok = true;
  for (int i = 0; i < n && ok; i++) {
    if (e->option.progress)
      e->option.progress(e->option.progress_arg, i, n, e->image->module[missing[i]].name);
    ok = pipeline_new(e, missing[i], why) && pipeline_warm(e, missing[i], why);
  }
  if (n && e->option.progress) e->option.progress(e->option.progress_arg, n, n, "");
  if (ok && n && !e->option.no_cache) cache_save(e);
  free(missing);
  free(listed);
  return ok;
}
