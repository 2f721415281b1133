/* Cases of the elementwise operations. */
#include "tests/gen/gen_internal.h"

#include <math.h>

static const struct Variant {
  Type type;
  How how[3];
} variant[] = {
  {{.dtype = DT_f32, .rank = 0}, {DENSE, DENSE, DENSE}},
  {{.dtype = DT_f32, .rank = 1, .dim = {7}}, {DENSE, DENSE, DENSE}},
  {{.dtype = DT_f32, .rank = 2, .dim = {3, 5}}, {DENSE, EXPANDED, DENSE}},
  {{.dtype = DT_f32, .rank = 2, .dim = {5, 6}}, {EXPANDED, DENSE, SLICED}},
  {{.dtype = DT_f32, .rank = 3, .dim = {4, 1, 3}}, {PERMUTED, DENSE, EXPANDED}},
  {{.dtype = DT_f32, .rank = 3, .dim = {2, 3, 4}}, {SLICED, PERMUTED, SCALAR}},
  {{.dtype = DT_f32, .rank = 4, .dim = {2, 1, 3, 4}}, {SCALAR, SLICED, PERMUTED}},
  {{.dtype = DT_f32, .rank = 4, .dim = {3, 2, 1, 5}}, {DENSE, SCALAR, DENSE}},
  {{.dtype = DT_f32, .rank = 2, .dim = {1, 1}}, {DENSE, DENSE, DENSE}},
  {{.dtype = DT_f32, .rank = 2, .dim = {33, 70}}, {DENSE, DENSE, DENSE}},
};

static Type list_type(DType d, int n) { return SHAPE(d, n); }

/* What an operation's sources may be, and where its result is exact. */
typedef struct Kind {
  Values smooth, other;  /* domains of the first and the second source */
  bool whole;            /* exact on small whole numbers */
  bool always;           /* exact on everything */
  bool integer, boolean; /* takes i32, bool */
  double edge;           /* edges of larger magnitude are left out, except infinities */
} Kind;

static Node *apply(Gen *k, Node *x, Node *y) {
  return ir_make(k->g, k->op, NULL, NULL, y ? 2 : 1, (Node *[]){x, y});
}

static Node *pair(Gen *k, const Kind *kind, Type t, Values v, const How *how) {
  Node *x = gen_operand(k, "a", t, v, how[0]);
  Node *y = ir_op[k->op].n_src == 2
              ? gen_operand(k, "b", t, kind->other.hi != 0 ? kind->other : v, how[1])
              : NULL;
  return apply(k, x, y);
}

/* Edges; for two sources every pair of them. */
static void edges(Gen *k, DType d, const double *edge, int n, double largest) {
  double kept[64], first[64 * 64], second[64 * 64];
  int m = 0;
  for (int i = 0; i < n; i++)
    if (!isfinite(edge[i]) || fabs(edge[i]) <= largest) kept[m++] = edge[i];
  if (ir_op[k->op].n_src == 1) {
    k->y = apply(k, gen_in(k, "a", list_type(d, m), ((Values){FILL_list, 0, 0, kept, m})), NULL);
    return;
  }
  for (int i = 0; i < m * m; i++) {
    first[i] = kept[i / m];
    second[i] = kept[i % m];
  }
  Node *x = gen_in(k, "a", list_type(d, m * m), ((Values){FILL_list, 0, 0, first, m * m}));
  k->y =
    apply(k, x, gen_in(k, "b", list_type(d, m * m), ((Values){FILL_list, 0, 0, second, m * m})));
}

