/* plan: graph → kernels in order, with their memory. fuse → limit → schedule → memory →
 * barriers. */
#include "passes/plan_internal.h"

#include <stdlib.h>
#include <string.h>

enum { WIDE = 8 }; /* sources of one concat: a kernel reads a bounded number of tensors */

Node *plan_leaf(const Graph *g, const char *name) {
  for (int i = 0; i < g->n_node; i++)
    if ((g->node[i]->op == OP_param || g->node[i]->op == OP_state) && g->node[i]->name == name)
      return g->node[i];
  return NULL;
}

static Node *narrow_concat(Graph *to, const Node *n, int n_src, Node *const *src) {
  Node *part[IR_MAX_SRC];
  while (n_src > WIDE) {
    int n_part = 0;
    for (int i = 0; i < n_src; i += WIDE) {
      int m = n_src - i < WIDE ? n_src - i : WIDE;
      part[n_part++] = m == 1 ? src[i]
                              : ir_make(to, OP_concat, NULL,
                                        &(Attr){.n_int = 1, .ints = {n->ints[0]}}, m, src + i);
    }
    n_src = n_part;
    src = part;
  }
  return ir_rebuild(to,
                    &(Node){.op = n->op,
                            .type = n->type,
                            .n_src = n_src,
                            .n_int = n->n_int,
                            .ints = n->ints,
                            .region = n->region,
                            .label = n->label,
                            .loc = n->loc},
                    src);
}

/* A copy of the graph in which no concat has more than WIDE sources. Inputs stay, though nothing
 * may need them. */
static Graph *narrow(const Graph *g) {
  Graph *to = graph_new(g->name);
  Node **map = xcalloc((size_t)g->n_node + 1, sizeof *map);
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    Node *src[IR_MAX_SRC];
    for (int s = 0; s < n->n_src; s++) src[s] = map[n->src[s]->id];
    to->region = n->region;
    to->loc = n->loc;
    map[i] = n->op == OP_concat && n->n_src > WIDE ? narrow_concat(to, n, n->n_src, src)
                                                   : ir_rebuild(to, n, src);
  }
  for (int i = 0; i < g->n_output; i++)
    ir_output(to, g->output[i].kind, g->output[i].name, map[g->output[i].node->id]);
  free(map);
  return to;
}

static void find_needed(Planner *p) {
  p->needed = arena_alloc(p->arena, (size_t)p->g->n_node + 1);
  for (int i = 0; i < p->g->n_output; i++) p->needed[p->g->output[i].node->id] = true;
  for (int i = p->g->n_node - 1; i >= 0; i--) {
    const Node *n = p->g->node[i];
    if (!p->needed[i] || n->op == OP_fold) continue;
    for (int s = 0; s < n->n_src; s++) p->needed[n->src[s]->id] = true;
  }
}

/* Stored nodes that an output reaches through what is inlined. */
static void find_kernels(Planner *p) {
  int n = p->g->n_node;
  bool *used = arena_alloc(p->arena, (size_t)n + 1);
  p->kernel_of = arena_alloc(p->arena, sizeof *p->kernel_of * ((size_t)n + 1));
  for (int i = 0; i < p->g->n_output; i++) used[plan_home(p->g->output[i].node)->id] = true;
  for (int i = n - 1; i >= 0; i--) {
    p->kernel_of[i] = -1;
    if (!used[i] || plan_given(p->g->node[i])) continue;
    for (int s = 0; s < p->g->node[i]->n_src; s++) used[p->g->node[i]->src[s]->id] = true;
  }
  for (int i = 0; i < n; i++) {
    if (!used[i] || !p->stored[i] || plan_given(p->g->node[i])) continue;
    KernelJob job = {.out = &p->g->node[i], .n_out = 1, .stored = p->stored};
    Node *operand[CG_MAX_SLOTS];
    Kernel k = {.root = job.out[0], .n_operand = cg_operands(&job, operand, CG_MAX_SLOTS)};
    if (k.n_operand > CG_MAX_SLOTS - 2)
      die("plan: kernel of %%%d reads %d tensors", i, k.n_operand);
    k.operand = arena_copy(p->arena, operand, sizeof *operand * (size_t)k.n_operand);
    p->kernel_of[i] = p->n_kernel;
    ARENA_PUSH(p->arena, p->kernel, p->n_kernel, k);
  }
}

int plan_step_reads(const Plan *plan, const PlanStep *s, PlanPlace *out) {
  if (s->job.copy) return out[0] = s->source, 1;
  Node *operand[CG_MAX_SLOTS];
  int n = cg_operands(&s->job, operand, CG_MAX_SLOTS);
  for (int i = 0; i < n; i++) out[i] = plan->place[operand[i]->id];
  return n;
}

Plan *plan_graph(Layout *layout, const Graph *g, const Target *target, Buf *why) {
  Planner p = {.arena = layout->arena, .g = narrow(g), .target = target, .layout = layout};
  size_t n = (size_t)p.g->n_node + 1;
  Plan *plan = arena_alloc(p.arena, sizeof *plan);
  plan->graph = p.g;
  plan->stored = p.stored = arena_alloc(p.arena, n);
  plan->place = arena_alloc(p.arena, sizeof *plan->place * n);
  plan->output = arena_alloc(p.arena, sizeof *plan->output * ((size_t)p.g->n_output + 1));
  find_needed(&p);
  plan_fuse(&p);
  plan_limit(&p);
  find_kernels(&p);
  plan_schedule(&p);
  if (!plan_memory(&p, plan, why)) {
    graph_free(p.g);
    return NULL;
  }
  plan_barriers(plan);
  return plan;
}
