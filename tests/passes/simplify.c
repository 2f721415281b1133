/* simplify keeps what graphs compute: every generated case and program is evaluated before and
 * after. A second run finds nothing to do. */
#include "passes/passes.h"
#include "tests/gen/gen.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

static const PassOptions no_options;

/* Equal bits, or with rounding within 2e-6 of the largest element. */
static bool equal(const Tensor *a, const Tensor *b, bool exact) {
  double scale = 0;
  for (int64_t i = 0; i < type_count(&a->type); i++)
    if (isfinite(a->data[i])) scale = fmax(scale, fabs(a->data[i]));
  for (int64_t i = 0; i < type_count(&a->type); i++) {
    double x = a->data[i], y = b->data[i];
    if (isnan(x) && isnan(y)) continue;
    if (!(x == y || (!exact && fabs(x - y) <= 2e-6 * scale))) return false;
  }
  return true;
}

static bool check(Graph *g, const GenFeed *feed) {
  Buf why = {0};
  Arena *arena = arena_new();
  Graph *to = pass_simplify(g, &no_options);
  bool changed = to != g;
  if (!ir_verify(to, &why)) fail_msg("%s: %s", feed->title, why.data);
  if (pass_simplify(to, &no_options) != to)
    fail_msg("%s: a second run changes the graph", feed->title);
  assert_int_equal(to->n_output, g->n_output);
  for (int i = 0; i < g->n_output; i++) {
    Tensor before, after;
    assert_true(
      ir_eval(arena, g, EVAL_f32, feed->feed, feed->n, &g->output[i].node, 1, &before, &why));
    assert_true(
      ir_eval(arena, to, EVAL_f32, feed->feed, feed->n, &to->output[i].node, 1, &after, &why));
    assert_true(type_eq(&before.type, &after.type));
    if (!equal(&before, &after, feed->flags & GEN_exact))
      fail_msg("%s: output %s differs", feed->title, g->output[i].name);
  }
  if (changed) graph_free(to);
  arena_free(arena);
  buf_free(&why);
  return changed;
}

static void test_cases(void **state) {
  (void)state;
  int n = 0, changed = 0;
  for (int op = 0; op < OP_COUNT; op++)
    for (int i = 0; i < gen_count((Op)op); i++, n++) {
      GenFeed feed;
      Graph *g = gen_case((Op)op, i, &feed);
      changed += check(g, &feed);
      graph_free(g);
    }
  for (int i = 0; i < GEN_PROGRAMS; i++, n++) {
    GenFeed feed;
    Graph *g = gen_program(i, &feed);
    changed += check(g, &feed);
    graph_free(g);
  }
  assert_true(changed > 0);
  print_message("%d graphs, %d changed\n", n, changed);
}

/* The gradients of programs are larger graphs with other patterns. */
static void test_gradients(void **state) {
  (void)state;
  int changed = 0;
  for (int i = 0; i < GEN_PROGRAMS; i++) {
    GenFeed feed;
    Graph *g = gen_program(i, &feed);
    Node *y = g->output[0].node;
    if (dtype_is_float(y->type.dtype) && !(feed.flags & GEN_boundary)) {
      int axis[IR_MAX_RANK];
      for (int d = 0; d < y->type.rank; d++) axis[d] = d;
      Node *square = ir_mul(g, y, y);
      ir_output(g, OUT_value, "loss",
                ir_reshape(g, ir_reduce(g, OP_reduce_sum, square, y->type.rank, axis), 0, NULL));
      Graph *with = pass_autodiff(g, &no_options);
      changed += check(with, &feed);
      if (with != g) graph_free(with);
    }
    graph_free(g);
  }
  assert_true(changed > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases),
                                     cmocka_unit_test(test_gradients)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
