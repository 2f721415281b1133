/* matmul: C[z, m, n] = Σ_k A[z, m, k] · B[z, k, n], f32, operands anywhere a strided view reaches: a transpose is only strides;
 * or computed as they are loaded (matmul_side.c).
 *
 * Sizes and strides are push constants, so that matrices of different shape share a module; which stride is 1, whether tiles
 * reach past the edge and whether k divides by four are not. Each operand is "rows × k" (B's rows are C's columns):
 *
 *            k →                    Loads take four elements along whichever dimension has stride 1; C's tile is kept in
 *   rows  ┌────────┐                registers as one vec4 of neighbouring columns per row, and every step of k adds
 *    ↓    │ A or B │                A[m, k] · (B[k, n], …, B[k, n + 3]).
 *         └────────┘                Rows past the edge repeat the last one and are not stored.
 *
 * Long sums are cut into blocks with an accumulator of their own, for the error's sake. */
#include "codegen/matmul.h"

#include "codegen/reduce.h"

#include <stdlib.h>

enum { BLOCK = 2048 /* terms, of sums longer than */, SINGLE = 4096 };

/* ---- operands ---- */

static SpvId pick(Matmul *mm, SpvId pair, int i) {
  return spv_extract(mm->k->b, pair, (uint32_t)i);
}

static void side_begin(Matmul *mm, Side *s, SpvId offset, SpvId rows, bool edge) {
  Kernel *k = mm->k;
  Spv *b = k->b;
  SpvId strides = kernel_raw(k, (uint32_t)s->row, (uint32_t)s->k);
  s->row_id = pick(mm, strides, 0);
  s->k_id = pick(mm, strides, 1);
  s->offset_id = offset;
  const Ix *sum = ix_const(k->ix, 0);
  for (int i = 0; i < mm->n_batch; i++)
    sum = ix_add(k->ix, sum, ix_mul(k->ix, mm->batch[i], s->batch[i]));
  if (mm->batches > 1) {
    SpvId of_batch = ix_emit(k->ix, sum);
    s->offset_id = spv_bin(b, SpvOpIAdd, s->offset_id, of_batch);
  }
  s->rows_id = edge ? rows : 0;
}

/* ---- the grid ---- */

static SpvId tiles(Matmul *mm, SpvId length, int tile) {
  Spv *b = mm->k->b;
  SpvId up = spv_u(b, (uint32_t)tile - 1);
  SpvId size = spv_u(b, (uint32_t)tile);
  up = spv_bin(b, SpvOpIAdd, length, up);
  return spv_bin(b, SpvOpUDiv, up, size);
}

void matmul_begin(Matmul *mm, int tile_m, int tile_n, int steps, uint32_t local) {
  Kernel *k = mm->k;
  Spv *b = k->b;
  mm->tile_m = tile_m;
  mm->tile_n = tile_n;
  mm->edge_m = mm->m % tile_m != 0;
  mm->edge_n = mm->n % tile_n != 0;
  mm->steps = steps;
  mm->tail = mm->kk % steps != 0;
  int64_t tiles_m = (mm->m + tile_m - 1) / tile_m, tiles_n = (mm->n + tile_n - 1) / tile_n;
  int64_t total = tiles_m * tiles_n * mm->batches;
  kernel_groups(k, total, local);

  SpvId size = kernel_raw(k, (uint32_t)mm->m, (uint32_t)mm->n);
  SpvId length = kernel_raw(k, (uint32_t)mm->kk, (uint32_t)total);
  SpvId offsets = kernel_raw(k, (uint32_t)mm->a.offset, (uint32_t)mm->b.offset);
  mm->m_id = pick(mm, size, 0);
  mm->n_id = pick(mm, size, 1);
  mm->kk_id = pick(mm, length, 0);
  SpvId limit = pick(mm, length, 1);
  SpvId by_m = tiles(mm, mm->m_id, tile_m);
  SpvId by_n = tiles(mm, mm->n_id, tile_n);
  SpvId group = kernel_group(k);
  SpvId within = spv_cmp(b, SpvOpULessThan, group, limit);
  spv_if(b, within);
  /* Neighbouring workgroups share the larger operand's part, and go through the smaller operand, which caches may hold. */
  bool along_m = mm->m <= mm->n;
  SpvId inner = along_m ? by_m : by_n, outer = along_m ? by_n : by_m;
  SpvId first = spv_bin(b, SpvOpUMod, group, inner);
  SpvId rest = spv_bin(b, SpvOpUDiv, group, inner);
  SpvId second = spv_bin(b, SpvOpUMod, rest, outer);
  mm->batch_id = spv_bin(b, SpvOpUDiv, rest, outer);
  SpvId step = spv_u(b, (uint32_t)tile_m);
  mm->tile_m_id = spv_bin(b, SpvOpIMul, along_m ? first : second, step);
  step = spv_u(b, (uint32_t)tile_n);
  mm->tile_n_id = spv_bin(b, SpvOpIMul, along_m ? second : first, step);
  const Ix *batch = ix_value(k->ix, mm->batch_id, mm->batches);
  ix_split(k->ix, batch, mm->n_batch, mm->batch_dim, mm->batch);
  side_begin(mm, &mm->a, pick(mm, offsets, 0), mm->m_id, mm->edge_m);
  side_begin(mm, &mm->b, pick(mm, offsets, 1), mm->n_id, mm->edge_n);
}

