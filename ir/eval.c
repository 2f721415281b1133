/* The reference evaluator: each node's meaning as in ops.def, computed in double. It is the oracle
 * of the tests and what fold nodes are computed with; clear first, fast second. The operations are
 * in eval_map.c (elementwise), eval_reduce.c (reductions, scans, products) and eval_shape.c
 * (leaves, views, indexing). */
#include "ir/eval_internal.h"

#include <stdlib.h>
#include <string.h>

static void (*const compute[OP_COUNT])(EvalStep *) = {
#define OP(name, sources, rule, attribute, flags, meaning) [OP_##name] = eval_##name,
#include "ir/ops.def"
#undef OP
};

double eval_narrow(DType d, double x) {
  return dtype_round(d, d == DT_f16 || d == DT_bf16 ? (float)x : x);
}

static void round_result(const Type *t, double *x, int64_t n) {
  if (t->dtype == DT_f32) {
    for (int64_t i = 0; i < n; i++) x[i] = (float)x[i];
  } else if (dtype_is_float(t->dtype)) {
    for (int64_t i = 0; i < n; i++) x[i] = eval_narrow(t->dtype, x[i]);
  }
}

typedef struct Run {
  const Graph *g;
  EvalMode mode;
  const Feed *feed;
  int n_feed;
  bool *need; /* by id: has to be computed */
  bool *keep; /* is wanted: lives in the caller's arena */
  int *last;  /* the last node that reads it */
  double **value;
} Run;

static bool is_fed(Op op) { return op == OP_param || op == OP_state || op == OP_input; }

static const Feed *find_feed(const Run *r, const Node *n) {
  for (int i = 0; i < r->n_feed; i++)
    if (r->feed[i].op == n->op && strcmp(r->feed[i].name, n->name) == 0) return &r->feed[i];
  return NULL;
}

/* In f32 mode the graph below a fold is computed apart, in f64: it may share nodes with what is
 * computed in f32. */
static bool computed_apart(const Run *r, const Node *n) {
  return n->op == OP_fold && r->mode == EVAL_f32;
}

static void mark(Run *r, Node *const *want, int n_want) {
  int highest = -1;
  for (int i = 0; i < n_want; i++) {
    r->need[want[i]->id] = r->keep[want[i]->id] = true;
    if (want[i]->id > highest) highest = want[i]->id;
  }
  for (int i = highest; i >= 0; i--) {
    const Node *n = r->g->node[i];
    if (!r->need[i] || computed_apart(r, n)) continue;
    for (int s = 0; s < n->n_src; s++) {
      int id = n->src[s]->id;
      if (!r->need[id]) r->last[id] = i;
      r->need[id] = true;
    }
  }
}

static bool eval_apart(const Run *r, const Node *fold, double *out, int64_t count, Buf *why) {
  Arena *arena = arena_new();
  Tensor t;
  bool ok = ir_eval(arena, r->g, EVAL_f64, r->feed, r->n_feed, &fold->src[0], 1, &t, why);
  if (ok) memcpy(out, t.data, sizeof *out * (size_t)count);
  arena_free(arena);
  return ok;
}

static bool eval_node(Run *r, Arena *arena, const Node *n, Buf *why) {
  EvalStep s = {.graph = r->g, .n = n, .mode = r->mode, .count = type_count(&n->type)};
  size_t bytes = sizeof *s.out * (size_t)s.count;
  if (is_fed(n->op)) {
    const Feed *f = find_feed(r, n);
    if (!f) {
      buf_printf(why, "%sno value for %s \"%s\"", why->len ? ", " : "", ir_op[n->op].name, n->name);
      return false;
    }
    s.feed = f->data;
  }
  s.out = r->value[n->id] = r->keep[n->id] ? arena_alloc(arena, bytes) : xmalloc(bytes);
  if (computed_apart(r, n)) {
    if (!eval_apart(r, n, s.out, s.count, why)) return false;
  } else {
    for (int i = 0; i < n->n_src; i++) s.src[i] = r->value[n->src[i]->id];
    compute[n->op](&s);
    for (int i = 0; i < n->n_src; i++) {
      int id = n->src[i]->id;
      if (r->last[id] != n->id || r->keep[id]) continue;
      free(r->value[id]);
      r->value[id] = NULL;
    }
  }
  if (r->mode == EVAL_f32) round_result(&n->type, s.out, s.count);
  return true;
}

bool ir_eval(Arena *arena, const Graph *g, EvalMode mode, const Feed *feed, int n_feed,
             Node *const *want, int n_want, Tensor *result, Buf *why) {
  size_t n = (size_t)g->n_node + 1;
  Run r = {g,
           mode,
           feed,
           n_feed,
           xcalloc(n, 1),
           xcalloc(n, 1),
           xcalloc(n, sizeof(int)),
           xcalloc(n, sizeof(double *))};
  mark(&r, want, n_want);
  /* every missing value is named, so the loop goes on past the first; nothing is computed from then
   * on */
  bool ok = true;
  for (int i = 0; i < g->n_node; i++)
    if (r.need[i] && (ok || is_fed(g->node[i]->op)))
      ok = eval_node(&r, arena, g->node[i], why) && ok;
  for (int i = 0; i < n_want; i++) result[i] = (Tensor){want[i]->type, r.value[want[i]->id]};
  for (int i = 0; i < g->n_node; i++)
    if (!r.keep[i]) free(r.value[i]);
  free(r.need);
  free(r.keep);
  free(r.last);
  free(r.value);
  return ok;
}
