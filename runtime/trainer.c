/* Step k + 1 is submitted before the loss of step k is read, so the device does not wait for the
 * host. Where a step is followed by a validation or a checkpoint, it ends first. */
#include "runtime/trainer.h"
#include "runtime/evaluate.h"
#include "runtime/metrics.h"
#include "runtime/progress.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS_UNDER = 2 };

typedef struct Buffers { /* what a program's inputs are filled from */
  const ImgProgram *program;
  void **input;
} Buffers;

typedef struct Step { /* under way */
  int64_t number;     /* from 1 */
  uint64_t ticket;
} Step;

typedef struct Trainer {
  TrainPlan *plan;
  Exec *exec;
  const Image *image;
  Buffers first, last; /* train, which is both; or micro and update */
  int n_micro;
  uint64_t micro[EXEC_RING]; /* tickets of micro-batches under way, the oldest first */
  int n_under;               /* of them */
  Step step[STEPS_UNDER];
  int n_step;
  int64_t submitted;  /* number of the last step submitted */
  int64_t first_step; /* of this process */
  int64_t saved;      /* step of the last checkpoint */
  double finished_at; /* seconds */
  double shown_rate;  /* tokens per second, smoothed */
  double val_loss;
  bool has_val;
  Metrics *metrics;
  Progress progress;
  Buf path, why;
} Trainer;

/* ---- signals: the step under way is finished, then a checkpoint is written; a second signal ends
 * the process at once ---- */

static volatile sig_atomic_t stop_signal;

static void on_signal(int number) { stop_signal = number; }

static void catch_signals(void) {
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | (int)SA_RESETHAND};
  sigemptyset(&action.sa_mask);
  stop_signal = 0;
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
}

/* ---- one step ---- */

static Buffers buffers(Arena *arena, const ImgProgram *p) {
  Buffers b = {p, arena_alloc(arena, p->n_input * sizeof(void *))};
  for (uint32_t i = 0; i < p->n_input; i++)
    b.input[i] = arena_alloc(arena, image_host_bytes(&p->input[i]));
  return b;
}

/* The inputs that are not data. */
static void fill_counters(const Buffers *b, const RunState *run, int64_t step, int micro) {
  for (uint32_t i = 0; i < b->program->n_input; i++) {
    const char *name = b->program->input[i].name;
    float total = (float)run->total;
    if (strcmp(name, "rng") == 0) rng_fill(b->input[i], run->seed, step, micro);
    if (strcmp(name, "total") == 0) memcpy(b->input[i], &total, sizeof total);
  }
}

static bool wait_micro(Trainer *t) {
  uint64_t ticket = t->micro[0];
  memmove(t->micro, t->micro + 1, (size_t)--t->n_under * sizeof *t->micro);
  return exec_wait(t->exec, ticket, NULL, &t->why);
}

static bool submit(Trainer *t, const Buffers *b, uint64_t *ticket) {
  return exec_submit(t->exec, b->program, (const void *const *)b->input, ticket, &t->why);
}

/* Submits the next step; at most EXEC_RING − STEPS_UNDER of its micro-batches are under way at
 * once. */
static bool submit_step(Trainer *t) {
  int64_t index = t->submitted; /* from 0: the data step */
  const RunState *run = &t->plan->run;
  bool accumulate = t->last.program != t->first.program;
  uint64_t ticket = 0;
  for (int m = 0; m < t->n_micro; m++) {
    fill_counters(&t->first, run, index, m);
    if (!data_batch(t->plan->data, run->seed, index, m, t->n_micro, t->first.input, &t->why))
      return false;
    if (accumulate && t->n_under == EXEC_RING - STEPS_UNDER && !wait_micro(t)) return false;
    if (!submit(t, &t->first, &ticket)) return false;
    if (accumulate) t->micro[t->n_under++] = ticket;
  }
  if (accumulate) {
    fill_counters(&t->last, run, index, 0);
    if (!submit(t, &t->last, &ticket)) return false;
  }
  t->step[t->n_step++] = (Step){++t->submitted, ticket};
  return true;
}

typedef struct StepResult {
  float loss, grad_norm, lr, loss_scale; /* loss_scale 0: there is none */
  int32_t updates, ok;
} StepResult;

