/* Matrix product on matrix units: 16-bit operands, sums in f32, through VK_KHR_cooperative_matrix at subgroup scope.
 *
 *   C tile, m × n:   subgroups_m × subgroups_n subgroups; each keeps its share as fragments in registers
 *
 *         ┌──────┬──────┐        for each k terms:  barrier;  next tile's registers → workgroup memory;  barrier;
 *         │ 0    │ 1    │                           memory → registers, of the tile after it;
 *         ├──────┼──────┤                           for each fragment's k:  fragments of A, fragments of B, multiply
 *         │ 2    │ 3    │
 *         └──────┴──────┘        The loads of the tile after the last one repeat the last one: a branch costs more.
 *
 * Where the product has more tiles of C than can be computed at one time, a workgroup computes several, and goes on with the loads
 * of the next one before it stores one. Of a product in spans it computes parts of tiles (matmul_coop_spans.c).
 *
 * Sums over k of an operand are products with ones, in the workgroups of its first tile alone; the subgroups that have the same
 * fragments share them out. Sizes and strides are constants. */
#include "codegen/matmul_coop.h"

static SpvId constant(Coop *c, int64_t v) { return spv_u(c->mm->k->b, (uint32_t)v); }

/* ---- the grid ---- */

/* Workgroups go through `group` rows of tiles column by column, then the next ones, so that those that run at one time share
 * rows of A and columns of B. */
static void find_tile(Coop *c, SpvId which) {
  Matmul *mm = c->mm;
  Spv *b = mm->k->b;
  if (mm->spans.n) {
    matmul_coop_span_tile(c, which);
    return;
  }
  int64_t by_m = (mm->m + mm->tile_m - 1) / mm->tile_m,
          by_n = (mm->n + mm->tile_n - 1) / mm->tile_n;
  int64_t group = c->tile.group < by_m ? c->tile.group : by_m;
  if (group < 1) group = 1;
  SpvId area = constant(c, by_m * by_n);
  mm->batch_id = mm->batches > 1 ? spv_bin(b, SpvOpUDiv, which, area) : constant(c, 0);
  if (mm->batches > 1) which = spv_bin(b, SpvOpUMod, which, area);
  SpvId width = constant(c, group * by_n);
  SpvId band = spv_bin(b, SpvOpUDiv, which, width);
  SpvId within = spv_bin(b, SpvOpUMod, which, width);
  SpvId first = spv_bin(b, SpvOpIMul, band, constant(c, group));
  SpvId rows = constant(c, group);
  if (by_m % group) {
    SpvId left = constant(c, by_m);
    left = spv_bin(b, SpvOpISub, left, first);
    SpvId fewer = spv_cmp(b, SpvOpULessThan, left, rows);
    rows = spv_select(b, fewer, left, rows);
  }
  SpvId row = spv_bin(b, SpvOpUMod, within, rows);
  SpvId column = spv_bin(b, SpvOpUDiv, within, rows);
  row = spv_bin(b, SpvOpIAdd, first, row);
  mm->tile_m_id = spv_bin(b, SpvOpIMul, row, constant(c, mm->tile_m));
  mm->tile_n_id = spv_bin(b, SpvOpIMul, column, constant(c, mm->tile_n));
}

/* Adds the batch's share to the operand's offset. */
static void find_batch(Coop *c, Side *s, SpvId offset) {
  Matmul *mm = c->mm;
  IxTable *t = mm->k->ix;
  s->offset_id = offset;
  if (mm->batches == 1) return;
  const Ix *sum = ix_const(t, 0);
  for (int i = 0; i < mm->n_batch; i++) sum = ix_add(t, sum, ix_mul(t, mm->batch[i], s->batch[i]));
  SpvId of_batch = ix_emit(t, sum);
  s->offset_id = spv_bin(mm->k->b, SpvOpIAdd, offset, of_batch);
}

/* Sets the tile's place, and where the operands of its batch begin. */
void matmul_coop_go_to(Coop *c, SpvId which) {
  Matmul *mm = c->mm;
  Spv *b = mm->k->b;
  find_tile(c, which);
  ix_split(mm->k->ix, ix_value(mm->k->ix, mm->batch_id, mm->batches), mm->n_batch, mm->batch_dim,
           mm->batch);
  SpvId offset = spv_extract(b, c->offsets, 0);
  find_batch(c, &mm->a, offset);
  offset = spv_extract(b, c->offsets, 1);
  find_batch(c, &mm->b, offset);
}

