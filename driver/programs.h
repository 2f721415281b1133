/* programs: a model's functions → the graphs of all programs of an image (their names, inputs and
 * outputs: image/image.h). */
#ifndef DRIVER_PROGRAMS_H
#define DRIVER_PROGRAMS_H

#include "frontend/frontend.h"
#include "passes/passes.h"

typedef struct ProgramOptions {
  const char *const *entry; /* functions to compile besides: "encode", or with their free
                             * dimensions "encode:b=4,t=16" */
  int n_entry;
  const char *const *only; /* names of programs; none: all */
  int n_only;
  const PassOptions *pass;
} ProgramOptions;

typedef struct ProgramSet {
  Graph **graph; /* simplified and verified; a graph's name is its program's */
  int n;
} ProgramSet;

/* Every program that the model supports: what lacks its function, its train section or its free
 * dimensions' values is left out. An input that nothing needs is no input of the program. false
 * with errors as in fe_load; then there is nothing to free. */
bool programs_build(Model *, const ProgramOptions *, ProgramSet *out, Buf *errors);
void programs_free(ProgramSet *);

#endif
