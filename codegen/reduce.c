/* reduce: result[o] = combination over r of source[o, r], for sum, product, max, min and argmax, over any axes; the source is an
 * expression computed on the fly.
 *
 * Outputs o run over the kept dimensions, terms r over the reduced ones, both row-major. Three ways, by shape:
 *
 *   serial    one invocation per output (or four neighbouring ones); lanes lie across outputs: many columns, or short rows
 *   subgroup  one subgroup per output; lane L takes terms L, L + S, …; then shuffles:             rows
 *   tile      a workgroup of X outputs × Y partial results; partial y takes terms y, y + Y, …;
 *             then a tree in workgroup memory:                         rows without subgroups, few outputs, long sums
 *
 * Each invocation's own sum is nested in blocks of 64 (more where it is very long) with an accumulator per level, so that the
 * error hardly grows with the length. The order is fixed: the same bits every time. */
#include "codegen/reduce.h"

#include <math.h>

enum {
  BLOCK = 64,
  LONG = 20000,
  VERY_LONG = 1000000 /* units of one invocation */,
  MAX_LEVELS = 6,
  LOCAL = 64
};

typedef struct Acc { /* a partial result; index only for argmax */
  SpvId value, index;
} Acc;

/* ---- combining ---- */

static bool is_arg(const Reduce *r) { return r->op == OP_argmax; }

static Acc identity(Reduce *r) {
  Kernel *k = r->k;
  bool is_int = r->type == DT_i32;
  Acc a = {0};
  switch (r->op) {
  case OP_reduce_sum: a.value = expr_const(k, r->type, 0); break;
  case OP_reduce_prod: a.value = expr_const(k, r->type, 1); break;
  case OP_reduce_min:
    a.value = expr_const(k, r->type, is_int ? INT32_MAX : (double)INFINITY);
    break;
  default: a.value = expr_const(k, r->type, is_int ? INT32_MIN : -(double)INFINITY);
  }
  if (is_arg(r)) a.index = spv_u(k->b, INT32_MAX);
  return a;
}

/* The larger; NaN is largest of all; of equals the one with the smaller index. */
static Acc combine_arg(Reduce *r, Acc x, Acc y) {
  Kernel *k = r->k;
  Spv *b = k->b;
  SpvId type = spv_bool(b);
  SpvId better = math_binary(k, OP_gt, r->type, y.value, x.value);
  SpvId equal = math_binary(k, OP_eq, r->type, y.value, x.value);
  if (r->type != DT_i32) {
    SpvId x_nan = math_is_nan(k, x.value);
    SpvId y_nan = math_is_nan(k, y.value);
    SpvId x_number = spv_pure(b, SpvOpLogicalNot, type, x_nan);
    SpvId only_y = spv_pure(b, SpvOpLogicalAnd, type, y_nan, x_number);
    SpvId both_nan = spv_pure(b, SpvOpLogicalAnd, type, x_nan, y_nan);
    better = spv_pure(b, SpvOpLogicalOr, type, better, only_y);
    equal = spv_pure(b, SpvOpLogicalOr, type, equal, both_nan);
  }
  SpvId earlier = spv_cmp(b, SpvOpULessThan, y.index, x.index);
  SpvId tie = spv_pure(b, SpvOpLogicalAnd, type, equal, earlier);
  better = spv_pure(b, SpvOpLogicalOr, type, better, tie);
  Acc best;
  best.value = spv_select(b, better, y.value, x.value);
  best.index = spv_select(b, better, y.index, x.index);
  return best;
}

static Acc combine(Reduce *r, Acc x, Acc y) {
  if (is_arg(r)) return combine_arg(r, x, y);
  Op op = r->op == OP_reduce_sum    ? OP_add
          : r->op == OP_reduce_prod ? OP_mul
          : r->op == OP_reduce_max  ? OP_max
                                    : OP_min;
  DType d = r->type == DT_i32 ? DT_i32 : DT_f32; /* partial results are not rounded to 16 bits */
  return (Acc){math_binary(r->k, op, d, x.value, y.value), 0};
}

/* ---- accumulators in variables ---- */

