/* Error bounds, node by node. An elementwise operation that is monotone in each source is computed
 * at the corners of its sources' intervals; sums and products are bounded for any order of adding;
 * views and lookups move the bounds as they move values; for raised operations and attention the
 * effect of disturbances of all sources is sampled. Each operation adds its own rounding. */
#include "tests/never_wrong/never_wrong.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/eval_internal.h"

#define ROUNDING 5e-7 /* of arithmetic: a rewrite may round four times instead of once */
#define FUNCTION 1e-5 /* of exp, log, tanh and their kind, as on devices */
#define TINY 1e-37    /* subnormal numbers may be flushed to zero */
#define TINY_F16 0x1p-24
#define TIGHT 1e-2 /* relative to 1 + |value|: larger bounds say little */

static void (*const compute[OP_COUNT])(EvalStep *) = {
#define OP(name, sources, rule, attribute, flags, meaning) [OP_##name] = eval_##name,
#include "ir/ops.def"
#undef OP
};

typedef struct Bounds {
  Arena *arena;
  const Graph *g;
  double **value, **error; /* by id */
} Bounds;

static double *doubles(Bounds *b, int64_t n) {
  return arena_alloc(b->arena, sizeof(double) * (size_t)n);
}

/* The operation on other sources. */
static double *apply(Bounds *b, const Node *n, const double *const *src) {
  int64_t count = type_count(&n->type);
  EvalStep s = {.graph = b->g, .n = n, .mode = EVAL_f64, .count = count};
  s.out = doubles(b, count);
  for (int i = 0; i < n->n_src; i++) s.src[i] = src[i];
  compute[n->op](&s);
  return s.out;
}

/* What a computation in the node's type adds to the rounding of f32. */
static double unit_of_type(const Node *n) {
  switch (n->type.dtype) {
  case DT_f16: return 0x1p-10;
  case DT_bf16: return 0x1p-7;
  default: return 0;
  }
}

static double unit_of(Op op) {
  switch (op) {
  case OP_add:
  case OP_sub:
  case OP_mul:
  case OP_div:
  case OP_sqrt:
  case OP_rsqrt:
  case OP_mod: return ROUNDING;
  case OP_exp:
  case OP_expm1:
  case OP_log:
  case OP_log1p:
  case OP_sin:
  case OP_cos:
  case OP_tanh:
  case OP_sigmoid:
  case OP_erf:
  case OP_erfc:
  case OP_pow:
  case OP_gelu_tanh:
  case OP_gelu_erf:
  case OP_silu: return FUNCTION;
  default: return 0;
  }
}

/* Whether a source of whole numbers is not sure everywhere; then nothing is. */
static bool is_lost(Bounds *b, const Node *n, int which) {
  const double *e = b->error[n->src[which]->id];
  for (int64_t i = 0; i < type_count(&n->src[which]->type); i++)
    if (e[i] > 0) {
      for (int64_t k = 0; k < type_count(&n->type); k++) b->error[n->id][k] = INFINITY;
      return true;
    }
  return false;
}

/* ---- elementwise ---- */
enum { MAX_EW = 3 };

typedef struct At { /* one element: values and errors of the sources */
  double x[MAX_EW], e[MAX_EW];
} At;

/* Where corners say nothing: not continuous, not monotone, or a pole inside. */
static bool is_unsure(const Node *n, const At *at) {
  double x = at->x[0], y = at->x[1], ex = at->e[0], ey = at->e[1];
  switch (n->op) {
  case OP_eq:
  case OP_ne: return ex + ey > 0 && fabs(x - y) <= ex + ey;
  case OP_cast: return n->type.dtype == DT_bool && ex > 0 && fabs(x) <= ex;
  case OP_div: return fabs(y) <= ey;
  case OP_mod:
    return ex + ey > 0 &&
           (fabs(y) <= ey || floor((x - ex) / (y - ey)) != floor((x + ex) / (y + ey)) ||
            floor((x - ex) / (y + ey)) != floor((x + ex) / (y - ey)));
  case OP_isfinite: return ex > 0 && fabs(x) > 1e37;
  default: return false;
  }
}

