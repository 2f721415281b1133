/* eval: expressions and statements. Numbers are computed at once, tensors become nodes of the
 * graph. */
#include "frontend/elab_internal.h"

#include <string.h>

/* ---- expressions ---- */

static Value eval_list(Elab *e, const Expr *x) {
  Value *at = arena_alloc(e->arena, sizeof *at * (size_t)(x->n_arg + 1));
  bool ok = true;
  for (int i = 0; i < x->n_arg; i++) {
    at[i] = eval(e, x->arg[i].value);
    ok = ok && at[i].kind != V_error;
  }
  return ok ? v_list_of(e, x->at, x->n_arg, at) : v_error;
}

/* What a `for` goes over: the numbers from..to, or the elements of a list. */
typedef struct Each {
  int64_t from, to;
  const List *list; /* NULL: numbers */
} Each;

static bool each_of(Elab *e, const Expr *over, const Expr *end, Each *out) {
  Value v = eval(e, over);
  *out = (Each){0};
  if (end) {
    Value to = eval(e, end);
    bool first = want_int(e, over, v, "the start of a range", &out->from);
    return want_int(e, end, to, "the end of a range", &out->to) && first;
  }
  if (v.kind == V_list) {
    *out = (Each){0, v.list->n, v.list};
    return true;
  }
  if (v.kind != V_error)
    fail(e, over->at, "a `for` goes over a range 0..n or a list, found %s", describe(e, v));
  return false;
}

static Value each_value(const Each *each, int64_t i) {
  return each->list ? each->list->at[i] : v_int(i);
}

/* [a for name in …]: the name is bound as in a `for`, and what it hid comes back. */
static Value eval_each(Elab *e, const Expr *x) {
  Each each;
  if (!each_of(e, x->b, x->c, &each)) return v_error;
  Frame *f = e->frame;
  Local *hidden = find_local(f, x->name);
  Local saved = hidden ? *hidden : (Local){0};
  Value *at = NULL;
  int n = 0;
  bool ok = true;
  for (int64_t i = each.from; i < each.to && ok; i++) {
    bind(e, f, x->name, each_value(&each, i), x->at);
    Value v = eval(e, x->a);
    ok = v.kind != V_error && elab_room(e, x->at);
    ARENA_PUSH(e->arena, at, n, v);
  }
  Local *mine = find_local(f, x->name);
  if (hidden)
    *mine = saved;
  else if (mine)
    *mine = f->local[--f->n_local];
  return ok ? v_list_of(e, x->at, n, at) : v_error;
}

static Value eval_logic(Elab *e, const Expr *x) {
  Value a = eval(e, x->a);
  bool holds;
  if (a.kind == V_error) return v_error;
  if (!is_tensor(a)) {
    if (!truth(e, x->a, a, &holds)) return v_error;
    if (holds == (x->op == O_or)) return v_bool(holds);
    Value b = eval(e, x->b);
    if (b.kind == V_error || is_tensor(b)) return b; /* true and t is t */
    return truth(e, x->b, b, &holds) ? v_bool(holds) : v_error;
  }
  Value b = eval(e, x->b);
  if (b.kind == V_error) return v_error;
  if (!is_tensor(b)) {
    if (!truth(e, x->b, b, &holds)) return v_error;
    return holds == (x->op == O_or) ? v_bool(holds) : a;
  }
  return tensor_binary(e, x, x->op, x->a, a, x->b, b);
}

static Value concatenated(Elab *e, const Expr *x, Value a, Value b) {
  if (a.kind == V_list) {
    Value *at = arena_alloc(e->arena, sizeof *at * ((size_t)a.list->n + (size_t)b.list->n + 1));
    if (a.list->n) memcpy(at, a.list->at, sizeof *at * (size_t)a.list->n);
    if (b.list->n) memcpy(at + a.list->n, b.list->at, sizeof *at * (size_t)b.list->n);
    return v_list_of(e, x->at, a.list->n + b.list->n, at);
  }
  if (strlen(a.s) + strlen(b.s) > MAX_STRING)
    return fail(e, x->at, "a string of more than %d bytes", MAX_STRING);
  char *text = arena_printf(e->arena, "%s%s", a.s, b.s);
  return elab_room(e, x->at) ? v_string(text) : v_error;
}

