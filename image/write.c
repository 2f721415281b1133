/* Images → bytes. Sections are built apart and joined at the end; texts, kernels and tables are stored
 * once per distinct content. */
#include "image/image.h"
#include "image/layout.h"

#include <stdlib.h>
#include <string.h>

typedef struct Stored { /* in SEC_data */
  uint64_t hash, at, bytes;
} Stored;

typedef struct Writer {
  Buf section[SECTION_COUNT];
  uint64_t count[SECTION_COUNT];
  const char **text; /* open-addressed table of strings in SEC_text */
  uint32_t *text_at;
  size_t text_cap, text_used;
  Arena *arena;
  Stored *stored;
  int n_stored;
  bool failed;
} Writer;

static void put32(Buf *b, uint32_t x) {
  uint8_t byte[4] = {(uint8_t)x, (uint8_t)(x >> 8), (uint8_t)(x >> 16), (uint8_t)(x >> 24)};
  buf_put(b, byte, 4);
}

static void put64(Buf *b, uint64_t x) {
  put32(b, (uint32_t)x);
  put32(b, (uint32_t)(x >> 32));
}

static void put_double(Buf *b, double x) {
  uint64_t bits;
  memcpy(&bits, &x, 8);
  put64(b, bits);
}

static void align(Buf *b) {
  static const char zero[IMG_ALIGN];
  buf_put(b, zero, (IMG_ALIGN - b->len % IMG_ALIGN) % IMG_ALIGN);
}

static void grow_text(Writer *w) {
  size_t cap = w->text_cap ? 2 * w->text_cap : 256;
  const char **text = xcalloc(cap, sizeof *text);
  uint32_t *at = xcalloc(cap, sizeof *at);
  for (size_t i = 0; i < w->text_cap; i++) {
    if (!w->text[i]) continue;
    size_t k = hash_bytes(w->text[i], strlen(w->text[i]), 0) & (cap - 1);
    while (text[k]) k = (k + 1) & (cap - 1);
    text[k] = w->text[i];
    at[k] = w->text_at[i];
  }
  free(w->text);
  free(w->text_at);
  w->text = text, w->text_at = at, w->text_cap = cap;
}

/* The offset of `s` in the text section. */
static uint32_t text(Writer *w, const char *s) {
  if (!s) return w->failed = true, 0;
  if (2 * (w->text_used + 1) > w->text_cap) grow_text(w);
  size_t n = strlen(s), k = hash_bytes(s, n, 0) & (w->text_cap - 1);
  for (; w->text[k]; k = (k + 1) & (w->text_cap - 1))
    if (strcmp(w->text[k], s) == 0) return w->text_at[k];
  Buf *b = &w->section[SEC_text];
  if (b->len + n >= UINT32_MAX) return w->failed = true, 0;
  w->text[k] = s;
  w->text_at[k] = (uint32_t)b->len;
  w->text_used++;
  buf_put(b, s, n + 1);
  return w->text_at[k];
}

/* The offset of these bytes in the data section. */
static uint64_t data(Writer *w, const void *p, uint64_t bytes) {
  if (!p) return w->failed = true, 0;
  Buf *b = &w->section[SEC_data];
  uint64_t hash = hash_bytes(p, bytes, 0);
  for (int i = 0; i < w->n_stored; i++) {
    const Stored *s = &w->stored[i];
    if (s->hash == hash && s->bytes == bytes && memcmp(b->data + s->at, p, bytes) == 0)
      return s->at;
  }
  align(b);
  Stored fresh = {hash, b->len, bytes};
  ARENA_PUSH(w->arena, w->stored, w->n_stored, fresh);
  buf_put(b, p, bytes);
  return fresh.at;
}

static Buf *record(Writer *w, Section s) {
  w->count[s]++;
  return &w->section[s];
}

static void put_tensor(Writer *w, Buf *b, const ImgTensor *t) {
  put32(b, text(w, t->name));
  put32(b, t->dtype);
  put32(b, t->rank);
  put32(b, t->chunk);
  put64(b, t->offset);
  put64(b, t->bytes);
  for (uint32_t i = 0; i < IMG_MAX_RANK; i++) put64(b, i < t->rank ? (uint64_t)t->dim[i] : 0);
}

static void put_model(Writer *w, const Image *m) {
  Buf *b = record(w, SEC_model);
  put32(b, text(w, m->model));
  put32(b, text(w, m->config));
  put64(b, 0);
}

static void put_target(Writer *w, const Image *m) {
  const ImgTarget *t = &m->target;
  Buf *b = record(w, SEC_target);
  put32(b, text(w, t->name));
  put32(b, t->subgroup_size);
  put32(b, t->subgroup_shuffle);
  put32(b, t->subgroup_arithmetic);
  put32(b, t->shared_bytes);
  put32(b, t->max_invocations);
  put32(b, t->storage16);
  put32(b, t->cpu);
  put32(b, m->n_chunk);
  put32(b, m->n_param);
  put32(b, m->n_state);
  put32(b, m->n_table);
  put32(b, m->n_module);
  put32(b, m->n_program);
  put32(b, m->n_arguments);
  put32(b, 0);
}

