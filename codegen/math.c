/* Operations on values of a type: what the instruction set has, with NaN, overflow and 16-bit
 * rounding as ops.def says. */
#include "codegen/emit_math.h"

#include <math.h>

SpvId math_add_c(Kernel *k, SpvId x, float c) {
  SpvId y = const_f(k, c);
  return add_f(k, x, y);
}

SpvId math_mul_c(Kernel *k, SpvId x, float c) {
  SpvId y = const_f(k, c);
  return mul_f(k, x, y);
}

SpvId math_poly(Kernel *k, SpvId x, int n, const float *coef) {
  SpvId sum = const_f(k, coef[n - 1]);
  for (int i = n - 2; i >= 0; i--) {
    SpvId c = const_f(k, coef[i]);
    sum = spv_fma(k->b, sum, x, c);
  }
  return sum;
}

/* Knuth's two-sum: no order of magnitudes needed. */
SpvId math_two_sum(Kernel *k, SpvId s, SpvId x, SpvId *lost) {
  SpvId sum = xadd(k, s, x);
  SpvId x2 = xsub(k, sum, s);
  SpvId s2 = xsub(k, sum, x2);
  SpvId dx = xsub(k, x, x2);
  SpvId ds = xsub(k, s, s2);
  *lost = xadd(k, ds, dx);
  return sum;
}

/* By the bits: drivers may assume that no float is NaN. */
SpvId math_is_nan(Kernel *k, SpvId x) {
  SpvId bits = as_bits(k, x);
  bits = op_u(k, SpvOpBitwiseAnd, bits, 0x7fffffff);
  SpvId inf = const_u(k, 0x7f800000);
  return spv_cmp(k->b, SpvOpUGreaterThan, bits, inf);
}

static SpvId is_finite(Kernel *k, SpvId x) {
  SpvId bits = as_bits(k, x);
  bits = op_u(k, SpvOpBitwiseAnd, bits, 0x7f800000);
  SpvId inf = const_u(k, 0x7f800000);
  return spv_cmp(k->b, SpvOpINotEqual, bits, inf);
}

/* ---- 16-bit types ---- */

/* Half a unit of the bits above the low `bits` is added, less one in the last place where they are even: what stands above
 * them is then the nearest value, even where two are. A carry may run into the exponent, which is right. */
static SpvId add_half(Kernel *k, SpvId x, int bits) {
  SpvId u = as_bits(k, x);
  SpvId odd = op_u(k, SpvOpShiftRightLogical, u, (uint32_t)bits);
  odd = op_u(k, SpvOpBitwiseAnd, odd, 1);
  odd = op_u(k, SpvOpIAdd, odd, (1u << (bits - 1)) - 1);
  return spv_bin(k->b, SpvOpIAdd, u, odd);
}

static SpvId clear_low(Kernel *k, SpvId u, int bits) {
  u = op_u(k, SpvOpBitwiseAnd, u, ~((1u << bits) - 1));
  return as_float(k, u);
}

static SpvId with_sign(Kernel *k, SpvId magnitude, SpvId sign_of) {
  SpvId m = as_bits(k, magnitude);
  SpvId s = as_bits(k, sign_of);
  s = op_u(k, SpvOpBitwiseAnd, s, 0x80000000u);
  m = spv_bin(k->b, SpvOpBitwiseOr, m, s);
  return as_float(k, m);
}

static SpvId round_f16(Kernel *k, SpvId x) {
  SpvId a = abs_f(k, x);
  SpvId r = add_half(k, a, 13);
  r = clear_low(k, r, 13);
  SpvId half = const_f(k, 0.5f); /* its unit in the last place is 2^-24, that of f16's subnormals */
  SpvId tiny = xadd(k, a, half);
  tiny = xsub(k, tiny, half);
  SpvId least = const_f(k, 0x1p-14f);
  SpvId is_tiny = less_f(k, a, least);
  r = choose(k, is_tiny, tiny, r);
  SpvId most = const_f(k, 65504);
  SpvId over = less_f(k, most, r);
  SpvId inf = const_f(k, INFINITY);
  r = choose(k, over, inf, r);
  return with_sign(k, r, x);
}

