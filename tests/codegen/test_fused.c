/* The instructions of fused kernels: products that are added become fma, memory is read and written
 * 16 bytes at a time, each operand once per element. Needs no device. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codegen/plan.h"

#define SHAPE(...)                                                                                 \
  type_of(DT_f32, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                       \
          (int64_t[]){__VA_ARGS__})

typedef struct Fused {
  Arena *arena;
  Graph *g;
  Target target;
  Node *out[CG_MAX_OUT];
  int n_out;
} Fused;

static Fused begin(void) {
  Fused f = {.arena = arena_new(), .g = graph_new("g"), .target = target_portable};
  f.target.subgroup_size = 8; /* as lavapipe */
  f.target.subgroup_shuffle = f.target.subgroup_arithmetic = f.target.is_cpu = true;
  return f;
}

static void end(Fused *f) {
  graph_free(f->g);
  arena_free(f->arena);
}

static Node *leaf(Fused *f, const char *name, Type t) {
  return ir_leaf(f->g, OP_param, intern(name), &t);
}

static Node *wide(Fused *f, Node *x, const Node *like) {
  return ir_broadcast(f->g, x, like->type.rank, like->type.dim);
}

static Node *number(Fused *f, double v, const Node *like) { return ir_const(f->g, v, &like->type); }

static Node *sum(Fused *f, Node *x) {
  return ir_reduce(f->g, OP_reduce_sum, x, 1, (int[]){x->type.rank - 1});
}

/* The disassembly of the kernel for the outs, leaves being its operands. */
static char *text_of(Fused *f, Node *anchor) {
  bool *stored = arena_alloc(f->arena, (size_t)f->g->n_node);
  KernelCode code;
  Buf text = {0}, why = {0};
  for (int i = 0; i < f->g->n_node; i++) stored[i] = f->g->node[i]->op == OP_param;
  for (int i = 0; i < f->n_out; i++) stored[f->out[i]->id] = true;
  KernelJob job = {.out = f->out, .n_out = f->n_out, .anchor = anchor, .stored = stored};
  cg_emit(f->arena, &job, &f->target, &code);
  if (!cg_validate(code.word, code.n_word, &why)) fail_msg("%s", why.data);
  cg_disassemble(code.word, code.n_word, &text);
  char *copy = arena_str(f->arena, text.data, text.len);
  buf_free(&text);
  return copy;
}

static int count(const char *text, const char *what) {
  int n = 0;
  for (const char *p = text; (p = strstr(p, what)); p++) n++;
  return n;
}

static void expect(const char *text, int fma, int load4, int load1, int store4, int store1) {
  assert_int_equal(count(text, " Fma "), fma);
  assert_int_equal(count(text, "Aligned 16\n") - store4, load4);
  assert_int_equal(count(text, "Aligned 4\n") - store1, load1);
  int stores = 0;
  for (const char *p = text; (p = strstr(p, "OpStore ")); p++) {
    const char *line_end = strchr(p, '\n');
    if (line_end - p > 11 && memcmp(line_end - 10, "Aligned 16", 10) == 0) stores++;
  }
  assert_int_equal(stores, store4);
}

/* gelu's inner polynomial on a biased row: x + b is asked often, b is read once for four columns */
static void a_chain_with_a_bias(void **state) {
  Fused f = begin();
  Graph *g = f.g;
  (void)state;
  Node *x = leaf(&f, "x", SHAPE(256, 768)), *b = wide(&f, leaf(&f, "b", SHAPE(768)), x);
  Node *gate = wide(&f, leaf(&f, "gate", SHAPE(768)), x);
  Node *y = ir_add(g, ir_mul(g, x, gate), b);
  f.out[f.n_out++] = ir_sub(g, y, ir_mul(g, ir_mul(g, y, y), number(&f, 0.044715, y)));
  expect(text_of(&f, NULL), 2 * 4, 3, 0, 1, 0);
  end(&f);
}

static void layer_norm(void **state) {
  Fused f = begin();
  Graph *g = f.g;
  (void)state;
  Node *x = leaf(&f, "x", SHAPE(64, 256)), *s = sum(&f, x);
  Node *m = ir_mul(g, s, number(&f, 1.0 / 256, s));
  Node *d = ir_sub(g, x, wide(&f, m, x)), *v = sum(&f, ir_mul(g, d, d));
  Node *rstd = ir_rsqrt(g, ir_add(g, ir_mul(g, v, number(&f, 1.0 / 256, v)), number(&f, 1e-5, v)));
  Node *y = ir_mul(g, ir_mul(g, d, wide(&f, rstd, d)), wide(&f, leaf(&f, "w", SHAPE(256)), d));
  y = ir_add(g, y, wide(&f, leaf(&f, "b", SHAPE(256)), y));
  f.out[f.n_out++] = m;
  f.out[f.n_out++] = rstd;
  f.out[f.n_out++] = y;
  /* 8 turns of 8 lanes: x stays in registers; per turn x, w and b are read and y is stored */
  expect(text_of(&f, v), 8 * 4 + 1, 8 * 3, 0, 8, 2);
  end(&f);
}

