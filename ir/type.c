#include "ir/ir.h"

#include <math.h>
#include <string.h>

static const char *const dtype_names[DT_COUNT] = {"bool", "i32", "f16", "bf16", "f32"};

Type type_of(DType dtype, int rank, const int64_t *dim) {
  Type t = {.dtype = (uint8_t)dtype, .rank = (uint8_t)rank};
  for (int i = 0; i < rank; i++) t.dim[i] = dim[i];
  return t;
}

Type type_scalar(DType dtype) { return type_of(dtype, 0, NULL); }

bool shape_eq(const Type *a, const Type *b) {
  if (a->rank != b->rank) return false;
  for (int i = 0; i < a->rank; i++)
    if (a->dim[i] != b->dim[i]) return false;
  return true;
}

bool type_eq(const Type *a, const Type *b) { return a->dtype == b->dtype && shape_eq(a, b); }

int64_t type_count(const Type *t) {
  int64_t n = 1;
  for (int i = 0; i < t->rank; i++) n *= t->dim[i];
  return n;
}

void type_print(Buf *b, const Type *t) {
  buf_str(b, dtype_name(t->dtype));
  buf_str(b, "[");
  for (int i = 0; i < t->rank; i++) buf_printf(b, "%s%lld", i ? "," : "", (long long)t->dim[i]);
  buf_str(b, "]");
}

const char *dtype_name(DType d) { return dtype_names[d]; }

bool dtype_by_name(const char *name, DType *out) {
  for (int i = 0; i < DT_COUNT; i++)
    if (strcmp(name, dtype_names[i]) == 0) return *out = (DType)i, true;
  return false;
}

bool dtype_is_16(DType d) { return d == DT_f16 || d == DT_bf16; }
bool dtype_is_float(DType d) { return d == DT_f16 || d == DT_bf16 || d == DT_f32; }

/* Nearest even at `bits` explicit mantissa bits, subnormals below 2^emin, infinity from the first
 * value that rounds past max. */
static double round_float(double x, int bits, int emin, double max) {
  if (x == 0 || !isfinite(x)) return x;
  int e;
  frexp(x, &e); /* |x| = m · 2^e, 0.5 <= m < 1 */
  if (e - 1 < emin) e = emin + 1;
  double unit = ldexp(1, e - 1 - bits);
  double r = nearbyint(x / unit) * unit;
  return fabs(r) > max ? copysign(INFINITY, x) : r;
}

double dtype_round(DType d, double x) {
  switch (d) {
  case DT_bool: return x != 0;
  case DT_i32: {
    if (!isfinite(x)) return 0;
    double t = fmod(trunc(x), 4294967296.0) + 0.0; /* + 0.0: no −0 */
    if (t < 0) t += 4294967296.0;
    return t >= 2147483648.0 ? t - 4294967296.0 : t;
  }
  case DT_f16: return round_float(x, 10, -14, 65504);
  case DT_bf16: return round_float(x, 7, -126, 0x1.FEp127);
  case DT_f32: return (float)x;
  default: die("dtype_round: type %d", d);
  }
}

void shape_strides(const Type *t, int64_t *stride) {
  int64_t n = 1;
  for (int i = t->rank - 1; i >= 0; i--) {
    stride[i] = n;
    n *= t->dim[i];
  }
}
