/* attention: where one kernel can compute all three gradients, if each of its workgroups owns the keys of a part of a head, the keys
 * are cut into parts:
 *
 *   k, v        [b…, kv, s, c]  → [b…, parts, kv, s / parts, c]         dk, dv the other way
 *   q, do, lse, delta [b…, h, t, c]  → [b…, parts, h, t, c], repeated   dq: the sum over parts
 *
 * with a band that is shifted from part to part. All of these but the sum are views. */
#include "passes/plan_internal.h"

#include <string.h>

/* Whether the gradients by q, k and v are all asked for. */
static bool has_all(const Planner *p, const Node *n) {
  int found = 0;
  for (int i = 0; i < p->g->n_node; i++) {
    const Node *m = p->g->node[i];
    found += p->needed[i] && ir_attention_sources(m->op) == ir_attention_sources(n->op) &&
             plan_same_arguments(m, n);
  }
  return found == 3;
}

/* [b…, x, y, z] → [b…, parts, x, y, z] */
static Node *repeated(Graph *to, Node *x, int64_t parts) {
  int64_t dim[IR_MAX_RANK];
  int r = x->type.rank;
  memcpy(dim, x->type.dim, sizeof dim);
  for (int i = r; i > r - 3; i--) dim[i] = dim[i - 1];
  dim[r - 3] = 1;
  x = ir_reshape(to, x, r + 1, dim);
  dim[r - 3] = parts;
  return ir_expand(to, x, r + 1, dim);
}

/* [b…, kv, s, c] → [b…, parts, kv, s / parts, c] */
static Node *cut(Graph *to, Node *x, int64_t parts) {
  int64_t dim[IR_MAX_RANK];
  int r = x->type.rank, perm[IR_MAX_RANK];
  memcpy(dim, x->type.dim, sizeof dim);
  dim[r] = dim[r - 1];
  dim[r - 1] = dim[r - 2] / parts;
  dim[r - 2] = parts;
  for (int i = 0; i <= r; i++) perm[i] = i;
  perm[r - 3] = r - 2;
  perm[r - 2] = r - 3;
  return ir_permute(to, ir_reshape(to, x, r + 1, dim), perm);
}

/* The other way. */
static Node *joined(Graph *to, Node *x, const Type *t) {
  int r = t->rank, perm[IR_MAX_RANK];
  for (int i = 0; i <= r; i++) perm[i] = i;
  perm[r - 3] = r - 2;
  perm[r - 2] = r - 3;
  return ir_reshape(to, ir_permute(to, x, perm), r, t->dim);
}

Node *plan_attention(const Planner *p, Graph *to, const Node *n, Node *const *src) {
  enum { GRADIENT = 6 };
  int64_t parts = 1;
  if (ir_attention_sources(n->op) == GRADIENT && !ir_attention(n).shift && has_all(p, n))
    parts = cg_attention_parts(p->target, n);
  if (parts == 1) return ir_rebuild(to, n, src);
  AttentionAttr a = ir_attention(n);
  Node *part[GRADIENT];
  for (int i = 0; i < GRADIENT; i++)
    part[i] = i == 1 || i == 2 ? cut(to, src[i], parts) : repeated(to, src[i], parts);
  int rows = n->type.rank - 2;
  a.shift = src[1]->type.dim[rows] / parts;
  Node *x = ir_attend(to, n->op, part, &a);
  if (n->op != OP_attention_dq) return joined(to, x, &n->type);
  x = plan_add_parts(to, x, n->type.rank - 3);
  return ir_reshape(to, x, n->type.rank, n->type.dim);
}
