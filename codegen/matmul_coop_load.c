/* A tile of one operand of the cooperative-matrix product, rows × k, on its way from memory to fragments.
 *
 *   elements that follow each other along k:                  along the rows:
 *        ┌ row 0: k …│ row L: k …│ pad ┐                           ┌ k 0: row 0, 1, 2 …   │ pad ┐
 *        │ row 1     │ row L + 1 │     │  L lines                  │ k 1                  │     │  a line for each term
 *        └ …         │ …         │     ┘                           └ …                    │     ┘
 *
 * Rows that are short along k are packed, several to a line, so that the pad costs less; lines begin in different banks, which is
 * what fragments are read across. Invocations move runs of eight elements: one load of 16 bytes, or, where strides allow no
 * better, several narrower ones. Loads stay inside the operand: past the edge they repeat the last run of rows (products of rows
 * that there are not are not stored), terms past k become zeros. */
#include "codegen/matmul_coop.h"

static SpvId constant(Coop *c, int64_t v) { return spv_u(c->mm->k->b, (uint32_t)v); }

static SpvId add(Coop *c, SpvId x, int64_t v) {
  if (v == 0) return x;
  SpvId y = constant(c, v);
  return spv_bin(c->mm->k->b, SpvOpIAdd, x, y);
}

static SpvId times(Coop *c, SpvId x, int64_t v) {
  if (v == 1) return x;
  SpvId y = constant(c, v);
  return spv_bin(c->mm->k->b, SpvOpIMul, x, y);
}

static SpvId over(Coop *c, SpvId x, int64_t v) {
  if (v == 1) return x;
  SpvId y = constant(c, v);
  return spv_bin(c->mm->k->b, SpvOpUDiv, x, y);
}

static SpvId modulo(Coop *c, SpvId x, int64_t v) {
  SpvId y = constant(c, v);
  return spv_bin(c->mm->k->b, SpvOpUMod, x, y);
}

static SpvId plus(Coop *c, SpvId x, SpvId y) { return spv_bin(c->mm->k->b, SpvOpIAdd, x, y); }

static SpvId least(Coop *c, SpvId x, int64_t v) {
  SpvId y = constant(c, v);
  SpvId past = spv_cmp(c->mm->k->b, SpvOpUGreaterThan, x, y);
  return spv_select(c->mm->k->b, past, y, x);
}

/* ---- layout ---- */

/* How many neighbouring elements every load can have: what all that is added to an index divides by. Along the rows the last
 * load may reach past them, into what lies there or the rest of the tensor's last 16 bytes, for products that are not stored;
 * but not where the operand is computed. */
static int load_width(const Matmul *mm, const Side *s, int64_t rows) {
  int width = RUN;
  int64_t other = s->unit_k ? s->row : s->k;
  while (width > 1) {
    bool ok = other % width == 0 && s->offset % width == 0 && (!s->unit_k || mm->kk % width == 0) &&
              (!s->computed || s->unit_k || rows % width == 0);
    for (int i = 0; i < mm->n_batch; i++)
      ok = ok && (mm->batch_dim[i] == 1 || s->batch[i] % width == 0);
    if (ok) break;
    width /= 2;
  }
  return width;
}

/* Whether each subgroup's fragments lie at constant distances where `pack` rows share a line. */
static bool can_pack(const CoopSide *s, int pack) {
  int lines = s->tile_rows / pack;
  return s->tile_rows % pack == 0 && lines % s->fragment == 0 &&
         (lines % s->subgroup_rows == 0 || s->subgroup_rows % lines == 0);
}

