/* load: files and their imports, names of a file, configuration with -D, and the model's
 * instance. */
#include "frontend/elab_internal.h"
#include "frontend/stdlib_internal.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- files ---- */

static const char *read_error(const char *path, Buf *out) {
  struct stat st;
  if (stat(path, &st) != 0) return strerror(errno);
  if (!S_ISREG(st.st_mode)) return "not a regular file";
  if (st.st_size > MAX_FILE) return "larger than 1 MiB";
  return buf_read_file(out, path) ? NULL : strerror(errno);
}

static Unit *unit_by_key(Model *m, const char *key) {
  for (int i = 0; i < m->n_unit; i++)
    if (strcmp(m->unit[i]->key, key) == 0) return m->unit[i];
  return NULL;
}

static Unit *add_unit(Elab *e, const char *path, const char *key, const char *text, size_t bytes) {
  Model *m = e->m;
  Unit *u = arena_alloc(m->arena, sizeof *u);
  u->path = intern(path);
  u->key = arena_str(m->arena, key, strlen(key));
  ARENA_PUSH(m->arena, m->unit, m->n_unit, u);
  u->file = parse_file(m->arena, &e->diag, source_new(m->arena, path, text, bytes));
  return u;
}

static Unit *import_library(Elab *e, const Decl *d) {
  enum { MOST = 64 };
  const char *names[MOST];
  int n = 0;
  for (const StdlibFile *f = fe_stdlib; f->name; f++) {
    if (n < MOST) names[n++] = f->name;
    if (strcmp(f->name, d->path) != 0) continue;
    const char *path = arena_printf(e->m->arena, "stdlib/%s.alpha", f->name);
    const char *key = arena_printf(e->m->arena, "library %s", f->name); /* no path of a file */
    Unit *u = unit_by_key(e->m, key);
    return u ? u : add_unit(e, path, key, f->text, strlen(f->text));
  }
  const char *near = suggest(d->path, names, n);
  fail(e, d->path_at,
       near ? "the library has no file `%.60s`; did you mean `%s`?"
            : "the library has no file `%.60s`; a file of your own is imported as "
              "\"path/name.alpha\" as name",
       d->path, near);
  return NULL;
}

static Unit *import_path(Elab *e, const Unit *from, const Decl *d) {
  const char *slash = strrchr(from->path, '/');
  int dir = d->path[0] == '/' || !slash ? 0 : (int)(slash - from->path) + 1;
  const char *path = arena_printf(e->m->arena, "%.*s%s", dir, from->path, d->path);
  char real[PATH_MAX];
  Unit *u = realpath(path, real) ? unit_by_key(e->m, real) : NULL;
  if (u) return u;
  Buf text = {0};
  const char *why = read_error(path, &text);
  if (why)
    fail(e, d->path_at, "cannot read %.200s: %s", path, why);
  else
    u = add_unit(e, path, real, text.data ? text.data : "", text.len);
  buf_free(&text);
  return u;
}

/* Breadth first, so that main comes first. An import's value is its unit. */
static void load_imports(Elab *e) {
  Model *m = e->m;
  for (int i = 0; i < m->n_unit; i++) {
    Unit *u = m->unit[i];
    if (!u->file) continue;
    u->value = arena_alloc(m->arena, sizeof *u->value * (size_t)(u->file->n_decl + 1));
    for (int k = 0; k < u->file->n_decl; k++) {
      const Decl *d = u->file->decl[k];
      if (d->kind != D_import) continue;
      if (m->n_unit >= MAX_UNITS) {
        fail(e, d->at, "more than %d files are imported", MAX_UNITS);
        return;
      }
      Unit *of = d->beside ? import_path(e, u, d) : import_library(e, d);
      if (of) u->value[k] = (Value){.kind = V_unit, .unit = of};
    }
  }
}

/* ---- names ---- */

static Place name_place(const Model *m, const Unit *u, int number) {
  return number < u->file->n_decl ? u->file->decl[number]->at
                                  : m->config[number - u->file->n_decl].entry->at;
}

static void declare(Elab *e, Unit *u, const char *name, Place place, int number) {
  int old = name_find(&u->names, name);
  if (old < 0) {
    name_put(e->m->arena, &u->names, name, number);
  } else if (report(e, place, "`%.60s` is declared twice", name)) {
    diag_note(&e->diag, name_place(e->m, u, old), "first here");
  }
}