static Acc acc_variable(Reduce *r) {
  Acc a = {0};
  a.value = spv_local(r->k->b, kernel_element_type(r->k, r->type));
  if (is_arg(r)) a.index = spv_local(r->k->b, spv_u32(r->k->b));
  return a;
}

static Acc acc_get(Reduce *r, Acc variable) {
  Acc a = {0};
  a.value = spv_get(r->k->b, variable.value);
  if (is_arg(r)) a.index = spv_get(r->k->b, variable.index);
  return a;
}

static void acc_set(Reduce *r, Acc variable, Acc a) {
  spv_set(r->k->b, variable.value, a.value);
  if (is_arg(r)) spv_set(r->k->b, variable.index, a.index);
}

static void acc_add(Reduce *r, Acc variable, Acc more) {
  Acc a = acc_get(r, variable);
  a = combine(r, a, more);
  acc_set(r, variable, a);
}

/* ---- one invocation's terms ---- */

typedef struct Serial {
  Reduce *r;
  const Ix *out;        /* its unit of outputs */
  SpvId first, stride;  /* its units of terms: first + i · stride */
  SpvId block;          /* i where the innermost block starts */
  int64_t size, blocks; /* of the innermost ones: units, how many at most */
  Acc level[MAX_LEVELS][4];
  int width;
} Serial;

/* Adds unit `number` of the block to the innermost accumulators. */
static void add_terms(void *context, SpvId number) {
  Serial *s = context;
  Reduce *r = s->r;
  IxTable *t = r->k->ix;
  Spv *b = r->k->b;
  SpvId i = spv_bin(b, SpvOpIAdd, s->block, number);
  SpvId unit = spv_bin(b, SpvOpIMul, i, s->stride);
  unit = spv_bin(b, SpvOpIAdd, unit, s->first);
  const Ix *term = ix_mul(t, ix_value(t, unit, r->terms / r->term_width), r->term_width);
  for (int c = 0; c < s->width; c++) {
    const Ix *o = s->out, *x = term;
    if (r->out_width == 4)
      o = ix_add(t, ix_mul(t, o, 4), ix_const(t, c));
    else
      x = ix_add(t, term, ix_const(t, c));
    Acc a = {0};
    a.value = r->value(r, o, x);
    if (is_arg(r)) a.index = ix_emit(t, x);
    acc_add(r, s->level[0][c], a);
  }
}

/* Adds units start … start + n − 1 to the accumulators of `level`; n <= bound. */
static void add_block(Serial *s, int level, SpvId start, SpvId n, int64_t bound) {
  Reduce *r = s->r;
  Spv *b = r->k->b;
  for (int c = 0; c < s->width; c++) {
    s->level[level][c] = acc_variable(r);
    acc_set(r, s->level[level][c], identity(r));
  }
  if (level == 0) {
    s->block = start;
    kernel_repeat(r->k, n, bound, s->blocks, add_terms, s);
    return;
  }
  int64_t size = s->size;
  for (int i = 1; i < level; i++) size *= BLOCK;
  SpvId block = spv_u(b, (uint32_t)size);
  SpvId up = spv_u(b, (uint32_t)size - 1);
  SpvId count = spv_bin(b, SpvOpIAdd, n, up);
  count = spv_bin(b, SpvOpUDiv, count, block);
  SpvId j = spv_for(b, count);
  SpvId from = spv_bin(b, SpvOpIMul, j, block);
  SpvId left = spv_bin(b, SpvOpISub, n, from);
  SpvId full = spv_cmp(b, SpvOpULessThan, block, left);
  left = spv_select(b, full, block, left);
  from = spv_bin(b, SpvOpIAdd, start, from);
  add_block(s, level - 1, from, left, size);
  for (int c = 0; c < s->width; c++)
    acc_add(r, s->level[level][c], acc_get(r, s->level[level - 1][c]));
  spv_end(b);
}

/* The combination of `n` units from `first` on with that stride; n <= bound. Gives one result per
 * output of the unit. */
