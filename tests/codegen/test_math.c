/* The functions that codegen builds itself, over their whole domain: tens of thousands of f32
 * values each, of every magnitude, near zeros, poles and the ends of the range. Bound: 1e-5
 * relative, 1e-6 for arithmetic (check.c). */
#include "tests/codegen/check.h"

#include <math.h>
#include <string.h>

enum { N = 40000 };

typedef double Fill(int i);

static double unit(int i, uint32_t stream) { /* 0 … 1 */
  uint32_t out[4];
  philox4x32((uint32_t[]){(uint32_t)i, 0, 0, 0}, (uint32_t[]){stream, 7}, out);
  return out[0] * 0x1p-32;
}

static double either_sign(int i, double x) { return i & 1 ? -x : x; }
static double any_size(int i) { return either_sign(i, exp2(-125 + 252 * unit(i, 1))); }
static double positive(int i) { return exp2(-125 + 252 * unit(i, 2)); }
static double near_one(int i) { return 1 + either_sign(i, exp2(-23 + 22 * unit(i, 3))); }
static double exponent(int i) { return -87 + 175 * unit(i, 4); } /* eˣ is a normal number */
static double small(int i) { return either_sign(i, exp2(-30 + 34 * unit(i, 5))); }
static double to_the_tail(int i) { return -10 + 19.19 * unit(i, 14); } /* erfc is a normal number */
static double above_minus_one(int i) { return -1 + exp2(-23 + 40 * unit(i, 6)); }
static double angle(int i) { return either_sign(i, 1e5 * unit(i, 7)); }
static double near_zeros(int i) {
  return (double)(float)((i - N / 2) * 1.5 * 1.5707963267948966);
} /* of sine and cosine */

typedef struct Sweep {
  Op op;
  Fill *fill;
  const char *title;
} Sweep;

static const Sweep sweep[] = {
  {OP_exp, exponent, "exp"},
  {OP_exp, small, "exp of small"},
  {OP_expm1, exponent, "expm1"},
  {OP_expm1, small, "expm1 of small"},
  {OP_log, positive, "log"},
  {OP_log, near_one, "log near 1"},
  {OP_log1p, above_minus_one, "log1p"},
  {OP_log1p, small, "log1p of small"},
  {OP_log1p, positive, "log1p of all"},
  {OP_sqrt, positive, "sqrt"},
  {OP_rsqrt, positive, "rsqrt"},
  {OP_sin, angle, "sin"},
  {OP_sin, near_zeros, "sin near zeros"},
  {OP_sin, small, "sin of small"},
  {OP_cos, angle, "cos"},
  {OP_cos, near_zeros, "cos near zeros"},
  {OP_cos, small, "cos of small"},
  {OP_tanh, small, "tanh"},
  {OP_tanh, any_size, "tanh of all"},
  {OP_sigmoid, exponent, "sigmoid"},
  {OP_sigmoid, small, "sigmoid of small"},
  {OP_erf, small, "erf"},
  {OP_erf, any_size, "erf of all"},
  {OP_erfc, small, "erfc"},
  {OP_erfc, to_the_tail, "erfc of all but zeros"},
};

static Node *input(Graph *g, Arena *a, Feed *feed, const char *name, Fill *fill) {
  Type t = type_of(DT_f32, 1, (int64_t[]){N});
  double *data = arena_alloc(a, sizeof *data * N);
  for (int i = 0; i < N; i++) data[i] = (float)fill(i);
  *feed = (Feed){OP_input, intern(name), data};
  return ir_leaf(g, OP_input, intern(name), &t);
}

static void one(Bench *b, const Target *t, const Sweep *s) {
  Graph *g = graph_new("math");
  Arena *a = arena_new();
  Feed feed;
  Node *x = input(g, a, &feed, "x", s->fill);
  ir_output(g, OUT_value, "y", ir_make(g, s->op, NULL, NULL, 1, &x));
  check_graph(b, t, g, &feed, 1, s->title, CHECK_boundary);
  graph_free(g);
  arena_free(a);
}