/* One configuration for all files: what the main file gives counts, an imported file's value is the
 * default. */
static void declare_config(Elab *e, Unit *u, const Decl *d) {
  Model *m = e->m;
  for (int i = 0; i < d->n_entry; i++) {
    Entry *entry = &d->entry[i];
    int c = name_find(&m->config_names, entry->name);
    if (c < 0 || m->config[c].unit == u) {
      ConfigVar var = {.name = entry->name, .entry = entry, .unit = u};
      if (c < 0) name_put(m->arena, &m->config_names, entry->name, m->n_config);
      c = m->n_config;
      ARENA_PUSH(m->arena, m->config, m->n_config, var);
    }
    declare(e, u, entry->name, entry->at, u->file->n_decl + c);
  }
}

static void declare_unit(Elab *e, Unit *u) {
  for (int i = 0; i < u->file->n_decl; i++) {
    const Decl *d = u->file->decl[i];
    switch (d->kind) {
    case D_config: declare_config(e, u, d); continue;
    case D_train: continue;
    case D_import: break;
    case D_fn: {
      Function *fn = arena_alloc(e->arena, sizeof *fn);
      *fn = (Function){d->fn, u, NULL};
      u->value[i] = (Value){.kind = V_fn, .fn = fn};
      break;
    }
    default: u->value[i] = (Value){.kind = V_class, .class = class_new(e, d, u)};
    }
    declare(e, u, d->name, d->at, i);
  }
}

/* ---- -D ---- */

static bool read_setting(Elab *e, const char *text, Setting *out) {
  const char *equals = strchr(text, '=');
  Arena *arena = e->m->arena;
  const char *shown = arena_printf(arena, "-D %s", text);
  size_t bytes = strlen(shown);
  if (bytes > MAX_FILE) bytes = MAX_FILE;
  Source *src = source_new(arena, "command line", shown, bytes);
  uint32_t key = 3, value = equals ? (uint32_t)(equals - text) + 4 : src->bytes;
  if (value > src->bytes) value = src->bytes;
  out->key_at = (Place){src, key, equals ? value - 1 : value, key};
  out->value_at = (Place){src, value, src->bytes, value};
  if (!equals || equals == text || !equals[1]) {
    fail(e, out->key_at, "expected key=value");
    return false;
  }
  out->key = intern_n(text, value - 4);
  out->value = parse_expression(arena, &e->diag, src, value);
  return out->value != NULL;
}

void word_as_string(Expr *x, Value like) {
  if (x->kind == E_name && like.kind == V_string) x->kind = E_string;
}

/* The given value must be of the default's kind; whole and broken numbers turn into each other
 * where nothing is lost. */
static void check_given(Elab *e, ConfigVar *c, const Setting *s) {
  Expr *given = c->given;
  c->given = NULL;
  Value like = config_value(e, c);
  c->state = 0;
  c->given = given;
  word_as_string(given, like);
  Value v = config_value(e, c);
  if (v.kind == V_error || like.kind == V_error || like.kind == V_none || v.kind == like.kind)
    return;
  int64_t whole;
  if (like.kind == V_float && v.kind == V_int)
    c->value = v_float((double)v.i);
  else if (like.kind == V_int && is_whole(v, &whole))
    c->value = v_int(whole);
  else {
    c->value = fail(e, s->value_at, "`%.60s` is %s in the program; it cannot become %s", c->name,
                    describe(e, like), describe(e, v));
    diag_note(&e->diag, c->entry->at, "its value here");
  }
}

static void apply_setting(Elab *e, Setting *s) {
  Model *m = e->m;
  if (strncmp(s->key, "train.", 6) == 0) return; /* load_train's */
  int i = name_find(&m->config_names, s->key);
  s->used = true;
  if (i >= 0) {
    m->config[i].given = s->value;
    return;
  }
  const char **names = arena_alloc(m->arena, sizeof *names * (size_t)(m->n_config + 1));
  for (int c = 0; c < m->n_config; c++) names[c] = m->config[c].name;
  const char *near = suggest(s->key, names, m->n_config);
  fail(e, s->key_at,
       near ? "the program's config has no `%.60s`; did you mean `%s`?"
            : "the program's config has no `%.60s`",
       s->key, near);
}

