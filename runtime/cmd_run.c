/* run: any program of the image on tensors from a safetensors file; its outputs to another. */
#include "runtime/runtime.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/checkpoint.h"
#include "runtime/safetensors.h"

typedef struct Call {
  const ImgProgram *program;
  void **input, **output;
} Call;

static void print_type(Buf *b, const ImgTensor *t) {
  buf_printf(b, "%s ", image_type_name(t->dtype));
  st_print_shape(b, (int)t->rank, t->dim);
}

/* ---- inputs ---- */

static bool same_shape(const ImgTensor *t, const StTensor *s) {
  if ((uint32_t)s->rank != t->rank) return false;
  for (int i = 0; i < s->rank; i++)
    if (s->dim[i] != t->dim[i]) return false;
  return true;
}

static bool read_input(const Safetensors *file, const ImgTensor *t, void *to, Buf *why) {
  const StTensor *s = file ? st_find(file, t->name) : NULL;
  if (!s) {
    buf_printf(why, "%s has no tensor '%s'; the program needs it as ",
               file ? st_path(file) : "without --inputs, the call", t->name);
    print_type(why, t);
    return false;
  }
  if (!same_shape(t, s)) {
    buf_printf(why, "%s: '%s' is %s ", st_path(file), t->name, st_type_name(s->type));
    st_print_shape(why, s->rank, s->dim);
    buf_str(why, "; the program needs ");
    print_type(why, t);
    return false;
  }
  return st_read_device(file, s, (ImgType)t->dtype, to, why);
}

/* Ids outside the vocabulary would read other rows than those meant. Targets may be negative: a
 * loss may ignore them. */
static bool check_ids(const Image *m, const Safetensors *file, const ImgTensor *t,
                      const int32_t *id, Buf *why) {
  bool tokens = strcmp(t->name, "tokens") == 0;
  int64_t vocab = image_vocab(m);
  if (t->dtype != IMG_i32 || (!tokens && strcmp(t->name, "targets") != 0)) return true;
  for (uint64_t i = 0; i < image_elements(t); i++) {
    if ((id[i] >= 0 || !tokens) && (!vocab || id[i] < vocab)) continue;
    buf_printf(why, "%s: tensor '%s', element %llu: id %d is not in the model's vocabulary",
               st_path(file), t->name, (unsigned long long)i, id[i]);
    if (vocab) buf_printf(why, " of %lld", (long long)vocab);
    return false;
  }
  return true;
}

/* Every tensor of the file must be an input: a name misspelt is an error, not silence. */
static bool check_names(Runner *r, const Safetensors *file, const ImgProgram *p, Buf *why) {
  const char **name = arena_alloc(r->arena, sizeof *name * p->n_input);
  for (uint32_t i = 0; i < p->n_input; i++) name[i] = p->input[i].name;
  for (int i = 0; i < st_count(file); i++) {
    const char *given = st_tensor(file, i)->name;
    if (image_input(p, given)) continue;
    const char *near = suggest(given, name, (int)p->n_input);
    buf_printf(why, "%s: program %s has no input '%s'", st_path(file), p->name, given);
    if (near) buf_printf(why, "; did you mean '%s'?", near);
    for (uint32_t k = 0; !near && k < p->n_input; k++)
      buf_printf(why, "%s%s", k ? ", " : "; its inputs are ", name[k]);
    return false;
  }
  return true;
}

static bool read_inputs(Runner *r, Call *c, const char *path, uint64_t seed, Buf *why) {
  const ImgProgram *p = c->program;
  Safetensors *file = path ? st_open(path, why) : NULL;
  if (path && !file) return false;
  bool ok = !file || check_names(r, file, p, why);
  for (uint32_t i = 0; i < p->n_input && ok; i++) {
    const ImgTensor *t = &p->input[i];
    c->input[i] = xmalloc(image_host_bytes(t));
    if (strcmp(t->name, "rng") == 0 && t->bytes == 16 && !(file && st_find(file, "rng")))
      rng_fill(c->input[i], seed, 0, 0);
    else
      ok = read_input(file, t, c->input[i], why) && check_ids(r->image, file, t, c->input[i], why);
  }
  st_close(file);
  return ok;
}

/* ---- outputs ---- */

static bool write_outputs(const Call *c, const char *path, Buf *why) {
  const ImgProgram *p = c->program;
  StWriter *w = st_create(path, why);
  if (!w) return false;
  for (uint32_t i = 0; i < p->n_output; i++) {
    const ImgTensor *t = &p->output[i];
    st_declare(w, t->name, st_type_for((ImgType)t->dtype), (int)t->rank, t->dim);
  }
  for (uint32_t i = 0; i < p->n_output; i++) {
    const ImgTensor *t = &p->output[i];
    if (st_write_device(w, (ImgType)t->dtype, c->output[i], (int64_t)image_elements(t), why))
      continue;
    st_abandon(w);
    return false;
  }
  return st_commit(w, why);
}

static double first_value(const ImgTensor *t, const void *data) {
  int32_t whole;
  float real;
  memcpy(&whole, data, 4);
  memcpy(&real, data, 4);
  return t->dtype == IMG_i32 || t->dtype == IMG_bool ? whole : real;
}

