/* Many small kernels in one dispatch: what each computes is bit for bit what it computes in a
 * dispatch of its own, for tensors of all sizes, and the image has as few dispatches as it should. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "driver/compile.h"
#include "tests/driver/run_graph.h"

/* Element counts around every edge: of four, of a workgroup, of a turn of the sums' loop. */
static const int64_t size[] = {1,    2,    3,    4,    5,    7,    8,      255,    256,   257,
                               1000, 2047, 2048, 2049, 8191, 8192, 8193,   16384,  50001, 65536,
                               5,    8,    770,  768,  771,  12,   300000, 131071, 64,    63};
enum { SIZES = COUNT_OF(size), PARTS = 64 };

static RunDevice device;

static const char *name_of(const char *what, int i) {
  char name[32];
  snprintf(name, sizeof name, "%s.%d", what, i);
  return intern(name);
}

static Node *leaf(Graph *g, Op op, const char *what, int i) {
  Type t = type_of(DT_f32, 1, &size[i]);
  return ir_leaf(g, op, name_of(what, i), &t);
}

/* Σ x² in 64 parts of equally many elements, the last ones short or empty. */
static Node *squares(Graph *g, Node *x) {
  int64_t n = type_count(&x->type), length = ((n + PARTS - 1) / PARTS + 3) / 4 * 4;
  x = ir_mul(g, x, x);
  if (n < PARTS * length) x = ir_pad(g, x, (int64_t[]){0}, (int64_t[]){PARTS * length - n}, 0);
  x = ir_reshape(g, x, 2, (int64_t[]){PARTS, length});
  return ir_reduce(g, OP_reduce_sum, x, 1, (int[]){1});
}

/* p ← p − rate · (0.9 m + 0.1 x) / (|p| + 1) */
static void add_update(Graph *g, int i) {
  Type scalar = type_scalar(DT_f32);
  Node *p = leaf(g, OP_param, "p", i), *m = leaf(g, OP_state, "m", i);
  Node *x = leaf(g, OP_input, "x", i), *rate = ir_leaf(g, OP_input, "rate", &scalar);
  Node *kept = ir_mul(g, m, ir_const(g, 0.9, &m->type));
  Node *fresh = ir_add(g, kept, ir_mul(g, x, ir_const(g, 0.1, &x->type)));
  Node *by = ir_div(g, fresh, ir_add(g, ir_abs(g, p), ir_const(g, 1, &p->type)));
  Node *step = ir_mul(g, ir_broadcast(g, rate, 1, &size[i]), by);
  ir_output(g, OUT_update, p->name, ir_sub(g, p, step));
}

static void add_squares(Graph *g, int i) {
  ir_output(g, OUT_value, name_of("s", i), squares(g, leaf(g, OP_input, "x", i)));
}

/* Each tensor has a call of random of its own, whose place travels in its slot. */
static void add_noise(Graph *g, int i) {
  Type i4 = type_of(DT_i32, 1, (int64_t[]){4}), t = type_of(DT_f32, 1, &size[i]);
  Node *r = ir_random(g, ir_leaf(g, OP_input, "rng", &i4), 100 + i, &t);
  ir_output(g, OUT_value, name_of("r", i), ir_exp(g, ir_sub(g, r, leaf(g, OP_input, "x", i))));
}

typedef void Add(Graph *, int tensor);

/* Values that no two tensors share, in f32. */
static int feeds(Arena *a, const Graph *g, Feed *feed) {
  int n = 0;
  for (int i = 0; i < g->n_node; i++) {
    const Node *l = g->node[i];
    if (l->op != OP_param && l->op != OP_state && l->op != OP_input) continue;
    int64_t count = type_count(&l->type);
    double *data = arena_alloc(a, sizeof *data * (size_t)count);
    uint64_t seed = hash_bytes(l->name, strlen(l->name), 1);
    for (int64_t k = 0; k < count; k++) {
      uint64_t bits = hash_bytes(&k, sizeof k, seed);
      data[k] =
        l->type.dtype == DT_i32 ? (double)(bits & 0xff) : (double)(float)(bits >> 40) / 1e6 - 8;
    }
    feed[n++] = (Feed){l->op, l->name, data};
  }
  return n;
}

