/* raise, rotary embedding: pairs (u, w) of the last dimension turned by angles whose cosines and
 * sines are given.
 *
 *   split      concat(u·cos − w·sin, w·cos + u·sin) of the halves u and w of x (pads that are added
 *              are a concat once simplified); or the two laid side by side, of every second element
 *   rotated    x·cos + concat(−w, u)·sin with tables as wide as x, where both halves of each are
 *              provably equal */
#include "passes/raise.h"

#include <string.h>

enum { MAX_DEPTH = 16, MAX_PARTS = 4, HALVES = 0, INTERLEAVED = 1 };

static const Term *split, *rotated;

static void parse_patterns(void) {
  if (split) return;
  split = raise_pattern("concat(sub(mul(x, z), mul(y, w)), add(mul(y, z), mul(x, w)))");
  rotated = raise_pattern("add(mul(x, z), mul(concat(neg(y), v), w))");
}

static bool is_float(const Node *n) { return dtype_is_float(n->type.dtype); }

static Node *rope(Graph *g, Node *x, Node *cosine, Node *sine, int layout) {
  Attr attr = {.n_int = 1, .ints = {layout}};
  return ir_make(g, OP_rope, NULL, &attr, 3, (Node *[]){x, cosine, sine});
}

/* ---- u and w from x ---- */
/* What u and w are the two halves of, along the last dimension; NULL: of nothing. */
static Node *joined(Graph *g, Node *u, Node *w) {
  if (u->op != OP_slice || w->op != OP_slice || u->src[0] != w->src[0]) return NULL;
  int r = u->type.rank, last = r - 1;
  if (!type_eq(&u->type, &w->type) || w->ints[last] != u->ints[r + last]) return NULL;
  for (int i = 0; i < last; i++)
    if (u->ints[i] != w->ints[i]) return NULL;
  return ir_slice(g, u->src[0], u->ints, w->ints + r);
}

/* The same for every second element, which is how x[…, c/2, 2] is sliced. */
static Node *interleaved(Graph *g, Node *u, Node *w) {
  Type pairs = u->type, x = u->type;
  if (u->op != OP_reshape || w->op != OP_reshape || pairs.rank == IR_MAX_RANK) return NULL;
  pairs.dim[pairs.rank++] = 1;
  if (!shape_eq(&u->src[0]->type, &pairs) || !shape_eq(&w->src[0]->type, &pairs)) return NULL;
  Node *both = joined(g, u->src[0], w->src[0]);
  x.dim[x.rank - 1] *= 2;
  while (both && both->op == OP_reshape && !shape_eq(&both->type, &x)) both = both->src[0];
  return both ? ir_reshape(g, both, x.rank, x.dim) : NULL;
}

/* ---- the two spellings ---- */
static bool has_type(const Node *n, const Type *t) { return type_eq(&n->type, t); }

/* The pattern is symmetric between u, w and cos, sin: the pair is what comes from one tensor. */
static Node *raise_split(Graph *g, Node *concat, int layout) {
  TermMatch m;
  if (!is_float(concat) || concat->ints[0] != concat->type.rank - 1 ||
      !term_match_loosely(split, concat, &m))
    return NULL;
  Node *part[] = {m.var[TV_x], m.var[TV_y], m.var[TV_z], m.var[TV_w]};
  for (int i = 0; i < 4; i++)
    if (!has_type(part[i], &concat->src[0]->type)) return NULL;
  for (int i = 0; i < 4; i += 2) {
    Node *x =
      layout == HALVES ? joined(g, part[i], part[i + 1]) : interleaved(g, part[i], part[i + 1]);
    if (x) return rope(g, x, part[2 - i], part[3 - i], layout);
  }
  return NULL;
}

/* Only some of the channels are turned, beside others in one concat. */
static Node *raise_part(Graph *g, Node *n) {
  if (n->n_src < 3 || n->n_src > MAX_PARTS) return NULL;
  for (int i = 0; i + 1 < n->n_src; i++) {
    if (n->src[i]->op != OP_sub || n->src[i + 1]->op != OP_add) continue;
    Node *turned = raise_split(g, ir_concat(g, (int)n->ints[0], 2, n->src + i), HALVES);
    if (!turned) continue;
    Node *part[MAX_PARTS];
    for (int k = 0; k < n->n_src - 1; k++) part[k] = k == i ? turned : n->src[k < i ? k : k + 1];
    return ir_concat(g, (int)n->ints[0], n->n_src - 1, part);
  }
  return NULL;
}

