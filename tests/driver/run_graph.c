#include "tests/driver/run_graph.h"
#include "driver/compile.h"
#include "driver/device_target.h"
#include "tests/gen/noise.h"

#include <math.h>
#include <string.h>

bool run_open(RunDevice *r, Buf *why) {
  *r = (RunDevice){.device = vk_open(-1, why)};
  if (!r->device) return false;
  r->arena = arena_new();
  const DeviceInfo *d = vk_info(r->device);
  r->target = device_target(d, arena_str(r->arena, d->name, strlen(d->name)));
  return true;
}

void run_close(RunDevice *r) {
  vk_close(r->device);
  arena_free(r->arena);
}

void *run_pack(Arena *arena, const Type *t, const double *data) {
  int64_t n = type_count(t);
  uint32_t *bits = arena_alloc(arena, 4 * (size_t)n);
  for (int64_t i = 0; data && i < n; i++) {
    if (dtype_is_float(t->dtype))
      memcpy(&bits[i], &(float){(float)dtype_round(t->dtype, data[i])}, 4);
    else
      bits[i] = (uint32_t)(int32_t)dtype_round(t->dtype, data[i]);
  }
  return bits;
}

void run_unpack(const Type *t, const void *from, double *data) {
  int64_t n = type_count(t);
  for (int64_t i = 0; i < n; i++) {
    if (dtype_is_float(t->dtype)) {
      float f;
      memcpy(&f, (const char *)from + 4 * i, 4);
      data[i] = f;
    } else {
      int32_t k;
      memcpy(&k, (const char *)from + 4 * i, 4);
      data[i] = k;
    }
  }
}

static const double *find_feed(const Feed *feed, int n, Op op, const char *name) {
  for (int i = 0; i < n; i++)
    if (feed[i].op == op && strcmp(feed[i].name, name) == 0) return feed[i].data;
  return NULL;
}

static Type type_of_tensor(const ImgTensor *t) {
  return type_of((DType)t->dtype, (int)t->rank, t->dim);
}

static bool write_feeds(Arena *arena, Exec *exec, const Image *image, const Feed *feed, int n_feed,
                        Buf *why) {
  for (uint32_t i = 0; i < image->n_param + image->n_state; i++) {
    bool is_param = i < image->n_param;
    const ImgTensor *t = is_param ? &image->param[i].t : &image->state[i - image->n_param].t;
    Type type = type_of_tensor(t);
    const double *data = find_feed(feed, n_feed, is_param ? OP_param : OP_state, t->name);
    if (!exec_write(exec, t, run_pack(arena, &type, data), why)) return false;
  }
  return true;
}

const ImgTensor *run_kept(const Image *image, const char *name) {
  for (uint32_t i = 0; i < image->n_param; i++)
    if (strcmp(image->param[i].t.name, name) == 0) return &image->param[i].t;
  for (uint32_t i = 0; i < image->n_state; i++)
    if (strcmp(image->state[i].t.name, name) == 0) return &image->state[i].t;
  die("run_graph: no %s in the image", name);
}

static bool run_image(Arena *arena, Exec *exec, const Image *image, const Graph *g,
                      const Feed *feed, int n_feed, int times, Tensor *value, Buf *why) {
  if (!write_feeds(arena, exec, image, feed, n_feed, why)) return false;
  const ImgProgram *p = &image->program[0];
  const void **in = arena_alloc(arena, sizeof *in * (p->n_input + 1));
  void **out = arena_alloc(arena, sizeof *out * (p->n_output + 1));
  for (uint32_t i = 0; i < p->n_input; i++) {
    Type type = type_of_tensor(&p->input[i]);
    in[i] = run_pack(arena, &type, find_feed(feed, n_feed, OP_input, p->input[i].name));
  }
  for (uint32_t i = 0; i < p->n_output; i++)
    out[i] = arena_alloc(arena, image_host_bytes(&p->output[i]));
  for (int i = 0; i < times; i++)
    if (!exec_run(exec, p, in, out, why)) return false;
  int n_out = 0;
  for (int i = 0; i < g->n_output; i++) {
    const Output *o = &g->output[i];
    void *bits = o->kind == OUT_value ? out[n_out++]
                                      : arena_alloc(arena, 4 * (size_t)type_count(&o->node->type));
    if (o->kind == OUT_update && !exec_read(exec, run_kept(image, o->name), bits, why))
      return false;
    value[i] = (Tensor){o->node->type,
                        arena_alloc(arena, sizeof(double) * (size_t)type_count(&o->node->type))};
    run_unpack(&value[i].type, bits, value[i].data);
  }
  return true;
}

