/* reduce: results[o] = combination over r of source[o, r], for sum, product, max, min and argmax; several of one shape in one
 * kernel, with whatever is computed from them.
 *
 *   source    outer · red · inner elements; outputs o = outer · inner, terms r = red, both row-major
 *   level 0   reductions of what the operands give                            one loop over the terms
 *   level 1   reductions of what needs results of level 0                     the next loop …
 *   last      FULL outs, a value per term, row after row (inner = 1);         the last loop
 *             KEPT outs, a value per output
 *
 * So softmax is a row kernel with a maximum at level 0 and a sum at level 1, or both at level 0 where its rows are too long to
 * stay in registers (reduce_online.c); a norm is one with two sums at level 0. Who takes
 * what, by shape:
 *
 *   alone     one invocation per output (or some neighbouring ones); lanes lie across outputs: many columns, or short rows
 *   subgroup  one subgroup, or a part of one, per output; lane L takes terms L, L + S, …:      rows
 *   group     a workgroup of subgroups per output:                                             long rows on a GPU
 *   tile      a workgroup of X outputs × Y members; member y takes terms y, y + Y, …:         rows without subgroups,
 *                                                                                 few outputs, long sums or rows
 *
 * On a GPU a member has few turns, so that they are unrolled and the row stays in registers from level to level; and what is
 * longer than that is read again while a cache still has it, since a long row's workgroup is large and few rows are under way.
 *
 * The order is fixed: the same bits every time. A reduction over dimensions that do not lie together is alone in its kernel. */
#include "codegen/reduce.h"

#include <stdlib.h>

enum { LONG = 20000 /* terms of one invocation */, FEW = 16 /* units of outputs */ };

/* ---- passes ---- */

static bool is_full(const Reduce *r, const Node *out) {
  return type_count(&out->type) != r->outputs;
}

static int n_full(const Reduce *r) {
  int n = 0;
  for (int i = 0; i < r->k->job->n_out; i++) n += is_full(r, r->k->job->out[i]);
  return n;
}

/* Results of a level become values that expressions find. */
static void bind(Reduce *r, const Ix *unit, int level, Acc (*result)[REDUCE_WIDTH]) {
  Kernel *k = r->k;
  for (int i = 0; i < r->n; i++) {
    const Reduction *d = &r->of[i];
    for (int c = 0; d->level == level && c < r->out_width; c++) {
      Acc a = result[i][c];
      SpvId value = a.index ? a.index : math_round(k, (DType)d->node->type.dtype, a.value);
      const Ix *at = ix_add(k->ix, ix_mul(k->ix, unit, r->out_width), ix_const(k->ix, c));
      kernel_bind(k, d->node, at, value);
    }
  }
}

/* A unit of the row's terms, counted through all rows. */
static const Ix *full_unit(Reduce *r, const Team *t, const Ix *unit) {
  IxTable *ix = r->k->ix;
  const Ix *row = ix_value(ix, t->unit, r->outputs);
  return ix_add(ix, ix_mul(ix, row, r->terms / r->term_width), unit);
}

/* FULL outs at one unit of the row's terms. */
static void store_terms(Reduce *r, Team *t, const Ix *unit, SpvId exists) {
  Kernel *k = r->k;
  int w = r->term_width;
  const Ix *at = full_unit(r, t, unit);
  SpvId value[CG_MAX_OUT][REDUCE_WIDTH];
  for (int o = 0; o < k->job->n_out; o++)
    for (int c = 0; is_full(r, k->job->out[o]) && c < w; c++)
      value[o][c] =
        expr_at(k, k->job->out[o], ix_add(k->ix, ix_mul(k->ix, at, w), ix_const(k->ix, c)));
  if (exists) spv_if(k->b, exists);
  SpvId index = ix_emit(k->ix, at);
  for (int o = 0; o < k->job->n_out; o++)
    if (is_full(r, k->job->out[o])) kernel_store(k, o, index, w, value[o]);
  if (exists) spv_end(k->b);
}

/* Before a loop over the units: what its outs need whatever the term. */
static void hoist_full(Reduce *r, Team *t) {
  Kernel *k = r->k;
  const Ix *any = sum_any_unit(r), *index[IR_MAX_RANK];
  for (int o = 0; o < k->job->n_out; o++)
    for (int c = 0; is_full(r, k->job->out[o]) && c < r->term_width; c++) {
      Node *out = k->job->out[o];
      const Ix *at = ix_mul(k->ix, full_unit(r, t, any), r->term_width);
      at = ix_add(k->ix, at, ix_const(k->ix, c));
      ix_split(k->ix, at, out->type.rank, out->type.dim, index);
      expr_hoist(k, out, index, any);
    }
}

typedef struct Last {
  Reduce *r;
  Team *team;
} Last;

