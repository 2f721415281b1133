/* simplify: its rules, shared by its files and their test (private to passes). */
#ifndef PASSES_SIMPLIFY_H
#define PASSES_SIMPLIFY_H

#include "passes/term.h"

#include <math.h>

/* How a rewrite may change values; see rules.def. */
enum { EXACT = 0, ZERO = 1, INF = 2, NEAR = 4, BETTER = 8, SUM = 16 };

/* Roots and sources of SHAPEs that are more than one operation. */
enum { OP_any = OP_COUNT, OP_elementwise };

/* A RULE has terms and a guard, a SHAPE a function. */
typedef struct Rule {
  const char *name;
  int kind;
  const char *pattern, *result;
  bool (*holds)(double c, double d, bool is_int);
  const Term *from, *to;
  int root, below; /* Op, OP_any or OP_elementwise */
  Node *(*rewrite)(Graph *, Node *);
} Rule;

/* ---- simplify_rules.c ---- */
/* All rules in the order in which they are tried. */
int simplify_rules(const Rule **);
/* The indices of the rules whose root an operation is; −1 ends. */
const int16_t *simplify_rules_of(Op);
/* Whether a rule of this kind may be used for a node. */
bool simplify_allows(int kind, bool strict, const Node *);
/* What the rule makes of the node, NULL: nothing. New operations come from `m`, as far as the rule
 * has terms. */
Node *simplify_by(const Rule *, const TermMaker *m, Node *);

#define RULE(pattern, result, kind, guard)
#define SHAPE(root, below, name, kind, function) Node *simplify_##function(Graph *, Node *);
#include "passes/rules.def"
#undef SHAPE
#undef RULE

/* ---- simplify_table.c ---- */
/* Functions that a device may compute less exactly than wished, over iotas and consts alone, become
 * fold nodes: tables computed at compile time in f64. */
typedef struct Tables { /* what is known of the nodes of a graph that grows */
  Graph *g;
  uint8_t *fact; /* by id */
  int n, cap;
} Tables;
Node *simplify_table(Tables *, Node *); /* NULL: the node is no such function */

/* ---- for rules.def ---- */
/* c and 1/c are powers of two, both normal numbers. */
static inline bool is_power_of_two(double c) {
  int e;
  return isfinite(c) && c != 0 && fabs(frexp(c, &e)) == 0.5 && e > -125 && e < 127;
}

/* c and 1/c are normal numbers, in f16 too. */
static inline bool has_reciprocal(double c) { return fabs(c) >= 0x1p-14 && fabs(c) <= 0x1p14; }

#endif
