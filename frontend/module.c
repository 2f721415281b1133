/* module: classes (module, model, optimizer, schedule), their instances, and the members of these,
 * each evaluated when it is first asked for, so that order does not matter. Parameters get their
 * names when the whole model stands. */
#include "frontend/elab_internal.h"

#include <string.h>

/* ---- classes ---- */

static bool fits_class(MemberKind member, DeclKind class) {
  bool model = class == D_module || class == D_model;
  if (member == M_param || member == M_const) return model;
  return member != M_state || class == D_optimizer;
}

static void check_member(Elab *e, const Class *c, const Member *m, const Guard *guard) {
  static const char *const word[] = {"param", "const", "state"};
  DeclKind kind = c->decl->kind;
  if (!fits_class(m->kind, kind))
    fail(e, m->at, "a `%s` does not belong in the %s `%.60s`",
         m->kind == M_param && m->frozen ? "frozen" : word[m->kind], decl_word(kind),
         c->decl->name);
  for (int i = name_find(&c->names, m->name); i >= 0 && !guard; i = c->slot[i].same_name) {
    if (c->slot[i].guard) continue;
    if (report(e, m->at, "the member `%.60s` is declared twice", m->name))
      diag_note(&e->diag, c->slot[i].decl->at, "first here");
  }
}

static void add_slots(Elab *e, Class *c, const Members *members, Guard *guard) {
  for (int i = 0; i < members->n; i++) {
    Member *m = members->member[i];
    if (m->kind != M_if) {
      check_member(e, c, m, guard);
      Slot slot = {m, guard, -1};
      int last = name_find(&c->names, m->name);
      while (last >= 0 && c->slot[last].same_name >= 0) last = c->slot[last].same_name;
      if (last >= 0)
        c->slot[last].same_name = c->n_slot;
      else
        name_put(e->arena, &c->names, m->name, c->n_slot);
      ARENA_PUSH(e->arena, c->slot, c->n_slot, slot);
      continue;
    }
    Guard *then = arena_alloc(e->arena, sizeof *then),
          *otherwise = arena_alloc(e->arena, sizeof *otherwise);
    *then = (Guard){m, true, c->n_guard, guard};
    *otherwise = (Guard){m, false, c->n_guard, guard};
    c->n_guard++;
    add_slots(e, c, &m->then, then);
    add_slots(e, c, &m->otherwise, otherwise);
  }
}

Class *class_new(Elab *e, const Decl *d, Unit *unit) {
  Class *c = arena_alloc(e->arena, sizeof *c);
  c->decl = d;
  c->unit = unit;
  add_slots(e, c, &d->members, NULL);
  return c;
}

/* ---- members ---- */

static bool guard_holds(Elab *e, Instance *in, const Guard *g) {
  if (g->outer && !guard_holds(e, in, g->outer)) return false;
  char *state = &in->guard[g->index];
  if (*state == 1) {
    fail(e, g->decl->value->at, "the condition of this `if` depends on its own members");
    return false;
  }
  if (*state == 0) {
    *state = 1;
    Frame f;
    frame_open(e, &f, in->class->unit, in, in->class->decl->name, in->at);
    f.hide_guard = g->decl;
    bool holds = false;
    Value c = eval(e, g->decl->value);
    bool known = truth(e, g->decl->value, c, &holds);
    frame_close(e, &f);
    *state = !known ? 4 : holds ? 3 : 2; /* 4: an error, neither side is there */
  }
  return *state == (g->then ? 3 : 2);
}

bool slot_there(Elab *e, Instance *in, int slot) {
  const Guard *g = in->class->slot[slot].guard;
  return !g || guard_holds(e, in, g);
}

void eval_dims(Elab *e, const Member *m, Type *t, bool *ok) {
  *t = type_scalar(DT_f32);
  *ok = false;
  if (m->n_dim > IR_MAX_RANK) {
    fail(e, m->at, "a tensor has at most %d dimensions, found %d", IR_MAX_RANK, m->n_dim);
    return;
  }
  for (int i = 0; i < m->n_dim; i++) {
    Value v = eval(e, m->dim[i]);
    if (!want_int(e, m->dim[i], v, "a dimension", &t->dim[i])) return;
  }
  t->rank = (uint8_t)m->n_dim;
  *ok = shape_fits(e, m->at, t->rank, t->dim);
}

