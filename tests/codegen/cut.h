/* A graph's stored nodes put together into kernels with several results at random, within what
 * codegen/plan.h allows. It shares nothing with the planner. */
#ifndef TESTS_CODEGEN_CUT_H
#define TESTS_CODEGEN_CUT_H

#include "codegen/plan.h"

typedef struct CutGroup {
  Node *out[CG_MAX_OUT]; /* by rising id */
  int n_out;
  Node *anchor;
} CutGroup;

/* Groups in an order in which they can run, for the stored nodes that a kernel computes; takes some
 * reductions out of `stored`. */
int cut_graph(Arena *, const Graph *, bool *stored, uint32_t seed, CutGroup **);

#endif
