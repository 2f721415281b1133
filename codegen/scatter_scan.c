/* scatter_add where subgroups of at most 32 lanes shuffle: a row's ids are found by scanning them all, many at a time, and only
 * rows of x that are named are read. A lane keeps four (or one) columns of several units; sums are in order of the ids.
 *
 *   ids  │ lane 0 … S−1 │ 0 … S−1 │ …     per block of B · S ids: each lane compares B of its own; where any is the row, the
 *        └─ B of these: a block ─┘        lanes' findings become a mask by shuffles, S ids at a time, whose set bits, lowest
 *                                         first, are the rows of x to add
 *
 * Two or four rows of x are loaded before they are added, since each such load waits for memory. On a GPU
 *   a table of many rows   a subgroup has R rows and first finds out with one scan which of them any id names: most are not
 *   a table of few rows    P subgroups have a row: every one scans a part of the ids, and the parts' sums are added in order
 *                          through workgroup memory */
#include "codegen/scatter.h"

enum {
  LOCAL = 64,
  MANY_ROWS = 16,           /* R */
  MOST_PARTS = 8,           /* P */
  MANY_SUBGROUPS = 1 << 16, /* no more parts than these */
  MOST_TURNS = 6,           /* units of columns that a lane keeps in one scan */
  MOST_IDS = 8,             /* B */
  MOST_LOADS = 4,
  LONGEST =
    50000 /* iterations on a CPU driver: Mesa 22.3 ends an invocation silently after 65,535 */
};

typedef struct Scan {
  Scatter *s;
  uint32_t lanes, parts, rows; /* S, P, R */
  int ids;                     /* B */
  int64_t units, blocks;       /* of columns; of ids, for each part */
  SpvId lane, part, v;
  SpvId first;      /* of this scan: its first unit of columns … */
  int turns, loads; /* … and how many times S; rows of x loaded at once */
  SpvId unit[MOST_TURNS], sum[MOST_TURNS][4], rest[MOST_TURNS][4];
  SpvId present; /* a variable: bit r where an id names row v + r */
  SpvId shared;  /* P · columns sums */
} Scan;

static int64_t turns_of(const Scan *w) { return (w->units + w->lanes - 1) / w->lanes; }
static int64_t scans_of(const Scan *w) { return (turns_of(w) + MOST_TURNS - 1) / MOST_TURNS; }
static void choose_sizes(Scan *w) {
  const Scatter *s = w->s;
  const Target *t = s->k->target;
  w->lanes = t->subgroup_size;
  w->units = s->columns / s->width;
  w->parts = t->is_cpu ? 1 : MOST_PARTS;
  while (w->parts > 1 &&
         (s->rows * w->parts > MANY_SUBGROUPS || w->parts * (int64_t)w->lanes > s->n_id ||
          w->parts * w->lanes > t->max_invocations || w->parts * s->columns * 4 > t->shared_bytes))
    w->parts /= 2;
  w->ids = 1;
  while (w->ids < MOST_IDS && s->n_id >= 8 * (int64_t)w->ids * w->lanes * w->parts) w->ids *= 2;
  w->rows = t->is_cpu || w->parts > 1 || s->rows < MANY_SUBGROUPS / 4 ? 1 : MANY_ROWS;
  int64_t block = w->ids * (int64_t)w->lanes * w->parts;
  w->blocks = (s->n_id + block - 1) / block;
}

bool scatter_can_scan(const Scatter *s) {
  const Target *t = s->k->target;
  if (!t->subgroup_shuffle || t->subgroup_size < 4 || t->subgroup_size > 32 ||
      t->subgroup_size > t->max_invocations)
    return false;
  Scan w = {.s = (Scatter *)s};
  choose_sizes(&w);
  return !t->is_cpu || scans_of(&w) * (s->n_id / 2 + 2 * w.ids * w.blocks) < LONGEST;
}

/* The bitwise or over the subgroup, in every lane. */
static SpvId or_all(const Scan *w, SpvId x) {
  for (uint32_t i = 1; i < w->lanes; i *= 2) {
    SpvId other = spv_shuffle_xor(w->s->k->b, x, i);
    x = spv_bin(w->s->k->b, SpvOpBitwiseOr, x, other);
  }
  return x;
}

