/* train: the settings of `train { … }` with -D train.…, the optimizer and the schedule as
 * instances. */
#include "frontend/elab_internal.h"

#include <string.h>

static const char *const keys[] = {"batch",      "context",   "optimizer", "schedule", "clip",
                                   "accumulate", "precision", "loss",      "recompute"};

typedef struct TrainVar {
  Expr *value; /* NULL: not set */
  Place at;
  bool given; /* by -D */
} TrainVar;
typedef struct Train {
  Elab *e;
  TrainVar var[COUNT_OF(keys)];
  Setting *setting;
  int n_setting;
} Train;

static int key_of(const char *name) {
  for (int i = 0; i < COUNT_OF(keys); i++)
    if (strcmp(keys[i], name) == 0) return i;
  return -1;
}

static void unknown_key(Elab *e, Place at, const char *name) {
  const char *near = suggest(name, keys, COUNT_OF(keys));
  fail(e, at,
       near ? "train has no `%.60s`; did you mean `%s`?"
            : "train has no `%.60s`; it has batch, context, optimizer, schedule, clip, accumulate, "
              "precision, loss, recompute",
       name, near);
}

/* ---- what the file and the command line say ---- */

static void read_block(Train *t, const Decl *d) {
  for (int i = 0; i < d->n_entry; i++) {
    const Entry *entry = &d->entry[i];
    int k = key_of(entry->name);
    if (k < 0)
      unknown_key(t->e, entry->at, entry->name);
    else if (!t->var[k].value)
      t->var[k] = (TrainVar){entry->value, entry->at, false};
    else if (report(t->e, entry->at, "`%.60s` is set twice", entry->name))
      diag_note(&t->e->diag, t->var[k].at, "first here");
  }
}

static void read_settings(Train *t) {
  for (int i = 0; i < t->n_setting; i++) {
    Setting *s = &t->setting[i];
    if (strncmp(s->key, "train.", 6) != 0) continue;
    const char *key = s->key + 6;
    if (strncmp(key, "optimizer.", 10) == 0 || strncmp(key, "schedule.", 9) == 0)
      continue; /* instance_of's */
    int k = key_of(key);
    s->used = true;
    if (k < 0)
      unknown_key(t->e, s->key_at, key);
    else
      t->var[k] = (TrainVar){s->value, s->key_at, true};
  }
}

static Value value_of(Train *t, const char *name) {
  Elab *e = t->e;
  TrainVar *v = &t->var[key_of(name)];
  if (!v->value) return v_none;
  if (v->given && (strcmp(name, "precision") == 0 || strcmp(name, "loss") == 0))
    word_as_string(v->value, v_string(""));
  Frame f;
  frame_open(e, &f, e->m->main, NULL, NULL, (Place){0});
  Value r = eval(e, v->value);
  frame_close(e, &f);
  return r;
}

static int64_t whole_setting(Train *t, const char *name, int64_t least, int64_t absent) {
  int64_t n = absent;
  const TrainVar *v = &t->var[key_of(name)];
  Value value = value_of(t, name);
  if (value.kind == V_none ||
      !want_int(t->e, v->value, value, arena_printf(t->e->arena, "`%s`", name), &n))
    return absent;
  if (n < least || n > INT32_MAX) {
    fail(t->e, v->value->at, "`%s` must be at least %lld, found %s", name, (long long)least,
         number_text(t->e, value));
    return absent;
  }
  return n;
}

static const char *text_setting(Train *t, const char *name, const char *absent) {
  const TrainVar *v = &t->var[key_of(name)];
  Value value = value_of(t, name);
  if (value.kind == V_none || value.kind == V_error) return absent;
  if (value.kind == V_string) return intern(value.s);
  fail(t->e, v->value->at, "`%s` must be a string, found %s", name, describe(t->e, value));
  return absent;
}

static bool bool_setting(Train *t, const char *name) {
  const TrainVar *v = &t->var[key_of(name)];
  Value value = value_of(t, name);
  if (value.kind == V_bool) return value.i;
  if (value.kind != V_none && value.kind != V_error)
    fail(t->e, v->value->at, "`%s` must be true or false, found %s", name, describe(t->e, value));
  return false;
}

/* ---- optimizer and schedule ---- */

/* The call's arguments with those that -D gives in their places. */
static bool given_arguments(Train *t, const char *prefix, const Decl *d, const Expr *x,
                            Given *given, int *n) {
  Elab *e = t->e;
  size_t length = strlen(prefix);
  for (int i = 0; x->kind == E_call && i < x->n_arg; i++) {
    given[*n] = (Given){x->arg[i].name, eval(e, x->arg[i].value), x->arg[i].value};
    if (given[(*n)++].value.kind == V_error) return false;
  }
  int positional = *n;
  while (positional > 0 && given[positional - 1].name) positional--;
  for (int i = 0; i < t->n_setting; i++) {
    Setting *s = &t->setting[i];
    if (strncmp(s->key, prefix, length) != 0) continue;
    s->used = true;
    const char *name = intern(s->key + length), *names[32];
    int f = 0, n_names = 0, k = 0;
    while (f < d->n_formal && d->formal[f].name != name) f++;
    if (f == d->n_formal) {
      for (int j = 0; j < d->n_formal && j < COUNT_OF(names); j++)
        names[n_names++] = d->formal[j].name;
      const char *near = suggest(name, names, n_names);
      fail(e, s->key_at,
           near ? "the %s `%.60s` has no argument `%.60s`; did you mean `%s`?"
                : "the %s `%.60s` has no argument `%.60s`",
           decl_word(d->kind), d->name, name, near);
      return false;
    }
    while (k < *n && !(f < positional ? k == f : given[k].name == name)) k++;
    given[k] = (Given){k < positional ? NULL : name, eval(e, s->value), s->value};
    if (k == *n) (*n)++;
  }
  return true;
}

