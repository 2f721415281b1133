/* plan: what passes/ (fuse, schedule, memory) hands to codegen: which nodes have their value stored
 * in memory, and in which order kernels compute them. Every other node is computed inside the
 * kernels that use it. */
#ifndef CODEGEN_PLAN_H
#define CODEGEN_PLAN_H

#include "codegen/target.h"
#include "ir/ir.h"

enum {
  CG_MAX_SLOTS = 16,     /* 8-byte push constant slots: 128 bytes are sure on every device */
  CG_MAX_OUT = 8,        /* results of one kernel */
  CG_MAX_REDUCTIONS = 16 /* inside of one kernel */
};

/* One kernel: computes each node of `out` for every index and stores it, row-major, cg_element_bytes an element. Every tensor's
 * address is a multiple of 16 bytes: kernels load and store four or eight elements at once.
 *
 * stored[id] tells which nodes live in memory. A stored node that is no `out` of the kernel is an operand, read from memory;
 * every other node below the outs is computed inside the kernel. The anchor gives the kernel its loop:
 *   NULL       map: all outs have one element count and are evaluated at the same linear index
 *   reduce_*   rows: see below
 *   matmul     outs as cg_matmul_accepts says: functions of the product at its own flat index, permutations of such, functions
 *              of a sum over k of one of its operands
 *   scatter_add   outs are elementwise functions of it at its own flat index, it itself may be an out
 *   argmax, cumsum, attention…, matmul_spans   the operation's own loop; outs are the operation, and its siblings of the same sources
 *              (attention and attention_lse, attention_dk and attention_dv, and attention_dq with those where cg_attention_together)
 *
 * rows: the anchor's source has outer · red · inner elements, of which red (neighbouring dimensions) are reduced. A value in the
 * kernel is FULL (that count, the same flat index), KEPT (outer · inner, the flat index without red), or found from operands at
 * any index whatever. Every reduction inside is of this shape; one that needs another's result comes later. Outs are FULL or
 * KEPT; FULL only where inner = 1. A reduction whose axes do not lie together is alone: outs = {anchor}.
 *
 * What the planner guarantees:
 *   param, state, input, fold are stored; argmax, cumsum, scatter_add, attention… are outs where they are computed
 *   reduce_* and matmul are stored, or computed inside kernels of their shape
 *   computed inside wherever asked: elementwise, VIEW operations, const, iota, position, pad, concat, random, gather
 *   sources of attention… but for mask and keep: stored, or chains of VIEW operations and widenings over a stored node that
 *     cg_strided accepts
 *   matmul_spans is an out; its sources are such, of one 16-bit type, with rows or terms that lie together; its tiles are one of the
 *     target's, of which m, n and k are multiples
 *   sources of matmul: such, or values that kernels compute in place, for which cg_lies_as finds a layout
 *   attention's mask and keep: expressions, evaluated at (b…, h, i, j) for each query and key that see each other
 *   outs of attention…: the operation, or permutes, reshapes and casts to 16 bit of it that cg_store_strides accepts
 *   gather's table, scatter_add's sources, random's rng: stored;  gather's ids, sources of reductions and scans: either
 *   outs + operands + calls of random <= CG_MAX_SLOTS − 1 (cg_operands counts operands; CG_MAX_SLOTS − 1 − outs fit)
 *   no out is read by its own kernel at another index than it is computed at
 *   an out lies in one piece, or in runs (a part of a larger tensor); runs and their distance are multiples of 16 bytes
 *   an out lies where no operand does, except over one with elements of as many bytes that the kernel reads at the out's own
 *     flat index and nowhere else:
 *     kernels compute all outs of an index before they store any, and store FULL outs in their last pass over the row */
typedef struct KernelRuns { /* how an out lies in memory, in elements */
  int64_t run,
    pitch; /* `run` of them together, each run beginning `pitch` after the one before; run = 0: all together */
} KernelRuns;

typedef struct KernelJob {
  Node *const *out; /* by rising id */
  int n_out;
  Node *anchor;
  const bool *stored;     /* by node id */
  const KernelRuns *runs; /* by out; NULL: each lies in one piece */
  bool copy;              /* store the stored value of out[0] itself at another place */
  int beside;             /* of a product: how many others run at the same time */
  bool
    tabled; /* one dispatch runs many instances of the kernel: each finds its slots in an argument
                         table (cg_can_table) */
} KernelJob;

