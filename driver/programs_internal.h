/* programs: shared by programs.c and programs_train.c. */
#ifndef DRIVER_PROGRAMS_INTERNAL_H
#define DRIVER_PROGRAMS_INTERNAL_H

#include "driver/programs.h"

typedef struct Builder {
  Model *model;
  const ProgramOptions *option;
  ProgramSet *out;
  Buf *errors;
  PassOptions pass;       /* as the options have them, and the precision of training */
  bool *only_met;         /* by option.only */
  int64_t batch, context; /* of the training programs; context 0: unknown */
} Builder;

/* Runs passes on a graph; frees the one given, where another comes of it. NULL with errors. */
Graph *passed(Builder *, Graph *, const char *list);
/* Whether the program is to be built. */
bool wants_program(Builder *, const char *name);
/* Lowers, simplifies and adds a finished graph; owns it from then on. */
bool add_program(Builder *, const char *name, Graph *);
/* The graph of function `name`, simplified and raised, with its free dimensions bound to `value` in their
 * order. */
Graph *function_graph(Builder *, const char *name, bool training, const int64_t *value,
                      int n_value);

/* ---- loss_split.c ---- */
/* loss = sum / max(count, least), where no parameter moves the count. Scalars. */
typedef struct LossParts {
  Node *sum, *count;
  double least; /* 0: none */
} LossParts;
/* New nodes are added to `g`. false where the loss is no such quotient. */
bool loss_split(Graph *g, Node *loss, LossParts *);

/* ---- programs_train.c ---- */
bool add_init(Builder *);
bool add_loss_programs(Builder *);

#endif
