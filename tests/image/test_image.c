/* image: written and read back; damaged in every way, refused with a message or harmless. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "image/image.h"
#include "image/layout.h"
#include "tests/image/walk.h"
#include "tests/runtime/sample.h"

/* Reads a copy of exactly these bytes, so that a sanitizer sees a step too far. NULL: refused, the
 * reason in `why`. */
static bool read_copy(const void *bytes, size_t n, Buf *why, uint64_t *walked) {
  Arena *a = arena_new();
  void *copy = NULL;
  assert_int_equal(posix_memalign(&copy, IMG_ALIGN, n), 0);
  memcpy(copy, bytes, n);
  buf_clear(why);
  uint32_t n_target;
  const Image *m = image_read(a, copy, n, &n_target, why);
  *walked = 0;
  for (uint32_t i = 0; m && i < n_target; i++) *walked += image_walk(&m[i]);
  if (!m) assert_true(why->len > 0);
  free(copy);
  arena_free(a);
  return m != NULL;
}

static void expect_words(const Buf *why, const char *words) {
  if (!strstr(why->data, words)) fail_msg("'%s' does not say '%s'", why->data, words);
}

/* ---- round trip ---- */

static void test_round_trip(void **state) {
  (void)state;
  Arena *a = arena_new();
  const Image *from = sample_image(a);
  size_t n, again;
  void *bytes = sample_bytes(a, from, 1, &n);
  Buf why = {0};
  uint32_t n_target = 0;
  const Image *m = image_read(a, bytes, n, &n_target, &why);
  if (!m) fail_msg("%s", why.data);
  assert_int_equal(n_target, 1);
  void *copy = sample_bytes(a, m, 1, &again);
  assert_int_equal(n, again);
  assert_memory_equal(bytes, copy, n);
  assert_true(image_walk(m) == image_walk(from));

  assert_string_equal(m->model, "sample");
  assert_string_equal(m->config, from->config);
  assert_int_equal(m->target.max_invocations, 128);
  assert_int_equal(m->n_program, from->n_program);
  const ImgProgram *step = image_program(m, "step"), *was = image_program(from, "step");
  assert_non_null(step);
  assert_int_equal(step->n_dispatch, 3);
  assert_memory_equal(step->dispatch[1].slot, was->dispatch[1].slot,
                      sizeof *was->dispatch[1].slot * 4);
  assert_string_equal(step->dispatch[1].label, "y = s + t");
  assert_true(step->dispatch[1].barrier == 1 && step->dispatch[0].barrier == 0);
  assert_true(step->dispatch[2].bytes == was->dispatch[2].bytes);
  assert_int_equal(image_output(step, "y")->offset, image_output(was, "y")->offset);
  assert_null(image_output(step, "x"));
  assert_int_equal(image_input(step, "x")->dim[0], SAMPLE_N);
  assert_null(image_program(m, "stepp"));
  assert_memory_equal(m->table[0].data, from->table[0].data, m->table[0].t.bytes);
  assert_true((uintptr_t)m->module[0].word % IMG_ALIGN == 0);
  buf_free(&why);
  arena_free(a);
}

/* Each target has its own places; kernels and tables, which are equal, are stored once. */
static void test_targets(void **state) {
  (void)state;
  Arena *a = arena_new();
  const Image *from = sample_targets(a);
  size_t n, one;
  void *bytes = sample_bytes(a, from, SAMPLE_TARGETS, &n);
  sample_bytes(a, from, 1, &one);
  Buf why = {0};
  uint32_t n_target = 0;
  const Image *m = image_read(a, bytes, n, &n_target, &why);
  if (!m) fail_msg("%s", why.data);
  assert_int_equal(n_target, SAMPLE_TARGETS);
  for (int i = 0; i < SAMPLE_TARGETS; i++) {
    assert_string_equal(m[i].target.name, from[i].target.name);
    assert_true(image_walk(&m[i]) == image_walk(&from[i]));
    assert_ptr_equal(m[i].module[0].word, m[0].module[0].word);
    assert_ptr_equal(m[i].table[1].data, m[0].table[1].data);
  }
  assert_int_equal(m[0].target.subgroup_size, 64);
  assert_int_equal(m[2].param[0].t.offset, 256);
  assert_int_equal(m[3].param[0].t.offset, 0);
  assert_int_equal(m[0].n_arguments, 2);
  uint64_t data_bytes = 4 * (uint64_t)m->module[0].n_word + 8 * (uint64_t)SAMPLE_N;
  assert_true(one > data_bytes &&
              n < SAMPLE_TARGETS * one - (SAMPLE_TARGETS - 1) * data_bytes + 256);
  buf_free(&why);
  arena_free(a);
}

