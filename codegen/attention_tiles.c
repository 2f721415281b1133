/* Attention with tiles in workgroup memory: the products of tiles, and the results' way to memory. */
#include "codegen/attention_shared.h"

/* ---- operands ---- */

/* Rows of a side as the operand of a product over channels. */
static TileSource by_channel(AttTiles *s, const AttRows *r, const Ix *head, SpvId first,
                             bool edge) {
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
                      .rows = edge ? const_u(k, (uint32_t)r->rows) : 0,
                      .terms = r->channels % TERMS ? const_u(k, (uint32_t)r->channels) : 0};
}

/* Rows of a side as the operand of a product over rows, those from `first` on: its rows are the channels. */
static TileSource by_row(AttTiles *s, const AttRows *r, const Ix *head, SpvId first, int columns,
                         bool edge) {
  Attention *m = s->m;
  Kernel *k = m->k;
  SpvId none = const_u(k, 0), rows = const_u(k, (uint32_t)r->rows);
  SpvId left = edge ? spv_bin(k->b, SpvOpISub, rows, first) : 0;
  return (TileSource){.base = r->at.base,
                      .offset = att_row(m, r, head, first),
                      .row = const_u(k, (uint32_t)r->channel),
                      .term = const_u(k, (uint32_t)r->row),
                      .unit_row = r->channel == 1,
                      .four = r->wide,
                      .first_row = none,
                      .rows = r->channels < columns ? const_u(k, (uint32_t)r->channels) : 0,
                      .terms = left};
}

static TileStage stage(const AttTiles *s, int rows, int at) {
  return (TileStage){
    .rows = rows, .terms = TERMS, .lanes = s->lanes, .shared = s->pool, .at = at, .lane = s->lane};
}

/* ---- products ---- */