/* The same for bf16 by multiply-adds: bits are dear where arithmetic is not (an H100 has half as many units for them), and
 * infinities and NaN stay what they are. For a value of exponent e and last bit o (of the upper half) the two masks leave
 * p = 2^e and q = 2^e·(1 + o/2^7):
 *
 *   x + 2^-16·q + (2^-8 − 2^-23 − 2^-16)·p = x + 2^e·(2^-8 − 2^-23 + o·2^-23)
 *
 * Each product and each sum is exact, or passes 2^(e + 1), which is then the nearest value. (A driver that rounds products by
 * themselves may lose those of values below 2^-110: then the low half is cut off.) The low half goes last: where the value is
 * only stored that takes no instruction. */
static SpvId round_bf16(Kernel *k, SpvId x) {
  SpvId u = as_bits(k, x);
  SpvId power = op_u(k, SpvOpBitwiseAnd, u, 0xff800000u);
  SpvId odd = op_u(k, SpvOpBitwiseAnd, u, 0xff810000u);
  power = as_float(k, power);
  odd = as_float(k, odd);
  SpvId less = const_f(k, 0x1p-16f), half = const_f(k, 0x1p-8f - 0x1p-23f - 0x1p-16f);
  SpvId sum = spv_fma(k->b, odd, less, x);
  sum = spv_fma(k->b, power, half, sum);
  u = as_bits(k, sum);
  return clear_low(k, u, 16);
}

SpvId math_round(Kernel *k, DType d, SpvId x) {
  if (d == DT_bf16) return round_bf16(k, x);
  if (d != DT_f16) return x;
  SpvId nan = math_is_nan(k, x);
  SpvId quiet = const_f(k, NAN);
  SpvId r = round_f16(k, x);
  return choose(k, nan, quiet, r);
}

/* ---- casts ---- */

static SpvId to_i32(Kernel *k, SpvId x) {
  SpvId type = spv_u32(k->b);
  SpvId high = const_f(k, 0x1p31f);
  SpvId low = const_f(k, -0x1p31f);
  SpvId zero = const_f(k, 0);
  SpvId above = spv_cmp(k->b, SpvOpFOrdGreaterThanEqual, x, high);
  SpvId below = less_f(k, x, low);
  SpvId nan = math_is_nan(k, x);
  SpvId out = either(k, above, below);
  out = either(k, out, nan);
  x = choose(k, out, zero, x); /* the conversion is undefined outside */
  SpvId i = spv_pure(k->b, SpvOpConvertFToS, type, x);
  SpvId max = const_u(k, INT32_MAX);
  SpvId min = const_u(k, 0x80000000u);
  i = choose(k, above, max, i);
  return choose(k, below, min, i);
}

SpvId math_cast(Kernel *k, DType to, DType from, SpvId x) {
  if (to == from) return x;
  if (from == DT_bool) {
    SpvId one = expr_const(k, to, 1);
    SpvId zero = expr_const(k, to, 0);
    return choose(k, x, one, zero);
  }
  if (to == DT_bool) {
    SpvId zero = expr_const(k, from, 0);
    return spv_cmp(k->b, from == DT_i32 ? SpvOpINotEqual : SpvOpFUnordNotEqual, x, zero);
  }
  if (to == DT_i32) return to_i32(k, x);
  if (from == DT_i32) {
    SpvId type = spv_f32(k->b);
    x = spv_pure(k->b, SpvOpConvertSToF, type, x);
  }
  return math_round(k, to, x);
}

/* ---- one source ---- */

static SpvId integer_unary(Kernel *k, Op op, SpvId x) {
  SpvId zero = const_u(k, 0);
  SpvId negative = spv_cmp(k->b, SpvOpSLessThan, x, zero);
  if (op == OP_neg) return spv_un(k->b, SpvOpSNegate, x);
  if (op == OP_relu) return choose(k, negative, zero, x);
  if (op == OP_stop_gradient) return x;
  if (op == OP_abs) {
    SpvId minus = spv_un(k->b, SpvOpSNegate, x);
    return choose(k, negative, minus, x);
  }
  if (op != OP_sign) die("codegen: %s of integers", ir_op[op].name);
  SpvId positive = spv_cmp(k->b, SpvOpSGreaterThan, x, zero);
  SpvId one = const_u(k, 1);
  SpvId minus = const_u(k, (uint32_t)-1);
  SpvId s = choose(k, positive, one, zero);
  return choose(k, negative, minus, s);
}

