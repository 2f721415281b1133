/* index: x[i, 2:5, :, none, ids]: numbers drop a dimension, slices cut it, none inserts one, and an
 * integer tensor gathers along it. Negative numbers count from the end; slices are cut to the
 * dimension, as in Python. */
#include "frontend/elab_internal.h"

#include <string.h>

/* ---- lists ---- */

static bool in_range(Elab *e, const Expr *x, int64_t *i, int64_t n, const char *of) {
  if (*i < -n || *i >= n) {
    fail(e, x->at, "the index %lld is outside %s of %lld", (long long)*i, of, (long long)n);
    return false;
  }
  if (*i < 0) *i += n;
  return true;
}

static bool slice_bounds(Elab *e, const Expr *x, int64_t n, int64_t *lo, int64_t *hi) {
  *lo = 0;
  *hi = n;
  const Expr *part[2] = {x->b, x->c};
  int64_t *bound[2] = {lo, hi};
  for (int i = 0; i < 2; i++) {
    if (!part[i]) continue;
    Value v = eval(e, part[i]);
    if (v.kind == V_none) continue;
    if (!want_int(e, part[i], v, "a slice's bound", bound[i])) return false;
    if (*bound[i] < 0) *bound[i] = *bound[i] < -n ? 0 : *bound[i] + n;
    if (*bound[i] > n) *bound[i] = n;
  }
  return true;
}

static Value index_list(Elab *e, const Expr *x, const List *list) {
  if (x->n_arg != 1) return fail(e, x->at, "a list has one index, found %d", x->n_arg);
  const Expr *item = x->arg[0].value;
  int64_t lo, hi;
  if (item->kind == E_slice) {
    if (!slice_bounds(e, item, list->n, &lo, &hi)) return v_error;
    return v_list(e, x->at, hi > lo ? (int)(hi - lo) : 0, list->at + lo);
  }
  Value v = eval(e, item);
  if (!want_int(e, item, v, "an index", &lo) || !in_range(e, item, &lo, list->n, "a list"))
    return v_error;
  return list->at[lo];
}

/* ---- what is known of an integer tensor's elements ---- */

/* The smallest and largest element, where both certainly occur. */
static bool known_range(const Node *n, int depth, double *lo, double *hi) {
  double a, b;
  if (depth == 0) return false;
  switch (n->op) {
  case OP_const: *lo = *hi = n->value; return true;
  case OP_iota:
    *lo = 0;
    *hi = (double)n->type.dim[n->ints[0]] - 1;
    return true;
  case OP_position:
    *lo = 0;
    *hi = (double)n->type.dim[0] - 1;
    return true;
  case OP_reshape:
  case OP_expand:
  case OP_permute:
  case OP_stop_gradient: return known_range(n->src[0], depth - 1, lo, hi);
  case OP_slice: {
    const Node *x = n->src[0];
    int axis = x->op == OP_iota ? (int)x->ints[0] : 0;
    if (x->op == OP_const) return known_range(x, depth - 1, lo, hi);
    if (x->op != OP_iota && x->op != OP_position) return false;
    *lo = (double)n->ints[axis];
    *hi = (double)n->ints[n->type.rank + axis] - 1;
    return true;
  }
  case OP_add:
  case OP_sub:
    if (!known_range(n->src[0], depth - 1, lo, hi) || !known_range(n->src[1], depth - 1, &a, &b))
      return false;
    if (a != b && *lo != *hi) return false;
    *lo = n->op == OP_add ? *lo + a : *lo - b;
    *hi = n->op == OP_add ? *hi + b : *hi - a;
    return true;
  default: return false;
  }
}

static bool indices_fit(Elab *e, const Expr *x, const Expr *item, Node *table, Node *ids) {
  double lo, hi;
  int64_t rows = table->type.dim[0];
  if (!known_range(ids, 8, &lo, &hi) || (lo >= 0 && hi < (double)rows)) return true;
  if (report(e, item->at, "these indices run from %.0f to %.0f, but the table has %lld rows", lo,
             hi, (long long)rows)) {
    Value t = v_node(table);
    diag_note(&e->diag, x->a->at, "the table is %s", describe(e, t));
    note_calls(e);
  }
  return false;
}

/* ---- tensors ---- */

typedef struct Items { /* an index, read */
  int64_t lo[IR_MAX_RANK], hi[IR_MAX_RANK];
  int rank;                       /* of the tensor */
  int64_t shape[3 * IR_MAX_RANK]; /* after slicing, dropping and inserting */
  int n_shape;
  Node *ids; /* NULL: no gather */
  const Expr *ids_expr;
  int ids_at; /* the dimension in `shape` that it replaces */
} Items;

