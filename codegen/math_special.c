/* exp, log, pow and mod in f32, where a device's own may be worse than 1e-5 relative. Polynomials
 * are minimax fits on the intervals named; reductions use arithmetic that no driver may contract.
 * Errors are a few units in the last place. */
#include "codegen/emit_math.h"

#include <math.h>

SpvId math_exp(Kernel *k, SpvId x) { return spv_glsl(k->b, GLSLstd450Exp, x); }

/* |x| <= 1/2: x + x²·P(x), else e^x − 1 */
SpvId math_expm1(Kernel *k, SpvId x) {
  static const float p[] = {0.50000006f,    0.166666642f,   0.0416653603f,
                            0.00833357871f, 0.00139961776f, 0.000198498077f};
  SpvId small = math_poly(k, x, COUNT_OF(p), p);
  SpvId square = mul_f(k, x, x);
  small = mul_f(k, small, square);
  small = add_f(k, x, small);
  SpvId large = math_exp(k, x);
  large = math_add_c(k, large, -1);
  SpvId a = abs_f(k, x);
  SpvId limit = const_f(k, 0.5f);
  SpvId is_small = less_f(k, a, limit);
  return choose(k, is_small, small, large);
}

/* x = m · 2^e with √½ <= m < √2, for 0 < x < ∞; e as float. */
static SpvId split(Kernel *k, SpvId x, SpvId *e) {
  Spv *b = k->b;
  SpvId least = const_f(k, 0x1p-126f);
  SpvId tiny = less_f(k, x, least);
  SpvId scaled = math_mul_c(k, x, 0x1p23f);
  x = choose(k, tiny, scaled, x);
  SpvId bits = as_bits(k, x);
  SpvId exponent = op_u(k, SpvOpISub, bits, 0x3f3504f3); /* √½ */
  exponent = op_u(k, SpvOpShiftRightArithmetic, exponent, 23);
  SpvId shifted = op_u(k, SpvOpShiftLeftLogical, exponent, 23);
  bits = spv_bin(b, SpvOpISub, bits, shifted);
  SpvId type = spv_f32(b);
  SpvId whole = spv_pure(b, SpvOpConvertSToF, type, exponent);
  SpvId less = math_add_c(k, whole, -23);
  *e = choose(k, tiny, less, whole);
  return as_float(k, bits);
}

/* log m = f − f²/2 + f³·P(f) with f = m − 1; log x = log m + e·log 2 in two parts. */
SpvId math_log(Kernel *k, SpvId x) {
  static const float p[] = {0.333333135f,  -0.250000089f, 0.200021192f,
                            -0.166679963f, 0.142195508f,  -0.124055915f,
                            0.118881747f,  -0.116756409f, 0.0674660131f};
  SpvId e;
  SpvId m = split(k, x, &e);
  SpvId f = math_add_c(k, m, -1);
  SpvId z = mul_f(k, f, f);
  SpvId y = math_poly(k, f, COUNT_OF(p), p);
  y = mul_f(k, y, f);
  y = mul_f(k, y, z);
  SpvId half = math_mul_c(k, z, 0.5f);
  SpvId low = math_mul_c(k, e, -2.12194440e-4f); /* log 2 = 0.693359375 − 2.1219444e-4 */
  y = add_f(k, y, low);
  y = sub_f(k, y, half);
  y = add_f(k, y, f);
  SpvId high = math_mul_c(k, e, 0.693359375f);
  y = add_f(k, y, high);
  SpvId zero = const_f(k, 0);
  SpvId inf = const_f(k, INFINITY);
  SpvId nan = const_f(k, NAN);
  SpvId minus_inf = const_f(k, -INFINITY);
  SpvId regular = less_f(k, x, inf);
  y = choose(k, regular, y, x); /* +∞ and NaN stay */
  SpvId is_zero = equal_f(k, x, zero);
  y = choose(k, is_zero, minus_inf, y);
  SpvId negative = less_f(k, x, zero);
  return choose(k, negative, nan, y);
}

/* log(1 + x) = log u + c / u, where u is 1 + x rounded and c what the rounding lost. */
SpvId math_log1p(Kernel *k, SpvId x) {
  SpvId one = const_f(k, 1);
  SpvId lost;
  SpvId u = math_two_sum(k, one, x, &lost);
  SpvId y = math_log(k, u);
  SpvId c = div_f(k, lost, u);
  SpvId sum = add_f(k, y, c);
  SpvId zero = const_f(k, 0);
  SpvId inf = const_f(k, INFINITY);
  SpvId positive = less_f(k, zero, u);
  SpvId finite = less_f(k, u, inf);
  SpvId regular = both(k, positive, finite);
  return choose(k, regular, sum, y);
}

