/* The value of an expression at an index: loads what is stored, computes the rest, each node once
 * per index. Views only change the index. What takes a loop of its own, a reduction or a product, is
 * bound by its kernel at the indices where it is known. */
#include "codegen/kernel.h"

#include <math.h>
#include <string.h>

/* ---- memo ---- */

struct Memo {
  const Node *node; /* NULL: empty */
  const Ix *index[IR_MAX_RANK];
  SpvId value;
  uint32_t scope;
};

static struct Memo *memo_find(Kernel *k, const Node *n, const Ix *const *index) {
  uint64_t h = hash_bytes(&n, sizeof n, 0);
  size_t bytes = n->type.rank * sizeof *index;
  if (bytes) h = hash_bytes(index, bytes, h);
  for (int i = (int)(h & (uint64_t)(k->memo_cap - 1));; i = (i + 1) & (k->memo_cap - 1)) {
    struct Memo *m = &k->memo[i];
    if (!m->node || (m->node == n && memcmp(m->index, index, bytes) == 0)) return m;
  }
}

static void memo_grow(Kernel *k) {
  struct Memo *old = k->memo;
  int n = k->memo_cap;
  k->memo_cap = n ? 2 * n : 256;
  k->memo = arena_alloc(k->scratch, (size_t)k->memo_cap * sizeof *k->memo);
  for (int i = 0; i < n; i++)
    if (old[i].node) *memo_find(k, old[i].node, old[i].index) = old[i];
}

static void memo_put(Kernel *k, const Node *n, const Ix *const *index, SpvId value) {
  if (2 * (k->n_memo + 1) > k->memo_cap) memo_grow(k);
  struct Memo *m = memo_find(k, n, index);
  if (!m->node) k->n_memo++;
  m->node = n;
  memcpy(m->index, index, n->type.rank * sizeof *index);
  m->value = value;
  m->scope = spv_scope(k->b);
}

/* ---- what a kernel's loop computes ---- */

/* By the canonical split of the flat index, whatever way an expression takes to it. */
void kernel_bind(Kernel *k, const Node *n, const Ix *linear, SpvId value) {
  const Ix *index[IR_MAX_RANK];
  ix_split(k->ix, linear, n->type.rank, n->type.dim, index);
  if (!k->memo_cap) memo_grow(k);
  memo_put(k, n, index, value);
}

static SpvId bound_value(Kernel *k, const Node *n, const Ix *const *index) {
  const Ix *at[IR_MAX_RANK];
  ix_split(k->ix, ix_join(k->ix, n->type.rank, n->type.dim, index), n->type.rank, n->type.dim, at);
  const struct Memo *m = memo_find(k, n, at);
  if (!m->node || !spv_scope_open(k->b, m->scope))
    die("codegen: %%%d %s is not stored, and its kernel does not know it at this index", n->id,
        ir_op[n->op].name);
  return m->value;
}

/* ---- leaves ---- */

SpvId expr_const(Kernel *k, DType d, double v) {
  if (d == DT_bool) return spv_b(k->b, v != 0);
  if (d == DT_i32) return spv_u(k->b, (uint32_t)(int32_t)v);
  return spv_f(k->b, (float)v);
}

static SpvId from_index(Kernel *k, DType d, const Ix *ix) {
  SpvId u = ix_emit(k->ix, ix);
  return math_cast(k, d, DT_i32, u);
}

static SpvId random_at(Kernel *k, Node *n, const Ix *linear) {
  SpvId rng[4];
  for (int i = 0; i < 4; i++) rng[i] = expr_at(k, n->src[0], ix_const(k->ix, i));
  int slot = -1;
  for (int i = 0; i < k->n_place && slot < 0; i++)
    if (k->place[i].number == n->ints[0]) slot = k->place[i].slot;
  if (slot < 0) {
    kernel_raw(k, (uint32_t)n->ints[0], 0);
    slot = k->n_slot - 1;
    k->out->slot[slot].node = n;
    k->place[k->n_place].number = n->ints[0];
    k->place[k->n_place++].slot = slot;
  }
  SpvId place = kernel_slot(k, slot);
  SpvId word = spv_extract(k->b, place, 0);
  SpvId at = ix_emit(k->ix, linear);
  return math_uniform(k, at, word, rng);
}

static SpvId random_value(Kernel *k, Node *n, const Ix *const *index) {
  return random_at(k, n, ix_join(k->ix, n->type.rank, n->type.dim, index));
}

