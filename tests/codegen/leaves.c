/* Made-up values, the same in every run. */
#include "tests/codegen/leaves.h"

#include <math.h>

uint32_t noise(uint32_t i) {
  i = (i ^ 61) ^ i >> 16;
  i *= 9;
  i = (i ^ i >> 4) * 0x27d4eb2d;
  return i ^ i >> 15;
}

static Node *add_leaf(Graph *g, Arena *arena, Feed *feed, int *n_feed, Type t, double *data) {
  const char *name = intern(arena_printf(arena, "x%d", *n_feed));
  feed[(*n_feed)++] = (Feed){OP_input, name, data};
  return ir_leaf(g, OP_input, name, &t);
}

static uint32_t bits_of(int64_t i, int n_feed) {
  return noise((uint32_t)i * 16 + (uint32_t)n_feed);
}

Node *uniform_leaf(Graph *g, Arena *arena, Feed *feed, int *n_feed, Type t, double lo, double hi) {
  int64_t n = type_count(&t);
  double *data = arena_alloc(arena, sizeof *data * (size_t)n);
  for (int64_t i = 0; i < n; i++) {
    double x = lo + (double)bits_of(i, *n_feed) / 0x1p32 * (hi - lo);
    data[i] = dtype_is_float(t.dtype) ? dtype_round((DType)t.dtype, x) : floor(x);
  }
  return add_leaf(g, arena, feed, n_feed, t, data);
}

Node *whole_leaf(Graph *g, Arena *arena, Feed *feed, int *n_feed, Type t) {
  int64_t n = type_count(&t);
  double *data = arena_alloc(arena, sizeof *data * (size_t)n);
  for (int64_t i = 0; i < n; i++) {
    uint32_t bits = bits_of(i, *n_feed);
    data[i] = t.dtype == DT_i32 ? bits >> 8 : (double)(bits % 7) - 3;
  }
  return add_leaf(g, arena, feed, n_feed, t, data);
}
