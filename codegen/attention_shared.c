/* attention and its gradients for GPUs without using matrix units: a workgroup owns a tile of rows of one side, and tiles of the
 * other side's rows pass, all products being products of tiles in workgroup memory (tile.h).
 *
 *               streamed rows (64)                  an invocation has 8 own rows (two blocks of four) and, of 16 that share
 *             ┌───────────────────┐                 those, 4 streamed ones of the scores, or 4 and 4 more 64 further, and as
 *             │ channels, 16 at a │                 many channels of what is summed. Weights go through workgroup memory, 32
 *             │ time              │                 streamed rows at a time, as the left factor of the second product:
 *   ┌───────┐ ├───────────────────┤
 *   │  own  │ │ scores → weights  │                   o   S = Q·Kᵀ                  o += P·V
 *   │  rows │ │                   │                   dq  S = Q·Kᵀ   dP = dO·Vᵀ    dq += dS·K
 *   └───────┘ └───────────────────┘                   dk  S = K·Qᵀ   dP = V·dOᵀ    dk += dS·Q, dv += P·dO
 *
 * The invocations that share own rows are neighbours of one subgroup in the forward kernel: their maxima meet by shuffles; sums of
 * weights stay apart until the end. Weights are powers of two: exp(score − x) = 2^(score · log2 e − x · log2 e), one
 * multiply-add, where the scale of the scores is in its factor. */
#include "codegen/attention_shared.h"

#include <math.h>

/* ---- scores of a tile ---- */

static AttPair pair_of(const AttTiles *s, int r, int j) {
  Attention *m = s->m;
  Kernel *k = m->k;
  AttPair p = {.own = s->row[r], .streamed = s->column[j]};
  if (!m->a.mask && !m->a.keep) return p;
  p.own_ix = s->row_ix[r];
  SpvId last = const_u(k, (uint32_t)(m->stream_rows - 1));
  SpvId past = spv_cmp(k->b, SpvOpUGreaterThan, p.streamed, last);
  SpvId row = choose(k, past, last, p.streamed);
  p.streamed_ix = ix_value(k->ix, row, m->stream_rows);
  return p;
}

static void place_columns(AttTiles *s, SpvId first) {
  Kernel *k = s->m->k;
  SpvId column = tile_mad(k, s->x, 4, first);
  for (int j = 0; j < s->columns; j++) {
    int more = j / 4 * 4 * s->t.across + j % 4;
    s->column[j] = op_u(k, SpvOpIAdd, column, (uint32_t)more);
  }
}

/* What times s->factor is the score in powers of two; −∞ where not visible. */
static SpvId score_of(AttTiles *s, const AttPair *p, SpvId product, SpvId *slope) {
  Attention *m = s->m;
  Kernel *k = m->k;
  *slope = 0;
  if (!s->plain) return att_score(m, p, product, slope);
  SpvId seen = att_visible(m, p), never = const_f(k, -INFINITY);
  return seen ? choose(k, seen, product, never) : product;
}

/* exp of a score, where `off` is what is taken off it, times s->factor. */
static SpvId weight_of(AttTiles *s, SpvId score, SpvId off) {
  Kernel *k = s->m->k;
  SpvId factor = const_f(k, s->factor);
  SpvId x = neg_f(k, off);
  x = spv_fma(k->b, score, factor, x);
  return spv_glsl(k->b, GLSLstd450Exp2, x);
}

/* ---- weights ---- */

/* What all invocations that share a row have of it: their largest or their sum. */
static SpvId over_row(AttTiles *s, SpvId x, bool largest) {
  Kernel *k = s->m->k;
  for (int mask = 1; mask < s->t.across; mask *= 2) {
    SpvId other = spv_shuffle_xor(k->b, x, (uint32_t)(s->apart * mask));
    SpvId less = largest ? less_f(k, x, other) : 0;
    x = largest ? choose(k, less, other, x) : add_f(k, x, other);
  }
  return x;
}

