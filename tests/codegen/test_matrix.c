/* Modules with cooperative matrices: extensions and capabilities as needed and no others, the memory
 * model, accesses to workgroup memory. With a folder as argument, the modules are written there, for
 * a spirv-val that is newer than the linked SPIRV-Tools. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "codegen/plan.h"
#include "codegen/spirv/builder.h"

enum { OP_EXTENSION = 10, OP_CAPABILITY = 17, OP_MEMORY_MODEL = 14, OP_LOAD = 61, OP_STORE = 62 };

static const char *folder;

static void save(const char *name, const uint32_t *word, int n_word) {
  if (!folder) return;
  char path[512];
  snprintf(path, sizeof path, "%s/%s.spv", folder, name);
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(word, 4, (size_t)n_word, f), n_word);
  fclose(f);
}

/* Whether an instruction `op` has `value` as its operand number i (0: the word after the opcode). */
static bool has(const uint32_t *word, int n_word, uint32_t op, int i, uint32_t value) {
  for (int at = 5; at < n_word; at += (int)(word[at] >> 16))
    if ((word[at] & 0xffff) == op && (int)(word[at] >> 16) > i + 1 && word[at + 1 + i] == value)
      return true;
  return false;
}

static bool has_extension(const uint32_t *word, int n_word, const char *name) {
  for (int at = 5; at < n_word; at += (int)(word[at] >> 16))
    if ((word[at] & 0xffff) == OP_EXTENSION && strcmp((const char *)&word[at + 1], name) == 0)
      return true;
  return false;
}

/* C = A·B of one fragment through workgroup memory; the result both ways. */
static uint32_t *product(Arena *a, SpvId (*element)(Spv *), uint32_t m, uint32_t n, uint32_t k,
                         int *n_word) {
  Spv *b = spv_new(a);
  SpvId type_a = spv_matrix(b, element(b), m, k, SPV_matrix_a);
  SpvId type_b = spv_matrix(b, element(b), k, n, SPV_matrix_b);
  SpvId type_c = spv_matrix(b, spv_f32(b), m, n, SPV_matrix_sum);
  SpvId vec = spv_vec(b, spv_u32(b), 4);
  SpvId shared = spv_shared(b, spv_array(b, vec, 256));
  SpvId in = spv_push(b, spv_buffer(b, vec, 16));
  SpvId out = spv_push(b, spv_buffer(b, spv_f32(b), 4));
  SpvId lane = spv_builtin(b, SpvBuiltInLocalInvocationIndex, spv_u32(b));
  SpvId at = spv_at(b, shared, lane);
  SpvId from = spv_element(b, in, vec, lane);
  SpvId value = spv_load_pure(b, vec, from, 16);
  spv_set(b, at, value);
  spv_barrier(b);
  SpvId zero = spv_u(b, 0), half = spv_u(b, 128), stride = spv_u(b, 3);
  SpvId variable = spv_local(b, type_c);
  SpvId sum = spv_matrix_zero(b, type_c);
  spv_set(b, variable, sum);
  at = spv_at(b, shared, zero);
  SpvId x = spv_matrix_load(b, type_a, at, false, stride, 0);
  at = spv_at(b, shared, half);
  SpvId y = spv_matrix_load(b, type_b, at, true, stride, 0);
  sum = spv_get(b, variable);
  sum = spv_matrix_mul_add(b, x, y, sum);
  spv_set(b, variable, sum);
  spv_barrier(b);
  SpvId row = spv_u(b, 4);
  spv_matrix_store(b, at, sum, false, row, 0);
  spv_barrier(b);
  value = spv_get(b, at);
  value = spv_extract(b, value, 0);
  value = spv_bitcast(b, spv_f32(b), value);
  SpvId to = spv_element(b, out, spv_f32(b), lane);
  spv_store_aligned(b, to, value, 4);
  SpvId width = spv_u(b, n);
  to = spv_element(b, out, spv_f32(b), zero);
  spv_matrix_store(b, to, sum, false, width, 16);
  return spv_finish(b, (uint32_t[]){32, 1, 1}, n_word);
}

static void check(const char *name, SpvId (*element)(Spv *), uint32_t m, uint32_t n, uint32_t k,
                  bool bf16) {
  enum { VULKAN = 3, NON_PRIVATE = 0x20 };
  Arena *a = arena_new();
  int n_word;
  Buf why = {0};
  uint32_t *word = product(a, element, m, n, k, &n_word);
  save(name, word, n_word);
  assert_true(has(word, n_word, OP_CAPABILITY, 0, 6022));
  assert_int_equal(has(word, n_word, OP_CAPABILITY, 0, 5116), bf16);
  assert_int_equal(has(word, n_word, OP_CAPABILITY, 0, 5118), bf16);
  assert_int_equal(has(word, n_word, OP_CAPABILITY, 0, SpvCapabilityFloat16), !bf16);
  assert_true(has(word, n_word, OP_CAPABILITY, 0, SpvCapabilityVulkanMemoryModel));
  assert_true(has(word, n_word, OP_MEMORY_MODEL, 1, VULKAN));
  assert_true(has_extension(word, n_word, "SPV_KHR_cooperative_matrix"));
  assert_int_equal(has_extension(word, n_word, "SPV_KHR_bfloat16"), bf16);
  assert_true(has(word, n_word, OP_STORE, 2, NON_PRIVATE));
  assert_true(has(word, n_word, OP_LOAD, 3, NON_PRIVATE));
  if (!cg_validate(word, n_word, &why)) fail_msg("%s", why.data);
  buf_free(&why);
  arena_free(a);
}

static void test_products(void **state) {
  (void)state;
  check("f16", spv_f16, 16, 16, 16, false);
  check("f16_8", spv_f16, 8, 8, 8, false);
  check("bf16", spv_bf16, 16, 8, 16, true);
}

/* Without matrices a module stays within what every device has. */
static void test_others(void **state) {
  (void)state;
  Arena *a = arena_new();
  int n_word;
  Spv *b = spv_new(a);
  SpvId shared = spv_shared(b, spv_array(b, spv_u32(b), 32));
  SpvId lane = spv_builtin(b, SpvBuiltInLocalInvocationIndex, spv_u32(b));
  SpvId at = spv_at(b, shared, lane);
  spv_set(b, at, lane);
  spv_barrier(b);
  SpvId value = spv_get(b, at);
  spv_set(b, at, value);
  uint32_t *word = spv_finish(b, (uint32_t[]){32, 1, 1}, &n_word);
  assert_false(has(word, n_word, OP_CAPABILITY, 0, SpvCapabilityVulkanMemoryModel));
  assert_true(has(word, n_word, OP_MEMORY_MODEL, 1, SpvMemoryModelGLSL450));
  assert_false(has(word, n_word, OP_STORE, 2, 0x20));
  Buf why = {0};
  if (!cg_validate(word, n_word, &why)) fail_msg("%s", why.data);
  assert_int_equal(why.len, 0);
  arena_free(a);
}

int main(int argc, char **argv) {
  folder = argc > 1 ? argv[1] : NULL;
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_products),
    cmocka_unit_test(test_others),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
