/* Matching terms against nodes: a search that goes back over every choice (the order of commuting
 * sources, the alternatives of a form), so that a match is found wherever there is one. */
#include "passes/term.h"

#include <math.h>
#include <string.h>

typedef struct Search {
  TermMatch *m;
  int region;
  bool loose;
} Search;

/* What is still to be matched. Below a reduction shapes count: no expand is looked through. */
typedef struct Todo Todo;
struct Todo {
  const Term *term;
  Node *node;
  bool whole; /* the node itself, not what it broadcasts */
  const Todo *next;
};

static bool solve(Search *, const Todo *);

static bool close_to(double a, double b) { return fabs(a - b) <= 1e-6 * fabs(b); }

static bool number_matches(const Search *s, double want, const Node *n) {
  if (n->op != OP_const) return false;
  if (s->loose) return close_to(n->value, want);
  return n->value == want && !signbit(n->value) == !signbit(want);
}

static Node *below_expands(const Search *s, Node *n) {
  while (n->op == OP_expand && n->region == s->region) n = n->src[0];
  return n;
}

static bool same_node(const Search *s, const Todo *t, const Node *bound) {
  if (t->node == bound) return true;
  if (!s->loose || t->whole) return false;
  return below_expands(s, t->node) == bound ||
         (bound->op == OP_const && t->node->op == OP_const && t->node->value == bound->value);
}

static bool bind(Search *s, TermVar v, const Todo *t, Node *n) {
  Node **bound = &s->m->var[v];
  if (*bound) return same_node(s, t, *bound) && solve(s, t->next);
  *bound = n;
  if (solve(s, t->next)) return true;
  *bound = NULL;
  return false;
}

static bool match_var(Search *s, const Todo *t) {
  TermVar v = t->term->var;
  bool number = v == TV_c || v == TV_d;
  Node *n = number && s->loose && !t->whole ? below_expands(s, t->node) : t->node;
  return (!number || n->op == OP_const) && bind(s, v, t, n);
}

static bool match_sources(Search *s, const Todo *t, Node *n, bool whole) {
  const Term *term = t->term;
  Todo todo[3];
  for (int swap = 0; swap <= ((ir_op[n->op].flags & IR_COMM) != 0); swap++) {
    for (int i = 0; i < term->n_src; i++)
      todo[i] = (Todo){term->src[i], n->src[swap ? 1 - i : i], whole,
                       i + 1 < term->n_src ? &todo[i + 1] : t->next};
    if (solve(s, todo)) return true;
  }
  return false;
}

/* ---- reductions ---- */
static bool axes_match(TermMatch *m, const Node *n) {
  int64_t length = 1;
  for (int i = 0; i < n->n_int; i++) length *= n->src[0]->type.dim[n->ints[i]];
  if (m->n_axis)
    return m->length == length && m->n_axis == n->n_int &&
           memcmp(m->axis, n->ints, sizeof *n->ints * (size_t)n->n_int) == 0;
  m->n_axis = n->n_int;
  m->length = length;
  memcpy(m->axis, n->ints, sizeof *n->ints * (size_t)n->n_int);
  return true;
}

static bool match_reduction(Search *s, const Todo *t, Node *n) {
  int before = s->m->n_axis;
  if (axes_match(s->m, n) && match_sources(s, t, n, true)) return true;
  s->m->n_axis = before;
  return false;
}

/* The sum whose mean `n` is; NULL where it is none. */
static Node *sum_of_mean(const Search *s, const Node *n) {
  for (int i = 0; i < 2 && (n->op == OP_mul || n->op == OP_div); i++) {
    Node *sum = below_expands(s, n->src[i]);
    const Node *factor = below_expands(s, n->src[1 - i]);
    if (sum->op != OP_reduce_sum || factor->op != OP_const || (n->op == OP_div && i)) continue;
    double count = (double)type_count(&sum->src[0]->type) / (double)type_count(&sum->type);
    if (close_to(factor->value, n->op == OP_div ? count : 1 / count)) return sum;
  }
  return NULL;
}

/* ---- polynomials ---- */
enum { DEGREE = 3, MAX_DEPTH = 10 };
typedef struct Polynomial {
  double of[DEGREE + 1]; /* coefficients */
} Polynomial;

