/* Random programs, grown from their results down. Every node is computed as it is made: what would
 * leave the domain of an operation or grow too large is brought back, so that values stay within
 * some tens and most comparisons mean something. */
#include <math.h>
#include <string.h>

#include "tests/gen/gen.h"
#include "tests/gen/grow.h"
#include "tests/never_wrong/never_wrong.h"

enum { MAX_NODES = 400, MAX_POOL = 64, LARGEST = 1500 };

typedef struct Program {
  Grow k;
  Node *pool[MAX_POOL]; /* for sharing */
  int n_pool, n_region;
} Program;

static Node *grow(Program *, const Type *, int depth);

static uint32_t draw(Program *p, uint32_t below) { return grow_draw(&p->k, below); }

/* ---- values so far ---- */
typedef struct Range {
  double low, high;
  bool finite;
} Range;

static Range range_of(Program *p, Node *n) {
  Arena *arena = arena_new();
  Tensor t;
  Buf why = {0};
  int n_feed;
  Feed *feed = grow_feeds(arena, p->k.g, &n_feed);
  Range r = {INFINITY, -INFINITY, true};
  if (!ir_eval(arena, p->k.g, EVAL_f64, feed, n_feed, &n, 1, &t, &why))
    die("never_wrong: %s", why.data);
  for (int64_t i = 0; i < type_count(&n->type); i++) {
    r.low = fmin(r.low, t.data[i]);
    r.high = fmax(r.high, t.data[i]);
    r.finite = r.finite && isfinite(t.data[i]);
  }
  arena_free(arena);
  return r;
}

static Node *number(Program *p, double x, const Node *like) {
  return ir_const(p->k.g, dtype_round((DType)like->type.dtype, x), &like->type);
}

/* A tame version of what was made: divided by a power of two, or cut off. */
static Node *tamed(Program *p, Node *n) {
  if (!dtype_is_float(n->type.dtype)) return n;
  Range r = range_of(p, n);
  if (!r.finite) return NULL;
  double size = fmax(fabs(r.low), fabs(r.high));
  if (size <= 40) return n;
  return ir_mul(p->k.g, n, number(p, exp2(-ceil(log2(size / 4))), n));
}

/* A source as the operation needs it. */
static Node *in_domain(Program *p, Op op, int which, Node *x) {
  Graph *g = p->k.g;
  if (!dtype_is_float(x->type.dtype)) return x;
  Range r = range_of(p, x);
  switch (op) {
  case OP_log:
  case OP_sqrt:
  case OP_rsqrt:
  case OP_log1p:
    if (r.low >= 0.1) return x;
    return draw(p, 2) ? ir_add(g, ir_abs(g, x), number(p, 0.5, x))
                      : ir_add(g, ir_mul(g, x, x), number(p, 0.25, x));
  case OP_exp:
  case OP_expm1: return r.high > 3 ? ir_sub(g, number(p, 1, x), ir_abs(g, x)) : x;
  case OP_div:
  case OP_mod: /* away from 0 */
    if (which == 0 || r.low > 0.2 || r.high < -0.2) return x;
    return ir_add(g, ir_abs(g, x), number(p, 0.75, x));
  case OP_pow:
    if (which == 1) {
      static const double power[] = {0, 1, 2, 3, 4, -1, 0.5, -0.5, 1.5};
      return draw(p, 3) ? number(p, power[draw(p, COUNT_OF(power))], x) : ir_tanh(g, x);
    }
    return r.low > 0.2 ? x : ir_add(g, ir_abs(g, x), number(p, 0.5, x));
  case OP_sin:
  case OP_cos: return fmax(-r.low, r.high) > 8 ? ir_tanh(g, x) : x;
  case OP_reduce_prod: return fmax(-r.low, r.high) > 1.5 ? ir_sin(g, x) : x;
  default: return x;
  }
}