/* Dekker's, with Veltkamp's splitting */
SpvId math_two_product(Kernel *k, SpvId x, SpvId y, SpvId *low) {
  SpvId v[2] = {x, y}, high[2], rest[2];
  SpvId splitter = const_f(k, 4097);
  for (int i = 0; i < 2; i++) {
    SpvId t = xmul(k, v[i], splitter);
    SpvId d = xsub(k, t, v[i]);
    high[i] = xsub(k, t, d);
    rest[i] = xsub(k, v[i], high[i]);
  }
  SpvId p = xmul(k, x, y);
  SpvId e = xmul(k, high[0], high[1]);
  e = xsub(k, e, p);
  SpvId cross = xmul(k, high[0], rest[1]);
  e = xadd(k, e, cross);
  cross = xmul(k, rest[0], high[1]);
  e = xadd(k, e, cross);
  cross = xmul(k, rest[0], rest[1]);
  *low = xadd(k, e, cross);
  return p;
}

/* log2 x = high + *low for 0 < x < ∞, by 2·artanh((m − 1) / (m + 1)) with the quotient in two
 * parts */
static SpvId log2_two(Kernel *k, SpvId x, SpvId *low) {
  static const float p[] = {0.333333313f, 0.200001672f, 0.142686397f, 0.117913842f};
  SpvId e, g_low, product_low, h_low, sum_low;
  SpvId m = split(k, x, &e);
  SpvId one = const_f(k, 1);
  SpvId f = xsub(k, m, one);
  SpvId g = math_two_sum(k, one, m, &g_low);
  SpvId s = div_f(k, f, g);
  SpvId product = math_two_product(k, s, g, &product_low);
  SpvId rest = xsub(k, f, product);
  rest = xsub(k, rest, product_low);
  SpvId t = xmul(k, s, g_low);
  rest = xsub(k, rest, t);
  rest = div_f(k, rest, g);
  SpvId z = mul_f(k, s, s);
  SpvId tail = math_poly(k, z, COUNT_OF(p), p);
  tail = mul_f(k, tail, z);
  tail = mul_f(k, tail, s);
  tail = add_f(k, tail, rest);
  SpvId scale = const_f(k, 0x1.715476p+1f); /* 2 / log 2, and what it lacks */
  SpvId h = math_two_product(k, scale, s, &h_low);
  tail = mul_f(k, tail, scale);
  t = math_mul_c(k, s, 0x1.4ae0cp-25f);
  tail = add_f(k, tail, t);
  tail = add_f(k, tail, h_low);
  SpvId sum = math_two_sum(k, e, h, &sum_low);
  tail = add_f(k, tail, sum_low);
  return math_two_sum(k, sum, tail, low);
}

/* 2^(p + low) for finite p, |low| small; 0 and ∞ beyond the range */
static SpvId exp2_two(Kernel *k, SpvId p, SpvId low) {
  static const float c[] = {0.693147182f,   0.240226462f,   0.0555032864f,
                            0.00961848907f, 0.00133999309f, 0.000153458081f};
  SpvId clamped = spv_clamp(k->b, p, -200, 200);
  SpvId n = round_f(k, clamped);
  SpvId f = xsub(k, clamped, n);
  f = add_f(k, f, low);
  SpvId y = math_poly(k, f, COUNT_OF(c), c);
  y = mul_f(k, y, f);
  y = math_add_c(k, y, 1);
  n = math_cast(k, DT_i32, DT_f32, n);
  SpvId half = op_u(k, SpvOpShiftRightArithmetic, n, 1);
  SpvId rest = spv_bin(k->b, SpvOpISub, n, half);
  for (int i = 0; i < 2; i++) { /* 2^n in two factors, each within f32's range */
    SpvId power = op_u(k, SpvOpIAdd, i ? rest : half, 127);
    power = op_u(k, SpvOpShiftLeftLogical, power, 23);
    power = as_float(k, power);
    y = mul_f(k, y, power);
  }
  return y;
}

/* |x|^y by 2^(y·log2 |x|) in two-float arithmetic; whole powers of whole numbers are made exact;
 * then IEEE's special cases. */
