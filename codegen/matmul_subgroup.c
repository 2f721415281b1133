/* Matrix product for CPU drivers with subgroups of 8: a workgroup is one subgroup, which computes 8·G × 32 of C, G <= 4, or,
 * turned, 32 × 8·G. One operand, "spread", goes row by row through all lanes, the other, "owned", belongs to the lanes:
 *
 *         owned →  lane 0   lane 1   …   lane 7          per 8 (or 4) steps along k, all loads first:
 *               ┌────────┬────────┬─ ─ ─┬────────┐          owned: lane L has rows 4·L … 4·L + 3
 *  spread  0    │ s0 vec4│        │     │        │          spread, where k has stride 1: lane L loads rows L, 8 + L, …
 *    ↓     1    │ s1     │        │     │        │             (vec4s along k); row 8·g + L is in lane L's g-th
 *          …    │        │        │     │        │          spread, where rows have stride 1: lane L loads step L of all rows
 *       8·G − 1 │        │        │     │        │             (vec4s along the rows); one step at a time: rows 4·L … 4·L + 3
 *               └────────┴────────┴─ ─ ─┴────────┘
 *
 * The spread operand's elements reach all lanes by shuffles from constant lanes, which this kind of driver turns into nothing.
 * Its loads are gathers, whose cost is waiting for the cache: in each of these, eight lanes touch eight rows of memory at once.
 * That is why the tile is turned (A owned, B spread) where A's k and B's columns have stride 1. */
#include "codegen/matmul.h"

#include <string.h>

enum { LANES = 8, MAX_GROUPS = 4, MAX_STEPS = 8 };

typedef struct Tile {
  bool turned;  /* A is owned */
  bool by_step; /* lanes load steps of the spread operand, not rows */
  Side *spread, *owned;
  bool sum_spread, sum_owned;
  int rows;                        /* of the spread operand, that are computed */
  SpvId lane, spread_row, own_row; /* of the tile; of this lane: its first */
} Tile;

/* Whether a lane loads four neighbouring rows of the spread operand rather than rows 8 apart. */
static bool by_four(const Tile *t) { return t->spread->unit_row && t->spread->aligned; }

static SpvId plus(Spv *b, SpvId x, int c) {
  SpvId y = spv_u(b, (uint32_t)c);
  return spv_bin(b, SpvOpIAdd, x, y);
}

/* What lanes load of the spread operand: own[g][j] is row r of step j, r = 8·g + lane or 4·lane + g. */
static void load_rows(Matmul *mm, const Tile *t, MatmulTerm term, int steps, SpvId (*own)[4]) {
  Spv *b = mm->k->b;
  if (by_four(t)) {
    SpvId two = spv_u(b, 2);
    SpvId row = spv_bin(b, SpvOpShiftLeftLogical, t->lane, two);
    row = spv_bin(b, SpvOpIAdd, t->spread_row, row);
    matmul_load(mm, t->spread, row, 4, term, steps, own);
    return;
  }
  SpvId first = spv_bin(b, SpvOpIAdd, t->spread_row, t->lane);
  for (int g = 0; g < MAX_GROUPS; g++) {
    if (LANES * g < t->rows) {
      SpvId row = plus(b, first, LANES * g);
      matmul_load(mm, t->spread, row, 1, term, steps, own + g);
    } else
      memcpy(own[g], own[0], sizeof own[g]);
  }
}

/* own[r][0] is step `lane` of row r */
static void load_steps(Matmul *mm, const Tile *t, MatmulTerm term, SpvId (*own)[4]) {
  term.lane = t->lane;
  for (int r = 0; r < t->rows; r += 4) {
    SpvId row = plus(mm->k->b, t->spread_row, r);
    matmul_load(mm, t->spread, row, 4, term, 1, own + r);
  }
}

/* s[r][j] in every lane; the lane's own rows are added to *sum, where that is wanted. */
static void spread_rows(Matmul *mm, const Tile *t, int steps, SpvId (*own)[4],
                        SpvId (*s)[MAX_STEPS], SpvId *sum) {
  Spv *b = mm->k->b;
  SpvId column[4];
  for (int r = 0; r < t->rows; r++) {
    SpvId from = spv_u(b, (uint32_t)(by_four(t) ? r / 4 : r % LANES));
    for (int j = 0; j < steps; j++)
      s[r][j] = spv_shuffle(b, own[by_four(t) ? r % 4 : r / LANES][j], from);
  }
  if (!t->sum_spread) return;
  matmul_columns(mm, steps, own, column);
  *sum = matmul_add(mm, steps, column, *sum);
}

