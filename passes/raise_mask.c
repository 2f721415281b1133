/* raise, attention masks: which part of a condition is a band along the diagonal.
 *
 * A comparison whose sides are affine in the query's index i and the key's index j, with opposite
 * coefficients, bounds j − i. Conditions are followed through and, or, not, views, and through
 * comparisons of numbers that themselves only say whether a condition holds. */
#include "passes/raise.h"

#include <math.h>
#include <string.h>

enum { MAX_DEPTH = 24 };

/* ---- where an element comes from ---- */
/* For each dimension of a node: which of the mask's two indices runs along it, from where. */
enum { AXIS_none, AXIS_query, AXIS_key };
typedef struct Place {
  uint8_t axis[IR_MAX_RANK];
  int64_t begin[IR_MAX_RANK];
} Place;

static bool through_reshape(const Node *n, const Place *at, Place *to) {
  const Type *a = &n->type, *b = &n->src[0]->type;
  int i = 0, k = 0;
  for (;;) {
    while (i < a->rank && a->dim[i] == 1) i++;
    while (k < b->rank && b->dim[k] == 1) k++;
    if (i == a->rank || k == b->rank) return i == a->rank && k == b->rank;
    if (a->dim[i] != b->dim[k]) return false;
    to->axis[k] = at->axis[i];
    to->begin[k++] = at->begin[i++];
  }
}

/* The place in a view's source of what stands at `at` in the view. */
static bool through_view(const Node *n, const Place *at, Place *to) {
  *to = (Place){.axis = {AXIS_none}};
  const Type *t = &n->src[0]->type;
  switch (n->op) {
  case OP_reshape: return through_reshape(n, at, to);
  case OP_expand:
    for (int i = 0; i < t->rank; i++)
      if (t->dim[i] == n->type.dim[i]) to->axis[i] = at->axis[i], to->begin[i] = at->begin[i];
    return true;
  case OP_permute:
    for (int i = 0; i < t->rank; i++) {
      to->axis[n->ints[i]] = at->axis[i];
      to->begin[n->ints[i]] = at->begin[i];
    }
    return true;
  case OP_slice:
    for (int i = 0; i < t->rank; i++) {
      to->axis[i] = at->axis[i];
      to->begin[i] = at->begin[i] + n->ints[i];
    }
    return true;
  default: return false;
  }
}

/* ---- affine numbers ---- */
typedef struct Affine {
  double query, key, one; /* query · i + key · j + one */
} Affine;

static bool index_along(const Node *n, int axis, const Place *at, Affine *out) {
  *out = (Affine){.one = (double)at->begin[axis]};
  if (at->axis[axis] == AXIS_query) out->query = 1;
  if (at->axis[axis] == AXIS_key) out->key = 1;
  return at->axis[axis] != AXIS_none || n->type.dim[axis] == 1;
}

static bool is_half_whole(double x) { return 2 * x == rint(2 * x); }

/* Numbers that i32 and f32 hold exactly, so that what is compared is what is computed. */
static bool is_exact(const Affine *a) {
  return is_half_whole(a->query) && is_half_whole(a->key) && is_half_whole(a->one) &&
         fabs(a->one) <= 1 << 20;
}

static bool affine_exactly(Node *n, const Place *at, int depth, Affine *out);

static bool affine(Node *n, const Place *at, int depth, Affine *out) {
  bool is_plain = n->type.dtype == DT_i32 || n->type.dtype == DT_f32;
  return is_plain && depth < MAX_DEPTH && affine_exactly(n, at, depth, out) && is_exact(out);
}

static bool affine_exactly(Node *n, const Place *at, int depth, Affine *out) {
  Affine a, b;
  Place to;
  switch (n->op) {
  case OP_const: return *out = (Affine){.one = n->value}, true;
  case OP_iota: return index_along(n, (int)n->ints[0], at, out);
  case OP_position: return index_along(n, 0, at, out);
  case OP_fold: return affine(n->src[0], at, depth + 1, out);
  case OP_cast: return n->type.dtype == DT_f32 && affine(n->src[0], at, depth + 1, out);
  case OP_neg:
    if (!affine(n->src[0], at, depth + 1, &a)) return false;
    return *out = (Affine){-a.query, -a.key, -a.one}, true;
  case OP_add:
  case OP_sub:
  case OP_mul:
  case OP_div:
    if (!affine(n->src[0], at, depth + 1, &a) || !affine(n->src[1], at, depth + 1, &b))
      return false;
    break;
  default: return through_view(n, at, &to) && affine(n->src[0], &to, depth + 1, out);
  }
  double sign = n->op == OP_sub ? -1 : 1;
  if (n->op == OP_add || n->op == OP_sub)
    return *out = (Affine){a.query + sign * b.query, a.key + sign * b.key, a.one + sign * b.one},
           true;
  if (n->op == OP_mul && a.query == 0 && a.key == 0) {
    Affine c = a;
    a = b, b = c;
  }
  if (b.query != 0 || b.key != 0 || (n->op == OP_div && b.one == 0)) return false;
  double f = n->op == OP_mul ? b.one : 1 / b.one;
  return *out = (Affine){f * a.query, f * a.key, f * a.one}, true;
}

