/* entry: a function of the root module as a graph of its own, and what the driver asks about a
 * loaded program. */
#include "frontend/elab_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- questions ---- */

const char *fe_name(const Model *m) { return m->root->class->decl->name; }
const char *fe_config_json(const Model *m) { return m->json; }
const TrainInfo *fe_train(const Model *m) { return &m->train; }

bool fe_config_int(const Model *m, const char *key, int64_t *value) {
  int i = name_find(&m->config_names, intern(key));
  return i >= 0 && is_whole(m->config[i].value, value);
}

int fe_params(const Model *m, const ParamInfo **out) {
  *out = m->info;
  return m->n_param;
}

/* The member function of that name that is there. */
static const Function *root_function(const Model *m, const char *name) {
  const Instance *root = m->root;
  for (int i = name_find(&root->class->names, intern(name)); i >= 0;
       i = root->class->slot[i].same_name)
    if (root->state[i] == 2 && root->value[i].kind == V_fn) return root->value[i].fn;
  return NULL;
}

bool fe_has_function(const Model *m, const char *name) { return root_function(m, name) != NULL; }

/* ---- an entry's arguments ---- */

static bool is_free(Elab *e, const Expr *dim, Value *v) {
  if (dim->kind != E_name) return false;
  return !lookup_bound(e, dim->name, dim->at, v) || !(is_number(*v) || v->kind == V_error);
}

static bool has_input(const Formal *f) { return f->type && f->type->word != T_number && !f->init; }

int fe_entry_dims(Model *m, const char *name, const char *names[], int max) {
  const Function *fn = root_function(m, name);
  Buf ignored = {0};
  Graph *g = graph_new("dims");
  Elab *e = elab_open(m, arena_new(), g, &ignored);
  Frame f;
  Value v;
  int n = 0;
  if (fn) {
    frame_open(e, &f, fn->unit, fn->self, NULL, (Place){0});
    for (int i = 0; i < fn->decl->n_formal; i++) {
      const Formal *formal = &fn->decl->formal[i];
      for (int d = 0; has_input(formal) && d < formal->type->n_dim; d++) {
        const Expr *dim = formal->type->dim[d];
        if (!is_free(e, dim, &v)) continue;
        bind(e, &f, dim->name, v_int(1), dim->at); /* once each */
        if (n < max) names[n] = dim->name;
        n++;
      }
    }
    frame_close(e, &f);
  }
  elab_close(e);
  graph_free(g);
  buf_free(&ignored);
  return n < max ? n : max;
}

static bool entry_dim(Elab *e, const char *entry, const Expr *dim, const DimBinding *dims,
                      int n_dim, int64_t *out) {
  Value v;
  if (is_free(e, dim, &v)) {
    int i = 0;
    while (i < n_dim && strcmp(dims[i].name, dim->name) != 0) i++;
    if (i == n_dim) {
      fail(e, dim->at,
           "the dimension `%.60s` of the entry `%.60s` is not given: it is neither in the "
           "configuration nor a "
           "dimension of the training program",
           dim->name, entry);
      return false;
    }
    v = v_int(dims[i].value);
    bind(e, e->frame, dim->name, v, dim->at);
  } else {
    v = eval(e, dim);
  }
  return want_int(e, dim, v, "a dimension", out);
}

/* The tensor arguments as `input` nodes; the others keep their defaults. */
static bool entry_inputs(Elab *e, const FnDecl *fn, const DimBinding *dims, int n_dim, Given *given,
                         int *n) {
  for (int i = 0; i < fn->n_formal; i++) {
    const Formal *f = &fn->formal[i];
    if (f->init) continue;
    if (!has_input(f)) {
      fail(e, f->at,
           "the argument `%.60s` of the entry `%.60s` is no tensor: give it a type such as [b, t] "
           "or int[b, t], or a default",
           f->name, fn->name);
      return false;
    }
    Type t = type_scalar(f->type->word == T_int    ? DT_i32
                         : f->type->word == T_bool ? DT_bool
                                                   : DT_f32);
    if (f->type->n_dim > IR_MAX_RANK) {
      fail(e, f->type->at, "a tensor has at most %d dimensions, found %d", IR_MAX_RANK,
           f->type->n_dim);
      return false;
    }
    t.rank = (uint8_t)f->type->n_dim;
    for (int d = 0; d < t.rank; d++)
      if (!entry_dim(e, fn->name, f->type->dim[d], dims, n_dim, &t.dim[d])) return false;
    if (!shape_fits(e, f->type->at, t.rank, t.dim)) return false;
    if (strcmp(f->name, "rng") == 0) {
      fail(e, f->at,
           "an entry's argument cannot be called `rng`: that is the input of its random numbers");
      return false;
    }
    if (strcmp(f->name, "total") == 0 && strcmp(fn->name, e->m->train.loss) == 0) {
      fail(e, f->at,
           "the loss's argument cannot be called `total`: that is an input of training programs");
      return false;
    }
    e->g->loc = source_loc(f->at);
    given[(*n)++] = (Given){f->name, v_node(ir_leaf(e->g, OP_input, f->name, &t)), NULL};
  }
  return true;
}

