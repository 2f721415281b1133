/* Attention and its gradients on cooperative matrices, where queries, keys, values and the cotangent are 16-bit
 * values behind widenings. The three kernels and their roles are those of attention.c; rows are owned by subgroups
 * instead of invocations.
 *
 *   workgroup: `subgroups` subgroups, each with `fragments` · m own rows of one head, their channels as factors in
 *   registers for good; blocks of streamed rows pass through workgroup memory, read by all
 *
 *                         block: streamed rows × channels, of sides a and b
 *                         ┌──────┬──────┐
 *        own rows         │  n   │  n   │ …      scores and dp stay in registers as sum matrices; P and dS are
 *        subgroup 0  m ░░ ├──────┼──────┤        rounded to 16 bits and become left factors of the products with
 *                    m ░░ │scores│      │        the same block (attention_coop_block.c)
 *        subgroup 1  m ░░ ├──────┼──────┤
 *
 * Which element of a matrix an invocation holds is the device's affair. What depends on rows or columns is a matrix
 * too, read from numbers in workgroup memory with a stride of 0: −lse, delta, the elements' own places. A row's
 * maximum need not be exact for the weights to be, so it is taken anew only when a score exceeds it by far, and what
 * was summed then decays: a few times in all. With SPV_NV_cooperative_matrix2 rows are reduced and weights become
 * factors without workgroup memory; without, a subgroup does both through a scratch of its own.
 *
 * A block that the band hides from all of a subgroup's rows is skipped by it; one of which it hides nothing is not
 * masked. Channels are filled up with zeros to whole matrices. Where a row's channels and sums are more than the registers
 * of a subgroup hold, a team of them shares rows (attention_coop_team.c). */
#include "codegen/attention_coop.h"

#include <math.h>

/* ---- setting up ---- */

static void matrix_types(Coop *c) {
  Spv *b = c->m->k->b;
  SpvId low = c->low == DT_f16 ? spv_f16(b) : spv_bf16(b), f32 = spv_f32(b);
  uint32_t rows = (uint32_t)c->rows, unit = (uint32_t)c->unit;
  c->factor_a = spv_matrix(b, low, rows, unit, SPV_matrix_a);
  c->factor_b = spv_matrix(b, low, unit, unit, SPV_matrix_b);
  c->sum = spv_matrix(b, f32, rows, unit, SPV_matrix_sum);
}

static void share_memory(Coop *c) {
  Attention *m = c->m;
  Spv *b = m->k->b;
  int block = c->tile.block;
  coop_side(c, &c->a, &m->stream_a, c->a_units, 0, block);
  if (m->e) coop_side(c, &c->b, &m->stream_b, c->b_units, block * c->a.pitch, block);
  c->pool_size = coop_pool_size(c, &c->tile);
  c->n_number = m->backward && m->to_keys ? coop_pieces(block, c->invocations) : 0;
  SpvId type = spv_array(b, spv_vec(b, spv_u32(b), 4), (uint32_t)c->pool_size);
  c->pool = spv_shared(b, type);
  type = spv_array(b, spv_f32(b), (uint32_t)coop_lay_out_numbers(c, &c->tile));
  c->numbers = spv_shared(b, type);
}

/* Numbers 0, 1, 2 …: the places of elements. They are read after the first block's barrier. */
static void put_iota(Coop *c) {
  Kernel *k = c->m->k;
  for (int i = 0; i < c->lse_at; i += c->invocations) {
    SpvId n = i ? op_u(k, SpvOpIAdd, c->invocation, (uint32_t)i) : c->invocation;
    bool all = i + c->invocations <= c->lse_at;
    if (!all) spv_if(k->b, spv_cmp(k->b, SpvOpULessThan, n, const_u(k, (uint32_t)c->lse_at)));
    SpvId number = spv_pure(k->b, SpvOpConvertUToF, spv_f32(k->b), n);
    spv_set(k->b, coop_number(c, 0, n), number);
    if (!all) spv_end(k->b);
  }
}

/* Heads whose tiles are begun together, a divisor of all. Queries and cotangents, which stream past keys, stay in the
 * device's cache where those are as few as give every core some work; keys and values do so anyway. */
