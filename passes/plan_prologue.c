/* prologue: which values a product's kernel might compute as it loads its operand, instead of reading them from memory: those that
 * are elementwise functions of others (or such padded), and that nothing but products reads, through views and widenings. Whether
 * that is worth it, fuse reckons. */
#include "passes/plan_internal.h"

Node *plan_operand(Node *n) {
  while (cg_reads_through(n)) n = n->src[0];
  return n;
}

static bool is_function(const Node *n) { return (ir_op[n->op].flags & IR_EW) || n->op == OP_pad; }

void plan_prologues(Planner *p) {
  bool *may = p->computable = arena_alloc(p->arena, (size_t)p->g->n_node + 1);
  for (int i = 0; i < p->g->n_node; i++) {
    const Node *n = p->g->node[i];
    may[i] = p->needed[i] && is_function(n) && !cg_reads_through(n) && !p->assembles[i] &&
             !p->part_of[i] && dtype_is_float((DType)n->type.dtype);
  }
  for (int i = 0; i < p->g->n_output; i++) may[plan_operand(p->g->output[i].node)->id] = false;
  for (int i = 0; i < p->g->n_node; i++) {
    const Node *n = p->g->node[i];
    bool asks = p->needed[i] && n->op != OP_matmul && !cg_reads_through(n);
    for (int s = 0; asks && s < n->n_src; s++) may[plan_operand(n->src[s])->id] = false;
  }
}
