/* Evaluator: elementwise operations. Floating types are computed in double and rounded by the
 * caller; i32 wraps. */
#include "ir/eval_internal.h"

#include <math.h>

#define MAP1(op, result)                                                                           \
  void eval_##op(EvalStep *s) {                                                                    \
    for (int64_t i = 0; i < s->count; i++) {                                                       \
      double x = s->src[0][i];                                                                     \
      s->out[i] = result;                                                                          \
    }                                                                                              \
  }
#define MAP2(op, result)                                                                           \
  void eval_##op(EvalStep *s) {                                                                    \
    for (int64_t i = 0; i < s->count; i++) {                                                       \
      double x = s->src[0][i], y = s->src[1][i];                                                   \
      s->out[i] = result;                                                                          \
    }                                                                                              \
  }
/* the same, with the meaning on 32-bit integers */
#define NUMBER1(op, result, whole)                                                                 \
  void eval_##op(EvalStep *s) {                                                                    \
    bool is_int = s->n->type.dtype == DT_i32;                                                      \
    for (int64_t i = 0; i < s->count && !is_int; i++) {                                            \
      double x = s->src[0][i];                                                                     \
      s->out[i] = result;                                                                          \
    }                                                                                              \
    for (int64_t i = 0; i < s->count && is_int; i++) {                                             \
      int64_t x = (int64_t)s->src[0][i];                                                           \
      s->out[i] = eval_wrap(whole);                                                                \
    }                                                                                              \
  }
#define NUMBER2(op, result, whole)                                                                 \
  void eval_##op(EvalStep *s) {                                                                    \
    bool is_int = s->n->type.dtype == DT_i32;                                                      \
    for (int64_t i = 0; i < s->count && !is_int; i++) {                                            \
      double x = s->src[0][i], y = s->src[1][i];                                                   \
      s->out[i] = result;                                                                          \
    }                                                                                              \
    for (int64_t i = 0; i < s->count && is_int; i++) {                                             \
      int64_t x = (int64_t)s->src[0][i], y = (int64_t)s->src[1][i];                                \
      s->out[i] = eval_wrap(whole);                                                                \
    }                                                                                              \
  }

static double float_min(double x, double y) { return isnan(x) || isnan(y) ? NAN : x < y ? x : y; }
static double float_max(double x, double y) { return isnan(x) || isnan(y) ? NAN : x > y ? x : y; }

/* x − y·⌊x/y⌋ without the rounding of the quotient */
static double float_mod(double x, double y) {
  double r = fmod(x, y);
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

static int64_t int_mod(int64_t x, int64_t y) {
  if (y == 0) return 0;
  int64_t r = x % y;
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

NUMBER1(neg, -x, -x)
NUMBER1(abs, fabs(x), x < 0 ? -x : x)
NUMBER1(sign, (x > 0) - (x < 0), (x > 0) - (x < 0))
MAP1(exp, exp(x))
MAP1(expm1, expm1(x))
MAP1(log, log(x))
MAP1(log1p, log1p(x))
MAP1(sqrt, sqrt(x))
MAP1(rsqrt, 1 / sqrt(x))
MAP1(sin, sin(x))
MAP1(cos, cos(x))
MAP1(tanh, tanh(x))
MAP1(sigmoid, 1 / (1 + exp(-x)))
MAP1(erf, erf(x))
MAP1(erfc, erfc(x))
NUMBER1(relu, x < 0 ? 0 : x, x < 0 ? 0 : x)
MAP1(floor, floor(x))
MAP1(ceil, ceil(x))
MAP1(round, nearbyint(x))
MAP1(isfinite, isfinite(x) != 0)
MAP1(not, !x)
MAP1(stop_gradient, x)
MAP1(fold, x)

NUMBER2(add, x + y, x + y)
NUMBER2(sub, x - y, x - y)
NUMBER2(mul, x *y, x *y)
MAP2(div, x / y)
MAP2(pow, pow(x, y))
NUMBER2(mod, float_mod(x, y), int_mod(x, y))
NUMBER2(min, float_min(x, y), x < y ? x : y)
NUMBER2(max, float_max(x, y), x > y ? x : y)
MAP2(eq, x == y)
MAP2(ne, x != y)
MAP2(lt, x < y)
MAP2(le, x <= y)
MAP2(gt, x > y)
MAP2(ge, x >= y)
MAP2(and, x != 0 && y != 0)
MAP2(or, x != 0 || y != 0)

void eval_where(EvalStep *s) {
  for (int64_t i = 0; i < s->count; i++)
    s->out[i] = s->src[0][i] != 0 ? s->src[1][i] : s->src[2][i];
}

static double cast_to_i32(double x) {
  if (isnan(x)) return 0;
  return x <= INT32_MIN   ? INT32_MIN
         : x >= INT32_MAX ? INT32_MAX
                          : trunc(x) + 0.0; /* + 0.0: no −0 */
}

/* A cast to a 16-bit type rounds in f64 mode too; one to f32 does only in f32 mode, where every
 * result is rounded. */
void eval_cast(EvalStep *s) {
  DType to = (DType)s->n->type.dtype;
  for (int64_t i = 0; i < s->count; i++) {
    double x = s->src[0][i];
    s->out[i] = to == DT_bool  ? x != 0
                : to == DT_i32 ? cast_to_i32(x)
                : to == DT_f32 ? x
                               : eval_narrow(to, x);
  }
}
