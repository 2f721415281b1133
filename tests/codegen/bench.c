#include "tests/codegen/bench.h"

#include "driver/device_target.h"

#include <stdio.h>

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 256, GUARD = 256, POISON = 0x7fc0beef }; /* bytes; a NaN */

bool bench_open(Bench *b, Buf *why) {
  *b = (Bench){.device = vk_open(-1, why), .part = 1, .parts = 1, .sample = 1};
  if (!b->device) return false;
  b->arena = arena_new();
  const DeviceInfo *d = vk_info(b->device);
  b->native = device_target(d, d->name);
  return true;
}

void bench_close(Bench *b) {
  vk_close(b->device);
  arena_free(b->arena);
}

bool bench_takes(Bench *b) {
  int i = b->next++, every = b->foreign || b->as_gpu ? b->sample : 1;
  return i % every == 0 && i / every % b->parts == b->part - 1;
}

/* A tensor's values as they lie in the target's memory. */
static void pack(const Target *target, const Type *t, const double *data, void *to) {
  int64_t n = type_count(t);
  for (int64_t i = 0; i < n; i++) {
    float f = (float)data[i];
    int32_t whole = dtype_is_float(t->dtype) ? 0 : (int32_t)data[i];
    if (cg_element_bytes(target, t->dtype) == 2)
      half_pack(t->dtype == DT_bf16, &f, 1, (char *)to + 2 * i);
    else
      memcpy((char *)to + 4 * i, dtype_is_float(t->dtype) ? (void *)&f : (void *)&whole, 4);
  }
}

static void unpack(const Target *target, const Type *t, uint32_t *bits, double *data) {
  int64_t n = type_count(t);
  if (cg_element_bytes(target, t->dtype) == 2)
    half_unpack(t->dtype == DT_bf16, bits, (size_t)n, bits);
  for (int64_t i = 0; i < n; i++) {
    float f;
    memcpy(&f, &bits[i], 4);
    data[i] = dtype_is_float(t->dtype) ? f : (double)(int32_t)bits[i];
  }
}

/* The image: one state that is all of memory, one program with one dispatch. */
static Image *image_of(Arena *a, const KernelCode *code, const uint64_t *offset, uint64_t bytes) {
  Image *m = arena_alloc(a, sizeof *m);
  m->model = "bench";
  m->config = "{}";
  m->target = (ImgTarget){.name = "any"};
  m->n_chunk = m->n_state = m->n_module = m->n_program = 1;
  m->chunk = arena_copy(a, &(ImgChunk){IMG_STATE, bytes}, sizeof *m->chunk);
  ImgTensor all = {
    .name = "memory", .dtype = IMG_i32, .rank = 1, .dim = {(int64_t)bytes / 4}, .bytes = bytes};
  m->state = arena_copy(a, &(ImgState){.t = all}, sizeof *m->state);
  ImgModule module = {.name = code->name,
                      .word = code->word,
                      .n_word = (uint32_t)code->n_word,
                      .subgroup_size = code->subgroup_size};
  memcpy(module.local, code->local, sizeof module.local);
  m->module = arena_copy(a, &module, sizeof module);
  ImgDispatch d = {.n_slot = (uint32_t)code->n_slot, .label = code->name};
  memcpy(d.groups, code->groups, sizeof d.groups);
  for (int i = 0; i < code->n_slot; i++) {
    bool raw = code->slot[i].kind == SLOT_raw;
    d.slot[i] = raw ? (ImgSlot){0, 0, code->slot[i].raw} : (ImgSlot){1, 0, offset[i]};
  }
  ImgProgram p = {.name = "run", .n_dispatch = 1, .dispatch = arena_copy(a, &d, sizeof d)};
  m->program = arena_copy(a, &p, sizeof p);
  return m;
}

static bool run_image(Bench *b, const Image *m, uint32_t *memory, Buf *why) {
  Exec *exec = exec_new(b->device, m, &(ExecOptions){.no_cache = true}, why);
  bool ok = exec && exec_write(exec, &m->state[0].t, memory, why) &&
            exec_run(exec, &m->program[0], NULL, NULL, why) &&
            exec_read(exec, &m->state[0].t, memory, why);
  exec_free(exec);
  return ok;
}

