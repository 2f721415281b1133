/* safetensors: what is written is read; every kind of damage is refused with a message; replacing a
 * file is all or nothing. */
#include "runtime/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];
static char path[128];

static int setup(void **state) {
  (void)state;
  strcpy(dir, "safetensors_XXXXXX");
  if (!mkdtemp(dir)) return -1;
  snprintf(path, sizeof path, "%s/t.safetensors", dir);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  char partial[160];
  snprintf(partial, sizeof partial, "%s.partial", path);
  unlink(partial);
  unlink(path);
  return rmdir(dir);
}

static bool exists(const char *name) { return access(name, F_OK) == 0; }

static bool partial_exists(void) {
  char partial[160];
  snprintf(partial, sizeof partial, "%s.partial", path);
  return exists(partial);
}

/* ---- what is written is read ---- */

static void write_sample(const char *to, float first) {
  Buf why = {0};
  StWriter *w = st_create(to, &why);
  assert_non_null(w);
  st_set_meta(w, "step", "12");
  st_set_meta(w, "quote", "a \"b\" \\ \n \xC3\xA9");
  st_declare(w, "x", ST_F32, 2, (int64_t[]){2, 3});
  st_declare(w, "none", ST_F32, 2, (int64_t[]){0, 3});
  st_declare(w, "flag", ST_BOOL, 1, (int64_t[]){3});
  st_declare(w, "n", ST_I32, 0, NULL);
  const float x[] = {first, -2, 0.5f, 1e-40f, 3e38f, -0.0f};
  const uint32_t flag[] = {1, 0, 7};
  const int32_t n = -5;
  assert_true(st_write(w, x, 5, &why)); /* any cutting */
  assert_true(st_write(w, (const char *)x + 5, sizeof x - 5, &why));
  assert_true(st_write_device(w, IMG_bool, flag, 3, &why));
  assert_true(st_write_device(w, IMG_i32, &n, 1, &why));
  assert_true(st_commit(w, &why));
  buf_free(&why);
}

static void round_trip(void **state) {
  (void)state;
  Buf why = {0};
  write_sample(path, 1);
  assert_false(partial_exists());
  Safetensors *st = st_open(path, &why);
  assert_non_null(st);
  assert_int_equal(st_count(st), 4);
  assert_string_equal(st_meta(st, "step"), "12");
  assert_string_equal(st_meta(st, "quote"), "a \"b\" \\ \n \xC3\xA9");
  assert_null(st_meta(st, "absent"));
  assert_null(st_find(st, "absent"));
  const StTensor *x = st_find(st, "x"), *flag = st_find(st, "flag"), *n = st_find(st, "n");
  assert_int_equal(x->begin % 8, 0);
  assert_int_equal(x->rank, 2);
  assert_int_equal(x->dim[1], 3);
  assert_int_equal(n->rank, 0);
  assert_int_equal(st_find(st, "none")->count, 0);
  float v[6];
  int32_t i[3];
  assert_true(st_read_f32(st, x, 0, 6, v, &why));
  const float expect[] = {1, -2, 0.5f, 1e-40f, 3e38f, -0.0f};
  assert_memory_equal(v, expect, sizeof v);
  assert_true(st_read_f32(st, x, 2, 2, v, &why));
  assert_memory_equal(v, expect + 2, 8);
  assert_true(st_read_device(st, flag, IMG_bool, i, &why));
  assert_int_equal(i[0] + 2 * i[1] + 4 * i[2], 5);
  assert_true(st_read_i32(st, n, 0, 1, i, &why));
  assert_int_equal(i[0], -5);
  assert_false(st_read_i32(st, x, 0, 1, i, &why));
  assert_non_null(strstr(why.data, "'x' is F32 where integers are expected"));
  assert_true(st_verify(st, &why));
  st_close(st);
  buf_free(&why);
}

/* longer than the pieces of reading, writing and hashing */
static void large_tensor(void **state) {
  (void)state;
  Buf why = {0};
  enum { N = 700001 };
  float *x = malloc(N * sizeof *x), *back = malloc(N * sizeof *x);
  for (int i = 0; i < N; i++) x[i] = (float)i * 0.25f - 7;
  StWriter *w = st_create(path, &why);
  st_declare(w, "big", ST_F32, 1, (int64_t[]){N});
  st_declare(w, "last", ST_F32, 1, (int64_t[]){1});
  for (int at = 0; at < N;) {
    int n = at % 5000 + 1 < N - at ? at % 5000 + 1 : N - at;
    assert_true(st_write(w, x + at, (uint64_t)n * 4, &why));
    at += n;
  }
  assert_true(st_write(w, x, 4, &why));
  assert_true(st_commit(w, &why));
  Safetensors *st = st_open(path, &why);
  assert_non_null(st);
  assert_true(st_verify(st, &why));
  assert_true(st_read_f32(st, st_find(st, "big"), 0, N, back, &why));
  assert_memory_equal(x, back, N * sizeof *x);
  st_close(st);
  free(x);
  free(back);
  buf_free(&why);
}

