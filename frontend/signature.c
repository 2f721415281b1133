/* signature: the types that a function's declaration promises. A dimension is a number, an
 * expression of numbers, or a name; a name that is bound must match, a new one is bound. */
#include "frontend/elab_internal.h"

#include <string.h>

static const char *type_expr_text(Elab *e, const TypeExpr *t) {
  static const char *const word[] = {"", "int", "bool", "number"};
  if (t->word == T_number) return "number";
  Buf b = {0};
  buf_printf(&b, "%s[", word[t->word]);
  for (int i = 0; i < t->n_dim; i++) {
    buf_str(&b, i ? ", " : "");
    expr_print(&b, t->dim[i]);
  }
  buf_str(&b, "]");
  const char *text = arena_str(e->arena, b.data, b.len < 200 ? b.len : 200);
  buf_free(&b);
  return text;
}

static bool same_place(Place a, Place b) { return a.src == b.src && a.begin == b.begin; }

static void mismatch(Elab *e, const TypeExpr *t, Value v, const Expr *expr, Place at,
                     const char *what, const char *why, Place bound) {
  if (!report(e, at, "%s must be %s, found %s%s", what, type_expr_text(e, t), describe(e, v), why))
    return;
  bool of_result = same_place(at, t->at);
  if (!of_result) diag_note(&e->diag, t->at, "the signature");
  if (bound.src) diag_note(&e->diag, bound, "bound here");
  if (expr && expr->at.src && !same_place(expr->at, at))
    diag_note(&e->diag, expr->at, "this is %s", describe(e, v));
  Frame *frame = of_result ? e->frame : e->frame->caller; /* whose names `expr` has */
  if (expr && expr->kind == E_name && frame) {
    Local *local = find_local(frame, expr->name);
    if (local && local->at.src)
      diag_note(&e->diag, local->at, "`%.60s` was bound here", expr->name);
  }
  note_calls(e);
}

static bool dtype_fits(TypeWord word, DType d) {
  return word == T_float ? dtype_is_float(d) : word == T_int ? d == DT_i32 : d == DT_bool;
}

/* One dimension: false with the reason in *why and, where a name was bound earlier, the place. */
static bool dim_fits(Elab *e, const Expr *dim, int64_t found, const char **why, Place *bound) {
  Value v;
  if (dim->kind == E_name) {
    Local *local = find_local(e->frame, dim->name);
    bool known = lookup_bound(e, dim->name, dim->at, &v);
    if (known && v.kind == V_error) return false;
    if (!known || !(is_number(v) || local)) { /* a function or module of that name is not meant */
      bind(e, e->frame, dim->name, v_int(found), dim->at);
      return true;
    }
    if (local) *bound = local->at;
  } else {
    v = eval(e, dim);
  }
  int64_t expected;
  if (!want_int(e, dim, v, "a dimension", &expected)) return false;
  if (expected == found) return true;
  Buf b = {0};
  expr_print(&b, dim);
  *why = dim->kind == E_int
           ? arena_printf(e->arena, ": %lld is not %lld", (long long)found, (long long)expected)
           : arena_printf(e->arena, ": %lld is not %.80s = %lld", (long long)found, b.data,
                          (long long)expected);
  buf_free(&b);
  return false;
}

static Value check(Elab *e, const TypeExpr *t, Value v, const Expr *expr, Place at,
                   const char *what) {
  if (t->word == T_number) {
    if (is_number(v)) return v;
    mismatch(e, t, v, expr, at, what, "", (Place){0});
    return v_error;
  }
  if (is_number(v) && t->n_dim == 0 && expr) { /* a number is a scalar too */
    Node *n = number_node(e, expr, v,
                          t->word == T_float ? DT_f32
                          : t->word == T_int ? DT_i32
                                             : DT_bool,
                          0, NULL);
    return v_node(n);
  }
  if (!is_tensor(v)) {
    mismatch(e, t, v, expr, at, what, "", (Place){0});
    return v_error;
  }
  Type type = tensor_type(v);
  if (!dtype_fits(t->word, (DType)type.dtype) || type.rank != t->n_dim) {
    const char *why = type.rank != t->n_dim
                        ? arena_printf(e->arena, ": %d dimension%s, not %d", type.rank,
                                       type.rank == 1 ? "" : "s", t->n_dim)
                      : t->word == T_float ? "; cast(x, \"f32\") makes it floating point"
                                           : "";
    mismatch(e, t, v, expr, at, what, why, (Place){0});
    return v_error;
  }
  for (int i = 0; i < t->n_dim; i++) {
    const char *why = NULL;
    Place bound = {0};
    if (dim_fits(e, t->dim[i], type.dim[i], &why, &bound)) continue;
    if (why) mismatch(e, t, v, expr, at, what, why, bound);
    return v_error;
  }
  return v;
}

Value check_argument(Elab *e, const Formal *formal, Value v, const Expr *expr) {
  const char *what = arena_printf(e->arena, "`%.60s`", formal->name);
  return check(e, formal->type, v, expr, expr ? expr->at : formal->at, what);
}

Value check_result(Elab *e, const FnDecl *fn, Value v) {
  const Expr *expr = fn->expr ? fn->expr : e->frame->returned;
  return check(e, fn->result, v, expr, fn->result->at,
               arena_printf(e->arena, "the result of `%.60s`", fn->name));
}
