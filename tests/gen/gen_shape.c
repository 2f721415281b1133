/* Cases of leaves, views and indexing. Nothing is rounded, so everything is exact. */
#include "tests/gen/gen_internal.h"

#include <math.h>

/* ---- leaves ---- */
void gen_const(Gen *k) {
  static const double value[] = {0, -0.0, 1, -2.5, INFINITY, -INFINITY, NAN, 0x1.fffffep127};
  for (int i = 0; i < gen_n_shapes; i++)
    if (gen_next(k, GEN_exact)) k->y = ir_const(k->g, 1.5 * i - 2, &gen_shapes[i]);
  for (int i = 0; i < COUNT_OF(value); i++)
    if (gen_next(k, GEN_exact | GEN_boundary)) k->y = ir_const(k->g, value[i], &gen_shapes[2]);
  for (int d = 0; d < DT_f32; d++)
    if (gen_next(k, GEN_exact))
      k->y =
        ir_const(k->g, d == DT_bool ? 1 : -3, &(Type){.dtype = (uint8_t)d, .rank = 1, .dim = {5}});
  if (gen_next(k, GEN_exact | GEN_boundary))
    k->y = ir_const(k->g, INT32_MIN, &(Type){.dtype = DT_i32});
}

void gen_iota(Gen *k) {
  for (int i = 0; i < gen_n_shapes; i++)
    for (int axis = 0; axis < gen_shapes[i].rank; axis++)
      for (int d = DT_i32; d < DT_COUNT; d += DT_f32 - DT_i32) {
        Type t = gen_retype(gen_shapes[i], (DType)d);
        if (gen_next(k, GEN_exact)) k->y = ir_iota(k->g, axis, &t);
      }
  if (gen_next(k, GEN_exact))
    k->y = ir_iota(k->g, 0, &(Type){.dtype = DT_bf16, .rank = 1, .dim = {1027}});
}

void gen_position(Gen *k) {
  for (int t = 1; t < 300; t += 66)
    if (gen_next(k, GEN_exact))
      k->y =
        ir_make(k->g, OP_position, &(Type){.dtype = DT_i32, .rank = 1, .dim = {t}}, NULL, 0, NULL);
}

static void leaf(Gen *k) {
  for (int i = 0; i < gen_n_shapes; i++)
    if (gen_next(k, GEN_exact)) k->y = gen_leaf(k, k->op, "a.leaf", gen_shapes[i], UNIFORM(-2, 2));
  for (int d = 0; d < DT_f32; d++)
    if (gen_next(k, GEN_exact)) k->y = gen_leaf(k, k->op, "a.leaf", SHAPE(d, 3, 5), WHOLE(0, 1));
}
void gen_param(Gen *k) { leaf(k); }
void gen_state(Gen *k) { leaf(k); }
void gen_input(Gen *k) { leaf(k); }

void gen_fold(Gen *k) {
  for (int i = 1; i < gen_n_shapes; i++)
    if (gen_next(k, 0)) { /* the sine of a large angle needs the f64 that a fold promises */
      Node *x = ir_iota(k->g, gen_shapes[i].rank - 1, &gen_shapes[i]);
      k->y = ir_fold(k->g, ir_sin(k->g, ir_mul(k->g, x, ir_const(k->g, 1234.5, &gen_shapes[i]))));
    }
  if (gen_next(k, GEN_exact)) {
    Type t = SHAPE(DT_i32, 4, 6);
    k->y = ir_fold(k->g, ir_cumsum(k->g, ir_iota(k->g, 1, &t), 0, false));
  }
}

void gen_random(Gen *k) {
  static const double seed[][4] = {{0, 0, 0, 0}, {1, 2, 3, 4}, {-1, INT32_MIN, 100000, 7}};
  static const int64_t place[] = {0, 1, 4294967295};
  for (int i = 0; i < gen_n_shapes; i++)
    for (int j = 0; j < 3; j++)
      if (gen_next(k, GEN_exact)) {
        Node *rng =
          gen_in(k, "rng", SHAPE(DT_i32, 4), ((Values){FILL_list, 0, 0, seed[(i + j) % 3], 4}));
        k->y = ir_random(k->g, rng, place[j], &gen_shapes[i]);
      }
}

