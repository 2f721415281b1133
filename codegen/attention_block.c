/* One block of streamed rows: scores, their weights, and the sums that they go into. */
#include "codegen/attention.h"

#include <math.h>

typedef struct Block {
  SpvId first;                      /* row of the block's first */
  SpvId loaded;                     /* the row that this lane loads; portable: 0 */
  const Ix *row_ix[ATT_MAX_STREAM]; /* each row, within the tensor */
  SpvId row[ATT_MAX_STREAM], a[ATT_MAX_STREAM], b[ATT_MAX_STREAM]; /* …, element offsets */
  SpvId (*score)[ATT_MAX_GROUPS], (*dp)[ATT_MAX_GROUPS];
} Block;

/* ---- streamed rows ---- */

static const Ix *stream_head(const Attention *m) {
  return m->to_keys ? m->query_head : m->key_head;
}

/* Element offsets of the rows that this invocation loads: of its lane's, or of all. */
static void place_rows(Attention *m, Block *w) {
  Kernel *k = m->k;
  SpvId last = const_u(k, (uint32_t)(m->stream_rows - 1));
  for (int j = 0; j < m->stream; j++) {
    w->row[j] = op_u(k, SpvOpIAdd, w->first, (uint32_t)j);
    SpvId past = spv_cmp(k->b, SpvOpUGreaterThan, w->row[j], last);
    SpvId row = m->edge ? choose(k, past, last, w->row[j]) : w->row[j];
    w->row_ix[j] = ix_value(k->ix, row, m->stream_rows);
    if (m->lanes > 1) continue;
    w->a[j] = att_row(m, &m->stream_a, stream_head(m), row);
    if (m->stream_b.channels) w->b[j] = att_row(m, &m->stream_b, stream_head(m), row);
  }
  if (m->lanes == 1) return;
  SpvId row = spv_bin(k->b, SpvOpIAdd, w->first, m->lane);
  SpvId past = spv_cmp(k->b, SpvOpUGreaterThan, row, last);
  w->loaded = m->edge ? choose(k, past, last, row) : row;
  w->a[0] = att_row(m, &m->stream_a, stream_head(m), w->loaded);
  if (m->stream_b.channels) w->b[0] = att_row(m, &m->stream_b, stream_head(m), w->loaded);
}

/* Row j's quad of channels, in every lane. */
static SpvId streamed(Attention *m, const AttRows *r, const SpvId *at, int j, SpvId quad, int n) {
  if (m->lanes == 1) return att_load(m, r, at[j], quad, n);
  SpvId own = att_load(m, r, at[0], quad, n);
  SpvId lane = const_u(m->k, (uint32_t)j);
  return spv_shuffle(m->k->b, own, lane);
}

/* A row's number from memory: lse, delta. */
static SpvId streamed_number(Attention *m, const AttRows *r, const Block *w, int j) {
  Kernel *k = m->k;
  SpvId row = m->lanes > 1 ? w->loaded : ix_emit(k->ix, w->row_ix[j]);
  SpvId at = att_row(m, r, stream_head(m), row);
  return kernel_load_at(k, r->at.base, at);
}

/* ---- products of rows ---- */

typedef struct Products {
  const AttRows *rows;
  const SpvId *at;
  const AttPrivate *own;
  SpvId variable[ATT_MAX_STREAM][ATT_MAX_GROUPS];
} Products;

static void products_quad(Attention *m, SpvId quad, int n, void *context) {
  const Products *p = context;
  Kernel *k = m->k;
  SpvId own[ATT_MAX_GROUPS];
  for (int g = 0; g < m->groups; g++) {
    SpvId at = spv_local_at(k->b, p->own[g], quad);
    own[g] = spv_get(k->b, at);
  }
  for (int j = 0; j < m->stream; j++) {
    SpvId x = streamed(m, p->rows, p->at, j, quad, n);
    for (int g = 0; g < m->groups; g++) {
      SpvId sum = spv_get(k->b, p->variable[j][g]);
      for (int i = 0; i < n; i++) {
        SpvId mine = spv_extract(k->b, own[g], (uint32_t)i);
        SpvId theirs = spv_extract(k->b, x, (uint32_t)i);
        sum = spv_fma(k->b, mine, theirs, sum);
      }
      spv_set(k->b, p->variable[j][g], sum);
    }
  }
}

static void products(Attention *m, const AttRows *rows, const SpvId *at, const AttPrivate *own,
                     SpvId (*to)[ATT_MAX_GROUPS]) {
  Kernel *k = m->k;
  Products p = {rows, at, own, {{0}}};
  SpvId zero = const_f(k, 0);
  for (int j = 0; j < m->stream; j++)
    for (int g = 0; g < m->groups; g++) {
      p.variable[j][g] = spv_local(k->b, spv_f32(k->b));
      spv_set(k->b, p.variable[j][g], zero);
    }
  att_each_quad(m, rows->channels, products_quad, &p);
  for (int j = 0; j < m->stream; j++)
    for (int g = 0; g < m->groups; g++) to[j][g] = spv_get(k->b, p.variable[j][g]);
}