void matmul_coop_before(Coop *c, SpvId next) {
  matmul_coop_go_to(c, next);
  c->a.next = matmul_coop_side_start(c, &c->a);
  c->b.next = matmul_coop_side_start(c, &c->b);
}

/* Where there are more tiles than workgroups that run at one time, each of these takes several: the next one's first loads are
 * asked for before the results of the one before are computed, which would else be waited for. Not beside other products: then
 * cores become free one after the other, and workgroups with equal shares would end as they began. */
static int64_t count_groups(const Coop *c) {
  const Target *t = c->mm->k->target;
  int64_t at_once = (int64_t)t->cores * matmul_coop_resident(c, t);
  bool even = matmul_coop_side_even(&c->a) && matmul_coop_side_even(&c->b);
  bool several = even && c->mm->kk > c->tile.k && !c->mm->beside;
  return several && at_once && at_once < c->tiles ? at_once : c->tiles;
}

static void begin(Coop *c) {
  Matmul *mm = c->mm;
  Kernel *k = mm->k;
  Spv *b = k->b;
  const MatmulTile *t = &c->tile;
  mm->tile_m = t->m;
  mm->tile_n = t->n;
  mm->edge_m = mm->m % t->m != 0;
  mm->edge_n = mm->n % t->n != 0;
  int64_t by_m = (mm->m + t->m - 1) / t->m, by_n = (mm->n + t->n - 1) / t->n;
  c->tiles = mm->spans.n ? by_m * by_n : by_m * by_n * mm->batches;
  c->groups = mm->spans.n ? mm->spans.n : count_groups(c);
  kernel_groups(k, c->groups, c->invocations);
  k->out->subgroup_size = c->subgroup_size;
  c->offsets = kernel_raw(k, (uint32_t)mm->a.offset, (uint32_t)mm->b.offset);
  mm->m_id = constant(c, mm->m);
  mm->n_id = constant(c, mm->n);
  mm->kk_id = constant(c, mm->kk);
  c->group = kernel_group(k);
  SpvId within = spv_cmp(b, SpvOpULessThan, c->group, constant(c, c->groups));
  spv_if(b, within);
  matmul_coop_go_to(c, mm->spans.n ? matmul_coop_span_begin(c) : c->group);
  c->lane = spv_builtin(b, SpvBuiltInSubgroupLocalInvocationId, spv_u32(b));
  c->subgroup = spv_builtin(b, SpvBuiltInSubgroupId, spv_u32(b));
  SpvId along_n = constant(c, t->subgroups_n);
  c->subgroup_m = spv_bin(b, SpvOpUDiv, c->subgroup, along_n);
  c->subgroup_n = spv_bin(b, SpvOpUMod, c->subgroup, along_n);
}

/* Opens the loop over this workgroup's tiles: the operands' loads go on to the next one, or once more to the last. */
static void for_each_tile(Coop *c) {
  Spv *b = c->mm->k->b;
  SpvId groups = constant(c, c->groups), tiles = constant(c, c->tiles);
  SpvId n = spv_bin(b, SpvOpISub, constant(c, c->tiles + c->groups - 1), c->group);
  n = spv_bin(b, SpvOpUDiv, n, groups);
  SpvId i = spv_for(b, n);
  i = spv_bin(b, SpvOpIMul, i, groups);
  SpvId which = spv_bin(b, SpvOpIAdd, i, c->group);
  SpvId next = spv_bin(b, SpvOpIAdd, which, groups);
  SpvId more = spv_cmp(b, SpvOpULessThan, next, tiles);
  next = spv_select(b, more, next, which);
  matmul_coop_before(c, next);
  matmul_coop_go_to(c, which);
}

/* ---- what is kept ---- */

static void make_types(Coop *c) {
  Spv *b = c->mm->k->b;
  const TargetMatrix *u = &c->shape;
  SpvId element = c->type == DT_bf16 ? spv_bf16(b) : spv_f16(b);
  c->matrix_a = spv_matrix(b, element, u->m, u->k, SPV_matrix_a);
  c->matrix_b = spv_matrix(b, element, u->k, u->n, SPV_matrix_b);
  c->matrix_sum = spv_matrix(b, spv_f32(b), u->m, u->n, SPV_matrix_sum);
}

static SpvId zeros(Coop *c) {
  Spv *b = c->mm->k->b;
  SpvId variable = spv_local(b, c->matrix_sum);
  spv_set(b, variable, spv_matrix_zero(b, c->matrix_sum));
  return variable;
}