/* The maxima so far with this tile's: off, for the weights, and decay, the factor of what was summed before. */
static void find_maxima(AttTiles *s, AttWeights score, SpvId *off, SpvId *decay) {
  Kernel *k = s->m->k;
  SpvId never = const_f(k, -INFINITY), zero = const_f(k, 0);
  for (int r = 0; r < ROWS; r++) {
    SpvId now = score[r][0];
    for (int j = 1; j < s->columns; j++) {
      SpvId less = less_f(k, now, score[r][j]);
      now = choose(k, less, score[r][j], now);
    }
    now = over_row(s, now, true);
    SpvId before = spv_get(k->b, s->most[r]);
    SpvId less = less_f(k, before, now);
    now = choose(k, less, now, before);
    spv_set(k->b, s->most[r], now);
    SpvId empty = equal_f(k, now, never);
    off[r] = choose(k, empty, zero, now);
    off[r] = math_mul_c(k, off[r], s->factor);
    decay[r] = weight_of(s, before, off[r]);
  }
}

static void decay_sums(AttTiles *s, const SpvId *sum, int blocks, const SpvId *decay) {
  Kernel *k = s->m->k;
  for (int r = 0; r < ROWS; r++)
    for (int j = 0; j < blocks; j++) {
      SpvId x = spv_get(k->b, sum[r * blocks + j]);
      SpvId by = spv_pure(k->b, SpvOpCompositeConstruct, tile_vec4(k), decay[r], decay[r], decay[r],
                          decay[r]);
      x = mul_f(k, x, by);
      spv_set(k->b, sum[r * blocks + j], x);
    }
}

static void forward_weights(AttTiles *s, AttWeights score) {
  Attention *m = s->m;
  Kernel *k = m->k;
  SpvId off[ROWS], decay[ROWS], slope;
  for (int r = 0; r < ROWS; r++)
    for (int j = 0; j < s->columns; j++) {
      AttPair p = pair_of(s, r, j);
      score[r][j] = score_of(s, &p, score[r][j], &slope);
    }
  find_maxima(s, score, off, decay);
  if (m->sum_b) decay_sums(s, s->b_sum, s->b_blocks, decay);
  for (int r = 0; r < ROWS; r++) {
    SpvId sum = 0;
    for (int j = 0; j < s->columns; j++) {
      AttPair p = pair_of(s, r, j);
      SpvId x = weight_of(s, score[r][j], off[r]);
      sum = j ? add_f(k, sum, x) : x;
      score[r][j] = att_times_keep(m, &p, x);
    }
    SpvId total = spv_get(k->b, s->total[r]);
    total = spv_fma(k->b, total, decay[r], sum);
    spv_set(k->b, s->total[r], total);
  }
}

/* A query's numbers as weights need them: *lse in powers of two. */
static void query_numbers(AttTiles *s, SpvId row, SpvId *lse, SpvId *delta) {
  Attention *m = s->m;
  Kernel *k = m->k;
  SpvId at = att_row(m, &m->lse, m->query_head, row);
  *lse = kernel_load_at(k, m->lse.at.base, at);
  at = att_row(m, &m->delta, m->query_head, row);
  *delta = kernel_load_at(k, m->delta.at.base, at);
  att_without_keys(m, lse, delta);
  *lse = math_mul_c(k, *lse, (float)M_LOG2E);
}

/* Of the streamed rows. */
static void streamed_numbers(AttTiles *s, SpvId *lse, SpvId *delta) {
  Attention *m = s->m;
  Kernel *k = m->k;
  for (int j = 0; j < s->columns; j++) {
    SpvId row = s->column[j];
    if (m->edge) {
      SpvId last = const_u(k, (uint32_t)(m->stream_rows - 1));
      SpvId past = spv_cmp(k->b, SpvOpUGreaterThan, row, last);
      row = choose(k, past, last, row);
    }
    query_numbers(s, row, &lse[j], &delta[j]);
  }
}

/* p = exp(score − lse) and ds = p·(keep·dp − delta)·slope, of all three gradients at once times the scale, which else the results
 * get: p·keep goes to score, ds to dp. */
