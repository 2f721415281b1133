/* precision: products and attention read 16-bit operands, and what follows from them is kept in 16
 * bits; everything else stays f32. All of it is written as casts: an operand is a widening,
 * cast<f32>, of a value rounded by cast<bf16> or cast<f16>, so no operation has a precision of its
 * own, and the evaluator's values of this graph are what kernels must give.
 *
 *   x ──round──► x16 ──widen──► matmul, attention              operands: one x16 for each x, of which views
 *                  └──widen──► Σ beside a weight's gradient     are taken; a parameter is rounded whole
 *   matmul (+ bias) ──round──► y16 ──widen──► all that reads y  results, where they are kept
 *
 * A result is kept where several operations read it or one that is not elementwise. It stays f32 where
 * it is only an addition's term (a residual, or one of several gradients of a parameter), an output (a
 * parameter's gradient), or on the way to a value that is rounded as an operand: then it is never in
 * memory. A sum of results is a result. An operand that is computed elementwise from results alone is
 * rounded for all its readers.
 *
 * needs: gradients, so that they are those of the unrounded program; no updates, so that what an
 *        optimizer multiplies stays f32. Best after simplify, which merges pads into concats.
 * gives: the same outputs, of the same types; the same pointer where no product is large enough.
 * breaks: nothing. */
#include "passes/passes.h"

#include <stdlib.h>
#include <string.h>

/* Matrix units take no fewer rows, columns or terms; narrower products gain nothing. */
enum { LEAST = 16 };

typedef struct Precision {
  Graph *from, *to;
  DType half;
  int *n_user; /* by id of `from`: readers */
  Node **user; /* the last reader */
  bool *is_output;
  bool *operand;  /* is rounded for a product or attention: no view */
  bool *narrowed; /* is an operand, or between one and its views and concats */
  bool *beside;   /* is a sum that reads the rounded value, as the product beside it does */
  bool *plain;    /* its f32 value is read */
  bool *result;   /* a product or attention, or what only adds to such */
  bool *rounds;   /* is rounded for all its readers */
  Node **map;     /* its value in `to` */
  Node **narrow;  /* the 16-bit value in `to` */
} Precision;

/* ---- what takes 16-bit operands ---- */

static bool is_large(const Node *n) {
  int r = n->type.rank;
  return n->type.dim[r - 1] >= LEAST && n->type.dim[r - 2] >= LEAST &&
         n->src[0]->type.dim[r - 1] >= LEAST;
}

/* Both rows and channels of queries and keys. */
static bool attends_much(const Node *n) {
  const Type *q = &n->src[0]->type, *k = &n->src[1]->type;
  int r = q->rank;
  return q->dim[r - 1] >= LEAST && q->dim[r - 2] >= LEAST && k->dim[r - 2] >= LEAST;
}

static bool multiplies(const Node *n) {
  if (n->op == OP_matmul) return n->type.dtype == DT_f32 && is_large(n);
  return ir_attention_sources(n->op) && n->src[0]->type.dtype == DT_f32 && attends_much(n);
}

/* Whether source k is multiplied; lse, delta, mask and keep are not. */
static bool is_factor(const Node *n, int k) {
  int rows = n->op == OP_attention_lse ? 2 : 3; /* q, k, v */
  return multiplies(n) &&
         (n->op == OP_matmul || k < rows || (k == 5 && ir_attention_sources(n->op) == 6));
}

static bool is_view(const Node *n) { return ir_op[n->op].flags & IR_VIEW; }
static bool is_elementwise(const Node *n) { return ir_op[n->op].flags & IR_EW; }
static bool moves(const Node *n) { return is_view(n) || n->op == OP_concat || n->op == OP_pad; }

static void mark_factor(Precision *p, Node *n) {
  if (p->narrowed[n->id]) return;
  p->narrowed[n->id] = true;
  p->operand[n->id] = !moves(n);
  for (int i = 0; moves(n) && i < n->n_src; i++) mark_factor(p, n->src[i]);
}

static bool find_operands(Precision *p) {
  bool any = false;
  for (int i = 0; i < p->from->n_node; i++) {
    Node *n = p->from->node[i];
    for (int k = 0; k < n->n_src; k++) {
      if (is_factor(n, k)) mark_factor(p, n->src[k]), any = true;
      p->n_user[n->src[k]->id] += p->user[n->src[k]->id] != n;
      p->user[n->src[k]->id] = n;
    }
  }
  for (int i = 0; i < p->from->n_output; i++) p->is_output[p->from->output[i].node->id] = true;
  return any;
}

/* ---- who still reads the f32 value ---- */

/* A sum over the terms of a product beside that product, as a bias's gradient beside the weight's: the
 * product reads the rounded value, and so does the sum. */
