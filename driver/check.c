/* alphac check: every kernel of a model's programs on the device against the reference evaluator.
 *
 * Each program runs once on the device with every stored value handed out. Then each kernel's
 * expression is evaluated in f64 from the values that the device had for what it reads, so that a
 * wrong kernel is named and not what comes after it. */
#include "codegen/plan.h"
#include "driver/compile.h"
#include "driver/driver.h"
#include "driver/programs.h"
#include "passes/plan.h"
#include "runtime/vk/vk.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Check {
  const Options *option;
  Device *device;
  Target target;
  Model *model;
  Arena *arena; /* of the program being checked */
  Feed *feed;   /* params, states, inputs */
  int n_feed;
  const double **value; /* by node: what the device had */
  int kernels, wrong;
  double worst; /* largest error, in units of what is allowed */
} Check;

/* ---- values ---- */
static void *pack(Arena *arena, const Type *t, const double *data) {
  int64_t n = type_count(t);
  uint32_t *bits = arena_alloc(arena, 4 * (size_t)n);
  for (int64_t i = 0; i < n; i++) {
    if (dtype_is_float(t->dtype))
      memcpy(&bits[i], &(float){(float)data[i]}, 4);
    else
      bits[i] = (uint32_t)(int32_t)data[i];
  }
  return bits;
}

static double *unpack(Arena *arena, const Type *t, const void *from) {
  int64_t n = type_count(t);
  double *data = arena_alloc(arena, sizeof *data * (size_t)n);
  for (int64_t i = 0; i < n; i++) {
    if (dtype_is_float(t->dtype))
      data[i] = ((const float *)from)[i];
    else
      data[i] = ((const int32_t *)from)[i];
  }
  return data;
}

static double uniform(uint64_t *seed) {
  *seed = *seed * 6364136223846793005u + 1442695040888963407u;
  return (double)(*seed >> 40) / (1 << 24);
}

/* The fewest rows of a table that the graph gathers from: whole numbers below it are ids for
 * all. */
static int64_t fewest_rows(const Graph *g) {
  int64_t rows = 64;
  for (int i = 0; i < g->n_node; i++)
    if (g->node[i]->op == OP_gather && g->node[i]->src[0]->type.dim[0] < rows)
      rows = g->node[i]->src[0]->type.dim[0];
  return rows;
}

static const double *find_feed(const Check *c, const Node *leaf) {
  for (int i = 0; i < c->n_feed; i++)
    if (c->feed[i].op == leaf->op && strcmp(c->feed[i].name, leaf->name) == 0)
      return c->feed[i].data;
  return NULL;
}

/* Values for every leaf: params and states near what training would have, so that nothing is zero;
 * ids that exist. */
static void make_feeds(Check *c, const Graph *g) {
  uint64_t seed = 1;
  int64_t rows = fewest_rows(g);
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    if (n->op != OP_param && n->op != OP_state && n->op != OP_input) continue;
    int64_t count = type_count(&n->type);
    double *data = arena_alloc(c->arena, sizeof *data * (size_t)count);
    bool positive = n->op == OP_state; /* second moments, counts */
    for (int64_t e = 0; e < count; e++) {
      double u = uniform(&seed);
      if (n->type.dtype == DT_i32)
        data[e] = floor(u * (double)rows);
      else if (n->type.dtype == DT_bool)
        data[e] = u < 0.5;
      else
        data[e] = dtype_round((DType)n->type.dtype, n->type.rank == 0 ? 100 + u
                                                    : positive        ? 0.1 * u
                                                                      : 0.4 * (u - 0.4));
    }
    Feed f = {n->op, n->name, data};
    ARENA_PUSH(c->arena, c->feed, c->n_feed, f);
  }
}

/* ---- the device's side ---- */
static const ImgTensor *find_kept(const Image *image, Op op, const char *name) {
  for (uint32_t i = 0; op == OP_param && i < image->n_param; i++)
    if (strcmp(image->param[i].t.name, name) == 0) return &image->param[i].t;
  for (uint32_t i = 0; op == OP_state && i < image->n_state; i++)
    if (strcmp(image->state[i].t.name, name) == 0) return &image->state[i].t;
  return NULL;
}

