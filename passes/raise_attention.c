/* raise, attention: softmax(score(q·kᵀ))·v, from its last product downwards.
 *
 *   product    p·v, p perhaps multiplied by a factor (dropout)
 *   softmax    or the spelling that gives zeros to a query which sees nothing
 *   masks      where(c, score, fill) and score + bias with a bias of 0 and fill; fill is −∞, or at
 *              most −1e9 where every query provably sees a key
 *   cap        cap · tanh(score / cap)
 *   scale      constant factors of the product, of q and of k
 *   product    q·kᵀ
 *
 * Reshapes between these keep the order of rows and the keys last, so a row is the same query
 * throughout. Keys and values that are broadcast over groups of heads are taken as they were before
 * it. What queries see becomes a band along the diagonal and a mask (raise_mask.c).
 *
 * A row that a finite fill hides wholly would be uniform; one hidden by −∞ is NaN, which the
 * attribute says. */
#include "passes/raise.h"

#include <math.h>
#include <string.h>

#define LARGE_FILL (-1e9)

typedef struct Scores {
  Graph *g;
  int region;
  int64_t t, s; /* queries, keys */
  int64_t rows; /* queries of all heads and sequences */
  Node *keep;   /* NULL: none */
  Visible visible;
  bool finite_fill;   /* some fill is */
  Node *zeros_unless; /* rows that this hides give zeros; NULL: they are NaN */
  double cap, scale;
  Node *product;
} Scores;

static bool is_const(const Node *n, double *value) {
  while (n->op == OP_expand || n->op == OP_reshape) n = n->src[0];
  if (n->op != OP_const) return false;
  *value = n->value;
  return true;
}

static bool is_inside(const Scores *a, const Node *n) { return n->region == a->region; }

/* Skips reshapes; the last two dimensions of what comes must be queries and keys to look into it. */
static Node *below_reshapes(const Scores *a, Node *n) {
  while (n->op == OP_reshape && is_inside(a, n)) n = n->src[0];
  return n;
}

static bool is_matrix(const Scores *a, const Node *n) {
  int r = n->type.rank;
  return r >= 2 && n->type.dim[r - 1] == a->s && n->type.dim[r - 2] == a->t;
}

/* n = factor · x or x / factor for a constant. */
static Node *constant_factor(Node *n, double *factor) {
  double c;
  if (n->op == OP_neg) return *factor = -1, n->src[0];
  if (n->op == OP_div && is_const(n->src[1], &c)) return *factor = 1 / c, n->src[0];
  for (int i = 0; i < 2 && n->op == OP_mul; i++)
    if (is_const(n->src[i], &c)) return *factor = c, n->src[1 - i];
  return NULL;
}

/* ---- the factor on the probabilities ---- */
/* where(c, x, 0) with x = p, factor · p: dropout. The rest is p. */
static Node *below_dropout(Scores *a, Node *n) {
  double zero;
  Choice c;
  if (n->op == OP_where && is_const(n->src[2], &zero) && zero == 0) {
    double factor = 1;
    Node *p = constant_factor(n->src[1], &factor);
    a->keep =
      ir_where(a->g, n->src[0], ir_const(a->g, factor, &n->type), ir_const(a->g, 0, &n->type));
    return p ? p : n->src[1];
  }
  for (int i = 0; i < 2 && n->op == OP_mul; i++)
    if (is_choice(a->g, n->src[i], &c)) {
      a->keep = n->src[i];
      return n->src[1 - i];
    }
  return n;
}

/* ---- softmax ---- */
static const Term *zeros_inside, *zeros_outside;

static void parse_patterns(void) {
  if (zeros_inside) return;
  zeros_inside = raise_pattern("div(y:where(z, exp(below(x)), 0), max(sum(y), d))");
  zeros_outside = raise_pattern("where(z, softmax(x), 0)");
}

