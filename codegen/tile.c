/* Slices of operands on their way through workgroup memory, and their products: see tile.h. */
#include "codegen/tile.h"

enum { NEAR = 16 }; /* elements of a row that neighbouring invocations read */

/* ---- small things ---- */

SpvId tile_vec4(Kernel *k) { return spv_vec(k->b, spv_f32(k->b), 4); }

static SpvId vec4_of(Kernel *k, const SpvId *x) {
  return spv_pure_n(k->b, SpvOpCompositeConstruct, tile_vec4(k), 4, x);
}

SpvId tile_zero(Kernel *k) {
  SpvId zero = const_f(k, 0);
  return vec4_of(k, (SpvId[]){zero, zero, zero, zero});
}

SpvId tile_mad(Kernel *k, SpvId x, uint32_t by, SpvId plus) {
  x = op_u(k, SpvOpIMul, x, by);
  return spv_bin(k->b, SpvOpIAdd, x, plus);
}

SpvId tile_shared(Kernel *k, int quads) {
  SpvId array = spv_array(k->b, tile_vec4(k), (uint32_t)quads);
  return spv_shared(k->b, array);
}

int tile_quads(int rows, int terms) { return terms * (rows / 4 + TILE_PAD); }

SpvId tile_component(Kernel *k, SpvId shared, SpvId index, SpvId part) {
  SpvId type = spv_pointer(k->b, SpvStorageClassWorkgroup, spv_f32(k->b));
  return spv_pure(k->b, SpvOpAccessChain, type, shared, index, part);
}

/* ---- from memory to workgroup memory ---- */

static int runs(const TileStage *s) { return s->n * 4 / s->run; }

/* Where run r of this invocation lies. */
static void place_run(Kernel *k, TileStage *s, int r) {
  const TileSource *from = &s->source;
  SpvId at = op_u(k, SpvOpIAdd, s->lane, (uint32_t)(r * s->lanes));
  if (from->unit_term) { /* some of a row, then the next row, then further terms */
    uint32_t reach = s->terms < NEAR ? (uint32_t)s->terms : NEAR;
    SpvId near = op_u(k, SpvOpUMod, at, reach / (uint32_t)s->run);
    at = op_u(k, SpvOpUDiv, at, reach / (uint32_t)s->run);
    s->row[r] = op_u(k, SpvOpUMod, at, (uint32_t)s->rows);
    at = op_u(k, SpvOpUDiv, at, (uint32_t)s->rows);
    near = op_u(k, SpvOpIMul, near, (uint32_t)s->run);
    s->term[r] = tile_mad(k, at, reach, near);
  } else {
    SpvId quad = op_u(k, SpvOpUMod, at, (uint32_t)(s->rows / s->run));
    s->row[r] = op_u(k, SpvOpIMul, quad, (uint32_t)s->run);
    s->term[r] = op_u(k, SpvOpUDiv, at, (uint32_t)(s->rows / s->run));
  }
  SpvId row = spv_bin(k->b, SpvOpIAdd, from->first_row, s->row[r]), term = s->term[r];
  if (from->rows) {
    SpvId last = op_u(k, SpvOpISub, from->rows, from->unit_term ? 1 : (uint32_t)s->run);
    SpvId past = spv_cmp(k->b, SpvOpUGreaterThan, row, last);
    row = choose(k, past, last, row);
  }
  s->from_row[r] = row;
  if (!from->unit_row) row = spv_bin(k->b, SpvOpIMul, row, from->row);
  if (!from->unit_term) term = spv_bin(k->b, SpvOpIMul, term, from->term);
  at = spv_bin(k->b, SpvOpIAdd, row, from->offset);
  at = spv_bin(k->b, SpvOpIAdd, at, term);
  s->fixed[r] = s->run == 4 ? op_u(k, SpvOpShiftRightLogical, at, 2) : at;
}

