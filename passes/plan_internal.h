/* What the planner's steps pass to each other. */
#ifndef PASSES_PLAN_INTERNAL_H
#define PASSES_PLAN_INTERNAL_H

#include "passes/plan.h"

typedef struct Kernel {
  Node *root;
  Node **operand; /* the stored nodes that it reads */
  int n_operand;
} Kernel;

typedef struct Planner {
  Arena *arena;
  Graph *g;
  const Target *target;
  Layout *layout;
  bool *needed; /* by id: an output depends on it, and not only through a fold */
  bool *stored; /* by id */
  Kernel *kernel;
  int n_kernel;
  int *kernel_of; /* by id: the kernel with that root, −1 where there is none */
  int *order;     /* kernels as they run */
} Planner;

/* In memory before the program runs. */
static inline bool plan_given(const Node *n) {
  return n->op == OP_param || n->op == OP_state || n->op == OP_input || n->op == OP_fold;
}
/* Costs nothing to compute anywhere. */
static inline bool plan_free(const Node *n) {
  return n->op == OP_const || n->op == OP_iota || n->op == OP_position;
}
/* Its first so many sources are read as strided views of stored nodes. */
static inline int plan_strided_sources(const Node *n) {
  return n->op == OP_matmul ? 2 : ir_attention_sources(n->op);
}
/* Whose bytes are this node's bytes: a reshape moves nothing. Outputs and updates are handed over
 * as their home. */
static inline Node *plan_home(Node *n) {
  while (n->op == OP_reshape) n = n->src[0];
  return n;
}
static inline uint64_t plan_bytes(const Node *n) { return 4 * (uint64_t)type_count(&n->type); }
/* The param or state of that name, NULL where the graph has none. */
Node *plan_leaf(const Graph *, const char *name);

void plan_fuse(Planner *);     /* plan_fuse.c: fills stored */
void plan_limit(Planner *);    /* plan_limit.c: stores more, where a kernel would be too large */
void plan_schedule(Planner *); /* plan_schedule.c: fills order */
bool plan_memory(Planner *, Plan *,
                 Buf *why); /* plan_memory.c: fills the plan's places and steps */
/* plan_memory.c: does the kernel read `leaf` only at the index that it writes? */
bool plan_reads_flat(const Node *root, const Node *leaf, const bool *stored);
/* The places that a step reads, at most CG_MAX_SLOTS; returns how many. */
int plan_step_reads(const Plan *, const PlanStep *, PlanPlace *out);
void plan_barriers(Plan *); /* plan_barrier.c */

#endif
