/* Gradients where central differences say nothing: kinks, ties, poles, zeros of products, ids
 * outside of tables, types, stop_gradient; and checkpoints. The expected values are PyTorch's. */
#include "passes/passes.h"
#include "passes/term.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

enum { MAX_POINTS = 8 };

static Node *make(void *g, Op op, const Type *given, int n_src, Node *const *src) {
  return ir_make(g, op, given, NULL, n_src, src);
}

static Node *total(Graph *g, Node *x) {
  int axis[IR_MAX_RANK];
  for (int i = 0; i < x->type.rank; i++) axis[i] = i;
  return ir_reshape(g, ir_reduce(g, OP_reduce_sum, x, x->type.rank, axis), 0, NULL);
}

static void expect(const char *what, const Tensor *t, const double *want) {
  for (int64_t i = 0; i < type_count(&t->type); i++) {
    bool same = isnan(want[i])
                  ? isnan(t->data[i])
                  : t->data[i] == want[i] || fabs(t->data[i] - want[i]) <= 1e-6 * fabs(want[i]);
    if (!same) fail_msg("%s, element %d: %.9g, expected %.9g", what, (int)i, t->data[i], want[i]);
  }
}

/* Gradients of the sum of a term over points x and y. */
static void term_gradient(const char *text, int n, const double *x, const double *y,
                          const double *dx, const double *dy) {
  Graph *g = graph_new("conventions");
  Type t = {.dtype = DT_f32, .rank = 1, .dim = {n}};
  Node *var[TV_COUNT] = {ir_leaf(g, OP_input, "x", &t), ir_leaf(g, OP_input, "y", &t)}, *grad[2];
  Node *loss = total(g, term_build(term_parse(g->arena, text),
                                   &(TermMaker){.g = g, .make = make, .context = g}, var, &t));
  autodiff(g, loss, var, 2, grad);
  Feed feed[] = {{OP_input, "x", x}, {OP_input, "y", y ? y : x}};
  Tensor result[2];
  Buf why = {0};
  assert_true(ir_verify(g, &why));
  assert_true(ir_eval(g->arena, g, EVAL_f32, feed, 2, grad, 2, result, &why));
  if (dx) expect(text, &result[0], dx);
  if (dy) expect(text, &result[1], dy);
  graph_free(g);
}

#define LIST(...) ((const double[]){__VA_ARGS__})

static void test_kinks(void **state) {
  (void)state;
  term_gradient("abs(x)", 4, LIST(-2, -0.0, 0, 3), NULL, LIST(-1, 0, 0, 1), NULL);
  term_gradient("relu(x)", 4, LIST(-2, -0.0, 0, 3), NULL, LIST(0, 0, 0, 1), NULL);
  term_gradient("sign(x)", 3, LIST(-2, 0, 3), NULL, LIST(0, 0, 0), NULL);
  term_gradient("floor(x)", 3, LIST(-2, 0.5, 3), NULL, LIST(0, 0, 0), NULL);
  term_gradient("ceil(x)", 3, LIST(-2, 0.5, 3), NULL, LIST(0, 0, 0), NULL);
  term_gradient("round(x)", 3, LIST(-2, 0.5, 3), NULL, LIST(0, 0, 0), NULL);
  term_gradient("min(x, y)", 3, LIST(1, 2, 3), LIST(2, 2, 2), LIST(1, 0.5, 0), LIST(0, 0.5, 1));
  term_gradient("max(x, y)", 3, LIST(1, 2, 3), LIST(2, 2, 2), LIST(0, 0.5, 1), LIST(1, 0.5, 0));
  term_gradient("max(x, x)", 2, LIST(1, -2), NULL, LIST(1, 1), NULL);
  term_gradient("mod(x, y)", 2, LIST(7, -7), LIST(3, 3), LIST(1, 1), LIST(-2, 3));
}

static void test_poles(void **state) {
  (void)state;
  term_gradient("sqrt(x)", 3, LIST(0, 4, -1), NULL, LIST(INFINITY, 0.25, NAN), NULL);
  term_gradient("rsqrt(x)", 2, LIST(4, 0), NULL, LIST(-0.0625, -INFINITY), NULL);
  term_gradient("log(x)", 2, LIST(0, 2), NULL, LIST(INFINITY, 0.5), NULL);
  term_gradient("div(x, y)", 2, LIST(1, 0), LIST(0, 2), LIST(INFINITY, 0.5), LIST(-INFINITY, 0));
  term_gradient("pow(x, y)", 6, LIST(0, 0, 0, -2, 2, -3), LIST(0, 1, 2, 3, 3, 0),
                LIST(0, 1, 0, 12, 12, 0), LIST(0, 0, 0, 0, 8 * log(2), 0));
  term_gradient("pow(x, 2)", 3, LIST(0, -3, 2), NULL, LIST(0, -6, 4), NULL);
}

/* The forms that stay right far out, in f32: derivatives of what has levelled off are small, not
 * lost or NaN. */
