/* pad: the classes of a loss that is computed over a product, as the logits of a vocabulary, become as
 * many as whole tiles have, so that every row of the logits and of their gradient begins aligned and
 * all products with them are whole.
 *
 *   cross_entropy(x · W, y), W of v columns
 *     = cross_entropy(where(j < v, x · pad(W), −∞), y), pad(W) with columns of zeros
 *
 * A class that is −∞ has no share in the sum, a target that names one is infinite as one outside, and
 * its gradient is 0. Between product and loss there may be reshapes, a bias, factors, a cap. W itself keeps
 * its columns, and so does its gradient.
 *
 * needs: raised losses, no gradients yet.  gives: the same loss; the same pointer where nothing is to be
 * padded. In f32, where no unit asks for tiles, rows of classes that are aligned stay as they are.
 * breaks: the form that simplify gives. */
#include "passes/passes.h"

#include <math.h>
#include <stdlib.h>

enum {
  TILE = 64,  /* classes, where that adds little */
  BYTES = 16, /* else: of the classes that a row has whole runs of */
  LITTLE = 16 /* one part in */
};

typedef struct Pad {
  Graph *g; /* the new one */
  Node **map;
  const int *n_user; /* by id of the old graph */
  int64_t v, to;
} Pad;

static int64_t up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

static int64_t padded_length(int64_t v, DType precision) {
  int64_t tiles = up(v, TILE), run = BYTES / (dtype_is_16(precision) ? 2 : 4);
  if (!dtype_is_16(precision) && v % run == 0) return v;
  return LITTLE * (tiles - v) <= v ? tiles : up(v, run);
}

static int64_t last(const Node *n) { return n->type.rank ? n->type.dim[n->type.rank - 1] : 0; }

/* The same number for each class. */
static bool is_even(const Node *n) {
  return n->op == OP_const ? n->value != 0 : n->op == OP_expand && last(n->src[0]) == 1;
}

/* Whether zeros instead of sources leave value and derivatives finite. */
static bool bears_zeros(const Node *n) {
  switch (n->op) {
  case OP_add:
  case OP_sub:
  case OP_mul:
  case OP_neg:
  case OP_tanh: return true;
  case OP_div: return is_even(n->src[1]);
  default: return false;
  }
}

/* The product below; NULL where something else lies between, or reads what would be padded. */
static const Node *find_product(const int *n_user, const Node *n) {
  if (n_user[n->id] != 1 || n->type.dtype != DT_f32) return NULL;
  if (n->op == OP_matmul) return n;
  if (n->op == OP_reshape)
    return last(n->src[0]) == last(n) ? find_product(n_user, n->src[0]) : NULL;
  const Node *product = NULL;
  for (int i = 0; i < n->n_src && bears_zeros(n) && !product; i++)
    product = find_product(n_user, n->src[i]);
  return product;
}

static Node *pad_axis(Pad *p, Node *x, int axis) {
  int64_t none[IR_MAX_RANK] = {0}, more[IR_MAX_RANK] = {0};
  more[axis] = p->to - p->v;
  return ir_pad(p->g, x, none, more, 0);
}

/* The value, of v classes, with as many as there are to be; the others are finite. */
static Node *padded(Pad *p, Node *n) {
  Node *src[IR_MAX_SRC], *x = p->map[n->id];
  int rank = n->type.rank;
  Type t = n->type;
  t.dim[rank - 1] = p->to;
  p->g->region = n->region;
  p->g->loc = n->loc;
  if (n->op == OP_const) {
    x = ir_const(p->g, n->value, &t);
  } else if (n->op == OP_matmul) {
    Node *w = n->src[1];
    bool turned = w->op == OP_permute && w->ints[rank - 1] == rank - 2;
    x = turned ? ir_rebuild(p->g, w, (Node *[]){pad_axis(p, p->map[w->src[0]->id], rank - 2)})
               : pad_axis(p, p->map[w->id], rank - 1);
    x = ir_rebuild(p->g, n, (Node *[]){p->map[n->src[0]->id], x});
  } else if (n->op == OP_reshape && last(n->src[0]) == p->v) {
    x = ir_reshape(p->g, padded(p, n->src[0]), rank, t.dim);
  } else if (n->op == OP_expand) {
    Node *from = n->src[0];
    x = ir_expand(p->g, last(from) == 1 ? p->map[from->id] : padded(p, from), rank, t.dim);
  } else if (bears_zeros(n)) {
    for (int i = 0; i < n->n_src; i++) src[i] = padded(p, n->src[i]);
    x = ir_rebuild(p->g, n, src);
  } else {
    x = pad_axis(p, x, rank - 1);
  }
  return x;
}

/* The logits with −∞ for the classes that are not there. */
static Node *padded_logits(Pad *p, Node *n) {
  Graph *g = p->g;
  Node *x = padded(p, n);
  Type ids = x->type;
  ids.dtype = DT_i32;
  Node *real = ir_lt(g, ir_iota(g, ids.rank - 1, &ids), ir_const(g, (double)p->v, &ids));
  x = ir_where(g, real, x, ir_const(g, -INFINITY, &x->type));
  g->region = 0;
  g->loc = (SrcLoc){0};
  return x;
}

static bool is_large(const Node *product) {
  int r = product->type.rank;
  return last(product->src[0]) >= TILE / 4 && product->type.dim[r - 2] >= TILE / 4 &&
         last(product) >= TILE / 4;
}

static bool wants_padding(const int *n_user, const Node *loss, DType precision) {
  if (loss->op != OP_cross_entropy ||
      padded_length(last(loss->src[0]), precision) == last(loss->src[0]))
    return false;
  const Node *product = find_product(n_user, loss->src[0]);
  return product && is_large(product);
}

Graph *pass_pad(Graph *g, const PassOptions *o) {
  int *n_user = xcalloc((size_t)g->n_node + 1, sizeof *n_user);
  for (int i = 0; i < g->n_node; i++)
    for (int k = 0; k < g->node[i]->n_src; k++) n_user[g->node[i]->src[k]->id]++;
  for (int i = 0; i < g->n_output; i++) n_user[g->output[i].node->id]++;
  bool any = false;
  for (int i = 0; i < g->n_node; i++) any = any || wants_padding(n_user, g->node[i], o->precision);
  Pad p = {.map = xcalloc((size_t)g->n_node + 1, sizeof *p.map), .n_user = n_user};
  if (any) p.g = graph_new(g->name);
  for (int i = 0; any && i < g->n_node; i++) {
    Node *n = g->node[i], *src[IR_MAX_SRC];
    for (int k = 0; k < n->n_src; k++) src[k] = p.map[n->src[k]->id];
    if (wants_padding(n_user, n, o->precision)) {
      p.v = last(n->src[0]);
      p.to = padded_length(p.v, o->precision);
      src[0] = padded_logits(&p, n->src[0]);
    }
    p.map[i] = ir_rebuild(p.g, n, src);
  }
  for (int i = 0; any && i < g->n_output; i++)
    ir_output(p.g, g->output[i].kind, g->output[i].name, p.map[g->output[i].node->id]);
  free(n_user);
  free(p.map);
  if (!any) return g;
  Graph *to = graph_copy(p.g);
  graph_free(p.g);
  return to;
}
