/* Cases of reductions, scans and products. */
#include "tests/gen/gen_internal.h"

#include <math.h>
#include <string.h>

static const Type ranked[] = {
  {.dtype = DT_f32, .rank = 1, .dim = {5}},
  {.dtype = DT_f32, .rank = 2, .dim = {3, 5}},
  {.dtype = DT_f32, .rank = 3, .dim = {4, 1, 3}},
  {.dtype = DT_f32, .rank = 4, .dim = {2, 3, 1, 4}},
};
static const Type long_rows[] = {
  {.dtype = DT_f32, .rank = 2, .dim = {3, 300}},
  {.dtype = DT_f32, .rank = 2, .dim = {130, 7}},
  {.dtype = DT_f32, .rank = 3, .dim = {2, 65, 9}},
  {.dtype = DT_f32, .rank = 1, .dim = {2049}},
};

static Node *over(Gen *k, Node *x, unsigned axes) {
  int axis[IR_MAX_RANK], n = 0;
  for (int i = 0; i < x->type.rank; i++)
    if (axes >> i & 1) axis[n++] = i;
  return ir_reduce(k->g, k->op, x, n, axis);
}

/* every set of axes of ranks 1 to 4, then long rows, views, other types, edges */
static void reductions(Gen *k, Values smooth, Values whole, unsigned always) {
  for (int i = 0; i < COUNT_OF(ranked); i++)
    for (unsigned axes = 1; axes < 1u << ranked[i].rank; axes++)
      if (gen_next(k, GEN_smooth | always)) k->y = over(k, gen_in(k, "x", ranked[i], smooth), axes);
  for (int i = 0; i < COUNT_OF(long_rows); i++)
    for (unsigned axes = 1; axes < 1u << long_rows[i].rank; axes++) {
      bool calm = k->op != OP_reduce_prod; /* a product of hundreds is no place for differences */
      Values v = calm ? smooth : (Values){FILL_signed, 0.98, 1.02, NULL, 0};
      if (gen_next(k, (calm ? GEN_smooth : 0) | always))
        k->y = over(k, gen_in(k, "x", long_rows[i], v), axes);
    }
  static const How view[] = {PERMUTED, SLICED};
  for (int i = 0; i < 2; i++)
    for (unsigned axes = 1; axes < 8; axes++)
      if (gen_next(k, GEN_smooth | always))
        k->y = over(k, gen_operand(k, "x", SHAPE(DT_f32, 3, 2, 5), smooth, view[i]), axes);
  for (unsigned axes = 1; axes < 4; axes++) {
    if (gen_next(k, GEN_exact)) k->y = over(k, gen_in(k, "x", SHAPE(DT_f32, 9, 17), whole), axes);
    if (gen_next(k, GEN_exact)) k->y = over(k, gen_in(k, "x", SHAPE(DT_i32, 9, 17), whole), axes);
    if (gen_next(k, GEN_exact))
      k->y = over(k, gen_operand(k, "x", SHAPE(DT_i32, 4, 6), whole, EXPANDED), axes);
    for (int d = DT_f16; d <= DT_bf16; d++)
      if (gen_next(k, always))
        k->y = over(k, gen_in(k, "x", SHAPE(d, 4, 6), UNIFORM(0.5, 1.5)), axes);
  }
  if (gen_next(k, GEN_boundary | GEN_exact))
    k->y = over(k, gen_in(k, "x", SHAPE(DT_i32, gen_n_edge_i32, 2), EDGES_I32), 1);
  /* rows with +inf, with −inf, with both, with a NaN among numbers, with a NaN first and last */
  static const double odd[] = {1, INFINITY, -2, 3,   -INFINITY, 1,   2, 4, INFINITY, 1, -INFINITY,
                               2, 1,        2,  NAN, 3,         NAN, 1, 2, INFINITY, 5, 1,
                               2, NAN,      0,  0,   -0.0,      0,   2, 2, 2,        2};
  if (gen_next(k, GEN_boundary | always))
    k->y = over(k, gen_in(k, "x", SHAPE(DT_f32, 8, 4), LIST(odd)), 2);
  if (gen_next(k, GEN_boundary | always))
    k->y = over(k, gen_in(k, "x", SHAPE(DT_f32, 4, 8), LIST(odd)), 1);
}

void gen_reduce_sum(Gen *k) { reductions(k, UNIFORM(-2, 2), WHOLE(-9, 9), 0); }
void gen_reduce_max(Gen *k) { reductions(k, DISTINCT(0.1), WHOLE(-9, 9), GEN_exact); }
void gen_reduce_min(Gen *k) { reductions(k, DISTINCT(0.1), WHOLE(-9, 9), GEN_exact); }

