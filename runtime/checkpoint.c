/* Device ↔ checkpoint file. docs/formats.md lists the metadata. */
#include "runtime/checkpoint.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { NAMED = 8 }; /* names listed in a message before "and N more" */
static const char VERSION[] = "1";

/* ---- what the image says ---- */

static json_t *config_of(const char *text) {
  json_t *top = json_loads(text, 0, NULL);
  return top ? top : json_object();
}

int64_t image_vocab(const Image *image) {
  for (uint32_t i = 0; i < image->n_program; i++) {
    const ImgTensor *logits = image_output(&image->program[i], "logits");
    if (logits && logits->rank && strncmp(image->program[i].name, "forward.", 8) == 0)
      return logits->dim[logits->rank - 1];
  }
  json_t *top = config_of(image->config);
  int64_t vocab = json_integer_value(json_object_get(json_object_get(top, "config"), "vocab"));
  json_decref(top);
  return vocab > 0 ? vocab : 0;
}

int64_t image_accumulate(const Image *image) {
  if (!image_program(image, "micro")) return 1;
  json_t *top = config_of(image->config);
  int64_t n = json_integer_value(json_object_get(json_object_get(top, "train"), "accumulate"));
  json_decref(top);
  return n > 1 ? n : 1;
}

static uint64_t program_hash(const Image *image, const ImgProgram *p, uint64_t h) {
  for (uint32_t k = 0; k < p->n_dispatch; k++) {
    const ImgDispatch *d = &p->dispatch[k];
    const ImgModule *m = &image->module[d->module];
    h = hash_bytes(m->word, (size_t)m->n_word * 4, h);
    h = hash_bytes(&m->subgroup_size, sizeof m->subgroup_size, h);
    h = hash_bytes(d->groups, sizeof d->groups, h);
  }
  return h;
}

uint64_t checkpoint_kernels(const Image *image) {
  static const char *const name[] = {"train", "micro", "update"};
  uint64_t h = 0;
  for (int i = 0; i < COUNT_OF(name); i++) {
    const ImgProgram *p = image_program(image, name[i]);
    if (p) h = program_hash(image, p, h);
  }
  return h;
}

/* ---- writing ---- */

static void set_number(StWriter *w, const char *key, const char *fmt, uint64_t value)
  PRINTF_LIKE(3, 0);
static void set_number(StWriter *w, const char *key, const char *fmt, uint64_t value) {
  char text[32];
  snprintf(text, sizeof text, fmt, value);
  st_set_meta(w, key, text);
}

static void set_metadata(StWriter *w, const Image *image, const RunState *run,
                         const Tokenizer *tok) {
  /* what other readers of safetensors expect: row-major tensors by name */
  st_set_meta(w, "format", "pt");
  st_set_meta(w, "alphac.checkpoint", VERSION);
  st_set_meta(w, "model", image->model);
  st_set_meta(w, "config", image->config);
  set_number(w, "step", "%" PRIu64, (uint64_t)run->step);
  set_number(w, "total", "%" PRIu64, (uint64_t)run->total);
  set_number(w, "tokens", "%" PRIu64, (uint64_t)run->tokens);
  set_number(w, "skipped", "%" PRIu64, (uint64_t)run->skipped);
  set_number(w, "seed", "%" PRIu64, run->seed);
  set_number(w, "data", "%016" PRIx64, run->data_hash);
  set_number(w, "kernels", "%016" PRIx64, checkpoint_kernels(image));
  st_set_meta(w, "target", image->target.name);
  if (tok) {
    Buf json = {0};
    tok_json(tok, &json);
    st_set_meta(w, "tokenizer", json.data);
    buf_free(&json);
  }
}

static bool save_tensor(StWriter *w, Exec *exec, const ImgTensor *t, Buf *why) {
  void *values = xmalloc(image_host_bytes(t));
  bool ok = exec_read(exec, t, values, why) &&
            st_write_device(w, (ImgType)t->dtype, values, (int64_t)image_elements(t), why);
  free(values);
  return ok;
}

static void declare(StWriter *w, const ImgTensor *t) {
  st_declare(w, t->name, st_type_for((ImgType)t->dtype), (int)t->rank, t->dim);
}

