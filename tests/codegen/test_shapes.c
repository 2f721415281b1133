/* Shapes that generated cases are too small for: edges of matrix tiles, long sums and loops
 * (Mesa 22.3 ends an invocation's loops at 65,535 iterations in all), dispatches past 65,535
 * workgroups, tables larger than their ids. Inputs are whole numbers wherever the result is then
 * exact in f32, so that one wrong element of millions shows. */
#include "tests/codegen/check.h"
#include "tests/codegen/leaves.h"

#include <string.h>

typedef struct Shapes {
  Bench *bench;
  const Target *target;
  Graph *g;
  Feed feed[8];
  int n_feed;
  Arena *arena;
} Shapes;

static void begin(Shapes *s) {
  s->g = graph_new("shapes");
  s->arena = arena_new();
  s->n_feed = 0;
}

/* An input of whole numbers lo … hi, scaled. */
static Node *input(Shapes *s, DType d, int rank, const int64_t *dim, int lo, int hi, double scale) {
  char name[16];
  snprintf(name, sizeof name, "x%d", s->n_feed);
  Type t = type_of(d, rank, dim);
  int64_t n = type_count(&t);
  double *data = arena_alloc(s->arena, sizeof *data * (size_t)n);
  for (int64_t i = 0; i < n; i++)
    data[i] =
      (double)(lo + (int)(noise((uint32_t)i * 8 + (uint32_t)s->n_feed) % (uint32_t)(hi - lo + 1))) *
      scale;
  s->feed[s->n_feed++] = (Feed){OP_input, intern(name), data};
  return ir_leaf(s->g, OP_input, intern(name), &t);
}

static void end(Shapes *s, Node *y, const char *title, unsigned flags) {
  ir_output(s->g, OUT_value, "y", y);
  check_graph(s->bench, s->target, s->g, s->feed, s->n_feed, title, flags);
  graph_free(s->g);
  arena_free(s->arena);
}

#define DIM(...)                                                                                   \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }

/* ---- matrix products ---- */

static void product(Shapes *s, int64_t m, int64_t n, int64_t k, int turned, bool whole) {
  begin(s);
  int lo = whole ? -3 : -1000, hi = whole ? 3 : 1000;
  double scale = whole ? 1 : 1.0 / 999;
  Node *a = turned & 1 ? input(s, DT_f32, DIM(k, m), lo, hi, scale)
                       : input(s, DT_f32, DIM(m, k), lo, hi, scale);
  Node *b = turned & 2 ? input(s, DT_f32, DIM(n, k), lo, hi, scale)
                       : input(s, DT_f32, DIM(k, n), lo, hi, scale);
  if (turned & 1) a = ir_permute(s->g, a, (int[]){1, 0});
  if (turned & 2) b = ir_permute(s->g, b, (int[]){1, 0});
  char title[64];
  snprintf(title, sizeof title, "product %lldx%lldx%lld turned %d", (long long)m, (long long)n,
           (long long)k, turned);
  end(s, ir_matmul(s->g, a, b), title, whole ? CHECK_exact : 0);
}

static void products(Shapes *s) {
  static const int64_t size[][3] = {{32, 32, 32}, {31, 33, 5},  {33, 31, 6},   {64, 16, 8},
                                    {7, 20, 4},   {8, 17, 3},   {100, 36, 44}, {1, 64, 64},
                                    {64, 1, 64},  {2, 130, 12}, {40, 48, 1},   {12, 100, 7},
                                    {24, 40, 20}, {5, 5, 700},  {65, 129, 66}, {300, 4, 9}};
  for (int i = 0; i < COUNT_OF(size); i++)
    for (int turned = 0; turned < 4; turned++)
      product(s, size[i][0], size[i][1], size[i][2], turned, true);
  product(s, 40, 33, 5000, 0, false); /* accumulators per block */
  product(s, 32, 32, 9001, 3, false);
  product(s, 3, 5, 200000, 0, false); /* few outputs: a reduction */
  product(s, 3, 5, 70000, 2, true);
  product(s, 64, 64, 140000, 1, false);
  product(s, 40, 36, 300000, 0, false); /* loops past 65,535, were they tiles */
}

/* q·kᵀ and p·v of attention as the language writes it: heads split from a wide row, keys shared
 * between heads. */