static Instance *instance_of(Train *t, const char *name, DeclKind kind) {
  Elab *e = t->e;
  TrainVar *v = &t->var[key_of(name)];
  if (!v->value) return NULL;
  Frame f;
  Instance *result = NULL;
  const char *prefix = arena_printf(e->arena, "train.%s.", name);
  frame_open(e, &f, e->m->main, NULL, NULL, (Place){0});
  Expr *x = v->value;
  Value callee = eval(e, x->kind == E_call ? x->a : x);
  if (callee.kind == V_class && callee.class->decl->kind == kind) {
    int n = 0, most = x->n_arg + t->n_setting + 1;
    Given *given = arena_alloc(e->arena, sizeof *given * (size_t)most);
    if (given_arguments(t, prefix, callee.class->decl, x, given, &n)) {
      Value r = instantiate(e, x, callee.class, n, given);
      if (r.kind == V_instance) result = r.instance;
    }
  } else if (callee.kind != V_error) {
    fail(e, x->at, "`%s` must be %s such as optim.%s, found %s", name,
         kind == D_optimizer ? "an optimizer" : "a schedule",
         kind == D_optimizer ? "adamw()" : "constant(peak = 1e-3)", describe(e, callee));
  }
  frame_close(e, &f);
  return result;
}

const char *class_text(Elab *e, const Instance *in) {
  Buf b = {0};
  buf_printf(&b, "%s(", in->class->decl->name);
  for (int i = 0; i < in->n_arg; i++) {
    Value v = in->arg[i].value;
    const char *text = is_number(v) ? number_text(e, v) : v.kind == V_string ? v.s : describe(e, v);
    buf_printf(&b, "%s%s = %s", i ? ", " : "", in->arg[i].name, text);
  }
  buf_str(&b, ")");
  const char *text = intern(b.data);
  buf_free(&b);
  return text;
}

/* ---- all of it ---- */

static int64_t default_context(Model *m) {
  int64_t n;
  return fe_config_int(m, "context", &n) && n > 0 ? n : 0;
}

static bool has_setting(const Train *t, const char *key) {
  for (int i = 0; i < t->n_setting; i++)
    if (t->setting[i].key && strcmp(t->setting[i].key, key) == 0) return true;
  return false;
}

/* -D context=64 makes a smaller model, and it is trained on no longer sequences than it knows
 * places for. */
static void cap_context(const Train *t, TrainInfo *info) {
  int64_t most = default_context(t->e->m);
  if (most > 0 && info->context > most && has_setting(t, "context") &&
      !has_setting(t, "train.context"))
    info->context = most;
}

static void check_words(Train *t, const TrainInfo *info) {
  static const char *const precisions[] = {"f32", "bf16", "f16"};
  Elab *e = t->e;
  bool known = false;
  for (int i = 0; i < COUNT_OF(precisions); i++)
    known = known || strcmp(info->precision, precisions[i]) == 0;
  if (!known)
    fail(e, t->var[key_of("precision")].value->at,
         "the precision is \"f32\", \"bf16\" or \"f16\", found \"%.40s\"", info->precision);
  const Expr *loss = t->var[key_of("loss")].value;
  if (loss && !fe_has_function(e->m, info->loss))
    fail(e, loss->at, "the model has no function `%.60s` to be the loss", info->loss);
}

void load_train(Elab *e, Setting *setting, int n_setting) {
  Train *t = arena_alloc(e->arena, sizeof *t);
  Model *m = e->m;
  TrainInfo *info = &m->train;
  *t = (Train){.e = e, .setting = setting, .n_setting = n_setting};
  for (int i = 0; i < m->main->file->n_decl; i++) {
    if (m->main->file->decl[i]->kind != D_train) continue;
    read_block(t, m->main->file->decl[i]);
    info->present = true;
    m->train_at = m->main->file->decl[i]->at;
  }
  read_settings(t);
  info->batch = whole_setting(t, "batch", 1, 1);
  info->context = whole_setting(t, "context", 1, default_context(m));
  cap_context(t, info);
  info->accumulate = whole_setting(t, "accumulate", 1, 1);
  info->recompute = bool_setting(t, "recompute");
  info->precision = text_setting(t, "precision", intern("f32"));
  info->loss = text_setting(t, "loss", intern("loss"));
  const TrainVar *clip = &t->var[key_of("clip")];
  Value v = value_of(t, "clip");
  if (v.kind != V_none && want_number(e, clip->value, v, "`clip`", &info->clip) &&
      !(info->clip >= 0))
    fail(e, clip->value->at, "`clip` must not be negative, found %s", number_text(e, v));
  check_words(t, info);
  m->optimizer = instance_of(t, "optimizer", D_optimizer);
  m->schedule = instance_of(t, "schedule", D_schedule);
  if (m->optimizer) info->optimizer = class_text(e, m->optimizer);
  if (m->schedule) info->schedule = class_text(e, m->schedule);
  for (int i = 0; i < n_setting && elab_ok(e); i++)
    if (!setting[i].used)
      fail(e, setting[i].key_at,
           "the program's train names no optimizer or schedule that could have this argument");
}
