/* tensor: operations on tensors: type promotion (bool < i32 < f16, bf16 < f32; f16 with bf16 gives
 * f32), broadcasting by NumPy's rule written out as reshape and expand, matrix products. */
#include "frontend/elab_internal.h"

#include <math.h>
#include <string.h>

void at(Elab *e, const Expr *x) {
  const Frame *f = e->frame;
  while (f && !(f->self && f->self->path)) f = f->caller; /* a function of a file: who called it */
  e->g->loc = x->loc;
  e->g->loc.module = f ? f->self->path : NULL;
}

Node *to_node(Elab *e, Value v) {
  if (v.kind == V_node) return v.node;
  if (v.kind == V_const) return table_node(e, v.table);
  if (e->in_const) {
    const Member *m = e->in_const;
    if (report(e, m->value->at,
               "the const `%.60s` is computed at compile time; it cannot depend on the parameter "
               "`%.60s`",
               m->name, v.param->name)) {
      diag_note(&e->diag, v.param->at, "declared here");
      note_calls(e);
    }
    return NULL;
  }
  if (!v.param->path) {
    fail(e, v.param->at, "the parameter `%.60s` belongs to no member of the model", v.param->name);
    return NULL;
  }
  SrcLoc here = e->g->loc;
  e->g->loc = source_loc(v.param->at);
  Node *n = ir_leaf(e->g, OP_param, v.param->path, &v.param->type);
  e->g->loc = here;
  return n;
}

DType promote(DType a, DType b) {
  if (a == b) return a;
  if ((a == DT_f16 && b == DT_bf16) || (a == DT_bf16 && b == DT_f16)) return DT_f32;
  return a > b ? a : b;
}

Node *float_node(Elab *e, Node *x) {
  return dtype_is_float(x->type.dtype) ? x : ir_cast(e->g, x, DT_f32);
}

Node *number_node(Elab *e, const Expr *x, Value v, DType d, int rank, const int64_t *dim) {
  int64_t whole;
  double value = number_of(v);
  if (d == DT_i32) {
    if (v.kind == V_bool) {
      whole = v.i;
    } else if (!is_whole(v, &whole)) {
      fail(e, x->at, "the fraction %s meets an integer tensor; cast the tensor: cast(x, \"f32\")",
           number_text(e, v));
      return NULL;
    }
    if (whole != (int32_t)whole) {
      fail(e, x->at, "the number %s does not fit into an i32 tensor", number_text(e, v));
      return NULL;
    }
    value = (double)whole;
  }
  if (!shape_fits(e, x->at, rank, dim)) return NULL;
  Type t = type_of(d, rank, dim);
  return ir_const(e->g, value, &t);
}

/* ---- broadcasting ---- */

static int64_t dim_from_end(const Type *t, int i) {
  return i < t->rank ? t->dim[t->rank - 1 - i] : 1;
}

static bool no_broadcast(Elab *e, const Expr *whole, int n, const Expr *const *expr, const Value *v,
                         int axis) {
  Buf b = {0};
  for (int i = 0; i < n; i++) {
    if (!is_tensor(v[i])) continue;
    Type t = tensor_type(v[i]);
    buf_printf(&b, "%s%s", b.len ? " and " : "", shape_text(e, t.rank, t.dim));
  }
  if (report(e, whole->at, "the shapes %s do not broadcast: dimension -%d differs", b.data,
             axis + 1)) {
    for (int i = 0; i < n; i++)
      if (is_tensor(v[i])) note_value(e, expr[i], v[i]);
    note_calls(e);
  }
  buf_free(&b);
  return false;
}

bool broadcast_shape(Elab *e, const Expr *whole, int n, const Expr *const *expr, const Value *v,
                     int *rank, int64_t *dim) {
  *rank = 0;
  for (int i = 0; i < n; i++)
    if (is_tensor(v[i]) && tensor_type(v[i]).rank > *rank) *rank = tensor_type(v[i]).rank;
  for (int a = 0; a < *rank; a++) {
    int64_t d = 1;
    for (int i = 0; i < n; i++) {
      if (!is_tensor(v[i])) continue;
      Type t = tensor_type(v[i]);
      int64_t mine = dim_from_end(&t, a);
      if (d != 1 && mine != 1 && mine != d) return no_broadcast(e, whole, n, expr, v, a);
      if (mine != 1) d = mine;
    }
    dim[*rank - 1 - a] = d;
  }
  return shape_fits(e, whole->at, *rank, dim);
}