void gen_reduce_prod(Gen *k) {
  reductions(k, (Values){FILL_signed, 0.5, 1.5, NULL, 0}, (Values){FILL_signed, 1, 1, NULL, 0}, 0);
  /* polynomials are smooth at zero: rows with none, one, two and only zeros */
  static const double zeros[] = {1.5, -0.5, 2, 1, 0.5, 0, -1.5, 2, 0, 0.75, 0, 1, 0, 0, 0, 0};
  for (unsigned axes = 1; axes < 4; axes++)
    if (gen_next(k, GEN_smooth))
      k->y = over(k, gen_in(k, "x", SHAPE(DT_f32, 4, 4), LIST(zeros)), axes);
}

void gen_argmax(Gen *k) {
  for (int i = 0; i < COUNT_OF(ranked); i++)
    for (int axis = 0; axis < ranked[i].rank; axis++) {
      if (gen_next(k, GEN_exact))
        k->y = ir_argmax(k->g, gen_in(k, "x", ranked[i], DISTINCT(0.1)), axis);
      if (gen_next(k, GEN_exact)) /* ties */
        k->y = ir_argmax(k->g, gen_in(k, "x", gen_retype(ranked[i], DT_i32), WHOLE(0, 1)), axis);
    }
  for (int i = 0; i < COUNT_OF(long_rows); i++)
    for (int axis = 0; axis < long_rows[i].rank; axis++)
      if (gen_next(k, GEN_exact))
        k->y = ir_argmax(k->g, gen_in(k, "x", long_rows[i], WHOLE(-50, 50)), axis);
  for (int axis = 0; axis < 3; axis++)
    if (gen_next(k, GEN_exact))
      k->y =
        ir_argmax(k->g, gen_operand(k, "x", SHAPE(DT_f32, 3, 2, 5), DISTINCT(0.1), PERMUTED), axis);
  static const double odd[] = {-INFINITY, -INFINITY, -INFINITY, 1,        NAN, 2,        NAN,
                               3,         1,         INFINITY,  INFINITY, NAN, 0,        -0.0,
                               0,         -5,        -5,        -5,       NAN, INFINITY, 1};
  for (int axis = 0; axis < 2; axis++)
    if (gen_next(k, GEN_exact | GEN_boundary))
      k->y = ir_argmax(k->g, gen_in(k, "x", SHAPE(DT_f32, 7, 3), LIST(odd)), axis);
}

void gen_cumsum(Gen *k) {
  for (int reverse = 0; reverse < 2; reverse++) {
    for (int i = 0; i < COUNT_OF(ranked); i++)
      for (int axis = 0; axis < ranked[i].rank; axis++)
        if (gen_next(k, GEN_smooth))
          k->y = ir_cumsum(k->g, gen_in(k, "x", ranked[i], UNIFORM(-2, 2)), axis, reverse);
    for (int i = 0; i < COUNT_OF(long_rows); i++)
      for (int axis = 0; axis < long_rows[i].rank; axis++)
        if (gen_next(k, GEN_exact))
          k->y = ir_cumsum(k->g, gen_in(k, "x", long_rows[i], WHOLE(-9, 9)), axis, reverse);
    for (int axis = 0; axis < 2; axis++) {
      if (gen_next(k, GEN_exact))
        k->y = ir_cumsum(k->g, gen_in(k, "x", SHAPE(DT_i32, 5, 6), WHOLE(-9, 9)), axis, reverse);
      if (gen_next(k, GEN_smooth))
        k->y = ir_cumsum(
          k->g,
          gen_operand(k, "x", SHAPE(DT_f32, 5, 6), UNIFORM(-2, 2), axis ? PERMUTED : EXPANDED),
          axis, reverse);
      if (gen_next(k, 0))
        k->y = ir_cumsum(k->g, gen_in(k, "x", SHAPE(axis ? DT_f16 : DT_bf16, 5, 6), UNIFORM(-2, 2)),
                         axis, reverse);
    }
    static const double odd[] = {1, INFINITY, 2, 1, NAN, 3, 1, 2, 3, 1, INFINITY, -INFINITY};
    if (gen_next(k, GEN_boundary))
      k->y = ir_cumsum(k->g, gen_in(k, "x", SHAPE(DT_f32, 4, 3), LIST(odd)), 1, reverse);
  }
}

/* ---- products ---- */
typedef struct Product {
  int rank;
  int64_t batch[2], m, k, n;
} Product;

static const Product product[] = {
  {2, {0}, 1, 1, 1},    {2, {0}, 3, 5, 7}, {2, {0}, 8, 8, 8},    {2, {0}, 1, 19, 9},
  {2, {0}, 9, 19, 1},   {2, {0}, 5, 1, 6}, {2, {0}, 33, 17, 65}, {2, {0}, 6, 300, 5},
  {3, {2}, 3, 4, 5},    {3, {1}, 4, 3, 2}, {3, {3}, 1, 5, 1},    {4, {2, 3}, 3, 4, 5},
  {4, {1, 2}, 7, 5, 3},
};