/* reshape of concat([…, c/2, 1], […, c/2, 1]) */
static Node *raise_interleaved(Graph *g, Node *n) {
  Node *side[2], *pairs = n->src[0];
  int r = n->type.rank;
  if (pairs->op != OP_concat || pairs->n_src != 2 || pairs->region != n->region ||
      pairs->type.rank != r + 1 || pairs->ints[0] != r || pairs->type.dim[r] != 2)
    return NULL;
  if (n->type.dim[r - 1] != 2 * pairs->type.dim[r - 1]) return NULL;
  for (int i = 0; i < 2; i++) {
    if (pairs->src[i]->op != OP_reshape || pairs->src[i]->region != n->region) return NULL;
    side[i] = pairs->src[i]->src[0];
    if (side[i]->type.rank != r || side[i]->type.dim[r - 1] != pairs->type.dim[r - 1]) return NULL;
  }
  return raise_split(g, ir_concat(g, r - 1, 2, side), INTERLEAVED);
}

/* One half of a table along its last dimension, the slice moved to where the halves come from. */
static Node *half_of(Graph *g, Node *n, int which, int depth) {
  int r = n->type.rank, last = r - 1;
  Type t = n->type;
  int64_t begin[IR_MAX_RANK] = {0}, end[IR_MAX_RANK], c = t.dim[last] /= 2;
  memcpy(end, t.dim, sizeof end);
  begin[last] = which * c;
  end[last] += begin[last];
  Node *src[3], *from = n->n_src ? n->src[0] : NULL;
  if (n->op == OP_const) return ir_const(g, n->value, &t);
  if (depth == 0) return ir_slice(g, n, begin, end);
  bool same_last = from && from->type.rank && from->type.dim[from->type.rank - 1] == 2 * c;
  switch (n->op) {
  case OP_iota:
    if (n->ints[0] != last) return ir_iota(g, (int)n->ints[0], &t);
    break;
  case OP_concat:
    if (n->ints[0] == last && n->n_src == 2 && from->type.dim[last] == c) return n->src[which];
    break;
  case OP_fold: {
    int region = g->region;
    g->region = n->region;
    Node *table = ir_fold(g, half_of(g, from, which, depth - 1));
    g->region = region;
    return table;
  }
  case OP_expand:
    if (same_last) from = half_of(g, from, which, depth - 1);
    return ir_expand(g, from, r, t.dim);
  case OP_reshape:
    if (same_last) return ir_reshape(g, half_of(g, from, which, depth - 1), r, t.dim);
    break;
  case OP_permute:
    if (n->ints[last] != last) break;
    from = half_of(g, from, which, depth - 1);
    return ir_rebuild(g, n, &from);
  case OP_gather:
    if (from->type.rank < 2) break;
    return ir_gather(g, half_of(g, from, which, depth - 1), n->src[1]);
  default:
    if (!(ir_op[n->op].flags & IR_EW)) break;
    for (int i = 0; i < n->n_src; i++) src[i] = half_of(g, n->src[i], which, depth - 1);
    return ir_make(g, n->op, ir_op[n->op].given ? &t : NULL, NULL, n->n_src, src);
  }
  return ir_slice(g, n, begin, end);
}

static Node *raise_rotated(Graph *g, Node *n) {
  TermMatch m;
  if (!is_float(n) || !term_match_loosely(rotated, n, &m)) return NULL;
  Node *x = m.var[TV_x], *cosine = m.var[TV_z], *sine = m.var[TV_w], *half[2];
  Node *whole = joined(g, m.var[TV_v], m.var[TV_y]);
  if (whole == cosine) cosine = x, x = whole;
  if (m.axis[0] != n->type.rank - 1 || whole != x || !has_type(x, &n->type) ||
      !has_type(cosine, &n->type) || !has_type(sine, &n->type))
    return NULL;
  Node *table[] = {cosine, sine};
  for (int i = 0; i < 2; i++) {
    half[i] = half_of(g, table[i], 0, MAX_DEPTH);
    if (half[i] != half_of(g, table[i], 1, MAX_DEPTH)) return NULL;
  }
  return rope(g, x, half[0], half[1], HALVES);
}

Node *raise_rope(Graph *g, Node *n) {
  parse_patterns();
  switch (n->op) {
  case OP_concat: return n->n_src == 2 ? raise_split(g, n, HALVES) : raise_part(g, n);
  case OP_reshape: return raise_interleaved(g, n);
  case OP_add: return raise_rotated(g, n);
  default: return NULL;
  }
}
