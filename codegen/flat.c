/* flat: values that need others only at their own row-major place or at a constant one. Their
 * kernels know no shape: sizes are slots, the last four elements may be fewer, so that tensors of
 * all sizes share a kernel and an argument table.
 *
 * flat sum: result[r] = Σ_{c < L, r·L + c < n} f(r·L + c) for r < R: a long tensor, or all the gradients of a model one by one, in
 * R parts of L elements, of which the last ones may be missing. S members share a row: a subgroup on a CPU driver and where rows
 * are short, else a workgroup, of subgroups where there are such. Member m takes the units of four elements m, m + S, m + 2S, …;
 * its own sum is nested in blocks of 64 units, of 64 such blocks, and of these, so that the error hardly grows with the length:
 *
 *   row r:  | unit 0 … S−1 | S … 2S−1 | …        8 of a member's units make one turn of the innermost loop
 *
 * The order depends on L alone: the same in a kernel of its own and in a tabled one. */
#include "codegen/kernel.h"

enum {
  MAX_NODES = 256,
  MAX_ROWS = 256,
  ROW_BITS = 9,
  UNROLL = 8,
  BLOCK = 64 / UNROLL, /* turns */
  OUTER = 64 * BLOCK,  /* turns */
  MAX_TURNS = 50000,   /* of one invocation: Mesa 22.3 ends it silently after 65,535 */
  LEAST_LANES = 4,
  LOCAL = 64,
  GROUP = 128 /* members of a row on a GPU */
};

/* ---- which values are flat ---- */

typedef struct Walk {
  const KernelJob *job;
  const Node *seen[MAX_NODES];
  int n;
} Walk;

/* Something inside takes a loop of its own, which only a kernel of its shape has. */
static bool has_loop(Walk *w, const Node *n) {
  if (w->job->stored[n->id] && !cg_is_out(w->job, n)) return false;
  for (int i = 0; i < w->n; i++)
    if (w->seen[i] == n) return false;
  if (w->n == MAX_NODES || n->op == OP_matmul || n->op == OP_matmul_spans ||
      n->op == OP_scatter_add || (n->op >= OP_reduce_sum && n->op <= OP_reduce_min))
    return true;
  w->seen[w->n++] = n;
  for (int i = 0; i < n->n_src; i++)
    if (has_loop(w, n->src[i])) return true;
  return false;
}

static bool is_flat(Walk *w, const Node *n) {
  if (w->job->stored[n->id] && !cg_is_out(w->job, n)) return true;
  if (type_count(&n->type) == 1) return !has_loop(&(Walk){.job = w->job}, n);
  for (int i = 0; i < w->n; i++)
    if (w->seen[i] == n) return true; /* found so, or being looked at */
  if (w->n == MAX_NODES) return false;
  w->seen[w->n++] = n;
  if (n->op == OP_const || n->op == OP_random) return true;
  if (n->op != OP_reshape && n->op != OP_expand && !(ir_op[n->op].flags & IR_EW)) return false;
  if (n->op == OP_expand && type_count(&n->src[0]->type) != 1) return false;
  for (int i = 0; i < n->n_src; i++)
    if (!is_flat(w, n->src[i])) return false;
  return true;
}

bool flat_value(const KernelJob *job, const Node *n) {
  Walk w = {.job = job};
  return is_flat(&w, n);
}

const Ix *flat_index(Kernel *k, SpvId unit) {
  return ix_mul(k->ix, ix_value(k->ix, unit, IR_MAX_ELEMENTS / 4), 4);
}

/* ---- which sums are flat ---- */

typedef struct FlatSum {
  Node *term;             /* the value at each of … */
  int64_t n, rows, units; /* … n places; R; L / 4 */
} FlatSum;

static bool has_lengths(const Node *pad) { /* one dimension, longer at its end by zeros */
  return pad->type.rank == 1 && pad->ints[0] == 0 && pad->value == 0;
}

