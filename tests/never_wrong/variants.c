/* The ways to compute a program that must agree. */
#include "tests/never_wrong/never_wrong.h"

#include <math.h>
#include <string.h>

#include "tests/gen/grow.h"

static const char *const pass_name[] = {
#define PASS(name, function, what) #name,
#include "passes/passes.def"
#undef PASS
};

/* Of a graph that has not been differentiated, in the order in which programs are built. */
static const char before[] = "simplify,raise", after[] = "lower,simplify";

static bool needs_gradients(const Graph *g) {
  const Output *loss = ir_find_output(g, "loss");
  return loss && loss->node->type.rank == 0 && dtype_is_float(loss->node->type.dtype);
}

static Graph *run(Graph *g, const char *list, const PassOptions *o) {
  Buf why = {0};
  Graph *to = pass_run(g, list, o, &why);
  if (!to) die("never_wrong: %s", why.data);
  return to;
}

/* Runs further passes on what is no longer needed. */
static Graph *run_on(Graph *g, const char *list, const PassOptions *o) {
  Graph *to = run(g, list, o);
  if (to != g) graph_free(g);
  return to;
}

bool case_open(Case *c, const Graph *g, Buf *why) {
  static const PassOptions none;
  *c = (Case){.arena = arena_new(), .given = g, .with_gradients = graph_copy(g)};
  if (needs_gradients(g)) c->with_gradients = run_on(c->with_gradients, "autodiff", &none);
  c->feed = grow_feeds(c->arena, g, &c->n_feed);
  c->want = arena_alloc(c->arena, sizeof *c->want * ((size_t)c->with_gradients->n_output + 1));
  return bounded_values(c->arena, c->with_gradients, c->feed, c->n_feed, c->want, why);
}

void case_close(Case *c) {
  graph_free(c->with_gradients);
  arena_free(c->arena);
}

bool case_compare(const Case *c, const Graph *g, const Tensor *value, Tally *tally, Buf *why) {
  for (int i = 0; i < c->with_gradients->n_output; i++) {
    const Output *o = &c->with_gradients->output[i];
    int k = 0;
    while (k < g->n_output &&
           (g->output[k].kind != o->kind || strcmp(g->output[k].name, o->name) != 0))
      k++;
    bool is_none = k == g->n_output && strncmp(o->name, "grad.", 5) == 0;
    if (k == g->n_output && !is_none) {
      buf_printf(why, "output %s is missing", o->name);
      return false;
    }
    /* where a pass has shown that nothing depends on a param, its gradient is zero */
    Tensor zero = {o->node->type, NULL};
    if (is_none) zero.data = arena_alloc(c->arena, sizeof(double) * (size_t)type_count(&zero.type));
    size_t len = why->len;
    buf_printf(why, "output %s: ", o->name);
    if (!within_bounds(is_none ? &zero : &value[k], &c->want[i], tally, why)) return false;
    why->len = len;
    if (why->data) why->data[len] = 0;
  }
  return true;
}

/* ---- the evaluator ---- */
static bool compare_evaluated(const Case *c, const char *how, const Graph *g, Tally *tally,
                              Buf *why) {
  Arena *arena = arena_new();
  size_t n = (size_t)g->n_output + 1;
  Tensor *value = arena_alloc(arena, sizeof *value * n);
  Node **want = arena_alloc(arena, sizeof *want * n);
  for (int i = 0; i < g->n_output; i++) want[i] = g->output[i].node;
  buf_printf(why, "%s: ", how);
  bool ok = ir_eval(arena, g, EVAL_f32, c->feed, c->n_feed, want, g->n_output, value, why) &&
            case_compare(c, g, value, tally, why);
  if (ok) buf_clear(why);
  arena_free(arena);
  return ok;
}

/* The pipeline of a training program, with other passes before and after autodiff. */
static Graph *pipeline(const Graph *given, const char *first, const char *then,
                       const PassOptions *o) {
  Graph *g = run_on(graph_copy(given), first, o);
  if (needs_gradients(given)) g = run_on(g, "autodiff", o);
  return run_on(g, then, o);
}

Graph *all_passes(const Graph *g) { return pipeline(g, before, after, &(PassOptions){0}); }

/* Kernels know no raised operations. */
Graph *only_lowered(const Graph *g) { return run_on(graph_copy(g), "lower", &(PassOptions){0}); }

static bool check_pipeline(const Case *c, const char *how, const char *first, const char *then,
                           bool strict, Tally *tally, Buf *why) {
  Graph *g = pipeline(c->given, first, then, &(PassOptions){.strict = strict});
  bool ok = compare_evaluated(c, how, g, tally, why);
  graph_free(g);
  return ok;
}

