/* Kernels with several results: rows with reductions in levels, sums of columns, maps; as the planner
 * would cut them out of norms, softmax, losses and their gradients, from one column to a vocabulary,
 * results over operands where that is allowed. test_rows [TITLE …]: only those */
#include "tests/codegen/check.h"
#include "tests/codegen/leaves.h"

#include <math.h>
#include <string.h>

enum { MAX_FEED = 10 };

typedef struct Rows {
  Bench *bench;
  const Target *target;
  Graph *g;
  Arena *arena;
  int64_t rows, columns;
  Feed feed[MAX_FEED];
  int n_feed;
  Node *out[CG_MAX_OUT], *over[CG_MAX_OUT], *anchor;
  int n_out;
  bool special; /* some rows have NaN or infinities */
} Rows;

#define SHAPE(...)                                                                                 \
  type_of(DT_f32, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),                       \
          (int64_t[]){__VA_ARGS__})

/* ---- graphs ---- */

static Node *leaf(Rows *s, Type t, double lo, double hi) {
  return uniform_leaf(s->g, s->arena, s->feed, &s->n_feed, t, lo, hi);
}

static Node *matrix(Rows *s) { return leaf(s, SHAPE(s->rows, s->columns), -3, 3); }

/* The first matrix: with `special`, its first rows have NaN, +∞, −∞ throughout, and both. */
static Node *logits(Rows *s) {
  Node *x = matrix(s);
  double *data = (double *)s->feed[s->n_feed - 1].data;
  int64_t c = s->columns;
  if (!s->special || s->rows < 5) return x;
  data[c / 2] = NAN;
  data[c + c / 3] = INFINITY;
  for (int64_t i = 0; i < c; i++) data[2 * c + i] = -INFINITY;
  data[3 * c] = -INFINITY;
  data[4 * c - 1] = INFINITY;
  return x;
}

static Node *wide(Rows *s, Node *x, Node *like) {
  return ir_broadcast(s->g, x, like->type.rank, like->type.dim);
}

static Node *number(Rows *s, double v, Node *like) {
  Type t = like->type;
  t.dtype = DT_f32;
  return ir_const(s->g, v, &t);
}

static Node *along(Rows *s, Op op, Node *x) {
  return ir_reduce(s->g, op, x, 1, (int[]){x->type.rank - 1});
}

/* As the simplifier leaves it: nothing is multiplied by 1. */
static Node *mean(Rows *s, Node *x) {
  Node *sum = along(s, OP_reduce_sum, x);
  return s->columns == 1 ? sum : ir_mul(s->g, sum, number(s, 1.0 / (double)s->columns, sum));
}

static void out(Rows *s, Node *n, Node *over) {
  int i = s->n_out++;
  for (; i > 0 && s->out[i - 1]->id > n->id; i--) {
    s->out[i] = s->out[i - 1];
    s->over[i] = s->over[i - 1];
  }
  s->out[i] = n;
  s->over[i] = over;
}

/* ---- cases ---- */

static void softmax(Rows *s) {
  Graph *g = s->g;
  Node *x = logits(s), *max = along(s, OP_reduce_max, x);
  Node *e = ir_exp(g, ir_sub(g, x, wide(s, max, x)));
  s->anchor = along(s, OP_reduce_sum, e);
  out(s, ir_div(g, e, wide(s, s->anchor, x)), x);
}

static void log_softmax(Rows *s) {
  Graph *g = s->g;
  Node *x = logits(s), *max = along(s, OP_reduce_max, x);
  Node *d = ir_sub(g, x, wide(s, max, x));
  s->anchor = along(s, OP_reduce_sum, ir_exp(g, d));
  Node *log = ir_log(g, s->anchor);
  out(s, max, NULL);
  out(s, s->anchor, NULL);
  out(s, ir_add(g, log, max), NULL);
  out(s, ir_sub(g, d, wide(s, log, d)), x);
}

