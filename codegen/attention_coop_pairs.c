/* Pairs of own and streamed rows in attention on cooperative matrices: which see each other, and the factors of those
 * that are kept. An element's own place comes from matrices of numbers, so all of this is for the blocks that need it. */
#include "codegen/attention_coop.h"

typedef struct Place { /* of a fragment of scores */
  SpvId row, column;   /* of its first element: own, streamed */
  SpvId rows, columns; /* variables: the elements' offsets from it, f32 */
} Place;

static void begin_places(Coop *c, Place *p) {
  Kernel *k = c->m->k;
  SpvId first = coop_number(c, 0, const_u(k, 0));
  p->rows = spv_local(k->b, c->sum);
  p->columns = spv_local(k->b, c->sum);
  SpvId spread = coop_spread(c, first, true);
  spv_set(k->b, p->rows, spread);
  spread = coop_spread(c, first, false);
  spv_set(k->b, p->columns, spread);
}

static void place_at(Coop *c, Place *p, SpvId first, int x, int i) {
  Kernel *k = c->m->k;
  p->row = i ? op_u(k, SpvOpIAdd, c->own_row, (uint32_t)(i * c->rows)) : c->own_row;
  p->column = x ? op_u(k, SpvOpIAdd, first, (uint32_t)(x * c->unit)) : first;
}

/* The lowest and highest (streamed − own) that see each other; those that no rows reach do not count. */
static int64_t least(const Attention *m) { return m->to_keys ? -m->a.hi : m->a.lo; }
static int64_t most(const Attention *m) { return m->to_keys ? -m->a.lo : m->a.hi; }
static bool has_least(const Attention *m) { return least(m) > -m->own_rows; }
static bool has_most(const Attention *m) { return most(m) < m->stream_rows; }

static SpvId clamped(Coop *c, SpvId first, SpvId offset, int64_t rows) {
  Kernel *k = c->m->k;
  SpvId whole = spv_pure(k->b, SpvOpConvertFToU, spv_u32(k->b), offset);
  SpvId at = spv_bin(k->b, SpvOpIAdd, first, whole);
  SpvId last = const_u(k, (uint32_t)(rows - 1));
  return choose(k, spv_cmp(k->b, SpvOpULessThan, at, last), at, last);
}

/* The index of an element in mask and keep. */
static void pair_index(Coop *c, const Place *p, SpvId e, const Ix **index) {
  Attention *m = c->m;
  SpvId row = clamped(c, p->row, coop_get(c, p->rows, e), m->own_rows);
  SpvId column = clamped(c, p->column, coop_get(c, p->columns, e), m->stream_rows);
  const Ix *own = ix_value(m->k->ix, row, m->own_rows);
  const Ix *other = ix_value(m->k->ix, column, m->stream_rows);
  for (int i = 0; i < m->n_batch; i++) index[i] = m->batch[i];
  index[m->n_batch] = m->query_head;
  index[m->n_batch + 1] = m->to_keys ? other : own;
  index[m->n_batch + 2] = m->to_keys ? own : other;
}

static SpvId signed_f(Kernel *k, SpvId i) {
  return spv_pure(k->b, SpvOpConvertSToF, spv_f32(k->b), i);
}

/* limit − (first column − first row) */
static SpvId limit(Coop *c, const Place *p, int64_t of) {
  Kernel *k = c->m->k;
  SpvId between = spv_bin(k->b, SpvOpISub, p->row, p->column);
  return signed_f(k, op_u(k, SpvOpIAdd, between, (uint32_t)of));
}

