/* The text form: print → parse → print is a fixpoint for every generated graph; goldens in text/:
 * NAME.ir is parsed, verified and printed, and what comes out (the normal form, or the errors) is
 * NAME.expect. ALPHAC_BLESS=1 rewrites them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "ir/ir.h"
#include "tests/gen/gen.h"

static void round_trip(const Graph *g, const char *title) {
  Buf before = {0}, after = {0}, errors = {0};
  ir_print(&before, g);
  if (!ir_verify(g, &errors)) fail_msg("%s: %s", title, errors.data);
  Graph *h = ir_parse(title, before.data, before.len, &errors);
  if (!h) fail_msg("%s\n%s", errors.data, before.data);
  ir_print(&after, h);
  assert_string_equal(before.data, after.data);
  assert_int_equal(g->n_node, h->n_node);
  graph_free(h);
  buf_free(&before);
  buf_free(&after);
  buf_free(&errors);
}

static void generated_graphs_are_fixpoints(void **unused) {
  (void)unused;
  GenFeed feed;
  for (int op = 0; op < OP_COUNT; op++)
    for (int i = 0; i < gen_count((Op)op); i++) {
      Graph *g = gen_case((Op)op, i, &feed);
      round_trip(g, feed.title);
      graph_free(g);
    }
  for (int i = 0; i < GEN_PROGRAMS; i++) {
    Graph *g = gen_program(i, &feed);
    round_trip(g, feed.title);
    graph_free(g);
  }
}

/* Names and values of every kind of character, labels, places, regions. */
static void odd_names_and_values_are_fixpoints(void **unused) {
  (void)unused;
  Graph *g = graph_new("a \"graph\"\n\\ \t\x01\x7f é");
  Type t = type_of(DT_f32, 1, (int64_t[]){3}), d = type_scalar(DT_bf16), i = type_scalar(DT_i32),
       b = type_scalar(DT_bool);
  g->loc = (SrcLoc){.file = intern("a dir/my \"model\".alpha"), .line = 1, .col = 2};
  Node *x = ir_leaf(g, OP_param, "h.0 \"w\"", &t);
  x->label = intern("");
  g->loc = (SrcLoc){.file = intern("m-1_x/y+z.alpha"), .line = 2147483647, .col = 1};
  g->region = 2147483647;
  Node *y = ir_neg(g, x);
  y->label = intern("é\\\n");
  g->region = -7;
  ir_exp(g, y);
  g->region = 0;
  g->loc = (SrcLoc){0};
  static const double values[] = {0.0,  -0.0,     1.0 / 3,   0x1p-149, 0x1.fffffep127,
                                  1e30, 16777217, 123456.789};
  for (int k = 0; k < COUNT_OF(values); k++) {
    ir_const(g, values[k], &t);
    ir_const(g, -values[k], &d);
  }
  ir_const(g, __builtin_nan("12"), &t);
  ir_const(g, -__builtin_inf(), &t);
  ir_const(g, INT32_MIN, &i);
  ir_const(g, 1, &b);
  ir_output(g, OUT_value, "", y);
  ir_output(g, OUT_update, "h.0 \"w\"", y);
  round_trip(g, "odd");
  graph_free(g);
}

/* What the parser made of a value is exactly what was printed. */
static void values_keep_their_bits(void **unused) {
  (void)unused;
  Graph *g = graph_new("values");
  Type t = type_scalar(DT_f32);
  for (uint32_t k = 0; k < 3000; k++) {
    uint32_t word[4];
    float f;
    philox4x32((uint32_t[]){k, 0, 0, 0}, (uint32_t[]){1, 2}, word);
    memcpy(&f, word, sizeof f);
    ir_const(g, f, &t);
  }
  Buf text = {0}, errors = {0};
  ir_print(&text, g);
  Graph *h = ir_parse("values", text.data, text.len, &errors);
  assert_non_null(h);
  assert_int_equal(g->n_node, h->n_node);
  for (int k = 0; k < g->n_node; k++)
    assert_memory_equal(&g->node[k]->value, &h->node[k]->value, sizeof(double));
  graph_free(g);
  graph_free(h);
  buf_free(&text);
}