static void test_far_out(void **state) {
  (void)state;
  term_gradient("expm1(x)", 3, LIST(-20, 1e-6, 30), NULL, LIST(exp(-20), 1.000001, exp(30)), NULL);
  term_gradient("tanh(x)", 3, LIST(-100, 0, 100), NULL, LIST(0, 1, 0), NULL);
  term_gradient("sigmoid(x)", 4, LIST(-80, 0, 100, -200), NULL, LIST(exp(-80), 0.25, 0, 0), NULL);
  term_gradient("erfc(x)", 3, LIST(-100, 0, 100), NULL, LIST(0, -2 / sqrt(M_PI), 0), NULL);
  term_gradient("erf(x)", 3, LIST(-100, 0, 100), NULL, LIST(0, 2 / sqrt(M_PI), 0), NULL);
  term_gradient("log1p(x)", 2, LIST(1e-8, -0.5), NULL, LIST(1, 2), NULL);
}

static void test_stop(void **state) {
  (void)state;
  term_gradient("mul(x, stop_gradient(x))", 2, LIST(3, -2), NULL, LIST(3, -2), NULL);
  term_gradient("stop_gradient(mul(x, y))", 2, LIST(3, -2), LIST(1, 1), LIST(0, 0), LIST(0, 0));
  term_gradient("where(gt(x, y), x, y)", 3, LIST(1, 2, 3), LIST(2, 2, 2), LIST(0, 0, 1),
                LIST(1, 1, 0));
}

/* Σ w · op(x over the axis) for x[rows, n] */
static void row_gradient(Op op, int n, const double *x, const double *want) {
  Graph *g = graph_new("rows");
  Type t = {.dtype = DT_f32, .rank = 2, .dim = {1, n}};
  Node *leaf = ir_leaf(g, OP_input, "x", &t), *grad;
  Node *y = ir_reduce(g, op, leaf, 1, (int[]){1});
  autodiff(g, total(g, ir_mul(g, y, ir_const(g, 3, &y->type))), &leaf, 1, &grad);
  Tensor result;
  Buf why = {0};
  assert_true(
    ir_eval(g->arena, g, EVAL_f32, &(Feed){OP_input, "x", x}, 1, &grad, 1, &result, &why));
  expect(ir_op[op].name, &result, want);
  graph_free(g);
}

static void test_rows(void **state) {
  (void)state;
  row_gradient(OP_reduce_max, 4, LIST(1, 5, 5, 2), LIST(0, 1.5, 1.5, 0));
  row_gradient(OP_reduce_min, 4, LIST(1, 5, 1, 1), LIST(1, 0, 1, 1));
  row_gradient(OP_reduce_prod, 4, LIST(2, 3, -1, 5), LIST(-45, -30, 90, -18));
  row_gradient(OP_reduce_prod, 4, LIST(2, 0, -1, 5), LIST(0, -30, 0, 0));
  row_gradient(OP_reduce_prod, 4, LIST(2, 0, -1, 0), LIST(0, 0, 0, 0));
}

/* Rows outside of the table: a gather reads NaN there, and neither gradient may know of it. */
static void test_ids_outside(void **state) {
  (void)state;
  Graph *g = graph_new("ids");
  Type many = {.dtype = DT_f32, .rank = 2, .dim = {4, 2}},
       table = {.dtype = DT_f32, .rank = 2, .dim = {3, 2}};
  Type list = {.dtype = DT_i32, .rank = 1, .dim = {4}};
  Node *ids = ir_leaf(g, OP_input, "ids", &list);
  Node *wrt[] = {ir_leaf(g, OP_input, "x", &many), ir_leaf(g, OP_input, "table", &table)}, *grad[2];
  Node *scattered = ir_scatter_add(g, ids, wrt[0], 3), *weight = ir_leaf(g, OP_input, "w", &table);
  Node *loss =
    ir_add(g, total(g, ir_mul(g, scattered, weight)), total(g, ir_gather(g, wrt[1], ids)));
  autodiff(g, loss, wrt, 2, grad);
  Feed feed[] = {{OP_input, "ids", LIST(2, -1, 0, 3)},
                 {OP_input, "x", LIST(1, 2, 3, 4, 5, 6, 7, 8)},
                 {OP_input, "table", LIST(1, 2, 3, 4, 5, 6)},
                 {OP_input, "w", LIST(10, 20, 30, 40, 50, 60)}};
  Tensor result[2];
  Buf why = {0};
  assert_true(ir_eval(g->arena, g, EVAL_f32, feed, COUNT_OF(feed), grad, 2, result, &why));
  expect("scatter_add", &result[0], LIST(50, 60, 0, 0, 10, 20, 0, 0));
  expect("gather", &result[1], LIST(1, 1, 0, 0, 1, 1));
  graph_free(g);
}

