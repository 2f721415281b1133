/* scan: result[o, i, n] = Σ source[o, j, n] over j <= i, or j >= i in reverse. One invocation walks one line (o, n); lanes lie
 * across n. Sums of floats carry what rounding lost in a second accumulator, so a line may be of any length. */
#include "codegen/emit_math.h"

enum { LOCAL = 64 };

typedef struct Line {
  int64_t outer, length, inner;
} Line;

/* sum += x; gives the value to store */
static SpvId advance(Kernel *k, DType d, SpvId sum, SpvId rest, SpvId x) {
  Spv *b = k->b;
  SpvId s = spv_get(b, sum);
  if (d == DT_i32) {
    s = spv_bin(b, SpvOpIAdd, s, x);
    spv_set(b, sum, s);
    return s;
  }
  SpvId lost;
  s = math_two_sum(k, s, x, &lost);
  SpvId finite = math_unary(k, OP_isfinite, DT_f32, lost); /* not where the sum itself is infinite or NaN */
  SpvId zero = const_f(k, 0);
  lost = choose(k, finite, lost, zero);
  SpvId total = spv_get(b, rest);
  total = xadd(k, total, lost);
  spv_set(b, sum, s);
  spv_set(b, rest, total);
  SpvId y = xadd(k, s, total);
  return math_round(k, d, y);
}

void emit_scan(Kernel *k) {
  Spv *b = k->b;
  const Node *root = k->job->root;
  DType d = (DType)root->type.dtype;
  int axis = (int)root->ints[0];
  Line l = {1, root->type.dim[axis], 1};
  for (int i = 0; i < axis; i++) l.outer *= root->type.dim[i];
  for (int i = axis + 1; i < root->type.rank; i++) l.inner *= root->type.dim[i];
  int64_t lines = l.outer * l.inner;
  kernel_groups(k, (lines + LOCAL - 1) / LOCAL, LOCAL);
  k->out->flops = (double)type_count(&root->type);

  SpvId line = kernel_group(k);
  line = op_u(k, SpvOpIMul, line, LOCAL);
  SpvId lane = kernel_lane(k, 0);
  line = spv_bin(b, SpvOpIAdd, line, lane);
  SpvId limit = const_u(k, (uint32_t)lines);
  SpvId within = spv_cmp(b, SpvOpULessThan, line, limit);
  spv_if(b, within);
  SpvId sum = spv_local(b, kernel_element_type(k, d));
  SpvId rest = spv_local(b, kernel_element_type(k, d));
  SpvId zero = expr_const(k, d, 0);
  spv_set(b, sum, zero);
  spv_set(b, rest, zero);
  const Ix *at = ix_value(k->ix, line, lines);
  const Ix *first = ix_mul(k->ix, ix_div(k->ix, at, l.inner), l.inner * l.length);
  first = ix_add(k->ix, first, ix_mod(k->ix, at, l.inner));
  SpvId length = const_u(k, (uint32_t)l.length);
  Loop loop = kernel_loop(k, length, l.length);
  SpvId i = loop.index;
  if (root->ints[1]) {
    SpvId last = const_u(k, (uint32_t)l.length - 1);
    i = spv_bin(b, SpvOpISub, last, i);
  }
  const Ix *place = ix_add(k->ix, first, ix_mul(k->ix, ix_value(k->ix, i, l.length), l.inner));
  SpvId x = expr_at(k, root->src[0], place);
  SpvId y = advance(k, d, sum, rest, x);
  SpvId index = ix_emit(k->ix, place);
  kernel_store(k, index, 1, &y);
  kernel_loop_end(k, loop);
  spv_end(b);
}
