/* Which programs are made: entries asked for and what is said about wrong ones; and how a loss is
 * told to be a mean. */
#include "driver/programs_internal.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

static const PassOptions no_options;

/* ---- entries ---- */
static const char toy[] = "model toy {\n"
                          "  param w[3] = ones\n"
                          "  fn encode(x: [rows, t, 3]) = x * w\n"
                          "  fn both(x: [n, 3]) { return [x + w, x - w] }\n"
                          "  fn init(x: [n]) = x\n"
                          "}\n";

/* Builds toy with one --entry; the errors, or "" and the program's graph printed. */
static void expect_entry(const char *entry, const char *only, const char *expected) {
  Buf errors = {0};
  Model *m = fe_load_text("toy.alpha", toy, strlen(toy), NULL, 0, &errors);
  if (!m) fail_msg("%s", errors.data);
  ProgramSet set;
  ProgramOptions o = {.entry = &entry,
                      .n_entry = entry != NULL,
                      .only = &only,
                      .n_only = only != NULL,
                      .pass = &no_options};
  bool ok = programs_build(m, &o, &set, &errors);
  if (ok) {
    buf_clear(&errors);
    for (int i = 0; i < set.n; i++) {
      buf_printf(&errors, "%s:", set.graph[i]->name);
      for (int k = 0; k < set.graph[i]->n_output; k++) {
        buf_printf(&errors, " %s ", set.graph[i]->output[k].name);
        type_print(&errors, &set.graph[i]->output[k].node->type);
      }
      buf_str(&errors, "\n");
    }
    programs_free(&set);
  }
  if (!strstr(errors.data, expected)) fail_msg("--entry %s: found %s", entry, errors.data);
  buf_free(&errors);
  fe_free(m);
}

static void test_entries(void **state) {
  (void)state;
  expect_entry("encode:t=4", NULL, "init: w f32[3]\nencode: result f32[1,4,3]\n");
  expect_entry("encode:t=4,rows=2", "encode", "encode: result f32[2,4,3]\n");
  expect_entry("both", "both", "both: result.0 f32[1,3] result.1 f32[1,3]\n");
  expect_entry("encode", NULL,
               "the length of dimension t is not known; give it as --entry encode:t=16");
  expect_entry("encode:t", NULL, "expected NAME or NAME:dim=number,dim=number; found \"t\"");
  expect_entry("encode:t=", NULL, "found \"t=\"");
  expect_entry("encode:t=0", NULL, "found \"t=0\"");
  expect_entry("encode:t=4;b=2", NULL, "found \"t=4;b=2\"");
  expect_entry("encode:row=4", NULL, "the function has no free dimension row; did you mean rows?");
  expect_entry("init", NULL, "there is a program init already");
  expect_entry("decode", NULL, "the model has no function decode");
  expect_entry(NULL, "train", "the model toy has no such program");
}

/* ---- sum and count of a loss ---- */
/* The loss as text over x = param f32[4], n = input f32[] and y = x · x; whether it is a sum over a
 * count, and what of the count is at least. Where it is one, the parts must give the loss again. */
static void expect_split(const char *lines, bool splits, double least) {
  Buf text = {0}, why = {0};
  buf_str(&text,
          "graph \"loss\" {\n  %0 = param f32[4] \"x\"\n  %1 = input f32[] \"n\"\n  %2 = mul "
          "f32[4] %0 %0\n"
          "  %3 = reduce_sum f32[1] %2 axes=0\n  %4 = reshape f32[] %3\n  %5 = const f32[] 3\n");
  buf_printf(&text, "%s  output \"loss\" %%9\n}\n", lines);
  Graph *g = ir_parse("loss", text.data, text.len, &why);
  if (!g) fail_msg("%s", why.data);
  Node *loss = g->output[0].node;
  LossParts part = {0};
  bool found = loss_split(g, loss, &part);
  if (found != splits) fail_msg("%s: %s", lines, found ? "is split" : "is not split");
  if (splits) {
    assert_true(part.least == least);
    Feed feed[] = {{OP_param, "x", (const double[]){1, 2, 3, 4}},
                   {OP_input, "n", (const double[]){7}}};
    Tensor t[3];
    assert_true(
      ir_eval(g->arena, g, EVAL_f64, feed, 2, (Node *[]){loss, part.sum, part.count}, 3, t, &why));
    assert_int_equal(t[1].type.rank, 0);
    assert_int_equal(t[2].type.rank, 0);
    double again = t[1].data[0] / fmax(t[2].data[0], part.least);
    if (!(fabs(t[0].data[0] - again) <= 1e-15 * fabs(again)))
      fail_msg("%s: %.17g and %.17g", lines, t[0].data[0], again);
  }
  graph_free(g);
  buf_free(&text);
}

static void test_split(void **state) {
  (void)state;
  expect_split("%9 = div f32[] %4 %1\n", true, 0);
  expect_split("%6 = max f32[] %1 %5\n%9 = div f32[] %4 %6\n", true, 3);
  expect_split("%6 = neg f32[] %4\n%7 = div f32[] %6 %1\n%8 = mul f32[] %7 %5\n%9 = neg f32[] %8\n",
               true, 0);
  expect_split("%6 = reshape f32[1] %1\n%7 = div f32[1] %3 %6\n%8 = reshape f32[] %7\n%9 = div "
               "f32[] %8 %5\n",
               true, 0);
  expect_split(
    "%6 = div f32[] %4 %1\n%7 = sin f32[] %4\n%8 = div f32[] %7 %1\n%9 = sub f32[] %6 %8\n", true,
    0);
  expect_split("%9 = div f32[] %4 %5\n", false, 0); /* the same count each time */
  expect_split("%6 = div f32[] %4 %1\n%9 = add f32[] %6 %4\n", false, 0); /* a part without */
  expect_split("%6 = add f32[] %4 %1\n%9 = div f32[] %4 %6\n", false, 0); /* moved by x */
  expect_split("%6 = div f32[] %4 %1\n%9 = exp f32[] %6\n", false, 0);
  expect_split(
    "%6 = div f32[] %4 %1\n%7 = add f32[] %1 %5\n%8 = div f32[] %4 %7\n%9 = add f32[] %6 %8\n",
    false, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_entries), cmocka_unit_test(test_split)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
