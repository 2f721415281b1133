/* graphs → plans → kernels → image. */
#include "driver/compile_internal.h"

#include <stdlib.h>
#include <string.h>

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
  Graph *ordered = plan_ordered(g);
  Plan *plan = plan_graph(c->layout, ordered, c->option.target, why);
  graph_free(ordered);
  if (!plan) return false;
  Buf wrong = {0};
  if (!plan_check(plan, c->layout, &wrong)) die("plan of program %s:\n%s", g->name, wrong.data);
  if (c->option.plan) plan_print(c->option.plan, plan, c->layout);
  ImgProgram out = {
    .name = intern(g->name), .peak_bytes = plan->peak_bytes, .flops = model_flops(plan)};
  list_io(c, plan, &out);
  bool ok = add_dispatches(c, plan, &out, why);
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