/* The scores of a softmax over keys; NULL where `n` is none. */
static Node *below_softmax(Scores *a, Node *n) {
  TermMatch m;
  int last = n->type.rank - 1;
  if (!is_inside(a, n) || !is_matrix(a, n)) return NULL;
  if (n->op == OP_softmax) return n->ints[0] == last ? n->src[0] : NULL;
  bool inside = term_match_loosely(zeros_inside, n, &m);
  if (inside && !(m.var[TV_d]->value > 0 && m.var[TV_d]->value <= 1)) return NULL;
  if (!inside && !(term_match_loosely(zeros_outside, n, &m) && m.var[TV_x]->op == OP_where &&
                   m.var[TV_x]->src[0] == m.var[TV_z]))
    return NULL;
  if (m.n_axis != 1 || m.axis[0] != last || m.length != a->s) return NULL;
  a->zeros_unless = m.var[TV_z];
  return m.var[TV_x];
}

static Node *below_probabilities(Scores *a, Node *p) {
  for (int i = 0; i < 2; i++) { /* with dropout, and without */
    p = below_reshapes(a, p);
    Node *scores = below_softmax(a, p);
    if (scores || i) return scores;
    if (!is_inside(a, p)) return NULL;
    p = below_dropout(a, p);
  }
  return NULL;
}

/* ---- masks ---- */
static bool hides(Scores *a, Node *condition, bool negated, double fill) {
  if (!(fill <= LARGE_FILL)) return false;
  if (a->zeros_unless && (a->visible.rest || negated || condition != a->zeros_unless)) return false;
  a->finite_fill = a->finite_fill || isfinite(fill);
  visible_and(a->g, condition, negated, &a->visible);
  return true;
}

/* x + bias, where bias is 0 at visible places and elsewhere the fill. */
static Node *below_bias(Scores *a, Node *n) {
  Choice c;
  for (int i = 0; i < 2; i++) {
    if (!is_choice(a->g, n->src[i], &c)) continue;
    if (c.no == 0 ? !hides(a, c.condition, true, c.yes)
                  : c.yes != 0 || !hides(a, c.condition, false, c.no))
      continue;
    return n->src[1 - i];
  }
  return NULL;
}

static Node *below_masks(Scores *a, Node *n) {
  bool masked = false;
  for (;; masked = true) {
    double fill;
    Node *x = below_reshapes(a, n), *below = NULL;
    if (!is_inside(a, x) || !is_matrix(a, x)) return n;
    if (x->op == OP_where && is_const(x->src[2], &fill) && hides(a, x->src[0], false, fill))
      below = x->src[1];
    else if (x->op == OP_where && is_const(x->src[1], &fill) && hides(a, x->src[0], true, fill))
      below = x->src[2];
    else if (x->op == OP_add)
      below = below_bias(a, x);
    if (!below) break;
    if (a->zeros_unless && masked) return NULL; /* what else is hidden would not give zeros */
    n = below;
  }
  return a->zeros_unless && !masked ? NULL : n;
}

/* Whether every query sees a key: by the band alone. */
static bool all_see(const Scores *a) {
  const Visible *v = &a->visible;
  return !v->rest && v->lo <= v->hi && v->hi >= 0 && a->t - 1 + v->lo <= a->s - 1;
}

/* ---- cap and scale ---- */
/* Takes constant factors off; `n` may change its shape, not its rows. */
static Node *below_factors(Scores *a, Node *n, double *factor) {
  for (;;) {
    double c = 1;
    Node *x = below_reshapes(a, n);
    if (!is_inside(a, x)) return x;
    n = constant_factor(x, &c);
    if (!n) return x;
    *factor *= c;
  }
}

static bool find_product(Scores *a, Node *n) {
  double outside = 1, inside = 1;
  Node *x = below_factors(a, n, &outside);
  if (x->op == OP_tanh && is_inside(a, x)) {
    a->cap = outside;
    if (!(outside > 0)) return false;
    x = below_factors(a, x->src[0], &inside);
    a->scale = inside * a->cap;
  } else {
    a->scale = outside;
  }
  a->product = x;
  return x->op == OP_matmul && is_inside(a, x) && x->type.dim[x->type.rank - 1] == a->s;
}

