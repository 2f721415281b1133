/* data: what lands in a batch, that it depends on the batch's number alone, what is refused. */
#include "runtime/data.h"
#include "runtime/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { B = 4, T = 5, VOCAB = 300 };

static char dir[64];

static int setup(void **state) {
  (void)state;
  strcpy(dir, "data_XXXXXX");
  return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int teardown(void **state) {
  (void)state;
  static const char *const made[] = {"a.txt", "b.txt", "a.safetensors", "b.safetensors"};
  for (int i = 0; i < COUNT_OF(made); i++) unlink(made[i]);
  return chdir("..") == 0 ? rmdir(dir) : -1;
}

static ImgTensor tensor(const char *name, ImgType type, int rank, int64_t d0, int64_t d1) {
  ImgTensor t = {.name = name, .dtype = (uint32_t)type, .rank = (uint32_t)rank, .dim = {d0, d1}};
  t.bytes = 4 * (uint64_t)(rank > 0 ? d0 : 1) * (uint64_t)(rank > 1 ? d1 : 1);
  return t;
}

static ImgTensor sequence_input[4], mixed_input[4];
static ImgProgram sequence, mixed;

static int make_programs(void **state) {
  (void)state;
  sequence_input[0] = tensor("tokens", IMG_i32, 2, B, T);
  sequence_input[1] = tensor("targets", IMG_i32, 2, B, T);
  sequence_input[2] = tensor("rng", IMG_i32, 1, 4, 0);
  sequence_input[3] = tensor("total", IMG_f32, 0, 0, 0);
  sequence = (ImgProgram){.name = "train", .n_input = 4, .input = sequence_input};
  mixed_input[0] = tensor("x", IMG_f32, 2, B, 2);
  mixed_input[1] = tensor("label", IMG_i32, 1, B, 0);
  mixed_input[2] = tensor("keep", IMG_bool, 1, B, 0);
  mixed_input[3] = tensor("scale", IMG_f32, 0, 0, 0);
  mixed = (ImgProgram){.name = "train", .n_input = 4, .input = mixed_input};
  return 0;
}

static void put(const char *path, const char *text) {
  Buf why = {0};
  assert_true(file_replace(path, text, strlen(text), &why));
}

static Data *opened(const char *const *file, int n, const ImgProgram *p) {
  Buf why = {0};
  Tokenizer *tok = tok_byte();
  Data *d = data_open(file, n, p, tok, VOCAB, &why);
  if (!d) fail_msg("%s", why.data);
  tok_free(tok);
  return d;
}

static void refused(const char *file, const ImgProgram *p, const char *says) {
  Buf why = {0};
  Tokenizer *tok = tok_byte();
  Data *d = data_open(&file, 1, p, tok, VOCAB, &why);
  if (d) fail_msg("accepted; expected: %s", says);
  assert_string_equal(why.data, says);
  tok_free(tok);
  buf_free(&why);
}

/* ---- text ---- */

static void windows(void **state) {
  (void)state;
  put("a.txt", "abcdefghijkl");
  put("b.txt", "mnopqrstuvwxyz");
  Data *d = opened((const char *const[]){"a.txt", "b.txt"}, 2, &sequence);
  assert_int_equal(data_row_count(d), 5); /* 25 targets in rows of 5 */
  assert_int_equal(data_unused(d), 0);
  assert_int_equal(data_row_tokens(d), T);
  assert_int_equal(data_batch_size(d), B);
  int32_t tokens[B * T], targets[B * T], other[B * T], other_targets[B * T];
  void *to[] = {tokens, targets, NULL, NULL}, *again[] = {other, other_targets, NULL, NULL};
  Buf why = {0};
  int seen[26] = {0}, batches_differ = 0;
  for (int step = 0; step < 400; step++) {
    assert_true(data_batch(d, 7, step, 0, 1, to, &why));
    for (int i = 0; i < B * T; i++) {
      assert_int_equal(targets[i], tokens[i] + 1); /* the text is the alphabet */
      if (i % T)
        assert_int_equal(tokens[i], tokens[i - 1] + 1);
      else
        seen[tokens[i] - 'a']++;
    }
    assert_true(data_batch(d, 7, step, 1, 2, again, &why));
    batches_differ += memcmp(tokens, other, sizeof tokens) != 0;
  }
  /* 21 places, about 76 times each: 5 standard deviations are allowed */
  for (int i = 0; i <= 20; i++)
    if (seen[i] < 35 || seen[i] > 120) fail_msg("place %d: %d times", i, seen[i]);
  for (int i = 21; i < 26; i++) assert_int_equal(seen[i], 0);
  assert_true(batches_differ > 395);
  /* the same number, the same batch, whatever came between; another seed, another batch */
  assert_true(data_batch(d, 7, 3, 0, 1, to, &why) && data_batch(d, 7, 399, 0, 1, again, &why));
  assert_true(data_batch(d, 7, 3, 0, 1, again, &why));
  assert_memory_equal(tokens, other, sizeof tokens);
  assert_true(data_batch(d, 8, 3, 0, 1, again, &why));
  assert_memory_not_equal(tokens, other, sizeof tokens);
  assert_true(data_batch(d, 7 + (UINT64_C(1) << 32), 3, 0, 1, again, &why));
  assert_memory_not_equal(tokens, other, sizeof tokens);
  data_close(d);
}

static void side_by_side(void **state) {
  (void)state;
  put("a.txt", "abcdefghijklmn"); /* 13 targets: two rows, three left */
  Data *d = opened((const char *const[]){"a.txt"}, 1, &sequence);
  assert_int_equal(data_row_count(d), 2);
  assert_int_equal(data_unused(d), 3);
  int32_t tokens[B * T], targets[B * T];
  void *to[] = {tokens, targets, NULL, NULL};
  Buf why = {0};
  assert_true(data_rows(d, 0, 2, to, &why));
  for (int i = 0; i < 2 * T; i++) {
    assert_int_equal(tokens[i], 'a' + i);
    assert_int_equal(targets[i], 'b' + i);
  }
  data_close(d);
}

static void one_window(void **state) {
  (void)state;
  put("a.txt", "abcdef");
  Data *d = opened((const char *const[]){"a.txt"}, 1, &sequence);
  int32_t tokens[B * T], targets[B * T];
  void *to[] = {tokens, targets, NULL, NULL};
  Buf why = {0};
  assert_true(data_batch(d, 1, 0, 0, 1, to, &why));
  assert_int_equal(targets[B * T - 1], 'f');
  data_close(d);
}

static void refused_text(void **state) {
  (void)state;
  put("a.txt", "abcde");
  refused("a.txt", &sequence,
          "a.txt: 5 tokens are too few: one window needs 6 (context 5 and one more to predict)");
  put("a.txt", "");
  refused("a.txt", &sequence,
          "a.txt: 0 tokens are too few: one window needs 6 (context 5 and one more to predict)");
  refused("c.txt", &sequence, "c.txt: cannot be read: No such file or directory");
  put("a.txt", "abcdefgh");
  refused(
    "a.txt", &mixed,
    "text gives 'tokens' and 'targets', int[batch, context]; program train also takes 'x': use a "
    ".safetensors file with a tensor of that name");
  Buf why = {0};
  bool text;
  assert_false(data_is_text((const char *const[]){"a.txt", "b.safetensors"}, 2, &text, &why));
  assert_string_equal(why.data,
                      "data files are either all text or all .safetensors, not some of each");
  buf_free(&why);
}

/* ---- safetensors ---- */

typedef struct Part {
  const char *name;
  StType type;
  int rank;
  int64_t dim[2];
  const void *data;
} Part;

static void put_tensors(const char *path, int n, const Part *part) {
  Buf why = {0};
  StWriter *w = st_create(path, &why);
  assert_non_null(w);
  for (int i = 0; i < n; i++) st_declare(w, part[i].name, part[i].type, part[i].rank, part[i].dim);
  for (int i = 0; i < n; i++) {
    int64_t count = 1;
    for (int k = 0; k < part[i].rank; k++) count *= part[i].dim[k];
    assert_true(st_write(w, part[i].data, (uint64_t)(count * st_type_bytes(part[i].type)), &why));
  }
  assert_true(st_commit(w, &why));
}

static int32_t id[3 * T];
static int64_t wide[4 * T];

static void put_rows(void) {
  for (int i = 0; i < 3 * T; i++) id[i] = i;
  for (int i = 0; i < 4 * T; i++) wide[i] = 100 + i;
  put_tensors(
    "a.safetensors", 2,
    (const Part[]){{"tokens", ST_I32, 2, {3, T}, id}, {"targets", ST_I32, 2, {3, T}, id}});
  put_tensors("b.safetensors", 3,
              (const Part[]){{"targets", ST_I64, 2, {4, T}, wide},
                             {"tokens", ST_I64, 2, {4, T}, wide},
                             {"other", ST_F32, 0, {0}, id}});
}

static void rows_in_order(void **state) {
  (void)state;
  put_rows();
  Data *d = opened((const char *const[]){"a.safetensors", "b.safetensors"}, 2, &sequence);
  assert_int_equal(data_row_count(d), 7);
  int32_t tokens[B * T], targets[B * T];
  void *to[] = {tokens, targets, NULL, NULL};
  Buf why = {0};
  for (int64_t step = 0; step < 9; step++) {
    for (int micro = 0; micro < 2; micro++) {
      assert_true(data_batch(d, 1, step, micro, 2, to, &why));
      for (int row = 0; row < B; row++) {
        int64_t global = ((step * 2 + micro) * B + row) % 7;
        int expect = global < 3 ? (int)global * T : 100 + (int)(global - 3) * T;
        assert_int_equal(tokens[row * T], expect);
        assert_int_equal(targets[row * T + T - 1], expect + T - 1);
      }
    }
  }
  assert_true(data_rows(d, 2, 2, to, &why));
  assert_int_equal(tokens[0], 2 * T);
  assert_int_equal(tokens[T], 100);
  data_close(d);
}

static void other_types(void **state) {
  (void)state;
  const float x[] = {1, 2, 3, 4, 5, 6}, scale = 0.5f;
  const uint8_t label[] = {7, 8, 9}, keep[] = {0, 1, 1};
  put_tensors("a.safetensors", 4,
              (const Part[]){{"x", ST_F32, 2, {3, 2}, x},
                             {"label", ST_U8, 1, {3}, label},
                             {"keep", ST_BOOL, 1, {3}, keep},
                             {"scale", ST_F32, 0, {0}, &scale}});
  Data *d = opened((const char *const[]){"a.safetensors"}, 1, &mixed);
  float bx[B * 2], bscale;
  int32_t blabel[B], bkeep[B];
  void *to[] = {bx, blabel, bkeep, &bscale};
  Buf why = {0};
  assert_true(data_batch(d, 1, 1, 0, 1, to, &why)); /* rows 4 to 7 of 3: 1 2 0 1 */
  const float expect[] = {3, 4, 5, 6, 1, 2, 3, 4};
  assert_memory_equal(bx, expect, sizeof bx);
  assert_memory_equal(blabel, ((int32_t[]){8, 9, 7, 8}), sizeof blabel);
  assert_memory_equal(bkeep, ((int32_t[]){1, 1, 0, 1}), sizeof bkeep);
  assert_true(bscale == 0.5f);
  assert_int_equal(data_row_tokens(d), 1);
  data_close(d);
}

static void refused_rows(void **state) {
  (void)state;
  put_rows();
  const float x[3 * T] = {0};
  put_tensors("b.safetensors", 1, (const Part[]){{"tokens", ST_I32, 2, {3, T}, id}});
  refused(
    "b.safetensors", &sequence,
    "b.safetensors: there is no tensor 'targets'; the model's loss takes 'tokens', 'targets'");
  put_tensors(
    "b.safetensors", 2,
    (const Part[]){{"tokens", ST_I32, 2, {T, 3}, id}, {"targets", ST_I32, 2, {T, 3}, id}});
  refused("b.safetensors", &sequence,
          "b.safetensors: tensor 'tokens' has the shape [5, 3] where [rows, 5] is expected");
  put_tensors(
    "b.safetensors", 2,
    (const Part[]){{"tokens", ST_I32, 2, {3, T}, id}, {"targets", ST_I32, 2, {2, T}, id}});
  refused("b.safetensors", &sequence,
          "b.safetensors: tensor 'targets' has 2 rows where the others have 3");
  put_tensors("b.safetensors", 2,
              (const Part[]){{"tokens", ST_F32, 2, {3, T}, x}, {"targets", ST_I32, 2, {3, T}, id}});
  refused("b.safetensors", &sequence,
          "b.safetensors: tensor 'tokens' is F32 where integers are expected");
  put_tensors(
    "b.safetensors", 2,
    (const Part[]){{"tokens", ST_I32, 2, {0, T}, id}, {"targets", ST_I32, 2, {0, T}, id}});
  refused("b.safetensors", &sequence,
          "b.safetensors: tensor 'tokens' has the shape [0, 5] where [rows, 5] is expected");
  int32_t bad[3 * T] = {0};
  bad[2 * T + 3] = VOCAB;
  put_tensors(
    "b.safetensors", 2,
    (const Part[]){{"tokens", ST_I32, 2, {3, T}, bad}, {"targets", ST_I32, 2, {3, T}, id}});
  refused("b.safetensors", &sequence,
          "b.safetensors: tensor 'tokens', row 2, column 3: id 300 is not in the model's "
          "vocabulary of 300");
  bad[2 * T + 3] = -1;
  put_tensors(
    "b.safetensors", 2,
    (const Part[]){{"tokens", ST_I32, 2, {3, T}, bad}, {"targets", ST_I32, 2, {3, T}, id}});
  refused("b.safetensors", &sequence,
          "b.safetensors: tensor 'tokens', row 2, column 3: id -1 is not in the model's vocabulary "
          "of 300");
  put_tensors(
    "b.safetensors", 2,
    (const Part[]){{"tokens", ST_I32, 2, {3, T}, id}, {"targets", ST_I32, 2, {3, T}, bad}});
  data_close(opened((const char *const[]){"b.safetensors"}, 1, &sequence)); /* a target to ignore */
  refused("c.safetensors", &sequence, "c.safetensors: cannot be opened: No such file or directory");
  put("b.safetensors", "hello");
  refused("b.safetensors", &sequence,
          "b.safetensors: not a sound safetensors file: it has 5 bytes");
}

static void other_data_other_hash(void **state) {
  (void)state;
  put("a.txt", "abcdefghi");
  put("b.txt", "abcdefghj");
  Data *a = opened((const char *const[]){"a.txt"}, 1, &sequence),
       *b = opened((const char *const[]){"b.txt"}, 1, &sequence);
  assert_true(data_hash(a) != data_hash(b));
  data_close(a);
  data_close(b);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void) {
  const struct CMUnitTest tests[] = {
    TEST(windows),       TEST(side_by_side), TEST(one_window),   TEST(refused_text),
    TEST(rows_in_order), TEST(other_types),  TEST(refused_rows), TEST(other_data_other_hash),
  };
  return cmocka_run_group_tests_name("data", tests, make_programs, NULL);
}
