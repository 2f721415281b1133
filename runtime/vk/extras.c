/* What a device may have beyond Vulkan 1.2: that kernels use, matrix units (VK_KHR_cooperative_matrix,
 * of bf16 with VK_KHR_shader_bfloat16, with rows reduced in registers with VK_NV_cooperative_matrix2); how many compute units it
 * tells of; that kernels are made as, shader objects (VK_EXT_shader_object). */
#include "runtime/vk/internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- matrix units ---- */

/* All that the device multiplies, *n of them; the caller frees them. */
static VkCooperativeMatrixPropertiesKHR *list_products(const Device *d, uint32_t *n) {
  *n = 0;
  if (!d->matrix || !vk.GetPhysicalDeviceCooperativeMatrixPropertiesKHR ||
      vk.GetPhysicalDeviceCooperativeMatrixPropertiesKHR(d->physical, n, NULL))
    *n = 0;
  VkCooperativeMatrixPropertiesKHR *list = xcalloc(*n + 1, sizeof *list);
  for (uint32_t i = 0; i < *n; i++)
    list[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
  if (*n && vk.GetPhysicalDeviceCooperativeMatrixPropertiesKHR(d->physical, n, list) < 0) *n = 0;
  return list;
}

static bool sums_in_f32(const VkCooperativeMatrixPropertiesKHR *p, VkComponentTypeKHR type) {
  return p->scope == VK_SCOPE_SUBGROUP_KHR && p->AType == type && p->BType == type &&
         p->CType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
         p->ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR && !p->saturatingAccumulation;
}

/* The largest. */
static DeviceMatrix best_shape(const VkCooperativeMatrixPropertiesKHR *list, uint32_t n,
                               VkComponentTypeKHR type) {
  DeviceMatrix best = {0};
  for (uint32_t i = 0; i < n; i++) {
    const VkCooperativeMatrixPropertiesKHR *p = &list[i];
    if (sums_in_f32(p, type) && p->MSize * p->NSize * p->KSize > best.m * best.n * best.k)
      best = (DeviceMatrix){p->MSize, p->NSize, p->KSize};
  }
  return best;
}

static void query_shapes(Device *d) {
  uint32_t n;
  VkCooperativeMatrixPropertiesKHR *list = list_products(d, &n);
  if (d->float16) d->info.matrix_f16 = best_shape(list, n, VK_COMPONENT_TYPE_FLOAT16_KHR);
  if (d->bf16) d->info.matrix_bf16 = best_shape(list, n, VK_COMPONENT_TYPE_BFLOAT16_KHR);
  free(list);
}

bool extras_multiply(const Device *d, VkComponentTypeKHR type, uint32_t m, uint32_t n, uint32_t k) {
  uint32_t count;
  VkCooperativeMatrixPropertiesKHR *list = list_products(d, &count);
  bool found = false;
  for (uint32_t i = 0; i < count && !found; i++)
    found =
      sums_in_f32(&list[i], type) && list[i].MSize == m && list[i].NSize == n && list[i].KSize == k;
  free(list);
  return found;
}

static void query_matrices(Device *d) {
  VkPhysicalDeviceShaderBfloat16FeaturesKHR bf16 = {
    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR};
  VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix = {
    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR};
  VkPhysicalDeviceFeatures2 f = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                 .pNext = &matrix};
  VkPhysicalDeviceCooperativeMatrixPropertiesKHR at = {
    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_PROPERTIES_KHR};
  VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
                                   .pNext = &at};
  /* a module with matrices needs the Vulkan memory model */
  if (!d->memory_model || !d->full_subgroups ||
      !device_has(d->physical, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME))
    return;
  if (device_has(d->physical, VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME)) matrix.pNext = &bf16;
  vk.GetPhysicalDeviceFeatures2(d->physical, &f);
  vk.GetPhysicalDeviceProperties2(d->physical, &p);
  d->matrix =
    matrix.cooperativeMatrix && (at.cooperativeMatrixSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT);
  d->bf16 = d->matrix && bf16.shaderBFloat16Type && bf16.shaderBFloat16CooperativeMatrix;
  query_shapes(d);
}

static void query_rows(Device *d) {
  VkPhysicalDeviceCooperativeMatrix2FeaturesNV two = {
    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV};
  VkPhysicalDeviceFeatures2 f = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                 .pNext = &two};
  if (!d->matrix || !device_has(d->physical, VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME)) return;
  vk.GetPhysicalDeviceFeatures2(d->physical, &f);
  d->info.matrix_rows = two.cooperativeMatrixReductions && two.cooperativeMatrixConversions;
}

/* ---- compute units ---- */

