/* Many programs on the device at once: one image, one set of pipelines. */
#include "tests/never_wrong/device.h"

#include <string.h>

#include "driver/compile.h"

/* Params that are replaced but no longer read must be told. */
static bool add_params(Compiler *c, const DeviceJob *job, Buf *why) {
  for (int i = 0; i < job->g->n_output; i++) {
    const Output *o = &job->g->output[i];
    for (int f = 0; o->kind == OUT_update && f < job->c->n_feed; f++)
      if (job->c->feed[f].op == OP_param && strcmp(job->c->feed[f].name, o->name) == 0 &&
          !compile_param(c, o->name, &o->node->type, true, false, "", why))
        return false;
  }
  return true;
}

static const double *find_feed(const Case *c, bool is_input, const char *name) {
  for (int i = 0; i < c->n_feed; i++)
    if ((c->feed[i].op == OP_input) == is_input && strcmp(c->feed[i].name, name) == 0)
      return c->feed[i].data;
  return NULL;
}

static Type type_of_tensor(const ImgTensor *t) {
  return type_of((DType)t->dtype, (int)t->rank, t->dim);
}

/* Before each program: others of the same case may have replaced them. */
static bool write_kept(Arena *arena, Exec *exec, const Image *image, const Case *c, Buf *why) {
  for (uint32_t i = 0; i < image->n_param + image->n_state; i++) {
    const ImgTensor *t =
      i < image->n_param ? &image->param[i].t : &image->state[i - image->n_param].t;
    const double *data = find_feed(c, false, t->name);
    Type type = type_of_tensor(t);
    if (data && !exec_write(exec, t, run_pack(arena, &type, data), why)) return false;
  }
  return true;
}

static bool run_job(Arena *arena, Exec *exec, const Image *image, const ImgProgram *p,
                    DeviceJob *job, Buf *why) {
  const Graph *g = job->g;
  const void **in = arena_alloc(arena, sizeof *in * ((size_t)p->n_input + 1));
  void **out = arena_alloc(arena, sizeof *out * ((size_t)p->n_output + 1));
  if (!write_kept(arena, exec, image, job->c, why)) return false;
  for (uint32_t i = 0; i < p->n_input; i++) {
    Type type = type_of_tensor(&p->input[i]);
    in[i] = run_pack(arena, &type, find_feed(job->c, true, p->input[i].name));
  }
  for (uint32_t i = 0; i < p->n_output; i++)
    out[i] = arena_alloc(arena, image_host_bytes(&p->output[i]));
  if (!exec_run(exec, p, in, out, why)) return false;
  job->value = arena_alloc(arena, sizeof *job->value * ((size_t)g->n_output + 1));
  int n_out = 0;
  for (int i = 0; i < g->n_output; i++) {
    const Output *o = &g->output[i];
    size_t count = (size_t)type_count(&o->node->type);
    void *bits = o->kind == OUT_value ? out[n_out++] : arena_alloc(arena, 4 * count);
    if (o->kind == OUT_update && !exec_read(exec, run_kept(image, o->name), bits, why))
      return false;
    job->value[i] = (Tensor){o->node->type, arena_alloc(arena, sizeof(double) * count)};
    run_unpack(&job->value[i].type, bits, job->value[i].data);
  }
  return true;
}

bool device_run(RunDevice *r, Arena *arena, DeviceJob *job, int n, Buf *why) {
  Compiler *c = compile_new(&(CompileOptions){.target = &r->target});
  bool ok = true;
  for (int i = 0; i < n && ok; i++)
    ok = add_params(c, &job[i], why) && compile_program(c, job[i].g, why);
  if (ok) {
    const Image *image = compile_image(c, "never_wrong", "{}");
    Exec *exec = exec_new(r->device, image, &(ExecOptions){.poison = true, .no_cache = true}, why);
    ok = exec != NULL;
    for (int i = 0; i < n && ok; i++) exec_prepare(exec, &image->program[i]);
    for (int i = 0; i < n && ok; i++)
      ok = run_job(arena, exec, image, &image->program[i], &job[i], why);
    exec_free(exec);
  }
  compile_free(c);
  return ok;
}