/* Whether an element's rows see each other. */
static SpvId visible(Coop *c, const Place *p, SpvId e) {
  Attention *m = c->m;
  Kernel *k = m->k;
  SpvId test[4] = {0}, column = coop_get(c, p->columns, e);
  int n = 0;
  if (has_least(m) || has_most(m)) {
    SpvId distance = sub_f(k, column, coop_get(c, p->rows, e)), end;
    if (has_least(m)) {
      end = limit(c, p, least(m));
      test[n++] = spv_cmp(k->b, SpvOpFOrdGreaterThanEqual, distance, end);
    }
    if (has_most(m)) {
      end = limit(c, p, most(m));
      test[n++] = spv_cmp(k->b, SpvOpFOrdLessThanEqual, distance, end);
    }
  }
  if (m->edge) {
    SpvId left = spv_bin(k->b, SpvOpISub, const_u(k, (uint32_t)m->stream_rows), p->column);
    test[n++] = less_f(k, column, signed_f(k, left));
  }
  if (m->a.mask) {
    const Ix *index[IR_MAX_RANK];
    pair_index(c, p, e, index);
    test[n++] = expr_value(k, m->a.mask, index);
  }
  for (int t = 1; t < n; t++) test[0] = both(k, test[0], test[t]);
  return test[0];
}

static SpvId keep_at(Coop *c, const Place *p, SpvId e) {
  const Ix *index[IR_MAX_RANK];
  pair_index(c, p, e, index);
  return expr_value(c->m->k, c->m->a.keep, index);
}

SpvId coop_hidden(Coop *c, SpvId first, bool all) {
  Attention *m = c->m;
  Kernel *k = m->k;
  int rows = c->tile.fragments * c->rows, block = c->tile.block;
  SpvId between = spv_bin(k->b, SpvOpISub, first, c->own_row), any = 0; /* of the first ones */
  if (has_most(m)) { /* the smallest distance, the largest */
    int64_t d = all ? most(m) + rows - 1 : most(m) - block + 1;
    any = spv_cmp(k->b, SpvOpSGreaterThan, between, const_u(k, (uint32_t)d));
  }
  if (has_least(m)) {
    int64_t d = all ? least(m) - block + 1 : least(m) + rows - 1;
    SpvId below = spv_cmp(k->b, SpvOpSLessThan, between, const_u(k, (uint32_t)d));
    any = any ? either(k, any, below) : below;
  }
  if (m->edge && !all) {
    SpvId past =
      spv_cmp(k->b, SpvOpUGreaterThan, first, const_u(k, (uint32_t)(m->stream_rows - block)));
    if (m->stream_rows < block) past = spv_b(k->b, true);
    any = any ? either(k, any, past) : past;
  }
  return any;
}

void coop_hide(Coop *c, SpvId first, int from, int n, SpvId some, float value) {
  Kernel *k = c->m->k;
  Place p;
  if (!some && !c->m->a.mask) return;
  if (!c->m->a.mask) spv_if(k->b, some);
  begin_places(c, &p);
  for (int x = 0; x < n; x++)
    for (int i = 0; i < c->tile.fragments; i++) {
      place_at(c, &p, first, from + x, i);
      SpvId e = coop_elements(c);
      SpvId seen = visible(c, &p, e);
      SpvId s = coop_get(c, c->score[x][i], e);
      s = choose(k, seen, s, const_f(k, value));
      coop_set(c, c->score[x][i], e, s);
      spv_end(k->b);
    }
  if (!c->m->a.mask) spv_end(k->b);
}

void coop_times_keep(Coop *c, SpvId first, int from, int n, bool also) {
  Kernel *k = c->m->k;
  Place p;
  if (!c->m->a.keep) return;
  begin_places(c, &p);
  for (int x = 0; x < n; x++)
    for (int i = 0; i < c->tile.fragments; i++) {
      place_at(c, &p, first, from + x, i);
      SpvId e = coop_elements(c);
      SpvId keep = keep_at(c, &p, e);
      SpvId s = mul_f(k, coop_get(c, c->score[x][i], e), keep);
      coop_set(c, c->score[x][i], e, s);
      if (also) {
        s = mul_f(k, coop_get(c, c->dp[x][i], e), keep);
        coop_set(c, c->dp[x][i], e, s);
      }
      spv_end(k->b);
    }
}
