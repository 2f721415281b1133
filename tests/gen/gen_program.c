/* Small random programs: a pool of nodes, grown by operations on what is in it, with values kept
 * moderate. */
#include "tests/gen/gen_internal.h"

#include <string.h>

enum { POOL = 24 };

typedef struct Pool {
  Gen k;
  Node *node[POOL];
  int n;
  uint32_t drawn;
} Pool;

static uint32_t draw(Pool *p, uint32_t below) { return gen_word(&p->k, p->drawn++, 999) % below; }
static Node *pick(Pool *p) { return p->node[draw(p, (uint32_t)p->n)]; }

/* A node of the pool as shape t, where it can be broadcast to it; NULL where not. */
static Node *pick_as(Pool *p, const Type *t) {
  for (int tries = 0; tries < 8; tries++) {
    Node *x = pick(p);
    bool fits = x->type.rank <= t->rank;
    for (int i = 1; fits && i <= x->type.rank; i++) {
      int64_t have = x->type.dim[x->type.rank - i];
      fits = have == 1 || have == t->dim[t->rank - i];
    }
    if (fits) return ir_broadcast(p->k.g, x, t->rank, t->dim);
  }
  return NULL;
}

static Node *number(Pool *p, double value, const Node *like) {
  return ir_const(p->k.g, value, &like->type);
}

static Node *unary(Pool *p, Node *x) {
  Graph *g = p->k.g;
  switch (draw(p, 10)) {
  case 0: return ir_tanh(g, x);
  case 1: return ir_sigmoid(g, x);
  case 2: return ir_exp(g, ir_tanh(g, x));
  case 3: return ir_sin(g, x);
  case 4: return ir_rsqrt(g, ir_add(g, ir_mul(g, x, x), number(p, 0.5, x)));
  case 5: return ir_log(g, ir_add(g, ir_mul(g, x, x), number(p, 1.25, x)));
  case 6: return ir_div(g, x, ir_add(g, ir_mul(g, x, x), number(p, 1, x)));
  case 7: return ir_mul(g, x, ir_sigmoid(g, x));
  case 8: return ir_erf(g, x);
  default: return ir_mul(g, x, number(p, 0.75, x));
  }
}

static Node *binary(Pool *p, Node *x) {
  Graph *g = p->k.g;
  Node *y = pick_as(p, &x->type);
  if (!y) return unary(p, x);
  switch (draw(p, 4)) {
  case 0: return ir_add(g, x, y);
  case 1: return ir_sub(g, x, y);
  case 2: return ir_mul(g, ir_tanh(g, x), y);
  default: return ir_mul(g, x, ir_sigmoid(g, y));
  }
}

/* operations with kinks or steps */
static Node *rough(Pool *p, Node *x) {
  Graph *g = p->k.g;
  Node *y = pick_as(p, &x->type);
  if (!y) y = number(p, 0.1, x);
  switch (draw(p, 7)) {
  case 0: return ir_max(g, x, y);
  case 1: return ir_min(g, x, y);
  case 2: return ir_where(g, ir_lt(g, x, y), y, ir_neg(g, x));
  case 3: return ir_relu(g, x);
  case 4: return ir_abs(g, x);
  case 5: return ir_where(g, ir_not(g, ir_isfinite(g, y)), y, x);
  default:
    return x->type.rank ? ir_reduce(g, OP_reduce_max, x, 1, (int[]){x->type.rank - 1})
                        : ir_sign(g, x);
  }
}

static Node *mean(Graph *g, Node *x, int axis) {
  Node *sum = ir_reduce(g, OP_reduce_sum, x, 1, &axis);
  return ir_mul(g, sum, ir_const(g, 1.0 / (double)x->type.dim[axis], &sum->type));
}

/* a softmax, a normalisation, a running sum, a mean: what models do along an axis */
static Node *along(Pool *p, Node *x) {
  Graph *g = p->k.g;
  if (x->type.rank == 0) return unary(p, x);
  int rank = x->type.rank, axis = (int)draw(p, (uint32_t)rank);
  switch (draw(p, 4)) {
  case 0: {
    Node *e = ir_exp(g, ir_tanh(g, x));
    return ir_div(g, e,
                  ir_broadcast(g, ir_reduce(g, OP_reduce_sum, e, 1, &axis), rank, x->type.dim));
  }
  case 1: {
    Node *d = ir_sub(g, x, ir_broadcast(g, mean(g, x, axis), rank, x->type.dim));
    Node *var = mean(g, ir_mul(g, d, d), axis);
    Node *scale = ir_rsqrt(g, ir_add(g, var, number(p, 0.1, var)));
    return ir_mul(g, d, ir_broadcast(g, scale, rank, x->type.dim));
  }
  case 2:
    return ir_mul(g, ir_cumsum(g, x, axis, draw(p, 2)),
                  number(p, 1.5 / (double)x->type.dim[axis], x));
  default: return mean(g, x, axis);
  }
}