/* ---- views ---- */
static const DType element[] = {DT_f32, DT_f32, DT_i32, DT_bool, DT_bf16};
static unsigned flags_of(DType d) { return GEN_exact | (d == DT_f32 ? GEN_smooth : 0); }
static Values values_of(DType d) {
  return d == DT_bool ? WHOLE(0, 1) : d == DT_i32 ? WHOLE(-99, 99) : UNIFORM(-2, 2);
}

void gen_reshape(Gen *k) {
  static const Type shape[][2] = {
    {{.rank = 0}, {.rank = 2, .dim = {1, 1}}},
    {{.rank = 1, .dim = {1}}, {.rank = 0}},
    {{.rank = 1, .dim = {12}}, {.rank = 2, .dim = {3, 4}}},
    {{.rank = 2, .dim = {3, 4}}, {.rank = 1, .dim = {12}}},
    {{.rank = 3, .dim = {2, 3, 4}}, {.rank = 2, .dim = {4, 6}}},
    {{.rank = 2, .dim = {6, 5}}, {.rank = 4, .dim = {3, 1, 2, 5}}},
    {{.rank = 4, .dim = {2, 1, 3, 5}}, {.rank = 3, .dim = {5, 3, 2}}},
    {{.rank = 2, .dim = {30, 77}}, {.rank = 3, .dim = {7, 11, 30}}},
  };
  for (int i = 0; i < COUNT_OF(shape); i++)
    for (How how = DENSE; how <= SLICED; how++) { /* of a view no strides may exist */
      DType d = element[(i + (int)how) % COUNT_OF(element)];
      if (how == SLICED && shape[i][0].rank == 0) continue;
      if (gen_next(k, flags_of(d)))
        k->y = ir_reshape(k->g, gen_operand(k, "x", gen_retype(shape[i][0], d), values_of(d), how),
                          shape[i][1].rank, shape[i][1].dim);
    }
}

void gen_expand(Gen *k) {
  static const Type shape[] = {{.rank = 1, .dim = {5}},
                               {.rank = 2, .dim = {3, 5}},
                               {.rank = 3, .dim = {2, 3, 4}},
                               {.rank = 4, .dim = {2, 3, 2, 5}},
                               {.rank = 2, .dim = {70, 33}}};
  for (int i = 0; i < COUNT_OF(shape); i++)
    for (unsigned axes = 1; axes < 1u << shape[i].rank; axes++) {
      DType d = element[(i + axes) % COUNT_OF(element)];
      if (!gen_next(k, flags_of(d))) continue;
      Type from = gen_retype(shape[i], d);
      for (int a = 0; a < from.rank; a++)
        if (axes >> a & 1) from.dim[a] = 1;
      k->y =
        ir_expand(k->g, gen_operand(k, "x", from, values_of(d), axes % 3 == 1 ? PERMUTED : DENSE),
                  shape[i].rank, shape[i].dim);
    }
}

void gen_permute(Gen *k) {
  static const struct Turn {
    Type type;
    int perm[4];
  } turn[] = {
    {{.rank = 2, .dim = {3, 5}}, {1, 0}},
    {{.rank = 2, .dim = {65, 34}}, {1, 0}},
    {{.rank = 3, .dim = {2, 3, 4}}, {0, 2, 1}},
    {{.rank = 3, .dim = {2, 3, 4}}, {1, 0, 2}},
    {{.rank = 3, .dim = {2, 3, 4}}, {1, 2, 0}},
    {{.rank = 3, .dim = {2, 3, 4}}, {2, 0, 1}},
    {{.rank = 3, .dim = {2, 1, 4}}, {2, 1, 0}},
    {{.rank = 4, .dim = {2, 3, 4, 5}}, {0, 2, 1, 3}},
    {{.rank = 4, .dim = {2, 3, 4, 5}}, {3, 2, 1, 0}},
    {{.rank = 4, .dim = {2, 1, 4, 5}}, {1, 3, 0, 2}},
    {{.rank = 4, .dim = {2, 3, 4, 5}}, {2, 3, 0, 1}},
  };
  for (int i = 0; i < COUNT_OF(turn); i++)
    for (How how = DENSE; how <= SLICED; how++) {
      DType d = element[(i + (int)how) % COUNT_OF(element)];
      if (gen_next(k, flags_of(d)))
        k->y = ir_permute(k->g,
                          gen_operand(k, "x", gen_retype(turn[i].type, d), values_of(d),
                                      how == PERMUTED ? DENSE : how),
                          turn[i].perm);
    }
}

