/* scatter_add: sum[v, c] = Σ x[i, c] over the i with ids[i] = v, in order of i; the outs are elementwise functions of it, as an
 * embedding's whole gradient where its table is used elsewhere too. Row-owner: every element is computed by one invocation, which
 * looks at all ids; no atomics, a fixed order, every element written. An invocation takes W neighbouring columns of one row at a
 * time, W = 4 where rows divide by four.
 *
 *   element    an invocation per W columns: few ids or few columns
 *   row        a workgroup per row: its members share out the ids to see whether any names the row; only then are its columns
 *              summed, else they are zero. Most rows of a large table end there.
 *   scan       subgroups that find the ids of a row together: scatter_scan.c */
#include "codegen/scatter.h"

enum { LOCAL = 64, MANY = 1 << 20 };

void scatter_add_to(Scatter *s, SpvId sum, SpvId rest, SpvId x) {
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

typedef struct Sum { /* of `width` columns of row v */
  Scatter *s;
  SpvId v, unit, sum[4], rest[4];
} Sum;

/* Adds row i of x where its id is v. */
static void add_row(void *context, SpvId number) {
  Sum *w = context;
  Scatter *s = w->s;
  Kernel *k = s->k;
  const Ix *i = ix_value(k->ix, number, s->n_id);
  SpvId id = expr_at(k, s->ids, i);
  SpvId named = spv_cmp(k->b, SpvOpIEqual, id, w->v);
  spv_if(k->b, named);
  const Ix *column = ix_mul(k->ix, ix_value(k->ix, w->unit, s->columns / s->width), s->width);
  const Ix *first = ix_add(k->ix, ix_mul(k->ix, i, s->columns), column);
  for (int c = 0; c < s->width; c++) {
    SpvId x = expr_at(k, s->x, ix_add(k->ix, first, ix_const(k->ix, c)));
    scatter_add_to(s, w->sum[c], w->rest[c], x);
  }
  spv_end(k->b);
}

SpvId scatter_total(Scatter *s, SpvId sum, SpvId rest) {
  SpvId total = spv_get(s->k->b, sum);
  if (s->type != DT_i32) {
    SpvId more = spv_get(s->k->b, rest);
    total = xadd(s->k, total, more);
  }
  return math_round(s->k, s->type, total);
}

void scatter_store(Scatter *s, SpvId v, SpvId unit, const SpvId *value) {
  Kernel *k = s->k;
  int64_t units = s->columns / s->width;
  SpvId row = op_u(k, SpvOpIMul, v, (uint32_t)units), out[CG_MAX_OUT][4];
  SpvId place = spv_bin(k->b, SpvOpIAdd, row, unit);
  const Ix *first = ix_mul(k->ix, ix_value(k->ix, place, s->rows * units), s->width);
  for (int c = 0; c < s->width; c++)
    kernel_bind(k, s->root, ix_add(k->ix, first, ix_const(k->ix, c)), value[c]);
  for (int o = 0; o < k->job->n_out; o++)
    for (int c = 0; c < s->width; c++)
      out[o][c] = expr_at(k, k->job->out[o], ix_add(k->ix, first, ix_const(k->ix, c)));
  for (int o = 0; o < k->job->n_out; o++) kernel_store(k, o, place, s->width, out[o]);
}

/* Sums columns width·unit … of row v over all ids, where `any` names the row (0: that is not known),
 * and stores them; run `times` times by a loop around it. */
static void sum_columns(Scatter *s, SpvId v, SpvId unit, SpvId any, int64_t times) {
  Kernel *k = s->k;
  Spv *b = k->b;
  Sum w = {.s = s, .v = v, .unit = unit};
  SpvId type = kernel_element_type(k, s->type), value[4];
  SpvId zero = expr_const(k, s->type, 0);
  for (int c = 0; c < s->width; c++) {
    w.sum[c] = spv_local(b, type);
    w.rest[c] = spv_local(b, type);
    spv_set(b, w.sum[c], zero);
    spv_set(b, w.rest[c], zero);
  }
  if (any) spv_if(b, any);
  SpvId n = const_u(k, (uint32_t)s->n_id);
  kernel_repeat(k, n, s->n_id, times, add_row, &w);
  if (any) spv_end(b);
  for (int c = 0; c < s->width; c++) value[c] = scatter_total(s, w.sum[c], w.rest[c]);
  scatter_store(s, v, unit, value);
}

static void emit_elements(Scatter *s) {
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
  sum_columns(s, v, unit, 0, 1);
  spv_end(b);
}

/* How many of n fall to this member of a workgroup. */
static SpvId share(Kernel *k, int64_t n) {
  SpvId lane = kernel_lane(k, 0), total = const_u(k, (uint32_t)(n + LOCAL - 1));
  total = spv_bin(k->b, SpvOpISub, total, lane);
  return op_u(k, SpvOpUDiv, total, LOCAL);
}

/* The i-th of this member's share. */
static SpvId turn(Kernel *k, SpvId i) {
  SpvId at = op_u(k, SpvOpIMul, i, LOCAL), lane = kernel_lane(k, 0);
  return spv_bin(k->b, SpvOpIAdd, at, lane);
}

/* The bitwise or of x over the workgroup, in every member. */
static SpvId any_of(Kernel *k, SpvId x) {
  Spv *b = k->b;
  SpvId type = spv_array(b, spv_u32(b), LOCAL);
  SpvId shared = spv_shared(b, type);
  SpvId any = spv_local(b, spv_u32(b));
  SpvId here = spv_at(b, shared, kernel_lane(k, 0));
  spv_set(b, here, x);
  spv_set(b, any, x);
  spv_barrier(b);
  SpvId n = const_u(k, LOCAL);
  SpvId i = spv_for(b, n);
  SpvId there = spv_at(b, shared, i);
  there = spv_get(b, there);
  SpvId sum = spv_get(b, any);
  sum = spv_bin(b, SpvOpBitwiseOr, sum, there);
  spv_set(b, any, sum);
  spv_end(b);
  return spv_get(b, any);
}

typedef struct Search {
  Scatter *s;
  SpvId v, found;
  int width; /* ids looked at together */
} Search;

static void look(void *context, SpvId i) {
  Search *w = context;
  Kernel *k = w->s->k;
  SpvId unit = turn(k, i);
  const Ix *first = ix_mul(k->ix, ix_value(k->ix, unit, w->s->n_id / w->width), w->width);
  SpvId zero = const_u(k, 0);
  SpvId one = const_u(k, 1);
  SpvId any = spv_get(k->b, w->found);
  for (int c = 0; c < w->width; c++) {
    SpvId id = expr_at(k, w->s->ids, ix_add(k->ix, first, ix_const(k->ix, c)));
    SpvId named = spv_cmp(k->b, SpvOpIEqual, id, w->v);
    SpvId more = choose(k, named, one, zero);
    any = spv_bin(k->b, SpvOpBitwiseOr, any, more);
  }
  spv_set(k->b, w->found, any);
}

/* Whether any id is v: each member looks at its share, four neighbours at once where the ids divide
 * by four. */
static SpvId any_named(Scatter *s, SpvId v) {
  Kernel *k = s->k;
  Search w = {
    .s = s, .v = v, .found = spv_local(k->b, spv_u32(k->b)), .width = s->n_id % 4 == 0 ? 4 : 1};
  SpvId zero = const_u(k, 0);
  spv_set(k->b, w.found, zero);
  int64_t units = s->n_id / w.width;
  SpvId n = share(k, units);
  kernel_repeat(k, n, (units + LOCAL - 1) / LOCAL, 1, look, &w);
  SpvId any = spv_get(k->b, w.found);
  any = any_of(k, any);
  return spv_cmp(k->b, SpvOpINotEqual, any, zero);
}

typedef struct Row {
  Scatter *s;
  SpvId v, any;
  int64_t turns; /* of a member, at most */
} Row;

static void do_unit(void *context, SpvId i) {
  Row *w = context;
  SpvId unit = turn(w->s->k, i);
  sum_columns(w->s, w->v, unit, w->any, w->turns);
}

static void emit_rows(Scatter *s) {
  Kernel *k = s->k;
  Spv *b = k->b;
  int64_t units = s->columns / s->width;
  kernel_groups(k, s->rows, LOCAL);
  SpvId v = kernel_group(k), last = const_u(k, (uint32_t)s->rows - 1);
  SpvId past = spv_cmp(b, SpvOpUGreaterThan, v, last);
  v = choose(k, past, last, v); /* barriers need all of a workgroup */
  Row w = {.s = s, .v = v, .turns = (units + LOCAL - 1) / LOCAL};
  w.any = any_named(s, v);
  SpvId exists = spv_un(b, SpvOpLogicalNot, past);
  spv_if(b, exists); /* an out may lie over what it is computed from: never twice */
  SpvId n = share(k, units);
  kernel_repeat(k, n, w.turns, 1, do_unit, &w);
  spv_end(b);
}

void emit_scatter_add(Kernel *k) {
  Node *root = k->job->anchor ? k->job->anchor : k->job->out[0];
  Scatter s = {k, root, root->src[0], root->src[1], (DType)root->type.dtype, root->type.dim[0], 1,
               1, 1};
  for (int i = 1; i < root->type.rank; i++) s.columns *= root->type.dim[i];
  s.n_id = type_count(&s.ids->type);
  s.width = s.columns % 4 == 0 ? 4 : 1;
  k->wide = true;
  int64_t units = s.columns / s.width;
  bool few = s.n_id < 16 || units < 4;
  /* by element too where a member's turns times the ids would be more iterations than loops may
   * have */
  if (!few && scatter_can_scan(&s))
    scatter_scan(&s);
  else if (few || s.n_id * (units / 8 + 1) > MANY)
    emit_elements(&s);
  else
    emit_rows(&s);
}