/* Adds the rows of x that the next bits of *mask stand for; bit 0 is row `base`. At least one is set. */
static void add_next(Scan *w, SpvId base, SpvId mask) {
  Scatter *s = w->s;
  Kernel *k = s->k;
  Spv *b = k->b;
  SpvId zero = const_u(k, 0), nothing = expr_const(k, s->type, 0), left = spv_get(b, mask);
  SpvId row[MOST_LOADS], valid[MOST_LOADS], x[MOST_LOADS][MOST_TURNS][4];
  for (int q = 0; q < w->loads; q++) {
    SpvId bit = spv_glsl(b, GLSLstd450FindILsb, left);
    row[q] = spv_bin(b, SpvOpIAdd, base, bit);
    valid[q] = spv_cmp(b, SpvOpINotEqual, left, zero);
    if (q) row[q] = choose(k, valid[q], row[q], row[0]);
    SpvId below = op_u(k, SpvOpISub, left, 1);
    left = spv_bin(b, SpvOpBitwiseAnd, left, below);
  }
  spv_set(b, mask, left);
  for (int q = 0; q < w->loads; q++)
    for (int t = 0; t < w->turns; t++) {
      const Ix *first = ix_mul(k->ix, ix_value(k->ix, row[q], s->n_id), s->columns);
      first = ix_add(k->ix, first, ix_mul(k->ix, ix_value(k->ix, w->unit[t], w->units), s->width));
      for (int c = 0; c < s->width; c++)
        x[q][t][c] = expr_at(k, s->x, ix_add(k->ix, first, ix_const(k->ix, c)));
    }
  for (int q = 0; q < w->loads; q++)
    for (int t = 0; t < w->turns; t++)
      for (int c = 0; c < s->width; c++) {
        SpvId value = q ? choose(k, valid[q], x[q][t][c], nothing) : x[q][t][c];
        scatter_add_to(s, w->sum[t][c], w->rest[t][c], value);
      }
}

/* Id number base + lane; *exists, where given: 0 where all lanes have one. */
static SpvId id_at(Scan *w, SpvId base, SpvId *exists) {
  Scatter *s = w->s;
  Kernel *k = s->k;
  SpvId at = spv_bin(k->b, SpvOpIAdd, base, w->lane);
  *exists = 0;
  if (w->blocks * w->ids * w->lanes * w->parts != s->n_id) {
    SpvId n = const_u(k, (uint32_t)s->n_id), zero = const_u(k, 0);
    *exists = spv_cmp(k->b, SpvOpULessThan, at, n);
    at = choose(k, *exists, at, zero);
  }
  return expr_at(k, s->ids, ix_value(k->ix, at, s->n_id));
}

/* This lane's bit where its id of those from base on is v, else 0. */
static SpvId look(Scan *w, SpvId base) {
  Kernel *k = w->s->k;
  SpvId exists, id = id_at(w, base, &exists), zero = const_u(k, 0), one = const_u(k, 1);
  SpvId named = spv_cmp(k->b, SpvOpIEqual, id, w->v);
  if (exists) named = both(k, named, exists);
  SpvId bit = spv_bin(k->b, SpvOpShiftLeftLogical, one, w->lane);
  return choose(k, named, bit, zero);
}

/* The first id of a block of this part, and of the i-th S of them. */
static SpvId block_start(Scan *w, SpvId number) {
  Kernel *k = w->s->k;
  if (w->parts > 1) {
    SpvId before = op_u(k, SpvOpIMul, w->part, (uint32_t)w->blocks);
    number = spv_bin(k->b, SpvOpIAdd, number, before);
  }
  return op_u(k, SpvOpIMul, number, (uint32_t)w->ids * w->lanes);
}

static SpvId within_block(Scan *w, SpvId start, uint32_t i) {
  return i ? op_u(w->s->k, SpvOpIAdd, start, i * w->lanes) : start;
}

static void scan_block(void *context, SpvId number) {
  Scan *w = context;
  Kernel *k = w->s->k;
  Spv *b = k->b;
  SpvId start = block_start(w, number), any = 0, zero = const_u(k, 0);
  for (int i = 0; i < w->ids; i++) {
    SpvId mine = look(w, within_block(w, start, (uint32_t)i));
    any = any ? spv_bin(b, SpvOpBitwiseOr, any, mine) : mine;
  }
  any = or_all(w, any);
  SpvId found = spv_cmp(b, SpvOpINotEqual, any, zero);
  spv_if(b, found);
  SpvId mask = spv_local(b, spv_u32(b)), times = const_u(k, (uint32_t)w->ids);
  SpvId i = spv_for(b, times);
  SpvId base = op_u(k, SpvOpIMul, i, w->lanes);
  base = spv_bin(b, SpvOpIAdd, start, base);
  SpvId all = or_all(w, look(w, base));
  spv_set(b, mask, all);
  SpvId n = spv_un(b, SpvOpBitCount, all);
  n = op_u(k, SpvOpIAdd, n, (uint32_t)w->loads - 1);
  n = op_u(k, SpvOpUDiv, n, (uint32_t)w->loads);
  spv_for(b, n);
  add_next(w, base, mask);
  spv_end(b);
  spv_end(b);
  spv_end(b);
}

