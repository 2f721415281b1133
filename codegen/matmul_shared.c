/* Matrix product for GPUs without using matrix units: a workgroup computes a tile of C, and both operands come through workgroup
 * memory, a slice of K terms at a time, stored as [K][rows] whatever their layout, so that every read of them is one vec4.
 *
 *              tile's columns                    an invocation has QM × QN blocks of 4 × 4, as far apart as the tile allows:
 *           ┌───────────────────┐                neighbouring invocations read neighbouring vec4s. Groups of 32 invocations
 *           │  B  K × columns   │                lie as 8 × 4 or 4 × 8 blocks, whatever the subgroup's size: one such group
 *           └───────────────────┘                reads 8 different vec4s of one operand and 4 of the other.
 *   ┌─────┐ ┌────────┬──────────┐
 *   │  A  │ │▓       │▓         │                per slice, and the next one on its way meanwhile (matmul_shared_sum.c):
 *   │rows │ ├────────┼──────────┤                            K steps of QM·QN·16 fused multiply-adds
 *   │ × K │ │▓       │▓         │
 *   └─────┘ └────────┴──────────┘
 *
 * Rows past the edge repeat the last one; terms past the end are zeros in both operands. Sums over k of an operand are added up
 * on its way into workgroup memory. */
#include "codegen/matmul_shared.h"

/* ---- which tile ---- */

static const SharedTile choice[] = {
  /* rows × columns, terms, blocks of an invocation, their group's width, slices; relative speed of a busy core, how many keep it
     busy. Small tiles are for products whose workgroups wait rather than compute: those run beside more others with one slice. */
  {256, 128, 8, 4, 2, 8, 2, 1.035, 1}, {64, 128, 8, 2, 2, 4, 2, 1.0, 3},
  {128, 64, 8, 2, 2, 8, 2, 0.99, 3},   {64, 64, 16, 2, 1, 8, 1, 0.9, 4},
  {32, 32, 16, 1, 1, 8, 1, 0.6, 6},
};

static int tile_lanes(const SharedTile *t) {
  return t->rows / (4 * t->blocks_m) * (t->columns / (4 * t->blocks_n));
}

int shared_count(const SharedSum *s) { return 4 * s->t->blocks_m * s->t->blocks_n; }

static uint32_t tile_bytes(const SharedTile *t) {
  int quads = tile_quads(t->rows, t->terms) + tile_quads(t->columns, t->terms);
  return 16 * (uint32_t)(t->slices * quads);
}

/* Whether the kernel has more to read or to store than what the product needs itself, element by element. */
static bool has_large_epilogue(const Matmul *mm) {
  Node *operand[CG_MAX_SLOTS];
  if (!mm->k) return false;
  int n = cg_operands(mm->k->job, operand, CG_MAX_SLOTS);
  if (mm->k->job->n_out > 1) return true;
  for (int i = 0; i < n; i++) {
    const Node *x = operand[i];
    bool factor = x == mm->a.base || x == mm->b.base;
    if (!factor && type_count(&x->type) >= mm->batches * mm->m * mm->n) return true;
  }
  return false;
}

/* A tile of 16 × 8 sums an invocation is alone on its core: nothing covers what follows its loop. Its gain is fewer reads of workgroup
 * memory, where that is written element by element. */
static bool suits(const SharedTile *t, const Matmul *mm) {
  bool lone = t->resident == 1, rows = mm->a.unit_row && mm->b.unit_row;
  return !lone || !(rows || mm->sum_a || mm->sum_b || has_large_epilogue(mm));
}

/* Time for the whole product, in terms of a core's flops: workgroups go round all cores, and a core with few of them waits. Sums
 * over k of an operand take registers and instructions for each of its rows. */
static double tile_cost(const SharedTile *t, const Matmul *mm, double cores) {
  const double of_sum = 5e-4;
  double m = (double)((mm->m + t->rows - 1) / t->rows),
         n = (double)((mm->n + t->columns - 1) / t->columns);
  double each = m * n * (double)mm->batches / cores;
  double whole = (double)(int64_t)each;
  if (whole < each) whole++;
  if (whole < t->resident) whole = t->resident;
  double sums = (mm->sum_a ? t->rows : 0) + (mm->sum_b ? t->columns : 0);
  return whole * t->rows * t->columns / t->speed * (1 + of_sum * sums);
}

