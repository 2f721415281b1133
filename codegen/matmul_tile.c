/* Which tile a cooperative-matrix product has: candidates that the target can run, and a model of their time, in operations that
 * a core could do meanwhile at its best.
 *
 *   tiles run in waves of `resident` workgroups on each core; a wave takes
 *     START + steps · max(LATENCY + part of a workgroup's operations, operations of all / efficiency)
 *   a last wave that leaves cores idle may have its tiles cut
 *
 * Efficiency falls with the loads for each product: of fragments, (r + c) / (r·c) for a subgroup's r × c fragments, and of the
 * tile, (m + n) / (m·n). The constants were measured on one GPU (132 cores, 2.4 TFLOP/s each);
 * `alphac tune` measures the candidates themselves.
 *
 * A small product beside others (both gradients of a layer) wants tiles of which a core can hold several, its own and theirs;
 * its time is reckoned by other constants, and what `alphac tune` measured of it alone does not count. */
#include "codegen/matmul_coop.h"

#include <math.h>
#include <string.h>

bool matmul_units(const Matmul *mm, const Target *t, TargetMatrix *units) {
  DType d = mm->a.type;
  if (d != mm->b.type || !dtype_is_16(d) || !t->storage16 || !t->subgroup_size) return false;
  *units = d == DT_bf16 ? t->matrix_bf16 : t->matrix_f16;
  return units->m && units->m % RUN == 0 && units->n % RUN == 0 && units->k % RUN == 0;
}

void matmul_coop_layout(Coop *c, const Matmul *mm, const Target *t, const MatmulTile *tile) {
  *c = (Coop){.mm = (Matmul *)mm,
              .tile = *tile,
              .type = mm->a.type,
              .subgroup_size = t->subgroup_size,
              .invocations = (uint32_t)(tile->subgroups_m * tile->subgroups_n) * t->subgroup_size};
  if (!matmul_units(mm, t, &c->shape)) die("codegen: a product without matrix units");
  c->parts_m = tile->m / tile->subgroups_m / (int)c->shape.m;
  c->parts_n = tile->n / tile->subgroups_n / (int)c->shape.n;
  int runs = matmul_coop_side_layout(c, &c->a, (Side *)&mm->a, false, 0);
  runs += matmul_coop_side_layout(c, &c->b, (Side *)&mm->b, true, runs);
  int results = matmul_coop_shared_runs(c);
  c->shared_runs = runs > results ? runs : results;
}

/* ---- what could serve ---- */

static const MatmulTile all[] = {
  {128, 128, 32, 2, 2, 8, 0, 0}, {128, 192, 64, 2, 4, 8, 0, 0}, {192, 128, 64, 4, 2, 8, 0, 0},
  {64, 128, 32, 1, 2, 8, 0, 0},  {128, 64, 32, 2, 1, 8, 0, 0},  {64, 64, 32, 2, 2, 8, 0, 0},
  {64, 64, 64, 2, 2, 8, 0, 0},   {32, 64, 64, 1, 2, 8, 0, 0},   {64, 32, 64, 2, 1, 8, 0, 0},
  {32, 32, 64, 2, 2, 8, 0, 0},   {32, 32, 32, 2, 2, 8, 0, 0},   {16, 64, 64, 1, 4, 8, 0, 0},
  {32, 64, 128, 2, 2, 8, 0, 0},  {64, 32, 128, 2, 2, 8, 0, 0},  {64, 64, 128, 2, 2, 8, 0, 0},
  {32, 32, 128, 2, 2, 8, 0, 0},  {32, 16, 32, 2, 1, 8, 0, 0},   {16, 16, 32, 1, 1, 8, 0, 0},
  {32, 64, 64, 2, 2, 8, 0, 0},   {64, 32, 64, 2, 2, 8, 0, 0},
};

/* Registers of an invocation for its share of the sums. */
static int sums(const MatmulTile *x, const Target *t) {
  return x->m / x->subgroups_m * (x->n / x->subgroups_n) / (int)t->subgroup_size;
}

