/* What the files of group share. */
#ifndef PASSES_PLAN_GROUP_H
#define PASSES_PLAN_GROUP_H

#include "passes/plan_internal.h"

typedef struct Readers {
  int *kernel, n, cap;
} Readers;

typedef struct Grouper {
  Planner *p;
  bool *firm;       /* by id: must be in memory for a reader's sake, or as an output */
  Readers *readers; /* by id: kernels that read the stored node */
  int *order,
    *place; /* kernels so that each comes after what it needs, −1: none; by kernel: where */
  int *mark, serial; /* by kernel: of the search for paths */
  int *stack;
  int *depth; /* by id: stored nodes on the longest path up to this one */
} Grouper;

/* ---- plan_merge.c ---- */
void group_add_reader(Grouper *, const Node *, int kernel);
/* Makes one kernel of two where that is possible; it gets the later one's number. `b_asks`: b reads what a computes. */
bool group_merge(Grouper *, int a, int b, bool b_asks);

#endif