bool checkpoint_save(const char *path, Exec *exec, const Image *image, const RunState *run,
                     const Tokenizer *tok, Buf *why) {
  StWriter *w = st_create(path, why);
  if (!w) return false;
  set_metadata(w, image, run, tok);
  for (uint32_t i = 0; i < image->n_param; i++) declare(w, &image->param[i].t);
  for (uint32_t i = 0; i < image->n_state; i++)
    if (!image->state[i].transient) declare(w, &image->state[i].t);
  bool ok = true;
  for (uint32_t i = 0; i < image->n_param && ok; i++)
    ok = save_tensor(w, exec, &image->param[i].t, why);
  for (uint32_t i = 0; i < image->n_state && ok; i++)
    if (!image->state[i].transient) ok = save_tensor(w, exec, &image->state[i].t, why);
  if (ok) return st_commit(w, why);
  st_abandon(w);
  return false;
}

/* ---- reading ---- */

Safetensors *checkpoint_open(const char *path, Buf *why) {
  struct stat info;
  Buf file = {0};
  buf_str(&file, path);
  if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
    buf_str(&file, "/checkpoint.safetensors");
    if (stat(file.data, &info) != 0 && errno == ENOENT) {
      buf_printf(why, "%s: there is no checkpoint in this directory", path);
      buf_free(&file);
      return NULL;
    }
  }
  Safetensors *st = st_open(file.data, why);
  buf_free(&file);
  if (!st || st_verify(st, why)) return st;
  st_close(st);
  return NULL;
}

/* What is wrong with each tensor, gathered so that one message names all. */
typedef struct Faults {
  Buf text;
  int n;
} Faults;