bool is_index_along(Node *n, int axis, int64_t step) {
  Place at = {.axis = {AXIS_none}};
  Affine a;
  at.axis[axis] = AXIS_key;
  return affine(n, &at, 0, &a) && a.key == (double)step && a.one == 0;
}

/* ---- bands ---- */
static Op opposite(Op op) {
  switch (op) {
  case OP_lt: return OP_ge;
  case OP_le: return OP_gt;
  case OP_gt: return OP_le;
  case OP_ge: return OP_lt;
  case OP_eq: return OP_ne;
  default: return OP_eq;
  }
}

/* x op y as y op x */
static Op mirrored(Op op) {
  return op == OP_lt ? OP_gt : op == OP_le ? OP_ge : op == OP_gt ? OP_lt : op == OP_ge ? OP_le : op;
}

static void at_most(Visible *v, double bound, bool strictly) {
  double hi = strictly ? ceil(bound) - 1 : floor(bound);
  if (hi < (double)v->hi) v->hi = hi < -IR_UNBOUNDED ? -IR_UNBOUNDED : (int64_t)hi;
}

static void at_least(Visible *v, double bound, bool strictly) {
  double lo = strictly ? floor(bound) + 1 : ceil(bound);
  if (lo > (double)v->lo) v->lo = lo > IR_UNBOUNDED ? IR_UNBOUNDED : (int64_t)lo;
}

/* key · (j − i) + one op 0 */
static bool bound_by(Visible *v, Op op, const Affine *a) {
  if (a->key == 0 || a->key + a->query != 0 || fabs(a->key) > 8) return false;
  double bound = -a->one / a->key;
  if (a->key < 0) op = mirrored(op);
  if (op == OP_ne) return false;
  if (op == OP_lt || op == OP_le || op == OP_eq) at_most(v, bound, op == OP_lt);
  if (op == OP_gt || op == OP_ge || op == OP_eq) at_least(v, bound, op == OP_gt);
  return true;
}

/* |d| op c for an affine d: two bounds, where the comparison says that it is small. */
static bool bound_distance(Visible *v, Op op, Node *x, Node *y, const Place *at) {
  Place to = *at;
  while (x->op != OP_abs) {
    Place from = to;
    if (!through_view(x, &from, &to)) return false;
    x = x->src[0];
  }
  Affine d, c;
  if (!affine(x->src[0], &to, 0, &d) || !affine(y, at, 0, &c)) return false;
  if (c.query != 0 || c.key != 0 || (op != OP_lt && op != OP_le)) return false;
  Affine above = {d.query, d.key, d.one - c.one}, below = {d.query, d.key, d.one + c.one};
  return bound_by(v, op, &above) && bound_by(v, mirrored(op), &below);
}

static bool is_comparison(Op op) {
  return op == OP_lt || op == OP_le || op == OP_gt || op == OP_ge || op == OP_eq || op == OP_ne;
}

static bool band(const Node *n, bool negated, const Place *at, Visible *v) {
  Op op = negated ? opposite(n->op) : n->op;
  Affine a, b;
  if (affine(n->src[0], at, 0, &a) && affine(n->src[1], at, 0, &b)) {
    Affine d = {a.query - b.query, a.key - b.key, a.one - b.one};
    return bound_by(v, op, &d);
  }
  return bound_distance(v, op, n->src[0], n->src[1], at) ||
         bound_distance(v, mirrored(op), n->src[1], n->src[0], at);
}

/* ---- conditions in disguise ---- */
static bool holds(Op op, double x, double y) {
  switch (op) {
  case OP_lt: return x < y;
  case OP_le: return x <= y;
  case OP_gt: return x > y;
  case OP_ge: return x >= y;
  case OP_eq: return x == y;
  default: return x != y;
  }
}

static double apply(Op op, double x, double y) {
  switch (op) {
  case OP_add: return x + y;
  case OP_sub: return x - y;
  case OP_mul: return x * y;
  default: return x / y;
  }
}

static bool choice_of(Graph *g, Node *n, int depth, Choice *out);

/* Both values as the node's type has them. */
static bool choice(Graph *g, Node *n, int depth, Choice *out) {
  DType d = (DType)n->type.dtype;
  if (depth == MAX_DEPTH || !choice_of(g, n, depth, out)) return false;
  if (dtype_is_float(d)) {
    out->yes = dtype_round(d, out->yes);
    out->no = dtype_round(d, out->no);
    return true;
  }
  return out->yes == dtype_round(d, out->yes) && out->no == dtype_round(d, out->no);
}

