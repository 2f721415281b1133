/* The Vulkan loader, the devices it knows, and opening one. */
#include "runtime/vk/internal.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_DEVICES = 64 };

struct VkFunctions vk;

static const char install_hint[] = "install the GPU's Vulkan driver, or for the CPU: apt install "
                                   "libvulkan1 mesa-vulkan-drivers (Debian, Ubuntu)";

const char *vk_result_name(VkResult r) {
  switch (r) {
  case VK_SUCCESS: return "success";
  case VK_ERROR_OUT_OF_HOST_MEMORY: return "out of host memory";
  case VK_ERROR_OUT_OF_DEVICE_MEMORY: return "out of device memory";
  case VK_ERROR_INITIALIZATION_FAILED: return "initialisation failed";
  case VK_ERROR_DEVICE_LOST: return "device lost";
  case VK_ERROR_MEMORY_MAP_FAILED: return "memory could not be mapped";
  case VK_ERROR_LAYER_NOT_PRESENT: return "a layer that the environment asks for is not installed";
  case VK_ERROR_EXTENSION_NOT_PRESENT: return "extension not present";
  case VK_ERROR_FEATURE_NOT_PRESENT: return "feature not present";
  case VK_ERROR_INCOMPATIBLE_DRIVER: return "no driver";
  case VK_ERROR_TOO_MANY_OBJECTS: return "too many objects";
  default: return "unknown error";
  }
}

/* ---- instance ---- */

static PFN_vkGetInstanceProcAddr load(Buf *why) {
  static void *library; /* stays open as long as the process */
  if (!library) library = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    buf_printf(why, "the Vulkan loader could not be opened (%s); %s", dlerror(), install_hint);
    return NULL;
  }
  PFN_vkGetInstanceProcAddr get;
  void *symbol = dlsym(library, "vkGetInstanceProcAddr");
  if (!symbol) {
    buf_printf(why, "libvulkan.so.1 is not a Vulkan loader: %s", dlerror());
    return NULL;
  }
  memcpy(&get, &symbol, sizeof get);
  return get;
}

static VkInstance instance_new(Buf *why) {
  PFN_vkGetInstanceProcAddr get = load(why);
  if (!get) return NULL;
  cache_own_driver();
  PFN_vkCreateInstance create = (PFN_vkCreateInstance)get(NULL, "vkCreateInstance");
  PFN_vkEnumerateInstanceVersion version_of =
    (PFN_vkEnumerateInstanceVersion)get(NULL, "vkEnumerateInstanceVersion");
  uint32_t version = VK_API_VERSION_1_0;
  if (version_of) version_of(&version);
  if (!create || version < VK_API_VERSION_1_2) {
    buf_printf(why, "the Vulkan loader is of version %u.%u; 1.2 is needed",
               VK_API_VERSION_MAJOR(version), VK_API_VERSION_MINOR(version));
    return NULL;
  }
  VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                           .pApplicationName = "alphac",
                           .apiVersion = VK_API_VERSION_1_2};
  VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                               .pApplicationInfo = &app};
  VkInstance instance;
  VkResult r = create(&info, NULL, &instance);
  if (r == VK_ERROR_INCOMPATIBLE_DRIVER) {
    buf_printf(why, "no Vulkan driver was found; %s", install_hint);
    return NULL;
  }
  if (r) {
    buf_printf(why, "Vulkan could not be started: %s", vk_result_name(r));
    return NULL;
  }
#define X(name) vk.name = (PFN_vk##name)get(instance, "vk" #name);
  VK_FUNCTIONS(X)
#undef X
  vk.EnumerateInstanceLayerProperties =
    (PFN_vkEnumerateInstanceLayerProperties)get(NULL, "vkEnumerateInstanceLayerProperties");
  return instance;
}

/* All devices of the instance; −1 with `why`. */
static int physical_devices(VkInstance instance, VkPhysicalDevice *out, Buf *why) {
  uint32_t n = MAX_DEVICES;
  VkResult r = vk.EnumeratePhysicalDevices(instance, &n, out);
  if (r < 0) {
    buf_printf(why, "the Vulkan devices could not be listed: %s; %s", vk_result_name(r),
               install_hint);
    return -1;
  }
  return (int)n;
}

/* ---- what a device is and can ---- */

bool device_has(VkPhysicalDevice p, const char *name) {
  uint32_t n = 0;
  if (vk.EnumerateDeviceExtensionProperties(p, NULL, &n, NULL) || !n) return false;
  VkExtensionProperties *list = xcalloc(n, sizeof *list);
  bool found = false;
  if (vk.EnumerateDeviceExtensionProperties(p, NULL, &n, list) >= 0)
    for (uint32_t i = 0; i < n && !found; i++) found = strcmp(list[i].extensionName, name) == 0;
  free(list);
  return found;
}

