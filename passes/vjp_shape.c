/* Gradients of operations whose rule depends on shapes or attributes: one function per line VJP_BY
 * of vjp.def. */
#include "passes/vjp.h"

static const Type *src_type(const VjpCall *c) { return &c->node->src[c->which]->type; }

static Node *expand_to(Graph *g, Node *x, const Type *t) {
  return ir_expand(g, x, t->rank, t->dim);
}

static int reduced_axes(const Node *n, int *axis) {
  for (int i = 0; i < n->n_int; i++) axis[i] = (int)n->ints[i];
  return n->n_int;
}

Node *vjp_cast(const VjpCall *c) { return ir_cast(c->g, c->grad, src_type(c)->dtype); }

Node *vjp_reduce_sum(const VjpCall *c) { return expand_to(c->g, c->grad, src_type(c)); }

/* dᵢ = g · ∏_{j≠i} xⱼ without dividing by zero: with p the product of what is not zero, no zero:
 * g·p/xᵢ; one zero: g·p at that place and 0 elsewhere; more: 0. */
Node *vjp_reduce_prod(const VjpCall *c) {
  Graph *g = c->g;
  const Type *t = src_type(c);
  int axis[IR_MAX_RANK], n_axis = reduced_axes(c->node, axis);
  Node *x = vjp_src(c, 0), *none = ir_const(g, 0, t);
  Node *is_zero = ir_eq(g, x, none);
  Node *n_zero = ir_reduce(g, OP_reduce_sum, ir_cast(g, is_zero, DT_i32), n_axis, axis);
  Node *product =
    ir_reduce(g, OP_reduce_prod, ir_where(g, is_zero, ir_const(g, 1, t), x), n_axis, axis);
  Node *scaled = expand_to(g, ir_mul(g, c->grad, product), t);
  Type shape = *t;
  shape.dtype = DT_i32;
  n_zero = expand_to(g, n_zero, &shape);
  Node *at_zero = ir_where(g, ir_eq(g, n_zero, ir_const(g, 1, &shape)), scaled, none);
  Node *elsewhere =
    ir_where(g, ir_eq(g, n_zero, ir_const(g, 0, &shape)), ir_div(g, scaled, x), none);
  return ir_where(g, is_zero, at_zero, elsewhere);
}

/* max and min: ties share the cotangent evenly. */
Node *vjp_reduce_extreme(const VjpCall *c) {
  Graph *g = c->g;
  const Type *t = src_type(c);
  int axis[IR_MAX_RANK], n_axis = reduced_axes(c->node, axis);
  Node *chosen = ir_eq(g, vjp_src(c, 0), expand_to(g, vjp_out(c), t));
  Node *ties =
    ir_reduce(g, OP_reduce_sum, ir_cast(g, ir_cast(g, chosen, DT_i32), t->dtype), n_axis, axis);
  Node *share = expand_to(g, ir_div(g, c->grad, ties), t);
  return ir_where(g, chosen, share, ir_const(g, 0, t));
}

Node *vjp_cumsum(const VjpCall *c) {
  return ir_cumsum(c->g, c->grad, (int)c->node->ints[0], !c->node->ints[1]);
}

static Node *transpose(Graph *g, Node *x) {
  int perm[IR_MAX_RANK], r = x->type.rank;
  for (int i = 0; i < r; i++) perm[i] = i;
  perm[r - 2] = r - 1;
  perm[r - 1] = r - 2;
  return ir_permute(g, x, perm);
}

/* Whether x is a matrix (or batch) transposed by a permute. */
static bool is_transposed(const Node *x) {
  int r = x->type.rank;
  if (x->op != OP_permute || x->ints[r - 1] != r - 2 || x->ints[r - 2] != r - 1) return false;
  for (int i = 0; i < r - 2; i++)
    if (x->ints[i] != i) return false;
  return true;
}

/* y = a·b: da = dy·bᵀ, db = aᵀ·dy. For a transposed source that is written as the transpose of daᵀ
 * = b·dyᵀ or dbᵀ = dyᵀ·a, so that with the source's own gradient no transposed copy is left. */
