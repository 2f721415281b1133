/* The rules of simplify as a table (rules.def), and how one of them is tried on a node. */
#include "passes/simplify.h"

#include <stdlib.h>

/* holds_<line>: the guard of the rule on that line */
#define NAME_OF(line) holds_##line
#define NAME(line) NAME_OF(line)
#define SHAPE(root, below, name, kind, function)
#define RULE(pattern, result, kind, guard)                                                         \
  static bool NAME(__LINE__)(double c, double d, bool is_int) {                                    \
    (void)c, (void)d, (void)is_int;                                                                \
    return guard;                                                                                  \
  }
#include "passes/rules.def"
#undef SHAPE
#undef RULE

#define SHAPE(root, below, name, kind, function)                                                   \
  {name, kind, NULL, NULL, NULL, NULL, NULL, OP_##root, OP_##below, simplify_##function},
#define RULE(pattern, result, kind, guard)                                                         \
  {pattern " = " result, kind, pattern, result, NAME(__LINE__), NULL, NULL, 0, OP_any, NULL},
static Rule rule[] = {
#include "passes/rules.def"
};
#undef SHAPE
#undef RULE

static int16_t by_root[OP_COUNT][COUNT_OF(rule) + 1];

static bool is_root(const Rule *r, int op) {
  if (r->root == OP_elementwise) return (ir_op[op].flags & IR_EW) != 0;
  return r->root == op;
}

static void parse_rules(void) {
  static Arena *arena; /* lives as long as the table: to the end */
  if (arena) return;
  arena = arena_new();
  for (int i = 0; i < COUNT_OF(rule); i++) {
    if (!rule[i].pattern) continue;
    rule[i].from = term_parse(arena, rule[i].pattern);
    rule[i].to = term_parse(arena, rule[i].result);
    rule[i].root = rule[i].from->op;
  }
  for (int op = 0; op < OP_COUNT; op++) {
    int n = 0;
    for (int i = 0; i < COUNT_OF(rule); i++)
      if (is_root(&rule[i], op)) by_root[op][n++] = (int16_t)i;
    by_root[op][n] = -1;
  }
}

int simplify_rules(const Rule **r) {
  parse_rules();
  *r = rule;
  return COUNT_OF(rule);
}

const int16_t *simplify_rules_of(Op op) { return by_root[op]; }

static bool is_int(const Node *n) {
  return (n->n_src ? n->src[n->n_src - 1] : n)->type.dtype == DT_i32;
}

/* Integers have no −0, no infinity, and sums in any order are the same: what speaks of more than
 * that is off. */
bool simplify_allows(int kind, bool strict, const Node *n) {
  if (kind == EXACT) return true;
  return is_int(n) ? (kind & ~(ZERO | SUM)) == 0 : !strict;
}

Node *simplify_by(const Rule *r, const TermMaker *m, Node *n) {
  if (r->below != OP_any && (n->n_src == 0 || (int)n->src[0]->op != r->below ||
                             (r->below != OP_const && n->src[0]->region != n->region)))
    return NULL;
  if (r->rewrite) return r->rewrite(m->g, n);
  Node *var[TV_COUNT];
  if (!term_match(r->from, n, var)) return NULL;
  double c = var[TV_c] ? var[TV_c]->value : 0, d = var[TV_d] ? var[TV_d]->value : 0;
  return r->holds(c, d, is_int(n)) ? term_build(r->to, m, var, &n->type) : NULL;
}