static void put_lists(Writer *w, const Image *m) {
  for (uint32_t i = 0; i < m->n_chunk; i++) {
    Buf *b = record(w, SEC_chunk);
    put32(b, m->chunk[i].cls);
    put32(b, 0);
    put64(b, m->chunk[i].bytes);
  }
  for (uint32_t i = 0; i < m->n_param; i++) {
    Buf *b = record(w, SEC_param);
    put_tensor(w, b, &m->param[i].t);
    put32(b, m->param[i].trainable);
    put32(b, m->param[i].decay);
    put32(b, text(w, m->param[i].init));
    put32(b, 0);
  }
  for (uint32_t i = 0; i < m->n_state; i++) {
    Buf *b = record(w, SEC_state);
    put_tensor(w, b, &m->state[i].t);
    put32(b, m->state[i].transient);
    put32(b, 0);
  }
  for (uint32_t i = 0; i < m->n_table; i++) {
    Buf *b = record(w, SEC_table);
    put_tensor(w, b, &m->table[i].t);
    put64(b, data(w, m->table[i].data, m->table[i].t.bytes));
  }
  for (uint32_t i = 0; i < m->n_module; i++) {
    const ImgModule *k = &m->module[i];
    Buf *b = record(w, SEC_module);
    put32(b, text(w, k->name));
    put32(b, k->n_word);
    put64(b, data(w, k->word, 4 * (uint64_t)k->n_word));
    for (int d = 0; d < 3; d++) put32(b, k->local[d]);
    put32(b, k->subgroup_size);
  }
}

static void put_slots(Writer *w, const ImgSlot *slot, uint32_t n) {
  for (uint32_t i = 0; i < n; i++) {
    Buf *b = record(w, SEC_slot);
    put32(b, slot[i].kind);
    put32(b, slot[i].kind == IMG_ADDRESS ? slot[i].chunk : 0);
    put64(b, slot[i].value);
  }
}

static void put_dispatch(Writer *w, const ImgDispatch *d) {
  if (d->n_slot > IMG_MAX_SLOTS)
    w->failed = true;
  else
    put_slots(w, d->slot, d->n_slot);
  Buf *b = record(w, SEC_dispatch);
  put32(b, d->module);
  for (int i = 0; i < 3; i++) put32(b, d->groups[i]);
  put32(b, d->barrier);
  put32(b, d->n_slot);
  put32(b, text(w, d->label));
  put32(b, 0);
  put_double(b, d->flops);
  put_double(b, d->bytes);
}

static void put_program(Writer *w, const ImgProgram *p) {
  Buf *b = record(w, SEC_program);
  put32(b, text(w, p->name));
  put32(b, p->n_input);
  put32(b, p->n_output);
  put32(b, p->n_dispatch);
  put64(b, p->peak_bytes);
  put_double(b, p->flops);
  for (uint32_t i = 0; i < p->n_input; i++) put_tensor(w, record(w, SEC_tensor), &p->input[i]);
  for (uint32_t i = 0; i < p->n_output; i++) put_tensor(w, record(w, SEC_tensor), &p->output[i]);
  for (uint32_t i = 0; i < p->n_dispatch; i++) put_dispatch(w, &p->dispatch[i]);
}

static void put_arguments(Writer *w, const ImgArguments *a) {
  Buf *b = record(w, SEC_arguments);
  put32(b, a->n_slot);
  put32(b, 0);
  put_slots(w, a->slot, a->n_slot);
}

static void join(Writer *w, Buf *out) {
  uint64_t at[SECTION_COUNT], end = HEAD_bytes;
  for (int i = 0; i < SECTION_COUNT; i++) {
    align(&w->section[i]);
    at[i] = end;
    end += w->section[i].len;
  }
  size_t start = out->len;
  buf_put(out, IMAGE_MAGIC, 8);
  put32(out, IMG_VERSION);
  put32(out, 0);
  put64(out, end);
  put64(out, 0); /* the hash */
  for (int i = 0; i < SECTION_COUNT; i++) {
    put64(out, at[i]);
    put64(out, w->count[i]);
  }
  for (int i = 0; i < SECTION_COUNT; i++) buf_put(out, w->section[i].data, w->section[i].len);
  uint64_t hash =
    hash_bytes(out->data + start + HEAD_hashed, (size_t)end - HEAD_hashed, IMG_VERSION);
  memcpy(out->data + start + HEAD_hash, &hash, 8);
}

bool image_write(Buf *out, const Image *target, uint32_t n) {
  Writer w = {.arena = arena_new()};
  if (out->len % IMG_ALIGN) die("image_write: at byte %zu", out->len);
  if (n < 1 || n > IMG_MAX_TARGETS) die("image_write: %u targets", n);
  put_model(&w, target);
  for (uint32_t t = 0; t < n; t++) {
    const Image *m = &target[t];
    put_target(&w, m);
    put_lists(&w, m);
    for (uint32_t i = 0; i < m->n_program; i++) put_program(&w, &m->program[i]);
    for (uint32_t i = 0; i < m->n_arguments; i++) put_arguments(&w, &m->arguments[i]);
  }
  align(&w.section[SEC_text]);
  align(&w.section[SEC_data]);
  w.count[SEC_text] = w.section[SEC_text].len;
  w.count[SEC_data] = w.section[SEC_data].len;
  if (w.count[SEC_slot] > UINT32_MAX || w.count[SEC_tensor] > UINT32_MAX) w.failed = true;
  if (!w.failed) join(&w, out);
  for (int i = 0; i < SECTION_COUNT; i++) buf_free(&w.section[i]);
  free(w.text);
  free(w.text_at);
  arena_free(w.arena);
  return !w.failed;
}
