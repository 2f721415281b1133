/* Running programs: submission in pieces, a ring of runs under way, waiting, and what to say when
 * the device is lost. */
#include "runtime/vk/internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LABELS_SHOWN = 8 };

/* ---- errors ---- */

/* The dispatches of the pieces that had not ended when the device was lost. */
static void name_in_flight(Exec *e, Buf *why) {
  uint64_t done = 0;
  if (vk.GetSemaphoreCounterValue(e->dev->device, e->semaphore, &done)) done = 0;
  int shown = 0, more = 0;
  for (int s = 0; s < EXEC_RING; s++) {
    const Run *run = &e->run[s];
    if (!run->ticket) continue;
    const ImgProgram *p = &e->image->program[run->program];
    for (int k = 0; k < run->pieces.n; k++) {
      const Piece *piece = &run->pieces.item[k];
      if (run->before + 2 + (uint64_t)k <= done) continue; /* copy_in, then the pieces */
      for (uint32_t d = piece->first; d < piece->first + piece->n; d++) {
        if (shown < LABELS_SHOWN)
          buf_printf(why, "%s%s: %s", shown++ ? "; " : "; it may have been running ", p->name,
                     p->dispatch[d].label);
        else
          more++;
      }
    }
  }
  if (more) buf_printf(why, " … and %d more", more);
}

bool exec_fault(Exec *e, VkResult r, const char *doing, Buf *why) {
  buf_printf(why, "%s failed on %s: %s", doing, e->dev->info.name, vk_result_name(r));
  if (r == VK_ERROR_DEVICE_LOST && !e->lost) {
    e->lost = true;
    name_in_flight(e, why);
  }
  return false;
}

/* ---- the queue ---- */

static bool submit_buffers(Exec *e, const VkCommandBuffer *c, uint32_t n, Buf *why) {
  if (e->lost) return exec_fault(e, VK_ERROR_DEVICE_LOST, "running", why);
  uint64_t value = e->submitted + n;
  VkTimelineSemaphoreSubmitInfo timeline = {.sType =
                                              VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
                                            .signalSemaphoreValueCount = 1,
                                            .pSignalSemaphoreValues = &value};
  VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                       .pNext = &timeline,
                       .commandBufferCount = n,
                       .pCommandBuffers = c,
                       .signalSemaphoreCount = 1,
                       .pSignalSemaphores = &e->semaphore};
  VkResult r = vk.QueueSubmit(e->dev->queue, 1, &info, VK_NULL_HANDLE);
  if (r) return exec_fault(e, r, "submitting work", why);
  e->submitted = value;
  return true;
}

bool submit_buffer(Exec *e, VkCommandBuffer c, Buf *why) { return submit_buffers(e, &c, 1, why); }

bool wait_for(Exec *e, uint64_t value, Buf *why) {
  if (e->lost) return exec_fault(e, VK_ERROR_DEVICE_LOST, "waiting", why);
  VkSemaphoreWaitInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
                              .semaphoreCount = 1,
                              .pSemaphores = &e->semaphore,
                              .pValues = &value};
  VkResult r = vk.WaitSemaphores(e->dev->device, &info, UINT64_MAX);
  return r ? exec_fault(e, r, "waiting", why) : true;
}

/* ---- runs ---- */

static uint32_t program_index(const Exec *e, const ImgProgram *p) {
  const ImgProgram *first = e->image->program;
  if (p < first || p >= first + e->image->n_program) die("exec: a program of another image");
  return (uint32_t)(p - first);
}

static int free_slot(const Exec *e) {
  for (int s = 0; s < EXEC_RING; s++)
    if (!e->run[s].ticket) return s;
  die("exec_submit: %d runs are under way already", EXEC_RING);
}

static void put_inputs(const ImgProgram *p, const VkBlock *b, const void *const *input) {
  uint64_t at = 0;
  for (uint32_t i = 0; i < p->n_input; i++) {
    const ImgTensor *t = &p->input[i];
    elements_to_device(t, input[i], image_elements(t), (char *)b->host + at);
    at += io_aligned(p->input[i].bytes);
  }
}

static void take_outputs(const ImgProgram *p, const Recorded *q, int slot, void *const *output) {
  const char *host = q->io[slot].block.host;
  for (uint32_t i = 0; i < p->n_output; i++) {
    const ImgTensor *t = &p->output[i];
    if (output[i]) elements_to_host(t, host + q->output_at[i], image_elements(t), output[i]);
  }
}

