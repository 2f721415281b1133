/* Delta debugging on a graph: tries smaller ones in turn and keeps each that still fails, until
 * none does. Every candidate is a verified graph; leaves have values by their names. */
#include <stdlib.h>
#include <string.h>

#include "tests/never_wrong/never_wrong.h"

typedef struct Reducer {
  bool (*fails)(void *context, const Graph *);
  void *context;
  Graph *now;
} Reducer;

/* Takes the candidate where it still fails. */
static bool try_graph(Reducer *r, Graph *candidate) {
  Buf why = {0};
  Graph *live = graph_copy(candidate);
  graph_free(candidate);
  bool smaller = live->n_node > 0 && ir_verify(live, &why) && r->fails(r->context, live);
  buf_free(&why);
  if (!smaller) {
    graph_free(live);
    return false;
  }
  graph_free(r->now);
  r->now = live;
  return true;
}

/* ---- outputs ---- */
static bool drop_output(Reducer *r, int which) {
  Graph *g = graph_copy(r->now);
  memmove(&g->output[which], &g->output[which + 1],
          sizeof *g->output * (size_t)(g->n_output - which - 1));
  g->n_output--;
  return try_graph(r, g);
}

/* Shows an inner node instead of an output, so that what comes after it can go. */
static bool move_output(Reducer *r, int which, int source) {
  Graph *g = graph_copy(r->now);
  Output *o = &g->output[which];
  if (source >= o->node->n_src || o->kind != OUT_value || strcmp(o->name, "loss") == 0) {
    graph_free(g);
    return false;
  }
  o->node = o->node->src[source];
  return try_graph(r, g);
}

/* ---- nodes ---- */
/* A copy in which `id` is replaced by what `with` gives in the new graph; NULL where it gives
 * nothing. */
static Graph *replaced(const Graph *g, int id,
                       Node *(*with)(Graph *, const Node *, Node **src, int), int choice) {
  Graph *to = graph_new(g->name);
  Node **map = xcalloc((size_t)g->n_node + 1, sizeof *map);
  bool ok = true;
  for (int i = 0; i < g->n_node && ok; i++) {
    Node *src[IR_MAX_SRC], *n = g->node[i];
    for (int k = 0; k < n->n_src; k++) src[k] = map[n->src[k]->id];
    map[i] = i == id ? with(to, n, src, choice) : ir_rebuild(to, n, src);
    ok = map[i] != NULL;
  }
  for (int i = 0; i < g->n_output && ok; i++)
    ir_output(to, g->output[i].kind, g->output[i].name, map[g->output[i].node->id]);
  free(map);
  if (ok) return to;
  graph_free(to);
  return NULL;
}

static Node *by_source(Graph *g, const Node *n, Node **src, int choice) {
  (void)g;
  return choice < n->n_src && type_eq(&src[choice]->type, &n->type) ? src[choice] : NULL;
}

static Node *by_leaf(Graph *g, const Node *n, Node **src, int choice) {
  char name[32];
  (void)src;
  if (choice < 2) return n->op == OP_const ? NULL : ir_const(g, choice, &n->type);
  if (ir_op[n->op].flags & IR_LEAF) return NULL;
  snprintf(name, sizeof name, "%c_%d", choice == 2 ? 'u' : 'p', 1000 + n->id);
  return ir_leaf(g, OP_input, intern(name), &n->type);
}

static bool shrink_node(Reducer *r, int id) {
  const Node *n = r->now->node[id];
  for (int i = 0; i < n->n_src; i++) {
    Graph *g = replaced(r->now, id, by_source, i);
    if (g && try_graph(r, g)) return true;
  }
  for (int i = 0; i < 4; i++) {
    Graph *g = replaced(r->now, id, by_leaf, i);
    if (g && try_graph(r, g)) return true;
  }
  return false;
}

/* ---- lengths ---- */
static int64_t mapped(int64_t length, int64_t from, int64_t to) {
  return length == from ? to : length;
}

/* Every dimension of length `from` becomes `to`, as far as types are given and slices end; NULL
 * where that is no graph. */
static Graph *shortened(const Graph *g, int64_t from, int64_t to_length) {
  Graph *to = graph_new(g->name);
  Node **map = xcalloc((size_t)g->n_node + 1, sizeof *map);
  Buf why = {0};
  bool ok = true;
  for (int i = 0; i < g->n_node && ok; i++) {
    Node *src[IR_MAX_SRC], *n = g->node[i];
    Type given = n->type, type;
    Attr attr = {.value = n->value, .name = n->name, .n_int = n->n_int};
    for (int k = 0; k < n->n_src; k++) src[k] = map[n->src[k]->id];
    if (n->n_int) memcpy(attr.ints, n->ints, sizeof *n->ints * (size_t)n->n_int);
    for (int k = 0; k < given.rank; k++) given.dim[k] = mapped(given.dim[k], from, to_length);
    for (int k = 0; n->op == OP_slice && k < given.rank; k++) {
      int64_t *end = &attr.ints[given.rank + k];
      if (*end > src[0]->type.dim[k]) *end = src[0]->type.dim[k];
    }
    const Type *told = ir_op[n->op].given ? &given : NULL;
    to->region = n->region;
    ok = ir_infer(n->op, told, &attr, n->n_src, src, &type, &why);
    if (ok) map[i] = ir_make(to, n->op, told, &attr, n->n_src, src);
  }
  for (int i = 0; i < g->n_output && ok; i++)
    ir_output(to, g->output[i].kind, g->output[i].name, map[g->output[i].node->id]);
  free(map);
  buf_free(&why);
  if (ok) return to;
  graph_free(to);
  return NULL;
}

static int64_t longest_below(const Graph *g, int64_t limit) {
  int64_t longest = 1;
  for (int i = 0; i < g->n_node; i++)
    for (int k = 0; k < g->node[i]->type.rank; k++) {
      int64_t length = g->node[i]->type.dim[k];
      if (length > longest && length < limit) longest = length;
    }
  return longest;
}

static bool shrink_lengths(Reducer *r) {
  bool any = false;
  for (int64_t length = INT64_MAX; (length = longest_below(r->now, length)) > 1;) {
    const int64_t shorter[] = {1, 2, length / 2, length - 1};
    for (int i = 0; i < COUNT_OF(shorter); i++) {
      if (shorter[i] < 1 || shorter[i] >= length) continue;
      Graph *g = shortened(r->now, length, shorter[i]);
      if (g && try_graph(r, g)) {
        any = true;
        break;
      }
    }
  }
  return any;
}

/* ---- all ---- */
static bool shrink(Reducer *r) {
  bool any = false;
  for (int i = r->now->n_output - 1; i >= 0; i--)
    if (r->now->n_output > 1 && i < r->now->n_output) any = drop_output(r, i) || any;
  for (int i = 0; i < r->now->n_output; i++)
    for (int s = 0; s < 3; s++) any = move_output(r, i, s) || any;
  for (int id = r->now->n_node - 1; id >= 0; id--)
    if (id < r->now->n_node) any = shrink_node(r, id) || any;
  return shrink_lengths(r) || any;
}

Graph *reduce_case(const Graph *g, bool (*fails)(void *context, const Graph *), void *context) {
  Reducer r = {.fails = fails, .context = context, .now = graph_copy(g)};
  for (int round = 0; round < 8 && shrink(&r); round++) {}
  return r.now;
}
