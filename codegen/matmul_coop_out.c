/* Results of the cooperative-matrix product: fragments → workgroup memory, over the tiles' bytes → what is computed from them.
 *
 * Each subgroup has a part of workgroup memory for one row of its fragments, a strip; its invocations then read four neighbouring
 * columns at a time. The strips are a loop with one branch for each row of fragments, so that the epilogue is emitted once. */
#include "codegen/matmul_coop.h"

enum { QUAD = 4 };

static SpvId constant(Coop *c, int64_t v) { return spv_u(c->mm->k->b, (uint32_t)v); }

static int strip_stride(const Coop *c) { return c->b.subgroup_rows / QUAD + PAD; }

/* uvec4s of one subgroup's part */
static int strip_runs(const Coop *c) {
  int rows = (int)c->shape.m * strip_stride(c);
  int sums = (int)c->shape.n * (c->a.subgroup_rows / QUAD);
  return c->mm->sum_a && sums > rows ? sums : rows;
}

int matmul_coop_shared_runs(const Coop *c) {
  return strip_runs(c) * c->tile.subgroups_m * c->tile.subgroups_n;
}

typedef struct Strip {
  Coop *c;
  SpvId base;        /* of the subgroup's part */
  SpvId row, column; /* of the subgroup's first element */
} Strip;

static SpvId read_quad(Strip *s, SpvId at) {
  Spv *b = s->c->mm->k->b;
  at = spv_bin(b, SpvOpIAdd, s->base, at);
  SpvId value = spv_get(b, spv_at(b, s->c->shared, at));
  return spv_bitcast(b, spv_vec(b, spv_f32(b), 4), value);
}

/* ---- the product ---- */

static void write_strip(Strip *s, int i) {
  Coop *c = s->c;
  Spv *b = c->mm->k->b;
  SpvId stride = constant(c, strip_stride(c));
  for (int j = 0; j < c->parts_n; j++) {
    SpvId value = spv_get(b, c->sum[i][j]);
    SpvId at = constant(c, j * (int)c->shape.n / QUAD);
    at = spv_bin(b, SpvOpIAdd, s->base, at);
    at = spv_at(b, c->shared, at);
    spv_matrix_store(b, at, value, false, stride, 0);
  }
}

/* How an invocation goes through a strip's quads, row by row: `at_once` of them, a pass each, then as many further on. */
typedef struct Walk {
  int passes, at_once;
  bool whole; /* so many passes take whole rows: then columns are the same each time */
} Walk;

/* Quad u's column among the strip's, of a walk that takes whole rows. */
static SpvId whole_column(const Strip *s, int u) {
  Coop *c = s->c;
  Spv *b = c->mm->k->b;
  int quads = c->b.subgroup_rows / QUAD, further = u * (int)c->subgroup_size % quads;
  SpvId which = further ? spv_bin(b, SpvOpIAdd, c->lane, constant(c, further)) : c->lane;
  return spv_bin(b, SpvOpUMod, which, constant(c, quads));
}

static SpvId column_of(const Strip *s, SpvId quad) {
  Spv *b = s->c->mm->k->b;
  quad = spv_bin(b, SpvOpIMul, quad, constant(s->c, QUAD));
  return spv_bin(b, SpvOpIAdd, s->column, quad);
}

/* Quad u of the i-th time: this invocation's. */
static MatmulQuad find_quad(Strip *s, const Walk *w, SpvId i, int u, SpvId first_row) {
  Coop *c = s->c;
  Spv *b = c->mm->k->b;
  int quads = c->b.subgroup_rows / QUAD, size = (int)c->subgroup_size;
  SpvId which = spv_bin(b, SpvOpIAdd, c->lane, constant(c, u * size)), row, column;
  if (w->whole) {
    SpvId before = spv_bin(b, SpvOpIMul, i, constant(c, w->at_once * size / quads));
    row = spv_bin(b, SpvOpUDiv, which, constant(c, quads));
    row = spv_bin(b, SpvOpIAdd, row, before);
    column = whole_column(s, u);
  } else {
    SpvId before = spv_bin(b, SpvOpIMul, i, constant(c, w->at_once * size));
    which = spv_bin(b, SpvOpIAdd, which, before);
    row = spv_bin(b, SpvOpUDiv, which, constant(c, quads));
    column = spv_bin(b, SpvOpUMod, which, constant(c, quads));
  }
  SpvId at = spv_bin(b, SpvOpIMul, row, constant(c, strip_stride(c)));
  at = spv_bin(b, SpvOpIAdd, at, column);
  MatmulQuad q = {.value4 = read_quad(s, at)};
  q.row = spv_bin(b, SpvOpIAdd, first_row, row);
  q.column = column_of(s, column);
  return q;
}

