/* The settings, and how they are loaded, fed and run. */
#include "tests/passes/small_models.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

const Small small[N_SMALL] = {
  {"gpt2.alpha",
   {"vocab=13", "context=9", "width=8", "layers=2", "heads=2", "train.batch=2", "train.context=7"},
   13},
  {"gpt2.alpha",
   {"vocab=13", "context=7", "width=12", "layers=1", "heads=3", "drop=0.2", "train.batch=3",
    "train.context=5"},
   13},
  {"hlx.alpha",
   {"vocab=11", "context=7", "width=8", "hidden=13", "layers=2", "heads=2", "train.batch=2",
    "train.context=7"},
   11},
  {"hlx.alpha",
   {"vocab=11", "context=7", "width=10", "hidden=9", "layers=1", "heads=5", "mix=true",
    "train.batch=2", "train.context=5"},
   11},
  {"cajal.alpha",
   {"vocab=17", "context=6", "width=12", "hidden=15", "layers=2", "heads=3", "train.batch=2",
    "train.context=5"},
   17},
  {"llama.alpha",
   {"vocab=11", "context=9", "width=8", "hidden=11", "layers=2", "heads=2", "kv_heads=1",
    "head_dim=4", "train.batch=2", "train.context=7"},
   11},
  {"llama.alpha",
   {"vocab=11", "context=5", "width=12", "hidden=7", "layers=1", "heads=2", "kv_heads=2",
    "head_dim=6", "tied=true", "train.batch=1", "train.context=5"},
   11},
};

const Small rounded[N_ROUNDED] = {
  {"gpt2.alpha",
   {"vocab=29", "context=17", "width=48", "layers=2", "heads=3", "train.batch=2",
    "train.context=17"},
   29},
  {"llama.alpha",
   {"vocab=23", "context=19", "width=32", "hidden=35", "layers=1", "heads=2", "kv_heads=1",
    "head_dim=16", "train.batch=2", "train.context=19"},
   23},
  {"hlx.alpha",
   {"vocab=21", "context=16", "width=32", "hidden=37", "layers=1", "heads=2", "mix=true",
    "train.batch=2", "train.context=16"},
   21},
  {"cajal.alpha",
   {"vocab=37", "context=18", "width=48", "hidden=53", "layers=2", "heads=3", "train.batch=2",
    "train.context=18", "train.recompute=true"},
   37},
};

const PassOptions small_options;

void small_load(Setup *s, const Small *m, const char *more) {
  Override override[MAX_DEFINES + 2];
  Buf path = {0}, errors = {0};
  int n = 0;
  while (n < MAX_DEFINES && m->define[n]) override[n].text = m->define[n], n++;
  if (more) override[n++].text = more;
  if (!more || strncmp(more, "train.precision", 15) != 0)
    override[n++].text = "train.precision=f32";
  buf_printf(&path, "%s/%s", MODELS, m->file);
  *s = (Setup){.arena = arena_new(), .vocab = m->vocab};
  s->model = fe_load(path.data, override, n, &errors);
  if (!s->model) fail_msg("%s", errors.data);
  if (!programs_build(s->model, &(ProgramOptions){.pass = &small_options}, &s->set, &errors))
    fail_msg("%s", errors.data);
  buf_free(&path);
  buf_free(&errors);
}

void small_unload(Setup *s) {
  programs_free(&s->set);
  fe_free(s->model);
  arena_free(s->arena);
}

Graph *small_program(const Setup *s, const char *name) {
  for (int i = 0; i < s->set.n; i++)
    if (strcmp(s->set.graph[i]->name, name) == 0) return s->set.graph[i];
  fail_msg("%s has no program %s", fe_name(s->model), name);
  return NULL;
}

double *small_value(Setup *s, const Node *leaf) {
  for (int i = 0; i < s->n_feed; i++)
    if (s->feed[i].op == leaf->op && strcmp(s->feed[i].name, leaf->name) == 0)
      return (double *)s->feed[i].data;
  double *data = arena_alloc(s->arena, sizeof *data * (size_t)type_count(&leaf->type));
  Feed f = {leaf->op, leaf->name, data};
  ARENA_PUSH(s->arena, s->feed, s->n_feed, f);
  return data;
}

static double draw(uint32_t stream, int64_t i) {
  uint32_t out[4];
  philox4x32((uint32_t[]){(uint32_t)i, stream, 0, 0}, (uint32_t[]){5, 8}, out);
  return out[0] / 4294967296.0;
}

void small_fill(Setup *s, const Graph *g, Op op) {
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    if (n->op != op) continue;
    double *data = small_value(s, n);
    uint32_t stream = (uint32_t)hash_bytes(n->name, strlen(n->name), 0);
    for (int64_t k = 0; k < type_count(&n->type); k++) {
      double u = draw(stream, k);
      if (n->op == OP_param)
        data[k] = (float)(1.2 * u - 0.6);
      else
        data[k] = strcmp(n->name, "total") == 0 ? 100
                  : strcmp(n->name, "rng") == 0 ? k
                                                : floor(u * s->vocab);
    }
  }
}

double *small_evaluate(Setup *s, const Graph *g, EvalMode mode, const char *name) {
  const Output *o = ir_find_output(g, name);
  if (!o) fail_msg("%s: program %s has no output %s", fe_name(s->model), g->name, name);
  Tensor t;
  Buf why = {0};
  if (!ir_eval(s->arena, g, mode, s->feed, s->n_feed, &o->node, 1, &t, &why))
    fail_msg("%s: %s", g->name, why.data);
  return t.data;
}

void small_run(Setup *s, const Graph *g) {
  Node **want = arena_alloc(s->arena, sizeof *want * (size_t)g->n_output);
  Tensor *t = arena_alloc(s->arena, sizeof *t * (size_t)g->n_output);
  Buf why = {0};
  for (int i = 0; i < g->n_output; i++) want[i] = g->output[i].node;
  if (!ir_eval(s->arena, g, EVAL_f32, s->feed, s->n_feed, want, g->n_output, t, &why))
    fail_msg("%s: %s", g->name, why.data);
  for (int i = 0; i < g->n_output; i++) {
    if (g->output[i].kind != OUT_update) continue;
    Node leaf = {.op = OP_state, .type = want[i]->type, .name = g->output[i].name};
    const ParamInfo *param;
    int n = fe_params(s->model, &param);
    for (int k = 0; k < n; k++)
      if (strcmp(param[k].path, leaf.name) == 0) leaf.op = OP_param;
    memcpy(small_value(s, &leaf), t[i].data, sizeof(double) * (size_t)type_count(&want[i]->type));
  }
}