static bool read_step(Trainer *t, uint64_t ticket, StepResult *r) {
  const ImgProgram *p = t->last.program;
  const struct {
    const char *name;
    void *to;
  } want[] = {{"loss", &r->loss},
              {"grad_norm", &r->grad_norm},
              {"lr", &r->lr},
              {"loss_scale", &r->loss_scale},
              {"step", &r->updates},
              {"ok", &r->ok}};
  void **output = xcalloc(p->n_output, sizeof *output);
  for (uint32_t i = 0; i < p->n_output; i++)
    for (int k = 0; k < COUNT_OF(want); k++)
      if (strcmp(p->output[i].name, want[k].name) == 0) output[i] = want[k].to;
  *r = (StepResult){.ok = 1};
  bool done = exec_wait(t->exec, ticket, output, &t->why);
  free(output);
  if (isnan(r->loss)) r->loss = NAN; /* without a sign, which printf would show */
  if (isnan(r->grad_norm)) r->grad_norm = NAN;
  return done;
}

static bool due(int64_t step, int64_t every, int64_t total) {
  return (every && step % every == 0) || step == total;
}

static void show_validation(void *arg, int64_t rows, int64_t of) {
  Trainer *t = arg;
  if (t->progress.terminal) progress_show(&t->progress, rows, of, "validating", false);
}

static bool validate(Trainer *t) {
  EvalResult r;
  Progress training = t->progress;
  progress_begin(&t->progress, 0, training.quiet);
  bool ok = evaluate(t->exec, t->image, t->plan->val, t->plan->val_batches, show_validation, t, &r,
                     &t->why);
  bool visible = t->progress.visible;
  t->progress = training;
  t->progress.visible |= visible;
  t->val_loss = r.loss;
  t->has_val = ok;
  return ok;
}

static void show_step(Trainer *t, const Metric *m) {
  Buf text = {0};
  bool steady = t->shown_rate > 0 && m->step > t->first_step + 1;
  t->shown_rate =
    steady ? 0.95 * t->shown_rate + 0.05 * m->tokens_per_second : m->tokens_per_second;
  buf_printf(&text, "loss %.4f", m->loss);
  if (t->has_val) buf_printf(&text, "  val %.4f", t->val_loss);
  buf_str(&text, "  ");
  print_rate(&text, t->shown_rate);
  buf_str(&text, " tok/s");
  if (m->n_skipped) buf_printf(&text, "  %lld skipped", (long long)m->n_skipped);
  bool always = m->step == t->plan->run.total || m->has_val || m->step == t->first_step;
  progress_show(&t->progress, m->step, t->plan->run.total, text.data, always);
  buf_free(&text);
  if (m->step != t->first_step) return;
  /* the first step compiled kernels: its time says nothing about the others' */
  t->progress.first = m->step;
  t->progress.began = clock_seconds();
}

static bool report_step(Trainer *t, Metric *m) {
  Buf line = {0};
  if (t->plan->runner->json) {
    metric_print(&line, m);
    printf("%s\n", line.data);
    fflush(stdout);
    buf_free(&line);
  }
  show_step(t, m);
  return metrics_add(t->metrics, m, &t->why);
}

/* Brings the oldest step under way to its end. */
static bool finish_step(Trainer *t) {
  RunState *run = &t->plan->run;
  Step s = t->step[0];
  memmove(t->step, t->step + 1, (size_t)--t->n_step * sizeof s);
  StepResult r;
  if (!read_step(t, s.ticket, &r)) return false;
  double now = clock_seconds(), seconds = now - t->finished_at;
  int64_t tokens = data_batch_size(t->plan->data) * data_row_tokens(t->plan->data) * t->n_micro;
  run->step = s.number;
  run->tokens += tokens;
  run->skipped += !r.ok;
  Metric m = {.step = s.number,
              .loss = (double)r.loss,
              .lr = (double)r.lr,
              .grad_norm = (double)r.grad_norm,
              .loss_scale = (double)r.loss_scale,
              .tokens = run->tokens,
              .tokens_per_second = (double)tokens / seconds,
              .ms = seconds * 1e3,
              .target = t->image->target.name,
              .skipped = !r.ok,
              .n_skipped = run->skipped};
  bool ok = true;
  if (t->plan->val && due(s.number, t->plan->val_every, run->total)) {
    ok = validate(t);
    m.has_val = ok;
    m.val_loss = t->val_loss;
  }
  t->finished_at = clock_seconds();
  ok = ok && report_step(t, &m);
  /* A gradient that left f16 has halved the scale: that is how it is found. */
  bool lowered = r.loss_scale > 1 && isfinite(r.loss);
  if (ok && !r.ok && !lowered && t->plan->stop_on_nan) {
    buf_printf(&t->why,
               "step %lld: %s is not finite (loss %g, gradient norm %g); stopped as --on-nan=stop "
               "asks. The last "
               "checkpoint, of step %lld, stands",
               (long long)s.number, isfinite(r.loss) ? "the gradient norm" : "the loss",
               (double)r.loss, (double)r.grad_norm, (long long)t->saved);
    ok = false;
  }
  return ok;
}