static void heads(Shapes *s, int64_t t, int64_t h, int64_t c) {
  begin(s);
  Node *x = input(s, DT_f32, DIM(2, t, 3 * h * c), -3, 3, 1);
  Node *part[3];
  for (int i = 0; i < 3; i++) {
    Node *p = ir_slice(s->g, x, (int64_t[]){0, 0, i * h * c}, (int64_t[]){2, t, (i + 1) * h * c});
    p = ir_reshape(s->g, p, DIM(2, t, h, c));
    part[i] = ir_permute(s->g, p, (int[]){0, 2, 1, 3});
  }
  Node *scores = ir_matmul(s->g, part[0], ir_permute(s->g, part[1], (int[]){0, 1, 3, 2}));
  Node *shared =
    ir_expand(s->g, ir_slice(s->g, part[2], (int64_t[]){0, 0, 0, 0}, (int64_t[]){2, 1, t, c}),
              DIM(2, h, t, c));
  Node *small =
    ir_mod(s->g, scores,
           ir_expand(s->g, ir_const(s->g, 3, &(Type){DT_f32, 4, {1, 1, 1, 1}}), DIM(2, h, t, t)));
  end(s, ir_matmul(s->g, small, shared), "heads", CHECK_exact);
}

/* Rows that divide by four in batches that do not, and a first element that does not: no aligned
 * loads there. */
static void crooked(Shapes *s, int64_t from, int64_t pitch) {
  begin(s);
  Node *x[2];
  for (int i = 0; i < 2; i++) {
    x[i] = input(s, DT_f32, DIM(3, pitch), -3, 3, 1);
    x[i] = ir_slice(s->g, x[i], (int64_t[]){0, from}, (int64_t[]){3, from + 640});
  }
  Node *a = ir_reshape(s->g, x[0], DIM(3, 40, 16)), *b = ir_reshape(s->g, x[1], DIM(3, 16, 40));
  end(s, ir_matmul(s->g, a, b), "crooked", CHECK_exact);
  begin(s);
  for (int i = 0; i < 2; i++) {
    x[i] = input(s, DT_f32, DIM(3, pitch), -3, 3, 1);
    x[i] = ir_slice(s->g, x[i], (int64_t[]){0, from}, (int64_t[]){3, from + 640});
  }
  a = ir_permute(s->g, ir_reshape(s->g, x[0], DIM(3, 16, 40)), (int[]){0, 2, 1});
  b = ir_permute(s->g, ir_reshape(s->g, x[1], DIM(3, 40, 16)), (int[]){0, 2, 1});
  end(s, ir_matmul(s->g, a, b), "crooked, turned", CHECK_exact);
}

static void many_products(Shapes *s) {
  begin(s);
  Node *a = input(s, DT_f32, DIM(70000, 2, 3), -3, 3, 1);
  Node *b = input(s, DT_f32, DIM(70000, 3, 2), -3, 3, 1);
  end(s, ir_matmul(s->g, a, b), "70,000 products", CHECK_exact);
}

/* ---- reductions, scans ---- */

static void reduction(Shapes *s, Op op, int rank, const int64_t *dim, int n_axis, const int *axis,
                      bool whole) {
  begin(s);
  Node *x =
    whole ? input(s, DT_f32, rank, dim, -3, 3, 1) : input(s, DT_f32, rank, dim, 1, 1000, 1e-3);
  Node *y = op == OP_argmax ? ir_argmax(s->g, x, axis[0]) : ir_reduce(s->g, op, x, n_axis, axis);
  end(s, y, ir_op[op].name, whole ? CHECK_exact : 0);
}

static void reductions(Shapes *s) {
  static const int zero[] = {0}, one[] = {1}, both[] = {0, 1}, outer[] = {0, 2}, inner[] = {1, 2};
  static const Op op[] = {OP_reduce_sum, OP_reduce_max, OP_argmax};
  for (int i = 0; i < COUNT_OF(op); i++) {
    reduction(s, op[i], DIM(19, 1000), 1, one, true);
    reduction(s, op[i], DIM(3, 4099), 1, one, true);
    reduction(s, op[i], DIM(1500, 40), 1, zero, true);
    reduction(s, op[i], DIM(1501, 3), 1, zero, true);
    reduction(s, op[i], DIM(100, 2400), 1, zero, true);
    reduction(s, op[i], DIM(1, 300000), 1, one, true);
    reduction(s, op[i], DIM(9, 33, 130), 1, one, true);
  }
  for (int i = 0; i < 2; i++) {
    reduction(s, op[i], DIM(700, 1201), 2, both, true);
    reduction(s, op[i], DIM(17, 30, 44), 2, outer, true);
    reduction(s, op[i], DIM(17, 30, 44), 2, inner, true);
  }
  reduction(s, OP_reduce_sum, DIM(4200001, 2), 1, one,
            true); /* more workgroups than one dimension has */
  reduction(s, OP_reduce_sum, DIM(24000000), 1, zero, true); /* loops that would be past 65,535 */
  reduction(s, OP_reduce_max, DIM(17000001), 1, zero, true);
  reduction(s, OP_reduce_sum, DIM(3, 1000000), 1, one, false);
  reduction(s, OP_reduce_sum, DIM(1000000, 3), 1, zero, false);
  reduction(s, OP_reduce_sum, DIM(2000, 2048), 1, zero, false);
}