static bool run_image(Check *c, const Image *image, const Graph *g, Buf *why) {
  Exec *exec = exec_new(c->device, image, &(ExecOptions){.poison = true}, why);
  if (!exec) return false;
  const ImgProgram *p = &image->program[0];
  const void **in = arena_alloc(c->arena, sizeof *in * (p->n_input + 1));
  void **out = arena_alloc(c->arena, sizeof *out * (p->n_output + 1));
  bool ok = true;
  uint32_t n_in = 0;
  for (int i = 0; i < g->n_node && ok; i++) {
    const Node *n = g->node[i];
    if (n->op != OP_param && n->op != OP_state && n->op != OP_input) continue;
    void *bits = pack(c->arena, &n->type, find_feed(c, n));
    if (n->op == OP_input)
      in[n_in++] = bits;
    else
      ok = exec_write(exec, find_kept(image, n->op, n->name), bits, why);
  }
  for (uint32_t i = 0; i < p->n_output; i++)
    out[i] = arena_alloc(c->arena, image_host_bytes(&p->output[i]));
  ok = ok && exec_run(exec, p, in, out, why);
  exec_free(exec);
  for (int i = 0, o = 0; ok && i < g->n_output; i++)
    if (g->output[i].kind == OUT_value) {
      const Node *n = g->output[i].node;
      c->value[n->id] = unpack(c->arena, &n->type, out[o++]);
    }
  return ok;
}

/* ---- the evaluator's side ---- */
/* The expression of an out over what its kernel reads; its other 16-bit results count as read, since one
 * that is rounded to the other side is a whole unit away, and what follows from it as well. */
static Node *rebuild(Graph *to, Node *n, const KernelJob *job, const Node *out, Node **map) {
  if (map[n->id]) return map[n->id];
  bool is_out = cg_is_out(job, n), half = dtype_is_16((DType)n->type.dtype);
  if (is_out ? n != out && half : job->stored[n->id]) {
    char name[24];
    snprintf(name, sizeof name, "%d", n->id);
    return map[n->id] = ir_leaf(to, OP_input, name, &n->type);
  }
  Node *src[IR_MAX_SRC];
  for (int s = 0; s < n->n_src; s++) src[s] = rebuild(to, n->src[s], job, out, map);
  return map[n->id] = ir_rebuild(to, n, src);
}

/* x beside y along the last dimension; y NULL: zeros. */
static Node *beside(Graph *g, Node *x, Node *y) {
  if (!y) y = ir_const(g, 0, &x->type);
  return ir_concat(g, x->type.rank - 1, 2, (Node *[]){x, y});
}

/* Σ p·(|do|·|v| + |delta|)·|k| for dq, the same with |q| for dk: the scores must stay what they
 * are, so the absolute values stand beside k, where q has zeros. */
static Node *attention_sizes(Graph *g, Node *n) {
  AttentionAttr a = ir_attention(n);
  Node *src[6];
  for (int i = 0; i < ir_attention_sources(n->op); i++) src[i] = n->src[i];
  if (n->op == OP_attention_lse) return NULL;
  src[2] = ir_abs(g, src[2]);
  if (n->op == OP_attention) return ir_attend(g, n->op, src, &a);
  src[4] = ir_neg(g, ir_abs(g, src[4]));
  src[5] = ir_abs(g, src[5]);
  if (n->op == OP_attention_dv) return ir_attend(g, n->op, src, &a);
  bool to_q = n->op == OP_attention_dq;
  src[0] = beside(g, src[0], to_q ? NULL : ir_abs(g, src[0]));
  src[1] = beside(g, src[1], to_q ? ir_abs(g, src[1]) : NULL);
  Node *both = ir_attend(g, n->op, src, &a);
  int64_t begin[IR_MAX_RANK] = {0}, end[IR_MAX_RANK];
  for (int i = 0; i < n->type.rank; i++) end[i] = both->type.dim[i];
  begin[n->type.rank - 1] = n->type.dim[n->type.rank - 1];
  return ir_slice(g, both, begin, end);
}

/* A sum's terms without their signs: what its rounding errors are in proportion to. NULL for what
 * is no sum. */
static Node *sum_of_sizes(Graph *g, Node *root) {
  switch (root->op) {
  case OP_reduce_sum:
  case OP_cumsum: return ir_rebuild(g, root, (Node *[]){ir_abs(g, root->src[0])});
  case OP_scatter_add:
    return ir_rebuild(g, root, (Node *[]){root->src[0], ir_abs(g, root->src[1])});
  case OP_matmul:
  case OP_matmul_spans:
    return ir_rebuild(g, root, (Node *[]){ir_abs(g, root->src[0]), ir_abs(g, root->src[1])});
  case OP_permute:
  case OP_reshape: {
    Node *size = sum_of_sizes(g, root->src[0]);
    return size ? ir_rebuild(g, root, &size) : NULL;
  }
  default: return ir_attention_sources(root->op) ? attention_sizes(g, root) : NULL;
  }
}

/* What one kernel should give for what it read: in f64 and in f32, before it is rounded to 16 bits at
 * last, rounded, and the size of the sums. */
typedef struct Expected {
  Tensor f64, f32, rounded, size;
  double
    step; /* where the kernel rounds to 16 bits on the way, that type's largest relative step; else 0 */
  double terms; /* where it rounds the terms of the sums, at most that much of each */
} Expected;

