/* graphs → plans → kernels → image. Equal kernels become one module, validated once. */
#include "driver/compile.h"
#include "codegen/plan.h"
#include "driver/validate.h"
#include "passes/plan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct ParamFlags {
  const char *name; /* interned */
  bool trainable, decay;
  const char *init;
} ParamFlags;

struct Compiler {
  Arena *arena;
  CompileOptions option;
  Layout *layout;
  Image image;
  ParamFlags *flags;
  int n_flags;
  KernelCache *kernels;
  Validator *validator; /* NULL once it has ended */
  int *module_of;       /* by kernel of the cache: its module */
  int n_kernel;
  uint64_t *module_hash; /* by module */
  int n_module, n_program;
};

Compiler *compile_new(const CompileOptions *o) {
  Arena *arena = arena_new();
  Compiler *c = arena_alloc(arena, sizeof *c);
  c->arena = arena;
  c->option = *o;
  c->layout = layout_new(arena, o->target);
  c->kernels = cg_cache(arena, o->target);
  c->validator = validate_new();
  return c;
}

static void validated(Compiler *c) {
  if (c->validator) validate_end(c->validator);
  c->validator = NULL;
}

void compile_free(Compiler *c) {
  if (!c) return;
  validated(c);
  cg_cache_end(c->kernels);
  arena_free(c->arena);
}

bool compile_param(Compiler *c, const char *name, const Type *t, bool trainable, bool decay,
                   const char *init, Buf *why) {
  PlanPlace place;
  if (!layout_tensor(c->layout, IMG_PARAM, name, t, &place, why)) return false;
  ParamFlags f = {intern(name), trainable, decay, intern(init)};
  ARENA_PUSH(c->arena, c->flags, c->n_flags, f);
  return true;
}

static ImgTensor tensor(const char *name, const Type *t, const PlanPlace *p) {
  ImgTensor it = {.name = name,
                  .dtype = t->dtype,
                  .rank = t->rank,
                  .chunk = (uint32_t)p->chunk,
                  .offset = p->offset,
                  .bytes = p->bytes};
  for (int i = 0; i < t->rank; i++) it.dim[i] = t->dim[i];
  return it;
}

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

static bool same_module(const ImgModule *m, const KernelCode *code) {
  return m->n_word == (uint32_t)code->n_word && m->subgroup_size == code->subgroup_size &&
         memcmp(m->local, code->local, sizeof m->local) == 0 &&
         memcmp(m->word, code->word, 4 * (size_t)code->n_word) == 0;
}

/* Index of the module with this code, made and validated at its first use; −1 with `why` where it
 * cannot be written. */
static int module_with(Compiler *c, const KernelCode *code, const Node *root, Buf *why) {
  uint64_t hash = hash_bytes(code->word, 4 * (size_t)code->n_word, code->subgroup_size);
  for (int i = 0; i < c->n_module; i++)
    if (c->module_hash[i] == hash && same_module(&c->image.module[i], code)) return i;
  validate_add(
    c->validator, code->word, code->n_word,
    arena_printf(c->arena, "%s of %%%d = %s", code->name, root->id, ir_op[root->op].name));
  ImgModule m = {.name = code->name,
                 .n_word = (uint32_t)code->n_word,
                 .word = code->word,
                 .subgroup_size = code->subgroup_size};
  memcpy(m.local, code->local, sizeof m.local);
  if (c->option.spirv_dir && !write_module(c, c->n_module, &m, why)) return -1;
  int n_hash = c->n_module;
  ARENA_PUSH(c->arena, c->module_hash, n_hash, hash);
  ARENA_PUSH(c->arena, c->image.module, c->n_module, m);
  return c->n_module - 1;
}

/* The same by the kernel's number in the cache. */
static int module_of(Compiler *c, int kernel, const KernelCode *code, const Node *root, Buf *why) {
  if (kernel == c->n_kernel) {
    int module = module_with(c, code, root, why);
    ARENA_PUSH(c->arena, c->module_of, c->n_kernel, module);
  }
  return c->module_of[kernel];
}