static void store_turn(void *context, SpvId i) {
  Last *l = context;
  Reduce *r = l->r;
  SpvId unit = team_turn(l->team, r, i);
  store_terms(r, l->team, ix_value(r->k->ix, unit, r->terms / r->term_width), 0);
}

static void store_full(Reduce *r, Team *t) {
  team_if_within(t, r);
  int64_t turns = sum_turns(r, t);
  for (int i = 0; i < turns && sum_unrolled(r, t); i++) {
    SpvId exists;
    const Ix *unit = sum_unit(r, t, i, &exists);
    store_terms(r, t, unit, exists);
  }
  if (!sum_unrolled(r, t)) {
    SpvId n = team_share(t, r, r->terms / r->term_width);
    hoist_full(r, t);
    kernel_repeat(r->k, n, turns, r->levels + 1, store_turn, &(Last){r, t});
  }
  team_end_within(t, r);
}

/* An out may lie over an operand that all members have read by then. */
static void store_kept(Reduce *r, Team *t, const Ix *unit) {
  Kernel *k = r->k;
  SpvId value[CG_MAX_OUT][REDUCE_WIDTH];
  if ((t->kind == TEAM_tile || t->kind == TEAM_group) && n_full(r)) spv_barrier(k->b);
  team_if_first(t, r);
  for (int o = 0; o < k->job->n_out; o++)
    for (int c = 0; !is_full(r, k->job->out[o]) && c < r->out_width; c++)
      value[o][c] = expr_at(k, k->job->out[o],
                            ix_add(k->ix, ix_mul(k->ix, unit, r->out_width), ix_const(k->ix, c)));
  for (int o = 0; o < k->job->n_out; o++)
    if (!is_full(r, k->job->out[o])) kernel_store(k, o, t->unit, r->out_width, value[o]);
  team_end_first(t, r);
}

/* ---- choice ---- */

static uint32_t power_below(int64_t n, int64_t most) {
  uint32_t p = 1;
  while (2 * (int64_t)p <= n && 2 * (int64_t)p <= most) p *= 2;
  return p;
}

/* Members of a tile, of `limit` at most: what workgroup memory has room for. */
static int64_t most_members(const Reduce *r, int64_t limit) {
  const Target *t = r->k->target;
  int64_t most = t->max_invocations < limit ? t->max_invocations : limit, bytes = 0;
  for (int i = 0; i < r->n; i++) bytes += r->out_width * (acc_has_index(&r->of[i]) ? 8 : 4);
  while (most > 1 && most * bytes > t->shared_bytes) most /= 2;
  return most;
}

/* Rows: few turns each, and all cores busy. */
static Team choose_rows_gpu(const Reduce *r, int64_t units, int64_t busy) {
  enum { TURNS = 8, LEAST = 4, GROUP = 512 };
  const Target *t = r->k->target;
  int64_t terms = r->terms / r->term_width, lanes = t->subgroup_size;
  int64_t most = t->max_invocations < GROUP ? t->max_invocations : GROUP;
  if (most > lanes * lanes)
    most = lanes * lanes; /* a subgroup combines its workgroup's subgroups */
  if (terms < LEAST) return (Team){.kind = TEAM_alone, .size = 1};
  uint32_t size = power_below(terms, lanes);
  while (size >= lanes && 2 * size <= most &&
         (terms > TURNS * (int64_t)size || (units * size < busy && terms >= 4 * (int64_t)size)))
    size *= 2;
  return (Team){.kind = size > lanes ? TEAM_group : TEAM_subgroup, .size = size};
}

/* Columns: lanes across neighbours, and as many members as it takes to keep all cores busy. */
static Team choose_columns_gpu(const Reduce *r, int64_t units, int64_t busy) {
  int64_t most = most_members(r, 1024), cores = busy / 1024;
  uint32_t x = power_below(2 * units - 1, 32), y = 1;
  while (x > 2 && units < x * cores) x /= 2; /* down to 32 bytes of each row */
  while (units * y < busy && 8 * (int64_t)y <= r->terms && 2 * (int64_t)(x * y) <= most) y *= 2;
  if (y == 1) return (Team){.kind = TEAM_alone, .size = 1};
  return (Team){.kind = TEAM_tile, .size = y, .across = x};
}