/* The type of numbers beside tensors of type `d`: bool tensors make room for them. */
static DType with_number(DType d, Value v) {
  if (d == DT_bool) return v.kind == V_bool ? DT_bool : v.kind == V_int ? DT_i32 : DT_f32;
  return d;
}

bool align(Elab *e, const Expr *whole, int n, const Expr *const *expr, const Value *v, DType least,
           Node **out) {
  int rank;
  int64_t dim[IR_MAX_RANK];
  if (!broadcast_shape(e, whole, n, expr, v, &rank, dim)) return false;
  DType d = least;
  at(e, whole);
  for (int i = 0; i < n; i++)
    if (is_tensor(v[i])) d = promote(d, (DType)tensor_type(v[i]).dtype);
  for (int i = 0; i < n; i++)
    if (!is_tensor(v[i])) d = with_number(d, v[i]);
  for (int i = 0; i < n; i++) {
    if (!is_tensor(v[i])) {
      out[i] = number_node(e, expr[i], v[i], d, rank, dim);
    } else if ((out[i] = to_node(e, v[i]))) {
      out[i] = ir_broadcast(e->g, ir_cast(e->g, out[i], d), rank, dim);
    }
    if (!out[i]) return false;
  }
  return elab_room(e, whole->at);
}

/* ---- elementwise ---- */

Value elementwise2(Elab *e, const Expr *whole, Op op, const Expr *ae, Value a, const Expr *be,
                   Value b) {
  Node *src[2];
  bool compares = op >= OP_eq && op <= OP_ge, floats = op == OP_div || op == OP_pow;
  DType least = compares && op != OP_eq && op != OP_ne ? DT_i32 : compares ? DT_bool : DT_i32;
  const Expr *expr[2] = {ae, be};
  Value v[2] = {a, b};
  for (int i = 0; i < 2 && floats; i++) { /* integers divide as floating point */
    if (!is_tensor(v[i]) || dtype_is_float(tensor_type(v[i]).dtype)) continue;
    Node *n = to_node(e, v[i]);
    if (!n) return v_error;
    at(e, whole);
    v[i] = v_node(float_node(e, n));
  }
  if (!align(e, whole, 2, expr, v, least, src)) return v_error;
  return v_node(ir_make(e->g, op, NULL, NULL, 2, src));
}

static Value logic2(Elab *e, const Expr *whole, Op op, const Expr *ae, Value a, const Expr *be,
                    Value b) {
  const Expr *expr[2] = {ae, be};
  Value v[2] = {a, b};
  for (int i = 0; i < 2; i++)
    if (!is_tensor(v[i]) || tensor_type(v[i]).dtype != DT_bool)
      return fail(e, expr[i]->at, "`%s` wants bool tensors, found %s; a comparison gives one",
                  ir_op[op].name, describe(e, v[i]));
  Node *src[2];
  if (!align(e, whole, 2, expr, v, DT_bool, src)) return v_error;
  return v_node(ir_make(e->g, op, NULL, NULL, 2, src));
}

/* A small whole power of an integer tensor stays an integer: products. */
static Value integer_power(Elab *e, const Expr *whole, Value a, const Expr *be, Value b) {
  int64_t n;
  if (is_tensor(b) || !is_whole(b, &n) || n < 0 || n > 30)
    return fail(e, be->at,
                "an integer tensor has powers 0 to 30, found %s; cast it: cast(x, \"f32\")",
                describe(e, b));
  Node *x = to_node(e, a), *result = NULL;
  if (!x) return v_error;
  at(e, whole);
  x = ir_cast(e->g, x, DT_i32);
  if (n == 0) return v_node(ir_const(e->g, 1, &x->type));
  for (; n; n >>= 1) {
    if (n & 1) result = result ? ir_mul(e->g, result, x) : x;
    if (n > 1) x = ir_mul(e->g, x, x);
  }
  return v_node(result);
}

/* c ^ x. The base is remembered with all its bits, for the next function. */
static Value number_power(Elab *e, const Expr *whole, const Expr *ae, Value a, const Expr *be,
                          Value b) {
  Value p = elementwise2(e, whole, OP_pow, ae, a, be, b);
  if (p.kind != V_node || number_of(a) <= 0) return p;
  int i = e->n_power++ % COUNT_OF(e->power);
  e->power[i].power = p.node;
  e->power[i].base = number_of(a);
  return p;
}

