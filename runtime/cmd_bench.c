/* bench: the time of one training step or of the forward pass on made-up tokens, and of each of its
 * kernels; the last line is one JSON object. */
#include "runtime/runtime.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/checkpoint.h"
#include "runtime/profile.h"

typedef struct Work { /* what one measured step runs */
  const char *what;
  const ImgProgram *program;
  int times;               /* that `program` runs */
  const ImgProgram *after; /* once after it; may be NULL */
  int64_t tokens;          /* of one step */
  double flops, bytes;
  int64_t dispatches;
  Profile *profile; /* NULL: kernels are not measured */
} Work;

typedef struct Buffers { /* of one program, inputs filled */
  void **input, **output;
} Buffers;

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

/* ---- made-up inputs ---- */

static void fill(const ImgTensor *t, void *to, int64_t vocab, int64_t steps, uint32_t index) {
  uint64_t n = image_elements(t);
  uint32_t *word = to, key[2] = {index, 7}, random[4];
  if (strcmp(t->name, "rng") == 0 && n == 4) {
    rng_fill(to, 1, 0, 0);
    return;
  }
  for (uint64_t i = 0; i < n; i++) {
    const uint32_t counter[4] = {(uint32_t)(i / 4), (uint32_t)(i / 4 >> 32), 0, 0};
    if (i % 4 == 0) philox4x32(counter, key, random);
    float real =
      strcmp(t->name, "total") == 0 ? (float)steps : (float)(random[i % 4] >> 8) * 0x1p-24f;
    if (t->dtype == IMG_i32)
      word[i] = (uint32_t)(((uint64_t)random[i % 4] * (uint64_t)vocab) >> 32);
    else if (t->dtype == IMG_bool)
      word[i] = random[i % 4] >> 31;
    else
      memcpy(&word[i], &real, 4);
  }
}

static Buffers make_buffers(Runner *r, const ImgProgram *p, int64_t steps) {
  Buffers b = {arena_alloc(r->arena, sizeof(void *) * p->n_input),
               arena_alloc(r->arena, sizeof(void *) * p->n_output)};
  int64_t vocab = image_vocab(r->image);
  if (vocab < 1) vocab = 2;
  for (uint32_t i = 0; i < p->n_input; i++) {
    b.input[i] = arena_alloc(r->arena, image_host_bytes(&p->input[i]));
    fill(&p->input[i], b.input[i], vocab, steps, i);
  }
  for (uint32_t i = 0; i < p->n_output; i++)
    if (p->output[i].bytes <= 64)
      b.output[i] =
        arena_alloc(r->arena, image_host_bytes(&p->output[i])); /* the loss and its kind */
  return b;
}

/* ---- what to measure ---- */

static int64_t tokens_of(const ImgProgram *p) {
  const ImgTensor *t = image_input(p, "tokens");
  if (!t && p->n_input) t = &p->input[0];
  int64_t n = 1;
  for (uint32_t i = 0; t && i < t->rank && i < 2; i++) n *= t->dim[i];
  return n;
}

static void add_cost(Work *w, const ImgProgram *p, int times) {
  w->flops += p->flops * times;
  w->dispatches += (int64_t)p->n_dispatch * times;
  for (uint32_t i = 0; i < p->n_dispatch; i++) w->bytes += p->dispatch[i].bytes * times;
}

static bool train_work(Runner *r, Work *w) {
  const Image *m = r->image;
  if (image_program(m, "micro") && image_program(m, "update")) {
    int64_t n = image_accumulate(m);
    w->program = image_program(m, "micro");
    w->after = image_program(m, "update");
    w->times = n > 0 && n <= 1 << 20 ? (int)n : 1;
    add_cost(w, w->after, 1);
  } else {
    w->program = runner_program(r, "train", "bench train");
    w->times = 1;
  }
  if (!w->program) return false;
  add_cost(w, w->program, w->times);
  w->tokens = tokens_of(w->program) * w->times;
  return true;
}

static bool prefill_work(Runner *r, Work *w) {
  const Image *m = r->image;
  for (uint32_t i = 0; i < m->n_program; i++) {
    const ImgProgram *p = &m->program[i];
    if (strncmp(p->name, "forward.", 8) == 0 &&
        (!w->program || tokens_of(p) > tokens_of(w->program)))
      w->program = p;
  }
  if (!w->program) {
    cli_error(r, "model %s has no program forward.N: its file needs fn forward(tokens: int[b, t])",
              m->model);
    return false;
  }
  w->times = 1;
  w->tokens = tokens_of(w->program);
  add_cost(w, w->program, 1);
  return true;
}

