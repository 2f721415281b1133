/* Attention with tiles in workgroup memory: the products of tiles, and the results' way to memory. */
#include "codegen/attention_shared.h"

/* ---- operands ---- */

/* Rows of a side as the operand of a product over channels. */
static TileSource by_channel(AttTiles *s, const AttRows *r, const Ix *head, SpvId first) {
  Attention *m = s->m;
  Kernel *k = m->k;
  SpvId none = const_u(k, 0);
  return (TileSource){.base = r->at.base,
                      .offset = att_row(m, r, head, none),
                      .row = const_u(k, (uint32_t)r->row),
                      .term = const_u(k, (uint32_t)r->channel),
                      .unit_term = r->channel == 1,
                      .four = r->wide,
                      .first_row = first,
                      .rows = const_u(k, (uint32_t)r->rows),
                      .terms = r->channels % TERMS ? const_u(k, (uint32_t)r->channels) : 0};
}

/* Rows of a side as the operand of a product over rows, those from `first` on: its rows are the channels. */
static TileSource by_row(AttTiles *s, const AttRows *r, const Ix *head, SpvId first) {
  Attention *m = s->m;
  Kernel *k = m->k;
  SpvId none = const_u(k, 0), rows = const_u(k, (uint32_t)r->rows);
  SpvId left = m->edge ? spv_bin(k->b, SpvOpISub, rows, first) : 0;
  return (TileSource){.base = r->at.base,
                      .offset = att_row(m, r, head, first),
                      .row = const_u(k, (uint32_t)r->channel),
                      .term = const_u(k, (uint32_t)r->row),
                      .unit_row = r->channel == 1,
                      .four = r->wide,
                      .first_row = none,
                      .rows = r->channels % STREAMED ? const_u(k, (uint32_t)r->channels) : 0,
                      .terms = left};
}

static TileStage stage(const AttTiles *s, int rows, int at) {
  return (TileStage){
    .rows = rows, .terms = TERMS, .lanes = s->lanes, .shared = s->pool, .at = at, .lane = s->lane};
}

/* ---- products ---- */

static TileFactor factor(const AttTiles *s, SpvId own, int rows, int blocks) {
  return (TileFactor){s->pool, own, rows / 4 + TILE_PAD, blocks, rows / 4 / blocks};
}

static void advance(AttTiles *s, const TileFactor *a, const TileFactor *b, const SpvId *variable) {
  Kernel *k = s->m->k;
  SpvId acc[TILE_MAX_ACC];
  for (int i = 0; i < ROWS * b->blocks; i++) acc[i] = spv_get(k->b, variable[i]);
  tile_multiply(k, a, b, TERMS, acc);
  for (int i = 0; i < ROWS * b->blocks; i++) spv_set(k->b, variable[i], acc[i]);
}

/* The slice after `i`, or the last one again. */
static SpvId after(Kernel *k, SpvId i, SpvId last) {
  SpvId next = op_u(k, SpvOpIAdd, i, 1);
  SpvId more = spv_cmp(k->b, SpvOpULessThan, i, last);
  return choose(k, more, next, last);
}

void att_tile_scores(AttTiles *s, const AttRows *own, const AttRows *streamed,
                     const Ix *stream_head, SpvId first, SpvId (*score)[4]) {
  Attention *m = s->m;
  Kernel *k = m->k;
  const Ix *own_head = m->to_keys ? m->key_head : m->query_head;
  TileSource from_a = by_channel(s, own, own_head, s->tile);
  TileSource from_b = by_channel(s, streamed, stream_head, first);
  TileStage a = stage(s, s->own, s->weights_at), b = stage(s, STREAMED, 0);
  SpvId variable[ROWS], start = const_u(k, 0), zero = tile_zero(k);
  tile_stage(k, &a, &from_a);
  tile_stage(k, &b, &from_b);
  for (int r = 0; r < ROWS; r++) {
    variable[r] = spv_local(k->b, tile_vec4(k));
    spv_set(k->b, variable[r], zero);
  }
  uint32_t slices = (uint32_t)((own->channels + TERMS - 1) / TERMS);
  SpvId n = const_u(k, slices), last = const_u(k, slices - 1);
  tile_read(k, &a, start);
  tile_read(k, &b, start);
  SpvId i = spv_for(k->b, n);
  spv_barrier(k->b);
  tile_write(k, &a);
  tile_write(k, &b);
  spv_barrier(k->b);
  SpvId next = after(k, i, last);
  tile_read(k, &a, next);
  tile_read(k, &b, next);
  SpvId y = op_u(k, SpvOpIAdd, s->y, (uint32_t)s->weights_at);
  TileFactor left = factor(s, y, s->own, BLOCKS), right = factor(s, s->x, STREAMED, 1);
  advance(s, &left, &right, variable);
  spv_end(k->b);
  for (int r = 0; r < ROWS; r++) {
    SpvId four = spv_get(k->b, variable[r]);
    for (uint32_t j = 0; j < 4; j++) score[r][j] = spv_extract(k->b, four, j);
  }
}

/* This invocation's weights, as [streamed row of the part][own row]. */
static void put_weights(AttTiles *s, SpvId (*weight)[4]) {
  Kernel *k = s->m->k;
  SpvId column = op_u(k, SpvOpIMul, s->x, 4);
  column = op_u(k, SpvOpUMod, column, PART);
  SpvId first = tile_mad(k, column, (uint32_t)(s->own / 4 + TILE_PAD), s->y);
  for (int j = 0; j < 4; j++)
    for (int i = 0; i < BLOCKS; i++) {
      int more = s->weights_at + j * (s->own / 4 + TILE_PAD) + i * s->own / (4 * BLOCKS);
      SpvId at = op_u(k, SpvOpIAdd, first, (uint32_t)more);
      SpvId four = spv_pure(k->b, SpvOpCompositeConstruct, tile_vec4(k), weight[4 * i][j],
                            weight[4 * i + 1][j], weight[4 * i + 2][j], weight[4 * i + 3][j]);
      at = spv_at(k->b, s->pool, at);
      spv_set(k->b, at, four);
    }
}

