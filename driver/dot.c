/* A graph for Graphviz (--emit=dot): a box around the nodes of each module of the model, inside its
 * parents'. Constants are drawn at each use, so that they do not tie everything together. */
#include "driver/driver.h"

#include <stdlib.h>
#include <string.h>

/* The module's path; a parameter belongs to the module that its name says. */
static const char *module_of(Arena *a, const Node *n) {
  if (n->op != OP_param) return n->loc.module ? n->loc.module : "";
  const char *dot = strrchr(n->name, '.');
  return dot ? arena_str(a, n->name, (size_t)(dot - n->name)) : "";
}

typedef struct Placed {
  const Node *node;
  const char *module;
} Placed;

/* By module, parents before what is inside them; nodes of one module in order. */
static int by_module(const void *a, const void *b) {
  const Placed *x = a, *y = b;
  const unsigned char *s = (const unsigned char *)x->module, *t = (const unsigned char *)y->module;
  while (*s && *s == *t) s++, t++;
  if (*s == *t) return (x->node->id > y->node->id) - (x->node->id < y->node->id);
  int left = !*s ? -1 : *s == '.' ? 0 : *s, right = !*t ? -1 : *t == '.' ? 0 : *t;
  return left - right;
}

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

/* Closes the boxes that do not hold `to` and opens those that do, one for each part of its path. */
static void change_module(Buf *b, const char *from, const char *to) {
  size_t common = 0; /* characters of the parts that both begin with */
  for (size_t i = 0;; i++) {
    bool end = !from[i] || from[i] == '.', other = !to[i] || to[i] == '.';
    if (end && other) common = i;
    if (from[i] != to[i] || !from[i]) break;
  }
  const char *s = from + common;
  while (*s) {
    s += *s == '.';
    s += strcspn(s, ".");
    buf_str(b, "  }\n");
  }
  for (s = to + common; *s;) {
    s += *s == '.';
    size_t n = strcspn(s, ".");
    s += n;
    int length = (int)(s - to);
    buf_printf(b, "  subgraph \"cluster_%.*s\" { label=\"%.*s\"; color=grey;\n", length, to, length,
               to);
  }
}

static void print_nodes(Buf *b, const Graph *g) {
  Arena *arena = arena_new();
  Placed *list = arena_alloc(arena, sizeof *list * ((size_t)g->n_node + 1));
  int n = 0;
  for (int i = 0; i < g->n_node; i++)
    if (g->node[i]->op != OP_const) list[n++] = (Placed){g->node[i], module_of(arena, g->node[i])};
  if (n) qsort(list, (size_t)n, sizeof *list, by_module);
  const char *module = "";
  for (int i = 0; i < n; i++) {
    change_module(b, module, list[i].module);
    module = list[i].module;
    print_node(b, list[i].node);
  }
  change_module(b, module, "");
  arena_free(arena);
}

void dot_print(Buf *b, const Graph *g) {
  buf_printf(b, "digraph \"%s\" {\n  node [shape=box, fontname=monospace, fontsize=10];\n",
             g->name);
  print_nodes(b, g);
  for (int i = 0; i < g->n_node; i++)
    for (int s = 0; s < g->node[i]->n_src; s++) print_edge(b, g->node[i]->src[s], g->node[i], s);
  for (int i = 0; i < g->n_output; i++) {
    const Output *o = &g->output[i];
    if (o->node->op == OP_const) print_node(b, o->node);
    buf_printf(b, "  o%d [label=\"%s\", shape=ellipse%s];\n  n%d -> o%d;\n", i, o->name,
               o->kind == OUT_update ? ", style=dashed" : "", o->node->id, i);
  }
  buf_str(b, "}\n");
}
