/* call: arguments to parameters, and calls of functions, modules and instances. A call is
 * elaborated where it stands. */
#include "frontend/elab_internal.h"

#include <string.h>

static int formal_named(const Formal *formal, int n, const char *name) {
  for (int i = 0; i < n; i++)
    if (formal[i].name == name) return i;
  return -1;
}

static Value no_such_argument(Elab *e, const Given *g, Place at, const char *what, Place declared,
                              const Formal *formal, int n_formal) {
  const char **names = arena_alloc(e->arena, sizeof *names * (size_t)(n_formal + 1));
  for (int i = 0; i < n_formal; i++) names[i] = formal[i].name;
  const char *near = suggest(g->name, names, n_formal);
  if (report(e, at,
             near ? "`%.60s` has no argument `%.60s`; did you mean `%s`?"
                  : "`%.60s` has no argument `%.60s`",
             what, g->name, near)) {
    diag_note(&e->diag, declared, "declared here");
    note_calls(e);
  }
  return v_error;
}

static bool wrong_count(Elab *e, Place at, Place declared, const char *what, int expected,
                        int found, const char *missing) {
  if (report(e, at, "`%.60s` takes %d argument%s, found %d%s", what, expected,
             expected == 1 ? "" : "s", found, missing)) {
    diag_note(&e->diag, declared, "declared here");
    note_calls(e);
  }
  return false;
}

bool match_arguments(Elab *e, const Expr *call, const char *what, Place declared,
                     const Formal *formal, int n_formal, int n, const Given *given, int *from) {
  for (int i = 0; i < n_formal; i++) from[i] = -1;
  bool ok = true;
  for (int i = 0; i < n; i++) {
    Place at = given[i].expr ? given[i].expr->at : call->at;
    int f = given[i].name ? formal_named(formal, n_formal, given[i].name) : i;
    if (given[i].value.kind == V_error) ok = false;
    if (f < 0) {
      no_such_argument(e, &given[i], at, what, declared, formal, n_formal);
      ok = false;
    } else if (f >= n_formal) {
      return wrong_count(e, at, declared, what, n_formal, n, "");
    } else if (from[f] >= 0) {
      fail(e, at, "the argument `%.60s` is given twice", formal[f].name);
      ok = false;
    } else {
      from[f] = i;
    }
  }
  for (int i = 0; i < n_formal && ok; i++)
    if (from[i] < 0 && !formal[i].init)
      return wrong_count(e, call->at, declared, what, n_formal, n,
                         arena_printf(e->arena, ": `%.60s` is missing", formal[i].name));
  return ok;
}

/* ---- functions ---- */

static bool bind_arguments(Elab *e, Frame *f, const FnDecl *fn, const Given *given,
                           const int *from) {
  for (int i = 0; i < fn->n_formal; i++) {
    const Formal *formal = &fn->formal[i];
    const Expr *expr = from[i] >= 0 ? given[from[i]].expr : formal->init;
    Value v = from[i] >= 0 ? given[from[i]].value : eval(e, formal->init);
    if (v.kind == V_error) return false;
    if (formal->type && (from[i] >= 0 || v.kind != V_none)) v = check_argument(e, formal, v, expr);
    if (v.kind == V_error) return false;
    bind(e, f, formal->name, v, from[i] >= 0 && expr ? expr->at : formal->at);
  }
  return true;
}

Value call_function(Elab *e, const Expr *call, const Function *fn, int n, const Given *given) {
  const FnDecl *d = fn->decl;
  int few[16], *from = d->n_formal <= COUNT_OF(few)
                         ? few
                         : arena_alloc(e->arena, sizeof *from * (size_t)d->n_formal);
  if (!elab_step(e, call->at) || !elab_room(e, call->at)) return v_error;
  if (!match_arguments(e, call, d->name, d->at, d->formal, d->n_formal, n, given, from))
    return v_error;
  if (e->n_call >= MAX_CALLS)
    return fail(e, call->at, "calls are nested more than %d deep: does `%.60s` end?", MAX_CALLS,
                d->name);
  Frame f;
  Value result = v_error;
  e->n_call++;
  frame_open(e, &f, fn->unit, fn->self, d->name, call->at);
  if (bind_arguments(e, &f, d, given, from)) result = run_body(e, d);
  if (d->result && result.kind != V_error) result = check_result(e, d, result);
  frame_close(e, &f);
  e->n_call--;
  return result;
}

/* ---- whatever can be called ---- */

int open_region(Elab *e) {
  int outer = e->g->region;
  if (outer == 0 && !e->in_const) e->g->region = ++e->regions;
  return outer;
}

static Value call_instance(Elab *e, const Expr *call, Instance *self, int n, const Given *given) {
  Value forward;
  if (!has_member(e, self, intern("forward"), call->at, &forward))
    return fail(e, call->at,
                "the %s `%.60s` has no function `forward`, so an instance cannot be called",
                decl_word(self->class->decl->kind), self->class->decl->name);
  if (forward.kind == V_error) return v_error;
  if (forward.kind != V_fn)
    return fail(e, call->at, "`forward` must be a function, found %s", describe(e, forward));
  if (!self->in_list || !e->training || !e->m->train.recompute)
    return call_function(e, call, forward.fn, n, given);
  int outer = open_region(e); /* as checkpoint(self, …) */
  Value v = call_function(e, call, forward.fn, n, given);
  e->g->region = outer;
  return v;
}

Value call_value(Elab *e, const Expr *call, Value callee, int n, const Given *given) {
  switch (callee.kind) {
  case V_error: return v_error;
  case V_fn: return call_function(e, call, callee.fn, n, given);
  case V_builtin: return call_builtin(e, call, callee.builtin, n, given);
  case V_instance: return call_instance(e, call, callee.instance, n, given);
  case V_class: return instantiate(e, call, callee.class, n, given);
  default:
    return fail(e, call->a ? call->a->at : call->at, "%s cannot be called", describe(e, callee));
  }
}

Value eval_call(Elab *e, const Expr *x) {
  Value callee = eval(e, x->a);
  if (callee.kind == V_error) return v_error;
  Given few[8], *given = x->n_arg <= COUNT_OF(few)
                           ? few
                           : arena_alloc(e->arena, sizeof *given * (size_t)x->n_arg);
  bool ok = true;
  for (int i = 0; i < x->n_arg; i++) {
    given[i] = (Given){x->arg[i].name, eval(e, x->arg[i].value), x->arg[i].value};
    ok = ok && given[i].value.kind != V_error;
  }
  return ok ? call_value(e, x, callee, x->n_arg, given) : v_error;
}