/* Gradients pass casts between floating types in the source's type, and stop at integers. */
static void test_casts(void **state) {
  (void)state;
  Graph *g = graph_new("casts");
  Type t = {.dtype = DT_f32, .rank = 1, .dim = {2}},
       half = {.dtype = DT_bf16, .rank = 1, .dim = {2}};
  Node *wrt[] = {ir_leaf(g, OP_input, "x", &t), ir_leaf(g, OP_input, "h", &half)}, *grad[2];
  Node *product = ir_mul(g, ir_cast(g, wrt[0], DT_bf16), wrt[1]);
  Node *whole = ir_cast(g, ir_cast(g, wrt[0], DT_i32), DT_f32);
  autodiff(g, total(g, ir_add(g, ir_cast(g, product, DT_f32), whole)), wrt, 2, grad);
  Feed feed[] = {{OP_input, "x", LIST(1.5, -2)}, {OP_input, "h", LIST(3, 0.25)}};
  Tensor result[2];
  Buf why = {0};
  assert_true(ir_eval(g->arena, g, EVAL_f32, feed, 2, grad, 2, result, &why));
  assert_int_equal(grad[0]->type.dtype, DT_f32);
  assert_int_equal(grad[1]->type.dtype, DT_bf16);
  expect("cast to bf16", &result[0], LIST(3, 0.25));
  expect("bf16", &result[1], LIST(1.5, -2));
  graph_free(g);
}

/* ---- checkpoints ---- */
/* Two blocks of y = x + tanh(dropout(x·w))·w₂ with random masks, each in a region of its own where
 * asked. */
static Graph *blocks(bool checkpointed, Node **loss, Node **wrt) {
  Graph *g = graph_new("blocks");
  Type x = {.dtype = DT_f32, .rank = 2, .dim = {5, 4}},
       w = {.dtype = DT_f32, .rank = 2, .dim = {4, 4}};
  Node *rng = ir_leaf(g, OP_input, "rng", &(Type){.dtype = DT_i32, .rank = 1, .dim = {4}});
  wrt[0] = ir_leaf(g, OP_input, "x", &x);
  wrt[1] = ir_leaf(g, OP_param, "w", &w);
  Node *h = wrt[0];
  for (int block = 0; block < 2; block++) {
    g->region = checkpointed ? block + 1 : 0;
    Node *keep = ir_ge(g, ir_random(g, rng, block, &x), ir_const(g, 0.25, &x));
    Node *u = ir_where(g, keep, ir_matmul(g, h, wrt[1]), ir_const(g, 0, &x));
    h = ir_add(g, h, ir_matmul(g, ir_tanh(g, ir_exp(g, ir_sin(g, u))), wrt[1]));
  }
  g->region = 0;
  *loss = total(g, ir_mul(g, h, h));
  return g;
}

/* Nodes of regions that are needed by what has no region: kept for the backward pass. */
static int count_kept(const Graph *g, int first) {
  int kept = 0;
  bool *seen = arena_alloc(g->arena, (size_t)g->n_node);
  for (int i = first; i < g->n_node; i++)
    for (int s = 0; s < g->node[i]->n_src; s++) {
      const Node *src = g->node[i]->src[s];
      if (g->node[i]->region > 0 || src->region <= 0 || seen[src->id]) continue;
      seen[src->id] = true;
      kept++;
    }
  return kept;
}

static void test_checkpoint(void **state) {
  (void)state;
  Tensor result[2][2];
  double *x = xcalloc(20, sizeof *x), *w = xcalloc(16, sizeof *w);
  for (int i = 0; i < 20; i++) x[i] = sin(i);
  for (int i = 0; i < 16; i++) w[i] = cos(3 * i);
  Feed feed[] = {{OP_input, "x", x}, {OP_param, "w", w}, {OP_input, "rng", LIST(7, 0, 3, 0)}};
  Graph *g[2];
  for (int on = 0; on < 2; on++) {
    Node *loss, *wrt[2], *grad[2];
    Buf why = {0};
    g[on] = blocks(on, &loss, wrt);
    int before = g[on]->n_node, recomputed[3] = {0}, random = 0;
    autodiff(g[on], loss, wrt, 2, grad);
    assert_true(ir_verify(g[on], &why));
    assert_true(ir_eval(g[on]->arena, g[on], EVAL_f64, feed, 3, grad, 2, result[on], &why));
    for (int i = before; i < g[on]->n_node; i++) {
      const Node *n = g[on]->node[i];
      assert_true(n->region == 0 || n->region == -1 || n->region == -2);
      recomputed[-n->region]++;
      random += n->region < 0 && n->op == OP_random;
    }
    assert_int_equal(recomputed[1] > 0, on);
    assert_int_equal(recomputed[2] > 0, on);
    assert_int_equal(random, on ? 2 : 0);
    /* kept from inside the regions: only what leaves them, the two blocks' outputs */
    if (on) assert_int_equal(count_kept(g[on], before), 2);
  }
  for (int i = 0; i < 2; i++)
    assert_memory_equal(result[0][i].data, result[1][i].data,
                        sizeof(double) * (size_t)type_count(&result[0][i].type));
  for (int on = 0; on < 2; on++) graph_free(g[on]);
  free(x);
  free(w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_kinks),   cmocka_unit_test(test_poles),
    cmocka_unit_test(test_far_out), cmocka_unit_test(test_stop),
    cmocka_unit_test(test_rows),    cmocka_unit_test(test_ids_outside),
    cmocka_unit_test(test_casts),   cmocka_unit_test(test_checkpoint),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
