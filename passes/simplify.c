/* simplify: constants are folded, algebra applied (rules.def), views merged (simplify_shape.c),
 * dead nodes dropped.
 *
 * needs: a verified graph.  gives: an equal graph; the same pointer where nothing changed.
 * breaks: nothing.
 *
 * Works upwards: the new graph is built node by node from simple sources, and what a rule makes is
 * simplified as it is made. A rule sees one region only, so nothing kept is mixed with what is
 * recomputed.
 * Functions that a device may compute less exactly than wished (sin, pow …) over iotas and consts
 * alone become fold nodes: tables computed at compile time in f64. */
#include "passes/passes.h"
#include "passes/simplify.h"
#include "passes/term.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
  MAX_TABLE = 1 << 22, /* elements of a table that simplify makes */
  MAX_ROUNDS = 32      /* over the graph, until nothing changes */
};

struct Simplify {
  Graph *to;
  bool strict;
  int *hits;     /* by rule */
  uint8_t *fact; /* by id in `to` */
  int n_fact, cap_fact;
};

enum {
  IS_CONSTANT = 1, /* depends on no leaf but const and iota */
  IS_MIXED = 2     /* has a fold or a region in or below it */
};

/* ---- rules.def ---- */
typedef struct Rule {
  const char *name, *pattern, *result;
  int line, kind;
  const Term *from, *to;
  int next; /* rule of the same root operation; −1 ends */
} Rule;

static Rule rule[] = {
#define RULE(pattern, result, kind, guard)                                                         \
  {pattern " = " result, pattern, result, __LINE__, kind, NULL, NULL, -1},
#include "passes/rules.def"
#undef RULE
};
static int first_rule[OP_COUNT];

static bool guard(int line, double c, bool is_int) {
  switch (line) {
#define RULE(pattern, result, kind, guard)                                                         \
  case __LINE__:                                                                                   \
    return guard;
#include "passes/rules.def"
#undef RULE
  default: die("simplify: no rule on line %d", line);
  }
}

static void parse_rules(void) {
  if (rule[0].from) return;
  static Arena *arena; /* lives as long as the tables: to the end */
  arena = arena_new();
  for (int op = 0; op < OP_COUNT; op++) first_rule[op] = -1;
  for (int i = COUNT_OF(rule) - 1; i >= 0; i--) {
    rule[i].from = term_parse(arena, rule[i].pattern);
    rule[i].to = term_parse(arena, rule[i].result);
    rule[i].next = first_rule[rule[i].from->op];
    first_rule[rule[i].from->op] = i;
  }
}

static Node *make_simple(void *s, Op op, const Type *given, int n_src, Node *const *src) {
  return simplify_node(s, ir_make(((Simplify *)s)->to, op, given, NULL, n_src, src));
}

/* Integers have no −0, no infinity and no rounding: a rule that speaks of more than zeros is off. */
static bool is_allowed(int kind, bool strict, bool is_int) {
  return kind == EXACT || (!strict && (!is_int || kind == ZERO));
}

static Node *apply_rules(Simplify *s, Node *n) {
  Node *var[TV_COUNT];
  bool is_int = (n->n_src ? n->src[n->n_src - 1] : n)->type.dtype == DT_i32;
  for (int i = first_rule[n->op]; i >= 0; i = rule[i].next) {
    if (!is_allowed(rule[i].kind, s->strict, is_int) || !term_match(rule[i].from, n, var)) continue;
    if (!guard(rule[i].line, var[TV_c] ? var[TV_c]->value : 0, is_int)) continue;
    s->hits[i]++;
    return term_build(rule[i].to, &(TermMaker){.g = s->to, .make = make_simple, .context = s}, var,
                      &n->type);
  }
  return NULL;
}

/* ---- constants ---- */
static bool all_const(const Node *n) {
  for (int i = 0; i < n->n_src; i++)
    if (n->src[i]->op != OP_const) return false;
  return n->n_src > 0;
}

/* An elementwise operation on consts has one value in every element: the evaluator computes it on
 * scalars. */
