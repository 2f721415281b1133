/* shape: reshape, transpose, permute, expand, concat, stack, split, pad. */
#include "frontend/elab_internal.h"

#include <string.h>

/* ---- reshape ---- */

static Value reshape_mismatch(Elab *e, Call *c, Node *x, int rank, const int64_t *dim) {
  if (report(e, c->whole->at, "%s has %lld elements; %s has another number of them",
             shape_text(e, x->type.rank, x->type.dim), (long long)type_count(&x->type),
             shape_text(e, rank, dim))) {
    note_value(e, c->expr[0], c->value[0]);
    note_calls(e);
  }
  return v_error;
}

Value do_reshape(Elab *e, Call *c) {
  Node *x;
  int rank, open = -1;
  int64_t dim[IR_MAX_RANK], known = 1;
  if (!call_tensor(e, c, 0, &x) ||
      !want_shape(e, c->expr[1], c->value[1], "the shape", &rank, dim, -1))
    return v_error;
  int64_t n = type_count(&x->type);
  for (int i = 0; i < rank; i++) {
    if (dim[i] == -1 && open < 0)
      open = i;
    else if (dim[i] < 1)
      return fail(e, c->expr[1]->at,
                  "a shape has dimensions of at least 1, and at most one -1, found %s",
                  shape_text(e, rank, dim));
    else if (__builtin_mul_overflow(known, dim[i], &known) || known > n)
      return reshape_mismatch(e, c, x, rank, dim);
  }
  if (open < 0 ? known != n : n % known != 0) return reshape_mismatch(e, c, x, rank, dim);
  if (open >= 0) dim[open] = n / known;
  return v_node(ir_reshape(e->g, x, rank, dim));
}

/* ---- order of dimensions ---- */

Value do_transpose(Elab *e, Call *c) {
  Node *x;
  int perm[IR_MAX_RANK];
  if (!call_tensor(e, c, 0, &x)) return v_error;
  int r = x->type.rank;
  if (r < 2)
    return fail(e, c->whole->at, "`transpose` swaps the last two dimensions, found %s",
                describe(e, c->value[0]));
  for (int i = 0; i < r; i++) perm[i] = i < r - 2 ? i : 2 * r - 3 - i;
  return v_node(ir_permute(e->g, x, perm));
}

Value do_permute(Elab *e, Call *c) {
  Node *x;
  int rank, perm[IR_MAX_RANK];
  int64_t order[IR_MAX_RANK];
  bool seen[IR_MAX_RANK] = {0};
  if (!call_tensor(e, c, 0, &x) ||
      !want_shape(e, c->expr[1], c->value[1], "the order", &rank, order, -IR_MAX_RANK))
    return v_error;
  bool ok = rank == x->type.rank;
  for (int i = 0; i < rank && ok; i++) {
    int64_t p = order[i] < 0 ? order[i] + rank : order[i];
    ok = p >= 0 && p < rank && !seen[p];
    if (ok) seen[p] = true, perm[i] = (int)p;
  }
  if (ok) return v_node(ir_permute(e->g, x, perm));
  if (report(e, c->expr[1]->at, "the order must name each of the %d dimensions once, found %s",
             x->type.rank, shape_text(e, rank, order))) {
    note_value(e, c->expr[0], c->value[0]);
    note_calls(e);
  }
  return v_error;
}

/* ---- expand ---- */

Value do_expand(Elab *e, Call *c) {
  Node *x;
  int rank;
  int64_t dim[IR_MAX_RANK];
  if (!call_tensor(e, c, 0, &x) ||
      !want_shape(e, c->expr[1], c->value[1], "the shape", &rank, dim, -1))
    return v_error;
  int missing = rank - x->type.rank;
  bool ok = missing >= 0;
  for (int i = 0; i < rank && ok; i++) {
    int64_t old = i < missing ? 1 : x->type.dim[i - missing];
    if (dim[i] == -1 && i >= missing) dim[i] = old;
    ok = dim[i] == old || (old == 1 && dim[i] >= 1);
  }
  if (ok)
    return shape_fits(e, c->whole->at, rank, dim) ? v_node(ir_broadcast(e->g, x, rank, dim))
                                                  : v_error;
  if (report(e, c->whole->at,
             "%s does not expand to %s: only new dimensions and those of length 1 are repeated",
             shape_text(e, x->type.rank, x->type.dim), shape_text(e, rank, dim))) {
    note_value(e, c->expr[0], c->value[0]);
    note_calls(e);
  }
  return v_error;
}

