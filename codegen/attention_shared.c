/* attention and its gradients for GPUs without using matrix units: a workgroup owns a tile of rows of one side, and tiles of the
 * other side's rows pass, all products being products of tiles in workgroup memory (tile.h).
 *
 *               streamed rows (64)                  an invocation has 8 own rows (two blocks of four) and 4 streamed ones of
 *             ┌───────────────────┐                 the scores, and of what is summed the same rows and 4 channels, or 4 and
 *             │ channels, 16 at a │                 4 more 64 further. Weights go through workgroup memory, 32 streamed rows
 *             │ time              │                 at a time, as the left factor of the second product:
 *   ┌───────┐ ├───────────────────┤
 *   │  own  │ │ scores → weights  │                   o   S = Q·Kᵀ                  o += P·V
 *   │  rows │ │                   │                   dq  S = Q·Kᵀ   dP = dO·Vᵀ    dq += dS·K
 *   └───────┘ └───────────────────┘                   dk  S = K·Qᵀ   dP = V·dOᵀ    dk += dS·Q, dv += P·dO
 *
 * Rows of the scores are shared by 16 invocations: their maxima meet in workgroup memory, where one invocation for each row finds
 * what it and the others need; sums of weights stay apart until the end. */
#include "codegen/attention_shared.h"

#include <math.h>

/* ---- places in workgroup memory ---- */

static SpvId number_at(AttTiles *s, int quad, SpvId number) {
  Kernel *k = s->m->k;
  SpvId at = op_u(k, SpvOpShiftRightLogical, number, 2), part = op_u(k, SpvOpBitwiseAnd, number, 3);
  at = op_u(k, SpvOpIAdd, at, (uint32_t)quad);
  return tile_component(k, s->pool, at, part);
}

/* Numbers of this invocation's own rows, of which the pool has one for each of the tile. */
static void own_numbers(AttTiles *s, int quad, SpvId *to) {
  Kernel *k = s->m->k;
  for (int i = 0; i < BLOCKS; i++) {
    SpvId at = op_u(k, SpvOpIAdd, s->y, (uint32_t)(quad + i * s->own / (4 * BLOCKS)));
    at = spv_at(k->b, s->pool, at);
    SpvId four = spv_get(k->b, at);
    for (uint32_t r = 0; r < 4; r++) to[4 * i + (int)r] = spv_extract(k->b, four, r);
  }
}

/* x[r] of this invocation's own row r, to where one invocation reads those of a row, which are `STREAMED / 4`. */
static void gather_row(AttTiles *s, const SpvId *x) {
  Kernel *k = s->m->k;
  SpvId first = op_u(k, SpvOpIMul, s->y, STREAMED);
  first = spv_bin(k->b, SpvOpIAdd, first, s->x);
  for (int r = 0; r < ROWS; r++) {
    int row = r / 4 * s->own / BLOCKS + r % 4;
    SpvId number = op_u(k, SpvOpIAdd, first, (uint32_t)(row * STREAMED / 4));
    SpvId at = number_at(s, s->weights_at, number);
    spv_set(k->b, at, x[r]);
  }
}

static SpvId gathered(AttTiles *s, int quad) {
  Kernel *k = s->m->k;
  SpvId at = op_u(k, SpvOpIMul, s->lane, STREAMED / 16);
  at = op_u(k, SpvOpIAdd, at, (uint32_t)(s->weights_at + quad));
  at = spv_at(k->b, s->pool, at);
  return spv_get(k->b, at);
}

/* Opens a scope for the invocations that stand for an own row each, the tile's row of their number. */
static void begin_keepers(AttTiles *s) {
  Kernel *k = s->m->k;
  SpvId rows = const_u(k, (uint32_t)s->own);
  SpvId keeper = spv_cmp(k->b, SpvOpULessThan, s->lane, rows);
  spv_if(k->b, keeper);
}

/* ---- scores of a tile ---- */

