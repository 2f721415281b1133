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

enum { LANES = 8, MAX_GROUPS = 4, MAX_STEPS = 8 };

typedef struct Tile {
  int rows;                /* of C that are computed */
  SpvId lane, row, column; /* row: of the tile; column: this lane's */
} Tile;

/* a[r][j] in every lane */
static void spread(Matmul *mm, const Tile *t, SpvId k, int steps, SpvId (*a)[4]) {
  Spv *b = mm->k->b;
  bool by_four = mm->a.unit_row && mm->a.aligned;
  SpvId own[MAX_GROUPS][4];
  if (by_four) {
    SpvId two = spv_u(b, 2);
    SpvId row = spv_bin(b, SpvOpShiftLeftLogical, t->lane, two);
    row = spv_bin(b, SpvOpIAdd, t->row, row);
    matmul_load(mm, &mm->a, row, 4, k, steps, own);
  }
  for (int g = 0; !by_four && LANES * g < t->rows; g++) {
    SpvId more = spv_u(b, (uint32_t)(LANES * g));
    SpvId row = spv_bin(b, SpvOpIAdd, t->row, t->lane);
    row = spv_bin(b, SpvOpIAdd, row, more);
    matmul_load(mm, &mm->a, row, 1, k, steps, own + g);
  }
  for (int r = 0; r < t->rows; r++) {
    SpvId from = spv_u(b, (uint32_t)(by_four ? r / 4 : r % LANES));
    for (int j = 0; j < steps; j++)
      a[r][j] = spv_shuffle(b, own[by_four ? r % 4 : r / LANES][j], from);
  }
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
    spread(mm, t, here, each, a[i]);
  }
  for (int r = 0; r < t->rows; r++)
    for (int i = 0; i < fours; i++)
      for (int j = 0; j < each; j++) acc[r] = matmul_fma(mm, a[i][r][j], column[i][j], acc[r]);
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
  matmul_loop(mm, t.rows, acc, step, &t);
  for (int r = 0; r < t.rows; r++) {
    SpvId more = spv_u(b, (uint32_t)r);
    SpvId row = spv_bin(b, SpvOpIAdd, t.row, more);
    matmul_store(mm, row, t.column, acc[r]);
  }
  matmul_end(mm);
}