void att_tile_sums(AttTiles *s, const AttRows *streamed, const Ix *stream_head, SpvId first,
                   SpvId (*weight)[4], const SpvId *sum, int blocks) {
  enum { SLICES = STREAMED / TERMS, TO_PART = PART / TERMS };
  Kernel *k = s->m->k;
  TileSource from = by_row(s, streamed, stream_head, first);
  TileStage b = stage(s, STREAMED * blocks, 0);
  tile_stage(k, &b, &from);
  SpvId n = const_u(k, SLICES), last = const_u(k, SLICES - 1), start = const_u(k, 0);
  tile_read(k, &b, start);
  SpvId i = spv_for(k->b, n);
  SpvId part = op_u(k, SpvOpUDiv, i, TO_PART), within = op_u(k, SpvOpUMod, i, TO_PART);
  spv_barrier(k->b);
  SpvId begins = spv_cmp(k->b, SpvOpIEqual, within, start);
  SpvId whose = op_u(k, SpvOpUDiv, s->x, PART / 4);
  SpvId mine = spv_cmp(k->b, SpvOpIEqual, whose, part);
  mine = both(k, begins, mine);
  spv_if(k->b, mine);
  put_weights(s, weight);
  spv_end(k->b);
  tile_write(k, &b);
  spv_barrier(k->b);
  SpvId next = after(k, i, last);
  tile_read(k, &b, next);
  SpvId y = op_u(k, SpvOpIAdd, s->y, (uint32_t)s->weights_at);
  y = tile_mad(k, within, (uint32_t)tile_quads(s->own, TERMS), y);
  TileFactor left = factor(s, y, s->own, BLOCKS);
  TileFactor right = factor(s, s->x, STREAMED * blocks, blocks);
  advance(s, &left, &right, sum);
  spv_end(k->b);
}

/* ---- results ---- */

/* Four channels from column on of one row. */
static void store_four(AttTiles *s, int out, const AttRows *to, SpvId row_at, SpvId column, SpvId x,
                       SpvId by) {
  Kernel *k = s->m->k;
  SpvId value[4], channels = const_u(k, (uint32_t)to->channels);
  bool edge = to->channels % STREAMED != 0;
  for (uint32_t j = 0; j < 4; j++) {
    value[j] = spv_extract(k->b, x, j);
    value[j] = mul_f(k, value[j], by);
    value[j] = math_round(k, (DType)k->job->out[out]->type.dtype, value[j]);
  }
  for (uint32_t j = 0; j < (to->wide ? 1 : 4); j++) {
    SpvId channel = op_u(k, SpvOpIAdd, column, j);
    if (edge) {
      SpvId within = spv_cmp(k->b, SpvOpULessThan, channel, channels);
      spv_if(k->b, within);
    }
    SpvId at = op_u(k, SpvOpIMul, channel, (uint32_t)to->channel);
    at = spv_bin(k->b, SpvOpIAdd, row_at, at);
    if (to->wide) at = op_u(k, SpvOpShiftRightLogical, at, 2);
    kernel_store(k, out, at, to->wide ? 4 : 1, value + j);
    if (edge) spv_end(k->b);
  }
}

void att_tile_store(AttTiles *s, Op op, const SpvId *sum, int blocks, const SpvId *factor) {
  Attention *m = s->m;
  Kernel *k = m->k;
  const Ix *head = m->to_keys ? m->key_head : m->query_head;
  bool edge = m->own_rows % s->own != 0;
  for (int o = 0; o < k->job->n_out; o++) {
    if (!m->node[op] || att_member(k->job->out[o]) != m->node[op]) continue;
    AttRows to = att_out(m, k->job->out[o]);
    for (int r = 0; r < ROWS; r++) {
      if (edge) {
        SpvId rows = const_u(k, (uint32_t)m->own_rows);
        SpvId within = spv_cmp(k->b, SpvOpULessThan, s->row[r], rows);
        spv_if(k->b, within);
      }
      SpvId row_at = att_row(m, &to, head, s->row[r]);
      for (int j = 0; j < blocks; j++) {
        SpvId column = op_u(k, SpvOpIMul, s->x, 4);
        column = op_u(k, SpvOpIAdd, column, (uint32_t)(j * STREAMED));
        SpvId x = spv_get(k->b, sum[r * blocks + j]);
        store_four(s, o, &to, row_at, column, x, factor[r]);
      }
      if (edge) spv_end(k->b);
    }
  }
}

void att_tile_store_lse(AttTiles *s, SpvId lse) {
  Attention *m = s->m;
  Kernel *k = m->k;
  for (int o = 0; o < k->job->n_out; o++) {
    if (att_member(k->job->out[o]) != m->node[OP_attention_lse]) continue;
    AttRows to = att_out(m, k->job->out[o]);
    SpvId row = spv_bin(k->b, SpvOpIAdd, s->tile, s->lane);
    SpvId rows = const_u(k, (uint32_t)m->own_rows);
    SpvId within = spv_cmp(k->b, SpvOpULessThan, row, rows);
    spv_if(k->b, within);
    SpvId at = att_row(m, &to, m->query_head, row);
    kernel_store(k, o, at, 1, &lse);
    spv_end(k->b);
  }
}