Node *vjp_matmul(const VjpCall *c) {
  Graph *g = c->g;
  bool transposed = is_transposed(c->node->src[c->which]);
  Node *other = vjp_src(c, 1 - c->which);
  if (transposed) {
    Node *dy = transpose(g, c->grad);
    return transpose(g, c->which == 0 ? ir_matmul(g, other, dy) : ir_matmul(g, dy, other));
  }
  if (c->which == 0) return ir_matmul(g, c->grad, transpose(g, other));
  return ir_matmul(g, transpose(g, other), c->grad);
}

/* Σ do·o for each query. Where do is a permute, as that of merged heads, it is taken in the order in
 * which do lies, so that o need only be kept in that order too, as its reader has it. */
static Node *attention_delta(Graph *g, Node *grad, Node *o) {
  int perm[IR_MAX_RANK], inverse[IR_MAX_RANK], r = grad->type.rank;
  for (int i = 0; i < r; i++) perm[i] = grad->op == OP_permute ? (int)grad->ints[i] : i;
  for (int i = 0; i < r; i++) inverse[perm[i]] = i;
  Node *lying = ir_cast(g, grad->op == OP_permute ? grad->src[0] : grad, DT_f32);
  g->region = o->region < 0 ? o->region : 0; /* a recomputed one's views are recomputed */
  o = ir_permute(g, o, inverse);
  g->region = 0;
  Node *product = ir_mul(g, lying, ir_cast(g, o, DT_f32));
  return ir_permute(g, ir_reduce(g, OP_reduce_sum, product, 1, &perm[r - 1]), perm);
}

/* The softmax is computed again from q, k and its log-sum-exp. What the three gradients share is made
 * by each call and merged by the graph. */
Node *vjp_attention(const VjpCall *c) {
  static const Op of[] = {OP_attention_dq, OP_attention_dk, OP_attention_dv};
  if (c->which > 2) return NULL; /* mask and keep */
  Graph *g = c->g;
  AttentionAttr a = ir_attention(c->node);
  int extra = ir_attention_sources(OP_attention);
  if (a.mask) a.mask = vjp_src(c, extra++);
  if (a.keep) a.keep = vjp_src(c, extra);
  Node *q = vjp_src(c, 0), *k = vjp_src(c, 1), *v = vjp_src(c, 2);
  g->region = q->region < 0 ? q->region : 0; /* with the recomputed attention, in one kernel */
  Node *lse = ir_attend(g, OP_attention_lse, (Node *[]){q, k}, &a);
  g->region = 0;
  Node *delta = attention_delta(g, c->grad, vjp_out(c));
  return ir_attend(g, of[c->which], (Node *[]){q, k, v, lse, delta, c->grad}, &a);
}

Node *vjp_reshape(const VjpCall *c) {
  return ir_reshape(c->g, c->grad, src_type(c)->rank, src_type(c)->dim);
}

Node *vjp_expand(const VjpCall *c) {
  int axis[IR_MAX_RANK], n = 0;
  for (int i = 0; i < c->node->type.rank; i++)
    if (src_type(c)->dim[i] != c->node->type.dim[i]) axis[n++] = i;
  return ir_reduce(c->g, OP_reduce_sum, c->grad, n, axis);
}

Node *vjp_permute(const VjpCall *c) {
  int inverse[IR_MAX_RANK];
  for (int i = 0; i < c->node->n_int; i++) inverse[c->node->ints[i]] = i;
  return ir_permute(c->g, c->grad, inverse);
}

Node *vjp_slice(const VjpCall *c) {
  const Type *t = src_type(c);
  int64_t hi[IR_MAX_RANK];
  for (int i = 0; i < t->rank; i++) hi[i] = t->dim[i] - c->node->ints[t->rank + i];
  return ir_pad(c->g, c->grad, c->node->ints, hi, 0);
}

/* The range of a reshape's source that is its range, where the two differ in dimensions of 1. */
static bool range_below(const Node *n, const int64_t *begin, const int64_t *end, int64_t *a,
                        int64_t *b) {
  const Type *to = &n->type, *from = &n->src[0]->type;
  int d = 0;
  for (int i = 0; i < from->rank; i++) {
    a[i] = 0;
    b[i] = from->dim[i];
    if (from->dim[i] == 1) continue;
    while (d < to->rank && to->dim[d] == 1) d++;
    if (d == to->rank || to->dim[d] != from->dim[i]) return false;
    a[i] = begin[d];
    b[i] = end[d++];
  }
  return true;
}

