/* The reductions' machinery, which also serves matrix products with few outputs and a long sum. */
#ifndef CODEGEN_REDUCE_H
#define CODEGEN_REDUCE_H

#include "codegen/kernel.h"

typedef struct Reduce {
  Kernel *k;
  Op op;                  /* reduce_*, argmax */
  DType type;             /* of the terms */
  int64_t outputs, terms; /* outputs · terms values are combined */
  bool row;               /* terms lie closer in memory than outputs */
  int out_width,
    term_width; /* 1 or 4: neighbours that one invocation takes at once; one of them is 1 */
  /* The value of a term: `out` < outputs, `term` < terms, both row-major. */
  SpvId (*value)(struct Reduce *, const Ix *out, const Ix *term);
  const void *context;
} Reduce;

void reduce_emit(Reduce *);

#endif