/* ---- conversions ---- */

static Safetensors *one(Buf *file, const char *type, int n, const void *data, size_t bytes) {
  Buf header = {0}, why = {0};
  buf_printf(&header, "{\"v\":{\"dtype\":\"%s\",\"shape\":[%d],\"data_offsets\":[0,%zu]}}", type, n,
             bytes);
  uint64_t len = header.len;
  buf_put(file, &len, 8);
  buf_put(file, header.data, header.len);
  buf_put(file, data, bytes);
  Safetensors *st = st_parse(file->data, file->len, "sample", &why);
  if (!st) fail_msg("%s", why.data);
  buf_free(&header);
  return st;
}

static void conversions(void **state) {
  (void)state;
  static const struct {
    const char *type;
    int n;
    union {
      uint8_t u8[8];
      int16_t i16[4];
      uint16_t u16[4];
      int32_t i32[2];
      int64_t i64[1];
      uint64_t u64[1];
      float f32[2];
      double f64[1];
      uint32_t u32[2];
      int8_t i8[8];
    } from;
    size_t bytes;
    float f32[4];
  } table[] = {
    {"BOOL", 2, {.u8 = {0, 1}}, 2, {0, 1}},
    {"U8", 2, {.u8 = {0, 255}}, 2, {0, 255}},
    {"I8", 2, {.i8 = {-128, 127}}, 2, {-128, 127}},
    {"I16", 2, {.i16 = {-32768, 5}}, 4, {-32768, 5}},
    {"U16", 1, {.u16 = {65535}}, 2, {65535}},
    {"I32", 1, {.i32 = {-7}}, 4, {-7}},
    {"U32", 1, {.u32 = {4000000000u}}, 4, {4e9f}},
    {"I64", 1, {.i64 = {-(INT64_C(1) << 40)}}, 8, {-0x1p40f}},
    {"U64", 1, {.u64 = {UINT64_MAX}}, 8, {0x1p64f}},
    {"F16", 4, {.u16 = {0x3c00, 0x0001, 0xfbff, 0x8400}}, 8, {1, 0x1p-24f, -65504, -0x1p-14f}},
    {"F16", 2, {.u16 = {0x7c00, 0xfc00}}, 4, {INFINITY, -INFINITY}},
    {"BF16", 3, {.u16 = {0x3f80, 0xff80, 0x0001}}, 6, {1, -INFINITY, 0x1p-133f}},
    {"F32", 1, {.f32 = {1.5f}}, 4, {1.5f}},
    {"F64", 1, {.f64 = {0.1}}, 8, {0.1f}},
  };
  for (int k = 0; k < COUNT_OF(table); k++) {
    Buf file = {0}, why = {0};
    Safetensors *st = one(&file, table[k].type, table[k].n, &table[k].from, table[k].bytes);
    float to[4];
    assert_true(st_read_f32(st, st_tensor(st, 0), 0, table[k].n, to, &why));
    for (int i = 0; i < table[k].n; i++)
      if (to[i] != table[k].f32[i])
        fail_msg("%s[%d] = %g, not %g", table[k].type, i, to[i], table[k].f32[i]);
    st_close(st);
    buf_free(&file);
  }
}

static void integers_outside(void **state) {
  (void)state;
  Buf file = {0}, why = {0};
  const int64_t v[] = {1, INT32_MIN, INT64_C(3000000000)};
  Safetensors *st = one(&file, "I64", 3, v, sizeof v);
  int32_t to[3];
  assert_true(st_read_i32(st, st_tensor(st, 0), 0, 2, to, &why));
  assert_int_equal(to[1], INT32_MIN);
  assert_false(st_read_i32(st, st_tensor(st, 0), 0, 3, to, &why));
  assert_string_equal(why.data, "sample: tensor 'v': element 2 is 3000000000, outside 32 bits");
  st_close(st);
  buf_free(&file);
  buf_free(&why);
}

