/* hits: what pass_hit collects (private to passes). */
#ifndef PASSES_HITS_H
#define PASSES_HITS_H

#include "passes/passes.h"

typedef struct RuleHits {
  const char *name;
  int times;
} RuleHits;

typedef struct PassHits {
  RuleHits *rule;
  int n;
} PassHits;

/* A table, the most used rule first; nothing where none was used. */
void hits_print(FILE *out, PassHits *);
void hits_free(PassHits *);

#endif