/* ---- sums of rows ---- */

typedef struct Sums {
  const AttRows *rows;
  const SpvId *at;
  const AttPrivate *sum;
  SpvId (*weight)[ATT_MAX_GROUPS];
  const SpvId *decay; /* factors of the sums so far; NULL: 1 */
} Sums;

static SpvId splat(Kernel *k, SpvId x) {
  SpvId vec4 = spv_vec(k->b, spv_f32(k->b), 4);
  return spv_pure(k->b, SpvOpCompositeConstruct, vec4, x, x, x, x);
}

static void sums_quad(Attention *m, SpvId quad, int n, void *context) {
  const Sums *s = context;
  Kernel *k = m->k;
  SpvId part[ATT_MAX_GROUPS] = {0};
  for (int j = 0; j < m->stream; j++) {
    SpvId x = streamed(m, s->rows, s->at, j, quad, n);
    for (int g = 0; g < m->groups; g++) {
      SpvId weight = splat(k, s->weight[j][g]);
      part[g] = j ? spv_fma(k->b, weight, x, part[g]) : mul_f(k, weight, x);
    }
  }
  for (int g = 0; g < m->groups; g++) {
    SpvId at = spv_local_at(k->b, s->sum[g], quad);
    SpvId sum = spv_get(k->b, at);
    if (s->decay) {
      SpvId decay = splat(k, s->decay[g]);
      sum = spv_fma(k->b, sum, decay, part[g]);
    } else {
      sum = add_f(k, sum, part[g]);
    }
    spv_set(k->b, at, sum);
  }
}

/* ---- what is visible ---- */

/* The pair's index in mask and keep. */
static void pair_index(Attention *m, const AttPair *p, const Ix **index) {
  for (int i = 0; i < m->n_batch; i++) index[i] = m->batch[i];
  index[m->n_batch] = m->query_head;
  index[m->n_batch + 1] = m->to_keys ? p->streamed_ix : p->own_ix;
  index[m->n_batch + 2] = m->to_keys ? p->own_ix : p->streamed_ix;
}

SpvId att_visible(Attention *m, const AttPair *p) {
  Kernel *k = m->k;
  const Ix *index[IR_MAX_RANK];
  SpvId i = m->to_keys ? p->streamed : p->own, key = m->to_keys ? p->own : p->streamed;
  SpvId test[4];
  int n = 0;
  if (m->a.shift && (m->a.lo > -m->t || m->a.hi < m->s + m->past)) {
    SpvId by = att_shift(m);
    key = spv_bin(k->b, SpvOpIAdd, key, by);
  }
  if (m->a.lo > -m->t) {
    SpvId least = op_u(k, SpvOpIAdd, i, (uint32_t)m->a.lo);
    test[n++] = spv_cmp(k->b, SpvOpSGreaterThanEqual, key, least);
  }
  if (m->a.hi < m->s + m->past) {
    SpvId most = op_u(k, SpvOpIAdd, i, (uint32_t)m->a.hi);
    test[n++] = spv_cmp(k->b, SpvOpSLessThanEqual, key, most);
  }
  if (m->edge) {
    SpvId rows = const_u(k, (uint32_t)m->stream_rows);
    test[n++] = spv_cmp(k->b, SpvOpULessThan, p->streamed, rows);
  }
  if (m->a.mask) {
    pair_index(m, p, index);
    test[n++] = expr_value(k, m->a.mask, index);
  }
  SpvId all = n ? test[0] : 0;
  for (int t = 1; t < n; t++) all = both(k, all, test[t]);
  return all;
}

SpvId att_score(Attention *m, const AttPair *p, SpvId product, SpvId *slope) {
  Kernel *k = m->k;
  SpvId x = math_mul_c(k, product, (float)m->a.scale);
  *slope = 0;
  if (m->a.cap > 0) {
    SpvId cap = const_f(k, (float)m->a.cap), one = const_f(k, 1);
    x = div_f(k, x, cap);
    SpvId bent = math_tanh(k, x);
    x = mul_f(k, cap, bent);
    SpvId square = mul_f(k, bent, bent);
    *slope = sub_f(k, one, square);
  }
  SpvId seen = att_visible(m, p);
  SpvId never = const_f(k, -INFINITY);
  return seen ? choose(k, seen, x, never) : x;
}

SpvId att_times_keep(Attention *m, const AttPair *p, SpvId x) {
  const Ix *index[IR_MAX_RANK];
  if (!m->a.keep) return x;
  pair_index(m, p, index);
  SpvId keep = expr_value(m->k, m->a.keep, index);
  return mul_f(m->k, x, keep);
}