static void serial(Reduce *r, const Ix *out, SpvId first, SpvId stride, SpvId n, int64_t bound,
                   Acc *result) {
  Serial s = {.r = r, .out = out, .first = first, .stride = stride};
  s.width = r->out_width * r->term_width;
  int level = 0;
  bool sums = r->op == OP_reduce_sum || r->op == OP_reduce_prod;
  s.size = bound > VERY_LONG ? 16 * BLOCK
           : bound > LONG    ? 4 * BLOCK
                             : BLOCK; /* fewer innermost loops, unrolled further */
  for (int64_t left = bound, size = s.size; sums && left > 2 * size; size = BLOCK) {
    left = (left + size - 1) / size;
    level++;
  }
  s.blocks = level ? (bound + s.size - 1) / s.size : 1;
  SpvId zero = spv_u(r->k->b, 0);
  add_block(&s, level, zero, n, bound);
  for (int c = 0; c < s.width; c++) result[c] = acc_get(r, s.level[level][c]);
  for (int step = 1; step < r->term_width; step *= 2)
    for (int c = 0; c + step < r->term_width; c += 2 * step)
      result[c] = combine(r, result[c], result[c + step]);
}

/* How many of `units` fall to the one with number `which` of `among`. */
static SpvId share(Kernel *k, int64_t units, SpvId which, int64_t among) {
  SpvId total = spv_u(k->b, (uint32_t)(units + among - 1));
  SpvId n = spv_bin(k->b, SpvOpISub, total, which);
  SpvId by = spv_u(k->b, (uint32_t)among);
  return spv_bin(k->b, SpvOpUDiv, n, by);
}

static void store(Reduce *r, SpvId unit, const Acc *result) {
  SpvId value[4];
  DType d = (DType)r->k->job->out[0]->type.dtype;
  for (int c = 0; c < r->out_width; c++)
    value[c] = is_arg(r) ? result[c].index : math_round(r->k, d, result[c].value);
  kernel_store(r->k, 0, unit, r->out_width, value);
}

/* ---- the three ways ---- */

static void emit_serial(Reduce *r) {
  Kernel *k = r->k;
  Spv *b = k->b;
  int64_t units = r->outputs / r->out_width, term_units = r->terms / r->term_width;
  kernel_groups(k, (units + LOCAL - 1) / LOCAL, LOCAL);
  SpvId unit = kernel_group(k);
  SpvId local = spv_u(b, LOCAL);
  unit = spv_bin(b, SpvOpIMul, unit, local);
  SpvId lane = kernel_lane(k, 0);
  unit = spv_bin(b, SpvOpIAdd, unit, lane);
  SpvId limit = spv_u(b, (uint32_t)units);
  SpvId within = spv_cmp(b, SpvOpULessThan, unit, limit);
  spv_if(b, within);
  Acc result[4];
  SpvId zero = spv_u(b, 0);
  SpvId one = spv_u(b, 1);
  SpvId n = spv_u(b, (uint32_t)term_units);
  serial(r, ix_value(k->ix, unit, units), zero, one, n, term_units, result);
  store(r, unit, result);
  spv_end(b);
}

static Acc shuffled(Reduce *r, Acc a, bool by_xor, uint32_t lane_or_mask) {
  Spv *b = r->k->b;
  Acc s = {0};
  SpvId lane = by_xor ? 0 : spv_u(b, lane_or_mask);
  s.value = by_xor ? spv_shuffle_xor(b, a.value, lane_or_mask) : spv_shuffle(b, a.value, lane);
  if (is_arg(r))
    s.index = by_xor ? spv_shuffle_xor(b, a.index, lane_or_mask) : spv_shuffle(b, a.index, lane);
  return s;
}

/* Every lane gets the combination of all. Constant lanes cost nothing on lavapipe; a butterfly is
 * short on a GPU. */
static Acc across_subgroup(Reduce *r, Acc a, uint32_t lanes) {
  if (!r->k->target->is_cpu || lanes > 16) {
    for (uint32_t mask = 1; mask < lanes; mask *= 2) a = combine(r, a, shuffled(r, a, true, mask));
    return a;
  }
  Acc all[16];
  for (uint32_t i = 0; i < lanes; i++) all[i] = shuffled(r, a, false, i);
  for (uint32_t step = 1; step < lanes; step *= 2)
    for (uint32_t i = 0; i < lanes; i += 2 * step) all[i] = combine(r, all[i], all[i + step]);
  return all[0];
}

