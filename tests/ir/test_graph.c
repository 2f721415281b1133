/* Types, rounding, hash-consing, inference, the builders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "ir/ir.h"
#include "tests/gen/gen.h"

#define T(d, ...)                                                                                  \
  type_of(d, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

/* ---- types ---- */
static void types_print_and_compare(void **unused) {
  (void)unused;
  Type a = T(DT_f32, 4, 16), b = T(DT_f32, 4, 16), c = T(DT_i32, 4, 16),
       scalar = type_scalar(DT_bf16);
  Buf text = {0};
  type_print(&text, &a);
  type_print(&text, &scalar);
  assert_string_equal(text.data, "f32[4,16]bf16[]");
  assert_true(type_eq(&a, &b) && !type_eq(&a, &c) && shape_eq(&a, &c) && !shape_eq(&a, &scalar));
  assert_int_equal(type_count(&a), 64);
  assert_int_equal(type_count(&scalar), 1);
  int64_t stride[IR_MAX_RANK];
  Type d = T(DT_f32, 2, 3, 5);
  shape_strides(&d, stride);
  assert_true(stride[0] == 15 && stride[1] == 5 && stride[2] == 1);
  for (int i = 0; i < DT_COUNT; i++) {
    DType back;
    assert_true(dtype_by_name(dtype_name((DType)i), &back) && back == (DType)i);
  }
  DType none;
  assert_false(dtype_by_name("f64", &none));
  buf_free(&text);
}

/* A 16-bit float by its bits. */
static double from_bits(DType d, uint32_t bits) {
  int mantissa_bits = d == DT_f16 ? 10 : 7, exponent_bits = 15 - mantissa_bits,
      bias = (1 << (exponent_bits - 1)) - 1;
  int e = (int)(bits >> mantissa_bits & ((1u << exponent_bits) - 1));
  double m = (double)(bits & ((1u << mantissa_bits) - 1)) / (1 << mantissa_bits);
  double v = e == (1 << exponent_bits) - 1 ? (m != 0 ? NAN : INFINITY)
             : e == 0                      ? ldexp(m, 1 - bias)
                                           : ldexp(1 + m, e - bias);
  return bits >> 15 & 1 ? -v : v;
}

/* Every value of the type stays; between two neighbours the nearer is taken, and of equally near
 * ones the even. */
static void sixteen_bits_round_to_nearest_even(void **unused) {
  (void)unused;
  for (DType d = DT_f16; d <= DT_bf16; d++) {
    uint32_t inf_bits = d == DT_f16 ? 0x7c00 : 0x7f80;
    for (uint32_t bits = 0; bits < inf_bits; bits++) {
      double v = from_bits(d, bits), next = from_bits(d, bits + 1);
      double even = bits & 1 ? next : v;
      if (isinf(next)) next = v + (v - from_bits(d, bits - 1)); /* where the next value would lie */
      bool last = bits + 1 == inf_bits;
      double half = v + (next - v) / 2;
      assert_true(dtype_round(d, v) == v && dtype_round(d, -v) == -v);
      assert_true(dtype_round(d, half) == even);
      assert_true(dtype_round(d, nextafter(half, 0)) == v);
      assert_true(dtype_round(d, nextafter(half, INFINITY)) == (last ? INFINITY : next));
      assert_true(dtype_round(d, -nextafter(half, INFINITY)) == (last ? -INFINITY : -next));
    }
    assert_true(isnan(dtype_round(d, NAN)) && dtype_round(d, INFINITY) == INFINITY &&
                dtype_round(d, 1e300) == INFINITY);
    assert_true(signbit(dtype_round(d, -0.0)) && dtype_round(d, 1e-300) == 0 &&
                signbit(dtype_round(d, -1e-300)));
  }
}