static void query_cores(Device *d) {
  VkPhysicalDeviceShaderSMBuiltinsPropertiesNV nv = {
    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_SM_BUILTINS_PROPERTIES_NV};
  VkPhysicalDeviceShaderCorePropertiesAMD amd = {
    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_CORE_PROPERTIES_AMD};
  VkPhysicalDeviceProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2};
  if (device_has(d->physical, VK_NV_SHADER_SM_BUILTINS_EXTENSION_NAME))
    p.pNext = &nv;
  else if (device_has(d->physical, VK_AMD_SHADER_CORE_PROPERTIES_EXTENSION_NAME))
    p.pNext = &amd;
  else
    return;
  vk.GetPhysicalDeviceProperties2(d->physical, &p);
  d->info.cores = nv.shaderSMCount + amd.shaderEngineCount * amd.shaderArraysPerEngineCount *
                                       amd.computeUnitsPerShaderArray;
}

/* ---- shader objects ---- */

static bool layer_is_older(const char *name, uint32_t version) {
  uint32_t n = 0;
  if (!vk.EnumerateInstanceLayerProperties || vk.EnumerateInstanceLayerProperties(&n, NULL) || !n)
    return true;
  VkLayerProperties *list = xcalloc(n, sizeof *list);
  bool found = false;
  if (vk.EnumerateInstanceLayerProperties(&n, list) >= 0)
    for (uint32_t i = 0; i < n && !found; i++)
      found = strcmp(list[i].layerName, name) == 0 && list[i].specVersion >= version;
  free(list);
  return !found;
}

/* Whether a validation layer watches that does not know the extension: it would miss the pipelines. */
static bool old_layer_watches(const Device *d) {
  enum { MAX_TOOLS = 16 };
  VkPhysicalDeviceToolProperties tool[MAX_TOOLS];
  uint32_t n = MAX_TOOLS;
  for (int i = 0; i < MAX_TOOLS; i++)
    tool[i] =
      (VkPhysicalDeviceToolProperties){.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TOOL_PROPERTIES};
  /* which the loader has for drivers that have not */
  if (!vk.GetPhysicalDeviceToolPropertiesEXT ||
      vk.GetPhysicalDeviceToolPropertiesEXT(d->physical, &n, tool) < 0)
    return true;
  bool old = false;
  for (uint32_t i = 0; i < n && !old; i++)
    old = (tool[i].purposes & VK_TOOL_PURPOSE_VALIDATION_BIT) &&
          layer_is_older(tool[i].layer, VK_MAKE_API_VERSION(0, 1, 3, 246));
  return old;
}

/* Only where the driver's pipeline cache holds nothing, which is so of CPU drivers: others make pipelines faster. */
static void query_shader_objects(Device *d) {
  VkPhysicalDeviceShaderObjectFeaturesEXT shader = {
    .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_OBJECT_FEATURES_EXT};
  VkPhysicalDeviceFeatures2 f = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                 .pNext = &shader};
  if (!d->info.is_cpu || !vk.CreateShadersEXT ||
      !device_has(d->physical, VK_EXT_SHADER_OBJECT_EXTENSION_NAME) ||
      !device_has(d->physical, VK_KHR_DYNAMIC_RENDERING_EXTENSION_NAME) || old_layer_watches(d))
    return;
  vk.GetPhysicalDeviceFeatures2(d->physical, &f);
  d->shader_objects = shader.shaderObject;
}

void extras_query(Device *d) {
  query_matrices(d);
  query_rows(d);
  query_cores(d);
  query_shader_objects(d);
}

/* ---- opening ---- */

int extras_extensions(const Device *d, const char **name) {
  int n = 0;
  if (d->matrix) name[n++] = VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME;
  if (d->bf16) name[n++] = VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME;
  if (d->info.matrix_rows) name[n++] = VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME;
  if (d->shader_objects) {
    name[n++] = VK_EXT_SHADER_OBJECT_EXTENSION_NAME;
    name[n++] = VK_KHR_DYNAMIC_RENDERING_EXTENSION_NAME; /* which the other one asks for */
  }
  return n;
}

void *extras_features(const Device *d, ExtraFeatures *f, void *next) {
  *f = (ExtraFeatures){
    .matrix = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
               .cooperativeMatrix = VK_TRUE},
    .bf16 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR,
             .shaderBFloat16Type = VK_TRUE,
             .shaderBFloat16CooperativeMatrix = VK_TRUE},
    .rows = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV,
             .cooperativeMatrixReductions = VK_TRUE,
             .cooperativeMatrixConversions = VK_TRUE},
    .shader = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_OBJECT_FEATURES_EXT,
               .pNext = next,
               .shaderObject = VK_TRUE}};
  if (d->shader_objects) next = &f->shader;
  if (!d->matrix) return next;
  f->matrix.pNext = next;
  next = &f->matrix;
  if (d->bf16) {
    f->bf16.pNext = next;
    next = &f->bf16;
  }
  if (d->info.matrix_rows) {
    f->rows.pNext = next;
    next = &f->rows;
  }
  return next;
}
