/* Matrix product for CPU drivers with subgroups of 8: a workgroup is one subgroup, which computes 8·G × 32 of C, G <= 4.
 *
 *              n →  lane 0   lane 1   …   lane 7          per 4 or 8 steps along k, all loads first:
 *               ┌────────┬────────┬─ ─ ─┬────────┐          A with stride 1 along k: lane L loads rows L, 8 + L, … (a vec4 each);
 *        m   0  │ c0 vec4│        │     │        │             row 8·g + L of step j is component j of lane L's g-th vec4
 *        ↓   1  │ c1     │        │     │        │          A with stride 1 along m: lane L loads rows 4·L … 4·L + 3 per step;
 *            …  │        │        │     │        │             row r is component r mod 4 of lane r / 4
 *       8·G − 1 │        │        │     │        │          B: lane L owns columns 4·L … 4·L + 3
 *               └────────┴────────┴─ ─ ─┴────────┘
 *
 * A's elements reach all lanes by shuffles from constant lanes, which this kind of driver turns into nothing. */
#include "codegen/matmul.h"

#include <string.h>

enum { LANES = 8, MAX_GROUPS = 4, MAX_STEPS = 8 };

typedef struct Tile {
  int rows;                /* of C that are computed */
  SpvId lane, row, column; /* row: of the tile; column: this lane's */
} Tile;

/* Whether a lane loads four neighbouring rows of A rather than rows 8 apart. */
static bool by_four(const Matmul *mm) { return mm->a.unit_row && mm->a.aligned; }

/* a[r][j] in every lane; the lane's own rows are added to *sum, where that is wanted. */
static void spread(Matmul *mm, const Tile *t, SpvId k, int steps, SpvId (*a)[4], SpvId *sum) {
  Spv *b = mm->k->b;
  SpvId own[MAX_GROUPS][4], column[4];
  if (by_four(mm)) {
    SpvId two = spv_u(b, 2);
    SpvId row = spv_bin(b, SpvOpShiftLeftLogical, t->lane, two);
    row = spv_bin(b, SpvOpIAdd, t->row, row);
    matmul_load(mm, &mm->a, row, 4, k, steps, own);
  }
  for (int g = 0; !by_four(mm) && g < MAX_GROUPS; g++) {
    if (LANES * g >= t->rows) {
      memcpy(own[g], own[0], sizeof own[g]);
      continue;
    }
    SpvId more = spv_u(b, (uint32_t)(LANES * g));
    SpvId row = spv_bin(b, SpvOpIAdd, t->row, t->lane);
    row = spv_bin(b, SpvOpIAdd, row, more);
    matmul_load(mm, &mm->a, row, 1, k, steps, own + g);
  }
  for (int r = 0; r < t->rows; r++) {
    SpvId from = spv_u(b, (uint32_t)(by_four(mm) ? r / 4 : r % LANES));
    for (int j = 0; j < steps; j++)
      a[r][j] = spv_shuffle(b, own[by_four(mm) ? r % 4 : r / LANES][j], from);
  }
  if (!mm->sum_a) return;
  matmul_columns(mm, steps, own, column);
  *sum = matmul_add(mm, steps, column, *sum);
}

static void step(Matmul *mm, SpvId k, int steps, SpvId *acc, const void *context) {
  const Tile *t = context;
  SpvId a[MAX_STEPS / 4][LANES * MAX_GROUPS][4], column[MAX_STEPS / 4][4];
  int fours = steps < 4 ? 1 : steps / 4, each = steps < 4 ? steps : 4;
  for (int i = 0; i < fours; i++) {
    SpvId b[4][4];
    SpvId distance = spv_u(mm->k->b, (uint32_t)(4 * i));
    SpvId here = i ? spv_bin(mm->k->b, SpvOpIAdd, k, distance) : k;
    matmul_load(mm, &mm->b, t->column, 4, here, each, b);
    matmul_columns(mm, each, b, column[i]);
    spread(mm, t, here, each, a[i], &acc[t->rows + mm->sum_b]);
    if (mm->sum_b) acc[t->rows] = matmul_add(mm, each, column[i], acc[t->rows]);
  }
  for (int r = 0; r < t->rows; r++)
    for (int i = 0; i < fours; i++)
      for (int j = 0; j < each; j++) acc[r] = matmul_fma(mm, a[i][r][j], column[i][j], acc[r]);
}

/* The sums over k, by the first row of tiles and the first column of tiles. */
static void store_sums(Matmul *mm, const Tile *t, const SpvId *sum) {
  Spv *b = mm->k->b;
  SpvId zero = spv_u(b, 0);
  if (mm->sum_b) {
    SpvId first = spv_cmp(b, SpvOpIEqual, mm->tile_m_id, zero);
    spv_if(b, first);
    matmul_store_sum(mm, FROM_sum_b, t->column, 1, 4, *sum++);
    spv_end(b);
  }
  if (mm->sum_a) {
    SpvId first = spv_cmp(b, SpvOpIEqual, mm->tile_n_id, zero);
    SpvId distance = spv_u(b, by_four(mm) ? 4 : 1);
    spv_if(b, first);
    SpvId row = spv_bin(b, SpvOpIMul, t->lane, distance);
    row = spv_bin(b, SpvOpIAdd, t->row, row);
    int groups = by_four(mm) ? 4 : (t->rows + LANES - 1) / LANES;
    matmul_store_sum(mm, FROM_sum_a, row, by_four(mm) ? 1 : LANES, groups, *sum);
    spv_end(b);
  }
}

void matmul_subgroup(Matmul *mm) {
  Spv *b = mm->k->b;
  int64_t groups = (mm->m + LANES - 1) / LANES;
  if (groups > MAX_GROUPS) groups = MAX_GROUPS;
  Tile t = {.rows = (int)(mm->m < LANES * groups ? mm->m : LANES * groups)};
  /* Eight steps at once pay where A's loads are far apart; the module grows by half. */
  int steps = mm->a.unit_k && mm->kk % 8 == 0 && groups == MAX_GROUPS ? 8 : 4;
  matmul_begin(mm, (int)groups * LANES, 4 * LANES, steps, LANES);
  mm->k->out->subgroup_size = LANES;
  t.lane = spv_builtin(b, SpvBuiltInSubgroupLocalInvocationId, spv_u32(b));
  t.row = mm->tile_m_id;
  SpvId two = spv_u(b, 2);
  SpvId column = spv_bin(b, SpvOpShiftLeftLogical, t.lane, two);
  t.column = spv_bin(b, SpvOpIAdd, mm->tile_n_id, column);
  SpvId acc[MATMUL_MAX_ACC];
  matmul_loop(mm, t.rows + mm->sum_b + mm->sum_a, acc, step, &t);
  matmul_store(mm, t.row, t.rows, t.column, acc);
  store_sums(mm, &t, acc + t.rows);
  matmul_end(mm);
}
