/* map: result[i] = expression(i) for every element i, row-major; or a copy of a stored node.
 *
 * An invocation computes U units of W elements, W = 4 where rows divide by four or nothing depends on rows. Within a workgroup
 * of 64 each subgroup covers a contiguous range, its lanes side by side (S lanes; L: lane; j = 0 … U−1):
 *
 *   unit = group·64·U + subgroup·S·U + j·S + L      element = W·unit + 0 … W−1
 *
 * The number of units and U are slots: where every operand is read at the element's own place or at a constant one,
 * no shape remains in the module, and tensors of different size share it; where sizes are no multiples of 4, the last unit is
 * stored one by one. */
#include "codegen/kernel.h"

enum { LOCAL = 64, MAX_UNITS = 8, MAX_TABLED_UNITS = 32 };

/* All outs are flat: any four neighbours do, and the last ones may be fewer. */
static bool is_flat(const KernelJob *job) {
  for (int i = 0; i < job->n_out; i++)
    if (!job->copy && !flat_value(job, job->out[i])) return false;
  return true;
}

static int width(const KernelJob *job) {
  for (int i = 0; i < job->n_out; i++) {
    const Type *t = &job->out[i]->type;
    if (type_count(t) % 4 || t->dim[t->rank - 1] % 4) return 1;
  }
  return 4;
}

/* The last unit may have fewer than four elements. */
static void store_ragged(Kernel *k, SpvId unit, SpvId whole, SpvId count, SpvId (*value)[4]) {
  Spv *b = k->b;
  SpvId full = spv_cmp(b, SpvOpULessThan, unit, whole);
  spv_if(b, full);
  for (int o = 0; o < k->job->n_out; o++) kernel_store(k, o, unit, 4, value[o]);
  spv_else(b);
  SpvId two = spv_u(b, 2);
  SpvId first = spv_bin(b, SpvOpShiftLeftLogical, unit, two);
  for (uint32_t i = 0; i < 3; i++) {
    SpvId offset = spv_u(b, i);
    SpvId at = spv_bin(b, SpvOpIAdd, first, offset);
    SpvId there = spv_cmp(b, SpvOpULessThan, at, count);
    spv_if(b, there);
    for (int o = 0; o < k->job->n_out; o++) kernel_store(k, o, at, 1, &value[o][i]);
    spv_end(b);
  }
  spv_end(b);
}

/* Before the loop: what its units need whatever the element. */
static void hoist(Kernel *k, bool flat, int64_t units, int w) {
  const Ix *unit = ix_value(k->ix, 0, units), *index[IR_MAX_RANK];
  for (int o = 0; o < k->job->n_out && !k->job->copy; o++)
    for (int i = 0; i < (flat ? 1 : w); i++) {
      Node *out = k->job->out[o];
      const Ix *at = ix_add(k->ix, ix_mul(k->ix, unit, w), ix_const(k->ix, i));
      ix_split(k->ix, at, out->type.rank, out->type.dim, index);
      if (flat)
        expr_hoist_flat(k, out);
      else
        expr_hoist(k, out, index, unit);
    }
}

void emit_map(Kernel *k) {
  Spv *b = k->b;
  const KernelJob *job = k->job;
  int64_t count = type_count(&job->out[0]->type);
  bool flat = is_flat(job), ragged = flat && (job->tabled || count % 4);
  if (job->tabled && !flat) die("codegen: %%%d has a shape, and no tabled kernel", job->out[0]->id);
  int w = flat ? 4 : width(job);
  const Target *t = k->target;
  int64_t units = (count + w - 1) / w;
  int64_t most = job->tabled && t->is_cpu ? MAX_TABLED_UNITS : MAX_UNITS;
  int64_t per_lane = units / (LOCAL * (t->is_cpu ? 64 : 16 * (int64_t)(t->cores ? t->cores : 32)));
  per_lane = per_lane < 1 ? 1 : per_lane > most ? most : per_lane;
  uint32_t lanes = t->subgroup_size ? t->subgroup_size : 32;
  if (lanes > LOCAL) lanes = LOCAL;
  kernel_groups(k, (units + LOCAL * per_lane - 1) / (LOCAL * per_lane), LOCAL);
  k->wide = w == 4;

  SpvId size = kernel_raw(k, (uint32_t)(ragged ? count : units), (uint32_t)per_lane);
  SpvId elements = spv_extract(b, size, 0), n = elements, whole = 0;
  if (ragged) {
    SpvId two = spv_u(b, 2), up = spv_u(b, 3);
    whole = spv_bin(b, SpvOpShiftRightLogical, elements, two);
    n = spv_bin(b, SpvOpIAdd, elements, up);
    n = spv_bin(b, SpvOpShiftRightLogical, n, two);
  }
  SpvId u = spv_extract(b, size, 1);
  SpvId group = kernel_group(k);
  SpvId lane = kernel_lane(k, 0);
  SpvId s = spv_u(b, lanes);
  SpvId subgroup = spv_bin(b, SpvOpUDiv, lane, s);
  SpvId in_subgroup = spv_bin(b, SpvOpUMod, lane, s);
  SpvId local = spv_u(b, LOCAL);
  SpvId start = spv_bin(b, SpvOpIMul, group, local);
  subgroup = spv_bin(b, SpvOpIMul, subgroup, s);
  start = spv_bin(b, SpvOpIAdd, start, subgroup);
  start = spv_bin(b, SpvOpIMul, start, u);
  start = spv_bin(b, SpvOpIAdd, start, in_subgroup);
  hoist(k, flat, units, w);
  SpvId j = spv_for(b, u);
  j = spv_bin(b, SpvOpIMul, j, s);
  SpvId unit = spv_bin(b, SpvOpIAdd, start, j);
  SpvId within = spv_cmp(b, SpvOpULessThan, unit, n);
  spv_if(b, within);
  const Ix *first = flat ? flat_index(k, unit) : ix_mul(k->ix, ix_value(k->ix, unit, units), w);
  SpvId value[CG_MAX_OUT][4];
  for (int o = 0; o < job->n_out; o++)
    for (int i = 0; i < w; i++) {
      const Ix *at = ix_add(k->ix, first, ix_const(k->ix, i));
      value[o][i] = flat ? expr_flat(k, job->out[o], at) : expr_at(k, job->out[o], at);
    }
  if (ragged) store_ragged(k, unit, whole, elements, value);
  for (int o = 0; o < job->n_out && !ragged; o++) kernel_store(k, o, unit, w, value[o]);
  spv_end(b);
  spv_end(b);
}
