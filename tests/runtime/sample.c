#include "tests/runtime/sample.h"

#include <string.h>

#include "tests/runtime/add_words.h"

enum { CHUNK_param, CHUNK_state, CHUNK_table, CHUNK_io, CHUNK_scratch, CHUNKS, KB = 1024 };

static ImgTensor tensor(const char *name, ImgType type, uint32_t chunk, uint64_t offset,
                        uint32_t rank, int64_t d0, int64_t d1) {
  ImgTensor t = {
    .name = name, .dtype = type, .rank = rank, .chunk = chunk, .offset = offset, .bytes = 4};
  const int64_t dim[2] = {d0, d1};
  for (uint32_t i = 0; i < rank; i++) {
    t.dim[i] = dim[i];
    t.bytes *= (uint64_t)dim[i];
  }
  return t;
}

static ImgTensor vector(const char *name, uint32_t chunk, uint64_t offset) {
  return tensor(name, IMG_f32, chunk, offset, 1, SAMPLE_N, 0);
}

static ImgSlot address(uint32_t chunk, uint64_t offset) {
  return (ImgSlot){IMG_ADDRESS, chunk, offset};
}

/* c = a + b, n elements */
static ImgDispatch add(ImgSlot a, ImgSlot b, ImgSlot c, uint64_t n, bool barrier,
                       const char *label) {
  return (ImgDispatch){.module = 0,
                       .groups = {(uint32_t)((n + 63) / 64), 1, 1},
                       .barrier = barrier,
                       .n_slot = 4,
                       .slot = {a, b, c, {0, 0, n}},
                       .label = label,
                       .flops = (double)n,
                       .bytes = 12.0 * (double)n};
}

static ImgProgram *program(Image *m, Arena *a, const char *name, uint32_t n_input,
                           uint32_t n_output, uint32_t n_dispatch) {
  ImgProgram *p = &m->program[m->n_program++];
  p->name = name;
  p->n_input = n_input, p->n_output = n_output, p->n_dispatch = n_dispatch;
  p->input = arena_alloc(a, sizeof *p->input * n_input);
  p->output = arena_alloc(a, sizeof *p->output * n_output);
  p->dispatch = arena_alloc(a, sizeof *p->dispatch * n_dispatch);
  p->peak_bytes = 4 * SAMPLE_N;
  return p;
}

/* Table 1: slot i holds the numbers 2·i and 2·i + 1; the last one w's address. Table 0: another. */
static void add_arguments(Image *m, Arena *a) {
  m->n_arguments = 2;
  m->arguments = arena_alloc(a, sizeof *m->arguments * 2);
  for (uint32_t i = 0; i < 2; i++) {
    ImgArguments *to = &m->arguments[i];
    to->n_slot = i ? SAMPLE_ARGUMENTS + 1 : 1;
    to->slot = arena_alloc(a, sizeof *to->slot * to->n_slot);
    for (uint32_t s = 0; s + i < to->n_slot; s++) {
      const float pair[2] = {(float)(2 * s), (float)(2 * s + 1)};
      memcpy(&to->slot[s].value, pair, sizeof pair);
    }
    if (i) to->slot[SAMPLE_ARGUMENTS] = address(CHUNK_param, 64);
  }
}

static void add_programs(Image *m, Arena *a) {
  ImgSlot w = address(CHUNK_param, 0), c = address(CHUNK_state, 16), t = address(CHUNK_table, 0);
  ImgSlot zero = address(CHUNK_table, 4 * KB), x = address(CHUNK_io, 0),
          y = address(CHUNK_io, 4 * KB);
  ImgSlot s = address(CHUNK_scratch, 256);

  ImgProgram *init = program(m, a, "init", 1, 0, 2);
  init->input[0] = tensor("rng", IMG_i32, CHUNK_io, 0, 1, 4, 0);
  init->dispatch[0] = add(t, t, w, SAMPLE_N, false, "w = t + t");
  init->dispatch[1] = add(zero, zero, c, SAMPLE_N, false, "c = 0");

  ImgProgram *step = program(m, a, "step", 1, 2, 3);
  step->input[0] = vector("x", CHUNK_io, 0);
  step->output[0] = vector("y", CHUNK_io, 4 * KB);
  step->output[1] = vector("c", CHUNK_state, 16);
  step->dispatch[0] = add(x, w, s, SAMPLE_N, false, "s = x + w");
  step->dispatch[1] = add(s, t, y, SAMPLE_N, true, "y = s + t");
  step->dispatch[2] = add(c, x, c, SAMPLE_N, false, "c = c + x");

  ImgProgram *hole = program(m, a, "hole", 0, 1, 1);
  hole->output[0] = vector("y", CHUNK_io, 4 * KB);
  hole->dispatch[0] = add(s, t, y, SAMPLE_N, false, "y = s + t");

  /* w's address stands in the table, half of which are numbers: so w's chunk must exist */
  ImgProgram *tabled = program(m, a, "tabled", 0, 1, 1);
  tabled->output[0] = vector("y", CHUNK_io, 4 * KB);
  tabled->dispatch[0] =
    add((ImgSlot){IMG_ARGUMENTS, 0, 1}, t, y, 2 * SAMPLE_ARGUMENTS, false, "y = table + t");

  ImgProgram *slow = program(m, a, "long", 1, 1, SAMPLE_LONG);
  slow->input[0] = vector("x", CHUNK_io, 0);
  slow->output[0] = vector("c", CHUNK_state, 16);
  for (int i = 0; i < SAMPLE_LONG; i++) {
    slow->dispatch[i] = add(c, x, c, SAMPLE_N, i > 0, "c = c + x");
    slow->dispatch[i].flops = 1e9;
  }

  ImgProgram *train = program(m, a, "train", 4, 5, 6);
  train->input[0] = tensor("tokens", IMG_i32, CHUNK_io, 0, 2, 2, 4);
  train->input[1] = tensor("targets", IMG_i32, CHUNK_io, 64, 2, 2, 4);
  train->input[2] = tensor("rng", IMG_i32, CHUNK_io, 128, 1, 4, 0);
  train->input[3] = tensor("total", IMG_f32, CHUNK_io, 160, 0, 0, 0);
  static const char *const name[] = {"loss", "grad_norm", "lr", "step", "ok"};
  static const ImgType type[] = {IMG_f32, IMG_f32, IMG_f32, IMG_i32, IMG_bool};
  for (uint32_t i = 0; i < 5; i++) {
    train->output[i] = tensor(name[i], type[i], CHUNK_io, 4 * KB + 64 * i, 0, 0, 0);
    train->dispatch[i] =
      add(zero, address(CHUNK_table, 4), address(CHUNK_io, 4 * KB + 64 * i), 1, false, name[i]);
  }
  train->dispatch[5] = add(w, t, w, SAMPLE_N, false, "w = w + t");
  train->flops = 6e6;
}

