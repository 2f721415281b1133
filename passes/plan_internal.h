/* What the planner's steps pass to each other. */
#ifndef PASSES_PLAN_INTERNAL_H
#define PASSES_PLAN_INTERNAL_H

#include "passes/plan.h"

/* The elements that a kernel runs over: outer · red · inner, where a rows kernel reduces red; any
 * other kernel has red = inner = 1. */
typedef struct Domain {
  int64_t outer, red, inner;
} Domain;

typedef struct Kernel {
  Node *out[CG_MAX_OUT]; /* by rising id */
  int n_out;
  Node *anchor; /* as in KernelJob */
  Domain domain;
  Node **operand; /* the stored nodes that it reads; of an assembled concat its parts */
  int n_operand;
  bool gone;      /* another has taken it in */
  bool assembles; /* out[0] is a concat whose sources were computed in their places in it: nothing
                     is left to do */
} Kernel;

typedef struct Planner {
  Arena *arena;
  Graph *g;
  const Target *target;
  Layout *layout;
  Node *
    *old; /* by output: the param or state that an update replaces, NULL where nothing reads it */
  bool *replaced; /* by id: a param or state that gets another value */
  bool *needed;   /* by id: an output depends on it, and not only through a fold */
  bool *stored;   /* by id */
  bool *product;  /* by id: a matrix product, or the sum of its parts */
  bool *
    updating; /* by id, before the graph suits kernels: an update is computed from it element by element */
  bool *assembles;  /* by id: a concat that is assembled */
  bool *computable; /* by id: products might compute it as they load it */
  Node **part_of;   /* by id: the assembled concat that this node's value is a part of, or NULL */
  PlanPlace *part;  /* by id: where in the concat it lies, as if that began at 0 */
  Kernel *kernel;
  int n_kernel;
  int *kernel_of; /* by id: the kernel that computes this stored node, −1 where there is none */
  int *order;     /* kernels as they run */
  int *level;     /* by place in the order: no barrier stands within a level */
} Planner;

/* In memory before the program runs. */
static inline bool plan_given(const Node *n) {
  return n->op == OP_param || n->op == OP_state || n->op == OP_input || n->op == OP_fold;
}
/* Costs nothing to compute anywhere. */
static inline bool plan_free(const Node *n) {
  return n->op == OP_const || n->op == OP_iota || n->op == OP_position;
}
static inline bool plan_is_attention(Op op) { return ir_attention_sources(op) > 0; }
static inline bool plan_reduces(const Node *n) {
  return n->op == OP_reduce_sum || n->op == OP_reduce_prod || n->op == OP_reduce_max ||
         n->op == OP_reduce_min;
}
/* How source k of a node must lie: as elements in memory, as a view of such that has strides
 * (cg_strided), or anyhow. */
typedef enum SourceNeed { SOURCE_any, SOURCE_stored, SOURCE_strided } SourceNeed;
static inline SourceNeed plan_source(const Node *n, int k) {
  switch (n->op) {
  case OP_matmul:
  case OP_matmul_spans: return SOURCE_strided;
  case OP_attention:
  case OP_attention_lse:
  case OP_attention_dq:
  case OP_attention_dk:
  case OP_attention_dv: return k < ir_attention_sources(n->op) ? SOURCE_strided : SOURCE_any;
  case OP_scatter_add: return SOURCE_stored;
  case OP_gather:
  case OP_random: return k == 0 ? SOURCE_stored : SOURCE_any;
  default: return SOURCE_any;
  }
}
/* Whose bytes are this node's bytes: a reshape moves nothing. Outputs and updates are handed over
 * as their home. */
static inline Node *plan_home(Node *n) {
  while (n->op == OP_reshape) n = n->src[0];
  return n;
}
static inline uint64_t plan_bytes(const Planner *p, const Node *n) {
  return cg_bytes(p->target, &n->type);
}
/* One past a place's last byte. */
static inline uint64_t plan_end(const PlanPlace *p) {
  return p->offset + (p->run ? (p->bytes / p->run - 1) * p->pitch + p->run : p->bytes);
}
/* Whether two places share a byte; true also for places in runs of which that is not plain. */
static inline bool plan_overlap(const PlanPlace *a, const PlanPlace *b) {
  if (a->chunk != b->chunk || a->offset >= plan_end(b) || b->offset >= plan_end(a)) return false;
  if (!a->run || !b->run || a->pitch != b->pitch) return true;
  bool a_first = a->offset <= b->offset;
  const PlanPlace *first = a_first ? a : b, *second = a_first ? b : a;
  uint64_t distance = (second->offset - first->offset) % a->pitch;
  return distance < first->run || distance + second->run > a->pitch;
}
static inline KernelJob plan_job(const Planner *p, const Kernel *k) {
  return (KernelJob){.out = k->out, .n_out = k->n_out, .anchor = k->anchor, .stored = p->stored};
}