static bool multiply(const Polynomial *a, const Polynomial *b, Polynomial *out) {
  *out = (Polynomial){0};
  for (int i = 0; i <= DEGREE; i++)
    for (int j = 0; j <= DEGREE; j++) {
      double c = a->of[i] * b->of[j];
      if (c != 0 && i + j > DEGREE) return false;
      if (c != 0) out->of[i + j] += c;
    }
  return true;
}

/* n as a polynomial in x. */
static bool polynomial(const Search *s, Node *n, const Node *x, int depth, Polynomial *out) {
  Polynomial a, b;
  *out = (Polynomial){0};
  if (n == x) return out->of[1] = 1, true;
  n = below_expands(s, n);
  if (n->op == OP_const) return out->of[0] = n->value, true;
  if (depth == MAX_DEPTH || n->region != s->region) return false;
  bool two = n->op == OP_add || n->op == OP_sub || n->op == OP_mul || n->op == OP_div;
  if (!two && n->op != OP_neg) return false;
  if (!polynomial(s, n->src[0], x, depth + 1, &a)) return false;
  if (two && !polynomial(s, n->src[1], x, depth + 1, &b)) return false;
  if (n->op == OP_mul) return multiply(&a, &b, out);
  if (n->op == OP_div && (b.of[1] != 0 || b.of[2] != 0 || b.of[3] != 0 || b.of[0] == 0))
    return false;
  for (int i = 0; i <= DEGREE; i++)
    out->of[i] = n->op == OP_neg   ? -a.of[i]
                 : n->op == OP_add ? a.of[i] + b.of[i]
                 : n->op == OP_sub ? a.of[i] - b.of[i]
                                   : a.of[i] / b.of[0];
  return true;
}

static bool match_cubic(Search *s, const Todo *t) {
  const Term *const *src = (const Term *const *)t->term->src;
  const Node *x = s->m->var[src[0]->var];
  Polynomial p;
  return x && polynomial(s, t->node, x, 0, &p) && p.of[0] == 0 && p.of[2] == 0 &&
         close_to(p.of[1], src[1]->number) && close_to(p.of[3], src[2]->number) &&
         solve(s, t->next);
}

/* ---- the search ---- */
static bool match_operation(Search *s, const Todo *t, Node *n) {
  const Term *term = t->term;
  if (n->region != s->region) return false;
  switch (term->kind) {
  case TERM_op: {
    if (n->op != term->op || n->n_src != term->n_src) return false;
    AttrKind kind = ir_op[n->op].attr;
    if (kind == ATTR_axis || kind == ATTR_norm) return match_reduction(s, t, n);
    return match_sources(s, t, n, false);
  }
  case TERM_along: return n->op == term->op && match_reduction(s, t, n);
  case TERM_mean:
    n = sum_of_mean(s, n);
    return n && n->region == s->region && match_reduction(s, t, n);
  default: die("term: kind %d", term->kind);
  }
}

/* What a name may stand before: an operation, or the forms of one. */
static bool match_named(Search *s, const Todo *t, Node *n) {
  const Term *term = t->term;
  if (term->kind != TERM_any) return match_operation(s, t, n);
  for (int i = 0; i < term->n_src; i++)
    if (solve(s, &(Todo){term->src[i], t->node, t->whole, t->next})) return true;
  return false;
}

static bool solve(Search *s, const Todo *t) {
  if (!t) return true;
  const Term *term = t->term;
  if (term->kind == TERM_var) return match_var(s, t);
  Node *n = s->loose && !t->whole ? below_expands(s, t->node) : t->node;
  if (term->kind == TERM_number) return number_matches(s, term->number, n) && solve(s, t->next);
  if (term->kind == TERM_cubic) return match_cubic(s, t);
  if (term->var == TV_COUNT) return match_named(s, t, n);
  Node **name = &s->m->var[term->var], *before = *name;
  if (before && before != n) return false;
  *name = n;
  if (match_named(s, t, n)) return true;
  *name = before;
  return false;
}

bool term_match(const Term *pattern, Node *n, Node *var[TV_COUNT]) {
  TermMatch m = {.n_axis = 0};
  Search s = {&m, n->region, false};
  bool found = solve(&s, &(Todo){pattern, n, false, NULL});
  memcpy(var, m.var, sizeof m.var);
  return found;
}

bool term_match_loosely(const Term *pattern, Node *n, TermMatch *m) {
  *m = (TermMatch){.n_axis = 0};
  Search s = {m, n->region, true};
  return solve(&s, &(Todo){pattern, n, false, NULL});
}