/* Tensors of one element with their value, others by type. */
static void print_outputs(const Runner *r, const Call *c) {
  const ImgProgram *p = c->program;
  json_t *o = json_object();
  for (uint32_t i = 0; i < p->n_output; i++) {
    const ImgTensor *t = &p->output[i];
    Buf type = {0};
    print_type(&type, t);
    double x = first_value(t, c->output[i]);
    if (image_elements(t) != 1) {
      if (!r->json) printf("%s: %s\n", t->name, type.data);
      json_object_set_new(o, t->name, json_string(type.data));
    } else {
      if (!r->json) printf("%s: %.9g\n", t->name, x);
      json_object_set_new(o, t->name, isfinite(x) ? json_real(x) : json_null());
    }
    buf_free(&type);
  }
  if (r->json) {
    char *text = json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    if (!text) die("run: JSON could not be made");
    puts(text);
    free(text);
  }
  json_decref(o);
}

/* ---- the command ---- */

static bool uses_states(const Image *m, const ImgProgram *p) {
  for (uint32_t i = 0; i < m->n_chunk; i++)
    if (m->chunk[i].cls == IMG_STATE && image_uses(m, p, i)) return true;
  return false;
}

/* Initial values unless weights replace all that the program reads (the optimizer's states take
 * memory); then the weights. */
static bool fill_params(Runner *r, Exec *e, const ImgProgram *p, const char *weights, uint64_t seed,
                        Buf *why) {
  if ((!weights || uses_states(r->image, p)) && !runner_init(e, r->image, seed, why)) return false;
  if (!weights) return true;
  Safetensors *file = checkpoint_open(weights, why);
  Buf notes = {0};
  bool ok = file && checkpoint_load_params(file, e, r->image, &notes, why);
  if (notes.len) fprintf(stderr, "%s%s", notes.data, notes.data[notes.len - 1] == '\n' ? "" : "\n");
  buf_free(&notes);
  st_close(file);
  return ok;
}

static bool run(Runner *r, Exec *e, Call *c, const char *weights, uint64_t seed,
                const char *outputs, Buf *why) {
  const ImgProgram *p = c->program;
  if (!fill_params(r, e, p, weights, seed, why)) return false;
  for (uint32_t i = 0; i < p->n_output; i++)
    c->output[i] = xmalloc(image_host_bytes(&p->output[i]));
  if (!exec_run(e, p, (const void *const *)c->input, c->output, why)) return false;
  return !outputs || write_outputs(c, outputs, why);
}

static void call_free(Call *c) {
  for (uint32_t i = 0; i < c->program->n_input; i++) free(c->input[i]);
  for (uint32_t i = 0; i < c->program->n_output; i++) free(c->output[i]);
}

int cmd_run(Runner *r, int argc, char **argv) {
  static const Usage usage = {
    .args = "ENTRY [options]",
    .about =
      "Runs one program of the image on given tensors: 'grad' gives the loss and the gradient\n"
      "of every parameter, 'forward.N' the logits; 'info' lists all. Outputs of one element are\n"
      "printed, all go to --outputs. What the program changes in the parameters is not kept.",
    .example = "$0 run grad --inputs batch.safetensors --outputs grads.safetensors \\\n"
               "    --weights model.safetensors",
    .min_args = 1,
    .max_args = 1};
  const char *inputs = NULL, *outputs = NULL, *weights = NULL;
  int64_t seed = 1;
  const Opt opt[] = {
    {"--inputs", OPT_text, &inputs, "FILE",
     "safetensors with the program's inputs by name (rng may be left out)", 0, 0},
    {"--outputs", OPT_text, &outputs, "FILE", "safetensors to write", 0, 0},
    {"--weights", OPT_text, &weights, "FILE",
     "safetensors with the parameters (default: initial values from the seed)", 0, 0},
    {"--seed", OPT_int, &seed, "S", "of initial values and random operations (default 1)", 0,
     (double)INT64_MAX},
  };
  TextList args;
  int status = cli_parse(r, &usage, opt, COUNT_OF(opt), argc, argv, &args);
  if (status >= 0) return status;
  if (outputs &&
      ((inputs && same_file(outputs, inputs)) || (weights && same_file(outputs, weights))))
    return cli_misuse(r, "--outputs %s is the file that is read", outputs);
  if (!runner_choose(r)) return EXIT_failed;
  Call c = {.program = runner_program(r, args.item[0], "run")};
  if (!c.program) return EXIT_failed;
  c.input = arena_alloc(r->arena, sizeof *c.input * c.program->n_input);
  c.output = arena_alloc(r->arena, sizeof *c.output * c.program->n_output);
  const ImgProgram *program[] = {image_program(r->image, "init"), c.program};
  Buf why = {0};
  Exec *e = NULL;
  status = EXIT_failed;
  if (!read_inputs(r, &c, inputs, (uint64_t)seed, &why)) {
    cli_error(r, "%s", why.data);
  } else if ((e = runner_exec(r, program, COUNT_OF(program)))) {
    if (run(r, e, &c, weights, (uint64_t)seed, outputs, &why)) {
      print_outputs(r, &c);
      status = EXIT_ok;
    } else {
      cli_error(r, "%s", why.data);
    }
  }
  buf_free(&why);
  call_free(&c);
  return status;
}