/* Whether the target can run it. */
static bool fits(const Matmul *mm, const Target *t, const TargetMatrix *u, const MatmulTile *x) {
  enum { REGISTERS = 128 };
  int share_m = x->m / x->subgroups_m, share_n = x->n / x->subgroups_n;
  int subgroups = x->subgroups_m * x->subgroups_n;
  if (share_m % (int)u->m || share_n % (int)u->n || x->k % (int)u->k ||
      share_m / (int)u->m > MAX_PARTS || share_n / (int)u->n > MAX_PARTS ||
      sums(x, t) > REGISTERS || (uint32_t)subgroups * t->subgroup_size > t->max_invocations)
    return false;
  Coop c;
  matmul_coop_layout(&c, mm, t, x);
  return c.a.each <= MAX_RUNS && c.b.each <= MAX_RUNS &&
         (uint32_t)c.shared_runs * 16 <= t->shared_bytes;
}

/* ---- how long it takes ---- */

int matmul_coop_resident(const Coop *c, const Target *t) {
  enum {
    REGISTERS = 1 << 16, /* of a core */
    OTHERS = 96,         /* beside the sums */
    SPARE = 2 << 10,     /* bytes that a core has beyond what one workgroup may ask for */
    OWN = 1 << 10        /* that a workgroup takes beyond what it asks for */
  };
  const MatmulTile *x = &c->tile;
  int by_memory = ((int)t->shared_bytes + SPARE) / (16 * c->shared_runs + OWN);
  int subgroups = REGISTERS / ((sums(x, t) + OTHERS) * (int)t->subgroup_size);
  int by_registers = subgroups / (x->subgroups_m * x->subgroups_n);
  int n = by_memory < by_registers ? by_memory : by_registers;
  return n > 1 ? n : 1;
}

static int resident(const Matmul *mm, const Target *t, const MatmulTile *x) {
  Coop c;
  matmul_coop_layout(&c, mm, t, x);
  return matmul_coop_resident(&c, t);
}

static const double START = 3.6e6;

static double efficiency(const Matmul *mm, const TargetMatrix *u, const MatmulTile *x) {
  double r = x->m / x->subgroups_m / (int)u->m, c = x->n / x->subgroups_n / (int)u->n;
  double traffic = 64.0 * (x->m + x->n) / ((double)x->m * x->n);
  double e = 1 / (0.3 + 0.2 * (r + c) / (r * c) + 0.6 * traffic);
  enum { SHORT = 64 /* terms: then lines of tiles along k are short */, MANY = 4 /* subgroups */ };
  if (x->k < SHORT) e *= (mm->a.unit_k ? 0.95 : 1) * (mm->b.unit_k ? 0.95 : 1);
  return x->subgroups_m * x->subgroups_n > MANY ? 0.96 * e : e;
}

/* Of `each` workgroups on a core that could have `most`. */
static double step_time(double work, int each, int most) {
  const double LATENCY = 6e5, EXPOSED = 0.25,
               ALONE = 0.6 /* of a core's rate, for one of several */;
  double rate = most == 1 ? 1 : ALONE + (1 - ALONE) * (each - 1) / (most - 1);
  double busy = work * each / rate, waiting = LATENCY + EXPOSED * work;
  return busy > waiting ? busy : waiting;
}

static double tiles_of(const Matmul *mm, const MatmulTile *x) {
  return (double)((mm->m + x->m - 1) / x->m) * (double)((mm->n + x->n - 1) / x->n) *
         (double)mm->batches;
}

/* Of a tile's step. */
static double work_of(const Matmul *mm, const TargetMatrix *u, const MatmulTile *x) {
  return 2.0 * x->m * x->n * x->k / efficiency(mm, u, x);
}

static double steps_of(const Matmul *mm, const MatmulTile *x) {
  return (double)((mm->kk + x->k - 1) / x->k);
}

/* Of all whole waves, and of `tiles` that are none; `most` tiles fill a core. */
static double time_of_waves(const Matmul *mm, const TargetMatrix *u, const MatmulTile *x, int most,
                            double waves) {
  double step = step_time(work_of(mm, u, x), most, most);
  return waves * (START / 4 + steps_of(mm, x) * step); /* they overlap */
}

