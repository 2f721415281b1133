#include "tests/driver/graphs.h"

void add_updates(Graph *g, uint32_t seed) {
  int n = g->n_node;
  for (int i = 0; i < n; i++) {
    const Node *leaf = g->node[i];
    if (leaf->op != OP_param && leaf->op != OP_state) continue;
    int choices = 0;
    for (int j = 0; j < n; j++) choices += type_eq(&g->node[j]->type, &leaf->type);
    seed = seed * 1664525 + 1013904223;
    int pick = (int)((seed >> 8) % (uint32_t)choices);
    for (int j = 0; j < n; j++)
      if (type_eq(&g->node[j]->type, &leaf->type) && pick-- == 0)
        ir_output(g, OUT_update, leaf->name, g->node[j]);
  }
}
