/* check: every name in every file, whether elaboration comes there or not, so that several mistakes
 * are told at once and none hides behind an `if`. What a name holds is known only when it is
 * elaborated. */
#include "frontend/elab_internal.h"

#include <string.h>

typedef struct Check {
  Elab *e;
  Unit *unit;
  const Class *class; /* or NULL */
  const Decl *decl;
  NameMap local;  /* all names that the function binds anywhere */
  bool parameter; /* `p` may be meant: members of an optimizer */
  Frame frame;    /* for suggestions */
} Check;

static void add_local(Check *c, const char *name, Place at) {
  if (name_find(&c->local, name) >= 0) return;
  name_put(c->e->arena, &c->local, name, 0);
  bind(c->e, &c->frame, name, v_none, at);
}

static bool is_formal(const Check *c, const char *name) {
  for (int i = 0; c->class && i < c->decl->n_formal; i++)
    if (c->decl->formal[i].name == name) return true;
  return false;
}

static bool bound(const Check *c, const char *name) {
  return name_find(&c->local, name) >= 0 || (c->class && name_find(&c->class->names, name) >= 0) ||
         is_formal(c, name) || (c->parameter && strcmp(name, "p") == 0);
}

static bool known(const Check *c, const char *name) {
  Value v;
  return bound(c, name) || name_find(&c->unit->names, name) >= 0 || strcmp(name, "config") == 0 ||
         builtin_constant(name, &v) || builtin_find(name);
}

static void check_name(Check *c, const Expr *x) {
  if (known(c, x->name)) return;
  Elab *e = c->e;
  if (c->class) /* offered too */
    for (int i = 0; i < c->class->n_slot; i++)
      add_local(c, c->class->slot[i].decl->name, (Place){0});
  for (int i = 0; c->class && i < c->decl->n_formal; i++)
    add_local(c, c->decl->formal[i].name, (Place){0});
  e->frame = &c->frame;
  const char *near = near_name(e, x->name);
  e->frame = NULL;
  fail(e, x->at,
       near ? "nothing is called `%.60s`; did you mean `%s`?" : "nothing is called `%.60s`",
       x->name, near);
}

/* nn.linear: the file is known, so its names are. */
static void check_member(Check *c, const Expr *x) {
  if (x->a->kind != E_name || bound(c, x->a->name)) return;
  int i = name_find(&c->unit->names, x->a->name);
  if (i < 0 || i >= c->unit->file->n_decl || c->unit->value[i].kind != V_unit) return;
  Unit *of = c->unit->value[i].unit;
  if (name_find(&of->names, x->name) < 0) unit_member(c->e, of, x->name, x->at);
}

static void check_expr(Check *, const Expr *);

static void check_each(Check *c, const Expr *x) {
  check_expr(c, x->b);
  check_expr(c, x->c);
  bool hidden = name_find(&c->local, x->name) >= 0;
  if (!hidden) name_put(c->e->arena, &c->local, x->name, 0);
  check_expr(c, x->a);
  if (!hidden) name_put(c->e->arena, &c->local, x->name, -1); /* no longer bound */
}

static void check_expr(Check *c, const Expr *x) {
  if (!x) return;
  if (x->kind == E_each) {
    check_each(c, x);
    return;
  }
  if (x->kind == E_name) check_name(c, x);
  if (x->kind == E_member) check_member(c, x);
  check_expr(c, x->a);
  check_expr(c, x->b);
  check_expr(c, x->c);
  for (int i = 0; i < x->n_arg; i++) check_expr(c, x->arg[i].value);
}

/* ---- functions ---- */

static void collect(Check *c, const Block *b) {
  for (int i = 0; i < b->n; i++) {
    const Stmt *s = b->stmt[i];
    for (int k = 0; k < s->n_name; k++) add_local(c, s->name[k].name, s->name[k].at);
    collect(c, &s->then);
    collect(c, &s->otherwise);
  }
}

static void check_block(Check *c, const Block *b) {
  for (int i = 0; i < b->n; i++) {
    const Stmt *s = b->stmt[i];
    check_expr(c, s->a);
    check_expr(c, s->b);
    check_block(c, &s->then);
    check_block(c, &s->otherwise);
  }
}

/* A name in a signature binds a dimension where nothing else has that name. */
static void collect_dims(Check *c, const TypeExpr *t) {
  for (int i = 0; t && i < t->n_dim; i++)
    if (t->dim[i]->kind == E_name) add_local(c, t->dim[i]->name, t->dim[i]->at);
}

static void check_type(Check *c, const TypeExpr *t) {
  for (int i = 0; t && i < t->n_dim; i++)
    if (t->dim[i]->kind != E_name) check_expr(c, t->dim[i]);
}

static void check_formals(Check *c, const Formal *formal, int n) {
  NameMap seen = {0};
  for (int i = 0; i < n; i++) {
    if (name_find(&seen, formal[i].name) >= 0 &&
        report(c->e, formal[i].at, "two arguments are called `%.60s`", formal[i].name))
      diag_note(&c->e->diag, formal[name_find(&seen, formal[i].name)].at, "the first is here");
    name_put(c->e->arena, &seen, formal[i].name, i);
    collect_dims(c, formal[i].type);
    check_expr(c, formal[i].init); /* sees what stands before it */
    check_type(c, formal[i].type);
    add_local(c, formal[i].name, formal[i].at);
  }
}

static void start(Check *c, const Unit *u) {
  c->local = (NameMap){0};
  c->frame = (Frame){.unit = (Unit *)u, .hide_slot = -1, .local = c->frame.inline_local};
}

static void check_fn(Check *c, const FnDecl *fn) {
  start(c, c->unit);
  check_formals(c, fn->formal, fn->n_formal);
  collect_dims(c, fn->result);
  collect(c, &fn->body);
  check_type(c, fn->result);
  check_expr(c, fn->expr);
  check_block(c, &fn->body);
}

/* ---- classes and files ---- */

static void check_members(Check *c, const Members *members) {
  for (int i = 0; i < members->n; i++) {
    const Member *m = members->member[i];
    if (m->kind == M_fn) {
      bool parameter = c->parameter;
      c->parameter = false;
      check_fn(c, m->fn);
      c->parameter = parameter;
      continue;
    }
    start(c, c->unit);
    for (int d = 0; d < m->n_dim; d++) check_expr(c, m->dim[d]);
    check_expr(c, m->value);
    check_members(c, &m->then);
    check_members(c, &m->otherwise);
  }
}

static void check_decl(Check *c, const Decl *d, Value v) {
  start(c, c->unit);
  c->class = NULL;
  c->decl = d;
  c->parameter = false;
  if (d->kind == D_fn) check_fn(c, d->fn);
  for (int i = 0; i < d->n_entry; i++) {
    start(c, c->unit);
    check_expr(c, d->entry[i].value);
  }
  if (d->kind < D_module) return;
  check_formals(c, d->formal, d->n_formal);
  c->class = v.class;
  c->parameter = d->kind == D_optimizer;
  check_members(c, &d->members);
}

void check_names(Elab *e) {
  for (int u = 0; u < e->m->n_unit; u++) {
    Check *c = arena_alloc(e->arena, sizeof *c);
    c->e = e;
    c->unit = e->m->unit[u];
    for (int i = 0; i < c->unit->file->n_decl; i++)
      check_decl(c, c->unit->file->decl[i], c->unit->value[i]);
  }
}