/* How many quads an invocation computes before it stores them: many where an operand as large as the product is read with
 * them (a residual), since that is waited for; fewer where the code would only be longer, one where each core runs it once. */
static int quads_at_once(const Coop *c) {
  enum { READING = 8, COMPUTING = 4 };
  const Matmul *mm = c->mm;
  const Kernel *k = mm->k;
  for (int i = 0; i < k->n_operand; i++) {
    const Node *n = k->operand[i];
    bool factor = n == mm->a.base || n == mm->b.base;
    if (!factor && type_count(&n->type) >= type_count(&mm->product->type)) return READING;
  }
  return c->tiles <= k->target->cores ? 1 : COMPUTING;
}

static Walk plan_walk(const Coop *c) {
  int size = (int)c->subgroup_size, quads = c->b.subgroup_rows / QUAD;
  int all = quads * (int)c->shape.m;
  Walk w = {.passes = (all + size - 1) / size, .at_once = 1};
  for (int u = 2; u <= quads_at_once(c) && all % size == 0; u++)
    if (w.passes % u == 0) w.at_once = u;
  w.whole = all % size == 0 && w.at_once * size % quads == 0;
  return w;
}

/* All quads of a strip. */
static void finish_strip(Strip *s, const Walk *w, SpvId first_row) {
  Coop *c = s->c;
  Spv *b = c->mm->k->b;
  int size = (int)c->subgroup_size, all = c->b.subgroup_rows / QUAD * (int)c->shape.m;
  SpvId i = spv_for(b, constant(c, w->passes / w->at_once));
  if (all % size) {
    SpvId which = spv_bin(b, SpvOpIMul, i, constant(c, size));
    which = spv_bin(b, SpvOpIAdd, which, c->lane);
    SpvId within = spv_cmp(b, SpvOpULessThan, which, constant(c, all));
    spv_if(b, within);
  }
  MatmulQuad quad[MATMUL_MAX_QUADS];
  for (int u = 0; u < w->at_once; u++) quad[u] = find_quad(s, w, i, u, first_row);
  matmul_store_quads(c->mm, w->at_once, quad);
  if (all % size) spv_end(b);
  spv_end(b);
}

static void store_strips(Strip *s) {
  Coop *c = s->c;
  Spv *b = c->mm->k->b;
  Walk walk = plan_walk(c);
  for (int u = 0; u < walk.at_once && walk.whole; u++) {
    SpvId column = whole_column(s, u);
    column = column_of(s, column);
    matmul_hoist_columns(c->mm, column);
  }
  SpvId strip = spv_for(b, constant(c, c->parts_m));
  for (int i = 0; i < c->parts_m; i++) {
    SpvId here = spv_cmp(b, SpvOpIEqual, strip, constant(c, i));
    spv_if(b, here);
    write_strip(s, i);
    spv_end(b);
  }
  spv_barrier_subgroup(b);
  SpvId first_row = spv_bin(b, SpvOpIMul, strip, constant(c, c->shape.m));
  first_row = spv_bin(b, SpvOpIAdd, s->row, first_row);
  finish_strip(s, &walk, first_row);
  spv_barrier_subgroup(b);
  spv_end(b);
}

