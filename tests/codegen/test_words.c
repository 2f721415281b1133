/* What needs no device: equal kernels have equal words, views cost nothing, strides of view chains,
 * every module is valid. */
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
#define DIM(...)                                                                                   \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }

static Node *leaf(Graph *g, const char *name, Type t) {
  return ir_leaf(g, OP_param, intern(name), &t);
}

/* The kernel for y with leaves stored; valid. */
static KernelCode emit(Arena *a, Node *y) {
  bool *stored = arena_alloc(a, (size_t)y->id + 1);
  KernelCode code;
  Buf why = {0};
  for (int i = 0; i <= y->id; i++) stored[i] = false;
  Node *stack[64] = {y};
  for (int n = 1; n > 0;) {
    Node *x = stack[--n];
    stored[x->id] = x->op == OP_param || x->op == OP_input;
    for (int i = 0; i < x->n_src; i++) stack[n++] = x->src[i];
  }
  stored[y->id] = true;
  cg_emit(a, &(KernelJob){.out = &y, .n_out = 1, .stored = stored}, &target_portable, &code);
  if (!cg_validate(code.word, code.n_word, &why)) fail_msg("%s", why.data);
  return code;
}

static bool same(const KernelCode *x, const KernelCode *y) {
  return x->n_word == y->n_word && memcmp(x->word, y->word, 4 * (size_t)x->n_word) == 0;
}

static Node *update(Graph *g, const char *p, const char *m, Type t) {
  Node *rate = ir_broadcast(g, leaf(g, "rate", SHAPE(1)), t.rank, t.dim);
  return ir_sub(g, leaf(g, p, t), ir_mul(g, rate, leaf(g, m, t)));
}

static void parameters_of_any_size_share_a_kernel(void **state) {
  Arena *a = arena_new();
  Graph *g = graph_new("g");
  (void)state;
  KernelCode x = emit(a, update(g, "p", "m", SHAPE(12, 128)));
  KernelCode y = emit(a, update(g, "q", "n", SHAPE(50257, 768)));
  KernelCode z = emit(a, update(g, "r", "o", SHAPE(300, 4, 3)));
  assert_true(same(&x, &y));
  assert_true(same(&x, &z));
  assert_string_not_equal(x.name, y.name);
  KernelCode odd = emit(a, update(g, "s", "t", SHAPE(7, 3)));
  assert_false(same(&x, &odd)); /* no vec4 there */
  graph_free(g);
  arena_free(a);
}

static void places_of_random_calls_are_no_constants(void **state) {
  Arena *a = arena_new();
  Graph *g = graph_new("g");
  (void)state;
  Type i4 = type_of(DT_i32, DIM(4)), t = SHAPE(64, 64);
  Node *rng = ir_leaf(g, OP_input, intern("rng"), &i4);
  KernelCode x = emit(a, ir_random(g, rng, 1, &t)), y = emit(a, ir_random(g, rng, 77, &t));
  assert_true(same(&x, &y));
  int differ = 0;
  for (int i = 0; i < x.n_slot; i++)
    differ += x.slot[i].kind == SLOT_raw && x.slot[i].raw != y.slot[i].raw;
  assert_int_equal(differ, 1);
  graph_free(g);
  arena_free(a);
}

static int count(const KernelCode *code, const char *op) {
  Buf text = {0};
  int n = 0;
  cg_disassemble(code->word, code->n_word, &text);
  for (const char *p = text.data; (p = strstr(p, op)); p++) n++;
  buf_free(&text);
  return n;
}

static void matrices_of_any_size_share_a_kernel(void **state) {
  Arena *a = arena_new();
  Graph *g = graph_new("g");
  (void)state;
  KernelCode x = emit(a, ir_matmul(g, leaf(g, "a", SHAPE(128, 64)), leaf(g, "b", SHAPE(64, 256))));
  KernelCode y = emit(a, ir_matmul(g, leaf(g, "c", SHAPE(512, 96)), leaf(g, "d", SHAPE(96, 1024))));
  assert_true(same(&x, &y));
  graph_free(g);
  arena_free(a);
}

/* Splitting and putting together again gives the linear index back, without divisions but those for
 * the subgroup. */
static void views_that_cancel_cost_nothing(void **state) {
  Arena *a = arena_new();
  Graph *g = graph_new("g");
  (void)state;
  Node *x = leaf(g, "x", SHAPE(6, 20, 48));
  KernelCode plain = emit(a, ir_neg(g, x));
  Node *y = ir_permute(g, ir_reshape(g, x, DIM(6, 20, 4, 12)), (int[]){0, 2, 1, 3});
  y = ir_reshape(g, ir_permute(g, ir_neg(g, y), (int[]){0, 2, 1, 3}), DIM(120, 48));
  KernelCode there_and_back =
    emit(a, ir_permute(g, ir_permute(g, y, (int[]){1, 0}), (int[]){1, 0}));
  assert_int_equal(count(&there_and_back, "OpUDiv"), count(&plain, "OpUDiv"));
  assert_int_equal(count(&there_and_back, "OpUMod"), count(&plain, "OpUMod"));
  assert_int_equal(there_and_back.n_word, plain.n_word);
  /* a broadcast row costs one remainder for four elements, loaded at once */
  KernelCode row = emit(a, ir_add(g, x, ir_broadcast(g, leaf(g, "b", SHAPE(48)), DIM(6, 20, 48))));
  assert_int_equal(count(&row, "OpUMod"), count(&plain, "OpUMod") + 1);
  assert_int_equal(count(&row, "OpLoad %v4float"), 2);
  graph_free(g);
  arena_free(a);
}

