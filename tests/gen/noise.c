/* What operations may err by is told in u = 2⁻²⁴, half a unit in the last place of f32, of the
 * result's magnitude; a sum's, of the magnitudes that its parts may have on the way. */
#include "tests/gen/noise.h"

#include "tests/gen/gen.h"

#include <math.h>
#include <string.h>

#define UNIT 0x1p-24
#define SUM_LIMIT                                                                                  \
  5e-6 /* of long sums but products': many threads share the terms, in a tree at last */
#define SMALLEST 0x1p-126 /* of the numbers that every device keeps: f32's normal ones */
#define LEAF "noise"      /* what the random signs are drawn from */

typedef struct Noise {
  Graph *g;
  int copy;
  const Graph *of;
  Node **made; /* by id: the node in this copy */
  int n_made;
  Node *rng;
} Noise;

/* ---- what each operation may err by ---- */

/* How many terms are summed at most for one element. */
static double terms(const Node *n) {
  const Type *x = &n->src[0]->type;
  switch (n->op) {
  case OP_matmul:
  case OP_matmul_spans: return (double)x->dim[x->rank - 1];
  case OP_cumsum: return (double)x->dim[n->ints[0]];
  case OP_scatter_add: return (double)type_count(x);
  default: return (double)type_count(x) / (double)type_count(&n->type);
  }
}

/* In f32, relative to size_of: Vulkan's limits, or what codegen's own functions keep. A sum's terms
 * may be added in any order; what each addition is off by is random, so it grows with the root. A
 * product's element, attention's over all keys too, may be one lane's sum, term after term. */
static double relative(const Node *n) {
  switch (n->op) {
  case OP_add:
  case OP_sub:
  case OP_mul: return UNIT;
  case OP_mod: return 2 * UNIT;
  case OP_rsqrt:
  case OP_exp:
  case OP_expm1:
  case OP_erfc:
  case OP_sigmoid: return 4 * UNIT;
  case OP_div: return 5 * UNIT;
  case OP_sqrt: return 9 * UNIT;
  case OP_log:
  case OP_log1p:
  case OP_tanh:
  case OP_erf: return 16 * UNIT;
  case OP_sin:
  case OP_cos:
  case OP_pow: return 80 * UNIT;
  case OP_cast: return n->src[0]->type.dtype == DT_i32 ? UNIT : 0;
  case OP_matmul:
  case OP_matmul_spans: return (2 + sqrt(terms(n))) * UNIT;
  case OP_reduce_sum:
  case OP_reduce_prod:
  case OP_cumsum:
  case OP_scatter_add: return fmin((2 + sqrt(terms(n))) * UNIT, SUM_LIMIT);
  default: return 0;
  }
}

static Node *square(Graph *g, Node *x) { return ir_mul(g, x, x); }

/* What the error is relative to besides the result; NULL: nothing. e^x errs by what x does on its
 * way to a power of 2, within limits, and so does what is made of it. */
static Node *more_of(Graph *g, Node *n) {
  if (n->op != OP_exp && n->op != OP_expm1 && n->op != OP_sigmoid && n->op != OP_erfc) return NULL;
  Node *x = ir_abs(g, n->src[0]), *one = ir_const(g, 1, &n->type);
  if (n->op == OP_sigmoid) x = ir_mul(g, x, ir_sub(g, one, n));
  if (n->op == OP_erfc) x = square(g, x);
  return ir_add(g, ir_min(g, x, ir_const(g, 16, &n->type)), ir_const(g, 4, &n->type));
}

/* The least of Σ |x| and |Σ x| + 2·√Σ x²: partial sums of terms with changing signs stay small. */
static Node *sum_size(Graph *g, Node *n, Node *magnitudes, Node *squares) {
  Node *two = ir_const(g, 2, &n->type);
  Node *partial = ir_add(g, ir_abs(g, n), ir_mul(g, two, ir_sqrt(g, squares)));
  return ir_min(g, magnitudes, partial);
}

