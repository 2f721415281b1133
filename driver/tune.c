/* alphac tune: the kernels of a model that have several forms are run in each, on the device at hand and with
 * the sizes that the model has; later compilations for it take the fastest. */
#include "driver/tune.h"
#include "driver/device_target.h"
#include "driver/driver.h"
#include "driver/profile.h"
#include "driver/programs.h"
#include "passes/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct TuneKernel { /* kernels of one key */
  const char *key;
  const KernelJob *job; /* the first of them */
  int times;            /* dispatches of all programs */
  double flops;
  KernelForm form[CG_MAX_FORMS];
  int n_form;
  TuneJob *run; /* begun: forms are being compiled */
  Buf lack;     /* why it could not be */
} TuneKernel;

typedef struct Tune {
  const Options *option;
  Arena *arena;
  Device *device;
  Target target;
  TuneKernel *kernel;
  int n_kernel;
  Buf path; /* where results go */
  Tuning found;
  int wrong;
} Tune;

/* ---- which kernels ---- */

static void add_job(Tune *t, const KernelJob *job) {
  KernelForm form[CG_MAX_FORMS];
  if (job->copy || job->tabled || cg_forms(job, &t->target, form) < 2) return;
  Buf key = {0};
  cg_form_key(job, &t->target, &key);
  int at = 0;
  while (at < t->n_kernel && strcmp(t->kernel[at].key, key.data) != 0) at++;
  if (at == t->n_kernel) {
    Arena *scratch = arena_new();
    KernelCode code;
    cg_emit(scratch, job, &t->target, &code);
    TuneKernel fresh = {
      .key = arena_str(t->arena, key.data, key.len), .job = job, .flops = code.flops};
    fresh.n_form = cg_forms(job, &t->target, fresh.form);
    ARENA_PUSH(t->arena, t->kernel, t->n_kernel, fresh);
    arena_free(scratch);
  }
  t->kernel[at].times++;
  buf_free(&key);
}

static bool add_program(Tune *t, const Graph *g, Buf *why) {
  Graph *ordered = plan_ordered(g);
  const Plan *plan = plan_graph(layout_new(t->arena, &t->target), ordered, &t->target, why);
  graph_free(ordered);
  for (int i = 0; plan && i < plan->n_step; i++)
    if (!plan->step[i].assembles) add_job(t, &plan->step[i].job);
  return plan != NULL;
}

static int by_work(const void *a, const void *b) {
  const TuneKernel *x = a, *y = b;
  double p = x->flops * x->times, q = y->flops * y->times;
  return p != q ? (p < q) - (p > q) : strcmp(x->key, y->key);
}

/* ---- what is kept ---- */

/* Where it goes, and what is there already: what the file says of other kernels stays. A file that the user
 * named is not replaced where it is no profile; our own, damaged, is written anew. */
static bool open_file(Tune *t, Buf *why) {
  const DeviceInfo *d = vk_info(t->device);
  Buf text = {0}, bad = {0};
  if (t->option->output)
    buf_str(&t->path, t->option->output);
  else if (!tuning_path(d, true, &t->path)) {
    buf_str(why, "there is no home folder to keep the results in; name a file with -o");
    return false;
  }
  const Profile *p = NULL;
  bool there = buf_read_file(&text, t->path.data), ok = there || errno == ENOENT;
  if (there) p = profile_parse(t->arena, t->path.data, text.data ? text.data : "", text.len, &bad);
  if (!ok) buf_printf(why, "%s: cannot be read: %s", t->path.data, strerror(errno));
  if (there && !p && t->option->output) {
    buf_printf(why, "%s; results do not replace it", bad.data);
    ok = false;
  }
  if (p && strcmp(p->device, d->name) == 0 && strcmp(p->driver, d->driver) == 0)
    for (int i = 0; i < p->tuning.n; i++)
      ARENA_PUSH(t->arena, t->found.of, t->found.n, p->tuning.of[i]);
  buf_free(&text);
  buf_free(&bad);
  return ok;
}

/* After each kernel: what was measured is not lost where somebody stops it. */
static bool keep(Tune *t, const char *kernel, const char *form, double us, Buf *why) {
  TunedForm fresh = {kernel, arena_str(t->arena, form, strlen(form)), us};
  int at = 0;
  while (at < t->found.n && strcmp(t->found.of[at].kernel, kernel) != 0) at++;
  if (at < t->found.n)
    t->found.of[at] = fresh;
  else
    ARENA_PUSH(t->arena, t->found.of, t->found.n, fresh);
  Buf text = {0};
  Target target = t->target;
  target.tuning = &t->found;
  profile_print(&text, &target, vk_info(t->device));
  bool ok = output_write(t->path.data, &(Piece){text.data, text.len}, 1, false, why);
  buf_free(&text);
  return ok;
}

/* ---- measuring ---- */

static void show(const Tune *t, int kernel, const char *form) {
  if (!isatty(STDERR_FILENO)) return;
  fprintf(stderr, "\r\033[K");
  if (form) fprintf(stderr, "kernel %d of %d: %.60s", kernel + 1, t->n_kernel, form);
  fflush(stderr);
}

static void report(const Tune *t, int kernel, const char *first, double first_us, const char *best,
                   double best_us, int left) {
  const TuneKernel *k = &t->kernel[kernel];
  show(t, kernel, NULL);
  printf("%3d/%d  %s (%d dispatch%s)\n", kernel + 1, t->n_kernel, k->key, k->times,
         k->times > 1 ? "es" : "");
  printf("        %-40s %10.1f us, the first of %d forms", first, first_us, k->n_form);
  if (left) printf(", %d of them too slow to try", left);
  printf("\n");
  if (best != first)
    printf("        %-40s %10.1f us, %.0f %% less\n", best, best_us,
           100 * (1 - best_us / first_us));
  fflush(stdout);
}

