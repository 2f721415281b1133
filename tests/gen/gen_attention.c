/* Cases of the attention family, and its definition in primitives. */
#include "tests/gen/gen_internal.h"

#include <math.h>
#include <string.h>

#define ALL IR_UNBOUNDED

typedef enum MaskKind { MASK_none, MASK_leaf, MASK_keys, MASK_iota } MaskKind;
typedef enum KeepKind { KEEP_none, KEEP_where, KEEP_random } KeepKind;
typedef enum Layout { PLAIN, HEADS, PACKED, OTHER } Layout; /* how q, k, v lie in memory */

typedef struct Shape {
  int n_batch;
  int64_t batch[2], h, kv, t, s, c, e, lo, hi;
  double cap;
  MaskKind mask;
  KeepKind keep;
  Layout layout;
  int64_t shift;
} Shape;

/* one key and one query; causal and windowed; t ≠ s both ways, with queries that see no key; few
 * key heads; tiles and their edges; long rows; large and odd heads; every source that is optional; keys in parts */
static const Shape shape[] = {
  {0, {0}, 1, 1, 1, 1, 1, 1, -ALL, ALL, 0, MASK_none, KEEP_none, PLAIN, 0},
  {1, {2}, 3, 3, 5, 5, 4, 4, -ALL, 0, 0, MASK_none, KEEP_none, PLAIN, 0},
  {1, {2}, 2, 1, 7, 9, 3, 5, -ALL, 2, 0, MASK_none, KEEP_none, HEADS, 0},
  {0, {0}, 4, 2, 9, 5, 8, 8, -3, 0, 0, MASK_none, KEEP_none, HEADS, 0},
  {0, {0}, 2, 2, 5, 9, 4, 2, 2, 3, 0, MASK_none, KEEP_none, OTHER, 0},
  {2, {1, 2}, 2, 2, 6, 6, 5, 3, -ALL, ALL, 1.5, MASK_none, KEEP_none, OTHER, 0},
  {1, {2}, 6, 2, 3, 11, 7, 2, -ALL, ALL, 0, MASK_leaf, KEEP_none, PLAIN, 0},
  {1, {3}, 2, 1, 8, 8, 4, 8, -ALL, 0, 0, MASK_keys, KEEP_none, HEADS, 0},
  {1, {2}, 2, 2, 6, 7, 4, 4, -ALL, ALL, 0, MASK_iota, KEEP_where, PLAIN, 0},
  {1, {2}, 2, 2, 8, 8, 8, 4, -ALL, 0, 0, MASK_none, KEEP_random, PACKED, 0},
  {1, {2}, 4, 2, 9, 12, 6, 3, -5, 3, 2, MASK_leaf, KEEP_where, OTHER, 0},
  {1, {2}, 2, 2, 16, 16, 16, 16, -ALL, 0, 0, MASK_none, KEEP_none, PACKED, 0},
  {0, {0}, 2, 1, 33, 40, 17, 9, -ALL, 7, 0, MASK_none, KEEP_none, PLAIN, 0},
  {0, {0}, 1, 1, 70, 65, 64, 64, -20, 0, 0, MASK_none, KEEP_none, HEADS, 0},
  {0, {0}, 2, 1, 1, 300, 16, 16, -ALL, ALL, 0, MASK_none, KEEP_none, HEADS, 0},
  {0, {0}, 3, 1, 2, 20, 130, 3, -ALL, ALL, 30, MASK_none, KEEP_none, PLAIN, 0},
  {0, {0}, 2, 2, 20, 3, 3, 130, -ALL, 0, 0, MASK_none, KEEP_none, PLAIN, 0},
  {1, {3}, 2, 1, 24, 8, 5, 4, -ALL, 0, 0, MASK_none, KEEP_none, PLAIN, 8},
  {2, {2, 3}, 2, 2, 9, 5, 4, 6, -3, 1, 0, MASK_none, KEEP_none, HEADS, 4},
  {1, {2}, 1, 1, 40, 64, 8, 8, -ALL, ALL, 2, MASK_iota, KEEP_none, OTHER, 7},
};