static void elementwise(Gen *k, const Kind *kind) {
  unsigned always = kind->always ? GEN_exact : 0;
  unsigned smooth = (ir_op[k->op].flags & IR_DIFF) && k->op != OP_stop_gradient ? GEN_smooth : 0;
  static const How dense[3];
  Values small = WHOLE(-9, 9), bits = WHOLE(0, 1);
  bool is_float = kind->smooth.hi != 0 || kind->smooth.lo != 0;
  for (int i = 0; i < COUNT_OF(variant) && is_float; i++)
    if (gen_next(k, smooth | always))
      k->y = pair(k, kind, variant[i].type, kind->smooth, variant[i].how);
  for (int i = 0; i < 2 && is_float; i++)
    if (gen_next(k, always))
      k->y = pair(k, kind, SHAPE(i ? DT_bf16 : DT_f16, 5, 13), kind->smooth, dense);
  Kind whole = *kind;
  whole.other = (Values){0};
  if (kind->whole && gen_next(k, GEN_exact))
    k->y = pair(k, &whole, SHAPE(DT_f32, 9, 11), small, dense);
  if (is_float && gen_next(k, GEN_boundary | always))
    edges(k, DT_f32, gen_edge_f32, gen_n_edge_f32, kind->edge);
  for (int i = 0; i < COUNT_OF(variant) && kind->integer; i += 2)
    if (gen_next(k, GEN_exact))
      k->y = pair(k, &whole, gen_retype(variant[i].type, DT_i32), small, variant[i].how);
  if (kind->integer && gen_next(k, GEN_exact | GEN_boundary))
    edges(k, DT_i32, gen_edge_i32, gen_n_edge_i32, INFINITY);
  for (int i = 0; i < COUNT_OF(variant) && kind->boolean; i += 2)
    if (gen_next(k, GEN_exact))
      k->y = pair(k, &whole, gen_retype(variant[i].type, DT_bool), bits, variant[i].how);
}

#define CASES(op, ...)                                                                             \
  void gen_##op(Gen *k) { elementwise(k, &(Kind){__VA_ARGS__}); }
#define SIGNED(a, b) ((Values){FILL_signed, a, b, NULL, 0})
#define FRACTION(a, b) ((Values){FILL_fraction, a, b, NULL, 0})

CASES(neg, .smooth = UNIFORM(-2, 2), .always = true, .integer = true, .edge = INFINITY)
CASES(abs, .smooth = SIGNED(0.1, 2), .always = true, .integer = true, .edge = INFINITY)
CASES(sign, .smooth = SIGNED(0.1, 2), .always = true, .integer = true, .edge = INFINITY)
CASES(exp, .smooth = UNIFORM(-3, 3), .edge = INFINITY)
CASES(expm1, .smooth = UNIFORM(-2, 2), .edge = INFINITY)
CASES(log, .smooth = UNIFORM(0.2, 3), .edge = INFINITY)
CASES(log1p, .smooth = UNIFORM(-0.7, 3), .edge = INFINITY)
CASES(sqrt, .smooth = UNIFORM(0.2, 3), .edge = INFINITY)
CASES(rsqrt, .smooth = UNIFORM(0.2, 3), .edge = INFINITY)
CASES(sin, .smooth = UNIFORM(-9, 9), .edge = 1000)
CASES(cos, .smooth = UNIFORM(-9, 9), .edge = 1000)
CASES(tanh, .smooth = UNIFORM(-3, 3), .edge = INFINITY)
CASES(sigmoid, .smooth = UNIFORM(-5, 5), .edge = INFINITY)
CASES(erf, .smooth = UNIFORM(-3, 3), .edge = INFINITY)
CASES(erfc, .smooth = UNIFORM(-3, 3), .edge = INFINITY)
CASES(gelu_tanh, .smooth = UNIFORM(-4, 4), .edge = 1e10)
CASES(gelu_erf, .smooth = UNIFORM(-4, 4), .edge = INFINITY)
CASES(silu, .smooth = UNIFORM(-4, 4), .edge = INFINITY)
CASES(relu, .smooth = SIGNED(0.1, 2), .always = true, .integer = true, .edge = INFINITY)
CASES(floor, .smooth = FRACTION(-4, 4), .always = true, .edge = INFINITY)
CASES(ceil, .smooth = FRACTION(-4, 4), .always = true, .edge = INFINITY)
CASES(round, .smooth = FRACTION(-4, 4), .always = true, .edge = INFINITY)
CASES(isfinite, .smooth = UNIFORM(-2, 2), .always = true, .edge = INFINITY)
CASES(not, .boolean = true)
CASES(stop_gradient, .smooth = UNIFORM(-2, 2), .always = true, .integer = true, .boolean = true,
      .edge = INFINITY)

