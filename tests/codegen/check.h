/* A graph cut into kernels as a planner might, every kernel run and compared. */
#ifndef TESTS_CODEGEN_CHECK_H
#define TESTS_CODEGEN_CHECK_H

#include "tests/codegen/bench.h"

typedef enum CheckFlags {
  CHECK_exact = 1,     /* the evaluator's bits */
  CHECK_boundary = 2,  /* subnormal operands and results may be zero */
  CHECK_store_all = 4, /* every node is a kernel of its own; else as much as possible is inlined */
  CHECK_cut = 8        /* kernels with several results, put together at random (cut.c) */
} CheckFlags;

/* Runs the kernels for the graph's outputs on `target`; each gets the values that the device
 * computed before. Where the device has not the target's subgroups, modules are only validated. */
void check_graph(Bench *, const Target *, const Graph *, const Feed *, int n_feed,
                 const char *title, unsigned flags);

/* One kernel, where bench_takes it and none was the same, with these outs (by rising id) and this
 * anchor, operands being the leaves; out i lies over operand over[i] where that is not NULL. */
void check_job(Bench *, const Target *, const Graph *, const Feed *, int n_feed, const char *title,
               int n_out, Node *const *out, Node *anchor, Node *const *over);

#endif