/* ---- plan_align.c ---- */
/* The domain of a reduction; false where its axes do not lie together, or are all 1 long. */
bool plan_domain(const Node *reduction, Domain *);
/* Whether the job keeps codegen/plan.h's promises on where values are computed: everything that it
 * computes and shares is asked for at one place only. Fills the operands (at most max; more is
 * false). `flat`, where given, is a node: whether it is read only at the place of the outs, so that
 * one of them may lie over it. */
typedef struct Reach {
  Node *operand[CG_MAX_SLOTS];
  int n_operand, n_random, n_reduction;
  bool flat;
} Reach;
bool plan_reach(const KernelJob *, const Domain *, const Node *flat, Reach *);
/* The same sources and attributes. */
bool plan_same_arguments(const Node *, const Node *);
/* Operations with a loop of their own that one kernel computes together. */
bool plan_siblings(const Node *, const Node *);
/* Whether `sum` is one over k of an operand of the product, as a bias's gradient is. */
bool plan_is_k_sum(const Node *product, const Node *sum, const bool *stored);

/* plan_split.c: the reduction `n` of the planner's graph, over x in another graph, in one step or, where
 * its kernel would leave most of a device idle, in two. */
Node *plan_split(const Planner *, const bool *operand, const Node *n, Graph *to, Node *x);
/* By id: operands of products beside which they can be summed over k, as they lie in memory. */
bool *plan_product_operands(const Planner *);
int64_t plan_product_parts(const Planner *,
                           const Node *); /* plan.c: of its k; 1: it stays whole, 0: spans */
/* Part + part + … along an axis of at most eight, neighbours first. */
Node *plan_add_parts(Graph *, Node *, int axis);
/* plan_attention.c: a node of that family in the graph that suits kernels. */
Node *plan_attention(const Planner *, Graph *, const Node *, Node *const *src);
void plan_prologues(Planner *); /* plan_prologue.c: fills computable */
/* The value that a product's operand is views and widenings of. */
Node *plan_operand(Node *);
/* plan_assemble.c: chooses, filling assembles, part_of and part_at; the same as chosen before. */
void plan_assemble(Planner *);
void plan_assemble_as(Planner *, Node *const *chosen, int n);
void plan_fuse(Planner *);     /* plan_fuse.c: fills stored */
void plan_limit(Planner *);    /* plan_limit.c: stores more, where a kernel would be too large */
void plan_group(Planner *);    /* plan_group.c: fills kernel and kernel_of; stores less */
void plan_schedule(Planner *); /* plan_schedule.c: fills order */
/* plan_level.c: sorts order, fills level; or takes an order with each kernel a level of its own. */
void plan_level(Planner *);
void plan_one_by_one(Planner *, int *order);
bool plan_memory(Planner *, Plan *,
                 Buf *why); /* plan_memory.c: fills the plan's places and steps */
/* The places that a step reads, at most CG_MAX_SLOTS; returns how many. */
int plan_step_reads(const Plan *, const PlanStep *, PlanPlace *out);
typedef struct Live { /* a tensor of scratch and the times (levels) between which it must stay */
  const Node *node;
  PlanPlace *place;
  uint64_t bytes;
  int first, last;
  int nth; /* chunk of scratch, and offset there: what plan_place finds */
  uint64_t at;
  double weight; /* plan_place's own: its turn, whether it made a chunk grow */
  bool grew;
} Live;

/* plan_place.c: places the tensors of `n_time` times in chunks of `room` bytes; gives the sum of the
 * chunks' peaks. Reorders them. */
uint64_t plan_at_once(const Live *, int n, int n_time); /* the most bytes that live at one time */
uint64_t plan_place(Live *, int n, int n_time, uint64_t room);
/* ---- plan_barrier.c ---- */
void plan_barriers(Plan *);
void plan_beside(Plan *); /* between the barriers: fills the jobs' `beside` */

#endif
