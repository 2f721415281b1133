/* info: what the image holds and what it needs. */
#include "runtime/runtime.h"

#include <jansson.h>
#include <stdlib.h>

static const char *const class_name[] = {"params", "state", "tables", "io", "scratch"};

static void count_params(const Image *m, int64_t *all, int64_t *trainable) {
  *all = *trainable = 0;
  for (uint32_t i = 0; i < m->n_param; i++) {
    *all += (int64_t)image_elements(&m->param[i].t);
    if (m->param[i].trainable) *trainable += (int64_t)image_elements(&m->param[i].t);
  }
}

static uint64_t class_bytes(const Image *m, uint32_t cls) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < m->n_chunk; i++)
    if (m->chunk[i].cls == cls) sum += m->chunk[i].bytes;
  return sum;
}

static double moved_bytes(const ImgProgram *p) {
  double sum = 0;
  for (uint32_t i = 0; i < p->n_dispatch; i++) sum += p->dispatch[i].bytes;
  return sum;
}

/* The device that other commands would use, or why there is none. */
static bool find_device(Runner *r, DeviceInfo *info, Buf *out) {
  if (!r->dev) r->dev = vk_open(r->device, out);
  if (!r->dev) return false;
  *info = *vk_info(r->dev);
  buf_printf(out, "%s (%s)", info->name, info->driver);
  return true;
}

/* The target to show: what a run would take; where there is none, the last one, which asks for least. */
static bool choose(Runner *r) {
  Buf ignored = {0};
  if (r->target_name) return runner_choose(r);
  if (!runner_suits(r, &ignored)) r->image = &r->target[r->n_target - 1];
  buf_free(&ignored);
  return true;
}

/* What the device lacks for a target; false where that is nothing, or where there is no device. */
static bool lacks(const Runner *r, const Image *target, Buf *what) {
  return r->dev && !vk_accepts(r->dev, target, what);
}

static uint64_t memory_of(const Image *m, const ImgProgram *p) { return room_of(m, &p, 1).total; }

static void print_shape(Buf *b, const ImgTensor *t) {
  buf_printf(b, "%s[", image_type_name(t->dtype));
  for (uint32_t i = 0; i < t->rank; i++)
    buf_printf(b, "%s%lld", i ? "," : "", (long long)t->dim[i]);
  buf_str(b, "]");
}

/* ---- JSON ---- */

static json_t *tensor_json(const ImgTensor *t) {
  json_t *shape = json_array();
  for (uint32_t i = 0; i < t->rank; i++) json_array_append_new(shape, json_integer(t->dim[i]));
  return json_pack("{s:s, s:s, s:o}", "name", t->name, "type", image_type_name(t->dtype), "shape",
                   shape);
}

static json_t *tensors_json(const ImgTensor *t, uint32_t n) {
  json_t *list = json_array();
  for (uint32_t i = 0; i < n; i++) json_array_append_new(list, tensor_json(&t[i]));
  return list;
}

static json_t *dispatches_json(const Image *m, const ImgProgram *p) {
  json_t *list = json_array();
  for (uint32_t i = 0; i < p->n_dispatch; i++) {
    const ImgDispatch *d = &p->dispatch[i];
    json_array_append_new(
      list, json_pack("{s:s, s:s, s:b, s:[iii], s:f, s:f}", "kernel", m->module[d->module].name,
                      "label", d->label, "barrier", (int)d->barrier, "groups", (int)d->groups[0],
                      (int)d->groups[1], (int)d->groups[2], "flops", d->flops, "bytes", d->bytes));
  }
  return list;
}

static json_t *programs_json(const Image *m, const ImgProgram *listed) {
  json_t *list = json_array();
  for (uint32_t i = 0; i < m->n_program; i++) {
    const ImgProgram *p = &m->program[i];
    json_t *o = json_pack(
      "{s:s, s:i, s:I, s:I, s:f, s:f, s:o, s:o}", "name", p->name, "dispatches", (int)p->n_dispatch,
      "peak_bytes", (json_int_t)p->peak_bytes, "memory_bytes", (json_int_t)memory_of(m, p), "flops",
      p->flops, "bytes_moved", moved_bytes(p), "inputs", tensors_json(p->input, p->n_input),
      "outputs", tensors_json(p->output, p->n_output));
    if (p == listed) json_object_set_new(o, "dispatch_list", dispatches_json(m, p));
    json_array_append_new(list, o);
  }
  return list;
}

