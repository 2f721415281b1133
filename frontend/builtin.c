/* builtin: the table of built-in functions, how their arguments are bound, and the elementwise
 * ones. */
#include "frontend/elab_internal.h"

#include <math.h>
#include <string.h>

/* ---- the table: sorted by group as in docs/language.md ---- */

static const Builtin table[] = {
  {"neg", "x", do_unary, OP_neg},
  {"abs", "x", do_unary, OP_abs},
  {"sign", "x", do_unary, OP_sign},
  {"exp", "x", do_unary, OP_exp},
  {"expm1", "x", do_unary, OP_expm1},
  {"log", "x", do_unary, OP_log},
  {"log1p", "x", do_unary, OP_log1p},
  {"sqrt", "x", do_unary, OP_sqrt},
  {"rsqrt", "x", do_unary, OP_rsqrt},
  {"sin", "x", do_unary, OP_sin},
  {"cos", "x", do_unary, OP_cos},
  {"tanh", "x", do_unary, OP_tanh},
  {"sigmoid", "x", do_unary, OP_sigmoid},
  {"erf", "x", do_unary, OP_erf},
  {"erfc", "x", do_unary, OP_erfc},
  {"relu", "x", do_unary, OP_relu},
  {"floor", "x", do_unary, OP_floor},
  {"ceil", "x", do_unary, OP_ceil},
  {"round", "x", do_unary, OP_round},
  {"isfinite", "x", do_unary, OP_isfinite},
  {"stop_gradient", "x", do_unary, OP_stop_gradient},
  {"where", "c a b", do_where, OP_where},
  {"cast", "x type", do_cast, OP_cast},
  /* max(x, axis = …, keep = …) reduces; max(a, b) takes the larger of two */
  {"max", "x y? axis? keep?", do_minmax, OP_max},
  {"min", "x y? axis? keep?", do_minmax, OP_min},
  {"sum", "x axis? keep?", do_reduce, OP_reduce_sum},
  {"prod", "x axis? keep?", do_reduce, OP_reduce_prod},
  {"mean", "x axis? keep?", do_mean, OP_reduce_sum},
  {"var", "x axis? keep?", do_var, OP_reduce_sum}, /* of the population: divided by n */
  {"argmax", "x axis? keep?", do_argmax, OP_argmax},
  {"cumsum", "x axis", do_cumsum, OP_cumsum},
  {"einsum", "equation ...", do_einsum, OP_matmul},
  {"reshape", "x shape", do_reshape, OP_reshape}, /* one dimension may be -1 */
  {"transpose", "x", do_transpose, OP_permute},
  {"permute", "x order", do_permute, OP_permute},
  {"expand", "x shape", do_expand, OP_expand}, /* -1: as it is */
  {"concat", "list axis", do_concat, OP_concat},
  {"stack", "list axis?", do_stack, OP_concat},
  {"split", "x n axis", do_split, OP_slice},  /* n: how many equal parts, or a list of lengths */
  {"pad", "x widths value?", do_pad, OP_pad}, /* widths: [before, after] for each dimension */
  {"one_hot", "ids n", do_one_hot, OP_eq},
  {"iota", "n", do_iota, OP_iota},
  {"position", "n", do_position, OP_position},
  {"full", "shape value", do_full, OP_const},
  {"zeros", "shape", do_full, OP_const},
  {"ones", "shape", do_full, OP_const},
  {"dropout", "x p", do_dropout, OP_random},
  {"random_uniform", "shape", do_random_uniform, OP_random},
  {"random_normal", "shape", do_random_normal, OP_random},
  {"checkpoint", "f ...", do_checkpoint, OP_cast},
  {"shape", "x", do_shape, OP_cast},
  {"rank", "x", do_rank, OP_cast},
  {"len", "list", do_len, OP_cast},
  {"constant", "c", do_init, OP_const},
  {"normal", "std", do_init, OP_random},
  {"uniform", "a b", do_init, OP_random},
  {"xavier_uniform", "", do_init, OP_random},
  {"xavier_normal", "", do_init, OP_random},
  {"kaiming_uniform", "", do_init, OP_random},
  {"kaiming_normal", "", do_init, OP_random},
};