/* Own row g and streamed row j. */
static AttPair pair(const Attention *m, const Block *w, int j, int g) {
  return (AttPair){m->row[g], w->row[j], m->row_ix[g], w->row_ix[j]};
}

/* ---- weights ---- */

/* Online softmax: with m' the maximum so far, p = exp(score − m'), and what was summed before
 * decays by exp(m − m'). */
static void forward_weights(Attention *m, Block *w, SpvId *decay) {
  Kernel *k = m->k;
  SpvId never = const_f(k, -INFINITY), zero = const_f(k, 0), none;
  for (int g = 0; g < m->groups; g++) {
    SpvId before = spv_get(k->b, m->most[g]), most = before, sum = 0;
    for (int j = 0; j < m->stream; j++) {
      AttPair p = pair(m, w, j, g);
      w->score[j][g] = att_score(m, &p, w->score[j][g], &none);
      SpvId less = less_f(k, most, w->score[j][g]);
      most = choose(k, less, w->score[j][g], most);
    }
    SpvId empty = equal_f(k, most, never);
    SpvId base = choose(k, empty, zero, most);
    spv_set(k->b, m->most[g], most);
    decay[g] = sub_f(k, before, base);
    decay[g] = math_exp(k, decay[g]);
    for (int j = 0; j < m->stream; j++) {
      AttPair at = pair(m, w, j, g);
      SpvId p = sub_f(k, w->score[j][g], base);
      p = math_exp(k, p);
      sum = j ? add_f(k, sum, p) : p;
      w->score[j][g] = att_times_keep(m, &at, p);
    }
    SpvId total = spv_get(k->b, m->total[g]);
    total = spv_fma(k->b, total, decay[g], sum);
    spv_set(k->b, m->total[g], total);
  }
}

void att_without_keys(Attention *m, SpvId *lse, SpvId *delta) {
  Kernel *k = m->k;
  SpvId never = const_f(k, -INFINITY), always = const_f(k, INFINITY), zero = const_f(k, 0);
  SpvId none = equal_f(k, *lse, never);
  *lse = choose(k, none, always, *lse);
  *delta = choose(k, none, zero, *delta);
}

/* p = exp(score − lse) and ds = p·(keep·dp − delta)·slope: p·keep goes to score, ds to dp. */
static void backward_weights(Attention *m, Block *w) {
  Kernel *k = m->k;
  SpvId loaded_lse = 0, loaded_delta = 0;
  for (int j = 0; j < m->stream; j++) {
    SpvId lse = 0, delta = 0;
    if (m->to_keys && (j == 0 || m->lanes == 1)) {
      loaded_lse = streamed_number(m, &m->lse, w, j);
      loaded_delta = streamed_number(m, &m->delta, w, j);
      att_without_keys(m, &loaded_lse, &loaded_delta);
    }
    if (m->to_keys) {
      SpvId lane = const_u(k, (uint32_t)j);
      lse = m->lanes > 1 ? spv_shuffle(k->b, loaded_lse, lane) : loaded_lse;
      delta = m->lanes > 1 ? spv_shuffle(k->b, loaded_delta, lane) : loaded_delta;
    }
    for (int g = 0; g < m->groups; g++) {
      SpvId slope;
      AttPair at = pair(m, w, j, g);
      SpvId p = att_score(m, &at, w->score[j][g], &slope);
      p = sub_f(k, p, m->to_keys ? lse : m->own_lse[g]);
      p = math_exp(k, p);
      w->score[j][g] = att_times_keep(m, &at, p);
      if (!m->sum_a) continue;
      SpvId ds = att_times_keep(m, &at, w->dp[j][g]);
      ds = sub_f(k, ds, m->to_keys ? delta : m->own_delta[g]);
      ds = mul_f(k, p, ds);
      w->dp[j][g] = slope ? mul_f(k, ds, slope) : ds;
    }
  }
}

void att_block(Attention *m, SpvId first) {
  SpvId score[ATT_MAX_STREAM][ATT_MAX_GROUPS], dp[ATT_MAX_STREAM][ATT_MAX_GROUPS],
    decay[ATT_MAX_GROUPS];
  Block w = {.first = first, .score = score, .dp = dp};
  place_rows(m, &w);
  products(m, &m->stream_a, w.a, m->a_own, score);
  if (m->backward && m->sum_a) products(m, &m->stream_b, w.b, m->b_own, dp);
  if (m->backward)
    backward_weights(m, &w);
  else
    forward_weights(m, &w, decay);
  if (m->sum_a) {
    Sums s = {&m->stream_a, w.a, m->a_sum, dp, NULL};
    att_each_quad(m, m->c, sums_quad, &s);
  }
  if (m->sum_b) {
    Sums s = {&m->stream_b, w.b, m->b_sum, score, m->backward ? NULL : decay};
    att_each_quad(m, m->e, sums_quad, &s);
  }
}