/* Whether an operand itself is rounded: there is only one way to. */
static bool rounds_operand(const Node *cast) {
  const Node *n = cast->src[0];
  while (ir_op[n->op].flags & IR_VIEW) n = n->src[0];
  return n->op == OP_input;
}

static double inner_step(const Graph *g, const Node *root, const Node *exact) {
  double step = 0;
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    if (n->op == OP_cast && n != root && n->id < exact->id && !rounds_operand(n))
      step = fmax(step, 2 * cg_unit_roundoff((DType)n->type.dtype));
  }
  return step;
}

static Expected evaluate(Check *c, const KernelJob *job, Node *out) {
  Node *operand[CG_MAX_SLOTS];
  int n = cg_operands(job, operand, CG_MAX_SLOTS);
  Graph *g = graph_new("kernel");
  Node **map = xcalloc((size_t)job->out[job->n_out - 1]->id + 1, sizeof *map);
  Feed feed[CG_MAX_SLOTS + CG_MAX_OUT];
  int n_feed = 0;
  Node *root = rebuild(g, out, job, out, map), *exact = cg_unrounded(g, root);
  for (int i = 0; i < n + job->n_out; i++) {
    const Node *from = i < n ? operand[i] : job->out[i - n], *leaf = map[from->id];
    if (leaf && leaf->op == OP_input)
      feed[n_feed++] = (Feed){OP_input, leaf->name, c->value[from->id]};
  }
  Node *size = sum_of_sizes(g, exact), *want[] = {exact, size ? size : exact};
  Tensor f64[2], f32[2];
  Expected e;
  Buf why = {0};
  if (!ir_eval(c->arena, g, EVAL_f64, feed, n_feed, want, 2, f64, &why) ||
      !ir_eval(c->arena, g, EVAL_f32, feed, n_feed, (Node *[]){exact, root}, 2, f32, &why))
    die("check: kernel of %%%d: %s", out->id, why.data);
  e.step = inner_step(g, root, exact);
  e.terms = cg_rounded_terms(out, job->stored, &c->target);
  e.f64 = f64[0];
  e.f32 = f32[0];
  e.rounded = f32[1];
  e.size = f64[1];
  free(map);
  graph_free(g);
  return e;
}

/* Allowed: 1e-5 of the value or of its sum's terms, 1e-6 of the tensor's mean size, some times what
 * rounding each operation to f32 does to this tensor, half a step where it is 16 bits, and a step where
 * something inside may have been rounded to the other side. Returns the largest error in these
 * units, infinity where only one is a number. */
static double error_of(const Expected *e, const double *got, int64_t *at) {
  int64_t n = type_count(&e->f64.type);
  double mean = 0, noise = 0, worst = 0;
  for (int64_t i = 0; i < n; i++) {
    if (!isfinite(e->f64.data[i])) continue;
    mean += fabs(e->f64.data[i]) / (double)n;
    if (isfinite(e->f32.data[i])) noise = fmax(noise, fabs(e->f32.data[i] - e->f64.data[i]));
  }
  for (int64_t i = 0; i < n; i++) {
    double x = got[i], y = e->f64.data[i];
    if (x == y || x == e->rounded.data[i] || (isnan(x) && isnan(y))) continue;
    double allowed = (1e-5 + e->terms) * fabs(e->size.data[i]) + 1e-6 * mean + 4 * noise + 1e-37;
    allowed +=
      cg_unit_roundoff((DType)e->rounded.type.dtype) * fabs(y) + e->step * (fabs(y) + mean);
    if (e->rounded.type.dtype == DT_f16) allowed += 0x1p-25; /* subnormal */
    double error = isfinite(x) && isfinite(y) ? fabs(x - y) / allowed : INFINITY;
    if (error > worst) worst = error, *at = i;
  }
  return worst;
}

static void check_out(Check *c, const Graph *g, const KernelJob *job, Node *out) {
  Expected want = evaluate(c, job, out);
  int64_t at = 0;
  double error = error_of(&want, c->value[out->id], &at);
  if (error > c->worst) c->worst = error;
  if (error <= 1) return;
  if (++c->wrong > 10) return;
  Buf text = {0};
  ir_print_node(&text, out);
  printf("%s: wrong: %s\n  element %lld is %.9g, expected %.9g\n", g->name, text.data,
         (long long)at, c->value[out->id][at], want.f64.data[at]);
  buf_free(&text);
}

static void check_kernel(Check *c, const Graph *g, const KernelJob *job) {
  c->kernels++;
  for (int o = 0; o < job->n_out; o++) check_out(c, g, job, job->out[o]);
}

