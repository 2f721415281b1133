/* plan: graph → kernels in order with their memory (fuse → schedule → memory), and the layout that
 * all programs of an image share: params, states and tables have one place each; inputs and
 * outputs, and scratch, are laid out anew by each program over the same chunks. */
#ifndef PASSES_PLAN_H
#define PASSES_PLAN_H

#include "codegen/plan.h"
#include "image/image.h"
#include "ir/ir.h"

enum {
  PLAN_ALIGN =
    256, /* bytes: every tensor begins at a multiple, and every chunk ends with as much that nothing uses */
  PLAN_ALIGN_RUNS =
    16 /* bytes: begin and length of a part of a tensor that lies in runs, and of the runs */
};

typedef struct LayoutChunk {
  ImgClass cls;
  uint64_t bytes;
} LayoutChunk;

typedef struct LayoutTensor {
  const char *name; /* interned; a table's is the number of its content */
  Type type;
  PlanPlace place;
  const void *data; /* of a table, as it lies in memory */
  uint64_t hash;
} LayoutTensor;

typedef struct LayoutList {
  LayoutTensor *tensor;
  int n;
  int next; /* after the one asked for last: programs ask in the same order */
} LayoutList;

typedef struct Layout {
  Arena *arena;
  const Target *target; /* whose elements they are; must outlive it */
  uint64_t chunk_bytes; /* largest */
  LayoutChunk *chunk;
  int n_chunk;
  LayoutList param, state, table;
} Layout;

/* ---- plan_layout.c ---- */
Layout *layout_new(Arena *, const Target *);
/* The place of a param or state (cls IMG_PARAM, IMG_STATE), given at its first mention. false with
 * `why` for one that is larger than a chunk. Another type than before is a bug. */
bool layout_tensor(Layout *, ImgClass cls, const char *name, const Type *, PlanPlace *, Buf *why);
bool layout_table(Layout *, const Type *, const void *data, PlanPlace *,
                  Buf *why); /* equal ones share a place */
/* `at` in chunk number `nth` of the class, chunks and their lengths growing as needed. */
PlanPlace layout_at(Layout *, ImgClass cls, int nth, uint64_t at, uint64_t bytes);
uint64_t layout_room(const Layout *); /* bytes of a chunk that tensors may use */
uint64_t layout_bytes(const Layout *, const Type *);
bool layout_fits(const Layout *, const Type *, const char *what, Buf *why);

/* ---- plan_order.c ---- */
/* The same graph in an order in which equal expressions over different tensors look alike. */
Graph *plan_ordered(const Graph *);

/* ---- plan.c ---- */
/* The plan of a program; NULL with `why` where a tensor is larger than a chunk. Lives in the
 * layout's arena. */
Plan *plan_graph(Layout *, const Graph *, const Target *, Buf *why);

/* ---- plan_print.c ---- */
void plan_print(Buf *, const Plan *, const Layout *);

/* ---- plan_live.c ---- */
uint64_t plan_live_bytes(const Plan *,
                         const Layout *); /* of scratch: the least peak of this order */

/* ---- plan_dot.c ---- */
void plan_dot(Buf *, const Plan *); /* for Graphviz: a box for each kernel */

/* ---- plan_check.c ---- */
/* Replays the plan on a map of who wrote which bytes: every operand must still be there when it is
 * read, outputs and updates must be there at the end, and a barrier must stand wherever a dispatch
 * meets bytes that another since the last barrier wrote, or reads what it overwrites. Every
 * violation, one line each, is appended to `errors`. */
bool plan_check(const Plan *, const Layout *, Buf *errors);

#endif