static Type sized(const Shape *p, DType d, int64_t heads, int64_t rows, int64_t columns) {
  Type t = {.dtype = (uint8_t)d, .rank = (uint8_t)(p->n_batch + 3)};
  for (int i = 0; i < p->n_batch; i++) t.dim[i] = p->batch[i];
  t.dim[p->n_batch] = heads;
  t.dim[p->n_batch + 1] = rows;
  t.dim[p->n_batch + 2] = columns;
  return t;
}

/* [b…, heads, rows, columns] from [b…, rows, heads, columns], or from the first columns of
 * [b…, rows, 2·heads·columns] */
static Node *tensor(Gen *k, const char *name, const Shape *p, Type t, Values v) {
  int n = p->n_batch, r = n + 3, swap[IR_MAX_RANK] = {0};
  int64_t begin[IR_MAX_RANK] = {0}, end[IR_MAX_RANK];
  for (int i = 0; i < r; i++) swap[i] = i == n ? n + 1 : i == n + 1 ? n : i;
  Type rows_first = t;
  rows_first.dim[n] = t.dim[n + 1];
  rows_first.dim[n + 1] = t.dim[n];
  if (p->layout == PLAIN) return gen_in(k, name, t, v);
  if (p->layout == HEADS) return ir_permute(k->g, gen_in(k, name, rows_first, v), swap);
  if (p->layout == OTHER)
    return gen_operand(k, name, t, v,
                       name[0] == 'k'   ? EXPANDED
                       : name[0] == 'q' ? SLICED
                                        : PERMUTED);
  Type packed = rows_first;
  packed.rank--;
  packed.dim[n + 1] = 2 * t.dim[n] * t.dim[n + 2];
  packed.dim[n + 2] = 0;
  Node *x = gen_in(k, name, packed, v);
  for (int i = 0; i <= n + 1; i++) end[i] = i <= n ? packed.dim[i] : packed.dim[i] / 2;
  x = ir_slice(k->g, x, begin, end);
  return ir_permute(k->g, ir_reshape(k->g, x, r, rows_first.dim), swap);
}

static Node *make_mask(Gen *k, const Shape *p) {
  Type t = sized(p, DT_bool, p->h, p->t, p->s), small = sized(p, DT_bool, 1, 1, p->s);
  Type i32 = gen_retype(t, DT_i32);
  switch (p->mask) {
  case MASK_none: return NULL;
  case MASK_leaf: return gen_in(k, "mask", t, WHOLE(0, 1));
  case MASK_keys: return ir_expand(k->g, gen_in(k, "mask", small, WHOLE(0, 1)), t.rank, t.dim);
  case MASK_iota: { /* (2i + j) mod 3 ≠ 0 */
    Node *i = ir_iota(k->g, t.rank - 2, &i32), *j = ir_iota(k->g, t.rank - 1, &i32);
    Node *sum = ir_add(k->g, ir_add(k->g, i, i), j);
    return ir_ne(k->g, ir_mod(k->g, sum, ir_const(k->g, 3, &i32)), ir_const(k->g, 0, &i32));
  }
  }
  die("gen: mask %d", p->mask);
}

static Node *make_keep(Gen *k, const Shape *p, DType d) {
  Type t = sized(p, DT_f32, p->h, p->t, p->s);
  if (p->keep == KEEP_none) return NULL;
  Node *chosen;
  if (p->keep == KEEP_where) {
    chosen = gen_in(k, "keep", gen_retype(t, DT_bool), WHOLE(0, 1));
  } else {
    Node *rng = gen_in(k, "rng", SHAPE(DT_i32, 4), WHOLE(0, 1000000));
    chosen = ir_ge(k->g, ir_random(k->g, rng, 3, &t), ir_const(k->g, 0.25, &t));
  }
  Type of = gen_retype(t, d);
  return ir_where(k->g, chosen, ir_const(k->g, 4.0 / 3, &of), ir_const(k->g, 0, &of));
}

