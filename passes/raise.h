/* raise: what its files share (private to passes). Each function gives the raised equal of a node of
 * `g`, whose sources are raised already, or NULL; new nodes get the region of `g`. */
#ifndef PASSES_RAISE_H
#define PASSES_RAISE_H

#include "passes/term.h"

/* ---- raise.c ---- */
/* A pattern that may use the forms of raise.def; lives to the end. */
const Term *raise_pattern(const char *text);

/* ---- raise_mask.c ---- */
/* Key j is visible to query i where lo <= j − i <= hi and `rest` holds. */
typedef struct Visible {
  int64_t lo, hi;
  Node *rest; /* bool; NULL: always */
} Visible;
/* Narrows `v` by a condition (or by its negation) whose last two dimensions are queries and keys;
 * what is no band is added to v->rest, in the shape of `condition`. */
void visible_and(Graph *g, Node *condition, bool negated, Visible *v);
/* Whether `n` has only two values: `yes` where a condition holds, else `no`. */
typedef struct Choice {
  Node *condition; /* in the shape of n */
  double yes, no;
} Choice;
bool is_choice(Graph *g, Node *n, Choice *);
/* Whether each element is `step` times its index along `axis`. */
bool is_index_along(Node *n, int axis, int64_t step);

/* ---- raise_attention.c ---- */
Node *raise_attention(Graph *g, Node *n);

/* ---- raise_loss.c ---- */
Node *raise_loss(Graph *g, Node *n);

/* ---- raise_rope.c ---- */
Node *raise_rope(Graph *g, Node *n);

#endif