static bool choice_of(Graph *g, Node *n, int depth, Choice *out) {
  switch (n->op) {
  case OP_where:
    if (n->src[1]->op != OP_const || n->src[2]->op != OP_const) return false;
    return *out = (Choice){n->src[0], n->src[1]->value, n->src[2]->value}, true;
  case OP_cast:
    if (n->src[0]->type.dtype == DT_bool) return *out = (Choice){n->src[0], 1, 0}, true;
    return choice(g, n->src[0], depth + 1, out);
  case OP_neg:
    if (!choice(g, n->src[0], depth + 1, out)) return false;
    out->yes = -out->yes;
    out->no = -out->no;
    return true;
  case OP_add:
  case OP_sub:
  case OP_mul:
  case OP_div:
    for (int i = 0; i < 2; i++) {
      double c = n->src[1 - i]->value;
      if (n->src[1 - i]->op != OP_const || !choice(g, n->src[i], depth + 1, out)) continue;
      out->yes = i ? apply(n->op, c, out->yes) : apply(n->op, out->yes, c);
      out->no = i ? apply(n->op, c, out->no) : apply(n->op, out->no, c);
      return true;
    }
    return false;
  case OP_fold: {
    if (!choice(g, n->src[0], depth + 1, out)) return false;
    int region = g->region;
    g->region = n->region;
    out->condition = ir_fold(g, out->condition);
    g->region = region;
    return true;
  }
  default: break;
  }
  if (!(ir_op[n->op].flags & IR_VIEW) || !choice(g, n->src[0], depth + 1, out)) return false;
  Type t = n->type;
  t.dtype = DT_bool;
  Node shape = *n; /* the same view of the condition */
  shape.type = t;
  out->condition = ir_rebuild(g, &shape, &out->condition);
  return true;
}

bool is_choice(Graph *g, Node *n, Choice *out) { return choice(g, n, 0, out); }

/* ---- what of a condition is no band ---- */
static Node *rest_of(Graph *g, Node *n, bool negated, const Place *at, int depth, Visible *v);

static Node *both(Graph *g, Node *x, Node *y) { return !x ? y : !y ? x : ir_and(g, x, y); }

static Node *rest_of_comparison(Graph *g, Node *n, bool negated, const Place *at, int depth,
                                Visible *v) {
  if (band(n, negated, at, v)) return NULL;
  Choice c;
  for (int i = 0; i < 2; i++) {
    const Node *number = n->src[1 - i];
    if (number->op != OP_const || !is_choice(g, n->src[i], &c)) continue;
    Op op = i ? mirrored(n->op) : n->op;
    bool yes = holds(op, c.yes, number->value), no = holds(op, c.no, number->value);
    if (yes == no) continue;
    return rest_of(g, c.condition, negated == yes, at, depth + 1, v);
  }
  return negated ? ir_not(g, n) : n;
}

/* The part of `n` (negated: of its negation) that is no band, in the shape of n; NULL: none. */
static Node *rest_of(Graph *g, Node *n, bool negated, const Place *at, int depth, Visible *v) {
  Node *whole = n;
  Place to;
  if (depth < MAX_DEPTH) {
    if (n->op == OP_not) return rest_of(g, n->src[0], !negated, at, depth + 1, v);
    if (n->op == (negated ? OP_or : OP_and)) {
      Node *x = rest_of(g, n->src[0], negated, at, depth + 1, v);
      return both(g, x, rest_of(g, n->src[1], negated, at, depth + 1, v));
    }
    if (is_comparison(n->op)) return rest_of_comparison(g, n, negated, at, depth, v);
    if (n->op == OP_cast) {
      Choice c;
      if (is_choice(g, n->src[0], &c) && (c.yes != 0) != (c.no != 0))
        return rest_of(g, c.condition, negated == (c.yes != 0), at, depth + 1, v);
    }
    if (n->op == OP_fold) { /* all of it or nothing: what is left would be another table */
      Visible inside = *v;
      Node *x = rest_of(g, n->src[0], negated, at, depth + 1, &inside);
      if (!x) *v = inside;
      if (!x) return NULL;
    }
    if (through_view(n, at, &to)) {
      Node *x = rest_of(g, n->src[0], negated, &to, depth + 1, v);
      return x ? ir_rebuild(g, n, &x) : NULL;
    }
  }
  return negated ? ir_not(g, whole) : whole;
}

void visible_and(Graph *g, Node *condition, bool negated, Visible *v) {
  Place at = {.axis = {AXIS_none}};
  int r = condition->type.rank;
  at.axis[r - 2] = AXIS_query;
  at.axis[r - 1] = AXIS_key;
  Node *rest = rest_of(g, condition, negated, &at, 0, v);
  if (rest) v->rest = both(g, v->rest, rest);
}