static void emit_subgroup(Reduce *r) {
  Kernel *k = r->k;
  Spv *b = k->b;
  uint32_t lanes = k->target->subgroup_size, local = lanes > LOCAL ? lanes : LOCAL,
           rows = local / lanes;
  int64_t units = r->terms / r->term_width;
  k->out->subgroup_size = lanes;
  kernel_groups(k, (r->outputs + rows - 1) / rows, local);
  SpvId u32 = spv_u32(b);
  SpvId lane = spv_builtin(b, SpvBuiltInSubgroupLocalInvocationId, u32);
  SpvId subgroup = spv_builtin(b, SpvBuiltInSubgroupId, u32);
  SpvId out = kernel_group(k);
  SpvId per_group = spv_u(b, rows);
  out = spv_bin(b, SpvOpIMul, out, per_group);
  out = spv_bin(b, SpvOpIAdd, out, subgroup);
  SpvId limit = spv_u(b, (uint32_t)r->outputs);
  SpvId within = spv_cmp(b, SpvOpULessThan, out, limit);
  spv_if(b, within);
  Acc result[4];
  SpvId n = share(k, units, lane, lanes);
  SpvId stride = spv_u(b, lanes);
  serial(r, ix_value(k->ix, out, r->outputs), lane, stride, n, (units + lanes - 1) / lanes, result);
  result[0] = across_subgroup(r, result[0], lanes);
  SpvId zero = spv_u(b, 0);
  SpvId first = spv_cmp(b, SpvOpIEqual, lane, zero);
  spv_if(b, first);
  store(r, out, result);
  spv_end(b);
  spv_end(b);
}

/* result[c] of partial y = 0 becomes the combination over all y. */
static void across_tile(Reduce *r, uint32_t x_size, uint32_t y_size, SpvId x, SpvId y,
                        Acc *result) {
  Kernel *k = r->k;
  Spv *b = k->b;
  SpvId width = spv_u(b, x_size);
  SpvId row = spv_bin(b, SpvOpIMul, y, width);
  SpvId place = spv_bin(b, SpvOpIAdd, row, x);
  SpvId type = kernel_element_type(k, r->type);
  type = spv_array(b, type, x_size * y_size);
  Acc shared[4] = {0}, here[4] = {0};
  for (int c = 0; c < r->out_width; c++) {
    shared[c].value = spv_shared(b, type);
    here[c].value = spv_at(b, shared[c].value, place);
    if (is_arg(r)) {
      shared[c].index = spv_shared(b, spv_array(b, spv_u32(b), x_size * y_size));
      here[c].index = spv_at(b, shared[c].index, place);
    }
    acc_set(r, here[c], result[c]);
  }
  for (uint32_t step = y_size / 2; step > 0; step /= 2) {
    spv_barrier(b);
    SpvId limit = spv_u(b, step);
    SpvId active = spv_cmp(b, SpvOpULessThan, y, limit);
    spv_if(b, active);
    SpvId distance = spv_u(b, step * x_size);
    SpvId other = spv_bin(b, SpvOpIAdd, place, distance);
    for (int c = 0; c < r->out_width; c++) {
      Acc there = {0};
      there.value = spv_at(b, shared[c].value, other);
      if (is_arg(r)) there.index = spv_at(b, shared[c].index, other);
      acc_add(r, here[c], acc_get(r, there));
    }
    spv_end(b);
  }
  for (int c = 0; c < r->out_width; c++)
    result[c] = acc_get(r, here[c]); /* written by this very invocation */
}