/* The slice of x; of a sum or a product, also a transposed one, that with fewer results. */
static Node *slice_of(Graph *g, Node *x, const int64_t *begin, const int64_t *end) {
  int r = x->type.rank;
  int64_t a[IR_MAX_RANK], b[IR_MAX_RANK];
  if (x->op == OP_permute) {
    for (int i = 0; i < r; i++) a[x->ints[i]] = begin[i], b[x->ints[i]] = end[i];
    return ir_rebuild(g, x, (Node *[]){slice_of(g, x->src[0], a, b)});
  }
  if (x->op == OP_reshape && range_below(x, begin, end, a, b)) {
    int64_t dim[IR_MAX_RANK];
    for (int i = 0; i < r; i++) dim[i] = end[i] - begin[i];
    return ir_reshape(g, slice_of(g, x->src[0], a, b), r, dim);
  }
  if (x->op == OP_reduce_sum) {
    for (int i = 0; i < r; i++) a[i] = begin[i], b[i] = end[i];
    for (int i = 0; i < x->n_int; i++) b[x->ints[i]] = x->src[0]->type.dim[x->ints[i]];
    return ir_rebuild(g, x, (Node *[]){ir_slice(g, x->src[0], a, b)});
  }
  if (x->op != OP_matmul) return ir_slice(g, x, begin, end);
  Node *src[2];
  for (int k = 0; k < 2; k++) { /* the sum's dimension stays whole */
    int whole = k ? r - 2 : r - 1;
    for (int i = 0; i < r; i++) a[i] = begin[i], b[i] = end[i];
    a[whole] = 0;
    b[whole] = x->src[k]->type.dim[whole];
    src[k] = ir_slice(g, x->src[k], a, b);
  }
  return ir_matmul(g, src[0], src[1]);
}

Node *vjp_pad(const VjpCall *c) {
  const Type *t = src_type(c);
  int64_t end[IR_MAX_RANK];
  for (int i = 0; i < t->rank; i++) end[i] = c->node->ints[i] + t->dim[i];
  return slice_of(c->g, c->grad, c->node->ints, end);
}

Node *vjp_concat(const VjpCall *c) {
  const Type *t = &c->node->type;
  int64_t begin[IR_MAX_RANK] = {0}, end[IR_MAX_RANK], axis = c->node->ints[0];
  for (int i = 0; i < t->rank; i++) end[i] = t->dim[i];
  for (int i = 0; i < c->which; i++) begin[axis] += c->node->src[i]->type.dim[axis];
  end[axis] = begin[axis] + src_type(c)->dim[axis];
  return ir_slice(c->g, c->grad, begin, end);
}

Node *vjp_gather(const VjpCall *c) {
  if (c->which != 0) return NULL;
  return ir_scatter_add(c->g, vjp_src(c, 1), c->grad, src_type(c)->dim[0]);
}

/* A row whose id is outside went nowhere: its cotangent is 0, where a gather would read NaN. */
Node *vjp_scatter_add(const VjpCall *c) {
  if (c->which != 1) return NULL;
  Graph *g = c->g;
  const Type *t = src_type(c);
  Node *ids = vjp_src(c, 0);
  Node *above = ir_ge(g, ids, ir_const(g, 0, &ids->type));
  Node *below = ir_lt(g, ids, ir_const(g, (double)c->node->type.dim[0], &ids->type));
  Node *inside = ir_and(g, above, below);
  int64_t dim[IR_MAX_RANK];
  for (int i = 0; i < t->rank; i++) dim[i] = i < ids->type.rank ? ids->type.dim[i] : 1;
  inside = ir_expand(g, ir_reshape(g, inside, t->rank, dim), t->rank, t->dim);
  return ir_where(g, inside, ir_gather(g, c->grad, ids), ir_const(g, 0, t));
}