static Value make_param(Elab *e, const Member *m) {
  Param *p = arena_alloc(e->arena, sizeof *p);
  bool ok;
  eval_dims(e, m, &p->type, &ok);
  Value init = ok ? eval_init(e, m->value) : v_error;
  if (init.kind == V_error || !init_of(e, m->value, init, &p->init)) return v_error;
  if (p->init.kind >= INIT_xavier_uniform && p->type.rank < 2)
    return fail(e, m->value->at, "%s needs a parameter of at least two dimensions, found %s",
                init_text(e, &p->init), shape_text(e, p->type.rank, p->type.dim));
  p->name = m->name;
  p->index = -1;
  p->at = m->at;
  p->trainable = !m->frozen;
  p->decay =
    p->trainable && (m->decay == DECAY_by_rank ? p->type.rank >= 2 : m->decay == DECAY_yes);
  return (Value){.kind = V_param, .param = p};
}

static Value make_table(Elab *e, Instance *in, const Member *m) {
  Table *t = arena_alloc(e->arena, sizeof *t);
  bool ok;
  eval_dims(e, m, &t->type, &ok);
  if (!ok) return v_error;
  t->index = e->m->n_table++;
  t->decl = m;
  t->owner = in;
  Node *n = table_node(
    e,
    t); /* once now, in a graph that is thrown away: errors and the element type are known early */
  if (!n) return v_error;
  t->type = n->type;
  return (Value){.kind = V_const, .table = t};
}

static Value make_member(Elab *e, Instance *in, const Member *m) {
  switch (m->kind) {
  case M_param: return make_param(e, m);
  case M_const: return make_table(e, in, m);
  case M_fn: {
    Function *fn = arena_alloc(e->arena, sizeof *fn);
    *fn = (Function){m->fn, in->class->unit, in};
    return (Value){.kind = V_fn, .fn = fn};
  }
  default: {
    Value v = eval(e, m->value);
    if (v.kind != V_node) return v;
    return fail(
      e, m->value->at,
      "a member is a number, a submodule or a list, found %s; compute tensors in a function or "
      "declare a const",
      describe(e, v));
  }
  }
}

Value slot_value(Elab *e, Instance *in, int slot, Place at) {
  if (in->state[slot] == 2) return in->value[slot];
  const Member *m = in->class->slot[slot].decl;
  if (in->state[slot] == 1) return fail(e, at, "the member `%.60s` depends on itself", m->name);
  in->state[slot] = 1;
  Frame f;
  frame_open(e, &f, in->class->unit, in, in->class->decl->name, in->at);
  f.hide_slot = slot;
  in->value[slot] = make_member(e, in, m);
  frame_close(e, &f);
  in->state[slot] = 2;
  return in->value[slot];
}

/* Members that the frame is evaluating are hidden from their own initialiser or condition. */
static bool hidden(const Frame *f, const Instance *in, int slot) {
  if (f->self != in) return false;
  if (f->hide_slot == slot) return true;
  for (const Guard *g = in->class->slot[slot].guard; g && f->hide_guard; g = g->outer)
    if (g->decl == f->hide_guard) return true;
  return false;
}

bool has_member(Elab *e, Instance *in, const char *name, Place at, Value *out) {
  const Class *c = in->class;
  for (int i = name_find(&c->names, name); i >= 0; i = c->slot[i].same_name) {
    if (c->slot[i].decl->kind == M_state || hidden(e->frame, in, i) || !slot_there(e, in, i))
      continue;
    *out = slot_value(e, in, i, at);
    return true;
  }
  for (int i = 0; i < in->n_arg; i++) {
    if (in->arg[i].name != name) continue;
    *out = in->arg[i].value;
    return true;
  }
  return false;
}