/* 1 − c ^ x as −expm1(x · log c): the difference cancels, and c rounded to 32 bits is not c (a bias
 * correction 1 − 0.999 ^ step would be wrong in its fifth digit). NULL where it is not of that
 * form. */
static Node *subtract_power(Elab *e, Value a, Value b) {
  if (is_tensor(a) || number_of(a) != 1 || b.kind != V_node || b.node->op != OP_pow) return NULL;
  int n = e->n_power < COUNT_OF(e->power) ? e->n_power : COUNT_OF(e->power);
  for (int i = 0; i < n; i++) {
    if (e->power[i].power != b.node) continue;
    Node *rate = ir_const(e->g, log(e->power[i].base), &b.node->type);
    return ir_neg(e->g, ir_expm1(e->g, ir_mul(e->g, b.node->src[1], rate)));
  }
  return NULL;
}

/* A tensor that is not bool and true, false or none are of different kinds: not equal, known at
 * compile time. */
static bool other_kinds(Value a, Value b) {
  return (a.kind == V_bool && tensor_type(b).dtype != DT_bool);
}

Value tensor_binary(Elab *e, const Expr *whole, Operator op, const Expr *ae, Value a,
                    const Expr *be, Value b) {
  static const Op ops[] = {
    [O_or] = OP_or,   [O_and] = OP_and, [O_eq] = OP_eq,   [O_ne] = OP_ne,   [O_lt] = OP_lt,
    [O_le] = OP_le,   [O_gt] = OP_gt,   [O_ge] = OP_ge,   [O_add] = OP_add, [O_sub] = OP_sub,
    [O_mul] = OP_mul, [O_div] = OP_div, [O_mod] = OP_mod, [O_pow] = OP_pow};
  switch (op) {
  case O_matmul: return matmul(e, whole, ae, a, be, b);
  case O_and:
  case O_or: return logic2(e, whole, ops[op], ae, a, be, b);
  case O_eq:
  case O_ne:
    if (is_tensor(a) ? !is_tensor(b) && other_kinds(b, a) : other_kinds(a, b))
      return v_bool(op == O_ne);
    break;
  case O_pow:
    if (is_tensor(a) && !dtype_is_float(tensor_type(a).dtype))
      return integer_power(e, whole, a, be, b);
    if (!is_tensor(a)) return number_power(e, whole, ae, a, be, b);
    break;
  case O_sub: {
    at(e, whole);
    Node *exact = subtract_power(e, a, b);
    if (exact) return v_node(exact);
    break;
  }
  default: break;
  }
  return elementwise2(e, whole, ops[op], ae, a, be, b);
}

Value tensor_unary(Elab *e, const Expr *whole, Op op, const Expr *xe, Value v) {
  Node *x = to_node(e, v);
  if (!x) return v_error;
  at(e, whole);
  switch (op) {
  case OP_not:
    if (x->type.dtype != DT_bool)
      return fail(e, xe->at, "`not` wants a bool tensor, found %s; a comparison gives one",
                  describe(e, v));
    break;
  case OP_neg:
  case OP_abs:
  case OP_sign:
  case OP_relu:
    if (x->type.dtype == DT_bool) x = ir_cast(e->g, x, DT_i32);
    break;
  case OP_floor:
  case OP_ceil:
  case OP_round:
    if (!dtype_is_float(x->type.dtype)) return v_node(ir_cast(e->g, x, DT_i32));
    break;
  case OP_stop_gradient: break;
  default: x = float_node(e, x);
  }
  return elab_room(e, whole->at) ? v_node(ir_make(e->g, op, NULL, NULL, 1, &x)) : v_error;
}

/* ---- matrix product ---- */

static Value matmul_mismatch(Elab *e, const Expr *whole, const Expr *ae, Value a, const Expr *be,
                             Value b, const char *why) {
  Type ta = tensor_type(a), tb = tensor_type(b);
  if (report(e, whole->at, "%s @ %s: %s", shape_text(e, ta.rank, ta.dim),
             shape_text(e, tb.rank, tb.dim), why)) {
    note_value(e, ae, a);
    note_value(e, be, b);
    note_calls(e);
  }
  return v_error;
}

