/* A graph for Graphviz (--emit=dot). Constants are drawn at each use, so that they do not tie
 * everything together. */
#include "driver/driver.h"

static void print_node(Buf *b, const Node *n) {
  buf_printf(b, "  n%d [label=\"%%%d %s", n->id, n->id, ir_op[n->op].name);
  if (n->name) buf_printf(b, "\\n%s", n->name);
  if (n->label) buf_printf(b, "\\n%s", n->label);
  buf_str(b, "\\n");
  type_print(b, &n->type);
  buf_printf(b, "\"%s];\n",
             ir_op[n->op].flags & IR_LEAF ? ", style=filled, fillcolor=lightgrey" : "");
}

static void print_edge(Buf *b, const Node *from, const Node *to, int place) {
  if (from->op != OP_const) {
    buf_printf(b, "  n%d -> n%d;\n", from->id, to->id);
    return;
  }
  buf_printf(b, "  c%d_%d [label=\"%.9g\", shape=plaintext];\n  c%d_%d -> n%d;\n", to->id, place,
             from->value, to->id, place, to->id);
}

void dot_print(Buf *b, const Graph *g) {
  buf_printf(b, "digraph \"%s\" {\n  node [shape=box, fontname=monospace, fontsize=10];\n",
             g->name);
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    if (n->op == OP_const) continue;
    print_node(b, n);
    for (int s = 0; s < n->n_src; s++) print_edge(b, n->src[s], n, s);
  }
  for (int i = 0; i < g->n_output; i++) {
    const Output *o = &g->output[i];
    if (o->node->op == OP_const) print_node(b, o->node);
    buf_printf(b, "  o%d [label=\"%s\", shape=ellipse%s];\n  n%d -> o%d;\n", i, o->name,
               o->kind == OUT_update ? ", style=dashed" : "", o->node->id, i);
  }
  buf_str(b, "}\n");
}
