/* The programs of a model that only run its functions, and the order of all. Training:
 * programs_train.c.
 *
 * Every program here begins its sequences at position 0, so `position` is replaced by the iota that
 * it is; what depends on positions alone, as tables of sines, is then computed at compile time.
 *
 * A function is simplified and raised, then perhaps differentiated and updated from, so that
 * gradients are those of the raised operations; a finished program is lowered and simplified. */
#include "driver/programs_internal.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DIMS = 64 };

/* ---- graphs ---- */
static Graph *positions_from_zero(Graph *g) {
  Graph *to = graph_new(g->name);
  Node **map = xcalloc((size_t)g->n_node + 1, sizeof *map);
  for (int i = 0; i < g->n_node; i++) {
    Node *src[IR_MAX_SRC], *n = g->node[i];
    for (int k = 0; k < n->n_src; k++) src[k] = map[n->src[k]->id];
    map[i] = n->op == OP_position ? ir_iota(to, 0, &n->type) : ir_rebuild(to, n, src);
  }
  for (int i = 0; i < g->n_output; i++)
    ir_output(to, g->output[i].kind, g->output[i].name, map[g->output[i].node->id]);
  free(map);
  graph_free(g);
  return to;
}

Graph *passed(Builder *b, Graph *g, const char *list) {
  Graph *to = pass_run(g, list, &b->pass, b->errors);
  if (to != g) graph_free(g);
  return to;
}

bool wants_program(Builder *b, const char *name) {
  if (b->option->n_only == 0) return true;
  bool wanted = false;
  for (int i = 0; i < b->option->n_only; i++)
    if (strcmp(b->option->only[i], name) == 0) b->only_met[i] = wanted = true;
  return wanted;
}

bool add_program(Builder *b, const char *name, Graph *g) {
  if (!g) return false;
  g->name = intern(name);
  g = passed(b, g, "lower,simplify");
  if (!g) return false;
  ProgramSet *s = b->out;
  s->graph = xrealloc(s->graph, sizeof *s->graph * (size_t)(s->n + 1));
  s->graph[s->n++] = g;
  return true;
}

Graph *function_graph(Builder *b, const char *name, bool training, const int64_t *value,
                      int n_value) {
  const char *dim[MAX_DIMS];
  DimBinding binding[MAX_DIMS];
  int n = fe_entry_dims(b->model, name, dim, MAX_DIMS), n_bound = 0;
  for (int i = 0; i < n && i < n_value && i < MAX_DIMS; i++)
    if (value[i] > 0) binding[n_bound++] = (DimBinding){dim[i], value[i]};
  Graph *g = fe_entry(b->model, name, training, binding, n_bound, b->errors);
  return g ? passed(b, positions_from_zero(g), "simplify,raise") : NULL;
}

/* ---- forward.<t> ---- */
/* Gives the graph the names of the protocol: input tokens i32[1, t], output logits f32[1, t,
 * vocab]. */
static Graph *as_language_model(Graph *g) {
  Node *input = NULL, *out = g->output[0].node;
  int n_input = 0;
  for (int i = 0; i < g->n_node; i++)
    if (g->node[i]->op == OP_input) n_input++, input = g->node[i];
  bool fits = n_input == 1 && input->type.dtype == DT_i32 && input->type.rank == 2 &&
              input->type.dim[0] == 1 && g->n_output == 1 && out->type.dtype == DT_f32 &&
              out->type.rank == 3 && out->type.dim[0] == 1 &&
              out->type.dim[1] == input->type.dim[1];
  if (!fits) return NULL;
  Graph *to = graph_new(g->name);
  Node **map = xcalloc((size_t)g->n_node, sizeof *map);
  for (int i = 0; i < g->n_node; i++) {
    Node *src[IR_MAX_SRC], *n = g->node[i];
    for (int k = 0; k < n->n_src; k++) src[k] = map[n->src[k]->id];
    map[i] = n == input ? ir_leaf(to, OP_input, "tokens", &n->type) : ir_rebuild(to, n, src);
  }
  ir_output(to, OUT_value, "logits", map[out->id]);
  free(map);
  return to;
}

/* forward with these lengths; a forward that is not tokens → logits gives no program. */
static bool add_forward(Builder *b, const int64_t *value, int n_value, bool *fits) {
  Graph *g = function_graph(b, "forward", false, value, n_value);
  if (!g) return false;
  Graph *named = as_language_model(g);
  graph_free(g);
  *fits = named != NULL;
  if (!named) return true;
  char name[32];
  snprintf(name, sizeof name, "forward.%lld", (long long)named->output[0].node->type.dim[1]);
  if (wants_program(b, name)) return add_program(b, name, passed(b, named, "precision"));
  graph_free(named);
  return true;
}

static bool add_length(Builder *b, int64_t t, bool *fits) {
  char name[32];
  snprintf(name, sizeof name, "forward.%lld", (long long)t);
  return wants_program(b, name) ? add_forward(b, (int64_t[]){1, t}, 2, fits) : true;
}

/* Lengths 16, 64, 256 … below the context, and the context; or the one length that forward is
 * written for. */