static Team choose(const Reduce *r) {
  const Target *t = r->k->target;
  int64_t units = r->outputs / r->out_width, term_units = r->terms / r->term_width;
  bool subgroups =
    t->subgroup_shuffle && t->subgroup_size >= 4 && t->subgroup_size <= t->max_invocations;
  if (subgroups && !t->is_cpu) {
    int64_t busy = 1024 * (int64_t)(t->cores ? t->cores : 32); /* invocations that hide latencies */
    return r->row ? choose_rows_gpu(r, units, busy) : choose_columns_gpu(r, units, busy);
  }
  int64_t lanes = subgroups ? t->subgroup_size : 32, most = most_members(r, 256);
  Team alone = {.kind = TEAM_alone, .size = 1};
  int64_t many = t->is_cpu ? FEW : 2048; /* a tile's barriers are dear on a CPU */
  if (r->row ? term_units < lanes : term_units < 64 || (units >= many && term_units < LONG))
    return alone;
  if (r->row && subgroups && (units >= 8 || term_units < 64 * lanes))
    return (Team){.kind = TEAM_subgroup, .size = (uint32_t)lanes};
  uint32_t x = r->row ? 1 : power_below(2 * units - 1, 32);
  uint32_t y = power_below(r->row ? term_units : term_units / 4, most / x);
  return (Team){.kind = TEAM_tile, .size = y, .across = x};
}

/* Sums relative to a maximum of the same loop, now that this is known. */
static void finish_online(Reduce *r, int level, Acc (*result)[REDUCE_WIDTH]) {
  for (int i = 0; i < r->n; i++) {
    const Reduction *d = &r->of[i];
    for (int c = 0; d->exponent && d->level == level && c < r->out_width; c++)
      result[i][c] = (Acc){online_value(r->k, result[i][c], result[d->most][c].value), 0};
  }
}

void reduce_emit(Reduce *r) {
  Kernel *k = r->k;
  Team t = choose(r);
  Acc result[REDUCE_MAX][REDUCE_WIDTH];
  k->wide = r->out_width * r->term_width > 1;
  if (n_full(r) && !r->row) die("codegen: a reduction along columns stores no value per term");
  team_begin(&t, r);
  const Ix *unit = ix_value(k->ix, t.unit, r->outputs / r->out_width);
  for (int level = 0; level < r->levels; level++) {
    bool everywhere = level + 1 < r->levels || n_full(r);
    sum_level(r, &t, level, result);
    team_combine(&t, r, level, everywhere, result);
    finish_online(r, level, result);
    bind(r, unit, level, result);
  }
  if (n_full(r)) store_full(r, &t);
  if (n_full(r) < k->job->n_out) store_kept(r, &t, unit);
  team_end(&t, r);
}

/* ---- from the job ---- */

typedef struct Shape { /* a source's dimensions, parted */
  int n_kept, n_reduced, kept[IR_MAX_RANK], reduced[IR_MAX_RANK];
  int64_t kept_dim[IR_MAX_RANK], reduced_dim[IR_MAX_RANK];
  int64_t outer, red, inner;
  bool together; /* the reduced dimensions are neighbours */
  bool row;      /* the innermost dimension is reduced */
  int64_t last;  /* its length */
} Shape;

static Shape shape_of(const Node *n) {
  const Type *x = &n->src[0]->type;
  Shape s = {.outer = 1, .red = 1, .inner = 1, .together = true, .row = true, .last = 1};
  for (int d = 0, next = 0; d < x->rank; d++) {
    bool reduced = next < n->n_int && n->ints[next] == d;
    if (reduced) {
      next++;
      s.reduced[s.n_reduced] = d;
      s.reduced_dim[s.n_reduced++] = x->dim[d];
    } else {
      s.kept[s.n_kept] = d;
      s.kept_dim[s.n_kept++] = x->dim[d];
    }
    if (x->dim[d] == 1) continue;
    if (reduced && s.inner > 1) s.together = false;
    *(reduced ? &s.red : s.red > 1 ? &s.inner : &s.outer) *= x->dim[d];
    s.row = reduced;
    s.last = x->dim[d];
  }
  return s;
}

/* The source's index. By the flat one where dimensions lie together, so that outs find the same; else
 * by the dimensions. */
static void source_index(Reduce *r, const Reduction *d, const Ix *out, const Ix *term,
                         const Ix **index) {
  const Shape *s = r->context;
  IxTable *t = r->k->ix;
  const Type *x = &d->node->src[0]->type;
  if (s->together) {
    const Ix *at = ix_mul(t, ix_div(t, out, s->inner), s->red * s->inner);
    at = ix_add(t, at, ix_mul(t, term, s->inner));
    at = ix_add(t, at, ix_mod(t, out, s->inner));
    ix_split(t, at, x->rank, x->dim, index);
    return;
  }
  const Ix *part[IR_MAX_RANK];
  ix_split(t, out, s->n_kept, s->kept_dim, part);
  for (int i = 0; i < s->n_kept; i++) index[s->kept[i]] = part[i];
  ix_split(t, term, s->n_reduced, s->reduced_dim, part);
  for (int i = 0; i < s->n_reduced; i++) index[s->reduced[i]] = part[i];
}

