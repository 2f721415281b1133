/* Matrix product for CPU drivers with subgroups of 8: a workgroup is one subgroup, which computes 8·G × 32 of C, G <= 8, or,
 * turned, 32 × 8·G. One operand, "spread", goes row by row through all lanes, the other, "owned", belongs to the lanes:
 *
 *         owned →  lane 0   lane 1   …   lane 7          per 4 steps along k, all loads first:
 *               ┌────────┬────────┬─ ─ ─┬────────┐          owned: lane L has rows 4·L … 4·L + 3
 *  spread  0    │ s0 vec4│        │     │        │          spread, where k has stride 1: lane L loads rows L, 8 + L, …
 *    ↓     1    │ s1     │        │     │        │             (vec4s along k); row 8·g + L is in lane L's g-th
 *          …    │        │        │     │        │          spread, where rows have stride 1: rows 4·L … 4·L + 3, and those
 *       8·G − 1 │        │        │     │        │             32 further on (vec4s along the rows)
 *               └────────┴────────┴─ ─ ─┴────────┘
 *
 * The spread operand's elements reach all lanes by shuffles from constant lanes, which this kind of driver turns into nothing.
 * Its loads are gathers, each of which costs as much as 14 products of 8 lanes: hence so many rows, whose sums do not nearly
 * fit into registers. More steps at once would spare the sums' way through the loop, but their code does not fit into the
 * processor's caches for it. Gathers wait for the cache too, and in each of these eight lanes touch eight rows of memory at
 * once. That is why the tile is turned (A owned, B spread) where A's k and B's columns have stride 1. */
#include "codegen/matmul.h"

#include <string.h>

enum { LANES = 8, MAX_GROUPS = 8, STEPS = 4, QUADS = 4 * LANES /* rows that lanes load by four */ };

typedef struct Tile {
  bool turned; /* A is owned */
  Side *spread, *owned;
  bool sum_spread, sum_owned;
  int rows;                        /* of the spread operand, that are computed */
  SpvId lane, spread_row, own_row; /* of the tile; of this lane: its first */
} Tile;

static int up(int64_t n, int to) { return (int)((n + to - 1) / to * to); }

/* Whether a lane loads four neighbouring rows of the spread operand rather than rows 8 apart. */
static bool by_four(const Tile *t) { return t->spread->unit_row && t->spread->aligned; }

static SpvId plus(Spv *b, SpvId x, int c) {
  SpvId y = spv_u(b, (uint32_t)c);
  return spv_bin(b, SpvOpIAdd, x, y);
}

/* What lanes load of the spread operand: own[i][j] is step j of row r = 8·i + lane, or, by four, of row
 * 32·(i / 4) + 4·lane + i % 4. */
static void load_rows(Matmul *mm, const Tile *t, SpvId k, int steps, SpvId (*own)[4]) {
  Spv *b = mm->k->b;
  if (by_four(t)) {
    SpvId two = spv_u(b, 2);
    SpvId row = spv_bin(b, SpvOpShiftLeftLogical, t->lane, two);
    row = spv_bin(b, SpvOpIAdd, t->spread_row, row);
    for (int r = 0; r < t->rows; r += QUADS) {
      SpvId here = plus(b, row, r);
      matmul_load(mm, t->spread, here, 4, k, steps, own + r / LANES);
    }
    return;
  }
  SpvId first = spv_bin(b, SpvOpIAdd, t->spread_row, t->lane);
  for (int g = 0; g < MAX_GROUPS; g++) {
    if (LANES * g < t->rows) {
      SpvId row = plus(b, first, LANES * g);
      matmul_load(mm, t->spread, row, 1, k, steps, own + g);
    } else
      memcpy(own[g], own[0], sizeof own[g]);
  }
}