static Value wrong_operands(Elab *e, const Expr *x, Value a, Value b) {
  if (report(e, x->at, "`%s` does not apply to %s and %s", operator_text(x->op), describe(e, a),
             describe(e, b))) {
    note_value(e, x->a, a);
    note_value(e, x->b, b);
    note_calls(e);
  }
  return v_error;
}

static Value eval_binary(Elab *e, const Expr *x) {
  if (x->op == O_and || x->op == O_or) return eval_logic(e, x);
  Value a = eval(e, x->a), b = eval(e, x->b);
  if (a.kind == V_error || b.kind == V_error) return v_error;
  if (is_number(a) && is_number(b)) return number_binary(e, x, x->op, a, b);
  bool ta = is_tensor(a), tb = is_tensor(b), equality = x->op == O_eq || x->op == O_ne;
  if ((ta || is_number(a)) && (tb || is_number(b)))
    return tensor_binary(e, x, x->op, x->a, a, x->b, b);
  if (equality)
    return v_bool(same_value(a, b) == (x->op == O_eq)); /* of different kinds: not equal */
  if (x->op == O_add && a.kind == b.kind && (a.kind == V_list || a.kind == V_string))
    return concatenated(e, x, a, b);
  return wrong_operands(e, x, a, b);
}

static Value eval_unary(Elab *e, const Expr *x) {
  Value a = eval(e, x->a);
  if (a.kind == V_error) return v_error;
  if (is_tensor(a)) return tensor_unary(e, x, x->op == O_not ? OP_not : OP_neg, x->a, a);
  bool holds;
  if (x->op == O_not) return truth(e, x->a, a, &holds) ? v_bool(!holds) : v_error;
  if (is_number(a)) return number_unary(e, x->at, OP_neg, a);
  return fail(e, x->at, "`-` does not apply to %s", describe(e, a));
}

static Value tensor_member(Elab *e, const Expr *x, Value v) {
  Type t = tensor_type(v);
  if (strcmp(x->name, "shape") != 0)
    return fail(e, x->at, "a tensor has no `%.60s`, only `shape`", x->name);
  Value dim[IR_MAX_RANK];
  for (int i = 0; i < t.rank; i++) dim[i] = v_int(t.dim[i]);
  return v_list(e, x->at, t.rank, dim);
}

static Value instance_member(Elab *e, const Expr *x, Instance *instance) {
  Value v;
  if (has_member(e, instance, x->name, x->at, &v)) return v;
  const Class *c = instance->class;
  if (name_find(&c->names, x->name) >= 0)
    return fail(e, x->at, "`%.60s` is not there in this %s: the `if` around it does not hold",
                x->name, c->decl->name);
  const char **names = arena_alloc(e->arena, sizeof *names * (size_t)(c->n_slot + 1));
  for (int i = 0; i < c->n_slot; i++) names[i] = c->slot[i].decl->name;
  const char *near = suggest(x->name, names, c->n_slot);
  return fail(e, x->at, near ? "%s has no `%.60s`; did you mean `%s`?" : "%s has no `%.60s`",
              describe(e, (Value){.kind = V_instance, .instance = instance}), x->name, near);
}

static Value config_member(Elab *e, const Expr *x) {
  int i = name_find(&e->m->config_names, x->name);
  if (i >= 0) return config_value(e, &e->m->config[i]);
  const char **names = arena_alloc(e->arena, sizeof *names * (size_t)(e->m->n_config + 1));
  for (int c = 0; c < e->m->n_config; c++) names[c] = e->m->config[c].name;
  const char *near = suggest(x->name, names, e->m->n_config);
  return fail(e, x->at,
              near ? "config has no `%.60s`; did you mean `%s`?" : "config has no `%.60s`", x->name,
              near);
}

static Value eval_member(Elab *e, const Expr *x) {
  Value v = eval(e, x->a);
  if (is_tensor(v)) return tensor_member(e, x, v);
  switch (v.kind) {
  case V_error: return v_error;
  case V_instance: return instance_member(e, x, v.instance);
  case V_unit: return unit_member(e, v.unit, x->name, x->at);
  case V_config: return config_member(e, x);
  default: return fail(e, x->at, "%s has no members", describe(e, v));
  }
}