static Node *reshaped(Pool *p, Node *x) {
  Graph *g = p->k.g;
  int rank = x->type.rank, axis = rank ? (int)draw(p, (uint32_t)rank) : 0;
  if (rank == 0) return unary(p, x);
  int64_t lo[IR_MAX_RANK] = {0}, hi[IR_MAX_RANK], none[IR_MAX_RANK] = {0},
          count = type_count(&x->type);
  int perm[IR_MAX_RANK];
  for (int i = 0; i < rank; i++) {
    hi[i] = x->type.dim[i];
    perm[i] = (i + axis) % rank;
  }
  switch (draw(p, 5)) {
  case 0: return ir_permute(g, x, perm);
  case 1: return ir_reshape(g, x, 1, &count);
  case 2: /* shifted by one along the axis, zero at the start */
    if (x->type.dim[axis] == 1) return x;
    hi[axis]--;
    lo[axis] = 1;
    return ir_pad(g, ir_slice(g, x, none, hi), lo, none, 0);
  case 3: /* halves exchanged, as rotary embeddings do */
    if (x->type.dim[axis] < 2) return x;
    lo[axis] = x->type.dim[axis] / 2;
    Node *second = ir_slice(g, x, lo, hi);
    hi[axis] = lo[axis];
    return ir_concat(g, axis, 2, (Node *[]){ir_neg(g, second), ir_slice(g, x, none, hi)});
  default:
    if (x->type.dim[axis] == 1) return x;
    hi[axis] = x->type.dim[axis] / 2;
    return ir_slice(g, x, none, hi);
  }
}

static Node *product_of(Pool *p, Node *x) {
  Graph *g = p->k.g;
  if (x->type.rank < 2) return unary(p, x);
  int rank = x->type.rank, perm[IR_MAX_RANK];
  for (int i = 0; i < rank; i++) perm[i] = i;
  perm[rank - 1] = rank - 2;
  perm[rank - 2] = rank - 1;
  Node *y = ir_tanh(g, pick_as(p, &x->type) ? x : ir_neg(g, x));
  Node *z = ir_matmul(g, y, ir_permute(g, x, perm));
  return ir_mul(g, z, number(p, 1.0 / (double)x->type.dim[rank - 1], z));
}

static Node *rows_by_id(Pool *p, Node *ids, Node *x) {
  Graph *g = p->k.g;
  if (x->type.rank == 0 || x->type.rank + ids->type.rank > 4) return unary(p, x);
  Type like = {.dtype = DT_i32, .rank = ids->type.rank};
  memcpy(like.dim, ids->type.dim, sizeof like.dim);
  ids = ir_mod(g, ids, ir_const(g, (double)x->type.dim[0], &like));
  Node *rows = ir_gather(g, x, ids);
  return draw(p, 2) ? rows
                    : ir_mul(g, ir_scatter_add(g, ids, rows, x->type.dim[0]), number(p, 0.2, x));
}

Graph *gen_program(int i, GenFeed *feed) {
  static const Type base[] = {
    {.dtype = DT_f32, .rank = 2, .dim = {4, 6}},
    {.dtype = DT_f32, .rank = 3, .dim = {2, 3, 4}},
    {.dtype = DT_f32, .rank = 2, .dim = {5, 1}},
    {.dtype = DT_f32, .rank = 4, .dim = {2, 3, 1, 5}},
    {.dtype = DT_f32, .rank = 2, .dim = {17, 40}},
    {.dtype = DT_f32, .rank = 1, .dim = {9}},
  };
  *feed = (GenFeed){0};
  bool smooth = i % 2 == 0;
  Pool p = {
    .k = {.op = (Op)GEN_OPS, .want = i, .g = graph_new("program"), .feed = feed, .stream = 1}};
  Type t = base[draw(&p, COUNT_OF(base))];
  Type last = SHAPE(DT_f32, t.dim[t.rank - 1]);
  feed->flags = smooth ? GEN_smooth : 0;
  p.node[p.n++] = gen_in(&p.k, "x", t, UNIFORM(-2, 2));
  p.node[p.n++] = gen_in(&p.k, "bias", last, UNIFORM(-1, 1));
  p.node[p.n++] = gen_leaf(&p.k, OP_param, "w.scale", type_scalar(DT_f32), UNIFORM(0.5, 1.5));
  p.node[p.n++] = gen_leaf(&p.k, OP_param, "w.table", t, UNIFORM(-1, 1));
  Node *ids = gen_in(&p.k, "ids", SHAPE(DT_i32, 2, 3), WHOLE(0, 40));
  int size = 6 + (int)draw(&p, POOL - 10);
  while (p.n < size) {
    Node *x = draw(&p, 3) ? p.node[p.n - 1] : pick(&p), *y = NULL;
    switch (draw(&p, smooth ? 9 : 11)) {
    case 0:
    case 1: y = unary(&p, x); break;
    case 2:
    case 3: y = binary(&p, x); break;
    case 4:
    case 5: y = along(&p, x); break;
    case 6: y = reshaped(&p, x); break;
    case 7: y = product_of(&p, x); break;
    case 8: y = rows_by_id(&p, ids, x); break;
    default: y = rough(&p, x);
    }
    p.node[p.n++] = type_count(&y->type) > 20000 ? mean(p.k.g, y, y->type.rank - 1) : y;
  }
  int n_out = 1 + (int)draw(&p, 4);
  for (int o = 0; o < n_out; o++) {
    Node *y = p.node[o == 0 ? p.n - 1 : 4 + (int)draw(&p, (uint32_t)p.n - 4)];
    ir_output(p.k.g, OUT_value, arena_printf(p.k.g->arena, "y%d", o), y);
  }
  feed->title = arena_printf(p.k.g->arena, "program %d", i);
  return p.k.g;
}