static SpvId source_value(Reduce *r, const Reduction *d, const Ix *out, const Ix *term,
                          SpvId *exponent) {
  const Ix *index[IR_MAX_RANK];
  source_index(r, d, out, term, index);
  if (!d->exponent) return expr_value(r->k, d->node->src[0], index);
  *exponent = expr_value(r->k, d->exponent, index);
  return d->factor ? expr_value(r->k, d->factor, index) : expr_const(r->k, DT_f32, 1);
}

static void source_hoist(Reduce *r, const Reduction *d, const Ix *out, const Ix *term,
                         const Ix *varying) {
  const Ix *index[IR_MAX_RANK];
  source_index(r, d, out, term, index);
  expr_hoist(r->k, d->exponent ? d->exponent : d->node->src[0], index, varying);
  if (d->factor) expr_hoist(r->k, d->factor, index, varying);
}

static bool is_reduction(const Node *n) {
  return n->op == OP_argmax || (n->op >= OP_reduce_sum && n->op <= OP_reduce_min);
}

typedef struct Find {
  Reduce *r;
  const Shape *shape;
  int *level;  /* by node id: how many levels come before its value; −1: not seen */
  bool online; /* sums relative to a maximum take the maximum's loop */
} Find;

static int reduction_of(const Reduce *r, const Node *n) {
  for (int i = 0; i < r->n; i++)
    if (r->of[i].node == n) return i;
  die("codegen: %%%d is no reduction of its kernel", n->id);
}

static int find(Find *f, Node *n) {
  Reduce *r = f->r;
  const KernelJob *job = r->k->job;
  int level = 0;
  if (f->level[n->id] >= 0) return f->level[n->id];
  bool loaded = job->stored[n->id] && !cg_is_out(job, n);
  for (int i = 0; i < n->n_src && !loaded; i++) {
    int below = find(f, n->src[i]);
    if (below > level) level = below;
  }
  if (is_reduction(n) && !loaded) {
    Reduction d = {n, n->op, (DType)n->src[0]->type.dtype, level, NULL, NULL, 0};
    Shape s = shape_of(n);
    if (r->n == REDUCE_MAX || s.outer != f->shape->outer || s.red != f->shape->red ||
        s.inner != f->shape->inner || (r->n && !(s.together && f->shape->together)))
      die("codegen: reduction %%%d does not fit its kernel", n->id);
    Node *most = f->online ? online_maximum(job, &d) : NULL;
    if (most) d.most = reduction_of(r, most);
    if (most && (!d.factor || find(f, d.factor) <= r->of[d.most].level))
      d.level = level = r->of[d.most].level;
    else
      d.exponent = d.factor = NULL;
    r->of[r->n++] = d;
    if (++level > r->levels) r->levels = level;
  }
  return f->level[n->id] = level;
}

static void find_reductions(Reduce *r, const Shape *s, bool online) {
  const KernelJob *job = r->k->job;
  int n = job->out[job->n_out - 1]->id + 1;
  Find f = {r, s, xmalloc((size_t)n * sizeof *f.level), online};
  r->n = r->levels = 0;
  for (int i = 0; i < n; i++) f.level[i] = -1;
  for (int i = 0; i < job->n_out; i++) find(&f, job->out[i]);
  free(f.level);
}

/* Neighbours taken at once: 16 bytes of the largest values that the kernel goes over; eight of
 * 16 bits on a GPU. */
static int width_of(const Kernel *k, int64_t run, int64_t full) {
  bool halves = false;
  for (int i = 0; i < k->n_operand; i++) {
    const Type *t = &k->operand[i]->type;
    halves = halves || (kernel_is_16(k, (DType)t->dtype) && type_count(t) >= full);
  }
  return halves && run % 8 == 0 && !k->target->is_cpu ? 8 : run % 4 == 0 ? 4 : 1;
}

void emit_reduce(Kernel *k) {
  const KernelJob *job = k->job;
  Shape s = shape_of(job->anchor ? job->anchor : job->out[0]);
  Reduce r = {.k = k,
              .outputs = s.outer * s.inner,
              .terms = s.red,
              .row = s.together ? s.inner == 1 : s.row,
              .out_width = 1,
              .term_width = 1,
              .value = source_value,
              .hoist = source_hoist,
              .context = &s};
  int64_t run = !s.together ? s.last : s.inner == 1 ? s.red : s.inner;
  *(r.row ? &r.term_width : &r.out_width) = width_of(k, run, s.outer * s.red * s.inner);
  find_reductions(&r, &s, false);
  Team team = choose(&r);
  if (!sum_unrolled(&r, &team) && !k->target->strict) find_reductions(&r, &s, true);
  reduce_emit(&r);
}