static Tensor *run(Arena *a, Graph *g) {
  Buf why = {0};
  Feed *feed = arena_alloc(a, sizeof *feed * (size_t)g->n_node);
  int n = feeds(a, g, feed);
  Tensor *value = arena_alloc(a, sizeof *value * (size_t)g->n_output);
  if (!run_graph(&device, a, g, feed, n, 2, value, &why)) fail_msg("%s", why.data);
  return value;
}

static uint32_t dispatches(const Graph *g) {
  Buf why = {0};
  Compiler *c = compile_new(&(CompileOptions){.target = &device.target});
  if (!compile_program(c, g, &why)) fail_msg("%s", why.data);
  const Image *m = compile_image(c, g->name, "{}");
  uint32_t n = m->program[0].n_dispatch;
  for (uint32_t i = 0; i < n; i++) /* the label tells how many instances there are */
    if (m->program[0].dispatch[i].slot[0].kind == IMG_ARGUMENTS)
      assert_non_null(strstr(m->program[0].dispatch[i].label, " ×"));
  compile_free(c);
  return n;
}

/* Tensors of one element have a kernel of their own: what lies at their place and what is the same
 * for all places are one thing there. */
enum { KERNELS = 2 };

static void compare(Add *add, uint32_t kernels) {
  Arena *a = arena_new();
  Graph *all = graph_new("all");
  for (int i = 0; i < SIZES; i++) add(all, i);
  uint32_t n = dispatches(all);
  if (n > kernels) fail_msg("%u dispatches, expected at most %u", n, kernels);
  Tensor *together = run(a, all);
  for (int i = 0, at = 0; i < SIZES; i++) {
    Graph *one = graph_new("one");
    add(one, i);
    Tensor *apart = run(a, one);
    for (int o = 0; o < one->n_output; o++, at++) {
      assert_string_equal(one->output[o].name, all->output[at].name);
      assert_true(type_eq(&apart[o].type, &together[at].type));
      size_t bytes = sizeof(double) * (size_t)type_count(&apart[o].type);
      if (memcmp(apart[o].data, together[at].data, bytes) != 0)
        fail_msg("%s of %lld elements differs", one->output[o].name, (long long)size[i]);
    }
    graph_free(one);
  }
  graph_free(all);
  arena_free(a);
}

static void updates(void **state) {
  (void)state;
  compare(add_update, KERNELS);
}
static void sums(void **state) {
  (void)state;
  /* a GPU's subgroups sum short rows, its workgroups long ones */
  bool two = !device.target.is_cpu && device.target.subgroup_shuffle;
  compare(add_squares, KERNELS + two);
}
static void noise(void **state) {
  (void)state;
  compare(add_noise, KERNELS);
}

/* The sums of squares against the evaluator in f64: 1e-6 of each, in any number of elements. */
static void sums_are_right(void **state) {
  (void)state;
  Arena *a = arena_new();
  Graph *g = graph_new("sums");
  for (int i = 0; i < SIZES; i++) add_squares(g, i);
  Buf why = {0};
  Feed *feed = arena_alloc(a, sizeof *feed * (size_t)g->n_node);
  int n = feeds(a, g, feed);
  Tensor *want = arena_alloc(a, sizeof *want * SIZES), *got = run(a, g);
  assert_true(run_reference(a, g, EVAL_f64, feed, n, 1, want, &why));
  for (int i = 0; i < SIZES; i++)
    for (int k = 0; k < PARTS; k++) {
      double error = got[i].data[k] - want[i].data[k];
      if (error > 1e-6 * want[i].data[k] || -error > 1e-6 * want[i].data[k])
        fail_msg("part %d of %lld elements: %.9g, expected %.9g", k, (long long)size[i],
                 got[i].data[k], want[i].data[k]);
    }
  graph_free(g);
  arena_free(a);
}

int main(void) {
  Buf why = {0};
  if (!run_open(&device, &why)) {
    printf("skipped: no Vulkan device (%s)\n", why.data);
    return 0;
  }
  const struct CMUnitTest tests[] = {cmocka_unit_test(updates), cmocka_unit_test(sums),
                                     cmocka_unit_test(noise), cmocka_unit_test(sums_are_right)};
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  device.target = target_portable;
  failed += cmocka_run_group_tests(tests, NULL, NULL);
  run_close(&device);
  return failed;
}