/* A sum's error is relative to this; NULL: n is no sum. */
static Node *size_of(Graph *g, Node *n) {
  Node *x = n->n_src ? n->src[0] : NULL, *y = n->n_src > 1 ? n->src[1] : NULL;
  switch (n->op) {
  case OP_reduce_sum:
    return sum_size(g, n, ir_rebuild(g, n, (Node *[]){ir_abs(g, x)}),
                    ir_rebuild(g, n, (Node *[]){square(g, x)}));
  case OP_matmul:
  case OP_matmul_spans:
    return sum_size(g, n, ir_rebuild(g, n, (Node *[]){ir_abs(g, x), ir_abs(g, y)}),
                    ir_rebuild(g, n, (Node *[]){square(g, x), square(g, y)}));
  case OP_cumsum: return ir_rebuild(g, n, (Node *[]){ir_abs(g, x)});
  case OP_scatter_add: return ir_rebuild(g, n, (Node *[]){x, ir_abs(g, y)});
  default: return NULL;
  }
}

/* ---- a copy ---- */

/* ±error by element: a tensor of signs for each copy and shape, times a sign for each operation.
 * `alone`: nothing else errs, so that one sign will do. */
static Node *error_of(const Noise *k, const Node *of, double error, bool alone) {
  Graph *g = k->g;
  const Type *t = &of->type;
  if (k->copy <= 2 || alone) return ir_const(g, k->copy % 2 ? error : -error, t);
  Type f32 = *t;
  f32.dtype = DT_f32;
  Node *u = ir_random(g, k->rng, k->copy, &f32);
  Node *up = ir_lt(g, u, ir_const(g, 0.5, &f32));
  uint64_t key[] = {(uint64_t)of->id, (uint64_t)k->copy};
  if (hash_bytes(key, sizeof key, 0) & 1) error = -error;
  return ir_where(g, up, ir_const(g, error, t), ir_const(g, -error, t));
}

/* of: the node without errors, which n is with those of its sources. What the error is relative to
 * is taken from there, so that all copies share it. */
static Node *with_error(const Noise *k, Node *of, Node *n, bool is_output) {
  Graph *g = k->g;
  DType d = (DType)n->type.dtype;
  double error = relative(n);
  if (!dtype_is_float(d) || error == 0) return n;
  if (d == DT_bf16 && !is_output) error += 0x1p-8;
  if (d == DT_f16 && !is_output) error += 0x1p-11;
  Node *e = error_of(k, of, error, is_output && n == of), *size = size_of(g, of),
       *more = more_of(g, of);
  if (!size) {
    Node *one = ir_const(g, 1, &n->type);
    return ir_mul(g, n, ir_add(g, one, more ? ir_mul(g, e, more) : e));
  }
  size = ir_where(g, ir_isfinite(g, size), size, ir_const(g, 0, &n->type));
  return ir_add(g, n, ir_mul(g, e, size));
}

/* A device may take a number below f32's normal ones for zero: one copy, the one with all errors
 * downward, always does. */
static Node *flushed(const Noise *k, Node *n) {
  Graph *g = k->g;
  DType d = (DType)n->type.dtype;
  if (k->copy != 2 || (d != DT_f32 && d != DT_bf16)) return n;
  Node *is_small = ir_lt(g, ir_abs(g, n), ir_const(g, SMALLEST, &n->type));
  return ir_where(g, is_small, ir_const(g, 0, &n->type), n);
}

static const char *name_of(const Noise *k, const char *name) {
  return k->copy ? intern(arena_printf(k->g->arena, "%s~%d", name, k->copy)) : name;
}

static Node *copy_leaf(const Noise *k, Node *n) {
  for (int i = 0; i < k->of->n_output; i++)
    if (k->of->output[i].kind == OUT_update && k->of->output[i].name == n->name)
      return ir_leaf(k->g, n->op, name_of(k, n->name), &n->type);
  return n;
}

static Node *copy_node(Noise *k, Node *n);

