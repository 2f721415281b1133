/* value: making, describing and comparing values. */
#include "frontend/elab_internal.h"

#include <math.h>
#include <string.h>

const Value v_none = {.kind = V_none}, v_error = {.kind = V_error};
Value v_int(int64_t i) { return (Value){.kind = V_int, .i = i}; }
Value v_float(double f) { return (Value){.kind = V_float, .f = f}; }
Value v_bool(bool b) { return (Value){.kind = V_bool, .i = b}; }
Value v_string(const char *s) { return (Value){.kind = V_string, .s = s}; }
Value v_node(Node *n) { return n ? (Value){.kind = V_node, .node = n} : v_error; }

Value v_list_of(Elab *e, Place at, int n, Value *from) {
  List *list = arena_alloc(e->arena, sizeof *list);
  *list = (List){from, n, 1};
  for (int i = 0; i < n; i++)
    if (from[i].kind == V_list && from[i].list->depth >= list->depth)
      list->depth = from[i].list->depth + 1;
  if (list->depth > MAX_LISTS) return fail(e, at, "lists are nested more than %d deep", MAX_LISTS);
  return elab_room(e, at) ? (Value){.kind = V_list, .list = list} : v_error;
}

Value v_list(Elab *e, Place at, int n, const Value *from) {
  return v_list_of(e, at, n, arena_copy(e->arena, from, sizeof *from * (size_t)n));
}

bool is_number(Value v) { return v.kind == V_bool || v.kind == V_int || v.kind == V_float; }
bool is_tensor(Value v) { return v.kind == V_node || v.kind == V_param || v.kind == V_const; }
double number_of(Value v) { return v.kind == V_float ? v.f : (double)v.i; }

bool is_whole(Value v, int64_t *out) {
  if (v.kind == V_float && (v.f != floor(v.f) || fabs(v.f) > 9e15)) return false;
  if (v.kind != V_int && v.kind != V_float) return false;
  *out = v.kind == V_int ? v.i : (int64_t)v.f;
  return true;
}

Type tensor_type(Value v) {
  return v.kind == V_node ? v.node->type : v.kind == V_param ? v.param->type : v.table->type;
}

/* ---- as text ---- */

const char *shape_text(Elab *e, int rank, const int64_t *dim) {
  Buf b = {0};
  buf_str(&b, "[");
  for (int i = 0; i < rank; i++) buf_printf(&b, "%s%lld", i ? ", " : "", (long long)dim[i]);
  buf_str(&b, "]");
  const char *text = arena_str(e->arena, b.data, b.len);
  buf_free(&b);
  return text;
}

const char *type_text(Elab *e, const Type *t) {
  return arena_printf(e->arena, "%s%s", dtype_name(t->dtype), shape_text(e, t->rank, t->dim));
}

/* The shortest decimal that reads back as the same number. */
const char *number_text(Elab *e, Value v) {
  if (v.kind == V_bool) return v.i ? "true" : "false";
  if (v.kind == V_int) return arena_printf(e->arena, "%lld", (long long)v.i);
  if (!isfinite(v.f)) return isnan(v.f) ? "nan" : v.f > 0 ? "inf" : "-inf";
  Buf b = {0};
  Expr literal = {.kind = E_float, .f = v.f};
  expr_print(&b, &literal);
  const char *text = arena_str(e->arena, b.data, b.len);
  buf_free(&b);
  return text;
}

const char *describe(Elab *e, Value v) {
  switch (v.kind) {
  case V_error: return "an error";
  case V_none: return "none";
  case V_bool: return v.i ? "true" : "false";
  case V_int:
  case V_float: return arena_printf(e->arena, "the number %s", number_text(e, v));
  case V_string: {
    int n = 0;
    while (n < 40 && v.s[n]) n++;
    while (n > 0 && ((unsigned char)v.s[n] & 0xC0) == 0x80) n--; /* cut before a whole character */
    return arena_printf(e->arena, "the string \"%.*s\"", n, v.s);
  }
  case V_list: return arena_printf(e->arena, "a list of %d", v.list->n);
  case V_node:
  case V_param:
  case V_const: {
    Type t = tensor_type(v);
    return arena_printf(e->arena, "a tensor %s", type_text(e, &t));
  }
  case V_fn: return arena_printf(e->arena, "the function `%.40s`", v.fn->decl->name);
  case V_builtin: return arena_printf(e->arena, "the function `%.40s`", v.builtin->name);
  case V_class:
    return arena_printf(e->arena, "the %s `%.40s`", decl_word(v.class->decl->kind),
                        v.class->decl->name);
  case V_instance: {
    const Decl *d = v.instance->class->decl;
    return arena_printf(e->arena, "an instance of the %s `%.40s`", decl_word(d->kind), d->name);
  }
  case V_unit: return arena_printf(e->arena, "the file %.80s", v.unit->path);
  case V_config: return "the configuration";
  case V_init: return arena_printf(e->arena, "the initialiser %s", init_text(e, v.init));
  }
  return "";
}