static void backward_weights(AttTiles *s, AttWeights score, AttWeights dp, const SpvId *lse,
                             const SpvId *delta) {
  Attention *m = s->m;
  Kernel *k = m->k;
  SpvId slope;
  for (int r = 0; r < ROWS; r++)
    for (int j = 0; j < s->columns; j++) {
      AttPair at = pair_of(s, r, j);
      SpvId p = score_of(s, &at, score[r][j], &slope);
      p = weight_of(s, p, lse[m->to_keys ? j : r]);
      score[r][j] = att_times_keep(m, &at, p);
      if (!m->sum_a) continue;
      SpvId ds = att_times_keep(m, &at, dp[r][j]);
      ds = sub_f(k, ds, delta[m->to_keys ? j : r]);
      ds = mul_f(k, p, ds);
      dp[r][j] = slope ? mul_f(k, ds, slope) : ds;
      if (m->together) dp[r][j] = math_mul_c(k, dp[r][j], (float)m->a.scale);
    }
}

static void tile(void *context, SpvId first) {
  AttTiles *s = context;
  Attention *m = s->m;
  AttWeights score, dp;
  SpvId lse[MAX_COLUMNS], delta[MAX_COLUMNS];
  const Ix *stream_head = m->to_keys ? m->query_head : m->key_head;
  place_columns(s, first);
  if (m->to_keys) streamed_numbers(s, lse, delta);
  att_tile_scores(s, &m->own_a, &m->stream_a, stream_head, first, score);
  if (m->backward && m->sum_a) att_tile_scores(s, &m->own_b, &m->stream_b, stream_head, first, dp);
  if (m->backward)
    backward_weights(s, score, dp, m->to_keys ? lse : s->lse, m->to_keys ? delta : s->delta);
  else
    forward_weights(s, score);
  AttSummed b = {&m->stream_b, stream_head, first, m->edge}, a = b;
  a.rows = &m->stream_a;
  if (m->sum_b) att_tile_sums(s, &b, att_tile_part, score, s->b_sum, s->b_blocks);
  if (m->sum_a) att_tile_sums(s, &a, att_tile_part, dp, s->a_sum, s->a_blocks);
  if (m->together) att_together_add(s, first, dp);
}

/* ---- begin and end ---- */

static SpvId variable(Kernel *k, SpvId value) {
  SpvId v = spv_local(k->b, spv_type(k->b, value));
  spv_set(k->b, v, value);
  return v;
}

static void begin_rows(AttTiles *s) {
  Attention *m = s->m;
  Kernel *k = m->k;
  SpvId zero = const_f(k, 0), none = tile_zero(k), never = const_f(k, -INFINITY);
  for (int i = 0; i < ROWS * s->a_blocks; i++) s->a_sum[i] = variable(k, none);
  for (int i = 0; i < ROWS * s->b_blocks; i++) s->b_sum[i] = variable(k, none);
  for (int r = 0; r < ROWS; r++) {
    SpvId in_tile = tile_mad(k, s->y, 4, s->tile);
    s->row[r] = op_u(k, SpvOpIAdd, in_tile, (uint32_t)(r / 4 * s->t.own / BLOCKS + r % 4));
    SpvId last = const_u(k, (uint32_t)(m->own_rows - 1));
    SpvId past = spv_cmp(k->b, SpvOpUGreaterThan, s->row[r], last);
    SpvId row = choose(k, past, last, s->row[r]);
    s->row_ix[r] = ix_value(k->ix, row, m->own_rows);
    if (m->backward && !m->to_keys) query_numbers(s, row, &s->lse[r], &s->delta[r]);
    if (m->backward) continue;
    s->most[r] = variable(k, never);
    s->total[r] = variable(k, zero);
  }
}

/* o = sum / total and lse = most + log total; of a query that sees no key zeros or NaN, and −∞. */
static void finish_forward(AttTiles *s) {
  Attention *m = s->m;
  Kernel *k = m->k;
  SpvId factor[ROWS], lse[ROWS];
  SpvId zero = const_f(k, 0), one = const_f(k, 1), empty = const_f(k, m->a.empty_nan ? NAN : 0);
  for (int r = 0; r < ROWS; r++) {
    SpvId total = spv_get(k->b, s->total[r]), most = spv_get(k->b, s->most[r]);
    total = over_row(s, total, false);
    SpvId none = equal_f(k, total, zero);
    factor[r] = div_f(k, one, total);
    factor[r] = choose(k, none, empty, factor[r]);
    lse[r] = math_log(k, total);
    if (s->plain) most = math_mul_c(k, most, (float)m->a.scale);
    lse[r] = add_f(k, most, lse[r]);
  }
  att_tile_store_lse(s, lse);
  att_tile_store(s, OP_attention, s->b_sum, s->b_blocks, factor);
}