/* Offsets by slot; returns the bytes of all. */
static uint64_t lay_out(const Target *target, const KernelJob *job, const KernelCode *code,
                        Node *const *over, uint64_t *offset) {
  uint64_t bytes = ALIGN;
  for (int i = 0; i < code->n_slot; i++) {
    const KernelSlot *s = &code->slot[i];
    if (s->kind == SLOT_raw || (s->kind == SLOT_result && over && over[i])) continue;
    offset[i] = bytes;
    bytes += cg_bytes(target, &s->node->type) + GUARD;
    bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
  }
  for (int o = 0; o < job->n_out && over; o++)
    for (int i = 0; i < code->n_slot && over[o]; i++)
      if (code->slot[i].kind == SLOT_operand && code->slot[i].node == over[o])
        offset[o] = offset[i];
  return bytes;
}

/* What the kernel left where it should not write; `memory` has the results taken out. */
static bool untouched(const uint32_t *memory, const uint32_t *before, uint64_t bytes, Buf *why) {
  for (uint64_t i = 0; i < bytes / 4; i++) {
    if (memory[i] == before[i]) continue;
    buf_printf(why, "wrote word %lld, outside its results", (long long)i);
    return false;
  }
  return true;
}

bool bench_run(Bench *b, Arena *a, const Target *target, const KernelJob *job,
               const KernelCode *code, const double *(*value)(const Node *, void *), void *context,
               Node *const *over, double *const *result, Buf *why) {
  uint64_t offset[CG_MAX_SLOTS] = {0}, bytes = lay_out(target, job, code, over, offset);
  uint32_t *memory = xmalloc(bytes), *before = xmalloc(bytes);
  for (uint64_t i = 0; i < bytes / 4; i++) memory[i] = POISON;
  for (int i = 0; i < code->n_slot; i++) {
    const KernelSlot *s = &code->slot[i];
    if (s->kind == SLOT_operand)
      pack(target, &s->node->type, value(s->node, context), memory + offset[i] / 4);
  }
  memcpy(before, memory, bytes);
  bool ok = run_image(b, image_of(a, code, offset, bytes), memory, why);
  for (int o = 0; o < job->n_out; o++) { /* slot o is result o */
    const Type *t = &job->out[o]->type;
    uint64_t n = cg_bytes(target, t);
    uint32_t *bits = arena_alloc(a, 4 * (size_t)type_count(t));
    memcpy(bits, memory + offset[o] / 4, n);
    unpack(target, t, bits, result[o]);
    memcpy(memory + offset[o] / 4, before + offset[o] / 4, n);
  }
  ok = ok && untouched(memory, before, bytes, why);
  b->kernels++;
  free(memory);
  free(before);
  return ok;
}

/* Reads the first argument; false where it is none of ours. */
static bool take_argument(Bench *b, const char *arg, bool *only_gpu) {
  *only_gpu = strcmp(arg, "gpu") == 0;
  if (*only_gpu) return true;
  if (sscanf(arg, "%d/%d", &b->part, &b->parts) != 2) return false;
  if (b->part < 1 || b->part > b->parts) die("there is no part %s", arg);
  return true;
}

int bench_main(BenchCases *cases, int argc, char **argv) {
  enum { SAMPLE = 17 /* no multiple of what cases go round by */ };
  Bench b;
  Buf why = {0};
  bool only_gpu = false;
  if (!bench_open(&b, &why)) {
    printf("skipped: no Vulkan device: %s\n", why.data);
    return 0;
  }
  if (argc > 1 && take_argument(&b, argv[1], &only_gpu)) {
    argv[1] = argv[0];
    argv++;
    argc--;
  }
  static const Target gpu = {.name = "a GPU",
                             .subgroup_size = 32,
                             .subgroup_shuffle = true,
                             .subgroup_arithmetic = true,
                             .shared_bytes = 48 << 10,
                             .max_invocations = 1024,
                             .storage16 = true,
                             .chunk_bytes = (uint64_t)1 << 31};
  Target portable16 = target_portable;
  portable16.name = "portable, with 16-bit storage";
  portable16.storage16 = b.native.storage16;
  Target as_gpu = b.native;
  as_gpu.name = "this device as a GPU of one core";
  as_gpu.is_cpu = false;
  as_gpu.cores = 1;
  as_gpu.matrix_f16 = as_gpu.matrix_bf16 = (TargetMatrix){0}; /* which have tests of their own */
  const Target *target[] = {&target_portable, &b.native, &gpu, &portable16, &as_gpu};
  if (b.native.is_cpu && !only_gpu) b.sample = SAMPLE;
  for (int t = 0; t < COUNT_OF(target); t++) {
    b.as_gpu = target[t] == &as_gpu;
    b.next = 0;
    if (b.as_gpu ? b.native.is_cpu : !only_gpu) cases(&b, target[t], argc, argv);
  }
  printf("%d kernels, %d wrong\n", b.kernels, b.wrong);
  bench_close(&b);
  return b.wrong != 0;
}