static bool find_sum(const KernelJob *job, FlatSum *s) {
  const Node *sum = job->out[0];
  if (job->n_out != 1 || job->copy || sum->op != OP_reduce_sum || sum->type.dtype != DT_f32)
    return false;
  const Type *t = &sum->src[0]->type;
  if (sum->n_int != 1 || sum->ints[0] != t->rank - 1) return false;
  int64_t length = t->dim[t->rank - 1];
  *s = (FlatSum){sum->src[0], type_count(t), type_count(&sum->type), length / 4};
  if (length % 4 || s->rows > MAX_ROWS || s->units > (int64_t)MAX_TURNS * UNROLL * LEAST_LANES)
    return false;
  while (s->term->op == OP_reshape && !job->stored[s->term->id]) s->term = s->term->src[0];
  if (s->term->op == OP_pad && !job->stored[s->term->id] && has_lengths(s->term)) {
    s->term = s->term->src[0];
    s->n = type_count(&s->term->type);
  }
  return flat_value(job, s->term);
}

bool flat_is_sum(const KernelJob *job) {
  FlatSum s;
  return find_sum(job, &s);
}

bool cg_can_table(const KernelJob *job) {
  if (job->runs) return false;
  if (job->copy || flat_is_sum(job)) return true;
  for (int i = 0; i < job->n_out; i++)
    if (job->anchor || !flat_value(job, job->out[i])) return false;
  return true;
}

/* ---- the kernel ---- */

typedef struct Sum {
  Kernel *k;
  FlatSum of;
  uint32_t lanes;    /* members of a row */
  uint32_t subgroup; /* how many of them shuffle; 0: none */
  SpvId row, member; /* the row, kept within what exists */
  SpvId within;      /* it does exist */
  SpvId first, end;  /* its first unit, the element where it ends */
  SpvId last;        /* the tensor's last unit */
  SpvId turns;       /* of the innermost loop, the same for all members */
  SpvId acc[3][4];   /* sums of a block, of 64 blocks, of all; by element of the unit */
} Sum;

static SpvId at_most(Spv *b, SpvId x, SpvId most) {
  SpvId less = spv_cmp(b, SpvOpULessThan, x, most);
  return spv_select(b, less, x, most);
}

static void find_place(Sum *s) {
  Kernel *k = s->k;
  Spv *b = k->b;
  const Target *t = k->target;
  bool shuffles =
    t->subgroup_shuffle && t->subgroup_size >= LEAST_LANES && t->subgroup_size <= LOCAL;
  s->subgroup = shuffles ? t->subgroup_size : 0;
  k->out->subgroup_size = s->subgroup;
  bool is_short = s->of.units < GROUP * UNROLL; /* not a turn for each of so many */
  s->lanes = !shuffles ? LOCAL : t->is_cpu || is_short ? s->subgroup : GROUP;
  while (s->lanes > t->max_invocations || (shuffles && s->lanes > s->subgroup * s->subgroup))
    s->lanes /= 2;
  uint32_t local = s->lanes > LOCAL ? s->lanes : LOCAL, rows_of_group = local / s->lanes;
  kernel_groups(k, (s->of.rows + rows_of_group - 1) / rows_of_group, local);
  SpvId size = kernel_raw(k, (uint32_t)s->of.n, (uint32_t)(s->of.units << ROW_BITS | s->of.rows));
  SpvId n = spv_extract(b, size, 0);
  SpvId shape = spv_extract(b, size, 1);
  SpvId bits = spv_u(b, ROW_BITS), mask = spv_u(b, (1 << ROW_BITS) - 1);
  SpvId rows = spv_bin(b, SpvOpBitwiseAnd, shape, mask);
  SpvId units = spv_bin(b, SpvOpShiftRightLogical, shape, bits);
  SpvId per_turn = spv_u(b, s->lanes * UNROLL), up = spv_u(b, s->lanes * UNROLL - 1);
  s->turns = spv_bin(b, SpvOpIAdd, units, up);
  s->turns = spv_bin(b, SpvOpUDiv, s->turns, per_turn);

  SpvId u32 = spv_u32(b), row = kernel_group(k);
  if (s->lanes == s->subgroup) {
    SpvId each = spv_u(b, rows_of_group);
    row = spv_bin(b, SpvOpIMul, row, each);
    SpvId subgroup = spv_builtin(b, SpvBuiltInSubgroupId, u32);
    row = spv_bin(b, SpvOpIAdd, row, subgroup);
    s->member = spv_builtin(b, SpvBuiltInSubgroupLocalInvocationId, u32);
  } else if (s->subgroup) {
    SpvId subgroup = spv_builtin(b, SpvBuiltInSubgroupId, u32), size = spv_u(b, s->subgroup);
    SpvId lane = spv_builtin(b, SpvBuiltInSubgroupLocalInvocationId, u32);
    s->member = spv_bin(b, SpvOpIMul, subgroup, size);
    s->member = spv_bin(b, SpvOpIAdd, s->member, lane);
  } else {
    s->member = kernel_lane(k, 0);
  }
  SpvId one = spv_u(b, 1), two = spv_u(b, 2);
  s->within = spv_cmp(b, SpvOpULessThan, row, rows);
  SpvId last_row = spv_bin(b, SpvOpISub, rows, one);
  s->row = at_most(b, row, last_row);
  s->first = spv_bin(b, SpvOpIMul, s->row, units);
  SpvId next = spv_bin(b, SpvOpIAdd, s->first, units);
  next = spv_bin(b, SpvOpShiftLeftLogical, next, two);
  s->end = at_most(b, next, n);
  SpvId last = spv_bin(b, SpvOpISub, n, one);
  s->last = spv_bin(b, SpvOpShiftRightLogical, last, two);
}