static SpvId sign(Kernel *k, SpvId x) {
  SpvId zero = const_f(k, 0);
  SpvId one = const_f(k, 1);
  SpvId minus = const_f(k, -1);
  SpvId positive = less_f(k, zero, x);
  SpvId negative = less_f(k, x, zero);
  SpvId s = choose(k, positive, one, zero);
  return choose(k, negative, minus, s);
}

/* 0 where x is negative. By the bits, from the least negative number to −∞: a driver may turn a
 * comparison of floats into max, which loses NaN. */
static SpvId relu(Kernel *k, SpvId x) {
  SpvId bits = as_bits(k, x);
  bits = op_u(k, SpvOpISub, bits, 0x80000001u);
  SpvId count = const_u(k, 0x7f800000);
  SpvId negative = spv_cmp(k->b, SpvOpULessThan, bits, count);
  SpvId zero = const_f(k, 0);
  return choose(k, negative, zero, x);
}

static SpvId reciprocal(Kernel *k, SpvId x) {
  SpvId one = const_f(k, 1);
  return div_f(k, one, x);
}

static SpvId float_unary(Kernel *k, Op op, SpvId x) {
  Spv *b = k->b;
  switch (op) {
  case OP_neg: return neg_f(k, x);
  case OP_abs: return abs_f(k, x);
  case OP_sign: return sign(k, x);
  case OP_exp: return math_exp(k, x);
  case OP_expm1: return math_expm1(k, x);
  case OP_log: return math_log(k, x);
  case OP_log1p: return math_log1p(k, x);
  case OP_sqrt: return spv_glsl(b, GLSLstd450Sqrt, x);
  case OP_rsqrt: x = spv_glsl(b, GLSLstd450Sqrt, x); return reciprocal(k, x);
  case OP_sin: return math_sin_cos(k, x, false);
  case OP_cos: return math_sin_cos(k, x, true);
  case OP_tanh: return math_tanh(k, x);
  case OP_sigmoid:
    x = neg_f(k, x);
    x = math_exp(k, x);
    x = math_add_c(k, x, 1);
    return reciprocal(k, x);
  case OP_erf: return math_erf(k, x);
  case OP_erfc: return math_erfc(k, x);
  case OP_relu: return relu(k, x);
  case OP_floor: return spv_glsl(b, GLSLstd450Floor, x);
  case OP_ceil: return spv_glsl(b, GLSLstd450Ceil, x);
  case OP_round: return round_f(k, x);
  case OP_stop_gradient: return x;
  default: die("codegen: no emitter for %s", ir_op[op].name);
  }
}

/* The result has as few bits as the source, or is one of few values. */
static bool needs_no_rounding(Op op) {
  return op == OP_neg || op == OP_abs || op == OP_sign || op == OP_relu || op == OP_floor ||
         op == OP_ceil || op == OP_round || op == OP_stop_gradient || op == OP_min || op == OP_max;
}

SpvId math_unary(Kernel *k, Op op, DType d, SpvId x) {
  if (op == OP_isfinite) return is_finite(k, x);
  if (d == DT_bool) return op == OP_not ? spv_un(k->b, SpvOpLogicalNot, x) : x;
  if (d == DT_i32) return integer_unary(k, op, x);
  x = float_unary(k, op, x);
  return needs_no_rounding(op) ? x : math_round(k, d, x);
}

/* ---- two sources ---- */

static SpvId compare(Kernel *k, Op op, DType d, SpvId x, SpvId y) {
  static const SpvOp table[][3] = {
    /* bool                  i32                      floats; eq false and ne true where one is
     * NaN */
    {SpvOpLogicalEqual, SpvOpIEqual, SpvOpFOrdEqual},
    {SpvOpLogicalNotEqual, SpvOpINotEqual, SpvOpFUnordNotEqual},
    {SpvOpULessThan, SpvOpSLessThan, SpvOpFOrdLessThan},
    {SpvOpULessThanEqual, SpvOpSLessThanEqual, SpvOpFOrdLessThanEqual},
    {SpvOpUGreaterThan, SpvOpSGreaterThan, SpvOpFOrdGreaterThan},
    {SpvOpUGreaterThanEqual, SpvOpSGreaterThanEqual, SpvOpFOrdGreaterThanEqual},
  };
  if (d == DT_bool && op != OP_eq && op != OP_ne) { /* false < true */
    x = kernel_to_memory(k, d, x);
    y = kernel_to_memory(k, d, y);
  }
  return spv_cmp(k->b, table[op - OP_eq][d == DT_bool ? 0 : d == DT_i32 ? 1 : 2], x, y);
}