static void pair_of(AttTiles *s, int r, int j, AttPair *p) {
  Attention *m = s->m;
  Kernel *k = m->k;
  *p = (AttPair){.own = s->row[r], .streamed = s->column[j]};
  if (!m->a.mask && !m->a.keep) return;
  p->own_ix = s->row_ix[r];
  SpvId last = const_u(k, (uint32_t)(m->stream_rows - 1));
  SpvId past = spv_cmp(k->b, SpvOpUGreaterThan, p->streamed, last);
  SpvId row = choose(k, past, last, p->streamed);
  p->streamed_ix = ix_value(k->ix, row, m->stream_rows);
}

static void place_columns(AttTiles *s, SpvId first) {
  SpvId column = tile_mad(s->m->k, s->x, 4, first);
  for (int j = 0; j < 4; j++) s->column[j] = op_u(s->m->k, SpvOpIAdd, column, (uint32_t)j);
}

/* The maxima so far with this tile's: base, what is taken off scores, and decay, the factor of what was summed before. */
static void find_maxima(AttTiles *s, SpvId (*score)[4], SpvId *base, SpvId *decay) {
  Kernel *k = s->m->k;
  SpvId most[ROWS];
  for (int r = 0; r < ROWS; r++) {
    most[r] = score[r][0];
    for (int j = 1; j < 4; j++) {
      SpvId less = less_f(k, most[r], score[r][j]);
      most[r] = choose(k, less, score[r][j], most[r]);
    }
  }
  spv_barrier(k->b);
  gather_row(s, most);
  spv_barrier(k->b);
  begin_keepers(s);
  SpvId never = const_f(k, -INFINITY), zero = const_f(k, 0);
  SpvId before = spv_get(k->b, s->most), now = before;
  for (int q = 0; q < STREAMED / 16; q++) {
    SpvId four = gathered(s, q);
    for (uint32_t i = 0; i < 4; i++) {
      SpvId x = spv_extract(k->b, four, i);
      SpvId less = less_f(k, now, x);
      now = choose(k, less, x, now);
    }
  }
  spv_set(k->b, s->most, now);
  SpvId empty = equal_f(k, now, never);
  SpvId off = choose(k, empty, zero, now);
  SpvId factor = sub_f(k, before, off);
  factor = math_exp(k, factor);
  SpvId at = number_at(s, s->base_at, s->lane);
  spv_set(k->b, at, off);
  at = number_at(s, s->decay_at, s->lane);
  spv_set(k->b, at, factor);
  spv_end(k->b);
  spv_barrier(k->b);
  own_numbers(s, s->base_at, base);
  own_numbers(s, s->decay_at, decay);
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

static void forward_weights(AttTiles *s, SpvId (*score)[4]) {
  Attention *m = s->m;
  Kernel *k = m->k;
  SpvId base[ROWS], decay[ROWS], slope;
  AttPair p;
  for (int r = 0; r < ROWS; r++)
    for (int j = 0; j < 4; j++) {
      pair_of(s, r, j, &p);
      score[r][j] = att_score(m, &p, score[r][j], &slope);
    }
  find_maxima(s, score, base, decay);
  if (m->sum_b) decay_sums(s, s->b_sum, s->b_blocks, decay);
  for (int r = 0; r < ROWS; r++) {
    SpvId sum = 0;
    for (int j = 0; j < 4; j++) {
      SpvId x = sub_f(k, score[r][j], base[r]);
      x = math_exp(k, x);
      sum = j ? add_f(k, sum, x) : x;
      pair_of(s, r, j, &p);
      score[r][j] = att_times_keep(m, &p, x);
    }
    SpvId total = spv_get(k->b, s->total[r]);
    total = spv_fma(k->b, total, decay[r], sum);
    spv_set(k->b, s->total[r], total);
  }
}

/* lse and delta of the streamed row. */
static void streamed_numbers(AttTiles *s, int j, SpvId *lse, SpvId *delta) {
  Attention *m = s->m;
  Kernel *k = m->k;
  SpvId row = s->column[j];
  if (m->edge) {
    SpvId last = const_u(k, (uint32_t)(m->stream_rows - 1));
    SpvId past = spv_cmp(k->b, SpvOpUGreaterThan, row, last);
    row = choose(k, past, last, row);
  }
  SpvId at = att_row(m, &m->lse, m->query_head, row);
  *lse = kernel_load_at(k, m->lse.at.base, at);
  at = att_row(m, &m->delta, m->query_head, row);
  *delta = kernel_load_at(k, m->delta.at.base, at);
  att_without_keys(m, lse, delta);
}

/* p = exp(score − lse) and ds = p·(keep·dp − delta)·slope: p·keep goes to score, ds to dp. */
static void backward_weights(AttTiles *s, SpvId (*score)[4], SpvId (*dp)[4]) {
  Attention *m = s->m;
  Kernel *k = m->k;
  SpvId lse[4], delta[4], slope;
  AttPair at;
  for (int j = 0; j < 4 && m->to_keys; j++) streamed_numbers(s, j, &lse[j], &delta[j]);
  for (int r = 0; r < ROWS; r++)
    for (int j = 0; j < 4; j++) {
      pair_of(s, r, j, &at);
      SpvId p = att_score(m, &at, score[r][j], &slope);
      p = sub_f(k, p, m->to_keys ? lse[j] : s->lse[r]);
      p = math_exp(k, p);
      score[r][j] = att_times_keep(m, &at, p);
      if (!m->sum_a) continue;
      SpvId ds = att_times_keep(m, &at, dp[r][j]);
      ds = sub_f(k, ds, m->to_keys ? delta[j] : s->delta[r]);
      ds = mul_f(k, p, ds);
      dp[r][j] = slope ? mul_f(k, ds, slope) : ds;
    }
}

static void tile(void *context, SpvId first) {
  AttTiles *s = context;
  Attention *m = s->m;
  SpvId score[ROWS][4], dp[ROWS][4];
  const Ix *stream_head = m->to_keys ? m->query_head : m->key_head;
  place_columns(s, first);
  att_tile_scores(s, &m->own_a, &m->stream_a, stream_head, first, score);
  if (m->backward && m->sum_a) att_tile_scores(s, &m->own_b, &m->stream_b, stream_head, first, dp);
  if (m->backward)
    backward_weights(s, score, dp);
  else
    forward_weights(s, score);
  if (m->sum_b) att_tile_sums(s, &m->stream_b, stream_head, first, score, s->b_sum, s->b_blocks);
  if (m->sum_a) att_tile_sums(s, &m->stream_a, stream_head, first, dp, s->a_sum, s->a_blocks);
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
    s->row[r] = op_u(k, SpvOpIAdd, in_tile, (uint32_t)(r / 4 * s->own / BLOCKS + r % 4));
    SpvId last = const_u(k, (uint32_t)(m->own_rows - 1));
    SpvId past = spv_cmp(k->b, SpvOpUGreaterThan, s->row[r], last);
    SpvId row = choose(k, past, last, s->row[r]);
    s->row_ix[r] = ix_value(k->ix, row, m->own_rows);
    if (!m->backward) s->total[r] = variable(k, zero);
    if (!m->backward || m->to_keys) continue;
    SpvId at = att_row(m, &m->lse, m->query_head, row);
    s->lse[r] = kernel_load_at(k, m->lse.at.base, at);
    at = att_row(m, &m->delta, m->query_head, row);
    s->delta[r] = kernel_load_at(k, m->delta.at.base, at);
    att_without_keys(m, &s->lse[r], &s->delta[r]);
  }
  if (!m->backward) s->most = variable(k, never);
}

