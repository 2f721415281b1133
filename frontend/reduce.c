/* reduce: sum, prod, mean, var, max, min, argmax, cumsum. `axis` is a number or a list; without it
 * all dimensions. */
#include "frontend/elab_internal.h"

#include <string.h>

typedef struct Axes {
  int n, axis[IR_MAX_RANK];
  bool keep;
  int64_t count; /* elements that meet in one */
} Axes;

static bool one_axis(Elab *e, Call *c, const Expr *x, Value v, int rank, Axes *out) {
  int64_t a;
  if (!want_int(e, x, v, "an axis", &a)) return false;
  if (a < -rank || a >= rank) {
    fail(e, x->at, "axis %lld of a tensor with %d dimension%s", (long long)a, rank,
         rank == 1 ? "" : "s");
    return false;
  }
  if (a < 0) a += rank;
  for (int i = 0; i < out->n; i++) {
    if (out->axis[i] != a) continue;
    fail(e, x->at, "axis %lld is named twice in `%s`", (long long)a, c->builtin->name);
    return false;
  }
  out->axis[out->n++] = (int)a;
  return true;
}

/* Arguments 1 and 2: axis and keep. */
static bool read_axes(Elab *e, Call *c, const Type *t, Axes *out) {
  *out = (Axes){.count = 1};
  Value axis = c->value[1];
  if (c->given[2] && !truth(e, c->expr[2], c->value[2], &out->keep)) return false;
  if (axis.kind == V_none) {
    for (; out->n < t->rank; out->n++) out->axis[out->n] = out->n;
  } else if (axis.kind == V_list) {
    for (int i = 0; i < axis.list->n; i++)
      if (!one_axis(e, c, c->expr[1], axis.list->at[i], t->rank, out)) return false;
  } else if (!one_axis(e, c, c->expr[1], axis, t->rank, out)) {
    return false;
  }
  for (int i = 0; i < out->n; i++) out->count *= t->dim[out->axis[i]];
  return true;
}

static Node *reduced(Elab *e, Op op, Node *x, const Axes *axes, bool keep) {
  Node *r = ir_reduce(e->g, op, x, axes->n, axes->axis);
  return keep ? r : ir_squeeze(e->g, r, axes->n, axes->axis);
}

/* sum, prod, max or min of a list of numbers */
static Value reduce_list(Elab *e, Call *c, const List *list) {
  Op op = c->builtin->op;
  bool extreme = op == OP_reduce_max || op == OP_reduce_min;
  if (extreme && list->n == 0)
    return fail(e, c->whole->at, "`%s` of an empty list", c->builtin->name);
  Value r = extreme ? list->at[0] : v_int(op == OP_reduce_prod);
  Expr sum = *c->whole;
  sum.kind = E_binary;
  sum.op = op == OP_reduce_prod ? O_mul : O_add;
  for (int i = 0; i < list->n && r.kind != V_error; i++) {
    Value v = list->at[i];
    if (!is_number(v))
      return fail(e, c->expr[0]->at, "`%s` of a list takes numbers, found %s", c->builtin->name,
                  describe(e, v));
    if (!extreme)
      r = number_binary(e, &sum, sum.op, r, v);
    else if ((number_of(v) > number_of(r)) == (op == OP_reduce_max) && number_of(v) != number_of(r))
      r = v;
  }
  return r;
}

Value do_reduce(Elab *e, Call *c) {
  Node *x;
  Axes axes;
  if (c->value[0].kind == V_list && !c->given[1] && !c->given[2])
    return reduce_list(e, c, c->value[0].list);
  if (!call_tensor(e, c, 0, &x) || !read_axes(e, c, &x->type, &axes)) return v_error;
  if (x->type.dtype == DT_bool) x = ir_cast(e->g, x, DT_i32);
  return v_node(reduced(e, c->builtin->op, x, &axes, axes.keep));
}

static Node *mean(Elab *e, Node *x, const Axes *axes, bool keep) {
  Node *sum = reduced(e, OP_reduce_sum, x, axes, keep);
  return axes->count == 1 ? sum
                          : ir_div(e->g, sum, ir_const(e->g, (double)axes->count, &sum->type));
}

Value do_mean(Elab *e, Call *c) {
  Node *x;
  Axes axes;
  if (!call_tensor(e, c, 0, &x) || !read_axes(e, c, &x->type, &axes)) return v_error;
  return v_node(mean(e, float_node(e, x), &axes, axes.keep));
}

/* The population's variance, mean((x − mean(x))²): divided by n, not n − 1. */
Value do_var(Elab *e, Call *c) {
  Node *x;
  Axes axes;
  if (!call_tensor(e, c, 0, &x) || !read_axes(e, c, &x->type, &axes)) return v_error;
  x = float_node(e, x);
  Node *away =
    ir_sub(e->g, x, ir_broadcast(e->g, mean(e, x, &axes, true), x->type.rank, x->type.dim));
  return v_node(mean(e, ir_mul(e->g, away, away), &axes, axes.keep));
}

/* Without an axis: of the flattened tensor. */
Value do_argmax(Elab *e, Call *c) {
  Node *x;
  int axis = 0;
  bool keep = false;
  if (!call_tensor(e, c, 0, &x)) return v_error;
  if (c->given[2] && !truth(e, c->expr[2], c->value[2], &keep)) return v_error;
  if (x->type.dtype == DT_bool) x = ir_cast(e->g, x, DT_i32);
  if (c->value[1].kind == V_none) {
    int64_t dim[IR_MAX_RANK], n = type_count(&x->type);
    int rank = x->type.rank;
    for (int i = 0; i < rank; i++) dim[i] = 1;
    Node *r = ir_argmax(e->g, ir_reshape(e->g, x, 1, &n), 0);
    return v_node(ir_reshape(e->g, r, keep ? rank : 0, dim));
  }
  if (!call_axis(e, c, 1, x->type.rank, &axis)) return v_error;
  Node *r = ir_argmax(e->g, x, axis);
  return v_node(keep ? r : ir_squeeze(e->g, r, 1, &axis));
}

Value do_cumsum(Elab *e, Call *c) {
  Node *x;
  int axis;
  if (!call_tensor(e, c, 0, &x) || !call_axis(e, c, 1, x->type.rank, &axis)) return v_error;
  if (x->type.dtype == DT_bool) x = ir_cast(e->g, x, DT_i32);
  return v_node(ir_cumsum(e->g, x, axis, false));
}