/* Leading dimensions of both, broadcast; then the last two of each stay. */
static bool batch_shape(const Type *a, const Type *b, int *rank, int64_t *dim) {
  int ra = a->rank - 2, rb = b->rank - 2, r = ra > rb ? ra : rb;
  for (int i = 0; i < r; i++) {
    int64_t x = i < ra ? a->dim[ra - 1 - i] : 1, y = i < rb ? b->dim[rb - 1 - i] : 1;
    if (x != 1 && y != 1 && x != y) return false;
    dim[r - 1 - i] = x == 1 ? y : x;
  }
  *rank = r;
  return true;
}

/* x[…, m, k] · w[k, n] as one product of two matrices. */
static Node *matmul_flat(Elab *e, Node *x, Node *w) {
  int r = x->type.rank;
  int64_t k = x->type.dim[r - 1], dim[IR_MAX_RANK];
  memcpy(dim, x->type.dim, sizeof dim);
  dim[r - 1] = w->type.dim[1];
  Node *rows = ir_reshape(e->g, x, 2, (int64_t[]){type_count(&x->type) / k, k});
  return ir_reshape(e->g, ir_matmul(e->g, rows, w), r, dim);
}

static Node *with_batch(Elab *e, Place at, Node *x, int rank, const int64_t *batch) {
  int64_t dim[IR_MAX_RANK];
  memcpy(dim, batch, sizeof *dim * (size_t)rank);
  dim[rank] = x->type.dim[x->type.rank - 2];
  dim[rank + 1] = x->type.dim[x->type.rank - 1];
  return shape_fits(e, at, rank + 2, dim) ? ir_broadcast(e->g, x, rank + 2, dim) : NULL;
}

Value matmul(Elab *e, const Expr *whole, const Expr *ae, Value a, const Expr *be, Value b) {
  if (!is_tensor(a) || !is_tensor(b))
    return fail(e, whole->at, "`@` multiplies tensors, found %s and %s", describe(e, a),
                describe(e, b));
  Type ta = tensor_type(a), tb = tensor_type(b);
  if (!ta.rank || !tb.rank)
    return matmul_mismatch(e, whole, ae, a, be, b, "a scalar has no rows or columns; use `*`");
  if (!dtype_is_float(ta.dtype) || !dtype_is_float(tb.dtype))
    return matmul_mismatch(e, whole, ae, a, be, b,
                           "the operands must be floating point; cast them: cast(x, \"f32\")");
  int64_t inner = tb.dim[tb.rank > 1 ? tb.rank - 2 : 0];
  if (ta.dim[ta.rank - 1] != inner)
    return matmul_mismatch(e, whole, ae, a, be, b,
                           arena_printf(e->arena, "the inner dimensions %lld and %lld differ",
                                        (long long)ta.dim[ta.rank - 1], (long long)inner));
  Node *x = to_node(e, a), *y = to_node(e, b);
  if (!x || !y) return v_error;
  at(e, whole);
  DType d = promote((DType)ta.dtype, (DType)tb.dtype);
  x = ir_cast(e->g, x, d), y = ir_cast(e->g, y, d);
  if (ta.rank == 1) x = ir_reshape(e->g, x, 2, (int64_t[]){1, ta.dim[0]});
  if (tb.rank == 1) y = ir_reshape(e->g, y, 2, (int64_t[]){tb.dim[0], 1});

  int64_t dim[IR_MAX_RANK + 2];
  int rank;
  if (!batch_shape(&x->type, &y->type, &rank, dim))
    return matmul_mismatch(e, whole, ae, a, be, b, "the leading dimensions do not broadcast");
  dim[rank] = x->type.dim[x->type.rank - 2];
  dim[rank + 1] = y->type.dim[y->type.rank - 1];
  if (!shape_fits(e, whole->at, rank + 2, dim)) return v_error;
  bool flat = x->type.rank > 2 && y->type.rank == 2;
  if (!flat) {
    x = with_batch(e, whole->at, x, rank, dim);
    y = with_batch(e, whole->at, y, rank, dim);
    if (!x || !y) return v_error;
  }
  Node *r = flat ? matmul_flat(e, x, y) : ir_matmul(e->g, x, y);
  if (ta.rank == 1) r = ir_squeeze(e->g, r, 1, (int[]){r->type.rank - 2});
  if (tb.rank == 1) r = ir_squeeze(e->g, r, 1, (int[]){r->type.rank - 1});
  return elab_room(e, whole->at) ? v_node(r) : v_error;
}