/* q or k without its constant factor, which may lie below views. */
static Node *without_factor(Scores *a, Node *n, double *factor) {
  if (!is_inside(a, n)) return n;
  if (n->op == OP_reshape || n->op == OP_permute) {
    Node *x = without_factor(a, n->src[0], factor);
    return x == n->src[0] ? n : ir_rebuild(a->g, n, &x);
  }
  double c;
  Node *x = constant_factor(n, &c);
  if (!x || c == 0 || !isfinite(c)) return n;
  *factor *= c;
  return x;
}

/* ---- heads ---- */
static Node *reshaped(Graph *g, Node *n, int rank, const int64_t *dim) {
  Type t = type_of((DType)n->type.dtype, rank, dim);
  while (n->op == OP_reshape && n->region == g->region && !type_eq(&n->type, &t)) n = n->src[0];
  return ir_reshape(g, n, rank, dim);
}

/* The last two dimensions exchanged; what a permute did is taken back. */
static Node *transposed(Graph *g, Node *n) {
  int perm[IR_MAX_RANK], r = n->type.rank;
  for (int i = 0; i < r; i++) perm[i] = i;
  perm[r - 2] = r - 1;
  perm[r - 1] = r - 2;
  if (n->op != OP_permute || n->region != g->region) return ir_permute(g, n, perm);
  for (int i = 0; i < r; i++) perm[i] = (int)n->ints[perm[i]];
  return ir_permute(g, n->src[0], perm);
}

/* Matrices x[lead…, kv, m, n], each used by `group` heads in a row. */
typedef struct Heads {
  Node *x;
  int64_t group;
} Heads;

static Node *without_dimension(Graph *g, Node *x, int at) {
  int64_t dim[IR_MAX_RANK];
  int r = 0;
  for (int i = 0; i < x->type.rank; i++)
    if (i != at) dim[r++] = x->type.dim[i];
  return reshaped(g, x, r, dim);
}

/* An expand of dimension `at` alone: how often it repeats; 0: it is none. */
static int64_t repeats(const Node *n, int at, int region) {
  if (n->op != OP_expand || n->region != region || at < 0) return 0;
  const Type *from = &n->src[0]->type;
  for (int i = 0; i < n->type.rank; i++)
    if (i != at && from->dim[i] != n->type.dim[i]) return 0;
  return from->dim[at] == 1 && n->type.dim[at] > 1 ? n->type.dim[at] : 0;
}

/* Keys or values, each matrix for `rows_each` rows of a product. */
static bool find_heads(const Scores *a, Node *x, int64_t rows_each, Heads *h) {
  Graph *g = a->g;
  int r = x->type.rank;
  if (rows_each % a->t != 0) return false;
  *h = (Heads){x, rows_each / a->t};
  if (r == 2) /* one for all */
    h->x = reshaped(g, x, 3, (int64_t[]){1, x->type.dim[0], x->type.dim[1]});
  if (h->group > 1 || r == 2) return true;
  int64_t group = repeats(x, r - 3, a->region);
  if (group) {
    *h = (Heads){r >= 5 ? without_dimension(g, x->src[0], r - 3) : x->src[0], group};
  } else if (x->op == OP_reshape && is_inside(a, x)) { /* repeated, then merged with the heads */
    Node *e = x->src[0];
    int k = e->type.rank - 3;
    group = repeats(e, k, a->region);
    bool merges = group && e->type.rank == r + 1 && r < IR_MAX_RANK;
    for (int i = 0; merges && i < r; i++) {
      int64_t want = i < k - 1   ? e->type.dim[i]
                     : i > k - 1 ? e->type.dim[i + 1]
                                 : e->type.dim[k - 1] * group;
      merges = x->type.dim[i] == want;
    }
    if (merges) *h = (Heads){without_dimension(g, e->src[0], k), group};
  }
  return true;
}

/* k from kᵀ, whose repetition may lie before the transposition or after it. */
static bool find_keys(const Scores *a, Heads *h) {
  Node *x = a->product->src[1];
  int64_t rows = a->product->type.dim[a->product->type.rank - 2];
  Heads after;
  if (!find_heads(a, transposed(a->g, x), rows, h)) return false;
  if (x->type.rank == 2 || h->group > 1) return true;
  if (!find_heads(a, x, rows, &after) || after.group == 1) return true;
  *h = (Heads){transposed(a->g, after.x), after.group};
  return true;
}