bool run_graph(RunDevice *r, Arena *arena, const Graph *g, const Feed *feed, int n_feed, int times,
               Tensor *value, Buf *why) {
  Compiler *c = compile_new(&(CompileOptions){.target = &r->target});
  bool ok = true;
  for (int i = 0; ok && i < g->n_output;
       i++) { /* what is replaced but not read: a param where the feeds say so */
    const Output *o = &g->output[i];
    if (o->kind == OUT_update && find_feed(feed, n_feed, OP_param, o->name))
      ok = compile_param(c, o->name, &o->node->type, true, false, "", why);
  }
  ok = ok && compile_program(c, g, why);
  if (ok) {
    const Image *image = compile_image(c, g->name, "{}");
    Exec *exec = exec_new(r->device, image, &(ExecOptions){.poison = true, .no_cache = true}, why);
    ok = exec && run_image(arena, exec, image, g, feed, n_feed, times, value, why);
    exec_free(exec);
  }
  compile_free(c);
  return ok;
}

/* A graph that keeps nothing gives the same in each run. */
static int runs_of(const Graph *g, int times) {
  for (int i = 0; i < g->n_output; i++)
    if (g->output[i].kind == OUT_update) return times;
  return 1;
}

bool run_reference(Arena *arena, const Graph *g, EvalMode mode, const Feed *feed, int n_feed,
                   int times, Tensor *value, Buf *why) {
  int n = n_feed, max = n_feed + g->n_node + g->n_output;
  Feed *all = arena_alloc(arena, sizeof *all * (size_t)(max + 1));
  if (n) memcpy(all, feed, sizeof *all * (size_t)n);
  for (int i = 0; i < g->n_node; i++) {
    const Node *leaf = g->node[i];
    if (leaf->op != OP_param && leaf->op != OP_state && leaf->op != OP_input) continue;
    if (find_feed(all, n, leaf->op, leaf->name)) continue;
    all[n++] = (Feed){leaf->op, leaf->name,
                      arena_alloc(arena, sizeof(double) * (size_t)type_count(&leaf->type))};
  }
  Node **want = arena_alloc(arena, sizeof *want * (size_t)(g->n_output + 1));
  for (int i = 0; i < g->n_output; i++) want[i] = g->output[i].node;
  times = runs_of(g, times);
  for (int run = 0; run < times; run++) {
    if (!ir_eval(arena, g, mode, all, n, want, g->n_output, value, why)) return false;
    for (int i = 0; i < g->n_output; i++)
      for (int f = 0; f < n; f++)
        if (g->output[i].kind == OUT_update && all[f].op != OP_input &&
            strcmp(all[f].name, g->output[i].name) == 0)
          all[f].data = value[i].data;
  }
  return true;
}

bool run_bounds(Arena *arena, const Graph *g, const Feed *feed, int n_feed, int times,
                Tensor *value, Tensor *bound, Buf *why) {
  Graph *noisy = noise_graph(g);
  const Feed *all = noise_feeds(arena, noisy, feed, n_feed, &n_feed);
  Tensor *result = arena_alloc(arena, sizeof *result * (size_t)(noisy->n_output + 1));
  bool ok = run_reference(arena, noisy, EVAL_f64, all, n_feed, runs_of(g, times), result, why);
  for (int i = 0; ok && i < g->n_output; i++) {
    value[i] = result[i * NOISE_COPIES];
    bound[i] = noise_bound(arena, result, i);
  }
  graph_free(noisy);
  return ok;
}

bool run_close_enough(const Tensor *got, const Tensor *f64, const Tensor *f32, const Tensor *bound,
                      Buf *why) {
  int64_t n = type_count(&f64->type);
  for (int64_t i = 0; i < n; i++) {
    double x = got->data[i], want = f64->data[i], rounded = f32->data[i], most = bound->data[i];
    if (x == rounded || (isnan(x) && isnan(rounded))) continue;
    if (isfinite(x) && fabs(x - want) <= most + 0x1p-126) continue;
    buf_printf(why, "element %lld of ", (long long)i);
    type_print(why, &f64->type);
    buf_printf(why, ": %.9g, expected %.9g ± %.2g", x, want, most);
    return false;
  }
  return true;
}
