/* Teams: the invocations that share the terms of an output, and how their partial results become
 * one. A team of one needs nothing; a subgroup shuffles; a tile of a workgroup has a tree in
 * workgroup memory, between barriers that all of its invocations reach. */
#include "codegen/reduce.h"

enum { LOCAL = 64 };

/* ---- begin and end ---- */

static void if_below(Reduce *r, SpvId x, int64_t n) {
  SpvId limit = spv_u(r->k->b, (uint32_t)n);
  SpvId within = spv_cmp(r->k->b, SpvOpULessThan, x, limit);
  spv_if(r->k->b, within);
}

static void begin_alone(Team *t, Reduce *r, int64_t units) {
  Spv *b = r->k->b;
  uint32_t n = LOCAL;
  while (r->k->target->is_cpu && n > 8 && units < 16 * n) n /= 2; /* work for every thread */
  kernel_groups(r->k, (units + n - 1) / n, n);
  t->unit = kernel_group(r->k);
  SpvId local = spv_u(b, n);
  t->unit = spv_bin(b, SpvOpIMul, t->unit, local);
  SpvId lane = kernel_lane(r->k, 0);
  t->unit = spv_bin(b, SpvOpIAdd, t->unit, lane);
  t->member = spv_u(b, 0);
  if_below(r, t->unit, units);
}

static void begin_subgroup(Team *t, Reduce *r, int64_t units) {
  Spv *b = r->k->b;
  uint32_t lanes = r->k->target->subgroup_size, local = lanes > LOCAL ? lanes : LOCAL;
  uint32_t rows = local / t->size;
  r->k->out->subgroup_size = lanes;
  kernel_groups(r->k, (units + rows - 1) / rows, local);
  SpvId u32 = spv_u32(b);
  t->member = spv_builtin(b, SpvBuiltInSubgroupLocalInvocationId, u32);
  SpvId subgroup = spv_builtin(b, SpvBuiltInSubgroupId, u32);
  t->unit = kernel_group(r->k);
  SpvId per_group = spv_u(b, rows);
  t->unit = spv_bin(b, SpvOpIMul, t->unit, per_group);
  if (lanes > t->size) { /* the subgroup's parts, one after the other */
    SpvId parts = spv_u(b, lanes / t->size), size = spv_u(b, t->size);
    SpvId part = spv_bin(b, SpvOpUDiv, t->member, size);
    t->member = spv_bin(b, SpvOpUMod, t->member, size);
    subgroup = spv_bin(b, SpvOpIMul, subgroup, parts);
    subgroup = spv_bin(b, SpvOpIAdd, subgroup, part);
  }
  t->unit = spv_bin(b, SpvOpIAdd, t->unit, subgroup);
  if_below(r, t->unit, units);
}

static void begin_group(Team *t, Reduce *r, int64_t units) {
  Spv *b = r->k->b;
  uint32_t lanes = r->k->target->subgroup_size;
  r->k->out->subgroup_size = lanes;
  kernel_groups(r->k, units, t->size);
  t->place = spv_builtin(b, SpvBuiltInSubgroupId, spv_u32(b));
  SpvId lane = spv_builtin(b, SpvBuiltInSubgroupLocalInvocationId, spv_u32(b));
  SpvId size = spv_u(b, lanes);
  t->member = spv_bin(b, SpvOpIMul, t->place, size);
  t->member = spv_bin(b, SpvOpIAdd, t->member, lane);
  SpvId unit = kernel_group(r->k), limit = spv_u(b, (uint32_t)units), zero = spv_u(b, 0);
  t->within = spv_cmp(b, SpvOpULessThan, unit, limit);
  t->unit = spv_select(b, t->within, unit, zero);
}

static void begin_tile(Team *t, Reduce *r, int64_t units) {
  Spv *b = r->k->b;
  kernel_groups(r->k, (units + t->across - 1) / t->across, t->across);
  r->k->out->local[1] = t->size;
  SpvId x = kernel_lane(r->k, 0);
  t->member = kernel_lane(r->k, 1);
  SpvId unit = kernel_group(r->k);
  SpvId width = spv_u(b, t->across);
  unit = spv_bin(b, SpvOpIMul, unit, width);
  unit = spv_bin(b, SpvOpIAdd, unit, x);
  SpvId row = spv_bin(b, SpvOpIMul, t->member, width);
  t->place = spv_bin(b, SpvOpIAdd, row, x);
  SpvId limit = spv_u(b, (uint32_t)units);
  t->within = spv_cmp(b, SpvOpULessThan, unit, limit);
  SpvId zero = spv_u(b, 0);
  t->unit = spv_select(b, t->within, unit, zero);
}