static void integers_wrap(void **unused) {
  (void)unused;
  assert_true(dtype_round(DT_i32, 2147483648.0) == -2147483648.0);
  assert_true(dtype_round(DT_i32, -2147483649.0) == 2147483647.0);
  assert_true(dtype_round(DT_i32, 4294967296.0 * 5 + 3) == 3);
  assert_true(dtype_round(DT_i32, -2.75) == -2 && dtype_round(DT_i32, NAN) == 0);
  assert_false(signbit(dtype_round(DT_i32, -0.25)));
  assert_true(dtype_round(DT_bool, -3) == 1 && dtype_round(DT_bool, 0) == 0);
}

/* ---- the graph ---- */
static void equal_nodes_are_one(void **unused) {
  (void)unused;
  Graph *g = graph_new("g");
  Type t = T(DT_f32, 3, 4);
  Node *x = ir_leaf(g, OP_input, "x", &t), *y = ir_leaf(g, OP_input, "y", &t);
  assert_ptr_equal(x, ir_leaf(g, OP_input, "x", &t));
  assert_ptr_not_equal(x, ir_leaf(g, OP_param, "x", &t));
  assert_ptr_equal(ir_add(g, x, y), ir_add(g, y, x));
  assert_ptr_equal(ir_add(g, y, x)->src[0], x);
  assert_ptr_not_equal(ir_sub(g, x, y), ir_sub(g, y, x));
  assert_ptr_equal(ir_const(g, 0.1, &t), ir_const(g, (float)0.1, &t));
  assert_ptr_not_equal(ir_const(g, 0.0, &t), ir_const(g, -0.0, &t));
  assert_ptr_equal(ir_const(g, NAN, &t), ir_const(g, -NAN, &t));
  assert_ptr_not_equal(ir_reduce(g, OP_reduce_sum, x, 1, (int[]){0}),
                       ir_reduce(g, OP_reduce_sum, x, 1, (int[]){1}));
  assert_ptr_equal(ir_reduce(g, OP_reduce_sum, x, 2, (int[]){1, 0}),
                   ir_reduce(g, OP_reduce_sum, x, 2, (int[]){0, 1}));
  /* a type with other bytes past its rank, as a builder may leave them */
  Type dirty = t;
  dirty.dim[5] = 77;
  assert_ptr_equal(ir_const(g, 2, &t), ir_const(g, 2, &dirty));
  /* regions keep apart what is computed, never leaves */
  Node *outside = ir_exp(g, x);
  g->region = 3;
  assert_ptr_not_equal(outside, ir_exp(g, x));
  assert_ptr_equal(x, ir_leaf(g, OP_input, "x", &t));
  g->region = 0;
  for (int i = 0; i < g->n_node; i++) {
    assert_int_equal(g->node[i]->id, i);
    for (int s = 0; s < g->node[i]->n_src; s++) assert_true(g->node[i]->src[s]->id < i);
  }
  graph_free(g);
}

static void many_nodes_stay_distinct(void **unused) {
  (void)unused;
  Graph *g = graph_new("g");
  Type t = type_scalar(DT_i32);
  for (int i = 0; i < 5000; i++) ir_const(g, i, &t);
  assert_int_equal(g->n_node, 5000);
  for (int i = 0; i < 5000; i++) assert_true(ir_const(g, i, &t)->id == i);
  graph_free(g);
}

static void a_copy_keeps_what_outputs_need(void **unused) {
  (void)unused;
  Graph *g = graph_new("g");
  Type t = T(DT_f32, 2);
  g->loc = (SrcLoc){.file = intern("m.alpha"), .line = 4, .col = 7};
  Node *x = ir_leaf(g, OP_input, "x", &t);
  ir_exp(g, x);
  g->region = -2;
  Node *y = ir_tanh(g, x);
  y->label = intern("y");
  ir_output(g, OUT_update, "w", y);
  Graph *to = graph_copy(g);
  assert_int_equal(to->n_node, 2);
  Node *z = to->output[0].node;
  assert_true(z->op == OP_tanh && z->region == -2 && z->label == y->label && z->loc.line == 4 &&
              z->loc.file == y->loc.file);
  assert_true(ir_find_output(to, "w") == &to->output[0] && to->output[0].kind == OUT_update &&
              !ir_find_output(to, "x"));
  graph_free(g);
  assert_true(z->src[0]->type.dim[0] == 2); /* nothing is shared with the original */
  graph_free(to);
}