/* ---- measuring ---- */

enum {
  RUNS_UNDER = 2, /* as training has */
  WARM_MS = 300   /* a device that was idle is slow at first */
};
typedef struct Meter {
  Exec *exec;
  const Work *work;
  bool warming; /* steps are not counted */
  double *ms;
  int64_t steps; /* that have ended */
  double ended;  /* when the last one did, in milliseconds */
  struct {
    uint64_t ticket;
    const Buffers *buffers;
    bool last; /* of its step */
  } under[RUNS_UNDER];
  int n_under;
} Meter;

/* Brings the oldest run under way to its end. */
static bool end_run(Meter *m, Buf *why) {
  if (!exec_wait(m->exec, m->under[0].ticket, m->under[0].buffers->output, why)) return false;
  double now = now_ms();
  if (m->under[0].last) {
    if (!m->warming) m->ms[m->steps] = now - m->ended;
    m->ended = now;
    m->steps++;
  }
  memmove(m->under, m->under + 1, sizeof *m->under * (size_t)--m->n_under);
  return true;
}

static bool end_all(Meter *m, Buf *why) {
  while (m->n_under)
    if (!end_run(m, why)) return false;
  return true;
}

static bool one_run(Meter *m, const ImgProgram *p, const Buffers *b, bool last, Buf *why) {
  Profile *profile = m->work->profile;
  int most = profile ? 1 : RUNS_UNDER;
  while (m->n_under == most)
    if (!end_run(m, why)) return false;
  uint64_t ticket;
  if (!exec_submit(m->exec, p, (const void *const *)b->input, &ticket, why)) return false;
  m->under[m->n_under].ticket = ticket;
  m->under[m->n_under].buffers = b;
  m->under[m->n_under++].last = last;
  if (!profile) return true;
  return end_run(m, why) && (m->warming || profile_add(profile, m->exec, p, why));
}

static bool one_step(Meter *m, const Buffers *main, const Buffers *after, Buf *why) {
  const Work *w = m->work;
  const ImgProgram *p = w->program;
  for (int k = 0; k < w->times; k++) {
    for (uint32_t i = 0; i < p->n_input; i++)
      if (strcmp(p->input[i].name, "rng") == 0) ((int32_t *)main->input[i])[3] = k;
    if (!one_run(m, p, main, !w->after && k == w->times - 1, why)) return false;
  }
  return !w->after || one_run(m, w->after, after, true, why);
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Milliseconds of each of `n` steps, ascending, after `warm` that are not counted. */
static bool measure(Runner *r, Exec *e, const Work *w, int64_t warm, int64_t n, double *ms,
                    Buf *why) {
  if (!runner_init(e, r->image, 1, why)) return false;
  Buffers main = make_buffers(r, w->program, warm + n), after = {0};
  if (w->after) after = make_buffers(r, w->after, warm + n);
  Meter m = {.exec = e, .work = w, .ms = ms, .warming = true};
  if (!one_step(&m, &main, &after, why) || !end_all(&m, why)) return false;
  double start = now_ms();
  while (m.steps < warm || now_ms() - start < WARM_MS)
    if (!one_step(&m, &main, &after, why)) return false;
  if (!end_all(&m, why)) return false;
  m.warming = false;
  m.steps = 0;
  for (int64_t i = 0; i < n; i++)
    if (!one_step(&m, &main, &after, why)) return false;
  if (!end_all(&m, why)) return false;
  if (w->profile) w->profile->steps = n;
  qsort(ms, (size_t)n, sizeof *ms, by_value);
  return true;
}

static void report(const Runner *r, const Work *w, const double *ms, int64_t n) {
  const DeviceInfo *device = vk_info(r->dev);
  double pipelines_ms = 1e3 * exec_pipeline_seconds(r->exec);
  double median = n % 2 ? ms[n / 2] : (ms[n / 2 - 1] + ms[n / 2]) / 2;
  double s = median * 1e-3;
  if (!r->json) {
    Buf flops = {0}, moved = {0};
    cli_amount(&flops, w->flops / s, "FLOP/s");
    cli_bytes(&moved, w->bytes);
    printf("%s: %lld tokens in %.2f ms (median of %lld; %.2f to %.2f), %s of matrix work, %s moved "
           "by %lld dispatches; before the first, %.1f ms were spent waiting for pipelines\n",
           w->what, (long long)w->tokens, median, (long long)n, ms[0], ms[n - 1], flops.data,
           moved.data, (long long)w->dispatches, pipelines_ms);
    buf_free(&flops);
    buf_free(&moved);
  }
  if (w->profile && !r->json) profile_print(w->profile);
  json_t *o = json_pack(
    "{s:s, s:s, s:f, s:f, s:f, s:I, s:f, s:f, s:f, s:I, s:I, s:f, s:s, s:s, s:s}", "bench", w->what,
    "model", r->image->model, "ms_per_step", median, "ms_min", ms[0], "ms_max", ms[n - 1],
    "tokens_per_step", (json_int_t)w->tokens, "tokens_per_second", (double)w->tokens / s,
    "model_flops_per_second", w->flops / s, "bytes_moved", w->bytes, "dispatches",
    (json_int_t)w->dispatches, "steps", (json_int_t)n, "pipelines_ms", pipelines_ms, "target",
    r->image->target.name, "device", device->name, "driver", device->driver);
  if (w->profile) json_object_set_new(o, "kernels", profile_json(w->profile));
  char *text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(6));
  if (!text) die("bench: JSON could not be made");
  puts(text);
  free(text);
  json_decref(o);
}

