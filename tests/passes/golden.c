/* Passes on text: each FILE.ir of the folder begins with a comment naming the passes, "// simplify"
 * or "// autodiff,precision --precision=bf16", and FILE.expect holds what they make of it; the outputs that both have
 * are also evaluated on random inputs and must agree. ALPHAC_BLESS=1 rewrites the expectations. */
#include "passes/passes.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void write_text(const char *path, const Buf *text) {
  FILE *f = fopen(path, "w");
  assert_non_null(f);
  assert_int_equal(fwrite(text->data, 1, text->len, f), text->len);
  assert_int_equal(fclose(f), 0);
}

enum { MAX_FEEDS = 16 };

static int random_feeds(const Graph *g, Feed *feed) {
  int n = 0;
  for (int i = 0; i < g->n_node; i++) {
    const Node *leaf = g->node[i];
    if (leaf->op != OP_param && leaf->op != OP_state && leaf->op != OP_input) continue;
    double *data = arena_alloc(g->arena, sizeof *data * (size_t)type_count(&leaf->type));
    for (int64_t k = 0; k < type_count(&leaf->type); k++) {
      uint32_t out[4];
      philox4x32((uint32_t[]){(uint32_t)k, (uint32_t)i, 0, 0}, (uint32_t[]){3, 1}, out);
      data[k] = leaf->type.dtype == DT_f32 ? (float)(out[0] / 2147483648.0 - 1) : out[0] % 4;
    }
    assert_in_range(n, 0, MAX_FEEDS - 1);
    feed[n++] = (Feed){leaf->op, leaf->name, data};
  }
  return n;
}

/* Where values are rounded to 16 bits, within some of their units of the largest. */
static double bound(const Tensor *t, int64_t k, DType precision) {
  double largest = 0;
  if (!dtype_is_16(precision)) return 2e-6 * fabs(t->data[k]);
  for (int64_t i = 0; i < type_count(&t->type); i++) largest = fmax(largest, fabs(t->data[i]));
  return largest * (precision == DT_bf16 ? 0x1p-6 : 0x1p-9);
}

static void check_values(const char *path, const Graph *g, const Graph *to, DType precision) {
  Feed feed[MAX_FEEDS];
  int n = random_feeds(g, feed);
  Buf why = {0};
  for (int i = 0; i < g->n_output; i++) {
    Tensor before, after;
    assert_true(ir_eval(g->arena, g, EVAL_f32, feed, n, &g->output[i].node, 1, &before, &why));
    assert_true(ir_eval(g->arena, to, EVAL_f32, feed, n, &to->output[i].node, 1, &after, &why));
    assert_true(type_eq(&before.type, &after.type));
    for (int64_t k = 0; k < type_count(&before.type); k++)
      if (!(fabs(before.data[k] - after.data[k]) <= bound(&before, k, precision)))
        fail_msg("%s: %s[%d] is %.9g, then %.9g", path, g->output[i].name, (int)k, before.data[k],
                 after.data[k]);
  }
}

static void check_file(const char *path) {
  Buf text = {0}, why = {0}, got = {0}, want = {0}, expect = {0};
  assert_true(buf_read_file(&text, path));
  Graph *g = ir_parse(path, text.data, text.len, &why);
  if (!g) fail_msg("%s", why.data);
  char *list = xcalloc(text.len + 1, 1), precision[8] = "f32";
  PassOptions o = {0};
  if (sscanf(text.data, "// %[a-z,] --precision=%7[a-z0-9]", list, precision) < 1 ||
      !dtype_by_name(precision, &o.precision))
    fail_msg("%s: the first line must be // and passes", path);
  Graph *to = pass_run(g, list, &o, &why);
  if (!to) fail_msg("%s: %s", path, why.data);
  ir_print(&got, to);
  buf_printf(&expect, "%.*s.expect", (int)strlen(path) - 3, path);
  if (getenv("ALPHAC_BLESS")) write_text(expect.data, &got);
  if (!buf_read_file(&want, expect.data)) fail_msg("%s does not exist", expect.data);
  if (strcmp(got.data, want.data) != 0) fail_msg("%s: found\n%s", path, got.data);
  check_values(path, g, to, o.precision);
  if (to != g) graph_free(to);
  graph_free(g);
  free(list);
  buf_free(&text);
  buf_free(&got);
  buf_free(&want);
  buf_free(&expect);
}

static void test_texts(void **state) {
  (void)state;
  glob_t found;
  assert_int_equal(glob(TEXTS "/*.ir", 0, NULL, &found), 0);
  for (size_t i = 0; i < found.gl_pathc; i++) check_file(found.gl_pathv[i]);
  globfree(&found);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_texts)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
