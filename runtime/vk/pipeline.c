/* What an image's modules ask of the device, and one pipeline from one module. */
#include "runtime/vk/internal.h"

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
  case 9: return *name = "16-bit floats (shaderFloat16)", d->float16;
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
  case 4433: return *name = "16-bit elements in buffers", d->info.storage16;
  case 5116: return *name = "bf16 (VK_KHR_shader_bfloat16)", d->bf16;
  case 5118: return *name = "matrices of bf16 (VK_KHR_shader_bfloat16)", d->bf16;
  case 6022: return *name = "matrix units (VK_KHR_cooperative_matrix)", d->matrix;
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

bool pipelines_check(const Device *d, const Image *m, Buf *why) {
  for (uint32_t i = 0; i < m->n_module; i++)
    if (!check_module(d, &m->module[i], why)) return false;
  return true;
}

/* ---- making ---- */

VkResult pipeline_layout_new(VkDevice device, VkPipelineLayout *out) {
  VkPushConstantRange range = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
                               .size = 8 * IMG_MAX_SLOTS};
  VkPipelineLayoutCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                     .pushConstantRangeCount = 1,
                                     .pPushConstantRanges = &range};
  return vk.CreatePipelineLayout(device, &info, NULL, out);
}

VkResult pipeline_new(const PipelineMaker *by, const ImgModule *m, VkPipeline *out) {
  VkShaderModuleCreateInfo code = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                   .codeSize = 4 * (size_t)m->n_word,
                                   .pCode = m->word};
  VkShaderModule module;
  *out = VK_NULL_HANDLE;
  VkResult r = vk.CreateShaderModule(by->device, &code, NULL, &module);
  if (r) return r;
  VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT size = {
    .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO_EXT,
    .requiredSubgroupSize = m->subgroup_size};
  VkComputePipelineCreateInfo info = {
    .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
    .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
              .pNext = m->subgroup_size && by->sizes_subgroups ? &size : NULL,
              .stage = VK_SHADER_STAGE_COMPUTE_BIT,
              .module = module,
              .pName = "main"},
    .layout = by->layout};
  r = vk.CreateComputePipelines(by->device, by->cache, 1, &info, NULL, out);
  vk.DestroyShaderModule(by->device, module, NULL);
  if (r) *out = VK_NULL_HANDLE;
  return r;
}

void pipeline_dispatch_nothing(VkCommandBuffer c, VkPipelineLayout layout, VkPipeline pipeline) {
  static const uint64_t nothing[IMG_MAX_SLOTS];
  vk.CmdBindPipeline(c, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline);
  vk.CmdPushConstants(c, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof nothing, nothing);
  vk.CmdDispatch(c, 0, 0, 0);
}