/* An image without anything in it is an image. */
static void test_empty(void **state) {
  (void)state;
  Arena *a = arena_new();
  Image none = {.model = "none", .config = "", .target.name = "portable"};
  size_t n;
  void *bytes = sample_bytes(a, &none, 1, &n);
  Buf why = {0};
  uint32_t n_target;
  const Image *m = image_read(a, bytes, n, &n_target, &why);
  assert_non_null(m);
  assert_int_equal(m->n_program, 0);
  none.model = NULL;
  assert_false(image_write(&why, &none, 1));
  buf_free(&why);
  arena_free(a);
}

/* ---- accidents ---- */

static void test_every_truncation(void **state) {
  (void)state;
  Arena *a = arena_new();
  size_t n;
  uint8_t *bytes = sample_bytes(a, sample_image(a), 1, &n);
  Buf why = {0};
  uint64_t walked;
  for (size_t k = 0; k < n; k++) assert_false(read_copy(bytes, k, &why, &walked));
  for (size_t k = 0; k < n; k++) { /* and with a header that fits */
    uint8_t *cut = malloc(n);
    memcpy(cut, bytes, n);
    image_mend(cut, k);
    if (read_copy(cut, k, &why, &walked)) fail_msg("%zu of %zu bytes were accepted", k, n);
    free(cut);
  }
  buf_free(&why);
  arena_free(a);
}

static void test_every_byte(void **state) {
  (void)state;
  Arena *a = arena_new();
  size_t n;
  uint8_t *bytes = sample_bytes(a, sample_image(a), 1, &n);
  Buf why = {0};
  uint64_t walked;
  uint32_t key[2] = {1, 2}, r[4];
  for (size_t k = 0; k < n; k++) {
    philox4x32((const uint32_t[4]){(uint32_t)k, 0, 0, 0}, key, r);
    uint8_t was = bytes[k];
    bytes[k] ^= (uint8_t)(1 + r[0] % 255);
    if (read_copy(bytes, n, &why, &walked)) fail_msg("byte %zu edited was accepted", k);
    bytes[k] = was;
  }
  assert_true(read_copy(bytes, n, &why, &walked));
  buf_free(&why);
  arena_free(a);
}

/* ---- edits that come with a hash that fits: each field's own check ---- */

enum { EDITS = 60000 };