/* Exponents that rise by little and by much from term to term, sums with a factor, a factor that needs another sum. */
static void weighted_softmax(Rows *s) {
  Graph *g = s->g;
  Type ids = type_of(DT_i32, 2, (int64_t[]){s->rows, s->columns});
  Node *slope = leaf(s, SHAPE(s->rows, 1), -0.02, 20), *v = matrix(s);
  Node *rise = ir_cast(g, ir_iota(g, 1, &ids), DT_f32);
  Node *x = ir_add(g, logits(s), ir_mul(g, rise, wide(s, slope, rise)));
  Node *max = along(s, OP_reduce_max, x), *e = ir_exp(g, ir_sub(g, x, wide(s, max, x)));
  Node *sum = along(s, OP_reduce_sum, e), *plain = along(s, OP_reduce_sum, v);
  Node *mixed = along(s, OP_reduce_sum, ir_mul(g, v, e));
  s->anchor = along(s, OP_reduce_sum, ir_mul(g, e, wide(s, plain, e)));
  out(s, sum, NULL);
  out(s, ir_div(g, mixed, sum), NULL);
  out(s, s->anchor, NULL);
}

/* of the middle dimension of three */
static void softmax_columns(Rows *s) {
  Graph *g = s->g;
  Node *x = leaf(s, SHAPE(3, s->rows, s->columns), -30, 30);
  Node *max = ir_reduce(g, OP_reduce_max, x, 1, (int[]){1});
  Node *e = ir_exp(g, ir_sub(g, x, ir_expand(g, max, 3, x->type.dim)));
  s->anchor = ir_reduce(g, OP_reduce_sum, e, 1, (int[]){1});
  out(s, ir_add(g, ir_log(g, s->anchor), max), NULL);
}

static void softmax_gradient(Rows *s) {
  Graph *g = s->g;
  Node *y = logits(s), *dy = matrix(s);
  s->anchor = along(s, OP_reduce_sum, ir_mul(g, y, dy));
  out(s, ir_mul(g, y, ir_sub(g, dy, wide(s, s->anchor, dy))), dy);
}

static Node *row_vector(Rows *s) { return leaf(s, SHAPE(s->columns), -1, 1); }

/* with the statistics, two passes of which one needs the other's result */
static void layer_norm(Rows *s) {
  Graph *g = s->g;
  Node *x = logits(s), *gamma = row_vector(s), *beta = row_vector(s), *m = mean(s, x);
  Node *d = ir_sub(g, x, wide(s, m, x)), *var = mean(s, ir_mul(g, d, d));
  Node *rstd = ir_rsqrt(g, ir_add(g, var, number(s, 1e-5, var)));
  Node *y = ir_mul(g, ir_mul(g, d, wide(s, rstd, d)), wide(s, gamma, d));
  s->anchor = along(s, OP_reduce_sum, ir_mul(g, d, d));
  out(s, m, NULL);
  out(s, rstd, NULL);
  out(s, ir_add(g, y, wide(s, beta, y)), NULL);
}

/* two sums of one level, in shapes of three dimensions that a reshape makes */
static void layer_norm_gradient(Rows *s) {
  Graph *g = s->g;
  int64_t dim[] = {s->rows, 1, s->columns}, one[] = {s->rows, 1, 1};
  Node *x = logits(s), *dy = matrix(s), *gamma = row_vector(s);
  Node *m = leaf(s, SHAPE(s->rows, 1, 1), -1, 1), *rstd = leaf(s, SHAPE(s->rows, 1), 0.5, 2);
  Node *x3 = ir_reshape(g, x, 3, dim), *dy3 = ir_reshape(g, dy, 3, dim);
  Node *hat = ir_mul(g, ir_sub(g, x3, wide(s, m, x3)), wide(s, ir_reshape(g, rstd, 3, one), x3));
  Node *dx = ir_mul(g, dy3, wide(s, gamma, dy3)), *a = mean(s, dx);
  Node *b = mean(s, ir_mul(g, dx, hat));
  Node *y = ir_sub(g, ir_sub(g, dx, wide(s, a, dx)), ir_mul(g, hat, wide(s, b, hat)));
  s->anchor = along(s, OP_reduce_sum, dx);
  Node *residual = matrix(s);
  y = ir_reshape(g, ir_mul(g, y, wide(s, ir_reshape(g, rstd, 3, one), y)), 2, x->type.dim);
  out(s, ir_add(g, y, residual), residual);
}