static void rounding(void **state) { /* to 16-bit types, ties to even */
  (void)state;
  Buf file = {0}, why = {0};
  const float v[] = {1 + 0x1p-11f, 1 + 3 * 0x1p-11f, 65519,       65520,
                     0x1p-25f,     0x1.8p-25f,       1 + 0x1p-8f, 3.4e38f};
  Safetensors *st = one(&file, "F32", 8, v, sizeof v);
  float f16[8], bf16[8];
  assert_true(st_read_device(st, st_tensor(st, 0), IMG_f16, f16, &why));
  assert_true(st_read_device(st, st_tensor(st, 0), IMG_bf16, bf16, &why));
  const float expect[] = {1, 1 + 0x1p-9f, 65504, INFINITY, 0, 0x1p-24f};
  for (int i = 0; i < 6; i++) assert_true(f16[i] == expect[i]);
  assert_true(bf16[6] == 1 && bf16[7] == INFINITY && bf16[2] == 65536);
  st_close(st);
  buf_free(&file);
  buf_free(&why);
}

/* ---- refusals ---- */

static const struct {
  const char *header;
  int data; /* bytes that follow */
  const char *says;
} refused[] = {
  {"", 0, "not JSON"},
  {"[1]", 0, "not a JSON object"},
  {"{\"a\":1}", 0, "'a' lacks dtype, shape or data_offsets"},
  {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "'a' lacks"},
  {"{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
   "type F8_E4M3, which is not supported"},
  {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4,
   "something that is not a length"},
  {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.0],\"data_offsets\":[0,4]}}", 4,
   "something that is not a length"},
  {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,4]}}", 4,
   "too large"},
  {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4,
   "has 4 bytes where its shape and type need 8"},
  {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4,
   "not two ascending numbers"},
  {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4,
   "not two ascending numbers"},
  {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, "the file was cut short"},
  {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8,
   "unused bytes before tensor 'a'"},
  {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5,
   "1 bytes follow the last tensor"},
  {"{}", 5, "5 bytes follow the last tensor"},
  {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
   "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
   12, "'b' overlaps 'a'"},
  {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
   "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
   4, "duplicate"},
  {"{\"__metadata__\":{\"a\":1}}", 0, "metadata 'a' is not a string"},
  {"{\"__metadata__\":[]}", 0, "__metadata__ is not an object"},
};

static void refusals(void **state) {
  (void)state;
  for (int i = 0; i < COUNT_OF(refused); i++) {
    Buf file = {0}, why = {0};
    uint64_t n = strlen(refused[i].header);
    buf_put(&file, &n, 8);
    buf_str(&file, refused[i].header);
    for (int k = 0; k < refused[i].data; k++) buf_put(&file, "", 1);
    assert_null(st_parse(file.data, file.len, "f", &why));
    assert_non_null(why.data);
    if (!strstr(why.data, refused[i].says)) fail_msg("%s: says %s", refused[i].header, why.data);
    buf_free(&file);
    buf_free(&why);
  }
}

static void short_files(void **state) { /* every prefix of a sound file, and lengths that lie */
  (void)state;
  Buf file = {0}, why = {0};
  write_sample(path, 1);
  assert_true(buf_read_file(&file, path));
  for (size_t n = 0; n < file.len; n++) {
    buf_clear(&why);
    assert_null(st_parse(file.data, n, "f", &why));
    assert_true(why.len > 0);
  }
  static const uint64_t lie[] = {UINT64_MAX, UINT64_C(1) << 63, 200 << 20, 50 << 20};
  for (int i = 0; i < COUNT_OF(lie); i++) {
    memcpy(file.data, &lie[i], 8);
    buf_clear(&why);
    assert_null(st_parse(file.data, file.len, "f", &why));
    assert_non_null(strstr(why.data, "header"));
  }
  assert_null(st_open("no/such/file", &why));
  assert_non_null(strstr(why.data, "No such file"));
  assert_null(st_open(dir, &why));
  assert_non_null(strstr(why.data, "Is a directory"));
  buf_free(&file);
  buf_free(&why);
}

/* each byte changed in turn: refused by the reader or by the hash */
static void edits_show(void **state) {
  (void)state;
  Buf file = {0}, why = {0};
  write_sample(path, 1);
  assert_true(buf_read_file(&file, path));
  int by_hash = 0;
  for (size_t i = 0; i < file.len; i++) {
    char before = file.data[i];
    if (before == ' ' && i > 100) continue; /* the padding behind the header */
    file.data[i] = before ^ 1;
    buf_clear(&why);
    Safetensors *st = st_parse(file.data, file.len, "f", &why);
    if (st && st_meta(st, "hash")) {
      if (st_verify(st, &why)) fail_msg("byte %zu", i);
      assert_non_null(strstr(why.data, "changed or damaged"));
      by_hash++;
    }
    st_close(st);
    file.data[i] = before;
  }
  assert_true(by_hash > 30);
  buf_free(&file);
  buf_free(&why);
}

