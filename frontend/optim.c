/* optim: the optimizer's state and update of one parameter, and the schedule's learning rate, as
 * nodes. The optimizer's members may depend on the parameter, called `p`: each parameter has an
 * instance of its own. */
#include "frontend/elab_internal.h"

#include <stdlib.h>
#include <string.h>

static Instance *optimizer_of(Elab *e, const Param *p) {
  const Instance *shared = e->m->optimizer;
  if (!shared) {
    fail(e, e->m->train_at, "the program's train block names no optimizer");
    return NULL;
  }
  Instance *in = arena_copy(e->arena, shared, sizeof *in);
  const Class *c = in->class;
  in->arg = arena_alloc(e->arena, sizeof *in->arg * (size_t)(in->n_arg + 1));
  if (shared->n_arg) memcpy(in->arg, shared->arg, sizeof *in->arg * (size_t)shared->n_arg);
  in->arg[in->n_arg++] = (Local){intern("p"), {.kind = V_param, .param = (Param *)p}, p->at};
  in->value = arena_alloc(e->arena, sizeof *in->value * (size_t)(c->n_slot + 1));
  in->state = arena_alloc(e->arena, (size_t)c->n_slot + 1);
  in->guard = arena_alloc(e->arena, (size_t)c->n_guard + 1);
  return in;
}

/* ---- states ---- */

static bool read_state(Elab *e, Instance *in, const Param *p, const Member *m, StateInfo *out) {
  Frame f;
  Init init;
  bool ok = true;
  frame_open(e, &f, in->class->unit, in, in->class->decl->name, in->at);
  *out = (StateInfo){.name = m->name, .type = p->type};
  if (m->has_dims) eval_dims(e, m, &out->type, &ok);
  ok = ok && init_of(e, m->value, eval_init(e, m->value), &init);
  if (ok && init.kind != INIT_constant) {
    fail(e, m->value->at, "a state starts as zeros, ones or constant(c), found %s",
         init_text(e, &init));
    ok = false;
  }
  frame_close(e, &f);
  if (ok) out->init = init.a;
  return ok;
}

static int read_states(Elab *e, Instance *in, const Param *p, StateInfo *out) {
  const Class *c = in->class;
  int n = 0;
  for (int i = 0; i < c->n_slot; i++) {
    const Member *m = c->slot[i].decl;
    if (m->kind != M_state || !slot_there(e, in, i)) continue;
    for (int k = 0; k < n; k++)
      if (out[k].name == m->name) fail(e, m->at, "the state `%.60s` is declared twice", m->name);
    if (n == FE_MAX_STATES) {
      fail(e, m->at, "an optimizer has at most %d states for a parameter; here %.200s gets another",
           FE_MAX_STATES, p->path);
      break;
    }
    if (!read_state(e, in, p, m, &out[n++])) break;
  }
  return n;
}

int fe_states(Model *m, int param, const StateInfo **out, Buf *errors) {
  if (!m->states) {
    m->states = arena_alloc(m->arena, sizeof *m->states * (size_t)(m->n_param + 1));
    m->n_states = arena_alloc(m->arena, sizeof *m->n_states * (size_t)(m->n_param + 1));
  }
  if (m->states[param]) {
    *out = m->states[param];
    return m->n_states[param];
  }
  Graph *scratch = graph_new("states");
  Elab *e = elab_open(m, arena_new(), scratch, errors);
  Instance *in = optimizer_of(e, m->param[param]);
  int n = 0;
  if (in) {
    StateInfo *states = arena_alloc(e->arena, sizeof *states * (size_t)(in->class->n_slot + 1));
    n = read_states(e, in, m->param[param], states);
    if (elab_ok(e)) {
      m->states[param] = arena_copy(m->arena, states, sizeof *states * (size_t)(n + 1));
      m->n_states[param] = n;
      *out = m->states[param];
    }
  }
  bool ok = elab_close(e);
  graph_free(scratch);
  return ok ? n : -1;
}

/* ---- update ---- */

static const Function *function_of(Elab *e, Instance *in, const char *name, int n_formal,
                                   const char *signature) {
  Value v;
  const Decl *d = in->class->decl;
  Frame f;
  frame_open(e, &f, in->class->unit, in, NULL, (Place){0});
  bool there = has_member(e, in, intern(name), d->at, &v);
  frame_close(e, &f);
  if (!there || v.kind != V_fn) {
    fail(e, d->at, "the %s `%.60s` has no function %s", decl_word(d->kind), d->name, signature);
    return NULL;
  }
  if (v.fn->decl->n_formal == n_formal) return v.fn;
  fail(e, v.fn->decl->at, "expected %s, found %d arguments", signature, v.fn->decl->n_formal);
  return NULL;
}