typedef struct KernelSlot {
  enum { SLOT_result, SLOT_operand, SLOT_raw } kind;
  Node *node; /* whose address: the out or the operand; of a raw one, the random call whose place it
                   is, if any */
  uint64_t raw; /* SLOT_raw: these 8 bytes */
} KernelSlot;

/* The argument table of a tabled kernel: 8-byte entries, 1 + n_slot columns of one entry for each of the n instances. Entry i
 * of the first column is the first workgroup of instance i, in its low half; column 1 + s holds slot s. An instance has the
 * workgroups from its first to the next one's. The kernel's own push constants are
 *   0: the table's address     1: n in the low half, in the high one the least x with 2^x >= n */
enum { CG_TABLE_PUSH = 2 };

typedef struct KernelCode {
  const char *family; /* "map", "reduce", "matmul" … */
  const char *name;   /* for people and traces: family and what it computes */
  uint32_t *word;     /* a SPIR-V module with entry "main"; equal kernels give equal words */
  int n_word;
  uint32_t local[3], groups[3]; /* tabled: the workgroups of this instance */
  uint32_t subgroup_size;       /* 0: any; else the device must have it */
  KernelSlot slot[CG_MAX_SLOTS];
  int n_slot;
  double flops, bytes; /* arithmetic of the definition; least memory traffic: cost.c */
} KernelCode;

/* A chain of views and widenings over a stored node as base + Σ index[i]·stride[i], in elements. The
 * base may be of a 16-bit type where the node is f32. */
typedef struct Strided {
  Node *base;
  int64_t offset, stride[IR_MAX_RANK]; /* by dimension of the viewing node */
} Strided;

/* ---- codegen/ ---- */
/* Bytes of an element in memory, and of a tensor: 16-bit types take 2 where the target can store
 * them, all others 4. */
uint32_t cg_element_bytes(const Target *, DType);
uint64_t cg_bytes(const Target *, const Type *);
bool cg_is_out(const KernelJob *, const Node *); /* computed and stored by the kernel */
bool cg_widens(const Node *);        /* a cast that loses nothing: 16-bit float to f32 */
bool cg_reads_through(const Node *); /* a VIEW operation, or a widening */
bool cg_strided(const Node *, const bool *stored,
                Strided *out); /* false where no such strides exist */
/* Of a value that is computed from stored nodes by elementwise operations, views and pads: how the largest of them lies
 * (`offset` aside, where pads are); false where that has no strides. */
bool cg_lies_as(const Node *, const bool *stored, Strided *out);
/* `out` is `anchor` behind permutes, reshapes and casts: the strides, by dimension of the anchor, at
 * which its elements lie in out. false where there are other nodes between, or no such strides. */
bool cg_store_strides(const Node *anchor, const Node *out, int64_t *stride);
int cg_operands(const KernelJob *, Node **operand,
                int max); /* distinct stored nodes it reads; may exceed max */
/* Whether the job's kernel has a tabled form. */
bool cg_can_table(const KernelJob *);
/* A 1-dimensional dispatch, folded into y where it is large; more workgroups than asked for do
 * nothing. */
void cg_groups(int64_t groups, uint32_t out[3]);
/* Whether a matmul's kernel can compute all outs of the job; anchor is the matmul. Each out is one of
 *   f(product): elementwise operations and reshapes between the product and the out, with any other value that kernels compute
 *     in place, or operand, beside it (bias, residual, dropout's random); the product itself is the simplest
 *   a chain of permute and reshape on top of an f(product)
 *   f(sum), where sum = reduce_sum over the k of an operand: its source has the operand's base and strides, with the reduced
 *     dimensions as k, the others as batches and rows (bias gradient: dW = Xᵀ·dY, db = Σ over rows of dY)
 * A k of more than 200,000 allows f(product) only. Outs, operands and calls of random are at most CG_MAX_SLOTS − 5. */
