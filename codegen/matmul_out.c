/* What a matrix product's kernel stores: functions of the product, and of sums over k of its operands, as soon as the tile's
 * sums are in registers.
 *
 *   product[z, m, n] → out = f(product, operands at any index)    at the product's own flat index, or, where the out is a
 *                                                                 permutation of such an f, through the permutation
 *   Σ_k A[m, k], Σ_k B[k, n] → out = f(that sum, operands)        from the first column, the first row of tiles
 *
 * Four neighbouring columns are computed at once, so that biases and residuals load as vec4. Where a lane has many rows, they
 * go through an array to a loop over rows: the epilogue is emitted once. */
#include "codegen/matmul.h"

#include <stdlib.h>
#include <string.h>

enum { UNROLLED = 8 /* rows */ };

/* ---- which outs can be computed ---- */

typedef enum Look {
  LOOK_new,
  LOOK_free, /* does not depend on the source */
  LOOK_flat, /* a function of the source at its own flat index */
  LOOK_other
} Look;

bool matmul_anywhere(Op op) {
  switch (op) {
  case OP_const:
  case OP_iota:
  case OP_position:
  case OP_random:
  case OP_pad:
  case OP_concat:
  case OP_gather: return true;
  default: return ir_op[op].flags & (IR_EW | IR_VIEW);
  }
}

static Look look(const KernelJob *job, const Node *n, const Node *source, unsigned char *seen) {
  if (seen[n->id]) return (Look)seen[n->id];
  Look l = LOOK_free;
  if (n == source)
    l = LOOK_flat;
  else if (!job->stored[n->id] || cg_is_out(job, n)) {
    bool keeps = (ir_op[n->op].flags & IR_EW) || n->op == OP_reshape;
    if (!matmul_anywhere(n->op)) l = LOOK_other;
    for (int i = 0; i < n->n_src && l != LOOK_other; i++) {
      Look x = look(job, n->src[i], source, seen);
      if (x == LOOK_other || (x == LOOK_flat && !keeps))
        l = LOOK_other;
      else if (x == LOOK_flat)
        l = LOOK_flat;
    }
  }
  seen[n->id] = (unsigned char)l;
  return l;
}

static bool is_flat(const KernelJob *job, const Node *n, const Node *source) {
  unsigned char *seen = xcalloc((size_t)n->id + 1, 1);
  Look l = look(job, n, source, seen);
  free(seen);
  return l == LOOK_flat;
}

typedef struct Run { /* neighbouring dimensions that lie as one */
  int64_t count, step;
} Run;

/* The dimensions chosen by `in`, in order; how many runs they are. */
static int runs_of(const Type *t, const int64_t *stride, const bool *in, Run *run) {
  int n = 0;
  for (int i = 0; i < t->rank; i++) {
    if (!in[i] || t->dim[i] == 1) continue;
    if (n && run[n - 1].step == stride[i] * t->dim[i])
      run[n - 1] = (Run){run[n - 1].count * t->dim[i], stride[i]};
    else
      run[n++] = (Run){t->dim[i], stride[i]};
  }
  return n;
}

static bool same_runs(const Type *x, const Strided *of_x, const bool *in_x, const Type *y,
                      const Strided *of_y, const bool *in_y) {
  Run a[IR_MAX_RANK], b[IR_MAX_RANK];
  int n = runs_of(x, of_x->stride, in_x, a);
  bool same = n == runs_of(y, of_y->stride, in_y, b);
  for (int i = 0; i < n && same; i++) same = a[i].count == b[i].count && a[i].step == b[i].step;
  return same;
}

bool cg_sums_operand(const Node *product, int which, const Node *sum, const bool *stored) {
  const Node *x = sum->src[0], *operand = product->src[which];
  Strided of_sum, of_operand;
  int k_dim = operand->type.rank - (which == 0 ? 1 : 2);
  if (sum->op != OP_reduce_sum || !cg_strided(x, stored, &of_sum) ||
      !cg_strided(operand, stored, &of_operand) || of_sum.base != of_operand.base ||
      of_sum.offset != of_operand.offset)
    return false;
  bool kept[IR_MAX_RANK], reduced[IR_MAX_RANK] = {false}, rows[IR_MAX_RANK], k[IR_MAX_RANK];
  for (int i = 0; i < sum->n_int; i++) reduced[sum->ints[i]] = true;
  for (int i = 0; i < x->type.rank; i++) kept[i] = !reduced[i];
  for (int i = 0; i < operand->type.rank; i++) {
    k[i] = i == k_dim;
    rows[i] = !k[i];
  }
  return same_runs(&x->type, &of_sum, kept, &operand->type, &of_operand, rows) &&
         same_runs(&x->type, &of_sum, reduced, &operand->type, &of_operand, k);
}

