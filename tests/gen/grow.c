#include "tests/gen/grow.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/gen/gen_internal.h"

uint32_t grow_draw(Grow *k, uint32_t below) {
  uint32_t out[4];
  philox4x32((uint32_t[]){k->drawn++, 0, 0, 0}, (uint32_t[]){k->seed, 0x6772}, out);
  return (uint32_t)((uint64_t)out[0] * below >> 32);
}

static int64_t draw_length(Grow *k, int64_t longest) {
  return grow_draw(k, 2) ? 1 : 1 + grow_draw(k, (uint32_t)longest);
}

Type grow_type(Grow *k, DType d, int max_rank, int64_t longest) {
  Type t = {.dtype = (uint8_t)d, .rank = (uint8_t)grow_draw(k, (uint32_t)max_rank + 1)};
  for (int i = 0; i < t.rank; i++) t.dim[i] = draw_length(k, longest);
  for (int i = 0; type_count(&t) > k->largest; i++) t.dim[i] = 1;
  return t;
}

Node *grow_leaf(Grow *k, Op op, char kind, int limit, const Type *t) {
  char name[32];
  if (limit)
    snprintf(name, sizeof name, "%c%d_%d", kind, limit, k->n_leaf++);
  else
    snprintf(name, sizeof name, "%c_%d", kind, k->n_leaf++);
  return ir_leaf(k->g, op, intern(name), t);
}

/* ---- values ---- */
static double choose(const Node *leaf, int64_t i) {
  uint32_t out[4], key = (uint32_t)hash_bytes(leaf->name, strlen(leaf->name), leaf->op);
  philox4x32((uint32_t[]){(uint32_t)i, 0, 0, 0}, (uint32_t[]){key, 0x7661}, out);
  double u = (out[0] >> 8) * 0x1p-24;
  DType d = (DType)leaf->type.dtype;
  int limit = atoi(leaf->name + 1);
  if (d == DT_bool) return out[0] & 1;
  switch (leaf->name[0]) {
  case 'e':
    return d == DT_i32 ? gen_edge_i32[out[0] % (uint32_t)gen_n_edge_i32]
                       : gen_edge_f32[out[0] % (uint32_t)gen_n_edge_f32];
  case 'p': return d == DT_i32 ? 1 + out[0] % 4 : 0.5 + 1.5 * u;
  case 'i': return out[0] % (uint32_t)(limit > 0 ? limit : 4);
  default: return d == DT_i32 ? (double)(out[0] % 9) - 2 : 3 * u - 1.5;
  }
}

Feed *grow_feeds(Arena *arena, const Graph *g, int *n_feed) {
  Feed *feed = NULL;
  *n_feed = 0;
  for (int i = 0; i < g->n_node; i++) {
    const Node *leaf = g->node[i];
    if (leaf->op != OP_param && leaf->op != OP_state && leaf->op != OP_input) continue;
    int64_t n = type_count(&leaf->type);
    double *data = arena_alloc(arena, sizeof *data * (size_t)n);
    for (int64_t e = 0; e < n; e++) data[e] = dtype_round((DType)leaf->type.dtype, choose(leaf, e));
    ARENA_PUSH(arena, feed, *n_feed, ((Feed){leaf->op, leaf->name, data}));
  }
  return feed;
}

/* ---- sources ---- */
static void one(GrowSources *s, Type t) { s->src[s->n_src++] = t; }

static Type retyped(const Type *t, DType d) { return gen_retype(*t, d); }

static bool elementwise(Grow *k, Op op, const Type *want, GrowSources *s) {
  static const DType any[] = {DT_f32, DT_i32, DT_f32, DT_bool, DT_bf16, DT_f16};
  bool is_float = dtype_is_float(want->dtype), is_bool = want->dtype == DT_bool;
  switch (op) {
  case OP_cast: one(s, retyped(want, any[grow_draw(k, COUNT_OF(any))])); return true;
  case OP_where:
    one(s, retyped(want, DT_bool));
    one(s, *want);
    one(s, *want);
    return true;
  case OP_not:
  case OP_and:
  case OP_or:
    for (int i = 0; i < ir_op[op].n_src; i++) one(s, *want);
    return is_bool;
  case OP_isfinite: one(s, retyped(want, DT_f32)); return is_bool;
  case OP_eq:
  case OP_ne:
  case OP_lt:
  case OP_le:
  case OP_gt:
  case OP_ge: {
    Type t = retyped(want, any[grow_draw(k, 2)]);
    one(s, t);
    one(s, t);
    return is_bool;
  }
  case OP_neg:
  case OP_abs:
  case OP_sign:
  case OP_relu:
  case OP_add:
  case OP_sub:
  case OP_mul:
  case OP_mod:
  case OP_min:
  case OP_max:
    for (int i = 0; i < ir_op[op].n_src; i++) one(s, *want);
    return !is_bool;
  case OP_stop_gradient: one(s, *want); return true;
  default:
    for (int i = 0; i < ir_op[op].n_src; i++) one(s, *want);
    return is_float;
  }
}

