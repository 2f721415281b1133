/* One pipeline from one module. */
#include "runtime/vk/internal.h"

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
  bool sized = m->subgroup_size && by->sizes_subgroups;
  bool full = sized && by->full_subgroups && m->local[0] % m->subgroup_size == 0;
  VkComputePipelineCreateInfo info = {
    .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
    .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
              .pNext = sized ? &size : NULL,
              .flags = full ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT_EXT : 0,
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