static void scans(Shapes *s) {
  for (int reverse = 0; reverse < 2; reverse++) {
    begin(s);
    Node *x = input(s, DT_f32, DIM(140003), 1, 1000, 1e-3);
    end(s, ir_cumsum(s->g, x, 0, reverse), "a long scan", 0);
    begin(s);
    x = input(s, DT_f32, DIM(5, 300, 7), -3, 3, 1);
    end(s, ir_cumsum(s->g, x, 1, reverse), "scan", CHECK_exact);
  }
}

/* ---- tables ---- */

static void scatters(Shapes *s, int64_t rows, int64_t ids, int64_t columns) {
  begin(s);
  Node *id = input(s, DT_i32, DIM(ids), -1, (int)rows, 1); /* −1 and `rows` lie outside */
  Node *x = input(s, DT_f32, DIM(ids, columns), -3, 3, 1);
  end(s, ir_scatter_add(s->g, id, x, rows), "scatter_add", CHECK_exact);
}

static void rows_by_id(Shapes *s) {
  begin(s);
  Node *table = input(s, DT_f32, DIM(1003, 24), -100, 100, 1);
  Node *id = input(s, DT_i32, DIM(37, 5), 0, 1002, 1);
  end(s, ir_gather(s->g, table, id), "gather", CHECK_exact);
  scatters(s, 1003, 185, 24);
  scatters(s, 70001, 20, 16);
  scatters(s, 50, 5, 16);
  scatters(s, 10, 300, 3);
  scatters(s, 40, 333, 66);
  scatters(s, 3, 140000, 16);
  scatters(s, 5, 140000, 80);
}

/* ---- elementwise ---- */

static void maps(Shapes *s) {
  begin(s);
  Node *x = input(s, DT_f32, DIM(300, 1204), -9, 9, 1);
  end(s, ir_add(s->g, x, x), "flat", CHECK_exact);
  begin(s);
  x = input(s, DT_f32, DIM(301, 1203), -9, 9, 1);
  end(s, ir_add(s->g, ir_neg(s->g, x), x), "flat, odd", CHECK_exact);
  begin(s); /* bias, then heads apart, then a causal band */
  x = input(s, DT_f32, DIM(2, 33, 64), -9, 9, 1);
  Node *bias = ir_broadcast(s->g, input(s, DT_f32, DIM(64), -9, 9, 1), DIM(2, 33, 64));
  Node *y = ir_permute(s->g, ir_reshape(s->g, ir_add(s->g, x, bias), DIM(2, 33, 4, 16)),
                       (int[]){0, 2, 1, 3});
  Type t = type_of(DT_i32, DIM(2, 4, 33, 16));
  Node *c = ir_ge(s->g, ir_iota(s->g, 2, &t), ir_iota(s->g, 3, &t));
  Type f = type_of(DT_f32, DIM(2, 4, 33, 16));
  end(s, ir_where(s->g, c, y, ir_const(s->g, -7, &f)), "heads of a biased row", CHECK_exact);
  begin(s); /* the gradient of slices: pads added up, and back together */
  x = input(s, DT_f32, DIM(6, 40), -9, 9, 1);
  Node *left = ir_slice(s->g, x, (int64_t[]){0, 0}, (int64_t[]){6, 16});
  Node *right = ir_slice(s->g, x, (int64_t[]){0, 16}, (int64_t[]){6, 40});
  Node *sum = ir_add(s->g, ir_pad(s->g, left, (int64_t[]){0, 0}, (int64_t[]){0, 24}, 0),
                     ir_pad(s->g, right, (int64_t[]){0, 16}, (int64_t[]){0, 0}, 0));
  end(s, ir_concat(s->g, 1, 3, (Node *[]){sum, right, ir_neg(s->g, left)}), "pads and concat",
      CHECK_exact);
}

int main(void) {
  Bench b;
  Buf why = {0};
  if (!bench_open(&b, &why)) {
    printf("skipped: no Vulkan device: %s\n", why.data);
    return 0;
  }
  Target as_gpu = b.native;
  as_gpu.name = "as a GPU"; /* reductions differ there */
  as_gpu.is_cpu = false;
  const Target *target[] = {&target_portable, &b.native, &as_gpu};
  for (int t = 0; t < COUNT_OF(target); t++) {
    Shapes s = {.bench = &b, .target = target[t]};
    reductions(&s);
    if (target[t] == &as_gpu) continue;
    products(&s);
    heads(&s, 20, 4, 8);
    heads(&s, 37, 3, 5);
    crooked(&s, 0, 641);
    crooked(&s, 1, 644);
    many_products(&s);
    scans(&s);
    rows_by_id(&s);
    maps(&s);
  }
  printf("%d kernels, %d wrong\n", b.kernels, b.wrong);
  bench_close(&b);
  return b.wrong != 0;
}