int matmul_shared_tiles(const Matmul *mm, const Target *target, SharedTile *out) {
  enum { CORES = 32 /* where the target does not say */ };
  double cost[COUNT_OF(choice)], cores = target->cores ? target->cores : CORES;
  int n = 0;
  if (target->is_cpu || !target->subgroup_size) return 0;
  if (mm->m < 16 || mm->n < 16) return 0; /* most of a tile would be past the edge */
  for (int i = 0; i < COUNT_OF(choice); i++) {
    const SharedTile *t = &choice[i];
    if ((uint32_t)tile_lanes(t) > target->max_invocations || tile_bytes(t) > target->shared_bytes ||
        !suits(t, mm))
      continue;
    double own = tile_cost(t, mm, cores);
    int at = n++;
    for (; at > 0 && cost[at - 1] > own; at--) out[at] = out[at - 1], cost[at] = cost[at - 1];
    out[at] = *t;
    cost[at] = own;
  }
  return n;
}

double matmul_shared_time(const Matmul *mm, const Target *t, const SharedTile *tile) {
  enum { CORES = 32, SLOWER = 8 /* than matrix units: the operations that those do meanwhile */ };
  return 2.0 * SLOWER * (double)mm->kk * tile_cost(tile, mm, t->cores ? t->cores : CORES);
}

/* ---- operands ---- */

typedef struct Computed { /* an operand that is computed as it is loaded */
  const Matmul *mm;
  const Side *side;
} Computed;

static void compute(const void *context, SpvId row, SpvId term, bool along_term, int n,
                    SpvId *value) {
  const Computed *c = context;
  matmul_values(c->mm, c->side, row, term, along_term, n, value);
}

static void begin_side(Matmul *mm, TileStage *s, const Computed *computed, int slices,
                       SpvId first_row) {
  Kernel *k = mm->k;
  const Side *side = computed->side;
  SpvId rows = side->rows_id;
  if (side->padded) { /* the last run of four reaches past the last row, not past what lies there */
    rows = op_u(k, SpvOpIAdd, rows, 3);
    rows = op_u(k, SpvOpBitwiseAnd, rows, ~3u);
  }
  TileSource from = {.base = side->base,
                     .offset = side->offset_id,
                     .row = side->row_id,
                     .term = side->k_id,
                     .unit_row = side->unit_row,
                     .unit_term = side->unit_k,
                     .four = (side->aligned && (!side->unit_k || mm->kk % 4 == 0)) || side->padded,
                     .first_row = first_row,
                     .rows = rows,
                     .terms = mm->tail ? mm->kk_id : 0,
                     .value = side->computed ? compute : NULL,
                     .context = computed};
  s->shared = tile_shared(k, slices * tile_quads(s->rows, s->terms));
  tile_stage(k, s, &from);
}

/* All invocations' parts of the sums over k, in workgroup memory; then one invocation for every four rows adds them up. */
static void store_operand_sum(Matmul *mm, const TileStage *s, MatmulSource from) {
  Kernel *k = mm->k;
  Spv *b = k->b;
  SpvId zero = const_u(k, 0), variable = spv_local(b, tile_vec4(k));
  tile_write_sums(k, s);
  spv_barrier(b);
  SpvId other = from == FROM_sum_a ? mm->tile_n_id : mm->tile_m_id;
  SpvId first = spv_cmp(b, SpvOpIEqual, other, zero);
  SpvId quads = const_u(k, (uint32_t)s->rows / 4);
  SpvId mine = spv_cmp(b, SpvOpULessThan, s->lane, quads);
  mine = both(k, first, mine);
  spv_if(b, mine);
  SpvId start = tile_zero(k);
  spv_set(b, variable, start);
  SpvId n = const_u(k, (uint32_t)s->terms);
  SpvId i = spv_for(b, n);
  SpvId at = tile_mad(k, i, (uint32_t)(s->rows / 4 + TILE_PAD), s->lane);
  at = spv_at(b, s->shared, at);
  SpvId part = spv_get(b, at), sum = spv_get(b, variable);
  sum = add_f(k, sum, part);
  spv_set(b, variable, sum);
  spv_end(b);
  sum = spv_get(b, variable);
  SpvId row = tile_mad(k, s->lane, 4, s->source.first_row);
  matmul_store_sum(mm, from, row, 1, 4, sum);
  spv_end(b);
}