static json_t *targets_json(const Runner *r) {
  json_t *list = json_array();
  for (uint32_t i = 0; i < r->n_target; i++) {
    const Image *m = &r->target[i];
    Buf what = {0};
    bool missing = lacks(r, m, &what);
    json_array_append_new(list, json_pack("{s:s, s:b, s:o, s:i}", "name", m->target.name, "chosen",
                                          m == r->image, "lacks",
                                          missing ? json_string(what.data) : json_null(), "kernels",
                                          (int)m->n_module));
    buf_free(&what);
  }
  return list;
}

static json_t *params_json(const Image *m) {
  json_t *list = json_array();
  for (uint32_t i = 0; i < m->n_param; i++) {
    const ImgParam *p = &m->param[i];
    json_t *o = tensor_json(&p->t);
    json_object_set_new(o, "trainable", json_boolean(p->trainable));
    json_object_set_new(o, "decay", json_boolean(p->decay));
    json_object_set_new(o, "init", json_string(p->init));
    json_array_append_new(list, o);
  }
  return list;
}

static void print_json(Runner *r, bool params, const ImgProgram *listed) {
  const Image *m = r->image;
  int64_t all, trainable;
  count_params(m, &all, &trainable);
  Buf device = {0};
  DeviceInfo info = {0};
  bool found = find_device(r, &info, &device);
  json_t *settings = json_loads(m->config, 0, NULL), *memory = json_object();
  for (uint32_t i = 0; i <= IMG_SCRATCH; i++)
    json_object_set_new(memory, class_name[i], json_integer((json_int_t)class_bytes(m, i)));
  json_t *o =
    json_pack("{s:s, s:I, s:I, s:O?, s:O?, s:o, s:i, s:o, s:s, s:o, s:o, s:o}", "model", m->model,
              "parameters", (json_int_t)all, "trainable", (json_int_t)trainable, "config",
              json_object_get(settings, "config"), "train", json_object_get(settings, "train"),
              "programs", programs_json(m, listed), "kernels", (int)m->n_module, "memory", memory,
              "target", m->target.name, "targets", targets_json(r), "device",
              found ? json_string(device.data) : json_null(), "device_memory_bytes",
              found ? json_integer((json_int_t)info.memory_bytes) : json_null());
  json_decref(settings);
  if (params) json_object_set_new(o, "params", params_json(m));
  char *text = json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(15)); /* 0.1 stays 0.1 */
  if (!text) die("info: JSON could not be made");
  puts(text);
  free(text);
  json_decref(o);
  buf_free(&device);
}

/* ---- text ---- */

static void print_count(int64_t n) {
  char digits[32];
  int len = snprintf(digits, sizeof digits, "%lld", (long long)n);
  for (int i = 0; i < len; i++) printf("%s%c", i && (len - i) % 3 == 0 ? "," : "", digits[i]);
}

static void print_programs(const Image *m) {
  printf("\n%-16s %10s %12s %12s %14s %12s\n", "program", "dispatches", "scratch", "memory",
         "matrix work", "moves");
  for (uint32_t i = 0; i < m->n_program; i++) {
    const ImgProgram *p = &m->program[i];
    Buf peak = {0}, memory = {0}, work = {0}, moved = {0};
    cli_bytes(&peak, (double)p->peak_bytes);
    cli_bytes(&memory, (double)memory_of(m, p));
    cli_amount(&work, p->flops, "FLOP");
    cli_bytes(&moved, moved_bytes(p));
    printf("%-16s %10u %12s %12s %14s %12s\n", p->name, p->n_dispatch, peak.data, memory.data,
           work.data, moved.data);
    buf_free(&peak);
    buf_free(&memory);
    buf_free(&work);
    buf_free(&moved);
  }
}

static void print_dispatches(const ImgProgram *p) {
  printf("\n%6s %-8s %14s %12s  dispatches of %s\n", "", "", "arithmetic", "moves", p->name);
  for (uint32_t i = 0; i < p->n_dispatch; i++) {
    const ImgDispatch *d = &p->dispatch[i];
    Buf work = {0}, moved = {0};
    cli_amount(&work, d->flops, "FLOP");
    cli_bytes(&moved, d->bytes);
    printf("%6u %-8s %14s %12s  %s\n", i, d->barrier ? "barrier" : "", work.data, moved.data,
           d->label);
    buf_free(&work);
    buf_free(&moved);
  }
}

/* Says which programs the device has not the memory for. */
static void print_unfit(const Runner *r, const DeviceInfo *device) {
  for (uint32_t i = 0; i < r->image->n_program; i++) {
    const ImgProgram *p = &r->image->program[i];
    Buf why = {0};
    if (!room_fits(r, device, &p, 1, &why)) printf("\n%s\n", why.data);
    buf_free(&why);
  }
}

