/* assemble: concats that need no kernel, since their sources can be computed where they belong. Needs
 * the graph; what it chooses is stored. A source is computed by a kernel, begins where tensors or
 * their runs may begin, and belongs nowhere else.
 *
 *   all dimensions before the axis are 1     the sources lie one after the other, each in one piece
 *   others                                   a run of each source in turn:   │ a0 b0 c0 │ a1 b1 c1 │ …
 *
 * Runs are for what would be stored anyway: the concat is read by a product or attention, and each
 * source is the result of such, which nothing else reads, perhaps behind elementwise work and
 * permutations that its kernel does as well (the gradients of queries, keys and values as the
 * gradient of the one product they came from). */
#include "passes/plan_internal.h"

#include <stdlib.h>

typedef struct Assembler {
  Planner *p;
  int *users;      /* by id: needed nodes that have it as a source, outputs */
  bool *in_memory; /* by id: a product or the like reads it, perhaps through views */
  bool
    *result; /* by id: of a kernel with its own loop, or what such a kernel can compute from it */
} Assembler;

static bool is_output(const Graph *g, const Node *home, bool updates_alone) {
  for (int i = 0; i < g->n_output; i++)
    if ((!updates_alone || g->output[i].kind == OUT_update) && plan_home(g->output[i].node) == home)
      return true;
  return false;
}

static bool in_one_piece(const Node *n) {
  for (int i = 0; i < n->ints[0]; i++)
    if (n->type.dim[i] != 1) return false;
  return true;
}

/* The place of source `s` in the concat, whose start is 0. */
static PlanPlace part_of(const Planner *p, const Node *n, int s, uint64_t at) {
  PlanPlace part = {.bytes = plan_bytes(p, n->src[s]), .offset = at};
  if (in_one_piece(n)) return part;
  uint64_t pieces = 1;
  for (int i = 0; i < n->ints[0]; i++) pieces *= (uint64_t)n->type.dim[i];
  part.run = part.bytes / pieces;
  part.pitch = plan_bytes(p, n) / pieces;
  return part;
}

static bool aligned(const PlanPlace *p) {
  return p->run ? p->offset % PLAN_ALIGN_RUNS == 0 && p->run % PLAN_ALIGN_RUNS == 0 &&
                    p->pitch % PLAN_ALIGN_RUNS == 0
                : p->bytes % PLAN_ALIGN == 0;
}

static bool has_kernel(const Node *home) {
  return !plan_given(home) && !plan_free(home) && !(ir_op[home->op].flags & IR_VIEW);
}

/* Nothing but the concat reads the source's bytes. */
static bool read_once(const Assembler *a, const Node *n) {
  for (; a->users[n->id] == 1; n = n->src[0])
    if (n->op != OP_reshape) return true;
  return false;
}

static bool can_assemble(const Assembler *a, const Node *n) {
  const Planner *p = a->p;
  bool pieces = !in_one_piece(n);
  uint64_t at = 0;
  if (is_output(p->g, n, true) || (pieces && !a->in_memory[n->id])) return false;
  for (int s = 0; s < n->n_src; s++) {
    const Node *home = plan_home(n->src[s]);
    PlanPlace part = part_of(p, n, s, at);
    if (pieces ? !a->result[home->id] || !read_once(a, n->src[s]) : !has_kernel(home)) return false;
    if (!aligned(&part) || p->part_of[home->id] || is_output(p->g, home, false)) return false;
    for (int t = 0; t < s; t++)
      if (plan_home(n->src[t]) == home) return false;
    at += pieces ? part.run : part.bytes;
  }
  return true;
}

static void assemble(Planner *p, const Node *n) {
  uint64_t at = 0;
  p->assembles[n->id] = true;
  for (int s = 0; s < n->n_src; s++) {
    const Node *home = plan_home(n->src[s]);
    PlanPlace *part = &p->part[home->id];
    p->part_of[home->id] = p->g->node[n->id];
    *part = part_of(p, n, s, at);
    at += part->run ? part->run : part->bytes;
  }
}

static void clear(Planner *p) {
  size_t n_node = (size_t)p->g->n_node + 1;
  p->assembles = arena_alloc(p->arena, n_node);
  p->part_of = arena_alloc(p->arena, sizeof *p->part_of * n_node);
  p->part = arena_alloc(p->arena, sizeof *p->part * n_node);
}

static bool is_result(const Assembler *a, const Node *n) {
  if (n->op == OP_matmul || n->op == OP_scatter_add || plan_is_attention(n->op)) return true;
  bool follows = n->op == OP_permute || n->op == OP_reshape || (ir_op[n->op].flags & IR_EW);
  for (int s = 0; s < n->n_src && follows; s++)
    if (a->result[n->src[s]->id]) return true;
  return false;
}

static bool keeps_values(const Node *n) {
  return (ir_op[n->op].flags & IR_VIEW) || (n->op == OP_cast && n->type.dtype == DT_f32);
}

static void look_around(Assembler *a) {
  const Graph *g = a->p->g;
  for (int i = 0; i < g->n_output; i++) a->users[g->output[i].node->id]++;
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    a->result[i] = is_result(a, n);
    for (int s = 0; s < n->n_src && a->p->needed[i]; s++) {
      const Node *x = n->src[s];
      a->users[x->id]++;
      if (plan_source(n, s) == SOURCE_any) continue;
      while (keeps_values(x)) x = x->src[0];
      a->in_memory[x->id] = true;
    }
  }
}

void plan_assemble(Planner *p) {
  clear(p);
  Assembler a = {.p = p};
  a.users = xcalloc((size_t)p->g->n_node + 1, sizeof *a.users);
  a.in_memory = xcalloc((size_t)p->g->n_node + 1, sizeof *a.in_memory);
  a.result = xcalloc((size_t)p->g->n_node + 1, sizeof *a.result);
  look_around(&a);
  for (int i = 0; i < p->g->n_node; i++)
    if (p->g->node[i]->op == OP_concat && p->needed[i] && can_assemble(&a, p->g->node[i]))
      assemble(p, p->g->node[i]);
  free(a.users);
  free(a.in_memory);
  free(a.result);
}

void plan_assemble_as(Planner *p, Node *const *chosen, int n) {
  clear(p);
  for (int i = 0; i < n; i++) assemble(p, chosen[i]);
}
