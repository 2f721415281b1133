/* What subgroups of attention on cooperative matrices do through workgroup memory by themselves: each has a scratch in
 * the pool, for the rows of its fragments where they cannot be reduced, and weights where they cannot become factors, in
 * registers; and for its results, which its invocations read back in rows of channels and store. */
#include "codegen/attention_coop.h"

/* ---- a subgroup's scratch ---- */

SpvId coop_scratch_at(Coop *c, SpvId index) {
  Kernel *k = c->m->k;
  SpvId base = op_u(k, SpvOpIMul, c->subgroup, (uint32_t)c->scratch_size);
  if (c->scratch) base = op_u(k, SpvOpIAdd, base, (uint32_t)c->scratch);
  return coop_pool(c, spv_bin(k->b, SpvOpIAdd, base, index));
}

static SpvId scratch(Coop *c, int index) {
  return coop_scratch_at(c, const_u(c->m->k, (uint32_t)index));
}

static SpvId vec4_at(Coop *c, SpvId index) {
  Kernel *k = c->m->k;
  SpvId bits = spv_get(k->b, coop_scratch_at(c, index));
  return spv_bitcast(k->b, spv_vec(k->b, spv_f32(k->b), 4), bits);
}

static SpvId merge(Coop *c, SpvId x, SpvId y, bool sum) {
  Kernel *k = c->m->k;
  if (sum) return add_f(k, x, y);
  return choose(k, less_f(k, x, y), y, x);
}

/* The largest or the sum of a row in the scratch. */
static SpvId reduce_row(Coop *c, SpvId row, int pitch, bool sum) {
  Kernel *k = c->m->k;
  SpvId base = op_u(k, SpvOpIMul, row, (uint32_t)pitch), all = 0;
  for (int q = 0; q < c->unit / 4; q++) {
    SpvId four = vec4_at(c, q ? op_u(k, SpvOpIAdd, base, (uint32_t)q) : base);
    for (uint32_t i = 0; i < 4; i++) {
      SpvId x = spv_extract(k->b, four, i);
      all = all ? merge(c, all, x, sum) : x;
    }
  }
  return all;
}

/* Through the scratch: an invocation takes a row. */
static void reduce_in_scratch(Coop *c, const SpvId *fragment, bool sum, SpvId *to) {
  Kernel *k = c->m->k;
  int n = c->tile.fragments * c->rows, pitch = c->unit / 4 + 1;
  SpvId stride = const_u(k, (uint32_t)pitch);
  SpvId base = op_u(k, SpvOpIMul, c->subgroup, (uint32_t)n);
  spv_barrier_subgroup(k->b);
  for (int i = 0; i < c->tile.fragments; i++) {
    SpvId x = spv_get(k->b, fragment[i]);
    spv_matrix_store(k->b, scratch(c, i * c->rows * pitch), x, false, stride, 0);
  }
  spv_barrier_subgroup(k->b);
  for (int r = 0; r < n; r += c->lanes) {
    SpvId row = r ? op_u(k, SpvOpIAdd, c->lane, (uint32_t)r) : c->lane;
    bool all = r + c->lanes <= n;
    if (!all) spv_if(k->b, spv_cmp(k->b, SpvOpULessThan, row, const_u(k, (uint32_t)n)));
    SpvId value = reduce_row(c, row, pitch, sum);
    spv_set(k->b, coop_number(c, c->rows_at, spv_bin(k->b, SpvOpIAdd, base, row)), value);
    if (!all) spv_end(k->b);
  }
  spv_barrier_subgroup(k->b);
  for (int i = 0; i < c->tile.fragments; i++) {
    SpvId at = op_u(k, SpvOpIAdd, base, (uint32_t)(i * c->rows));
    SpvId spread = coop_spread(c, coop_number(c, c->rows_at, at), true);
    spv_set(k->b, to[i], spread);
  }
}