/* ---- leaves ---- */
static Node *make_leaf(Program *p, const Type *t, int limit) {
  Graph *g = p->k.g;
  static const double some[] = {0, 1, -1, 0.5, 2, -2, 3, 0.25, -0.0, 1e-3};
  static const Op op[] = {OP_param, OP_param, OP_state, OP_input};
  uint32_t pick = draw(p, 16);
  if (limit > 0) {
    if (t->rank > 0 && pick < 4) {
      int axis = (int)draw(p, t->rank);
      if (t->dim[axis] <= limit) return ir_iota(g, axis, t);
    }
    return grow_leaf(&p->k, OP_input, 'i', limit, t);
  }
  if (t->dtype == DT_bool) {
    if (pick < 3) return ir_const(g, pick % 2, t);
    return grow_leaf(&p->k, OP_input, 'b', 0, t);
  }
  if (t->dtype == DT_i32) {
    if (pick < 4 && t->rank > 0) return ir_iota(g, (int)draw(p, t->rank), t);
    if (pick < 7) return ir_const(g, (double)pick - 2, t);
    return grow_leaf(&p->k, pick % 2 ? OP_input : OP_state, 'i', 7, t);
  }
  if (pick < 3) return number(p, some[draw(p, COUNT_OF(some))], &(Node){.type = *t});
  if (pick == 3 && t->dtype == DT_f32) {
    static const Type rng = {.dtype = DT_i32, .rank = 1, .dim = {4}};
    return ir_random(g, ir_leaf(g, OP_input, "rng", &rng), p->k.n_leaf++, t);
  }
  if (pick == 4 && t->rank > 0) { /* a table that is computed by the compiler */
    Type whole = *t;
    whole.dtype = DT_i32;
    Node *i = ir_cast(g, ir_iota(g, (int)draw(p, t->rank), &whole), (DType)t->dtype);
    return ir_fold(g, ir_sin(g, i));
  }
  if (pick >= 14 && t->dtype == DT_f32) { /* 16-bit numbers widened, as mixed precision does */
    Type half = *t;
    half.dtype = pick % 2 ? DT_bf16 : DT_f16;
    return ir_cast(g, grow_leaf(&p->k, op[pick % COUNT_OF(op)], 'u', 0, &half), DT_f32);
  }
  return grow_leaf(&p->k, op[pick % COUNT_OF(op)], pick % 5 ? 'u' : 'p', 0, t);
}

/* Leaves belong to no checkpoint. */
static Node *leaf(Program *p, const Type *t, int limit) {
  int region = p->k.g->region;
  p->k.g->region = 0;
  Node *x = make_leaf(p, t, limit);
  p->k.g->region = region;
  return x;
}

/* ---- what models are made of, in several spellings ---- */
static Node *spread(Program *p, Node *x, const Type *t) {
  return ir_expand(p->k.g, x, t->rank, t->dim);
}

static Node *along(Program *p, Op op, Node *x, int axis) {
  return ir_reduce(p->k.g, op, x, 1, &axis);
}

static Node *softmax(Program *p, Node *x, int axis) {
  Graph *g = p->k.g;
  uint32_t pick = draw(p, 8);
  if (pick & 1) {
    Node *largest = along(p, OP_reduce_max, x, axis);
    x = ir_sub(g, x, spread(p, pick & 2 ? ir_stop_gradient(g, largest) : largest, &x->type));
  } else if (range_of(p, x).high > 3) {
    x = ir_tanh(g, x);
  }
  Node *e = ir_exp(g, x), *sum = along(p, OP_reduce_sum, e, axis);
  if (pick & 4) return ir_mul(g, e, spread(p, ir_div(g, number(p, 1, sum), sum), &e->type));
  return ir_div(g, e, spread(p, sum, &e->type));
}

static Node *norm(Program *p, Node *x, int axis) {
  Graph *g = p->k.g;
  uint32_t pick = draw(p, 8);
  if (pick & 1) x = ir_sub(g, x, spread(p, ir_mean(g, x, 1, &axis), &x->type));
  Node *square = ir_mean(g, ir_mul(g, x, x), 1, &axis);
  Node *safe = ir_add(g, square, number(p, 0.05, square));
  if (pick & 2) return ir_mul(g, x, spread(p, ir_rsqrt(g, safe), &x->type));
  return ir_div(g, x, spread(p, ir_sqrt(g, safe), &x->type));
}

