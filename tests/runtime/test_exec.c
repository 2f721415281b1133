/* runtime/vk on a device: the sample image, run. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/vk/vk.h"
#include "tests/runtime/sample.h"

typedef struct Fixture {
  Arena *arena;
  Device *device;
  Image *image;
} Fixture;

static Fixture fix;
static Buf why;

#define OK(call)                                                                                   \
  do {                                                                                             \
    if (!(call)) fail_msg("%s: %s", #call, why.data ? why.data : "");                              \
  } while (0)

static int setup(void **state) {
  (void)state;
  fix.arena = arena_new();
  fix.image = sample_image(fix.arena);
  fix.device = vk_open(-1, &why);
  return fix.device ? 0 : -1;
}

static int teardown(void **state) {
  (void)state;
  vk_close(fix.device);
  arena_free(fix.arena);
  buf_free(&why);
  return 0;
}

static Exec *open_exec(const ExecOptions *option) {
  static const ExecOptions plain = {.no_cache = true};
  buf_clear(&why);
  Exec *e = exec_new(fix.device, fix.image, option ? option : &plain, &why);
  if (!e) fail_msg("exec_new: %s", why.data);
  return e;
}

static void run_init(Exec *e) {
  int32_t rng[4] = {0};
  const void *input[] = {rng};
  OK(exec_run(e, image_program(fix.image, "init"), input, NULL, &why));
}

/* w = 2t, so s = x + 2t and y = x + 3t; c = the sum of all x so far. */
static void test_values(void **state) {
  (void)state;
  Exec *e = open_exec(NULL);
  const ImgProgram *step = image_program(fix.image, "step");
  static float x[SAMPLE_N], y[SAMPLE_N], c[SAMPLE_N];
  run_init(e);
  for (int n = 1; n <= 3; n++) {
    for (int i = 0; i < SAMPLE_N; i++) x[i] = (float)(n * 7 - i % 5);
    const void *input[] = {x};
    void *output[] = {y, c};
    OK(exec_run(e, step, input, output, &why));
    for (int i = 0; i < SAMPLE_N; i++) {
      assert_true(y[i] == x[i] + 3 * (float)i);
      assert_true(c[i] == (float)(7 * n * (n + 1) / 2 - n * (i % 5)));
    }
  }
  exec_free(e);
}

/* Four runs under way, outputs each of its own run although c is overwritten by the next; waited
 * for out of order. */
static void test_ring(void **state) {
  (void)state;
  Exec *e = open_exec(NULL);
  const ImgProgram *step = image_program(fix.image, "step");
  static float x[EXEC_RING][SAMPLE_N], y[SAMPLE_N], c[SAMPLE_N];
  run_init(e);
  float sum = 0;
  for (int round = 0; round < 5; round++) {
    uint64_t ticket[EXEC_RING];
    float want[EXEC_RING];
    for (int k = 0; k < EXEC_RING; k++) {
      for (int i = 0; i < SAMPLE_N; i++) x[k][i] = (float)(k + 1);
      const void *input[] = {x[k]};
      OK(exec_submit(e, step, input, &ticket[k], &why));
      want[k] = sum += (float)(k + 1);
    }
    static const int order[EXEC_RING] = {2, 0, 3, 1};
    for (int k = 0; k < EXEC_RING; k++) {
      int r = order[k];
      void *output[] = {k % 2 ? y : NULL, c};
      OK(exec_wait(e, ticket[r], output, &why));
      assert_true(c[0] == want[r] && c[SAMPLE_N - 1] == want[r]);
      if (k % 2) assert_true(y[10] == x[r][10] + 30);
    }
  }
  exec_free(e);
}

/* A program of many pieces; reads and writes of whole tensors fall into order with runs under
 * way. */