bool cg_matmul_accepts(const KernelJob *);
/* Several kernels may compute a job; each such form has a name. */
enum { CG_MAX_FORMS = 64 };
typedef struct KernelForm {
  char name[64];
  double times; /* how many times as long as the first one it is expected to take; 0: unknown */
} KernelForm;
/* The forms of the job on the target, the one that is expected to be best first: how many; 0 for families
 * that have one only. cg_emit takes the target's tuned one, else the first. */
int cg_forms(const KernelJob *, const Target *, KernelForm *);
/* What the choice depends on, as text: jobs of equal keys share it. Of a job that has forms. */
void cg_form_key(const KernelJob *, const Target *, Buf *);
/* The time that a product of operands of the type, whose rows and columns lie together, is expected to take on a GPU, in
 * operations that a core's matrix units could do meanwhile at their best; 0: unknown. `filled`: another product, about as large,
 * takes the cores that it leaves. */
double cg_matmul_time(const Target *, DType, int64_t batches, int64_t m, int64_t n, int64_t k,
                      bool filled);
enum {
  CG_BALANCE = 128
}; /* operations of a device's matrix units in the time of a byte of its memory */
/* The same of the product in spans with the slots' sum, at its best, and how it is cut, as in ATTR_spans; 0: it cannot be. along_k:
 * of each operand, whether it is terms that lie together. */
double cg_spans_time(const Target *, DType, int64_t m, int64_t n, int64_t k, const bool along_k[2],
                     int64_t spans[4]);
/* How often the kernel that is expected to be best for the product loads each element of operand 0 or 1; *busy: which part of
 * the device it keeps busy while it waits for them, where few others wait meanwhile. */
double cg_operand_reads(const Target *, const Node *product, int operand, double *busy);
/* Whether `sum` is reduce_sum over the k of operand 0 or 1 of the product, as above. */
bool cg_sums_operand(const Node *product, int operand, const Node *sum, const bool *stored);
/* Into how many parts, at most eight, the keys of attention are cut so that one kernel computes all three gradients; 1: they are
 * not. Of a gradient without a shift. */
int64_t cg_attention_parts(const Target *, const Node *);
/* Whether one kernel can compute all three gradients of such parts. */
bool cg_attention_together(const Target *, const Node *);
/* The largest relative error of rounding to a 16-bit type; 0 for others. */
double cg_unit_roundoff(DType);
/* A result that is rounded to 16 bits at last, before it was: its own node in f32. */
Node *cg_unrounded(Graph *, Node *root);
/* On matrix units attention rounds its weights and their gradients to the 16 bits of its operands: by how much of each term
 * the sums in `out` may differ for that; 0 for other results. */
double cg_rounded_terms(const Node *out, const bool *stored, const Target *);
/* Emits the kernel into `arena`. A job against the planner's guarantees is a bug and dies. */
void cg_emit(Arena *, const KernelJob *, const Target *, KernelCode *out);
/* Jobs of equal structure share one kernel, and its words: as cg_emit, the words in the cache's
 * arena; returns the kernel's number, from 0. */
typedef struct KernelCache KernelCache;
KernelCache *cg_cache(Arena *, const Target *);
int cg_emit_once(KernelCache *, const KernelJob *, KernelCode *out);
void cg_cache_end(KernelCache *); /* frees what is not in the arena */
/* SPIRV-Tools: false with its message in `why`. True with a message where these SPIRV-Tools are too old
 * to know what the module uses. */
bool cg_validate(const uint32_t *word, int n_word, Buf *why);
void cg_disassemble(const uint32_t *word, int n_word, Buf *out);

/* ---- passes/plan*.c ---- */
typedef struct PlanPlace { /* where a stored node lives */
  int chunk;               /* index into the layout's chunks; −1: not stored */
  uint64_t offset, bytes;
  uint64_t run,
    pitch; /* `run` bytes lie together, each run beginning `pitch` bytes after the one before; run = 0: all together */
} PlanPlace;

typedef struct PlanStep {
  KernelJob job;
  PlanPlace result[CG_MAX_OUT]; /* by out */
  PlanPlace source;             /* of a copy: where the value is read */
  bool barrier;                 /* memory barrier before it */
  bool assembles; /* nothing to run: the sources of the concat out[0] were computed in their places
                     in it */
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