/* ---- what changes the index ---- */

/* index − lo where that is within 0 … dim − 1, else 0; *inside tells which. Keeps the index a
 * multiple of what it was. */
static const Ix *shifted(Kernel *k, const Ix *index, int64_t lo, int64_t dim, SpvId *inside) {
  Spv *b = k->b;
  int64_t unit = 4, low = ix_offset(index) % 4;
  if (ix_step(index) % 4 != 0 || lo % 4 != 0 || dim % 4 != 0) unit = 1, low = 0;
  SpvId i = ix_emit(k->ix, ix_div(k->ix, index, unit));
  SpvId from = spv_u(b, (uint32_t)(lo / unit));
  SpvId n = spv_u(b, (uint32_t)(dim / unit));
  i = spv_bin(b, SpvOpISub, i, from);
  *inside = spv_cmp(b, SpvOpULessThan, i, n);
  SpvId zero = spv_u(b, 0);
  i = spv_select(b, *inside, i, zero);
  const Ix *at = ix_mul(k->ix, ix_value(k->ix, i, dim / unit), unit);
  return ix_add(k->ix, at, ix_const(k->ix, low));
}

static SpvId pad_value(Kernel *k, Node *n, const Ix *const *index) {
  const Type *x = &n->src[0]->type;
  const Ix *at[IR_MAX_RANK] = {0};
  SpvId inside = 0;
  for (int i = 0; i < x->rank; i++) {
    at[i] = index[i];
    if (n->ints[i] == 0 && n->ints[x->rank + i] == 0) continue;
    SpvId here;
    at[i] = shifted(k, index[i], n->ints[i], x->dim[i], &here);
    inside = inside ? spv_pure(k->b, SpvOpLogicalAnd, spv_bool(k->b), inside, here) : here;
  }
  SpvId v = expr_value(k, n->src[0], at);
  SpvId fill = expr_const(k, (DType)n->type.dtype, n->value);
  return inside ? spv_select(k->b, inside, v, fill) : v;
}

static SpvId concat_value(Kernel *k, Node *n, const Ix *const *index) {
  int64_t axis = n->ints[0], from = 0;
  SpvId value = 0;
  for (int s = 0; s < n->n_src; s++) {
    const Ix *at[IR_MAX_RANK] = {0};
    SpvId inside;
    int64_t length = n->src[s]->type.dim[axis];
    memcpy(at, index, n->type.rank * sizeof *at);
    at[axis] = shifted(k, index[axis], from, length, &inside);
    SpvId v = expr_value(k, n->src[s], at);
    value = value ? spv_select(k->b, inside, v, value) : v;
    from += length;
  }
  return value;
}

static SpvId gather_value(Kernel *k, Node *n, const Ix *const *index) {
  Spv *b = k->b;
  Node *table = n->src[0], *ids = n->src[1];
  const Ix *at[IR_MAX_RANK] = {0};
  DType d = (DType)n->type.dtype;
  SpvId id = expr_value(k, ids, index);
  SpvId rows = spv_u(b, (uint32_t)table->type.dim[0]);
  SpvId inside = spv_cmp(b, SpvOpULessThan, id, rows);
  SpvId zero = spv_u(b, 0);
  id = spv_select(b, inside, id, zero);
  at[0] = ix_value(k->ix, id, table->type.dim[0]);
  for (int i = 1; i < table->type.rank; i++) at[i] = index[ids->type.rank + i - 1];
  SpvId v = expr_value(k, table, at);
  SpvId outside = expr_const(k, d, dtype_is_float(d) ? (double)NAN : 0);
  return spv_select(b, inside, v, outside);
}

/* The index of a view's source. */
static void view_index(Kernel *k, const Node *n, const Ix *const *index, const Ix **at) {
  const Type *x = &n->src[0]->type;
  switch (n->op) {
  case OP_reshape:
    ix_split(k->ix, ix_join(k->ix, n->type.rank, n->type.dim, index), x->rank, x->dim, at);
    break;
  case OP_expand:
    for (int i = 0; i < x->rank; i++) at[i] = x->dim[i] == 1 ? ix_const(k->ix, 0) : index[i];
    break;
  case OP_permute:
    for (int i = 0; i < x->rank; i++) at[n->ints[i]] = index[i];
    break;
  case OP_slice:
    for (int i = 0; i < x->rank; i++) at[i] = ix_add(k->ix, index[i], ix_const(k->ix, n->ints[i]));
    break;
  default: die("codegen: %s is no view", ir_op[n->op].name);
  }
}

