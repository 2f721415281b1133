/* A queue of modules and threads that take from it; the end helps to empty it. */
#include "driver/validate.h"
#include "codegen/plan.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_THREADS = 16 };

typedef struct Job {
  const uint32_t *word;
  int n_word;
  const char *what;
} Job;

struct Validator {
  pthread_mutex_t lock;
  pthread_cond_t more;
  pthread_t thread[MAX_THREADS];
  int n_thread;
  Job *job;
  int n_job, cap_job, next;
  bool started, ended;
  Buf wrong;       /* of the first invalid module */
  int n_unchecked; /* modules that could not be validated, and of the first of them why */
  Buf unchecked;
};

/* Takes the next job and validates it, with the lock released meanwhile. */
static void validate_next(Validator *v) {
  Job job = v->job[v->next++];
  pthread_mutex_unlock(&v->lock);
  Buf wrong = {0};
  bool ok = cg_validate(job.word, job.n_word, &wrong);
  pthread_mutex_lock(&v->lock);
  if (!ok && !v->wrong.len)
    buf_printf(&v->wrong, "kernel %s is not valid SPIR-V: %s", job.what, wrong.data);
  if (ok && wrong.len && v->n_unchecked++ == 0) buf_str(&v->unchecked, wrong.data);
  buf_free(&wrong);
}

static void *work(void *arg) {
  Validator *v = arg;
  pthread_mutex_lock(&v->lock);
  for (;;) {
    if (v->next < v->n_job)
      validate_next(v);
    else if (v->ended)
      break;
    else
      pthread_cond_wait(&v->more, &v->lock);
  }
  pthread_mutex_unlock(&v->lock);
  return NULL;
}

Validator *validate_new(void) {
  Validator *v = xcalloc(1, sizeof *v);
  pthread_mutex_init(&v->lock, NULL);
  pthread_cond_init(&v->more, NULL);
  return v;
}

/* One thread fewer than there are processors: the compiler has one. */
static void start_threads(Validator *v) {
  cpu_set_t set;
  int most = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) - 1 : 0;
  if (most > MAX_THREADS) most = MAX_THREADS;
  while (v->n_thread < most && pthread_create(&v->thread[v->n_thread], NULL, work, v) == 0)
    v->n_thread++;
  v->started = true;
}

void validate_add(Validator *v, const uint32_t *word, int n_word, const char *what) {
  pthread_mutex_lock(&v->lock);
  if (!v->started) start_threads(v);
  if (v->n_job == v->cap_job) {
    v->cap_job = v->cap_job ? 2 * v->cap_job : 64;
    v->job = xrealloc(v->job, sizeof *v->job * (size_t)v->cap_job);
  }
  v->job[v->n_job++] = (Job){word, n_word, what};
  pthread_cond_signal(&v->more);
  pthread_mutex_unlock(&v->lock);
}

void validate_end(Validator *v) {
  pthread_mutex_lock(&v->lock);
  v->ended = true;
  pthread_cond_broadcast(&v->more);
  while (v->next < v->n_job) validate_next(v);
  pthread_mutex_unlock(&v->lock);
  for (int i = 0; i < v->n_thread; i++) pthread_join(v->thread[i], NULL);
  pthread_cond_destroy(&v->more);
  pthread_mutex_destroy(&v->lock);
  if (v->wrong.len) die("%s", v->wrong.data);
  if (v->n_unchecked)
    fprintf(stderr, "alphac: note: %d of %d kernels were %s\n", v->n_unchecked, v->n_job,
            v->unchecked.data);
  buf_free(&v->unchecked);
  free(v->job);
  free(v);
}