/* The first sum that the expression needs. */
static Node *find_sum(const KernelJob *job, Node *n, unsigned char *seen) {
  if (seen[n->id]++ || (job->stored[n->id] && !cg_is_out(job, n))) return NULL;
  if (n->op == OP_reduce_sum) return n;
  for (int i = 0; i < n->n_src; i++) {
    Node *found = find_sum(job, n->src[i], seen);
    if (found) return found;
  }
  return NULL;
}

bool matmul_out(const KernelJob *job, Node *product, Node *out, MatmulOut *to) {
  const Node *below = out;
  *to = (MatmulOut){FROM_product, product, false};
  while (below != product && (below->op == OP_permute || below->op == OP_reshape)) {
    to->moved = to->moved || below->op == OP_permute;
    below = below->src[0];
  }
  if (is_flat(job, below, product)) return true;
  unsigned char *seen = xcalloc((size_t)out->id + 1, 1);
  to->source = find_sum(job, out, seen);
  free(seen);
  if (!to->source || to->moved || !is_flat(job, out, to->source)) return false;
  to->from = FROM_sum_a;
  if (cg_sums_operand(product, 0, to->source, job->stored)) return true;
  to->from = FROM_sum_b;
  return cg_sums_operand(product, 1, to->source, job->stored);
}

/* ---- at an index ---- */

/* The indices of a moved out where its source's flat index is `linear`. */
static void moved_index(Kernel *k, const Node *n, const Node *source, const Ix *linear,
                        const Ix **index) {
  const Node *x = n->src[0];
  const Ix *at[IR_MAX_RANK];
  if (n == source || (n->op != OP_permute && n->op != OP_reshape)) {
    ix_split(k->ix, linear, n->type.rank, n->type.dim, index);
    return;
  }
  moved_index(k, x, source, linear, at);
  if (n->op == OP_permute)
    for (int i = 0; i < n->type.rank; i++) index[i] = at[n->ints[i]];
  else
    ix_split(k->ix, ix_join(k->ix, x->type.rank, x->type.dim, at), n->type.rank, n->type.dim,
             index);
}

/* n values to the elements at[0 … n − 1]. */
static void store_moved(Kernel *k, int out, int n, const Ix *const *at, const SpvId *value) {
  bool run = n == 4 && ix_step(at[0]) % 4 == 0 && ix_offset(at[0]) % 4 == 0;
  for (int j = 1; j < n; j++) run = run && at[j] == ix_add(k->ix, at[0], ix_const(k->ix, j));
  for (int j = 0; j < (run ? 1 : n); j++) {
    SpvId index = ix_emit(k->ix, run ? ix_div(k->ix, at[0], 4) : at[j]);
    kernel_store(k, out, index, run ? 4 : 1, value + j);
  }
}

/* All outs from one source, at n = 1 or 4 neighbouring flat indices. */
typedef struct Results {
  int n;
  SpvId flat; /* of the first, in units of n */
  const Ix *at[CG_MAX_OUT][4];
  SpvId value[CG_MAX_OUT][4];
} Results;

/* … from the source's values at linear[0 … n − 1]. */
static void compute_outs(const Matmul *mm, MatmulSource from, const Ix *const *linear,
                         const SpvId *value, Results *to) {
  Kernel *k = mm->k;
  const Ix *index[IR_MAX_RANK];
  const KernelJob *job = k->job;
  for (int o = 0; o < job->n_out; o++) {
    Node *out = job->out[o], *source = mm->out[o].source;
    if (mm->out[o].from != from) continue;
    for (int j = 0; j < to->n; j++) {
      SpvId rounded = math_round(k, (DType)source->type.dtype, value[j]);
      kernel_bind(k, source, linear[j], rounded);
    }
    for (int j = 0; j < to->n; j++) {
      moved_index(k, out, source, linear[j], index);
      to->at[o][j] = ix_join(k->ix, out->type.rank, out->type.dim, index);
      to->value[o][j] = expr_value(k, out, index);
    }
  }
}

static void store_outs(const Matmul *mm, MatmulSource from, const Results *r) {
  for (int o = 0; o < mm->k->job->n_out; o++) {
    if (mm->out[o].from != from) continue;
    if (mm->out[o].moved)
      store_moved(mm->k, o, r->n, r->at[o], r->value[o]);
    else
      kernel_store(mm->k, o, r->flat, r->n, r->value[o]);
  }
}

/* ---- tiles ---- */

