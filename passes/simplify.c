/* simplify: rewrites by the rules of rules.def, makes tables, drops dead nodes.
 *
 * needs: a verified graph.  gives: an equal graph; the same pointer where nothing changed.
 * breaks: nothing. Under --strict only exact rules are used.
 *
 * Works upwards: the new graph is built node by node from simple sources, and what a rule makes is
 * simplified as it is made. A rule sees one region only, so nothing kept is mixed with what is
 * recomputed. The rules: simplify_rules.c; functions of rules: simplify_const.c, simplify_view.c,
 * simplify_shape.c. */
#include "passes/passes.h"
#include "passes/simplify.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_ROUNDS = 32 }; /* over the graph, until nothing changes */

typedef struct Simplify {
  Graph *to;
  bool strict;
  const Rule *rule;
  int *hits; /* by rule */
  Tables tables;
} Simplify;

static Node *simplify_node(Simplify *, Node *);

static Node *make_simple(void *s, Op op, const Type *given, int n_src, Node *const *src) {
  return simplify_node(s, ir_make(((Simplify *)s)->to, op, given, NULL, n_src, src));
}

/* The first rule that has something better; what a function gives may be improved further. */
static Node *apply_rules(Simplify *s, Node *n) {
  const TermMaker maker = {.g = s->to, .make = make_simple, .context = s};
  for (const int16_t *i = simplify_rules_of(n->op); *i >= 0; i++) {
    const Rule *r = &s->rule[*i];
    if (!simplify_allows(r->kind, s->strict, n)) continue;
    Node *better = simplify_by(r, &maker, n);
    if (!better) continue;
    s->hits[*i]++;
    return r->rewrite ? simplify_node(s, better) : better;
  }
  return NULL;
}

static Node *simplify_node(Simplify *s, Node *n) {
  Graph *g = s->to;
  int region = g->region;
  if (!(ir_op[n->op].flags & IR_LEAF)) g->region = n->region;
  Node *better = apply_rules(s, n);
  if (!better) better = simplify_table(&s->tables, n);
  g->region = region;
  return better ? better : n;
}

static bool same_node(const Node *a, const Node *b) {
  if (a->op != b->op || a->region != b->region || a->n_src != b->n_src || a->n_int != b->n_int ||
      a->name != b->name || memcmp(&a->value, &b->value, sizeof a->value) != 0 ||
      !type_eq(&a->type, &b->type))
    return false;
  for (int i = 0; i < a->n_src; i++)
    if (a->src[i]->id != b->src[i]->id) return false;
  for (int i = 0; i < a->n_int; i++)
    if (a->ints[i] != b->ints[i]) return false;
  return true;
}

static bool same_graph(const Graph *a, const Graph *b) {
  if (a->n_node != b->n_node) return false;
  for (int i = 0; i < a->n_node; i++)
    if (!same_node(a->node[i], b->node[i])) return false;
  for (int i = 0; i < a->n_output; i++)
    if (a->output[i].node->id != b->output[i].node->id) return false;
  return true;
}

static Graph *simplify_once(const Graph *g, bool strict, const Rule *rule, int *hits) {
  Simplify s = {.to = graph_new(g->name), .strict = strict, .rule = rule, .hits = hits};
  s.tables.g = s.to;
  Node **map = xcalloc((size_t)g->n_node + 1, sizeof *map);
  for (int i = 0; i < g->n_node; i++) {
    Node *old = g->node[i], *src[IR_MAX_SRC];
    for (int k = 0; k < old->n_src; k++) src[k] = map[old->src[k]->id];
    s.to->loc = old->loc;
    map[i] = simplify_node(&s, ir_rebuild(s.to, old, src));
    if (!map[i]->label && old->label && !(ir_op[map[i]->op].flags & IR_LEAF))
      map[i]->label = old->label;
  }
  for (int i = 0; i < g->n_output; i++)
    ir_output(s.to, g->output[i].kind, g->output[i].name, map[g->output[i].node->id]);
  Graph *live = graph_copy(s.to);
  free(map);
  free(s.tables.fact);
  graph_free(s.to);
  return live;
}

Graph *pass_simplify(Graph *g, const PassOptions *o) {
  const Rule *rule;
  int n = simplify_rules(&rule), *hits = xcalloc((size_t)n, sizeof *hits);
  Graph *now = g;
  for (int round = 0; round < MAX_ROUNDS; round++) {
    Graph *next = simplify_once(now, o->strict, rule, hits);
    if (same_graph(now, next)) {
      graph_free(next);
      break;
    }
    if (now != g) graph_free(now);
    now = next;
  }
  for (int i = 0; i < n; i++) pass_hit(o, rule[i].name, hits[i]);
  free(hits);
  return now;
}