/* Records edited at random, with numbers that are likely to hurt: refused, or harmless to walk. */
static void test_mended_edits(void **state) {
  (void)state;
  static const uint64_t hurt[] = {
    0, 1, 2, 5, 9, 255, 65536, 0x7fffffff, 0x80000000, 0xffffffff, 1ull << 63, UINT64_MAX};
  Arena *a = arena_new();
  size_t n;
  uint8_t *bytes = sample_bytes(a, sample_targets(a), SAMPLE_TARGETS, &n), *edited = malloc(n);
  uint64_t data_at;
  memcpy(&data_at, bytes + HEAD_sections + 16 * SEC_data, 8);
  Buf why = {0};
  int refused = 0, accepted = 0;
  for (uint32_t k = 0; k < EDITS; k++) {
    uint32_t r[4];
    uint64_t walked;
    philox4x32((const uint32_t[4]){k, 0, 0, 0}, (const uint32_t[2]){3, 4}, r);
    memcpy(edited, bytes, n);
    size_t at = HEAD_hashed + r[0] % (data_at - HEAD_hashed - 8);
    switch (r[1] % 4) {
    case 0: edited[at] ^= (uint8_t)(1 + r[2] % 255); break;
    case 1: memcpy(edited + at / 4 * 4, &hurt[r[2] % COUNT_OF(hurt)], 4); break;
    case 2: memcpy(edited + at / 8 * 8, &hurt[r[2] % COUNT_OF(hurt)], 8); break;
    case 3:
      memcpy(edited + at / 4 * 4, bytes + HEAD_hashed + r[2] % (data_at - HEAD_hashed - 4) / 4 * 4,
             4);
      break;
    }
    image_mend(edited, n);
    if (read_copy(edited, n, &why, &walked))
      accepted++;
    else
      refused++;
  }
  /* the checks were reached, and are not all that there is */
  assert_true(refused > EDITS / 4 && accepted > EDITS / 100);
  free(edited);
  buf_free(&why);
  arena_free(a);
}

static ImgProgram *named(Image *m, const char *name) {
  for (uint32_t i = 0; i < m->n_program; i++)
    if (strcmp(m->program[i].name, name) == 0) return &m->program[i];
  return NULL;
}

static const uint32_t not_spirv[8] = {1, 2, 3};