static NameMap by_name;

const Builtin *builtin_find(const char *name) {
  if (!by_name.cap) { /* as the names themselves, for the life of the process */
    static Arena *arena;
    arena = arena_new();
    for (int i = 0; i < COUNT_OF(table); i++) name_put(arena, &by_name, intern(table[i].name), i);
  }
  int i = name_find(&by_name, name);
  return i < 0 ? NULL : &table[i];
}

bool builtin_constant(const char *name, Value *out) {
  if (strcmp(name, "pi") == 0)
    *out = v_float(3.14159265358979323846);
  else if (strcmp(name, "inf") == 0)
    *out = v_float(INFINITY);
  else
    return false;
  return true;
}

int builtin_names(const char **out, int max) {
  int n = 0;
  for (; n < COUNT_OF(table) && n < max; n++) out[n] = table[n].name;
  return n;
}

/* ---- arguments ---- */

/* The i-th word of `params`; NULL past the end. */
static const char *param_at(const char *params, int i, int *len, bool *optional) {
  for (;;) {
    *len = (int)strcspn(params, " ");
    if (*len == 0) return NULL;
    if (i-- == 0) break;
    params += *len;
    params += strspn(params, " ");
  }
  *optional = params[*len - 1] == '?';
  *len -= *optional;
  return params;
}

static int param_named(const char *params, const char *name) {
  const char *word;
  int len;
  bool optional;
  for (int i = 0; (word = param_at(params, i, &len, &optional)); i++)
    if ((int)strlen(name) == len && memcmp(word, name, (size_t)len) == 0) return i;
  return -1;
}

static Value bad_arguments(Elab *e, Place place, const Builtin *b, const char *what) {
  Buf params = {0};
  int len;
  bool optional;
  const char *word;
  for (int i = 0; (word = param_at(b->params, i, &len, &optional)); i++)
    buf_printf(&params, "%s%.*s%s", i ? ", " : "", len, word, optional ? " = …" : "");
  Value r =
    fail(e, place, "%s; it is used as %s(%s)", what, b->name, params.data ? params.data : "");
  buf_free(&params);
  return r;
}

static bool bind_given(Elab *e, Call *c, int n, const Given *given) {
  int len;
  bool optional;
  for (int i = 0; i < n; i++) {
    Place place = given[i].expr ? given[i].expr->at : c->whole->at;
    int p = given[i].name ? param_named(c->builtin->params, given[i].name) : i;
    const char *word = p < 0 ? NULL : param_at(c->builtin->params, p, &len, &optional);
    if (word && *word == '.') {
      c->rest = arena_copy(e->arena, given + i, sizeof *given * (size_t)(n - i));
      c->n_rest = n - i;
      for (int r = i; r < n; r++)
        if (given[r].name && c->builtin->run == do_einsum) {
          bad_arguments(e, place, c->builtin, "the operands have no names");
          return false;
        }
      return true;
    }
    if (!word || c->given[p]) {
      bad_arguments(e, place, c->builtin,
                    !word && !given[i].name ? "too many arguments"
                    : word                  ? "an argument is given twice"
                                            : arena_printf(e->arena, "`%s` has no argument `%.60s`",
                                                           c->builtin->name, given[i].name));
      return false;
    }
    c->given[p] = true;
    c->value[p] = given[i].value;
    c->expr[p] = given[i].expr ? given[i].expr : c->whole;
  }
  return true;
}

Value call_builtin(Elab *e, const Expr *whole, const Builtin *b, int n, const Given *given) {
  Call c = {.whole = whole, .builtin = b};
  for (int i = 0; i < MAX_ARGS; i++) c.value[i] = v_none, c.expr[i] = whole;
  for (int i = 0; i < n; i++)
    if (given[i].value.kind == V_error) return v_error;
  if (!bind_given(e, &c, n, given)) return v_error;
  int len;
  bool optional;
  const char *word;
  for (int i = 0; (word = param_at(b->params, i, &len, &optional)); i++)
    if (!optional && !c.given[i] && *word != '.')
      return bad_arguments(e, whole->at, b,
                           arena_printf(e->arena, "`%s` needs `%.*s`", b->name, len, word));
  if (e->g) at(e, whole);
  Value v = b->run(e, &c);
  return elab_room(e, whole->at) ? v : v_error;
}

