/* What an image's parts are, and finding them by name. */
#include "image/image.h"

#include <string.h>

enum { SCRATCH_MARGIN = 256 }; /* bytes behind the last tensor that are there and not used */

uint64_t image_elements(const ImgTensor *t) {
  uint64_t n = 1;
  for (uint32_t i = 0; i < t->rank; i++) n *= (uint64_t)t->dim[i];
  return n;
}

uint64_t image_host_bytes(const ImgTensor *t) { return 4 * image_elements(t); }

bool image_is_half(const ImgTensor *t) { return t->bytes < image_host_bytes(t); }

const char *image_type_name(uint32_t dtype) {
  static const char *const name[] = {"bool", "i32", "f16", "bf16", "f32"};
  return dtype < COUNT_OF(name) ? name[dtype] : "?";
}

const ImgProgram *image_program(const Image *m, const char *name) {
  for (uint32_t i = 0; i < m->n_program; i++)
    if (strcmp(m->program[i].name, name) == 0) return &m->program[i];
  return NULL;
}

static bool in_chunk(const ImgTensor *t, uint32_t n, uint32_t chunk) {
  for (uint32_t i = 0; i < n; i++)
    if (t[i].chunk == chunk) return true;
  return false;
}

static bool reaches(const Image *m, const ImgSlot *slot, uint32_t n, uint32_t chunk) {
  for (uint32_t i = 0; i < n; i++) {
    if (slot[i].kind == IMG_ADDRESS && slot[i].chunk == chunk) return true;
    if (slot[i].kind != IMG_ARGUMENTS) continue;
    const ImgArguments *a = &m->arguments[slot[i].value];
    if (reaches(m, a->slot, a->n_slot, chunk)) return true;
  }
  return false;
}

bool image_uses(const Image *m, const ImgProgram *p, uint32_t chunk) {
  if (in_chunk(p->input, p->n_input, chunk) || in_chunk(p->output, p->n_output, chunk)) return true;
  for (uint32_t i = 0; i < p->n_dispatch; i++)
    if (reaches(m, p->dispatch[i].slot, p->dispatch[i].n_slot, chunk)) return true;
  return false;
}

uint64_t image_extent(const Image *m, const ImgProgram *p, uint32_t chunk) {
  if (!image_uses(m, p, chunk)) return 0;
  uint32_t n_scratch = 0;
  for (uint32_t i = 0; i < m->n_chunk; i++) n_scratch += m->chunk[i].cls == IMG_SCRATCH;
  uint64_t all = m->chunk[chunk].bytes, peak = p->peak_bytes + SCRATCH_MARGIN;
  return m->chunk[chunk].cls == IMG_SCRATCH && n_scratch == 1 && peak < all ? peak : all;
}

static const ImgTensor *find(const ImgTensor *t, uint32_t n, const char *name) {
  for (uint32_t i = 0; i < n; i++)
    if (strcmp(t[i].name, name) == 0) return &t[i];
  return NULL;
}

const ImgTensor *image_input(const ImgProgram *p, const char *name) {
  return find(p->input, p->n_input, name);
}
const ImgTensor *image_output(const ImgProgram *p, const char *name) {
  return find(p->output, p->n_output, name);
}