static Type matrix(const Product *p, DType d, int64_t rows, int64_t cols) {
  Type t = {.dtype = (uint8_t)d, .rank = (uint8_t)p->rank};
  for (int i = 0; i < p->rank - 2; i++) t.dim[i] = p->batch[i];
  t.dim[p->rank - 2] = rows;
  t.dim[p->rank - 1] = cols;
  return t;
}

/* An operand, dense or stored transposed. */
static Node *factor(Gen *k, const char *name, const Product *p, DType d, int64_t rows, int64_t cols,
                    Values v, bool turned) {
  if (!turned) return gen_in(k, name, matrix(p, d, rows, cols), v);
  int perm[4] = {0, 1, 2, 3};
  perm[p->rank - 2] = p->rank - 1;
  perm[p->rank - 1] = p->rank - 2;
  return ir_permute(k->g, gen_in(k, name, matrix(p, d, cols, rows), v), perm);
}

static void multiply(Gen *k, const Product *p, DType d, Values v, int turned) {
  Node *a = factor(k, "a", p, d, p->m, p->k, v, turned & 1);
  k->y = ir_matmul(k->g, a, factor(k, "b", p, d, p->k, p->n, v, turned & 2));
}

void gen_matmul(Gen *k) {
  for (int turned = 0; turned < 4; turned++)
    for (int i = 0; i < COUNT_OF(product); i++)
      if (gen_next(k, GEN_smooth)) multiply(k, &product[i], DT_f32, UNIFORM(-2, 2), turned);
  for (int i = 0; i < COUNT_OF(product); i++)
    if (gen_next(k, GEN_exact)) multiply(k, &product[i], DT_f32, WHOLE(-5, 5), 0);
  static const Product big = {2, {0}, 97, 130, 71};
  for (int turned = 0; turned < 4; turned++)
    if (gen_next(k, GEN_exact)) multiply(k, &big, DT_f32, WHOLE(-5, 5), turned);
  for (int d = DT_f16; d <= DT_bf16; d++)
    if (gen_next(k, 0)) multiply(k, &product[6], (DType)d, UNIFORM(-2, 2), 0);
  /* operands that are other views: a batch of one matrix, a piece of a matrix */
  static const Type left = {.dtype = DT_f32, .rank = 3, .dim = {4, 3, 5}},
                    right = {.dtype = DT_f32, .rank = 3, .dim = {4, 5, 6}};
  static const How how[][2] = {
    {DENSE, EXPANDED}, {EXPANDED, DENSE}, {SLICED, DENSE}, {DENSE, SLICED}, {SCALAR, DENSE}};
  for (int i = 0; i < COUNT_OF(how); i++)
    if (gen_next(k, GEN_smooth)) {
      Node *a = gen_operand(k, "a", left, UNIFORM(-2, 2), how[i][0]);
      k->y = ir_matmul(k->g, a, gen_operand(k, "b", right, UNIFORM(-2, 2), how[i][1]));
    }
  if (gen_next(k, GEN_smooth)) { /* x · xᵀ: one tensor on both sides */
    Node *x = gen_in(k, "a", SHAPE(DT_f32, 2, 4, 5), UNIFORM(-2, 2));
    k->y = ir_matmul(k->g, x, ir_permute(k->g, x, (int[]){0, 2, 1}));
  }
  static const double odd[] = {1, INFINITY, 0, 2, NAN, 1, -INFINITY, 0, 3, 1, 1, 1};
  if (gen_next(k, GEN_boundary)) { /* infinity times zero is NaN */
    Node *a = gen_in(k, "a", SHAPE(DT_f32, 4, 3), LIST(odd));
    k->y = ir_matmul(k->g, a, gen_in(k, "b", SHAPE(DT_f32, 3, 4), WHOLE(0, 1)));
  }
}

/* Whole and cut tiles, spans of parts of tiles and of several; spare slots. */
void gen_matmul_spans(Gen *k) {
  static const int64_t spans[][4] = {{1, 8, 8, 16},   {5, 8, 8, 16},    {3, 40, 8, 65},
                                     {12, 16, 16, 8}, {30, 16, 16, 16}, {3, 5, 7, 9}};
  const Product *p = &product[6];
  for (int i = 0; i < COUNT_OF(spans); i++) {
    if (!gen_next(k, GEN_exact)) continue;
    Attr attr = {.n_int = 4};
    memcpy(attr.ints, spans[i], sizeof spans[i]);
    Node *a = factor(k, "a", p, DT_f32, p->m, p->k, WHOLE(-5, 5), i & 1);
    Node *b = factor(k, "b", p, DT_f32, p->k, p->n, WHOLE(-5, 5), i & 2);
    k->y = ir_make(k->g, OP_matmul_spans, NULL, &attr, 2, (Node *[]){a, b});
  }
}