static int64_t heads_together(const Coop *c, int64_t tiles) {
  enum { EACH = 4 }; /* tiles of a core */
  const Attention *m = c->m;
  int64_t heads = m->own_heads * m->batches;
  int64_t n = coop_pieces(EACH * (int64_t)m->k->target->cores, tiles);
  if (n == 0 || !m->to_keys) return heads;
  while (n < heads && heads % n) n++;
  return n < heads ? n : heads;
}

/* Which rows are this subgroup's: of the heads that are begun together, tiles with much to do first, those that see many
 * rows of a causal band. Opens a scope. */
static void place(Coop *c) {
  Attention *m = c->m;
  Kernel *k = m->k;
  int64_t tiles = coop_pieces(m->own_rows, c->own), total = tiles * m->own_heads * m->batches;
  kernel_groups(k, total, (uint32_t)c->invocations);
  SpvId group = kernel_group(k);
  spv_if(k->b, spv_cmp(k->b, SpvOpULessThan, group, const_u(k, (uint32_t)total)));
  int64_t together = heads_together(c, tiles);
  const Ix *at = ix_value(k->ix, group, total);
  const Ix *chunk = ix_div(k->ix, at, together * tiles);
  at = ix_mod(k->ix, at, together * tiles);
  att_heads(m, ix_add(k->ix, ix_mul(k->ix, chunk, together), ix_mod(k->ix, at, together)));
  SpvId tile = ix_emit(k->ix, ix_div(k->ix, at, together));
  if (!m->to_keys) {
    SpvId last = const_u(k, (uint32_t)(tiles - 1));
    tile = spv_bin(k->b, SpvOpISub, last, tile);
  }
  c->invocation = kernel_lane(k, 0);
  c->subgroup = spv_builtin(k->b, SpvBuiltInSubgroupId, spv_u32(k->b));
  c->lane = spv_builtin(k->b, SpvBuiltInSubgroupLocalInvocationId, spv_u32(k->b));
  c->tile_row = op_u(k, SpvOpIMul, tile, (uint32_t)c->own);
  SpvId team = c->subgroup;
  if (c->tile.team > 1) {
    c->part = op_u(k, SpvOpUMod, team, (uint32_t)c->tile.team);
    team = op_u(k, SpvOpUDiv, team, (uint32_t)c->tile.team);
  }
  c->row_in_tile = op_u(k, SpvOpIMul, team, (uint32_t)(c->tile.fragments * c->rows));
  c->own_row = spv_bin(k->b, SpvOpIAdd, c->tile_row, c->row_in_tile);
}

static SpvId variable(Coop *c, float start) {
  Spv *b = c->m->k->b;
  SpvId v = spv_local(b, c->sum);
  spv_set(b, v, spv_matrix_fill(b, c->sum, start));
  return v;
}

/* The pool before and after rows stream past, and while. */
static void all_is_scratch(Coop *c) {
  c->scratch = 0;
  c->scratch_size = c->pool_size / c->tile.subgroups;
}

static void blocks_and_scratch(Coop *c) {
  c->scratch = c->tile.block * (c->a.pitch + c->b.pitch);
  c->scratch_size = coop_scratch_size(c, &c->tile);
  c->meeting = c->scratch + (c->direct ? 0 : c->tile.subgroups * c->scratch_size);
}

static void begin_rows(Coop *c) {
  Attention *m = c->m;
  const Ix *head = m->to_keys ? m->key_head : m->query_head;
  CoopOwn a, b;
  bool both_sides = m->backward && m->sum_a;
  all_is_scratch(c);
  coop_fetch_own(c, &a, &m->own_a, c->a_units, head);
  if (both_sides) coop_fetch_own(c, &b, &m->own_b, c->b_units, head);
  coop_own(c, &a, c->own_a);
  if (both_sides) coop_own(c, &b, c->own_b);
  blocks_and_scratch(c);
  put_iota(c);
  if (m->backward && !m->to_keys) coop_own_numbers(c);
  for (int i = 0; i < c->tile.fragments; i++) {
    for (int u = 0; u < c->a_sums; u++) c->a_sum[i][u] = variable(c, 0);
    for (int u = 0; u < c->b_sums; u++) c->b_sum[i][u] = variable(c, 0);
    if (m->backward) continue;
    c->most[i] = variable(c, 1e30f); /* no score is as low */
    c->total[i] = variable(c, 0);
  }
  for (int x = 0; x < c->tile.step; x++)
    for (int i = 0; i < c->tile.fragments; i++) {
      c->score[x][i] = spv_local(m->k->b, c->sum);
      if (m->backward && m->sum_a) c->dp[x][i] = spv_local(m->k->b, c->sum);
    }
}

