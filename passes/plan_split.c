/* split: reductions whose kernels would leave most of a device idle become two: over parts of equal
 * length, then over the parts.
 *
 *   few results, very many terms     [outer, red]          → [outer, parts] → [outer]
 *   on a GPU, many rows of columns   [outer, red, inner]   → [outer, parts, inner] → [outer, inner]
 *
 * but not a sum that a product's kernel gives for nothing: it stays whole, or gets the parts of a product that is
 * itself summed in parts. */
#include "passes/plan_internal.h"

bool *plan_product_operands(const Planner *p) {
  bool *operand = arena_alloc(p->arena, (size_t)p->g->n_node + 1);
  for (int i = 0; i < p->g->n_node; i++) {
    const Node *n = p->g->node[i];
    if (!p->needed[i] || n->op != OP_matmul) continue;
    if (p->target->is_cpu && plan_product_parts(p, n) > 1) continue;
    for (int s = 0; s < 2; s++) {
      const Node *x = n->src[s];
      while (cg_reads_through(x)) x = x->src[0];
      operand[x->id] = true;
    }
  }
  return operand;
}

/* The parts of a product beside which the sum can be had; 0: there is none, or it is in spans. */
static int64_t parts_of_product(const Planner *p, const Node *sum, const bool *operand) {
  for (int i = 0; i < p->g->n_node; i++)
    if (p->needed[i] && p->g->node[i]->op == OP_matmul &&
        plan_is_k_sum(p->g->node[i], sum, operand))
      return plan_product_parts(p, p->g->node[i]);
  return 0;
}

/* How many parts; 1: it stays whole. */
static int64_t parts_of_rows(const Domain *d) {
  enum { FEW = 64, LONG = 1 << 15, MOST = 256, LEAST = 8 };
  int64_t parts = MOST;
  if (d->outer >= FEW || d->red < LONG) return 1;
  while (d->red % parts) parts--;
  return parts < LEAST ? 1 : parts;
}

/* As many as keep all cores busy, each member of a team of columns with some rows. */
static int64_t parts_of_columns(const Domain *d, const Target *t) {
  enum { LARGE = 1 << 19, ROWS = 32, MOST = 256, MEMBERS = 8, WIDTH = 4 };
  int64_t columns = d->outer * d->inner, busy = 1024 * (int64_t)(t->cores ? t->cores : 32);
  int64_t most = d->red / ROWS < MOST ? d->red / ROWS : MOST;
  int64_t parts = busy * WIDTH / (columns * MEMBERS) + 1;
  if (t->is_cpu || columns * d->red < LARGE || parts == 1 || most < 2) return 1;
  while (parts < most && d->red % parts) parts++;
  if (parts > most) parts = most;
  while (d->red % parts) parts--;
  return parts;
}

Node *plan_split(const Planner *p, const bool *operand, const Node *n, Graph *to, Node *x) {
  Domain d;
  int64_t parts = 1;
  if (n->type.dtype == DT_f32 && plan_domain(n, &d))
    parts = d.inner == 1 ? parts_of_rows(&d) : parts_of_product(p, n, operand);
  if (!parts) parts = parts_of_columns(&d, p->target);
  if (parts == 1) return ir_rebuild(to, n, &x);
  x = ir_reshape(to, x, d.inner == 1 ? 3 : 4, (int64_t[]){d.outer, parts, d.red / parts, d.inner});
  x = ir_reduce(to, n->op, x, 1, (int[]){2});
  x = ir_reduce(to, n->op, x, 1, (int[]){1});
  return ir_reshape(to, x, n->type.rank, n->type.dim);
}
