/* assemble: concats that need no kernel, since their sources can be computed where they belong. Needs
 * the graph; what it chooses is stored. A source lies in one piece where all dimensions before the
 * axis are 1; it must begin where tensors may begin, be computed by a kernel, and belong nowhere
 * else. */
#include "passes/plan_internal.h"

static bool is_output(const Graph *g, const Node *home, bool updates_alone) {
  for (int i = 0; i < g->n_output; i++)
    if ((!updates_alone || g->output[i].kind == OUT_update) && plan_home(g->output[i].node) == home)
      return true;
  return false;
}

static bool can_assemble(const Planner *p, const Node *n) {
  for (int i = 0; i < n->ints[0]; i++)
    if (n->type.dim[i] != 1) return false;
  if (is_output(p->g, n, true)) return false;
  for (int s = 0; s < n->n_src; s++) {
    Node *home = plan_home(n->src[s]);
    if (plan_given(home) || plan_free(home) || (ir_op[home->op].flags & IR_VIEW)) return false;
    if (plan_bytes(home) % PLAN_ALIGN || p->part_of[home->id] || is_output(p->g, home, false))
      return false;
    for (int t = 0; t < s; t++)
      if (plan_home(n->src[t]) == home) return false;
  }
  return true;
}

static void assemble(Planner *p, const Node *n) {
  uint64_t at = 0;
  p->assembles[n->id] = true;
  for (int s = 0; s < n->n_src; s++) {
    const Node *home = plan_home(n->src[s]);
    p->part_of[home->id] = p->g->node[n->id];
    p->part_at[home->id] = at;
    at += plan_bytes(home);
  }
}

static void clear(Planner *p) {
  size_t n_node = (size_t)p->g->n_node + 1;
  p->assembles = arena_alloc(p->arena, n_node);
  p->part_of = arena_alloc(p->arena, sizeof *p->part_of * n_node);
  p->part_at = arena_alloc(p->arena, sizeof *p->part_at * n_node);
}

void plan_assemble(Planner *p) {
  clear(p);
  for (int i = 0; i < p->g->n_node; i++)
    if (p->g->node[i]->op == OP_concat && p->needed[i] && can_assemble(p, p->g->node[i]))
      assemble(p, p->g->node[i]);
}

void plan_assemble_as(Planner *p, Node *const *chosen, int n) {
  clear(p);
  for (int i = 0; i < n; i++) assemble(p, chosen[i]);
}