/* The largest distance of the corners' results from the middle's. */
static void bound_elementwise(Bounds *b, const Node *n) {
  int64_t count = type_count(&n->type);
  double *error = b->error[n->id], *middle = b->value[n->id], *corner[MAX_EW];
  for (int i = 0; i < n->n_src; i++) corner[i] = doubles(b, count);
  for (int c = 0; c < 1 << n->n_src; c++) {
    for (int i = 0; i < n->n_src; i++)
      for (int64_t k = 0; k < count; k++) {
        double e = b->error[n->src[i]->id][k], x = b->value[n->src[i]->id][k];
        bool is_int = n->src[i]->type.dtype == DT_i32;
        corner[i][k] = e == 0 || is_int ? x : c >> i & 1 ? x + e : x - e;
        if (n->src[i]->type.dtype == DT_bool) corner[i][k] = fmin(fmax(corner[i][k], 0), 1);
      }
    double *y = apply(b, n, (const double *const *)corner);
    for (int64_t k = 0; k < count; k++) {
      double d =
        y[k] == middle[k] || (isnan(y[k]) && isnan(middle[k])) ? 0 : fabs(y[k] - middle[k]);
      error[k] = isnan(d) ? INFINITY : fmax(error[k], d);
    }
  }
  for (int64_t k = 0; k < count; k++) {
    At at = {{0}, {0}};
    bool smooth = n->op == OP_abs || n->op == OP_sin || n->op == OP_cos;
    for (int i = 0; i < n->n_src; i++) {
      at.x[i] = b->value[n->src[i]->id][k];
      at.e[i] = b->error[n->src[i]->id][k];
      if (n->src[i]->type.dtype == DT_i32 && at.e[i] > 0) error[k] = INFINITY;
    }
    if (smooth) error[k] = fmax(error[k], at.e[0]); /* their slope is at most 1 */
    if (is_unsure(n, &at)) error[k] = INFINITY;
    if (n->op == OP_sin || n->op == OP_cos) error[k] += 1e-6;
  }
}

/* ---- reductions, scans, products ---- */
static const double *absolute(Bounds *b, const Node *n) {
  int64_t count = type_count(&n->type);
  double *x = doubles(b, count);
  for (int64_t i = 0; i < count; i++) x[i] = fabs(b->value[n->id][i]);
  return x;
}

/* errors add up; so does rounding, n terms in any order */
static void bound_sum(Bounds *b, const Node *n, int which) {
  const Node *x = n->src[which];
  int64_t count = type_count(&n->type), terms = type_count(&x->type);
  double unit = n->type.dtype == DT_i32 ? 0 : ROUNDING + 6e-8 * (double)terms;
  unit += unit_of_type(n) * (double)terms;
  const double *src[2] = {b->value[n->src[0]->id], NULL};
  src[which] = b->error[x->id];
  double *errors = apply(b, n, src);
  src[which] = absolute(b, x);
  double *sums = apply(b, n, src);
  for (int64_t i = 0; i < count; i++) b->error[n->id][i] = errors[i] + unit * sums[i];
}

static void bound_prod(Bounds *b, const Node *n) {
  int64_t terms = type_count(&n->src[0]->type);
  const double *x = absolute(b, n->src[0]), *e = b->error[n->src[0]->id];
  double *wide = doubles(b, terms);
  for (int64_t i = 0; i < terms; i++) wide[i] = x[i] + e[i];
  const double *most = apply(b, n, (const double *const[]){wide});
  const double *least = apply(b, n, (const double *const[]){x});
  double unit = n->type.dtype == DT_i32 ? 0 : ROUNDING + (6e-8 + unit_of_type(n)) * (double)terms;
  for (int64_t i = 0; i < type_count(&n->type); i++)
    b->error[n->id][i] = most[i] - least[i] + unit * least[i];
}

static void bound_matmul(Bounds *b, const Node *n) {
  const Node *x = n->src[0], *y = n->src[1];
  const double *ax = absolute(b, x), *ay = absolute(b, y);
  const double *ex = b->error[x->id], *ey = b->error[y->id];
  double unit = ROUNDING + (6e-8 + unit_of_type(n)) * (double)x->type.dim[x->type.rank - 1];
  const double *p[4] = {
    apply(b, n, (const double *const[]){ax, ey}), apply(b, n, (const double *const[]){ex, ay}),
    apply(b, n, (const double *const[]){ex, ey}), apply(b, n, (const double *const[]){ax, ay})};
  for (int64_t i = 0; i < type_count(&n->type); i++)
    b->error[n->id][i] = p[0][i] + p[1][i] + p[2][i] + unit * p[3][i];
}