static double base(int i) { return exp2(-20 + 40 * unit(i, 8)); }
static double power(int i) { /* x^y is a normal number */
  double limit = 125 / fmax(1, fabs(log2(base(i))));
  return (2 * unit(i, 9) - 1) * limit;
}
static double almost_one(int i) {
  return (float)(1 + either_sign(i, exp2(-22 + 12 * unit(i, 10))));
}
static double far_power(int i) { return (2 * unit(i, 11) - 1) * 80 / fabs(log(almost_one(i))); }
static double whole_base(int i) { return (double)(i % 41 - 20); }
static double whole_power(int i) { return (double)(i / 41 % 6); }
static double dividend(int i) { return either_sign(i / 2, exp2(-20 + 40 * unit(i, 12))); }
static double divisor(int i) { return either_sign(i, dividend(i) * exp2(-22 + 30 * unit(i, 13))); }

static void two(Bench *b, const Target *t, Op op, Fill *x, Fill *y, const char *title,
                unsigned flags) {
  Graph *g = graph_new("math");
  Arena *a = arena_new();
  Feed feed[2];
  Node *src[2] = {input(g, a, &feed[0], "x", x), input(g, a, &feed[1], "y", y)};
  ir_output(g, OUT_value, "z", ir_make(g, op, NULL, NULL, 2, src));
  check_graph(b, t, g, feed, 2, title, flags);
  graph_free(g);
  arena_free(a);
}

/* Every upper half of an f32 with lower halves on both sides of what rounds up, and at it. */
static void rounding(Bench *b, const Target *t, DType half) {
  static const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff, 0x0fff, 0x1000, 0x1001};
  enum { HIGH = 1 << 16 };
  Graph *g = graph_new("rounding");
  Arena *a = arena_new();
  Type type = type_of(DT_f32, 2, (int64_t[]){HIGH, COUNT_OF(low)});
  double *data = arena_alloc(a, sizeof *data * (size_t)type_count(&type));
  for (int i = 0; i < HIGH * COUNT_OF(low); i++) {
    uint32_t bits = (uint32_t)(i / COUNT_OF(low)) << 16 | low[i % COUNT_OF(low)];
    float x;
    memcpy(&x, &bits, sizeof x);
    data[i] = x;
  }
  Feed feed = {OP_input, intern("x"), data};
  Node *x = ir_cast(g, ir_leaf(g, OP_input, intern("x"), &type), half);
  ir_output(g, OUT_value, "half", x);
  ir_output(g, OUT_value, "rounded", ir_cast(g, x, DT_f32));
  check_graph(b, t, g, &feed, 1, dtype_name(half), CHECK_exact | CHECK_boundary);
  graph_free(g);
  arena_free(a);
}

int main(void) {
  Bench b;
  Buf why = {0};
  if (!bench_open(&b, &why)) {
    printf("skipped: no Vulkan device: %s\n", why.data);
    return 0;
  }
  for (int i = 0; i < COUNT_OF(sweep); i++) one(&b, &target_portable, &sweep[i]);
  two(&b, &target_portable, OP_pow, base, power, "pow", 0);
  two(&b, &target_portable, OP_pow, almost_one, far_power, "pow near 1", 0);
  two(&b, &target_portable, OP_pow, whole_base, whole_power, "pow of whole numbers", CHECK_exact);
  two(&b, &target_portable, OP_mod, dividend, divisor, "mod", 0);
  two(&b, &target_portable, OP_div, dividend, divisor, "div", 0);
  rounding(&b, &target_portable, DT_f16);
  rounding(&b, &b.native, DT_f16);
  rounding(&b, &target_portable, DT_bf16);
  rounding(&b, &b.native, DT_bf16);
  printf("%d kernels, %d wrong\n", b.kernels, b.wrong);
  bench_close(&b);
  return b.wrong != 0;
}