/* o = sum / total and lse = most + log total; of a query that sees no key zeros or NaN, and −∞. */
static void finish_forward(AttTiles *s) {
  Attention *m = s->m;
  Kernel *k = m->k;
  SpvId part[ROWS], factor[ROWS], total = 0;
  for (int r = 0; r < ROWS; r++) part[r] = spv_get(k->b, s->total[r]);
  spv_barrier(k->b);
  gather_row(s, part);
  spv_barrier(k->b);
  begin_keepers(s);
  for (int q = 0; q < STREAMED / 16; q++) {
    SpvId four = gathered(s, q);
    for (uint32_t i = 0; i < 4; i++) {
      SpvId x = spv_extract(k->b, four, i);
      total = total ? add_f(k, total, x) : x;
    }
  }
  SpvId zero = const_f(k, 0), one = const_f(k, 1), empty = const_f(k, m->a.empty_nan ? NAN : 0);
  SpvId none = equal_f(k, total, zero);
  SpvId by = div_f(k, one, total);
  by = choose(k, none, empty, by);
  SpvId at = number_at(s, s->base_at, s->lane);
  spv_set(k->b, at, by);
  SpvId most = spv_get(k->b, s->most), lse = math_log(k, total);
  lse = add_f(k, most, lse);
  att_tile_store_lse(s, lse);
  spv_end(k->b);
  spv_barrier(k->b);
  own_numbers(s, s->base_at, factor);
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
    scale[r] = const_f(k, (float)m->a.scale);
    one[r] = const_f(k, 1);
  }
  att_tile_store(s, OP_attention_dq, s->a_sum, s->a_blocks, scale);
  att_tile_store(s, OP_attention_dk, s->a_sum, s->a_blocks, scale);
  att_tile_store(s, OP_attention_dv, s->b_sum, s->b_blocks, one);
}