static bool reduction(Grow *k, const Type *want, GrowSources *s) {
  Type t = *want;
  for (int i = 0; i < t.rank; i++) {
    if (t.dim[i] != 1 || grow_draw(k, 3) == 0) continue;
    t.dim[i] = draw_length(k, 5);
    s->attr.ints[s->attr.n_int++] = i;
  }
  one(s, t);
  return s->attr.n_int > 0;
}

/* An axis, as the attribute; −1: there is none that fits. */
static int draw_axis(Grow *k, const Type *t, GrowSources *s) {
  if (t->rank == 0) return -1;
  s->attr.n_int = 1;
  return (int)(s->attr.ints[0] = grow_draw(k, t->rank));
}

/* Another shape of as many elements: 1s are dropped and put in, neighbours merged and split. */
static Type reshaped(Grow *k, const Type *t) {
  Type to = {.dtype = t->dtype};
  for (int i = 0; i < t->rank; i++) {
    int64_t length = t->dim[i], factor = 2 + grow_draw(k, 2);
    int left = IR_MAX_RANK - to.rank - (t->rank - i);
    if (length == 1 && grow_draw(k, 2)) continue;
    if (left > 0 && grow_draw(k, 4) == 0) to.dim[to.rank++] = 1, left--;
    if (to.rank && grow_draw(k, 4) == 0) {
      to.dim[to.rank - 1] *= length;
    } else if (left > 0 && length % factor == 0 && length > 1) {
      to.dim[to.rank++] = factor;
      to.dim[to.rank++] = length / factor;
    } else {
      to.dim[to.rank++] = length;
    }
  }
  return to;
}

static bool view(Grow *k, Op op, const Type *want, GrowSources *s) {
  Type t = *want;
  int64_t *ints = s->attr.ints;
  switch (op) {
  case OP_reshape: one(s, reshaped(k, want)); return true;
  case OP_expand:
    for (int i = 0; i < t.rank; i++)
      if (grow_draw(k, 2)) t.dim[i] = 1;
    one(s, t);
    return true;
  case OP_permute:
    for (int i = 0; i < t.rank; i++) ints[i] = i;
    for (int i = t.rank - 1; i > 0; i--) {
      int j = (int)grow_draw(k, (uint32_t)i + 1);
      int64_t swap = ints[i];
      ints[i] = ints[j];
      ints[j] = swap;
    }
    for (int i = 0; i < t.rank; i++) t.dim[ints[i]] = want->dim[i];
    s->attr.n_int = t.rank;
    one(s, t);
    return true;
  case OP_slice:
    for (int i = 0; i < t.rank; i++) {
      ints[i] = grow_draw(k, 2) ? 0 : grow_draw(k, 3);
      ints[t.rank + i] = ints[i] + t.dim[i];
      t.dim[i] = ints[t.rank + i] + (grow_draw(k, 2) ? 0 : grow_draw(k, 3));
    }
    break;
  default: /* pad */
    s->attr.value = t.dtype == DT_bool ? 0 : (double)(grow_draw(k, 3) % 2);
    for (int i = 0; i < t.rank; i++) {
      if (grow_draw(k, 2)) continue;
      ints[i] = grow_draw(k, (uint32_t)t.dim[i]);
      t.dim[i] -= ints[i];
      ints[t.rank + i] = grow_draw(k, (uint32_t)t.dim[i]);
      t.dim[i] -= ints[t.rank + i];
    }
  }
  s->attr.n_int = 2 * t.rank;
  one(s, t);
  return true;
}

static bool concat(Grow *k, const Type *want, GrowSources *s) {
  int axis = draw_axis(k, want, s);
  if (axis < 0) return false;
  int64_t left = want->dim[axis];
  while (left > 0 && s->n_src < 4) {
    Type t = *want;
    t.dim[axis] = s->n_src == 3 ? left : 1 + grow_draw(k, (uint32_t)left);
    left -= t.dim[axis];
    one(s, t);
  }
  return true;
}