int matmul_coop_side_layout(Coop *c, CoopSide *s, Side *side, bool is_b, int base) {
  const Matmul *mm = c->mm;
  const MatmulTile *t = &c->tile;
  *s = (CoopSide){.side = side,
                  .is_b = is_b,
                  .along_k = side->unit_k,
                  .rows = is_b ? mm->n : mm->m,
                  .tile_rows = is_b ? t->n : t->m,
                  .tile_k = t->k,
                  .fragment = (int)(is_b ? c->shape.n : c->shape.m),
                  .fragment_k = (int)c->shape.k,
                  .base = base,
                  .pack = 1};
  s->subgroup_rows = s->tile_rows / (is_b ? t->subgroups_n : t->subgroups_m);
  s->width = load_width(mm, side, s->rows);
  s->edge = s->rows % s->tile_rows != 0;
  s->tail = mm->kk % t->k != 0;
  int runs = s->tile_rows * t->k / RUN;
  if (s->along_k) {
    while (2 * s->pack * t->k <= PACKED * RUN && can_pack(s, 2 * s->pack)) s->pack *= 2;
    s->line_runs = s->pack * t->k / RUN;
  } else
    s->line_runs = s->tile_rows / RUN;
  s->lines = runs / s->line_runs;
  s->stride = s->line_runs + PAD;
  s->block = 1;
  while (s->line_runs % (2 * s->block) == 0 && c->invocations % (2 * (unsigned)s->block) == 0)
    s->block *= 2;
  s->blocks = s->line_runs / s->block;
  s->sweep = (int)c->invocations / s->block;
  s->each = (s->lines + s->sweep - 1) / s->sweep * s->blocks;
  s->guard = s->lines % s->sweep != 0;
  return s->lines * s->stride;
}

/* ---- where this invocation's runs are ---- */

static SpvId line_of(Coop *c, CoopSide *s, int i) {
  SpvId line = add(c, s->line, (int64_t)(i / s->blocks) * s->sweep);
  return s->guard ? least(c, line, s->lines - 1) : line;
}

static SpvId column_of(Coop *c, CoopSide *s, int i) {
  return add(c, s->column, (int64_t)(i % s->blocks) * s->block);
}

/* The run's first row, of the tile, and its first term. */
static void find_run(Coop *c, CoopSide *s, int i, SpvId *row, SpvId *term) {
  SpvId line = line_of(c, s, i), column = column_of(c, s, i);
  if (!s->along_k) {
    *row = times(c, column, RUN);
    *term = line;
    return;
  }
  int runs = s->tile_k / RUN;
  *row = line;
  if (s->pack > 1) {
    SpvId part = over(c, column, runs);
    part = times(c, part, s->lines);
    *row = plus(c, line, part);
    column = modulo(c, column, runs);
  }
  *term = times(c, column, RUN);
}

/* In loads, from the operand's first element on, without the tile's first term. */
static SpvId index_of(Coop *c, CoopSide *s, SpvId row, SpvId term) {
  int64_t w = s->width;
  SpvId at = over(c, s->side->offset_id, w);
  SpvId along = s->along_k ? row : term, across = s->along_k ? term : row;
  along = times(c, along, (s->along_k ? s->side->row : s->side->k) / w);
  across = over(c, across, w);
  at = plus(c, at, along);
  return plus(c, at, across);
}

/* Elements between run i and the first, where that is the same for all invocations; else −1. */
static int64_t distance(const CoopSide *s, int i) {
  int64_t lines = (int64_t)(i / s->blocks) * s->sweep,
          columns = (int64_t)(i % s->blocks) * s->block;
  if (s->edge || s->guard || (s->pack > 1 && columns > 0)) return -1;
  return lines * (s->along_k ? s->side->row : s->side->k) + columns * RUN;
}

/* The operand's row and the tile's term that load p of run i begins at. */
static void find_load(Coop *c, CoopSide *s, int i, int p, SpvId *row, SpvId *term) {
  find_run(c, s, i, row, term);
  *row = plus(c, *row, s->is_b ? c->mm->tile_n_id : c->mm->tile_m_id);
  if (s->along_k)
    *term = add(c, *term, p * s->width);
  else
    *row = add(c, *row, p * s->width);
  int64_t last = s->along_k ? s->rows - 1 : (s->rows - 1) / s->width * s->width;
  if (s->edge) *row = least(c, *row, last);
}

bool matmul_coop_side_even(const CoopSide *s) {
  bool even = !s->tail && !s->side->computed;
  for (int i = 0; i < s->each; i++) even = even && distance(s, i) >= 0;
  return even;
}

