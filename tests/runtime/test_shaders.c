/* Shader objects: kernels as a CPU driver has them where no layer is in the way. Made of their modules once, then of the
 * binaries that the cache's file keeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/vk/internal.h"
#include "tests/runtime/sample.h"

enum { MODULES = 8 }; /* more than it takes for spare devices to compile some */

static Device *device;
static Image *image;
static Buf why;
static char cache_dir[] = "/tmp/alphac-shaders-XXXXXX";

/* ---- counted, and binaries refused ---- */

static PFN_vkCreateShadersEXT create_shaders;
static atomic_int of_modules, of_binaries;
static bool refuse;

static VkResult counted(VkDevice d, uint32_t n, const VkShaderCreateInfoEXT *info,
                        const VkAllocationCallbacks *a, VkShaderEXT *out) {
  bool binary = info->codeType == VK_SHADER_CODE_TYPE_BINARY_EXT;
  atomic_fetch_add(binary ? &of_binaries : &of_modules, 1);
  if (binary && refuse) return VK_INCOMPLETE; /* a success's sign, as a refusal's */
  return create_shaders(d, n, info, a, out);
}

/* As a process that begins: c = 0, then 120 times c + x, by all modules. */
static void start(bool no_cache) {
  buf_clear(&why);
  of_modules = of_binaries = 0;
  Exec *e = exec_new(device, image, &(ExecOptions){.no_cache = no_cache}, &why);
  if (!e) fail_msg("%s", why.data);
  static float x[SAMPLE_N], y[SAMPLE_N], c[SAMPLE_N];
  static const int32_t rng[4] = {3, 5, 7, 11};
  const void *of_init[] = {rng}, *of_long[] = {x};
  void *out[] = {y, c};
  for (int i = 0; i < SAMPLE_N; i++) x[i] = (float)(i % 17);
  if (!exec_run(e, image_program(image, "init"), of_init, out, &why)) fail_msg("%s", why.data);
  if (!exec_run(e, image_program(image, "long"), of_long, out, &why)) fail_msg("%s", why.data);
  for (int i = 0; i < SAMPLE_N; i++)
    if (y[i] != (float)(SAMPLE_LONG * (i % 17))) fail_msg("element %d is %g", i, (double)y[i]);
  exec_free(e);
}

static void test_binaries(void **state) {
  (void)state;
  start(true);
  assert_int_equal(of_modules, MODULES);
  start(false);
  assert_int_equal(of_modules, MODULES);
  start(false); /* all are known */
  assert_int_equal(of_modules, 0);
  assert_int_equal(of_binaries, MODULES);
  refuse = true;
  start(false);
  assert_int_equal(of_modules, MODULES);
  refuse = false;
}

/* ---- the file ---- */

static PipelineCache loaded(const char *expect_note) {
  PipelineCache c = {0};
  Buf note = {0};
  cache_load(device, &c, &note);
  if (!expect_note != !note.len || (expect_note && !strstr(note.data, expect_note)))
    fail_msg("it says '%s'", note.len ? note.data : "");
  buf_free(&note);
  return c;
}

static void forget(PipelineCache *c) {
  buf_free(&c->known);
  buf_free(&c->binary);
  buf_free(&c->driver);
}

static void put_text(PipelineCache *c, uint64_t hash, const char *text) {
  Buf b = {0};
  buf_str(&b, text);
  cache_learn(c, hash, &b);
  buf_free(&b);
}

static void expect_text(const PipelineCache *c, uint64_t hash, const char *text) {
  Buf b = {0};
  assert_true(cache_knows(c, hash, &b));
  assert_int_equal(b.len, strlen(text));
  if (b.len) assert_memory_equal(b.data, text, b.len);
  buf_free(&b);
}

static void test_file(void **state) {
  (void)state;
  PipelineCache c = {0};
  Buf none = {0};
  put_text(&c, 7, "seven");
  put_text(&c, 8, "");
  put_text(&c, 9, "nine, at an odd place");
  cache_store(device, &c);
  forget(&c);
  c = loaded(NULL);
  expect_text(&c, 7, "seven");
  expect_text(&c, 8, "");
  expect_text(&c, 9, "nine, at an odd place");
  assert_false(cache_knows(&c, 10, &none));

  for (int field = 0; field < 2;
       field++) { /* a binary that reaches past the end, or begins there */
    KnownModule *m = (KnownModule *)(void *)c.known.data;
    uint64_t *wrong = field ? &m[2].at : &m[2].bytes, right = *wrong;
    *wrong = field ? UINT64_MAX : c.binary.len;
    cache_store(device, &c);
    *wrong = right;
    PipelineCache bad = loaded("is ignored: it is damaged");
    assert_int_equal(bad.known.len, 0);
    forget(&bad);
  }
  forget(&c);
}

/* The driver's own cache is ours, where the user names no other. */
static void test_driver_cache(void **state) {
  (void)state;
  static const char folder[] = "MESA_SHADER_CACHE_DIR";
  Buf ours = {0};
  buf_printf(&ours, "%s/alphac/driver", cache_dir);
  assert_string_equal(getenv(folder), ours.data);
  setenv(folder, "/the/users", 1);
  cache_own_driver();
  assert_string_equal(getenv(folder), "/the/users");
  unsetenv(folder);
  cache_own_driver();
  assert_string_equal(getenv(folder), ours.data);
  buf_free(&ours);
}

/* What is oldest goes when it is too much. */
static void test_bound(void **state) {
  (void)state;
  PipelineCache c = {0};
  Buf large = {0}, found = {0};
  for (int i = 0; i < 1 << 16; i++) buf_str(&large, "0123456789abcdef");
  for (uint64_t i = 0; i < 100; i++) {
    cache_learn(&c, i, &large);
    assert_true(c.binary.len <= (size_t)33 << 20);
  }
  assert_false(cache_knows(&c, 0, &found));
  assert_true(cache_knows(&c, 99, &found));
  assert_int_equal(found.len, large.len);
  assert_memory_equal(found.data, large.data, large.len);
  buf_free(&large);
  buf_free(&found);
  forget(&c);
}

static int remove_cache(void) {
  Buf remove = {0};
  buf_printf(&remove, "rm -rf %s", cache_dir);
  int status = system(remove.data);
  buf_free(&remove);
  return status != 0;
}

int main(void) {
  if (!mkdtemp(cache_dir)) return 1;
  setenv("XDG_CACHE_HOME", cache_dir, 1);
  unsetenv("MESA_SHADER_CACHE_DIR");
  device = vk_open(-1, &why);
  if (!device || !device->shader_objects) {
    printf("skipped: kernels are no shader objects on this device (%s)\n",
           device ? vk_info(device)->driver : why.data);
    buf_free(&why);
    vk_close(device);
    return remove_cache();
  }
  Arena *arena = arena_new();
  image = sample_modules(arena, MODULES);
  create_shaders = vk.CreateShadersEXT;
  vk.CreateShadersEXT = counted;
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_binaries),
    cmocka_unit_test(test_file),
    cmocka_unit_test(test_bound),
    cmocka_unit_test(test_driver_cache),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  failed += remove_cache();
  vk_close(device);
  arena_free(arena);
  buf_free(&why);
  return failed;
}