static Node *computed(Noise *k, Node *n, bool is_output) {
  Node *src[IR_MAX_SRC];
  if (ir_attention_sources(n->op)) return copy_node(k, gen_attention_definition(k->g, n, false));
  if (ir_op[n->op].flags & IR_RAISED) return copy_node(k, ir_define(k->g, n, n->src));
  if (n->op == OP_param || n->op == OP_state) return copy_leaf(k, n);
  if (n->op == OP_fold) return n;
  for (int i = 0; i < n->n_src; i++) src[i] = copy_node(k, n->src[i]);
  return flushed(k, with_error(k, n, ir_rebuild(k->g, n, src), is_output));
}

static Node *copy_node(Noise *k, Node *n) {
  if (n->id >= k->n_made) {
    int n_made = 2 * n->id + 64;
    Node **made = arena_alloc(k->g->arena, sizeof(Node *) * (size_t)n_made);
    if (k->n_made) memcpy(made, k->made, sizeof(Node *) * (size_t)k->n_made);
    k->made = made;
    k->n_made = n_made;
  }
  if (!k->made[n->id]) {
    Node *r = computed(k, n, false); /* which may move k->made */
    k->made[n->id] = r;
  }
  return k->made[n->id];
}

Graph *noise_graph(const Graph *of) {
  Graph *g = graph_copy(of);
  int n_output = g->n_output;
  Output *output = arena_copy(g->arena, g->output, sizeof *output * (size_t)n_output);
  Type four = type_of(DT_i32, 1, (int64_t[]){4});
  Node *rng = ir_leaf(g, OP_state, intern(LEAF), &four);
  Noise k[NOISE_COPIES];
  for (int c = 0; c < NOISE_COPIES; c++) k[c] = (Noise){.g = g, .copy = c, .of = of, .rng = rng};
  g->n_output = 0;
  for (int i = 0; i < n_output; i++)
    for (int c = 0; c < NOISE_COPIES; c++)
      ir_output(g, output[i].kind, name_of(&k[c], output[i].name),
                c ? computed(&k[c], output[i].node, true) : output[i].node);
  ir_output(g, OUT_update, rng->name,
            ir_add(g, rng, ir_const(g, 1, &four))); /* other errors in the next run */
  return g;
}

Feed *noise_feeds(Arena *arena, const Graph *noisy, const Feed *feed, int n_feed, int *n) {
  Feed *all = NULL;
  *n = 0;
  for (int i = 0; i < n_feed; i++) ARENA_PUSH(arena, all, *n, feed[i]);
  for (int i = 0; i < noisy->n_node; i++) {
    const Node *leaf = noisy->node[i];
    bool is_kept = leaf->op == OP_param || leaf->op == OP_state;
    size_t name = is_kept ? strcspn(leaf->name, "~") : 0;
    for (int f = 0; f < n_feed && is_kept && leaf->name[name]; f++) {
      if (feed[f].op != leaf->op || feed[f].name != intern_n(leaf->name, name)) continue;
      Feed own = {leaf->op, leaf->name, feed[f].data};
      ARENA_PUSH(arena, all, *n, own);
    }
  }
  static const double seed[4] = {1, 2, 3, 4};
  Feed noise = {OP_state, intern(LEAF), seed};
  ARENA_PUSH(arena, all, *n, noise);
  return all;
}

Tensor noise_bound(Arena *arena, const Tensor *result, int output) {
  const Tensor *copy = &result[output * NOISE_COPIES], *exact = copy;
  int64_t n = type_count(&exact->type);
  Tensor bound = {exact->type, arena_alloc(arena, sizeof(double) * (size_t)n)};
  for (int64_t i = 0; i < n; i++) {
    double most = 0;
    for (int c = 1; c < NOISE_COPIES; c++) {
      double x = copy[c].data[i], want = exact->data[i];
      bool same = x == want || (isnan(x) && isnan(want));
      double off = same ? 0 : fabs(x - want);
      most = fmax(most, isnan(off) ? INFINITY : off);
    }
    bound.data[i] = 2 * most;
  }
  return bound;
}