SpvId math_pow(Kernel *k, SpvId x, SpvId y) {
  Spv *b = k->b;
  SpvId zero = const_f(k, 0);
  SpvId one = const_f(k, 1);
  SpvId inf = const_f(k, INFINITY);
  SpvId nan = const_f(k, NAN);
  SpvId a = abs_f(k, x);
  SpvId log_low, p_low;
  SpvId log = log2_two(k, a, &log_low);
  SpvId factor = spv_clamp(b, y, -0x1p32f, 0x1p32f); /* far enough for any x but 1 */
  SpvId p = math_two_product(k, factor, log, &p_low);
  SpvId t = mul_f(k, factor, log_low);
  p_low = add_f(k, p_low, t);
  SpvId r = exp2_two(k, p, p_low);

  SpvId y_floor = spv_glsl(b, GLSLstd450Floor, y);
  SpvId y_whole = equal_f(k, y_floor, y);
  SpvId x_floor = spv_glsl(b, GLSLstd450Floor, x);
  SpvId x_whole = equal_f(k, x_floor, x);
  SpvId exact = both(k, x_whole, y_whole);
  SpvId limit = const_f(k, 0x1p22f);
  SpvId y_negative = less_f(k, y, zero);
  SpvId in_range = less_f(k, r, limit);
  exact = both(k, exact, in_range);
  SpvId rounded = round_f(k, r);
  rounded = choose(k, y_negative, r, rounded);
  r = choose(k, exact, rounded, r);

  SpvId grows = less_f(k, zero, y);
  SpvId at_zero = choose(k, grows, zero, inf);
  SpvId at_inf = choose(k, grows, inf, zero);
  SpvId is_zero = equal_f(k, a, zero);
  r = choose(k, is_zero, at_zero, r);
  SpvId is_inf = equal_f(k, a, inf);
  r = choose(k, is_inf, at_inf, r);

  SpvId half = math_mul_c(k, y, 0.5f); /* odd: whole, and its half is not */
  SpvId half_floor = spv_glsl(b, GLSLstd450Floor, half);
  SpvId odd = spv_cmp(b, SpvOpFOrdNotEqual, half_floor, half);
  odd = both(k, odd, y_whole);
  SpvId x_bits = as_bits(k, x);
  SpvId sign = op_u(k, SpvOpShiftRightLogical, x_bits, 31);
  SpvId no_sign = const_u(k, 0);
  SpvId negative = spv_cmp(b, SpvOpINotEqual, sign, no_sign);
  SpvId minus = neg_f(k, r);
  odd = both(k, odd, negative);
  r = choose(k, odd, minus, r);
  SpvId below = less_f(k, x, zero);
  SpvId x_finite = less_f(k, a, inf);
  SpvId undefined = spv_un(b, SpvOpLogicalNot, y_whole);
  undefined = both(k, undefined, below);
  undefined = both(k, undefined, x_finite);
  SpvId x_nan = math_is_nan(k, x);
  SpvId y_nan = math_is_nan(k, y);
  undefined = either(k, undefined, x_nan);
  undefined = either(k, undefined, y_nan);
  r = choose(k, undefined, nan, r);
  SpvId y_zero = equal_f(k, y, zero);
  SpvId x_one = equal_f(k, x, one);
  SpvId is_one = either(k, y_zero, x_one);
  return choose(k, is_one, one, r);
}

/* x ≠ 0 and of another sign than y */
static SpvId signs_differ(Kernel *k, SpvId x, SpvId y) {
  SpvId zero = const_f(k, 0);
  SpvId x_below = less_f(k, x, zero);
  SpvId y_below = less_f(k, y, zero);
  SpvId differ = spv_bin(k->b, SpvOpLogicalNotEqual, x_below, y_below);
  SpvId nonzero = spv_cmp(k->b, SpvOpFUnordNotEqual, x, zero);
  return both(k, differ, nonzero);
}

/* x − y·⌊x/y⌋, the product exact: quotients to 2^24 in one step, to 2^47 in two; then the remainder
 * is moved into [0, y). */
SpvId math_mod(Kernel *k, SpvId x, SpvId y) {
  Spv *b = k->b;
  SpvId zero = const_f(k, 0);
  SpvId inf = const_f(k, INFINITY);
  SpvId nan = const_f(k, NAN);
  SpvId r = x;
  for (int i = 0; i < 2; i++) {
    SpvId low;
    SpvId q = div_f(k, r, y);
    q = spv_glsl(b, GLSLstd450Trunc, q);
    SpvId p = math_two_product(k, q, y, &low);
    r = xsub(k, r, p);
    r = xsub(k, r, low);
  }
  for (int i = 0; i < 2; i++) { /* the quotient's rounding may have gone one too far */
    SpvId wrong = signs_differ(k, r, y);
    SpvId moved = add_f(k, r, y);
    r = choose(k, wrong, moved, r);
  }
  SpvId a = abs_f(k, r);
  SpvId m = abs_f(k, y);
  SpvId whole = spv_cmp(b, SpvOpFOrdEqual, a, m);
  r = choose(k, whole, zero, r);
  /* y infinite: x where the signs agree, else y; x infinite or y zero: NaN */
  SpvId x_abs = abs_f(k, x);
  SpvId y_inf = equal_f(k, m, inf);
  SpvId differ = signs_differ(k, x, y);
  SpvId at_inf = choose(k, differ, y, x);
  r = choose(k, y_inf, at_inf, r);
  SpvId x_bad = equal_f(k, x_abs, inf);
  SpvId y_bad = equal_f(k, m, zero);
  SpvId x_nan = math_is_nan(k, x);
  SpvId y_nan = math_is_nan(k, y);
  SpvId bad = either(k, x_bad, y_bad);
  bad = either(k, bad, x_nan);
  bad = either(k, bad, y_nan);
  return choose(k, bad, nan, r);
}
