/* One kernel as an image of its own: its operands are parameters, its results states, each in memory of its
 * own; the program is its dispatch, once and many times over.
 *
 * Operands of products are small whole numbers, so that every form must give the same sums to the last bit,
 * in whatever order it adds; what follows a product may still round otherwise. */
#include "driver/tune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 16, MARGIN = 256 /* bytes behind a tensor */ };

struct TuneJob {
  Arena *arena;
  Device *device;
  const Target *target;
  const KernelJob *job;
  const char *key;
  int n_operand;
  Node *operand[CG_MAX_SLOTS];
  void *value[CG_MAX_SLOTS]; /* of operands, as they lie in memory */
  void *result[CG_MAX_OUT];  /* of the first form */
  bool measured;
  void *found; /* room for one result */
};

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

static uint32_t next_random(uint32_t x) { return x * 1664525u + 1013904223u; }

/* −2 … 2 for floats, 0 for whole numbers, which may be indices, and for conditions 0 and 1. */
static void fill(const TuneJob *t, const Node *n, uint32_t seed, void *to) {
  static const float number[8] = {-2, -1, 0, 1, 2, 1, -1, 0};
  uint64_t count = (uint64_t)type_count(&n->type);
  bool half = cg_element_bytes(t->target, n->type.dtype) == 2;
  uint16_t half_number[8];
  half_pack(n->type.dtype == DT_bf16, number, 8, half_number);
  for (uint64_t i = 0; i < count; i++) {
    uint32_t at = (seed = next_random(seed)) >> 29;
    if (half)
      ((uint16_t *)to)[i] = half_number[at];
    else if (dtype_is_float(n->type.dtype))
      ((float *)to)[i] = number[at];
    else
      ((uint32_t *)to)[i] = n->type.dtype == DT_bool ? at & 1 : 0;
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

/* The same to what another order of roundings after the product may do. */
static bool same_values(const TuneJob *t, int out, const void *a, const void *b) {
  const Type *type = &t->job->out[out]->type;
  DType d = (DType)type->dtype;
  bool half = cg_element_bytes(t->target, d) == 2;
  uint64_t n = span_bytes(t, out) / (half ? 2 : 4);
  double step = d == DT_bf16 ? 0x1p-7 : d == DT_f16 ? 0x1p-10 : 1e-5, most = 0;
  if (memcmp(a, b, n * (half ? 2 : 4)) == 0) return true;
  for (uint64_t i = 0; i < n; i++) {
    double x = fabs(element(d, half, a, i));
    if (isfinite(x) && x > most) most = x;
  }
  for (uint64_t i = 0; i < n; i++) {
    double x = element(d, half, a, i), y = element(d, half, b, i);
    if (x == y || (isnan(x) && isnan(y))) continue;
    if (!(fabs(x - y) <= step * fabs(x) + 1e-6 * most)) return false;
  }
  return true;
}

TuneJob *tune_begin(Device *device, const Target *target, const KernelJob *job, Buf *why) {
  Arena *arena = arena_new();
  TuneJob *t = arena_alloc(arena, sizeof *t);
  *t = (TuneJob){.arena = arena, .device = device, .target = target, .job = job};
  Buf key = {0};
  cg_form_key(job, target, &key);
  t->key = arena_str(arena, key.data, key.len);
  buf_free(&key);
  t->n_operand = cg_operands(job, t->operand, CG_MAX_SLOTS);
  uint64_t all = 0, largest = 0;
  for (int i = 0; i < t->n_operand; i++) all += cg_bytes(target, &t->operand[i]->type);
  for (int i = 0; i < job->n_out; i++) {
    uint64_t bytes = span_bytes(t, i);
    all += bytes;
    if (bytes > largest) largest = bytes;
  }
  if (all > vk_info(device)->memory_bytes / 2) {
    buf_printf(why, "its %.1f GiB are more than half of the device's memory",
               (double)all / (1 << 30));
    arena_free(arena);
    return NULL;
  }
  for (int i = 0; i < t->n_operand; i++) {
    t->value[i] = xcalloc(words_of(cg_bytes(target, &t->operand[i]->type)), 4);
    fill(t, t->operand[i], (uint32_t)i + 1, t->value[i]);
  }
  for (int i = 0; i < job->n_out; i++) t->result[i] = xcalloc(words_of(span_bytes(t, i)), 4);
  t->found = xmalloc(4 * words_of(largest));
  return t;
}

void tune_end(TuneJob *t) {
  if (!t) return;
  for (int i = 0; i < t->n_operand; i++) free(t->value[i]);
  for (int i = 0; i < t->job->n_out; i++) free(t->result[i]);
  free(t->found);
  arena_free(t->arena);
}

/* ---- the image ---- */

static ImgTensor words(Arena *a, const char *kind, int index, uint32_t chunk, uint64_t bytes) {
  int64_t n = (int64_t)words_of(bytes);
  return (ImgTensor){.name = arena_printf(a, "%s%d", kind, index),
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

static Image *image_of(const TuneJob *t, Arena *a, const KernelCode *code) {
  const KernelJob *job = t->job;
  Image *m = arena_alloc(a, sizeof *m);
  *m = (Image){.model = "kernel", .config = "{}", .target.name = t->target->name};
  m->chunk = arena_alloc(a, sizeof *m->chunk * (size_t)(t->n_operand + job->n_out));
  m->param = arena_alloc(a, sizeof *m->param * (size_t)(t->n_operand + 1));
  m->state = arena_alloc(a, sizeof *m->state * (size_t)job->n_out);
  for (int i = 0; i < t->n_operand; i++) {
    uint64_t bytes = cg_bytes(t->target, &t->operand[i]->type);
    m->param[m->n_param++] = (ImgParam){.t = words(a, "operand", i, m->n_chunk, bytes)};
    add_chunk(m, IMG_PARAM, bytes);
  }
  for (int i = 0; i < job->n_out; i++) {
    uint64_t bytes = span_bytes(t, i);
    m->state[m->n_state++] = (ImgState){.t = words(a, "result", i, m->n_chunk, bytes)};
    add_chunk(m, IMG_STATE, bytes);
  }
  ImgModule module = {.name = code->name,
                      .word = code->word,
                      .n_word = (uint32_t)code->n_word,
                      .subgroup_size = code->subgroup_size};
  memcpy(module.local, code->local, sizeof module.local);
  m->module = arena_copy(a, &module, sizeof module);
  m->n_module = 1;
  ImgDispatch d = {.barrier = 1, .n_slot = (uint32_t)code->n_slot, .label = code->name};
  memcpy(d.groups, code->groups, sizeof d.groups);
  for (int i = 0; i < code->n_slot; i++) {
    const KernelSlot *s = &code->slot[i];
    d.slot[i] = s->kind == SLOT_raw ? (ImgSlot){.value = s->raw}
                                    : (ImgSlot){.kind = IMG_ADDRESS, .chunk = chunk_of(t, s)};
  }
  ImgDispatch *many = arena_alloc(a, sizeof d * MANY);
  for (int i = 0; i < MANY; i++) many[i] = d;
  const ImgProgram program[] = {{.name = "once", .n_dispatch = 1, .dispatch = many},
                                {.name = "many", .n_dispatch = MANY, .dispatch = many}};
  m->program = arena_copy(a, program, sizeof program);
  m->n_program = COUNT_OF(program);
  return m;
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
  for (int run = 0; run < most && spent < seconds && ok; run++) {
    ok = exec_run(e, p, NULL, NULL, why) && exec_times(e, p, all + n, why);
    for (uint32_t i = 0; i < p->n_dispatch; i++) spent += all[n++];
  }
  qsort(all, (size_t)n, sizeof *all, by_value);
  *median = n ? all[n / 2] : 0;
  free(all);
  return ok;
}

static bool run_form(Exec *e, const Image *m, double best_us, TuneResult *r, Buf *why) {
  enum { SLOWER = 3, RUNS = 64 };
  const double warm = 0.02, enough = 0.05, short_one = 1e-3; /* seconds */
  double once;
  if (!measure(e, &m->program[0], 0, 1, &once, why)) return false; /* what is cold */
  if (!measure(e, &m->program[0], warm, RUNS, &once, why)) return false;
  r->us = 1e6 * once;
  if (best_us > 0 && r->us > SLOWER * best_us) return true;
  const ImgProgram *p = &m->program[once < short_one];
  if (!measure(e, p, enough, RUNS, &once, why)) return false;
  r->us = 1e6 * once;

  return true;
}

static bool read_results(TuneJob *t, Exec *e, const Image *m, TuneResult *r, Buf *why) {
  r->right = true;
  for (int i = 0; i < t->job->n_out; i++) {
    if (!exec_read(e, &m->state[i].t, t->measured ? t->found : t->result[i], why)) return false;
    if (t->measured && !same_values(t, i, t->result[i], t->found)) r->right = false;
  }
  t->measured = true;
  return true;
}

bool tune_form(TuneJob *t, const KernelForm *form, double best_us, TuneResult *r, Buf *why) {
  Arena *a = arena_new();
  TunedForm tuned = {t->key, form->name, 0};
  const Tuning tuning = {&tuned, 1};
  Target target = *t->target;
  target.tuning = &tuning;
  KernelCode code;
  cg_emit(a, t->job, &target, &code);
  const Image *m = image_of(t, a, &code);
  Exec *e = exec_new(t->device, m, &(ExecOptions){.times = true, .no_cache = true}, why);
  bool ok = e != NULL;
  /* where runs lie apart, what is between them must compare */
  for (int i = 0; i < t->job->n_out && ok; i++) {
    memset(t->found, 0, m->state[i].t.bytes);
    ok = exec_write(e, &m->state[i].t, t->found, why);
  }
  for (int i = 0; i < t->n_operand && ok; i++) ok = exec_write(e, &m->param[i].t, t->value[i], why);
  ok = ok && run_form(e, m, best_us, r, why) && read_results(t, e, m, r, why);
  exec_free(e);
  arena_free(a);
  return ok;
}
