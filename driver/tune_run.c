/* One kernel as an image of its own: its operands are parameters, its results states, each in memory of its
 * own; for each form there are two programs, its dispatch once and many times over. Of large results some
 * pieces are compared, the first and the last among them.
 *
 * What takes long is kept off the host and off the way: drivers compile the forms in threads, the next kernel's too
 * (tune.c begins it before it is its turn); large operands repeat some words, which the device copies; and a form is
 * measured no longer than it takes to see that it is slower than the best one.
 *
 * Operands are small whole numbers, so that every form of a product must give the same sums to the last bit,
 * in whatever order it adds; what follows a product may still round otherwise. Attention's weights are no
 * whole numbers, and matrix units take them in 16 bits. */
#include "driver/tune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
  MANY = 16,
  MARGIN = 256, /* bytes behind a tensor */
  PIECES = 8,   /* of a result, each of so many bytes: */
  PIECE = 1 << 18,
  PATTERN = 1048573 /* words that operands repeat, prime: rows are not alike */
};

struct TuneJob {
  Arena *arena;
  const Target *target;
  const KernelJob *job;
  const Image *image;
  Exec *exec;
  int n_operand;
  Node *operand[CG_MAX_SLOTS];
  int out_of[CG_MAX_OUT * PIECES];   /* by state of the image, a piece of a result: which */
  void *result[CG_MAX_OUT * PIECES]; /* by state: what the first form gives */
  bool measured;
  double worked; /* seconds of the clock when the device had last worked for it; 0: never */
  void *found;   /* room for one operand's words or piece */
};

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- values ---- */

static uint64_t words_of(uint64_t bytes) { return (bytes + 3) / 4; }

/* Elements of an out from its first to its last, with what lies between its runs. */
static uint64_t span_bytes(const TuneJob *t, int out) {
  const Type *type = &t->job->out[out]->type;
  uint64_t count = (uint64_t)type_count(type), each = cg_element_bytes(t->target, type->dtype);
  const KernelRuns *r = t->job->runs ? &t->job->runs[out] : NULL;
  if (r && r->run) count = (count / (uint64_t)r->run - 1) * (uint64_t)r->pitch + (uint64_t)r->run;
  return count * each;
}

/* The first words of an operand: −2 … 2 for floats, 0 for whole numbers, which may be indices, and for conditions 0
 * and 1. */
static void make_words(const TuneJob *t, const Node *n, uint64_t seed, uint64_t words, void *to) {
  static const float number[8] = {-2, -1, 0, 1, 2, 1, -1, 0};
  bool half = cg_element_bytes(t->target, n->type.dtype) == 2;
  uint64_t count = half ? 2 * words : words, bits = 0;
  uint16_t half_number[8];
  half_pack(n->type.dtype == DT_bf16, number, 8, half_number);
  for (uint64_t i = 0; i < count; i++, bits >>= 3) {
    if (i % 16 == 0) bits = (seed = seed * 6364136223846793005u + 1442695040888963407u) >> 16;
    if (half)
      ((uint16_t *)to)[i] = half_number[bits & 7];
    else if (dtype_is_float(n->type.dtype))
      ((float *)to)[i] = number[bits & 7];
    else
      ((uint32_t *)to)[i] = n->type.dtype == DT_bool ? bits & 1 : 0;
  }
}

/* One element of an out as a number. */
static double element(DType d, bool half, const void *memory, uint64_t i) {
  float x;
  if (half)
    half_unpack(d == DT_bf16, (const uint16_t *)memory + i, 1, &x);
  else
    memcpy(&x, (const uint32_t *)memory + i, 4);
  return dtype_is_float(d) ? (double)x : (double)((const int32_t *)memory)[i];
}

/* Whether a product computes an operand itself, so that its terms are no whole numbers. */
static bool computes_operand(const KernelJob *job, const Node *product) {
  for (int i = 0; i < 2 && product->op == OP_matmul; i++) {
    const Node *n = product->src[i];
    while (!job->stored[n->id] && (cg_reads_through(n) || n->op == OP_cast)) n = n->src[0];
    if (!job->stored[n->id]) return true;
  }
  return false;
}

