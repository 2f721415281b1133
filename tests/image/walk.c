#include "tests/image/walk.h"

#include <string.h>

#include "image/layout.h"

static uint64_t mix(uint64_t h, const void *p, size_t bytes) { return hash_bytes(p, bytes, h); }

static uint64_t walk_text(uint64_t h, const char *s) { return mix(h, s, strlen(s)); }

static uint64_t walk_tensor(uint64_t h, const Image *m, const ImgTensor *t) {
  int64_t count = 1;
  if (t->rank > IMG_MAX_RANK || t->chunk >= m->n_chunk) die("tensor %s: rank or chunk", t->name);
  for (uint32_t i = 0; i < t->rank; i++) count *= t->dim[i];
  if (count < 1 || t->bytes != (image_is_half(t) ? 2 : 4) * (uint64_t)count)
    die("tensor %s: bytes", t->name);
  if (t->offset + t->bytes > m->chunk[t->chunk].bytes || t->offset + t->bytes < t->offset)
    die("tensor %s: place", t->name);
  h = walk_text(h, t->name);
  return walk_text(h, image_type_name(t->dtype));
}

static uint64_t walk_slots(uint64_t h, const Image *m, const ImgSlot *s, uint32_t n,
                           uint32_t most) {
  for (uint32_t i = 0; i < n; i++) {
    if (s[i].kind > most) die("slot %u: kind", i);
    if (s[i].kind == IMG_ADDRESS && s[i].value >= m->chunk[s[i].chunk].bytes)
      die("slot %u: address", i);
    if (s[i].kind == IMG_ARGUMENTS && s[i].value >= m->n_arguments) die("slot %u: table", i);
  }
  return mix(h, s, sizeof *s * n);
}

static uint64_t walk_dispatch(uint64_t h, const Image *m, const ImgDispatch *d) {
  if (d->module >= m->n_module || d->n_slot > IMG_MAX_SLOTS) die("dispatch %s", d->label);
  for (int i = 0; i < 3; i++)
    if (d->groups[i] < 1 || d->groups[i] > 65535) die("dispatch %s: groups", d->label);
  h = walk_slots(h, m, d->slot, d->n_slot, IMG_ARGUMENTS);
  return walk_text(h, d->label);
}

static uint64_t walk_program(uint64_t h, const Image *m, const ImgProgram *p) {
  h = walk_text(h, p->name);
  for (uint32_t i = 0; i < p->n_input; i++) h = walk_tensor(h, m, &p->input[i]);
  for (uint32_t i = 0; i < p->n_output; i++) h = walk_tensor(h, m, &p->output[i]);
  for (uint32_t i = 0; i < p->n_dispatch; i++) h = walk_dispatch(h, m, &p->dispatch[i]);
  return h;
}

uint64_t image_walk(const Image *m) {
  uint64_t h = walk_text(walk_text(walk_text(1, m->model), m->config), m->target.name);
  h = mix(h, m->chunk, sizeof *m->chunk * m->n_chunk);
  for (uint32_t i = 0; i < m->n_param; i++)
    h = walk_text(walk_tensor(h, m, &m->param[i].t), m->param[i].init);
  for (uint32_t i = 0; i < m->n_state; i++) h = walk_tensor(h, m, &m->state[i].t);
  for (uint32_t i = 0; i < m->n_table; i++)
    h = mix(walk_tensor(h, m, &m->table[i].t), m->table[i].data, m->table[i].t.bytes);
  for (uint32_t i = 0; i < m->n_module; i++)
    h = walk_text(mix(h, m->module[i].word, 4 * (size_t)m->module[i].n_word), m->module[i].name);
  for (uint32_t i = 0; i < m->n_program; i++) h = walk_program(h, m, &m->program[i]);
  for (uint32_t i = 0; i < m->n_arguments; i++)
    h = walk_slots(h, m, m->arguments[i].slot, m->arguments[i].n_slot, IMG_ADDRESS);
  return h;
}

void image_mend(uint8_t *bytes, size_t n) {
  if (n < HEAD_bytes) return;
  uint64_t length = n, hash = hash_bytes(bytes + HEAD_hashed, n - HEAD_hashed, IMG_VERSION);
  memcpy(bytes + HEAD_length, &length, 8);
  memcpy(bytes + HEAD_hash, &hash, 8);
}