typedef struct Row {
  Matmul *mm;
  SpvId row, column;
} Row;

/* The product's flat index at this row and a column. */
static const Ix *product_index(const Row *r, const Ix *column) {
  const Matmul *mm = r->mm;
  IxTable *t = mm->k->ix;
  const Type *type = &mm->product->type;
  const Ix *index[IR_MAX_RANK];
  ix_split(t, ix_value(t, mm->batch_id, mm->batches), mm->n_batch, mm->batch_dim, index);
  index[mm->n_batch] = ix_value(t, r->row, mm->m);
  index[mm->n_batch + 1] = column;
  return ix_join(t, type->rank, type->dim, index);
}

/* The column, a multiple of four. */
static const Ix *quad_index(const Row *r) {
  const Matmul *mm = r->mm;
  IxTable *t = mm->k->ix;
  SpvId two = spv_u(mm->k->b, 2);
  SpvId four = spv_bin(mm->k->b, SpvOpShiftRightLogical, r->column, two);
  return ix_mul(t, ix_value(t, four, mm->n / 4), 4);
}

static SpvId row_index(const Row *r) {
  const Matmul *mm = r->mm;
  Spv *b = mm->k->b;
  SpvId flat = spv_bin(b, SpvOpIMul, mm->batch_id, mm->m_id);
  flat = spv_bin(b, SpvOpIAdd, flat, r->row);
  flat = spv_bin(b, SpvOpIMul, flat, mm->n_id);
  return spv_bin(b, SpvOpIAdd, flat, r->column);
}

/* n = 1 or 4 columns, from a multiple of n on; flat: of the first. */
static void compute_columns(const Row *r, SpvId column, int n, SpvId flat, const SpvId *value,
                            Results *to) {
  const Matmul *mm = r->mm;
  Spv *b = mm->k->b;
  IxTable *t = mm->k->ix;
  const Ix *linear[4], *first;
  if (n == 4) {
    flat = spv_bin(b, SpvOpShiftRightLogical, flat, spv_u(b, 2));
    first = quad_index(&(Row){r->mm, r->row, column});
  } else
    first = ix_value(t, column, mm->n);
  for (int j = 0; j < n; j++) linear[j] = product_index(r, ix_add(t, first, ix_const(t, j)));
  to->n = n;
  to->flat = flat;
  compute_outs(mm, FROM_product, linear, value, to);
}

static void store_row(const Row *r, SpvId value4) {
  Matmul *mm = r->mm;
  Spv *b = mm->k->b;
  SpvId value[4];
  for (uint32_t j = 0; j < 4; j++) value[j] = spv_extract(b, value4, j);
  SpvId flat = row_index(r);
  Results done;
  if (mm->edge_m) {
    SpvId within = spv_cmp(b, SpvOpULessThan, r->row, mm->m_id);
    spv_if(b, within);
  }
  int width = mm->n % 4 == 0 ? 4 : 1;
  for (uint32_t j = 0; j < 4; j += (uint32_t)width) {
    SpvId more = spv_u(b, j);
    SpvId column = j ? spv_bin(b, SpvOpIAdd, r->column, more) : r->column;
    if (mm->edge_n) {
      SpvId within = spv_cmp(b, SpvOpULessThan, column, mm->n_id);
      spv_if(b, within);
    }
    SpvId here = j ? spv_bin(b, SpvOpIAdd, flat, more) : flat;
    compute_columns(r, column, width, here, value + j, &done);
    store_outs(mm, FROM_product, &done);
    if (mm->edge_n) spv_end(b);
  }
  if (mm->edge_m) spv_end(b);
}

/* value, or the last one where it lies past it */
static SpvId at_most(Spv *b, SpvId value, int64_t last) {
  SpvId most = spv_u(b, (uint32_t)last);
  SpvId past = spv_cmp(b, SpvOpUGreaterThan, value, most);
  return spv_select(b, past, most, value);
}

/* Whether the quad is of the result. */
static SpvId is_inside(const Matmul *mm, const MatmulQuad *q) {
  Spv *b = mm->k->b;
  SpvId row = spv_cmp(b, SpvOpULessThan, q->row, mm->m_id);
  if (!mm->edge_n) return row;
  SpvId column = spv_cmp(b, SpvOpULessThan, q->column, mm->n_id);
  return mm->edge_m ? spv_cmp(b, SpvOpLogicalAnd, row, column) : column;
}