/* ---- any node ---- */

/* x·y + z in one instruction, rounded once: which source of an add or sub is such a product, that
 * nothing else in the kernel asks; −1: neither. Not where each operation must round by itself. */
static int product_source(const Kernel *k, const Node *n) {
  if ((n->op != OP_add && n->op != OP_sub) || n->type.dtype != DT_f32 || k->target->strict)
    return -1;
  for (int i = 0; i < 2; i++) {
    const Node *x = n->src[i];
    if (x->op == OP_mul && !k->job->stored[x->id] && k->uses[x->id] == 1) return i;
  }
  return -1;
}

/* What an elementwise node is computed from: its sources, or the product's two and the other one. */
static int inputs(const Node *n, int product, Node **x) {
  if (product < 0) {
    for (int i = 0; i < n->n_src; i++) x[i] = n->src[i];
    return n->n_src;
  }
  x[0] = n->src[product]->src[0];
  x[1] = n->src[product]->src[1];
  x[2] = n->src[1 - product];
  return 3;
}

/* The same value for many elements, as a row's sum for all of the row. */
static bool is_spread(const Kernel *k, const Node *n) {
  enum { MANY = 8 };
  for (; (ir_op[n->op].flags & IR_VIEW) && !k->job->stored[n->id]; n = n->src[0])
    if (n->op == OP_expand && type_count(&n->type) >= MANY * type_count(&n->src[0]->type))
      return true;
  return false;
}

static SpvId apply(Kernel *k, Node *n, int product, const SpvId *x) {
  Spv *b = k->b;
  DType d = (DType)n->src[0]->type.dtype;
  if (product >= 0) {
    bool minus = n->op == OP_sub;
    SpvId factor = minus && product == 1 ? spv_un(b, SpvOpFNegate, x[0]) : x[0];
    SpvId term = minus && product == 0 ? spv_un(b, SpvOpFNegate, x[2]) : x[2];
    return spv_fma(b, factor, x[1], term);
  }
  if (n->op == OP_where) return spv_select(b, x[0], x[1], x[2]);
  if (n->op == OP_cast) return math_cast(k, (DType)n->type.dtype, d, x[0]);
  if (n->op == OP_div && !k->target->strict && is_spread(k, n->src[1]))
    return math_divide_many(k, d, x[0], x[1]);
  return n->n_src == 1 ? math_unary(k, n->op, d, x[0]) : math_binary(k, n->op, d, x[0], x[1]);
}

static SpvId elementwise(Kernel *k, Node *n, const Ix *const *index) {
  Node *from[3];
  SpvId x[3];
  int product = product_source(k, n), n_from = inputs(n, product, from);
  for (int i = 0; i < n_from; i++) x[i] = expr_value(k, from[i], index);
  return apply(k, n, product, x);
}

static SpvId compute(Kernel *k, Node *n, const Ix *const *index) {
  const Ix *at[IR_MAX_RANK] = {0};
  if (ir_op[n->op].flags & IR_EW) return elementwise(k, n, index);
  if (ir_op[n->op].flags & IR_VIEW) {
    view_index(k, n, index, at);
    return expr_value(k, n->src[0], at);
  }
  switch (n->op) {
  case OP_const: return expr_const(k, (DType)n->type.dtype, n->value);
  case OP_iota: return from_index(k, (DType)n->type.dtype, index[n->ints[0]]);
  case OP_position: return from_index(k, DT_i32, index[0]);
  case OP_random: return random_value(k, n, index);
  case OP_pad: return pad_value(k, n, index);
  case OP_concat: return concat_value(k, n, index);
  case OP_gather: return gather_value(k, n, index);
  default: return bound_value(k, n, index);
  }
}

static SpvId load(Kernel *k, Node *n, const Ix *const *index) {
  SpvId raw = kernel_load(k, n, ix_join(k->ix, n->type.rank, n->type.dim, index));
  return kernel_from_memory(k, (DType)n->type.dtype, raw);
}

SpvId expr_value(Kernel *k, Node *n, const Ix *const *index) {
  if (!k->memo_cap) memo_grow(k);
  struct Memo *m = memo_find(k, n, index);
  if (m->node && spv_scope_open(k->b, m->scope)) return m->value;
  bool in_memory = k->job->stored[n->id] && !cg_is_out(k->job, n);
  SpvId v = in_memory ? load(k, n, index) : compute(k, n, index);
  memo_put(k, n, index, v);
  return v;
}

