/* scope: where a name is found: locals, then the members and arguments of the module around, then
 * the file, then what is built in. Names are looked up where the code stands. */
#include "frontend/elab_internal.h"

#include <string.h>

/* ---- name maps ---- */

static int slot_of(const NameMap *m, const char *name) {
  int h = (int)(((uintptr_t)name >> 4) * 0x9E3779B1u & (unsigned)(m->cap - 1));
  while (m->name[h] && m->name[h] != name) h = (h + 1) & (m->cap - 1);
  return h;
}

int name_find(const NameMap *m, const char *name) {
  if (!m->cap) return -1;
  int h = slot_of(m, name);
  return m->name[h] ? m->number[h] : -1;
}

void name_put(Arena *arena, NameMap *m, const char *name, int number) {
  if (2 * m->used >= m->cap) {
    NameMap old = *m;
    m->cap = old.cap ? 2 * old.cap : 16;
    m->name = arena_alloc(arena, sizeof *m->name * (size_t)m->cap);
    m->number = arena_alloc(arena, sizeof *m->number * (size_t)m->cap);
    for (int i = 0; i < old.cap; i++) {
      if (!old.name[i]) continue;
      int h = slot_of(m, old.name[i]);
      m->name[h] = old.name[i];
      m->number[h] = old.number[i];
    }
  }
  int h = slot_of(m, name);
  m->used += !m->name[h];
  m->name[h] = name;
  m->number[h] = number;
}

/* ---- frames ---- */

void frame_open(Elab *e, Frame *f, Unit *unit, Instance *self, const char *what, Place call) {
  f->unit = unit;
  f->self = self;
  f->hide_slot = -1;
  f->hide_guard = NULL;
  f->local = f->inline_local;
  f->n_local = 0;
  f->caller = e->frame;
  f->what = what;
  f->call = call;
  f->returned = NULL;
  e->frame = f;
}

void frame_close(Elab *e, Frame *f) { e->frame = f->caller; }

Local *find_local(Frame *f, const char *name) {
  for (int i = f->n_local - 1; i >= 0; i--)
    if (f->local[i].name == name) return &f->local[i];
  return NULL;
}

void bind(Elab *e, Frame *f, const char *name, Value v, Place at) {
  Local *old = find_local(f, name);
  if (old) {
    old->value = v;
    old->at = at;
    return;
  }
  int n = f->n_local;
  if (n >= INLINE_LOCALS && (n & (n - 1)) == 0 && n > INLINE_LOCALS) {
    Local *more = arena_alloc(e->arena, sizeof *more * 2 * (size_t)n);
    memcpy(more, f->local, sizeof *more * (size_t)n);
    f->local = more;
  } else if (n == INLINE_LOCALS) {
    Local *more = arena_alloc(e->arena, sizeof *more * 16);
    memcpy(more, f->local, sizeof *more * (size_t)n);
    f->local = more;
  }
  f->local[f->n_local++] = (Local){name, v, at};
}

/* ---- look-up ---- */

Value config_value(Elab *e, ConfigVar *c) {
  if (c->state == 2) return c->value;
  if (c->state == 1)
    return fail(e, c->entry->at, "the configuration value `%.60s` depends on itself", c->name);
  c->state = 1;
  Frame f;
  frame_open(e, &f, c->unit, NULL, NULL, (Place){0});
  c->value = eval(e, c->given ? c->given : c->entry->value);
  frame_close(e, &f);
  c->state = 2;
  Value v = c->value;
  if (!is_number(v) && v.kind != V_string && v.kind != V_none && v.kind != V_error)
    c->value = fail(e, c->entry->at,
                    "a configuration value is a number, true, false, none or a string, found %s",
                    describe(e, v));
  return c->value;
}

static bool unit_value(Elab *e, Unit *u, const char *name, Value *out) {
  int i = name_find(&u->names, name);
  if (i < 0) return false;
  *out = i < u->file->n_decl ? u->value[i] : config_value(e, &e->m->config[i - u->file->n_decl]);
  return true;
}

bool lookup_bound(Elab *e, const char *name, Place at, Value *out) {
  Frame *f = e->frame;
  Local *local = find_local(f, name);
  if (local) {
    *out = local->value;
    return true;
  }
  if (f->self && has_member(e, f->self, name, at, out)) return true;
  return unit_value(e, f->unit, name, out);
}

/* Why a member that the class declares was not found. */
static Value absent_member(Elab *e, const char *name, Place at) {
  const Frame *f = e->frame;
  const Class *c = f->self->class;
  if (f->hide_guard)
    return fail(e, at, "the condition does not see the member `%.60s` that depends on it", name);
  if (f->hide_slot >= 0 && c->slot[f->hide_slot].decl->name == name)
    return fail(e, at, "the member `%.60s` does not see itself", name);
  if (c->slot[name_find(&c->names, name)].decl->kind == M_state)
    return fail(e, at, "the state `%.60s` is seen in `update` only", name);
  return fail(e, at, "the member `%.60s` is not there: the `if` around it does not hold", name);
}

Value lookup(Elab *e, const char *name, Place at) {
  Value v;
  if (lookup_bound(e, name, at, &v)) return v;
  static const char *config_name;
  if (!config_name) config_name = intern("config");
  if (name == config_name) return (Value){.kind = V_config};
  if (builtin_constant(name, &v)) return v;
  const Builtin *b = builtin_find(name);
  if (b) return (Value){.kind = V_builtin, .builtin = b};
  const char *near = near_name(e, name);
  if (e->frame->self && name_find(&e->frame->self->class->names, name) >= 0)
    return absent_member(e, name, at);
  return fail(e, at,
              near ? "nothing is called `%.60s`; did you mean `%s`?" : "nothing is called `%.60s`",
              name, near);
}

Value unit_member(Elab *e, Unit *u, const char *name, Place at) {
  int i = name_find(&u->names, name);
  if (i >= 0 && (i >= u->file->n_decl || u->file->decl[i]->kind != D_import)) {
    Value v;
    unit_value(e, u, name, &v);
    return v;
  }
  const char **names = arena_alloc(e->arena, sizeof *names * (size_t)(u->file->n_decl + 1));
  int n = 0;
  for (int d = 0; d < u->file->n_decl; d++)
    if (u->file->decl[d]->kind >= D_fn) names[n++] = u->file->decl[d]->name;
  const char *near = suggest(name, names, n);
  return fail(e, at, near ? "%.80s has no `%.60s`; did you mean `%s`?" : "%.80s has no `%.60s`",
              u->path, name, near);
}

const char *near_name(Elab *e, const char *name) {
  enum { MOST = 400 };
  const char *names[MOST];
  int n = 0;
  Frame *f = e->frame;
  for (int i = 0; i < f->n_local && n < MOST; i++) names[n++] = f->local[i].name;
  if (f->self) {
    for (int i = 0; i < f->self->class->n_slot && n < MOST; i++)
      names[n++] = f->self->class->slot[i].decl->name;
    for (int i = 0; i < f->self->n_arg && n < MOST; i++) names[n++] = f->self->arg[i].name;
  }
  for (int i = 0; i < f->unit->names.cap && n < MOST; i++)
    if (f->unit->names.name[i]) names[n++] = f->unit->names.name[i];
  n += builtin_names(names + n, MOST - n);
  return suggest(name, names, n);
}
