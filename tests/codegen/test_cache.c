/* Kernels emitted once: which jobs share one, and that the shared one is the job's own with the
 * job's own slots. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codegen/plan.h"

static Arena *arena;
static Graph *g;
static KernelCache *cache;

static int setup(void **state) {
  (void)state;
  arena = arena_new();
  g = graph_new("g");
  cache = cg_cache(arena, &target_portable);
  return 0;
}

static int teardown(void **state) {
  (void)state;
  cg_cache_end(cache);
  graph_free(g);
  arena_free(arena);
  return 0;
}

static Type shape(int64_t rows, int64_t columns) {
  return type_of(DT_f32, 2, (int64_t[]){rows, columns});
}
static Node *leaf(const char *name) {
  Type t = shape(8, 16);
  return ir_leaf(g, OP_param, name, &t);
}
static Node *number(double v) {
  Type t = shape(8, 16);
  return ir_const(g, v, &t);
}
static Node *noise(int64_t place) {
  Type i4 = type_of(DT_i32, 1, (int64_t[]){4}), t = shape(8, 16);
  return ir_random(g, ir_leaf(g, OP_input, "rng", &i4), place, &t);
}

/* The kernel of these outs, leaves and `also` stored; compared with the one that it would have
 * alone. */
static int emit(int n, Node *const *out, Node *also, bool copy) {
  bool *stored = arena_alloc(arena, (size_t)g->n_node + 1);
  for (int i = 0; i < g->n_node; i++)
    stored[i] = (ir_op[g->node[i]->op].flags & IR_LEAF) && g->node[i]->op != OP_const;
  for (int i = 0; i < n; i++) stored[out[i]->id] = true;
  if (also) stored[also->id] = true;
  KernelJob job = {.out = out, .n_out = n, .stored = stored, .copy = copy};
  KernelCode once, own;
  int id = cg_emit_once(cache, &job, &once);
  cg_emit(arena, &job, &target_portable, &own);
  assert_int_equal(once.n_word, own.n_word);
  assert_memory_equal(once.word, own.word, 4 * (size_t)own.n_word);
  assert_memory_equal(once.groups, own.groups, sizeof own.groups);
  assert_memory_equal(once.local, own.local, sizeof own.local);
  assert_string_equal(once.name, own.name);
  assert_true(once.flops == own.flops && once.bytes == own.bytes);
  assert_int_equal(once.n_slot, own.n_slot);
  for (int i = 0; i < own.n_slot; i++) {
    assert_int_equal(once.slot[i].kind, own.slot[i].kind);
    assert_ptr_equal(once.slot[i].node, own.slot[i].node);
    assert_true(once.slot[i].raw == own.slot[i].raw);
  }
  return id;
}

static int one(Node *y) { return emit(1, &y, NULL, false); }

static void equal_structure_shares(void **state) {
  (void)state;
  Node *a = leaf("a"), *b = leaf("b"), *c = leaf("c");
  Node *x = ir_sub(g, a, ir_mul(g, b, number(2))), *y = ir_sub(g, b, ir_mul(g, c, number(2)));
  assert_int_equal(one(x), 0);
  assert_int_equal(one(y), 0);
  assert_int_equal(one(ir_neg(g, x)), 1); /* x inside */
  assert_int_equal(one(ir_neg(g, y)), 1);
  Node *nx = ir_neg(g, x), *ny = ir_neg(g, a);
  int stored = emit(1, &nx, x, false); /* x stored: an operand like any other */
  assert_int_equal(stored, one(ny));
  assert_int_equal(emit(1, &a, NULL, true), emit(1, &x, NULL, true)); /* copies */
}

static void places_of_random_calls_travel_in_slots(void **state) {
  (void)state;
  Node *a = leaf("a");
  int id = one(ir_sub(g, a, noise(3)));
  assert_int_equal(one(ir_sub(g, leaf("b"), noise(70))), id);
  Node *x = ir_sub(g, noise(5), noise(6)), *y = ir_sub(g, noise(9), noise(8));
  assert_int_equal(one(x), one(y));
}

/* Each of these is another kernel than all the others. */
static void what_differs_is_apart(void **state) {
  (void)state;
  Node *a = leaf("a"), *b = leaf("b"), *d = ir_div(g, a, b), *e = ir_div(g, b, a);
  Type wide = shape(8, 24), mask = type_of(DT_bool, 2, (int64_t[]){8, 16});
  Node *w = ir_leaf(g, OP_param, "w", &wide), *m = ir_leaf(g, OP_input, "m", &mask);
  Node *all[] = {
    ir_sub(g, a, b),
    ir_sub(g, a, a),
    ir_div(g, a, b),
    ir_add(g, a, number(2)),
    ir_add(g, a, number(3)),
    ir_neg(g, a),
    ir_neg(g, w),
    ir_sub(g, ir_neg(g, a), b),
    ir_sub(g, a, ir_neg(g, b)),
    ir_where(g, m, a, b),
    ir_where(g, m, b, b),
    ir_slice(g, w, (int64_t[]){0, 4}, (int64_t[]){8, 20}),
    ir_slice(g, w, (int64_t[]){0, 8}, (int64_t[]){8, 24}),
    ir_permute(g, ir_reshape(g, a, 3, (int64_t[]){8, 4, 4}), (int[]){0, 2, 1}),
    ir_permute(g, ir_reshape(g, a, 3, (int64_t[]){8, 4, 4}), (int[]){2, 0, 1}),
    ir_sub(g, noise(1), noise(2)),
    ir_sub(g, ir_exp(g, noise(1)), noise(1)),
    ir_sub(g, ir_exp(g, noise(1)), noise(2)),
  };
  bool met[64] = {false};
  for (int i = 0; i < COUNT_OF(all); i++) {
    int id = one(all[i]);
    if (met[id]) fail_msg("case %d has the kernel of one before", i);
    met[id] = true;
  }
  int two = emit(2, (Node *[]){d, e}, NULL, false);
  assert_false(met[two]);
  Node *f = ir_neg(g, d);
  assert_true(emit(2, (Node *[]){d, f}, NULL, false) != two);
  assert_true(emit(1, &f, NULL, false) != emit(1, &f, d, false));
  assert_true(emit(1, &a, NULL, true) != one(all[5]));
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test_setup_teardown(equal_structure_shares, setup, teardown),
    cmocka_unit_test_setup_teardown(places_of_random_calls_travel_in_slots, setup, teardown),
    cmocka_unit_test_setup_teardown(what_differs_is_apart, setup, teardown),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