/* A result as a node of that type: a number or scalar is repeated. */
static Node *fitted(Elab *e, Place place, const char *what, Value v, const Type *t) {
  Expr here = {.kind = E_none, .at = place, .loc = source_loc(place)};
  if (v.kind == V_error) return NULL;
  if (is_number(v)) return number_node(e, &here, v, (DType)t->dtype, t->rank, t->dim);
  Node *n = is_tensor(v) ? to_node(e, v) : NULL;
  bool shaped = n && (n->type.rank == 0 || shape_eq(&n->type, t)) &&
                (dtype_is_float(n->type.dtype) || !dtype_is_float(t->dtype));
  if (shaped) return ir_cast(e->g, ir_broadcast(e->g, n, t->rank, t->dim), (DType)t->dtype);
  if (elab_ok(e)) fail(e, place, "%s must be %s, found %s", what, type_text(e, t), describe(e, v));
  return NULL;
}

typedef struct Update {
  const StateInfo *info;
  int n;
  Node **state;
  Node *arg[4]; /* p, grad, lr, step */
  bool decay;
} Update;

static Node *run_update(Elab *e, Instance *in, const Function *fn, const Param *p, Update *u) {
  const FnDecl *d = fn->decl;
  Node *result = NULL, **next = arena_alloc(e->arena, sizeof *next * (size_t)(u->n + 1));
  Expr call = {.kind = E_call, .at = d->at, .loc = source_loc(d->at)};
  Frame f;
  frame_open(e, &f, fn->unit, in, d->name, (Place){0});
  for (int i = 0; i < u->n; i++) bind(e, &f, u->info[i].name, v_node(u->state[i]), d->at);
  for (int i = 0; i < d->n_formal; i++) {
    Value v = i < 4 ? v_node(u->arg[i]) : v_int(u->decay);
    if (find_local(&f, d->formal[i].name))
      fail(e, d->formal[i].at, "`%.60s` is a state and an argument", d->formal[i].name);
    if (d->formal[i].type) v = check_argument(e, &d->formal[i], v, &call);
    bind(e, &f, d->formal[i].name, v, d->formal[i].at);
  }
  Value v = elab_ok(e) ? run_body(e, d) : v_error;
  if (v.kind != V_error) result = fitted(e, d->at, "the updated parameter", v, &p->type);
  for (int i = 0; i < u->n && result; i++) {
    Local *l = find_local(&f, u->info[i].name);
    const char *what = arena_printf(e->arena, "the state `%.60s`", u->info[i].name);
    if (!(next[i] = fitted(e, l->at, what, l->value, &u->info[i].type))) result = NULL;
  }
  frame_close(e, &f);
  if (result && elab_ok(e))
    for (int i = 0; i < u->n; i++) u->state[i] = next[i];
  return result;
}

Node *fe_update(Model *m, Graph *g, int param, Node *p, Node *grad, Node *lr, Node *step,
                Node **state, Buf *errors) {
  Update u = {.state = state, .arg = {p, grad, lr, step}, .decay = m->param[param]->decay};
  u.n = fe_states(m, param, &u.info, errors);
  if (u.n < 0) return NULL;
  SrcLoc loc = g->loc;
  Elab *e = elab_open(m, arena_new(), g, errors);
  e->no_random = true;
  e->why_not = "in an optimizer's update";
  Node *result = NULL;
  Instance *in = optimizer_of(e, m->param[param]);
  const Function *fn = in ? function_of(e, in, "update", 5, "update(p, g, lr, step, decay)") : NULL;
  if (fn) result = run_update(e, in, fn, m->param[param], &u);
  g->loc = loc;
  return elab_close(e) ? result : NULL;
}

/* ---- learning rate ---- */

Node *fe_lr(Model *m, Graph *g, Node *step, Node *total, Buf *errors) {
  SrcLoc loc = g->loc;
  Elab *e = elab_open(m, arena_new(), g, errors);
  e->no_random = true;
  e->why_not = "in a schedule";
  Node *result = NULL;
  const Function *fn = NULL;
  if (!m->schedule)
    fail(e, m->train_at, "the program's train block names no schedule");
  else
    fn = function_of(e, m->schedule, "lr", 2, "lr(step, total)");
  if (fn) {
    Expr call = {.kind = E_call, .at = fn->decl->at, .loc = source_loc(fn->decl->at)};
    Given given[2] = {{NULL, v_node(step), NULL}, {NULL, v_node(total), NULL}};
    Type scalar = type_scalar(DT_f32);
    Value v = call_function(e, &call, fn, 2, given);
    result = fitted(e, fn->decl->at, "the learning rate", v, &scalar);
  }
  g->loc = loc;
  return elab_close(e) ? result : NULL;
}
