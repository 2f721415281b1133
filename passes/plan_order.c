/* order: the same graph with its nodes in an order that depends on their kind before it depends on
 * who asked first. Sources of commuting operations stand in the order of their ids, so that equal
 * expressions over different tensors would else differ: the first parameter's update is where a
 * learning rate is first spread, another's finds it there. Needs nothing, keeps everything.
 *
 * Ready nodes come in this order: leaves; constants; single elements and what spreads them; the
 * rest; each by its old id. */
#include "passes/plan.h"

#include <stdlib.h>

enum { CLASSES = 4 };

static int class_of(const Node *n) {
  if (n->op == OP_const) return 1;
  if (ir_op[n->op].flags & IR_LEAF) return 0;
  bool spread = (n->op == OP_reshape || n->op == OP_expand) && type_count(&n->src[0]->type) == 1;
  return type_count(&n->type) == 1 || spread ? 2 : 3;
}

typedef struct Ready { /* a heap of ids, the least on top */
  int *id, n;
} Ready;

static void push(Ready *r, int id) {
  int i = r->n++;
  for (; i && r->id[(i - 1) / 2] > id; i = (i - 1) / 2) r->id[i] = r->id[(i - 1) / 2];
  r->id[i] = id;
}

static int pop(Ready *r) {
  int top = r->id[0], last = r->id[--r->n], i = 0;
  for (int child; (child = 2 * i + 1) < r->n; i = child) {
    if (child + 1 < r->n && r->id[child + 1] < r->id[child]) child++;
    if (r->id[child] >= last) break;
    r->id[i] = r->id[child];
  }
  r->id[i] = last;
  return top;
}

/* Who reads whom: the users of node i are user[first[i]] … user[first[i + 1] − 1]. */
typedef struct Users {
  int *first, *user;
} Users;

static Users find_users(Arena *a, const Graph *g) {
  Users u = {.first = arena_alloc(a, sizeof *u.first * ((size_t)g->n_node + 2))};
  for (int i = 0; i < g->n_node; i++)
    for (int s = 0; s < g->node[i]->n_src; s++) u.first[g->node[i]->src[s]->id + 2]++;
  for (int i = 0; i < g->n_node; i++) u.first[i + 2] += u.first[i + 1];
  u.user = arena_alloc(a, sizeof *u.user * ((size_t)u.first[g->n_node + 1] + 1));
  for (int i = 0; i < g->n_node; i++)
    for (int s = 0; s < g->node[i]->n_src; s++) u.user[u.first[g->node[i]->src[s]->id + 1]++] = i;
  return u;
}

Graph *plan_ordered(const Graph *g) {
  Arena *a = arena_new();
  size_t size = (size_t)g->n_node + 1;
  Graph *to = graph_new(g->name);
  Node **map = arena_alloc(a, sizeof *map * size);
  int *missing = arena_alloc(a, sizeof *missing * size);
  Users users = find_users(a, g);
  Ready ready[CLASSES];
  for (int c = 0; c < CLASSES; c++) ready[c] = (Ready){arena_alloc(a, sizeof(int) * size), 0};
  for (int i = 0; i < g->n_node; i++) {
    missing[i] = g->node[i]->n_src;
    if (!missing[i]) push(&ready[class_of(g->node[i])], i);
  }
  for (int c = 0; c < CLASSES;) {
    if (!ready[c].n) {
      c++;
      continue;
    }
    const Node *n = g->node[pop(&ready[c])];
    Node *src[IR_MAX_SRC];
    for (int s = 0; s < n->n_src; s++) src[s] = map[n->src[s]->id];
    map[n->id] = ir_rebuild(to, n, src);
    for (int u = users.first[n->id]; u < users.first[n->id + 1]; u++)
      if (--missing[users.user[u]] == 0)
        push(&ready[class_of(g->node[users.user[u]])], users.user[u]);
    c = 0;
  }
  for (int i = 0; i < g->n_output; i++)
    ir_output(to, g->output[i].kind, g->output[i].name, map[g->output[i].node->id]);
  arena_free(a);
  return to;
}
