/* A CPU driver compiles a kernel when it is first dispatched, in the thread of the queue, so that
 * one device compiles one kernel at a time. It keeps what it compiled in a cache on the disk, which
 * its devices share: spare devices, one for each thread that makes pipelines, compile side by side
 * what the device that runs the programs will then find there. */
#include "runtime/vk/internal.h"

static VkResult open_spare(Spare *s, const Device *d) {
  VkDevice device;
  VkResult r = device_new(d, &device, &s->queue);
  if (r) return r;
  pipeline_maker_for(d, device, &s->maker);
  r = pipeline_layout_new(s->maker.device, &s->maker.layout);
  VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                  .queueFamilyIndex = d->family};
  if (!r) r = vk.CreateCommandPool(s->maker.device, &pool, NULL, &s->pool);
  if (r) spare_close(s);
  return r;
}

static VkResult dispatch_nothing(const Spare *s, const Pipeline *pipeline) {
  VkDevice device = s->maker.device;
  VkCommandBuffer c;
  VkCommandBufferAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                      .commandPool = s->pool,
                                      .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                      .commandBufferCount = 1};
  VkResult r = vk.AllocateCommandBuffers(device, &info, &c);
  if (r) return r;
  VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                    .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};
  r = vk.BeginCommandBuffer(c, &begin);
  if (!r) {
    pipeline_dispatch_nothing(c, s->maker.layout, pipeline);
    r = vk.EndCommandBuffer(c);
  }
  VkSubmitInfo submit = {
    .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1, .pCommandBuffers = &c};
  if (!r) r = vk.QueueSubmit(s->queue, 1, &submit, VK_NULL_HANDLE);
  if (!r) r = vk.DeviceWaitIdle(device);
  vk.FreeCommandBuffers(device, s->pool, 1, &c);
  return r;
}

bool spare_compile(Spare *s, const Device *d, const ImgModule *m, Buf *binary) {
  if (!s->maker.device && (s->tried || open_spare(s, d))) {
    s->tried = true;
    return false;
  }
  Pipeline pipeline;
  VkResult r = pipeline_new(&s->maker, m, binary, &pipeline);
  if (!r) r = dispatch_nothing(s, &pipeline);
  pipeline_free(s->maker.device, &pipeline);
  return !r;
}

void spare_close(Spare *s) {
  if (!s->maker.device) return;
  vk.DestroyCommandPool(s->maker.device, s->pool, NULL);
  vk.DestroyPipelineLayout(s->maker.device, s->maker.layout, NULL);
  vk.DestroyDevice(s->maker.device, NULL);
  *s = (Spare){.tried = true};
}