/* ---- inference ---- */
static Node *leaf(Graph *g, const char *name, Type t) { return ir_leaf(g, OP_input, name, &t); }

static void refuse(Op op, const Type *given, const Attr *attr, int n, Node *const *src,
                   const char *because) {
  Type out;
  Buf why = {0};
  if (ir_infer(op, given, attr, n, src, &out, &why))
    fail_msg("%s was accepted; expected: %s", ir_op[op].name, because);
  assert_string_equal(why.data, because);
  buf_free(&why);
}

static void ill_typed_nodes_are_refused(void **unused) {
  (void)unused;
  Graph *g = graph_new("g");
  Node *x = leaf(g, "x", T(DT_f32, 3, 4)), *y = leaf(g, "y", T(DT_f32, 4, 3)),
       *i = leaf(g, "i", T(DT_i32, 3, 4));
  Node *b = leaf(g, "b", T(DT_bool, 3, 4)), *v = leaf(g, "v", T(DT_f32, 4)),
       *s = leaf(g, "s", type_scalar(DT_f32));
  Node *big = leaf(g, "big", T(DT_f32, 65536, 1)), *wide = leaf(g, "wide", T(DT_f32, 1, 65536));
  Attr none = {0}, axis = {.n_int = 1, .ints = {2}}, value = {.value = 1.5},
       minus_zero = {.value = -0.0};
  Type scalar = type_scalar(DT_i32), huge = T(DT_f32, 65536, 65536), one = T(DT_f32, 3);
#define REFUSE(op, given, attr, because, ...)                                                      \
  refuse(OP_##op, given, attr, (int)(sizeof((Node *[]){__VA_ARGS__}) / sizeof(Node *)),            \
         (Node *[]){__VA_ARGS__}, because)
  REFUSE(add, NULL, &none, "expects 2 sources, found 1", x);
  REFUSE(add, NULL, &none, "the sources must have one type: found f32[3,4] and f32[4,3]", x, y);
  REFUSE(add, NULL, &none, "the sources must have one type: found f32[3,4] and i32[3,4]", x, i);
  REFUSE(add, NULL, &none, "needs numbers: found bool[3,4] and bool[3,4]", b, b);
  REFUSE(add, NULL, &value, "takes no value", x, x);
  REFUSE(add, NULL, &minus_zero, "takes no value", x, x);
  REFUSE(add, NULL, &axis, "expects 0 attribute numbers, found 1", x, x);
  REFUSE(exp, NULL, &none, "needs floating point: found i32[3,4]", i);
  REFUSE(not, NULL, &none, "needs bool: found f32[3,4]", x);
  REFUSE(isfinite, NULL, &none, "needs floating point: found i32[3,4]", i);
  REFUSE(where, NULL, &none, "the condition must be bool: found f32[3,4] and f32[3,4] and f32[3,4]",
         x, x, x);
  REFUSE(where, NULL, &none,
         "condition and choices must have one shape, the choices one type: found bool[3,4] and "
         "f32[3,4] and i32[3,4]",
         b, x, i);
  REFUSE(matmul, NULL, &none, "inner dimensions differ: found f32[3,4] and f32[3,4]", x, x);
  REFUSE(matmul, NULL, &none,
         "needs two matrices or batches of them, of one floating type and rank: found f32[3,4] and "
         "f32[4]",
         x, v);
  REFUSE(matmul, NULL, &none, "more than 2^31 elements", big, wide);
  REFUSE(reduce_sum, NULL, &none, "no axes", x);
  REFUSE(reduce_sum, NULL, &axis, "axes must ascend from 0 to 1: axis 2", x);
  REFUSE(reduce_sum, NULL, &((Attr){.n_int = 2, .ints = {1, 0}}),
         "axes must ascend from 0 to 1: axis 0", x);
  REFUSE(argmax, NULL, &axis, "axis 2 of rank 2", x);
  REFUSE(cumsum, NULL, &((Attr){.n_int = 2, .ints = {0, 2}}), "reverse must be 0 or 1", x);
  REFUSE(reshape, NULL, &none, "the result's type must be given", x);
  REFUSE(reshape, &huge, &none, "more than 2^31 elements", x);
  REFUSE(reshape, &one, &none, "the counts of elements differ: found f32[3,4], result f32[3]", x);
  REFUSE(expand, &one, &none, "only dimensions of 1 expand: found f32[4], result f32[3]", v);
  REFUSE(permute, NULL, &((Attr){.n_int = 2, .ints = {1, 1}}), "not a permutation of 0 … 1", x);
  REFUSE(slice, NULL, &((Attr){.n_int = 2, .ints = {2, 2}}), "2:2 of a dimension of 4", v);
  REFUSE(pad, NULL, &((Attr){.n_int = 4, .value = 0.5}), "the value 0.5 is no i32", i);
  REFUSE(concat, NULL, &axis, "axis 2 of rank 2", x, x);
  REFUSE(concat, NULL, &((Attr){.n_int = 1}), "one type and rank needed: found f32[3,4] and f32[4]",
         x, v);
  REFUSE(concat, NULL, &((Attr){.n_int = 1}),
         "shapes differ outside the axis: found f32[3,4] and f32[4,3]", x, y);
  REFUSE(gather, NULL, &none, "needs a table of rank ≥ 1 and i32 ids: found f32[] and i32[3,4]", s,
         i);
  REFUSE(scatter_add, &one, &none,
         "needs ids i32[i…], x[i…, r…], result [n, r…]: found i32[3,4] and f32[4], result f32[3]",
         i, v);
  REFUSE(random, &one, &((Attr){.n_int = 1}),
         "the source must be rng, i32[4]: found i32[3,4], result f32[3]", i);
  REFUSE(cast, &one, &none, "a cast keeps the shape: found f32[4], result f32[3]", v);
  refuse(OP_const, &scalar, &value, 0, NULL, "the value 1.5 is no i32");
  refuse(OP_const, &scalar, &((Attr){.value = NAN}), 0, NULL, "the value nan is no i32");
  refuse(OP_input, &scalar, &none, 0, NULL, "needs a name");
  refuse(OP_iota, &one, &axis, 0, NULL, "axis 2 of rank 1");
  refuse(OP_position, &one, &none, 0, NULL, "a position has type i32[t], result f32[3]");
  Type bad = {.dtype = DT_f32, .rank = IR_MAX_RANK + 1}, empty = T(DT_f32, 3, 0);
  refuse(OP_const, &bad, &none, 0, NULL, "a type of rank 9");
  refuse(OP_const, &empty, &none, 0, NULL, "a dimension of 0");
  Node *rng = leaf(g, "rng", T(DT_i32, 4));
  REFUSE(random, &one, &((Attr){.n_int = 1, .ints = {-1}}),
         "the place must be a 32-bit number, found -1", rng);
  graph_free(g);
}

