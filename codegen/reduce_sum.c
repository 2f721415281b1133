/* One member's partial results of all reductions of a level, in one loop over its units of terms.
 *
 * A member's own sum is nested in blocks of 64 (more where it is very long) with an accumulator per
 * level of nesting, so that the error hardly grows with the length. Where it has few turns, they are
 * unrolled: then the next level, and the last pass, find the values they need in registers. */
#include "codegen/reduce.h"

#include <math.h>

enum {
  BLOCK = 64,
  LONG = 20000,
  VERY_LONG = 1000000 /* units of one invocation */,
  MAX_NEST = 6,
  MAX_TURNS = 8 /* unrolled */
};

/* ---- combining ---- */

bool acc_has_index(const Reduction *d) { return d->op == OP_argmax || d->exponent; }

static Acc identity(Kernel *k, const Reduction *d) {
  bool is_int = d->type == DT_i32;
  Acc a = {0};
  if (d->exponent) return online_identity(k);
  switch (d->op) {
  case OP_reduce_sum: a.value = expr_const(k, d->type, 0); break;
  case OP_reduce_prod: a.value = expr_const(k, d->type, 1); break;
  case OP_reduce_min:
    a.value = expr_const(k, d->type, is_int ? INT32_MAX : (double)INFINITY);
    break;
  default: a.value = expr_const(k, d->type, is_int ? INT32_MIN : -(double)INFINITY);
  }
  if (acc_has_index(d)) a.index = spv_u(k->b, INT32_MAX);
  return a;
}