static void softmax_gradient(void **state) {
  Fused f = begin();
  Graph *g = f.g;
  (void)state;
  Node *y = leaf(&f, "y", SHAPE(64, 128)), *dy = leaf(&f, "dy", SHAPE(64, 128));
  Node *s = sum(&f, ir_mul(g, y, dy));
  f.out[f.n_out++] =
    ir_sub(g, ir_mul(g, y, dy), ir_mul(g, y, wide(&f, s, y))); /* y·dy is asked twice */
  expect(text_of(&f, s), 4 * 4, 4 * 2, 0, 4, 0);
  end(&f);
}

static void adamw(void **state) {
  Fused f = begin();
  Graph *g = f.g;
  (void)state;
  Type t = SHAPE(768, 768);
  Node *p = leaf(&f, "p", t), *grad = leaf(&f, "g", t), *m = leaf(&f, "m", t),
       *v = leaf(&f, "v", t);
  Node *rate = wide(&f, leaf(&f, "rate", SHAPE(1)), p);
  Node *m2 = ir_add(g, ir_mul(g, m, number(&f, 0.9, p)), ir_mul(g, grad, number(&f, 0.1, p)));
  Node *square = ir_mul(g, grad, grad);
  Node *v2 = ir_add(g, ir_mul(g, v, number(&f, 0.99, p)), ir_mul(g, square, number(&f, 0.01, p)));
  Node *step = ir_div(g, m2, ir_add(g, ir_sqrt(g, v2), number(&f, 1e-8, p)));
  f.out[f.n_out++] = m2;
  f.out[f.n_out++] = v2;
  f.out[f.n_out++] =
    ir_sub(g, p, ir_mul(g, rate, ir_add(g, step, ir_mul(g, p, number(&f, 0.1, p)))));
  expect(text_of(&f, NULL), 4 * 4, 4, 1, 3, 0);
  f.target.strict = true;
  const char *strict = text_of(&f, NULL);
  assert_int_equal(count(strict, " Fma "), 0);
  assert_true(count(strict, "NoContraction") > 0);
  end(&f);
}

/* Rounded to 16 bits between, whole numbers, a product with another use: no fma. */
static void not_where_the_product_counts(void **state) {
  Fused f = begin();
  Graph *g = f.g;
  (void)state;
  Node *x = leaf(&f, "x", SHAPE(64, 64)), *y = leaf(&f, "y", SHAPE(64, 64));
  Node *xy = ir_mul(g, x, y);
  f.out[f.n_out++] = ir_div(g, ir_add(g, xy, x), ir_exp(g, xy));
  Node *hx = ir_cast(g, x, DT_f16), *ix = ir_cast(g, x, DT_i32);
  Node *half = ir_cast(g, ir_add(g, ir_mul(g, hx, hx), hx), DT_f32);
  Node *whole = ir_cast(g, ir_add(g, ir_mul(g, ix, ix), ix), DT_f32);
  f.out[f.n_out++] = ir_max(g, half, whole);
  assert_int_equal(count(text_of(&f, NULL), " Fma "), 0);
  end(&f);
}

/* Rows of 16-bit values on a GPU: eight at once, each rounded by two multiply-adds, and one reciprocal of the row's sum for all. */
static void softmax_of_halves(void **state) {
  Fused f = begin();
  Graph *g = f.g;
  (void)state;
  f.target.subgroup_size = 32;
  f.target.is_cpu = false;
  f.target.storage16 = true;
  Type t = type_of(DT_bf16, 2, (int64_t[]){4096, 512});
  Node *x = ir_cast(g, leaf(&f, "x", t), DT_f32), *e = ir_exp(g, x);
  f.out[f.n_out++] = ir_cast(g, ir_div(g, e, wide(&f, sum(&f, e), e)), DT_bf16);
  const char *text = text_of(&f, f.out[0]->src[0]->src[1]->src[0]);
  int turns = 512 / (8 * 32);
  expect(text, 2 * 8 * turns, turns, 0, turns, 0);
  assert_int_equal(count(text, "Aligned"), 2 * turns);
  assert_int_equal(count(text, " Exp "), 8 * turns);
  assert_int_equal(count(text, "OpFDiv"), 1);
  end(&f);
}

/* x · gain · rate as a product's operand, for 4 terms: of 4 rows that a lane owns four of x each and, once for all rows, of the
 * gain, and twice four columns of the other operand for each term; the rows' rates are read ahead of the loop. */
static void prologue(void **state) {
  Fused f = begin();
  Graph *g = f.g;
  (void)state;
  Node *x = leaf(&f, "x", SHAPE(64, 256)), *w = leaf(&f, "w", SHAPE(256, 64));
  Node *y = ir_mul(g, x, wide(&f, leaf(&f, "gain", SHAPE(256)), x));
  y = ir_mul(g, y, wide(&f, leaf(&f, "rate", SHAPE(64, 1)), x));
  Node *product = f.out[f.n_out++] = ir_matmul(g, y, w);
  const char *text = text_of(&f, product);
  expect(text, 64 * 4, 4 + 1 + 2 * 4, 4, 64, 0);
  assert_int_equal(count(text, "= OpFMul "), 2 * 4 * 4);
  end(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_chain_with_a_bias),
    cmocka_unit_test(layer_norm),
    cmocka_unit_test(softmax_gradient),
    cmocka_unit_test(adamw),
    cmocka_unit_test(prologue),
    cmocka_unit_test(softmax_of_halves),
    cmocka_unit_test(not_where_the_product_counts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