void coop_reduce_rows(Coop *c, const SpvId *fragment, bool sum, SpvId *to) {
  Kernel *k = c->m->k;
  for (int i = 0; i < c->tile.fragments; i++)
    if (!to[i]) to[i] = spv_local(k->b, c->sum);
  if (!c->direct) {
    reduce_in_scratch(c, fragment, sum, to);
    return;
  }
  for (int i = 0; i < c->tile.fragments; i++) {
    SpvId x = spv_get(k->b, fragment[i]);
    x = spv_matrix_reduce_rows(k->b, x, sum ? SPV_row_sum : SPV_row_max);
    spv_set(k->b, to[i], x);
  }
}

/* ---- weights become factors ---- */

/* Numbers as bf16 has them, so that a conversion changes nothing: drivers may cut bits off there, and one does, which makes
 * all weights too small. x·(2^16 + 1), rounded to 24 bits, has x rounded to 8 bits above x·2^16. */
static SpvId nearest(Coop *c, SpvId fragment) {
  Kernel *k = c->m->k;
  SpvId to = spv_local(k->b, c->sum);
  SpvId e = coop_elements(c);
  SpvId x = coop_get(c, fragment, e), more = const_f(k, 0x1p16f + 1), less = const_f(k, -0x1p16f);
  SpvId t = xmul(k, x, more);
  coop_set(c, to, e, spv_fma(k->b, x, less, t));
  spv_end(k->b);
  return spv_get(k->b, to);
}

/* Eight neighbours of a fragment's row in the scratch, rounded. */
static SpvId rounded_run(Coop *c, SpvId row, SpvId run, int pitch) {
  Kernel *k = c->m->k;
  SpvId at = op_u(k, SpvOpIMul, row, (uint32_t)pitch), value[RUN];
  at = spv_bin(k->b, SpvOpIAdd, at, op_u(k, SpvOpIMul, run, 2));
  for (uint32_t i = 0; i < RUN; i++) {
    SpvId four = vec4_at(c, i < 4 ? at : op_u(k, SpvOpIAdd, at, 1));
    value[i] = math_round(k, c->low, spv_extract(k->b, four, i % 4));
  }
  return kernel_pack8(k, c->low, value);
}

/* Through the scratch: sums go there as they are, since devices need have no 16-bit ones; invocations read runs of their
 * rows, and once all have, they write them back, rounded. */
static void round_in_scratch(Coop *c, const SpvId *fragment) {
  Kernel *k = c->m->k;
  int runs = c->unit / RUN, n = c->tile.fragments * c->rows * runs;
  int wide = c->unit / 4 + 1, pitch = runs + 1;
  enum { MOST = 16 /* of an invocation */ };
  SpvId row[MOST], run[MOST], value[MOST];
  SpvId stride = const_u(k, (uint32_t)wide), last = const_u(k, (uint32_t)(n - 1));
  if (n > MOST * c->lanes) die("codegen: fragments with more runs than are moved");
  spv_barrier_subgroup(k->b);
  for (int i = 0; i < c->tile.fragments; i++)
    spv_matrix_store(k->b, scratch(c, i * c->rows * wide), spv_get(k->b, fragment[i]), false,
                     stride, 0);
  spv_barrier_subgroup(k->b);
  for (int i = 0; i * c->lanes < n; i++) { /* past the last one the last again */
    SpvId at = i ? op_u(k, SpvOpIAdd, c->lane, (uint32_t)(i * c->lanes)) : c->lane;
    if ((i + 1) * c->lanes > n) at = choose(k, spv_cmp(k->b, SpvOpULessThan, at, last), at, last);
    row[i] = op_u(k, SpvOpUDiv, at, (uint32_t)runs);
    run[i] = op_u(k, SpvOpUMod, at, (uint32_t)runs);
    value[i] = rounded_run(c, row[i], run[i], wide);
  }
  spv_barrier_subgroup(k->b);
  for (int i = 0; i * c->lanes < n; i++) {
    SpvId at = op_u(k, SpvOpIMul, row[i], (uint32_t)pitch);
    at = spv_bin(k->b, SpvOpIAdd, at, run[i]);
    spv_set(k->b, coop_scratch_at(c, at), value[i]);
  }
  spv_barrier_subgroup(k->b);
}

