/* tokenizers: round trips, ids, what is refused and how, the JSON form. */
#include "runtime/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static Tokenizer *made(TokKind kind, const char *text, int64_t most) {
  Buf why = {0};
  Tokenizer *t = tok_train(kind, text, strlen(text), most, "text", &why);
  if (!t) fail_msg("%s", why.data);
  return t;
}

static void expect_ids(const Tokenizer *t, const char *text, int n, const int32_t *id) {
  Buf why = {0};
  TokIds ids = {0};
  if (!tok_encode(t, text, strlen(text), "text", &ids, &why)) fail_msg("%s", why.data);
  assert_int_equal(ids.n, n);
  for (int i = 0; i < n; i++) assert_int_equal(ids.id[i], id[i]);
  free(ids.id);
}

static void round_trip(const Tokenizer *t, const char *text, size_t bytes) {
  Buf why = {0}, back = {0};
  TokIds ids = {0};
  if (!tok_encode(t, text, bytes, "text", &ids, &why)) fail_msg("%s", why.data);
  for (int64_t i = 0; i < ids.n; i++) tok_decode(t, ids.id[i], &back);
  assert_int_equal(back.len, bytes);
  assert_memory_equal(back.data, text, bytes);
  buf_free(&back);
  free(ids.id);
}

static void refused(const Tokenizer *t, const char *text, const char *says) {
  Buf why = {0};
  TokIds ids = {0};
  assert_false(tok_encode(t, text, strlen(text), "f.txt", &ids, &why));
  assert_string_equal(why.data, says);
  buf_free(&why);
  free(ids.id);
}

static const char SAMPLE[] =
  "Ça va? Привет, мир!\n\tif (x_1 == 42)  { \"naïve\" }\n日本語 👍🏽 "
  "e\xCC\x81\n";
static const char SAMPLE_NFC[] =
  "Ça va? Привет, мир!\n\tif (x_1 == 42)  { \"naïve\" }\n日本語 👍🏽 é\n";

static void byte(void **state) {
  (void)state;
  Tokenizer *t = tok_byte();
  char all[256];
  for (int i = 0; i < 256; i++) all[i] = (char)i;
  assert_int_equal(tok_size(t), 256);
  round_trip(t, all, sizeof all);
  round_trip(t, SAMPLE, strlen(SAMPLE));
  expect_ids(t, "A\xff", 2, (int32_t[]){65, 255});
  tok_free(t);
}

static void character(void **state) {
  (void)state;
  Tokenizer *t = made(TOK_char, "hello\nwörld", 0);
  assert_int_equal(tok_size(t), 9); /* \n d e h l o r w ö */
  expect_ids(t, "\nhö", 3, (int32_t[]){0, 3, 8});
  expect_ids(t, "o\xCC\x88", 1, (int32_t[]){8}); /* o and a combining diaeresis */
  refused(t, "hell\nwörz",
          "f.txt:2:4: the character 'z' U+007A is not among the 9 that the tokenizer knows");
  refused(t, "h\tw", "f.txt:1:2: the character U+0009 is not among the 9 that the tokenizer knows");
  refused(t, "he\xC3(", "f.txt: not UTF-8: byte 0xc3 at offset 2");
  refused(t, "h\xed\xa0\x80", "f.txt: not UTF-8: byte 0xed at offset 1"); /* a surrogate */
  tok_free(t);
  t = made(TOK_char, SAMPLE, 0);
  round_trip(t, SAMPLE_NFC, strlen(SAMPLE_NFC));
  tok_free(t);
  Buf why = {0};
  assert_null(tok_train(TOK_char, "abc", 3, 2, "f.txt", &why));
  assert_string_equal(why.data,
                      "f.txt: the text has 3 different characters and at most 2 are wanted");
  buf_clear(&why);
  assert_null(tok_train(TOK_char, "", 0, 0, "f.txt", &why));
  assert_string_equal(why.data, "f.txt: there is no text to make a tokenizer from");
  buf_free(&why);
}

static void nul_is_a_character(void **state) {
  (void)state;
  Buf why = {0}, json = {0};
  Tokenizer *t = tok_train(TOK_char, "a\0b", 3, 0, "f", &why);
  assert_non_null(t);
  round_trip(t, "\0a\0", 3);
  tok_json(t, &json);
  Tokenizer *again = tok_parse(json.data, json.len, "f", &why);
  if (!again) fail_msg("%s", why.data);
  round_trip(again, "\0a\0", 3);
  tok_free(t);
  tok_free(again);
  buf_free(&json);
}

static void word(void **state) {
  (void)state;
  Tokenizer *t = made(TOK_word, "the cat, the  dog_2: the cat", 0);
  /* by frequency: ' ' 4, the 3, cat 2, then in order of bytes: '  ' ',' ':' dog_2 */
  assert_int_equal(tok_size(t), 8);
  expect_ids(t, "the cat", 3, (int32_t[]){2, 1, 3});
  expect_ids(t, "the cow", 3, (int32_t[]){2, 1, 0});
  expect_ids(t, "cat  dog_2:,", 5, (int32_t[]){3, 4, 7, 6, 5});
  Buf text = {0};
  tok_decode(t, 0, &text);
  tok_decode(t, 8, &text);
  assert_string_equal(text.data, "<unk>\xEF\xBF\xBD");
  tok_free(t);
  t = made(TOK_word, "the cat, the  dog_2: the cat", 3);
  assert_int_equal(tok_size(t), 3);
  expect_ids(t, "the cat", 3, (int32_t[]){2, 1, 0});
  tok_free(t);
  t = made(TOK_word, SAMPLE, 0);
  round_trip(t, SAMPLE_NFC, strlen(SAMPLE_NFC));
  tok_free(t);
  t = made(TOK_word, "<unk> x", 0); /* the text "<unk>" is not the id <unk> */
  round_trip(t, "<unk>", 5);
  expect_ids(t, "<y", 2, (int32_t[]){2, 0}); /* after the space */
  tok_free(t);
  buf_free(&text);
}

