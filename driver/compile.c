/* graphs → plans → kernels → image. */
#include "driver/compile_internal.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

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

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

/* A row of the table of times: since *from, which becomes now. */
static void print_time(const Compiler *c, const char *step, double *from, int n, const char *of) {
  double now = now_ms();
  if (c->option.times) fprintf(c->option.times, "  %-12s %9.2f %9d %s\n", step, now - *from, n, of);
  *from = now;
}

static void validated(Compiler *c) {
  if (!c->validator) return;
  double time = now_ms();
  validate_end(c->validator);
  c->validator = NULL;
  if (c->option.times) fprintf(c->option.times, "image\n");
  print_time(c, "validation", &time, c->n_module, "modules, of which it had to wait for the last");
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
    if (plan->step[i].job.copy || n->region < 0) continue;
    double elements = (double)type_count(&n->type);
    if (n->op == OP_matmul)
      sum += 2.0 * elements * (double)n->src[0]->type.dim[n->type.rank - 1];
    else if (n->op == OP_matmul_spans)
      sum += 2.0 * elements / (double)n->type.dim[0] * (double)n->src[0]->type.dim[1];
  }
  return sum;
}

/* Whether the program stores 16-bit elements. */
static bool stores_halves(const Compiler *c, const Plan *plan) {
  for (int i = 0; i < plan->graph->n_node; i++)
    if (plan->place[i].chunk >= 0 &&
        cg_element_bytes(c->option.target, (DType)plan->graph->node[i]->type.dtype) == 2)
      return true;
  return false;
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
  if (c->option.times) fprintf(c->option.times, "program %s\n", g->name);
  double time = now_ms();
  Graph *ordered = plan_ordered(g);
  Plan *plan = plan_graph(c->layout, ordered, c->option.target, why);
  graph_free(ordered);
  if (!plan) return false;
  print_time(c, "plan", &time, plan->n_step, "steps");
  Buf wrong = {0};
  if (!plan_check(plan, c->layout, &wrong)) die("plan of program %s:\n%s", g->name, wrong.data);
  if (c->option.plan) plan_print(c->option.plan, plan, c->layout);
  if (c->option.dot) plan_dot(c->option.dot, plan);
  ImgProgram out = {
    .name = intern(g->name), .peak_bytes = plan->peak_bytes, .flops = model_flops(plan)};
  list_io(c, plan, &out);
  c->halves = c->halves || stores_halves(c, plan);
  print_time(c, "check", &time, plan->n_step, "steps");
  bool ok = add_dispatches(c, plan, &out, why);
  print_time(c, "kernels", &time, (int)out.n_dispatch, "dispatches");
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
  ImgTarget need = {.name = intern(t->name),
                    .shared_bytes = t->shared_bytes,
                    .storage16 = c->halves,
                    .cpu = t->is_cpu};
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