/* Certain where the largest stays the largest whatever the errors are. */
static void bound_argmax(Bounds *b, const Node *n) {
  const Node *x = n->src[0];
  const double *v = b->value[x->id], *e = b->error[x->id];
  int64_t stride[IR_MAX_RANK], axis = n->ints[0], length = x->type.dim[axis];
  shape_strides(&x->type, stride);
  for (int64_t i = 0; i < type_count(&n->type); i++) {
    int64_t first = i / stride[axis] * stride[axis] * length + i % stride[axis];
    int64_t best = first + (int64_t)b->value[n->id][i] * stride[axis];
    for (int64_t k = 0; k < length; k++) {
      int64_t at = first + k * stride[axis];
      if (at != best && e[at] + e[best] > 0 && v[at] + e[at] >= v[best] - e[best])
        b->error[n->id][i] = INFINITY;
      if (isnan(v[at])) b->error[n->id][i] = INFINITY;
    }
  }
}

/* ---- views and lookups ---- */
static void bound_moved(Bounds *b, const Node *n) {
  const double *src[IR_MAX_SRC];
  Node zero_filled = *n; /* of a pad: what it adds is exact */
  zero_filled.value = 0;
  for (int i = 0; i < n->n_src; i++) src[i] = b->error[n->src[i]->id];
  if (n->op == OP_gather) src[1] = b->value[n->src[1]->id];
  const double *moved = apply(b, &zero_filled, src);
  int64_t count = type_count(&n->type);
  for (int64_t i = 0; i < count; i++) b->error[n->id][i] = isnan(moved[i]) ? 0 : moved[i];
}

/* ---- the rest ---- */
enum { SAMPLES = 8 };
#define DISTURBANCE 1e-6 /* relative, of each source; besides its own error */

/* How much x changes x − mean x and x − max x in a row of one element, which are 0 for any x, where a
 * kernel that computes x once more rounds it otherwise. */
static double slope_alone(const Node *n) {
  const Type *x = &n->src[0]->type;
  int64_t length = 1;
  bool has_axes = n->op == OP_layer_norm || n->op == OP_log_softmax;
  for (int i = 0; has_axes && i < n->n_int; i++) length *= x->dim[n->ints[i]];
  switch (n->op) {
  case OP_layer_norm: return length == 1 ? 1 / sqrt(n->value) : 0;
  case OP_log_softmax: return length == 1;
  case OP_cross_entropy: return x->dim[x->rank - 1] == 1;
  default: return 0;
  }
}

static void bound_sampled(Bounds *b, const Node *n) {
  double *error = b->error[n->id], *middle = b->value[n->id], *src[IR_MAX_SRC], largest = 0;
  int64_t count = type_count(&n->type);
  for (int i = 0; i < n->n_src; i++) {
    const Node *x = n->src[i];
    src[i] = doubles(b, type_count(&x->type));
    bool is_float = dtype_is_float(x->type.dtype);
    if (!is_float && is_lost(b, n, i)) return;
    if (!is_float) memcpy(src[i], b->value[x->id], sizeof(double) * (size_t)type_count(&x->type));
  }
  for (int s = 0; s < SAMPLES; s++) {
    for (int i = 0; i < n->n_src; i++)
      for (int64_t k = 0; dtype_is_float(n->src[i]->type.dtype) && k < type_count(&n->src[i]->type);
           k++) {
        double x = b->value[n->src[i]->id][k], e = b->error[n->src[i]->id][k];
        uint64_t sign = hash_bytes(&k, sizeof k, (uint64_t)(s * 64 + i)) & 1;
        e += DISTURBANCE * fabs(x) + 1e-7;
        src[i][k] = sign ? x + e : x - e;
      }
    const double *y = apply(b, n, (const double *const *)src);
    for (int64_t k = 0; k < count; k++) {
      double d = isnan(y[k]) && isnan(middle[k]) ? 0 : 8 * fabs(y[k] - middle[k]);
      error[k] = isnan(d) ? INFINITY : fmax(error[k], d);
    }
  }
  for (int64_t k = 0; k < count; k++)
    if (isfinite(middle[k])) largest = fmax(largest, fabs(middle[k]));
  for (int64_t k = 0; k < count; k++) error[k] += 2 * FUNCTION * largest;
  double alone = slope_alone(n);
  const Node *x = n->src[0];
  for (int64_t k = 0; alone > 0 && k < count; k++)
    error[k] += alone * (b->error[x->id][k] + DISTURBANCE * fabs(b->value[x->id][k]));
}