/* The larger; NaN is largest of all; of equals the one with the smaller index. */
static Acc combine_arg(Kernel *k, const Reduction *d, Acc x, Acc y) {
  Spv *b = k->b;
  SpvId type = spv_bool(b);
  SpvId better = math_binary(k, OP_gt, d->type, y.value, x.value);
  SpvId equal = math_binary(k, OP_eq, d->type, y.value, x.value);
  if (d->type != DT_i32) {
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

Acc acc_combine(Kernel *k, const Reduction *d, Acc x, Acc y) {
  if (d->exponent) return online_combine(k, x, y);
  if (acc_has_index(d)) return combine_arg(k, d, x, y);
  Op op = d->op == OP_reduce_sum    ? OP_add
          : d->op == OP_reduce_prod ? OP_mul
          : d->op == OP_reduce_max  ? OP_max
                                    : OP_min;
  DType type = d->type == DT_i32 ? DT_i32 : DT_f32; /* partial results are not rounded to 16 bits */
  return (Acc){math_binary(k, op, type, x.value, y.value), 0};
}

/* Four neighbouring terms' partial results become one, in result[0]. */
static void join_terms(Reduce *r, const Reduction *d, Acc *result) {
  for (int step = 1; step < r->term_width; step *= 2)
    for (int c = 0; c + step < r->term_width; c += 2 * step)
      result[c] = acc_combine(r->k, d, result[c], result[c + step]);
}

/* ---- accumulators in variables ---- */

static Acc variable(Kernel *k, const Reduction *d) {
  Acc a = {0};
  a.value = spv_local(k->b, kernel_element_type(k, d->type));
  if (acc_has_index(d)) a.index = spv_local(k->b, spv_u32(k->b));
  return a;
}

static Acc get(Kernel *k, const Reduction *d, Acc v) {
  Acc a = {0};
  a.value = spv_get(k->b, v.value);
  if (acc_has_index(d)) a.index = spv_get(k->b, v.index);
  return a;
}

static void set(Kernel *k, const Reduction *d, Acc v, Acc a) {
  spv_set(k->b, v.value, a.value);
  if (acc_has_index(d)) spv_set(k->b, v.index, a.index);
}

static void add(Kernel *k, const Reduction *d, Acc v, Acc more) {
  Acc a = get(k, d, v);
  a = acc_combine(k, d, a, more);
  set(k, d, v, a);
}

/* ---- terms ---- */

typedef struct Sum {
  Reduce *r;
  Team *team;
  const Ix *out;        /* its unit of outputs */
  int level, width;     /* of the reductions; accumulators of each */
  SpvId block;          /* the turn where the innermost block starts */
  int64_t size, blocks; /* of the innermost ones: turns, how many at most */
  Acc nest[MAX_NEST][REDUCE_MAX][REDUCE_WIDTH];
} Sum;

/* Which output and term: c of the unit of terms, or of the unit of outputs. */
static const Ix *place(Sum *s, const Ix *unit, int c, const Ix **out) {
  Reduce *r = s->r;
  IxTable *t = r->k->ix;
  const Ix *offset = ix_const(t, c);
  bool outs = r->out_width > 1;
  *out = outs ? ix_add(t, ix_mul(t, s->out, r->out_width), offset) : s->out;
  return outs ? unit : ix_add(t, ix_mul(t, unit, r->term_width), offset);
}

static Acc term(Sum *s, const Reduction *d, const Ix *unit, int c) {
  Reduce *r = s->r;
  const Ix *out, *x = place(s, unit, c, &out);
  Acc a = {0};
  SpvId exponent = 0;
  a.value = r->value(r, d, out, x, &exponent);
  if (d->exponent) return online_term(r->k, exponent, a.value);
  if (acc_has_index(d)) a.index = ix_emit(r->k->ix, x);
  return a;
}

static bool takes_part(const Sum *s, int i) { return s->r->of[i].level == s->level; }

/* ---- unrolled ---- */

int64_t sum_turns(const Reduce *r, const Team *t) {
  int64_t units = r->terms / r->term_width;
  return (units + t->size - 1) / t->size;
}

bool sum_unrolled(const Reduce *r, const Team *t) { return sum_turns(r, t) <= MAX_TURNS; }

/* Members past the end repeat the last unit: what they load exists, what they find is not used. */
const Ix *sum_unit(Reduce *r, Team *t, int i, SpvId *exists) {
  Spv *b = r->k->b;
  int64_t units = r->terms / r->term_width;
  SpvId turn = spv_u(b, (uint32_t)i);
  SpvId unit = team_turn(t, r, turn);
  *exists = 0;
  if ((i + 1) * (int64_t)t->size > units) {
    SpvId last = spv_u(b, (uint32_t)units - 1);
    SpvId past = spv_cmp(b, SpvOpUGreaterThan, unit, last);
    *exists = spv_un(b, SpvOpLogicalNot, past);
    unit = spv_select(b, past, last, unit);
  }
  return ix_value(r->k->ix, unit, units);
}

static void sum_unrolled_level(Sum *s, Acc (*result)[REDUCE_WIDTH]) {
  Reduce *r = s->r;
  Kernel *k = r->k;
  for (int turn = 0; turn < sum_turns(r, s->team); turn++) {
    SpvId exists;
    const Ix *unit = sum_unit(r, s->team, turn, &exists);
    for (int i = 0; i < r->n; i++) {
      const Reduction *d = &r->of[i];
      for (int c = 0; takes_part(s, i) && c < s->width; c++) {
        Acc a = term(s, d, unit, c), none = identity(k, d);
        if (exists) a.value = spv_select(k->b, exists, a.value, none.value);
        if (exists && a.index) a.index = spv_select(k->b, exists, a.index, none.index);
        result[i][c] = turn ? acc_combine(k, d, result[i][c], a) : a;
      }
    }
  }
}

/* ---- loops ---- */

/* Adds the terms of a unit to the innermost accumulators. Online sums of one row are relative to the same. */
static void add_terms(Sum *s, int d, const Acc *a) {
  Reduce *r = s->r;
  const Reduction *of = &r->of[d];
  int together = r->out_width == 1 ? s->width : 1;
  for (int c = 0; c < s->width; c += of->exponent ? together : 1) {
    if (of->exponent)
      online_add(r->k, together, &s->nest[0][d][c], &a[c]);
    else
      add(r->k, of, s->nest[0][d][c], a[c]);
  }
}

/* Adds the unit of turn `number` of the block to the innermost accumulators. */
static void add_turn(void *context, SpvId number) {
  Sum *s = context;
  Reduce *r = s->r;
  SpvId i = spv_bin(r->k->b, SpvOpIAdd, s->block, number);
  i = team_turn(s->team, r, i);
  const Ix *unit = ix_value(r->k->ix, i, r->terms / r->term_width);
  for (int d = 0; d < r->n; d++) {
    Acc a[REDUCE_WIDTH];
    for (int c = 0; takes_part(s, d) && c < s->width; c++) a[c] = term(s, &r->of[d], unit, c);
    if (takes_part(s, d)) add_terms(s, d, a);
  }
}

/* Adds turns start … start + n − 1 to the accumulators of `nest`; n <= bound. */
static void add_block(Sum *s, int nest, SpvId start, SpvId n, int64_t bound) {
  Reduce *r = s->r;
  Kernel *k = r->k;
  Spv *b = k->b;
  for (int d = 0; d < r->n; d++)
    for (int c = 0; takes_part(s, d) && c < s->width; c++) {
      s->nest[nest][d][c] = variable(k, &r->of[d]);
      set(k, &r->of[d], s->nest[nest][d][c], identity(k, &r->of[d]));
    }
  if (nest == 0) {
    s->block = start;
    kernel_repeat(k, n, bound, s->blocks, add_turn, s);
    return;
  }
  int64_t size = s->size;
  for (int i = 1; i < nest; i++) size *= BLOCK;
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
  add_block(s, nest - 1, from, left, size);
  for (int d = 0; d < r->n; d++)
    for (int c = 0; takes_part(s, d) && c < s->width; c++) {
      Acc part = get(k, &r->of[d], s->nest[nest - 1][d][c]);
      add(k, &r->of[d], s->nest[nest][d][c], part);
    }
  spv_end(b);
}

static bool has_sums(const Sum *s) {
  for (int i = 0; i < s->r->n; i++) {
    Op op = s->r->of[i].op;
    if (takes_part(s, i) && (op == OP_reduce_sum || op == OP_reduce_prod)) return true;
  }
  return false;
}

const Ix *sum_any_unit(const Reduce *r) { return ix_value(r->k->ix, 0, r->terms / r->term_width); }

static void hoist_terms(Sum *s) {
  Reduce *r = s->r;
  const Ix *any = sum_any_unit(r), *out;
  for (int i = 0; r->hoist && i < r->n; i++)
    for (int c = 0; takes_part(s, i) && c < s->width; c++) {
      const Ix *x = place(s, any, c, &out);
      r->hoist(r, &r->of[i], out, x, any);
    }
}

static void sum_loops(Sum *s, Acc (*result)[REDUCE_WIDTH]) {
  Reduce *r = s->r;
  hoist_terms(s);
  int nest = 0;
  bool sums = has_sums(s);
  int64_t bound = sum_turns(r, s->team);
  s->size = bound > VERY_LONG ? 16 * BLOCK
            : bound > LONG    ? 4 * BLOCK
                              : BLOCK; /* fewer innermost loops, unrolled further */
  for (int64_t left = bound, size = s->size; sums && left > 2 * size; size = BLOCK) {
    left = (left + size - 1) / size;
    nest++;
  }
  /* every level and the last pass has such loops */
  s->blocks = (nest ? (bound + s->size - 1) / s->size : 1) * (r->levels + 1);
  SpvId n = team_share(s->team, r, r->terms / r->term_width);
  SpvId zero = spv_u(r->k->b, 0);
  add_block(s, nest, zero, n, bound);
  for (int d = 0; d < r->n; d++)
    for (int c = 0; takes_part(s, d) && c < s->width; c++)
      result[d][c] = get(r->k, &r->of[d], s->nest[nest][d][c]);
}

void sum_level(Reduce *r, Team *t, int level, Acc (*result)[REDUCE_WIDTH]) {
  Sum s = {.r = r, .team = t, .level = level, .width = r->out_width * r->term_width};
  s.out = ix_value(r->k->ix, t->unit, r->outputs / r->out_width);
  if (sum_unrolled(r, t))
    sum_unrolled_level(&s, result);
  else
    sum_loops(&s, result);
  for (int i = 0; i < r->n; i++)
    if (takes_part(&s, i)) join_terms(r, &r->of[i], result[i]);
}