void tile_stage(Kernel *k, TileStage *s, const TileSource *source) {
  s->source = *source;
  s->n = s->rows * s->terms / 4 / s->lanes;
  s->run = source->four ? 4 : 1;
  if (s->n < 1 || s->n > TILE_MAX_STAGE || s->n * s->lanes * 4 != s->rows * s->terms)
    die("codegen: %d invocations cannot share %d x %d elements", s->lanes, s->rows, s->terms);
  for (int r = 0; r < runs(s); r++) place_run(k, s, r);
  SpvId zero = tile_zero(k);
  for (int i = 0; i < s->n; i++) {
    s->value[i] = spv_local(k->b, tile_vec4(k));
    if (!s->add_up) continue;
    s->sum[i] = spv_local(k->b, tile_vec4(k));
    spv_set(k->b, s->sum[i], zero);
  }
}

TileStage tile_stage_twin(Kernel *k, const TileStage *s, int at) {
  TileStage twin = *s;
  twin.at = at;
  for (int i = 0; i < s->n; i++) twin.value[i] = spv_local(k->b, tile_vec4(k));
  return twin;
}

/* The same of values that are computed. */
static SpvId compute_run(Kernel *k, const TileStage *s, int r, SpvId slice) {
  const TileSource *from = &s->source;
  SpvId term = tile_mad(k, slice, (uint32_t)s->terms, s->term[r]), inside = 0, x[4];
  if (from->terms) {
    inside = spv_cmp(k->b, SpvOpULessThan, term, from->terms);
    term = choose(k, inside, term, const_u(k, 0));
  }
  from->value(from->context, s->from_row[r], term, from->unit_term, s->run, x);
  SpvId value = s->run == 4 ? vec4_of(k, x) : x[0],
        zero = s->run == 4 ? tile_zero(k) : const_f(k, 0);
  return inside ? choose(k, inside, value, zero) : value;
}

/* Run r of a slice; zeros past the last term. */
static SpvId load_run(Kernel *k, const TileStage *s, int r, SpvId slice) {
  const TileSource *from = &s->source;
  if (from->value) return compute_run(k, s, r, slice);
  uint32_t step = (uint32_t)(s->terms / s->run); /* terms a slice, as the address counts them */
  SpvId far = op_u(k, SpvOpIMul, slice, step), inside = 0;
  if (!from->unit_term) far = spv_bin(k->b, SpvOpIMul, far, from->term);
  SpvId at = spv_bin(k->b, SpvOpIAdd, s->fixed[r], far);
  if (from->terms) {
    SpvId term = tile_mad(k, slice, (uint32_t)s->terms, s->term[r]);
    inside = spv_cmp(k->b, SpvOpULessThan, term, from->terms);
    SpvId first = const_u(k, 0);
    at = choose(k, inside, at, first);
  }
  SpvId x = s->run == 4 ? kernel_load4_at(k, from->base, at) : kernel_load_at(k, from->base, at);
  SpvId zero = s->run == 4 ? tile_zero(k) : const_f(k, 0);
  return inside ? choose(k, inside, x, zero) : x;
}

void tile_read(Kernel *k, const TileStage *s, SpvId slice) {
  for (int i = 0; i < s->n; i++) {
    SpvId x[4] = {0};
    for (int j = 0; j < 4 / s->run; j++) x[j] = load_run(k, s, 4 / s->run * i + j, slice);
    if (s->run == 1) x[0] = vec4_of(k, x);
    spv_set(k->b, s->value[i], x[0]);
  }
}

static SpvId quad_at(Kernel *k, const TileStage *s, SpvId term, SpvId row) {
  SpvId quad = op_u(k, SpvOpShiftRightLogical, row, 2);
  quad = tile_mad(k, term, (uint32_t)(s->rows / 4 + TILE_PAD), quad);
  return s->at ? op_u(k, SpvOpIAdd, quad, (uint32_t)s->at) : quad;
}