/* s[j]: row r in every lane */
static void spread_row(Matmul *mm, const Tile *t, int r, int steps, SpvId (*own)[4], SpvId *s) {
  Spv *b = mm->k->b;
  bool four = by_four(t);
  SpvId from = spv_u(b, (uint32_t)(four ? r / 4 % LANES : r % LANES));
  const SpvId *of = own[four ? r / QUADS * 4 + r % 4 : r / LANES];
  for (int j = 0; j < steps; j++) s[j] = spv_shuffle(b, of[j], from);
}

static void step(Matmul *mm, SpvId k, int steps, SpvId *acc, const void *context) {
  const Tile *t = context;
  SpvId rows[4][4], own[MAX_GROUPS][4], owned[STEPS], s[STEPS], column[STEPS];
  matmul_load(mm, t->owned, t->own_row, 4, k, steps, rows);
  matmul_columns(mm, steps, rows, owned);
  if (t->sum_owned) acc[t->rows] = matmul_add(mm, steps, owned, acc[t->rows]);
  load_rows(mm, t, k, steps, own);
  for (int r = 0; t->sum_spread && r < t->rows; r += QUADS) {
    SpvId *sum = &acc[t->rows + t->sum_owned + r / QUADS];
    matmul_columns(mm, steps, own + r / LANES, column); /* the lane's own rows */
    *sum = matmul_add(mm, steps, column, *sum);
  }
  for (int r = 0; r < t->rows; r++) {
    spread_row(mm, t, r, steps, own, s);
    for (int j = 0; j < steps; j++) acc[r] = matmul_fma(mm, s[j], owned[j], acc[r]);
  }
}

/* Addresses' parts that the loop does not change, ahead of it: drivers do not move them. */
static void prepare(Matmul *mm, const Tile *t) {
  SpvId unused[4][4], own[MAX_GROUPS][4];
  matmul_load(mm, t->owned, t->own_row, 4, 0, STEPS, unused);
  load_rows(mm, t, 0, STEPS, own);
}

/* ---- results ---- */

/* Four rows of the spread operand are four columns of C, the lane's own four its rows. */
static void store_turned(Matmul *mm, const Tile *t, SpvId from, const SpvId *acc) {
  Spv *b = mm->k->b;
  SpvId row[4], part[4][4];
  for (int i = 0; i < 4; i++)
    for (uint32_t j = 0; j < 4; j++) part[i][j] = spv_extract(b, acc[i], j);
  matmul_columns(mm, 4, part, row);
  SpvId column = spv_bin(b, SpvOpIAdd, t->spread_row, from);
  matmul_store(mm, t->own_row, 4, column, row);
}

/* Rows of C are the spread operand's, or, turned, the lane's own: then four sums give four columns of each. */
static void store(Matmul *mm, const Tile *t, const SpvId *acc) {
  Spv *b = mm->k->b;
  if (!t->turned) {
    matmul_store(mm, t->spread_row, t->rows, t->own_row, acc);
    return;
  }
  SpvId sum[MATMUL_MAX_ROWS];
  int rows = up(t->rows, 4);
  for (int r = 0; r < rows; r++) sum[r] = acc[r < t->rows ? r : 0];
  if (mm->plain) {
    for (int r = 0; r < rows; r += 4) {
      SpvId from = spv_u(b, (uint32_t)r);
      store_turned(mm, t, from, sum + r);
    }
    return;
  }
  SpvId vec4[4], array = matmul_keep(mm, rows, sum);
  SpvId n = spv_u(b, (uint32_t)rows / 4), four = spv_u(b, 4);
  SpvId i = spv_for_rolled(b, n);
  SpvId from = spv_bin(b, SpvOpIMul, i, four);
  for (int j = 0; j < 4; j++) {
    SpvId r = plus(b, from, j);
    SpvId at = spv_local_at(b, array, r);
    vec4[j] = spv_get(b, at);
  }
  store_turned(mm, t, from, vec4);
  spv_end(b);
}