/* All command buffers of one run, in order: the copies go with the first and the last piece. */
static bool submit_run(Exec *e, const Pieces *pieces, const IoSlot *io, Buf *why) {
  VkCommandBuffer buffer[3] = {io->copy_in};
  uint32_t n = 1;
  for (int k = 0; k < pieces->n; k++) {
    buffer[n++] = pieces->item[k].commands;
    if (k == pieces->n - 1) break;
    if (!submit_buffers(e, buffer, n, why)) return false;
    n = 0;
  }
  buffer[n++] = io->copy_out;
  return submit_buffers(e, buffer, n, why);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

bool exec_submit(Exec *e, const ImgProgram *p, const void *const *input, uint64_t *ticket,
                 Buf *why) {
  uint32_t index = program_index(e, p);
  if (e->lost) return exec_fault(e, VK_ERROR_DEVICE_LOST, "running", why);
  int slot = free_slot(e);
  if (!record_program(e, index, why) || !record_io(e, index, slot, why)) return false;
  Recorded *q = &e->program[index];
  pipelines_meanwhile(e);
  put_inputs(p, &q->io[slot].block, input);
  bool alone = true;
  for (int s = 0; s < EXEC_RING; s++) alone &= !e->run[s].ticket;
  e->run[slot] = (Run){.ticket = ++e->last_ticket,
                       .before = e->submitted,
                       .program = index,
                       .pieces = q->pieces,
                       .began = alone ? now() : 0};
  *ticket = e->last_ticket;
  if (submit_run(e, &q->pieces, &q->io[slot], why)) return true;
  Buf ignored = {0};
  wait_for(e, e->submitted, &ignored); /* the part that was submitted still uses the slot */
  buf_free(&ignored);
  e->run[slot].ticket = 0;
  return false;
}

bool exec_wait(Exec *e, uint64_t ticket, void *const *output, Buf *why) {
  for (int s = 0; s < EXEC_RING; s++) {
    Run *run = &e->run[s];
    if (run->ticket != ticket || !ticket) continue;
    const ImgProgram *p = &e->image->program[run->program];
    Recorded *q = &e->program[run->program];
    bool ok = wait_for(e, run->before + 2 + (uint64_t)run->pieces.n, why);
    if (ok && run->began > 0 && q->seconds <= 0) q->seconds = now() - run->began; /* or longer */
    run->ticket = 0;
    if (ok && output) take_outputs(p, q, s, output);
    return ok;
  }
  die("exec_wait: ticket %llu is not under way", (unsigned long long)ticket);
}

bool exec_run(Exec *e, const ImgProgram *p, const void *const *input, void *const *output,
              Buf *why) {
  uint64_t ticket;
  return exec_submit(e, p, input, &ticket, why) && exec_wait(e, ticket, output, why);
}

/* ---- an image on a device ---- */

static bool exec_fill(Exec *e, Buf *why) {
  VkDevice device = e->dev->device;
  VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                  .queueFamilyIndex = e->dev->family};
  VkResult r = vk.CreateCommandPool(device, &pool, NULL, &e->pool);
  if (r) return exec_fault(e, r, "making a command pool", why);
  VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                    .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
  VkSemaphoreCreateInfo semaphore = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO,
                                     .pNext = &type};
  r = vk.CreateSemaphore(device, &semaphore, NULL, &e->semaphore);
  if (r) return exec_fault(e, r, "making a semaphore", why);
  return pipelines_open(e, why);
}

Exec *exec_new(Device *d, const Image *m, const ExecOptions *option, Buf *why) {
  Buf lack = {0};
  bool accepted = vk_accepts(d, m, &lack);
  if (!accepted)
    buf_printf(why,
               "the model was compiled for %s; %s; compile it with --target portable, or with "
               "--target native on that machine",
               m->target.name, lack.data);
  buf_free(&lack);
  if (!accepted) return NULL;
  Arena *a = arena_new();
  Exec *e = arena_alloc(a, sizeof *e);
  e->dev = d;
  e->image = m;
  e->arena = a;
  if (option) e->option = *option;
  e->chunk = arena_alloc(a, sizeof *e->chunk * m->n_chunk);
  e->arguments = arena_alloc(a, sizeof *e->arguments * m->n_arguments);
  e->program = arena_alloc(a, sizeof *e->program * m->n_program);
  if (exec_fill(e, why)) return e;
  exec_free(e);
  return NULL;
}

void exec_prepare(Exec *e, const ImgProgram *p) {
  e->program[program_index(e, p)].expected = true;
  pipelines_ask(e, p);
}

void exec_free(Exec *e) {
  if (!e) return;
  Device *d = e->dev;
  vk.DeviceWaitIdle(d->device); /* a lost device returns at once */
  for (uint32_t i = 0; i < e->image->n_program; i++) record_free(e, i);
  for (uint32_t i = 0; i < e->image->n_chunk; i++) block_free(d, &e->chunk[i]);
  for (uint32_t i = 0; i < e->image->n_arguments; i++) block_free(d, &e->arguments[i]);
  block_free(d, &e->staging);
  pipelines_close(e);
  vk.DestroySemaphore(d->device, e->semaphore, NULL);
  vk.DestroyCommandPool(d->device, e->pool, NULL);
  arena_free(e->arena);
}
