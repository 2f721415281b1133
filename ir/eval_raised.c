/* Evaluator: raised operations, by their formulas rather than by their definitions, against which
 * they are tested. */
#include "ir/eval_internal.h"

#include <math.h>

/* ---- along one axis, or over several ---- */
/* A tensor seen as groups of elements that are reduced together. */
typedef struct Groups {
  const Type *t;
  bool reduced[IR_MAX_RANK];
  int64_t stride[IR_MAX_RANK];
  int64_t n, size; /* groups, elements of each */
} Groups;

static Groups groups(const Type *t, int n_axis, const int64_t *axis) {
  Groups g = {.t = t, .n = 1, .size = 1};
  shape_strides(t, g.stride);
  for (int i = 0; i < n_axis; i++) g.reduced[axis[i]] = true;
  for (int i = 0; i < t->rank; i++) *(g.reduced[i] ? &g.size : &g.n) *= t->dim[i];
  return g;
}

/* The place of element k of group i. */
static int64_t place(const Groups *g, int64_t i, int64_t k) {
  int64_t at = 0;
  for (int d = g->t->rank - 1; d >= 0; d--) {
    int64_t *index = g->reduced[d] ? &k : &i;
    at += *index % g->t->dim[d] * g->stride[d];
    *index /= g->t->dim[d];
  }
  return at;
}

static double largest(const Groups *g, int64_t i, const double *x) {
  double m = -INFINITY;
  for (int64_t k = 0; k < g->size; k++) {
    double v = x[place(g, i, k)];
    if (isnan(v) || v > m) m = v;
    if (isnan(m)) break;
  }
  return m;
}

static double sum_exp(const Groups *g, int64_t i, const double *x, double m) {
  double sum = 0;
  for (int64_t k = 0; k < g->size; k++) sum += exp(x[place(g, i, k)] - m);
  return sum;
}

void eval_softmax(EvalStep *s) {
  Groups g = groups(&s->n->type, 1, s->n->ints);
  for (int64_t i = 0; i < g.n; i++) {
    double m = largest(&g, i, s->src[0]), sum = sum_exp(&g, i, s->src[0], m);
    for (int64_t k = 0; k < g.size; k++) {
      int64_t at = place(&g, i, k);
      s->out[at] = exp(s->src[0][at] - m) / sum;
    }
  }
}

void eval_log_softmax(EvalStep *s) {
  Groups g = groups(&s->n->type, 1, s->n->ints);
  for (int64_t i = 0; i < g.n; i++) {
    double m = largest(&g, i, s->src[0]), log_sum = log(sum_exp(&g, i, s->src[0], m));
    for (int64_t k = 0; k < g.size; k++) {
      int64_t at = place(&g, i, k);
      s->out[at] = s->src[0][at] - m - log_sum;
    }
  }
}

static void norm(EvalStep *s, bool centred) {
  Groups g = groups(&s->n->type, s->n->n_int, s->n->ints);
  for (int64_t i = 0; i < g.n; i++) {
    double mean = 0, square = 0;
    for (int64_t k = 0; k < g.size && centred; k++) mean += s->src[0][place(&g, i, k)];
    mean /= (double)g.size;
    for (int64_t k = 0; k < g.size; k++) square += pow(s->src[0][place(&g, i, k)] - mean, 2);
    double scale = 1 / sqrt(square / (double)g.size + s->n->value);
    for (int64_t k = 0; k < g.size; k++) {
      int64_t at = place(&g, i, k);
      s->out[at] = (s->src[0][at] - mean) * scale;
    }
  }
}

void eval_layer_norm(EvalStep *s) { norm(s, true); }
void eval_rms_norm(EvalStep *s) { norm(s, false); }

void eval_cross_entropy(EvalStep *s) {
  const Type *t = eval_src_type(s, 0);
  int64_t v = t->dim[t->rank - 1];
  Groups g = groups(t, 1, (int64_t[]){t->rank - 1});
  for (int64_t i = 0; i < g.n; i++) {
    double m = largest(&g, i, s->src[0]), y = s->src[1][i];
    bool inside = y >= 0 && y < (double)v;
    s->out[i] =
      inside ? log(sum_exp(&g, i, s->src[0], m)) - (s->src[0][i * v + (int64_t)y] - m) : INFINITY;
  }
}

/* ---- elementwise ---- */
#define MAP(op, result)                                                                            \
  void eval_##op(EvalStep *s) {                                                                    \
    for (int64_t i = 0; i < s->count; i++) {                                                       \
      double x = s->src[0][i];                                                                     \
      s->out[i] = result;                                                                          \
    }                                                                                              \
  }
MAP(gelu_tanh, x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))))
MAP(gelu_erf, 0.5 * x * erfc(-x * M_SQRT1_2))
MAP(silu, x / (1 + exp(-x)))

/* ---- rotation of pairs ---- */
void eval_rope(EvalStep *s) {
  int64_t c = s->n->type.dim[s->n->type.rank - 1], half = c / 2;
  bool interleaved = s->n->ints[0] != 0;
  for (int64_t i = 0; i < s->count / 2; i++) {
    int64_t row = i / half * c, pair = i % half;
    int64_t first = row + (interleaved ? 2 * pair : pair),
            second = first + (interleaved ? 1 : half);
    double u = s->src[0][first], w = s->src[0][second], cosine = s->src[1][i], sine = s->src[2][i];
    s->out[first] = u * cosine - w * sine;
    s->out[second] = w * cosine + u * sine;
  }
}
