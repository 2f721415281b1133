/* term: small expressions over operations, the language of rules.def and vjp.def:
 *   "mul(g, sub(1, mul(out, out)))"
 * A name is a variable, a number is a const whose every element has that value (true and false are
 * numbers of type bool), the rest are operations without attributes. Tables of such texts belong to
 * the compiler: a malformed one dies. */
#ifndef PASSES_TERM_H
#define PASSES_TERM_H

#include "ir/ir.h"

/* Variables. x, y, z match any node, c only a const; g and out appear in gradients. */
typedef enum TermVar { TV_x, TV_y, TV_z, TV_g, TV_out, TV_c, TV_COUNT } TermVar;

typedef struct Term Term;
struct Term {
  enum { TERM_var, TERM_number, TERM_op } kind;
  TermVar var;
  double number;
  Op op;
  int n_src;
  Term *src[3];
  int n_commuting; /* commuting operations in it, itself included */
  unsigned vars;   /* bit per variable that occurs */
};

/* Parses into `arena`. */
Term *term_parse(Arena *arena, const char *text);

/* Whether `n` has the form of `pattern`, commuting operations in either order; fills var[] for the
 * variables that occur. A variable that occurs twice must be the same node both times. All
 * operations matched lie in the region of `n`. */
bool term_match(const Term *pattern, Node *n, Node *var[TV_COUNT]);

/* How a term's operations become nodes: ir_make, or a pass's own constructor that simplifies as it
 * goes. */
typedef struct TermMaker {
  Graph *g;
  Node *(*make)(void *context, Op, const Type *given, int n_src, Node *const *src);
  void *context;
} TermMaker;

/* The node that the term describes. A number takes the type of its sibling sources, else `want`,
 * the type of the whole. */
Node *term_build(const Term *, const TermMaker *, Node *const var[TV_COUNT], const Type *want);

#endif