static Node *activation(Program *p, Node *x) {
  Graph *g = p->k.g;
  Node *half = number(p, 0.5, x), *one = number(p, 1, x);
  switch (draw(p, 5)) {
  case 0: return ir_mul(g, x, ir_sigmoid(g, x));
  case 1: {
    Node *cube = ir_mul(g, x, ir_mul(g, x, x));
    Node *u = ir_add(g, x, ir_mul(g, number(p, 0.044715, x), cube));
    u = ir_tanh(g, ir_mul(g, number(p, 0.7978845608028654, x), u));
    return ir_mul(g, ir_mul(g, half, x), ir_add(g, one, u));
  }
  case 2: {
    Node *u = ir_erf(g, ir_mul(g, x, number(p, 0.7071067811865476, x)));
    return ir_mul(g, ir_mul(g, x, half), ir_add(g, u, one));
  }
  case 3: {
    Node *u = ir_erfc(g, ir_mul(g, x, number(p, -0.7071067811865476, x)));
    return ir_mul(g, half, ir_mul(g, x, u));
  }
  default: {
    Node *y = ir_relu(g, x);
    return ir_mul(g, y, y);
  }
  }
}

/* The operation itself, with all that it may carry. */
static Node *attention_operation(Program *p, const Type *want, int depth) {
  Graph *g = p->k.g;
  int r = want->rank;
  if (r < 3) return NULL;
  Type q = *want, k = *want, score = *want;
  int64_t heads = want->dim[r - 3];
  q.dim[r - 1] = k.dim[r - 1] = 1 + draw(p, 5);
  k.dim[r - 2] = score.dim[r - 1] = draw(p, 2) ? want->dim[r - 2] : 1 + draw(p, 6);
  k.dim[r - 3] = draw(p, 2) ? heads : heads % 2 == 0 && draw(p, 2) ? heads / 2 : 1;
  Type v = k, mask = score;
  v.dim[r - 1] = want->dim[r - 1];
  mask.dtype = DT_bool;
  if (type_count(&score) > p->k.largest || type_count(&q) > p->k.largest) return NULL;
  AttentionAttr a = {.scale = (float)(0.5 / sqrt((double)q.dim[r - 1])),
                     .cap = draw(p, 4) ? 0 : 1.5,
                     .lo = draw(p, 4) ? -IR_UNBOUNDED : -2,
                     .hi = draw(p, 2) ? IR_UNBOUNDED : draw(p, 3)};
  if (draw(p, 3) == 0) a.mask = grow(p, &mask, depth);
  if (draw(p, 3) == 0) {
    Node *kept = grow(p, &mask, 0), *one = ir_const(g, 1.25, &score);
    a.keep = ir_where(g, kept, one, ir_const(g, 0, &score));
  }
  Node *src[3] = {grow(p, &q, depth), grow(p, &k, depth), grow(p, &v, depth)};
  return ir_attend(g, OP_attention, src, &a);
}

/* softmax(q·kᵀ, masked) · v */
static Node *attention(Program *p, const Type *want, int depth) {
  Graph *g = p->k.g;
  int r = want->rank, swap[IR_MAX_RANK];
  if (r < 2) return NULL;
  Type q = *want, k = *want, score = *want;
  q.dim[r - 1] = k.dim[r - 1] = 1 + draw(p, 5);
  k.dim[r - 2] = score.dim[r - 1] = draw(p, 2) ? want->dim[r - 2] : 1 + draw(p, 6);
  Type v = *want;
  v.dim[r - 2] = k.dim[r - 2];
  if (type_count(&score) > p->k.largest || type_count(&q) > p->k.largest) return NULL;
  for (int i = 0; i < r; i++) swap[i] = i;
  swap[r - 1] = r - 2;
  swap[r - 2] = r - 1;
  Node *s = ir_matmul(g, grow(p, &q, depth), ir_permute(g, grow(p, &k, depth), swap));
  s = ir_mul(g, s, number(p, 1 / sqrt((double)q.dim[r - 1]), s));
  if (draw(p, 2)) {
    Type index = score;
    index.dtype = DT_i32;
    Node *seen = ir_le(g, ir_iota(g, r - 1, &index), ir_iota(g, r - 2, &index));
    s = ir_where(g, seen, s, number(p, -1e30, s));
  }
  if (range_of(p, s).high > 30) s = ir_tanh(g, s);
  Node *largest = along(p, OP_reduce_max, s, r - 1);
  Node *e = ir_exp(g, ir_sub(g, s, spread(p, largest, &s->type)));
  Node *prob = ir_div(g, e, spread(p, along(p, OP_reduce_sum, e, r - 1), &e->type));
  return ir_matmul(g, prob, grow(p, &v, depth));
}