/* lead…, heads, then `m` and `n` */
static int shape_of_heads(const Heads *k, int64_t m, int64_t n, int64_t *dim) {
  int r = k->x->type.rank;
  for (int i = 0; i < r - 2; i++) dim[i] = k->x->type.dim[i];
  dim[r - 3] *= k->group;
  dim[r - 2] = m;
  dim[r - 1] = n;
  return r;
}

static bool same_heads(const Heads *k, const Heads *v) {
  if (k->group != v->group || k->x->type.rank != v->x->type.rank) return false;
  for (int i = 0; i < k->x->type.rank - 2; i++)
    if (k->x->type.dim[i] != v->x->type.dim[i]) return false;
  return true;
}

static Node *build(Scores *a, const Heads *k, const Heads *v, const Type *result) {
  Graph *g = a->g;
  int64_t dim[IR_MAX_RANK], count = 1;
  const Node *q = a->product->src[0];
  int rank = shape_of_heads(k, a->t, q->type.dim[q->type.rank - 1], dim);
  for (int i = 0; i < rank - 2; i++) count *= dim[i];
  if (count * a->t != a->rows) return NULL;
  Node *src[] = {without_factor(a, reshaped(g, a->product->src[0], rank, dim), &a->scale),
                 without_factor(a, k->x, &a->scale), v->x};
  AttentionAttr attr = {.scale = a->scale,
                        .cap = a->cap,
                        .lo = a->visible.lo <= 1 - a->t ? -IR_UNBOUNDED : a->visible.lo,
                        .hi = a->visible.hi >= a->s - 1 ? IR_UNBOUNDED : a->visible.hi,
                        .empty_nan = !a->zeros_unless && !all_see(a)};
  dim[rank - 1] = a->s;
  if (a->visible.rest) attr.mask = reshaped(g, a->visible.rest, rank, dim);
  if (a->keep) attr.keep = reshaped(g, a->keep, rank, dim);
  Node *y = ir_attend(g, OP_attention, src, &attr);
  return ir_reshape(g, y, result->rank, result->dim);
}

/* The softmax, or the quotient of the other spelling, that probabilities come from. */
static const Node *find_softmax(const Node *n, int depth) {
  if (n->op == OP_softmax || n->op == OP_div || depth == 0) return n;
  if (n->op == OP_reshape) return find_softmax(n->src[0], depth);
  if (n->op == OP_where) return find_softmax(n->src[1], depth - 1);
  for (int i = 0; n->op == OP_mul && i < 2; i++) {
    const Node *x = find_softmax(n->src[i], depth - 1);
    if (x->op == OP_softmax || x->op == OP_div) return x;
  }
  return n;
}

static bool find_sizes(Scores *a, const Node *p) {
  const Node *x = find_softmax(p, 2);
  int r = x->type.rank;
  if (r < 2 || (x->op != OP_softmax && x->op != OP_div)) return false;
  a->t = x->type.dim[r - 2];
  a->s = x->type.dim[r - 1];
  a->rows = type_count(&x->type) / a->s;
  return p->type.dim[p->type.rank - 1] == a->s;
}

Node *raise_attention(Graph *g, Node *n) {
  if (n->op != OP_matmul) return NULL;
  Scores a = {
    .g = g, .region = n->region, .visible = {.lo = -IR_UNBOUNDED, .hi = IR_UNBOUNDED}, .scale = 1};
  Heads k, v;
  parse_patterns();
  if (!find_sizes(&a, n->src[0])) return NULL;
  Node *scores = below_probabilities(&a, n->src[0]);
  if (!scores || !(scores = below_masks(&a, scores)) || !find_product(&a, scores)) return NULL;
  if (type_count(&a.product->type) != a.rows * a.s || a.visible.lo > a.visible.hi) return NULL;
  if (a.finite_fill && !a.zeros_unless && !all_see(&a)) return NULL;
  int64_t rows_of_v = n->type.dim[n->type.rank - 2];
  if (!find_keys(&a, &k) || !find_heads(&a, n->src[1], rows_of_v, &v) || !same_heads(&k, &v))
    return NULL;
  return build(&a, &k, &v, &n->type);
}