static Node *fold_elementwise(Graph *g, const Node *n) {
  Graph *one = graph_new("fold");
  Node *src[3];
  for (int i = 0; i < n->n_src; i++) {
    Type t = type_scalar(n->src[i]->type.dtype);
    src[i] = ir_const(one, n->src[i]->value, &t);
  }
  Type t = type_scalar(n->type.dtype);
  Node *y = ir_make(one, n->op, ir_op[n->op].given ? &t : NULL, NULL, n->n_src, src);
  Tensor result;
  Buf why = {0};
  if (!ir_eval(one->arena, one, EVAL_f32, NULL, 0, &y, 1, &result, &why))
    die("simplify: %s: %s", ir_op[n->op].name, why.data);
  Node *folded = ir_const(g, result.data[0], &n->type);
  graph_free(one);
  return folded;
}

static bool same_value(const Node *n) {
  for (int i = 1; i < n->n_src; i++)
    if (memcmp(&n->src[i]->value, &n->src[0]->value, sizeof n->src[0]->value) != 0) return false;
  return true;
}

static int64_t count_reduced(const Node *n) {
  int64_t count = 1;
  for (int i = 0; i < n->n_int; i++) count *= n->src[0]->type.dim[n->ints[i]];
  return count;
}

/* A node whose sources are consts, as a const; NULL where it is none. */
static Node *fold_consts(Graph *g, const Node *n, bool strict) {
  if (!all_const(n)) return NULL;
  double value = n->src[0]->value;
  switch (n->op) {
  case OP_reshape:
  case OP_expand:
  case OP_permute:
  case OP_slice:
  case OP_fold:
  case OP_reduce_max:
  case OP_reduce_min: return ir_const(g, value, &n->type);
  case OP_pad:
    return memcmp(&n->value, &value, sizeof value) == 0 ? ir_const(g, value, &n->type) : NULL;
  case OP_concat: return same_value(n) ? ir_const(g, value, &n->type) : NULL;
  case OP_reduce_sum: /* one rounding, not one for each term */
    return strict && n->type.dtype != DT_i32
             ? NULL
             : ir_const(g, value * (double)count_reduced(n), &n->type);
  case OP_argmax: return ir_const(g, 0, &n->type);
  default: return ir_op[n->op].flags & IR_EW ? fold_elementwise(g, n) : NULL;
  }
}

/* ---- tables ---- */
static uint8_t find_fact(const Simplify *s, const Node *n) {
  uint8_t fact = n->op == OP_fold || n->region ? IS_MIXED : 0;
  bool constant = n->op == OP_const || n->op == OP_iota || !(ir_op[n->op].flags & IR_LEAF);
  for (int i = 0; i < n->n_src; i++) {
    fact |= s->fact[n->src[i]->id] & IS_MIXED;
    constant = constant && s->fact[n->src[i]->id] & IS_CONSTANT;
  }
  return constant ? fact | IS_CONSTANT : fact;
}

static uint8_t fact_of(Simplify *s, const Node *n) {
  if (s->cap_fact < s->to->n_node) {
    s->cap_fact = 2 * s->to->n_node;
    s->fact = xrealloc(s->fact, (size_t)s->cap_fact);
  }
  while (s->n_fact <= n->id) {
    s->fact[s->n_fact] = find_fact(s, s->to->node[s->n_fact]);
    s->n_fact++;
  }
  return s->fact[n->id];
}

/* The same constant subgraph outside any region and without folds, so that a table is one fold over
 * plain operations. */
static Node *plain_constant(Simplify *s, Node *n) {
  if (!(fact_of(s, n) & IS_MIXED)) return n;
  Graph *g = s->to;
  Node **map = xcalloc((size_t)n->id + 1, sizeof *map);
  bool *need = xcalloc((size_t)n->id + 1, 1);
  need[n->id] = true;
  for (int id = n->id; id >= 0; id--)
    for (int i = 0; need[id] && i < g->node[id]->n_src; i++) need[g->node[id]->src[i]->id] = true;
  int region = g->region, last = n->id;
  g->region = 0;
  for (int id = 0; id <= last; id++) {
    Node *old = g->node[id], *src[IR_MAX_SRC];
    if (!need[id]) continue;
    for (int i = 0; i < old->n_src; i++) src[i] = map[old->src[i]->id];
    Attr attr = {.value = old->value, .name = old->name, .n_int = old->n_int};
    if (old->n_int) memcpy(attr.ints, old->ints, sizeof *old->ints * (size_t)old->n_int);
    map[id] = old->op == OP_fold ? src[0] : ir_make(g, old->op, &old->type, &attr, old->n_src, src);
  }
  g->region = region;
  Node *plain = map[last];
  free(map);
  free(need);
  return plain;
}