void matmul_end(Matmul *mm) { spv_end(mm->k->b); }

/* ---- loads ---- */

/* The row, or the last one from which a run of that length fits. */
static SpvId clamped(Matmul *mm, const Side *s, SpvId row, uint32_t run) {
  Spv *b = mm->k->b;
  if (!s->rows_id) return row;
  SpvId length = spv_u(b, run);
  SpvId last = spv_bin(b, SpvOpISub, s->rows_id, length);
  SpvId past = spv_cmp(b, SpvOpUGreaterThan, row, last);
  return spv_select(b, past, last, row);
}

static SpvId plus(Matmul *mm, SpvId x, int c) {
  if (c == 0) return x;
  SpvId y = spv_u(mm->k->b, (uint32_t)c);
  return spv_bin(mm->k->b, SpvOpIAdd, x, y);
}

/* Index of (row, k + j), without k's share: loops do not change it. Strides of 1 are not multiplied. */
static SpvId fixed(Matmul *mm, const Side *s, SpvId row, int j) {
  Spv *b = mm->k->b;
  SpvId sum = s->unit_row ? row : spv_bin(b, SpvOpIMul, row, s->row_id);
  sum = spv_bin(b, SpvOpIAdd, sum, s->offset_id);
  if (j == 0) return sum;
  SpvId deep = spv_u(b, (uint32_t)j);
  if (!s->unit_k) deep = spv_bin(b, SpvOpIMul, deep, s->k_id);
  return spv_bin(b, SpvOpIAdd, sum, deep);
}

/* n = 1 or 4 neighbours from (row, k + j) on; without k: only what loops do not change. */
static void load(Matmul *mm, const Side *s, SpvId row, SpvId k, int j, int n, SpvId *v) {
  Spv *b = mm->k->b;
  if (s->computed) {
    if (!k)
      matmul_values_hoist(mm, s, row, n > 1 && s->unit_row ? n : 1);
    else
      matmul_values(mm, s, row, plus(mm, k, j), s->unit_k, n, v);
    return;
  }
  SpvId at = fixed(mm, s, row, j);
  if (!k) return;
  SpvId deep = s->unit_k ? k : spv_bin(b, SpvOpIMul, k, s->k_id);
  at = spv_bin(b, SpvOpIAdd, at, deep);
  if (n == 1) {
    v[0] = kernel_load_at(mm->k, s->base, at);
    return;
  }
  SpvId two = spv_u(b, 2);
  at = spv_bin(b, SpvOpShiftRightLogical, at, two);
  SpvId four = kernel_load4_at(mm->k, s->base, at);
  for (uint32_t i = 0; i < 4; i++) v[i] = spv_extract(b, four, i);
}

void matmul_load(Matmul *mm, Side *s, SpvId row, int rows, SpvId k, int steps, SpvId (*v)[4]) {
  if (s->aligned && s->unit_row && rows % 4 == 0) {
    for (int r = 0; r < rows; r += 4) {
      SpvId here = plus(mm, row, r);
      here = clamped(mm, s, here, 4);
      for (int j = 0; j < steps; j++) {
        SpvId run[4] = {0};
        load(mm, s, here, k, j, 4, run);
        for (int i = 0; i < 4; i++) v[r + i][j] = run[i];
      }
    }
    return;
  }
  for (int r = 0; r < rows; r++) {
    SpvId here = plus(mm, row, r);
    here = clamped(mm, s, here, 1);
    bool four = s->aligned && s->unit_k && steps == 4;
    for (int j = 0; j < steps; j += four ? 4 : 1) load(mm, s, here, k, j, four ? 4 : 1, &v[r][j]);
  }
}