/* Unit `turn` · lanes + member of the row: what lies past the row's end counts as 0. */
static void add_unit(Sum *s, SpvId turn) {
  Kernel *k = s->k;
  Spv *b = k->b;
  SpvId lanes = spv_u(b, s->lanes), two = spv_u(b, 2), zero = spv_f(b, 0);
  SpvId unit = spv_bin(b, SpvOpIMul, turn, lanes);
  unit = spv_bin(b, SpvOpIAdd, unit, s->member);
  unit = spv_bin(b, SpvOpIAdd, unit, s->first);
  SpvId there = at_most(b, unit, s->last);
  SpvId element = spv_bin(b, SpvOpShiftLeftLogical, unit, two);
  const Ix *at = flat_index(k, there);
  for (int c = 0; c < 4; c++) {
    SpvId value = expr_flat(k, s->of.term, ix_add(k->ix, at, ix_const(k->ix, c)));
    SpvId offset = spv_u(b, (uint32_t)c);
    SpvId place = spv_bin(b, SpvOpIAdd, element, offset);
    SpvId counts = spv_cmp(b, SpvOpULessThan, place, s->end);
    value = spv_select(b, counts, value, zero);
    SpvId sum = spv_get(b, s->acc[0][c]);
    sum = spv_bin(b, SpvOpFAdd, sum, value);
    spv_set(b, s->acc[0][c], sum);
  }
}

static void add_turn(Sum *s, SpvId number) {
  Spv *b = s->k->b;
  SpvId each = spv_u(b, UNROLL);
  SpvId start = spv_bin(b, SpvOpIMul, number, each);
  for (uint32_t u = 0; u < UNROLL; u++) {
    SpvId step = spv_u(b, u);
    SpvId turn = spv_bin(b, SpvOpIAdd, start, step);
    add_unit(s, turn);
  }
}

static void clear(Sum *s, int level) {
  SpvId zero = spv_f(s->k->b, 0);
  for (int c = 0; c < 4; c++) spv_set(s->k->b, s->acc[level][c], zero);
}

static void pass_on(Sum *s, int level) {
  Spv *b = s->k->b;
  for (int c = 0; c < 4; c++) {
    SpvId part = spv_get(b, s->acc[level][c]);
    SpvId sum = spv_get(b, s->acc[level + 1][c]);
    sum = spv_bin(b, SpvOpFAdd, sum, part);
    spv_set(b, s->acc[level + 1][c], sum);
  }
}

/* for each block of `size` turns among n: opens a loop; gives where it starts, *count how many it
 * has. */
static SpvId for_blocks(Sum *s, SpvId n, uint32_t size, SpvId *count) {
  Spv *b = s->k->b;
  SpvId each = spv_u(b, size), up = spv_u(b, size - 1);
  SpvId blocks = spv_bin(b, SpvOpIAdd, n, up);
  blocks = spv_bin(b, SpvOpUDiv, blocks, each);
  SpvId i = spv_for(b, blocks);
  SpvId start = spv_bin(b, SpvOpIMul, i, each);
  SpvId left = spv_bin(b, SpvOpISub, n, start);
  *count = at_most(b, left, each);
  return start;
}