/* Damage that no text can express: pointers and fields of nodes. */
static void the_verifier_reports_everything(void **unused) {
  (void)unused;
  Graph *g = graph_new("g"), *other = graph_new("other");
  Type t = type_of(DT_f32, 2, (int64_t[]){3, 4});
  Node *x = ir_leaf(g, OP_input, "x", &t), *y = ir_leaf(g, OP_input, "y", &t), *a = ir_add(g, x, y);
  Node *b = ir_sub(g, x, y), *c = ir_reduce(g, OP_reduce_sum, x, 1, (int[]){1});
  Node *foreign = ir_leaf(other, OP_input, "z", &t);
  Buf errors = {0};
  ir_output(g, OUT_value, "a", a);
  assert_true(ir_verify(g, &errors));
  a->src[0] = y, a->src[1] = x;
  b->type.dim[0] = 7;
  c->ints[0] = 5;
  assert_false(ir_verify(g, &errors));
  assert_string_equal(
    errors.data, "%2 = add f32[3,4] %1 %0: the sources of a commuting operation are ordered by id\n"
                 "%3 = sub f32[7,4] %0 %1: its type should be f32[3,4]\n"
                 "%4 = reduce_sum f32[3,1] %0 axes=5: axes must ascend from 0 to 1: axis 5\n");
  buf_clear(&errors);
  a->src[0] = foreign;
  b->src[1] = c;
  assert_false(ir_verify(g, &errors));
  assert_string_equal(errors.data, "%2 = add f32[3,4] %0 %0: source 0 is of another graph\n"
                                   "%3 = sub f32[7,4] %0 %4: source %4 does not come before it\n");
  buf_clear(&errors);
  b->src[1] = NULL;
  a->src[0] = x;
  c->id = 1;
  assert_false(ir_verify(g, &errors));
  assert_string_equal(errors.data, "node 3, sub: source 1 is missing\n"
                                   "%1 = reduce_sum f32[3,1] %0 axes=5: stands at place 4\n");
  graph_free(g);
  graph_free(other);
  buf_free(&errors);
}

/* ---- goldens ---- */
static void process(const char *name, const Buf *text, Buf *out) {
  Graph *g = ir_parse(name, text->data, text->len, out);
  if (g && ir_verify(g, out)) ir_print(out, g);
  graph_free(g);
}

static bool write_file(const char *path, const Buf *b) {
  FILE *f = fopen(path, "wb");
  return f && fwrite(b->data, 1, b->len, f) == b->len && fclose(f) == 0;
}

static void texts_give_what_is_expected(void **unused) {
  (void)unused;
  struct dirent **entry;
  int n = scandir(TEXTS, &entry, NULL, alphasort), cases = 0, wrong = 0;
  assert_true(n > 0);
  for (int i = 0; i < n; i++) {
    const char *name = entry[i]->d_name;
    size_t len = strlen(name);
    if (len > 3 && strcmp(name + len - 3, ".ir") == 0) {
      Buf path = {0}, text = {0}, got = {0}, want = {0};
      buf_printf(&path, TEXTS "/%s", name);
      buf_str(&text, "");
      buf_str(&got, "");
      assert_true(buf_read_file(&text, path.data));
      process(name, &text, &got);
      path.len -= 2;
      buf_str(&path, "expect");
      if (getenv("ALPHAC_BLESS")) assert_true(write_file(path.data, &got));
      if (!buf_read_file(&want, path.data) || want.len != got.len ||
          memcmp(want.data, got.data, got.len) != 0) {
        print_error("%s differs from what follows:\n%s", path.data, got.data);
        wrong++;
      }
      cases++;
      buf_free(&path);
      buf_free(&text);
      buf_free(&got);
      buf_free(&want);
    }
    free(entry[i]);
  }
  free(entry);
  assert_true(cases > 0);
  assert_int_equal(wrong, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(generated_graphs_are_fixpoints),
    cmocka_unit_test(odd_names_and_values_are_fixpoints),
    cmocka_unit_test(values_keep_their_bits),
    cmocka_unit_test(the_verifier_reports_everything),
    cmocka_unit_test(texts_give_what_is_expected),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
