/* elab: an elaboration's beginning and end, its limits, and its errors with the calls that led
 * there. */
#include "frontend/elab_internal.h"

#include <string.h>

Elab *elab_open(Model *m, Arena *arena, Graph *g, Buf *errors) {
  Elab *e = arena_alloc(arena, sizeof *e);
  e->m = m;
  e->arena = arena;
  e->g = g;
  e->diag = (Diag){.out = errors, .arena = arena};
  e->memory = arena_used(arena);
  if (g) e->g->loc = (SrcLoc){0};
  return e;
}

bool elab_ok(const Elab *e) { return e->diag.n_error == 0; }

bool elab_close(Elab *e) {
  bool ok = elab_ok(e);
  arena_free(e->arena);
  return ok;
}

static bool stop(Elab *e, Place at, const char *why) {
  if (!e->stop && diag_error(&e->diag, at, "%s", why)) note_calls(e);
  e->stop = true;
  return false;
}

bool elab_step(Elab *e, Place at) {
  if (e->diag.full || e->diag.n_error > MAX_ERRORS) e->stop = true; /* a loop over an error */
  if (e->stop) return false;
  if (++e->steps > MAX_STEPS)
    return stop(e, at, "the program does not end after 2 million steps of elaboration");
  if (e->depth > MAX_DEPTH) return stop(e, at, "calls and expressions are nested too deeply");
  return true;
}

bool elab_room(Elab *e, Place at) {
  if (e->stop) return false;
  if (e->g && e->g->n_node > MAX_NODES)
    return stop(e, at, "the graph has more than 100,000 operations");
  if (arena_used(e->arena) - e->memory > MAX_MEMORY)
    return stop(e, at, "the values of the program need more than 128 MiB");
  return true;
}

void note_calls(Elab *e) {
  int shown = 0;
  Place last = {0};
  for (Frame *f = e->frame; f && f->caller && shown < 6;
       f = f->caller) { /* the outermost is the entry or the model itself */
    if (!f->call.src || !f->what || (f->call.src == last.src && f->call.begin == last.begin))
      continue;
    diag_note(&e->diag, f->call, "in `%.60s`, called here", f->what);
    last = f->call;
    shown++;
  }
}

bool report(Elab *e, Place at, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  bool shown = !e->stop && diag_verror(&e->diag, at, fmt, args);
  va_end(args);
  return shown;
}

Value fail(Elab *e, Place at, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  if (!e->stop && diag_verror(&e->diag, at, fmt, args)) note_calls(e);
  va_end(args);
  return v_error;
}

void note_value(Elab *e, const Expr *expr, Value v) {
  Local *local = expr->kind == E_name && e->frame ? find_local(e->frame, expr->name) : NULL;
  if (local && local->at.src)
    diag_note(&e->diag, local->at, "`%.60s` is %s, bound here", expr->name, describe(e, v));
  else if (v.kind == V_param)
    diag_note(&e->diag, v.param->at, "`%.60s` is %s, declared here", v.param->name, describe(e, v));
  else
    diag_note(&e->diag, expr->at, "this is %s", describe(e, v));
}
