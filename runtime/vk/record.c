/* Recording: a program becomes command buffers that are submitted again and again, each bounded in
 * how long it may take, since desktops end work that holds the device too long; its inputs and
 * outputs travel in small ones of their own. */
#include "runtime/vk/internal.h"

#include <stdlib.h>
#include <string.h>

/* A NaN; as an integer, out of every table's range. */
static const uint32_t poison_word = 0x7fc0dead;

uint64_t io_aligned(uint64_t bytes) { return (bytes + IO_ALIGN - 1) / IO_ALIGN * IO_ALIGN; }

static uint64_t input_bytes(const ImgProgram *p) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < p->n_input; i++) sum += io_aligned(p->input[i].bytes);
  return sum;
}

/* ---- the program ---- */

static bool need_chunks(Exec *e, const ImgProgram *p, Buf *why) {
  for (uint32_t i = 0; i < e->image->n_chunk; i++) {
    uint64_t bytes = image_extent(e->image, p, i);
    if (bytes && !chunk_need(e, i, why)) return false;
    if (e->chunk[i].bytes < bytes)
      die("program %s runs unannounced, and needs more memory than those that were", p->name);
  }
  for (uint32_t i = 0; i < p->n_dispatch; i++)
    for (uint32_t k = 0; k < p->dispatch[i].n_slot; k++) {
      const ImgSlot *s = &p->dispatch[i].slot[k];
      if (s->kind == IMG_ARGUMENTS && !arguments_need(e, (uint32_t)s->value, why)) return false;
    }
  return true;
}

/* Seconds that a dispatch may take on a slow device of its kind. */
static double guess(const Device *d, const ImgDispatch *p) {
  double flops = d->info.is_cpu ? 5e9 : 100e9, bytes = d->info.is_cpu ? 2e9 : 20e9;
  double compute = p->flops / flops, memory = p->bytes / bytes;
  return 20e-6 + (compute > memory ? compute : memory);
}

/* How many dispatches from `first` on make one piece: as many as stay under half a second, at least
 * one. A guess takes 1/ratio as long as it says. */
static uint32_t piece_length(const Exec *e, const ImgProgram *p, uint32_t first, double ratio) {
  double seconds = 0;
  uint32_t n = 0;
  while (first + n < p->n_dispatch) {
    seconds += ratio * guess(e->dev, &p->dispatch[first + n]);
    if (n && seconds > 0.5) break;
    n++;
  }
  return n;
}

static void barrier_compute(VkCommandBuffer c) {
  VkMemoryBarrier memory = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                            .srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT,
                            .dstAccessMask =
                              VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT};
  vk.CmdPipelineBarrier(c, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
                        VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, 0, 1, &memory, 0, NULL, 0, NULL);
}

static void record_dispatch(Exec *e, VkCommandBuffer c, const ImgDispatch *d) {
  uint64_t push[IMG_MAX_SLOTS];
  for (uint32_t i = 0; i < d->n_slot; i++) push[i] = exec_slot(e, &d->slot[i]);
  if (d->barrier || e->option.times) barrier_compute(c);
  pipeline_bind(c, pipeline_of(e, d->module));
  if (d->n_slot)
    vk.CmdPushConstants(c, e->maker.layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, 8 * d->n_slot, push);
  vk.CmdDispatch(c, d->groups[0], d->groups[1], d->groups[2]);
}

static bool record_piece(Exec *e, const ImgProgram *p, const Recorded *q, Piece *piece, Buf *why) {
  if (!buffer_begin(e, &piece->commands, why)) return false;
  times_reset(piece->commands, q, piece);
  for (uint32_t i = piece->first; i < piece->first + piece->n; i++) {
    times_write(piece->commands, q, i, false);
    record_dispatch(e, piece->commands, &p->dispatch[i]);
    times_write(piece->commands, q, i, true);
  }
  return buffer_end(e, piece->commands, why);
}