/* FAULT(statement on the sample `m`, what the message must say) */
#define FAULTS(FAULT)                                                                              \
  FAULT(m->chunk[1].cls = 5, "memory 1 is of kind 5")                                              \
  FAULT(m->chunk[1].bytes = 0, "memory 1 has 0 bytes")                                             \
  FAULT(m->chunk[1].bytes = 1ull << 60, "memory 1 has")                                            \
  FAULT(m->chunk[1].bytes = 4001, "memory 1 has 4001 bytes")                                       \
  FAULT(m->param[0].t.name = "", "a parameter has no name")                                        \
  FAULT(m->param[0].t.dtype = 5, "parameter w has type 5")                                         \
  FAULT(m->param[0].t.rank = 9, "parameter w has too many dimensions")                             \
  FAULT(m->param[0].t.dim[0] = 0, "parameter w: dimension 0 is 0")                                 \
  FAULT(m->param[0].t.dim[0] = -1, "parameter w: dimension 0 is")                                  \
  FAULT(m->param[0].t.dim[0] = 1ll << 32, "parameter w: dimension 0 is")                           \
  FAULT(m->param[0].t.bytes = 8, "parameter w has 8 bytes for 1000 elements")                      \
  FAULT(m->param[0].t.dtype = IMG_f16;                                                             \
        m->param[0].t.bytes = 2000, "parameter w has 2000 bytes for 1000 elements")                \
  FAULT(m->target.storage16 = 1;                                                                   \
        m->param[0].t.dtype = IMG_bf16, "parameter w has 4000 bytes for 1000 elements")            \
  FAULT(m->target.storage16 = 2, "16-bit storage is 2")                                            \
  FAULT(m->param[0].t.chunk = 99, "parameter w lies in memory 99 of 5")                            \
  FAULT(m->param[0].t.chunk = 3, "parameter w lies in memory of another kind")                     \
  FAULT(m->param[0].t.offset = 4, "parameter w leaves its memory")                                 \
  FAULT(m->param[0].t.offset = UINT64_MAX - 3, "parameter w leaves its memory")                    \
  FAULT(m->param[0].trainable = 2, "trainable is 2")                                               \
  FAULT(m->state[0].t.offset = 6, "state c leaves its memory")                                     \
  FAULT(m->state[0].transient = 7, "transient")                                                    \
  FAULT(m->table[1].t.name = "", "a table has no name")                                            \
  FAULT(m->module[0].n_word = 4, "the code of kernel add is not in it")                            \
  FAULT(m->module[0].word = not_spirv; m->module[0].n_word = 8, "kernel add is not SPIR-V")        \
  FAULT(m->module[0].local[2] = 0, "kernel add has a workgroup of 0")                              \
  FAULT(m->module[0].local[1] = 65536, "kernel add has a workgroup of 65536")                      \
  FAULT(m->module[0].subgroup_size = 3, "kernel add has subgroups of 3")                           \
  FAULT(m->target.subgroup_shuffle = 2, "subgroup shuffle is 2")                                   \
  FAULT(m->target.cpu = 2, "for CPUs is 2")                                                        \
  FAULT(m[3].target.name = "small", "two of its targets are named small")                          \
  FAULT(m[2].param[0].t.name = "v", "targets giant and small differ in parameter w")               \
  FAULT(m[3].param[0].t.dtype = IMG_i32, "targets giant and portable differ in parameter w")       \
  FAULT(m[2].param[0].trainable = 0, "targets giant and small differ in parameter w")              \
  FAULT(m[2].param[0].init = "ones", "targets giant and small differ in parameter w")              \
  FAULT(m[2].n_param = 0, "targets giant and small differ in how many parameters")                 \
  FAULT(m[2].state[0].transient = 1, "targets giant and small differ in state c")                  \
  FAULT(m[2].n_state = 0, "targets giant and small differ in how many states")                     \
  FAULT(m[3].n_program--, "targets giant and portable differ in how many programs")                \
  FAULT(m[3].program[0].name = "other", "targets giant and portable differ in program init")       \
  FAULT(named(m + 2, "step")->input[0].name = "z",                                                 \
        "targets giant and small differ in program step")                                          \
  FAULT(named(m + 2, "step")->output[0].dtype = IMG_i32,                                           \
        "targets giant and small differ in program step")                                          \
  FAULT(named(m + 3, "step")->dispatch[0].module = 1, "dispatch s = x + w runs kernel 1 of 1")     \
  FAULT(m->program[0].flops = NAN, "init: work of nan")                                            \
  FAULT(m->program[1].name = "init", "two of its programs are named init")                         \
  FAULT(named(m, "step")->output[1].name = "y", "two of its outputs are named y")                  \
  FAULT(named(m, "step")->output[1].chunk = 4, "output c lies in memory of another kind")          \
  FAULT(named(m, "step")->input[0].chunk = 0, "input x lies in memory of another kind")            \
  FAULT(named(m, "step")->dispatch[0].module = 1, "dispatch s = x + w runs kernel 1 of 1")         \
  FAULT(named(m, "step")->dispatch[0].groups[1] = 0, "dispatch s = x + w has 0 workgroups")        \
  FAULT(named(m, "step")->dispatch[0].groups[0] = 65536, "has 65536 workgroups")                   \
  FAULT(named(m, "step")->dispatch[0].barrier = 2, "barrier is 2")                                 \
  FAULT(named(m, "step")->dispatch[0].bytes = -1, "s = x + w: work of -1")                         \
  FAULT(named(m, "step")->dispatch[0].slot[1].kind = 3, "s = x + w has a slot of kind 3")          \
  FAULT(named(m, "step")->dispatch[0].slot[1].chunk = 5, "an address outside its memory")          \
  FAULT(named(m, "step")->dispatch[0].slot[1].value = 4000, "an address outside its memory")       \
  FAULT(named(m, "tabled")->dispatch[0].slot[0].value = 2,                                         \
        "y = table + t reads argument table 2 of 2")                                               \
  FAULT(m->arguments[0].n_slot = 0, "an argument table has no slots")                              \
  FAULT(m->arguments[1].slot[5].kind = 2, "an argument table has a slot of kind 2")                \
  FAULT(m->arguments[1].slot[300].chunk = 9,                                                       \
        "an argument table has an address outside its memory")                                     \
  FAULT(m->arguments[1].slot[300].value = 1 << 20,                                                 \
        "an argument table has an address outside its memory")