static double time_of_last(const Matmul *mm, const TargetMatrix *u, const MatmulTile *x, int most,
                           double tiles, double cores) {
  return START + steps_of(mm, x) * step_time(work_of(mm, u, x), (int)ceil(tiles / cores), most);
}

static MatmulTile piece_of(const MatmulTile *x) {
  MatmulTile piece = *x;
  piece.m /= x->cut_m;
  piece.n /= x->cut_n;
  piece.cut_m = piece.cut_n = 0;
  return piece;
}

static double time_of(const Matmul *mm, const Target *t, const TargetMatrix *u,
                      const MatmulTile *x) {
  const double CUT = 66e6; /* a loop of its own, begun anew */
  double cores = t->cores ? t->cores : 32, tiles = tiles_of(mm, x);
  int most = resident(mm, t, x);
  double waves = floor(tiles / (cores * most)), left = tiles - waves * cores * most;
  double time = time_of_waves(mm, u, x, most, waves);
  if (left > 0 && x->cut_m) {
    MatmulTile piece = piece_of(x);
    time += CUT + time_of_last(mm, u, &piece, most, left * x->cut_m * x->cut_n, cores);
  } else if (left > 0)
    time += time_of_last(mm, u, x, most, left, cores);
  return time;
}

/* Whether a last wave has so few tiles that the device has room for all pieces; not beside others, which fill it. */
static bool can_cut(const Matmul *mm, const Target *t, const TargetMatrix *u, const MatmulTile *x) {
  if (!t->cores || mm->beside || x->m % x->cut_m || x->n % x->cut_n) return false;
  int64_t at_once = (int64_t)t->cores * resident(mm, t, x), tiles = (int64_t)tiles_of(mm, x);
  MatmulTile piece = piece_of(x);
  int64_t left = tiles % at_once;
  return tiles > at_once && left && left * x->cut_m * x->cut_n <= at_once && fits(mm, t, u, &piece);
}

int matmul_coop_pieces(const MatmulTile *x, MatmulTile *piece) {
  *piece = x->cut_m ? piece_of(x) : *x;
  return x->cut_m ? x->cut_m * x->cut_n : 1;
}

/* Of one that begins before others about as large: they fill the cores that it leaves, so that waves need not be whole, but its
 * workgroups must not outlast both. */
static double time_filled(const Matmul *mm, const Target *t, const TargetMatrix *u,
                          const MatmulTile *x) {
  double cores = t->cores ? t->cores : 32, steps = steps_of(mm, x), tiles = tiles_of(mm, x);
  double work = work_of(mm, u, x);
  int most = resident(mm, t, x);
  double all = tiles / (cores * most) * (START / 4 + steps * step_time(work, most, most));
  double one = START + steps * step_time(work, 1, most);
  return fmax(all, one / 2);
}

/* Of one that leaves a device half idle while others run beside it: there must be room for all. */
static double time_beside(const Matmul *mm, const Target *t, const TargetMatrix *u,
                          const MatmulTile *x) {
  const double LATENCY = 6e5, EXPOSED = 0.25, ELEMENT = 5e4 /* of an invocation's results */,
               ROOM = 1.25 /* not all of them run all the time */;
  double cores = t->cores ? t->cores : 32, steps = steps_of(mm, x), tiles = tiles_of(mm, x);
  double work = work_of(mm, u, x), waiting = LATENCY + EXPOSED * work;
  double busy = work * ceil(tiles / cores);
  double time = START + ELEMENT * sums(x, t) + steps * (busy > waiting ? busy : waiting);
  double crowd = (1 + mm->beside) * tiles / (ROOM * cores * resident(mm, t, x));
  return crowd > 1 ? crowd * time : time;
}

typedef double TileTime(const Matmul *, const Target *, const TargetMatrix *, const MatmulTile *);

/* Rows or terms of each operand, which loads want. */
static bool lies_together(const Matmul *mm) {
  return (mm->a.unit_k || mm->a.unit_row) && (mm->b.unit_k || mm->b.unit_row);
}

