/* Two mistakes on purpose, so that the silence of the other tests means something: `error` makes a
 * buffer of no bytes, `hazard` writes one range twice without a barrier. The layer must report
 * each. */
#include <stdio.h>
#include <string.h>
#include <vulkan/vulkan.h>

#define TRY(call)                                                                                  \
  do {                                                                                             \
    if ((call) != VK_SUCCESS) {                                                                    \
      printf("skipped: no Vulkan device (%s)\n", #call);                                           \
      return 0;                                                                                    \
    }                                                                                              \
  } while (0)

static int make_empty_buffer(VkDevice device) {
  VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                             .usage = VK_BUFFER_USAGE_TRANSFER_DST_BIT};
  VkBuffer buffer;
  if (vkCreateBuffer(device, &info, NULL, &buffer) == VK_SUCCESS)
    vkDestroyBuffer(device, buffer, NULL);
  return 0;
}

static int write_twice(VkDevice device) {
  VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                             .size = 1024,
                             .usage = VK_BUFFER_USAGE_TRANSFER_DST_BIT};
  VkBuffer buffer;
  TRY(vkCreateBuffer(device, &info, NULL, &buffer));
  VkMemoryRequirements needs;
  vkGetBufferMemoryRequirements(device, buffer, &needs);
  uint32_t type = 0;
  while (!(needs.memoryTypeBits >> type & 1)) type++;
  VkDeviceMemory memory;
  TRY(vkAllocateMemory(device,
                       &(VkMemoryAllocateInfo){.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                               .allocationSize = needs.size,
                                               .memoryTypeIndex = type},
                       NULL, &memory));
  TRY(vkBindBufferMemory(device, buffer, memory, 0));
  VkCommandPool pool;
  TRY(vkCreateCommandPool(
    device, &(VkCommandPoolCreateInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO}, NULL,
    &pool));
  VkCommandBuffer commands;
  TRY(vkAllocateCommandBuffers(
    device,
    &(VkCommandBufferAllocateInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                   .commandPool = pool,
                                   .commandBufferCount = 1},
    &commands));
  TRY(vkBeginCommandBuffer(
    commands, &(VkCommandBufferBeginInfo){.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO}));
  vkCmdFillBuffer(commands, buffer, 0, 512, 1);
  vkCmdFillBuffer(commands, buffer, 256, 512, 2);
  TRY(vkEndCommandBuffer(commands));
  vkDestroyCommandPool(device, pool, NULL);
  vkDestroyBuffer(device, buffer, NULL);
  vkFreeMemory(device, memory, NULL);
  return 0;
}

int main(int argc, char **argv) {
  VkInstance instance;
  TRY(vkCreateInstance(
    &(VkInstanceCreateInfo){.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                            .pApplicationInfo =
                              &(VkApplicationInfo){.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                                   .apiVersion = VK_API_VERSION_1_2}},
    NULL, &instance));
  uint32_t n = 1;
  VkPhysicalDevice physical;
  VkResult found = vkEnumeratePhysicalDevices(instance, &n, &physical);
  if ((found != VK_SUCCESS && found != VK_INCOMPLETE) || n == 0)
    return puts("skipped: no Vulkan device"), 0;
  float priority = 1;
  VkDevice device;
  TRY(vkCreateDevice(physical,
                     &(VkDeviceCreateInfo){.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                           .queueCreateInfoCount = 1,
                                           .pQueueCreateInfos =
                                             &(VkDeviceQueueCreateInfo){
                                               .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                               .queueCount = 1,
                                               .pQueuePriorities = &priority}},
                     NULL, &device));
  int status =
    argc > 1 && strcmp(argv[1], "hazard") == 0 ? write_twice(device) : make_empty_buffer(device);
  vkDestroyDevice(device, NULL);
  vkDestroyInstance(instance, NULL);
  return status;
}
