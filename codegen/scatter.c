/* scatter_add: result[v, c] = Σ x[i, c] over the i with ids[i] = v, in order of i. Row-owner: every output element is computed
 * by one invocation, which looks at all ids; no atomics, a fixed order, every element written.
 *
 *   portable   an invocation owns W neighbouring columns of one row, W = 4 where rows divide by four
 *   subgroup   a subgroup owns a row: its lanes look at S ids at once, and only a row that some id names is summed */
#include "codegen/emit_math.h"

enum { LOCAL = 64 };

typedef struct Scatter {
  Kernel *k;
  Node *ids, *x;
  DType type;
  int64_t rows, columns, n_id;
  int width; /* columns per lane: 1 or 4 */
} Scatter;

/* sum += x, keeping what rounding lost where the type is a float */
static void accumulate(Scatter *s, SpvId sum, SpvId rest, SpvId x) {
  Kernel *k = s->k;
  SpvId old = spv_get(k->b, sum);
  if (s->type == DT_i32) {
    old = spv_bin(k->b, SpvOpIAdd, old, x);
    spv_set(k->b, sum, old);
    return;
  }
  SpvId lost;
  old = math_two_sum(k, old, x, &lost);
  SpvId finite = math_unary(k, OP_isfinite, DT_f32, lost);
  SpvId zero = const_f(k, 0);
  lost = choose(k, finite, lost, zero);
  SpvId total = spv_get(k->b, rest);
  total = xadd(k, total, lost);
  spv_set(k->b, sum, old);
  spv_set(k->b, rest, total);
}

/* Sums columns width·unit … of row v over all ids and stores them. */
static void sum_columns(Scatter *s, SpvId v, SpvId unit) {
  Kernel *k = s->k;
  Spv *b = k->b;
  SpvId sum[4], rest[4], value[4];
  SpvId type = kernel_element_type(k, s->type);
  SpvId zero = expr_const(k, s->type, 0);
  int64_t units = s->columns / s->width;
  for (int c = 0; c < s->width; c++) {
    sum[c] = spv_local(b, type);
    rest[c] = spv_local(b, type);
    spv_set(b, sum[c], zero);
    spv_set(b, rest[c], zero);
  }
  SpvId n = const_u(k, (uint32_t)s->n_id);
  Loop loop = kernel_loop(k, n, s->n_id);
  const Ix *i = ix_value(k->ix, loop.index, s->n_id);
  SpvId id = expr_at(k, s->ids, i);
  SpvId named = spv_cmp(b, SpvOpIEqual, id, v);
  spv_if(b, named);
  const Ix *column = ix_mul(k->ix, ix_value(k->ix, unit, units), s->width);
  const Ix *first = ix_add(k->ix, ix_mul(k->ix, i, s->columns), column);
  for (int c = 0; c < s->width; c++) {
    SpvId x = expr_at(k, s->x, ix_add(k->ix, first, ix_const(k->ix, c)));
    accumulate(s, sum[c], rest[c], x);
  }
  spv_end(b);
  kernel_loop_end(k, loop);
  for (int c = 0; c < s->width; c++) {
    value[c] = spv_get(b, sum[c]);
    if (s->type != DT_i32) {
      SpvId more = spv_get(b, rest[c]);
      value[c] = xadd(k, value[c], more);
    }
    value[c] = math_round(k, s->type, value[c]);
  }
  SpvId row = op_u(k, SpvOpIMul, v, (uint32_t)units);
  SpvId place = spv_bin(b, SpvOpIAdd, row, unit);
  kernel_store(k, place, s->width, value);
}

static void emit_portable(Scatter *s) {
  Kernel *k = s->k;
  Spv *b = k->b;
  int64_t units = s->columns / s->width, total = s->rows * units;
  kernel_groups(k, (total + LOCAL - 1) / LOCAL, LOCAL);
  SpvId place = kernel_group(k);
  place = op_u(k, SpvOpIMul, place, LOCAL);
  SpvId lane = kernel_lane(k, 0);
  place = spv_bin(b, SpvOpIAdd, place, lane);
  SpvId limit = const_u(k, (uint32_t)total);
  SpvId within = spv_cmp(b, SpvOpULessThan, place, limit);
  spv_if(b, within);
  const Ix *at = ix_value(k->ix, place, total);
  SpvId v = ix_emit(k->ix, ix_div(k->ix, at, units));
  SpvId unit = ix_emit(k->ix, ix_mod(k->ix, at, units));
  sum_columns(s, v, unit);
  spv_end(b);
}