void matmul_hoist_columns(Matmul *mm, SpvId column) {
  Kernel *k = mm->k;
  Spv *b = k->b;
  IxTable *t = k->ix;
  const KernelJob *job = k->job;
  if (mm->n % 4 != 0) return;
  k->wide = true;
  if (mm->edge_n) column = at_most(b, column, mm->n - 4);
  Row any = {mm, 0, column};
  const Ix *first = quad_index(&any), *index[IR_MAX_RANK], *row = ix_value(t, 0, mm->m);
  for (int o = 0; o < job->n_out; o++) {
    const Type *type = &job->out[o]->type;
    for (int j = 0; j < 4 && mm->out[o].from == FROM_product && !mm->out[o].moved; j++) {
      const Ix *at = product_index(&any, ix_add(t, first, ix_const(t, j)));
      ix_split(t, at, type->rank, type->dim, index);
      expr_hoist(k, job->out[o], index, row);
    }
  }
}

void matmul_store_quads(Matmul *mm, int n, const MatmulQuad *quad) {
  Spv *b = mm->k->b;
  bool edge = mm->edge_m || mm->edge_n;
  mm->k->wide = true;
  if (mm->n % 4 != 0) {
    for (int i = 0; i < n; i++) store_row(&(Row){mm, quad[i].row, quad[i].column}, quad[i].value4);
    return;
  }
  Results done[MATMUL_MAX_QUADS];
  for (int i = 0; i < n; i++) {
    Row r = {mm, quad[i].row, quad[i].column};
    if (mm->edge_m) r.row = at_most(b, r.row, mm->m - 1);
    if (mm->edge_n) r.column = at_most(b, r.column, mm->n - 4);
    SpvId value[4];
    for (uint32_t j = 0; j < 4; j++) value[j] = spv_extract(b, quad[i].value4, j);
    SpvId flat = row_index(&r);
    compute_columns(&r, r.column, 4, flat, value, &done[i]);
  }
  for (int i = 0; i < n; i++) {
    if (edge) {
      SpvId inside = is_inside(mm, &quad[i]);
      spv_if(b, inside);
    }
    store_outs(mm, FROM_product, &done[i]);
    if (edge) spv_end(b);
  }
}

SpvId matmul_keep(Matmul *mm, int n, const SpvId *value4) {
  Spv *b = mm->k->b;
  SpvId vec4 = spv_type(b, value4[0]);
  SpvId array = spv_local(b, spv_array(b, vec4, (uint32_t)n));
  for (int r = 0; r < n; r++) {
    SpvId i = spv_u(b, (uint32_t)r);
    SpvId at = spv_local_at(b, array, i);
    spv_set(b, at, value4[r]);
  }
  return array;
}

void matmul_store(Matmul *mm, SpvId row, int rows, SpvId column, const SpvId *value4) {
  Spv *b = mm->k->b;
  mm->k->wide = true;
  if (mm->plain || rows <= UNROLLED) {
    for (int r = 0; r < rows; r++) {
      SpvId more = spv_u(b, (uint32_t)r);
      SpvId here = spv_bin(b, SpvOpIAdd, row, more);
      store_row(&(Row){mm, here, column}, value4[r]);
    }
    return;
  }
  SpvId array = matmul_keep(mm, rows, value4);
  SpvId n = spv_u(b, (uint32_t)rows);
  SpvId i = spv_for_rolled(b, n);
  SpvId at = spv_local_at(b, array, i);
  SpvId value = spv_get(b, at);
  SpvId here = spv_bin(b, SpvOpIAdd, row, i);
  store_row(&(Row){mm, here, column}, value);
  spv_end(b);
}

void matmul_store_sum(Matmul *mm, MatmulSource from, SpvId row, int step, int n, SpvId value4) {
  Spv *b = mm->k->b;
  IxTable *t = mm->k->ix;
  SpvId rows = from == FROM_sum_a ? mm->m_id : mm->n_id;
  for (uint32_t j = 0; j < (uint32_t)n; j++) {
    SpvId more = spv_u(b, j * (uint32_t)step);
    SpvId here = spv_bin(b, SpvOpIAdd, row, more);
    SpvId within = spv_cmp(b, SpvOpULessThan, here, rows);
    spv_if(b, within);
    if (mm->batches > 1) {
      SpvId before = spv_bin(b, SpvOpIMul, mm->batch_id, rows);
      here = spv_bin(b, SpvOpIAdd, before, here);
    }
    const Ix *linear = ix_value(t, here, mm->batches * (from == FROM_sum_a ? mm->m : mm->n));
    SpvId value = spv_extract(b, value4, j);
    Results done = {.n = 1, .flat = here};
    compute_outs(mm, from, &linear, &value, &done);
    store_outs(mm, from, &done);
    spv_end(b);
  }
}
