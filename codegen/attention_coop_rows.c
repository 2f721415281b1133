/* Rows of attention on cooperative matrices on their way from memory to workgroup memory and on to matrices.
 *
 * Workgroup memory is a pool of uvec4s and an array of numbers. While rows stream past, the pool has the block of
 * side a and that of side b, a row's channels one after another and 16 bytes between rows, so that the rows of a
 * matrix begin in different banks; where rows and factors have no shorter way (Coop.direct), a scratch
 * for each subgroup after them, and where teams meet. Before, own rows come through it; after, results leave through it. */
#include "codegen/attention_coop.h"

#include <math.h>

/* ---- places in workgroup memory ---- */

SpvId coop_pool(Coop *c, SpvId index) { return spv_at(c->m->k->b, c->pool, index); }

SpvId coop_pool_at(Coop *c, int index) {
  SpvId at = const_u(c->m->k, (uint32_t)index);
  return coop_pool(c, at);
}

SpvId coop_number(Coop *c, int base, SpvId index) {
  SpvId at = base ? op_u(c->m->k, SpvOpIAdd, index, (uint32_t)base) : index;
  return spv_at(c->m->k->b, c->numbers, at);
}

SpvId coop_spread(Coop *c, SpvId number, bool by_row) {
  SpvId stride = const_u(c->m->k, 0);
  return spv_matrix_load(c->m->k->b, c->sum, number, by_row, stride, 0);
}

SpvId coop_elements(Coop *c) {
  SpvId n = spv_matrix_length(c->m->k->b, c->sum);
  return spv_for_unrolled(c->m->k->b, n);
}

/* ---- blocks of rows ---- */

void coop_side(Coop *c, CoopSide *s, const AttRows *from, int units, int base, int rows) {
  s->from = from;
  s->used = true;
  s->units = units;
  s->runs = c->tile.team * units * c->unit / RUN;
  s->pitch = s->runs + 1;
  s->base = base;
  s->n_move = coop_pieces(rows * s->runs, c->invocations);
}

/* Run i of this invocation: its row in the block, and which of the row's. */
static void run_at(Coop *c, const CoopSide *s, int i, SpvId *row, SpvId *run) {
  Kernel *k = c->m->k;
  uint32_t runs = (uint32_t)s->runs;
  if (c->invocations % s->runs == 0) {
    *run = op_u(k, SpvOpUMod, c->invocation, runs);
    *row = op_u(k, SpvOpUDiv, c->invocation, runs);
    if (i) *row = op_u(k, SpvOpIAdd, *row, (uint32_t)(i * c->invocations) / runs);
    return;
  }
  SpvId n = i ? op_u(k, SpvOpIAdd, c->invocation, (uint32_t)(i * c->invocations)) : c->invocation;
  *run = op_u(k, SpvOpUMod, n, runs);
  *row = op_u(k, SpvOpUDiv, n, runs);
}

/* Whether run i is one of rows · runs: the last may not be, where they are no multiple of the invocations. 0: it is. */
static SpvId is_run(Coop *c, int n, int i) {
  if ((i + 1) * c->invocations <= n) return 0;
  SpvId end = const_u(c->m->k, (uint32_t)(n - i * c->invocations));
  return spv_cmp(c->m->k->b, SpvOpULessThan, c->invocation, end);
}

/* The uvec4 at a row and run, one of `runs`: zeros past the last row and channel. `whole`: there is no row past the last. */
static SpvId load_run(Coop *c, const AttRows *from, const Ix *head, SpvId row, SpvId run, int runs,
                      bool whole) {
  Kernel *k = c->m->k;
  SpvId inside = 0, zero = const_u(k, 0);
  if (!whole) {
    SpvId rows = const_u(k, (uint32_t)from->rows);
    inside = spv_cmp(k->b, SpvOpULessThan, row, rows);
  }
  if (from->channels < runs * RUN) {
    SpvId end = const_u(k, (uint32_t)from->channels / RUN);
    SpvId channel = spv_cmp(k->b, SpvOpULessThan, run, end);
    inside = inside ? both(k, inside, channel) : channel;
  }
  if (inside) {
    row = choose(k, inside, row, zero);
    run = choose(k, inside, run, zero);
  }
  SpvId at = att_row(c->m, from, head, row);
  at = op_u(k, SpvOpShiftRightLogical, at, 3);
  at = spv_bin(k->b, SpvOpIAdd, at, run);
  SpvId value = kernel_load_raw(k, from->at.base, 8, at);
  if (!inside) return value;
  SpvId type = spv_type(k->b, value), part[4];
  for (uint32_t i = 0; i < 4; i++) {
    part[i] = spv_extract(k->b, value, i);
    part[i] = choose(k, inside, part[i], zero);
  }
  return spv_pure_n(k->b, SpvOpCompositeConstruct, type, 4, part);
}

static SpvId uvec4(Coop *c) { return spv_vec(c->m->k->b, spv_u32(c->m->k->b), 4); }