/* ---- the streamed rows ---- */

static void fetch(Coop *c, SpvId block) {
  Attention *m = c->m;
  SpvId first = op_u(m->k, SpvOpIMul, block, (uint32_t)c->tile.block);
  const Ix *head = m->to_keys ? m->query_head : m->key_head;
  coop_fetch(c, &c->a, head, first);
  coop_fetch(c, &c->b, head, first);
  coop_fetch_numbers(c, first);
}

static void put(Coop *c) {
  coop_put(c, &c->a);
  coop_put(c, &c->b);
  coop_put_numbers(c);
}

/* max(row + by, 0) */
static SpvId from_row(Coop *c, int64_t by) {
  Kernel *k = c->m->k;
  SpvId zero = const_u(k, 0), row = op_u(k, SpvOpIAdd, c->tile_row, (uint32_t)by);
  SpvId below = spv_cmp(k->b, SpvOpSLessThan, row, zero);
  return choose(k, below, zero, row);
}

static SpvId at_most(Coop *c, SpvId x, int64_t limit) {
  Kernel *k = c->m->k;
  SpvId most = const_u(k, (uint32_t)limit), less = spv_cmp(k->b, SpvOpULessThan, x, most);
  return choose(k, less, x, most);
}

/* The blocks that the band lets some row of the workgroup see. */
static void find_blocks(Coop *c) {
  Attention *m = c->m;
  Kernel *k = m->k;
  int64_t least = m->to_keys ? -m->a.hi : m->a.lo, most = m->to_keys ? -m->a.lo : m->a.hi;
  int64_t rows = m->stream_rows;
  uint32_t block = (uint32_t)c->tile.block;
  SpvId begin = const_u(k, 0), end = const_u(k, (uint32_t)rows);
  if (least > -m->own_rows) begin = at_most(c, from_row(c, least), rows);
  if (most < rows) end = at_most(c, from_row(c, most + c->own), rows);
  c->first_block = op_u(k, SpvOpUDiv, begin, block);
  end = op_u(k, SpvOpUDiv, op_u(k, SpvOpIAdd, end, block - 1), block);
  SpvId some = spv_cmp(k->b, SpvOpULessThan, c->first_block, end);
  end = spv_bin(k->b, SpvOpISub, end, c->first_block);
  c->n_block = choose(k, some, end, const_u(k, 0));
}

/* The first block is on its way before own rows are. */
static void start(Coop *c) {
  Kernel *k = c->m->k;
  find_blocks(c);
  if (!c->tile.ahead) return;
  spv_if(k->b, spv_cmp(k->b, SpvOpULessThan, const_u(k, 0), c->n_block));
  fetch(c, c->first_block);
  spv_end(k->b);
}

/* Between two barriers a block goes to workgroup memory; where `ahead`, the next is on its way meanwhile: after the
 * last one the last again. */
static void stream(Coop *c) {
  Kernel *k = c->m->k;
  SpvId i = spv_for(k->b, c->n_block);
  SpvId block = spv_bin(k->b, SpvOpIAdd, c->first_block, i);
  if (!c->tile.ahead) fetch(c, block);
  spv_barrier(k->b);
  put(c);
  spv_barrier(k->b);
  if (c->tile.ahead) {
    SpvId next = op_u(k, SpvOpIAdd, i, 1), more = spv_cmp(k->b, SpvOpULessThan, next, c->n_block);
    fetch(c, spv_bin(k->b, SpvOpIAdd, c->first_block, choose(k, more, next, i)));
  }
  coop_block(c, op_u(k, SpvOpIMul, block, (uint32_t)c->tile.block));
  spv_end(k->b);
}

/* ---- results ---- */