static bool is_sum_beside(const Precision *p, const Node *n) {
  if (n->op != OP_reduce_sum) return false;
  const Node *x = n->src[0];
  int64_t kept = type_count(&n->type), terms = type_count(&x->type) / kept;
  while (x->op == OP_reshape && !p->narrowed[x->id]) x = x->src[0];
  if (!p->narrowed[x->id]) return false;
  while (x->op == OP_reshape) x = x->src[0];
  for (int i = x->id + 1; i < p->from->n_node; i++) {
    const Node *m = p->from->node[i];
    for (int k = 0; k < 2 && m->op == OP_matmul && multiplies(m); k++) {
      const Node *s = m->src[k];
      int r = s->type.rank;
      if (s->type.dim[k ? r - 2 : r - 1] != terms || s->type.dim[k ? r - 1 : r - 2] != kept)
        continue;
      while (s->op == OP_reshape || s->op == OP_permute) s = s->src[0];
      if (s == x) return true;
    }
  }
  return false;
}

static bool reads_f32(const Precision *p, const Node *n, int k) {
  if (is_factor(n, k) || p->beside[n->id]) return false;
  return !(moves(n) && p->narrowed[n->id] && !p->plain[n->id]);
}

static void find_plain(Precision *p) {
  const Graph *g = p->from;
  for (int i = 0; i < g->n_output; i++) p->plain[g->output[i].node->id] = true;
  for (int i = g->n_node - 1; i >= 0; i--) {
    const Node *n = g->node[i];
    p->beside[i] = is_sum_beside(p, n);
    for (int k = 0; k < n->n_src; k++)
      if (reads_f32(p, n, k)) p->plain[n->src[k]->id] = true;
  }
}

/* ---- results ---- */

/* The only reader; NULL where there are several, an output being one. */
static Node *only_user(const Precision *p, const Node *n) {
  return p->n_user[n->id] == 1 && !p->is_output[n->id] ? p->user[n->id] : NULL;
}

static const Node *below_views(const Node *n) {
  while (is_view(n)) n = n->src[0];
  return n;
}

static bool adds(const Node *n) { return n->op == OP_add || n->op == OP_sub; }

/* A value of few elements, repeated: a bias, a scale. */
static bool is_small(const Node *n) {
  return type_count(&below_views(n)->type) < type_count(&n->type);
}

/* Whether the sum adds to its term x no more than a bias or another result. */
static bool extends(const Precision *p, const Node *sum, const Node *x) {
  const Node *other = sum->src[sum->src[0] == x];
  return adds(sum) && (is_small(other) || p->result[other->id]);
}

static void find_results(Precision *p) {
  for (int i = 0; i < p->from->n_node; i++) {
    const Node *n = p->from->node[i];
    bool result = multiplies(n) && n->op != OP_attention_lse;
    if (is_view(n) && only_user(p, n->src[0])) result = p->result[n->src[0]->id];
    for (int k = 0; k < 2 && adds(n) && !result; k++)
      result = p->result[n->src[k]->id] && only_user(p, n->src[k]) && extends(p, n, n->src[k]);
    p->result[i] = result;
  }
}

/* What follows from it is the result, not it. */
static bool goes_on(const Precision *p, const Node *n) {
  const Node *u = only_user(p, n);
  return u && p->result[u->id] && (is_view(u) || extends(p, u, n));
}

/* Where the value goes through elementwise work alone to an operand, an output or a sum with something
 * else, it is never in memory itself. */
static bool is_kept(const Precision *p, const Node *first) {
  if (!p->plain[first->id]) return false;
  for (const Node *n = first, *u;; n = u) {
    if (n != first && p->narrowed[n->id]) return false;
    if (p->is_output[n->id]) return false;
    u = only_user(p, n);
    if (!u) return true;
    if (adds(u) && !extends(p, u, n)) return false;
    if (!is_elementwise(u) && !is_view(u)) return true;
  }
}

/* A kept result is rounded below its views; of a sum of results all terms are, since all but one wait in
 * memory, and which one is the planner's choice. */
static void round_result(Precision *p, const Node *n) {
  n = below_views(n);
  p->rounds[n->id] = true;
  if (!adds(n) || !p->result[n->src[0]->id] || !p->result[n->src[1]->id]) return;
  round_result(p, n->src[0]);
  round_result(p, n->src[1]);
}

/* Its readers may all have the rounded value, since all of it comes from rounded ones. */
static bool follows(const Precision *p, const Node *n) {
  bool any = false;
  if (!is_elementwise(n) || !p->operand[n->id]) return false;
  for (int k = 0; k < n->n_src; k++) {
    const Node *x = below_views(n->src[k]);
    if (p->result[n->src[k]->id] || p->rounds[x->id])
      any = true;
    else if (!is_small(n->src[k]) && dtype_is_float((DType)x->type.dtype) && x->op != OP_const)
      return false;
  }
  return any;
}