/* What an invocation holds of a slice, in the i-th vec4 that it reads, to its place. */
static void put(Kernel *k, const TileStage *s, int i, SpvId value) {
  bool along_terms = s->source.unit_term;
  if (s->run == 4 && !along_terms) {
    SpvId at = quad_at(k, s, s->term[i], s->row[i]);
    at = spv_at(k->b, s->shared, at);
    spv_set(k->b, at, value);
    return;
  }
  for (uint32_t j = 0; j < 4; j++) {
    int r = s->run == 4 ? i : 4 * i + (int)j;
    SpvId term = s->run == 4 ? op_u(k, SpvOpIAdd, s->term[r], j) : s->term[r];
    SpvId quad = quad_at(k, s, term, s->row[r]);
    SpvId part = op_u(k, SpvOpBitwiseAnd, s->row[r], 3);
    SpvId at = tile_component(k, s->shared, quad, part);
    SpvId x = spv_extract(k->b, value, j);
    spv_set(k->b, at, x);
  }
}

void tile_write(Kernel *k, const TileStage *s) {
  for (int i = 0; i < s->n; i++) {
    SpvId value = spv_get(k->b, s->value[i]);
    if (s->add_up) {
      SpvId sum = spv_get(k->b, s->sum[i]), zero = tile_zero(k);
      SpvId more = s->counted ? choose(k, s->counted, value, zero) : value;
      sum = add_f(k, sum, more);
      spv_set(k->b, s->sum[i], sum);
    }
    put(k, s, i, value);
  }
}

void tile_write_sums(Kernel *k, const TileStage *s) {
  for (int i = 0; i < s->n; i++) {
    SpvId sum = spv_get(k->b, s->sum[i]);
    put(k, s, i, sum);
  }
}

/* ---- products ---- */

void tile_lane(Kernel *k, SpvId lane, int across, int wide, SpvId *x, SpvId *y) {
  enum { GROUP = 32 };
  uint32_t columns = (uint32_t)wide, rows = GROUP / columns, beside = (uint32_t)across / columns;
  SpvId within = op_u(k, SpvOpUMod, lane, GROUP), group = op_u(k, SpvOpUDiv, lane, GROUP);
  SpvId pair = op_u(k, SpvOpUDiv, within, 2 * columns); /* of rows */
  *x = op_u(k, SpvOpUDiv, within, 2);
  *x = op_u(k, SpvOpUMod, *x, columns);
  *y = op_u(k, SpvOpUMod, within, 2);
  *y = tile_mad(k, pair, 2, *y);
  SpvId right = op_u(k, SpvOpUMod, group, beside);
  SpvId below = op_u(k, SpvOpUDiv, group, beside);
  *x = tile_mad(k, right, columns, *x);
  *y = tile_mad(k, below, rows, *y);
}

void tile_fragments(Kernel *k, const TileFactor *f, int term, SpvId *out) {
  for (int i = 0; i < f->blocks; i++) {
    SpvId at = op_u(k, SpvOpIAdd, f->own, (uint32_t)(term * f->pitch + i * f->apart));
    at = spv_at(k->b, f->shared, at);
    out[i] = spv_get(k->b, at);
  }
}

void tile_add_term(Kernel *k, const TileFactor *a, const TileFactor *b, const SpvId *of_a,
                   const SpvId *of_b, SpvId *acc) {
  for (int r = 0; r < 4 * a->blocks; r++) {
    SpvId s = spv_extract(k->b, of_a[r / 4], (uint32_t)r % 4);
    s = spv_result(k->b, SpvOpCompositeConstruct, tile_vec4(k), s, s, s, s);
    for (int j = 0; j < b->blocks; j++) {
      SpvId *sum = &acc[r * b->blocks + j];
      *sum = spv_fma(k->b, s, of_b[j], *sum);
    }
  }
}

void tile_multiply(Kernel *k, const TileFactor *a, const TileFactor *b, int terms, SpvId *acc) {
  SpvId of_a[TILE_MAX_BLOCKS], of_b[TILE_MAX_BLOCKS];
  for (int term = 0; term < terms; term++) {
    tile_fragments(k, a, term, of_a);
    tile_fragments(k, b, term, of_b);
    tile_add_term(k, a, b, of_a, of_b, acc);
  }
}