/* A GPU at rest has a slow clock, which takes a while of work to rise. */
static bool warm_up(const Tune *t, TuneJob *job, Buf *why) {
  const double long_enough = 0.4; /* seconds */
  struct timespec from, now;
  clock_gettime(CLOCK_MONOTONIC, &from);
  for (bool on = !t->target.is_cpu; on;) {
    TuneResult ignored;
    if (!tune_form(job, 0, 0, &ignored, why)) return false;
    clock_gettime(CLOCK_MONOTONIC, &now);
    on = (double)(now.tv_sec - from.tv_sec) + 1e-9 * (double)(now.tv_nsec - from.tv_nsec) <
         long_enough;
  }
  return true;
}

/* Begins the kernel and, on a GPU, the next ones: their forms are compiled while it runs. A CPU does one thing at a
 * time, else times would mean nothing. */
static void begin(Tune *t, int index) {
  enum { AHEAD = 2 };
  int last = index + (t->target.is_cpu ? 0 : AHEAD);
  for (int i = index; i <= last && i < t->n_kernel; i++) {
    TuneKernel *k = &t->kernel[i];
    if (!k->run && !k->lack.len)
      k->run = tune_begin(t->device, &t->target, k->job, k->form, k->n_form, &k->lack);
  }
}

/* Forms that are expected to take many times as long as one that took `us` run only where that is soon done. */
static bool worth_it(const KernelForm *form, double us) {
  const double soon = 1000; /* us */
  return form->times <= TUNE_FAR || form->times * us < soon;
}

/* All forms of one kernel that is begun; the fastest that is right goes into t->found. */
static bool measure_kernel(Tune *t, int index, Buf *why) {
  enum { FASTER = 98 }; /* percent: what is not faster than that is noise */
  const TuneKernel *k = &t->kernel[index];
  int best = -1, first = -1, left = 0;
  double best_us = 0, first_us = 0;
  if (index == 0 && !warm_up(t, k->run, why)) return false;
  for (int i = 0; i < k->n_form; i++) {
    TuneResult r = {0};
    if (first >= 0 && !worth_it(&k->form[i], first_us)) {
      left++;
      continue;
    }
    show(t, index, k->form[i].name);
    if (!tune_form(k->run, i, best_us, &r, why)) return false;
    if (!r.right) {
      show(t, index, NULL);
      printf("%s: wrong: form %s gives other values than form %s\n", k->key, k->form[i].name,
             k->form[0].name);
      t->wrong++;
      continue;
    }
    if (first < 0) {
      first = i, first_us = r.us;
      for (int f = 0; f < k->n_form; f++)
        if (worth_it(&k->form[f], first_us)) tune_prepare(k->run, f);
    }
    if (best >= 0 && r.us * 100 >= best_us * FASTER) continue;
    best = i;
    best_us = r.us;
  }
  if (best < 0) return true;
  report(t, index, k->form[first].name, first_us, k->form[best].name, best_us, left);
  return keep(t, k->key, k->form[best].name, best_us, why);
}

static bool tune_kernel(Tune *t, int index, Buf *why) {
  TuneKernel *k = &t->kernel[index];
  begin(t, index);
  if (!k->run)
    printf("%3d/%d  %s: not measured: %s\n", index + 1, t->n_kernel, k->key, k->lack.data);
  bool ok = !k->run || measure_kernel(t, index, why);
  tune_end(k->run);
  k->run = NULL;
  buf_free(&k->lack);
  return ok;
}

static bool run(Tune *t, const ProgramSet *set, Buf *why) {
  if (!open_file(t, why)) return false;
  for (int i = 0; i < set->n; i++)
    if (!add_program(t, set->graph[i], why)) return false;
  if (t->n_kernel) qsort(t->kernel, (size_t)t->n_kernel, sizeof *t->kernel, by_work);
  if (!t->n_kernel) printf("no kernel of this model has several forms on this device\n");
  bool ok = true;
  for (int i = 0; i < t->n_kernel && ok; i++) ok = tune_kernel(t, i, why);
  for (int i = 0; i < t->n_kernel; i++) { /* begun ahead */
    tune_end(t->kernel[i].run);
    buf_free(&t->kernel[i].lack);
  }
  if (!ok) return false;
  if (t->found.n) printf("%s: %d kernels\n", t->path.data, t->found.n);
  return true;
}

static int tune_model(const Options *o, Model *m, Buf *errors) {
  Tune t = {.option = o, .arena = o->arena};
  ProgramSet set;
  Buf why = {0};
  if (!build_programs(o, m, &set, errors)) return EXIT_failed;
  t.device = vk_open((int)o->device, &why);
  bool ok = t.device != NULL;
  if (ok) {
    t.target = device_target(vk_info(t.device), vk_info(t.device)->name);
    t.target.strict = o->pass.strict;
    ok = run(&t, &set, &why);
  }
  int status = !ok ? failed("%s", why.data) : t.wrong ? EXIT_failed : EXIT_ok;
  vk_close(t.device);
  buf_free(&t.path);
  programs_free(&set);
  buf_free(&why);
  return status;
}

int tune_main(int argc, char **argv) {
  Options o = {.arena = arena_new(), .command = COMMAND_tune};
  int status = options_parse(&o, argc, argv);
  if (status < 0) {
    Buf errors = {0};
    Model *m = load_model(&o, &errors);
    status = m ? tune_model(&o, m, &errors) : EXIT_failed;
    print_errors(&errors);
    fe_free(m);
    buf_free(&errors);
  }
  arena_free(o.arena);
  return status;
}
