/* Pipelines in threads. A program's modules are asked for as soon as it is known that it will run;
 * threads make them, large ones first and those that somebody waits for before others. Who waits
 * helps. Vulkan lets several threads make pipelines of one device with one cache; everything that
 * uses the queue stays with the thread that owns the Exec.
 *
 * Mesa's CPU driver holds a lock while kernels run, which the last step of making a pipeline needs: a thread that
 * makes one meanwhile does nearly all of the work and then stands still. So there, while kernels run, each module has
 * a thread of its own, and all are nearly made when the kernels have ended. */
#include "runtime/vk/internal.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

/* ---- making ---- */

/* The module to make next: one that is waited for before one that is not, then the largest; −1:
 * none. `compiles`: it may be one for a spare device; `waits`: only one that is waited for. */
static int next_asked(const Exec *e, bool compiles, bool waits) {
  int best = -1;
  for (int i = 0; i < (int)e->image->n_module; i++) {
    const Making *m = &e->makers.module[i];
    if (m->stage != MAKING_asked || (m->spare && !compiles) || (waits && !m->urgent)) continue;
    if (best >= 0) {
      const Making *b = &e->makers.module[best];
      if (m->urgent < b->urgent) continue;
      if (m->urgent == b->urgent && e->image->module[i].n_word <= e->image->module[best].n_word)
        continue;
    }
    best = i;
  }
  return best;
}

/* Makes one pipeline; the lock is held before and after, not meanwhile. */
static void make(Exec *e, int index, Spare *spare) {
  Makers *s = &e->makers;
  Making *m = &s->module[index];
  m->stage = MAKING_now;
  bool compile = m->spare;
  pthread_mutex_unlock(&s->lock);
  const ImgModule *module = &e->image->module[index];
  compile = compile && spare_compile(spare, e->dev, module, &m->binary);
  Pipeline pipeline;
  VkResult r = pipeline_new(&e->maker, module, e->option.no_cache ? NULL : &m->binary, &pipeline);
  pthread_mutex_lock(&s->lock);
  m->pipeline = pipeline;
  m->result = r;
  m->compiled = compile;
  m->stage = MAKING_done;
  pthread_cond_broadcast(&s->made);
}

static void *work(void *arg) {
  const Maker *by = arg;
  Exec *e = by->exec;
  Makers *s = &e->makers;
  Spare spare = {0};
  pthread_mutex_lock(&s->lock);
  while (!s->stop) {
    int index = next_asked(e, by->compiles, false);
    if (index < 0)
      pthread_cond_wait(&s->asked, &s->lock);
    else
      make(e, index, &spare);
  }
  pthread_mutex_unlock(&s->lock);
  spare_close(&spare);
  return NULL;
}

/* ---- asking ---- */

