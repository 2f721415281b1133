/* The test of the test: wrong passes are found, small errors too, and what is left of a program
 * that shows one is small. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/never_wrong/never_wrong.h"

/* A copy with some nodes replaced; the graph itself where none was. */
static Graph *rewrite(Graph *g, Node *(*better)(Graph *, Node *)) {
  Graph *to = graph_new(g->name);
  Node **map = xcalloc((size_t)g->n_node + 1, sizeof *map);
  bool changed = false;
  for (int i = 0; i < g->n_node; i++) {
    Node *src[IR_MAX_SRC], *n = g->node[i];
    for (int k = 0; k < n->n_src; k++) src[k] = map[n->src[k]->id];
    Node *same = ir_rebuild(to, n, src);
    to->region = n->region;
    Node *other = ir_op[n->op].flags & IR_LEAF ? NULL : better(to, same);
    to->region = 0;
    changed = changed || other;
    map[i] = other ? other : same;
  }
  for (int i = 0; i < g->n_output; i++)
    ir_output(to, g->output[i].kind, g->output[i].name, map[g->output[i].node->id]);
  free(map);
  if (changed) return to;
  graph_free(to);
  return g;
}

static Node *swap_sub(Graph *g, Node *n) {
  return n->op == OP_sub && n->type.rank > 0 ? ir_sub(g, n->src[1], n->src[0]) : NULL;
}

/* off by one part in a thousand */
static Node *bend_sum(Graph *g, Node *n) {
  if (n->op != OP_reduce_sum || n->type.dtype != DT_f32) return NULL;
  return ir_mul(g, n, ir_const(g, (float)1.001, &n->type));
}

static Node *forget_order(Graph *g, Node *n) { /* of what is no square */
  const Node *x = n->src[0];
  if (n->op != OP_permute || type_eq(&n->type, &x->type)) return NULL;
  return ir_reshape(g, n->src[0], n->type.rank, n->type.dim);
}

static Graph *wrong_sub(Graph *g, const PassOptions *o) { return (void)o, rewrite(g, swap_sub); }
static Graph *wrong_sum(Graph *g, const PassOptions *o) { return (void)o, rewrite(g, bend_sum); }
static Graph *wrong_view(Graph *g, const PassOptions *o) {
  return (void)o, rewrite(g, forget_order);
}

static bool fails(void *context, const Graph *g) {
  PassFunction **pass = context;
  Buf why = {0};
  Tally tally = {0};
  Case c;
  bool failed = case_open(&c, g, &why) && !check_evaluator(&c, *pass, &tally, &why) &&
                strncmp(why.data, "extra: ", 7) == 0;
  case_close(&c);
  buf_free(&why);
  return failed;
}

/* How many programs show that the pass is wrong; each is reduced to at most `largest` nodes. */
static void expect_found(PassFunction *pass, uint32_t cases, int at_least, int largest) {
  int found = 0, most = 0;
  for (uint32_t seed = 0; seed < cases; seed++) {
    Graph *g = random_program(seed);
    if (fails(&pass, g)) {
      Buf text = {0}, why = {0};
      found++;
      Graph *small = reduce_case(g, fails, &pass);
      ir_print(&text, small);
      Graph *again = ir_parse("reduced", text.data, text.len, &why);
      assert_non_null(again);
      assert_true(fails(&pass, again));
      if (small->n_node > largest) fail_msg("seed %u is left with\n%s", seed, text.data);
      if (small->n_node > most) most = small->n_node;
      graph_free(small);
      graph_free(again);
      buf_free(&text);
    }
    graph_free(g);
  }
  print_message("%d of %d programs show it; at most %d nodes are left\n", found, (int)cases, most);
  assert_true(found >= at_least);
}

static void test_sub(void **unused) {
  (void)unused;
  expect_found(wrong_sub, 150, 20, 8);
}

static void test_sum(void **unused) {
  (void)unused;
  expect_found(wrong_sum, 150, 20, 8);
}

static void test_view(void **unused) {
  (void)unused;
  expect_found(wrong_view, 600, 10, 8);
}

/* Every operation occurs, and what raise looks for; position stands in generated programs only before passes run, and the
 * gradients of attention come from autodiff, spans from the planner. */
static void test_operations(void **unused) {
  (void)unused;
  int count[OP_COUNT] = {0}, n_raised = 0;
  for (uint32_t seed = 0; seed < 1500; seed++) {
    Graph *g = random_program(seed);
    for (int i = 0; i < g->n_node; i++) count[g->node[i]->op]++;
    Graph *raised = pass_raise(g, &(PassOptions){0});
    n_raised += raised != g;
    if (raised != g) graph_free(raised);
    graph_free(g);
  }
  for (int op = 0; op < OP_COUNT; op++)
    if (count[op] < 5 && op != OP_position && op != OP_matmul_spans &&
        strncmp(ir_op[op].name, "attention_", 10) != 0)
      fail_msg("%s occurs %d times", ir_op[op].name, count[op]);
  print_message("raise finds something in %d of 1500 programs\n", n_raised);
  assert_true(n_raised >= 100);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_sub), cmocka_unit_test(test_sum),
                                     cmocka_unit_test(test_view),
                                     cmocka_unit_test(test_operations)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
