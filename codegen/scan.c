/* scan: result[o, i, n] = Σ source[o, j, n] over j <= i, or j >= i in reverse. One invocation walks
 * one line (o, n); lanes lie across n. Sums of floats carry what rounding lost in a second
 * accumulator, so a line may be of any length. */
#include "codegen/emit_math.h"

enum { LOCAL = 64 };

typedef struct Line {
  Kernel *k;
  int64_t outer, length, inner;
  const Ix *first; /* of its elements */
  SpvId sum, rest; /* so far, and what rounding lost */
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
  SpvId finite =
    math_unary(k, OP_isfinite, DT_f32, lost); /* not where the sum itself is infinite or NaN */
  SpvId zero = const_f(k, 0);
  lost = choose(k, finite, lost, zero);
  SpvId total = spv_get(b, rest);
  total = xadd(k, total, lost);
  spv_set(b, sum, s);
  spv_set(b, rest, total);
  SpvId y = xadd(k, s, total);
  return math_round(k, d, y);
}

static void step(void *context, SpvId i) {
  Line *l = context;
  Kernel *k = l->k;
  Node *root = k->job->out[0];
  if (root->ints[1]) {
    SpvId last = const_u(k, (uint32_t)l->length - 1);
    i = spv_bin(k->b, SpvOpISub, last, i);
  }
  const Ix *place = ix_add(k->ix, l->first, ix_mul(k->ix, ix_value(k->ix, i, l->length), l->inner));
  SpvId x = expr_at(k, root->src[0], place);
  SpvId y = advance(k, (DType)root->type.dtype, l->sum, l->rest, x);
  SpvId index = ix_emit(k->ix, place);
  kernel_store(k, 0, index, 1, &y);
}

void emit_scan(Kernel *k) {
  Spv *b = k->b;
  const Node *root = k->job->out[0];
  DType d = (DType)root->type.dtype;
  int axis = (int)root->ints[0];
  Line l = {.k = k, .outer = 1, .length = root->type.dim[axis], .inner = 1};
  for (int i = 0; i < axis; i++) l.outer *= root->type.dim[i];
  for (int i = axis + 1; i < root->type.rank; i++) l.inner *= root->type.dim[i];
  int64_t lines = l.outer * l.inner;
  kernel_groups(k, (lines + LOCAL - 1) / LOCAL, LOCAL);

  SpvId line = kernel_group(k);
  line = op_u(k, SpvOpIMul, line, LOCAL);
  SpvId lane = kernel_lane(k, 0);
  line = spv_bin(b, SpvOpIAdd, line, lane);
  SpvId limit = const_u(k, (uint32_t)lines);
  SpvId within = spv_cmp(b, SpvOpULessThan, line, limit);
  spv_if(b, within);
  SpvId type = kernel_element_type(k, d);
  SpvId zero = expr_const(k, d, 0);
  l.sum = spv_local(b, type);
  l.rest = spv_local(b, type);
  spv_set(b, l.sum, zero);
  spv_set(b, l.rest, zero);
  const Ix *at = ix_value(k->ix, line, lines);
  l.first = ix_mul(k->ix, ix_div(k->ix, at, l.inner), l.inner * l.length);
  l.first = ix_add(k->ix, l.first, ix_mod(k->ix, at, l.inner));
  SpvId length = const_u(k, (uint32_t)l.length);
  kernel_repeat(k, length, l.length, 1, step, &l);
  spv_end(b);
}
