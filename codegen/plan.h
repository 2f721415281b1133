/* plan: what passes/ (fuse, schedule, memory) hands to codegen: which nodes have their value stored
 * in memory, and in which order kernels compute them. Every other node is computed inside the
 * kernels that use it. */
#ifndef CODEGEN_PLAN_H
#define CODEGEN_PLAN_H

#include "codegen/target.h"
#include "ir/ir.h"

enum { CG_MAX_SLOTS = 16 }; /* 8-byte push constant slots: 128 bytes are sure on every device */

/* One kernel: computes `root` for every index and stores it, row-major, 4 bytes an element. Every tensor's address is a multiple
 * of 16 bytes: kernels load and store four elements at once. The result lies where no operand does, except that an update may
 * be written over its old value where the kernel reads that at the index it writes and nowhere else.
 * stored[id] tells which nodes are read from memory; the others below the root are inlined. What the planner guarantees:
 *   always stored: param, state, input, fold, reduce_*, argmax, cumsum, matmul, scatter_add
 *   inlined where not stored: elementwise, VIEW operations, const, iota, position, pad, concat, random, gather
 *   matmul's sources: stored, or VIEW chains over a stored node that cg_strided accepts
 *   gather's table, scatter_add's sources, random's rng: stored;  gather's ids, sources of reductions and scans: either
 * and at most CG_MAX_SLOTS − 2 stored nodes are read by one kernel (cg_operands counts them). */
typedef struct KernelJob {
  Node *root;
  const bool *stored; /* by node id */
  bool copy;          /* store the stored value of `root` itself at another place */
} KernelJob;

typedef struct KernelSlot {
  enum { SLOT_result, SLOT_operand, SLOT_raw } kind;
  Node *node;   /* SLOT_operand: whose address */
  uint64_t raw; /* SLOT_raw: these 8 bytes */
} KernelSlot;

typedef struct KernelCode {
  const char *family; /* "map", "reduce", "matmul" … */
  const char *name;   /* for people and traces: family and what it computes */
  uint32_t *word;     /* a SPIR-V module with entry "main"; equal kernels give equal words */
  int n_word;
  uint32_t local[3], groups[3];
  uint32_t subgroup_size; /* 0: any; else the device must have it */
  KernelSlot slot[CG_MAX_SLOTS];
  int n_slot;
  double flops, bytes; /* arithmetic of the definition; least memory traffic */
} KernelCode;

/* A view chain over a stored node as base + Σ index[i]·stride[i], in elements. */
typedef struct Strided {
  Node *base;
  int64_t offset, stride[IR_MAX_RANK]; /* by dimension of the viewing node */
} Strided;

/* ---- codegen/ ---- */
bool cg_strided(const Node *, const bool *stored,
                Strided *out); /* false where no such strides exist */
int cg_operands(const KernelJob *, Node **operand,
                int max); /* distinct stored nodes it reads; may exceed max */
/* Emits the kernel into `arena`. A job against the planner's guarantees is a bug and dies. */
void cg_emit(Arena *, const KernelJob *, const Target *, KernelCode *out);
/* SPIRV-Tools: false with its message in `why`. */
bool cg_validate(const uint32_t *word, int n_word, Buf *why);
void cg_disassemble(const uint32_t *word, int n_word, Buf *out);

/* ---- passes/plan*.c ---- */
typedef struct PlanPlace { /* where a stored node lives */
  int chunk;               /* index into the layout's chunks; −1: not stored */
  uint64_t offset, bytes;
} PlanPlace;

typedef struct PlanStep {
  KernelJob job;
  PlanPlace result;
  PlanPlace source; /* of a copy: where the value is read */
  bool barrier;     /* memory barrier before it */
} PlanStep;

typedef struct Plan {
  Graph *graph;
  bool *stored;      /* by node id */
  PlanPlace *place;  /* by node id, for stored nodes */
  PlanPlace *output; /* by output: where an OUT_value is handed over */
  PlanStep *step;
  int n_step;
  uint64_t peak_bytes; /* of scratch */
} Plan;

#endif
