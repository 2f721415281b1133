/* number: arithmetic of numbers at compile time, in 64 bits. Whole numbers are exact or an
 * error. */
#include "frontend/elab_internal.h"

#include <math.h>
#include <string.h>

static Value overflow(Elab *e, const Expr *x, Value a, Value b) {
  return fail(e, x->at, "%s %s %s does not fit into 64 bits", number_text(e, a),
              operator_text(x->op), number_text(e, b));
}

/* A result that is not a finite number, of finite operands, is a mistake of the program. */
static Value finite_or_fail(Elab *e, const Expr *x, double r, Value a, Value b) {
  if (isfinite(r) || !isfinite(number_of(a)) || !isfinite(number_of(b))) return v_float(r);
  return fail(e, x->at, "%s %s %s is not a finite number", number_text(e, a), operator_text(x->op),
              number_text(e, b));
}

static Value power(Elab *e, const Expr *x, Value a, Value b) {
  if (a.kind == V_float || b.kind == V_float || b.i < 0) {
    if (number_of(a) == 0 && number_of(b) < 0)
      return fail(e, x->at, "division by zero: 0 to a negative power");
    return finite_or_fail(e, x, pow(number_of(a), number_of(b)), a, b);
  }
  int64_t result = 1, base = a.i;
  for (int64_t n = b.i; n; n >>= 1) {
    if ((n & 1) && __builtin_mul_overflow(result, base, &result)) return overflow(e, x, a, b);
    if (n > 1 && __builtin_mul_overflow(base, base, &base)) return overflow(e, x, a, b);
  }
  return v_int(result);
}

/* x − y·⌊x/y⌋: the sign of y. */
static Value modulo(Elab *e, const Expr *x, Value a, Value b) {
  if (number_of(b) == 0) return fail(e, x->at, "division by zero");
  if (a.kind == V_float || b.kind == V_float) {
    double r = fmod(number_of(a), number_of(b));
    return v_float(r != 0 && (r < 0) != (number_of(b) < 0) ? r + number_of(b) : r);
  }
  if (b.i == -1) return v_int(0);
  int64_t r = a.i % b.i;
  return v_int(r != 0 && (r < 0) != (b.i < 0) ? r + b.i : r);
}

static Value divide(Elab *e, const Expr *x, Value a, Value b) {
  if (number_of(b) == 0) return fail(e, x->at, "division by zero");
  bool whole =
    a.kind != V_float && b.kind != V_float && !(b.i == -1 && a.i == INT64_MIN) && a.i % b.i == 0;
  return whole ? v_int(a.i / b.i) : finite_or_fail(e, x, number_of(a) / number_of(b), a, b);
}

static Value compare(Operator op, Value a, Value b) {
  bool whole = a.kind != V_float && b.kind != V_float;
  double x = number_of(a), y = number_of(b);
  int order = whole ? (a.i > b.i) - (a.i < b.i) : (x > y) - (x < y);
  switch (op) {
  case O_lt: return v_bool(order < 0);
  case O_le: return v_bool(order <= 0);
  case O_gt: return v_bool(order > 0);
  case O_ge: return v_bool(order >= 0);
  case O_eq: return v_bool(order == 0);
  default: return v_bool(order != 0);
  }
}

Value number_binary(Elab *e, const Expr *x, Operator op, Value a, Value b) {
  bool whole = a.kind != V_float && b.kind != V_float;
  int64_t r;
  switch (op) {
  case O_add:
    if (!whole) return finite_or_fail(e, x, number_of(a) + number_of(b), a, b);
    return __builtin_add_overflow(a.i, b.i, &r) ? overflow(e, x, a, b) : v_int(r);
  case O_sub:
    if (!whole) return finite_or_fail(e, x, number_of(a) - number_of(b), a, b);
    return __builtin_sub_overflow(a.i, b.i, &r) ? overflow(e, x, a, b) : v_int(r);
  case O_mul:
    if (!whole) return finite_or_fail(e, x, number_of(a) * number_of(b), a, b);
    return __builtin_mul_overflow(a.i, b.i, &r) ? overflow(e, x, a, b) : v_int(r);
  case O_div: return divide(e, x, a, b);
  case O_mod: return modulo(e, x, a, b);
  case O_pow: return power(e, x, a, b);
  case O_matmul:
    return fail(e, x->at, "`@` multiplies tensors, found %s and %s", describe(e, a),
                describe(e, b));
  default: return compare(op, a, b);
  }
}

/* ---- functions of one number ---- */

static double sign_of(double x) { return (x > 0) - (x < 0); }
static double relu_of(double x) { return x > 0 ? x : 0; }
static double rsqrt_of(double x) { return 1 / sqrt(x); }
static double sigmoid_of(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }

static const struct {
  Op op;
  double (*f)(double);
} forms[] = {
  {OP_exp, exp},   {OP_expm1, expm1},    {OP_log, log},   {OP_log1p, log1p},
  {OP_sqrt, sqrt}, {OP_rsqrt, rsqrt_of}, {OP_sin, sin},   {OP_cos, cos},
  {OP_tanh, tanh}, {OP_erf, erf},        {OP_erfc, erfc}, {OP_sigmoid, sigmoid_of},
};

/* floor, ceil and round give whole numbers. */
static Value whole_of(double r) { return fabs(r) < 9e15 ? v_int((int64_t)r) : v_float(r); }

Value number_unary(Elab *e, Place at, Op op, Value a) {
  double x = number_of(a);
  bool whole = a.kind != V_float;
  switch (op) {
  case OP_stop_gradient: return a;
  case OP_isfinite: return v_bool(isfinite(x));
  case OP_neg:
  case OP_abs:
    if (whole && a.i == INT64_MIN)
      return fail(e, at, "the negative of %lld does not fit into 64 bits", (long long)a.i);
    if (whole) return v_int(op == OP_neg || a.i < 0 ? -a.i : a.i);
    return v_float(op == OP_neg ? -x : fabs(x));
  case OP_sign: return whole ? v_int((a.i > 0) - (a.i < 0)) : v_float(sign_of(x));
  case OP_relu: return whole ? v_int(a.i > 0 ? a.i : 0) : v_float(relu_of(x));
  case OP_floor: return whole ? v_int(a.i) : whole_of(floor(x));
  case OP_ceil: return whole ? v_int(a.i) : whole_of(ceil(x));
  case OP_round: return whole ? v_int(a.i) : whole_of(nearbyint(x));
  default: break;
  }
  for (int i = 0; i < COUNT_OF(forms); i++) {
    if (forms[i].op != op) continue;
    double r = forms[i].f(x);
    if (isfinite(r) || !isfinite(x)) return v_float(r);
    return fail(e, at, "%s of %s is not a finite number", ir_op[op].name, number_text(e, a));
  }
  die("number_unary: %s", ir_op[op].name);
}
