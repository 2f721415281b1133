/* make: tensors from nothing: iota, position, one_hot, full, and the random ones with dropout. */
#include "frontend/elab_internal.h"

#include <math.h>
#include <string.h>

static bool count_of(Elab *e, Call *c, int arg, int64_t *n) {
  return want_int(e, c->expr[arg], c->value[arg], "a length", n) &&
         shape_fits(e, c->whole->at, 1, n);
}

Value do_iota(Elab *e, Call *c) {
  int64_t n;
  if (!count_of(e, c, 0, &n)) return v_error;
  Type t = type_of(DT_i32, 1, &n);
  return v_node(ir_iota(e->g, 0, &t));
}

Value do_position(Elab *e, Call *c) {
  int64_t n;
  if (!count_of(e, c, 0, &n)) return v_error;
  if (e->in_const)
    return fail(
      e, c->whole->at,
      "positions are not known at compile time, when the const `%.60s` is computed; use iota",
      e->in_const->name);
  Type t = type_of(DT_i32, 1, &n);
  return v_node(ir_make(e->g, OP_position, &t, NULL, 0, NULL));
}

/* f32[…, n]: 1 at the index, 0 elsewhere; an index outside gives zeros. */
Value do_one_hot(Elab *e, Call *c) {
  Node *ids;
  int64_t n, dim[IR_MAX_RANK + 1], flat[IR_MAX_RANK + 1];
  if (!call_tensor(e, c, 0, &ids) || !count_of(e, c, 1, &n)) return v_error;
  if (ids->type.dtype != DT_i32)
    return fail(e, c->expr[0]->at, "`one_hot` takes integers, found %s", describe(e, c->value[0]));
  int rank = ids->type.rank + 1;
  for (int i = 0; i < rank; i++) {
    dim[i] = i < rank - 1 ? ids->type.dim[i] : n;
    flat[i] = i < rank - 1 ? dim[i] : 1;
  }
  if (!shape_fits(e, c->whole->at, rank, dim)) return v_error;
  at(e, c->whole);
  Type t = type_of(DT_i32, rank, dim);
  Node *wide = ir_expand(e->g, ir_reshape(e->g, ids, rank, flat), rank, dim);
  return v_node(ir_cast(e->g, ir_eq(e->g, wide, ir_iota(e->g, rank - 1, &t)), DT_f32));
}

/* full(shape, value), zeros(shape), ones(shape) */
Value do_full(Elab *e, Call *c) {
  int rank;
  int64_t dim[IR_MAX_RANK];
  if (!want_shape(e, c->expr[0], c->value[0], "the shape", &rank, dim, 1)) return v_error;
  Value v = c->given[1] ? c->value[1] : v_float(*c->builtin->name == 'o');
  if (!is_number(v))
    return fail(e, c->expr[1]->at, "`full` repeats a number, found %s", describe(e, v));
  DType d = v.kind == V_int ? DT_i32 : v.kind == V_bool ? DT_bool : DT_f32;
  return v_node(number_node(e, c->expr[1], v, d, rank, dim));
}

/* ---- random ---- */

/* Uniform in [0, 1): each call has a place of its own. */
Node *random_node(Elab *e, Place place, int rank, const int64_t *dim) {
  if (e->in_const || e->no_random) {
    fail(e, place, "nothing random can be used %s", e->in_const ? "in a const" : e->why_not);
    return NULL;
  }
  Type rng = type_of(DT_i32, 1, (int64_t[]){4}), t = type_of(DT_f32, rank, dim);
  if (!e->rng) e->rng = ir_leaf(e->g, OP_input, intern("rng"), &rng);
  return ir_random(e->g, e->rng, e->place++, &t);
}

/* √(−2 ln(1 − u)) · cos(2πv): 1 − u is in (0, 1]. */
Node *normal_node(Elab *e, Node *u, Node *v) {
  Graph *g = e->g;
  const Type *t = &u->type;
  Node *tail = ir_log(g, ir_sub(g, ir_const(g, 1, t), u));
  Node *radius = ir_sqrt(g, ir_mul(g, tail, ir_const(g, -2, t)));
  return ir_mul(g, radius, ir_cos(g, ir_mul(g, v, ir_const(g, 6.283185307179586, t))));
}

static bool random_shape(Elab *e, Call *c, int *rank, int64_t *dim) {
  return want_shape(e, c->expr[0], c->value[0], "the shape", rank, dim, 1) &&
         shape_fits(e, c->whole->at, *rank, dim);
}

Value do_random_uniform(Elab *e, Call *c) {
  int rank;
  int64_t dim[IR_MAX_RANK];
  return random_shape(e, c, &rank, dim) ? v_node(random_node(e, c->whole->at, rank, dim)) : v_error;
}

Value do_random_normal(Elab *e, Call *c) {
  int rank;
  int64_t dim[IR_MAX_RANK];
  if (!random_shape(e, c, &rank, dim)) return v_error;
  Node *u = random_node(e, c->whole->at, rank, dim);
  Node *v = u ? random_node(e, c->whole->at, rank, dim) : NULL;
  return v ? v_node(normal_node(e, u, v)) : v_error;
}

/* x / (1 − p) with probability 1 − p, else 0; the identity outside training. */
Value do_dropout(Elab *e, Call *c) {
  double p;
  Node *x;
  if (!want_number(e, c->expr[1], c->value[1], "the probability of dropout", &p)) return v_error;
  if (!(p >= 0 && p < 1))
    return fail(e, c->expr[1]->at, "the probability of dropout must be in [0, 1), found %s",
                number_text(e, c->value[1]));
  if (!call_tensor(e, c, 0, &x)) return v_error;
  if (!dtype_is_float(x->type.dtype))
    return fail(e, c->expr[0]->at, "`dropout` takes a floating-point tensor, found %s",
                describe(e, c->value[0]));
  if (!e->training || p == 0) return v_node(x);
  Node *u = random_node(e, c->whole->at, x->type.rank, x->type.dim);
  if (!u) return v_error;
  Node *kept = ir_ge(e->g, u, ir_const(e->g, p, &u->type));
  Node *scaled = ir_mul(e->g, x, ir_const(e->g, 1 / (1 - p), &x->type));
  return v_node(ir_where(e->g, kept, scaled, ir_const(e->g, 0, &x->type)));
}