/* ---- its results ---- */

static void put_result(Elab *e, const Expr *at, const char *name, Value v) {
  Node *n = NULL;
  if (is_tensor(v))
    n = to_node(e, v);
  else if (is_number(v))
    n = number_node(e, at, v,
                    v.kind == V_int    ? DT_i32
                    : v.kind == V_bool ? DT_bool
                                       : DT_f32,
                    0, NULL);
  else
    fail(e, at->at, "an entry gives tensors, found %s", describe(e, v));
  if (n) ir_output(e->g, OUT_value, name, n);
}

static void put_results(Elab *e, const Expr *at, Value v) {
  if (v.kind != V_list) {
    put_result(e, at, "result", v);
    return;
  }
  if (v.list->n == 0) fail(e, at->at, "an entry gives tensors, found an empty list");
  for (int i = 0; i < v.list->n && elab_ok(e) && elab_room(e, at->at); i++)
    put_result(e, at, arena_printf(e->arena, "result.%d", i), v.list->at[i]);
}

static void check_loss(Elab *e, const Expr *at, Value v) {
  if (is_tensor(v) && tensor_type(v).rank == 0 && dtype_is_float(tensor_type(v).dtype)) return;
  fail(e, at->at, "a loss is a floating-point scalar, found %s", describe(e, v));
}

static void elaborate_entry(Elab *e, const Function *fn, const DimBinding *dims, int n_dim) {
  const FnDecl *d = fn->decl;
  Given *given = arena_alloc(e->arena, sizeof *given * (size_t)(d->n_formal + 1));
  Expr call = {.kind = E_call, .at = d->at, .loc = source_loc(d->at)};
  int n = 0;
  Frame f;
  frame_open(e, &f, fn->unit, fn->self, NULL, (Place){0});
  bool ok = entry_inputs(e, d, dims, n_dim, given, &n);
  frame_close(e, &f);
  if (!ok) return;
  Value v = call_function(e, &call, fn, n, given);
  if (v.kind == V_error) return;
  if (strcmp(d->name, e->m->train.loss) == 0) check_loss(e, &call, v);
  put_results(e, &call, v);
}

Graph *fe_entry(Model *m, const char *name, bool training, const DimBinding *dims, int n_dim,
                Buf *errors) {
  const Function *fn = root_function(m, name);
  if (!fn) {
    const Class *c = m->root->class;
    const char **names = xmalloc(sizeof *names * (size_t)(c->n_slot + 1));
    int n = 0;
    for (int i = 0; i < c->n_slot; i++)
      if (c->slot[i].decl->kind == M_fn) names[n++] = c->slot[i].decl->name;
    const char *near = suggest(name, names, n);
    buf_printf(errors,
               near ? "error: the model `%s` has no function `%s`; did you mean `%s`?\n"
                    : "error: the model `%s` has no function `%s`\n",
               fe_name(m), name, near);
    free(names);
    return NULL;
  }
  Graph *g = graph_new(name);
  Elab *e = elab_open(m, arena_new(), g, errors);
  e->training = training;
  elaborate_entry(e, fn, dims, n_dim);
  g->loc = (SrcLoc){0};
  g->region = 0;
  if (elab_close(e)) return g;
  graph_free(g);
  return NULL;
}

/* ---- initial values ---- */

Node *fe_init(Model *m, Graph *g, int param, Node *rng, Buf *errors) {
  SrcLoc loc = g->loc;
  const Param *p = m->param[param];
  Elab *e = elab_open(m, arena_new(), g, errors);
  g->loc = source_loc(p->at);
  Node *n = init_node(e, p, rng, 2 * (int64_t)param);
  g->loc = loc;
  elab_close(e);
  return n;
}