Image *sample_image(Arena *a) {
  static const uint64_t bytes[CHUNKS] = {4 * SAMPLE_N, 4 * SAMPLE_N + 16, 8 * KB, 8 * KB,
                                         4 * SAMPLE_N + 256};
  Image *m = arena_alloc(a, sizeof *m);
  m->model = "sample";
  m->config =
    "{\"model\":\"sample\",\"config\":{\"vocab\":7},\"train\":{\"batch\":2,\"clip\":1.0}}";
  m->target = (ImgTarget){.name = "portable", .shared_bytes = 16 * KB, .max_invocations = 128};
  m->n_chunk = CHUNKS;
  m->chunk = arena_alloc(a, sizeof *m->chunk * CHUNKS);
  for (uint32_t i = 0; i < CHUNKS; i++) m->chunk[i] = (ImgChunk){i, bytes[i]};

  m->n_param = m->n_state = m->n_module = 1;
  m->param = arena_alloc(a, sizeof *m->param);
  m->param[0] = (ImgParam){vector("w", CHUNK_param, 0), 1, 0, "zeros"};
  m->state = arena_alloc(a, sizeof *m->state);
  m->state[0] = (ImgState){vector("c", CHUNK_state, 16), 0};
  m->module = arena_alloc(a, sizeof *m->module);
  m->module[0] = (ImgModule){"add", add_words, COUNT_OF(add_words), {64, 1, 1}, 0};

  add_arguments(m, a);
  m->n_table = 2;
  m->table = arena_alloc(a, sizeof *m->table * 2);
  float *t = arena_alloc(a, 4 * SAMPLE_N), *zero = arena_alloc(a, 4 * SAMPLE_N);
  for (int i = 0; i < SAMPLE_N; i++) t[i] = (float)i;
  m->table[0] = (ImgTable){vector("t", CHUNK_table, 0), t};
  m->table[1] = (ImgTable){vector("zero", CHUNK_table, 4 * KB), zero};

  m->program = arena_alloc(a, sizeof *m->program * 8);
  add_programs(m, a);
  return m;
}

Image *sample_targets(Arena *a) {
  Image *m = arena_alloc(a, sizeof *m * SAMPLE_TARGETS);
  for (int i = 0; i < SAMPLE_TARGETS; i++) m[i] = *sample_image(a);
  m[0].target = (ImgTarget){.name = "giant", .subgroup_size = 64, .shared_bytes = 1u << 28};
  m[1].target.name = "huge";
  m[1].chunk[CHUNK_scratch].bytes = (uint64_t)1 << 45;
  m[2].target.name = "small";
  m[2].chunk[CHUNK_param].bytes += 256; /* another place for w */
  m[2].param[0].t.offset += 256;
  return m;
}

Image *sample_modules(Arena *a, uint32_t n) {
  Image *m = sample_image(a);
  const ImgModule one = m->module[0];
  m->module = arena_alloc(a, sizeof *m->module * n);
  m->n_module = n;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t *word = arena_copy(a, one.word, 4 * (size_t)one.n_word);
    word[2] += i;
    m->module[i] = one;
    m->module[i].word = word;
    m->module[i].name = arena_printf(a, "add.%u", i);
  }
  for (uint32_t k = 0; k < m->n_program; k++)
    for (uint32_t i = 0; i < m->program[k].n_dispatch; i++)
      m->program[k].dispatch[i].module = (i + 2 * k) % n;
  return m;
}

void *sample_bytes(Arena *a, const Image *m, uint32_t n_target, size_t *n) {
  Buf b = {0};
  if (!image_write(&b, m, n_target)) die("sample_bytes: the sample could not be written");
  void *copy = arena_copy(a, b.data, b.len);
  *n = b.len;
  buf_free(&b);
  return copy;
}