/* The sums over k, by the first tile of the other operand. */
static void store_sums(Matmul *mm, const Tile *t, const SpvId *sum) {
  Spv *b = mm->k->b;
  SpvId zero = spv_u(b, 0);
  SpvId spread_tile = t->turned ? mm->tile_n_id : mm->tile_m_id;
  SpvId own_tile = t->turned ? mm->tile_m_id : mm->tile_n_id;
  MatmulSource of_spread = t->turned ? FROM_sum_b : FROM_sum_a;
  MatmulSource of_owned = t->turned ? FROM_sum_a : FROM_sum_b;
  if (t->sum_owned) {
    SpvId first = spv_cmp(b, SpvOpIEqual, spread_tile, zero);
    spv_if(b, first);
    matmul_store_sum(mm, of_owned, t->own_row, 1, 4, *sum++);
    spv_end(b);
  }
  if (t->sum_spread) {
    SpvId first = spv_cmp(b, SpvOpIEqual, own_tile, zero);
    SpvId distance = spv_u(b, by_four(t) ? 4 : 1);
    spv_if(b, first);
    SpvId row = spv_bin(b, SpvOpIMul, t->lane, distance);
    row = spv_bin(b, SpvOpIAdd, t->spread_row, row);
    for (int r = 0; r < t->rows; r += QUADS) {
      int groups = (t->rows - r + LANES - 1) / LANES;
      SpvId here = plus(b, row, r);
      matmul_store_sum(mm, of_spread, here, by_four(t) ? 1 : LANES,
                       by_four(t) || groups > 4 ? 4 : groups, *sum++);
    }
    spv_end(b);
  }
}

/* ---- the kernel ---- */

/* Of the spread operand, that a tile has: as many as it can, where no more than a tenth is computed in vain for it. */
static int tile_rows(int64_t length) {
  const int most = LANES * MAX_GROUPS;
  if (10 * (int64_t)up(length, most) <= 11 * (int64_t)up(length, QUADS)) return most;
  return length < QUADS ? (int)length : QUADS;
}

static bool is_turned(const Matmul *mm) {
  return mm->a.unit_k && mm->b.unit_row && mm->m >= 2 * LANES;
}

void matmul_subgroup_tile(const Matmul *mm, int *rows, int *columns) {
  bool turned = is_turned(mm);
  int spread = up(tile_rows(turned ? mm->n : mm->m), LANES), own = 4 * LANES;
  *rows = turned ? own : spread;
  *columns = turned ? spread : own;
}

static void begin(Matmul *mm, Tile *t) {
  Spv *b = mm->k->b;
  int tile_m, tile_n;
  t->turned = is_turned(mm);
  t->spread = t->turned ? &mm->b : &mm->a;
  t->owned = t->turned ? &mm->a : &mm->b;
  t->sum_spread = t->turned ? mm->sum_b : mm->sum_a;
  t->sum_owned = t->turned ? mm->sum_a : mm->sum_b;
  t->rows = tile_rows(t->turned ? mm->n : mm->m);
  matmul_subgroup_tile(mm, &tile_m, &tile_n);
  matmul_begin(mm, tile_m, tile_n, STEPS, LANES);
  mm->k->out->subgroup_size = LANES;
  t->lane = spv_builtin(b, SpvBuiltInSubgroupLocalInvocationId, spv_u32(b));
  t->spread_row = t->turned ? mm->tile_n_id : mm->tile_m_id;
  SpvId two = spv_u(b, 2);
  SpvId own = spv_bin(b, SpvOpShiftLeftLogical, t->lane, two);
  t->own_row = spv_bin(b, SpvOpIAdd, t->turned ? mm->tile_m_id : mm->tile_n_id, own);
}

void matmul_subgroup(Matmul *mm) {
  Tile t = {0};
  SpvId acc[MATMUL_MAX_ACC];
  begin(mm, &t);
  prepare(mm, &t);
  int sums = t.sum_owned + (t.sum_spread ? up(t.rows, QUADS) / QUADS : 0);
  matmul_loop(mm, t.rows + sums, acc, step, &t);
  store(mm, &t, acc);
  store_sums(mm, &t, acc + t.rows);
  matmul_end(mm);
}