static bool add_dim(Elab *e, const Expr *x, Items *s, int64_t dim) {
  if (s->n_shape >= IR_MAX_RANK) {
    fail(e, x->at, "a tensor has at most %d dimensions", IR_MAX_RANK);
    return false;
  }
  s->shape[s->n_shape++] = dim;
  return true;
}

static bool read_item(Elab *e, const Expr *x, const Expr *item, const Type *t, Items *s) {
  Value v = item->kind == E_slice ? v_none : eval(e, item);
  if (v.kind == V_error) return false;
  if (item->kind != E_slice && v.kind == V_none) return add_dim(e, x, s, 1);
  if (s->rank >= t->rank) {
    fail(e, item->at, "too many indices for a tensor of shape %s", shape_text(e, t->rank, t->dim));
    return false;
  }
  int d = s->rank++;
  int64_t n = t->dim[d];
  s->lo[d] = 0, s->hi[d] = n;
  if (item->kind == E_slice) {
    if (!slice_bounds(e, item, n, &s->lo[d], &s->hi[d])) return false;
    if (s->hi[d] > s->lo[d]) return add_dim(e, x, s, s->hi[d] - s->lo[d]);
    fail(e, item->at, "the slice is empty: %lld:%lld of a dimension of %lld", (long long)s->lo[d],
         (long long)s->hi[d], (long long)n);
    return false;
  }
  if (!is_tensor(v)) {
    int64_t i;
    if (!want_int(e, item, v, "an index", &i) || !in_range(e, item, &i, n, "a dimension"))
      return false;
    s->lo[d] = i, s->hi[d] = i + 1;
    return true;
  }
  if (tensor_type(v).dtype != DT_i32) {
    fail(e, item->at, "a tensor that indexes holds integers, found %s", describe(e, v));
    return false;
  }
  if (s->ids) {
    fail(e, item->at, "one index tensor at a time: combine the indices, or index twice");
    return false;
  }
  s->ids = to_node(e, v);
  s->ids_expr = item;
  s->ids_at = s->n_shape;
  return s->ids && add_dim(e, x, s, n);
}

/* Rows of x by ids along dimension d, which the dimensions of ids replace. */
static Node *gather(Elab *e, const Expr *x, Node *t, const Items *s) {
  int d = s->ids_at, r = t->type.rank, k = s->ids->type.rank, front[IR_MAX_RANK], back[IR_MAX_RANK];
  int64_t dim[2 * IR_MAX_RANK];
  for (int i = 0; i < r; i++) front[i] = i == 0 ? d : i <= d ? i - 1 : i;
  for (int i = 0; i < r + k - 1; i++)
    dim[i] = i < d ? t->type.dim[i] : i < d + k ? s->ids->type.dim[i - d] : t->type.dim[i - k + 1];
  if (!shape_fits(e, x->at, r + k - 1, dim)) return NULL;
  Node *table = ir_permute(e->g, t, front);
  if (!indices_fit(e, x, s->ids_expr, table, s->ids)) return NULL;
  Node *rows = ir_gather(e->g, table, s->ids);
  for (int i = 0; i < r + k - 1; i++) back[i] = i < d ? k + i : i < d + k ? i - d : i;
  return ir_permute(e->g, rows, back);
}

static Value index_tensor(Elab *e, const Expr *x, Value v) {
  Type t = tensor_type(v);
  Items s = {0};
  for (int i = 0; i < x->n_arg; i++)
    if (!read_item(e, x, x->arg[i].value, &t, &s)) return v_error;
  for (; s.rank < t.rank; s.rank++) {
    s.lo[s.rank] = 0;
    s.hi[s.rank] = t.dim[s.rank];
    if (!add_dim(e, x, &s, t.dim[s.rank])) return v_error;
  }
  Node *n = to_node(e, v);
  if (!n) return v_error;
  at(e, x);
  n = ir_reshape(e->g, ir_slice(e->g, n, s.lo, s.hi), s.n_shape, s.shape);
  if (s.ids) n = gather(e, x, n, &s);
  return elab_room(e, x->at) ? v_node(n) : v_error;
}

Value eval_index(Elab *e, const Expr *x) {
  Value v = eval(e, x->a);
  if (v.kind == V_error) return v_error;
  if (v.kind == V_list) return index_list(e, x, v.list);
  if (is_tensor(v)) return index_tensor(e, x, v);
  return fail(e, x->at, "%s cannot be indexed", describe(e, v));
}