/* Per dimension a part before, at or after the middle; never the whole tensor. */
void gen_slice(Gen *k) {
  for (int rank = 1; rank <= 4; rank++)
    for (int i = 0; i < 6; i++) {
      DType d = element[(i + rank) % COUNT_OF(element)];
      if (!gen_next(k, flags_of(d))) continue;
      Type t = {.dtype = (uint8_t)d, .rank = (uint8_t)rank};
      int64_t lo[4], hi[4];
      for (int a = 0; a < rank; a++) {
        t.dim[a] = 4 + a;
        int how = a == 0 ? i % 3 : (i + a) % 4; /* 3: whole, as other dimensions may be */
        lo[a] = how == 1 ? 1 : how == 2 ? t.dim[a] - 1 : 0;
        hi[a] = how == 0 ? 2 : how == 1 ? 3 : t.dim[a];
      }
      k->y = ir_slice(
        k->g, gen_operand(k, "x", t, values_of(d), i == 4 && rank > 1 ? PERMUTED : DENSE), lo, hi);
    }
}

void gen_pad(Gen *k) {
  static const double fill[] = {0, 1.5, -INFINITY, 0, 3};
  for (int rank = 1; rank <= 4; rank++)
    for (int i = 0; i < 6; i++) {
      DType d = element[(i + rank) % COUNT_OF(element)];
      double with = dtype_is_float(d) ? fill[i % 5] : d == DT_i32 ? -7 : 1;
      if (!gen_next(k, isfinite(with) ? flags_of(d) : GEN_exact)) continue;
      Type t = {.dtype = (uint8_t)d, .rank = (uint8_t)rank};
      int64_t lo[4], hi[4];
      for (int a = 0; a < rank; a++) {
        t.dim[a] = 2 + a;
        lo[a] = a == 0 ? i % 3 : (i + a) % 3 == 0;
        hi[a] = a == 0 ? 2 - i % 3 : (i + a) % 2 * 3;
      }
      k->y =
        ir_pad(k->g, gen_operand(k, "x", t, values_of(d), i == 4 && rank > 1 ? PERMUTED : DENSE),
               lo, hi, with);
    }
}

void gen_concat(Gen *k) {
  static const char *const name[] = {"a", "b", "c", "d", "e"};
  for (int rank = 1; rank <= 4; rank++)
    for (int axis = 0; axis < rank; axis++)
      for (int n = 2; n <= 5; n++) {
        DType d = element[(n + axis) % COUNT_OF(element)];
        if (!gen_next(k, flags_of(d))) continue;
        Node *src[5];
        for (int i = 0; i < n; i++) {
          Type t = {.dtype = (uint8_t)d, .rank = (uint8_t)rank};
          for (int a = 0; a < rank; a++) t.dim[a] = a == axis ? 1 + (i + n) % 3 : 2 + a;
          src[i] = gen_operand(k, name[i], t, values_of(d),
                               i == 1   ? PERMUTED
                               : i == 2 ? EXPANDED
                                        : DENSE);
        }
        k->y = ir_concat(k->g, axis, n, src);
      }
  if (gen_next(k, GEN_smooth | GEN_exact)) { /* one source twice */
    Node *x = gen_in(k, "a", SHAPE(DT_f32, 3, 2), UNIFORM(-2, 2));
    k->y =
      ir_concat(k->g, 1, 3, (Node *[]){x, gen_in(k, "b", SHAPE(DT_f32, 3, 1), UNIFORM(-2, 2)), x});
  }
}