/* Whether any id is v, the same in every lane: each lane counts its own matches, then the counts are added by shuffles. */
static SpvId any_named(Scatter *s, SpvId v, SpvId lane, uint32_t lanes) {
  Kernel *k = s->k;
  Spv *b = k->b;
  SpvId u32 = spv_u32(b);
  SpvId found = spv_local(b, u32);
  SpvId zero = const_u(k, 0);
  spv_set(b, found, zero);
  int width = s->n_id % 4 == 0 ? 4 : 1;
  int64_t units = s->n_id / width;
  SpvId n = const_u(k, (uint32_t)(units + lanes - 1));
  n = spv_bin(b, SpvOpISub, n, lane);
  n = op_u(k, SpvOpUDiv, n, lanes);
  Loop loop = kernel_loop(k, n, (units + lanes - 1) / lanes);
  SpvId i = op_u(k, SpvOpIMul, loop.index, lanes);
  i = spv_bin(b, SpvOpIAdd, i, lane);
  const Ix *first = ix_mul(k->ix, ix_value(k->ix, i, units), width);
  SpvId one = const_u(k, 1);
  SpvId count = spv_get(b, found);
  for (int c = 0; c < width; c++) {
    SpvId id = expr_at(k, s->ids, ix_add(k->ix, first, ix_const(k->ix, c)));
    SpvId named = spv_cmp(b, SpvOpIEqual, id, v);
    SpvId more = choose(k, named, one, zero);
    count = spv_bin(b, SpvOpBitwiseOr, count, more);
  }
  spv_set(b, found, count);
  kernel_loop_end(k, loop);
  SpvId any = spv_get(b, found);
  for (uint32_t i = 1; i < lanes; i *= 2) {
    SpvId other = spv_shuffle_xor(b, any, i);
    any = spv_bin(b, SpvOpBitwiseOr, any, other);
  }
  return spv_cmp(b, SpvOpINotEqual, any, zero);
}

static void emit_subgroup(Scatter *s) {
  Kernel *k = s->k;
  Spv *b = k->b;
  uint32_t lanes = k->target->subgroup_size, local = lanes > LOCAL ? lanes : LOCAL, rows = local / lanes;
  int64_t units = s->columns / s->width;
  k->out->subgroup_size = lanes;
  kernel_groups(k, (s->rows + rows - 1) / rows, local);
  SpvId u32 = spv_u32(b);
  SpvId lane = spv_builtin(b, SpvBuiltInSubgroupLocalInvocationId, u32);
  SpvId subgroup = spv_builtin(b, SpvBuiltInSubgroupId, u32);
  SpvId v = kernel_group(k);
  v = op_u(k, SpvOpIMul, v, rows);
  v = spv_bin(b, SpvOpIAdd, v, subgroup);
  SpvId limit = const_u(k, (uint32_t)s->rows);
  SpvId within = spv_cmp(b, SpvOpULessThan, v, limit);
  spv_if(b, within);
  SpvId any = any_named(s, v, lane, lanes);
  SpvId n = const_u(k, (uint32_t)(units + lanes - 1));
  n = spv_bin(b, SpvOpISub, n, lane);
  n = op_u(k, SpvOpUDiv, n, lanes);
  Loop loop = kernel_loop(k, n, (units + lanes - 1) / lanes);
  SpvId unit = op_u(k, SpvOpIMul, loop.index, lanes);
  unit = spv_bin(b, SpvOpIAdd, unit, lane);
  spv_if(b, any);
  sum_columns(s, v, unit);
  spv_else(b);
  SpvId zero[4];
  for (int c = 0; c < s->width; c++) zero[c] = expr_const(k, s->type, 0);
  SpvId row = op_u(k, SpvOpIMul, v, (uint32_t)units);
  SpvId place = spv_bin(b, SpvOpIAdd, row, unit);
  kernel_store(k, place, s->width, zero);
  spv_end(b);
  kernel_loop_end(k, loop);
  spv_end(b);
}

void emit_scatter_add(Kernel *k) {
  const Node *root = k->job->root;
  const Target *t = k->target;
  Scatter s = {k, root->src[0], root->src[1], (DType)root->type.dtype, root->type.dim[0], 1, 1, 1};
  for (int i = 1; i < root->type.rank; i++) s.columns *= root->type.dim[i];
  s.n_id = type_count(&s.ids->type);
  s.width = s.columns % 4 == 0 ? 4 : 1;
  k->wide = true;
  k->out->flops = (double)type_count(&s.x->type);
  bool subgroups = t->subgroup_shuffle && t->subgroup_size >= 4 && t->subgroup_size <= t->max_invocations;
  if (subgroups && s.columns / s.width >= 2) emit_subgroup(&s);
  else emit_portable(&s);
}