static void fold_config(Elab *e, Setting *setting, int n) {
  Model *m = e->m;
  for (int i = 0; i < n; i++) apply_setting(e, &setting[i]);
  for (int i = 0; i < n; i++) {
    int c =
      strncmp(setting[i].key, "train.", 6) == 0 ? -1 : name_find(&m->config_names, setting[i].key);
    if (c >= 0 && m->config[c].given == setting[i].value)
      check_given(e, &m->config[c], &setting[i]);
  }
  for (int c = 0; c < m->n_config; c++) config_value(e, &m->config[c]);
}

/* ---- the model ---- */

static Class *find_model(Elab *e) {
  const Unit *u = e->m->main;
  const Decl *found = NULL;
  Class *class = NULL;
  for (int i = 0; i < u->file->n_decl; i++) {
    const Decl *d = u->file->decl[i];
    if (d->kind != D_model) continue;
    if (found && report(e, d->at, "a file has one model"))
      diag_note(&e->diag, found->at, "the first is here");
    found = d;
    class = u->value[i].class;
  }
  if (!found) fail(e, (Place){u->file->src, 0, 0, 0}, "the file has no `model name { … }`");
  return class;
}

static void elaborate(Elab *e, const Override *override, int n_override) {
  Model *m = e->m;
  Setting *setting = arena_alloc(m->arena, sizeof *setting * (size_t)(n_override + 1));
  for (int i = 0; i < n_override; i++) read_setting(e, override[i].text, &setting[i]);
  load_imports(e);
  if (!elab_ok(e)) return;
  for (int i = 0; i < m->n_unit; i++) declare_unit(e, m->unit[i]);
  if (!elab_ok(e)) return;
  check_names(e);
  if (!elab_ok(e)) return;
  fold_config(e, setting, n_override);
  Class *class = find_model(e);
  if (!elab_ok(e)) return;
  Expr call = {.kind = E_call, .at = class->decl->at};
  Value root = instantiate(e, &call, class, 0, NULL);
  if (root.kind == V_error) return;
  m->root = root.instance;
  number_params(e, m->root);
  load_train(e, setting, n_override);
  if (elab_ok(e)) make_json(e);
}

Model *fe_load_text(const char *path, const char *text, size_t bytes, const Override *override,
                    int n_override, Buf *errors) {
  Arena *arena = arena_new();
  Model *m = arena_alloc(arena, sizeof *m);
  m->arena = arena;
  Graph *scratch = graph_new("load");
  Elab *e = elab_open(m, arena, scratch, errors);
  e->loading = true;
  if (bytes > MAX_FILE) {
    fail(e, (Place){0}, "%.200s is larger than 1 MiB", path);
  } else {
    char real[PATH_MAX];
    m->main = add_unit(e, path, realpath(path, real) ? real : path, text, bytes);
    elaborate(e, override, n_override);
  }
  bool ok = elab_ok(e);
  graph_free(scratch);
  if (ok) return m;
  fe_free(m);
  return NULL;
}

Model *fe_load(const char *path, const Override *override, int n_override, Buf *errors) {
  Buf text = {0};
  Model *m = NULL;
  const char *why = read_error(path, &text);
  if (why)
    buf_printf(errors, "error: cannot read %s: %s\n", path, why);
  else
    m = fe_load_text(path, text.data ? text.data : "", text.len, override, n_override, errors);
  buf_free(&text);
  return m;
}

void fe_free(Model *m) {
  if (m) arena_free(m->arena);
}

bool fe_print_ast(const char *path, Buf *out, Buf *errors) {
  Buf text = {0};
  const char *why = read_error(path, &text);
  if (why) {
    buf_printf(errors, "error: cannot read %s: %s\n", path, why);
    buf_free(&text);
    return false;
  }
  Arena *arena = arena_new();
  Diag diag = {.out = errors, .arena = arena};
  File *file =
    parse_file(arena, &diag, source_new(arena, path, text.data ? text.data : "", text.len));
  if (file) ast_print(out, file);
  arena_free(arena);
  buf_free(&text);
  return file != NULL;
}