static Value eval_choose(Elab *e, const Expr *x) {
  Value c = eval(e, x->a);
  bool holds;
  if (!truth(e, x->a, c, &holds)) return v_error;
  return eval(e, holds ? x->b : x->c);
}

static Value eval_kind(Elab *e, const Expr *x) {
  switch (x->kind) {
  case E_int: return v_int(x->i);
  case E_float: return v_float(x->f);
  case E_string: return v_string(x->name);
  case E_bool: return v_bool(x->i);
  case E_none: return v_none;
  case E_name: return lookup(e, x->name, x->at);
  case E_list: return eval_list(e, x);
  case E_each: return eval_each(e, x);
  case E_unary: return eval_unary(e, x);
  case E_binary: return eval_binary(e, x);
  case E_choose: return eval_choose(e, x);
  case E_call: return eval_call(e, x);
  case E_index: return eval_index(e, x);
  case E_member: return eval_member(e, x);
  case E_slice: break; /* only inside E_index, which reads it itself */
  }
  die("eval: expression kind %d", x->kind);
}

Value eval(Elab *e, const Expr *x) {
  if (!elab_step(e, x->at)) return v_error;
  e->depth++;
  Value v = eval_kind(e, x);
  e->depth--;
  return v;
}

/* ---- statements ---- */

static void label(Value v, const char *name) {
  if (v.kind == V_node && !v.node->label && !(ir_op[v.node->op].flags & IR_LEAF))
    v.node->label = name;
}

static void assign(Elab *e, const Stmt *s) {
  Value v = eval(e, s->a);
  Frame *f = e->frame;
  if (s->n_name == 1) {
    label(v, s->name[0].name);
    bind(e, f, s->name[0].name, v, s->name[0].at);
    return;
  }
  bool fits = v.kind == V_list && v.list->n == s->n_name;
  if (!fits && v.kind != V_error) {
    Place all = place_join(s->name[0].at, s->name[s->n_name - 1].at);
    if (report(e, all, "%d names are bound, found %s", s->n_name, describe(e, v))) {
      diag_note(&e->diag, s->a->at, "this is %s", describe(e, v));
      note_calls(e);
    }
  }
  for (int i = 0; i < s->n_name; i++) {
    Value part = fits ? v.list->at[i] : v_error;
    label(part, s->name[i].name);
    bind(e, f, s->name[i].name, part, s->name[i].at);
  }
}

/* true: a `return` was met, its value in *result. */
static bool run_block(Elab *, const Block *, Value *result);

static bool run_for(Elab *e, const Stmt *s, Value *result) {
  Each each;
  if (!each_of(e, s->a, s->b, &each)) { /* unknown: whatever follows is not to be judged */
    *result = v_error;
    return true;
  }
  for (int64_t i = each.from; i < each.to; i++) {
    if (!elab_step(e, s->at) || !elab_room(e, s->at)) return false;
    bind(e, e->frame, s->name[0].name, each_value(&each, i), s->name[0].at);
    if (run_block(e, &s->then, result)) return true;
  }
  return false;
}

static bool run_kind(Elab *e, const Stmt *s, Value *result) {
  switch (s->kind) {
  case S_assign: assign(e, s); return false;
  case S_return:
    *result = eval(e, s->a);
    e->frame->returned = s->a;
    return true;
  case S_for: return run_for(e, s, result);
  case S_if: {
    bool holds;
    Value c = eval(e, s->a);
    if (!truth(e, s->a, c, &holds)) {
      *result = v_error;
      return true;
    }
    return run_block(e, holds ? &s->then : &s->otherwise, result);
  }
  }
  return false;
}

static bool run_block(Elab *e, const Block *b, Value *result) {
  bool returned = false;
  e->depth++;
  for (int i = 0; i < b->n && !returned && elab_step(e, b->stmt[i]->at); i++)
    returned = run_kind(e, b->stmt[i], result);
  e->depth--;
  return returned;
}

Value run_body(Elab *e, const FnDecl *fn) {
  if (fn->expr) return eval(e, fn->expr);
  Value result = v_error;
  if (!run_block(e, &fn->body, &result) && !e->stop)
    return fail(e, fn->at, "`%.60s` ends without `return`", fn->name);
  return result;
}