void matmul_prepare(Matmul *mm, Side *s, SpvId row, int rows, int steps) {
  SpvId unused[MATMUL_MAX_ROWS][4];
  if (s->computed) matmul_load(mm, s, row, rows, 0, steps, unused);
}

/* ---- sums ---- */

void matmul_columns(Matmul *mm, int steps, SpvId (*v)[4], SpvId *column) {
  Spv *b = mm->k->b;
  SpvId vec4 = spv_vec(b, spv_f32(b), 4);
  for (int j = 0; j < steps; j++)
    column[j] = spv_pure(b, SpvOpCompositeConstruct, vec4, v[0][j], v[1][j], v[2][j], v[3][j]);
}

SpvId matmul_fma(Matmul *mm, SpvId s, SpvId x, SpvId acc) {
  Spv *b = mm->k->b;
  SpvId vec4 = spv_type(b, x);
  SpvId splat = spv_result(b, SpvOpCompositeConstruct, vec4, s, s, s, s);
  return spv_fma(b, splat, x, acc);
}

SpvId matmul_add(Matmul *mm, int steps, const SpvId *x, SpvId acc) {
  for (int j = 0; j < steps; j++) acc = spv_bin(mm->k->b, SpvOpFAdd, acc, x[j]);
  return acc;
}

static void zero_all(Matmul *mm, int n, const SpvId *variable) {
  Spv *b = mm->k->b;
  SpvId zero = spv_f(b, 0);
  SpvId vec4 = spv_vec(b, spv_f32(b), 4);
  zero = spv_pure(b, SpvOpCompositeConstruct, vec4, zero, zero, zero, zero);
  for (int i = 0; i < n; i++) spv_set(b, variable[i], zero);
}

typedef struct Sums {
  Matmul *mm;
  int n;
  MatmulStep *step;
  const void *context;
} Sums;

static void advance(const Sums *s, SpvId k, int steps, const SpvId *variable) {
  Spv *b = s->mm->k->b;
  SpvId acc[MATMUL_MAX_ACC];
  for (int i = 0; i < s->n; i++) acc[i] = spv_get(b, variable[i]);
  s->step(s->mm, k, steps, acc, s->context);
  for (int i = 0; i < s->n; i++) spv_set(b, variable[i], acc[i]);
}

/* Iterations first … first + n − 1. */
static void iterate(const Sums *s, SpvId first, SpvId n, const SpvId *variable) {
  Spv *b = s->mm->k->b;
  SpvId i = spv_for(b, n);
  SpvId steps = spv_u(b, (uint32_t)s->mm->steps);
  i = spv_bin(b, SpvOpIAdd, first, i);
  SpvId k = spv_bin(b, SpvOpIMul, i, steps);
  advance(s, k, s->mm->steps, variable);
  spv_end(b);
}

static void blocks(const Sums *s, SpvId iterations, const SpvId *variable) {
  uint32_t length = BLOCK / (uint32_t)s->mm->steps;
  Spv *b = s->mm->k->b;
  SpvId total[MATMUL_MAX_ACC] = {0};
  SpvId vec4 = spv_vec(b, spv_f32(b), 4);
  for (int i = 0; i < s->n; i++) total[i] = spv_local(b, vec4);
  zero_all(s->mm, s->n, total);
  SpvId size = spv_u(b, length);
  SpvId up = spv_u(b, length - 1);
  SpvId count = spv_bin(b, SpvOpIAdd, iterations, up);
  count = spv_bin(b, SpvOpUDiv, count, size);
  SpvId block = spv_for(b, count);
  SpvId first = spv_bin(b, SpvOpIMul, block, size);
  SpvId left = spv_bin(b, SpvOpISub, iterations, first);
  SpvId full = spv_cmp(b, SpvOpULessThan, size, left);
  left = spv_select(b, full, size, left);
  zero_all(s->mm, s->n, variable);
  iterate(s, first, left, variable);
  for (int i = 0; i < s->n; i++) {
    SpvId sum = spv_get(b, total[i]);
    SpvId part = spv_get(b, variable[i]);
    sum = spv_bin(b, SpvOpFAdd, sum, part);
    spv_set(b, total[i], sum);
  }
  spv_end(b);
  for (int i = 0; i < s->n; i++) {
    SpvId sum = spv_get(b, total[i]);
    spv_set(b, variable[i], sum);
  }
}