/* A workgroup shares a unit: all of its invocations must reach the barriers. */
static bool has_barriers(const Team *t) { return t->kind == TEAM_tile || t->kind == TEAM_group; }

void team_begin(Team *t, Reduce *r) {
  int64_t units = r->outputs / r->out_width;
  switch (t->kind) {
  case TEAM_alone: begin_alone(t, r, units); break;
  case TEAM_subgroup: begin_subgroup(t, r, units); break;
  case TEAM_group: begin_group(t, r, units); break;
  case TEAM_tile: begin_tile(t, r, units); break;
  }
}

void team_end(Team *t, Reduce *r) {
  if (!has_barriers(t)) spv_end(r->k->b);
}

void team_if_within(Team *t, Reduce *r) {
  if (has_barriers(t)) spv_if(r->k->b, t->within);
}

void team_end_within(Team *t, Reduce *r) {
  if (has_barriers(t)) spv_end(r->k->b);
}

void team_if_first(Team *t, Reduce *r) {
  Spv *b = r->k->b;
  if (t->kind == TEAM_alone) return;
  SpvId zero = spv_u(b, 0);
  SpvId first = spv_cmp(b, SpvOpIEqual, t->member, zero);
  if (has_barriers(t)) first = spv_bin(b, SpvOpLogicalAnd, first, t->within);
  spv_if(b, first);
}

void team_end_first(Team *t, Reduce *r) {
  if (t->kind != TEAM_alone) spv_end(r->k->b);
}

SpvId team_share(Team *t, Reduce *r, int64_t n) {
  Spv *b = r->k->b;
  if (t->size == 1) return spv_u(b, (uint32_t)n);
  SpvId total = spv_u(b, (uint32_t)(n + t->size - 1));
  total = spv_bin(b, SpvOpISub, total, t->member);
  SpvId by = spv_u(b, t->size);
  return spv_bin(b, SpvOpUDiv, total, by);
}

SpvId team_turn(Team *t, Reduce *r, SpvId i) {
  Spv *b = r->k->b;
  if (t->size == 1) return i;
  SpvId by = spv_u(b, t->size);
  SpvId unit = spv_bin(b, SpvOpIMul, i, by);
  return spv_bin(b, SpvOpIAdd, unit, t->member);
}

/* ---- subgroups ---- */

static Acc shuffled(Reduce *r, Acc a, bool by_xor, uint32_t lane_or_mask) {
  Spv *b = r->k->b;
  Acc s = {0};
  SpvId lane = by_xor ? 0 : spv_u(b, lane_or_mask);
  s.value = by_xor ? spv_shuffle_xor(b, a.value, lane_or_mask) : spv_shuffle(b, a.value, lane);
  if (a.index)
    s.index = by_xor ? spv_shuffle_xor(b, a.index, lane_or_mask) : spv_shuffle(b, a.index, lane);
  return s;
}

/* Every lane gets the combination of all. Constant lanes cost nothing on lavapipe; a butterfly is
 * short on a GPU. */
static Acc across_subgroup(Reduce *r, const Reduction *d, Acc a, uint32_t lanes) {
  if (!r->k->target->is_cpu || lanes > 16) {
    for (uint32_t mask = 1; mask < lanes; mask *= 2)
      a = acc_combine(r->k, d, a, shuffled(r, a, true, mask));
    return a;
  }
  Acc all[16];
  for (uint32_t i = 0; i < lanes; i++) all[i] = shuffled(r, a, false, i);
  for (uint32_t step = 1; step < lanes; step *= 2)
    for (uint32_t i = 0; i < lanes; i += 2 * step)
      all[i] = acc_combine(r->k, d, all[i], all[i + step]);
  return all[0];
}

/* ---- workgroup memory: 32-bit words of any type ---- */

static SpvId word_at(Team *t, Reduce *r, int i, SpvId place) {
  Spv *b = r->k->b;
  uint32_t words =
    t->kind == TEAM_group ? t->size / r->k->target->subgroup_size : t->across * t->size;
  if (!t->shared[i]) t->shared[i] = spv_shared(b, spv_array(b, spv_u32(b), words));
  return spv_at(b, t->shared[i], place);
}

static void write(Team *t, Reduce *r, int slot, SpvId place, Acc a) {
  Spv *b = r->k->b;
  SpvId word = spv_bitcast(b, spv_u32(b), a.value);
  SpvId at = word_at(t, r, 2 * slot, place);
  spv_set(b, at, word);
  if (!a.index) return;
  at = word_at(t, r, 2 * slot + 1, place);
  spv_set(b, at, a.index);
}

