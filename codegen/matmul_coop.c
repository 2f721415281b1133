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
 * of the next one before it stores one. Where whole waves of them leave few, those are cut into pieces, tiles of their own, so that
 * more cores compute them. Of a product in spans it computes parts of tiles (matmul_coop_spans.c).
 *
 * Sums over k of an operand are products with ones, in the workgroups of its first tile alone; the subgroups that have the same
 * fragments share them out. Sizes and strides are constants. */
#include "codegen/matmul_coop.h"

static SpvId constant(Coop *c, int64_t v) { return spv_u(c->mm->k->b, (uint32_t)v); }

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

/* ---- the kernel ---- */

/* At the tile that was gone to: where operands' loads begin. */
static void begin_sides(Coop *c) {
  Spv *b = c->mm->k->b;
  matmul_coop_side_begin(c, &c->a);
  matmul_coop_side_begin(c, &c->b);
  if (!counts_terms(c)) return;
  c->first_term = spv_local(b, spv_u32(b));
  spv_set(b, c->first_term, constant(c, 0));
}

static void compute(Coop *c, bool several) {
  SpvId steps = constant(c, (c->mm->kk + c->tile.k - 1) / c->tile.k);
  begin_sides(c);
  matmul_coop_ahead(c, steps);
  if (several) matmul_coop_for_each(c);
  matmul_coop_make_sums(c);
  matmul_coop_loop(c, steps);
  matmul_coop_store(c);
  if (several) spv_end(c->mm->k->b);
}

/* Piece number `which` of the tiles that are cut; of one that reaches past an edge some lie there whole. */
static void compute_piece(const Coop *c, const MatmulTile *tile, SpvId which) {
  Coop p;
  matmul_coop_layout(&p, c->mm, c->mm->k->target, tile);
  p.tiles = c->tiles, p.whole = c->whole, p.groups = c->groups;
  p.group = c->group, p.offsets = c->offsets, p.shared = c->shared;
  p.matrix_a = c->matrix_a, p.matrix_b = c->matrix_b, p.matrix_sum = c->matrix_sum;
  p.lane = c->lane, p.subgroup = c->subgroup;
  p.subgroup_m = c->subgroup_m, p.subgroup_n = c->subgroup_n;
  matmul_coop_edges(&p);
  matmul_coop_go_to_piece(&p, which, &c->tile);
  SpvId inside = matmul_coop_is_inside(&p);
  spv_if(c->mm->k->b, inside);
  compute(&p, false);
  spv_end(c->mm->k->b);
}

/* Whole tiles, then those that are cut: by other workgroups, or by the same ones, where each has several. */
static void compute_tiles(Coop *c, int pieces, const MatmulTile *piece) {
  Spv *b = c->mm->k->b;
  bool several = c->groups < c->whole;
  if (pieces > 1 && !several) {
    SpvId whole = spv_cmp(b, SpvOpULessThan, c->group, constant(c, c->whole));
    spv_if(b, whole);
  }
  matmul_coop_go_to(c, c->group);
  compute(c, several);
  if (pieces == 1) return;
  SpvId which = c->group;
  if (several) {
    int64_t n = (c->tiles - c->whole) * pieces;
    SpvId more = spv_cmp(b, SpvOpULessThan, which, constant(c, n));
    spv_if(b, more);
  } else {
    spv_else(b);
    which = spv_bin(b, SpvOpISub, which, constant(c, c->whole));
  }
  compute_piece(c, piece, which);
  spv_end(b);
}

static int shared_runs(const Coop *c, const MatmulTile *piece) {
  Coop p;
  matmul_coop_layout(&p, c->mm, c->mm->k->target, piece);
  return p.shared_runs > c->shared_runs ? p.shared_runs : c->shared_runs;
}

void matmul_coop(Matmul *mm, const MatmulTile *tile) {
  Coop c;
  MatmulTile piece;
  matmul_coop_layout(&c, mm, mm->k->target, tile);
  int pieces = matmul_coop_pieces(tile, &piece);
  Spv *b = mm->k->b;
  make_types(&c);
  SpvId vec4 = spv_vec(b, spv_u32(b), 4);
  c.shared = spv_shared(b, spv_array(b, vec4, (uint32_t)shared_runs(&c, &piece)));
  matmul_coop_begin(&c, pieces);
  if (mm->spans.n) {
    matmul_coop_go_to(&c, matmul_coop_span_begin(&c));
    begin_sides(&c);
    matmul_coop_span(&c);
  } else
    compute_tiles(&c, pieces, &piece);
  matmul_end(mm);
}