/* Bits of the rows v … v + R − 1 that ids of the block name. */
static void search_block(void *context, SpvId number) {
  Scan *w = context;
  Kernel *k = w->s->k;
  Spv *b = k->b;
  SpvId start = block_start(w, number), rows = const_u(k, w->rows), zero = const_u(k, 0);
  SpvId one = const_u(k, 1), found = spv_get(b, w->present);
  for (int i = 0; i < w->ids; i++) {
    SpvId exists, id = id_at(w, within_block(w, start, (uint32_t)i), &exists);
    SpvId row = spv_bin(b, SpvOpISub, id, w->v);
    SpvId named = spv_cmp(b, SpvOpULessThan, row, rows);
    if (exists) named = both(k, named, exists);
    SpvId bit = spv_bin(b, SpvOpShiftLeftLogical, one, choose(k, named, row, zero));
    bit = choose(k, named, bit, zero);
    found = spv_bin(b, SpvOpBitwiseOr, found, bit);
  }
  spv_set(b, w->present, found);
}

static void search(Scan *w) {
  Kernel *k = w->s->k;
  SpvId zero = const_u(k, 0), n = const_u(k, (uint32_t)w->blocks);
  w->present = spv_local(k->b, spv_u32(k->b));
  spv_set(k->b, w->present, zero);
  kernel_repeat(k, n, w->blocks, 1, search_block, w);
  SpvId mine = spv_get(k->b, w->present);
  spv_set(k->b, w->present, or_all(w, mine));
}

static SpvId unit_of(Scan *w, int turn) {
  SpvId unit = op_u(w->s->k, SpvOpIAdd, w->lane, (uint32_t)turn * w->lanes);
  return spv_bin(w->s->k->b, SpvOpIAdd, w->first, unit);
}

static void make_sums(Scan *w) {
  Scatter *s = w->s;
  SpvId type = s->type == DT_i32 ? spv_u32(s->k->b) : spv_f32(s->k->b);
  for (int t = 0; t < w->turns; t++)
    for (int c = 0; c < s->width; c++) {
      w->sum[t][c] = spv_local(s->k->b, type);
      w->rest[t][c] = spv_local(s->k->b, type);
    }
}

/* Sums of this part's ids, of units `first` …; of none where `named`, if given, does not hold. */
static void scan(Scan *w, SpvId named) {
  Scatter *s = w->s;
  Kernel *k = s->k;
  SpvId zero = expr_const(k, s->type, 0);
  for (int t = 0; t < w->turns; t++) {
    SpvId unit = unit_of(w, t), last = const_u(k, (uint32_t)w->units - 1);
    SpvId past = spv_cmp(k->b, SpvOpUGreaterThan, unit, last);
    w->unit[t] = choose(k, past, last, unit);
    for (int c = 0; c < s->width; c++) {
      spv_set(k->b, w->sum[t][c], zero);
      spv_set(k->b, w->rest[t][c], zero);
    }
  }
  if (named) spv_if(k->b, named);
  SpvId n = const_u(k, (uint32_t)w->blocks);
  kernel_repeat(k, n, w->blocks, scans_of(w), scan_block, w);
  if (named) spv_end(k->b);
}

/* Opens a scope for what exists: a unit of columns, given that the row does. */
static void if_exists(const Scan *w, SpvId unit, SpvId row_exists) {
  Kernel *k = w->s->k;
  SpvId n = const_u(k, (uint32_t)w->units);
  SpvId exists = spv_cmp(k->b, SpvOpULessThan, unit, n);
  exists = both(k, exists, row_exists);
  spv_if(k->b, exists);
}

static void store_sums(Scan *w, SpvId row_exists) {
  Scatter *s = w->s;
  for (int t = 0; t < w->turns; t++) {
    SpvId unit = unit_of(w, t), value[4];
    if_exists(w, unit, row_exists);
    for (int c = 0; c < s->width; c++) value[c] = scatter_total(s, w->sum[t][c], w->rest[t][c]);
    scatter_store(s, w->v, unit, value);
    spv_end(s->k->b);
  }
}

/* Where the part's sum of a column lies in workgroup memory. */
static SpvId shared_at(const Scan *w, SpvId part, SpvId unit, int c) {
  Kernel *k = w->s->k;
  SpvId at = op_u(k, SpvOpIMul, part, (uint32_t)w->s->columns);
  SpvId column = op_u(k, SpvOpIMul, unit, (uint32_t)w->s->width);
  at = spv_bin(k->b, SpvOpIAdd, at, column);
  at = op_u(k, SpvOpIAdd, at, (uint32_t)c);
  return spv_at(k->b, w->shared, at);
}

static void share_sums(Scan *w) {
  Scatter *s = w->s;
  Spv *b = s->k->b;
  for (int t = 0; t < w->turns; t++) {
    SpvId unit = unit_of(w, t);
    SpvId yes = spv_b(b, true);
    if_exists(w, unit, yes);
    for (int c = 0; c < s->width; c++) {
      SpvId sum = spv_get(b, w->sum[t][c]);
      SpvId rest = spv_get(b, w->rest[t][c]);
      if (s->type != DT_i32) sum = xadd(s->k, sum, rest);
      spv_set(b, shared_at(w, w->part, unit, c), sum);
    }
    spv_end(b);
  }
}