static void sum_member(Sum *s) {
  Spv *b = s->k->b;
  for (int level = 0; level < 3; level++)
    for (int c = 0; c < 4; c++) s->acc[level][c] = spv_local(b, spv_f32(b));
  clear(s, 2);
  SpvId n_outer, n_block;
  SpvId outer = for_blocks(s, s->turns, OUTER, &n_outer);
  clear(s, 1);
  SpvId block = for_blocks(s, n_outer, BLOCK, &n_block);
  clear(s, 0);
  SpvId start = spv_bin(b, SpvOpIAdd, outer, block);
  SpvId i = spv_for(b, n_block);
  SpvId number = spv_bin(b, SpvOpIAdd, start, i);
  add_turn(s, number);
  spv_end(b);
  pass_on(s, 0);
  spv_end(b);
  pass_on(s, 1);
  spv_end(b);
}

/* ---- the members' sums together ---- */

static SpvId across_subgroup(Sum *s, SpvId sum, uint32_t lanes) {
  Spv *b = s->k->b;
  for (uint32_t mask = 1; mask < lanes; mask *= 2) {
    SpvId other = spv_shuffle_xor(b, sum, mask);
    sum = spv_bin(b, SpvOpFAdd, sum, other);
  }
  return sum;
}

/* Each subgroup's sum goes through workgroup memory; then every subgroup adds all of them. */
static SpvId across_subgroups(Sum *s, SpvId sum) {
  Spv *b = s->k->b;
  uint32_t n = s->lanes / s->subgroup;
  SpvId shared = spv_shared(b, spv_array(b, spv_f32(b), n));
  SpvId lane = spv_builtin(b, SpvBuiltInSubgroupLocalInvocationId, spv_u32(b));
  SpvId subgroup = spv_builtin(b, SpvBuiltInSubgroupId, spv_u32(b));
  sum = across_subgroup(s, sum, s->subgroup);
  SpvId zero = spv_u(b, 0), mask = spv_u(b, n - 1);
  SpvId first = spv_cmp(b, SpvOpIEqual, lane, zero);
  spv_if(b, first);
  SpvId mine = spv_at(b, shared, subgroup);
  spv_set(b, mine, sum);
  spv_end(b);
  spv_barrier(b);
  SpvId from = spv_bin(b, SpvOpBitwiseAnd, lane, mask);
  from = spv_at(b, shared, from);
  sum = spv_get(b, from);
  return across_subgroup(s, sum, n);
}

static SpvId across_workgroup(Sum *s, SpvId sum) {
  Spv *b = s->k->b;
  SpvId shared = spv_shared(b, spv_array(b, spv_f32(b), LOCAL));
  SpvId mine = spv_at(b, shared, s->member);
  spv_set(b, mine, sum);
  for (uint32_t distance = LOCAL / 2; distance; distance /= 2) {
    spv_barrier(b);
    SpvId limit = spv_u(b, distance);
    SpvId active = spv_cmp(b, SpvOpULessThan, s->member, limit);
    spv_if(b, active);
    SpvId far = spv_bin(b, SpvOpIAdd, s->member, limit);
    SpvId other = spv_get(b, spv_at(b, shared, far));
    SpvId so_far = spv_get(b, mine);
    so_far = spv_bin(b, SpvOpFAdd, so_far, other);
    spv_set(b, mine, so_far);
    spv_end(b);
  }
  return spv_get(b, mine);
}

void emit_flat_sum(Kernel *k) {
  Spv *b = k->b;
  Sum s = {.k = k};
  if (!find_sum(k->job, &s.of)) die("codegen: %%%d is no flat sum", k->job->out[0]->id);
  find_place(&s);
  sum_member(&s);
  SpvId part[4];
  for (int c = 0; c < 4; c++) part[c] = spv_get(b, s.acc[2][c]);
  SpvId low = spv_bin(b, SpvOpFAdd, part[0], part[1]);
  SpvId high = spv_bin(b, SpvOpFAdd, part[2], part[3]);
  SpvId sum = spv_bin(b, SpvOpFAdd, low, high);
  sum = !s.subgroup             ? across_workgroup(&s, sum)
        : s.lanes == s.subgroup ? across_subgroup(&s, sum, s.lanes)
                                : across_subgroups(&s, sum);
  SpvId first = spv_cmp(b, SpvOpIEqual, s.member, spv_u(b, 0));
  first = spv_bin(b, SpvOpLogicalAnd, first, s.within);
  spv_if(b, first);
  kernel_store(k, 0, s.row, 1, &sum);
  spv_end(b);
}