/* x − y·⌊x/y⌋ from the remainder with the sign of x; 0 for y = 0, where the division is
 * undefined. */
static SpvId integer_mod(Kernel *k, SpvId x, SpvId y) {
  Spv *b = k->b;
  SpvId zero = const_u(k, 0);
  SpvId one = const_u(k, 1);
  SpvId y_zero = spv_cmp(b, SpvOpIEqual, y, zero);
  SpvId y_minus = op_u(k, SpvOpIAdd, y, 1);
  y_minus = spv_cmp(b, SpvOpIEqual, y_minus, zero); /* x mod −1 = 0; the division may overflow */
  SpvId trivial = either(k, y_zero, y_minus);
  SpvId divisor = choose(k, trivial, one, y);
  SpvId quotient = spv_bin(b, SpvOpSDiv, x, divisor);
  SpvId product = spv_bin(b, SpvOpIMul, quotient, divisor);
  SpvId r = spv_bin(b, SpvOpISub, x, product);
  SpvId other_sign = spv_bin(b, SpvOpBitwiseXor, r, divisor);
  other_sign = spv_cmp(b, SpvOpSLessThan, other_sign, zero);
  SpvId nonzero = spv_cmp(b, SpvOpINotEqual, r, zero);
  SpvId fix = both(k, other_sign, nonzero);
  SpvId fixed = spv_bin(b, SpvOpIAdd, r, divisor);
  return choose(k, fix, fixed, r);
}

static SpvId integer_binary(Kernel *k, Op op, SpvId x, SpvId y) {
  Spv *b = k->b;
  switch (op) {
  case OP_add: return spv_bin(b, SpvOpIAdd, x, y);
  case OP_sub: return spv_bin(b, SpvOpISub, x, y);
  case OP_mul: return spv_bin(b, SpvOpIMul, x, y);
  case OP_mod: return integer_mod(k, x, y);
  case OP_min:
  case OP_max: {
    SpvId first = spv_cmp(b, op == OP_min ? SpvOpSLessThan : SpvOpSGreaterThan, x, y);
    return choose(k, first, x, y);
  }
  default: die("codegen: %s of integers", ir_op[op].name);
  }
}

/* FMin and FMax say nothing of NaN, and drivers make them of a comparison and a choice: both sources
 * are tested by their bits. */
static SpvId float_min_max(Kernel *k, Op op, SpvId x, SpvId y) {
  SpvId first = spv_cmp(k->b, op == OP_min ? SpvOpFOrdLessThan : SpvOpFOrdGreaterThan, x, y);
  SpvId x_nan = math_is_nan(k, x);
  SpvId y_nan = math_is_nan(k, y);
  first = either(k, first, x_nan);
  SpvId r = choose(k, first, x, y);
  return choose(k, y_nan, y, r);
}

/* Vulkan leaves division by more than 2^126 undefined; a quarter of both is the same quotient. */
static void scale_quotient(Kernel *k, SpvId *x, SpvId *y) {
  SpvId limit = const_f(k, 0x1p125f);
  SpvId quarter = const_f(k, 0.25f);
  SpvId one = const_f(k, 1);
  SpvId a = abs_f(k, *y);
  SpvId large = less_f(k, limit, a);
  SpvId scale = choose(k, large, quarter, one);
  *x = mul_f(k, *x, scale);
  *y = mul_f(k, *y, scale);
}

static SpvId divide(Kernel *k, SpvId x, SpvId y) {
  scale_quotient(k, &x, &y);
  return div_f(k, x, y);
}

/* x − x and x / x, which drivers make 0 and 1 even where x is infinite or NaN. */
static SpvId with_itself(Kernel *k, Op op, SpvId x) {
  SpvId regular = is_finite(k, x);
  if (op == OP_div) {
    SpvId zero = const_f(k, 0);
    SpvId nonzero = spv_cmp(k->b, SpvOpFUnordNotEqual, x, zero);
    regular = both(k, regular, nonzero);
  }
  SpvId result = const_f(k, op == OP_div);
  SpvId nan = const_f(k, NAN);
  return choose(k, regular, result, nan);
}