_Static_assert(2 * COUNT_OF(all) <= MATMUL_MAX_TILES, "each whole, and with its last wave cut");

typedef struct Ranked {
  MatmulTile *tile;
  double time[MATMUL_MAX_TILES];
  int n;
} Ranked;

static void put(Ranked *r, const MatmulTile *x, double time) {
  int at = r->n++;
  for (; at > 0 && r->time[at - 1] > time; at--) {
    r->time[at] = r->time[at - 1];
    r->tile[at] = r->tile[at - 1];
  }
  r->time[at] = time;
  r->tile[at] = *x;
}

/* The candidate with the best cut of its last wave, where it can have one. */
static void put_cut(Ranked *r, const Matmul *mm, const Target *t, const TargetMatrix *u,
                    const MatmulTile *x) {
  static const int by[][2] = {{1, 2}, {2, 1}, {1, 3}, {3, 1}, {2, 2}, {1, 4}, {4, 1}};
  MatmulTile best = *x;
  double time = 0;
  for (int i = 0; i < COUNT_OF(by); i++) {
    MatmulTile cut = *x;
    cut.cut_m = by[i][0];
    cut.cut_n = by[i][1];
    if (!can_cut(mm, t, u, &cut)) continue;
    double here = time_of(mm, t, u, &cut);
    if (time > 0 && here >= time) continue;
    time = here;
    best = cut;
  }
  if (time > 0) put(r, &best, time);
}

/* The candidates that the target can run, the best first; how many. */
static int rank(const Matmul *mm, const Target *t, const TargetMatrix *u, TileTime *time_of_tile,
                MatmulTile *out) {
  Ranked r = {.tile = out};
  for (int i = 0; i < COUNT_OF(all); i++) {
    if (!fits(mm, t, u, &all[i])) continue;
    put(&r, &all[i], time_of_tile(mm, t, u, &all[i]));
    if (time_of_tile == time_of) put_cut(&r, mm, t, u, &all[i]);
  }
  return r.n;
}

bool matmul_shares_device(const Matmul *mm, const Target *t) {
  double work = 2.0 * (double)(mm->m * mm->n) * (double)(mm->kk * mm->batches);
  return mm->beside && work < START * (t->cores ? t->cores : 32);
}

int matmul_tiles(const Matmul *mm, const Target *t, MatmulTile *out) {
  enum { SMALL = 8 /* rows, columns, terms: other kernels waste less */ };
  TargetMatrix u;
  if (t->is_cpu || !lies_together(mm) || mm->m < SMALL || mm->n < SMALL || mm->kk < SMALL ||
      !matmul_units(mm, t, &u))
    return 0;
  return rank(mm, t, &u, matmul_shares_device(mm, t) ? time_beside : time_of, out);
}

double matmul_tile_time(const Matmul *mm, const Target *t, const MatmulTile *tile) {
  TargetMatrix u;
  return matmul_units(mm, t, &u) ? time_of(mm, t, &u, tile) : 0;
}

/* Both operands' rows lie together. */
static Matmul product_of(DType d, int64_t batches, int64_t m, int64_t n, int64_t k) {
  Matmul mm = {.batches = batches, .m = m, .n = n, .kk = k};
  mm.a = (Side){.type = d, .row = 1, .k = m, .unit_row = true};
  mm.b = (Side){.type = d, .row = 1, .k = n, .unit_row = true};
  return mm;
}

/* Whether spans can be computed with the tile: loads lie alike in all tiles. */
static bool fits_spans(const Matmul *mm, const Target *t, const TargetMatrix *u,
                       const MatmulTile *x) {
  Coop c;
  if (mm->m % x->m || mm->n % x->n || mm->kk % x->k || !fits(mm, t, u, x)) return false;
  matmul_coop_layout(&c, mm, t, x);
  return matmul_coop_side_even(&c.a) && matmul_coop_side_even(&c.b);
}