/* Whether loads need to know which term they are at. */
static bool counts_terms(const Coop *c) {
  return c->a.tail || c->mm->a.computed || c->mm->b.computed;
}

void matmul_coop_make_sums(Coop *c) {
  for (int i = 0; i < c->parts_m; i++)
    for (int j = 0; j < c->parts_n; j++) c->sum[i][j] = zeros(c);
  for (int i = 0; i < c->parts_m && c->mm->sum_a; i++) c->sum_a[i] = zeros(c);
  for (int j = 0; j < c->parts_n && c->mm->sum_b; j++) c->sum_b[j] = zeros(c);
}

/* ---- the loop ---- */

SpvId matmul_coop_sums_here(Coop *c, bool of_a) {
  SpvId tile = of_a ? c->mm->tile_n_id : c->mm->tile_m_id;
  return spv_cmp(c->mm->k->b, SpvOpIEqual, tile, constant(c, 0));
}

void matmul_coop_sharing(const Coop *c, bool of_a, SumShare *s) {
  *s = (SumShare){.parts = of_a ? c->parts_m : c->parts_n,
                  .of = of_a ? c->tile.subgroups_n : c->tile.subgroups_m,
                  .mine = of_a ? c->subgroup_n : c->subgroup_m};
}

/* Shares of a sum besides their numbers: none, and the one that the subgroup has, found at each fragment */
enum { NO_SHARE = -1, ITS_SHARE = -2 };

static bool sums(const Coop *c, bool of_a) { return of_a ? c->mm->sum_a : c->mm->sum_b; }

/* sums += a·ones, or ones·b, for the fragments of a share */
static void add_share(Coop *c, bool of_a, int share, const SpvId *fragment) {
  Spv *b = c->mm->k->b;
  if (share == NO_SHARE) return;
  SpvId ones = spv_matrix_ones(b, of_a ? c->matrix_b : c->matrix_a);
  SumShare s;
  matmul_coop_sharing(c, of_a, &s);
  for (int i = share; i < s.parts; i += s.of) {
    SpvId variable = of_a ? c->sum_a[i] : c->sum_b[i];
    SpvId sum = spv_get(b, variable);
    sum = of_a ? spv_matrix_mul_add(b, fragment[i], ones, sum)
               : spv_matrix_mul_add(b, ones, fragment[i], sum);
    spv_set(b, variable, sum);
  }
}

static void add_up(Coop *c, bool of_a, int share, const SpvId *fragment) {
  Spv *b = c->mm->k->b;
  if (!sums(c, of_a)) return;
  if (share != ITS_SHARE) {
    add_share(c, of_a, share, fragment);
    return;
  }
  SumShare s;
  matmul_coop_sharing(c, of_a, &s);
  SpvId here = matmul_coop_sums_here(c, of_a);
  spv_if(b, here);
  for (int i = 0; i < s.of && i < s.parts; i++) {
    SpvId mine = spv_cmp(b, SpvOpIEqual, s.mine, constant(c, i));
    spv_if(b, mine);
    add_share(c, of_a, i, fragment);
    spv_end(b);
  }
  spv_end(b);
}

/* The product of the tile in workgroup memory, with those shares of the sums of A and B. */
static void multiply_tile(Coop *c, int share_a, int share_b) {
  Spv *b = c->mm->k->b;
  SpvId sum[MAX_PARTS][MAX_PARTS], of_a[MAX_PARTS], of_b[MAX_PARTS];
  for (int i = 0; i < c->parts_m; i++)
    for (int j = 0; j < c->parts_n; j++) sum[i][j] = spv_get(b, c->sum[i][j]);
  for (int step = 0; step < c->tile.k / (int)c->shape.k; step++) {
    for (int i = 0; i < c->parts_m; i++) of_a[i] = matmul_coop_fragment(c, &c->a, i, step);
    for (int j = 0; j < c->parts_n; j++) {
      of_b[j] = matmul_coop_fragment(c, &c->b, j, step);
      for (int i = 0; i < c->parts_m; i++)
        sum[i][j] = spv_matrix_mul_add(b, of_a[i], of_b[j], sum[i][j]);
    }
    add_up(c, true, share_a, of_a);
    add_up(c, false, share_b, of_b);
  }
  for (int i = 0; i < c->parts_m; i++)
    for (int j = 0; j < c->parts_n; j++) spv_set(b, c->sum[i][j], sum[i][j]);
}

static void multiply_copies(Coop *c, bool of_a, int share_a);