/* another program may write the same contents in another order */
static void no_dependence_on_order(void **state) {
  (void)state;
  Buf first = {0}, why = {0};
  StWriter *w = st_create(path, &why);
  st_set_meta(w, "a", "1");
  st_set_meta(w, "b", "2");
  st_declare(w, "x", ST_F32, 1, (int64_t[]){1});
  st_declare(w, "y", ST_F32, 1, (int64_t[]){1});
  assert_true(st_write(w, (float[]){1, 2}, 8, &why) && st_commit(w, &why));
  Safetensors *st = st_open(path, &why);
  buf_str(&first, st_meta(st, "hash"));
  st_close(st);
  w = st_create(path, &why);
  st_set_meta(w, "b", "2");
  st_set_meta(w, "a", "1");
  st_declare(w, "y", ST_F32, 1, (int64_t[]){1});
  st_declare(w, "x", ST_F32, 1, (int64_t[]){1});
  assert_true(st_write(w, (float[]){2, 1}, 8, &why) && st_commit(w, &why));
  st = st_open(path, &why);
  assert_string_equal(st_meta(st, "hash"), first.data);
  st_close(st);
  buf_free(&first);
  buf_free(&why);
}

/* ---- all or nothing ---- */

static void abandoned(void **state) {
  (void)state;
  Buf why = {0};
  write_sample(path, 1);
  StWriter *w = st_create(path, &why);
  assert_true(partial_exists());
  st_declare(w, "x", ST_F32, 1, (int64_t[]){1});
  assert_true(st_write(w, "\0\0\0\0", 4, &why));
  st_abandon(w);
  assert_false(partial_exists());
  Safetensors *st = st_open(path, &why);
  assert_non_null(st_find(st, "flag"));
  st_close(st);
}

/* A disk that fills up, made with a limit on the size of files: first at the header, then in the
 * data. */
static void full_disk(void **state) {
  (void)state;
  write_sample(path, 1);
  signal(SIGXFSZ, SIG_IGN);
  static const rlim_t limit[] = {4, 200, 100000, 3000000};
  for (int i = 0; i < COUNT_OF(limit); i++) {
    struct rlimit before, now;
    getrlimit(RLIMIT_FSIZE, &before);
    now = before;
    now.rlim_cur = limit[i];
    setrlimit(RLIMIT_FSIZE, &now);
    Buf why = {0};
    enum { N = 1 << 20 };
    float *x = calloc(N, sizeof *x);
    StWriter *w = st_create(path, &why);
    st_declare(w, "x", ST_F32, 1, (int64_t[]){N});
    bool ok = st_write(w, x, N * sizeof *x, &why);
    if (ok)
      ok = st_commit(w, &why);
    else
      st_abandon(w);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_false(ok);
    assert_non_null(strstr(why.data, "t.safetensors: writing failed: File too large"));
    assert_false(partial_exists());
    free(x);
    buf_clear(&why);
    Safetensors *st = st_open(path, &why);
    assert_non_null(st);
    assert_true(st_verify(st, &why));
    assert_non_null(st_find(st, "flag"));
    st_close(st);
    buf_free(&why);
  }
}

static void no_place(void **state) {
  (void)state;
  Buf why = {0};
  assert_null(st_create("/proc/self/t.safetensors", &why));
  assert_non_null(strstr(why.data, "/proc/self/t.safetensors: cannot be written"));
  buf_clear(&why);
  assert_false(file_replace("no/such/place", "x", 1, &why));
  assert_non_null(strstr(why.data, "no/such/place: cannot be written: No such file or directory"));
  buf_clear(&why);
  assert_int_equal(mkdir(path, 0777), 0);
  assert_false(file_replace(path, "x", 1, &why)); /* a directory stands in the file's place */
  assert_false(partial_exists());
  assert_int_equal(rmdir(path), 0);
  buf_free(&why);
}

static void rewrite_for_ever(void) {
  for (float x = 0;; x++) write_sample(path, x);
}

/* Killed at any moment, the file is one that was written whole; a later writer is not hindered. */
static void killed(void **state) {
  (void)state;
  write_sample(path, -1);
  for (int i = 0; i < 40; i++) {
    pid_t child = fork();
    if (child == 0) rewrite_for_ever();
    usleep(500 + 731 * (useconds_t)i);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    Buf why = {0};
    Safetensors *st = st_open(path, &why);
    if (!st || !st_verify(st, &why)) fail_msg("%s", why.data);
    st_close(st);
  }
  write_sample(path, 1);
  assert_false(partial_exists());
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
    TEST(round_trip),       TEST(large_tensor), TEST(conversions),
    TEST(integers_outside), TEST(rounding),     TEST(refusals),
    TEST(short_files),      TEST(edits_show),   TEST(no_dependence_on_order),
    TEST(abandoned),        TEST(full_disk),    TEST(no_place),
    TEST(killed),
  };
  return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
