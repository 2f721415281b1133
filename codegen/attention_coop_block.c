/* One block of streamed rows in attention on cooperative matrices: a subgroup's own rows meet it, `step` fragments of
 * its rows at a time.
 *
 *   scores = own a · streamed aᵀ      dp = own b · streamed bᵀ      sums: b += P · streamed b, a += dS · streamed a
 *
 * Scores, weights and sums are f32; P and dS are rounded on their way into the second product. Weights are powers of
 * two: exp(x) = 2^(x · log2 e). */
#include "codegen/attention_coop.h"

#include <math.h>

enum { SLACK = 8 }; /* a weight is at most 2^SLACK before the maximum is taken anew */

/* ---- products ---- */

/* Rows from `row` on of the block, a unit of this member's channels. */
static SpvId streamed(Coop *c, const CoopSide *s, int row, int unit, bool as_columns) {
  Kernel *k = c->m->k;
  SpvId pitch = const_u(k, (uint32_t)s->pitch);
  SpvId at = const_u(k, (uint32_t)(s->base + row * s->pitch + unit * c->unit / RUN));
  if (c->part) {
    SpvId begin = op_u(k, SpvOpIMul, c->part, (uint32_t)(s->units * c->unit / RUN));
    at = spv_bin(k->b, SpvOpIAdd, at, begin);
  }
  at = coop_pool(c, at);
  return spv_matrix_load(k->b, c->factor_b, at, as_columns, pitch, 0);
}

static void add_product(Coop *c, SpvId sum, SpvId x, SpvId y) {
  Kernel *k = c->m->k;
  SpvId before = spv_get(k->b, sum);
  SpvId after = spv_matrix_mul_add(k->b, x, y, before);
  spv_set(k->b, sum, after);
}

/* Own rows times the rows of fragment x of the block, for one unit of channels. */
static void add_scores(Coop *c, const CoopSide *s, SpvId (*own)[MAX_UNITS], int x, int unit,
                       SpvId *to) {
  SpvId y = streamed(c, s, x * c->unit, unit, true);
  for (int i = 0; i < c->tile.fragments; i++)
    add_product(c, to[i], spv_get(c->m->k->b, own[i][unit]), y);
}

/* A variable with −lse or −delta of the queries of fragment x of the block, or of own fragment i. */
static SpvId number(Coop *c, int x, int i, bool delta) {
  Kernel *k = c->m->k;
  if (!c->m->to_keys) return delta ? c->delta[i] : c->lse[i];
  SpvId v = spv_local(k->b, c->sum), at = const_u(k, (uint32_t)(x * c->unit));
  SpvId spread = coop_spread(c, coop_number(c, delta ? c->delta_at : c->lse_at, at), false);
  spv_set(k->b, v, spread);
  return v;
}

/* Whether own fragment i has numbers that those before have not. */
static bool has_numbers(const Coop *c, int i) { return i == 0 || !c->m->to_keys; }

/* What the products of fragment x begin at. */
static void begin(Coop *c, int x, const SpvId *score, const SpvId *dp) {
  Spv *b = c->m->k->b;
  SpvId lse = spv_matrix_zero(b, c->sum), delta = lse;
  for (int i = 0; i < c->tile.fragments; i++) {
    if (c->at_lse && has_numbers(c, i)) lse = spv_get(b, number(c, x, i, false));
    if (c->at_delta && has_numbers(c, i)) delta = spv_get(b, number(c, x, i, true));
    spv_set(b, score[i], lse);
    if (c->m->backward && c->m->sum_a) spv_set(b, dp[i], delta);
  }
}

static void scores(Coop *c, int first, int n) {
  bool dp = c->m->backward && c->m->sum_a;
  for (int x = 0; x < n; x++) begin(c, first + x, c->score[x], c->dp[x]);
  for (int u = 0; u < c->a.units || (dp && u < c->b.units); u++)
    for (int x = 0; x < n; x++) {
      if (u < c->a.units) add_scores(c, &c->a, c->own_a, first + x, u, c->score[x]);
      if (dp && u < c->b.units) add_scores(c, &c->b, c->own_b, first + x, u, c->dp[x]);
    }
}

/* sum += weights · rows of fragment x of the block */
static void add_rows(Coop *c, const CoopSide *s, int x, const SpvId *weight,
                     SpvId (*sum)[MAX_UNITS], int units) {
  SpvId left[MAX_FRAGMENTS];
  coop_as_factors(c, weight, left);
  for (int u = 0; u < units; u++) {
    SpvId y = streamed(c, s, x * c->unit, u, false);
    for (int i = 0; i < c->tile.fragments; i++) add_product(c, sum[i][u], left[i], y);
  }
}