static bool matmul(Grow *k, const Type *want, GrowSources *s) {
  if (want->rank < 2 || !dtype_is_float(want->dtype)) return false;
  Type x = *want, y = *want;
  int64_t length = draw_length(k, 9);
  x.dim[x.rank - 1] = length;
  y.dim[y.rank - 2] = length;
  one(s, x);
  one(s, y);
  return true;
}

/* table[n, r…], ids[i…] → [i…, r…] */
static bool gather(Grow *k, const Type *want, GrowSources *s) {
  int n_ids = (int)grow_draw(k, (uint32_t)want->rank + 1);
  Type table = {.dtype = want->dtype, .rank = (uint8_t)(1 + want->rank - n_ids)};
  table.dim[0] = 1 + grow_draw(k, 5);
  for (int i = n_ids; i < want->rank; i++) table.dim[1 + i - n_ids] = want->dim[i];
  one(s, table);
  one(s, type_of(DT_i32, n_ids, want->dim));
  s->limit[1] = (int)table.dim[0];
  return true;
}

/* ids[i…], x[i…, r…] → [n, r…] */
static bool scatter_add(Grow *k, const Type *want, GrowSources *s) {
  if (want->rank == 0 || !dtype_is_float(want->dtype)) return false;
  Type x = *want, ids = {.dtype = DT_i32, .rank = 1};
  x.dim[0] = ids.dim[0] = 1 + grow_draw(k, 6);
  one(s, ids);
  one(s, x);
  s->limit[0] = (int)want->dim[0];
  return true;
}

static bool raised(Grow *k, Op op, const Type *want, GrowSources *s) {
  int last = want->rank - 1;
  if (!dtype_is_float(want->dtype)) return false;
  Type t = *want;
  switch (op) {
  case OP_softmax:
  case OP_log_softmax: one(s, t); return draw_axis(k, want, s) >= 0;
  case OP_layer_norm:
  case OP_rms_norm:
    one(s, t);
    s->attr.value = dtype_round((DType)want->dtype, 0.1);
    return draw_axis(k, want, s) >= 0;
  case OP_cross_entropy:
    if (t.rank == IR_MAX_RANK) return false;
    t.dim[t.rank++] = 1 + grow_draw(k, 6);
    one(s, t);
    one(s, retyped(want, DT_i32));
    s->limit[1] = (int)t.dim[t.rank - 1];
    return true;
  case OP_rope:
    if (last < 0 || want->dim[last] % 2) return false;
    one(s, t);
    t.dim[last] /= 2;
    one(s, t);
    one(s, t);
    s->attr.n_int = 1;
    s->attr.ints[0] = grow_draw(k, 2);
    return true;
  default: return false;
  }
}

static bool find_sources(Grow *k, Op op, const Type *want, GrowSources *s) {
  if (ir_op[op].flags & IR_EW) return elementwise(k, op, want, s);
  if (ir_op[op].flags & IR_RAISED) return raised(k, op, want, s);
  switch (op) {
  case OP_reduce_sum:
  case OP_reduce_prod:
  case OP_reduce_max:
  case OP_reduce_min: return want->dtype != DT_bool && reduction(k, want, s);
  case OP_argmax: {
    int axis = draw_axis(k, want, s);
    Type t = retyped(want, DT_f32);
    if (want->dtype != DT_i32 || axis < 0 || t.dim[axis] != 1) return false;
    t.dim[axis] = draw_length(k, 6);
    one(s, t);
    return true;
  }
  case OP_cumsum:
    if (draw_axis(k, want, s) < 0 || want->dtype == DT_bool) return false;
    s->attr.n_int = 2;
    s->attr.ints[1] = grow_draw(k, 2);
    one(s, *want);
    return true;
  case OP_matmul: return matmul(k, want, s);
  case OP_reshape:
  case OP_expand:
  case OP_permute:
  case OP_slice:
  case OP_pad: return view(k, op, want, s);
  case OP_concat: return concat(k, want, s);
  case OP_gather: return gather(k, want, s);
  case OP_scatter_add: return scatter_add(k, want, s);
  default: return false;
  }
}

bool grow_sources(Grow *k, Op op, const Type *want, GrowSources *s) {
  *s = (GrowSources){.n_src = 0};
  if (!find_sources(k, op, want, s)) return false;
  for (int i = 0; i < s->n_src; i++)
    if (type_count(&s->src[i]) > k->largest) return false;
  return true;
}