/* ---- builders ---- */
static void builders_leave_out_what_does_nothing(void **unused) {
  (void)unused;
  Graph *g = graph_new("g");
  Node *x = leaf(g, "x", T(DT_f32, 3, 1, 4));
  int n = g->n_node;
  assert_ptr_equal(ir_cast(g, x, DT_f32), x);
  assert_ptr_equal(ir_reshape(g, x, 3, x->type.dim), x);
  assert_ptr_equal(ir_expand(g, x, 3, x->type.dim), x);
  assert_ptr_equal(ir_permute(g, x, (int[]){0, 1, 2}), x);
  assert_ptr_equal(ir_slice(g, x, (int64_t[]){0, 0, 0}, (int64_t[]){3, 1, 4}), x);
  assert_ptr_equal(ir_pad(g, x, (int64_t[3]){0}, (int64_t[3]){0}, 1), x);
  assert_ptr_equal(ir_reduce(g, OP_reduce_sum, x, 0, NULL), x);
  assert_ptr_equal(ir_concat(g, 0, 1, &x), x);
  assert_ptr_equal(ir_broadcast(g, x, 3, x->type.dim), x);
  assert_int_equal(g->n_node, n);
  Type squeezed = T(DT_f32, 3, 4), spread = T(DT_f32, 2, 3, 5, 4);
  assert_true(type_eq(&ir_squeeze(g, x, 1, (int[]){1})->type, &squeezed));
  assert_true(type_eq(&ir_broadcast(g, x, 4, spread.dim)->type, &spread));
  graph_free(g);
}