SpvId matmul_coop_side_start(Coop *c, CoopSide *s) {
  SpvId row, term;
  find_run(c, s, 0, &row, &term);
  row = plus(c, row, s->is_b ? c->mm->tile_n_id : c->mm->tile_m_id);
  return index_of(c, s, row, term);
}

void matmul_coop_side_skip(Coop *c, CoopSide *s, SpvId steps) {
  SpvId moving = spv_get(c->mm->k->b, s->moving);
  steps = times(c, steps, s->tile_k * s->side->k / s->width);
  spv_set(c->mm->k->b, s->moving, plus(c, moving, steps));
}

void matmul_coop_side_begin(Coop *c, CoopSide *s) {
  Spv *b = c->mm->k->b;
  SpvId lane = spv_builtin(b, SpvBuiltInLocalInvocationIndex, spv_u32(b));
  SpvId uvec4 = spv_vec(b, spv_u32(b), 4), first = 0;
  s->line = over(c, lane, s->block);
  s->column = s->block == 1 ? constant(c, 0) : modulo(c, lane, s->block);
  for (int i = 0; i < s->each; i++) {
    SpvId row, term;
    s->run[i] = spv_local(b, uvec4);
    for (int p = 0; p < RUN / s->width; p++) {
      if (s->side->computed) {
        find_load(c, s, i, p, &row, &term);
        matmul_values_hoist(c->mm, s->side, row, s->along_k ? 1 : s->width);
        continue;
      }
      if (distance(s, i) >= 0 && first) {
        int64_t further = (distance(s, i) + p * s->width) / s->width;
        s->fixed[i][p] = further ? constant(c, further) : 0;
        continue;
      }
      find_load(c, s, i, p, &row, &term);
      SpvId at = index_of(c, s, row, term);
      if (distance(s, i) >= 0)
        first = at;
      else
        s->fixed[i][p] = at;
    }
  }
  s->moving = spv_local(b, spv_u32(b));
  spv_set(b, s->moving, first ? first : constant(c, 0));
  SpvId which = s->is_b ? c->subgroup_n : c->subgroup_m;
  SpvId base = times(c, which, s->subgroup_rows);
  if (s->along_k) {
    SpvId part = over(c, base, s->lines);
    part = times(c, part, s->tile_k / RUN);
    base = modulo(c, base, s->lines);
    base = times(c, base, s->stride);
    base = plus(c, base, part);
  } else
    base = over(c, base, RUN);
  s->fragment_base = add(c, base, s->base);
}

/* ---- memory → registers ---- */

/* One load as 32-bit words: four, two, one, or a half. */
static void load(Coop *c, CoopSide *s, SpvId at, int p, SpvId valid, SpvId *word) {
  Spv *b = c->mm->k->b;
  if (valid) at = spv_select(b, valid, at, constant(c, 0));
  SpvId value = kernel_load_raw(c->mm->k, s->side->base, s->width, at);
  int words = s->width / 2;
  for (int i = 0; i < (words ? words : 1); i++) {
    SpvId w = words > 1 ? spv_extract(b, value, (uint32_t)i) : value;
    if (valid) w = spv_select(b, valid, w, constant(c, 0));
    if (s->width > 1) {
      word[p * words + i] = w;
    } else if (p % 2 == 0) {
      word[p / 2] = w;
    } else {
      w = spv_bin(b, SpvOpShiftLeftLogical, w, constant(c, 16));
      word[p / 2] = spv_bin(b, SpvOpBitwiseOr, word[p / 2], w);
    }
  }
}

static SpvId is_valid(Coop *c, CoopSide *s, int i, int p) {
  SpvId row, term;
  if (!s->tail) return 0;
  find_run(c, s, i, &row, &term);
  if (s->along_k) term = add(c, term, p * s->width);
  term = plus(c, term, spv_get(c->mm->k->b, c->first_term));
  return spv_cmp(c->mm->k->b, SpvOpULessThan, term, c->mm->kk_id);
}