static bool save(Trainer *t) {
  if (!metrics_flush(t->metrics, &t->why)) return false;
  progress_clear(&t->progress);
  if (!checkpoint_save(t->path.data, t->exec, t->image, &t->plan->run, t->plan->tok, &t->why))
    return false;
  t->saved = t->plan->run.step;
  return true;
}

/* ---- the run ---- */

static bool drain(Trainer *t) {
  while (t->n_step)
    if (!finish_step(t)) return false;
  while (t->n_under)
    if (!wait_micro(t)) return false;
  return true;
}

static bool run_steps(Trainer *t) {
  TrainPlan *p = t->plan;
  while (t->submitted < p->run.total && !stop_signal) {
    if (!submit_step(t)) return false;
    bool saves = due(t->submitted, p->save_every, p->run.total);
    if (saves || (p->val && due(t->submitted, p->val_every, p->run.total))) {
      if (!drain(t) || (saves && !save(t))) return false;
    } else if (t->n_step == STEPS_UNDER && !finish_step(t)) {
      return false;
    }
  }
  return drain(t) && (t->saved == p->run.step || save(t));
}

static bool open_metrics(Trainer *t) {
  Buf path = {0};
  int64_t kept;
  buf_printf(&path, "%s/metrics.jsonl", t->plan->dir);
  t->metrics = metrics_open(path.data, t->plan->run.step, &kept, &t->why);
  if (t->metrics && kept < t->plan->run.step)
    progress_note(&t->progress, "%s: ends at step %lld where the checkpoint is of step %lld",
                  path.data, (long long)kept, (long long)t->plan->run.step);
  buf_free(&path);
  return t->metrics != NULL;
}

/* A new run's first checkpoint is written before its first step: a directory where none can be
 * written is found out now. */
static bool begin(Trainer *t) {
  RunState *run = &t->plan->run;
  t->submitted = t->saved = run->step;
  t->first_step = run->step + 1;
  if (run->step == 0 &&
      !checkpoint_save(t->path.data, t->exec, t->image, run, t->plan->tok, &t->why))
    return false;
  return open_metrics(t);
}

static void say_end(Trainer *t, bool ok) {
  const RunState *run = &t->plan->run;
  if (ok && run->step < run->total)
    progress_note(&t->progress, "stopped at step %lld of %lld; --resume goes on from %s",
                  (long long)run->step, (long long)run->total, t->path.data);
  else if (ok)
    progress_note(&t->progress, "%s: step %lld%s", t->path.data, (long long)run->step,
                  t->progress.terminal ? "" : ", done");
  if (ok && run->skipped)
    progress_note(&t->progress, "%lld steps were skipped: their loss or gradient was not finite",
                  (long long)run->skipped);
}

const ImgProgram *train_data_program(Runner *r) {
  if (image_program(r->image, "micro") && image_program(r->image, "update"))
    return image_program(r->image, "micro");
  return runner_program(r, "train", "training needs a model with a loss and a train block");
}

int train(TrainPlan *plan) {
  Runner *r = plan->runner;
  const ImgProgram *first = train_data_program(r), *last = image_program(r->image, "update");
  if (!first) return EXIT_failed;
  if (strcmp(first->name, "micro") != 0) last = first;
  Trainer t = {
    .plan = plan, .exec = r->exec, .image = r->image, .n_micro = (int)image_accumulate(r->image)};
  t.first = buffers(r->arena, first);
  t.last = last == first ? t.first : buffers(r->arena, last);
  buf_printf(&t.path, "%s/checkpoint.safetensors", plan->dir);
  catch_signals();
  progress_begin(&t.progress, plan->run.step, r->json);
  bool ok = begin(&t);
  t.finished_at = clock_seconds();
  ok = ok && run_steps(&t);
  say_end(&t, ok);
  progress_clear(&t.progress);
  if (!ok) cli_error(r, "%s", t.why.data);
  metrics_close(t.metrics);
  buf_free(&t.path);
  buf_free(&t.why);
  return ok ? EXIT_ok : EXIT_failed;
}