static void lacks(DeviceInfo *info, const char *what) {
  size_t n = strlen(info->missing);
  snprintf(info->missing + n, sizeof info->missing - n, "%s%s", n ? ", " : "", what);
  info->usable = false;
}

static void query_queue(Device *d) {
  VkQueueFamilyProperties family[64];
  uint32_t n = COUNT_OF(family);
  vk.GetPhysicalDeviceQueueFamilyProperties(d->physical, &n, family);
  for (d->family = 0; d->family < n; d->family++)
    if (family[d->family].queueFlags & VK_QUEUE_COMPUTE_BIT) break;
  if (d->family < n)
    d->timestamp_bits = family[d->family].timestampValidBits;
  else
    lacks(&d->info, "a queue for compute");
}

/* A CPU driver may name a heap that is smaller than what it can allocate (lavapipe 22 says 2 GiB):
 * the machine's memory counts. */
static void query_memory(Device *d) {
  vk.GetPhysicalDeviceMemoryProperties(d->physical, &d->memory);
  for (uint32_t i = 0; i < d->memory.memoryHeapCount; i++) {
    const VkMemoryHeap *heap = &d->memory.memoryHeaps[i];
    if ((heap->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) && heap->size > d->info.memory_bytes)
      d->info.memory_bytes = heap->size;
  }
  uint64_t machine = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
  if (d->info.is_cpu && machine > d->info.memory_bytes) d->info.memory_bytes = machine;
}

static void query_features(Device *d) {
  VkPhysicalDeviceSubgroupSizeControlFeaturesEXT size = {
    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT};
  VkPhysicalDevice16BitStorageFeatures storage = {
    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES};
  VkPhysicalDeviceVulkan12Features v12 = {
    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .pNext = &storage};
  VkPhysicalDeviceFeatures2 f = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                 .pNext = &v12};
  if (d->max_subgroup) storage.pNext = &size;
  vk.GetPhysicalDeviceFeatures2(d->physical, &f);
  if (!v12.bufferDeviceAddress) lacks(&d->info, "bufferDeviceAddress");
  if (!v12.timelineSemaphore) lacks(&d->info, "timelineSemaphore");
  if (!size.subgroupSizeControl) d->min_subgroup = d->max_subgroup = 0;
  d->full_subgroups = d->max_subgroup && size.computeFullSubgroups;
  d->int64 = f.features.shaderInt64;
  d->int16 = f.features.shaderInt16;
  d->float64 = f.features.shaderFloat64;
  d->float16 = v12.shaderFloat16;
  d->memory_model = v12.vulkanMemoryModel;
  d->info.storage16 = storage.storageBuffer16BitAccess && d->int16;
  extras_query(d);
}

static int rank_of(VkPhysicalDeviceType type) {
  switch (type) {
  case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return 4;
  case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return 3;
  case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: return 2;
  case VK_PHYSICAL_DEVICE_TYPE_CPU: return 0;
  default: return 1;
  }
}

/* Fills all of *d that is known before the device is opened; returns how good its kind is. */
static int query(VkPhysicalDevice p, Device *d) {
  *d = (Device){.physical = p, .info.usable = true};
  bool size_control = device_has(p, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
  VkPhysicalDeviceSubgroupSizeControlPropertiesEXT size = {
    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES_EXT};
  VkPhysicalDeviceDriverProperties driver = {.sType =
                                               VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES,
                                             .pNext = size_control ? &size : NULL};
  VkPhysicalDeviceMaintenance3Properties limits3 = {
    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES, .pNext = &driver};
  VkPhysicalDeviceSubgroupProperties subgroup = {
    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES, .pNext = &limits3};
  VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                     .pNext = &subgroup};
  vk.GetPhysicalDeviceProperties2(p, &all);
  const VkPhysicalDeviceProperties *base = &all.properties;

  DeviceInfo *info = &d->info;
  snprintf(info->name, sizeof info->name, "%s", base->deviceName);
  snprintf(info->driver, sizeof info->driver, "%.100s %.140s", driver.driverName,
           driver.driverInfo);
  info->is_cpu = base->deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
  info->vendor_id = base->vendorID;
  info->api_version = base->apiVersion;
  info->subgroup_size = subgroup.subgroupSize;
  if (subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT)
    d->subgroup_operations = subgroup.supportedOperations;
  info->subgroup_shuffle = d->subgroup_operations & VK_SUBGROUP_FEATURE_SHUFFLE_BIT;
  info->subgroup_arithmetic = d->subgroup_operations & VK_SUBGROUP_FEATURE_ARITHMETIC_BIT;
  info->shared_bytes = base->limits.maxComputeSharedMemorySize;
  info->max_invocations = base->limits.maxComputeWorkGroupInvocations;
  info->max_allocation = limits3.maxMemoryAllocationSize;
  d->limit = base->limits;
  d->device_id = base->deviceID;
  d->driver_version = base->driverVersion;
  memcpy(d->uuid, base->pipelineCacheUUID, VK_UUID_SIZE);
  if (size.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT) {
    d->min_subgroup = size.minSubgroupSize;
    d->max_subgroup = size.maxSubgroupSize;
  }
  query_memory(d);
  if (base->apiVersion < VK_API_VERSION_1_2)
    lacks(info, "Vulkan 1.2");
  else
    query_features(d);
  query_queue(d);
  return rank_of(base->deviceType);
}