static bool record_pieces(Exec *e, const ImgProgram *p, Recorded *q, double ratio, Buf *why) {
  for (uint32_t first = 0; first < p->n_dispatch;) {
    Piece piece = {.first = first, .n = piece_length(e, p, first, ratio)};
    ARENA_PUSH(e->arena, q->pieces.item, q->pieces.n, piece);
    if (!record_piece(e, p, q, &q->pieces.item[q->pieces.n - 1], why)) return false;
    first += piece.n;
  }
  return true;
}

/* The first pieces are short, since it is not known how fast the device is; each submission costs it
 * some microseconds. */
static bool record_anew(Exec *e, const ImgProgram *p, Recorded *q, Buf *why) {
  q->before = q->pieces;
  q->pieces = (Pieces){0};
  return record_pieces(e, p, q, q->seconds / q->guessed, why);
}

bool record_program(Exec *e, uint32_t index, Buf *why) {
  const ImgProgram *p = &e->image->program[index];
  Recorded *q = &e->program[index];
  if (q->ready) {
    bool anew = q->pieces.n > 1 && !q->before.n && q->seconds > 0 && q->seconds < q->guessed / 2;
    if (anew) q->ready = record_anew(e, p, q, why);
    return q->ready;
  }
  if (!pipelines_need(e, p, why) || !need_chunks(e, p, why)) return false;
  record_free(e, index); /* of an attempt that failed */
  if (!times_open(e, q, p->n_dispatch, why)) return false;
  q->guessed = 0;
  for (uint32_t i = 0; i < p->n_dispatch; i++) q->guessed += guess(e->dev, &p->dispatch[i]);
  return q->ready = record_pieces(e, p, q, 1, why);
}

/* ---- inputs and outputs ---- */

/* Everything that this run must write before it reads it. */
static void record_poison(Exec *e, VkCommandBuffer c, const ImgProgram *p) {
  for (uint32_t i = 0; i < e->image->n_chunk; i++) {
    uint32_t cls = e->image->chunk[i].cls;
    if ((cls == IMG_SCRATCH || cls == IMG_IO) && image_uses(e->image, p, i))
      vk.CmdFillBuffer(c, e->chunk[i].buffer, 0, VK_WHOLE_SIZE, poison_word);
  }
  barrier_full(c);
}

/* To the tensors' places from the slot's block: one command for neighbours in the list that share a chunk. */
static void copy_inputs(Exec *e, VkCommandBuffer c, const IoSlot *io, const ImgProgram *p) {
  VkBufferCopy *region = xcalloc(p->n_input + 1, sizeof *region);
  uint64_t at = 0;
  for (uint32_t i = 0, same; i < p->n_input; i += same) {
    const ImgTensor *t = &p->input[i];
    for (same = 0; i + same < p->n_input && t[same].chunk == t->chunk; same++) {
      region[same] =
        (VkBufferCopy){.srcOffset = at, .dstOffset = t[same].offset, .size = t[same].bytes};
      at += io_aligned(t[same].bytes);
    }
    vk.CmdCopyBuffer(c, io->block.buffer, e->chunk[t->chunk].buffer, same, region);
  }
  free(region);
}

/* Outputs that lie close to each other are copied as one piece with what lies between them: a copy takes a
 * microsecond or two, of however few bytes. */
typedef struct OutputSpan {
  uint32_t chunk;
  uint64_t from, to; /* in the chunk */
  uint64_t at;       /* in the slot's block */
} OutputSpan;

