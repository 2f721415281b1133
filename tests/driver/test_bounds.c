/* The bounds that whole programs' results are held to (tests/gen/noise.h), without a device: the
 * evaluator in f32 keeps them, and what a wrong kernel gives does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#include "tests/driver/graphs.h"
#include "tests/driver/run_graph.h"
#include "tests/gen/gen.h"

enum { TIMES = 2, MAX_OUTPUT = 16 };

static bool all_close(const Graph *g, const Tensor *got, const Tensor *f64, const Tensor *bound,
                      Buf *why) {
  for (int i = 0; i < g->n_output; i++)
    if (!run_close_enough(&got[i], &f64[i], &f64[i], &bound[i], why)) return false;
  return true;
}

static bool equal(const Graph *g, const Tensor *x, const Tensor *y) {
  for (int i = 0; i < g->n_output; i++)
    for (int64_t e = 0; e < type_count(&x[i].type); e++)
      if (x[i].data[e] != y[i].data[e]) return false;
  return true;
}

typedef Node *Mistake(Graph *, Node *); /* what a wrong kernel gives for it; NULL: cannot be */

static Node *wrong_weight(Graph *g, Node *n) {
  if (!dtype_is_float((DType)n->type.dtype)) return NULL;
  return ir_mul(g, n, ir_const(g, 1.001, &n->type));
}

/* Without the first of the terms. */
static Node *lost_term(Graph *g, Node *n) {
  if (n->op != OP_reduce_sum && n->op != OP_matmul) return NULL;
  Node *x = n->src[0], *src[2] = {NULL, n->n_src > 1 ? n->src[1] : NULL};
  int axis = n->op == OP_matmul ? x->type.rank - 1 : (int)n->ints[0];
  int64_t one[IR_MAX_RANK] = {0}, none[IR_MAX_RANK] = {0};
  if (x->type.dim[axis] == 1) return NULL;
  one[axis] = 1;
  src[0] = ir_pad(g, ir_slice(g, x, one, x->type.dim), one, none, 0);
  return ir_rebuild(g, n, src);
}

/* Each row is the next one's. */
static Node *rows_one_off(Graph *g, Node *n) {
  if (!n->type.rank || n->type.dim[0] == 1) return NULL;
  int64_t from[IR_MAX_RANK] = {1}, zero[IR_MAX_RANK] = {0}, end[IR_MAX_RANK];
  for (int i = 0; i < n->type.rank; i++) end[i] = i ? n->type.dim[i] : 1;
  Node *rest = ir_slice(g, n, from, n->type.dim);
  return ir_concat(g, 0, 2, (Node *[]){rest, ir_slice(g, n, zero, end)});
}

/* `g` with a mistake at node `at`; NULL where there can be none. */
static Graph *with_mistake(const Graph *g, int at, Mistake *mistake) {
  Graph *to = graph_new(g->name);
  Node **map = arena_alloc(to->arena, sizeof *map * (size_t)g->n_node);
  for (int i = 0; i < g->n_node; i++) {
    Node *src[IR_MAX_SRC];
    for (int s = 0; s < g->node[i]->n_src; s++) src[s] = map[g->node[i]->src[s]->id];
    map[i] = ir_rebuild(to, g->node[i], src);
    if (i == at && !(map[i] = mistake(to, map[i]))) {
      graph_free(to);
      return NULL;
    }
  }
  for (int i = 0; i < g->n_output; i++)
    ir_output(to, g->output[i].kind, g->output[i].name, map[g->output[i].node->id]);
  return to;
}

typedef struct Count {
  int made, found; /* mistakes that change a result; those outside the bounds */
} Count;

static void try_mistake(const Graph *g, const GenFeed *feed, Mistake *mistake, Count *count) {
  Arena *arena = arena_new();
  Buf why = {0};
  Tensor right[MAX_OUTPUT], wrong[MAX_OUTPUT], f64[MAX_OUTPUT], bound[MAX_OUTPUT];
  assert_true(g->n_output <= MAX_OUTPUT);
  assert_true(run_reference(arena, g, EVAL_f32, feed->feed, feed->n, TIMES, right, &why));
  assert_true(run_bounds(arena, g, feed->feed, feed->n, TIMES, f64, bound, &why));
  if (!all_close(g, right, f64, bound, &why)) fail_msg("%s: %s", feed->title, why.data);
  for (int n = 0; n < g->n_node; n++) {
    Graph *bad = with_mistake(g, n, mistake);
    if (!bad) continue;
    assert_true(run_reference(arena, bad, EVAL_f32, feed->feed, feed->n, TIMES, wrong, &why));
    if (!equal(g, right, wrong)) {
      count->made++;
      count->found += !all_close(g, wrong, f64, bound, &why);
    }
    graph_free(bad);
  }
  arena_free(arena);
  buf_free(&why);
}

/* At least so many per cent are found: what is multiplied by 0 or saturates later is not. */
static void found(Mistake *mistake, int per_cent) {
  Count count = {0, 0};
  for (int i = 0; i < GEN_PROGRAMS; i += 4) {
    GenFeed feed;
    Graph *g = gen_program(i, &feed);
    add_updates(g, (uint32_t)i);
    try_mistake(g, &feed, mistake, &count);
    graph_free(g);
  }
  print_message("%d of %d\n", count.found, count.made);
  assert_true(count.made > 40);
  assert_true(100 * count.found >= per_cent * count.made);
}

static void a_wrong_weight(void **state) {
  (void)state;
  found(wrong_weight, 95);
}
static void a_lost_term(void **state) {
  (void)state;
  found(lost_term, 95);
}
static void rows_that_are_one_off(void **state) {
  (void)state;
  found(rows_one_off, 95);
}

/* x · sigmoid(x) at −87: sigmoid's 1.6e-38 is larger than the least normal number, at −88 it is not,
 * and a device may take it for zero. The bounds allow for that, and for nothing of the kind at −80. */
static void what_is_below_normal_numbers(void **state) {
  (void)state;
  Arena *arena = arena_new();
  Buf why = {0};
  static const double at[3] = {-80, -87, -88};
  Graph *g = graph_new("silu");
  Type three = type_of(DT_f32, 1, (int64_t[]){3});
  Node *x = ir_leaf(g, OP_input, intern("x"), &three);
  ir_output(g, OUT_value, intern("y"), ir_mul(g, x, ir_sigmoid(g, x)));
  Feed feed = {OP_input, intern("x"), at};
  Tensor f64[1], bound[1];
  assert_true(run_bounds(arena, g, &feed, 1, 1, f64, bound, &why));
  for (int i = 0; i < 3; i++)
    assert_int_equal(bound[0].data[i] >= fabs(f64[0].data[i]), at[i] == -88);
  graph_free(g);
  arena_free(arena);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_wrong_weight), cmocka_unit_test(what_is_below_normal_numbers),
    cmocka_unit_test(a_lost_term), cmocka_unit_test(rows_that_are_one_off)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
