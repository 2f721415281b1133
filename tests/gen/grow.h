/* grow: random graphs from the result down: an operation that gives a wanted type, then something
 * for each of its sources. For tests of rewrites and of whole programs.
 *
 * A leaf's values are a function of its name and type alone, so that a graph's text is a whole test
 * case: the first letter says how they are chosen, a number after it how far they go.
 *   u uniform in ±1.5 · p uniform in 0.5 … 2 · e edges: ±0, ±1, ±inf, NaN, subnormal, largest
 *   i<n> whole numbers 0 … n−1 · b bools · anything else: as suits the type */
#ifndef TESTS_GEN_GROW_H
#define TESTS_GEN_GROW_H

#include "ir/ir.h"

typedef struct Grow {
  Graph *g;
  uint32_t seed, drawn; /* every choice is a function of these */
  int64_t largest;      /* elements of any node */
  int n_leaf;
} Grow;

uint32_t grow_draw(Grow *, uint32_t below);
/* Lengths of 1 to `longest`, half of them 1, at most `largest` elements. */
Type grow_type(Grow *, DType, int max_rank, int64_t longest);
Node *grow_leaf(Grow *, Op, char kind, int limit, const Type *);

typedef struct GrowSources {
  Attr attr;
  int n_src;
  Type src[IR_MAX_SRC];
  int limit[IR_MAX_SRC]; /* i32 sources that index: how many there are to index; else 0 */
} GrowSources;
/* Sources and attributes with which the operation gives the type; false: none were found. Not for
 * leaves, fold, random and what the tests of attention generate. */
bool grow_sources(Grow *, Op, const Type *want, GrowSources *);

/* Values of all params, states and inputs, in `arena`. */
Feed *grow_feeds(Arena *, const Graph *, int *n_feed);

#endif
