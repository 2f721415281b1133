/* map: result[i] = expression(i) for every element i, row-major; or a copy of a stored node.
 *
 * An invocation computes U units of W elements, W = 4 where rows divide by four. Within a workgroup of 64 each subgroup covers
 * a contiguous range, its lanes side by side (S lanes; L: lane; j = 0 … U−1):
 *
 *   unit = group·64·U + subgroup·S·U + j·S + L      element = W·unit + 0 … W−1
 *
 * The number of units and U are push constants: where every operand is read at the element's own place or at a constant one,
 * no shape remains in the module, and tensors of different size share it. */
#include "codegen/kernel.h"

enum { LOCAL = 64, MAX_UNITS = 8 };

/* Whether the value at a row-major position needs other values only at that position or at a
 * constant one. */
static bool is_flat(const Kernel *k, const Node *n) {
  if (type_count(&n->type) == 1) return true;
  if (k->job->stored[n->id] && !cg_is_out(k->job, n)) return true;
  if (n->op == OP_const || n->op == OP_random) return true;
  if (n->op != OP_reshape && n->op != OP_expand && !(ir_op[n->op].flags & IR_EW)) return false;
  if (n->op == OP_expand && type_count(&n->src[0]->type) != 1) return false;
  for (int i = 0; i < n->n_src; i++)
    if (!is_flat(k, n->src[i])) return false;
  return true;
}

/* is_flat walks a tree; where the expression is a large graph with sharing that would take
 * forever. */
static bool is_small(const Node *n, int *budget) {
  if (--*budget < 0) return false;
  for (int i = 0; i < n->n_src; i++)
    if (!is_small(n->src[i], budget)) return false;
  return true;
}

static int width(const Kernel *k) {
  int budget = 1000;
  for (int i = 0; i < k->job->n_out; i++) {
    const Node *out = k->job->out[i];
    const Type *t = &out->type;
    if (type_count(t) % 4 != 0) return 1;
    if (t->dim[t->rank - 1] % 4 == 0) continue;
    if (!k->job->copy && !(is_small(out, &budget) && is_flat(k, out))) return 1;
  }
  return 4;
}

void emit_map(Kernel *k) {
  Spv *b = k->b;
  int w = width(k);
  int64_t units = type_count(&k->job->out[0]->type) / w;
  int64_t per_lane = units / (LOCAL * 64);
  per_lane = per_lane < 1 ? 1 : per_lane > MAX_UNITS ? MAX_UNITS : per_lane;
  uint32_t lanes = k->target->subgroup_size ? k->target->subgroup_size : 32;
  if (lanes > LOCAL) lanes = LOCAL;
  kernel_groups(k, (units + LOCAL * per_lane - 1) / (LOCAL * per_lane), LOCAL);
  k->wide = w == 4;

  SpvId size = kernel_raw(k, (uint32_t)units, (uint32_t)per_lane);
  SpvId n = spv_extract(b, size, 0);
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
  SpvId j = spv_for(b, u);
  j = spv_bin(b, SpvOpIMul, j, s);
  SpvId unit = spv_bin(b, SpvOpIAdd, start, j);
  SpvId within = spv_cmp(b, SpvOpULessThan, unit, n);
  spv_if(b, within);
  const Ix *first = ix_mul(k->ix, ix_value(k->ix, unit, units), w);
  SpvId value[CG_MAX_OUT][4];
  for (int o = 0; o < k->job->n_out; o++)
    for (int i = 0; i < w; i++)
      value[o][i] = expr_at(k, k->job->out[o], ix_add(k->ix, first, ix_const(k->ix, i)));
  for (int o = 0; o < k->job->n_out; o++) kernel_store(k, o, unit, w, value[o]);
  spv_end(b);
  spv_end(b);
  k->out->flops = (double)type_count(&k->job->out[0]->type) * k->job->n_out;
}
