/* The sum over k of a product through workgroup memory (matmul_shared.c). A turn of the loop takes two slices:
 *
 *   workgroup memory        even slice s            odd slice s + 1
 *   first step    registers ← s + 2 from memory     multiply s         s + 1: registers → its place,  barrier
 *   second step   registers ← s + 3 from memory     multiply s + 1     s + 2: registers → its place,  barrier
 *
 * So one barrier a slice suffices, and memory has a whole step to answer. Each operand has registers and a place for even and
 * for odd slices: nothing is copied, and all addresses in workgroup memory are constants. The factors of a term are read while
 * the term before it is multiplied, those of a slice's first term as soon as the barrier is passed. A barrier of the subgroup
 * keeps drivers from moving a step's reads of memory towards its end, where nothing would hide how long they take; beside sums
 * over k of an operand that costs more registers than there are.
 *
 * Small tiles have one slice in workgroup memory, read a slice ahead, and two barriers.
 *
 * Long sums are cut into blocks, for the error's sake. Their totals lie in an array of the invocation's, at indices that a driver
 * cannot know: it would keep them in registers and have none left for the loop. */
#include "codegen/matmul_shared.h"

enum { BLOCK = 2048 /* terms summed by themselves, of sums longer than */, SINGLE = 4096 };

enum { MAX_SLICES = 2 };

/* An operand's slices. */
typedef struct Pair {
  TileStage stage[MAX_SLICES];
  TileFactor factor[MAX_SLICES];
  SpvId first[TILE_MAX_BLOCKS]; /* variables: the factors of the next turn's first term */
} Pair;

typedef struct Loop {
  Matmul *mm;
  const SharedSum *sum;
  Pair a, b;
  SpvId totals, none; /* of long sums; 0, which drivers do not know */
} Loop;

static void make_pair(Kernel *k, const TileStage *stage, int slices, SpvId own, int blocks,
                      Pair *p) {
  int quads = tile_quads(stage->rows, stage->terms), across = stage->rows / 4;
  for (int i = 0; i < slices; i++) {
    p->stage[i] = i ? tile_stage_twin(k, stage, i * quads) : *stage;
    SpvId from = op_u(k, SpvOpIAdd, own, (uint32_t)(i * quads));
    p->factor[i] = (TileFactor){stage->shared, from, across + TILE_PAD, blocks, across / blocks};
  }
  for (int i = 0; i < blocks; i++) p->first[i] = spv_local(k->b, tile_vec4(k));
}

/* ---- slices ---- */

static void read_slice(Loop *l, int which, SpvId slice) {
  tile_read(l->mm->k, &l->a.stage[which], slice);
  tile_read(l->mm->k, &l->b.stage[which], slice);
}

/* counted: whether it is a slice that was not written before; 0: it is */
static void write_slice(Loop *l, int which, SpvId counted) {
  l->a.stage[which].counted = l->b.stage[which].counted = counted;
  tile_write(l->mm->k, &l->a.stage[which]);
  tile_write(l->mm->k, &l->b.stage[which]);
}

static void fragments(Loop *l, int which, int term, SpvId *of_a, SpvId *of_b) {
  tile_fragments(l->mm->k, &l->a.factor[which], term, of_a);
  tile_fragments(l->mm->k, &l->b.factor[which], term, of_b);
}

static void keep_first(Loop *l, const SpvId *of_a, const SpvId *of_b) {
  Spv *b = l->mm->k->b;
  for (int i = 0; i < l->sum->t->blocks_m; i++) spv_set(b, l->a.first[i], of_a[i]);
  for (int i = 0; i < l->sum->t->blocks_n; i++) spv_set(b, l->b.first[i], of_b[i]);
}

/* ---- blocks of long sums ---- */

static SpvId total_at(Loop *l, int i) {
  Kernel *k = l->mm->k;
  SpvId at = op_u(k, SpvOpIAdd, l->none, (uint32_t)i);
  return spv_local_at(k->b, l->totals, at);
}

static void begin_totals(Loop *l) {
  Kernel *k = l->mm->k;
  int n = shared_count(l->sum);
  SpvId zero = tile_zero(k);
  l->none = op_u(k, SpvOpShiftRightLogical, l->mm->kk_id, 31);
  l->totals = spv_local(k->b, spv_array(k->b, tile_vec4(k), (uint32_t)n));
  for (int i = 0; i < n; i++) {
    SpvId at = total_at(l, i);
    spv_set(k->b, at, zero);
  }
}

/* totals += sums, and the sums begin again. */
static void close_block(Loop *l) {
  Kernel *k = l->mm->k;
  SpvId zero = tile_zero(k);
  for (int i = 0; i < shared_count(l->sum); i++) {
    SpvId at = total_at(l, i);
    SpvId total = spv_get(k->b, at), acc = spv_get(k->b, l->sum->acc[i]);
    total = add_f(k, total, acc);
    spv_set(k->b, at, total);
    spv_set(k->b, l->sum->acc[i], zero);
  }
}

static void end_totals(Loop *l) {
  Kernel *k = l->mm->k;
  close_block(l);
  for (int i = 0; i < shared_count(l->sum); i++) {
    SpvId at = total_at(l, i);
    SpvId total = spv_get(k->b, at);
    spv_set(k->b, l->sum->acc[i], total);
  }
}

/* ---- the loop ---- */

