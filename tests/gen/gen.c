/* The walk over cases, the values of inputs, and the table from operation to cases. */
#include "tests/gen/gen_internal.h"

#include <math.h>
#include <string.h>

static void (*const cases[OP_COUNT])(Gen *) = {
#define OP(name, sources, rule, attribute, flags, meaning) [OP_##name] = gen_##name,
#include "ir/ops.def"
#undef OP
};

const Type gen_shapes[] = {
  {.dtype = DT_f32, .rank = 0},
  {.dtype = DT_f32, .rank = 1, .dim = {7}},
  {.dtype = DT_f32, .rank = 2, .dim = {3, 5}},
  {.dtype = DT_f32, .rank = 2, .dim = {1, 9}},
  {.dtype = DT_f32, .rank = 3, .dim = {4, 1, 3}},
  {.dtype = DT_f32, .rank = 4, .dim = {2, 1, 3, 4}},
  {.dtype = DT_f32, .rank = 2, .dim = {33, 70}},
};
const int gen_n_shapes = COUNT_OF(gen_shapes);

const double gen_edge_f32[] = {
  0,
  -0.0,
  1,
  -1,
  0.5,
  -0.5,
  1.5,
  -1.5,
  2.5,
  -2.5,
  3,
  -3,
  INFINITY,
  -INFINITY,
  NAN,
  0x1p-126,
  -0x1p-126,
  0x1p-149,
  -0x1.8p-130,
  0x1.fffffep127,
  -0x1.fffffep127,
  0x1p24,
  8388607.5,
  -8388607.5,
  1e10,
  -1e10,
  88.5,
  89.5,
  -87,
  -104.5,
  1e-20,
  -1e-5,
  0x1.fffffep-1,
  0x1.000002p0,
  100,
};
const int gen_n_edge_f32 = COUNT_OF(gen_edge_f32);
const double gen_edge_i32[] = {0,  1,     -1,     2,     -2,        3,         7,
                               -7, 46341, -46341, 65536, INT32_MAX, INT32_MIN, INT32_MAX - 1};
const int gen_n_edge_i32 = COUNT_OF(gen_edge_i32);

bool gen_next(Gen *k, unsigned flags) {
  bool hit = k->seen++ == k->want;
  if (hit) k->feed->flags = flags;
  return hit;
}

uint32_t gen_word(const Gen *k, uint32_t index, uint32_t which) {
  uint32_t out[4];
  philox4x32((uint32_t[]){index, which, (uint32_t)k->want, k->stream},
             (uint32_t[]){(uint32_t)k->op, 20261121}, out);
  return out[0];
}

static double choose(const Gen *k, const Values *v, int64_t i, int64_t n, uint32_t input) {
  uint32_t word = gen_word(k, (uint32_t)i, 2 * input),
           more = gen_word(k, (uint32_t)i, 2 * input + 1);
  double u = (word >> 8) * 0x1p-24;
  switch (v->fill) {
  case FILL_uniform: return v->lo + u * (v->hi - v->lo);
  case FILL_signed: return (v->lo + u * (v->hi - v->lo)) * (more & 1 ? -1 : 1);
  case FILL_whole: return v->lo + floor(u * (v->hi - v->lo + 1));
  case FILL_fraction:
    return v->lo + (double)(more % (uint32_t)(v->hi - v->lo + 1)) + (u < 0.5 ? 0.1 : 0.3) + u * 0.6;
  case FILL_distinct: { /* i·step mod n is a permutation of 0 … n−1, since the step is coprime to
                         * n */
    int64_t step = n > 2 ? (int64_t)(gen_word(k, 0, 2 * input) % (uint32_t)n) | 1 : 1;
    for (int64_t a = step, b = n;; a = step, b = n) {
      while (b) {
        int64_t r = a % b;
        a = b;
        b = r;
      }
      if (a == 1) break;
      step++;
    }
    return ((double)(i * step % n) - 0.5 * (double)(n - 1) + 0.25 * u) * 1.5 * v->lo;
  }
  case FILL_list: return v->list[i % v->n_list];
  }
  die("gen: fill %d", v->fill);
}

Node *gen_leaf(Gen *k, Op op, const char *name, Type t, Values v) {
  if (k->feed->n == GEN_MAX_FEEDS) die("gen: too many inputs of a case of %s", ir_op[k->op].name);
  int64_t n = type_count(&t);
  double *data = arena_alloc(k->g->arena, sizeof *data * (size_t)n);
  for (int64_t i = 0; i < n; i++)
    data[i] = dtype_round(t.dtype, choose(k, &v, i, n, (uint32_t)k->feed->n));
  k->feed->feed[k->feed->n++] = (Feed){op, intern(name), data};
  return ir_leaf(k->g, op, name, &t);
}

Node *gen_in(Gen *k, const char *name, Type t, Values v) {
  return gen_leaf(k, OP_input, name, t, v);
}

Type gen_retype(Type t, DType d) {
  t.dtype = (uint8_t)d;
  return t;
}

Node *gen_operand(Gen *k, const char *name, Type t, Values v, How how) {
  Type from = t;
  int64_t lo[IR_MAX_RANK], hi[IR_MAX_RANK];
  int reversed[IR_MAX_RANK];
  switch (how) {
  case DENSE: return gen_in(k, name, t, v);
  case EXPANDED: /* every second dimension, the first among them */
    for (int i = 0; i < t.rank; i += 2) from.dim[i] = 1;
    return ir_expand(k->g, gen_in(k, name, from, v), t.rank, t.dim);
  case PERMUTED:
    for (int i = 0; i < t.rank; i++) {
      reversed[i] = t.rank - 1 - i;
      from.dim[i] = t.dim[t.rank - 1 - i];
    }
    return ir_permute(k->g, gen_in(k, name, from, v), reversed);
  case SLICED:
    for (int i = 0; i < t.rank; i++) {
      from.dim[i] = t.dim[i] + 1 + i;
      lo[i] = 1;
      hi[i] = 1 + t.dim[i];
    }
    return ir_slice(k->g, gen_in(k, name, from, v), lo, hi);
  case SCALAR: return ir_broadcast(k->g, gen_in(k, name, type_scalar(t.dtype), v), t.rank, t.dim);
  }
  die("gen: operand %d", how);
}

int gen_count(Op op) {
  Gen k = {.op = op, .want = -1};
  cases[op](&k);
  return k.seen;
}

Graph *gen_case(Op op, int i, GenFeed *feed) {
  *feed = (GenFeed){0};
  Gen k = {.op = op, .want = i, .g = graph_new("case"), .feed = feed};
  cases[op](&k);
  if (!k.y || k.y->op != op)
    die("gen: case %d of %s gives %s", i, ir_op[op].name, k.y ? ir_op[k.y->op].name : "nothing");
  ir_output(k.g, OUT_value, "y", k.y);
  Buf type = {0};
  type_print(&type, &k.y->type);
  feed->title = arena_printf(k.g->arena, "%s %d: %s", ir_op[op].name, i, type.data);
  buf_free(&type);
  return k.g;
}

double *gen_data(const GenFeed *feed, int i) { return (double *)feed->feed[i].data; }