static void step(Matmul *mm, SpvId k, int steps, SpvId *acc, const void *context) {
  const Tile *t = context;
  SpvId s[LANES * MAX_GROUPS][MAX_STEPS], own[LANES * MAX_GROUPS][4], owned[MAX_STEPS];
  bool by_step = t->by_step && steps == MAX_STEPS;
  int each = steps < 4 ? 1 : 4;
  if (by_step) load_steps(mm, t, (MatmulTerm){.k = k}, own);
  for (int i = 0; i < steps; i += each) {
    SpvId rows[4][4], part[LANES * MAX_GROUPS][MAX_STEPS];
    MatmulTerm term = {.k = k, .first = i};
    matmul_load(mm, t->owned, t->own_row, 4, term, each, rows);
    matmul_columns(mm, each, rows, owned + i);
    if (t->sum_owned) acc[t->rows] = matmul_add(mm, each, owned + i, acc[t->rows]);
    if (by_step) continue;
    load_rows(mm, t, term, each, own);
    spread_rows(mm, t, each, own, part, &acc[t->rows + t->sum_owned]);
    for (int r = 0; r < t->rows; r++) memcpy(s[r] + i, part[r], (size_t)each * sizeof *s[r]);
  }
  for (int r = 0; r < t->rows && by_step; r++)
    for (int j = 0; j < steps; j++) {
      SpvId from = spv_u(mm->k->b, (uint32_t)j);
      s[r][j] = spv_shuffle(mm->k->b, own[r][0], from);
    }
  for (int r = 0; r < t->rows; r++)
    for (int j = 0; j < steps; j++) acc[r] = matmul_fma(mm, s[r][j], owned[j], acc[r]);
}

/* Addresses' parts that the loop does not change, ahead of it: drivers do not move them. */
static void prepare(Matmul *mm, const Tile *t) {
  SpvId unused[LANES * MAX_GROUPS][4];
  for (int i = 0; i < mm->steps; i += 4) {
    MatmulTerm term = {.first = i};
    matmul_load(mm, t->owned, t->own_row, 4, term, 4, unused);
    if (!t->by_step) load_rows(mm, t, term, 4, unused);
  }
  if (t->by_step) load_steps(mm, t, (MatmulTerm){0}, unused);
}

/* ---- results ---- */

/* Rows of C are the spread operand's, or, turned, the lane's own: then four sums give four columns of each. */
static void store(Matmul *mm, const Tile *t, const SpvId *acc) {
  Spv *b = mm->k->b;
  if (!t->turned) {
    matmul_store(mm, t->spread_row, t->rows, t->own_row, acc);
    return;
  }
  for (int r = 0; r < t->rows; r += 4) {
    SpvId row[4], part[4][4];
    for (int i = 0; i < 4; i++)
      for (uint32_t j = 0; j < 4; j++)
        part[i][j] = spv_extract(b, acc[r + i < t->rows ? r + i : r], j);
    matmul_columns(mm, 4, part, row);
    SpvId column = plus(b, t->spread_row, r);
    matmul_store(mm, t->own_row, 4, column, row);
  }
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
    int groups = by_four(t) ? 4 : (t->rows + LANES - 1) / LANES;
    matmul_store_sum(mm, of_spread, row, by_four(t) ? 1 : LANES, groups, *sum);
    spv_end(b);
  }
}

/* ---- the kernel ---- */

static void begin(Matmul *mm, Tile *t) {
  Spv *b = mm->k->b;
  t->turned = mm->a.unit_k && mm->b.unit_row && mm->m >= 2 * LANES;
  t->spread = t->turned ? &mm->b : &mm->a;
  t->owned = t->turned ? &mm->a : &mm->b;
  t->sum_spread = t->turned ? mm->sum_b : mm->sum_a;
  t->sum_owned = t->turned ? mm->sum_a : mm->sum_b;
  int64_t length = t->turned ? mm->n : mm->m;
  int64_t groups = (length + LANES - 1) / LANES;
  if (groups > MAX_GROUPS) groups = MAX_GROUPS;
  t->rows = (int)(length < LANES * groups ? length : LANES * groups);
  /* Eight steps at once are worth the larger module where the tile is full; what is left goes step by step. */
  bool eight = groups == MAX_GROUPS && (mm->kk % MAX_STEPS == 0 || mm->kk >= 64);
  t->by_step = t->spread->unit_row && eight && !t->sum_spread && t->rows % 4 == 0;
  int spread_tile = (int)groups * LANES, own_tile = 4 * LANES;
  matmul_begin(mm, t->turned ? own_tile : spread_tile, t->turned ? spread_tile : own_tile,
               eight ? MAX_STEPS : 4, LANES);
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
  matmul_loop(mm, t.rows + t.sum_owned + t.sum_spread, acc, step, &t);
  store(mm, &t, acc);
  store_sums(mm, &t, acc + t.rows);
  matmul_end(mm);
}
