/* Bytes → image, trusting nothing: every count, offset, index and string is checked, and after
 * image_read nothing that the runner indexes or copies by can leave its bounds. (What a SPIR-V
 * module does is the compiler's word, protected by the hash.) */
#include "image/image.h"
#include "image/layout.h"

#include <math.h>
#include <string.h>

typedef struct Reader {
  Arena *arena;
  const uint8_t *base;
  uint64_t length;
  struct {
    uint64_t at, count;
  } sec[SECTION_COUNT];
  uint64_t next[SECTION_COUNT]; /* the first record that belongs to nothing yet */
  Buf *why;                     /* of the first fault */
  bool failed;
} Reader;

static const char *const section_name[SECTION_COUNT] = {
  "text",   "model",   "target", "chunk",    "param",     "state", "table",
  "module", "program", "tensor", "dispatch", "arguments", "slot",  "data"};
static const uint32_t record_bytes[SECTION_COUNT] = {1,
                                                     MODEL_bytes,
                                                     TARGET_bytes,
                                                     CHUNK_bytes,
                                                     PARAM_bytes,
                                                     STATE_bytes,
                                                     TABLE_bytes,
                                                     MODULE_bytes,
                                                     PROGRAM_bytes,
                                                     TENSOR_bytes,
                                                     DISPATCH_bytes,
                                                     ARGUMENTS_bytes,
                                                     SLOT_bytes,
                                                     1};