static void emit_tile(Reduce *r, uint32_t x_size, uint32_t y_size) {
  Kernel *k = r->k;
  Spv *b = k->b;
  int64_t units = r->outputs / r->out_width, term_units = r->terms / r->term_width;
  kernel_groups(k, (units + x_size - 1) / x_size, x_size);
  k->out->local[1] = y_size;
  SpvId x = kernel_lane(k, 0);
  SpvId y = kernel_lane(k, 1);
  SpvId unit = kernel_group(k);
  SpvId width = spv_u(b, x_size);
  unit = spv_bin(b, SpvOpIMul, unit, width);
  unit = spv_bin(b, SpvOpIAdd, unit, x);
  SpvId limit = spv_u(b, (uint32_t)units);
  SpvId within = spv_cmp(b, SpvOpULessThan, unit, limit);
  SpvId zero =
    spv_u(b, 0); /* barriers need every invocation: those past the end repeat the first output */
  SpvId clamped = spv_select(b, within, unit, zero);
  Acc result[4];
  SpvId n = share(k, term_units, y, y_size);
  SpvId stride = spv_u(b, y_size);
  serial(r, ix_value(k->ix, clamped, units), y, stride, n, (term_units + y_size - 1) / y_size,
         result);
  across_tile(r, x_size, y_size, x, y, result);
  SpvId first = spv_cmp(b, SpvOpIEqual, y, zero);
  SpvId type = spv_bool(b);
  first = spv_pure(b, SpvOpLogicalAnd, type, first, within);
  spv_if(b, first);
  store(r, unit, result);
  spv_end(b);
}

/* ---- choice ---- */

static uint32_t power_below(int64_t n, int64_t most) {
  uint32_t p = 1;
  while (2 * (int64_t)p <= n && 2 * (int64_t)p <= most) p *= 2;
  return p;
}

void reduce_emit(Reduce *r) {
  const Target *t = r->k->target;
  int64_t units = r->outputs / r->out_width, term_units = r->terms / r->term_width;
  bool subgroups =
    t->subgroup_shuffle && t->subgroup_size >= 4 && t->subgroup_size <= t->max_invocations;
  int64_t lanes = subgroups ? t->subgroup_size : 32,
          most = t->max_invocations < 256 ? t->max_invocations : 256;
  r->k->wide = r->out_width * r->term_width == 4;
  r->k->out->flops = (double)r->outputs * (double)r->terms;
  if (r->row ? term_units < lanes : term_units < 64 || (units >= 2048 && term_units < LONG))
    emit_serial(r);
  else if (r->row && subgroups && (units >= 8 || term_units < 64 * lanes))
    emit_subgroup(r);
  else if (r->row)
    emit_tile(r, 1, power_below(term_units, most));
  else {
    uint32_t x = power_below(2 * units - 1, 32), y = power_below(term_units / 4, most / x);
    emit_tile(r, x, y);
  }
}

typedef struct Axes { /* the source's dimensions, parted */
  int n_kept, n_reduced, kept[IR_MAX_RANK], reduced[IR_MAX_RANK];
  int64_t kept_dim[IR_MAX_RANK], reduced_dim[IR_MAX_RANK];
} Axes;

static SpvId source_value(Reduce *r, const Ix *out, const Ix *term) {
  const Axes *a = r->context;
  const Ix *part[IR_MAX_RANK], *index[IR_MAX_RANK];
  ix_split(r->k->ix, out, a->n_kept, a->kept_dim, part);
  for (int i = 0; i < a->n_kept; i++) index[a->kept[i]] = part[i];
  ix_split(r->k->ix, term, a->n_reduced, a->reduced_dim, part);
  for (int i = 0; i < a->n_reduced; i++) index[a->reduced[i]] = part[i];
  return expr_value(r->k, r->k->job->out[0]->src[0], index);
}

void emit_reduce(Kernel *k) {
  const Node *root = k->job->out[0];
  const Type *x = &root->src[0]->type;
  Axes a = {0};
  Reduce r = {k, root->op, (DType)x->dtype, 1, 1, true, 1, 1, source_value, &a};
  int64_t inner = 1; /* length of the innermost dimension that is not 1 */
  for (int d = 0, next = 0; d < x->rank; d++) {
    bool reduced = next < root->n_int && root->ints[next] == d;
    if (reduced) {
      next++;
      a.reduced[a.n_reduced] = d;
      a.reduced_dim[a.n_reduced++] = x->dim[d];
      r.terms *= x->dim[d];
    } else {
      a.kept[a.n_kept] = d;
      a.kept_dim[a.n_kept++] = x->dim[d];
      r.outputs *= x->dim[d];
    }
    if (x->dim[d] == 1) continue;
    inner = x->dim[d];
    r.row = reduced;
  }
  if (inner % 4 == 0) *(r.row ? &r.term_width : &r.out_width) = 4;
  reduce_emit(&r);
}
