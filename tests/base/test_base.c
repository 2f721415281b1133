/* base: arenas, buffers, interned names, suggestions, Philox against its published vectors. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/base.h"

static void arena_gives_zeroed_distinct_pieces(void **unused) {
  (void)unused;
  Arena *a = arena_new();
  char *piece[300];
  for (int i = 0; i < 300; i++) {
    size_t bytes = (size_t)(i * 977 % 40000) + 1;
    piece[i] = arena_alloc(a, bytes);
    assert_int_equal((uintptr_t)piece[i] % 16, 0);
    for (size_t k = 0; k < bytes; k++) assert_int_equal(piece[i][k], 0);
    memset(piece[i], i & 127, bytes);
  }
  for (int i = 0; i < 300; i++) {
    size_t bytes = (size_t)(i * 977 % 40000) + 1;
    for (size_t k = 0; k < bytes; k++) assert_int_equal(piece[i][k], i & 127);
  }
  arena_free(a);
}

static void arena_push_keeps_what_was_pushed(void **unused) {
  (void)unused;
  Arena *a = arena_new();
  int *v = NULL, n = 0;
  for (int i = 0; i < 1000; i++) ARENA_PUSH(a, v, n, i * 3);
  assert_int_equal(n, 1000);
  for (int i = 0; i < n; i++) assert_int_equal(v[i], i * 3);
  arena_free(a);
}

static void buf_grows_and_reads_files(void **unused) {
  (void)unused;
  Buf b = {0};
  for (int i = 0; i < 5000; i++) buf_printf(&b, "%d,", i % 10);
  assert_int_equal(b.len, 10000);
  assert_memory_equal(b.data + 9990, "5,6,7,8,9,", 10);
  buf_clear(&b);
  assert_false(buf_read_file(&b, "/nonexistent/file"));
  assert_int_equal(errno, ENOENT);
  assert_false(buf_read_file(&b, "/"));
  assert_int_equal(errno, EISDIR);
  buf_free(&b);
}

static void interned_names_are_one_pointer(void **unused) {
  (void)unused;
  const char *first[3000];
  for (int round = 0; round < 2; round++)
    for (int i = 0; i < 3000; i++) {
      char name[32];
      int len = snprintf(name, sizeof name, "h.%d.weight", i);
      const char *p = intern_n(name, (size_t)len);
      assert_string_equal(p, name);
      if (round) assert_ptr_equal(p, first[i]);
      first[i] = p;
    }
  assert_ptr_not_equal(intern("a"), intern("b"));
}

static void suggestions_are_near(void **unused) {
  (void)unused;
  const char *const names[] = {"layers", "heads", "width", "hidden"};
  assert_string_equal(suggest("layer", names, 4), "layers");
  assert_string_equal(suggest("ehads", names, 4), "heads");
  assert_string_equal(suggest("widht", names, 4), "width");
  assert_null(suggest("zzz", names, 4));
  assert_null(suggest("x", names, 4));
}

/* Known answers published with Random123 (kat_vectors, philox4x32 10 rounds). */
static void philox_matches_published_vectors(void **unused) {
  (void)unused;
  static const struct {
    uint32_t counter[4], key[2], out[4];
  } kat[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (int i = 0; i < COUNT_OF(kat); i++) {
    uint32_t out[4];
    philox4x32(kat[i].counter, kat[i].key, out);
    assert_memory_equal(out, kat[i].out, sizeof out);
  }
}

static void a_replaced_file_is_the_old_or_the_new(void **unused) {
  (void)unused;
  static const char path[] = "replace_test", beside[] = "replace_test.new";
  Replacement r;
  Buf why = {0}, got = {0};
  for (int i = 0; i < 2; i++) { /* the second is given up */
    assert_true(replace_begin(&r, path, ".new", 0666, &why));
    assert_true(replace_put(&r, i ? "XY" : "ab", 2, &why));
    assert_true(replace_put(&r, "cd", 2, &why));
    assert_true(replace_patch(&r, "B", 1, 1, &why));
    if (i)
      replace_drop(&r);
    else
      assert_true(replace_commit(&r, &why));
    assert_true(buf_read_file(&got, path));
    assert_string_equal(got.data, "aBcd");
    assert_false(buf_read_file(&got, beside));
    buf_clear(&got);
  }
  remove(path);
  assert_false(replace_begin(&r, "no/such/place", ".new", 0666, &why));
  assert_string_equal(why.data, "no/such/place: cannot be written: No such file or directory");
  buf_free(&why);
  buf_free(&got);
}

/* Every 16-bit number comes back from the float of its value, and the floats between two neighbours
 * go to the nearer one, those in the middle to the even one. */
static void halves_round_to_nearest_even(void **unused) {
  (void)unused;
  for (int bf16 = 0; bf16 < 2; bf16++) {
    uint32_t infinity = bf16 ? 0x7f80 : 0x7c00;
    for (uint32_t h = 0; h < infinity; h++) {
      float x = half_to_float(bf16, (uint16_t)h), next = half_to_float(bf16, (uint16_t)(h + 1));
      if (h + 1 == infinity) next = bf16 ? 0x1p127f * 2 : 65536; /* what follows in its place */
      assert_true(isinf(next) || next > x);
      float middle = isinf(next) ? 0x1.ffp127f : x + (next - x) / 2;
      assert_int_equal(half_from_float(bf16, x), h);
      assert_int_equal(half_from_float(bf16, -x), h | 0x8000);
      assert_int_equal(half_from_float(bf16, middle), h & 1 ? h + 1 : h);
      assert_int_equal(half_from_float(bf16, nextafterf(middle, 0)), h);
      assert_int_equal(half_from_float(bf16, nextafterf(middle, INFINITY)), h + 1);
    }
    for (uint32_t h = infinity + 1; h < 0x8000; h++) {
      uint16_t back = half_from_float(bf16, half_to_float(bf16, (uint16_t)h));
      assert_true((back & 0x7fff) > infinity);
    }
  }
  float x[3] = {1, -2.5f, 0x1p-24f};
  uint16_t h[3];
  half_pack(false, x, 3, h);
  assert_true(h[0] == 0x3c00 && h[1] == 0xc100 && h[2] == 1);
  half_pack(true, x, 3, x);
  half_unpack(true, x, 3, x);
  assert_true(x[0] == 1 && x[1] == -2.5f && x[2] == 0x1p-24f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(arena_gives_zeroed_distinct_pieces),
    cmocka_unit_test(arena_push_keeps_what_was_pushed),
    cmocka_unit_test(buf_grows_and_reads_files),
    cmocka_unit_test(interned_names_are_one_pointer),
    cmocka_unit_test(suggestions_are_near),
    cmocka_unit_test(halves_round_to_nearest_even),
    cmocka_unit_test(philox_matches_published_vectors),
    cmocka_unit_test(a_replaced_file_is_the_old_or_the_new),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