static void scale_sums(Coop *c, SpvId (*sum)[MAX_UNITS], int units, SpvId by, int i) {
  Spv *b = c->m->k->b;
  for (int u = 0; u < units; u++) {
    SpvId x = spv_get(b, sum[i][u]);
    x = spv_bin(b, SpvOpFMul, x, by);
    spv_set(b, sum[i][u], x);
  }
}

/* o = sum / total and lse; of a query that sees no key zeros or NaN, and −∞. */
static void finish_forward(Coop *c) {
  Attention *m = c->m;
  Kernel *k = m->k;
  SpvId total[MAX_FRAGMENTS] = {0}, lse[MAX_FRAGMENTS];
  coop_reduce_rows(c, c->total, true, total);
  for (int i = 0; i < c->tile.fragments; i++) {
    SpvId by = spv_local(k->b, c->sum);
    lse[i] = spv_local(k->b, c->sum);
    SpvId e = coop_elements(c);
    SpvId zero = const_f(k, 0), one = const_f(k, 1), never = const_f(k, -INFINITY);
    SpvId t = coop_get(c, total[i], e), most = coop_get(c, c->most[i], e);
    SpvId none = equal_f(k, t, zero);
    SpvId inverse = div_f(k, one, t), empty = const_f(k, m->a.empty_nan ? NAN : 0);
    coop_set(c, by, e, choose(k, none, empty, inverse));
    SpvId sum = sub_f(k, spv_glsl(k->b, GLSLstd450Log2, t), most);
    sum = math_mul_c(k, sum, (float)M_LN2);
    coop_set(c, lse[i], e, choose(k, none, never, sum));
    spv_end(k->b);
    scale_sums(c, c->b_sum, c->b_sums, spv_get(k->b, by), i);
  }
  coop_store(c, OP_attention, c->b_sum, c->b_sums);
  if (m->node[OP_attention_lse]) coop_store_lse(c, lse);
}

static void finish(Coop *c) {
  Attention *m = c->m;
  Spv *b = m->k->b;
  spv_barrier(b); /* the pool is for results now */
  all_is_scratch(c);
  if (!m->backward) {
    finish_forward(c);
    return;
  }
  SpvId scale = spv_matrix_fill(b, c->sum, (float)m->a.scale);
  for (int i = 0; i < c->tile.fragments && m->a.scale != 1; i++)
    scale_sums(c, c->a_sum, c->a_sums, scale, i);
  coop_store(c, OP_attention_dq, c->a_sum, c->a_sums);
  coop_store(c, OP_attention_dk, c->a_sum, c->a_sums);
  coop_store(c, OP_attention_dv, c->b_sum, c->b_sums);
}

/* ---- the whole ---- */

void att_coop(Attention *m, const AttTile *tile) {
  Coop all, *c = &all;
  Kernel *k = m->k;
  if (!coop_make(c, m)) die("codegen: attention on matrix units that do not fit");
  c->tile = *tile;
  c->bends = m->a.cap > 0 || m->a.scale <= 0;
  c->factor = c->bends ? 1 : (float)(m->a.scale * M_LOG2E);
  c->at_lse = m->backward && !c->bends;
  c->at_delta = m->to_keys && m->sum_a && !m->a.keep; /* own ones cost registers so */
  c->invocations = tile->subgroups * c->lanes;
  c->own = coop_own_rows(c, tile);
  c->a_units = coop_units(c, tile, m->c);
  c->b_units = coop_units(c, tile, m->e);
  c->a_sums = m->sum_a ? c->a_units : 0;
  c->b_sums = m->sum_b ? c->b_units : 0;
  matrix_types(c);
  k->out->subgroup_size = (uint32_t)c->lanes;
  m->edge = m->stream_rows % c->tile.block != 0;
  share_memory(c);
  place(c);
  int64_t per_key = m->h / m->kv;
  bool many = m->to_keys && per_key > 1; /* all query heads that use the key head */
  if (!many) start(c);
  begin_rows(c);
  if (many) {
    SpvId i = spv_for(k->b, const_u(k, (uint32_t)per_key));
    m->query_head = ix_add(k->ix, ix_mul(k->ix, m->key_head, per_key), ix_value(k->ix, i, per_key));
    start(c);
    stream(c);
    spv_end(k->b);
  } else {
    stream(c);
  }
  finish(c);
  spv_end(k->b);
}