static void finish(AttTiles *s) {
  Attention *m = s->m;
  Kernel *k = m->k;
  SpvId scale[ROWS], one[ROWS];
  if (!m->backward) {
    finish_forward(s);
    return;
  }
  for (int r = 0; r < ROWS; r++) {
    scale[r] = const_f(k, m->together ? 1 : (float)m->a.scale);
    one[r] = const_f(k, 1);
  }
  if (!m->to_keys) att_tile_store(s, OP_attention_dq, s->a_sum, s->a_blocks, scale);
  att_tile_store(s, OP_attention_dk, s->a_sum, s->a_blocks, scale);
  att_tile_store(s, OP_attention_dv, s->b_sum, s->b_blocks, one);
}

/* ---- the kernel ---- */

static void make(AttTiles *s, Attention *m, const AttShared *t) {
  *s = (AttTiles){.m = m, .t = *t, .lanes = t->own / ROWS * t->across, .columns = 4 * t->columns};
  s->streamed = s->columns * t->across;
  int quads = 4 * t->across;
  s->a_blocks = m->sum_a ? (int)((m->c + quads - 1) / quads) : 0;
  s->b_blocks = m->sum_b ? (int)((m->e + quads - 1) / quads) : 0;
  s->plain = m->a.cap <= 0 && m->a.scale >= 0x1p-60;
  s->factor = (float)(s->plain ? m->a.scale * M_LOG2E : M_LOG2E);
}

/* vec4s of workgroup memory: slices of streamed rows or of channels at its start, then slices of own rows or weights. */
static int lay_out(AttTiles *s) {
  int most = s->a_blocks > s->b_blocks ? s->a_blocks : s->b_blocks,
      channels = 4 * s->t.across * most;
  int rows = s->streamed > channels ? s->streamed : channels;
  s->own_at = tile_quads(rows, TERMS);
  return s->own_at + tile_quads(s->t.own, PART);
}

static bool fits(Attention *m, const AttShared *t) {
  const Target *target = m->k->target;
  AttTiles s;
  make(&s, m, t);
  int most = s.a_blocks > s.b_blocks ? s.a_blocks : s.b_blocks;
  bool exchange = m->backward || (uint32_t)t->across <= target->subgroup_size;
  return exchange && (uint32_t)s.lanes <= target->max_invocations &&
         16 * (uint32_t)lay_out(&s) <= target->shared_bytes && most <= TILE_MAX_BLOCKS &&
         (!m->together ||
          (t->own == BLOCKS * PART && t->own == s.streamed && m->own_rows % t->own == 0));
}

int att_shared_tiles(Attention *m, AttShared out[ATT_MAX_SHARED]) {
  enum {
    CHANNELS = 128,
    FEW = 2 /* workgroups for each core */,
    CORES = 32,
    LEAST = 8,
    LARGE = 64
  };
  static const AttShared tile[] = {{64, 16, 1}, {64, 16, 2}, {64, 8, 1},
                                   {128, 8, 2}, {32, 16, 1}, {32, 8, 1}};
  const Target *t = m->k->target;
  int n = 0;
  bool shuffles = t->subgroup_shuffle && t->subgroup_size >= LEAST;
  if (t->is_cpu || !shuffles || m->c > CHANNELS || m->e > CHANNELS) return 0;
  int64_t heads = m->own_heads * m->batches, cores = t->cores ? t->cores : CORES;
  bool large = m->own_rows > LARGE / 2 && (m->own_rows + LARGE - 1) / LARGE * heads >= FEW * cores;
  for (int other = 0; other < 2; other++)
    for (int i = 0; i < COUNT_OF(tile); i++)
      if ((tile[i].own >= LARGE) == (large != other) && fits(m, &tile[i])) out[n++] = tile[i];
  return n;
}

/* Where this invocation lies. What shares own rows is in one subgroup where it exchanges anything; two lie above one another, as
 * in tile_lane, where a subgroup has room for that. */