static bool add_forwards(Builder *b) {
  const char *dim[MAX_DIMS];
  int64_t context = b->context;
  bool fits = true;
  int n =
    fe_has_function(b->model, "forward") ? fe_entry_dims(b->model, "forward", dim, MAX_DIMS) : 0;
  fe_config_int(b->model, "context", &context);
  if (n == 1) return add_forward(b, (int64_t[]){1}, 1, &fits);
  if (n != 2 || context < 1) return true;
  for (int64_t t = 16; t < context && fits; t *= 4)
    if (!add_length(b, t, &fits)) return false;
  return fits ? add_length(b, context, &fits) : true;
}

/* ---- entries ---- */
static bool bad_entry(Builder *b, const char *text, const char *at) {
  buf_printf(b->errors,
             "error: --entry %s: expected NAME or NAME:dim=number,dim=number; found \"%s\"\n", text,
             at);
  return false;
}

/* "b=4,t=16" → value[] in the order of the signature's free dimensions. */
static bool parse_dims(Builder *b, const char *text, const char *at, const char *const *dim, int n,
                       int64_t *value) {
  while (*at) {
    size_t len = strcspn(at, "=");
    char *end;
    const char *name = intern_n(at, len);
    int i = 0;
    while (i < n && strcmp(dim[i], name) != 0) i++;
    long long v = at[len] ? strtoll(at + len + 1, &end, 10) : 0;
    if (!at[len] || v < 1 || v > IR_MAX_ELEMENTS || (*end && *end != ','))
      return bad_entry(b, text, at);
    if (i == n) {
      const char *near = suggest(name, dim, n);
      buf_printf(b->errors, "error: --entry %s: the function has no free dimension %s", text, name);
      buf_printf(b->errors, near ? "; did you mean %s?\n" : "\n", near);
      return false;
    }
    value[i] = v;
    at = *end ? end + 1 : end;
  }
  return true;
}

static bool add_entry(Builder *b, const char *text) {
  size_t len = strcspn(text, ":");
  const char *name = intern_n(text, len), *dim[MAX_DIMS];
  if (!fe_has_function(b->model, name)) {
    buf_printf(b->errors, "error: --entry %s: the model has no function %s\n", text, name);
    return false;
  }
  for (int i = 0; i < b->out->n; i++) {
    if (strcmp(b->out->graph[i]->name, name) != 0) continue;
    buf_printf(b->errors, "error: --entry %s: there is a program %s already\n", text, name);
    return false;
  }
  int64_t value[MAX_DIMS] = {b->batch, b->context};
  int n = fe_entry_dims(b->model, name, dim, MAX_DIMS);
  if (text[len] && !parse_dims(b, text, text + len + 1, dim, n, value)) return false;
  for (int i = 0; i < n; i++) {
    if (value[i] > 0) continue;
    buf_printf(
      b->errors,
      "error: --entry %s: the length of dimension %s is not known; give it as --entry %s:%s=16\n",
      text, dim[i], name, dim[i]);
    return false;
  }
  if (!wants_program(b, name)) return true;
  Graph *g = function_graph(b, name, false, value, n);
  return g && add_program(b, name, g);
}

static bool add_entries(Builder *b) {
  bool ok = true;
  for (int i = 0; i < b->option->n_entry; i++) ok = add_entry(b, b->option->entry[i]) && ok;
  return ok;
}

/* ---- all ---- */
static bool check_only(Builder *b) {
  bool ok = true;
  for (int i = 0; i < b->option->n_only; i++) {
    if (b->only_met[i]) continue;
    buf_printf(b->errors, "error: --program %s: the model %s has no such program\n",
               b->option->only[i], fe_name(b->model));
    ok = false;
  }
  return ok;
}

bool programs_build(Model *m, const ProgramOptions *o, ProgramSet *out, Buf *errors) {
  *out = (ProgramSet){0};
  if (o->pass->skip && strcmp(o->pass->skip, "lower") == 0) {
    buf_str(errors, "error: --skip-pass=lower: kernels are made of what lower gives\n");
    return false;
  }
  const TrainInfo *train = fe_train(m);
  Builder b = {.model = m,
               .option = o,
               .out = out,
               .errors = errors,
               .pass = *o->pass,
               .batch = 1,
               .only_met = xcalloc((size_t)o->n_only + 1, sizeof(bool))};
  if (train->present && !dtype_by_name(train->precision, &b.pass.precision))
    die("programs: precision %s", train->precision);
  if (train->present && train->batch > 0) b.batch = train->batch;
  if (train->present && train->context > 0) b.context = train->context;
  if (b.context == 0 && !fe_config_int(m, "context", &b.context)) b.context = 0;
  bool ok =
    add_init(&b) && add_loss_programs(&b) && add_forwards(&b) && add_entries(&b) && check_only(&b);
  free(b.only_met);
  if (!ok) programs_free(out);
  return ok;
}

void programs_free(ProgramSet *s) {
  for (int i = 0; i < s->n; i++) graph_free(s->graph[i]);
  free(s->graph);
  *s = (ProgramSet){0};
}