int vk_devices(DeviceInfo *out, int max, Buf *why) {
  VkInstance instance = instance_new(why);
  if (!instance) return -1;
  VkPhysicalDevice p[MAX_DEVICES];
  int n = physical_devices(instance, p, why);
  for (int i = 0; i < n && i < max; i++) {
    Device d;
    query(p[i], &d);
    out[i] = d.info;
  }
  vk.DestroyInstance(instance, NULL);
  return n;
}

/* ---- opening ---- */

static bool choose(const VkPhysicalDevice *p, int n, int index, Device *out, Buf *why) {
  if (!n) {
    buf_printf(why, "there is no Vulkan device; %s", install_hint);
    return false;
  }
  if (index >= n) {
    buf_printf(why, "there is no device %d; there %s %d, numbered from 0", index,
               n > 1 ? "are" : "is", n);
    return false;
  }
  if (index >= 0) {
    query(p[index], out);
    if (!out->info.usable)
      buf_printf(why, "device %d, %s, cannot be used: it lacks %s", index, out->info.name,
                 out->info.missing);
    return out->info.usable;
  }
  int best = -1;
  Buf unusable = {0};
  for (int i = 0; i < n; i++) {
    Device d;
    int rank = query(p[i], &d);
    if (!d.info.usable) {
      buf_printf(&unusable, "; %s lacks %s", d.info.name, d.info.missing);
    } else if (rank > best) {
      best = rank;
      *out = d;
    }
  }
  if (best < 0)
    buf_printf(why, "no Vulkan device can be used%s", unusable.data ? unusable.data : "");
  buf_free(&unusable);
  return best >= 0;
}

VkResult device_new(const Device *d, VkDevice *out, VkQueue *out_queue) {
  float priority = 1;
  const char *extension[1 + EXTRA_EXTENSIONS];
  int n_extension = extras_extensions(d, extension);
  if (d->max_subgroup) extension[n_extension++] = VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME;
  ExtraFeatures extra;
  VkPhysicalDeviceSubgroupSizeControlFeaturesEXT size = {
    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT,
    .subgroupSizeControl = VK_TRUE,
    .computeFullSubgroups = d->full_subgroups};
  VkPhysicalDevice16BitStorageFeatures storage = {
    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES,
    .pNext = d->max_subgroup ? &size : NULL,
    .storageBuffer16BitAccess = d->info.storage16};
  VkPhysicalDeviceVulkan12Features v12 = {.sType =
                                            VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
                                          .pNext = extras_features(d, &extra, &storage),
                                          .shaderFloat16 = d->float16,
                                          .bufferDeviceAddress = VK_TRUE,
                                          .timelineSemaphore = VK_TRUE,
                                          .vulkanMemoryModel = d->memory_model};
  VkPhysicalDeviceFeatures2 features = {
    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
    .pNext = &v12,
    .features = {.shaderInt64 = d->int64, .shaderInt16 = d->int16, .shaderFloat64 = d->float64}};
  VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                   .queueFamilyIndex = d->family,
                                   .queueCount = 1,
                                   .pQueuePriorities = &priority};
  VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                             .pNext = &features,
                             .queueCreateInfoCount = 1,
                             .pQueueCreateInfos = &queue,
                             .enabledExtensionCount = (uint32_t)n_extension,
                             .ppEnabledExtensionNames = extension};
  VkResult r = vk.CreateDevice(d->physical, &info, NULL, out);
  if (!r) vk.GetDeviceQueue(*out, d->family, 0, out_queue);
  return r;
}

Device *vk_open(int index, Buf *why) {
  VkInstance instance = instance_new(why);
  if (!instance) return NULL;
  VkPhysicalDevice p[MAX_DEVICES];
  int n = physical_devices(instance, p, why);
  Device found = {0};
  if (n >= 0 && choose(p, n, index, &found, why)) {
    VkResult r = device_new(&found, &found.device, &found.queue);
    if (!r) {
      Device *d = xmalloc(sizeof *d);
      *d = found;
      d->instance = instance;
      return d;
    }
    buf_printf(why, "device %s could not be opened: %s", found.info.name, vk_result_name(r));
  }
  vk.DestroyInstance(instance, NULL);
  return NULL;
}

void vk_close(Device *d) {
  if (!d) return;
  vk.DestroyDevice(d->device, NULL);
  vk.DestroyInstance(d->instance, NULL);
  free(d);
}

const DeviceInfo *vk_info(const Device *d) { return &d->info; }