/* log Σ eˣ − x[y] along the last axis of the logits, y by comparing with an iota */
static Node *cross_entropy(Program *p, const Type *want, int depth) {
  Graph *g = p->k.g;
  int r = want->rank;
  Type wide = *want, one, index;
  if (r >= 4) return NULL;
  wide.dim[r] = 2 + draw(p, 6);
  wide.rank++;
  if (type_count(&wide) > p->k.largest) return NULL;
  one = index = wide;
  one.dim[r] = 1;
  one.dtype = index.dtype = DT_i32;
  Node *x = grow(p, &wide, depth), *ids = leaf(p, &one, (int)wide.dim[r]);
  Node *largest = along(p, OP_reduce_max, x, r);
  x = ir_sub(g, x, spread(p, largest, &wide));
  Node *lse = ir_log(g, along(p, OP_reduce_sum, ir_exp(g, x), r));
  Node *is_target = ir_eq(g, ir_iota(g, r, &index), spread(p, ids, &index));
  Node *chosen = along(p, OP_reduce_sum, ir_where(g, is_target, x, number(p, 0, x)), r);
  return ir_reshape(g, ir_sub(g, lse, chosen), r, want->dim);
}

static Node *phrase(Program *p, const Type *t, int depth) {
  if (t->dtype != DT_f32) return NULL;
  uint32_t pick = draw(p, 6);
  if (pick == 5) return cross_entropy(p, t, depth - 1);
  if (pick == 4) return (draw(p, 2) ? attention : attention_operation)(p, t, depth - 1);
  Node *x = grow(p, t, depth - 1);
  if (pick == 0 || t->rank == 0) return activation(p, x);
  int axis = draw(p, 3) ? t->rank - 1 : (int)draw(p, t->rank);
  return pick == 1 ? norm(p, x, axis) : softmax(p, x, axis);
}

/* ---- operations ---- */
static Op draw_op(Program *p) {
  static const Op often[] = {OP_add,     OP_mul,    OP_sub,        OP_matmul,     OP_reshape,
                             OP_permute, OP_expand, OP_reduce_sum, OP_reduce_sum, OP_where,
                             OP_concat,  OP_slice,  OP_add,        OP_mul,        OP_reduce_max};
  return draw(p, 2) ? often[draw(p, COUNT_OF(often))] : (Op)draw(p, GEN_OPS);
}

static Node *operation(Program *p, const Type *t, int depth) {
  GrowSources s;
  Node *src[IR_MAX_SRC];
  Op op = draw_op(p);
  if (!grow_sources(&p->k, op, t, &s)) return NULL;
  if (op == OP_cast && s.src[0].dtype != DT_f32 && dtype_is_float(s.src[0].dtype) && draw(p, 3))
    return NULL; /* 16-bit numbers are so coarse that little can be said behind them */
  for (int i = 0; i < s.n_src; i++) {
    src[i] = s.limit[i] ? leaf(p, &s.src[i], s.limit[i]) : grow(p, &s.src[i], depth - 1);
    src[i] = in_domain(p, op, i, src[i]);
  }
  return ir_make(p->k.g, op, ir_op[op].given ? t : NULL, &s.attr, s.n_src, src);
}