/* Multiplies one slice, whose first factors are in `of_a` and `of_b`, writes the other and leaves its first factors there. */
static void step(Loop *l, int which, SpvId counted, SpvId (*of_a)[TILE_MAX_BLOCKS],
                 SpvId (*of_b)[TILE_MAX_BLOCKS], SpvId *acc) {
  Kernel *k = l->mm->k;
  int terms = l->sum->t->terms, other = !which;
  for (int term = 0; term < terms; term++) {
    int now = term % 2, next = !now;
    if (term < terms - 1)
      fragments(l, which, term + 1, of_a[next], of_b[next]);
    else {
      write_slice(l, other, counted);
      spv_barrier(k->b);
      fragments(l, other, 0, of_a[next], of_b[next]);
    }
    tile_add_term(k, &l->a.factor[which], &l->b.factor[which], of_a[now], of_b[now], acc);
  }
}

static void turn(Loop *l, SpvId i, SpvId last) {
  Kernel *k = l->mm->k;
  Spv *b = k->b;
  SpvId of_a[2][TILE_MAX_BLOCKS], of_b[2][TILE_MAX_BLOCKS], acc[TILE_MAX_ACC];
  for (int j = 0; j < shared_count(l->sum); j++) acc[j] = spv_get(b, l->sum->acc[j]);
  for (int j = 0; j < l->sum->t->blocks_m; j++) of_a[0][j] = spv_get(b, l->a.first[j]);
  for (int j = 0; j < l->sum->t->blocks_n; j++) of_b[0][j] = spv_get(b, l->b.first[j]);
  SpvId more = spv_cmp(b, SpvOpULessThan, i, last), next = op_u(k, SpvOpIAdd, i, 1);
  next = choose(k, more, next, last); /* the last slices again rather than none: no branch */
  SpvId slice = op_u(k, SpvOpIMul, next, MAX_SLICES);
  bool sums = l->mm->sum_a || l->mm->sum_b;
  for (int which = 0; which < MAX_SLICES; which++) {
    SpvId own = op_u(k, SpvOpIAdd, slice, (uint32_t)which);
    read_slice(l, which, own);
    if (!sums) spv_barrier_subgroup(b);
    step(l, which, which ? more : 0, of_a, of_b, acc);
  }
  keep_first(l, of_a[0], of_b[0]);
  for (int j = 0; j < shared_count(l->sum); j++) spv_set(b, l->sum->acc[j], acc[j]);
}

/* The same of one slice. */
static void short_turn(Loop *l, SpvId i, SpvId last) {
  Kernel *k = l->mm->k;
  SpvId acc[TILE_MAX_ACC];
  spv_barrier(k->b);
  write_slice(l, 0, 0);
  spv_barrier(k->b);
  SpvId more = spv_cmp(k->b, SpvOpULessThan, i, last), next = op_u(k, SpvOpIAdd, i, 1);
  next = choose(k, more, next, last);
  read_slice(l, 0, next);
  for (int j = 0; j < shared_count(l->sum); j++) acc[j] = spv_get(k->b, l->sum->acc[j]);
  tile_multiply(k, &l->a.factor[0], &l->b.factor[0], l->sum->t->terms, acc);
  for (int j = 0; j < shared_count(l->sum); j++) spv_set(k->b, l->sum->acc[j], acc[j]);
}

/* The slices that the first turn finds. */
static void begin_loop(Loop *l) {
  Kernel *k = l->mm->k;
  SpvId of_a[TILE_MAX_BLOCKS], of_b[TILE_MAX_BLOCKS];
  SpvId first = const_u(k, 0), second = const_u(k, 1);
  read_slice(l, 0, first);
  if (l->sum->t->slices == 1) return;
  write_slice(l, 0, 0);
  read_slice(l, 1, second);
  spv_barrier(k->b);
  fragments(l, 0, 0, of_a, of_b);
  keep_first(l, of_a, of_b);
}

void shared_sum_up(Matmul *mm, SharedSum *s) {
  Kernel *k = mm->k;
  Spv *b = k->b;
  bool blocks = mm->kk > SINGLE;
  uint32_t terms = (uint32_t)(s->t->slices * s->t->terms);
  SpvId zero = tile_zero(k);
  Loop l = {.mm = mm, .sum = s};
  make_pair(k, &s->a, s->t->slices, s->y, s->t->blocks_m, &l.a);
  make_pair(k, &s->b, s->t->slices, s->x, s->t->blocks_n, &l.b);
  for (int i = 0; i < shared_count(s); i++) {
    s->acc[i] = spv_local(b, tile_vec4(k));
    spv_set(b, s->acc[i], zero);
  }
  if (blocks) begin_totals(&l);
  SpvId n = op_u(k, SpvOpIAdd, mm->kk_id, terms - 1);
  n = op_u(k, SpvOpUDiv, n, terms);
  SpvId last = op_u(k, SpvOpISub, n, 1);
  begin_loop(&l);
  SpvId i = spv_for(b, n);
  if (s->t->slices == 1)
    short_turn(&l, i, last);
  else
    turn(&l, i, last);
  if (blocks) {
    SpvId next = op_u(k, SpvOpIAdd, i, 1);
    SpvId within = op_u(k, SpvOpUMod, next, BLOCK / terms);
    SpvId full = spv_cmp(b, SpvOpIEqual, within, const_u(k, 0));
    spv_if(b, full);
    close_block(&l);
    spv_end(b);
  }
  spv_end(b);
  if (blocks) end_totals(&l);
}