static void test_pieces_and_transfers(void **state) {
  (void)state;
  Exec *e = open_exec(NULL);
  const ImgProgram *slow = image_program(fix.image, "long");
  const ImgTensor *state_c = &fix.image->state[0].t;
  static float x[SAMPLE_N], c[SAMPLE_N], got[SAMPLE_N];
  run_init(e);
  for (int i = 0; i < SAMPLE_N; i++) x[i] = 1, c[i] = (float)i;
  OK(exec_write(e, state_c, c, &why));
  uint64_t ticket;
  const void *input[] = {x};
  OK(exec_submit(e, slow, input, &ticket, &why));
  OK(exec_read(e, state_c, got, &why)); /* behind the run */
  for (int i = 0; i < SAMPLE_N; i++) assert_true(got[i] == (float)(i + SAMPLE_LONG));
  OK(exec_write(e, state_c, x, &why));
  void *output[] = {c};
  OK(exec_wait(e, ticket, output, &why));
  assert_memory_equal(c, got, sizeof c);
  OK(exec_read(e, state_c, got, &why));
  assert_memory_equal(x, got, sizeof x);
  /* one word, words that do not divide the tensor, more words than it has */
  static const uint64_t some[] = {1, 7, SAMPLE_N + 5};
  static uint32_t word[SAMPLE_N + 5];
  for (uint32_t i = 0; i < COUNT_OF(word); i++) word[i] = i + 1;
  for (int k = 0; k < COUNT_OF(some); k++) {
    OK(exec_repeat(e, state_c, word, some[k], &why));
    OK(exec_read(e, state_c, got, &why));
    for (uint64_t i = 0; i < SAMPLE_N; i++)
      assert_memory_equal(&got[i], &word[i % some[k]], sizeof *got);
  }
  exec_free(e);
}

/* The table's numbers are where the kernel looks, and the chunk that one of them names exists. */
static void test_arguments(void **state) {
  (void)state;
  Exec *e = open_exec(NULL);
  static float y[SAMPLE_N];
  void *output[] = {y};
  for (int n = 0; n < 2; n++) {
    OK(exec_run(e, image_program(fix.image, "tabled"), NULL, output, &why));
    for (int i = 0; i < 2 * SAMPLE_ARGUMENTS; i++) assert_true(y[i] == 2 * (float)i);
  }
  assert_true(
    image_uses(fix.image, image_program(fix.image, "tabled"), fix.image->param[0].t.chunk));
  assert_false(
    image_uses(fix.image, image_program(fix.image, "tabled"), fix.image->state[0].t.chunk));
  exec_free(e);
}

/* What a fresh device holds: zeros in parameters and states, the image's tables. */
static void test_first_contents(void **state) {
  (void)state;
  Exec *e = open_exec(NULL);
  static float got[SAMPLE_N], zero[SAMPLE_N];
  OK(exec_read(e, &fix.image->param[0].t, got, &why));
  assert_memory_equal(got, zero, sizeof zero);
  OK(exec_read(e, &fix.image->table[0].t, got, &why));
  assert_memory_equal(got, fix.image->table[0].data, sizeof got);
  exec_free(e);
}

/* With poison, what reads memory that nothing wrote gives NaN; a correct program gives what it gave
 * before. */
static void test_poison(void **state) {
  (void)state;
  Exec *e = open_exec(&(ExecOptions){.poison = true, .no_cache = true});
  static float x[SAMPLE_N], y[SAMPLE_N], c[SAMPLE_N];
  run_init(e);
  const void *input[] = {x};
  void *output[] = {y, c};
  for (int n = 0; n < 2; n++) {
    OK(exec_run(e, image_program(fix.image, "step"), input, output, &why));
    for (int i = 0; i < SAMPLE_N; i++) assert_true(y[i] == 3 * (float)i && c[i] == 0);
    void *hole[] = {y};
    OK(exec_run(e, image_program(fix.image, "hole"), NULL, hole, &why));
    for (int i = 0; i < SAMPLE_N; i++) assert_true(isnan(y[i]));
  }
  exec_free(e);
}

/* ---- what a device lacks ---- */

static void expect_refusal(const Image *m, const char *words) {
  buf_clear(&why);
  Exec *e = exec_new(fix.device, m, &(ExecOptions){.no_cache = true}, &why);
  assert_null(e);
  if (!strstr(why.data, words)) fail_msg("'%s' does not say '%s'", why.data, words);
}

