/* What an image's modules ask of the device, by their words. */
#include "runtime/vk/internal.h"

#include <stdlib.h>

enum {
  SPV_HEADER_WORDS = 5,
  SPV_OpCapability = 17,
  SPV_OpTypeFloat = 22,
  SPV_OpConstant = 43,
  SPV_OpFunction = 54,
  SPV_OpTypeCooperativeMatrixKHR = 4456,
  SPV_CapabilityCooperativeMatrixKHR = 6022
};

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
  case 5430:
    return *name = "reductions of matrices (VK_NV_cooperative_matrix2)", d->info.matrix_rows;
  case 5431:
    return *name = "conversions of matrices (VK_NV_cooperative_matrix2)", d->info.matrix_rows;
  case 5345: return *name = "the Vulkan memory model", d->memory_model;
  default: return true;
  }
}

/* Whether the module asks for the capability; *at goes on behind it. Capabilities come first. */
static bool next_capability(const ImgModule *m, uint32_t *at, uint32_t *capability) {
  if (*at + 1 >= m->n_word || m->word[*at] != (2u << 16 | SPV_OpCapability)) return false;
  *capability = m->word[*at + 1];
  *at += 2;
  return true;
}

static bool check_capabilities(const Device *d, const ImgModule *m, Buf *why) {
  uint32_t capability;
  for (uint32_t at = SPV_HEADER_WORDS; next_capability(m, &at, &capability);) {
    const char *name;
    if (capability_had(d, capability, &name)) continue;
    buf_printf(why, "device %s has no %s, which kernel %s needs", d->info.name, name, m->name);
    return false;
  }
  return true;
}

/* ---- matrices ---- */

/* What the module's types say of its products: m × k and k × n elements of a type, each number from a
 * constant. */
typedef struct Products {
  VkComponentTypeKHR type;
  uint32_t m, n, k;
} Products;

/* Which 16-bit type a float type is; false for others. */
static bool component(const ImgModule *m, uint32_t at, VkComponentTypeKHR *type) {
  bool half = m->word[at] >> 16 >= 3 && m->word[at + 2] == 16;
  if (half)
    *type = m->word[at] >> 16 > 3 ? VK_COMPONENT_TYPE_BFLOAT16_KHR : VK_COMPONENT_TYPE_FLOAT16_KHR;
  return half;
}

/* Reads declarations up to the first function; `word_of[id]` is where an id is declared. */
static Products find_products(const ImgModule *m, uint32_t *word_of, uint32_t n_id) {
  enum { USE_a, USE_b };
  Products p = {.type = VK_COMPONENT_TYPE_MAX_ENUM_KHR};
  for (uint32_t at = SPV_HEADER_WORDS, n; at < m->n_word; at += n) {
    const uint32_t *w = &m->word[at];
    uint32_t op = w[0] & 0xffff;
    n = w[0] >> 16;
    if (!n || n > m->n_word - at || op == SPV_OpFunction) break;
    if (op == SPV_OpTypeFloat && n >= 3 && w[1] < n_id) word_of[w[1]] = at;
    if (op == SPV_OpConstant && n >= 4 && w[2] < n_id) word_of[w[2]] = at;
    if (op != SPV_OpTypeCooperativeMatrixKHR || n != 7) continue;
    uint32_t of[5]; /* where type, scope, rows, columns and use are declared */
    bool known = true;
    for (int i = 0; i < 5; i++) {
      of[i] = w[2 + i] < n_id ? word_of[w[2 + i]] : 0;
      known = known && of[i];
    }
    if (!known || !component(m, of[0], &p.type)) continue;
    uint32_t rows = m->word[of[2] + 3], columns = m->word[of[3] + 3], use = m->word[of[4] + 3];
    if (use == USE_a) p.m = rows, p.k = columns;
    if (use == USE_b) p.n = columns;
  }
  return p;
}

static bool check_products(const Device *d, const ImgModule *m, Buf *why) {
  uint32_t capability = 0;
  for (uint32_t at = SPV_HEADER_WORDS; capability != SPV_CapabilityCooperativeMatrixKHR;)
    if (!next_capability(m, &at, &capability)) return true;
  uint32_t n_id = m->word[3] <= m->n_word ? m->word[3] : m->n_word;
  uint32_t *word_of = xcalloc(n_id + 1, sizeof *word_of);
  Products p = find_products(m, word_of, n_id);
  free(word_of);
  if (!p.m || !p.n || !p.k || extras_multiply(d, p.type, p.m, p.n, p.k)) return true;
  buf_printf(why,
             "device %s has no products of %u×%u and %u×%u matrices of %s, which kernel %s needs",
             d->info.name, p.m, p.k, p.k, p.n,
             p.type == VK_COMPONENT_TYPE_BFLOAT16_KHR ? "bf16" : "f16", m->name);
  return false;
}

/* ---- modules ---- */

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
  return check_capabilities(d, m, why) && check_products(d, m, why);
}

bool pipelines_check(const Device *d, const Image *m, Buf *why) {
  for (uint32_t i = 0; i < m->n_module; i++)
    if (!check_module(d, &m->module[i], why)) return false;
  return true;
}