/* The product itself, whole fragments, straight to memory. */
static void store_fragments(Strip *s) {
  Coop *c = s->c;
  Matmul *mm = c->mm;
  Spv *b = mm->k->b;
  SpvId stride = mm->n_id;
  for (int i = 0; i < c->parts_m; i++)
    for (int j = 0; j < c->parts_n; j++) {
      SpvId row = spv_bin(b, SpvOpIAdd, s->row, constant(c, i * (int)c->shape.m));
      SpvId column = spv_bin(b, SpvOpIAdd, s->column, constant(c, j * (int)c->shape.n));
      SpvId at = spv_bin(b, SpvOpIMul, mm->batch_id, mm->m_id);
      at = spv_bin(b, SpvOpIAdd, at, row);
      at = spv_bin(b, SpvOpIMul, at, mm->n_id);
      at = spv_bin(b, SpvOpIAdd, at, column);
      at = spv_element(b, mm->k->result[0], spv_f32(b), at);
      SpvId value = spv_get(b, c->sum[i][j]);
      spv_matrix_store(b, at, value, false, stride, 16);
    }
}

/* ---- sums over k: a row (column) of each fragment ---- */

static void store_sums(Strip *s, bool of_a) {
  Coop *c = s->c;
  Spv *b = c->mm->k->b;
  const CoopSide *side = of_a ? &c->a : &c->b;
  int quads = side->subgroup_rows / QUAD, per_part = side->fragment / QUAD;
  SumShare share;
  matmul_coop_sharing(c, of_a, &share);
  SpvId stride = constant(c, of_a ? quads : strip_stride(c));
  SpvId first = matmul_coop_sums_here(c, of_a);
  spv_if(b, first);
  for (int i = 0; i < share.parts; i++) {
    SpvId mine = spv_cmp(b, SpvOpIEqual, share.mine, constant(c, i % share.of));
    spv_if(b, mine);
    SpvId value = spv_get(b, of_a ? c->sum_a[i] : c->sum_b[i]);
    SpvId at = spv_bin(b, SpvOpIAdd, s->base, constant(c, i * per_part));
    at = spv_at(b, c->shared, at);
    spv_matrix_store(b, at, value, of_a, stride, 0);
    spv_end(b);
  }
  spv_barrier_subgroup(b);
  int size = (int)c->subgroup_size;
  for (int done = 0; done < quads; done += size) {
    SpvId which = spv_bin(b, SpvOpIAdd, c->lane, constant(c, done));
    SpvId within = spv_cmp(b, SpvOpULessThan, which, constant(c, quads));
    SpvId part = spv_bin(b, SpvOpUDiv, which, constant(c, per_part));
    part = spv_bin(b, SpvOpUMod, part, constant(c, share.of));
    SpvId mine = spv_cmp(b, SpvOpIEqual, part, share.mine);
    within = spv_cmp(b, SpvOpLogicalAnd, within, mine);
    spv_if(b, within);
    SpvId value = read_quad(s, which);
    SpvId row = spv_bin(b, SpvOpIMul, which, constant(c, QUAD));
    row = spv_bin(b, SpvOpIAdd, of_a ? s->row : s->column, row);
    matmul_store_sum(c->mm, of_a ? FROM_sum_a : FROM_sum_b, row, 1, QUAD, value);
    spv_end(b);
  }
  spv_barrier_subgroup(b);
  spv_end(b);
}

void matmul_coop_store(Coop *c) {
  Matmul *mm = c->mm;
  Spv *b = mm->k->b;
  Strip s = {.c = c};
  SpvId part = spv_bin(b, SpvOpIMul, c->subgroup_m, constant(c, c->a.subgroup_rows));
  s.row = spv_bin(b, SpvOpIAdd, mm->tile_m_id, part);
  part = spv_bin(b, SpvOpIMul, c->subgroup_n, constant(c, c->b.subgroup_rows));
  s.column = spv_bin(b, SpvOpIAdd, mm->tile_n_id, part);
  s.base = spv_bin(b, SpvOpIMul, c->subgroup, constant(c, strip_runs(c)));
  const KernelRuns *runs = mm->k->job->runs;
  bool direct = mm->plain && !(runs && runs[0].run) && mm->product->type.dtype == DT_f32 &&
                !mm->edge_m && !mm->edge_n && mm->n % QUAD == 0;
  if (direct) {
    store_fragments(&s);
    return;
  }
  spv_barrier(b); /* the tiles have been read */
  store_strips(&s);
  if (mm->sum_a) store_sums(&s, true);
  if (mm->sum_b) store_sums(&s, false);
}