bool call_tensor(Elab *e, Call *c, int arg, Node **out) {
  Value v = c->value[arg];
  if (is_tensor(v))
    *out = to_node(e, v);
  else if (is_number(v))
    *out = number_node(e, c->expr[arg], v,
                       v.kind == V_float ? DT_f32
                       : v.kind == V_int ? DT_i32
                                         : DT_bool,
                       0, NULL);
  else {
    fail(e, c->expr[arg]->at, "`%s` takes a tensor, found %s", c->builtin->name, describe(e, v));
    *out = NULL;
  }
  at(e, c->whole);
  return *out != NULL;
}

bool call_axis(Elab *e, Call *c, int arg, int rank, int *axis) {
  int64_t a;
  if (!want_int(e, c->expr[arg], c->value[arg], "an axis", &a)) return false;
  if (a < -rank || a >= rank) {
    fail(e, c->expr[arg]->at, "axis %lld of a tensor with %d dimension%s", (long long)a, rank,
         rank == 1 ? "" : "s");
    return false;
  }
  *axis = (int)(a < 0 ? a + rank : a);
  return true;
}

/* ---- elementwise ---- */

Value do_unary(Elab *e, Call *c) {
  Value v = c->value[0];
  if (is_number(v)) return number_unary(e, c->whole->at, c->builtin->op, v);
  if (is_tensor(v)) return tensor_unary(e, c->whole, c->builtin->op, c->expr[0], v);
  return fail(e, c->expr[0]->at, "`%s` takes a number or a tensor, found %s", c->builtin->name,
              describe(e, v));
}

static Value number_minmax(Op op, Value a, Value b) {
  double x = number_of(a), y = number_of(b);
  bool whole = a.kind != V_float && b.kind != V_float;
  bool first = whole ? (op == OP_max ? a.i >= b.i : a.i <= b.i) : op == OP_max ? x >= y : x <= y;
  return first ? a : b;
}

Value do_minmax(Elab *e, Call *c) {
  Op op = c->builtin->op;
  Value a = c->value[0], b = c->value[1];
  if (!c->given[1]) {
    c->value[1] = c->value[2], c->value[2] = c->value[3];
    c->expr[1] = c->expr[2], c->expr[2] = c->expr[3];
    c->given[1] = c->given[2], c->given[2] = c->given[3];
    Builtin reduce = {c->builtin->name, c->builtin->params, do_reduce,
                      op == OP_max ? OP_reduce_max : OP_reduce_min};
    c->builtin = &reduce;
    return do_reduce(e, c);
  }
  if (c->given[2] || c->given[3])
    return fail(e, c->whole->at, "`%s` of two operands has no axis; %s(x, axis = …) reduces",
                c->builtin->name, c->builtin->name);
  for (int i = 0; i < 2; i++)
    if (!is_number(c->value[i]) && !is_tensor(c->value[i]))
      return fail(e, c->expr[i]->at, "`%s` takes numbers and tensors, found %s", c->builtin->name,
                  describe(e, c->value[i]));
  if (is_number(a) && is_number(b)) return number_minmax(op, a, b);
  return elementwise2(e, c->whole, op, c->expr[0], a, c->expr[1], b);
}