static void find_rounded(Precision *p) {
  for (int i = 0; i < p->from->n_node; i++) {
    const Node *n = p->from->node[i];
    if (p->result[i] && !goes_on(p, n) && is_kept(p, n)) round_result(p, n);
    if (p->plain[i] && follows(p, n)) p->rounds[i] = true;
  }
  for (int i = 0; i < p->from->n_node; i++) { /* what only moves rounded values */
    const Node *n = p->from->node[i];
    bool all = moves(n);
    for (int k = 0; k < n->n_src; k++) all = all && p->rounds[n->src[k]->id];
    if (all) p->rounds[i] = true;
  }
}

/* ---- the new graph ---- */

static Node *rounded(Precision *p, const Node *of, Node *x) {
  Graph *g = p->to;
  g->region = of->region;
  g->loc = of->loc;
  x = ir_cast(g, x, p->half);
  g->region = 0;
  g->loc = (SrcLoc){0};
  return x;
}

/* `x` as f32 in the region of `of`, the node that it stands for. */
static Node *widened(Precision *p, const Node *of, Node *x) {
  p->to->region = of->region;
  p->to->loc = of->loc;
  x = ir_cast(p->to, x, DT_f32);
  p->to->region = 0;
  p->to->loc = (SrcLoc){0};
  return x;
}

/* The same view, concat or pad of 16-bit sources. */
static Node *move_narrow(Precision *p, const Node *n, Node *const *src) {
  Graph *g = p->to;
  Attr attr = {.value = dtype_round(p->half, n->value), .n_int = n->n_int};
  Type t = n->type;
  t.dtype = (uint8_t)p->half;
  if (n->n_int) memcpy(attr.ints, n->ints, sizeof *n->ints * (size_t)n->n_int);
  g->region = n->region;
  g->loc = n->loc;
  Node *x = ir_make(g, n->op, &t, &attr, n->n_src, src);
  g->region = 0;
  g->loc = (SrcLoc){0};
  return x;
}

static Node *narrow(Precision *p, Node *n) {
  if (p->narrow[n->id]) return p->narrow[n->id];
  Node *x, *src[IR_MAX_SRC];
  if (moves(n)) {
    for (int i = 0; i < n->n_src; i++) src[i] = narrow(p, n->src[i]);
    x = move_narrow(p, n, src);
  } else {
    x = rounded(p, n, p->map[n->id]);
  }
  return p->narrow[n->id] = x;
}

static Node *make(Precision *p, Node *n) {
  Node *src[IR_MAX_SRC];
  if (moves(n) && p->rounds[n->id]) return widened(p, n, narrow(p, n));
  for (int k = 0; k < n->n_src; k++)
    src[k] = is_factor(n, k) || p->beside[n->id] ? widened(p, n->src[k], narrow(p, n->src[k]))
                                                 : p->map[n->src[k]->id];
  Node *x = ir_rebuild(p->to, n, src);
  if (!p->rounds[n->id]) return x;
  return widened(p, n, p->narrow[n->id] = rounded(p, n, x));
}

Graph *pass_precision(Graph *g, const PassOptions *o) {
  if (!dtype_is_16(o->precision)) return g;
  size_t n = (size_t)g->n_node + 1;
  Precision p = {.from = g,
                 .half = o->precision,
                 .n_user = xcalloc(n, sizeof *p.n_user),
                 .user = xcalloc(n, sizeof *p.user),
                 .is_output = xcalloc(n, sizeof *p.is_output),
                 .operand = xcalloc(n, sizeof *p.operand),
                 .narrowed = xcalloc(n, sizeof *p.narrowed),
                 .beside = xcalloc(n, sizeof *p.beside),
                 .plain = xcalloc(n, sizeof *p.plain),
                 .result = xcalloc(n, sizeof *p.result),
                 .rounds = xcalloc(n, sizeof *p.rounds),
                 .map = xcalloc(n, sizeof *p.map),
                 .narrow = xcalloc(n, sizeof *p.narrow)};
  if (find_operands(&p)) {
    find_plain(&p);
    find_results(&p);
    find_rounded(&p);
    p.to = graph_new(g->name);
    for (int i = 0; i < g->n_node; i++) p.map[i] = make(&p, g->node[i]);
    for (int i = 0; i < g->n_output; i++)
      ir_output(p.to, g->output[i].kind, g->output[i].name, p.map[g->output[i].node->id]);
  }
  free(p.n_user);
  free(p.user);
  free(p.is_output);
  free(p.operand);
  free(p.narrowed);
  free(p.beside);
  free(p.plain);
  free(p.result);
  free(p.rounds);
  free(p.map);
  free(p.narrow);
  if (!p.to) return g;
  Graph *to = graph_copy(p.to); /* views that are now taken of 16-bit values are no longer needed */
  graph_free(p.to);
  return to;
}