/* A run of a side that is computed; zeros past k. */
static SpvId compute(Coop *c, CoopSide *s, int i) {
  Spv *b = c->mm->k->b;
  SpvId value[RUN], row, term, zero = spv_f(b, 0);
  for (int p = 0; p < RUN / s->width; p++) {
    SpvId valid = is_valid(c, s, i, p);
    find_load(c, s, i, p, &row, &term);
    term = plus(c, term, spv_get(b, c->first_term));
    if (valid) term = spv_select(b, valid, term, constant(c, 0));
    SpvId *part = value + p * s->width;
    matmul_values(c->mm, s->side, row, term, s->along_k, s->width, part);
    for (int j = 0; valid && j < s->width; j++) part[j] = spv_select(b, valid, part[j], zero);
  }
  return kernel_pack8(c->mm->k, c->type, value);
}

void matmul_coop_fetch(Coop *c, CoopSide *s) {
  Spv *b = c->mm->k->b;
  for (int i = 0; s->side->computed && i < s->each; i++) {
    SpvId run = compute(c, s, i);
    spv_set(b, s->run[i], run);
  }
  if (s->side->computed) return;
  SpvId moving = spv_get(b, s->moving), uvec4 = spv_vec(b, spv_u32(b), 4);
  for (int i = 0; i < s->each; i++) {
    SpvId word[4] = {0};
    if (s->width == RUN && !s->tail) { /* the words need not be taken apart */
      SpvId at = s->fixed[i][0] ? plus(c, moving, s->fixed[i][0]) : moving;
      SpvId value = kernel_load_raw(c->mm->k, s->side->base, RUN, at);
      spv_set(b, s->run[i], value);
      continue;
    }
    for (int p = 0; p < RUN / s->width; p++) {
      SpvId valid = is_valid(c, s, i, p);
      SpvId at = s->fixed[i][p] ? plus(c, moving, s->fixed[i][p]) : moving;
      load(c, s, at, p, valid, word);
    }
    SpvId value = spv_pure(b, SpvOpCompositeConstruct, uvec4, word[0], word[1], word[2], word[3]);
    spv_set(b, s->run[i], value);
  }
}

void matmul_coop_advance(Coop *c, CoopSide *s, SpvId more) {
  Spv *b = c->mm->k->b;
  SpvId step = constant(c, s->tile_k * s->side->k / s->width);
  SpvId moving = spv_get(b, s->moving);
  if (s->next) {
    moving = plus(c, moving, step);
    moving = spv_select(b, more, moving, s->next);
  } else {
    step = spv_select(b, more, step, constant(c, 0));
    moving = plus(c, moving, step);
  }
  spv_set(b, s->moving, moving);
}

/* ---- registers → workgroup memory → fragments ---- */

void matmul_coop_put(Coop *c, CoopSide *s) {
  Spv *b = c->mm->k->b;
  SpvId first = times(c, s->line, s->stride);
  first = plus(c, first, s->column);
  first = add(c, first, s->base);
  for (int i = 0; i < s->each; i++) {
    int line = i / s->blocks * s->sweep, column = i % s->blocks * s->block;
    bool guard = line + s->sweep > s->lines;
    if (guard) {
      SpvId here = add(c, s->line, line);
      SpvId within = spv_cmp(b, SpvOpULessThan, here, constant(c, s->lines));
      spv_if(b, within);
    }
    SpvId at = add(c, first, (int64_t)line * s->stride + column);
    at = spv_at(b, c->shared, at);
    SpvId value = spv_get(b, s->run[i]);
    spv_set(b, at, value);
    if (guard) spv_end(b);
  }
}

SpvId matmul_coop_fragment(Coop *c, CoopSide *s, int part, int step) {
  Spv *b = c->mm->k->b;
  int row = part * s->fragment, k = step * s->fragment_k, at;
  if (s->along_k)
    at = row % s->lines * s->stride + row / s->lines * (s->tile_k / RUN) + k / RUN;
  else
    at = k * s->stride + row / RUN;
  SpvId index = add(c, s->fragment_base, at);
  SpvId pointer = spv_at(b, c->shared, index);
  SpvId stride = constant(c, s->stride);
  bool rows_are_lines = s->along_k != s->is_b;
  return spv_matrix_load(b, s->is_b ? c->matrix_b : c->matrix_a, pointer, !rows_are_lines, stride,
                         0);
}