static SpvId float_binary(Kernel *k, Op op, SpvId x, SpvId y) {
  bool strict = k->target->strict;
  if (x == y && (op == OP_sub || op == OP_div)) return with_itself(k, op, x);
  switch (op) {
  case OP_add: return strict ? xadd(k, x, y) : add_f(k, x, y);
  case OP_sub: return strict ? xsub(k, x, y) : sub_f(k, x, y);
  case OP_mul: return strict ? xmul(k, x, y) : mul_f(k, x, y);
  case OP_div: return divide(k, x, y);
  case OP_pow: return math_pow(k, x, y);
  case OP_mod: return math_mod(k, x, y);
  case OP_min:
  case OP_max: return float_min_max(k, op, x, y);
  default: die("codegen: no emitter for %s", ir_op[op].name);
  }
}

SpvId math_divide_many(Kernel *k, DType d, SpvId x, SpvId y) {
  if (x == y) return with_itself(k, OP_div, x);
  scale_quotient(k, &x, &y);
  SpvId inverse = reciprocal(k, y);
  x = mul_f(k, x, inverse);
  return math_round(k, d, x);
}

SpvId math_binary(Kernel *k, Op op, DType d, SpvId x, SpvId y) {
  if (op >= OP_eq && op <= OP_ge) return compare(k, op, d, x, y);
  if (op == OP_and) return both(k, x, y);
  if (op == OP_or) return either(k, x, y);
  if (d == DT_i32) return integer_binary(k, op, x, y);
  x = float_binary(k, op, x, y);
  return needs_no_rounding(op) ? x : math_round(k, d, x);
}

/* ---- random ---- */

/* c = hi:lo of m · x */
static SpvId multiply_wide(Kernel *k, uint32_t m, SpvId x, SpvId *low) {
  Spv *b = k->b;
  SpvId u32 = spv_u32(b);
  SpvId pair_type = spv_pair(b, u32);
  SpvId factor = const_u(k, m);
  SpvId pair = spv_pure(b, SpvOpUMulExtended, pair_type, factor, x);
  *low = spv_extract(b, pair, 0);
  return spv_extract(b, pair, 1);
}

/* Philox 4x32-10, counter {index / 4, place, step, micro-batch}, key {seed low, seed high}; word
 * index mod 4, its upper 24 bits. */
SpvId math_uniform(Kernel *k, SpvId index, SpvId place, const SpvId rng[4]) {
  Spv *b = k->b;
  SpvId c[4], key[2] = {rng[0], rng[1]};
  c[0] = op_u(k, SpvOpShiftRightLogical, index, 2);
  c[1] = place;
  c[2] = rng[2];
  c[3] = rng[3];
  for (int round = 0; round < 10; round++) {
    SpvId low0, low1;
    SpvId high0 = multiply_wide(k, 0xD2511F53u, c[0], &low0);
    SpvId high1 = multiply_wide(k, 0xCD9E8D57u, c[2], &low1);
    SpvId n0 = spv_bin(b, SpvOpBitwiseXor, high1, c[1]);
    n0 = spv_bin(b, SpvOpBitwiseXor, n0, key[0]);
    SpvId n2 = spv_bin(b, SpvOpBitwiseXor, high0, c[3]);
    n2 = spv_bin(b, SpvOpBitwiseXor, n2, key[1]);
    c[0] = n0, c[1] = low1, c[2] = n2, c[3] = low0;
    if (round == 9) break;
    key[0] = op_u(k, SpvOpIAdd, key[0], 0x9E3779B9u);
    key[1] = op_u(k, SpvOpIAdd, key[1], 0xBB67AE85u);
  }
  SpvId which = op_u(k, SpvOpBitwiseAnd, index, 3);
  SpvId word = c[3];
  for (int i = 2; i >= 0; i--) {
    SpvId number = const_u(k, (uint32_t)i);
    SpvId here = spv_cmp(b, SpvOpIEqual, which, number);
    word = choose(k, here, c[i], word);
  }
  word = op_u(k, SpvOpShiftRightLogical, word, 8);
  SpvId type = spv_f32(b);
  SpvId x = spv_pure(b, SpvOpConvertUToF, type, word);
  return math_mul_c(k, x, 0x1p-24f);
}
