/* Tables of simplify: functions that a device may compute less exactly than wished (sin, pow …) over
 * iotas and consts alone become fold nodes, computed at compile time in f64. */
#include "passes/simplify.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TABLE = 1 << 22 }; /* elements of a table that simplify makes */

enum {
  IS_CONSTANT = 1, /* depends on no leaf but const and iota */
  IS_MIXED = 2     /* has a fold or a region in or below it */
};

static uint8_t find_fact(const Tables *t, const Node *n) {
  uint8_t fact = n->op == OP_fold || n->region ? IS_MIXED : 0;
  bool constant = n->op == OP_const || n->op == OP_iota || !(ir_op[n->op].flags & IR_LEAF);
  for (int i = 0; i < n->n_src; i++) {
    fact |= t->fact[n->src[i]->id] & IS_MIXED;
    constant = constant && t->fact[n->src[i]->id] & IS_CONSTANT;
  }
  return constant ? fact | IS_CONSTANT : fact;
}

static uint8_t fact_of(Tables *t, const Node *n) {
  if (t->cap < t->g->n_node) {
    t->cap = 2 * t->g->n_node;
    t->fact = xrealloc(t->fact, (size_t)t->cap);
  }
  while (t->n <= n->id) {
    t->fact[t->n] = find_fact(t, t->g->node[t->n]);
    t->n++;
  }
  return t->fact[n->id];
}

/* The same constant subgraph outside any region and without folds, so that a table is one fold over
 * plain operations. */
static Node *plain_constant(Tables *t, Node *n) {
  if (!(fact_of(t, n) & IS_MIXED)) return n;
  Graph *g = t->g;
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
  case OP_erf:
  case OP_erfc: return true;
  default: return false;
  }
}

Node *simplify_table(Tables *t, Node *n) {
  bool wanted = is_transcendental(n->op) && type_count(&n->type) <= MAX_TABLE;
  if (n->op != OP_fold && !wanted) return NULL;
  if (!(fact_of(t, n) & IS_CONSTANT)) return NULL;
  Node *below = plain_constant(t, n->op == OP_fold ? n->src[0] : n);
  if (n->op == OP_fold && below == n->src[0] && n->region == 0) return NULL;
  int region = t->g->region;
  t->g->region = 0;
  Node *table = ir_fold(t->g, below);
  t->g->region = region;
  return table;
}