void coop_as_factors(Coop *c, const SpvId *fragment, SpvId *to) {
  Kernel *k = c->m->k;
  int pitch = c->unit / RUN + 1;
  if (!c->direct) round_in_scratch(c, fragment);
  for (int i = 0; i < c->tile.fragments; i++) {
    if (c->direct) {
      SpvId x = c->low == DT_bf16 ? nearest(c, fragment[i]) : spv_get(k->b, fragment[i]);
      to[i] = spv_matrix_as_factor(k->b, c->factor_a, x);
    } else {
      SpvId stride = const_u(k, (uint32_t)pitch);
      SpvId at = scratch(c, i * c->rows * pitch);
      to[i] = spv_matrix_load(k->b, c->factor_a, at, false, stride, 0);
    }
  }
}

/* ---- results ---- */

typedef struct Out {
  int out, width; /* elements at once */
  AttRows to;
} Out;

/* Eight neighbours can be stored together. */
static bool stores_runs(Coop *c, const Out *o) {
  const KernelRuns *lies = c->m->k->job->runs ? &c->m->k->job->runs[o->out] : NULL;
  bool wide = o->to.channel == 1;
  for (int i = 0; i < c->m->rank - 1; i++) wide = wide && o->to.at.stride[i] % RUN == 0;
  return wide && (!lies || (lies->run % RUN == 0 && lies->pitch % RUN == 0));
}

/* Channels RUN · run … of an own row. */
static void store_run(Coop *c, const Out *o, SpvId row, SpvId run, const SpvId *value) {
  Kernel *k = c->m->k;
  const Ix *head = c->m->to_keys ? c->m->key_head : c->m->query_head;
  DType d = (DType)k->job->out[o->out]->type.dtype;
  SpvId rounded[RUN], at = att_row(c->m, &o->to, head, row);
  for (int i = 0; i < RUN; i++) rounded[i] = math_round(k, d, value[i]);
  if (o->width == RUN) {
    at = op_u(k, SpvOpShiftRightLogical, at, 3);
    kernel_store(k, o->out, spv_bin(k->b, SpvOpIAdd, at, run), RUN, rounded);
    return;
  }
  at = spv_bin(k->b, SpvOpIAdd, at, op_u(k, SpvOpIMul, run, (uint32_t)(RUN * o->to.channel)));
  for (int i = 0; i < RUN; i++)
    kernel_store(k, o->out, op_u(k, SpvOpIAdd, at, (uint32_t)(i * o->to.channel)), 1, &rounded[i]);
}

/* A fragment's rows and `units` units of channels, from the scratch: each invocation takes runs. `row` and `unit` are
 * the first. */
static void store_scratch(Coop *c, const Out *o, SpvId row, SpvId unit, int units, int pitch) {
  Kernel *k = c->m->k;
  int runs = units * c->unit / RUN, n = c->rows * runs;
  SpvId first = op_u(k, SpvOpIMul, unit, (uint32_t)(c->unit / RUN));
  for (int i = 0; i < n; i += c->lanes) {
    SpvId at = op_u(k, SpvOpIAdd, c->lane, (uint32_t)i), inside = 0, value[RUN];
    SpvId r = op_u(k, SpvOpUDiv, at, (uint32_t)runs), run = op_u(k, SpvOpUMod, at, (uint32_t)runs);
    SpvId own = spv_bin(k->b, SpvOpIAdd, row, r), channel = spv_bin(k->b, SpvOpIAdd, first, run);
    SpvId rows = const_u(k, (uint32_t)c->m->own_rows);
    inside = spv_cmp(k->b, SpvOpULessThan, own, rows);
    SpvId most = const_u(k, (uint32_t)(o->to.channels / RUN));
    inside = both(k, inside, spv_cmp(k->b, SpvOpULessThan, channel, most));
    if (n - i < c->lanes)
      inside = both(k, inside, spv_cmp(k->b, SpvOpULessThan, at, const_u(k, (uint32_t)n)));
    spv_if(k->b, inside);
    SpvId base = op_u(k, SpvOpIMul, r, (uint32_t)pitch);
    base = spv_bin(k->b, SpvOpIAdd, base, op_u(k, SpvOpIMul, run, 2));
    for (uint32_t half = 0; half < 2; half++) {
      SpvId four = vec4_at(c, half ? op_u(k, SpvOpIAdd, base, 1) : base);
      for (uint32_t e = 0; e < 4; e++) value[4 * half + e] = spv_extract(k->b, four, e);
    }
    store_run(c, o, own, channel, value);
    spv_end(k->b);
  }
}

