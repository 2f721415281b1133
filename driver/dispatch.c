/* A plan's steps → dispatches and modules. */
#include "driver/compile_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* "matmul gpt2.alpha:21 c_attn", for messages about a dispatch. */
static const char *label_of(Compiler *c, const char *kernel, const Node *n) {
  Buf b = {0};
  buf_str(&b, kernel);
  if (n->label) buf_printf(&b, " %s", n->label);
  if (n->loc.file) buf_printf(&b, " %s:%d", n->loc.file, n->loc.line);
  const char *text = arena_str(c->arena, b.data, b.len);
  buf_free(&b);
  return text;
}

static bool write_file(const char *path, const void *data, size_t bytes, Buf *why) {
  FILE *f = fopen(path, "wb");
  bool ok = f && fwrite(data, 1, bytes, f) == bytes;
  if (f && fclose(f) != 0) ok = false;
  if (!ok) buf_printf(why, "cannot write %s: %s", path, strerror(errno));
  return ok;
}

static bool write_module(const Compiler *c, int index, const ImgModule *m, Buf *why) {
  Buf path = {0}, text = {0};
  buf_printf(&path, "%s/%03d.%s", c->option.spirv_dir, index, m->name);
  for (char *s = path.data + strlen(c->option.spirv_dir) + 1; *s; s++)
    if (strchr("/ ", *s)) *s = '_';
  buf_str(&path, ".spv");
  bool ok = write_file(path.data, m->word, 4 * (size_t)m->n_word, why);
  buf_str(&path, "asm");
  cg_disassemble(m->word, (int)m->n_word, &text);
  ok = ok && write_file(path.data, text.data, text.len, why);
  buf_free(&path);
  buf_free(&text);
  return ok;
}

/* ---- kernels and modules ---- */

static bool same_words(const KernelCode *a, const KernelCode *b) {
  return a->n_word == b->n_word && a->subgroup_size == b->subgroup_size &&
         memcmp(a->local, b->local, sizeof a->local) == 0 &&
         memcmp(a->word, b->word, 4 * (size_t)a->n_word) == 0;
}

/* The kernel of a job; the number of the first one with its words. */
static int kernel_of(Compiler *c, const KernelJob *job, KernelCode *code) {
  int kernel = cg_emit_once(c->kernels, job, code);
  if (kernel < c->n_kernel) return c->kernel[kernel].same;
  CompiledKernel k = {
    .hash = hash_bytes(code->word, 4 * (size_t)code->n_word, 0), .same = kernel, .module = -1};
  k.code = arena_copy(c->arena, code, sizeof *code);
  for (int i = 0; i < c->n_kernel && k.same == kernel; i++)
    if (c->kernel[i].hash == k.hash && same_words(c->kernel[i].code, code))
      k.same = c->kernel[i].same;
  ARENA_PUSH(c->arena, c->kernel, c->n_kernel, k);
  return k.same;
}

/* Index of a kernel's module, made and validated at its first use; −1 with `why` where it cannot be
 * written. */
static int module_of(Compiler *c, int kernel, const Node *root, Buf *why) {
  CompiledKernel *k = &c->kernel[kernel];
  if (k->module >= 0) return k->module;
  const KernelCode *code = k->code;
  validate_add(
    c->validator, code->word, code->n_word,
    arena_printf(c->arena, "%s of %%%d = %s", code->name, root->id, ir_op[root->op].name));
  ImgModule m = {.name = code->name,
                 .n_word = (uint32_t)code->n_word,
                 .word = code->word,
                 .subgroup_size = code->subgroup_size};
  memcpy(m.local, code->local, sizeof m.local);
  if (c->option.spirv_dir && !write_module(c, c->n_module, &m, why)) return -1;
  ARENA_PUSH(c->arena, c->image.module, c->n_module, m);
  return k->module = c->n_module - 1;
}

/* ---- dispatches ---- */

static ImgSlot address(const PlanPlace *p) {
  return (ImgSlot){.kind = IMG_ADDRESS, .chunk = (uint32_t)p->chunk, .value = p->offset};
}

static ImgSlot slot_of(const Plan *plan, const PlanStep *s, const KernelSlot *slot) {
  switch (slot->kind) {
  case SLOT_result:
    for (int o = 0; o < s->job.n_out; o++)
      if (s->job.out[o] == slot->node) return address(&s->result[o]);
    die("kernel of %%%d stores %%%d, which it does not compute", s->job.out[0]->id, slot->node->id);
  case SLOT_operand:
    if (s->job.copy) return address(&s->source);
    if (plan->place[slot->node->id].chunk < 0)
      die("kernel of %%%d reads %%%d, which has no place", s->job.out[0]->id, slot->node->id);
    return address(&plan->place[slot->node->id]);
  default: return (ImgSlot){.value = slot->raw};
  }
}

static const Node *root_of(const PlanStep *s) {
  return s->job.anchor ? s->job.anchor : s->job.out[s->job.n_out - 1];
}

static bool add_single(Compiler *c, const Plan *plan, const PlanStep *s, ImgDispatch *d, Buf *why) {
  KernelCode code;
  int kernel = kernel_of(c, &s->job, &code);
  int module = module_of(c, kernel, root_of(s), why);
  *d = (ImgDispatch){.module = (uint32_t)module,
                     .n_slot = (uint32_t)code.n_slot,
                     .label = label_of(c, code.name, root_of(s)),
                     .flops = code.flops,
                     .bytes = code.bytes};
  memcpy(d->groups, code.groups, sizeof d->groups);
  for (int i = 0; i < code.n_slot; i++) d->slot[i] = slot_of(plan, s, &code.slot[i]);
  return module >= 0;
}

