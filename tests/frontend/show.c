/* show: loads a program and prints what the frontend makes of it; the goldens of this directory are its output.
 *   show FILE [-D key=value]… [--ast | --params | --count | --config | --train | --entry NAME [--training] | --init | --update | --lr | --values]
 *        [-d dim=value]…
 * --values evaluates `forward`, which takes nothing, with the reference evaluator. */
#include "frontend/frontend.h"

#include <stdlib.h>
#include <string.h>

typedef struct Options {
  const char *file, *what, *entry;
  Override override[32];
  DimBinding dim[16];
  int n_override, n_dim;
  bool training;
} Options;

static bool read_options(Options *o, int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    const char *a = argv[i];
    if (strcmp(a, "-D") == 0 && i + 1 < argc && o->n_override < COUNT_OF(o->override)) {
      o->override[o->n_override++].text = argv[++i];
    } else if (strcmp(a, "-d") == 0 && i + 1 < argc && o->n_dim < COUNT_OF(o->dim)) {
      char *equals = strchr(argv[++i], '=');
      if (!equals) return false;
      o->dim[o->n_dim++] =
        (DimBinding){intern_n(argv[i], (size_t)(equals - argv[i])), strtoll(equals + 1, NULL, 10)};
    } else if (strcmp(a, "--entry") == 0 && i + 1 < argc) {
      o->what = a;
      o->entry = argv[++i];
    } else if (strcmp(a, "--training") == 0) {
      o->training = true;
    } else if (strncmp(a, "--", 2) == 0) {
      o->what = a;
    } else {
      o->file = a;
    }
  }
  return o->file != NULL;
}

static void show_params(Buf *out, const Model *m, bool all) {
  const ParamInfo *p;
  int64_t sum = 0;
  int n = fe_params(m, &p);
  for (int i = 0; i < n; i++) {
    sum += type_count(&p[i].type);
    if (!all) continue;
    type_print(out, &p[i].type);
    buf_printf(out, " %s = %s%s%s\n", p[i].path, p[i].init, p[i].trainable ? "" : " frozen",
               p[i].decay ? " decay" : "");
  }
  buf_printf(out, "%lld parameters\n", (long long)sum);
}

static void show_train(Buf *out, Model *m, Buf *errors) {
  const TrainInfo *t = fe_train(m);
  buf_printf(out,
             "batch %lld, context %lld, clip %g, accumulate %lld, precision %s, loss %s\noptimizer "
             "%s\nschedule %s\n",
             (long long)t->batch, (long long)t->context, t->clip, (long long)t->accumulate,
             t->precision, t->loss, t->optimizer ? t->optimizer : "none",
             t->schedule ? t->schedule : "none");
  const ParamInfo *p;
  int n = fe_params(m, &p);
  for (int i = 0; t->optimizer && i < n; i++) {
    const StateInfo *s;
    int n_state = fe_states(m, i, &s, errors);
    for (int k = 0; k < n_state; k++) {
      buf_printf(out, "optim.%s.%s ", s[k].name, p[i].path);
      type_print(out, &s[k].type);
      buf_printf(out, " = %g\n", s[k].init);
    }
  }
}

static Node *scalar_input(Graph *g, const char *name) {
  Type t = type_scalar(DT_f32);
  return ir_leaf(g, OP_input, intern(name), &t);
}

static void show_init(Graph *g, Model *m, Buf *errors) {
  const ParamInfo *p;
  Type t = type_of(DT_i32, 1, (int64_t[]){4});
  Node *rng = ir_leaf(g, OP_input, intern("rng"), &t);
  int n = fe_params(m, &p);
  for (int i = 0; i < n; i++) {
    Node *node = fe_init(m, g, i, rng, errors);
    if (node) ir_output(g, OUT_update, p[i].path, node);
  }
}