void coop_fetch(Coop *c, CoopSide *s, const Ix *head, SpvId first) {
  Kernel *k = c->m->k;
  if (!s->used) return;
  bool whole = s->from->rows % c->tile.block == 0;
  for (int i = 0; i < s->n_move; i++) {
    SpvId row, run, here = is_run(c, c->tile.block * s->runs, i);
    if (!s->moved[i]) s->moved[i] = spv_local(k->b, uvec4(c));
    if (here) spv_if(k->b, here);
    run_at(c, s, i, &row, &run);
    row = spv_bin(k->b, SpvOpIAdd, row, first);
    SpvId value = load_run(c, s->from, head, row, run, s->runs, whole);
    spv_set(k->b, s->moved[i], value);
    if (here) spv_end(k->b);
  }
}

static void put_run(Coop *c, const CoopSide *s, int base, SpvId row, SpvId run, SpvId value) {
  Kernel *k = c->m->k;
  SpvId at = op_u(k, SpvOpIMul, row, (uint32_t)s->pitch);
  at = spv_bin(k->b, SpvOpIAdd, at, run);
  if (base) at = op_u(k, SpvOpIAdd, at, (uint32_t)base);
  at = coop_pool(c, at);
  spv_set(k->b, at, value);
}

void coop_put(Coop *c, CoopSide *s) {
  Kernel *k = c->m->k;
  for (int i = 0; i < s->n_move && s->used; i++) {
    SpvId row, run, here = is_run(c, c->tile.block * s->runs, i);
    if (here) spv_if(k->b, here);
    run_at(c, s, i, &row, &run);
    SpvId value = spv_get(k->b, s->moved[i]);
    put_run(c, s, s->base, row, run, value);
    if (here) spv_end(k->b);
  }
}

/* ---- lse and delta ---- */

/* −lse as scores are before they are multiplied with the factor, and −delta, of a query; one without keys, or past
 * the last, passes no gradient: its weights are 0 with lse = ∞. Where products begin there, those of a team's members
 * begin at equal parts of it. */
static void load_numbers(Coop *c, SpvId row, SpvId *lse, SpvId *delta) {
  Attention *m = c->m;
  Kernel *k = m->k;
  SpvId rows = const_u(k, (uint32_t)m->t), zero = const_u(k, 0), nothing = const_f(k, 0);
  SpvId inside = spv_cmp(k->b, SpvOpULessThan, row, rows);
  SpvId never = const_f(k, -INFINITY);
  row = choose(k, inside, row, zero);
  SpvId at = att_row(m, &m->lse, m->query_head, row);
  *lse = kernel_load_at(k, m->lse.at.base, at);
  at = att_row(m, &m->delta, m->query_head, row);
  *delta = kernel_load_at(k, m->delta.at.base, at);
  SpvId empty = equal_f(k, *lse, never);
  float lse_share = c->at_lse ? 1 / (float)c->tile.team : 1;
  float delta_share = c->at_delta ? 1 / (float)c->tile.team : 1;
  *lse = math_mul_c(k, *lse, (float)-M_LOG2E / c->factor * lse_share);
  *delta = math_mul_c(k, *delta, -delta_share);
  *lse = choose(k, empty, never, *lse);
  *lse = choose(k, inside, *lse, never);
  *delta = choose(k, empty, nothing, *delta);
  *delta = choose(k, inside, *delta, nothing);
}

void coop_fetch_numbers(Coop *c, SpvId first) {
  Kernel *k = c->m->k;
  for (int i = 0; i < c->n_number; i++) {
    SpvId lse, delta;
    if (!c->moved_lse[i]) c->moved_lse[i] = spv_local(k->b, spv_f32(k->b));
    if (!c->moved_delta[i]) c->moved_delta[i] = spv_local(k->b, spv_f32(k->b));
    SpvId row = op_u(k, SpvOpIAdd, c->invocation, (uint32_t)(i * c->invocations));
    row = spv_bin(k->b, SpvOpIAdd, row, first);
    load_numbers(c, row, &lse, &delta);
    spv_set(k->b, c->moved_lse[i], lse);
    spv_set(k->b, c->moved_delta[i], delta);
  }
}

static void put_number(Coop *c, int i, int n, SpvId lse, SpvId delta) {
  Kernel *k = c->m->k;
  SpvId here = is_run(c, n, i);
  if (here) spv_if(k->b, here);
  SpvId at = op_u(k, SpvOpIAdd, c->invocation, (uint32_t)(i * c->invocations));
  spv_set(k->b, coop_number(c, c->lse_at, at), lse);
  spv_set(k->b, coop_number(c, c->delta_at, at), delta);
  if (here) spv_end(k->b);
}

void coop_put_numbers(Coop *c) {
  Kernel *k = c->m->k;
  for (int i = 0; i < c->n_number; i++) {
    SpvId lse = spv_get(k->b, c->moved_lse[i]);
    SpvId delta = spv_get(k->b, c->moved_delta[i]);
    put_number(c, i, c->tile.block, lse, delta);
  }
}

