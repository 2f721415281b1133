/* The models of models/ at small and odd dimensions, on the reference evaluator. */
#ifndef TESTS_PASSES_SMALL_MODELS_H
#define TESTS_PASSES_SMALL_MODELS_H

#include "driver/programs.h"

enum { MAX_DEFINES = 16 };

/* -D values, NULL-terminated; the precision is f32 where no other is asked for */
typedef struct Small {
  const char *file;
  const char *define[MAX_DEFINES];
  int vocab;
} Small;

enum { N_SMALL = 7, N_ROUNDED = 4 };
extern const Small small[N_SMALL];
/* Large enough for products and attention to be rounded, all sizes odd multiples or none of 16. */
extern const Small rounded[N_ROUNDED];
extern const PassOptions small_options;

typedef struct Setup {
  Arena *arena;
  Model *model;
  ProgramSet set;
  Feed *feed; /* params, states and inputs by name */
  int n_feed;
  int vocab;
} Setup;

/* Fails the test where it does not compile; `more`: one -D value besides, or NULL. */
void small_load(Setup *, const Small *, const char *more);
void small_unload(Setup *);
Graph *small_program(const Setup *, const char *name);
double *small_value(Setup *, const Node *leaf); /* made where it is not there */
/* Inputs: tokens and targets over the vocabulary; 0, which some models ignore, is among them.
 * Parameters: within ±0.6. */
void small_fill(Setup *, const Graph *, Op);
double *small_evaluate(Setup *, const Graph *, EvalMode, const char *output);
void small_run(Setup *, const Graph *); /* its updates become the values of params and states */

#endif