void force_members(Elab *e, Instance *in) {
  const Class *c = in->class;
  for (int i = 0; i < c->n_slot && !e->stop; i++) {
    if (c->slot[i].decl->kind == M_state || !slot_there(e, in, i)) continue;
    slot_value(e, in, i, c->slot[i].decl->at);
    for (int j = name_find(&c->names, c->slot[i].decl->name); j >= 0 && j < i;
         j = c->slot[j].same_name)
      if (slot_there(e, in, j) &&
          report(e, c->slot[i].decl->at, "the member `%.60s` is declared twice",
                 c->slot[i].decl->name))
        diag_note(&e->diag, c->slot[j].decl->at, "first here");
  }
}

/* ---- instances ---- */

static bool bind_instance(Elab *e, Instance *in, const Given *given, const int *from) {
  const Decl *d = in->class->decl;
  Frame f;
  bool ok = true;
  frame_open(e, &f, in->class->unit, NULL, d->name, in->at);
  for (int i = 0; i < d->n_formal && ok; i++) {
    const Formal *formal = &d->formal[i];
    Value v = from[i] >= 0 ? given[from[i]].value : eval(e, formal->init);
    if (v.kind != V_error && formal->type)
      v = check_argument(e, formal, v, from[i] >= 0 ? given[from[i]].expr : formal->init);
    if (v.kind == V_node)
      v = fail(e, formal->at, "`%.60s` is %s: a %s takes numbers, parameters and submodules",
               formal->name, describe(e, v), decl_word(d->kind));
    ok = v.kind != V_error;
    bind(e, &f, formal->name, v, formal->at);
  }
  in->arg = arena_copy(e->arena, f.local, sizeof *f.local * (size_t)f.n_local);
  in->n_arg = f.n_local;
  frame_close(e, &f);
  return ok;
}

Value instantiate(Elab *e, const Expr *call, Class *c, int n, const Given *given) {
  const Decl *d = c->decl;
  if (!elab_step(e, call->at) || !elab_room(e, call->at)) return v_error;
  if (!e->loading && (d->kind == D_module || d->kind == D_model))
    return fail(e, call->at,
                "the module `%.60s` is made inside a function; make it a member, so that its "
                "parameters have names",
                d->name);
  if (e->n_call >= MAX_CALLS)
    return fail(e, call->at, "modules are nested more than %d deep: does `%.60s` contain itself?",
                MAX_CALLS, d->name);
  int *from = arena_alloc(e->arena, sizeof *from * (size_t)(d->n_formal + 1));
  if (!match_arguments(e, call, d->name, d->at, d->formal, d->n_formal, n, given, from))
    return v_error;

  Instance *in = arena_alloc(e->arena, sizeof *in);
  in->class = c;
  in->at = call->at;
  in->value = arena_alloc(e->arena, sizeof *in->value * (size_t)(c->n_slot + 1));
  in->state = arena_alloc(e->arena, (size_t)c->n_slot + 1);
  in->guard = arena_alloc(e->arena, (size_t)c->n_guard + 1);
  e->n_call++;
  bool ok = bind_instance(e, in, given, from);
  if (ok && d->kind != D_optimizer)
    force_members(e, in); /* an optimizer's depend on the parameter */
  e->n_call--;
  return ok ? (Value){.kind = V_instance, .instance = in} : v_error;
}

/* ---- const members ---- */

static Node *table_value(Elab *e, const Table *t) {
  const Expr *x = t->decl->value;
  Value v = eval(e, x);
  if (v.kind == V_error) return NULL;
  at(e, x);
  if (is_number(v)) return number_node(e, x, v, DT_f32, t->type.rank, t->type.dim);
  if (!is_tensor(v)) {
    fail(e, x->at, "a const is a tensor, found %s", describe(e, v));
    return NULL;
  }
  Node *n = to_node(e, v);
  if (!n) return NULL;
  if (shape_eq(&n->type, &t->type)) return n;
  if (report(e, x->at, "the const `%.60s` has the shape %s, found %s", t->decl->name,
             shape_text(e, t->type.rank, t->type.dim), shape_text(e, n->type.rank, n->type.dim))) {
    diag_note(&e->diag, t->decl->at, "declared here");
    note_calls(e);
  }
  return NULL;
}