/* ---- many instances of a kernel in one dispatch ---- */

typedef struct Instance { /* a step of a run, in tabled form where it has one */
  const PlanStep *step;
  KernelCode code;
  int kernel; /* −1: it has none */
  int group;  /* of instances with one kernel, by the index of the first */
  int n;      /* of the first: how many */
  double bytes;
} Instance;

static int64_t workgroups(const KernelCode *k) { return (int64_t)k->groups[0] * k->groups[1]; }

/* Steps of one kernel form a group; a new one where it would run for long, since what is submitted
 * at once cannot be shorter than a dispatch. */
static void group_instances(Instance *of, int n) {
  const double most_bytes = 4e9;
  for (int i = 0; i < n; i++) {
    of[i].group = i;
    of[i].n = 1;
    of[i].bytes = of[i].code.bytes;
    for (int k = 0; k < i && of[i].kernel >= 0; k++) {
      if (of[k].group != k || of[k].kernel != of[i].kernel ||
          of[k].bytes + of[i].bytes > most_bytes)
        continue;
      of[i].group = k;
      of[k].n++;
      of[k].bytes += of[i].bytes;
      break;
    }
  }
}

/* The columns of codegen/plan.h, in this order. */
static ImgArguments arguments_of(Compiler *c, const Plan *plan, const Instance *of, int n,
                                 int first) {
  uint32_t count = (uint32_t)of[first].n, n_slot = (uint32_t)of[first].code.n_slot, at = 0;
  ImgArguments a = {.n_slot = count * (1 + n_slot)};
  a.slot = arena_alloc(c->arena, sizeof *a.slot * a.n_slot);
  int64_t groups = 0;
  for (int i = first; i < n; i++) {
    if (of[i].group != first) continue;
    a.slot[at] = (ImgSlot){.value = (uint64_t)groups};
    for (uint32_t s = 0; s < n_slot; s++)
      a.slot[at + count * (1 + s)] = slot_of(plan, of[i].step, &of[i].code.slot[s]);
    groups += workgroups(&of[i].code);
    at++;
  }
  return a;
}

static bool add_tabled(Compiler *c, const Plan *plan, const Instance *of, int n, int first,
                       ImgDispatch *d, Buf *why) {
  const Instance *f = &of[first];
  int module = module_of(c, f->kernel, root_of(f->step), why);
  uint64_t count = (uint64_t)f->n, steps = 0;
  while (1ull << steps < count) steps++;
  *d = (ImgDispatch){
    .module = (uint32_t)module,
    .n_slot = CG_TABLE_PUSH,
    .slot = {{.kind = IMG_ARGUMENTS, .value = c->image.n_arguments},
             {.value = steps << 32 | count}},
    .label = arena_printf(c->arena, "%s ×%d", label_of(c, f->code.name, root_of(f->step)), f->n),
    .bytes = f->bytes};
  int64_t groups = 0;
  for (int i = first; i < n; i++) {
    if (of[i].group != first) continue;
    d->flops += of[i].code.flops;
    groups += workgroups(&of[i].code);
  }
  cg_groups(groups, d->groups);
  ImgArguments a = arguments_of(c, plan, of, n, first);
  ARENA_PUSH(c->arena, c->image.arguments, c->image.n_arguments, a);
  return module >= 0;
}

/* Steps without a barrier between them, in any order: those of equal kernels together. */
static bool add_run(Compiler *c, const Plan *plan, const PlanStep *step, int n, ImgProgram *out,
                    Buf *why) {
  Arena *arena = arena_new();
  Instance *of = arena_alloc(arena, sizeof *of * (size_t)n);
  int candidates = 0;
  for (int i = 0; i < n; i++) candidates += cg_can_table(&step[i].job);
  for (int i = 0; i < n; i++) {
    of[i] = (Instance){.step = &step[i], .kernel = -1};
    if (candidates < 2 || !cg_can_table(&step[i].job)) continue;
    KernelJob job = step[i].job;
    job.tabled = true;
    of[i].kernel = kernel_of(c, &job, &of[i].code);
  }
  group_instances(of, n);
  bool ok = true, barrier = step[0].barrier;
  for (int i = 0; ok && i < n; i++) {
    ImgDispatch *d = &out->dispatch[out->n_dispatch];
    if (of[i].group != i) continue;
    ok =
      of[i].n > 1 ? add_tabled(c, plan, of, n, i, d, why) : add_single(c, plan, &step[i], d, why);
    d->barrier = barrier;
    barrier = false;
    out->n_dispatch++;
  }
  arena_free(arena);
  return ok;
}

bool add_dispatches(Compiler *c, const Plan *plan, ImgProgram *out, Buf *why) {
  size_t bytes = sizeof *plan->step * ((size_t)plan->n_step + 1);
  PlanStep *step = xmalloc(bytes);
  int n = 0;
  for (int i = 0; i < plan->n_step; i++)
    if (!plan->step[i].assembles) step[n++] = plan->step[i];
  out->dispatch = arena_alloc(c->arena, sizeof *out->dispatch * ((size_t)n + 1));
  bool ok = true;
  for (int i = 0, next; ok && i < n; i = next) {
    for (next = i + 1; next < n && !step[next].barrier;) next++;
    if (c->option.progress) c->option.progress(c->option.progress_arg, out->name, i, n);
    ok = add_run(c, plan, &step[i], next - i, out, why);
  }
  free(step);
  return ok;
}