void matmul_loop(Matmul *mm, int n_acc, SpvId *acc, MatmulStep *step, const void *context) {
  Spv *b = mm->k->b;
  Sums s = {mm, n_acc, step, context};
  SpvId variable[MATMUL_MAX_ACC] = {0};
  SpvId vec4 = spv_vec(b, spv_f32(b), 4);
  for (int i = 0; i < n_acc; i++) variable[i] = spv_local(b, vec4);
  zero_all(mm, n_acc, variable);
  SpvId steps = spv_u(b, (uint32_t)mm->steps);
  SpvId iterations = spv_bin(b, SpvOpUDiv, mm->kk_id, steps);
  SpvId zero = spv_u(b, 0);
  if (mm->kk > SINGLE)
    blocks(&s, iterations, variable);
  else if (mm->kk >= mm->steps)
    iterate(&s, zero, iterations, variable);
  if (mm->tail) {
    SpvId left = spv_bin(b, SpvOpUMod, mm->kk_id, steps);
    SpvId from = spv_bin(b, SpvOpISub, mm->kk_id, left);
    SpvId i = spv_for(b, left);
    SpvId k = spv_bin(b, SpvOpIAdd, from, i);
    advance(&s, k, 1, variable);
    spv_end(b);
  }
  for (int i = 0; i < n_acc; i++) acc[i] = spv_get(b, variable[i]);
}

/* ---- few outputs, a long sum: a reduction ---- */

static SpvId element(const Matmul *mm, const Side *s, const Ix *const *part, const Ix *row,
                     const Ix *term) {
  Kernel *k = mm->k;
  if (s->computed) return matmul_value_at(mm, s, part, row, term);
  const Ix *sum = ix_add(k->ix, ix_mul(k->ix, row, s->row), ix_mul(k->ix, term, s->k));
  for (int i = 0; i < mm->n_batch; i++)
    sum = ix_add(k->ix, sum, ix_mul(k->ix, part[i], s->batch[i]));
  return kernel_load(k, s->base, ix_add(k->ix, sum, ix_const(k->ix, s->offset)));
}

static SpvId product(Reduce *r, const Reduction *d, const Ix *out, const Ix *term,
                     SpvId *exponent) {
  (void)exponent;
  Kernel *k = r->k;
  const Matmul *mm = r->context;
  const Ix *part[IR_MAX_RANK];
  const Type *t = &d->node->type;
  ix_split(k->ix, out, t->rank, t->dim, part);
  SpvId x = element(mm, &mm->a, part, part[t->rank - 2], term);
  SpvId y = element(mm, &mm->b, part, part[t->rank - 1], term);
  return spv_bin(k->b, SpvOpFMul, x, y);
}

/* ---- the family ---- */

/* The product's sizes and operands; false where one of these can be neither read nor computed. */
static bool make(Matmul *mm, const KernelJob *job, Node *product) {
  int r = product->type.rank;
  const Node *a = product->src[0];
  mm->product = product;
  mm->n_batch = r - 2;
  mm->batches = 1;
  mm->m = product->type.dim[r - 2];
  mm->n = product->type.dim[r - 1];
  mm->kk = a->type.dim[r - 1];
  for (int i = 0; i < r - 2; i++) {
    mm->batch_dim[i] = product->type.dim[i];
    mm->batches *= product->type.dim[i];
  }
  return matmul_side(mm, job, &mm->a, false) && matmul_side(mm, job, &mm->b, true);
}

static bool make_outs(Matmul *mm, const KernelJob *job) {
  mm->plain = job->n_out == 1 && job->out[0] == mm->product;
  for (int i = 0; i < job->n_out; i++) {
    MatmulOut *out = &mm->out[i];
    if (!matmul_out(job, mm->product, job->out[i], out)) return false;
    mm->tiles = mm->tiles || out->moved || out->from != FROM_product;
    mm->sum_a = mm->sum_a || out->from == FROM_sum_a;
    mm->sum_b = mm->sum_b || out->from == FROM_sum_b;
  }
  return !mm->tiles || mm->kk <= MATMUL_LONGEST;
}