/* As many units at once as the scratch takes. */
static void store_rows(Coop *c, const Out *o, SpvId (*sum)[MAX_UNITS], int units) {
  Kernel *k = c->m->k;
  int at_once = (c->scratch_size / c->rows - 1) * 4 / c->unit;
  if (at_once > units) at_once = units;
  if (at_once < 1) die("codegen: no workgroup memory for the results of attention");
  SpvId begin = c->part ? op_u(k, SpvOpIMul, c->part, (uint32_t)units) : const_u(k, 0);
  for (int i = 0; i < c->tile.fragments; i++)
    for (int u = 0; u < units; u += at_once) {
      int n = units - u < at_once ? units - u : at_once, pitch = n * c->unit / 4 + 1;
      spv_barrier_subgroup(k->b);
      for (int j = 0; j < n; j++) {
        SpvId x = spv_get(k->b, sum[i][u + j]);
        SpvId at = scratch(c, j * c->unit / 4), stride = const_u(k, (uint32_t)pitch);
        spv_matrix_store(k->b, at, x, false, stride, 0);
      }
      spv_barrier_subgroup(k->b);
      SpvId row = op_u(k, SpvOpIAdd, c->own_row, (uint32_t)(i * c->rows));
      store_scratch(c, o, row, op_u(k, SpvOpIAdd, begin, (uint32_t)u), n, pitch);
    }
}

void coop_store(Coop *c, Op op, SpvId (*sum)[MAX_UNITS], int units) {
  const KernelJob *job = c->m->k->job;
  for (int i = 0; i < job->n_out; i++) {
    if (!c->m->node[op] || att_member(job->out[i]) != c->m->node[op]) continue;
    Out o = {i, 1, att_out(c->m, job->out[i])};
    if (stores_runs(c, &o)) o.width = RUN;
    store_rows(c, &o, sum, units);
  }
}

/* All columns are equal: an invocation takes the first of a row. */
void coop_store_lse(Coop *c, const SpvId *lse) {
  Attention *m = c->m;
  Kernel *k = m->k;
  const KernelJob *job = k->job;
  int pitch = c->unit / 4 + 1;
  for (int o = 0; o < job->n_out; o++) {
    if (att_member(job->out[o]) != m->node[OP_attention_lse]) continue;
    AttRows to = att_out(m, job->out[o]);
    for (int f = 0; f < c->tile.fragments; f++) {
      spv_barrier_subgroup(k->b);
      SpvId x = spv_get(k->b, lse[f]);
      SpvId at = scratch(c, 0), stride = const_u(k, (uint32_t)pitch);
      spv_matrix_store(k->b, at, x, false, stride, 0);
      spv_barrier_subgroup(k->b);
      for (int r = 0; r < c->rows; r += c->lanes) {
        SpvId row = r ? op_u(k, SpvOpIAdd, c->lane, (uint32_t)r) : c->lane;
        SpvId own = op_u(k, SpvOpIAdd, c->own_row, (uint32_t)(f * c->rows));
        own = spv_bin(k->b, SpvOpIAdd, own, row);
        SpvId inside = spv_cmp(k->b, SpvOpULessThan, row, const_u(k, (uint32_t)c->rows));
        inside = both(k, inside, spv_cmp(k->b, SpvOpULessThan, own, const_u(k, (uint32_t)m->t)));
        if (c->part) inside = both(k, inside, spv_cmp(k->b, SpvOpIEqual, c->part, const_u(k, 0)));
        spv_if(k->b, inside);
        SpvId value = spv_extract(k->b, vec4_at(c, op_u(k, SpvOpIMul, row, (uint32_t)pitch)), 0);
        kernel_store(k, o, att_row(m, &to, m->query_head, own), 1, &value);
        spv_end(k->b);
      }
    }
  }
}