/* What forms of the job may differ by, as a part of the largest value of a result. */
static double tolerance(const TuneJob *t) {
  const Node *anchor = t->job->anchor ? t->job->anchor : t->job->out[0];
  if (computes_operand(t->job, anchor)) return 1e-5;
  bool half = false;
  for (int i = 0; i < t->n_operand; i++)
    half = half || dtype_is_16((DType)t->operand[i]->type.dtype);
  return !ir_attention_sources(anchor->op) ? 1e-6 : half ? 2e-2 : 1e-4;
}

/* Whether two forms' pieces of a result agree. */
static bool same_values(const TuneJob *t, uint32_t piece, const void *a, const void *b) {
  DType d = (DType)t->job->out[t->out_of[piece]]->type.dtype;
  bool half = cg_element_bytes(t->target, d) == 2;
  uint64_t n = t->image->state[piece].t.bytes / (half ? 2 : 4);
  double step = d == DT_bf16 ? 0x1p-7 : d == DT_f16 ? 0x1p-10 : 1e-5, most = 0, part = tolerance(t);
  if (memcmp(a, b, n * (half ? 2 : 4)) == 0) return true;
  for (uint64_t i = 0; i < n; i++) {
    double x = fabs(element(d, half, a, i));
    if (isfinite(x) && x > most) most = x;
  }
  for (uint64_t i = 0; i < n; i++) {
    double x = element(d, half, a, i), y = element(d, half, b, i);
    if (x == y || (isnan(x) && isnan(y))) continue;
    if (!(fabs(x - y) <= step * fabs(x) + part * most)) return false;
  }
  return true;
}

/* ---- the image ---- */

static ImgTensor words(Arena *a, const char *kind, uint32_t index, uint32_t chunk, uint64_t bytes) {
  int64_t n = (int64_t)words_of(bytes);
  return (ImgTensor){.name = arena_printf(a, "%s%u", kind, index),
                     .dtype = IMG_i32,
                     .rank = 1,
                     .dim = {n},
                     .chunk = chunk,
                     .bytes = 4 * (uint64_t)n};
}

static void add_chunk(Image *m, ImgClass cls, uint64_t bytes) {
  m->chunk[m->n_chunk++] = (ImgChunk){cls, (bytes + MARGIN - 1) / MARGIN * MARGIN + MARGIN};
}

static uint32_t chunk_of(const TuneJob *t, const KernelSlot *s) {
  for (int i = 0; s->kind == SLOT_result && i < t->job->n_out; i++)
    if (t->job->out[i] == s->node) return (uint32_t)(t->n_operand + i);
  for (int i = 0; s->kind == SLOT_operand && i < t->n_operand; i++)
    if (t->operand[i] == s->node) return (uint32_t)i;
  die("tune: a slot of %%%d, which is no part of its kernel", s->node->id);
}

/* The pieces of a result that are compared: all of it, or some that lie as far apart as can be. */
static void add_pieces(TuneJob *t, Arena *a, Image *m, int out, uint64_t bytes) {
  int n = bytes <= (uint64_t)PIECES * PIECE ? 1 : PIECES;
  for (int i = 0; i < n; i++) {
    ImgTensor piece = words(a, "result", m->n_state, m->n_chunk, n > 1 ? PIECE : bytes);
    piece.offset = n > 1 ? (words_of(bytes) * 4 - PIECE) / (PIECES - 1) * (uint64_t)i / 4 * 4 : 0;
    t->out_of[m->n_state] = out;
    m->state[m->n_state++] = (ImgState){.t = piece};
  }
}

static void add_tensors(TuneJob *t, Arena *a, Image *m) {
  size_t n = (size_t)(t->n_operand + t->job->n_out);
  m->chunk = arena_alloc(a, sizeof *m->chunk * n);
  m->param = arena_alloc(a, sizeof *m->param * n);
  m->state = arena_alloc(a, sizeof *m->state * CG_MAX_OUT * PIECES);
  for (int i = 0; i < t->n_operand; i++) {
    uint64_t bytes = cg_bytes(t->target, &t->operand[i]->type);
    m->param[m->n_param++] = (ImgParam){.t = words(a, "operand", (uint32_t)i, m->n_chunk, bytes)};
    add_chunk(m, IMG_PARAM, bytes);
  }
  for (int i = 0; i < t->job->n_out; i++) {
    uint64_t bytes = span_bytes(t, i);
    add_pieces(t, a, m, i, bytes);
    add_chunk(m, IMG_STATE, bytes);
  }
}