Value do_where(Elab *e, Call *c) {
  for (int i = 0; i < 3; i++)
    if (!is_number(c->value[i]) && !is_tensor(c->value[i]))
      return fail(e, c->expr[i]->at, "`where` takes numbers and tensors, found %s",
                  describe(e, c->value[i]));
  if (is_number(c->value[0])) { /* known: that side, in the shape and type of both */
    if (is_number(c->value[1]) && is_number(c->value[2]))
      return number_of(c->value[0]) != 0 ? c->value[1] : c->value[2];
    c->value[0] = v_bool(number_of(c->value[0]) != 0);
  } else if (tensor_type(c->value[0]).dtype != DT_bool) {
    return fail(e, c->expr[0]->at,
                "the condition of `where` is a bool tensor, found %s; a comparison gives one",
                describe(e, c->value[0]));
  }
  /* The condition takes part in the shape alone, the choices in shape and type. */
  int rank;
  int64_t dim[IR_MAX_RANK];
  Node *src[3];
  if (!broadcast_shape(e, c->whole, 3, c->expr, c->value, &rank, dim)) return v_error;
  if (is_number(c->value[1]) && is_number(c->value[2])) {
    bool fraction = c->value[1].kind == V_float || c->value[2].kind == V_float;
    bool bools = c->value[1].kind == V_bool && c->value[2].kind == V_bool;
    for (int i = 1; i < 3; i++) {
      src[i] = number_node(e, c->expr[i], c->value[i],
                           fraction ? DT_f32
                           : bools  ? DT_bool
                                    : DT_i32,
                           rank, dim);
      if (!src[i]) return v_error;
    }
  } else if (!align(e, c->whole, 2, c->expr + 1, c->value + 1, DT_bool, src + 1)) {
    return v_error;
  }
  src[0] = is_number(c->value[0]) ? number_node(e, c->expr[0], c->value[0], DT_bool, rank, dim)
                                  : to_node(e, c->value[0]);
  if (!src[0]) return v_error;
  at(e, c->whole);
  for (int i = 0; i < 3; i++) src[i] = ir_broadcast(e->g, src[i], rank, dim);
  return v_node(ir_where(e->g, src[0], src[1], src[2]));
}

static bool want_dtype(Elab *e, const Expr *x, Value v, DType *out) {
  if (v.kind == V_string && dtype_by_name(v.s, out)) return true;
  fail(e, x->at, "expected a type: \"bool\", \"i32\", \"f16\", \"bf16\" or \"f32\", found %s",
       describe(e, v));
  return false;
}

Value do_cast(Elab *e, Call *c) {
  DType d;
  Node *x;
  Value v = c->value[0];
  if (!want_dtype(e, c->expr[1], c->value[1], &d)) return v_error;
  if (!is_number(v)) return call_tensor(e, c, 0, &x) ? v_node(ir_cast(e->g, x, d)) : v_error;
  if (d == DT_bool) return v_bool(number_of(v) != 0);
  if (d != DT_i32) return v_float(dtype_round(d, number_of(v)));
  double whole = trunc(number_of(v));
  if (fabs(whole) < 9e15) return v_int((int64_t)whole);
  return fail(e, c->expr[0]->at, "%s does not fit into an integer", number_text(e, v));
}

/* ---- shapes as numbers ---- */

static bool has_shape(Elab *e, Call *c, Type *t) {
  Value v = c->value[0];
  if (!is_tensor(v) && !is_number(v)) {
    fail(e, c->expr[0]->at, "`%s` takes a tensor, found %s", c->builtin->name, describe(e, v));
    return false;
  }
  *t = is_tensor(v) ? tensor_type(v) : type_scalar(DT_f32);
  return true;
}

Value do_shape(Elab *e, Call *c) {
  Type t;
  Value dim[IR_MAX_RANK];
  if (!has_shape(e, c, &t)) return v_error;
  for (int i = 0; i < t.rank; i++) dim[i] = v_int(t.dim[i]);
  return v_list(e, c->whole->at, t.rank, dim);
}

Value do_rank(Elab *e, Call *c) {
  Type t;
  return has_shape(e, c, &t) ? v_int(t.rank) : v_error;
}

Value do_len(Elab *e, Call *c) {
  if (c->value[0].kind == V_list) return v_int(c->value[0].list->n);
  return fail(e, c->expr[0]->at, "`len` takes a list, found %s", describe(e, c->value[0]));
}

/* ---- checkpoint(f, x, …): f(x, …), whose values are recomputed in the backward pass. The
 * outermost one counts. ---- */

Value do_checkpoint(Elab *e, Call *c) {
  int outer = open_region(e);
  Value v = call_value(e, c->whole, c->value[0], c->n_rest, c->rest);
  e->g->region = outer;
  return v;
}
