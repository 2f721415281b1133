/* The reductions' machinery: what a kernel's members (invocations that share a sum) do together. It
 * also serves matrix products with few outputs and a long sum. */
#ifndef CODEGEN_REDUCE_H
#define CODEGEN_REDUCE_H

#include "codegen/kernel.h"

enum {
  REDUCE_MAX = CG_MAX_REDUCTIONS, /* reductions of one kernel */
  REDUCE_WIDTH = 8                /* neighbours that one invocation takes at once, at most */
};

typedef struct Reduction {
  Node *node; /* whose value it is: reduce_*, argmax, or a product seen as a sum */
  Op op;      /* reduce_*, argmax */
  DType type; /* of the terms */
  int level;  /* its terms need results of lower levels only */
  /* Of a sum of exp(x − max x)·f, which takes the same loop as the maximum: see reduce_online.c. NULL and 1 where it is no such
   * sum or has no f. */
  Node *exponent, *factor;
  int most; /* of the maximum */
} Reduction;

typedef struct Reduce {
  Kernel *k;
  int64_t outputs, terms; /* every reduction combines outputs · terms values */
  bool row;               /* terms lie closer in memory than outputs */
  int out_width,
    term_width; /* 1, 4 or 8: neighbours that one invocation takes at once; one of them is 1 */
  Reduction of[REDUCE_MAX];
  int n, levels;
  /* The value of a term: `out` < outputs, `term` < terms, both row-major. Of an online sum its factor, and the exponent in
   * *exponent. */
  SpvId (*value)(struct Reduce *, const Reduction *, const Ix *out, const Ix *term,
                 SpvId *exponent);
  /* Before a loop over terms: computes what such a value needs whatever the term; `varying` is in
   * `term` and stands for the loop's own. NULL: there is nothing. */
  void (*hoist)(struct Reduce *, const Reduction *, const Ix *out, const Ix *term,
                const Ix *varying);
  const void *context;
} Reduce;

/* The kernel: a loop over the terms per level, then the job's outs, each of which is KEPT (one value per output) or FULL
 * (one per term; only where `row`). */
void reduce_emit(Reduce *);

/* ---- reduce_team.c: the members that share the terms of an output ---- */
typedef struct Team {
  enum {
    TEAM_alone,    /* one invocation per unit of outputs */
    TEAM_subgroup, /* a subgroup per output, or `size` neighbouring lanes of one */
    TEAM_group,    /* a workgroup of `size` per output: subgroups, then all of them */
    TEAM_tile      /* a workgroup: `across` units of outputs, `size` members each */
  } kind;
  uint32_t size, across;
  SpvId unit, member; /* this invocation's unit of outputs, and which of its members it is */
  SpvId within;       /* tile: the unit exists; those past the end repeat the first one */
  SpvId shared[2 * REDUCE_WIDTH * REDUCE_MAX],
    place;   /* tile, group: workgroup memory, and this invocation's element; a group's subgroup */
  bool used; /* workgroup memory: by a level before */
} Team;

typedef struct Acc { /* a partial result */
  SpvId value,
    index; /* index: of argmax; of an online sum the bits of what its exponents are relative to */
} Acc;

void team_begin(Team *, Reduce *); /* opens a scope that team_end closes */
void team_end(Team *, Reduce *);
SpvId team_share(Team *, Reduce *, int64_t n); /* how many of n fall to this member: */
SpvId team_turn(Team *, Reduce *, SpvId i);    /* its i-th, i · size + member */
/* The members' partial results combined: result[i][c] for reduction i, where it is of this level,
 * and output c of the unit; in member 0, or everywhere. */
void team_combine(Team *, Reduce *, int level, bool everywhere, Acc (*result)[REDUCE_WIDTH]);
void team_if_first(Team *, Reduce *); /* opens a scope for member 0 of a unit that exists */
void team_end_first(Team *, Reduce *);
void team_if_within(Team *, Reduce *); /* opens a scope for members of a unit that exists */
void team_end_within(Team *, Reduce *);

/* ---- reduce_sum.c: one member's partial results ---- */
Acc acc_combine(Kernel *, const Reduction *, Acc, Acc);
bool acc_has_index(const Reduction *);
/* How many turns a member has at most, and whether they are few enough to be unrolled: then the same
 * values stay in registers from level to level. */
int64_t sum_turns(const Reduce *, const Team *);
bool sum_unrolled(const Reduce *, const Team *);
/* Stands for the unit of terms of any turn, before a loop over them. */
const Ix *sum_any_unit(const Reduce *);
/* The member's i-th unit of terms where turns are unrolled; *exists: 0 where all have one. */
const Ix *sum_unit(Reduce *, Team *, int i, SpvId *exists);
void sum_level(Reduce *, Team *, int level, Acc (*result)[REDUCE_WIDTH]);

/* ---- reduce_online.c ---- */
/* Whether the sum's terms are exp(x − max x)·f over the sum's own axes: fills exponent and factor, gives the maximum. */
Node *online_maximum(const KernelJob *, Reduction *);
Acc online_identity(Kernel *);
Acc online_term(Kernel *, SpvId exponent, SpvId factor);
Acc online_combine(Kernel *, Acc, Acc);
/* Adds n terms to accumulators in variables: to one each, which are relative to the same. */
void online_add(Kernel *, int n, const Acc *variable, const Acc *term);
SpvId online_value(Kernel *, Acc, SpvId maximum); /* the sum, where all terms have been added */

#endif
