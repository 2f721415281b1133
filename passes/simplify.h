/* simplify: shared by simplify.c and simplify_shape.c (private to passes). */
#ifndef PASSES_SIMPLIFY_H
#define PASSES_SIMPLIFY_H

#include "ir/ir.h"

#include <math.h>

typedef struct Simplify Simplify;

/* How a rewrite may change values; see rules.def. */
enum { EXACT = 0, ZERO = 1, INF = 2, NEAR = 4, BETTER = 8 };

/* The simplest equal of a node of the new graph, whose sources are simple. */
Node *simplify_node(Simplify *, Node *);
/* One step for views, reductions, products and indexing: an equal node of `g`, which may not be
 * simple yet, or NULL. All new nodes get the region of `n`. Every rewrite in it is exact, but
 * reduce_sum of an expand (rounding) and a sum of pads (the sign of zeros), which strict forbids. */
Node *simplify_shape(Graph *g, Node *n, bool strict);

/* For rules.def: c and 1/c are powers of two, both normal numbers. */
static inline bool is_power_of_two(double c) {
  int e;
  return isfinite(c) && c != 0 && fabs(frexp(c, &e)) == 0.5 && e > -125 && e < 127;
}

#endif