/* `queries` are q's values; all other tensors have v's. */
static void build(Gen *k, const Shape *p, DType d, Values queries, Values v, bool empty_nan) {
  AttentionAttr a = {.scale = 1 / sqrt((double)p->c),
                     .cap = p->cap,
                     .lo = p->lo,
                     .hi = p->hi,
                     .shift = p->shift,
                     .empty_nan = empty_nan};
  Node *src[6];
  src[0] = tensor(k, "q", p, sized(p, d, p->h, p->t, p->c), queries);
  src[1] = tensor(k, "k", p, sized(p, d, p->kv, p->s, p->c), v);
  a.mask = make_mask(k, p);
  if (k->op != OP_attention_lse) {
    src[2] = tensor(k, "v", p, sized(p, d, p->kv, p->s, p->e), v);
    a.keep = make_keep(k, p, d);
  }
  if (ir_attention_sources(k->op) == 6) {
    src[3] = ir_attend(k->g, OP_attention_lse, src, &a);
    src[4] = gen_in(k, "delta", sized(p, DT_f32, p->h, p->t, 1), UNIFORM(-1, 1));
    src[5] = tensor(k, "do", p, sized(p, d, p->h, p->t, p->e), UNIFORM(-2, 2));
  }
  k->y = ir_attend(k->g, k->op, src, &a);
}

static void attention(Gen *k) {
  static const Values some = {FILL_uniform, -2, 2, NULL, 0}, large = {FILL_uniform, -9, 9, NULL, 0};
  for (int i = 0; i < COUNT_OF(shape); i++)
    if (gen_next(k, k->op == OP_attention ? GEN_smooth : 0))
      build(k, &shape[i], DT_f32, some, some, false);
  for (int d = DT_f16; d <= DT_bf16; d++)
    if (gen_next(k, 0)) build(k, &shape[2], (DType)d, some, some, false);
  for (int i = 0; i < 4; i++)
    if (gen_next(k, 0)) build(k, &shape[1 + i], DT_f32, large, large, false);
  if (ir_attention_sources(k->op) == 6) return;
  static const int empty[] = {3, 6, 10}; /* queries without a key */
  for (int i = 0; i < COUNT_OF(empty) && k->op == OP_attention; i++)
    if (gen_next(k, 0)) build(k, &shape[empty[i]], DT_f32, some, some, true);
  /* queries with an infinity or a NaN; in v they may count or not where p is 0 */
  static const double odd[] = {1,  2, -1, 0.5, 0, 1, INFINITY, 3,        1,
                               -1, 2, 1,  NAN, 1, 1, 2,        -INFINITY};
  if (gen_next(k, GEN_boundary)) build(k, &shape[1], DT_f32, LIST(odd), some, false);
}

void gen_attention(Gen *k) { attention(k); }
void gen_attention_lse(Gen *k) { attention(k); }
void gen_attention_dq(Gen *k) { attention(k); }
void gen_attention_dk(Gen *k) { attention(k); }
void gen_attention_dv(Gen *k) { attention(k); }

/* ---- the definition ---- */

typedef struct Define {
  Graph *g;
  const Node *n;
  AttentionAttr a;
  bool magnitudes;
  int rank;
  Type score; /* f32 [b…, h, t, s] */
} Define;

/* f32, its magnitude where that is asked for */
static Node *plain(const Define *d, Node *x) { return ir_cast(d->g, x, DT_f32); }
static Node *sized_up(const Define *d, Node *x) {
  x = plain(d, x);
  return d->magnitudes ? ir_abs(d->g, x) : x;
}

/* [b…, kv, s, c] → [b…, h, s, c], each key head for its group of query heads; and the sum back */
static Node *to_queries(const Define *d, Node *x) {
  Type split = x->type;
  int at = d->rank - 3;
  int64_t group = d->score.dim[at] / x->type.dim[at];
  split.rank++;
  memmove(&split.dim[at + 2], &x->type.dim[at + 1], 2 * sizeof *split.dim);
  split.dim[at + 1] = 1;
  x = ir_reshape(d->g, x, split.rank, split.dim);
  split.dim[at + 1] = group;
  x = ir_expand(d->g, x, split.rank, split.dim);
  split.dim[at] *= group;
  memmove(&split.dim[at + 1], &split.dim[at + 2], 2 * sizeof *split.dim);
  return ir_reshape(d->g, x, d->rank, split.dim);
}

