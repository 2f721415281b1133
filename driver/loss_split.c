/* Finds the sum and the count in a loss that is a mean: the mean over several batches is then Σ
 * sums / Σ counts, whatever the counts are. Looks through what a mean may be wrapped in: views of
 * one element, negation, factors, and sums of means over the same count. */
#include "driver/programs_internal.h"

#include <math.h>
#include <stdlib.h>

typedef struct Split {
  Graph *g;
  bool *moved; /* by id: depends on a parameter */
} Split;

static Node *scalar(Graph *g, Node *x) { return ir_reshape(g, x, 0, NULL); }

static bool is_const(const Node *n, double *value) {
  if (n->op != OP_const) return false;
  *value = n->value;
  return true;
}

/* x / y with y a count: whatever no parameter moves, unless it is the same each time. */
static bool split_quotient(const Split *s, Node *x, Node *y, LossParts *out) {
  if (s->moved[y->id] || y->op == OP_const) return false;
  *out = (LossParts){scalar(s->g, x), NULL, 0};
  for (int i = 0; i < 2 && y->op == OP_max; i++) {
    if (!is_const(y->src[i], &out->least) || out->least <= 0) continue;
    y = y->src[1 - i];
    break;
  }
  out->count = scalar(s->g, y);
  return true;
}

static bool split(const Split *s, Node *n, LossParts *out);

static bool split_scaled(const Split *s, Node *n, Node *inner, double factor, LossParts *out) {
  if (!split(s, inner, out)) return false;
  Node *c = ir_const(s->g, factor, &out->sum->type);
  out->sum = n->op == OP_div ? ir_div(s->g, out->sum, c) : ir_mul(s->g, out->sum, c);
  return true;
}

static bool split_sum(const Split *s, Node *n, LossParts *out) {
  LossParts y;
  if (!split(s, n->src[0], out) || !split(s, n->src[1], &y)) return false;
  if (out->count != y.count || out->least != y.least) return false;
  out->sum = n->op == OP_add ? ir_add(s->g, out->sum, y.sum) : ir_sub(s->g, out->sum, y.sum);
  return true;
}

static bool split(const Split *s, Node *n, LossParts *out) {
  double c;
  switch (n->op) {
  case OP_reshape:
  case OP_expand:
  case OP_permute: return type_count(&n->src[0]->type) == 1 && split(s, n->src[0], out);
  case OP_neg:
    if (!split(s, n->src[0], out)) return false;
    out->sum = ir_neg(s->g, out->sum);
    return true;
  case OP_mul:
    for (int i = 0; i < 2; i++)
      if (is_const(n->src[i], &c)) return split_scaled(s, n, n->src[1 - i], c, out);
    return false;
  case OP_div:
    if (is_const(n->src[1], &c)) return split_scaled(s, n, n->src[0], c, out);
    return split_quotient(s, n->src[0], n->src[1], out);
  case OP_add:
  case OP_sub: return split_sum(s, n, out);
  default: return false;
  }
}

bool loss_split(Graph *g, Node *loss, LossParts *out) {
  Split s = {g, xcalloc((size_t)g->n_node, sizeof(bool))};
  for (int i = 0; i < g->n_node; i++) {
    s.moved[i] = g->node[i]->op == OP_param;
    for (int k = 0; k < g->node[i]->n_src; k++)
      s.moved[i] = s.moved[i] || s.moved[g->node[i]->src[k]->id];
  }
  bool ok = loss->type.dtype == DT_f32 && split(&s, loss, out);
  free(s.moved);
  return ok;
}