static int processors(void) {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

static int n_asked(const Exec *e, bool spare) { /* spare: those too that a spare device is for */
  int n = 0;
  for (uint32_t i = 0; i < e->image->n_module; i++) {
    const Making *m = &e->makers.module[i];
    n += m->stage == MAKING_asked && (spare || !m->spare);
  }
  return n;
}

/* Up to so many in all. A thread that cannot be had is done without. Signals are for the others. */
static void start_threads(Exec *e, int most) {
  Makers *s = &e->makers;
  int compile = processors() - 1;
  if (most > MAX_MAKERS) most = MAX_MAKERS;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (; s->n_thread < most; s->n_thread++) {
    Maker *m = &s->maker[s->n_thread];
    *m = (Maker){.exec = e, .compiles = s->n_thread < compile};
    if (pthread_create(&m->thread, NULL, work, m)) break;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void pipelines_meanwhile(Exec *e) {
  Makers *s = &e->makers;
  if (!e->dev->info.is_cpu) return;
  pthread_mutex_lock(&s->lock);
  int n = n_asked(e, false);
  if (n) start_threads(e, s->n_thread + n);
  pthread_mutex_unlock(&s->lock);
}

static void ask_one(Exec *e, uint32_t index) {
  Making *m = &e->makers.module[index];
  const ImgModule *module = &e->image->module[index];
  uint64_t seed = module->subgroup_size | (uint64_t)e->maker.shader_objects << 32;
  m->hash = hash_bytes(module->word, 4 * (size_t)module->n_word, seed);
  buf_clear(&m->binary);
  m->unknown = e->option.no_cache || !cache_knows(&e->kept, m->hash, &m->binary);
  m->stage = MAKING_asked;
}

/* Marks the program's modules as asked for; lists those that are not ready, each once. */
static int ask(Exec *e, const ImgProgram *p, bool urgent, uint32_t *list) {
  enum { WORTH_IT = 4 }; /* kernels to compile that make up for opening spare devices */
  Makers *s = &e->makers;
  bool *listed = xcalloc(e->image->n_module, sizeof *listed);
  int n = 0, n_unknown = 0;
  pthread_mutex_lock(&s->lock);
  for (uint32_t i = 0; i < p->n_dispatch; i++) {
    uint32_t index = p->dispatch[i].module;
    Making *m = &s->module[index];
    if (m->stage == MAKING_ready || listed[index]) continue;
    listed[index] = true;
    list[n++] = index;
    if (m->stage == MAKING_not) ask_one(e, index);
    n_unknown += m->unknown;
    m->urgent = m->urgent || urgent;
  }
  bool spare = e->dev->info.is_cpu && !e->option.no_cache && n_unknown >= WORTH_IT;
  for (int i = 0; i < n; i++) {
    Making *m = &s->module[list[i]];
    if (m->stage == MAKING_asked) m->spare = spare && m->unknown;
  }
  /* where more than one is to be made, whichever programs asked for them; the one that waits helps */
  if (n_asked(e, true) > 1) start_threads(e, processors() - 1);
  pthread_cond_broadcast(&s->asked);
  pthread_mutex_unlock(&s->lock);
  free(listed);
  return n;
}

void pipelines_ask(Exec *e, const ImgProgram *p) {
  uint32_t *list = xcalloc(p->n_dispatch, sizeof *list);
  ask(e, p, false, list);
  free(list);
}

/* ---- waiting ---- */

/* Waits until the module is made, making others that are waited for meanwhile; not any, which might take longer. */
static VkResult wait_made(Exec *e, uint32_t index, Spare *spare) {
  Makers *s = &e->makers;
  const Making *m = &s->module[index];
  pthread_mutex_lock(&s->lock);
  while (m->stage < MAKING_done) {
    int other = next_asked(e, true, true);
    if (other < 0)
      pthread_cond_wait(&s->made, &s->lock);
    else
      make(e, other, spare);
  }
  VkResult r = m->result;
  pthread_mutex_unlock(&s->lock);
  return r;
}

static bool is_made(Exec *e, uint32_t index) {
  Makers *s = &e->makers;
  pthread_mutex_lock(&s->lock);
  bool made = s->module[index].stage >= MAKING_done && !s->module[index].result;
  pthread_mutex_unlock(&s->lock);
  return made;
}

/* Has the driver compile all of the list that are made and not warm yet, in one submission; those
 * that a spare device compiled only where `compiled` says so. */
static bool warm_up(Exec *e, const uint32_t *list, int n, bool compiled, bool *warm,
                    VkCommandBuffer *c, Buf *why) {
  if (!buffer_begin(e, c, why)) return false;
  for (int i = 0; i < n; i++) {
    const Making *m = &e->makers.module[list[i]];
    if (warm[i] || !is_made(e, list[i]) || (m->compiled && !compiled)) continue;
    pipeline_dispatch_nothing(*c, e->maker.layout, &m->pipeline);
    warm[i] = true;
  }
  return buffer_end(e, *c, why) && submit_buffer(e, *c, why);
}

static void show(const Exec *e, int done, int total, const char *what) {
  if (e->option.progress) e->option.progress(e->option.progress_arg, done, total, what);
}

/* Makes all of the list and has the driver compile them: those that no spare device compiled while
 * others are still being made, the rest at the end, since what a spare one leaves on the disk needs
 * a moment to arrive there. */
static bool make_listed(Exec *e, const uint32_t *list, int n, VkCommandBuffer *buffer, Buf *why) {
  Spare spare = {0};
  bool ok = true, *warm = xcalloc((size_t)n, sizeof *warm);
  for (int i = 0; i < n && ok; i++) {
    const Making *m = &e->makers.module[list[i]];
    const char *name = e->image->module[list[i]].name;
    if (m->unknown) show(e, i, n, name);
    if (warm[i]) continue;
    VkResult r = wait_made(e, list[i], &spare);
    if (r)
      ok = exec_fault(e, r, name, why);
    else if (!m->compiled)
      ok = warm_up(e, list, n, false, warm, &buffer[i], why);
  }
  ok = ok && warm_up(e, list, n, true, warm, &buffer[n], why);
  free(warm);
  spare_close(&spare);
  show(e, n, n, "");
  Buf more = {0};
  if (!wait_for(e, e->submitted, &more) && ok) { /* afterwards no command buffer is in use */
    buf_str(why, more.data);
    ok = false;
  }
  buf_free(&more);
  return ok;
}

static void save(Exec *e) {
  size_t n = 0;
  VkDevice device = e->dev->device;
  if (!vk.GetPipelineCacheData(device, e->maker.cache, &n, NULL) && n) {
    void *bytes = xmalloc(n);
    buf_clear(&e->kept.driver);
    if (!vk.GetPipelineCacheData(device, e->maker.cache, &n, bytes))
      buf_put(&e->kept.driver, bytes, n);
    free(bytes);
  }
  cache_store(e->dev, &e->kept);
}

/* A failed one is made again when it is needed again. */
static void settle(Exec *e, const uint32_t *list, int n, bool ok) {
  Makers *s = &e->makers;
  bool learnt = false;
  pthread_mutex_lock(&s->lock);
  for (int i = 0; i < n; i++) {
    Making *m = &s->module[list[i]];
    m->urgent = false;
    if (m->stage != MAKING_done) continue;
    m->stage = m->result ? MAKING_not : ok ? MAKING_ready : MAKING_done;
    if (m->stage != MAKING_ready) continue;
    if (m->unknown && !e->option.no_cache) {
      cache_learn(&e->kept, m->hash, &m->binary);
      learnt = true;
    }
    m->unknown = false;
    buf_free(&m->binary);
  }
  pthread_mutex_unlock(&s->lock);
  if (learnt) save(e);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

bool pipelines_need(Exec *e, const ImgProgram *p, Buf *why) {
  double began = now();
  uint32_t *list = xcalloc(p->n_dispatch, sizeof *list);
  VkCommandBuffer *buffer = xcalloc(p->n_dispatch + 1, sizeof *buffer);
  int n = ask(e, p, true, list);
  bool ok = n == 0 || make_listed(e, list, n, buffer, why);
  if (n) settle(e, list, n, ok);
  for (int i = 0; i <= n && !e->lost; i++)
    if (buffer[i]) vk.FreeCommandBuffers(e->dev->device, e->pool, 1, &buffer[i]);
  free(buffer);
  free(list);
  if (n) e->waited += now() - began;
  return ok;
}

double exec_pipeline_seconds(const Exec *e) { return e->waited; }

const Pipeline *pipeline_of(const Exec *e, uint32_t module) {
  return &e->makers.module[module].pipeline;
}

/* ---- opening and closing ---- */

static bool open_cache(Exec *e, Buf *why) {
  Buf note = {0};
  if (!e->option.no_cache) cache_load(e->dev, &e->kept, &note);
  if (note.len && e->option.note) e->option.note(e->option.progress_arg, note.data);
  buf_free(&note);
  VkPipelineCacheCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
                                    .initialDataSize = e->kept.driver.len,
                                    .pInitialData = e->kept.driver.data};
  VkResult r = vk.CreatePipelineCache(e->dev->device, &info, NULL, &e->maker.cache);
  return r ? exec_fault(e, r, "making a pipeline cache", why) : true;
}

bool pipelines_open(Exec *e, Buf *why) {
  Makers *s = &e->makers;
  s->module = arena_alloc(e->arena, sizeof *s->module * (e->image->n_module + 1));
  pthread_mutex_init(&s->lock, NULL);
  pthread_cond_init(&s->asked, NULL);
  pthread_cond_init(&s->made, NULL);
  pipeline_maker_for(e->dev, e->dev->device, &e->maker);
  VkResult r = pipeline_layout_new(e->dev->device, &e->maker.layout);
  if (r) return exec_fault(e, r, "making a pipeline layout", why);
  return open_cache(e, why);
}

void pipelines_close(Exec *e) {
  Makers *s = &e->makers;
  if (!s->module) return; /* never opened */
  pthread_mutex_lock(&s->lock);
  s->stop = true;
  pthread_cond_broadcast(&s->asked);
  pthread_mutex_unlock(&s->lock);
  for (int i = 0; i < s->n_thread; i++) pthread_join(s->maker[i].thread, NULL);
  VkDevice device = e->dev->device;
  for (uint32_t i = 0; i < e->image->n_module; i++) {
    pipeline_free(device, &s->module[i].pipeline);
    buf_free(&s->module[i].binary);
  }
  vk.DestroyPipelineCache(device, e->maker.cache, NULL);
  vk.DestroyPipelineLayout(device, e->maker.layout, NULL);
  pthread_cond_destroy(&s->made);
  pthread_cond_destroy(&s->asked);
  pthread_mutex_destroy(&s->lock);
  buf_free(&e->kept.known);
  buf_free(&e->kept.binary);
  buf_free(&e->kept.driver);
}