/* A const is computed while compiling: what that takes is bounded. */
static bool table_fits(Elab *e, const Table *t, int first) {
  int64_t sum = 0;
  for (int i = first; i < e->g->n_node; i++) sum += type_count(&e->g->node[i]->type);
  if (sum <= MAX_TABLE) return true;
  fail(e, t->decl->value->at,
       "the const `%.60s` takes %lld elements to compute; at most %d are computed while compiling",
       t->decl->name, (long long)sum, MAX_TABLE);
  return false;
}

Node *table_node(Elab *e, Table *t) {
  while (e->n_table_node <= t->index) ARENA_PUSH(e->arena, e->table_node, e->n_table_node, NULL);
  if (e->table_node[t->index]) return e->table_node[t->index];
  if (e->n_call >= MAX_CALLS) {
    fail(e, t->decl->at, "the const `%.60s` depends on too many others", t->decl->name);
    return NULL;
  }
  const Member *outer = e->in_const;
  int region = e->g->region;
  SrcLoc loc = e->g->loc;
  Frame f;
  e->n_call++;
  e->in_const = t->decl;
  e->g->region = 0;
  frame_open(e, &f, t->owner->class->unit, t->owner, t->owner->class->decl->name, t->owner->at);
  for (int i = 0; i < t->owner->class->n_slot; i++)
    if (t->owner->class->slot[i].decl == t->decl) f.hide_slot = i;
  int first = e->g->n_node;
  Node *n = table_value(e, t);
  if (n && !table_fits(e, t, first)) n = NULL;
  if (n) {
    at(e, t->decl->value);
    n = ir_fold(e->g, n);
    if (!n->label) n->label = t->decl->name;
  }
  frame_close(e, &f);
  e->n_call--;
  e->in_const = outer;
  e->g->region = region;
  e->g->loc = loc;
  return e->table_node[t->index] = n;
}

/* ---- names of parameters ---- */

typedef struct Naming {
  Elab *e;
  Instance **named; /* in the order in which they were named */
  int n;
} Naming;

static void name_value(Naming *, Value, const char *path);

static const char *join(Elab *e, const char *path, const char *name) {
  return intern(*path ? arena_printf(e->arena, "%s.%s", path, name) : name);
}

static void name_instance(Naming *t, Instance *in, const char *path) {
  if (in->path) return;
  in->path = path;
  ARENA_PUSH(t->e->arena, t->named, t->n, in);
  for (int i = 0; i < in->class->n_slot; i++)
    if (in->state[i] == 2)
      name_value(t, in->value[i], join(t->e, path, in->class->slot[i].decl->name));
}

/* The first way to a parameter, in the order of declaration, names it. */
static void name_value(Naming *t, Value v, const char *path) {
  Model *m = t->e->m;
  switch (v.kind) {
  case V_param:
    if (v.param->path) return;
    v.param->path = path;
    v.param->index = m->n_param;
    ARENA_PUSH(m->arena, m->param, m->n_param, v.param);
    return;
  case V_instance: name_instance(t, v.instance, path); return;
  case V_fn:
    if (v.fn->self) name_instance(t, v.fn->self, path);
    return;
  case V_list:
    for (int i = 0; i < v.list->n; i++) {
      char number[16];
      snprintf(number, sizeof number, "%d", i);
      if (v.list->at[i].kind == V_instance) v.list->at[i].instance->in_list = true;
      name_value(t, v.list->at[i], join(t->e, path, number));
    }
    return;
  default: return;
  }
}

/* Members first; what is nobody's member is named after the argument that it was given as. */
void number_params(Elab *e, Instance *root) {
  Naming t = {.e = e};
  name_instance(&t, root, "");
  for (int i = 0; i < t.n; i++)
    for (int k = 0; k < t.named[i]->n_arg; k++)
      name_value(&t, t.named[i]->arg[k].value, join(e, t.named[i]->path, t.named[i]->arg[k].name));
  Model *m = e->m;
  m->info = arena_alloc(m->arena, sizeof *m->info * (size_t)(m->n_param + 1));
  for (int i = 0; i < m->n_param; i++) {
    const Param *p = m->param[i];
    m->info[i] = (ParamInfo){
      p->path, p->type, p->trainable, p->decay, init_text(e, &p->init), source_loc(p->at)};
  }
}
