/* Evaluator: reductions, scans and products. Sums are accumulated in double in row-major order and
 * rounded once, at the end, by the caller; sums of i32 wrap. */
#include "ir/eval_internal.h"

#include <math.h>
#include <string.h>

typedef struct Reduction {
  const double *x;
  double *out;
} Reduction;

/* Walks x in row-major order; the reduced axes have stride 0 in the result. */
static void reduce(EvalStep *s, double start,
                   void (*row)(void *ctx, int64_t n, int64_t pa, int64_t sa, int64_t pb,
                               int64_t sb)) {
  const Type *x = eval_src_type(s, 0);
  EvalWalk w = {.rank = x->rank};
  shape_strides(&s->n->type, w.a);
  shape_strides(x, w.b);
  for (int i = 0; i < x->rank; i++) w.dim[i] = x->dim[i];
  for (int i = 0; i < s->n->n_int; i++) w.a[s->n->ints[i]] = 0;
  for (int64_t i = 0; i < s->count; i++) s->out[i] = start;
  eval_walk(&w, row, &(Reduction){s->src[0], s->out});
}

#define ROW(name, update)                                                                          \
  static void name(void *ctx, int64_t n, int64_t pa, int64_t sa, int64_t pb, int64_t sb) {         \
    Reduction *r = ctx;                                                                            \
    for (int64_t i = 0; i < n; i++) {                                                              \
      double x = r->x[pb + i * sb], *to = &r->out[pa + i * sa];                                    \
      *to = update;                                                                                \
    }                                                                                              \
  }
ROW(row_sum, *to + x)
ROW(row_sum_i32, eval_wrap((int64_t)*to + (int64_t)x))
ROW(row_prod, *to *x)
ROW(row_prod_i32, eval_wrap((int64_t)*to *(int64_t)x))
ROW(row_max, isnan(x) || x > *to ? x : *to)
ROW(row_min, isnan(x) || x < *to ? x : *to)

static bool is_int(const EvalStep *s) { return s->n->type.dtype == DT_i32; }

void eval_reduce_sum(EvalStep *s) { reduce(s, 0, is_int(s) ? row_sum_i32 : row_sum); }
void eval_reduce_prod(EvalStep *s) { reduce(s, 1, is_int(s) ? row_prod_i32 : row_prod); }
void eval_reduce_max(EvalStep *s) { reduce(s, is_int(s) ? INT32_MIN : -INFINITY, row_max); }
void eval_reduce_min(EvalStep *s) { reduce(s, is_int(s) ? INT32_MAX : INFINITY, row_min); }

/* x seen as [outer, length, inner] around an axis */
typedef struct Around {
  int64_t outer, length, inner;
} Around;

static Around around(const Type *t, int64_t axis) {
  Around a = {1, t->dim[axis], 1};
  for (int i = 0; i < axis; i++) a.outer *= t->dim[i];
  for (int i = (int)axis + 1; i < t->rank; i++) a.inner *= t->dim[i];
  return a;
}

/* A NaN counts as the largest, as in reduce_max. */
void eval_argmax(EvalStep *s) {
  Around a = around(eval_src_type(s, 0), s->n->ints[0]);
  for (int64_t o = 0; o < a.outer; o++)
    for (int64_t i = 0; i < a.inner; i++) {
      const double *x = s->src[0] + o * a.length * a.inner + i;
      int64_t best = 0;
      for (int64_t k = 1; k < a.length && !isnan(x[best * a.inner]); k++)
        if (isnan(x[k * a.inner]) || x[k * a.inner] > x[best * a.inner]) best = k;
      s->out[o * a.inner + i] = (double)best;
    }
}

void eval_cumsum(EvalStep *s) {
  Around a = around(&s->n->type, s->n->ints[0]);
  bool reverse = s->n->ints[1] != 0;
  for (int64_t o = 0; o < a.outer; o++)
    for (int64_t i = 0; i < a.inner; i++) {
      double sum = 0;
      for (int64_t k = 0; k < a.length; k++) {
        int64_t at = (o * a.length + (reverse ? a.length - 1 - k : k)) * a.inner + i;
        sum = is_int(s) ? eval_wrap((int64_t)sum + (int64_t)s->src[0][at]) : sum + s->src[0][at];
        s->out[at] = sum;
      }
    }
}

/* Tile by tile: the terms of a step go to the slot of its span. */
void eval_matmul_spans(EvalStep *s) {
  const Type *t = &s->n->type;
  int64_t m = t->dim[1], n = t->dim[2], k = eval_src_type(s, 0)->dim[1];
  Spans spans = ir_spans(s->n);
  memset(s->out, 0, sizeof *s->out * (size_t)s->count);
  for (int64_t tile = 0; tile < spans.by_m * spans.by_n; tile++) {
    int64_t row, column, first = tile * spans.steps;
    ir_span_tile(&spans, tile, &row, &column);
    row *= spans.tile_m;
    column *= spans.tile_n;
    for (int64_t i = row; i < m && i < row + spans.tile_m; i++)
      for (int64_t p = 0; p < k; p++) {
        int64_t slot = ir_span_at(&spans, first + p / spans.step) - ir_span_at(&spans, first);
        double f = s->src[0][i * k + p], *out = s->out + (slot * m + i) * n;
        for (int64_t j = column; j < n && j < column + spans.tile_n; j++)
          out[j] += f * s->src[1][p * n + j];
      }
  }
}

/* row by row of the result, so that the inner loop runs along memory; four terms at a time, added in their order */
void eval_matmul(EvalStep *s) {
  const Type *a = eval_src_type(s, 0);
  int64_t m = a->dim[a->rank - 2], k = a->dim[a->rank - 1], n = s->n->type.dim[a->rank - 1];
  memset(s->out, 0, sizeof *s->out * (size_t)s->count);
  for (int64_t batch = 0; batch < s->count / (m * n); batch++) {
    const double *x = s->src[0] + batch * m * k, *y = s->src[1] + batch * k * n;
    for (int64_t i = 0; i < m; i++) {
      double *out = s->out + (batch * m + i) * n;
      int64_t p = 0;
      for (; p + 4 <= k; p += 4) {
        const double *f = x + i * k + p, *row = y + p * n;
        double f0 = f[0], f1 = f[1], f2 = f[2], f3 = f[3];
        for (int64_t j = 0; j < n; j++) {
          double sum = out[j] + f0 * row[j];
          sum += f1 * row[n + j];
          sum += f2 * row[2 * n + j];
          out[j] = sum + f3 * row[3 * n + j];
        }
      }
      for (; p < k; p++) {
        double f = x[i * k + p];
        for (int64_t j = 0; j < n; j++) out[j] += f * y[p * n + j];
      }
    }
  }
}