static void bound_node(Bounds *b, const Node *n) {
  if (ir_op[n->op].flags & IR_LEAF || n->op == OP_random) return;
  if ((ir_op[n->op].flags & IR_EW) && !(ir_op[n->op].flags & IR_RAISED)) {
    bound_elementwise(b, n);
    return;
  }
  switch (n->op) {
  case OP_reduce_sum:
  case OP_cumsum:
    if (dtype_is_float(n->type.dtype) || !is_lost(b, n, 0)) bound_sum(b, n, 0);
    return;
  case OP_scatter_add:
    if (!is_lost(b, n, 0)) bound_sum(b, n, 1);
    return;
  case OP_gather:
    if (!is_lost(b, n, 1)) bound_moved(b, n);
    return;
  case OP_reduce_prod:
    if (dtype_is_float(n->type.dtype) || !is_lost(b, n, 0)) bound_prod(b, n);
    return;
  case OP_matmul: bound_matmul(b, n); return;
  case OP_argmax: bound_argmax(b, n); return;
  case OP_reshape:
  case OP_expand:
  case OP_permute:
  case OP_slice:
  case OP_pad:
  case OP_concat:
  case OP_fold: bound_moved(b, n); return;
  case OP_reduce_max:
  case OP_reduce_min: {
    Node largest = *n;
    largest.op = OP_reduce_max;
    b->error[n->id] = apply(b, &largest, (const double *const[]){b->error[n->src[0]->id]});
    return;
  }
  default: bound_sampled(b, n);
  }
}

/* Its own rounding; what is not a number is unsure. */
static void add_rounding(Bounds *b, const Node *n) {
  double *error = b->error[n->id], unit = unit_of(n->op) + unit_of_type(n);
  bool is_float = dtype_is_float(n->type.dtype);
  if (n->op == OP_fold) unit += ROUNDING;
  for (int64_t i = 0; i < type_count(&n->type); i++) {
    double size = fabs(b->value[n->id][i]);
    if (is_float && isfinite(size) && unit > 0)
      error[i] += unit * size + (n->type.dtype == DT_f16 ? TINY_F16 : TINY);
    if (n->type.dtype == DT_f16 && size > 6e4 && isfinite(size)) error[i] = INFINITY;
    if (size > 1e37 && isfinite(size)) error[i] = INFINITY;
    if (isnan(error[i])) error[i] = INFINITY;
  }
}

bool bounded_values(Arena *arena, const Graph *g, const Feed *feed, int n_feed, Bounded *out,
                    Buf *why) {
  size_t n = (size_t)g->n_node;
  Bounds b = {arena, g, arena_alloc(arena, sizeof *b.value * (n + 1)),
              arena_alloc(arena, sizeof *b.error * (n + 1))};
  Tensor *all = arena_alloc(arena, sizeof *all * (n + 1));
  if (!ir_eval(arena, g, EVAL_f64, feed, n_feed, g->node, g->n_node, all, why)) return false;
  for (int i = 0; i < g->n_node; i++) {
    b.value[i] = all[i].data;
    b.error[i] = doubles(&b, type_count(&all[i].type));
    bound_node(&b, g->node[i]);
    add_rounding(&b, g->node[i]);
  }
  for (int i = 0; i < g->n_output; i++) {
    int id = g->output[i].node->id;
    out[i] = (Bounded){all[id], b.error[id]};
  }
  return true;
}

bool within_bounds(const Tensor *got, const Bounded *want, Tally *tally, Buf *why) {
  for (int64_t i = 0; i < type_count(&want->value.type); i++) {
    double x = got->data[i], y = want->value.data[i], e = want->error[i];
    tally->all++;
    if (isinf(e)) continue;
    tally->tight += !isfinite(y) || e <= TIGHT * (1 + fabs(y));
    bool same = isnan(y) ? isnan(x) : x == y || fabs(x - y) <= e;
    if (same) continue;
    buf_printf(why, "element %lld of ", (long long)i);
    type_print(why, &want->value.type);
    buf_printf(why, " is %.9g, expected %.9g ± %.2g", x, y, e);
    return false;
  }
  return true;
}