static ImgSlot address(const PlanPlace *p) {
  return (ImgSlot){.is_address = 1, .chunk = (uint32_t)p->chunk, .value = p->offset};
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

static bool add_dispatch(Compiler *c, const Plan *plan, const PlanStep *s, ImgDispatch *d,
                         Buf *why) {
  KernelCode code;
  int kernel = cg_emit_once(c->kernels, &s->job, &code);
  const Node *root = s->job.anchor ? s->job.anchor : s->job.out[s->job.n_out - 1];
  int module = module_of(c, kernel, &code, root, why);
  *d = (ImgDispatch){.module = (uint32_t)module,
                     .barrier = s->barrier,
                     .n_slot = (uint32_t)code.n_slot,
                     .label = label_of(c, code.name, root),
                     .flops = code.flops,
                     .bytes = code.bytes};
  memcpy(d->groups, code.groups, sizeof d->groups);
  for (int i = 0; i < code.n_slot; i++) d->slot[i] = slot_of(plan, s, &code.slot[i]);
  return module >= 0;
}

/* Multiplications and additions of the matrix products that the definition asks for: recomputed
 * ones do not count. */
static double model_flops(const Plan *plan) {
  double sum = 0;
  for (int i = 0; i < plan->n_step; i++) {
    const Node *n = plan->step[i].job.anchor;
    if (!n) n = plan->step[i].job.out[0];
    if (n->op != OP_matmul || plan->step[i].job.copy || n->region < 0) continue;
    sum += 2.0 * (double)type_count(&n->type) * (double)n->src[0]->type.dim[n->type.rank - 1];
  }
  return sum;
}

static void list_io(Compiler *c, const Plan *plan, ImgProgram *out) {
  const Graph *g = plan->graph;
  for (int i = 0; i < g->n_node; i++) {
    if (g->node[i]->op != OP_input) continue;
    ImgTensor t = tensor(g->node[i]->name, &g->node[i]->type, &plan->place[i]);
    ARENA_PUSH(c->arena, out->input, out->n_input, t);
  }
  for (int i = 0; i < g->n_output; i++) {
    if (g->output[i].kind != OUT_value) continue;
    ImgTensor t = tensor(g->output[i].name, &g->output[i].node->type, &plan->output[i]);
    ARENA_PUSH(c->arena, out->output, out->n_output, t);
  }
}

bool compile_program(Compiler *c, const Graph *g, Buf *why) {
  Plan *plan = plan_graph(c->layout, g, c->option.target, why);
  if (!plan) return false;
  Buf wrong = {0};
  if (!plan_check(plan, c->layout, &wrong)) die("plan of program %s:\n%s", g->name, wrong.data);
  if (c->option.plan) plan_print(c->option.plan, plan, c->layout);
  ImgProgram out = {.name = intern(g->name),
                    .peak_bytes = plan->peak_bytes,
                    .flops = model_flops(plan),
                    .n_dispatch = (uint32_t)plan->n_step};
  list_io(c, plan, &out);
  out.dispatch = arena_alloc(c->arena, sizeof *out.dispatch * ((size_t)plan->n_step + 1));
  bool ok = true;
  for (int i = 0; ok && i < plan->n_step; i++) {
    if (c->option.progress) c->option.progress(c->option.progress_arg, g->name, i, plan->n_step);
    ok = add_dispatch(c, plan, &plan->step[i], &out.dispatch[i], why);
  }
  if (ok) {
    ARENA_PUSH(c->arena, c->image.program, c->n_program, out);
  }
  graph_free(plan->graph);
  return ok;
}

static const ParamFlags *flags_of(const Compiler *c, const char *name) {
  static const ParamFlags unknown = {.trainable = true, .init = ""};
  for (int i = 0; i < c->n_flags; i++)
    if (c->flags[i].name == name) return &c->flags[i];
  return &unknown;
}

static void list_tensors(Compiler *c) {
  const Layout *l = c->layout;
  Image *image = &c->image;
  image->n_param = (uint32_t)l->param.n;
  image->n_state = (uint32_t)l->state.n;
  image->n_table = (uint32_t)l->table.n;
  image->param = arena_alloc(c->arena, sizeof *image->param * (size_t)(l->param.n + 1));
  image->state = arena_alloc(c->arena, sizeof *image->state * (size_t)(l->state.n + 1));
  image->table = arena_alloc(c->arena, sizeof *image->table * (size_t)(l->table.n + 1));
  for (int i = 0; i < l->param.n; i++) {
    const LayoutTensor *t = &l->param.tensor[i];
    const ParamFlags *f = flags_of(c, t->name);
    image->param[i] =
      (ImgParam){tensor(t->name, &t->type, &t->place), f->trainable, f->decay, f->init};
  }
  for (int i = 0; i < l->state.n; i++) {
    const LayoutTensor *t = &l->state.tensor[i];
    image->state[i] =
      (ImgState){tensor(t->name, &t->type, &t->place), strncmp(t->name, "accum.", 6) == 0};
  }
  for (int i = 0; i < l->table.n; i++) {
    const LayoutTensor *t = &l->table.tensor[i];
    image->table[i] = (ImgTable){tensor(t->name, &t->type, &t->place), t->data};
  }
}

/* What a device must have: what the kernels use of the target, no more. */
static ImgTarget needed_target(const Compiler *c) {
  const Target *t = c->option.target;
  ImgTarget need = {.name = intern(t->name), .shared_bytes = t->shared_bytes};
  for (int i = 0; i < c->n_module; i++) {
    const ImgModule *m = &c->image.module[i];
    uint32_t invocations = m->local[0] * m->local[1] * m->local[2];
    if (invocations > need.max_invocations) need.max_invocations = invocations;
    if (m->subgroup_size) need.subgroup_size = m->subgroup_size;
  }
  need.subgroup_shuffle = need.subgroup_size && t->subgroup_shuffle;
  need.subgroup_arithmetic = need.subgroup_size && t->subgroup_arithmetic;
  return need;
}

const Image *compile_image(Compiler *c, const char *model, const char *config_json) {
  Image *image = &c->image;
  validated(c);
  image->model = intern(model);
  image->config = arena_str(c->arena, config_json, strlen(config_json));
  image->target = needed_target(c);
  image->n_module = (uint32_t)c->n_module;
  image->n_program = (uint32_t)c->n_program;
  image->n_chunk = (uint32_t)c->layout->n_chunk;
  image->chunk = arena_alloc(c->arena, sizeof *image->chunk * (size_t)(c->layout->n_chunk + 1));
  for (int i = 0; i < c->layout->n_chunk; i++)
    image->chunk[i] = (ImgChunk){c->layout->chunk[i].cls, c->layout->chunk[i].bytes};
  list_tensors(c);
  return image;
}