int cmd_bench(Runner *r, int argc, char **argv) {
  static const Usage usage = {
    .args = "train|prefill [options]",
    .about =
      "Measures one training step, or the forward pass over the longest context, on made-up\n"
      "tokens with fresh weights. As in training, a step is submitted before the one ahead of it\n"
      "has ended; a step's time is from end to end. The last line is one JSON object: ms_per_step\n"
      "(the median), tokens_per_second, model_flops_per_second (matrix products only),\n"
      "bytes_moved (the least that the kernels must move), dispatches, pipelines_ms (for which\n"
      "the run waited for pipelines, before the first step), target, device.\n"
      "With --profile kernels run one after the other, each measured: a table says how often each\n"
      "runs in a step, its time, and the arithmetic and memory traffic that it achieves.",
    .example = "$0 bench train --steps 20\n$0 bench train --profile --peak-flops 1.5e11",
    .min_args = 1,
    .max_args = 1};
  int64_t steps = 10, warm = 2;
  bool profile = false;
  double peak_flops = 0, peak_bytes = 0;
  const Opt opt[] = {
    {"--steps", OPT_int, &steps, "N", "steps measured (default 10)", 1, 1000000},
    {"--warmup", OPT_int, &warm, "N",
     "steps before them that are not (default 2), or more: at least 0.3 s", 1, 1000000},
    {"--profile", OPT_flag, &profile, NULL, "measures each kernel", 0, 0},
    {"--peak-flops", OPT_float, &peak_flops, "F",
     "with --profile: what the machine reaches, in FLOP/s; the table then\n"
     "says which part of it each kernel does (bench/cpu/roofline.sh)",
     1, INFINITY},
    {"--peak-bytes", OPT_float, &peak_bytes, "B", "the same for memory, in bytes/s", 1, INFINITY},
  };
  TextList args;
  int status = cli_parse(r, &usage, opt, COUNT_OF(opt), argc, argv, &args);
  if (status >= 0) return status;
  Work w = {.what = args.item[0]};
  if (strcmp(w.what, "decode") == 0)
    return cli_error(r,
                     "this version generates by computing the whole context for every token; there "
                     "is no decoding step to measure yet ('bench prefill' measures what it does)");
  if (strcmp(w.what, "train") != 0 && strcmp(w.what, "prefill") != 0)
    return cli_misuse(r, "unknown measurement '%s'; there are train and prefill", w.what);
  if (!runner_choose(r)) return EXIT_failed;
  if (!(strcmp(w.what, "train") == 0 ? train_work(r, &w) : prefill_work(r, &w))) return EXIT_failed;
  if (profile) {
    r->times = true;
    w.profile = profile_new(r->arena, r->image);
    w.profile->peak_flops = peak_flops;
    w.profile->peak_bytes = peak_bytes;
  } else if (peak_flops > 0 || peak_bytes > 0) {
    return cli_misuse(r, "--peak-flops and --peak-bytes go with --profile");
  }
  const ImgProgram *program[] = {image_program(r->image, "init"), w.program, w.after};
  Exec *e = runner_exec(r, program, COUNT_OF(program));
  if (!e) return EXIT_failed;
  double *ms = arena_alloc(r->arena, sizeof *ms * (size_t)steps);
  Buf why = {0};
  if (measure(r, e, &w, warm, steps, ms, &why)) {
    report(r, &w, ms, steps);
    status = EXIT_ok;
  } else {
    status = cli_error(r, "%s", why.data);
  }
  buf_free(&why);
  return status;
}