/* ---- the kernel ---- */

static int blocks(int64_t channels, bool summed) {
  return summed ? (int)((channels + STREAMED - 1) / STREAMED) : 0;
}

/* Places in the pool: slices of streamed rows and of channels at its start, then slices of own rows or weights, then numbers. */
static void lay_out(AttTiles *s) {
  Attention *m = s->m;
  int most = s->a_blocks > s->b_blocks ? s->a_blocks : s->b_blocks;
  int columns = most > 1 ? STREAMED * most : STREAMED;
  int slices = tile_quads(columns, TERMS), own = tile_quads(s->own, PART);
  int gathers = s->own * STREAMED / 16;
  s->weights_at = slices;
  s->base_at = slices + (own > gathers ? own : gathers);
  s->decay_at = s->base_at + s->own / 4;
  s->quads = m->backward ? slices + own : s->decay_at + s->own / 4;
}

static void make(AttTiles *s, Attention *m, int own) {
  *s = (AttTiles){.m = m, .own = own, .lanes = own / ROWS * (STREAMED / 4)};
  s->a_blocks = blocks(m->c, m->sum_a);
  s->b_blocks = blocks(m->e, m->sum_b);
  lay_out(s);
}

int att_shared_rows(Attention *m, int own[ATT_MAX_SHARED]) {
  enum { CHANNELS = 128, FEW = 2 /* workgroups for each core */, CORES = 32, LARGE = 64 };
  const Target *t = m->k->target;
  int n = 0;
  if (t->is_cpu || !t->subgroup_size || m->c > CHANNELS || m->e > CHANNELS) return 0;
  int64_t heads = m->own_heads * m->batches, cores = t->cores ? t->cores : CORES;
  bool large = m->own_rows > LARGE / 2 && (m->own_rows + LARGE - 1) / LARGE * heads >= FEW * cores;
  for (int i = 0; i < ATT_MAX_SHARED; i++) {
    AttTiles s;
    make(&s, m, (i == 0) == large ? LARGE : LARGE / 2);
    if ((uint32_t)s.lanes <= t->max_invocations && 16 * (uint32_t)s.quads <= t->shared_bytes)
      own[n++] = s.own;
  }
  return n;
}

void att_shared(Attention *m, int own) {
  AttTiles all, *s = &all;
  Kernel *k = m->k;
  make(s, m, own);
  int64_t tiles = (m->own_rows + own - 1) / own, total = tiles * m->own_heads * m->batches;
  kernel_groups(k, total, (uint32_t)s->lanes);
  SpvId group = kernel_group(k), limit = const_u(k, (uint32_t)total);
  SpvId within = spv_cmp(k->b, SpvOpULessThan, group, limit);
  spv_if(k->b, within);
  const Ix *at = ix_value(k->ix, group, total);
  s->tile = ix_emit(k->ix, ix_mul(k->ix, ix_mod(k->ix, at, tiles), own));
  att_heads(m, ix_div(k->ix, at, tiles));
  s->pool = tile_shared(k, s->quads);
  s->lane = kernel_lane(k, 0);
  tile_lane(k, s->lane, STREAMED / 4, 8, &s->x, &s->y);
  m->stream = STREAMED;
  begin_rows(s);
  int64_t loops = 2 + (m->c + m->e) / TERMS + 2 * STREAMED / TERMS;
  att_stream_heads(m, s->tile, own, loops, tile, s);
  finish(s);
  spv_end(k->b);
}