static bool is_transcendental(Op op) {
  switch (op) {
  case OP_exp:
  case OP_expm1:
  case OP_log:
  case OP_log1p:
  case OP_pow:
  case OP_sin:
  case OP_cos:
  case OP_tanh:
  case OP_sigmoid:
  case OP_erf: return true;
  default: return false;
  }
}

static Node *make_table(Simplify *s, Node *n) {
  bool wanted = is_transcendental(n->op) && type_count(&n->type) <= MAX_TABLE;
  if (n->op != OP_fold && !wanted) return NULL;
  if (!(fact_of(s, n) & IS_CONSTANT)) return NULL;
  Node *below = plain_constant(s, n->op == OP_fold ? n->src[0] : n);
  if (n->op == OP_fold && below == n->src[0] && n->region == 0) return NULL;
  int region = s->to->region;
  s->to->region = 0;
  Node *table = ir_fold(s->to, below);
  s->to->region = region;
  return table;
}

/* ---- the pass ---- */
Node *simplify_node(Simplify *s, Node *n) {
  Graph *g = s->to;
  int region = g->region;
  if (!(ir_op[n->op].flags & IR_LEAF)) g->region = n->region;
  Node *better = fold_consts(g, n, s->strict);
  if (!better) better = apply_rules(s, n);
  if (!better && (better = simplify_shape(g, n, s->strict))) better = simplify_node(s, better);
  if (!better) better = make_table(s, n);
  g->region = region;
  return better ? better : n;
}

static bool same_node(const Node *a, const Node *b) {
  if (a->op != b->op || a->region != b->region || a->n_src != b->n_src || a->n_int != b->n_int ||
      a->name != b->name || memcmp(&a->value, &b->value, sizeof a->value) != 0 ||
      !type_eq(&a->type, &b->type))
    return false;
  for (int i = 0; i < a->n_src; i++)
    if (a->src[i]->id != b->src[i]->id) return false;
  for (int i = 0; i < a->n_int; i++)
    if (a->ints[i] != b->ints[i]) return false;
  return true;
}

static bool same_graph(const Graph *a, const Graph *b) {
  if (a->n_node != b->n_node) return false;
  for (int i = 0; i < a->n_node; i++)
    if (!same_node(a->node[i], b->node[i])) return false;
  for (int i = 0; i < a->n_output; i++)
    if (a->output[i].node->id != b->output[i].node->id) return false;
  return true;
}

static Graph *simplify_once(const Graph *g, bool strict, int *hits) {
  Simplify s = {.to = graph_new(g->name), .strict = strict, .hits = hits};
  Node **map = xcalloc((size_t)g->n_node + 1, sizeof *map);
  for (int i = 0; i < g->n_node; i++) {
    Node *old = g->node[i], *src[IR_MAX_SRC];
    for (int k = 0; k < old->n_src; k++) src[k] = map[old->src[k]->id];
    s.to->loc = old->loc;
    map[i] = simplify_node(&s, ir_rebuild(s.to, old, src));
    if (!map[i]->label && old->label && !(ir_op[map[i]->op].flags & IR_LEAF))
      map[i]->label = old->label;
  }
  for (int i = 0; i < g->n_output; i++)
    ir_output(s.to, g->output[i].kind, g->output[i].name, map[g->output[i].node->id]);
  Graph *live = graph_copy(s.to);
  free(map);
  free(s.fact);
  graph_free(s.to);
  return live;
}

Graph *pass_simplify(Graph *g, const PassOptions *o) {
  int hits[COUNT_OF(rule)] = {0};
  parse_rules();
  Graph *now = g;
  for (int round = 0; round < MAX_ROUNDS; round++) {
    Graph *next = simplify_once(now, o->strict, hits);
    if (same_graph(now, next)) {
      graph_free(next);
      break;
    }
    if (now != g) graph_free(now);
    now = next;
  }
  for (int i = 0; i < COUNT_OF(rule); i++) pass_hit(o, rule[i].name, hits[i]);
  return now;
}
