/* term: small expressions over operations, the language of rules.def, vjp.def and raise.def:
 *   "mul(g, sub(1, mul(out, out)))"
 * A name is a variable, a number is a const whose every element has that value (true and false are
 * numbers of type bool), the rest are operations; those with an attribute take it from the place
 * where the term is used. Beside the operations there are
 *   sum(t) mean(t) max(t)  reductions over the axes at hand, as large as t again
 * and in patterns
 *   y:t             what t matches, under the name y
 *   name(t, …)      any of the forms of that name that a table defines
 *   cubic(x, a, b)  a·x + b·x³, however it is written; x is a variable that the pattern has met
 * Tables of such texts belong to the compiler: a malformed one dies. */
#ifndef PASSES_TERM_H
#define PASSES_TERM_H

#include "ir/ir.h"

/* Variables. c and d match only a const, the others any node; g and out appear in gradients. */
typedef enum TermVar { TV_x, TV_y, TV_z, TV_w, TV_v, TV_g, TV_out, TV_c, TV_d, TV_COUNT } TermVar;

typedef struct Term Term;
struct Term {
  enum { TERM_var, TERM_number, TERM_op, TERM_along, TERM_mean, TERM_any, TERM_cubic } kind;
  TermVar var;   /* TERM_var; else the name that the matched node gets, TV_COUNT: none */
  double number; /* TERM_number */
  Op op;         /* TERM_op; TERM_along: the reduction */
  int n_src;     /* TERM_any: alternatives */
  Term **src;    /* TERM_cubic: x, a, b */
  unsigned vars; /* bit per variable that occurs */
};

/* A form that patterns may use by its name: head "half(x, y)" with variables as parameters, and a
 * body. Several forms of one name are alternatives. Forms may use those before them. */
typedef struct TermForm {
  const char *head, *body;
} TermForm;

/* Parses into `arena`. */
Term *term_parse(Arena *arena, const char *text);
Term *term_parse_pattern(Arena *arena, const char *text, const TermForm *form, int n_form);

/* ---- term_match.c ---- */
/* Whether `n` has the form of `pattern`, commuting operations in either order; fills var[] for the
 * variables that occur. A variable that occurs twice must be the same node both times. All
 * operations matched lie in the region of `n`. */
bool term_match(const Term *pattern, Node *n, Node *var[TV_COUNT]);

typedef struct TermMatch {
  Node *var[TV_COUNT];
  int n_axis; /* of the reductions, which all have the same; 0: there is none */
  int64_t axis[IR_MAX_RANK];
  int64_t length; /* elements that become one; also the same for all */
} TermMatch;
/* The same up to what a reader would overlook: an operation matches through the expand that
 * broadcasts it, and numbers are equal to six digits. */
bool term_match_loosely(const Term *pattern, Node *n, TermMatch *);

/* How a term's operations become nodes: ir_make, or a pass's own constructor that simplifies as it
 * goes. */
typedef struct TermMaker {
  Graph *g;
  Node *(*make)(void *context, Op, const Type *given, int n_src, Node *const *src);
  void *context;
  const Attr *attr; /* for operations that carry one; its ints are the axes of sum, mean, max. NULL:
                       there are none of these */
} TermMaker;

/* The node that the term describes. A number takes the type of its sibling sources, else `want`,
 * the type of the whole. */
Node *term_build(const Term *, const TermMaker *, Node *const var[TV_COUNT], const Type *want);

#endif