MatmulTile matmul_spans_tile(const Matmul *mm, const Target *t) {
  TargetMatrix u;
  const Spans *s = &mm->spans;
  for (int i = 0; i < COUNT_OF(all) && lies_together(mm) && matmul_units(mm, t, &u); i++)
    if (all[i].m == s->tile_m && all[i].n == s->tile_n && all[i].k == s->step &&
        fits_spans(mm, t, &u, &all[i]))
      return all[i];
  die("codegen: no tile for a product in spans");
}

/* The most tiles that a span meets. */
static int64_t tiles_of_span(const Spans *s) {
  int64_t most = 0;
  for (int64_t i = 0; i < s->n; i++) {
    int64_t first = ir_span_begin(s, i) / s->steps, last = (ir_span_begin(s, i + 1) - 1) / s->steps;
    if (last - first + 1 > most) most = last - first + 1;
  }
  return most;
}

/* All spans begin at once, and each stores its part of every tile that it meets. Those of one core are at different terms, so that
 * they share little of what they read. */
static double time_in_spans(const Matmul *mm, const Target *t, const TargetMatrix *u,
                            const MatmulTile *x, const Spans *s) {
  const double APART = 1.1, ANOTHER = 15e6 /* tile of a span */;
  int most = resident(mm, t, x), each = (int)((s->n + t->cores - 1) / t->cores);
  double work = work_of(mm, u, x) * (each > 1 ? APART : 1);
  double steps = (double)((s->all + s->n - 1) / s->n);
  double bytes = 4.0 * (double)(mm->m * mm->n) * (double)(s->slots + 1);
  return START + (double)(tiles_of_span(s) - 1) * ANOTHER + steps * step_time(work, each, most) +
         bytes * CG_BALANCE / t->cores;
}

double cg_spans_time(const Target *t, DType d, int64_t m, int64_t n, int64_t k,
                     const bool along_k[2], int64_t ints[4]) {
  enum { LEAST = 16 /* steps of a span, beside which its stores are little */ };
  Matmul mm = product_of(d, 1, m, n, k);
  if (along_k[0]) mm.a = (Side){.type = d, .row = k, .k = 1, .unit_k = true};
  if (along_k[1]) mm.b = (Side){.type = d, .row = k, .k = 1, .unit_k = true};
  TargetMatrix u;
  double best = 0;
  if (!t->cores || t->is_cpu || !matmul_units(&mm, t, &u)) return 0;
  for (int i = 0; i < COUNT_OF(all); i++) {
    const MatmulTile *x = &all[i];
    if (!fits_spans(&mm, t, &u, x)) continue;
    int64_t tiles = m / x->m * (n / x->n), most = (int64_t)t->cores * resident(&mm, t, x);
    /* as many as run at once; or fewer, equally many for each tile */
    int64_t count[] = {most, most / tiles * tiles};
    for (int c = 0; c < COUNT_OF(count); c++) {
      Spans s;
      int64_t numbers[] = {count[c], x->m, x->n, x->k};
      if (!ir_spans_make(m, n, k, numbers, &s) || s.all / s.n < LEAST) continue;
      double time = time_in_spans(&mm, t, &u, x, &s);
      if (best > 0 && time >= best) continue;
      best = time;
      memcpy(ints, numbers, sizeof numbers);
    }
  }
  return best;
}

double cg_matmul_time(const Target *t, DType d, int64_t batches, int64_t m, int64_t n, int64_t k,
                      bool filled) {
  Matmul mm = product_of(d, batches, m, n, k);
  SharedTile shared[MATMUL_MAX_SHARED];
  MatmulTile tile[MATMUL_MAX_TILES];
  TargetMatrix u;
  if (!dtype_is_16(d))
    return matmul_shared_tiles(&mm, t, shared) ? matmul_shared_time(&mm, t, shared) : 0;
  if (!matmul_tiles(&mm, t, tile)) return 0;
  if (!filled || !matmul_units(&mm, t, &u)) return matmul_tile_time(&mm, t, tile);
  rank(&mm, t, &u, time_filled, tile);
  return time_filled(&mm, t, &u, tile);
}