static void print_params(const Image *m) {
  printf("\n%-44s %-20s %s\n", "parameter", "type", "initialiser");
  for (uint32_t i = 0; i < m->n_param; i++) {
    const ImgParam *p = &m->param[i];
    Buf shape = {0};
    print_shape(&shape, &p->t);
    printf("%-44s %-20s %s%s%s\n", p->t.name, shape.data, p->init, p->trainable ? "" : ", frozen",
           p->decay ? ", decay" : "");
    buf_free(&shape);
  }
}

/* One group of the model's settings: "vocab 100, context 16". */
static void print_settings(const Image *m, const char *group) {
  json_t *all = json_loads(m->config, 0, NULL), *x;
  const char *key, *sep = "";
  printf("%-12s", group);
  json_object_foreach(json_object_get(all, group), key, x) {
    if (json_is_null(x)) continue; /* a model without a train block has no optimizer */
    char *text = json_dumps(x, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    if (json_is_string(x))
      printf("%s%s %s", sep, key, json_string_value(x));
    else
      printf("%s%s %s", sep, key, text ? text : "?");
    free(text);
    sep = ", ";
  }
  printf("\n");
  json_decref(all);
}

/* Where there are several: which is taken, and what the device lacks for the others. */
static void print_targets(const Runner *r) {
  for (uint32_t i = 0; r->n_target > 1 && i < r->n_target; i++) {
    const Image *m = &r->target[i];
    Buf what = {0};
    bool missing = lacks(r, m, &what);
    printf("%-12s%s: %u kernels%s%s\n", i ? "" : "targets", m->target.name, m->n_module,
           m == r->image ? ", chosen" : "",
           missing         ? ""
           : m == r->image ? ""
                           : ", could run");
    if (missing) printf("%12s  %s\n", "", what.data);
    buf_free(&what);
  }
}

static void print_text(Runner *r, bool params, const ImgProgram *listed) {
  const Image *m = r->image;
  int64_t all, trainable;
  count_params(m, &all, &trainable);
  printf("model       %s\nparameters  ", m->model);
  print_count(all);
  if (trainable != all) {
    printf(", of which trainable ");
    print_count(trainable);
  }
  printf("\n");
  print_settings(m, "config");
  print_settings(m, "train");
  printf("kernels     %u different, compiled for %s\nmemory      ", m->n_module, m->target.name);
  for (uint32_t i = 0; i <= IMG_SCRATCH; i++) {
    Buf size = {0};
    cli_bytes(&size, (double)class_bytes(m, i));
    printf("%s%s %s", i ? ", " : "", class_name[i], size.data);
    buf_free(&size);
  }
  Buf device = {0};
  DeviceInfo info = {0};
  bool found = find_device(r, &info, &device);
  printf("\n");
  print_targets(r);
  if (found) {
    buf_str(&device, ", memory "), cli_bytes(&device, (double)info.memory_bytes);
    buf_str(&device, ", at most "), cli_bytes(&device, (double)info.max_allocation);
    buf_str(&device, " in one piece");
  }
  printf("device      %s%s\n", found ? "" : "none: ", device.data);
  buf_free(&device);
  print_programs(m);
  if (found) print_unfit(r, &info);
  if (listed) print_dispatches(listed);
  if (params) print_params(m);
}

int cmd_info(Runner *r, int argc, char **argv) {
  static const Usage usage = {
    .args = "[options]",
    .about =
      "Shows the model in this runner: its parameters and configuration, its programs with\n"
      "their dispatches, memory (all that a run of the program needs, and how much of it is "
      "scratch:\n"
      "what one run keeps in between) and work, and the device that would run it. Needs no device.",
    .example = "$0 info --params\n$0 info --dispatches train\n$0 info --json"};
  bool params = false;
  const char *program = NULL;
  const Opt opt[] = {
    {"--params", OPT_flag, &params, NULL, "every parameter with its shape and initialiser", 0, 0},
    {"--dispatches", OPT_text, &program, "PROGRAM",
     "what this program runs, one after the other: each dispatch with its\n"
     "arithmetic, the least bytes that it moves, its kernel and source place",
     0, 0}};
  int status = cli_parse(r, &usage, opt, COUNT_OF(opt), argc, argv, NULL);
  if (status >= 0) return status;
  if (!choose(r)) return EXIT_failed;
  const ImgProgram *listed = program ? runner_program(r, program, "info --dispatches") : NULL;
  if (program && !listed) return EXIT_failed;
  if (r->json)
    print_json(r, params, listed);
  else
    print_text(r, params, listed);
  return EXIT_ok;
}
