/* limit: keeps each kernel within what codegen accepts. Needs fuse's choice; stores more nodes,
 * never fewer, so that a product reads only what cg_strided can address or it can compute, a kernel reads at most
 * CG_MAX_SLOTS − 2 stored nodes, calls of random counted as such (each has a slot for its place),
 *   a kernel's expression has at most MAX_NODES evaluations (drivers compile in time that grows
 * faster than length).
 */
#include "passes/plan_internal.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_NODES = 160, MAX_OPERANDS = CG_MAX_SLOTS - 2 };

/* The expression below a root as a kernel evaluates it: a node counts once for each index at which
 * it is asked. Operations that change the index begin a new context. */
typedef struct Expression {
  struct {
    const Node *node;
    int context;
  } at[MAX_NODES + 1];
  int n, n_context;
  const Node *operand[MAX_OPERANDS + 1];
  int n_operand;
} Expression;

static bool keeps_index(const Node *n) { return ir_op[n->op].flags & IR_EW; }

static bool too_large(const Expression *e) {
  return e->n > MAX_NODES || e->n_operand > MAX_OPERANDS;
}

static void expression_add(const Planner *p, const Node *n, int context, bool is_root,
                           Expression *e) {
  if (too_large(e)) return;
  if (!is_root && p->stored[n->id]) {
    for (int i = 0; i < e->n_operand; i++)
      if (e->operand[i] == n) return;
    e->operand[e->n_operand++] = n;
    return;
  }
  for (int i = 0; i < e->n; i++)
    if (e->at[i].node == n && e->at[i].context == context) return;
  if (n->op == OP_random) e->operand[e->n_operand++] = n;
  e->at[e->n].node = n;
  e->at[e->n++].context = context;
  for (int s = 0; s < n->n_src; s++)
    expression_add(p, n->src[s], keeps_index(n) ? context : ++e->n_context, false, e);
}

static void expression_of(const Planner *p, const Node *root, Expression *e) {
  e->n = e->n_context = e->n_operand = 0;
  expression_add(p, root, 0, true, e);
}

/* The inlined source of `n` with the longest expression; NULL where all are stored or free. */
static Node *largest_source(const Planner *p, const Node *n, Expression *scratch) {
  Node *best = NULL;
  int most = 0;
  for (int s = 0; s < n->n_src; s++) {
    if (p->stored[n->src[s]->id] || plan_free(n->src[s])) continue;
    expression_of(p, n->src[s], scratch);
    int size = scratch->n + MAX_NODES * scratch->n_operand / MAX_OPERANDS;
    if (size > most) most = size, best = n->src[s];
  }
  return best;
}

/* Nodes in topological order, inlined or not: each is made to fit when it is reached, so what lies
 * below already fits and a node that does not fit is brought down by storing its own sources. */
static void fit(Planner *p, const Node *n, Expression *e) {
  for (;;) {
    expression_of(p, n, e);
    if (!too_large(e)) return;
    Node *source = largest_source(p, n, e);
    if (!source) die("plan: %%%d = %s reads too much for one kernel", n->id, ir_op[n->op].name);
    p->stored[source->id] = true;
  }
}

/* Stores the first of the views of `source`, from their base on, above which all have strides: the heads of attention merged,
 * say, and not parts of their channels. */
static bool store_view(Planner *p, const Node *source, const Node *view) {
  Strided s;
  if (cg_reads_through(view) && store_view(p, source, view->src[0])) return true;
  if (view->op == OP_reshape || p->stored[view->id]) return false;
  p->stored[view->id] = true;
  if (cg_strided(source, p->stored, &s)) return true;
  p->stored[view->id] = false;
  return false;
}

/* What a product is to read where its source's views have no strides: the views done, in 16 bits where
 * the source is a widening. */
static void store_source(Planner *p, const Node *source) {
  Strided s;
  const Node *narrow = source;
  if (cg_strided(source, p->stored, &s)) return;
  while (cg_reads_through(narrow) && !dtype_is_16((DType)narrow->type.dtype))
    narrow = narrow->src[0];
  bool *self = &p->stored[plan_home((Node *)narrow)->id];
  if (dtype_is_16((DType)narrow->type.dtype) && !*self) {
    *self = true;
    if (cg_strided(source, p->stored, &s)) return;
    *self = false;
  }
  store_view(p, source, source);
}

/* A product computes its operands itself only where its kernel can, with slots to spare for what follows the product. */
static void fit_prologue(Planner *p, Node *product, Expression *e) {
  enum { FEW_NODES = 64, FEW_OPERANDS = 7 };
  Node *base[] = {plan_operand(product->src[0]), plan_operand(product->src[1])};
  if (p->stored[base[0]->id] && p->stored[base[1]->id]) return;
  expression_of(p, product, e);
  KernelJob job = {.out = &product, .n_out = 1, .anchor = product, .stored = p->stored};
  if (e->n <= FEW_NODES && e->n_operand <= FEW_OPERANDS && cg_matmul_accepts(&job)) return;
  for (int s = 0; s < 2; s++) p->stored[base[s]->id] = true;
}

static void limit_once(Planner *p, Expression *e) {
  for (int i = 0; i < p->g->n_node; i++) {
    const Node *n = p->g->node[i];
    if (p->needed[i] && !plan_given(n) && n->op != OP_matmul && !p->assembles[i]) fit(p, n, e);
  }
  for (int i = 0; i < p->g->n_node; i++)
    if (p->needed[i] && p->g->node[i]->op == OP_matmul) fit_prologue(p, p->g->node[i], e);
  for (int i = 0; i < p->g->n_node; i++) {
    const Node *n = p->g->node[i];
    if (!p->needed[i]) continue;
    for (int s = 0; s < n->n_src; s++)
      if (plan_source(n, s) == SOURCE_strided && p->stored[plan_operand(n->src[s])->id])
        store_source(p, n->src[s]);
  }
}

static int n_stored(const Planner *p) {
  int n = 0;
  for (int i = 0; i < p->g->n_node; i++) n += p->stored[i];
  return n;
}

/* What is stored for one node's sake is one operand more of another that goes on reading what it is computed from:
 * so again, until nothing has to be stored. */
void plan_limit(Planner *p) {
  Expression *e = xcalloc(1, sizeof *e);
  for (int before = -1; before != n_stored(p);) {
    before = n_stored(p);
    limit_once(p, e);
  }
  free(e);
}