void coop_own_numbers(Coop *c) {
  Kernel *k = c->m->k;
  for (int i = 0; i * c->invocations < c->own; i++) {
    SpvId lse, delta;
    SpvId row = op_u(k, SpvOpIAdd, c->invocation, (uint32_t)(i * c->invocations));
    row = spv_bin(k->b, SpvOpIAdd, row, c->tile_row);
    load_numbers(c, row, &lse, &delta);
    put_number(c, i, c->own, lse, delta);
  }
  spv_barrier(k->b);
  for (int i = 0; i < c->tile.fragments; i++) {
    SpvId at = op_u(k, SpvOpIAdd, c->row_in_tile, (uint32_t)(i * c->rows));
    c->lse[i] = spv_local(k->b, c->sum);
    c->delta[i] = spv_local(k->b, c->sum);
    SpvId spread = coop_spread(c, coop_number(c, c->lse_at, at), true);
    spv_set(k->b, c->lse[i], spread);
    spread = coop_spread(c, coop_number(c, c->delta_at, at), true);
    spv_set(k->b, c->delta[i], spread);
  }
}

/* ---- own rows: each subgroup's come through its scratch, as many units of channels at once as that takes ---- */

static int units_at_once(const Coop *c, int units) {
  int most = (c->scratch_size / c->rows - 1) * RUN / c->unit;
  if (most < 1) die("codegen: no workgroup memory for the rows of attention");
  return units < most ? units : most;
}

/* Run j of this invocation in a fragment's rows of `runs`: which row, which of its runs. */
static void own_run(Coop *c, int j, int runs, SpvId *row, SpvId *run) {
  Kernel *k = c->m->k;
  uint32_t last = (uint32_t)(c->rows * runs - 1);
  SpvId n = j ? op_u(k, SpvOpIAdd, c->lane, (uint32_t)(j * c->lanes)) : c->lane;
  if ((j + 1) * c->lanes > c->rows * runs) {
    SpvId end = const_u(k, last), past = spv_cmp(k->b, SpvOpUGreaterThan, n, end);
    n = choose(k, past, end, n); /* several invocations move the same */
  }
  *row = op_u(k, SpvOpUDiv, n, (uint32_t)runs);
  *run = op_u(k, SpvOpUMod, n, (uint32_t)runs);
}

void coop_fetch_own(Coop *c, CoopOwn *o, const AttRows *from, int units, const Ix *head) {
  Kernel *k = c->m->k;
  uint32_t part = (uint32_t)(units * c->unit / RUN);
  o->units = units;
  int n = 0, at_once = units_at_once(c, o->units);
  for (int i = 0; i < c->tile.fragments; i++)
    for (int u = 0; u < o->units; u += at_once) {
      int units = o->units - u < at_once ? o->units - u : at_once, runs = units * c->unit / RUN;
      for (int j = 0; j * c->lanes < c->rows * runs; j++) {
        SpvId row, run;
        if (n == MAX_OWN) die("codegen: more channels of attention than a subgroup moves");
        own_run(c, j, runs, &row, &run);
        row = spv_bin(k->b, SpvOpIAdd, row, c->own_row);
        if (i) row = op_u(k, SpvOpIAdd, row, (uint32_t)(i * c->rows));
        if (u) run = op_u(k, SpvOpIAdd, run, (uint32_t)(u * c->unit / RUN));
        if (c->part) run = spv_bin(k->b, SpvOpIAdd, run, op_u(k, SpvOpIMul, c->part, part));
        o->moved[n++] =
          load_run(c, from, head, row, run, c->tile.team * (int)part, from->rows % c->own == 0);
      }
    }
}

void coop_own(Coop *c, const CoopOwn *o, SpvId (*to)[MAX_UNITS]) {
  Kernel *k = c->m->k;
  int n = 0, at_once = units_at_once(c, o->units);
  for (int i = 0; i < c->tile.fragments; i++)
    for (int u = 0; u < o->units; u += at_once) {
      int units = o->units - u < at_once ? o->units - u : at_once, runs = units * c->unit / RUN;
      SpvId pitch = const_u(k, (uint32_t)runs + 1);
      for (int j = 0; j * c->lanes < c->rows * runs; j++) {
        SpvId row, run;
        own_run(c, j, runs, &row, &run);
        SpvId at = spv_bin(k->b, SpvOpIMul, row, pitch);
        at = coop_scratch_at(c, spv_bin(k->b, SpvOpIAdd, at, run));
        spv_set(k->b, at, o->moved[n++]);
      }
      spv_barrier_subgroup(k->b);
      for (int v = 0; v < units; v++) {
        SpvId at = coop_scratch_at(c, const_u(k, (uint32_t)(v * c->unit / RUN)));
        to[i][u + v] = spv_local(k->b, c->factor_a);
        SpvId factor = spv_matrix_load(k->b, c->factor_a, at, false, pitch, 0);
        spv_set(k->b, to[i][u + v], factor);
      }
      spv_barrier_subgroup(k->b);
    }
}