/* All slots read the same operands. */
static bool make_spans(Matmul *mm, const KernelJob *job) {
  mm->product = job->out[0];
  mm->spans = ir_spans(mm->product);
  mm->batches = mm->product->type.dim[0];
  mm->m = mm->product->type.dim[1];
  mm->n = mm->product->type.dim[2];
  mm->kk = mm->product->src[0]->type.dim[1];
  bool ok = matmul_side(mm, job, &mm->a, false) && matmul_side(mm, job, &mm->b, true);
  mm->n_batch = 1;
  mm->batch_dim[0] = mm->batches;
  return ok && make_outs(mm, job);
}

bool matmul_make(Matmul *mm, Kernel *k) {
  const KernelJob *job = k->job;
  *mm = (Matmul){.k = k, .beside = job->beside};
  return make(mm, job, job->anchor ? job->anchor : job->out[0]) && make_outs(mm, job);
}

static int randoms(const KernelJob *job, const Node *n, bool *seen) {
  if (seen[n->id] || (job->stored[n->id] && !cg_is_out(job, n))) return 0;
  int count = n->op == OP_random;
  seen[n->id] = true;
  for (int i = 0; i < n->n_src; i++) count += randoms(job, n->src[i], seen);
  return count;
}

bool cg_matmul_accepts(const KernelJob *job) {
  enum { OWN_SLOTS = 5 };
  Matmul mm = {0};
  Node *product = job->anchor;
  if (!product || product->op != OP_matmul || job->n_out > CG_MAX_OUT) return false;
  if (!make(&mm, job, product) || !make_outs(&mm, job)) return false;
  bool *seen = xcalloc((size_t)job->out[job->n_out - 1]->id + 1, sizeof *seen);
  int slots = OWN_SLOTS + job->n_out + cg_operands(job, NULL, 0);
  for (int i = 0; i < job->n_out; i++) slots += randoms(job, job->out[i], seen);
  free(seen);
  return slots <= CG_MAX_SLOTS;
}

static void emit_reduction(Matmul *mm) {
  Reduce sum = {.k = mm->k,
                .outputs = type_count(&mm->product->type),
                .terms = mm->kk,
                .row = true,
                .out_width = 1,
                .term_width = mm->kk % 4 == 0 ? 4 : 1,
                .of = {{mm->product, OP_reduce_sum, DT_f32, 0}},
                .n = 1,
                .levels = 1,
                .value = product,
                .context = mm};
  reduce_emit(&sum);
}

void emit_matmul(Kernel *k) {
  Matmul mm;
  MatmulForm form[CG_MAX_FORMS];
  KernelForm name[CG_MAX_FORMS];
  if (!matmul_make(&mm, k))
    die("codegen: matmul %%%d: a source has no layout, or an out is no function of it that its "
        "kernel can store",
        k->job->out[0]->id);
  int n = matmul_forms(&mm, k->target, form);
  for (int i = 0; i < n; i++) matmul_form_name(&form[i], &name[i]);
  const MatmulForm *f = &form[form_choose(k, name, n)];
  switch (f->kind) {
  case MATMUL_rows: emit_reduction(&mm); break;
  case MATMUL_coop: matmul_coop(&mm, &f->tile); break;
  case MATMUL_subgroup: matmul_subgroup(&mm); break;
  case MATMUL_shared: matmul_shared(&mm, &f->shared); break;
  case MATMUL_portable: matmul_portable(&mm, &f->portable);
  }
  k->out->flops = 2.0 * (double)type_count(&mm.product->type) * (double)mm.kk;
}

void emit_matmul_spans(Kernel *k) {
  Matmul mm = {.k = k, .beside = k->job->beside};
  if (!make_spans(&mm, k->job))
    die("codegen: matmul_spans %%%d: a source has no layout", k->job->out[0]->id);
  MatmulTile tile = matmul_spans_tile(&mm, k->target);
  matmul_coop(&mm, &tile);
  k->out->flops = 2.0 * (double)(mm.m * mm.n) * (double)mm.kk;
}