/* A module and its two programs. */
static void add_form(const TuneJob *t, Arena *a, const KernelCode *code, Image *m) {
  ImgModule *module = &m->module[m->n_module];
  *module = (ImgModule){.name = code->name,
                        .word = code->word,
                        .n_word = (uint32_t)code->n_word,
                        .subgroup_size = code->subgroup_size};
  memcpy(module->local, code->local, sizeof module->local);
  ImgDispatch d = {
    .module = m->n_module++, .barrier = 1, .n_slot = (uint32_t)code->n_slot, .label = code->name};
  memcpy(d.groups, code->groups, sizeof d.groups);
  for (int i = 0; i < code->n_slot; i++) {
    const KernelSlot *s = &code->slot[i];
    d.slot[i] = s->kind == SLOT_raw ? (ImgSlot){.value = s->raw}
                                    : (ImgSlot){.kind = IMG_ADDRESS, .chunk = chunk_of(t, s)};
  }
  ImgDispatch *many = arena_alloc(a, sizeof d * MANY);
  for (int i = 0; i < MANY; i++) many[i] = d;
  m->program[m->n_program++] = (ImgProgram){.name = "once", .n_dispatch = 1, .dispatch = many};
  m->program[m->n_program++] = (ImgProgram){.name = "many", .n_dispatch = MANY, .dispatch = many};
}

static const Image *image_of(TuneJob *t, Arena *a, const KernelForm *form, int n) {
  Image *m = arena_alloc(a, sizeof *m);
  *m = (Image){.model = "kernel", .config = "{}", .target.name = t->target->name};
  m->module = arena_alloc(a, sizeof *m->module * (size_t)n);
  m->program = arena_alloc(a, sizeof *m->program * 2 * (size_t)n);
  add_tensors(t, a, m);
  Buf key = {0};
  KernelForm any[CG_MAX_FORMS];
  if (cg_forms(t->job, t->target, any))
    cg_form_key(t->job, t->target, &key);
  else
    buf_str(&key, "the only form");
  for (int i = 0; i < n; i++) {
    TunedForm tuned = {key.data, form[i].name, 0};
    const Tuning tuning = {&tuned, 1};
    Target target = *t->target;
    target.tuning = &tuning;
    KernelCode code;
    cg_emit(a, t->job, &target, &code);
    add_form(t, a, &code, m);
  }
  buf_free(&key);
  return m;
}

static bool fill_operands(const TuneJob *t, Buf *why) {
  bool ok = true;
  for (int i = 0; i < t->n_operand && ok; i++) {
    const ImgTensor *to = &t->image->param[i].t;
    uint64_t words = to->bytes / 4 < PATTERN ? to->bytes / 4 : PATTERN;
    make_words(t, t->operand[i], (uint64_t)i + 1, words, t->found);
    ok = exec_repeat(t->exec, to, t->found, words, why);
  }
  return ok;
}

TuneJob *tune_begin(Device *device, const Target *target, const KernelJob *job,
                    const KernelForm *form, int n, Buf *why) {
  Arena *arena = arena_new();
  TuneJob *t = arena_alloc(arena, sizeof *t);
  *t = (TuneJob){.arena = arena, .target = target, .job = job};
  t->n_operand = cg_operands(job, t->operand, CG_MAX_SLOTS);
  t->image = image_of(t, arena, form, n);
  uint64_t all = 0;
  for (uint32_t i = 0; i < t->image->n_chunk; i++) all += t->image->chunk[i].bytes;
  if (all > vk_info(device)->memory_bytes / 2) {
    buf_printf(why, "its %.1f GiB are more than half of the device's memory",
               (double)all / (1 << 30));
    arena_free(arena);
    return NULL;
  }
  t->found = xcalloc(PATTERN > PIECES * PIECE / 4 ? PATTERN : PIECES * PIECE / 4, 4);
  for (uint32_t i = 0; i < t->image->n_state; i++)
    t->result[i] = xcalloc(t->image->state[i].t.bytes, 1);
  const ExecOptions option = {.times = true, .no_cache = true};
  t->exec = exec_new(device, t->image, &option, why);
  for (int i = 0; t->exec && i < n; i++)
    if (form[i].times <= TUNE_FAR) tune_prepare(t, i);
  if (t->exec) return t;
  tune_end(t);
  return NULL;
}