static void test_each_field(void **state) {
  (void)state;
  Buf why = {0};
  int n_fault = 0;
#define FAULT(statement, words)                                                                    \
  {                                                                                                \
    Arena *a = arena_new();                                                                        \
    Image *m = sample_targets(a);                                                                  \
    statement;                                                                                     \
    size_t n;                                                                                      \
    uint64_t walked;                                                                               \
    void *bytes = sample_bytes(a, m, SAMPLE_TARGETS, &n);                                          \
    if (read_copy(bytes, n, &why, &walked)) fail_msg("accepted: %s", #statement);                  \
    expect_words(&why, words);                                                                     \
    arena_free(a);                                                                                 \
    n_fault++;                                                                                     \
  }
  FAULTS(FAULT)
  assert_true(n_fault > 30);
  buf_free(&why);
}

/* The number of targets, and what each one says that it has. */
static void test_counts(void **state) {
  (void)state;
  Arena *a = arena_new();
  size_t n;
  uint8_t *bytes = sample_bytes(a, sample_targets(a), SAMPLE_TARGETS, &n), *edited = malloc(n);
  uint64_t at, walked;
  uint8_t *count = edited + HEAD_sections + 16 * SEC_target + 8;
  memcpy(&at, bytes + HEAD_sections + 16 * SEC_target, 8);
  Buf why = {0};
  const struct {
    uint64_t targets; /* 0: as it is … */
    size_t field;     /* … and 1 is added to this field of the last one */
    const char *words;
  } fault[] = {{IMG_MAX_TARGETS + 1, 0, "it has 65 targets"},
               {1, 0, "it has records that belong to nothing"},
               {0, 32, "target portable has more than is in it"},
               {0, 40, "target portable has more than is in it"},
               {0, 56, "target portable has more than is in it"}};
  for (int i = 0; i < COUNT_OF(fault); i++) {
    memcpy(edited, bytes, n);
    if (fault[i].targets) memcpy(count, &fault[i].targets, 8);
    if (fault[i].field) edited[at + 3 * TARGET_bytes + fault[i].field]++;
    image_mend(edited, n);
    assert_false(read_copy(edited, n, &why, &walked));
    expect_words(&why, fault[i].words);
  }
  memcpy(edited, bytes, n);
  memset(count, 0, 8);
  image_mend(edited, n);
  assert_false(read_copy(edited, n, &why, &walked));
  expect_words(&why, "it has 0 targets");
  free(edited);
  buf_free(&why);
  arena_free(a);
}

static void test_header(void **state) {
  (void)state;
  Arena *a = arena_new();
  size_t n;
  uint64_t walked;
  uint8_t *bytes = sample_bytes(a, sample_targets(a), SAMPLE_TARGETS, &n);
  Buf why = {0};
  assert_false(read_copy("", 0, &why, &walked));
  expect_words(&why, "0 bytes are less than its header");
  bytes[HEAD_version] = 1;
  assert_false(read_copy(bytes, n, &why, &walked));
  expect_words(&why, "format 1, this runner reads format 4");
  bytes[HEAD_version] = IMG_VERSION;
  bytes[n - 1] ^= 1;
  assert_false(read_copy(bytes, n, &why, &walked));
  expect_words(&why, "its hash differs");
  assert_false(read_copy(bytes, n - 1, &why, &walked));
  expect_words(&why, "it should be");
  bytes[0] = 'x';
  assert_false(read_copy(bytes, n, &why, &walked));
  expect_words(&why, "does not begin as an image does");
  buf_free(&why);
  arena_free(a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_round_trip),       cmocka_unit_test(test_empty),
    cmocka_unit_test(test_every_truncation), cmocka_unit_test(test_every_byte),
    cmocka_unit_test(test_mended_edits),     cmocka_unit_test(test_each_field),
    cmocka_unit_test(test_header),           cmocka_unit_test(test_targets),
    cmocka_unit_test(test_counts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
