/* never_wrong: random programs, and what every way of compiling them must agree with. */
#ifndef TESTS_NEVER_WRONG_H
#define TESTS_NEVER_WRONG_H

#include "passes/passes.h"

/* ---- program.c ---- */
/* A program of a few dozen nodes: outputs y0 …, updates of params and states, and in half of them a
 * scalar "loss". Every choice is a function of the seed. */
Graph *random_program(uint32_t seed);

/* ---- bounds.c ---- */
/* A value computed in f64 and, per element, how far any right way of computing it in f32 may be
 * from it. Infinite: nothing can be said, as behind a comparison that rounding decides. */
typedef struct Bounded {
  Tensor value;
  double *error;
} Bounded;
/* Of all outputs of the graph, in `arena`. */
bool bounded_values(Arena *, const Graph *, const Feed *, int n_feed, Bounded *, Buf *why);

typedef struct Tally { /* elements that were compared: those whose bound is small, and all */
  int64_t tight, all;
} Tally;
/* The first element that is outside of its bound: false, with what is there in `why`. */
bool within_bounds(const Tensor *got, const Bounded *want, Tally *, Buf *why);

/* ---- variants.c ---- */
/* A case: a program and, where it has a loss, its gradients; the values of its leaves follow from
 * their names. */
typedef struct Case {
  Arena *arena;
  const Graph *given;
  Graph *with_gradients; /* no pass but autodiff has seen it */
  const Feed *feed;
  int n_feed;
  Bounded *want; /* by output of with_gradients */
} Case;
bool case_open(Case *, const Graph *, Buf *why);
void case_close(Case *);
/* Compares all outputs of `g` that the case has by name, which must be all of the case. */
bool case_compare(const Case *, const Graph *g, const Tensor *value, Tally *, Buf *why);
/* Each pass alone, and the pipelines, in the evaluator; `extra`, which may be NULL, is one more
 * pass. */
bool check_evaluator(const Case *, PassFunction *extra, Tally *, Buf *why);
/* Gradients against central differences along a random direction. */
bool check_gradients(const Case *, Tally *, Buf *why);
/* The graph that the compiler would plan, and the one that it could plan with the fewest passes,
 * with gradients or without; the caller frees them. */
Graph *all_passes(const Graph *);
Graph *only_lowered(const Graph *with_gradients);

/* ---- reduce.c ---- */
/* A graph as small as could be found of which `fails` still holds: without outputs, nodes replaced
 * by their sources or by leaves, shorter dimensions. */
Graph *reduce_case(const Graph *, bool (*fails)(void *context, const Graph *), void *context);

#endif