static void rms_norm(Rows *s) {
  Graph *g = s->g;
  Node *x = logits(s), *gamma = row_vector(s), *ms = mean(s, ir_mul(g, x, x));
  Node *rms = ir_rsqrt(g, ir_add(g, ms, number(s, 1e-6, ms)));
  s->anchor = along(s, OP_reduce_sum, ir_mul(g, x, x));
  out(s, rms, NULL);
  out(s, ir_mul(g, ir_mul(g, x, wide(s, rms, x)), wide(s, gamma, x)), x);
}

/* loss per row and gradient, over the logits; some targets are ignored */
static void cross_entropy(Rows *s) {
  Graph *g = s->g;
  Node *x = logits(s), *scale = leaf(s, SHAPE(1), 0.1, 0.2);
  Type ids = type_of(DT_i32, 2, (int64_t[]){s->rows, 1});
  Node *target = leaf(s, ids, -1, (double)s->columns);
  Type all = type_of(DT_i32, 2, x->type.dim);
  Node *hit = ir_eq(g, ir_iota(g, 1, &all), wide(s, target, x));
  Node *max = along(s, OP_reduce_max, x), *d = ir_sub(g, x, wide(s, max, x));
  Node *sum = along(s, OP_reduce_sum, ir_exp(g, d)), *log = ir_log(g, sum);
  Node *picked = along(s, OP_reduce_sum, ir_where(g, hit, d, number(s, 0, x)));
  Node *used = ir_ge(g, target, ir_const(g, 0, &ids)), *zero = number(s, 0, sum);
  out(s, ir_where(g, used, ir_sub(g, log, picked), zero), NULL);
  Node *p = ir_exp(g, ir_sub(g, d, wide(s, log, d)));
  Node *grad = ir_sub(g, p, ir_cast(g, hit, DT_f32));
  Node *weight = ir_where(g, used, wide(s, scale, sum), zero);
  out(s, ir_mul(g, grad, wide(s, weight, grad)), x);
  s->anchor = sum;
}

/* whole numbers and floats, all four kinds, results of which some are only per row */
static void mixture(Rows *s) {
  Graph *g = s->g;
  Type t = type_of(DT_i32, 2, (int64_t[]){s->rows, s->columns});
  Node *i = leaf(s, t, -40, 40), *x = leaf(s, SHAPE(s->rows, s->columns), 0.99, 1.01);
  Node *imax = along(s, OP_reduce_max, i), *imin = along(s, OP_reduce_min, i);
  Node *isum = along(s, OP_reduce_sum, ir_sub(g, i, wide(s, imin, i)));
  Node *signs = ir_where(g, ir_lt(g, x, number(s, 1, x)), number(s, -1, x), number(s, 1, x));
  Node *prod = along(s, OP_reduce_prod, signs), *min = along(s, OP_reduce_min, x);
  out(s, imax, NULL);
  out(s, ir_add(g, isum, imax), NULL);
  out(s, ir_mul(g, prod, ir_cast(g, imin, DT_f32)), NULL);
  out(s, ir_mod(g, i, wide(s, imax, i)), i);
  out(s, ir_lt(g, wide(s, min, x), x), NULL);
  s->anchor = isum;
}

/* gradients of a norm's parameters: sums of columns, and an update with them */
static void columns(Rows *s) {
  Graph *g = s->g;
  Node *dy = matrix(s), *x = logits(s), *rate = leaf(s, SHAPE(1), 0.1, 0.2);
  Node *p = row_vector(s), *rstd = leaf(s, SHAPE(s->rows, 1), 0.5, 2);
  Node *dbeta = ir_reduce(g, OP_reduce_sum, dy, 1, (int[]){0});
  Node *xy = ir_mul(g, ir_mul(g, x, wide(s, rstd, x)), dy);
  Node *dgamma = ir_reduce(g, OP_reduce_sum, xy, 1, (int[]){0});
  out(s, ir_reduce(g, OP_reduce_max, x, 1, (int[]){0}), NULL);
  out(s, dbeta, NULL);
  out(s, ir_sub(g, p, ir_mul(g, wide(s, rate, p), ir_reshape(g, dgamma, 1, p->type.dim))), p);
  s->anchor = dgamma;
}