static void multiply_next(Coop *c, bool of_a, int share_a, int share) {
  if (of_a)
    multiply_copies(c, false, share);
  else
    multiply_tile(c, share_a, share);
}

/* A copy of the multiplication for each share in the sums that a subgroup can have, first of A, then of B. */
static void multiply_copies(Coop *c, bool of_a, int share_a) {
  Spv *b = c->mm->k->b;
  if (!sums(c, of_a)) {
    multiply_next(c, of_a, share_a, NO_SHARE);
    return;
  }
  SumShare s;
  matmul_coop_sharing(c, of_a, &s);
  SpvId here = matmul_coop_sums_here(c, of_a);
  spv_if(b, here);
  for (int share = 0; share < s.of; share++) {
    SpvId mine = spv_cmp(b, SpvOpIEqual, s.mine, constant(c, share));
    spv_if(b, mine);
    multiply_next(c, of_a, share_a, share < s.parts ? share : NO_SHARE);
    spv_end(b);
  }
  spv_else(b);
  multiply_next(c, of_a, share_a, NO_SHARE);
  spv_end(b);
}

/* A branch at each fragment keeps fragments from being loaded ahead, which with few of them is a fifth of a kernel's time
 * (640 terms). With many, accumulators fill the registers, and copies of the multiplication are what costs: 768 x 2304 by 8192
 * terms in tiles of 128 x 128 fell from 245 to 68 TFLOP/s. */
static void multiply(Coop *c) {
  enum { FEW = 4 };
  if (c->parts_m * c->parts_n > FEW)
    multiply_tile(c, ITS_SHARE, ITS_SHARE);
  else
    multiply_copies(c, true, NO_SHARE);
}

static void fetch(Coop *c) {
  matmul_coop_fetch(c, &c->a);
  matmul_coop_fetch(c, &c->b);
}

/* From terms i of the tile to those after them. */
static void advance(Coop *c, SpvId i, SpvId steps) {
  Spv *b = c->mm->k->b;
  SpvId next = spv_bin(b, SpvOpIAdd, i, constant(c, 1));
  SpvId more = spv_cmp(b, c->a.next ? SpvOpINotEqual : SpvOpULessThan, next, steps);
  matmul_coop_advance(c, &c->a, more);
  matmul_coop_advance(c, &c->b, more);
  if (!counts_terms(c)) return;
  SpvId step = spv_select(b, more, constant(c, c->tile.k), spv_u(b, 0));
  SpvId term = spv_get(b, c->first_term);
  term = spv_bin(b, SpvOpIAdd, term, step);
  spv_set(b, c->first_term, term);
}

void matmul_coop_ahead(Coop *c, SpvId steps) {
  fetch(c);
  advance(c, constant(c, 0), steps);
}

void matmul_coop_loop(Coop *c, SpvId steps) {
  Spv *b = c->mm->k->b;
  SpvId i = spv_for(b, steps);
  spv_barrier(b);
  matmul_coop_put(c, &c->a);
  matmul_coop_put(c, &c->b);
  spv_barrier(b);
  fetch(c);
  SpvId fetched = spv_bin(b, SpvOpIAdd, i, constant(c, 1));
  advance(c, fetched, steps);
  multiply(c);
  spv_end(b);
}

static void tiles(Coop *c, SpvId steps) {
  bool several = c->groups < c->tiles;
  matmul_coop_ahead(c, steps);
  if (several) for_each_tile(c);
  matmul_coop_make_sums(c);
  matmul_coop_loop(c, steps);
  matmul_coop_store(c);
  if (several) spv_end(c->mm->k->b);
}

void matmul_coop(Matmul *mm, const MatmulTile *tile) {
  Coop c;
  matmul_coop_layout(&c, mm, mm->k->target, tile);
  Spv *b = mm->k->b;
  make_types(&c);
  SpvId runs = spv_array(b, spv_vec(b, spv_u32(b), 4), (uint32_t)c.shared_runs);
  c.shared = spv_shared(b, runs);
  begin(&c);
  matmul_coop_side_begin(&c, &c.a);
  matmul_coop_side_begin(&c, &c.b);
  if (counts_terms(&c)) {
    c.first_term = spv_local(b, spv_u32(b));
    spv_set(b, c.first_term, constant(&c, 0));
  }
  if (mm->spans.n)
    matmul_coop_span(&c);
  else
    tiles(&c, constant(&c, (mm->kk + tile->k - 1) / tile->k));
  matmul_end(mm);
}