static Node *shared(Program *p, const Type *t) {
  for (int tries = 0; tries < 6 && p->n_pool; tries++) {
    Node *x = p->pool[draw(p, (uint32_t)p->n_pool)];
    if (type_eq(&x->type, t)) return x;
    bool fits = x->type.rank == t->rank && x->type.dtype == t->dtype;
    for (int i = 0; fits && i < t->rank; i++)
      fits = x->type.dim[i] == 1 || x->type.dim[i] == t->dim[i];
    if (fits) return ir_expand(p->k.g, x, t->rank, t->dim);
  }
  return NULL;
}

/* An operation or more of them; now and then all below it is one checkpoint. */
static Node *grow_one(Program *p, const Type *t, int depth) {
  int region = p->k.g->region;
  if (region == 0 && depth > 1 && draw(p, 25) == 0) p->k.g->region = ++p->n_region;
  Node *x = draw(p, 6) == 0 ? phrase(p, t, depth) : operation(p, t, depth);
  if (x) x = tamed(p, x);
  p->k.g->region = region;
  return x;
}

static Node *grow(Program *p, const Type *t, int depth) {
  Node *x = draw(p, 4) == 0 ? shared(p, t) : NULL;
  if (x) return x;
  for (int tries = 0; depth > 0 && tries < 12 && p->k.g->n_node < MAX_NODES; tries++) {
    x = grow_one(p, t, depth);
    if (!x) continue;
    p->pool[p->n_pool < MAX_POOL ? p->n_pool++ : (int)draw(p, MAX_POOL)] = x;
    return x;
  }
  return leaf(p, t, 0);
}

/* ---- programs ---- */
static Node *total(Graph *g, Node *x) {
  int axis[IR_MAX_RANK];
  for (int i = 0; i < x->type.rank; i++) axis[i] = i;
  return ir_reshape(g, ir_reduce(g, OP_reduce_sum, x, x->type.rank, axis), 0, NULL);
}

static void add_loss(Graph *g) {
  Node *loss = NULL;
  for (int i = 0; i < g->n_output; i++) {
    Node *y = g->output[i].node;
    if (y->type.dtype != DT_f32) continue;
    Node *part = total(g, ir_mul(g, y, y));
    part = ir_mul(g, part, ir_const(g, 1 / (double)type_count(&y->type), &part->type));
    loss = loss ? ir_add(g, loss, part) : part;
  }
  if (loss) ir_output(g, OUT_value, "loss", loss);
}

static void add_updates(Program *p, int depth) {
  Graph *g = p->k.g;
  int n = g->n_node;
  for (int i = 0; i < n; i++) {
    const Node *x = g->node[i];
    if ((x->op != OP_param && x->op != OP_state) || draw(p, 3)) continue;
    ir_output(g, OUT_update, x->name, grow(p, &x->type, depth));
  }
}

static const char *case_name(uint32_t seed) {
  char name[24];
  snprintf(name, sizeof name, "case_%u", seed);
  return intern(name);
}

Graph *random_program(uint32_t seed) {
  static const DType dtypes[] = {DT_f32, DT_f32,  DT_f32,  DT_f32, DT_f32,
                                 DT_i32, DT_bool, DT_bf16, DT_f16};
  static const int64_t longest[] = {2, 5, 7, 13, 40, 700};
  Graph *g = graph_new(case_name(seed));
  Program p = {.k = {.g = g,
                     .seed = seed,
                     .largest = seed % 25 ? LARGEST : 8 * LARGEST,
                     .n_leaf = (int)(seed % (1 << 21)) * 512}};
  int n = 1 + (int)draw(&p, 3), depth = 1 + (int)draw(&p, 5);
  for (int i = 0; i < n; i++) {
    char name[16];
    snprintf(name, sizeof name, "y%d", i);
    Type t =
      grow_type(&p.k, dtypes[draw(&p, COUNT_OF(dtypes))], 4, longest[draw(&p, COUNT_OF(longest))]);
    ir_output(g, OUT_value, intern(name), grow(&p, &t, depth));
  }
  if (draw(&p, 2)) add_loss(g);
  add_updates(&p, depth / 2);
  Graph *live = graph_copy(g);
  graph_free(g);
  return live;
}