/* ---- weights ---- */

/* scale · product, capped, as an exponent of 2. *slope: d score / d (scale · product), 0: 1 */
static SpvId bend(Coop *c, SpvId x, SpvId *slope) {
  Kernel *k = c->m->k;
  const AttentionAttr *a = &c->m->a;
  *slope = 0;
  x = math_mul_c(k, x, (float)a->scale);
  if (a->cap <= 0) return math_mul_c(k, x, (float)M_LOG2E);
  SpvId one = const_f(k, 1), bent = div_f(k, x, const_f(k, (float)a->cap));
  bent = math_tanh(k, bent);
  *slope = sub_f(k, one, mul_f(k, bent, bent));
  return math_mul_c(k, bent, (float)(a->cap * M_LOG2E));
}

static SpvId exp2_f(Kernel *k, SpvId x) { return spv_glsl(k->b, GLSLstd450Exp2, x); }
static SpvId max_f(Kernel *k, SpvId x, SpvId y) { return spv_glsl_2(k->b, GLSLstd450FMax, x, y); }
static SpvId min_f(Kernel *k, SpvId x, SpvId y) { return spv_glsl_2(k->b, GLSLstd450FMin, x, y); }

/* o and the totals decay to the new maxima of the rows. */
static void raise_maxima(Coop *c, const SpvId *largest) {
  Kernel *k = c->m->k;
  SpvId row[MAX_FRAGMENTS] = {0}, decay = spv_local(k->b, c->sum);
  coop_reduce_rows(c, largest, false, row);
  for (int i = 0; i < c->tile.fragments; i++) {
    SpvId e = coop_elements(c);
    SpvId before = coop_get(c, c->most[i], e);
    SpvId now = math_mul_c(k, coop_get(c, row[i], e), -c->factor);
    now = min_f(k, before, now);
    coop_set(c, c->most[i], e, now);
    before = exp2_f(k, sub_f(k, now, before));
    coop_set(c, decay, e, before);
    spv_end(k->b);
    SpvId by = spv_get(k->b, decay);
    SpvId total = spv_get(k->b, c->total[i]);
    spv_set(k->b, c->total[i], mul_f(k, total, by));
    for (int u = 0; u < c->b_sums && c->m->sum_b; u++) {
      SpvId sum = spv_get(k->b, c->b_sum[i][u]);
      spv_set(k->b, c->b_sum[i][u], mul_f(k, sum, by));
    }
  }
}

/* The maximum of a row is taken anew only where a weight would be more than 2^SLACK: seldom, after the first block. Until
 * then the weights are as exact as with the true one. */
static void find_maxima(Coop *c, int n) {
  Kernel *k = c->m->k;
  SpvId largest[MAX_FRAGMENTS], worst = spv_local(k->b, spv_f32(k->b));
  SpvId never = const_f(k, -INFINITY);
  spv_set(k->b, worst, never);
  for (int i = 0; i < c->tile.fragments; i++) {
    largest[i] = spv_local(k->b, c->sum);
    SpvId e = coop_elements(c);
    SpvId x = coop_get(c, c->score[0][i], e);
    for (int s = 1; s < n; s++) x = max_f(k, x, coop_get(c, c->score[s][i], e));
    coop_set(c, largest[i], e, x);
    SpvId by = const_f(k, c->factor);
    x = spv_fma(k->b, x, by, coop_get(c, c->most[i], e));
    x = max_f(k, x, spv_get(k->b, worst));
    spv_set(k->b, worst, x);
    spv_end(k->b);
  }
  SpvId high = const_f(k, SLACK);
  high = spv_cmp(k->b, SpvOpFOrdGreaterThan, spv_get(k->b, worst), high);
  spv_if(k->b, spv_any(k->b, high));
  raise_maxima(c, largest);
  spv_end(k->b);
}

static void forward_weights(Coop *c, SpvId first, int from, int n, SpvId some) {
  Kernel *k = c->m->k;
  SpvId slope;
  for (int x = 0; x < n && c->bends; x++)
    for (int i = 0; i < c->tile.fragments; i++) {
      SpvId e = coop_elements(c);
      SpvId s = bend(c, coop_get(c, c->score[x][i], e), &slope);
      coop_set(c, c->score[x][i], e, s);
      spv_end(k->b);
    }
  coop_hide(c, first, from, n, some, -INFINITY);
  find_maxima(c, n);
  for (int i = 0; i < c->tile.fragments; i++)
    for (int x = 0; x < n; x++) {
      SpvId e = coop_elements(c), by = const_f(k, c->factor);
      SpvId s = coop_get(c, c->score[x][i], e);
      s = spv_fma(k->b, s, by, coop_get(c, c->most[i], e));
      coop_set(c, c->score[x][i], e, exp2_f(k, s));
      spv_end(k->b);
      SpvId total = spv_get(k->b, c->total[i]);
      spv_set(k->b, c->total[i], add_f(k, total, spv_get(k->b, c->score[x][i])));
    }
  coop_times_keep(c, first, from, n, false);
}