static bool fault(Reader *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
static bool fault(Reader *r, const char *fmt, ...) {
  if (!r->failed) {
    va_list args;
    va_start(args, fmt);
    buf_str(r->why, "the image is damaged: ");
    buf_vprintf(r->why, fmt, args);
    va_end(args);
  }
  r->failed = true;
  return false;
}

static uint32_t get32(const uint8_t *p) {
  return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get64(const uint8_t *p) { return get32(p) | (uint64_t)get32(p + 4) << 32; }

static double get_double(const uint8_t *p) {
  uint64_t bits = get64(p);
  double x;
  memcpy(&x, &bits, 8);
  return x;
}

static const uint8_t *record(const Reader *r, Section s, uint64_t i) {
  return r->base + r->sec[s].at + i * record_bytes[s];
}

/* The next `n` of a section whose records belong to one owner after the other, from *first on; false
 * where there are not so many. */
static bool take(Reader *r, Section s, uint64_t n, uint64_t *first) {
  *first = r->next[s];
  if (n > r->sec[s].count - *first) return false;
  r->next[s] += n;
  return true;
}

/* Do `n` things from `first` on lie among `count`? */
static bool within(uint64_t first, uint64_t n, uint64_t count) {
  return n <= count && first <= count - n;
}

static const char *text(Reader *r, const uint8_t *field, const char *of, bool may_be_empty) {
  uint32_t at = get32(field);
  if (at >= r->sec[SEC_text].count) {
    fault(r, "the name of a %s is at %u of %llu bytes of text", of, at,
          (unsigned long long)r->sec[SEC_text].count);
    return "";
  }
  const char *s = (const char *)r->base + r->sec[SEC_text].at +
                  at; /* terminated: the section's last byte is NUL */
  if (!*s && !may_be_empty) fault(r, "a %s has no name", of);
  return s;
}

static uint32_t flag(Reader *r, const uint8_t *field, const char *what) {
  uint32_t x = get32(field);
  if (x > 1) fault(r, "%s is %u, neither 0 nor 1", what, x);
  return x;
}

static double amount(Reader *r, const uint8_t *field, const char *of) {
  double x = get_double(field);
  if (!isfinite(x) || x < 0) fault(r, "%s: work of %g", of, x);
  return x;
}

/* ---- header ---- */

static bool read_header(Reader *r, size_t n) {
  if (n < HEAD_bytes) return fault(r, "%zu bytes are less than its header", n);
  if (memcmp(r->base + HEAD_magic, IMAGE_MAGIC, 8) != 0)
    return fault(r, "it does not begin as an image does");
  uint32_t version = get32(r->base + HEAD_version);
  if (version != IMG_VERSION) {
    buf_printf(r->why,
               "the image has format %u, this runner reads format %d: compile the model again",
               version, IMG_VERSION);
    return r->failed = true, false;
  }
  if (get32(r->base + HEAD_zero) != 0) return fault(r, "its header is not as written");
  if (get64(r->base + HEAD_length) != n)
    return fault(r, "it should be %llu bytes long and is %zu",
                 (unsigned long long)get64(r->base + HEAD_length), n);
  if (get64(r->base + HEAD_hash) != hash_bytes(r->base + HEAD_hashed, n - HEAD_hashed, IMG_VERSION))
    return fault(r, "its hash differs from its contents");
  return true;
}

static bool read_sections(Reader *r) {
  for (int i = 0; i < SECTION_COUNT; i++) {
    const uint8_t *p = r->base + HEAD_sections + 16 * i;
    uint64_t at = get64(p), count = get64(p + 8);
    if (at % IMG_ALIGN || at > r->length || count > (r->length - at) / record_bytes[i] ||
        count > UINT32_MAX * 16ull)
      return fault(r, "section %s: %llu records at %llu of %llu bytes", section_name[i],
                   (unsigned long long)count, (unsigned long long)at,
                   (unsigned long long)r->length);
    if (i != SEC_text && i != SEC_data && count > UINT32_MAX)
      return fault(r, "section %s has %llu records", section_name[i], (unsigned long long)count);
    r->sec[i].at = at, r->sec[i].count = count;
  }
  if (!r->sec[SEC_text].count || r->base[r->sec[SEC_text].at + r->sec[SEC_text].count - 1] != 0)
    return fault(r, "its text does not end");
  if (r->sec[SEC_model].count != 1)
    return fault(r, "it describes %llu models", (unsigned long long)r->sec[SEC_model].count);
  if (!r->sec[SEC_target].count || r->sec[SEC_target].count > IMG_MAX_TARGETS)
    return fault(r, "it has %llu targets", (unsigned long long)r->sec[SEC_target].count);
  return true;
}

/* ---- records ---- */

static void read_tensor(Reader *r, const Image *m, const uint8_t *p, const char *of,
                        unsigned classes, ImgTensor *t) {
  t->name = text(r, p, of, false);
  t->dtype = get32(p + 4);
  t->rank = get32(p + 8);
  t->chunk = get32(p + 12);
  t->offset = get64(p + 16);
  t->bytes = get64(p + 24);
  if (t->dtype > IMG_f32) fault(r, "%s %s has type %u", of, t->name, t->dtype);
  if (t->rank > IMG_MAX_RANK) {
    t->rank = 0;
    fault(r, "%s %s has too many dimensions", of, t->name);
  }
  uint64_t count = 1;
  for (uint32_t i = 0; i < IMG_MAX_RANK; i++) {
    uint64_t d = get64(p + 32 + 8 * i);
    if (i >= t->rank ? d != 0 : d < 1 || d > (1ull << 31) / count) {
      fault(r, "%s %s: dimension %u is %llu", of, t->name, i, (unsigned long long)d);
      return;
    }
    if (i < t->rank) count *= d;
    t->dim[i] = (int64_t)d;
  }
  bool half = m->target.storage16 && (t->dtype == IMG_f16 || t->dtype == IMG_bf16);
  if (t->bytes != (half ? 2 : 4) * count)
    fault(r, "%s %s has %llu bytes for %llu elements", of, t->name, (unsigned long long)t->bytes,
          (unsigned long long)count);
  else if (t->chunk >= m->n_chunk)
    fault(r, "%s %s lies in memory %u of %u", of, t->name, t->chunk, m->n_chunk);
  else if (!(classes >> m->chunk[t->chunk].cls & 1))
    fault(r, "%s %s lies in memory of another kind", of, t->name);
  else if (t->offset % 4 || !within(t->offset, t->bytes, m->chunk[t->chunk].bytes))
    fault(r, "%s %s leaves its memory", of, t->name);
}

static void read_target(Reader *r, const uint8_t *p, ImgTarget *t) {
  t->name = text(r, p, "target", false);
  t->subgroup_size = get32(p + 4);
  t->subgroup_shuffle = flag(r, p + 8, "subgroup shuffle");
  t->subgroup_arithmetic = flag(r, p + 12, "subgroup arithmetic");
  t->shared_bytes = get32(p + 16);
  t->max_invocations = get32(p + 20);
  t->storage16 = flag(r, p + 24, "16-bit storage");
  t->cpu = flag(r, p + 28, "for CPUs");
}

static void read_chunks(Reader *r, Image *m, uint64_t first) {
  for (uint32_t i = 0; i < m->n_chunk && !r->failed; i++) {
    const uint8_t *p = record(r, SEC_chunk, first + i);
    m->chunk[i] = (ImgChunk){get32(p), get64(p + 8)};
    if (m->chunk[i].cls > IMG_SCRATCH) fault(r, "memory %u is of kind %u", i, m->chunk[i].cls);
    if (!m->chunk[i].bytes || m->chunk[i].bytes % 4 || m->chunk[i].bytes > 1ull << 48)
      fault(r, "memory %u has %llu bytes", i, (unsigned long long)m->chunk[i].bytes);
  }
}

static void read_params(Reader *r, Image *m, uint64_t first) {
  for (uint32_t i = 0; i < m->n_param && !r->failed; i++) {
    const uint8_t *p = record(r, SEC_param, first + i);
    ImgParam *q = &m->param[i];
    read_tensor(r, m, p, "parameter", 1u << IMG_PARAM, &q->t);
    q->trainable = flag(r, p + TENSOR_bytes, "trainable");
    q->decay = flag(r, p + TENSOR_bytes + 4, "decay");
    q->init = text(r, p + TENSOR_bytes + 8, "parameter's initialiser", true);
  }
}

static void read_states(Reader *r, Image *m, uint64_t first) {
  for (uint32_t i = 0; i < m->n_state && !r->failed; i++) {
    const uint8_t *p = record(r, SEC_state, first + i);
    read_tensor(r, m, p, "state", 1u << IMG_STATE, &m->state[i].t);
    m->state[i].transient = flag(r, p + TENSOR_bytes, "transient");
  }
}

static void read_tables(Reader *r, Image *m, uint64_t first) {
  for (uint32_t i = 0; i < m->n_table && !r->failed; i++) {
    const uint8_t *p = record(r, SEC_table, first + i);
    ImgTable *q = &m->table[i];
    read_tensor(r, m, p, "table", 1u << IMG_TABLE, &q->t);
    uint64_t at = get64(p + TENSOR_bytes);
    if (at % IMG_ALIGN || !within(at, q->t.bytes, r->sec[SEC_data].count))
      fault(r, "the data of table %s is not in it", q->t.name);
    else
      q->data = r->base + r->sec[SEC_data].at + at;
  }
}

static void read_modules(Reader *r, Image *m, uint64_t first) {
  for (uint32_t i = 0; i < m->n_module && !r->failed; i++) {
    const uint8_t *p = record(r, SEC_module, first + i);
    ImgModule *k = &m->module[i];
    k->name = text(r, p, "kernel", false);
    k->n_word = get32(p + 4);
    uint64_t at = get64(p + 8);
    if (at % IMG_ALIGN || k->n_word < 5 ||
        !within(at, 4 * (uint64_t)k->n_word, r->sec[SEC_data].count)) {
      fault(r, "the code of kernel %s is not in it", k->name);
      return;
    }
    k->word = (const uint32_t *)(const void *)(r->base + r->sec[SEC_data].at + at);
    if (k->word[0] != 0x07230203) fault(r, "the code of kernel %s is not SPIR-V", k->name);
    for (int d = 0; d < 3; d++) {
      k->local[d] = get32(p + 16 + 4 * d);
      if (!k->local[d] || k->local[d] > 65535)
        fault(r, "kernel %s has a workgroup of %u invocations", k->name, k->local[d]);
    }
    k->subgroup_size = get32(p + 28);
    if (k->subgroup_size > 128 || (k->subgroup_size & (k->subgroup_size - 1)))
      fault(r, "kernel %s has subgroups of %u", k->name, k->subgroup_size);
  }
}

/* `most`: the highest kind that may stand there. */
static void read_slot(Reader *r, const Image *m, uint64_t index, uint32_t most, const char *of,
                      ImgSlot *slot) {
  const uint8_t *p = record(r, SEC_slot, index);
  *slot = (ImgSlot){get32(p), get32(p + 4), get64(p + 8)};
  if (slot->kind > most) {
    fault(r, "%s has a slot of kind %u", of, slot->kind);
  } else if (slot->kind == IMG_ADDRESS) {
    if (slot->chunk >= m->n_chunk || slot->value >= m->chunk[slot->chunk].bytes)
      fault(r, "%s has an address outside its memory", of);
  } else if (slot->kind == IMG_ARGUMENTS && slot->value >= m->n_arguments) {
    fault(r, "%s reads argument table %llu of %u", of, (unsigned long long)slot->value,
          m->n_arguments);
  }
}

static void read_arguments(Reader *r, const Image *m, const uint8_t *p, ImgArguments *a) {
  uint64_t first;
  uint32_t n = get32(p);
  if (!n || !take(r, SEC_slot, n, &first)) {
    fault(r, "an argument table has %s", n ? "slots that are not in it" : "no slots");
    return;
  }
  a->n_slot = n;
  a->slot = arena_alloc(r->arena, sizeof *a->slot * n);
  for (uint32_t i = 0; i < n && !r->failed; i++)
    read_slot(r, m, first + i, IMG_ADDRESS, "an argument table", &a->slot[i]);
}

static void read_dispatch(Reader *r, const Image *m, const uint8_t *p, ImgDispatch *d) {
  d->label = text(r, p + 24, "dispatch", true);
  d->module = get32(p);
  if (d->module >= m->n_module)
    fault(r, "dispatch %s runs kernel %u of %u", d->label, d->module, m->n_module);
  for (int i = 0; i < 3; i++) {
    d->groups[i] = get32(p + 4 + 4 * i);
    if (!d->groups[i] || d->groups[i] > 65535)
      fault(r, "dispatch %s has %u workgroups", d->label, d->groups[i]);
  }
  d->barrier = flag(r, p + 16, "barrier");
  d->flops = amount(r, p + 32, d->label);
  d->bytes = amount(r, p + 40, d->label);
  uint64_t first;
  uint32_t n = get32(p + 20);
  if (n > IMG_MAX_SLOTS || !take(r, SEC_slot, n, &first)) {
    fault(r, "dispatch %s has slots that are not in it", d->label);
    return;
  }
  d->n_slot = n;
  for (uint32_t i = 0; i < n && !r->failed; i++)
    read_slot(r, m, first + i, IMG_ARGUMENTS, d->label, &d->slot[i]);
}

static void read_program(Reader *r, const Image *m, const uint8_t *p, ImgProgram *q) {
  q->name = text(r, p, "program", false);
  q->n_input = get32(p + 4), q->n_output = get32(p + 8), q->n_dispatch = get32(p + 12);
  q->peak_bytes = get64(p + 16);
  q->flops = amount(r, p + 24, q->name);
  uint64_t tensor, dispatch;
  if (!take(r, SEC_tensor, (uint64_t)q->n_input + q->n_output, &tensor) ||
      !take(r, SEC_dispatch, q->n_dispatch, &dispatch)) {
    fault(r, "program %s has more than is in it", q->name);
    return;
  }
  q->input = arena_alloc(r->arena, sizeof *q->input * q->n_input);
  q->output = arena_alloc(r->arena, sizeof *q->output * q->n_output);
  q->dispatch = arena_alloc(r->arena, sizeof *q->dispatch * q->n_dispatch);
  for (uint32_t i = 0; i < q->n_input && !r->failed; i++)
    read_tensor(r, m, record(r, SEC_tensor, tensor++), "input", 1u << IMG_IO, &q->input[i]);
  for (uint32_t i = 0; i < q->n_output && !r->failed; i++)
    read_tensor(r, m, record(r, SEC_tensor, tensor++), "output",
                1u << IMG_IO | 1u << IMG_PARAM | 1u << IMG_STATE, &q->output[i]);
  for (uint32_t i = 0; i < q->n_dispatch && !r->failed; i++)
    read_dispatch(r, m, record(r, SEC_dispatch, dispatch++), &q->dispatch[i]);
}

/* ---- targets ---- */

/* What belongs to one target: the next records of each section. */
#define LIST(field, section, at)                                                                   \
  uint64_t first_##field;                                                                          \
  m->n_##field = get32(p + (at));                                                                  \
  if (!take(r, section, m->n_##field, &first_##field)) {                                           \
    fault(r, "target %s has more than is in it", m->target.name);                                  \
    return;                                                                                        \
  }                                                                                                \
  m->field = arena_alloc(r->arena, sizeof *m->field * (size_t)m->n_##field);

static void read_image(Reader *r, uint32_t index, Image *m) {
  const uint8_t *model = record(r, SEC_model, 0), *p = record(r, SEC_target, index);
  m->model = text(r, model, "model", false);
  m->config = text(r, model + 4, "configuration", true);
  read_target(r, p, &m->target);
  LIST(chunk, SEC_chunk, 32)
  LIST(param, SEC_param, 36)
  LIST(state, SEC_state, 40)
  LIST(table, SEC_table, 44)
  LIST(module, SEC_module, 48)
  LIST(program, SEC_program, 52)
  LIST(arguments, SEC_arguments, 56)
  read_chunks(r, m, first_chunk);
  read_params(r, m, first_param);
  read_states(r, m, first_state);
  read_tables(r, m, first_table);
  read_modules(r, m, first_module);
  for (uint32_t i = 0; i < m->n_program && !r->failed; i++)
    read_program(r, m, record(r, SEC_program, first_program + i), &m->program[i]);
  for (uint32_t i = 0; i < m->n_arguments && !r->failed; i++)
    read_arguments(r, m, record(r, SEC_arguments, first_arguments + i), &m->arguments[i]);
  Buf why = {0};
  if (!r->failed && !image_distinct(m, &why)) fault(r, "%s", why.data);
  buf_free(&why);
}

/* Everything belongs to a target, targets have names of their own and are of one model. */
static void check_targets(Reader *r, const Image *target, uint32_t n) {
  for (int s = SEC_chunk; s < SEC_data; s++)
    if (r->next[s] < r->sec[s].count) fault(r, "it has records that belong to nothing");
  Buf why = {0};
  for (uint32_t i = 1; i < n && !r->failed; i++) {
    for (uint32_t k = 0; k < i; k++)
      if (strcmp(target[i].target.name, target[k].target.name) == 0)
        fault(r, "two of its targets are named %s", target[i].target.name);
    if (!image_agree(target, &target[i], &why)) fault(r, "%s", why.data);
  }
  buf_free(&why);
}

const Image *image_read(Arena *a, const void *bytes, size_t n, uint32_t *n_target, Buf *why) {
  Reader r = {.arena = a, .base = bytes, .length = n, .why = why};
  if ((uintptr_t)bytes % IMG_ALIGN) die("image_read: an image at %p", bytes);
  if (!read_header(&r, n) || !read_sections(&r)) return NULL;
  *n_target = (uint32_t)r.sec[SEC_target].count;
  Image *target = arena_alloc(a, sizeof *target * *n_target);
  for (uint32_t i = 0; i < *n_target && !r.failed; i++) read_image(&r, i, &target[i]);
  if (!r.failed) check_targets(&r, target, *n_target);
  return r.failed ? NULL : target;
}
