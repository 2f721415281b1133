/* One pipeline from one module: a Vulkan pipeline, or a shader object (VK_EXT_shader_object) where the device's kernels are
 * made as such. The driver gives a shader object's binary, from which it makes another in a fraction of the time. */
#include "runtime/vk/internal.h"

#include <stdlib.h>

static const VkPushConstantRange range = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
                                          .size = 8 * IMG_MAX_SLOTS};

VkResult pipeline_layout_new(VkDevice device, VkPipelineLayout *out) {
  VkPipelineLayoutCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                     .pushConstantRangeCount = 1,
                                     .pPushConstantRanges = &range};
  return vk.CreatePipelineLayout(device, &info, NULL, out);
}

void pipeline_maker_for(const Device *d, VkDevice device, PipelineMaker *out) {
  *out = (PipelineMaker){.device = device,
                         .sizes_subgroups = d->max_subgroup != 0,
                         .full_subgroups = d->full_subgroups,
                         .shader_objects = d->shader_objects};
}

static bool is_sized(const PipelineMaker *by, const ImgModule *m) {
  return m->subgroup_size && by->sizes_subgroups;
}

static bool is_full(const PipelineMaker *by, const ImgModule *m) {
  return is_sized(by, m) && by->full_subgroups && m->local[0] % m->subgroup_size == 0;
}

static VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT size_of(const ImgModule *m) {
  return (VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT){
    .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO_EXT,
    .requiredSubgroupSize = m->subgroup_size};
}

/* ---- pipelines ---- */

static VkResult whole_new(const PipelineMaker *by, const ImgModule *m, VkPipeline *out) {
  VkShaderModuleCreateInfo code = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                   .codeSize = 4 * (size_t)m->n_word,
                                   .pCode = m->word};
  VkShaderModule module;
  VkResult r = vk.CreateShaderModule(by->device, &code, NULL, &module);
  if (r) return r;
  VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT size = size_of(m);
  VkComputePipelineCreateInfo info = {
    .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
    .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
              .pNext = is_sized(by, m) ? &size : NULL,
              .flags =
                is_full(by, m) ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT_EXT : 0,
              .stage = VK_SHADER_STAGE_COMPUTE_BIT,
              .module = module,
              .pName = "main"},
    .layout = by->layout};
  r = vk.CreateComputePipelines(by->device, by->cache, 1, &info, NULL, out);
  vk.DestroyShaderModule(by->device, module, NULL);
  if (r) *out = VK_NULL_HANDLE;
  return r;
}

/* ---- shader objects ---- */

static VkResult shader_new(const PipelineMaker *by, const ImgModule *m, VkShaderCodeTypeEXT type,
                           const void *code, size_t bytes, VkShaderEXT *out) {
  VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT size = size_of(m);
  VkShaderCreateInfoEXT info = {
    .sType = VK_STRUCTURE_TYPE_SHADER_CREATE_INFO_EXT,
    .pNext = is_sized(by, m) ? &size : NULL,
    .flags = is_full(by, m) ? VK_SHADER_CREATE_REQUIRE_FULL_SUBGROUPS_BIT_EXT : 0,
    .stage = VK_SHADER_STAGE_COMPUTE_BIT,
    .codeType = type,
    .codeSize = bytes,
    .pCode = code,
    .pName = "main",
    .pushConstantRangeCount = 1,
    .pPushConstantRanges = &range};
  VkResult r = vk.CreateShadersEXT(by->device, 1, &info, NULL, out);
  if (r) *out = VK_NULL_HANDLE;
  return r;
}

static bool get_binary(const PipelineMaker *by, VkShaderEXT shader, Buf *out) {
  size_t n = 0;
  buf_clear(out);
  if (vk.GetShaderBinaryDataEXT(by->device, shader, &n, NULL) || !n) return false;
  void *bytes = xmalloc(n);
  bool ok = !vk.GetShaderBinaryDataEXT(by->device, shader, &n, bytes);
  if (ok) buf_put(out, bytes, n);
  free(bytes);
  return ok;
}

/* A driver that compiles at the first dispatch may compile what it made of the module and what it makes of the binary
 * twice: so what is used is always made of the binary. */
static VkResult shader_of(const PipelineMaker *by, const ImgModule *m, Buf *binary,
                          VkShaderEXT *out) {
  VkShaderEXT first;
  if (binary && binary->len &&
      !shader_new(by, m, VK_SHADER_CODE_TYPE_BINARY_EXT, binary->data, binary->len, out))
    return VK_SUCCESS;
  VkResult r =
    shader_new(by, m, VK_SHADER_CODE_TYPE_SPIRV_EXT, m->word, 4 * (size_t)m->n_word, &first);
  if (r) return r;
  *out = first;
  if (!binary) return VK_SUCCESS;
  if (get_binary(by, first, binary) &&
      !shader_new(by, m, VK_SHADER_CODE_TYPE_BINARY_EXT, binary->data, binary->len, out)) {
    vk.DestroyShaderEXT(by->device, first, NULL);
  } else {
    buf_clear(binary);
    *out = first;
  }
  return VK_SUCCESS;
}

/* ---- either ---- */

VkResult pipeline_new(const PipelineMaker *by, const ImgModule *m, Buf *binary, Pipeline *out) {
  *out = (Pipeline){.whole = VK_NULL_HANDLE, .shader = VK_NULL_HANDLE};
  return by->shader_objects ? shader_of(by, m, binary, &out->shader)
                            : whole_new(by, m, &out->whole);
}

void pipeline_free(VkDevice device, const Pipeline *p) {
  if (p->whole) vk.DestroyPipeline(device, p->whole, NULL);
  if (p->shader) vk.DestroyShaderEXT(device, p->shader, NULL);
}

void pipeline_bind(VkCommandBuffer c, const Pipeline *p) {
  static const VkShaderStageFlagBits stage = VK_SHADER_STAGE_COMPUTE_BIT;
  if (p->shader)
    vk.CmdBindShadersEXT(c, 1, &stage, &p->shader);
  else
    vk.CmdBindPipeline(c, VK_PIPELINE_BIND_POINT_COMPUTE, p->whole);
}

void pipeline_dispatch_nothing(VkCommandBuffer c, VkPipelineLayout layout, const Pipeline *p) {
  static const uint64_t nothing[IMG_MAX_SLOTS];
  pipeline_bind(c, p);
  vk.CmdPushConstants(c, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, sizeof nothing, nothing);
  vk.CmdDispatch(c, 0, 0, 0);
}