SpvId expr_at(Kernel *k, Node *n, const Ix *linear) {
  const Ix *index[IR_MAX_RANK];
  ix_split(k->ix, linear, n->type.rank, n->type.dim, index);
  return expr_value(k, n, index);
}

/* ---- what loops need not compute again ---- */

enum { HOIST_MAX = 400 }; /* nodes looked at */
typedef struct Hoist {
  Kernel *k;
  const Ix *varying;
  struct {
    const Node *node;
    const Ix *index[IR_MAX_RANK];
  } seen[HOIST_MAX];
  int n;
} Hoist;

static bool is_seen(Hoist *h, const Node *n, const Ix *const *index) {
  size_t bytes = n->type.rank * sizeof *index;
  for (int i = 0; i < h->n; i++)
    if (h->seen[i].node == n && memcmp(h->seen[i].index, index, bytes) == 0) return true;
  if (h->n == HOIST_MAX) return true;
  h->seen[h->n].node = n;
  memcpy(h->seen[h->n++].index, index, bytes);
  return false;
}

static void hoist(Hoist *h, Node *n, const Ix *const *index) {
  Kernel *k = h->k;
  const Ix *at[IR_MAX_RANK] = {0};
  bool varies = false;
  if (n->op == OP_const || is_seen(h, n, index)) return;
  for (int i = 0; i < n->type.rank && !varies; i++) varies = ix_varies(index[i], h->varying);
  if (!varies) {
    expr_value(k, n, index);
    return;
  }
  if (k->job->stored[n->id] && !cg_is_out(k->job, n)) return;
  if (ir_op[n->op].flags & IR_VIEW) {
    view_index(k, n, index, at);
    hoist(h, n->src[0], at);
  }
  for (int i = 0; i < n->n_src && (ir_op[n->op].flags & IR_EW); i++) hoist(h, n->src[i], index);
  if (n->op == OP_gather) hoist(h, n->src[1], index);
}

void expr_hoist(Kernel *k, Node *n, const Ix *const *index, const Ix *varying) {
  Hoist h = {.k = k, .varying = varying};
  hoist(&h, n, index);
}

/* ---- flat values: no index is split, so that nothing depends on a shape ---- */

static SpvId compute_flat(Kernel *k, Node *n, const Ix *linear) {
  Node *from[3];
  SpvId x[3];
  int product = product_source(k, n), n_from;
  if (k->job->stored[n->id] && !cg_is_out(k->job, n)) {
    SpvId raw = kernel_load_flat(k, n, linear);
    return kernel_from_memory(k, (DType)n->type.dtype, raw);
  }
  switch (n->op) {
  case OP_const: return expr_const(k, (DType)n->type.dtype, n->value);
  case OP_random: return random_at(k, n, linear);
  case OP_reshape:
  case OP_expand: return expr_flat(k, n->src[0], linear);
  default:
    n_from = inputs(n, product, from);
    for (int i = 0; i < n_from; i++) x[i] = expr_flat(k, from[i], linear);
    return apply(k, n, product, x);
  }
}

SpvId expr_flat(Kernel *k, Node *n, const Ix *linear) {
  if (type_count(&n->type) == 1) return expr_at(k, n, ix_const(k->ix, 0));
  const Ix *index[IR_MAX_RANK] = {linear}; /* no other index of this node looks like it */
  if (!k->memo_cap) memo_grow(k);
  struct Memo *m = memo_find(k, n, index);
  if (m->node && spv_scope_open(k->b, m->scope)) return m->value;
  SpvId v = compute_flat(k, n, linear);
  memo_put(k, n, index, v);
  return v;
}

static void hoist_flat(Hoist *h, Node *n) {
  static const Ix *const none[IR_MAX_RANK];
  if (n->op == OP_const || is_seen(h, n, none)) return;
  if (type_count(&n->type) == 1) {
    expr_at(h->k, n, ix_const(h->k->ix, 0));
    return;
  }
  if (h->k->job->stored[n->id] && !cg_is_out(h->k->job, n)) return;
  for (int i = 0; i < n->n_src && n->op != OP_random; i++) hoist_flat(h, n->src[i]);
}

void expr_hoist_flat(Kernel *k, Node *n) {
  Hoist h = {.k = k};
  hoist_flat(&h, n);
}