/* p = 2^(score − lse) to score, ds = p·(keep·dp − delta)·slope to dp; what the products began at is in them. */
static void backward_weights(Coop *c, SpvId first, int from, int n, SpvId some) {
  Kernel *k = c->m->k;
  SpvId lse = 0, delta = 0, slope = 0;
  SpvId slopes[COOP_MAX_STEP][MAX_FRAGMENTS], unkept[COOP_MAX_STEP][MAX_FRAGMENTS];
  bool capped = c->m->a.cap > 0, kept = c->m->a.keep && c->m->sum_a;
  for (int x = 0; x < n; x++)
    for (int i = 0; i < c->tile.fragments; i++) {
      if (!c->at_lse && has_numbers(c, i)) lse = number(c, from + x, i, false);
      if (capped) slopes[x][i] = spv_local(k->b, c->sum);
      SpvId e = coop_elements(c);
      SpvId s = coop_get(c, c->score[x][i], e);
      if (c->bends) s = bend(c, s, &slope);
      if (capped) coop_set(c, slopes[x][i], e, slope);
      s = c->at_lse ? math_mul_c(k, s, c->factor) : add_f(k, s, coop_get(c, lse, e));
      coop_set(c, c->score[x][i], e, exp2_f(k, s));
      spv_end(k->b);
    }
  coop_hide(c, first, from, n, some, 0);
  for (int x = 0; x < n && kept; x++)
    for (int i = 0; i < c->tile.fragments; i++) {
      unkept[x][i] = spv_local(k->b, c->sum);
      SpvId p = spv_get(k->b, c->score[x][i]);
      spv_set(k->b, unkept[x][i], p);
    }
  coop_times_keep(c, first, from, n, c->m->sum_a);
  for (int x = 0; x < n && c->m->sum_a; x++)
    for (int i = 0; i < c->tile.fragments; i++) {
      if (!c->at_delta && has_numbers(c, i)) delta = number(c, from + x, i, true);
      SpvId e = coop_elements(c);
      SpvId ds = coop_get(c, c->dp[x][i], e);
      if (!c->at_delta) ds = add_f(k, ds, coop_get(c, delta, e));
      ds = mul_f(k, ds, coop_get(c, kept ? unkept[x][i] : c->score[x][i], e));
      if (capped) ds = mul_f(k, ds, coop_get(c, slopes[x][i], e));
      coop_set(c, c->dp[x][i], e, ds);
      spv_end(k->b);
    }
}

/* ---- the block ---- */

static void unless(Coop *c, SpvId nothing) {
  Spv *b = c->m->k->b;
  if (nothing) spv_if(b, spv_un(b, SpvOpLogicalNot, nothing));
}

/* A team's partial scores become whole: between its members there are barriers of the workgroup, which all its subgroups
 * reach, those too that see nothing of the block. */
static void meet(Coop *c, int n, SpvId nothing) {
  Spv *b = c->m->k->b;
  for (int distance = 1; distance < c->tile.team; distance *= 2) {
    coop_send(c, n);
    if (nothing) spv_end(b);
    spv_barrier(b);
    unless(c, nothing);
    coop_receive(c, n, distance);
  }
}

static void step(Coop *c, SpvId first, int from, int n, SpvId nothing, SpvId some) {
  Attention *m = c->m;
  scores(c, from, n);
  meet(c, n, nothing);
  if (m->backward)
    backward_weights(c, first, from, n, some);
  else
    forward_weights(c, first, from, n, some);
  for (int x = 0; x < n; x++) {
    if (m->sum_b) add_rows(c, &c->b, from + x, c->score[x], c->b_sum, c->b_sums);
    if (m->sum_a) add_rows(c, &c->a, from + x, c->dp[x], c->a_sum, c->a_sums);
  }
}

void coop_block(Coop *c, SpvId first) {
  Kernel *k = c->m->k;
  int all = c->tile.block / c->unit;
  SpvId nothing = coop_hidden(c, first, true), some = coop_hidden(c, first, false);
  c->n_meeting = 0;
  unless(c, nothing);
  for (int x = 0; x < all; x += c->tile.step)
    step(c, first, x, all - x < c->tile.step ? all - x : c->tile.step, nothing, some);
  if (nothing) spv_end(k->b);
}