static void show_update(Graph *g, Model *m, Buf *errors) {
  const ParamInfo *p;
  Node *lr = scalar_input(g, "lr"), *step = scalar_input(g, "step");
  int n = fe_params(m, &p);
  for (int i = 0; i < n; i++) {
    const StateInfo *s;
    Node *state[16];
    char name[300];
    int n_state = fe_states(m, i, &s, errors);
    if (n_state < 0 || n_state > COUNT_OF(state)) return;
    for (int k = 0; k < n_state; k++) {
      snprintf(name, sizeof name, "optim.%s.%s", s[k].name, p[i].path);
      state[k] = ir_leaf(g, OP_state, intern(name), &s[k].type);
    }
    snprintf(name, sizeof name, "grad.%s", p[i].path);
    Node *old = ir_leaf(g, OP_param, p[i].path, &p[i].type),
         *grad = ir_leaf(g, OP_input, intern(name), &p[i].type);
    Node *fresh = fe_update(m, g, i, old, grad, lr, step, state, errors);
    if (!fresh) return;
    ir_output(g, OUT_update, p[i].path, fresh);
    for (int k = 0; k < n_state; k++) {
      snprintf(name, sizeof name, "optim.%s.%s", s[k].name, p[i].path);
      ir_output(g, OUT_update, name, state[k]);
    }
  }
}

static void show_graph(Buf *out, const Options *o, Model *m, Buf *errors) {
  Graph *g = NULL;
  if (strcmp(o->what, "--entry") == 0) {
    g = fe_entry(m, o->entry, o->training, o->dim, o->n_dim, errors);
  } else {
    g = graph_new(o->what + 2);
    if (strcmp(o->what, "--init") == 0) show_init(g, m, errors);
    if (strcmp(o->what, "--update") == 0) show_update(g, m, errors);
    if (strcmp(o->what, "--lr") == 0) {
      Node *step = scalar_input(g, "step"), *total = scalar_input(g, "total");
      Node *lr = fe_lr(m, g, step, total, errors);
      if (lr) ir_output(g, OUT_value, "lr", lr);
    }
  }
  if (g && errors->len == 0 && ir_verify(g, errors)) ir_print(out, g);
  graph_free(g);
}

static void show_values(Buf *out, Model *m, Buf *errors) {
  Graph *g = fe_entry(m, "forward", false, NULL, 0, errors);
  if (!g) return;
  Arena *arena = arena_new();
  for (int i = 0; i < g->n_output; i++) {
    Tensor t;
    if (!ir_eval(arena, g, EVAL_f32, NULL, 0, &g->output[i].node, 1, &t, errors)) break;
    buf_printf(out, "%s ", g->output[i].name);
    type_print(out, &t.type);
    for (int64_t k = 0; k < type_count(&t.type); k++) buf_printf(out, " %.7g", t.data[k]);
    buf_str(out, "\n");
  }
  arena_free(arena);
  graph_free(g);
}

static void show(Buf *out, const Options *o, Buf *errors) {
  if (o->what && strcmp(o->what, "--ast") == 0) {
    fe_print_ast(o->file, out, errors);
    return;
  }
  Model *m = fe_load(o->file, o->override, o->n_override, errors);
  if (!m) return;
  if (!o->what)
    buf_printf(out, "%s: no errors\n", fe_name(m));
  else if (strcmp(o->what, "--params") == 0)
    show_params(out, m, true);
  else if (strcmp(o->what, "--count") == 0)
    show_params(out, m, false);
  else if (strcmp(o->what, "--values") == 0)
    show_values(out, m, errors);
  else if (strcmp(o->what, "--config") == 0)
    buf_printf(out, "%s\n", fe_config_json(m));
  else if (strcmp(o->what, "--train") == 0)
    show_train(out, m, errors);
  else
    show_graph(out, o, m, errors);
  fe_free(m);
}

int main(int argc, char **argv) {
  Options o = {0};
  Buf out = {0}, errors = {0};
  if (!read_options(&o, argc, argv)) {
    fprintf(stderr, "usage: show FILE [--ast | --params | …]\n");
    return 2;
  }
  show(&out, &o, &errors);
  if (out.data) fwrite(out.data, 1, out.len, stdout);
  if (errors.data) fwrite(errors.data, 1, errors.len, stdout);
  int status = errors.len != 0;
  buf_free(&out);
  buf_free(&errors);
  return status;
}