static Node *to_keys(const Define *d, Node *x, const Type *to) {
  Type split = x->type;
  int at = d->rank - 3;
  split.rank++;
  memmove(&split.dim[at + 2], &x->type.dim[at + 1], 2 * sizeof *split.dim);
  split.dim[at] = to->dim[at];
  split.dim[at + 1] = x->type.dim[at] / to->dim[at];
  x = ir_reshape(d->g, x, split.rank, split.dim);
  x = ir_reduce(d->g, OP_reduce_sum, x, 1, (int[]){at + 1});
  return ir_reshape(d->g, x, d->rank, to->dim);
}

static Node *transposed(const Define *d, Node *x) {
  int perm[IR_MAX_RANK];
  for (int i = 0; i < d->rank; i++) perm[i] = i;
  perm[d->rank - 2] = d->rank - 1;
  perm[d->rank - 1] = d->rank - 2;
  return ir_permute(d->g, x, perm);
}

static Node *to_scores(const Define *d, Node *x) {
  return ir_expand(d->g, x, d->rank, d->score.dim);
}

static Node *visible(const Define *d) {
  Graph *g = d->g;
  Type i32 = d->score, of = d->score;
  i32.dtype = DT_i32;
  of.dtype = DT_bool;
  Node *i = ir_iota(g, d->rank - 2, &i32), *j = ir_iota(g, d->rank - 1, &i32);
  if (d->a.shift)
    j =
      ir_add(g, j, ir_mul(g, ir_iota(g, d->rank - 4, &i32), ir_const(g, (double)d->a.shift, &i32)));
  Node *distance = ir_sub(g, j, i), *seen = ir_const(g, 1, &of);
  if (d->a.lo > -IR_UNBOUNDED)
    seen = ir_and(g, seen, ir_ge(g, distance, ir_const(g, (double)d->a.lo, &i32)));
  if (d->a.hi < IR_UNBOUNDED)
    seen = ir_and(g, seen, ir_le(g, distance, ir_const(g, (double)d->a.hi, &i32)));
  return d->a.mask ? ir_and(g, seen, d->a.mask) : seen;
}

/* The largest errors that scores have are in proportion to the magnitudes of their terms, and those
 * of p to that of the score: 1 + Σ scale·|q·k| / 16 for each of p. */
static Node *score_terms(const Define *d) {
  Graph *g = d->g;
  Node *k = transposed(d, to_queries(d, sized_up(d, d->n->src[1])));
  Node *x = ir_matmul(g, sized_up(d, d->n->src[0]), k);
  return ir_mul(g, x, ir_const(g, fabs(d->a.scale), &d->score));
}

static Node *widened(const Define *d, Node *p) {
  Graph *g = d->g;
  if (!d->magnitudes) return p;
  Node *part = ir_mul(g, score_terms(d), ir_const(g, 1.0 / 16, &d->score));
  return ir_mul(g, p, ir_add(g, part, ir_const(g, 1, &d->score)));
}

/* *slope: d score / d product, times the scale */
static Node *scores(const Define *d, Node **slope) {
  Graph *g = d->g;
  const Type *t = &d->score;
  Node *k = to_queries(d, plain(d, d->n->src[1])), *scale = ir_const(g, d->a.scale, t);
  Node *x = ir_mul(g, ir_matmul(g, plain(d, d->n->src[0]), transposed(d, k)), scale);
  *slope = scale;
  if (d->a.cap > 0) {
    Node *cap = ir_const(g, d->a.cap, t), *bent = ir_tanh(g, ir_div(g, x, cap));
    x = ir_mul(g, cap, bent);
    *slope = ir_mul(g, scale, ir_sub(g, ir_const(g, 1, t), ir_mul(g, bent, bent)));
  }
  return ir_where(g, visible(d), x, ir_const(g, -INFINITY, t));
}