CASES(add, .smooth = UNIFORM(-2, 2), .whole = true, .integer = true, .edge = INFINITY)
CASES(sub, .smooth = UNIFORM(-2, 2), .whole = true, .integer = true, .edge = INFINITY)
CASES(mul, .smooth = UNIFORM(-2, 2), .whole = true, .integer = true, .edge = INFINITY)
CASES(div, .smooth = SIGNED(0.3, 2), .edge = INFINITY)
CASES(eq, .smooth = WHOLE(-3, 3), .always = true, .integer = true, .boolean = true,
      .edge = INFINITY)
CASES(ne, .smooth = WHOLE(-3, 3), .always = true, .integer = true, .boolean = true,
      .edge = INFINITY)
CASES(lt, .smooth = WHOLE(-3, 3), .always = true, .integer = true, .boolean = true,
      .edge = INFINITY)
CASES(le, .smooth = WHOLE(-3, 3), .always = true, .integer = true, .boolean = true,
      .edge = INFINITY)
CASES(gt, .smooth = WHOLE(-3, 3), .always = true, .integer = true, .boolean = true,
      .edge = INFINITY)
CASES(ge, .smooth = WHOLE(-3, 3), .always = true, .integer = true, .boolean = true,
      .edge = INFINITY)
CASES(and, .boolean = true)
CASES(or, .boolean = true)

/* The second source lies between the first's values: a whole number and a half against whole
 * numbers and a quarter. */
static void extreme(Gen *k) {
  static const double first[] = {0.25, -1.75, 2.25, 1.25, -0.75},
                      second[] = {0.75, -0.25, 1.75, -2.25, 2.75, -1.25, 0.5};
  Kind kind = {.smooth = LIST(first),
               .other = LIST(second),
               .always = true,
               .integer = true,
               .edge = INFINITY};
  kind.smooth.hi = kind.other.hi = 1;
  elementwise(k, &kind);
}
void gen_min(Gen *k) { extreme(k); }
void gen_max(Gen *k) { extreme(k); }

/* x = y·(whole + fraction), so that x/y is no whole number; lists of 12 and 4 keep that true
 * through equal views. */
void gen_mod(Gen *k) {
  static const double divisor[] = {1.5, -0.75, 2, 1.25};
  static const How how[][2] = {
    {DENSE, DENSE}, {PERMUTED, PERMUTED}, {DENSE, SCALAR}, {SLICED, SLICED}};
  double x[64];
  for (int i = 0; i < 64; i++) x[i] = divisor[i % 4] * (i * 7 % 11 - 5 + 0.15 + 0.1 * (i % 7));
  for (int i = 0; i < gen_n_shapes * COUNT_OF(how); i++) {
    if (!gen_next(k, GEN_smooth)) continue;
    const How *h = how[i % COUNT_OF(how)];
    Type t = gen_shapes[i / COUNT_OF(how)];
    double scalar[16];
    for (int j = 0; j < 16; j++) scalar[j] = x[4 * j];
    Node *a = gen_operand(k, "a", t, h[1] == SCALAR ? LIST(scalar) : LIST(x), h[0]);
    k->y = apply(k, a, gen_operand(k, "b", t, LIST(divisor), h[1]));
  }
  elementwise(k, &(Kind){.whole = true, .integer = true});
  static const double moderate[] = {0, -0.0, 1, -1, 0.5, -1.5, 2.5,  -2.5,
                                    3, -3,   7, -7, 100, -100, 0.25, NAN};
  if (gen_next(k, GEN_boundary)) edges(k, DT_f32, moderate, COUNT_OF(moderate), INFINITY);
}

