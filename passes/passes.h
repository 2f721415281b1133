/* passes: graph → graph, and graph → plan. A pass returns its argument where it changes nothing. */
#ifndef PASSES_PASSES_H
#define PASSES_PASSES_H

#include "codegen/plan.h"
#include "ir/ir.h"

/* ---- manager.c; the passes that can be named are in passes.def ---- */
typedef struct PassOptions {
  const char *dump_after; /* a pass's name, "all", or NULL */
  const char *skip;       /* a pass's name or NULL */
  bool time;              /* --time-passes */
  bool strict;            /* --strict: every pass keeps each value's bits (a NaN is a NaN) */
  FILE *out;              /* where dumps and times go */
  DType precision;        /* of pass precision: DT_f16, DT_bf16; any other: none */
  struct PassHits *hits;  /* what pass_hit counts into; pass_run's own */
} PassOptions;
typedef Graph *PassFunction(Graph *, const PassOptions *);
/* Runs a comma-separated list; verifies after each. NULL with `why` for an unknown name. A graph
 * that a pass broke is a bug. The argument stays as it is and stays the caller's; the result may be
 * the argument. */
Graph *pass_run(Graph *, const char *list, const PassOptions *, Buf *why);
void pass_list(Buf *out); /* names and one line each, for --help */
/* One step of pass_run, for a function that need not be in the table: dies where the pass broke the
 * graph, changed it in place, or gave a new graph that is equal to the old. */
Graph *pass_apply(const char *name, PassFunction *run, Graph *, const PassOptions *, double *ms);
/* For --time-passes: a pass tells that its rule `name`, a text that lives on, was used `times`
 * times. */
void pass_hit(const PassOptions *, const char *name, int times);

PassFunction pass_simplify; /* simplify.c, rules.def: fold constants, algebra, dead code */
PassFunction pass_raise;    /* raise.c …, raise.def: primitives to raised operations */
PassFunction pass_lower;    /* lower.c: raised operations to primitives */
PassFunction pass_dead;     /* dead.c: dead code alone */

/* ---- autodiff.c, vjp.def ---- */
/* d loss / d wrt[i] as new nodes of the same graph, in grad[i] (a zero const where loss does not
 * depend on it). `loss` is a float scalar. Nodes of checkpoint regions that the backward pass needs
 * are recomputed (region −r), not kept. */
void autodiff(Graph *, Node *loss, Node *const *wrt, int n_wrt, Node **grad);
/* The same as a pass: for an output "loss", adds outputs grad.<name> for each float param, or float
 * input where there is none; such outputs must not exist. */
PassFunction pass_autodiff;

PassFunction pass_pad;       /* pad.c: a loss over as many classes as whole tiles have */
PassFunction pass_precision; /* precision.c: 16-bit operands and results, as casts */

/* ---- plan.c …: fuse, schedule, memory ---- */
/* Decides what is stored and the order of kernels; memory comes from the layout that all programs
 * of an image share. */
typedef struct Layout Layout;

#endif