/* ---- indexing ---- */
static const Type id_shape[] = {{.dtype = DT_i32, .rank = 0},
                                {.dtype = DT_i32, .rank = 1, .dim = {7}},
                                {.dtype = DT_i32, .rank = 2, .dim = {2, 3}},
                                {.dtype = DT_i32, .rank = 3, .dim = {2, 1, 4}}};
static const Type row_shape[] = {
  {.rank = 0}, {.rank = 1, .dim = {3}}, {.rank = 2, .dim = {2, 3}}, {.rank = 1, .dim = {70}}};
static const int64_t rows[] = {5, 1, 37};

static Type stack_type(DType d, const Type *outer, const Type *row) {
  Type t = gen_retype(*outer, d);
  for (int i = 0; i < row->rank; i++) t.dim[t.rank++] = row->dim[i];
  return t;
}

void gen_gather(Gen *k) {
  static const double odd[] = {0, -1, 5, 4, INT32_MAX, INT32_MIN, 2};
  for (int i = 0; i < COUNT_OF(id_shape); i++)
    for (int r = 0; r < COUNT_OF(row_shape); r++) {
      int64_t n = rows[(i + r) % COUNT_OF(rows)];
      DType d = element[(i + 2 * r) % COUNT_OF(element)];
      if (!gen_next(k, flags_of(d))) continue;
      Node *table = gen_in(k, "table", stack_type(d, &(Type){.rank = 1, .dim = {n}}, &row_shape[r]),
                           values_of(d));
      k->y = ir_gather(
        k->g, table,
        gen_operand(k, "ids", id_shape[i], WHOLE(0, (double)(n - 1)), r == 1 ? PERMUTED : DENSE));
    }
  for (int d = 0; d < DT_COUNT; d++)
    if (gen_next(k, GEN_exact | GEN_boundary)) {
      Node *table = gen_in(k, "table", SHAPE(d, 5, 3), values_of((DType)d));
      k->y = ir_gather(k->g, table, gen_in(k, "ids", id_shape[1], LIST(odd)));
    }
}

void gen_scatter_add(Gen *k) {
  static const double odd[] = {0, -1, 5, 4, INT32_MAX, INT32_MIN, 4};
  for (int i = 0; i < COUNT_OF(id_shape); i++)
    for (int r = 0; r < COUNT_OF(row_shape); r++) {
      int64_t n = rows[(i + r) % COUNT_OF(rows)];
      bool whole = (i + r) % 3 == 2;
      if (!gen_next(k, GEN_smooth | (whole ? GEN_exact : 0))) continue;
      Node *ids =
        gen_operand(k, "ids", id_shape[i], WHOLE(0, (double)(n - 1)), r == 1 ? PERMUTED : DENSE);
      Type t = stack_type(DT_f32, &id_shape[i], &row_shape[r]);
      k->y = ir_scatter_add(k->g, ids, gen_in(k, "x", t, whole ? WHOLE(-9, 9) : UNIFORM(-2, 2)), n);
    }
  for (int d = DT_i32; d < DT_COUNT;
       d++) /* ids outside are dropped; rows that no id names are zero */
    if (gen_next(k, GEN_exact | GEN_boundary)) {
      Node *ids = gen_in(k, "ids", id_shape[1], LIST(odd));
      k->y = ir_scatter_add(k->g, ids, gen_in(k, "x", SHAPE(d, 7, 3), WHOLE(-9, 9)), 5);
    }
  if (gen_next(k, GEN_smooth)) { /* many rows on few places */
    Node *ids = gen_in(k, "ids", SHAPE(DT_i32, 300), WHOLE(0, 3));
    k->y = ir_scatter_add(k->g, ids, gen_in(k, "x", SHAPE(DT_f32, 300, 5), UNIFORM(-2, 2)), 4);
  }
}