static void check_strided(Node *n, bool ok, int64_t offset, int rank, const int64_t *stride) {
  Strided s;
  bool *stored = xcalloc((size_t)n->id + 1, 1);
  Node *base = n;
  while (base->n_src) base = base->src[0];
  stored[base->id] = true;
  assert_int_equal(cg_strided(n, stored, &s), ok);
  free(stored);
  if (!ok) return;
  assert_ptr_equal(s.base, base);
  assert_int_equal(s.offset, offset);
  for (int i = 0; i < rank; i++)
    if (n->type.dim[i] > 1) assert_int_equal(s.stride[i], stride[i]);
}

static void strides_of_views(void **state) {
  Graph *g = graph_new("g");
  (void)state;
  Node *x = leaf(g, "x", SHAPE(2, 6, 12));
  check_strided(x, true, 0, DIM(72, 12, 1));
  check_strided(ir_permute(g, x, (int[]){2, 0, 1}), true, 0, DIM(1, 72, 12));
  Node *part = ir_slice(g, x, (int64_t[]){1, 2, 4}, (int64_t[]){2, 6, 8});
  check_strided(part, true, 72 + 24 + 4, DIM(72, 12, 1));
  check_strided(ir_reshape(g, part, DIM(4, 2, 2)), true, 100, DIM(12, 2, 1));
  check_strided(ir_reshape(g, part, DIM(16)), false, 0, 0, NULL);
  check_strided(ir_reshape(g, ir_permute(g, x, (int[]){1, 0, 2}), DIM(6, 24)), false, 0, 0, NULL);
  Node *heads = ir_permute(g, ir_reshape(g, x, DIM(2, 6, 3, 4)), (int[]){0, 2, 1, 3});
  check_strided(heads, true, 0, DIM(72, 4, 12, 1));
  Node *wide =
    ir_expand(g, ir_slice(g, x, (int64_t[]){0, 0, 0}, (int64_t[]){2, 1, 12}), DIM(2, 6, 12));
  check_strided(wide, true, 0, DIM(72, 0, 1));
  check_strided(ir_reshape(g, wide, DIM(2, 2, 3, 12)), true, 0, DIM(72, 0, 0, 1));
  check_strided(ir_reshape(g, wide, DIM(12, 12)), false, 0, 0, NULL);
  check_strided(ir_neg(g, x), false, 0, 0, NULL);
  /* widenings are read through, whichever side of a view they are on; no other cast is */
  Type half = SHAPE(2, 6, 12);
  half.dtype = DT_bf16;
  Node *h = ir_leaf(g, OP_input, "h", &half), *f = ir_cast(g, h, DT_f32);
  check_strided(f, true, 0, DIM(72, 12, 1));
  check_strided(ir_permute(g, f, (int[]){2, 0, 1}), true, 0, DIM(1, 72, 12));
  Node *turned = ir_cast(g, ir_permute(g, h, (int[]){2, 0, 1}), DT_f32);
  check_strided(ir_reshape(g, turned, DIM(3, 4, 2, 6)), true, 0, DIM(4, 1, 72, 12));
  check_strided(ir_cast(g, x, DT_bf16), false, 0, 0, NULL);
  check_strided(ir_cast(g, h, DT_f16), false, 0, 0, NULL);
  graph_free(g);
}

static void operands_are_counted_once(void **state) {
  Graph *g = graph_new("g");
  (void)state;
  Node *x = leaf(g, "x", SHAPE(4)), *y = leaf(g, "y", SHAPE(4)), *found[1];
  Node *z = ir_add(g, ir_mul(g, x, y), ir_exp(g, x));
  bool stored[16] = {false};
  stored[x->id] = stored[y->id] = stored[z->id] = true;
  KernelJob job = {.out = &z, .n_out = 1, .stored = stored};
  assert_int_equal(cg_operands(&job, found, 1), 2);
  assert_ptr_equal(found[0], x);
  job.copy = true;
  assert_int_equal(cg_operands(&job, found, 1), 1);
  assert_ptr_equal(found[0], z);
  graph_free(g);
}

static void broken_words_are_refused(void **state) {
  Arena *a = arena_new();
  Graph *g = graph_new("g");
  Buf why = {0};
  (void)state;
  KernelCode x = emit(a, ir_neg(g, leaf(g, "x", SHAPE(8))));
  for (int i = x.n_word - 1; i > 0; i--)
    if ((x.word[i] & 0xffff) == 127 && x.word[i] >> 16 == 4) { /* OpFNegate, of one operand */
      x.word[i + 3] = 1;                                       /* which is no value */
      break;
    }
  assert_false(cg_validate(x.word, x.n_word, &why));
  assert_true(why.len > 0);
  buf_free(&why);
  graph_free(g);
  arena_free(a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(parameters_of_any_size_share_a_kernel),
    cmocka_unit_test(places_of_random_calls_are_no_constants),
    cmocka_unit_test(matrices_of_any_size_share_a_kernel),
    cmocka_unit_test(views_that_cancel_cost_nothing),
    cmocka_unit_test(strides_of_views),
    cmocka_unit_test(operands_are_counted_once),
    cmocka_unit_test(broken_words_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