/* ---- results ---- */

/* The epilogue is emitted once, in a loop over the rows' blocks, where there is more to it than a store. */
static void store_in_loop(Matmul *mm, const SharedSum *t, SpvId row, SpvId column) {
  Kernel *k = mm->k;
  Spv *b = k->b;
  int qm = t->t->blocks_m, qn = t->t->blocks_n;
  uint32_t down = (uint32_t)(t->t->rows / qm), across = (uint32_t)(t->t->columns / qn);
  SpvId array = spv_local(b, spv_array(b, tile_vec4(k), (uint32_t)shared_count(t)));
  for (int i = 0; i < shared_count(t); i++) {
    SpvId at = const_u(k, (uint32_t)i);
    at = spv_local_at(b, array, at);
    SpvId value = spv_get(b, t->acc[i]);
    spv_set(b, at, value);
  }
  SpvId n = const_u(k, (uint32_t)shared_count(t));
  SpvId i = spv_for(b, n);
  SpvId at = spv_local_at(b, array, i);
  SpvId value = spv_get(b, at);
  SpvId block = op_u(k, SpvOpUMod, i, (uint32_t)qn), r = op_u(k, SpvOpUDiv, i, (uint32_t)qn);
  column = tile_mad(k, block, across, column);
  SpvId of_four = op_u(k, SpvOpUDiv, r, 4);
  r = op_u(k, SpvOpUMod, r, 4);
  row = tile_mad(k, of_four, down, row);
  row = spv_bin(b, SpvOpIAdd, row, r);
  matmul_store(mm, row, 1, column, &value);
  spv_end(b);
}

static void store(Matmul *mm, const SharedSum *t) {
  Kernel *k = mm->k;
  int qm = t->t->blocks_m, qn = t->t->blocks_n;
  uint32_t down = (uint32_t)(t->t->rows / qm), across = (uint32_t)(t->t->columns / qn);
  SpvId row = tile_mad(k, t->y, 4, mm->tile_m_id), column = tile_mad(k, t->x, 4, mm->tile_n_id);
  if (!mm->plain) {
    store_in_loop(mm, t, row, column);
    return;
  }
  for (int i = 0; i < qm; i++)
    for (int j = 0; j < qn; j++) {
      SpvId value[4];
      for (int r = 0; r < 4; r++) value[r] = spv_get(k->b, t->acc[(4 * i + r) * qn + j]);
      SpvId here = op_u(k, SpvOpIAdd, row, (uint32_t)i * down);
      SpvId there = op_u(k, SpvOpIAdd, column, (uint32_t)j * across);
      matmul_store(mm, here, 4, there, value);
    }
}

void matmul_shared(Matmul *mm, const SharedTile *tile) {
  Kernel *k = mm->k;
  int lanes = tile_lanes(tile);
  matmul_begin(mm, tile->rows, tile->columns, tile->slices * tile->terms, (uint32_t)lanes);
  SpvId lane = kernel_lane(k, 0);
  TileStage stage = {.terms = tile->terms, .lanes = lanes, .lane = lane};
  SharedSum t = {.t = tile, .a = stage, .b = stage};
  t.a.rows = tile->rows;
  t.b.rows = tile->columns;
  t.a.add_up = mm->sum_a;
  t.b.add_up = mm->sum_b;
  const Computed a = {mm, &mm->a}, b = {mm, &mm->b};
  begin_side(mm, &t.a, &a, tile->slices, mm->tile_m_id);
  begin_side(mm, &t.b, &b, tile->slices, mm->tile_n_id);
  tile_lane(k, lane, tile->columns / (4 * tile->blocks_n), tile->wide, &t.x, &t.y);
  shared_sum_up(mm, &t);
  store(mm, &t);
  if (mm->sum_a || mm->sum_b) spv_barrier(k->b);
  if (mm->sum_a) store_operand_sum(mm, &t.a, FROM_sum_a);
  if (mm->sum_b) store_operand_sum(mm, &t.b, FROM_sum_b);
  matmul_end(mm);
}