static void place_lane(AttTiles *s) {
  Kernel *k = s->m->k;
  uint32_t size = k->target->subgroup_size, across = (uint32_t)s->t.across;
  if (s->m->backward) {
    s->lane = kernel_lane(k, 0);
    tile_lane(k, s->lane, s->t.across, 8, &s->x, &s->y);
    return;
  }
  k->out->subgroup_size = size;
  SpvId subgroup = spv_builtin(k->b, SpvBuiltInSubgroupId, spv_u32(k->b));
  SpvId within = spv_builtin(k->b, SpvBuiltInSubgroupLocalInvocationId, spv_u32(k->b));
  s->lane = tile_mad(k, subgroup, size, within);
  s->apart = size >= 2 * across ? 2 : 1;
  s->x = op_u(k, SpvOpUDiv, s->lane, s->apart);
  s->y = op_u(k, SpvOpUDiv, s->x, across);
  s->x = op_u(k, SpvOpUMod, s->x, across);
  SpvId above = op_u(k, SpvOpUMod, s->lane, s->apart);
  s->y = tile_mad(k, s->y, s->apart, above);
}

/* Own rows from the tile's first one on. */
static void pass(AttTiles *s) {
  Attention *m = s->m;
  int64_t loops = 2 + (m->c + m->e) / TERMS + 2 * s->streamed / TERMS;
  begin_rows(s);
  att_stream_heads(m, s->tile, s->t.own, loops, tile, s);
  finish(s);
}

static void pass_tiles(AttTiles *s) {
  Kernel *k = s->m->k;
  SpvId none = const_u(k, 0), n = const_u(k, (uint32_t)s->tiles);
  s->tile = none;
  att_together_begin(s);
  SpvId i = spv_for(k->b, n);
  s->tile = op_u(k, SpvOpIMul, i, (uint32_t)s->t.own);
  s->begun = spv_cmp(k->b, SpvOpINotEqual, i, none);
  pass(s);
  spv_end(k->b);
}

/* The workgroup's heads, and its tile where it has but one. What takes long begins early: of causal attention the last queries, and
 * the first keys. */
static void place_group(AttTiles *s, const Ix *at, int64_t tiles) {
  Attention *m = s->m;
  IxTable *ix = m->k->ix;
  if (!m->together) {
    const Ix *tile = ix_mod(ix, at, tiles);
    bool last = !m->to_keys && m->a.hi < m->stream_rows;
    s->tile = ix_emit(ix, ix_mul(ix, tile, s->t.own));
    if (last) {
      SpvId end = const_u(m->k, (uint32_t)((tiles - 1) * s->t.own));
      s->tile = spv_bin(m->k->b, SpvOpISub, end, s->tile);
    }
    att_heads(m, ix_div(ix, at, tiles));
    return;
  }
  int64_t parts = m->n_batch ? m->batch_dim[m->n_batch - 1] : 1,
          all = m->own_heads * m->batches / parts;
  const Ix *rest = ix_mod(ix, at, all), *batch = ix_div(ix, rest, m->own_heads);
  batch = ix_add(ix, ix_mul(ix, batch, parts), ix_div(ix, at, all));
  att_heads(m, ix_add(ix, ix_mul(ix, batch, m->own_heads), ix_mod(ix, rest, m->own_heads)));
}

void att_shared(Attention *m, const AttShared *t) {
  AttTiles all, *s = &all;
  Kernel *k = m->k;
  make(s, m, t);
  int64_t tiles = (m->own_rows + t->own - 1) / t->own;
  int64_t total = (m->together ? 1 : tiles) * m->own_heads * m->batches;
  s->tiles = m->together ? (int)tiles : 1;
  kernel_groups(k, total, (uint32_t)s->lanes);
  SpvId group = kernel_group(k), limit = const_u(k, (uint32_t)total);
  SpvId within = spv_cmp(k->b, SpvOpULessThan, group, limit);
  spv_if(k->b, within);
  place_group(s, ix_value(k->ix, group, total), tiles);
  int quads = lay_out(s);
  s->pool = tile_shared(k, quads);
  place_lane(s);
  m->stream = s->streamed;
  if (m->together)
    pass_tiles(s);
  else
    pass(s);
  spv_end(k->b);
}
