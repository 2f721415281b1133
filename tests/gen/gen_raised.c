/* Cases of the raised operations. */
#include "tests/gen/gen_internal.h"

#include <math.h>

static const Type ranked[] = {
  {.dtype = DT_f32, .rank = 1, .dim = {5}},       {.dtype = DT_f32, .rank = 2, .dim = {3, 5}},
  {.dtype = DT_f32, .rank = 3, .dim = {4, 1, 3}}, {.dtype = DT_f32, .rank = 4, .dim = {2, 3, 1, 4}},
  {.dtype = DT_f32, .rank = 2, .dim = {3, 300}},
};
/* rows with infinities and NaNs, and with values whose exponential overflows */
static const double odd[] = {1, INFINITY, -2, 3, -INFINITY, 1,    2,   4, -INFINITY, 2,        -1,
                             0, NAN,      1,  2, 3,         1000, 999, 0, -1000,     -INFINITY};

static Node *along(Gen *k, Node *x, int axis) {
  return ir_make(k->g, k->op, NULL, &(Attr){.n_int = 1, .ints = {axis}}, 1, &x);
}

static void every_axis(Gen *k) {
  for (int i = 0; i < COUNT_OF(ranked); i++)
    for (int axis = 0; axis < ranked[i].rank; axis++)
      if (gen_next(k, GEN_smooth)) k->y = along(k, gen_in(k, "x", ranked[i], UNIFORM(-3, 3)), axis);
  for (int axis = 0; axis < 3; axis++)
    if (gen_next(k, GEN_smooth)) {
      How how = axis == 0 ? EXPANDED : axis == 1 ? PERMUTED : SLICED;
      k->y = along(k, gen_operand(k, "x", SHAPE(DT_f32, 3, 2, 5), UNIFORM(-3, 3), how), axis);
    }
  for (int d = DT_f16; d <= DT_bf16; d++)
    if (gen_next(k, 0)) k->y = along(k, gen_in(k, "x", SHAPE(d, 4, 6), UNIFORM(-3, 3)), 1);
  for (int axis = 0; axis < 2; axis++)
    if (gen_next(k, GEN_boundary))
      k->y = along(k, gen_in(k, "x", SHAPE(DT_f32, 7, 3), LIST(odd)), axis);
}

void gen_softmax(Gen *k) { every_axis(k); }
void gen_log_softmax(Gen *k) { every_axis(k); }

static Node *over(Gen *k, Node *x, unsigned axes, double eps) {
  Attr attr = {.value = dtype_round(x->type.dtype, eps)};
  for (int i = 0; i < x->type.rank; i++)
    if (axes >> i & 1) attr.ints[attr.n_int++] = i;
  return ir_make(k->g, k->op, NULL, &attr, 1, &x);
}

static void norms(Gen *k) {
  static const double eps[] = {1e-5, 1e-6, 0.1};
  for (int i = 0; i < COUNT_OF(ranked); i++)
    for (unsigned axes = 1; axes < 1u << ranked[i].rank; axes++) {
      /* over one element nothing is left but rounding, times a thousand */
      Type t = ranked[i];
      bool one = true;
      for (int d = 0; d < t.rank; d++) one = one && (t.dim[d] == 1 || !(axes >> d & 1));
      if (gen_next(k, GEN_smooth))
        k->y = over(k, gen_in(k, "x", t, DISTINCT(0.1)), axes, one ? 0.1 : eps[axes % 3]);
    }
  for (unsigned axes = 1; axes < 8; axes++)
    if (gen_next(k, GEN_smooth))
      k->y = over(
        k,
        gen_operand(k, "x", SHAPE(DT_f32, 3, 2, 5), UNIFORM(-3, 3), axes & 1 ? PERMUTED : SLICED),
        axes, 0.1);
  for (int d = DT_f16; d <= DT_bf16; d++)
    if (gen_next(k, 0)) k->y = over(k, gen_in(k, "x", SHAPE(d, 4, 6), UNIFORM(-3, 3)), 2, 1e-3);
  static const double rows[] = {1, INFINITY, -2, 3, NAN, 1, 0, 0, 0, 1e-20, -1e-20, 0};
  if (gen_next(k, GEN_boundary))
    k->y = over(k, gen_in(k, "x", SHAPE(DT_f32, 4, 3), LIST(rows)), 2, 1e-5);
}

void gen_layer_norm(Gen *k) { norms(k); }
void gen_rms_norm(Gen *k) { norms(k); }

void gen_cross_entropy(Gen *k) {
  static const double outside[] = {0, -1, 2, 3, 1, -100, 2};
  for (int i = 0; i < COUNT_OF(ranked); i++)
    for (int bf16 = 0; bf16 < 2; bf16++) {
      if (!gen_next(k, bf16 ? 0 : GEN_smooth)) continue;
      Type x = gen_retype(ranked[i], bf16 ? DT_bf16 : DT_f32), y = gen_retype(x, DT_i32);
      int64_t v = y.dim[--y.rank];
      y.dim[y.rank] = 0;
      Node *logits = gen_in(k, "x", x, UNIFORM(-3, 3));
      Node *targets = gen_in(k, "y", y, WHOLE(0, (double)v - 1));
      k->y = ir_make(k->g, k->op, NULL, NULL, 2, (Node *[]){logits, targets});
    }
  for (int i = 0; i < 2; i++)
    if (gen_next(k, GEN_boundary)) {
      Node *logits = gen_in(k, "x", SHAPE(DT_f32, 7, 3), i ? LIST(odd) : UNIFORM(-3, 3));
      Node *targets = gen_in(k, "y", SHAPE(DT_i32, 7), i ? WHOLE(0, 2) : LIST(outside));
      k->y = ir_make(k->g, k->op, NULL, NULL, 2, (Node *[]){logits, targets});
    }
}

void gen_rope(Gen *k) {
  static const struct {
    int rank;
    int64_t dim[4];
    How x, table;
  } shape[] = {{1, {6}, DENSE, DENSE},
               {2, {3, 2}, DENSE, DENSE},
               {2, {5, 8}, PERMUTED, DENSE},
               {3, {1, 3, 10}, DENSE, EXPANDED},
               {4, {2, 3, 5, 4}, SLICED, EXPANDED},
               {4, {2, 1, 33, 64}, DENSE, DENSE}};
  for (int i = 0; i < COUNT_OF(shape); i++)
    for (int layout = 0; layout < 2; layout++)
      for (int d = DT_f16; d <= DT_f32; d++) {
        if (!gen_next(k, d == DT_f32 ? GEN_smooth : 0)) continue;
        Type t = type_of((DType)d, shape[i].rank, shape[i].dim), half = t;
        half.dim[t.rank - 1] /= 2;
        Node *x = gen_operand(k, "x", t, UNIFORM(-2, 2), shape[i].x);
        Node *cosine = gen_operand(k, "cos", half, UNIFORM(-1, 1), shape[i].table);
        Node *sine = gen_operand(k, "sin", half, UNIFORM(-1, 1), shape[i].table);
        k->y = ir_make(k->g, k->op, NULL, &(Attr){.n_int = 1, .ints = {layout}}, 3,
                       (Node *[]){x, cosine, sine});
      }
}