static bool fold_values(Check *c, const Graph *g, Buf *why) {
  for (int i = 0; i < g->n_node; i++) {
    Node *n = g->node[i];
    if (n->op != OP_fold) {
      if (n->op == OP_param || n->op == OP_state || n->op == OP_input)
        c->value[i] = find_feed(c, n);
      continue;
    }
    Tensor t;
    if (!ir_eval(c->arena, g, EVAL_f64, NULL, 0, &n, 1, &t, why)) return false;
    c->value[i] = unpack(c->arena, &n->type, pack(c->arena, &n->type, t.data));
  }
  return true;
}

/* Parts of an assembled concat that lie in runs are no outputs, else it would not be assembled: their values are taken from its
 * own. */
static void part_values(Check *c, const Node *concat) {
  int64_t pieces = 1, pitch = type_count(&concat->type), at = 0;
  for (int i = 0; i < concat->ints[0]; i++) pieces *= concat->type.dim[i];
  pitch /= pieces;
  for (int s = 0; s < concat->n_src; s++) {
    const Node *part = concat->src[s];
    int64_t run = type_count(&part->type) / pieces;
    while (part->op == OP_reshape) part = part->src[0];
    double *value = arena_alloc(c->arena, sizeof *value * (size_t)(pieces * run));
    for (int64_t p = 0; p < pieces; p++)
      memcpy(value + p * run, c->value[concat->id] + p * pitch + at, sizeof *value * (size_t)run);
    if (!c->value[part->id]) c->value[part->id] = value;
    at += run;
  }
}

static void add_outputs(Graph *g, const Plan *plan) {
  for (int i = 0; i < plan->n_step; i++) {
    const PlanStep *s = &plan->step[i];
    for (int o = 0; o < s->job.n_out && !s->job.copy; o++) {
      char name[24];
      if (s->result[o].run) continue;
      snprintf(name, sizeof name, "%%%d", s->job.out[o]->id);
      ir_output(g, OUT_value, name, s->job.out[o]);
    }
  }
}

/* The program with every kernel's value as an output, run and compared. */
static bool check_program(Check *c, const Graph *program, Buf *why) {
  c->arena = arena_new();
  c->feed = NULL;
  c->n_feed = c->kernels = c->wrong = 0;
  c->worst = 0;
  Plan *plan = plan_graph(layout_new(c->arena, &c->target), program, &c->target, why);
  if (!plan) return arena_free(c->arena), false;
  Graph *g = plan->graph;
  c->value = arena_alloc(c->arena, sizeof *c->value * (size_t)g->n_node);
  add_outputs(g, plan);
  make_feeds(c, g);
  Compiler *compiler = compile_new(&(CompileOptions){.target = &c->target});
  bool ok = compile_program(compiler, g, why) &&
            run_image(c, compile_image(compiler, "check", "{}"), g, why) && fold_values(c, g, why);
  compile_free(compiler);
  for (int i = 0; ok && i < plan->n_step; i++)
    if (plan->step[i].assembles) part_values(c, plan->step[i].job.out[0]);
  for (int i = 0; ok && i < plan->n_step; i++)
    if (!plan->step[i].job.copy && !plan->step[i].assembles) check_kernel(c, g, &plan->step[i].job);
  if (ok)
    printf("%s: %d kernels, %d wrong, largest error %.2g of what is allowed\n", g->name, c->kernels,
           c->wrong, c->worst);
  graph_free(g);
  arena_free(c->arena);
  return ok;
}

static int check_model(Check *c, Buf *errors) {
  const Options *o = c->option;
  ProgramSet set;
  if (!build_programs(o, c->model, &set, errors)) return EXIT_failed;
  Buf note = {0}, why = {0};
  int status = EXIT_ok;
  c->device = vk_open((int)o->device, &why);
  if (!c->device || !target_choose(o, &c->target, &note, &why)) status = failed("%s", why.data);
  if (note.len) fprintf(stderr, "alphac: note: %s\n", note.data);
  for (int i = 0; status == EXIT_ok && i < set.n; i++) {
    if (!check_program(c, set.graph[i], &why))
      status = failed("%s: %s", set.graph[i]->name, why.data);
    else if (c->wrong)
      status = EXIT_failed;
  }
  vk_close(c->device);
  programs_free(&set);
  buf_free(&note);
  buf_free(&why);
  return status;
}

int check_main(int argc, char **argv) {
  Options o = {.arena = arena_new(), .command = COMMAND_check};
  int status = options_parse(&o, argc, argv);
  if (status < 0) {
    Buf errors = {0};
    Check c = {.option = &o, .model = load_model(&o, &errors)};
    status = c.model ? check_model(&c, &errors) : EXIT_failed;
    print_errors(&errors);
    fe_free(c.model);
    buf_free(&errors);
  }
  arena_free(o.arena);
  return status;
}