void tune_prepare(TuneJob *t, int form) {
  for (int i = 0; i < 2; i++) exec_prepare(t->exec, &t->image->program[2 * form + i]);
}

void tune_end(TuneJob *t) {
  if (!t) return;
  exec_free(t->exec);
  for (uint32_t i = 0; i < t->image->n_state; i++) free(t->result[i]);
  free(t->found);
  arena_free(t->arena);
}

/* ---- measuring ---- */

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Runs the program for at least `seconds` of the device's time, `most` times at most; the median of all its
 * dispatches' times. */
static bool measure(Exec *e, const ImgProgram *p, double seconds, int most, double *median,
                    Buf *why) {
  double *all = xcalloc((size_t)most * p->n_dispatch, sizeof *all), spent = 0;
  int n = 0;
  bool ok = true;
  for (int run = 0; run < most && (run == 0 || spent < seconds) && ok; run++) {
    ok = exec_run(e, p, NULL, NULL, why) && exec_times(e, p, all + n, why);
    for (uint32_t i = 0; i < p->n_dispatch; i++) spent += all[n++];
  }
  qsort(all, (size_t)n, sizeof *all, by_value);
  *median = n ? all[n / 2] : 0;
  free(all);
  return ok;
}

/* A GPU that waited has a slow clock, which rises with work, on an H100 after 0.3 seconds of it: runs the program that long, and
 * until it gets no faster. */
static bool warm_up(const TuneJob *t, const ImgProgram *p, int most, Buf *why) {
  enum { CALM = 2, LEAST = 15, ROUNDS = 40 };
  const double faster = 0.98, round = 0.02; /* seconds */
  double s;
  if (!measure(t->exec, p, round, most, &s, why)) return false;
  for (int i = 0, calm = 0; i < ROUNDS && (i < LEAST || calm < CALM); i++) {
    double before = s;
    if (!measure(t->exec, p, round, most, &s, why)) return false;
    calm = s < faster * before ? 0 : calm + 1;
  }
  return true;
}

/* Its median time, after it ran once, cold, in `s` seconds: roughly at first, then well where it may be the best. */
static bool time_form(const TuneJob *t, const ImgProgram *once, double s, double best_us,
                      TuneResult *r, Buf *why) {
  enum { RUNS = 64 };
  const double short_one = 1e-3, idle = 0.1, rough = 0.01, enough = 0.05; /* seconds */
  const double much_slower = 3, slower = 1.2;
  r->us = 1e6 * s;
  if (best_us > 0 && s > short_one && r->us > much_slower * best_us) return true;
  const ImgProgram *several = once + (s < short_one);
  bool cold = !t->target->is_cpu && now() - t->worked > idle;
  if (cold && !warm_up(t, several, RUNS, why)) return false;
  if (!measure(t->exec, several, rough, RUNS, &s, why)) return false;
  r->us = 1e6 * s;
  if (best_us > 0 && r->us > slower * best_us) return true;
  if (!measure(t->exec, several, enough, RUNS, &s, why)) return false;
  r->us = 1e6 * s;
  return true;
}

/* What is not written by the form is 0 afterwards, and not what another form wrote. */
static bool clear_results(const TuneJob *t, Buf *why) {
  bool ok = true;
  for (uint32_t i = 0; i < t->image->n_state && ok; i++)
    ok = exec_repeat(t->exec, &t->image->state[i].t, &(uint32_t){0}, 1, why);
  return ok;
}

static bool read_results(TuneJob *t, TuneResult *r, Buf *why) {
  r->right = true;
  for (uint32_t i = 0; i < t->image->n_state; i++) {
    void *to = t->measured ? t->found : t->result[i];
    if (!exec_read(t->exec, &t->image->state[i].t, to, why)) return false;
    if (t->measured && !same_values(t, i, t->result[i], t->found)) r->right = false;
  }
  t->measured = true;
  return true;
}

bool tune_form(TuneJob *t, int form, double best_us, TuneResult *r, Buf *why) {
  const ImgProgram *once = &t->image->program[2 * form];
  double s;
  tune_prepare(t, form);
  if (t->worked == 0 && !fill_operands(t, why)) return false;
  if (!clear_results(t, why) || !measure(t->exec, once, 0, 1, &s, why)) return false;
  bool ok = read_results(t, r, why) && time_form(t, once, s, best_us, r, why);
  t->worked = now();
  return ok;
}
