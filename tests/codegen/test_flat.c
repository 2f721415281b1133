/* Kernels of flat values in any number of elements, with several results and over what they replace;
 * sums of such in parts; scatter_add with what is computed from it. */
#include "tests/codegen/check.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FEED = 8 };

typedef struct Job {
  Bench *bench;
  const Target *target;
  Graph *g;
  Arena *arena;
  Feed feed[MAX_FEED];
  int n_feed;
  Node *out[CG_MAX_OUT], *over[CG_MAX_OUT];
  int n_out;
} Job;

static Job begin(Bench *b, const Target *t) {
  return (Job){.bench = b, .target = t, .g = graph_new("flat"), .arena = arena_new()};
}

static void out(Job *j, Node *n, Node *over) {
  j->out[j->n_out] = n;
  j->over[j->n_out++] = over;
}

/* Outs are told by rising id. */
static void finish(Job *j, const char *what, int64_t size, Node *anchor) {
  char title[80];
  snprintf(title, sizeof title, "%s, %lld elements", what, (long long)size);
  check_job(j->bench, j->target, j->g, j->feed, j->n_feed, title, j->n_out, j->out, anchor,
            j->over);
  graph_free(j->g);
  arena_free(j->arena);
}

/* Whole numbers below `most`, or ones around 0. */
static Node *leaf(Job *j, DType d, int rank, const int64_t *dim, uint32_t most) {
  Type t = type_of(d, rank, dim);
  int64_t n = type_count(&t);
  double *data = arena_alloc(j->arena, sizeof *data * (size_t)n);
  for (int64_t i = 0; i < n; i++) {
    uint64_t bits = hash_bytes(&i, sizeof i, (uint64_t)j->n_feed) >> 32;
    data[i] = most ? (double)(bits % most) : (double)(bits % 7) - 3;
  }
  const char *name = intern(arena_printf(j->arena, "x%d", j->n_feed));
  j->feed[j->n_feed++] = (Feed){OP_input, name, data};
  return ir_leaf(j->g, OP_input, name, &t);
}

static Node *vector(Job *j, int64_t n) { return leaf(j, DT_f32, 1, &n, 0); }

/* ---- maps ---- */

static void update(Bench *b, const Target *t, int64_t n) {
  Job j = begin(b, t);
  Graph *g = j.g;
  Node *p = vector(&j, n), *m = vector(&j, n), *x = vector(&j, n);
  Node *rate = ir_broadcast(g, leaf(&j, DT_f32, 0, NULL, 0), 1, &n);
  Node *fresh = ir_add(g, m, ir_mul(g, x, x));
  Node *step = ir_mul(g, rate, fresh);
  Node *next = ir_sub(g, p, step), *above = ir_lt(g, step, x);
  out(&j, fresh, m);
  out(&j, next, p);
  out(&j, above, NULL);
  finish(&j, "update", n, NULL);
}

static void reshaped(Bench *b, const Target *t, int64_t n) {
  Job j = begin(b, t);
  Node *x = leaf(&j, DT_f32, 3, (int64_t[]){n, 1, 3}, 0);
  Node *y = leaf(&j, DT_f32, 2, (int64_t[]){3, n}, 0);
  Node *sum = ir_add(j.g, ir_reshape(j.g, x, 2, (int64_t[]){3, n}), y);
  out(&j, sum, NULL);
  finish(&j, "reshaped", 3 * n, NULL);
}

/* ---- sums ---- */

static void squares(Bench *b, const Target *t, int64_t rows, int64_t length, int64_t n) {
  Job j = begin(b, t);
  Node *x = vector(&j, n);
  x = ir_mul(j.g, x, x);
  if (n < rows * length) x = ir_pad(j.g, x, (int64_t[]){0}, (int64_t[]){rows * length - n}, 0);
  x = ir_reshape(j.g, x, 2, (int64_t[]){rows, length});
  x = ir_reduce(j.g, OP_reduce_sum, x, 1, (int[]){1});
  out(&j, x, NULL);
  finish(&j, "squares", n, x);
}

/* ---- scatter_add ---- */

static void scatter(Bench *b, const Target *t, int64_t rows, int64_t ids, int64_t columns) {
  for (int kind = 0; kind < 3; kind++) {
    Job j = begin(b, t);
    Node *at = leaf(&j, DT_i32, 1, &ids, (uint32_t)rows);
    Node *x = leaf(&j, DT_f32, 2, (int64_t[]){ids, columns}, 0);
    Node *other = leaf(&j, DT_f32, 2, (int64_t[]){rows, columns}, 0);
    Node *sum = ir_scatter_add(j.g, at, x, rows);
    Node *both = ir_add(j.g, sum, other);
    if (kind == 1) out(&j, sum, NULL);
    out(&j, both, kind == 2 ? other : NULL);
    if (kind) out(&j, ir_relu(j.g, both), NULL);
    finish(&j, "scatter", rows * columns, sum);
  }
}

static void all(Bench *b, const Target *t) {
  static const int64_t size[] = {1, 2, 3, 4, 5, 63, 64, 255, 256, 257, 1023, 4099, 70001};
  for (int i = 0; i < COUNT_OF(size); i++) {
    int64_t n = size[i], length = ((n + 63) / 64 + 3) / 4 * 4;
    update(b, t, n);
    reshaped(b, t, n);
    squares(b, t, 64, length, n);
  }
  static const int64_t sum[][3] = {{1, 4, 4},      {1, 400, 399},      {3, 8, 17},    {3, 100, 300},
                                   {256, 4, 1001}, {5, 40000, 199998}, {2, 1000, 11}, {7, 64, 1}};
  for (int i = 0; i < COUNT_OF(sum); i++) squares(b, t, sum[i][0], sum[i][1], sum[i][2]);
  static const int64_t shape[][3] = {
    {7, 5, 3},     {300, 64, 32},  {300, 64, 31},    {40, 33, 128},   {5, 20, 8},      {1, 100, 64},
    {129, 16, 20}, {26, 640, 256}, {11, 1100, 1000}, {3000, 700, 12}, {20001, 700, 36}};
  for (int i = 0; i < COUNT_OF(shape); i++) scatter(b, t, shape[i][0], shape[i][1], shape[i][2]);
}

static void cases(Bench *b, const Target *target, int argc, char **argv) {
  (void)argc, (void)argv;
  all(b, target);
}

int main(int argc, char **argv) { return bench_main(cases, argc, argv); }