static void long_concats_become_trees(void **unused) {
  (void)unused;
  enum { N = 1000 };
  Graph *g = graph_new("g");
  Arena *arena = arena_new();
  Node *src[N];
  Type t = T(DT_i32, 1);
  for (int i = 0; i < N; i++) src[i] = ir_const(g, i, &t);
  Node *y = ir_concat(g, 0, N, src);
  Tensor out;
  Buf why = {0};
  assert_true(ir_eval(arena, g, EVAL_f64, NULL, 0, &y, 1, &out, &why));
  assert_int_equal(out.type.dim[0], N);
  for (int i = 0; i < N; i++) assert_true(out.data[i] == i);
  arena_free(arena);
  graph_free(g);
}

/* ---- the generator of cases that all tests lean on ---- */
static void generated_cases_are_sound(void **unused) {
  (void)unused;
  for (int op = 0; op < OP_COUNT; op++) {
    int n = gen_count((Op)op), n_smooth = 0;
    assert_true(n >= 5);
    for (int i = 0; i < n; i++) {
      GenFeed feed;
      Graph *g = gen_case((Op)op, i, &feed);
      Arena *arena = arena_new();
      Buf why = {0};
      Tensor y[2];
      for (int mode = EVAL_f32; mode <= EVAL_f64; mode++)
        if (!ir_eval(arena, g, (EvalMode)mode, feed.feed, feed.n, &g->output[0].node, 1, &y[mode],
                     &why))
          fail_msg("%s: %s", feed.title, why.data);
      bool is_float = dtype_is_float(y[0].type.dtype), exact = feed.flags & GEN_exact,
           smooth = feed.flags & GEN_smooth;
      n_smooth += smooth;
      for (int64_t k = 0; k < type_count(&y[0].type); k++) {
        double a = y[EVAL_f32].data[k], b = y[EVAL_f64].data[k];
        if (smooth && !(isfinite(a) && isfinite(b)))
          fail_msg("%s is smooth, but not finite", feed.title);
        if (exact && op != OP_cast && op != OP_iota && !(a == b || (isnan(a) && isnan(b))))
          fail_msg("%s is exact, but %.17g in f32 and %.17g in f64", feed.title, a, b);
        if (!is_float && a != b) fail_msg("%s: %g and %g", feed.title, a, b);
      }
      arena_free(arena);
      graph_free(g);
    }
    bool smooth = (ir_op[op].flags & IR_DIFF) && op != OP_stop_gradient && op != OP_cast;
    assert_true(smooth == (n_smooth > 0));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(types_print_and_compare),
    cmocka_unit_test(sixteen_bits_round_to_nearest_even),
    cmocka_unit_test(integers_wrap),
    cmocka_unit_test(equal_nodes_are_one),
    cmocka_unit_test(many_nodes_stay_distinct),
    cmocka_unit_test(a_copy_keeps_what_outputs_need),
    cmocka_unit_test(ill_typed_nodes_are_refused),
    cmocka_unit_test(builders_leave_out_what_does_nothing),
    cmocka_unit_test(long_concats_become_trees),
    cmocka_unit_test(generated_cases_are_sound),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