static Acc read(Team *t, Reduce *r, int slot, const Reduction *d, SpvId place) {
  Spv *b = r->k->b;
  Acc a = {0};
  SpvId at = word_at(t, r, 2 * slot, place);
  SpvId word = spv_get(b, at);
  a.value = spv_bitcast(b, kernel_element_type(r->k, d->type), word);
  if (!acc_has_index(d)) return a;
  at = word_at(t, r, 2 * slot + 1, place);
  a.index = spv_get(b, at);
  return a;
}

/* One step of the tree: partial results `distance` members away are added to the first ones. */
static void halve(Team *t, Reduce *r, int level, uint32_t distance) {
  Spv *b = r->k->b;
  spv_barrier(b);
  SpvId limit = spv_u(b, distance);
  SpvId active = spv_cmp(b, SpvOpULessThan, t->member, limit);
  spv_if(b, active);
  SpvId far = spv_u(b, distance * t->across);
  SpvId other = spv_bin(b, SpvOpIAdd, t->place, far);
  for (int i = 0, slot = 0; i < r->n; i++) {
    const Reduction *d = &r->of[i];
    for (int c = 0; d->level == level && c < r->out_width; c++, slot++) {
      Acc mine = read(t, r, slot, d, t->place);
      Acc more = read(t, r, slot, d, other);
      mine = acc_combine(r->k, d, mine, more);
      write(t, r, slot, t->place, mine);
    }
  }
  spv_end(b);
}

static void across_tile(Team *t, Reduce *r, int level, bool everywhere,
                        Acc (*result)[REDUCE_WIDTH]) {
  Spv *b = r->k->b;
  if (t->used) spv_barrier(b); /* results of the level before have been read */
  t->used = true;
  for (int i = 0, slot = 0; i < r->n; i++)
    for (int c = 0; r->of[i].level == level && c < r->out_width; c++)
      write(t, r, slot++, t->place, result[i][c]);
  for (uint32_t distance = t->size / 2; distance > 0; distance /= 2) halve(t, r, level, distance);
  SpvId from = t->place;
  if (everywhere) {
    spv_barrier(b);
    from = kernel_lane(r->k, 0);
  }
  for (int i = 0, slot = 0; i < r->n; i++)
    for (int c = 0; r->of[i].level == level && c < r->out_width; c++)
      result[i][c] = read(t, r, slot++, &r->of[i], from);
}

/* Each subgroup's result goes through workgroup memory; then every subgroup combines all of them. */
static void across_group(Team *t, Reduce *r, int level, Acc (*result)[REDUCE_WIDTH]) {
  Spv *b = r->k->b;
  uint32_t lanes = r->k->target->subgroup_size, n = t->size / lanes;
  SpvId lane = spv_builtin(b, SpvBuiltInSubgroupLocalInvocationId, spv_u32(b));
  if (t->used) spv_barrier(b); /* results of the level before have been read */
  t->used = true;
  for (int i = 0; i < r->n; i++)
    if (r->of[i].level == level) result[i][0] = across_subgroup(r, &r->of[i], result[i][0], lanes);
  SpvId first = spv_cmp(b, SpvOpIEqual, lane, spv_u(b, 0));
  spv_if(b, first);
  for (int i = 0, slot = 0; i < r->n; i++)
    if (r->of[i].level == level) write(t, r, slot++, t->place, result[i][0]);
  spv_end(b);
  spv_barrier(b);
  SpvId mask = spv_u(b, n - 1);
  SpvId from = spv_bin(b, SpvOpBitwiseAnd, lane, mask);
  for (int i = 0, slot = 0; i < r->n; i++) {
    if (r->of[i].level != level) continue;
    Acc part = read(t, r, slot++, &r->of[i], from);
    result[i][0] = across_subgroup(r, &r->of[i], part, n);
  }
}

void team_combine(Team *t, Reduce *r, int level, bool everywhere, Acc (*result)[REDUCE_WIDTH]) {
  if (t->kind == TEAM_tile) across_tile(t, r, level, everywhere, result);
  if (t->kind == TEAM_group) across_group(t, r, level, result);
  for (int i = 0; t->kind == TEAM_subgroup && i < r->n; i++)
    if (r->of[i].level == level)
      result[i][0] = across_subgroup(r, &r->of[i], result[i][0], t->size);
}
