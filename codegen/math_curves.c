/* tanh, erf, erfc, sin and cos in f32, as math_special.c has the others. */
#include "codegen/emit_math.h"

/* |x| < 0.625: x + x³·P(x²), else 1 − 2 / (e^2|x| + 1), which ends at 1 where e^2|x| is
 * infinite. */
SpvId math_tanh(Kernel *k, SpvId x) {
  static const float p[] = {-0.333332837f, 0.133314908f, -0.0537434965f, 0.0206505787f,
                            -0.00571703631f};
  SpvId z = mul_f(k, x, x);
  SpvId small = math_poly(k, z, COUNT_OF(p), p);
  small = mul_f(k, small, z);
  small = mul_f(k, small, x);
  small = add_f(k, x, small);
  SpvId a = abs_f(k, x);
  SpvId t = add_f(k, a, a);
  t = math_exp(k, t);
  t = math_add_c(k, t, 1);
  SpvId two = const_f(k, 2);
  t = div_f(k, two, t);
  SpvId one = const_f(k, 1);
  SpvId large = sub_f(k, one, t);
  SpvId minus = neg_f(k, large);
  SpvId zero = const_f(k, 0);
  SpvId negative = less_f(k, x, zero);
  large = choose(k, negative, minus, large);
  SpvId limit = const_f(k, 0.625f);
  SpvId is_small = less_f(k, a, limit);
  return choose(k, is_small, small, large);
}

/* |x| < 1: x·P(x²) */
static SpvId erf_near_zero(Kernel *k, SpvId x) {
  static const float p[] = {1.12837911f,    -0.37612626f,     0.112836003f,  -0.0268544443f,
                            0.00518953521f, -0.000802084105f, 7.8891193e-05f};
  SpvId z = mul_f(k, x, x);
  SpvId y = math_poly(k, z, COUNT_OF(p), p);
  return mul_f(k, y, x);
}

/* |x| < 1: as above; 1 <= |x| < 4: 1 − e^−Q(|x|), Q = −log erfc; beyond, 1 in f32. */
SpvId math_erf(Kernel *k, SpvId x) {
  static const float q[] = {-0.000188040227f, 1.12957847f,    0.633219898f,     0.108418576f,
                            -0.0252082571f,   0.00420456193f, -0.000441336364f, 2.16868502e-05f};
  SpvId small = erf_near_zero(k, x);
  SpvId a = abs_f(k, x);
  SpvId four = const_f(k, 4);
  SpvId within = less_f(k, a, four);
  SpvId clamped = choose(k, within, a, four);
  SpvId t = math_poly(k, clamped, COUNT_OF(q), q);
  t = neg_f(k, t);
  t = math_exp(k, t);
  SpvId one = const_f(k, 1);
  SpvId large = sub_f(k, one, t);
  SpvId minus = neg_f(k, large);
  SpvId zero = const_f(k, 0);
  SpvId negative = less_f(k, x, zero);
  large = choose(k, negative, minus, large);
  SpvId is_small = less_f(k, a, one);
  SpvId y = choose(k, is_small, small, large);
  SpvId nan = math_is_nan(k, x);
  return choose(k, nan, x, y);
}

/* |x| < 1: 1 − x·P(x²); beyond, with a = |x|, e^−a²·t·Q(t), t = 1 / (1 + a/2), or what that lacks to 2. a² in two parts,
 * since what it is rounded by would be an error of the result. */
SpvId math_erfc(Kernel *k, SpvId x) {
  static const float q[] = {0.282174766f, 0.280365616f,  0.262000144f, 0.106976658f,
                            0.258275092f, -0.230205670f, 0.0392588563f};
  enum { ZERO_FROM = 11 }; /* in f32 */
  SpvId square_low, zero = const_f(k, 0), one = const_f(k, 1), two = const_f(k, 2);
  SpvId a = abs_f(k, x), far = const_f(k, ZERO_FROM);
  SpvId within = less_f(k, a, far);
  SpvId clamped = choose(k, within, a, far);
  SpvId square = math_two_product(k, clamped, clamped, &square_low);
  SpvId t = math_mul_c(k, clamped, 0.5f);
  t = math_add_c(k, t, 1);
  t = div_f(k, one, t);
  SpvId large = math_poly(k, t, COUNT_OF(q), q);
  large = mul_f(k, large, t);
  SpvId less = sub_f(k, one, square_low);
  large = mul_f(k, large, less);
  square = neg_f(k, square);
  square = math_exp(k, square);
  large = mul_f(k, large, square);
  SpvId rest = sub_f(k, two, large);
  SpvId negative = less_f(k, x, zero);
  large = choose(k, negative, rest, large);
  SpvId small = erf_near_zero(k, x);
  small = sub_f(k, one, small);
  SpvId is_small = less_f(k, a, one);
  SpvId y = choose(k, is_small, small, large);
  SpvId nan = math_is_nan(k, x);
  return choose(k, nan, x, y);
}

/* x = q·π/2 + r by Cody and Waite in four parts of π/2, the first three with so few bits that q
 * times them is exact up to q = 2^16, |x| about 1e5. Then sin or cos of r on ±π/4. */
SpvId math_sin_cos(Kernel *k, SpvId x, bool cosine) {
  static const float part[] = {0x1.92p+0f, 0x1.fap-12f, 0x1.54p-20f, 0x1.10b462p-30f};
  static const float sin_p[] = {-0.166666538f, 0.00833213143f, -0.000195108383f};
  static const float cos_p[] = {0.0416666456f, -0.0013887306f, 2.44312032e-05f};
  Spv *b = k->b;
  SpvId q = math_mul_c(k, x, 0x1.45f306p-1f);
  q = round_f(k, q);
  SpvId r = x;
  for (int i = 0; i < COUNT_OF(part); i++) {
    SpvId c = const_f(k, part[i]);
    SpvId step = xmul(k, q, c);
    r = xsub(k, r, step);
  }
  SpvId z = mul_f(k, r, r);
  SpvId s = math_poly(k, z, COUNT_OF(sin_p), sin_p);
  s = mul_f(k, s, z);
  s = mul_f(k, s, r);
  s = add_f(k, r, s);
  SpvId c = math_poly(k, z, COUNT_OF(cos_p), cos_p);
  c = mul_f(k, c, z);
  c = mul_f(k, c, z);
  SpvId half = math_mul_c(k, z, -0.5f);
  half = math_add_c(k, half, 1);
  c = add_f(k, half, c);
  SpvId n = math_cast(k, DT_i32, DT_f32, q);
  if (cosine) n = op_u(k, SpvOpIAdd, n, 1);
  SpvId zero = const_u(k, 0);
  SpvId odd = op_u(k, SpvOpBitwiseAnd, n, 1);
  odd = spv_cmp(b, SpvOpINotEqual, odd, zero);
  SpvId y = choose(k, odd, c, s);
  SpvId flip = op_u(k, SpvOpBitwiseAnd, n, 2);
  flip = spv_cmp(b, SpvOpINotEqual, flip, zero);
  SpvId minus = neg_f(k, y);
  return choose(k, flip, minus, y);
}
