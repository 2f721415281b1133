/* Which tiles of the cooperative-matrix product a workgroup computes.
 *
 *   one tile each, or, where there are more tiles than run at one time and all are loaded alike, several each:
 *     group, group + groups, group + 2 · groups …
 *   where whole waves leave few tiles, those are cut into pieces (matmul_coop_pieces), which come last */
#include "codegen/matmul_coop.h"

static SpvId constant(Coop *c, int64_t v) { return spv_u(c->mm->k->b, (uint32_t)v); }

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
  return several && at_once && at_once < c->whole ? at_once : c->whole;
}

void matmul_coop_edges(Coop *c) {
  Matmul *mm = c->mm;
  mm->edge_m = mm->m % c->tile.m != 0;
  mm->edge_n = mm->n % c->tile.n != 0;
}

/* How many workgroups do what: `pieces` of each tile that is cut. */
void matmul_coop_begin(Coop *c, int pieces) {
  Matmul *mm = c->mm;
  Kernel *k = mm->k;
  Spv *b = k->b;
  const MatmulTile *t = &c->tile;
  mm->tile_m = t->m;
  mm->tile_n = t->n;
  matmul_coop_edges(c);
  int64_t by_m = (mm->m + t->m - 1) / t->m, by_n = (mm->n + t->n - 1) / t->n;
  c->tiles = c->whole = mm->spans.n ? by_m * by_n : by_m * by_n * mm->batches;
  if (pieces > 1) c->whole -= c->tiles % (k->target->cores * matmul_coop_resident(c, k->target));
  c->groups = mm->spans.n ? mm->spans.n : count_groups(c);
  int64_t groups = c->groups;
  if (groups == c->whole) groups += (c->tiles - c->whole) * pieces;
  kernel_groups(k, groups, c->invocations);
  k->out->subgroup_size = c->subgroup_size;
  c->offsets = kernel_raw(k, (uint32_t)mm->a.offset, (uint32_t)mm->b.offset);
  mm->m_id = constant(c, mm->m);
  mm->n_id = constant(c, mm->n);
  mm->kk_id = constant(c, mm->kk);
  c->group = kernel_group(k);
  SpvId within = spv_cmp(b, SpvOpULessThan, c->group, constant(c, groups));
  spv_if(b, within);
  c->lane = spv_builtin(b, SpvBuiltInSubgroupLocalInvocationId, spv_u32(b));
  c->subgroup = spv_builtin(b, SpvBuiltInSubgroupId, spv_u32(b));
  SpvId along_n = constant(c, t->subgroups_n);
  c->subgroup_m = spv_bin(b, SpvOpUDiv, c->subgroup, along_n);
  c->subgroup_n = spv_bin(b, SpvOpUMod, c->subgroup, along_n);
}

/* Opens the loop over this workgroup's tiles: the operands' loads go on to the next one, or once more to the last. */
void matmul_coop_for_each(Coop *c) {
  Spv *b = c->mm->k->b;
  SpvId groups = constant(c, c->groups), tiles = constant(c, c->whole);
  SpvId n = spv_bin(b, SpvOpISub, constant(c, c->whole + c->groups - 1), c->group);
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

/* Piece number `which` of the tiles that are cut; the product's are `of`. */
void matmul_coop_go_to_piece(Coop *c, SpvId which, const MatmulTile *of) {
  Matmul *mm = c->mm;
  Spv *b = mm->k->b;
  int along_n = of->n / c->tile.n, pieces = of->m / c->tile.m * along_n;
  SpvId tile = spv_bin(b, SpvOpUDiv, which, constant(c, pieces));
  tile = spv_bin(b, SpvOpIAdd, tile, constant(c, c->whole));
  matmul_coop_go_to(c, tile);
  SpvId piece = spv_bin(b, SpvOpUMod, which, constant(c, pieces));
  SpvId down = spv_bin(b, SpvOpUDiv, piece, constant(c, along_n));
  down = spv_bin(b, SpvOpIMul, down, constant(c, c->tile.m));
  SpvId right = spv_bin(b, SpvOpUMod, piece, constant(c, along_n));
  right = spv_bin(b, SpvOpIMul, right, constant(c, c->tile.n));
  mm->tile_m_id = spv_bin(b, SpvOpIAdd, mm->tile_m_id, down);
  mm->tile_n_id = spv_bin(b, SpvOpIAdd, mm->tile_n_id, right);
}

SpvId matmul_coop_is_inside(Coop *c) {
  Matmul *mm = c->mm;
  Spv *b = mm->k->b;
  SpvId row = spv_cmp(b, SpvOpULessThan, mm->tile_m_id, mm->m_id);
  SpvId column = spv_cmp(b, SpvOpULessThan, mm->tile_n_id, mm->n_id);
  return spv_cmp(b, SpvOpLogicalAnd, row, column);
}
