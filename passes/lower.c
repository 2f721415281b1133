/* lower: raised operations become their definitions (ir/define.c), attention aside, which has
 * kernels of its own.
 *
 * needs: nothing.  gives: a graph without raised operations; the same pointer where there was none.
 * breaks: the form that simplify gives. */
#include "passes/passes.h"

#include <stdlib.h>

static Node *define(Graph *g, const Node *n, Node *const *src) {
  g->region = n->region;
  g->loc = n->loc;
  Node *value = ir_define(g, n, src);
  if (!value->label && !(ir_op[value->op].flags & IR_LEAF)) value->label = n->label;
  g->region = 0;
  g->loc = (SrcLoc){0};
  return value;
}

Graph *pass_lower(Graph *g, const PassOptions *o) {
  (void)o;
  bool any = false;
  for (int i = 0; i < g->n_node; i++) any = any || ir_op[g->node[i]->op].flags & IR_RAISED;
  if (!any) return g;
  Graph *to = graph_new(g->name);
  Node **map = xcalloc((size_t)g->n_node, sizeof *map);
  for (int i = 0; i < g->n_node; i++) {
    Node *n = g->node[i], *src[IR_MAX_SRC];
    for (int k = 0; k < n->n_src; k++) src[k] = map[n->src[k]->id];
    map[i] = ir_op[n->op].flags & IR_RAISED ? define(to, n, src) : ir_rebuild(to, n, src);
  }
  for (int i = 0; i < g->n_output; i++)
    ir_output(to, g->output[i].kind, g->output[i].name, map[g->output[i].node->id]);
  free(map);
  return to;
}