/* ---- concat and stack ---- */

static const Expr *part_expr(const Call *c, int i) {
  const Expr *x = c->expr[0];
  return x->kind == E_list ? x->arg[i].value : x;
}

/* The type that all parts get: that of the tensors; where all are numbers, that of the widest. */
static DType parts_type(const List *list) {
  DType of_tensors = DT_bool, of_numbers = DT_bool;
  bool any = false;
  for (int i = 0; i < list->n; i++) {
    Value v = list->at[i];
    if (is_tensor(v))
      of_tensors = promote(of_tensors, (DType)tensor_type(v).dtype), any = true;
    else if (v.kind != V_bool)
      of_numbers = promote(of_numbers, v.kind == V_int ? DT_i32 : DT_f32);
  }
  return any ? of_tensors : of_numbers;
}

/* The tensors of argument 0, in one element type. */
static bool parts_of(Elab *e, Call *c, Node ***out, int *n) {
  Value v = c->value[0];
  if (v.kind != V_list || v.list->n == 0) {
    fail(e, c->expr[0]->at, "`%s` takes a list of tensors, found %s", c->builtin->name,
         describe(e, v));
    return false;
  }
  *n = v.list->n;
  *out = arena_alloc(e->arena, sizeof **out * (size_t)*n);
  DType d = parts_type(v.list);
  for (int i = 0; i < *n; i++) {
    Value part = v.list->at[i];
    if (is_tensor(part))
      (*out)[i] = to_node(e, part);
    else if (is_number(part))
      (*out)[i] = number_node(e, part_expr(c, i), part, d, 0, NULL);
    else
      fail(e, part_expr(c, i)->at, "`%s` takes tensors, found %s", c->builtin->name,
           describe(e, part));
    if (!(*out)[i]) return false;
    at(e, c->whole);
    (*out)[i] = ir_cast(e->g, (*out)[i], d);
  }
  return elab_room(e, c->whole->at);
}

static bool parts_agree(Elab *e, Call *c, Node **part, int n, int axis) {
  const Type *first = &part[0]->type;
  for (int i = 1; i < n; i++) {
    const Type *t = &part[i]->type;
    bool ok = t->rank == first->rank;
    for (int d = 0; d < first->rank && ok; d++) ok = d == axis || t->dim[d] == first->dim[d];
    if (ok) continue;
    if (report(e, c->whole->at, "`%s` needs equal shapes%s, found %s and %s", c->builtin->name,
               axis >= 0 ? " outside the axis" : "", shape_text(e, first->rank, first->dim),
               shape_text(e, t->rank, t->dim))) {
      note_value(e, part_expr(c, 0), c->value[0].list->at[0]);
      note_value(e, part_expr(c, i), c->value[0].list->at[i]);
      note_calls(e);
    }
    return false;
  }
  return true;
}

static Value joined(Elab *e, Call *c, Node **part, int n, int axis) {
  int64_t dim[IR_MAX_RANK];
  memcpy(dim, part[0]->type.dim, sizeof dim);
  dim[axis] = 0;
  for (int i = 0; i < n; i++) dim[axis] += part[i]->type.dim[axis];
  if (!shape_fits(e, c->whole->at, part[0]->type.rank, dim)) return v_error;
  return v_node(ir_concat(e->g, axis, n, part));
}

Value do_concat(Elab *e, Call *c) {
  Node **part;
  int n, axis;
  if (!parts_of(e, c, &part, &n) || !call_axis(e, c, 1, part[0]->type.rank, &axis) ||
      !parts_agree(e, c, part, n, axis))
    return v_error;
  return joined(e, c, part, n, axis);
}

Value do_stack(Elab *e, Call *c) {
  Node **part;
  int n, axis = 0;
  if (!parts_of(e, c, &part, &n) || !parts_agree(e, c, part, n, -1)) return v_error;
  int rank = part[0]->type.rank + 1;
  if (c->given[1] && !call_axis(e, c, 1, rank, &axis)) return v_error;
  int64_t dim[IR_MAX_RANK + 1];
  for (int i = 0; i < rank; i++)
    dim[i] = i < axis ? part[0]->type.dim[i] : i == axis ? 1 : part[0]->type.dim[i - 1];
  if (!shape_fits(e, c->whole->at, rank, dim)) return v_error;
  for (int i = 0; i < n; i++) part[i] = ir_reshape(e->g, part[i], rank, dim);
  return joined(e, c, part, n, axis);
}

