/* raise: recognises softmax, norms, activations … as written from primitives, and makes each one
 * operation with its own gradient rule. What else uses a part of what was recognised keeps it.
 *
 * needs: a simplified graph (forms that simplify removes are not looked for).
 * gives: an equal graph with raised operations, those of raise.def and of raise_*.c; the same
 * pointer where there was nothing to raise.
 * breaks: nothing. lower undoes it. Rounding differs, so under --strict it does nothing.
 *
 * One walk upwards: a node's sources are raised before it, so patterns may build on raised
 * operations. Every node is looked at a bounded number of times. All nodes of a match lie in one
 * region, which the raised operation gets. */
#include "passes/passes.h"
#include "passes/raise.h"

#include <stdlib.h>
#include <string.h>

typedef struct Rule {
  const char *pattern, *result;
  const Term *from, *to;
} Rule;

static const TermForm form[] = {
#define FORM(head, body) {head, body},
#define RAISE(pattern, result)
#include "passes/raise.def"
#undef FORM
#undef RAISE
};

static Rule rule[] = {
#define FORM(head, body)
#define RAISE(pattern, result) {pattern, result, NULL, NULL},
#include "passes/raise.def"
#undef FORM
#undef RAISE
};
static bool may_match[COUNT_OF(rule)][OP_COUNT]; /* by the operation of the root */

static void mark_roots(const Term *t, bool *root) {
  if (t->kind == TERM_op) root[t->op] = true;
  if (t->kind != TERM_any && t->kind != TERM_op) die("raise: a pattern is an operation");
  for (int i = 0; t->kind == TERM_any && i < t->n_src; i++) mark_roots(t->src[i], root);
}

static Arena *arena; /* of patterns: lives to the end */

const Term *raise_pattern(const char *text) {
  if (!arena) arena = arena_new();
  return term_parse_pattern(arena, text, form, COUNT_OF(form));
}

static void parse_rules(void) {
  if (rule[0].from) return;
  for (int i = 0; i < COUNT_OF(rule); i++) {
    rule[i].from = raise_pattern(rule[i].pattern);
    rule[i].to = term_parse(arena, rule[i].result);
    mark_roots(rule[i].from, may_match[i]);
  }
}

static Node *make_plain(void *g, Op op, const Type *given, int n_src, Node *const *src) {
  return ir_make(g, op, given, NULL, n_src, src);
}

/* The operations of a result and its attributes agree with what was matched: eps, and axes that are
 * those of the node's own shape. */
static bool result_attr(const Term *to, const Node *n, const TermMatch *m, Attr *attr) {
  while (!(ir_op[to->op].flags & IR_RAISED)) to = to->src[0];
  int64_t length = 1;
  *attr = (Attr){.n_int = m->n_axis};
  for (int i = 0; i < m->n_axis; i++) {
    attr->ints[i] = m->axis[i];
    length *= n->type.dim[m->axis[i]];
  }
  if (m->var[TV_c]) attr->value = m->var[TV_c]->value;
  if (m->n_axis && m->length != length) return false;
  return m->n_axis == 1 || ir_op[to->op].attr != ATTR_axis;
}

static bool has_type(const Node *x, const Type *t) { return !x || type_eq(&x->type, t); }

static Node *raise_by_rules(Graph *g, Node *n, int *hits) {
  for (int i = 0; i < COUNT_OF(rule); i++) {
    TermMatch m;
    Attr attr;
    if (!may_match[i][n->op] || !term_match_loosely(rule[i].from, n, &m)) continue;
    unsigned used = rule[i].to->vars;
    if (!has_type(m.var[TV_x], &n->type) ||
        ((used >> TV_w & 1) && !has_type(m.var[TV_w], &n->type)))
      continue;
    if (!result_attr(rule[i].to, n, &m, &attr)) continue;
    hits[i]++;
    return term_build(rule[i].to, &(TermMaker){g, make_plain, g, &attr}, m.var, &n->type);
  }
  return NULL;
}

static Node *raise_node(Graph *g, Node *n, int *hits) {
  if (ir_op[n->op].flags & IR_LEAF) return NULL;
  g->region = n->region;
  g->loc = n->loc;
  Node *raised = raise_by_rules(g, n, hits);
  if (!raised) raised = raise_attention(g, n);
  if (!raised) raised = raise_loss(g, n);
  if (!raised) raised = raise_rope(g, n);
  g->region = 0;
  g->loc = (SrcLoc){0};
  return raised;
}

Graph *pass_raise(Graph *g, const PassOptions *o) {
  if (o->strict) return g;
  parse_rules();
  Graph *to = graph_new(g->name);
  Node **map = xcalloc((size_t)g->n_node + 1, sizeof *map);
  int hits[COUNT_OF(rule)] = {0};
  bool changed = false;
  for (int i = 0; i < g->n_node; i++) {
    Node *old = g->node[i], *src[IR_MAX_SRC];
    for (int k = 0; k < old->n_src; k++) src[k] = map[old->src[k]->id];
    Node *n = ir_rebuild(to, old, src), *raised = raise_node(to, n, hits);
    changed = changed || raised;
    map[i] = raised ? raised : n;
    if (raised && !raised->label) raised->label = n->label;
  }
  for (int i = 0; i < g->n_output; i++)
    ir_output(to, g->output[i].kind, g->output[i].name, map[g->output[i].node->id]);
  for (int i = 0; i < COUNT_OF(rule); i++) pass_hit(o, rule[i].pattern, hits[i]);
  Graph *live = changed ? graph_copy(to) : g;
  graph_free(to);
  free(map);
  return live;
}
