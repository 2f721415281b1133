/* Gradients of raised operations that no term can say. */
#include "passes/vjp.h"

static Node *along_last(Graph *g, Node *x, const Type *t) {
  int64_t dim[IR_MAX_RANK];
  for (int i = 0; i < t->rank; i++) dim[i] = i < t->rank - 1 ? t->dim[i] : 1;
  return ir_expand(g, ir_reshape(g, x, t->rank, dim), t->rank, t->dim);
}

/* g · (softmax(x) − onehot(y)); a target outside has an infinite loss, and no one. */
Node *vjp_cross_entropy(const VjpCall *c) {
  if (c->which != 0) return NULL;
  Graph *g = c->g;
  Node *x = vjp_src(c, 0), *y = vjp_src(c, 1);
  const Type *t = &x->type;
  int axis = t->rank - 1;
  Type ids = *t;
  ids.dtype = DT_i32;
  Node *p = ir_make(g, OP_softmax, NULL, &(Attr){.n_int = 1, .ints = {axis}}, 1, &x);
  Node *hit = ir_eq(g, ir_iota(g, axis, &ids), along_last(g, y, t));
  Node *d = ir_where(g, hit, ir_sub(g, p, ir_const(g, 1, t)), p);
  return ir_mul(g, along_last(g, c->grad, t), d);
}

/* One of the two numbers of each pair, as [n, c/2]. */
static Node *of_pairs(Graph *g, Node *x, bool interleaved, int which) {
  int64_t c = x->type.dim[x->type.rank - 1], n = type_count(&x->type) / c;
  int64_t begin[] = {0, 0, 0}, end[] = {n, interleaved ? c / 2 : 2, interleaved ? 2 : c / 2};
  Node *pairs = ir_reshape(g, x, 3, end);
  begin[interleaved ? 2 : 1] = which;
  end[interleaved ? 2 : 1] = which + 1;
  return ir_reshape(g, ir_slice(g, pairs, begin, end), 2, (int64_t[]){n, c / 2});
}

/* A rotation back by the same angles; and with pairs (u, w), cotangents (a, b): a·u + b·w for the
 * cosine, b·u − a·w for the sine. */
Node *vjp_rope(const VjpCall *c) {
  Graph *g = c->g;
  bool interleaved = c->node->ints[0] != 0;
  const Type *t = &c->node->src[c->which]->type;
  if (c->which == 0) {
    Node *src[] = {c->grad, vjp_src(c, 1), ir_neg(g, vjp_src(c, 2))};
    return ir_make(g, OP_rope, NULL, &(Attr){.n_int = 1, .ints = {interleaved}}, 3, src);
  }
  Node *x = vjp_src(c, 0);
  Node *u = of_pairs(g, x, interleaved, 0), *w = of_pairs(g, x, interleaved, 1);
  Node *a = of_pairs(g, c->grad, interleaved, 0), *b = of_pairs(g, c->grad, interleaved, 1);
  Node *d = c->which == 1 ? ir_add(g, ir_mul(g, a, u), ir_mul(g, b, w))
                          : ir_sub(g, ir_mul(g, b, u), ir_mul(g, a, w));
  return ir_reshape(g, d, t->rank, t->dim);
}