/* The spans; their end in the slot's block. */
static uint64_t find_spans(const ImgProgram *p, OutputSpan *span, int *n_span,
                           uint64_t *output_at) {
  enum { NEAR = 1024 /* bytes */ };
  int n = 0, *of = xcalloc(p->n_output + 1, sizeof *of);
  for (uint32_t i = 0; i < p->n_output; i++) {
    const ImgTensor *t = &p->output[i];
    int k = 0;
    while (k < n &&
           (span[k].chunk != t->chunk || t->offset < span[k].from || t->offset > span[k].to + NEAR))
      k++;
    if (k == n) span[n++] = (OutputSpan){.chunk = t->chunk, .from = t->offset, .to = t->offset};
    if (span[k].to < t->offset + t->bytes) span[k].to = t->offset + t->bytes;
    of[i] = k;
  }
  uint64_t at = input_bytes(p);
  for (int k = 0; k < n; k++) {
    span[k].at = at;
    at += io_aligned(span[k].to - span[k].from);
  }
  for (uint32_t i = 0; i < p->n_output; i++)
    output_at[i] = span[of[i]].at + p->output[i].offset - span[of[i]].from;
  free(of);
  *n_span = n;
  return at;
}

/* The copies of the run before, which may use the same places, are behind a barrier already
 * (barrier_to_host), and with them its kernels. */
static bool record_copy_in(Exec *e, const ImgProgram *p, IoSlot *io, Buf *why) {
  if (!buffer_begin(e, &io->copy_in, why)) return false;
  if (e->option.poison) record_poison(e, io->copy_in, p);
  copy_inputs(e, io->copy_in, io, p);
  barrier_full(io->copy_in);
  return buffer_end(e, io->copy_in, why);
}

static bool record_copy_out(Exec *e, IoSlot *io, const OutputSpan *span, int n, Buf *why) {
  if (!buffer_begin(e, &io->copy_out, why)) return false;
  barrier_full(io->copy_out);
  for (int k = 0; k < n; k++) {
    VkBufferCopy region = {
      .srcOffset = span[k].from, .dstOffset = span[k].at, .size = span[k].to - span[k].from};
    vk.CmdCopyBuffer(io->copy_out, e->chunk[span[k].chunk].buffer, io->block.buffer, 1, &region);
  }
  barrier_to_host(io->copy_out);
  return buffer_end(e, io->copy_out, why);
}

static void io_free(Exec *e, IoSlot *io) {
  if (io->copy_in) vk.FreeCommandBuffers(e->dev->device, e->pool, 1, &io->copy_in);
  if (io->copy_out) vk.FreeCommandBuffers(e->dev->device, e->pool, 1, &io->copy_out);
  block_free(e->dev, &io->block);
  *io = (IoSlot){0};
}

bool record_io(Exec *e, uint32_t index, int slot, Buf *why) {
  const ImgProgram *p = &e->image->program[index];
  Recorded *q = &e->program[index];
  IoSlot *io = &q->io[slot];
  if (io->block.buffer) return true;
  OutputSpan *span = xcalloc(p->n_output + 1, sizeof *span);
  int n_span;
  if (!q->output_at) q->output_at = arena_alloc(e->arena, sizeof *q->output_at * (p->n_output + 1));
  uint64_t bytes = find_spans(p, span, &n_span, q->output_at);
  VkResult r = block_new(e->dev, MEMORY_host, bytes ? bytes : IO_ALIGN, &io->block);
  if (r)
    buf_printf(why, "%.1f MiB for the inputs and outputs of %s could not be had: %s",
               (double)bytes / (1 << 20), p->name, vk_result_name(r));
  bool ok = !r && record_copy_in(e, p, io, why) && record_copy_out(e, io, span, n_span, why);
  if (!ok) io_free(e, io);
  free(span);
  return ok;
}

void record_free(Exec *e, uint32_t index) {
  Recorded *q = &e->program[index];
  const Pieces *set[] = {&q->pieces, &q->before};
  for (int s = 0; s < COUNT_OF(set); s++)
    for (int k = 0; k < set[s]->n; k++)
      if (set[s]->item[k].commands)
        vk.FreeCommandBuffers(e->dev->device, e->pool, 1, &set[s]->item[k].commands);
  for (int s = 0; s < EXEC_RING; s++) io_free(e, &q->io[s]);
  times_close(e, q);
  *q = (Recorded){.expected = q->expected};
}