static void fault(Faults *f, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void fault(Faults *f, const char *fmt, ...) {
  if (f->n++ >= NAMED) return;
  va_list args;
  va_start(args, fmt);
  buf_str(&f->text, "\n  ");
  buf_vprintf(&f->text, fmt, args);
  va_end(args);
}

static bool faults_end(Faults *f, const char *path, const char *what, Buf *to) {
  if (f->n) buf_printf(to, "%s: %s:%s", path, what, f->text.data);
  if (f->n > NAMED) buf_printf(to, "\n  and %d more", f->n - NAMED);
  buf_free(&f->text);
  return f->n == 0;
}

static bool same_shape(const StTensor *t, const ImgTensor *want) {
  if (t->rank != (int)want->rank) return false;
  for (int i = 0; i < t->rank; i++)
    if (t->dim[i] != want->dim[i]) return false;
  return true;
}

static void check_tensor(const Safetensors *st, const ImgTensor *want, Faults *f) {
  const StTensor *t = st_find(st, want->name);
  if (!t) {
    fault(f, "%s is missing", want->name);
  } else if (!same_shape(t, want)) {
    Buf has = {0}, needs = {0};
    st_print_shape(&has, t->rank, t->dim);
    st_print_shape(&needs, (int)want->rank, want->dim);
    fault(f, "%s has the shape %s where the model's is %s", want->name, has.data, needs.data);
    buf_free(&has);
    buf_free(&needs);
  } else if ((want->dtype == IMG_i32 || want->dtype == IMG_bool) && t->type >= ST_F16) {
    fault(f, "%s is %s where integers are expected", want->name, st_type_name(t->type));
  }
}

static bool load_tensor(const Safetensors *st, Exec *exec, const ImgTensor *want, Buf *why) {
  const StTensor *t = st_find(st, want->name);
  void *values = xmalloc((size_t)t->count * 4);
  bool ok =
    st_read_device(st, t, (ImgType)want->dtype, values, why) && exec_write(exec, want, values, why);
  free(values);
  return ok;
}

static bool known(const Image *image, const char *name) {
  if (strncmp(name, "optim.", 6) == 0 || strncmp(name, "train.", 6) == 0) return true;
  for (uint32_t i = 0; i < image->n_param; i++)
    if (strcmp(image->param[i].t.name, name) == 0) return true;
  return false;
}

bool checkpoint_load_params(const Safetensors *st, Exec *exec, const Image *image, Buf *notes,
                            Buf *why) {
  Faults wrong = {0}, extra = {0};
  for (uint32_t i = 0; i < image->n_param; i++) check_tensor(st, &image->param[i].t, &wrong);
  for (int i = 0; i < st_count(st); i++)
    if (!known(image, st_tensor(st, i)->name)) fault(&extra, "%s", st_tensor(st, i)->name);
  bool ok = faults_end(&wrong, st_path(st), "these are not the model's weights", why);
  if (!ok && extra.n) buf_str(why, "\n");
  faults_end(&extra, st_path(st), "tensors that the model does not have", ok ? notes : why);
  for (uint32_t i = 0; i < image->n_param && ok; i++)
    ok = load_tensor(st, exec, &image->param[i].t, why);
  return ok;
}

bool checkpoint_tokenizer(const Safetensors *st, Tokenizer **tok, Buf *why) {
  const char *json = st_meta(st, "tokenizer");
  *tok = NULL;
  if (!json) return true;
  Buf name = {0};
  buf_printf(&name, "%s: its tokenizer", st_path(st));
  *tok = tok_parse(json, strlen(json), name.data, why);
  buf_free(&name);
  return *tok != NULL;
}

/* ---- going on ---- */

static void put_value(Buf *out, const json_t *v) {
  char *text = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
  buf_str(out, text ? text : "absent");
  free(text);
}

/* Names every place where two configurations differ. */
static void compare(const char *path, const json_t *here, const json_t *there, Faults *f) {
  const char *key;
  json_t *value;
  if (!json_is_object(here) || !json_is_object(there)) {
    if (json_equal(here, there)) return;
    Buf a = {0}, b = {0};
    put_value(&a, here);
    put_value(&b, there);
    fault(f, "%s is %s in the checkpoint and %s in this program", path, b.data, a.data);
    buf_free(&a);
    buf_free(&b);
    return;
  }
  for (int side = 0; side < 2; side++) {
    json_object_foreach((json_t *)(side ? there : here), key, value) {
      if (side && json_object_get(here, key)) continue;
      Buf inner = {0};
      buf_printf(&inner, "%s%s%s", path, *path ? "." : "", key);
      compare(inner.data, json_object_get(here, key), json_object_get(there, key), f);
      buf_free(&inner);
    }
  }
}

static bool same_config(const Safetensors *st, const Image *image, const char *config, Buf *why) {
  json_t *here = config_of(image->config), *there = config_of(config);
  Faults f = {0};
  compare("", here, there, &f);
  json_decref(here);
  json_decref(there);
  return faults_end(&f, st_path(st), "this run was begun with another configuration", why);
}

static bool number(const Safetensors *st, const char *key, int base, uint64_t *value, Buf *why) {
  const char *text = st_meta(st, key);
  char *end = NULL;
  errno = 0;
  if (text && *text) *value = strtoull(text, &end, base);
  if (end && !*end && !errno && *text != '-') return true;
  buf_printf(why, "%s: the metadata '%s' is %s where a number is expected", st_path(st), key,
             text ? text : "missing");
  return false;
}

static bool read_counters(const Safetensors *st, RunState *run, Buf *why) {
  uint64_t step, total, tokens, skipped;
  if (!number(st, "step", 10, &step, why) || !number(st, "total", 10, &total, why) ||
      !number(st, "tokens", 10, &tokens, why) || !number(st, "skipped", 10, &skipped, why) ||
      !number(st, "seed", 10, &run->seed, why) || !number(st, "data", 16, &run->data_hash, why))
    return false;
  run->step = (int64_t)step, run->total = (int64_t)total;
  run->tokens = (int64_t)tokens, run->skipped = (int64_t)skipped;
  return true;
}

const Image *checkpoint_target(const Safetensors *st, const Image *target, uint32_t n) {
  const char *kernels = st_meta(st, "kernels");
  for (uint32_t i = 0; i < n && kernels; i++) {
    char text[32];
    snprintf(text, sizeof text, "%016" PRIx64, checkpoint_kernels(&target[i]));
    if (strcmp(text, kernels) == 0) return &target[i];
  }
  return NULL;
}

bool checkpoint_is_run(const Safetensors *st, const Image *image, Buf *why) {
  const char *version = st_meta(st, "alphac.checkpoint"), *config = st_meta(st, "config");
  if (!version || !config) {
    buf_printf(why, "%s: holds weights and no training state; begin a new run with --weights",
               st_path(st));
    return false;
  }
  if (strcmp(version, VERSION) != 0) {
    buf_printf(why, "%s: a checkpoint of version %s; this program reads version %s", st_path(st),
               version, VERSION);
    return false;
  }
  return same_config(st, image, config, why);
}

bool checkpoint_load_run(const Safetensors *st, Exec *exec, const Image *image, RunState *run,
                         Buf *notes, Buf *why) {
  if (!read_counters(st, run, why)) return false;
  Faults wrong = {0};
  for (uint32_t i = 0; i < image->n_state; i++)
    if (!image->state[i].transient) check_tensor(st, &image->state[i].t, &wrong);
  bool ok = faults_end(&wrong, st_path(st), "its training state is not this program's", why);
  ok = ok && checkpoint_load_params(st, exec, image, notes, why);
  for (uint32_t i = 0; i < image->n_state && ok; i++)
    if (!image->state[i].transient) ok = load_tensor(st, exec, &image->state[i].t, why);
  return ok;
}