/* The invocation's vec4s of slices of so many rows: x of each of the blocks, from `base` on. */
static TileFactor factor(const AttTiles *s, SpvId x, SpvId base, int rows, int blocks) {
  SpvId own = spv_bin(s->m->k->b, SpvOpIAdd, x, base);
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
                     const Ix *stream_head, SpvId first, AttWeights score) {
  Attention *m = s->m;
  Kernel *k = m->k;
  const Ix *own_head = m->to_keys ? m->key_head : m->query_head;
  int columns = s->t.columns;
  TileSource from_a = by_channel(s, own, own_head, s->tile, m->own_rows % s->t.own != 0);
  TileSource from_b = by_channel(s, streamed, stream_head, first, m->edge);
  TileStage a = stage(s, s->t.own, s->own_at), b = stage(s, s->streamed, 0);
  SpvId variable[ROWS * MAX_COLUMNS / 4], start = const_u(k, 0), zero = tile_zero(k);
  tile_stage(k, &a, &from_a);
  tile_stage(k, &b, &from_b);
  for (int i = 0; i < ROWS * columns; i++) {
    variable[i] = spv_local(k->b, tile_vec4(k));
    spv_set(k->b, variable[i], zero);
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
  SpvId own_at = const_u(k, (uint32_t)s->own_at);
  TileFactor left = factor(s, s->y, own_at, s->t.own, BLOCKS);
  TileFactor right = factor(s, s->x, start, s->streamed, columns);
  advance(s, &left, &right, variable);
  spv_end(k->b);
  for (int r = 0; r < ROWS; r++)
    for (int c = 0; c < columns; c++) {
      SpvId four = spv_get(k->b, variable[r * columns + c]);
      for (uint32_t j = 0; j < 4; j++) score[r][4 * c + (int)j] = spv_extract(k->b, four, j);
    }
}

/* Block c of this invocation's weights, as [streamed row of the part][own row]. */
static void put_weights(AttTiles *s, AttWeights weight, int c) {
  Kernel *k = s->m->k;
  SpvId column = op_u(k, SpvOpIMul, s->x, 4);
  column = op_u(k, SpvOpUMod, column, PART);
  SpvId first = tile_mad(k, column, (uint32_t)(s->t.own / 4 + TILE_PAD), s->y);
  for (int j = 0; j < 4; j++)
    for (int i = 0; i < BLOCKS; i++) {
      int more = s->own_at + j * (s->t.own / 4 + TILE_PAD) + i * s->t.own / (4 * BLOCKS);
      SpvId at = op_u(k, SpvOpIAdd, first, (uint32_t)more), four[4];
      for (int r = 0; r < 4; r++) four[r] = weight[4 * i + r][4 * c + j];
      SpvId value = spv_pure_n(k->b, SpvOpCompositeConstruct, tile_vec4(k), 4, four);
      at = spv_at(k->b, s->pool, at);
      spv_set(k->b, at, value);
    }
}

void att_tile_part(AttTiles *s, SpvId i, AttWeights weight) {
  Kernel *k = s->m->k;
  int to_part = PART / TERMS, parts = 4 * s->t.across / PART; /* of a block of columns */
  for (int c = 0; c < s->t.columns; c++) {
    SpvId when = const_u(k, (uint32_t)(c * parts * to_part));
    if (parts > 1) {
      SpvId whose = op_u(k, SpvOpUDiv, s->x, PART / 4);
      when = tile_mad(k, whose, (uint32_t)to_part, when);
    }
    SpvId mine = spv_cmp(k->b, SpvOpIEqual, i, when);
    spv_if(k->b, mine);
    put_weights(s, weight, c);
    spv_end(k->b);
  }
}

void att_tile_sums(AttTiles *s, const AttSummed *of, AttPart *part, AttWeights weight,
                   const SpvId *sum, int blocks) {
  Kernel *k = s->m->k;
  int columns = 4 * s->t.across * blocks;
  TileSource from = by_row(s, of->rows, of->head, of->first, columns, of->edge);
  TileStage b = stage(s, columns, 0);
  tile_stage(k, &b, &from);
  uint32_t slices = (uint32_t)(s->streamed / TERMS);
  SpvId n = const_u(k, slices), last = const_u(k, slices - 1), start = const_u(k, 0);
  tile_read(k, &b, start);
  SpvId i = spv_for(k->b, n);
  SpvId within = op_u(k, SpvOpUMod, i, (uint32_t)(PART / TERMS));
  spv_barrier(k->b);
  part(s, i, weight);
  tile_write(k, &b);
  spv_barrier(k->b);
  SpvId next = after(k, i, last);
  tile_read(k, &b, next);
  SpvId own_at = const_u(k, (uint32_t)s->own_at);
  own_at = tile_mad(k, within, (uint32_t)tile_quads(s->t.own, TERMS), own_at);
  TileFactor left = factor(s, s->y, own_at, s->t.own, BLOCKS);
  TileFactor right = factor(s, s->x, start, columns, blocks);
  advance(s, &left, &right, sum);
  spv_end(k->b);
}

/* ---- results ---- */

void att_tile_store_four(AttTiles *s, int out, const AttRows *to, SpvId row_at, SpvId column,
                         SpvId x, SpvId by) {
  Kernel *k = s->m->k;
  SpvId value[4], channels = const_u(k, (uint32_t)to->channels);
  bool edge = to->channels % (4 * s->t.across) != 0;
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
  bool edge = m->own_rows % s->t.own != 0;
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
        column = op_u(k, SpvOpIAdd, column, (uint32_t)(4 * s->t.across * j));
        SpvId x = spv_get(k->b, sum[r * blocks + j]);
        att_tile_store_four(s, o, &to, row_at, column, x, factor[r]);
      }
      if (edge) spv_end(k->b);
    }
  }
}

void att_tile_store_lse(AttTiles *s, const SpvId *lse) {
  Attention *m = s->m;
  Kernel *k = m->k;
  SpvId none = const_u(k, 0);
  for (int o = 0; o < k->job->n_out; o++) {
    if (att_member(k->job->out[o]) != m->node[OP_attention_lse]) continue;
    AttRows to = att_out(m, k->job->out[o]);
    SpvId first = spv_cmp(k->b, SpvOpIEqual, s->x, none);
    for (int r = 0; r < ROWS; r++) {
      SpvId rows = const_u(k, (uint32_t)m->own_rows);
      SpvId within = spv_cmp(k->b, SpvOpULessThan, s->row[r], rows);
      within = both(k, first, within);
      spv_if(k->b, within);
      SpvId at = att_row(m, &to, m->query_head, s->row[r]);
      kernel_store(k, o, at, 1, &lse[r]);
      spv_end(k->b);
    }
  }
}