/* All invocations of the workgroup add up the parts, in order. */
static void store_shared(Scan *w, SpvId row_exists) {
  Scatter *s = w->s;
  Kernel *k = s->k;
  Spv *b = k->b;
  uint32_t members = w->parts * w->lanes;
  SpvId member = kernel_lane(k, 0), value[4];
  spv_barrier(b);
  for (uint32_t first = 0; first < w->units; first += members) {
    SpvId unit = op_u(k, SpvOpIAdd, member, first);
    if_exists(w, unit, row_exists);
    for (int c = 0; c < s->width; c++) {
      value[c] = 0;
      for (uint32_t p = 0; p < w->parts; p++) {
        SpvId part = const_u(k, p);
        SpvId sum = spv_get(b, shared_at(w, part, unit, c));
        SpvOp add = s->type == DT_i32 ? SpvOpIAdd : SpvOpFAdd;
        value[c] = p ? spv_bin(b, add, value[c], sum) : sum;
      }
      value[c] = math_round(k, s->type, value[c]);
    }
    scatter_store(s, w->v, unit, value);
    spv_end(b);
  }
}

/* Row v, as far as this subgroup has to do with it. */
static void do_row(Scan *w, SpvId exists, SpvId named) {
  Kernel *k = w->s->k;
  SpvId scans = const_u(k, (uint32_t)scans_of(w));
  SpvId i = spv_for(k->b, scans);
  w->first = op_u(k, SpvOpIMul, i, MOST_TURNS * w->lanes);
  scan(w, named);
  if (w->parts > 1)
    share_sums(w);
  else
    store_sums(w, exists);
  spv_end(k->b);
  if (w->parts > 1) store_shared(w, exists);
}

/* Rows v … v + R − 1, after finding which of them are named. */
static void do_rows(Scan *w) {
  Kernel *k = w->s->k;
  Spv *b = k->b;
  search(w);
  SpvId start = w->v, n = const_u(k, w->rows), one = const_u(k, 1), zero = const_u(k, 0);
  SpvId r = spv_for(b, n);
  w->v = spv_bin(b, SpvOpIAdd, start, r);
  SpvId limit = const_u(k, (uint32_t)w->s->rows);
  SpvId exists = spv_cmp(b, SpvOpULessThan, w->v, limit);
  SpvId bit = spv_bin(b, SpvOpShiftLeftLogical, one, r);
  bit = spv_bin(b, SpvOpBitwiseAnd, spv_get(b, w->present), bit);
  SpvId named = spv_cmp(b, SpvOpINotEqual, bit, zero);
  do_row(w, exists, named);
  spv_end(b);
}

void scatter_scan(Scatter *s) {
  Kernel *k = s->k;
  Spv *b = k->b;
  Scan w = {.s = s};
  choose_sizes(&w);
  uint32_t subgroups = w.lanes >= LOCAL ? 1 : LOCAL / w.lanes; /* of a workgroup */
  if (w.parts > 1) subgroups = w.parts;
  uint32_t rows = w.parts > 1 ? 1 : subgroups * w.rows;
  k->out->subgroup_size = w.lanes;
  kernel_groups(k, (s->rows + rows - 1) / rows, subgroups * w.lanes);
  SpvId u32 = spv_u32(b);
  w.lane = spv_builtin(b, SpvBuiltInSubgroupLocalInvocationId, u32);
  w.part = spv_builtin(b, SpvBuiltInSubgroupId, u32);
  w.v = kernel_group(k);
  if (w.parts == 1) {
    w.v = op_u(k, SpvOpIMul, w.v, subgroups);
    w.v = spv_bin(b, SpvOpIAdd, w.v, w.part);
    w.v = op_u(k, SpvOpIMul, w.v, w.rows);
  }
  SpvId last = const_u(k, (uint32_t)s->rows - 1);
  SpvId exists = spv_cmp(b, SpvOpULessThanEqual, w.v, last);
  SpvId type = s->type == DT_i32 ? u32 : spv_f32(b);
  if (w.parts > 1) w.shared = spv_shared(b, spv_array(b, type, w.parts * (uint32_t)s->columns));
  w.turns = turns_of(&w) < MOST_TURNS ? (int)turns_of(&w) : MOST_TURNS;
  w.loads = w.turns <= MOST_TURNS / 2 ? MOST_LOADS : MOST_LOADS / 2;
  make_sums(&w);
  if (w.rows > 1) {
    do_rows(&w);
    return;
  }
  w.v = choose(k, exists, w.v, last);
  do_row(&w, exists, 0);
}