/* the middle one of three dimensions, in two levels: variances of columns */
static void middle(Rows *s) {
  Graph *g = s->g;
  Node *x = leaf(s, SHAPE(3, s->rows, s->columns), -3, 3);
  Node *sum = ir_reduce(g, OP_reduce_sum, x, 1, (int[]){1});
  Node *m = ir_mul(g, sum, number(s, 1.0 / (double)s->rows, sum));
  Node *d = ir_sub(g, x, ir_expand(g, m, 3, x->type.dim));
  s->anchor = ir_reduce(g, OP_reduce_sum, ir_mul(g, d, d), 1, (int[]){1});
  out(s, m, NULL);
  out(s, ir_div(g, s->anchor, number(s, (double)s->rows, m)), NULL);
}

/* moments and a parameter: three results in place of their operands, one of another type */
static void update(Rows *s) {
  Graph *g = s->g;
  Node *p = matrix(s), *grad = logits(s), *m = matrix(s), *v = leaf(s, p->type, 0, 2);
  Node *rate = leaf(s, SHAPE(1), 1e-3, 2e-3);
  Node *m2 = ir_add(g, ir_mul(g, m, number(s, 0.9, m)), ir_mul(g, grad, number(s, 0.1, m)));
  Node *square = ir_mul(g, grad, grad);
  Node *v2 = ir_add(g, ir_mul(g, v, number(s, 0.99, v)), ir_mul(g, square, number(s, 0.01, v)));
  Node *step = ir_div(g, m2, ir_add(g, ir_sqrt(g, v2), number(s, 1e-8, v)));
  out(s, m2, m);
  out(s, v2, v);
  out(s, ir_sub(g, p, ir_mul(g, step, wide(s, rate, p))), p);
  out(s, ir_isfinite(g, step), NULL);
}

static const struct Case {
  const char *title;
  void (*build)(Rows *);
} cases[] = {
  {"softmax", softmax},
  {"log_softmax", log_softmax},
  {"weighted_softmax", weighted_softmax},
  {"softmax_columns", softmax_columns},
  {"softmax_gradient", softmax_gradient},
  {"layer_norm", layer_norm},
  {"layer_norm_gradient", layer_norm_gradient},
  {"rms_norm", rms_norm},
  {"cross_entropy", cross_entropy},
  {"mixture", mixture},
  {"columns", columns},
  {"middle", middle},
  {"update", update},
};

static void run(Bench *b, const Target *target, const struct Case *c, int64_t rows,
                int64_t columns) {
  Rows s = {.bench = b, .target = target, .g = graph_new(c->title), .arena = arena_new()};
  s.rows = rows;
  s.columns = columns;
  s.special = rows > 30;
  c->build(&s);
  const char *title =
    arena_printf(s.arena, "%s %lldx%lld", c->title, (long long)rows, (long long)columns);
  for (int in_place = 0; in_place < 2; in_place++)
    check_job(b, target, s.g, s.feed, s.n_feed, title, s.n_out, s.out, s.anchor,
              in_place ? s.over : NULL);
  graph_free(s.g);
  arena_free(s.arena);
}

static bool wanted(const char *name, int argc, char **argv) {
  for (int i = 1; i < argc; i++)
    if (strcmp(argv[i], name) == 0) return true;
  return argc == 1;
}

static void everything(Bench *b, const Target *target, int argc, char **argv) {
  static const int64_t size[][2] = {{37, 1},  {9, 7},     {37, 8},   {5, 16},   {37, 50},
                                    {3, 257}, {37, 1024}, {4, 1028}, {2, 50257}};
  for (int i = 0; i < COUNT_OF(cases); i++)
    for (int n = 0; wanted(cases[i].title, argc, argv) && n < COUNT_OF(size); n++)
      run(b, target, &cases[i], size[n][0], size[n][1]);
}

int main(int argc, char **argv) { return bench_main(everything, argc, argv); }