/* Σ exp(score − *most) by row */
static Node *denominator(const Define *d, Node *x, Node **most) {
  Graph *g = d->g;
  int last[] = {d->rank - 1};
  Node *m = ir_reduce(g, OP_reduce_max, x, 1, last);
  Node *none = ir_eq(g, m, ir_const(g, -INFINITY, &m->type));
  *most = ir_where(g, none, ir_const(g, 0, &m->type), m);
  return ir_reduce(g, OP_reduce_sum, ir_exp(g, ir_sub(g, x, to_scores(d, *most))), 1, last);
}

static Node *kept(const Define *d, Node *x) {
  return d->a.keep ? ir_mul(d->g, x, sized_up(d, d->a.keep)) : x;
}

static Node *forward(const Define *d) {
  Graph *g = d->g;
  Node *slope, *most, *x = scores(d, &slope), *sum = denominator(d, x, &most);
  if (d->n->op == OP_attention_lse && d->magnitudes)
    return ir_add(g, ir_reduce(g, OP_reduce_max, score_terms(d), 1, (int[]){d->rank - 1}),
                  ir_abs(g, ir_log(g, sum)));
  if (d->n->op == OP_attention_lse) return ir_add(g, most, ir_log(g, sum));
  Node *p = ir_div(g, ir_exp(g, ir_sub(g, x, to_scores(d, most))), to_scores(d, sum));
  Node *some = ir_ne(g, sum, ir_const(g, 0, &sum->type));
  p = ir_where(g, ir_expand(g, some, d->rank, d->score.dim), p, ir_const(g, 0, &d->score));
  Node *o = ir_matmul(g, kept(d, widened(d, p)), to_queries(d, sized_up(d, d->n->src[2])));
  if (!d->a.empty_nan) return o;
  return ir_where(g, ir_expand(g, some, d->rank, o->type.dim), o, ir_const(g, NAN, &o->type));
}

static Node *backward(const Define *d) {
  Graph *g = d->g;
  Node *const *src = d->n->src;
  Node *slope, *x = scores(d, &slope), *lse = src[3], *delta = to_scores(d, sized_up(d, src[4]));
  Node *none = ir_const(g, -INFINITY, &lse->type);
  Node *safe = ir_where(g, ir_eq(g, lse, none), ir_const(g, 0, &lse->type), lse);
  Node *p = widened(d, ir_exp(g, ir_sub(g, x, to_scores(d, safe))));
  if (d->n->op == OP_attention_dv)
    return to_keys(d, ir_matmul(g, transposed(d, kept(d, p)), sized_up(d, src[5])), &src[2]->type);
  Node *v = to_queries(d, sized_up(d, src[2]));
  Node *dp = kept(d, ir_matmul(g, sized_up(d, src[5]), transposed(d, v)));
  dp = d->magnitudes ? ir_add(g, dp, delta) : ir_sub(g, dp, delta);
  if (d->magnitudes) slope = ir_abs(g, slope);
  Node *ds = ir_mul(g, ir_mul(g, p, dp), slope);
  ds = ir_where(g, visible(d), ds, ir_const(g, 0, &d->score)); /* not 0 · NaN */
  if (d->n->op == OP_attention_dq) return ir_matmul(g, ds, to_queries(d, sized_up(d, src[1])));
  return to_keys(d, ir_matmul(g, transposed(d, ds), sized_up(d, src[0])), &src[1]->type);
}

Node *gen_attention_definition(Graph *g, const Node *n, bool magnitudes) {
  Define d = {.g = g,
              .n = n,
              .a = ir_attention(n),
              .magnitudes = magnitudes,
              .rank = n->src[0]->type.rank,
              .score = n->src[0]->type};
  d.score.dtype = DT_f32;
  d.score.dim[d.rank - 1] = n->src[1]->type.dim[d.rank - 2];
  Node *y = ir_attention_sources(n->op) == 6 ? backward(&d) : forward(&d);
  return magnitudes ? y : ir_cast(g, y, (DType)n->type.dtype);
}
