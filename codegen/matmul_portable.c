/* Matrix product on any device: an invocation keeps R rows × 4 columns of C in registers; no workgroup memory, no subgroups.
 *
 *            lanes along n, 4 columns each
 *          ┌────┬────┬────┬────┐
 *   R rows │ 0  │ 1  │ 2  │ …  │     a workgroup of 64 covers (64/X)·R rows × 4·X columns
 *          ├────┼────┼────┼────┤
 *   R rows │ X  │X+1 │    │    │     X lanes along n: more where C is low and wide, fewer where it is narrow
 *          └────┴────┴────┴────┘ */
#include "codegen/matmul.h"

#include <string.h>

typedef struct Tile {
  int rows; /* R */
  SpvId row, column;
} Tile;

static void step(Matmul *mm, SpvId k, int steps, SpvId *acc, const void *context) {
  const Tile *t = context;
  SpvId a[PORTABLE_ROWS][4], b[4][4], quad[4][4], column[4];
  matmul_load(mm, &mm->a, t->row, t->rows, k, steps, a);
  matmul_load(mm, &mm->b, t->column, 4, k, steps, b);
  matmul_columns(mm, steps, b, column);
  for (int r = 0; r < t->rows; r++)
    for (int j = 0; j < steps; j++) acc[r] = matmul_fma(mm, a[r][j], column[j], acc[r]);
  int next = t->rows;
  if (mm->sum_b) {
    acc[next] = matmul_add(mm, steps, column, acc[next]);
    next++;
  }
  for (int r = 0; mm->sum_a && r < t->rows; r += 4) {
    SpvId of_rows[4];
    for (int i = 0; i < 4; i++) memcpy(quad[i], a[r + i < t->rows ? r + i : r], sizeof quad[i]);
    matmul_columns(mm, steps, quad, of_rows);
    acc[next] = matmul_add(mm, steps, of_rows, acc[next]);
    next++;
  }
}

/* The sums over k, by the invocations of the first row, of the first column. */
static void store_sums(Matmul *mm, const Tile *t, const SpvId *sum) {
  Spv *b = mm->k->b;
  SpvId zero = spv_u(b, 0);
  if (mm->sum_b) {
    SpvId first = spv_cmp(b, SpvOpIEqual, t->row, zero);
    spv_if(b, first);
    matmul_store_sum(mm, FROM_sum_b, t->column, 1, 4, *sum++);
    spv_end(b);
  }
  if (mm->sum_a) {
    SpvId first = spv_cmp(b, SpvOpIEqual, t->column, zero);
    spv_if(b, first);
    for (int r = 0; r < t->rows; r += 4) {
      SpvId more = spv_u(b, (uint32_t)r);
      SpvId row = spv_bin(b, SpvOpIAdd, t->row, more);
      matmul_store_sum(mm, FROM_sum_a, row, 1, t->rows < 4 ? t->rows : 4, *sum++);
    }
    spv_end(b);
  }
}

void matmul_portable(Matmul *mm, const PortableTile *tile) {
  Spv *b = mm->k->b;
  int x = tile->lanes, y = PORTABLE_LANES / x;
  Tile t = {.rows = tile->rows};
  matmul_begin(mm, y * t.rows, 4 * x, 4, PORTABLE_LANES);
  SpvId lane = kernel_lane(mm->k, 0);
  SpvId width = spv_u(b, (uint32_t)x);
  SpvId ly = spv_bin(b, SpvOpUDiv, lane, width);
  SpvId lx = spv_bin(b, SpvOpUMod, lane, width);
  SpvId rows = spv_u(b, (uint32_t)t.rows);
  SpvId four = spv_u(b, 4);
  ly = spv_bin(b, SpvOpIMul, ly, rows);
  lx = spv_bin(b, SpvOpIMul, lx, four);
  t.row = spv_bin(b, SpvOpIAdd, mm->tile_m_id, ly);
  t.column = spv_bin(b, SpvOpIAdd, mm->tile_n_id, lx);
  matmul_prepare(mm, &mm->a, t.row, t.rows, 4);
  matmul_prepare(mm, &mm->b, t.column, 4, 4);
  SpvId acc[MATMUL_MAX_ACC];
  int sums = mm->sum_b + (mm->sum_a ? (t.rows + 3) / 4 : 0);
  matmul_loop(mm, t.rows + sums, acc, step, &t);
  matmul_store(mm, t.row, t.rows, t.column, acc);
  store_sums(mm, &t, acc + t.rows);
  matmul_end(mm);
}