bool check_evaluator(const Case *c, PassFunction *extra, Tally *tally, Buf *why) {
  static const PassOptions none;
  if (!compare_evaluated(c, "no pass", c->with_gradients, tally, why)) return false;
  for (int i = 0; i < COUNT_OF(pass_name); i++) {
    Graph *g = run(c->with_gradients, pass_name[i], &none);
    bool ok = g == c->with_gradients || compare_evaluated(c, pass_name[i], g, tally, why);
    if (g != c->with_gradients) graph_free(g);
    if (!ok || !check_pipeline(c, pass_name[i], pass_name[i], "", false, tally, why)) return false;
  }
  if (extra) {
    Graph *g = extra(c->with_gradients, &none);
    bool ok = compare_evaluated(c, "extra", g, tally, why);
    if (g != c->with_gradients) graph_free(g);
    if (!ok) return false;
  }
  return check_pipeline(c, "all passes", before, after, false, tally, why) &&
         check_pipeline(c, "all passes, strict", before, after, true, tally, why);
}

/* ---- gradients ---- */
/* What a derivative does not see, or sees otherwise than a difference does. */
static bool is_rough(const Graph *g) {
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    if (n->op == OP_stop_gradient || n->type.dtype == DT_f16 || n->type.dtype == DT_bf16)
      return true;
  }
  return false;
}

typedef struct Line { /* the params along a direction */
  const Case *c;
  const Node *loss;
  Feed *feed;
  double *const *direction; /* by feed; NULL: does not move */
} Line;

static double loss_at(const Line *l, double h, Buf *why) {
  Arena *arena = arena_new();
  const Case *c = l->c;
  Tensor t = {0};
  for (int i = 0; i < c->n_feed; i++) {
    if (!l->direction[i]) continue;
    const Node *leaf = NULL;
    for (int k = 0; k < c->given->n_node; k++)
      if (c->given->node[k]->op == OP_param && c->given->node[k]->name == c->feed[i].name)
        leaf = c->given->node[k];
    int64_t n = type_count(&leaf->type);
    double *x = arena_alloc(arena, sizeof *x * (size_t)n);
    for (int64_t k = 0; k < n; k++) x[k] = c->feed[i].data[k] + h * l->direction[i][k];
    l->feed[i].data = x;
  }
  Node *loss = ir_find_output(c->given, "loss")->node;
  double y =
    ir_eval(arena, c->given, EVAL_f64, l->feed, c->n_feed, &loss, 1, &t, why) ? t.data[0] : NAN;
  arena_free(arena);
  return y;
}

static double slope(const Line *l, double h, Buf *why) {
  return (8 * (loss_at(l, h, why) - loss_at(l, -h, why)) -
          (loss_at(l, 2 * h, why) - loss_at(l, -2 * h, why))) /
         (12 * h);
}

bool check_gradients(const Case *c, Tally *tally, Buf *why) {
  const Graph *g = c->with_gradients;
  if (!needs_gradients(c->given) || is_rough(c->given)) return true;
  double **direction = arena_alloc(c->arena, sizeof *direction * ((size_t)c->n_feed + 1));
  double expected = 0, scale = 1e-3;
  for (int i = 0; i < g->n_output; i++) {
    if (strncmp(g->output[i].name, "grad.", 5) != 0) continue;
    Tensor t;
    int f = 0;
    if (!ir_eval(c->arena, g, EVAL_f64, c->feed, c->n_feed, &g->output[i].node, 1, &t, why))
      return false;
    while (f < c->n_feed &&
           (c->feed[f].op != OP_param || strcmp(c->feed[f].name, g->output[i].name + 5) != 0))
      f++;
    if (f == c->n_feed) return true; /* by inputs: there is no param */
    int64_t n = type_count(&t.type);
    direction[f] = arena_alloc(c->arena, sizeof(double) * (size_t)n);
    for (int64_t k = 0; k < n; k++) {
      direction[f][k] = (double)(hash_bytes(&k, sizeof k, (uint64_t)f) % 2001) / 1000 - 1;
      expected += direction[f][k] * t.data[k];
      scale += fabs(direction[f][k] * t.data[k]);
    }
  }
  Feed *feed = arena_copy(c->arena, c->feed, sizeof *feed * (size_t)c->n_feed);
  Line l = {.c = c, .feed = feed, .direction = direction};
  double h = 1e-4, a = slope(&l, h, why), b = slope(&l, h / 2, why);
  tally->all++;
  if (!isfinite(a) || !isfinite(expected) || fabs(a - b) > 1e-5 * scale) return true; /* a kink */
  tally->tight++;
  if (fabs(expected - b) <= 1e-4 * scale) return true;
  buf_printf(why, "autodiff: slope of the loss %.9g, by differences %.9g", expected, b);
  return false;
}
