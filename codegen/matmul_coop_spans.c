/* A product in spans (OP_matmul_spans) on matrix units: each workgroup computes its span of all tiles' steps, tile after tile, the
 * first and the last of them perhaps in part, and stores what it has added up of each in the tile's slot. Sizes are such that loads
 * lie alike in all tiles and none is past k.
 *
 *   tile 3          tile 4              tile 5
 *   ·······┌─────┐ ┌─────────────────┐ ┌────┐············     the loads of a piece end where those of the next one begin
 *          slot 1   slot 0              slot 0
 *
 * Who computes a tile's last steps stores zeros in the slots that no span of the tile has. */
#include "codegen/matmul_coop.h"

static SpvId constant(Coop *c, int64_t v) { return spv_u(c->mm->k->b, (uint32_t)v); }

static SpvId by(Coop *c, SpvOp op, SpvId x, int64_t v) {
  SpvId y = constant(c, v);
  return spv_bin(c->mm->k->b, op, x, y);
}

static SpvId least(Coop *c, SpvId x, SpvId y) {
  SpvId less = spv_cmp(c->mm->k->b, SpvOpULessThan, x, y);
  return spv_select(c->mm->k->b, less, x, y);
}

/* As ir_span_begin. */
static SpvId begin_of(Coop *c, SpvId span) {
  const Spans *s = &c->mm->spans;
  return by(c, SpvOpUDiv, by(c, SpvOpIMul, span, s->all), s->n);
}

SpvId matmul_coop_span_begin(Coop *c) {
  const Spans *s = &c->mm->spans;
  c->span_begin = begin_of(c, c->group);
  c->span_end = begin_of(c, by(c, SpvOpIAdd, c->group, 1));
  c->span_first = by(c, SpvOpUDiv, c->span_begin, s->steps);
  c->span_last = by(c, SpvOpUDiv, by(c, SpvOpISub, c->span_end, 1), s->steps);
  return c->span_first;
}

/* As ir_span_tile. */
void matmul_coop_span_tile(Coop *c, SpvId tile) {
  Matmul *mm = c->mm;
  const Spans *s = &mm->spans;
  bool along_n = s->by_n >= s->by_m;
  int64_t line = along_n ? s->by_n : s->by_m;
  SpvId across = by(c, SpvOpUDiv, tile, line), along = by(c, SpvOpUMod, tile, line);
  mm->batch_id = constant(c, 0);
  mm->tile_m_id = by(c, SpvOpIMul, along_n ? across : along, mm->tile_m);
  mm->tile_n_id = by(c, SpvOpIMul, along_n ? along : across, mm->tile_n);
}

/* The steps of a tile that are the span's: from `*first` on, how many. */
static SpvId piece(Coop *c, SpvId tile, SpvId *first) {
  Spv *b = c->mm->k->b;
  int64_t steps = c->mm->spans.steps;
  SpvId begin = by(c, SpvOpIMul, tile, steps), end = by(c, SpvOpIAdd, begin, steps);
  SpvId inside = spv_cmp(b, SpvOpULessThan, begin, c->span_begin);
  SpvId from = spv_select(b, inside, c->span_begin, begin);
  *first = spv_bin(b, SpvOpISub, from, begin);
  return spv_bin(b, SpvOpISub, least(c, end, c->span_end), from);
}

/* Loads go on to the tile after this one; after the last, to its own first steps, for nothing. */
static void before_next(Coop *c, SpvId tile) {
  SpvId next = by(c, SpvOpIAdd, tile, 1);
  matmul_coop_before(c, least(c, next, c->span_last));
  matmul_coop_go_to(c, tile);
}

static bool has_spare_slots(const Spans *s) {
  for (int64_t t = 0; t < s->by_m * s->by_n; t++) {
    int64_t last = ir_span_at(s, (t + 1) * s->steps - 1);
    if (last - ir_span_at(s, t * s->steps) + 1 < s->slots) return true;
  }
  return false;
}

static void store_zeros(Coop *c, SpvId slot, SpvId end) {
  Spv *b = c->mm->k->b;
  const Spans *s = &c->mm->spans;
  SpvId ends = spv_cmp(b, SpvOpIEqual, end, constant(c, s->steps));
  SpvId spare = spv_bin(b, SpvOpISub, constant(c, s->slots - 1), slot);
  SpvId i = spv_for(b, spv_select(b, ends, spare, constant(c, 0)));
  SpvId zero = spv_matrix_zero(b, c->matrix_sum);
  for (int m = 0; m < c->parts_m; m++)
    for (int n = 0; n < c->parts_n; n++) spv_set(b, c->sum[m][n], zero);
  i = by(c, SpvOpIAdd, i, 1);
  c->mm->batch_id = spv_bin(b, SpvOpIAdd, slot, i);
  matmul_coop_store(c);
  spv_end(b);
}

static void store(Coop *c, SpvId tile, SpvId end) {
  const Spans *s = &c->mm->spans;
  SpvId at = by(c, SpvOpIMul, by(c, SpvOpIAdd, by(c, SpvOpIMul, tile, s->steps), 1), s->n);
  at = by(c, SpvOpUDiv, by(c, SpvOpISub, at, 1), s->all); /* ir_span_at the tile's first step */
  SpvId slot = spv_bin(c->mm->k->b, SpvOpISub, c->group, at);
  c->mm->batch_id = slot;
  matmul_coop_store(c);
  if (has_spare_slots(s)) store_zeros(c, slot, end);
}

void matmul_coop_span(Coop *c) {
  Spv *b = c->mm->k->b;
  SpvId first, steps = piece(c, c->span_first, &first);
  matmul_coop_side_skip(c, &c->a, first);
  matmul_coop_side_skip(c, &c->b, first);
  before_next(c, c->span_first);
  matmul_coop_ahead(c, steps);
  SpvId tiles = spv_bin(b, SpvOpISub, c->span_last, c->span_first);
  SpvId i = spv_for(b, by(c, SpvOpIAdd, tiles, 1));
  SpvId tile = spv_bin(b, SpvOpIAdd, c->span_first, i);
  before_next(c, tile);
  steps = piece(c, tile, &first);
  matmul_coop_make_sums(c);
  matmul_coop_loop(c, steps);
  store(c, tile, spv_bin(b, SpvOpIAdd, first, steps));
  spv_end(b);
}
