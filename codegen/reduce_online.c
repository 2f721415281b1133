/* Sums relative to a maximum that the same loop finds (softmax, log Σ eˣ, cross-entropy):
 *
 *   S = Σ exp(x − max x)·f     is kept as  s = Σ exp(x − r)·f  with some r;   S = s·exp(r − max x) in the end
 *
 * r changes when an x lies more than AHEAD above it: s is then multiplied by exp(r − x). So no exponential exceeds e^AHEAD,
 * those that vanish are below e^−80 of the largest, and s is rescaled a few times only, whatever the order of the terms: the error
 * is that of a plain sum. r starts at the least float, where the first terms replace it; x = −∞ adds 0, ∞ and NaN give NaN, as in
 * two loops. A product by the maximum's row instead of a second reading of the row. */
#include "codegen/emit_math.h"
#include "codegen/reduce.h"

#include <float.h>
#include <stdlib.h>

#define AHEAD 8.0f

/* ---- which sums ---- */

static bool inside(const KernelJob *job, const Node *n) {
  return !job->stored[n->id] || cg_is_out(job, n);
}

/* exp(x − expand(max x)), computed in the kernel, with the maximum over the axes of the sum. */
static Node *maximum_of(const KernelJob *job, const Node *e, const Node *sum) {
  if (e->op != OP_exp || !inside(job, e) || e->src[0]->op != OP_sub || !inside(job, e->src[0]))
    return NULL;
  Node *x = e->src[0]->src[0], *most = e->src[0]->src[1];
  while ((most->op == OP_expand || most->op == OP_stop_gradient) && inside(job, most))
    most = most->src[0];
  if (most->op != OP_reduce_max || !inside(job, most) || most->src[0] != x ||
      most->n_int != sum->n_int || x->type.dtype != DT_f32)
    return NULL;
  for (int i = 0; i < sum->n_int; i++)
    if (most->ints[i] != sum->ints[i]) return NULL;
  return most;
}

/* Whether the value is computed without the maximum. */
static bool free_of(const KernelJob *job, const Node *n, const Node *most, unsigned char *seen) {
  if (n == most) return false;
  if (seen[n->id]++ || !inside(job, n)) return true;
  for (int i = 0; i < n->n_src; i++)
    if (!free_of(job, n->src[i], most, seen)) return false;
  return true;
}

Node *online_maximum(const KernelJob *job, Reduction *d) {
  const Node *sum = d->node, *term = sum->src[0];
  if (sum->op != OP_reduce_sum || d->type != DT_f32) return NULL;
  Node *most = maximum_of(job, term, sum);
  d->factor = NULL;
  for (int i = 0; i < 2 && !most && term->op == OP_mul && inside(job, term); i++) {
    most = maximum_of(job, term->src[i], sum);
    d->factor = term->src[1 - i];
    if (most) term = term->src[i];
  }
  if (!most) return NULL;
  d->exponent = term->src[0]->src[0];
  unsigned char *seen = xcalloc((size_t)sum->id + 1, 1);
  bool free_factor = !d->factor || free_of(job, d->factor, most, seen);
  free(seen);
  if (free_factor) return most;
  d->exponent = d->factor = NULL;
  return NULL;
}

/* ---- partial results ---- */

static SpvId above(Kernel *k, SpvId x, SpvId r) {
  SpvId ahead = const_f(k, AHEAD);
  SpvId limit = add_f(k, r, ahead);
  return less_f(k, limit, x);
}

Acc online_identity(Kernel *k) {
  SpvId least = const_f(k, -FLT_MAX);
  return (Acc){const_f(k, 0), as_bits(k, least)};
}

Acc online_term(Kernel *k, SpvId exponent, SpvId factor) {
  return (Acc){factor, as_bits(k, exponent)};
}

static SpvId scaled(Kernel *k, SpvId s, SpvId from, SpvId to) {
  SpvId distance = sub_f(k, from, to);
  SpvId e = math_exp(k, distance);
  return mul_f(k, s, e);
}

Acc online_combine(Kernel *k, Acc x, Acc y) {
  SpvId rx = as_float(k, x.index), ry = as_float(k, y.index);
  SpvId higher = less_f(k, rx, ry);
  SpvId r = choose(k, higher, ry, rx);
  SpvId sx = scaled(k, x.value, rx, r);
  SpvId sy = scaled(k, y.value, ry, r);
  return (Acc){add_f(k, sx, sy), as_bits(k, r)};
}

void online_add(Kernel *k, int n, const Acc *variable, const Acc *term) {
  Spv *b = k->b;
  SpvId r = as_float(k, spv_get(b, variable[0].index)), x[REDUCE_WIDTH], top = 0;
  for (int i = 0; i < n; i++) {
    x[i] = as_float(k, term[i].index);
    SpvId larger = i ? less_f(k, top, x[i]) : 0;
    top = i ? choose(k, larger, x[i], top) : x[i];
  }
  SpvId jumps = above(k, top, r);
  spv_if(b, jumps);
  for (int i = 0; i < n; i++) {
    SpvId s = spv_get(b, variable[i].value);
    s = scaled(k, s, r, top);
    spv_set(b, variable[i].value, s);
    spv_set(b, variable[i].index, as_bits(k, top));
  }
  spv_end(b);
  r = as_float(k, spv_get(b, variable[0].index));
  for (int i = 0; i < n; i++) {
    SpvId s = spv_get(b, variable[i].value);
    SpvId more = scaled(k, term[i].value, x[i], r);
    s = add_f(k, s, more);
    spv_set(b, variable[i].value, s);
  }
}

SpvId online_value(Kernel *k, Acc a, SpvId maximum) {
  SpvId r = as_float(k, a.index);
  return scaled(k, a.value, r, maximum);
}