/* ---- tests ---- */

bool truth(Elab *e, const Expr *expr, Value v, bool *out) {
  if (v.kind == V_error) return false;
  if (is_number(v) || v.kind == V_none) {
    *out = v.kind != V_none && number_of(v) != 0;
    return true;
  }
  if (is_tensor(v))
    fail(e, expr->at,
         "a condition must be known at compile time, found %s; choose between tensors with "
         "where(c, a, b)",
         describe(e, v));
  else
    fail(e, expr->at, "a condition must be true, false or a number, found %s", describe(e, v));
  return false;
}

bool same_value(Value a, Value b) {
  if (is_number(a) && is_number(b))
    return a.kind != V_float && b.kind != V_float ? a.i == b.i : number_of(a) == number_of(b);
  if (a.kind != b.kind) return false;
  switch (a.kind) {
  case V_none: return true;
  case V_string: return strcmp(a.s, b.s) == 0;
  case V_list:
    if (a.list->n != b.list->n) return false;
    for (int i = 0; i < a.list->n; i++)
      if (!same_value(a.list->at[i], b.list->at[i])) return false;
    return true;
  case V_fn: return a.fn->decl == b.fn->decl && a.fn->self == b.fn->self;
  default: return a.node == b.node; /* one pointer of the union */
  }
}

/* ---- what an operation wants ---- */

bool want_int(Elab *e, const Expr *expr, Value v, const char *what, int64_t *out) {
  if (v.kind == V_error) return false;
  if (is_whole(v, out)) return true;
  fail(e, expr->at, "%s must be a whole number, found %s", what, describe(e, v));
  return false;
}

bool want_number(Elab *e, const Expr *expr, Value v, const char *what, double *out) {
  if (v.kind == V_error) return false;
  if (v.kind == V_int || v.kind == V_float) {
    *out = number_of(v);
    return true;
  }
  fail(e, expr->at, "%s must be a number, found %s", what, describe(e, v));
  return false;
}

bool shape_fits(Elab *e, Place at, int rank, const int64_t *dim) {
  if (rank > IR_MAX_RANK) {
    fail(e, at, "a tensor has at most %d dimensions; this one would have %d", IR_MAX_RANK, rank);
    return false;
  }
  int64_t count = 1;
  for (int i = 0; i < rank; i++) {
    if (dim[i] < 1) {
      fail(e, at, "a dimension is at least 1, found %s", shape_text(e, rank, dim));
      return false;
    }
    if (dim[i] > IR_MAX_ELEMENTS || (count *= dim[i]) > IR_MAX_ELEMENTS) {
      fail(e, at, "a tensor of shape %s would have more than 2^31 elements",
           shape_text(e, rank, dim));
      return false;
    }
  }
  return true;
}

bool want_shape(Elab *e, const Expr *expr, Value v, const char *what, int *rank, int64_t *dim,
                int64_t least) {
  if (v.kind == V_error) return false;
  if (v.kind != V_list) {
    fail(e, expr->at, "%s must be a list of dimensions like [2, 3], found %s", what,
         describe(e, v));
    return false;
  }
  if (v.list->n > IR_MAX_RANK) {
    fail(e, expr->at, "a tensor has at most %d dimensions; %s has %d", IR_MAX_RANK, what,
         v.list->n);
    return false;
  }
  *rank = v.list->n;
  for (int i = 0; i < v.list->n; i++) {
    const Expr *part = expr->kind == E_list && expr->n_arg == v.list->n ? expr->arg[i].value : expr;
    if (!want_int(e, part, v.list->at[i], "a dimension", &dim[i])) return false;
    if (dim[i] < least) {
      fail(e, part->at, "a dimension is at least 1, found %lld", (long long)dim[i]);
      return false;
    }
  }
  return true;
}