static void test_missing(void **state) {
  (void)state;
  const DeviceInfo *info = vk_info(fix.device);
  Image m = *fix.image;
  m.target = (ImgTarget){
    .name = "big", .subgroup_size = 128, .shared_bytes = 1u << 30, .max_invocations = 1u << 20};
  expect_refusal(&m, "compiled for big");
  expect_refusal(&m, "subgroups of 128");
  expect_refusal(&m, "1073741824 bytes of workgroup memory");
  expect_refusal(&m, "workgroups of 1048576 invocations");

  m = *fix.image;
  ImgModule wide = *m.module;
  wide.local[0] = info->max_invocations + 1;
  m.module = &wide;
  expect_refusal(&m, "kernel add has workgroups of");

  ImgModule sized = *fix.image->module;
  sized.subgroup_size = 128;
  m.module = &sized;
  expect_refusal(&m, "kernel add needs subgroups of 128");
}

/* A kernel with matrices of a shape that no device multiplies. */
static void test_missing_matrices(void **state) {
  (void)state;
  enum { F16 = 1, U32, SCOPE, SIZE, USE_A, USE_B, A, B, IDS };
  static const uint32_t word[] = {
    0x07230203,
    0x10600,
    0,
    IDS,
    0,
    2u << 16 | 17,
    6022, /* CooperativeMatrixKHR */
    3u << 16 | 22,
    F16,
    16,
    4u << 16 | 21,
    U32,
    32,
    0, /* f16, u32 */
    4u << 16 | 43,
    U32,
    SCOPE,
    3,
    4u << 16 | 43,
    U32,
    SIZE,
    24, /* constants */
    4u << 16 | 43,
    U32,
    USE_A,
    0,
    4u << 16 | 43,
    U32,
    USE_B,
    1,
    7u << 16 | 4456,
    A,
    F16,
    SCOPE,
    SIZE,
    SIZE,
    USE_A,
    7u << 16 | 4456,
    B,
    F16,
    SCOPE,
    SIZE,
    SIZE,
    USE_B,
  };
  ImgModule matrices = *fix.image->module;
  matrices.word = word;
  matrices.n_word = COUNT_OF(word);
  Image m = *fix.image;
  m.module = &matrices;
  expect_refusal(&m,
                 vk_info(fix.device)->matrix_f16.m
                   ? "has no products of 24×24 and 24×24 matrices of f16, which kernel add needs"
                   : "has no matrix units (VK_KHR_cooperative_matrix), which kernel add needs");
}

/* A chunk that no allocation can hold is refused with its size and class when it is needed, not
 * before. */
static void test_too_large(void **state) {
  (void)state;
  Image m = *fix.image;
  ImgChunk chunk[8];
  memcpy(chunk, m.chunk, sizeof *chunk * m.n_chunk);
  chunk[1].bytes = 1ull << 47;
  m.chunk = chunk;
  buf_clear(&why);
  Exec *e = exec_new(fix.device, &m, &(ExecOptions){.no_cache = true}, &why);
  assert_non_null(e);
  static float got[SAMPLE_N];
  OK(exec_read(e, &m.param[0].t, got, &why));
  assert_false(exec_read(e, &m.state[0].t, got, &why));
  assert_non_null(
    strstr(why.data, "134217728.0 MiB for optimizer and other state could not be had"));
  assert_non_null(strstr(why.data, "parameters 0.0"));
  OK(exec_read(e, &m.param[0].t, got, &why)); /* the rest still works */
  exec_free(e);
}

int main(void) {
  Buf none = {0};
  DeviceInfo info;
  int n = vk_devices(&info, 1, &none);
  if (n <= 0) {
    printf("skipped: no Vulkan device (%s)\n", none.data ? none.data : "none");
    buf_free(&none);
    return 0;
  }
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_values),
    cmocka_unit_test(test_ring),
    cmocka_unit_test(test_pieces_and_transfers),
    cmocka_unit_test(test_arguments),
    cmocka_unit_test(test_first_contents),
    cmocka_unit_test(test_poison),
    cmocka_unit_test(test_missing_matrices),
    cmocka_unit_test(test_missing),
    cmocka_unit_test(test_too_large),
  };
  return cmocka_run_group_tests(tests, setup, teardown);
}