static void json(void **state) {
  (void)state;
  static const char *const text[] = {"byte", "a\"\\\n\té👍", "one two, two"};
  for (int k = 0; k < TOK_KINDS; k++) {
    Buf why = {0}, first = {0}, second = {0};
    Tokenizer *t = made((TokKind)k, text[k], 0);
    tok_json(t, &first);
    Tokenizer *again = tok_parse(first.data, first.len, "f", &why);
    if (!again) fail_msg("%s", why.data);
    tok_json(again, &second);
    assert_string_equal(first.data, second.data);
    assert_int_equal(tok_size(t), tok_size(again));
    round_trip(again, text[k], strlen(text[k]));
    tok_free(t);
    tok_free(again);
    buf_free(&first);
    buf_free(&second);
  }
}

static void damaged_json(void **state) {
  (void)state;
#define HEAD "{\"format\": \"alphac tokenizer\", \"version\": 1, "
  static const struct {
    const char *json, *says;
  } table[] = {
    {"", "f:1:0: not a tokenizer: '[' or '{' expected near end of file"},
    {"{\"a\": 1", "f:1:7: not a tokenizer: '}' expected near end of file"},
    {"{}", "f: not a tokenizer that 'tokenizer train' wrote (\"format\" should be \"alphac "
           "tokenizer\")"},
    {"{\"format\": \"alphac tokenizer\", \"version\": 2}",
     "f: a tokenizer of another version; this program reads version 1"},
    {HEAD "\"kind\": \"bpe\"}", "f: the tokenizer's kind is bpe; there are byte, char and word"},
    {HEAD "\"kind\": \"char\"}", "f: a tokenizer of kind char needs a list \"vocabulary\""},
    {HEAD "\"kind\": \"char\", \"vocabulary\": []}",
     "f: a tokenizer of kind char needs a list \"vocabulary\""},
    {HEAD "\"kind\": \"char\", \"vocabulary\": [\"a\", 1]}",
     "f: entry 1 of the vocabulary is not one character"},
    {HEAD "\"kind\": \"char\", \"vocabulary\": [\"a\", \"\"]}",
     "f: entry 1 of the vocabulary is not one character"},
    {HEAD "\"kind\": \"char\", \"vocabulary\": [\"ab\"]}",
     "f: entry 0 of the vocabulary is not one character"},
    {HEAD "\"kind\": \"char\", \"vocabulary\": [\"a\", \"b\", \"a\"]}",
     "f: entry 2 of the vocabulary is not new"},
    {HEAD "\"kind\": \"word\", \"vocabulary\": [\"a\"]}",
     "f: the vocabulary of a word tokenizer begins with \"<unk>\""},
    {HEAD "\"kind\": \"word\", \"vocabulary\": [\"<unk>\", \"a b\"]}",
     "f: entry 1 of the vocabulary is not one word, space or character"},
  };
  for (int i = 0; i < COUNT_OF(table); i++) {
    Buf why = {0};
    assert_null(tok_parse(table[i].json, strlen(table[i].json), "f", &why));
    assert_string_equal(why.data, table[i].says);
    buf_free(&why);
  }
  Buf why = {0};
  assert_null(tok_load("no/such/file", &why));
  assert_string_equal(why.data, "no/such/file: cannot be read: No such file or directory");
  buf_free(&why);
}

static void whole_characters(void **state) {
  (void)state;
  static const struct {
    const char *text;
    size_t whole;
  } table[] = {{"", 0},
               {"abc", 3},
               {"a\xC3", 1},
               {"a\xC3\xA9", 3},
               {"\xE6\x97", 0},
               {"\xE6", 0},
               {"\xF0\x9F\x91", 0},
               {"x\xF0\x9F\x91\x8D", 5},
               {"\xFF", 1},
               {"\x80", 1},
               {"\x80\x80\x80\x80", 4},
               {"a\x80", 2},
               {"\xC0", 1},
               {"\xF5\x80", 2}};
  for (int i = 0; i < COUNT_OF(table); i++)
    if (utf8_whole(table[i].text, strlen(table[i].text)) != table[i].whole) fail_msg("case %d", i);
  Buf clean = {0};
  utf8_clean("a\xFFé\xC3", 5, &clean);
  assert_string_equal(clean.data, "a\xEF\xBF\xBDé\xEF\xBF\xBD");
  buf_free(&clean);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(byte),
    cmocka_unit_test(character),
    cmocka_unit_test(nul_is_a_character),
    cmocka_unit_test(word),
    cmocka_unit_test(json),
    cmocka_unit_test(damaged_json),
    cmocka_unit_test(whole_characters),
  };
  return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
