#include "tests/passes/numeric.h"

#include <math.h>
#include <string.h>

/* The rounding of the differences is about 1e-12: smaller norms cannot be compared to 1e-6. */
#define RESOLVED 1e-5

typedef struct Probe {
  const Graph *g;
  Node *loss;
  const Feed *feed;
  int n_feed;
  Buf *why;
} Probe;

static double evaluate(const Probe *p) {
  Arena *arena = arena_new();
  Tensor t;
  double y =
    ir_eval(arena, p->g, EVAL_f64, p->feed, p->n_feed, &p->loss, 1, &t, p->why) ? t.data[0] : NAN;
  arena_free(arena);
  return y;
}

/* f' = (45 (f₁ − f₋₁) − 9 (f₂ − f₋₂) + (f₃ − f₋₃)) / 60h + O(h⁶); kinks are 0.02 away at least */
static double difference(const Probe *p, double *x) {
  static const double weight[] = {45, -9, 1};
  double at = *x, h = 1e-3 * fmin(fmax(1, fabs(at)), 5), sum = 0;
  for (int i = 0; i < 3; i++) {
    *x = at + (i + 1) * h;
    double above = evaluate(p);
    *x = at - (i + 1) * h;
    sum += weight[i] * (above - evaluate(p));
  }
  *x = at;
  return sum / (60 * h);
}

static double *feed_data(const Probe *p, const Node *leaf) {
  for (int i = 0; i < p->n_feed; i++)
    if (p->feed[i].op == leaf->op && strcmp(p->feed[i].name, leaf->name) == 0)
      return (double *)p->feed[i].data;
  die("numeric: %s has no feed", leaf->name);
}

typedef struct Norms {
  double error, grad; /* squares */
  int64_t worst;
  double expected, found; /* there */
} Norms;

static Norms compare(const Probe *p, const Node *leaf, const double *grad, int places) {
  int64_t count = type_count(&leaf->type), n = count < places ? count : places;
  double *data = feed_data(p, leaf), worst = -1;
  Norms s = {0};
  for (int64_t i = 0; i < n; i++) {
    int64_t at = i * count / n + (count > n ? i % (count / n) : 0);
    double expected = difference(p, &data[at]), e = fabs(grad[at] - expected);
    s.error += e * e;
    s.grad += expected * expected;
    if (e > worst || isnan(e)) worst = e, s.worst = at, s.expected = expected, s.found = grad[at];
  }
  return s;
}

bool gradients_match(const Graph *g, Node *loss, Node *const *wrt, Node *const *grad, int n_wrt,
                     const Feed *feed, int n_feed, int places, Buf *why) {
  Arena *arena = arena_new();
  Probe p = {g, loss, feed, n_feed, why};
  Tensor *value = arena_alloc(arena, sizeof *value * (size_t)n_wrt);
  Norms *norms = arena_alloc(arena, sizeof *norms * (size_t)n_wrt);
  double total = 0;
  bool ok = ir_eval(arena, g, EVAL_f64, feed, n_feed, grad, n_wrt, value, why);
  for (int i = 0; i < n_wrt && ok; i++) {
    norms[i] = compare(&p, wrt[i], value[i].data, places);
    total += norms[i].grad;
  }
  for (int i = 0; i < n_wrt && ok; i++) {
    double limit = 1e-6 * fmax(fmax(sqrt(norms[i].grad), 1e-3 * sqrt(total)), RESOLVED);
    ok = sqrt(norms[i].error) <= limit;
    if (!ok)
      buf_printf(why,
                 "d loss / d %s: error %.3g, norm %.3g, of all %.3g; element %lld is %.12g, by "
                 "differences %.12g",
                 wrt[i]->name, sqrt(norms[i].error), sqrt(norms[i].grad), sqrt(total),
                 (long long)norms[i].worst, norms[i].found, norms[i].expected);
  }
  arena_free(arena);
  return ok;
}