void gen_pow(Gen *k) {
  elementwise(k, &(Kind){.smooth = UNIFORM(0.2, 2.5), .other = UNIFORM(-2, 2), .edge = INFINITY});
  /* whole exponents: negative bases are fine; the exponent is a constant since nothing is smooth in
   * it there */
  static const double exponent[] = {0, 1, 2, 3, -1, -2, 5, 0.5};
  for (int i = 0; i < COUNT_OF(exponent); i++) {
    if (!gen_next(k, GEN_smooth)) continue;
    Type t = SHAPE(DT_f32, 3, 5);
    Node *x = gen_in(k, "a", t, exponent[i] == 0.5 ? UNIFORM(0.2, 2) : SIGNED(0.3, 2));
    k->y = apply(k, x, ir_const(k->g, exponent[i], &t));
  }
}

void gen_where(Gen *k) {
  static const double half[] = {1, 0, 0, 1, 1, 0, 1}; /* both choices occur */
  for (int i = 0; i < COUNT_OF(variant); i++)
    if (gen_next(k, GEN_smooth | GEN_exact)) {
      const struct Variant *v = &variant[i];
      Node *c = gen_operand(k, "c", gen_retype(v->type, DT_bool), LIST(half), v->how[0]);
      Node *x = gen_operand(k, "a", v->type, UNIFORM(-2, 2), v->how[1]);
      k->y = ir_where(k->g, c, x, gen_operand(k, "b", v->type, UNIFORM(-2, 2), v->how[2]));
    }
  for (int d = 0; d < DT_f32; d++)
    if (gen_next(k, GEN_exact)) {
      Node *c = gen_in(k, "c", SHAPE(DT_bool, 5, 7), WHOLE(0, 1)),
           *x = gen_in(k, "a", SHAPE(d, 5, 7), WHOLE(-9, 9));
      k->y = ir_where(k->g, c, x, gen_in(k, "b", SHAPE(d, 5, 7), WHOLE(-9, 9)));
    }
  if (gen_next(k, GEN_exact | GEN_boundary)) { /* a NaN that is not chosen leaves no trace */
    Type t = SHAPE(DT_f32, 2, gen_n_edge_f32);
    Node *c = gen_in(k, "c", gen_retype(t, DT_bool), LIST(half)),
         *x = gen_in(k, "a", t, UNIFORM(-2, 2));
    k->y = ir_where(k->g, c, x, gen_in(k, "b", t, EDGES_F32));
  }
}

/* values at halves of the last place, and at the ends of the types */
static const double cast_edge[] = {
  0x1.002p0,  0x1.006p0,    0x1.01p0,     0x1.03p0,      65504,   65519,       65520,
  -65520,     0x1p-24,      0x1p-25,      0x1.8p-25,     0x1p-14, 0x1.ffcp-15, 0x1.fep127,
  0x1.ffp127, 2147483520.0, 2147483648.0, -2147483648.0, 3e9,     -3e9,        2.9,
  -2.9,       0.99,         -0.99,        1e30,
};

void gen_cast(Gen *k) {
  for (int from = 0; from < DT_COUNT; from++)
    for (int to = 0; to < DT_COUNT; to++)
      for (int i = 0; i < 3; i++) {
        if (from == to || !gen_next(k, GEN_exact)) continue;
        const struct Variant *v = &variant[(from + 2 * to + 3 * i) % COUNT_OF(variant)];
        Values values = from == DT_bool  ? WHOLE(0, 1)
                        : from == DT_i32 ? WHOLE(-99, 99)
                                         : UNIFORM(-4, 4);
        k->y =
          ir_cast(k->g, gen_operand(k, "a", gen_retype(v->type, (DType)from), values, v->how[i]),
                  (DType)to);
      }
  for (int to = 0; to < DT_f32; to++) {
    if (gen_next(k, GEN_exact | GEN_boundary))
      k->y = ir_cast(k->g, gen_in(k, "a", list_type(DT_f32, gen_n_edge_f32), EDGES_F32), (DType)to);
    if (gen_next(k, GEN_exact | GEN_boundary))
      k->y = ir_cast(k->g, gen_in(k, "a", list_type(DT_f32, COUNT_OF(cast_edge)), LIST(cast_edge)),
                     (DType)to);
    if (to != DT_i32 && gen_next(k, GEN_exact | GEN_boundary))
      k->y = ir_cast(k->g, gen_in(k, "a", list_type(DT_i32, gen_n_edge_i32), EDGES_I32), (DType)to);
  }
}