/* ---- split ---- */

static Value cut(Elab *e, Call *c, Node *x, int axis, int n, const int64_t *length) {
  Value *part = arena_alloc(e->arena, sizeof *part * (size_t)n);
  int64_t lo[IR_MAX_RANK] = {0}, hi[IR_MAX_RANK], from = 0;
  memcpy(hi, x->type.dim, sizeof hi);
  for (int i = 0; i < n; i++) {
    lo[axis] = from;
    hi[axis] = from += length[i];
    part[i] = v_node(ir_slice(e->g, x, lo, hi));
    if (!elab_room(e, c->whole->at)) return v_error;
  }
  return v_list_of(e, c->whole->at, n, part);
}

Value do_split(Elab *e, Call *c) {
  Node *x;
  int axis;
  int64_t n, sum = 0;
  if (!call_tensor(e, c, 0, &x) || !call_axis(e, c, 2, x->type.rank, &axis)) return v_error;
  int64_t whole = x->type.dim[axis];
  if (c->value[1].kind != V_list) {
    if (!want_int(e, c->expr[1], c->value[1], "the number of parts", &n)) return v_error;
    if (n < 1 || whole % n != 0 || n > MAX_NODES)
      return fail(e, c->whole->at, "a dimension of %lld does not split into %lld equal parts",
                  (long long)whole, (long long)n);
    int64_t *length = arena_alloc(e->arena, sizeof *length * (size_t)n);
    for (int i = 0; i < n; i++) length[i] = whole / n;
    return cut(e, c, x, axis, (int)n, length);
  }
  const List *list = c->value[1].list;
  int64_t *length = arena_alloc(e->arena, sizeof *length * (size_t)(list->n + 1));
  for (int i = 0; i < list->n; i++) {
    if (!want_int(e, c->expr[1], list->at[i], "the length of a part", &length[i])) return v_error;
    if (length[i] < 1 || length[i] > whole)
      return fail(e, c->expr[1]->at, "a part has a length from 1 to %lld, found %lld",
                  (long long)whole, (long long)length[i]);
    if (__builtin_add_overflow(sum, length[i], &sum)) sum = -1;
  }
  if (sum != whole)
    return fail(e, c->expr[1]->at, "the parts' lengths add up to %lld, but the dimension has %lld",
                (long long)sum, (long long)whole);
  return cut(e, c, x, axis, list->n, length);
}

/* ---- pad ---- */

Value do_pad(Elab *e, Call *c) {
  Node *x;
  int64_t lo[IR_MAX_RANK], hi[IR_MAX_RANK], dim[IR_MAX_RANK];
  if (!call_tensor(e, c, 0, &x)) return v_error;
  int rank = x->type.rank;
  Value widths = c->value[1];
  bool ok = widths.kind == V_list && widths.list->n == rank;
  for (int i = 0; i < rank && ok; i++) {
    Value w = widths.list->at[i];
    ok = w.kind == V_list && w.list->n == 2 && is_whole(w.list->at[0], &lo[i]) &&
         is_whole(w.list->at[1], &hi[i]) && lo[i] >= 0 && hi[i] >= 0 && lo[i] <= IR_MAX_ELEMENTS &&
         hi[i] <= IR_MAX_ELEMENTS;
    if (ok) dim[i] = x->type.dim[i] + lo[i] + hi[i];
  }
  if (!ok)
    return fail(
      e, c->expr[1]->at,
      "the widths are [before, after], not negative, for each of the %d dimensions, found %s", rank,
      describe(e, widths));
  if (!shape_fits(e, c->whole->at, rank, dim)) return v_error;
  Value fill = c->given[2] ? c->value[2] : v_int(0);
  if (!is_number(fill))
    return fail(e, c->expr[2]->at, "the padding's value must be a number, found %s",
                describe(e, fill));
  Node *value = number_node(e, c->expr[2], fill, (DType)x->type.dtype, 0, NULL);
  return value ? v_node(ir_pad(e->g, x, lo, hi, value->value)) : v_error;
}
