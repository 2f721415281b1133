/* Every differentiable operation over the generated cases, and generated programs: the gradient of
 * Σ y · w with fixed random weights w agrees with central differences. */
#include "passes/passes.h"
#include "tests/gen/gen.h"
#include "tests/passes/numeric.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

enum { PLACES = 24, MAX_OUTPUTS = 8 };

typedef struct Case {
  Graph *g;
  Node *wrt[GEN_MAX_FEEDS], *grad[GEN_MAX_FEEDS];
  int n_wrt, n_feed;
  Feed feed[GEN_MAX_FEEDS + MAX_OUTPUTS];
} Case;

static double *random_weights(Graph *g, int64_t n, uint32_t stream) {
  double *w = arena_alloc(g->arena, sizeof *w * (size_t)n);
  for (int64_t i = 0; i < n; i++) {
    uint32_t out[4];
    philox4x32((uint32_t[]){(uint32_t)i, 0, 0, stream}, (uint32_t[]){77, 0}, out);
    w[i] = (float)(out[0] / 2147483648.0 - 1);
  }
  return w;
}

/* Σ y · w, w an input of its own */
static Node *weighted(Case *c, Node *y, int nth) {
  Graph *g = c->g;
  const char *name = arena_printf(g->arena, "weights.%d", nth);
  Node *w = ir_leaf(g, OP_input, name, &y->type), *sum = ir_mul(g, y, w);
  c->feed[c->n_feed++] =
    (Feed){OP_input, w->name, random_weights(g, type_count(&y->type), (uint32_t)nth)};
  int axis[IR_MAX_RANK];
  for (int i = 0; i < y->type.rank; i++) axis[i] = i;
  return ir_reshape(g, ir_reduce(g, OP_reduce_sum, sum, y->type.rank, axis), 0, NULL);
}

/* Builds the loss over all float outputs and checks its gradient by every float leaf; the number of
 * leaves. */
static int check(Graph *g, const GenFeed *feed) {
  Case c = {.g = g, .n_feed = feed->n};
  memcpy(c.feed, feed->feed, sizeof *feed->feed * (size_t)feed->n);
  for (int i = 0; i < g->n_node; i++) {
    Node *n = g->node[i];
    if ((n->op == OP_param || n->op == OP_input || n->op == OP_state) &&
        dtype_is_float(n->type.dtype))
      c.wrt[c.n_wrt++] = n;
  }
  Node *loss = NULL;
  for (int i = 0; i < g->n_output; i++) {
    if (!dtype_is_float(g->output[i].node->type.dtype)) continue;
    Node *part = ir_cast(g, weighted(&c, g->output[i].node, i), DT_f32);
    loss = loss ? ir_add(g, loss, part) : part;
  }
  if (!loss || !c.n_wrt) return 0;
  autodiff(g, loss, c.wrt, c.n_wrt, c.grad);
  Buf why = {0};
  if (!ir_verify(g, &why) ||
      !gradients_match(g, loss, c.wrt, c.grad, c.n_wrt, c.feed, c.n_feed, PLACES, &why))
    fail_msg("%s: %s", feed->title, why.data);
  for (int i = 0; i < c.n_wrt; i++) assert_true(type_eq(&c.wrt[i]->type, &c.grad[i]->type));
  buf_free(&why);
  return c.n_wrt;
}

static void test_operations(void **state) {
  (void)state;
  int total = 0;
  for (int op = 0; op < OP_COUNT; op++) {
    int checked = 0;
    for (int i = 0; i < gen_count((Op)op); i++) {
      GenFeed feed;
      Graph *g = gen_case((Op)op, i, &feed);
      if (feed.flags & GEN_smooth) checked += check(g, &feed);
      graph_free(g);
    }
    /* the gradient of these two is not the derivative of what they compute: conventions.c */
    bool expected = (ir_op[op].flags & IR_DIFF) && op != OP_stop_gradient && op != OP_cast;
    if (expected && checked == 0) fail_msg("%s is never differentiated", ir_op[op].name);
    total += checked;
  }
  print_message("%d gradients of single operations\n", total);
}

static void test_programs(void **state) {
  (void)state;
  int checked = 0;
  for (int i = 0; i < GEN_PROGRAMS; i++) {
    GenFeed feed;
    Graph *g = gen_program(i, &feed);
    if (feed.flags & GEN_smooth) checked += check(g, &feed);
    graph_free(g);
  }
  assert_true(checked > 0);
  print_message("%d gradients of programs\n", checked);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_operations),
                                     cmocka_unit_test(test_programs)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
