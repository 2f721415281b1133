/* compare: a result of ours against a golden, for tests/torch. Exits 1 with what differs.
 *
 *   compare tensors WANT GOT T   safetensors: the same names and shapes; loss within 1e-5 · |want|,
 *       each other tensor ‖Δ‖ ≤ T · max(‖g‖, 1e-3 · the global norm): some gradients are zero
 *   compare same WANT GOT        safetensors: the same names, types, shapes and bytes
 *   compare losses WANT GOT T    WANT: a number a line; GOT: metrics.jsonl; `loss` of step i within
 *       T · |want|
 *
 * Has its own reader of safetensors, so that the runtime's is tested, not trusted. */
#include "base/base.h"
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int n_wrong;

static void wrong(const char *fmt, ...) PRINTF_LIKE(1, 2);
static void wrong(const char *fmt, ...) {
  va_list ap;
  va_start(ap, fmt);
  vfprintf(stderr, fmt, ap);
  va_end(ap);
  fputc('\n', stderr);
  n_wrong++;
}

static void stop(const char *path, const char *why) {
  fprintf(stderr, "compare: %s: %s\n", path, why);
  exit(1);
}

/* ---- safetensors: u64 header length, JSON header, data ---- */
typedef struct File {
  const char *path;
  Buf bytes;
  json_t *header;
  const char *data;
  size_t n_data;
} File;

static File open_file(const char *path) {
  File f = {.path = path};
  if (!buf_read_file(&f.bytes, path)) stop(path, "cannot be read");
  uint64_t n = 0;
  if (f.bytes.len < 8) stop(path, "shorter than a header");
  memcpy(&n, f.bytes.data, 8);
  if (n > f.bytes.len - 8) stop(path, "header longer than the file");
  json_error_t error;
  f.header = json_loadb(f.bytes.data + 8, n, 0, &error);
  if (!json_is_object(f.header)) stop(path, "header is not JSON");
  f.data = f.bytes.data + 8 + n;
  f.n_data = f.bytes.len - 8 - n;
  return f;
}

static void close_file(File *f) {
  json_decref(f->header);
  buf_free(&f->bytes);
}

typedef struct Entry {
  const char *dtype;
  json_t *shape;
  const char *data;
  size_t bytes;
} Entry;

static bool find(const File *f, const char *name, Entry *e) {
  json_t *t = json_object_get(f->header, name), *range = json_object_get(t, "data_offsets");
  if (!t) return false;
  e->dtype = json_string_value(json_object_get(t, "dtype"));
  e->shape = json_object_get(t, "shape");
  size_t begin = (size_t)json_integer_value(json_array_get(range, 0));
  size_t end = (size_t)json_integer_value(json_array_get(range, 1));
  if (!e->dtype || !json_is_array(e->shape) || begin > end || end > f->n_data) stop(f->path, name);
  e->data = f->data + begin;
  e->bytes = end - begin;
  return true;
}

static size_t n_tensors(const File *f) {
  return json_object_size(f->header) - (json_object_get(f->header, "__metadata__") ? 1 : 0);
}

static double f32_at(const Entry *e, size_t i) {
  float x;
  memcpy(&x, e->data + 4 * i, 4);
  return x;
}

static bool is_loss(const char *name) { return strcmp(name, "loss") == 0; }

/* √Σg² over every tensor but the loss */
static double global_norm(const File *f) {
  double sum = 0;
  const char *name;
  json_t *unused;
  json_object_foreach(f->header, name, unused) {
    Entry e;
    if (is_loss(name) || strcmp(name, "__metadata__") == 0 || !find(f, name, &e)) continue;
    for (size_t i = 0; i < e.bytes / 4; i++) sum += f32_at(&e, i) * f32_at(&e, i);
  }
  return sqrt(sum);
}

static double tolerance;
static double worst; /* ratio of the error to what is allowed */

static void compare_tensor(const char *name, const Entry *want, const Entry *got, double global) {
  double delta = 0, norm = 0;
  for (size_t i = 0; i < want->bytes / 4; i++) {
    double w = f32_at(want, i), d = f32_at(got, i) - w;
    norm += w * w;
    delta += d * d;
  }
  norm = sqrt(norm);
  delta = sqrt(delta);
  double allowed = is_loss(name) ? 1e-5 * norm : tolerance * fmax(norm, 1e-3 * global);
  if (!(delta <= allowed)) /* NaN is wrong too */
    wrong("%s: |difference| %.3g, allowed %.3g (|golden| %.6g)", name, delta, allowed, norm);
  if (allowed > 0) worst = fmax(worst, delta / allowed);
}

static void compare_files(const char *want_path, const char *got_path, bool bytes) {
  File want = open_file(want_path), got = open_file(got_path);
  double global = bytes ? 0 : global_norm(&want);
  if (n_tensors(&want) == 0) wrong("%s has no tensors", want_path);
  if (n_tensors(&want) != n_tensors(&got))
    wrong("%zu tensors in %s, %zu in %s", n_tensors(&want), want_path, n_tensors(&got), got_path);
  const char *name;
  json_t *unused;
  json_object_foreach(want.header, name, unused) {
    Entry w, g;
    if (strcmp(name, "__metadata__") == 0) continue;
    find(&want, name, &w);
    if (!find(&got, name, &g))
      wrong("%s is missing in %s", name, got_path);
    else if (strcmp(w.dtype, g.dtype) != 0 || !json_equal(w.shape, g.shape) || w.bytes != g.bytes)
      wrong("%s: another type or shape", name);
    else if (bytes && memcmp(w.data, g.data, w.bytes) != 0)
      wrong("%s: other bytes", name);
    else if (!bytes && strcmp(w.dtype, "F32") != 0)
      wrong("%s: %s, not F32", name, w.dtype);
    else if (!bytes)
      compare_tensor(name, &w, &g, global);
  }
  if (n_wrong == 0)
    printf("%zu tensors agree; error at most %.2g of what is allowed\n", n_tensors(&want), worst);
  close_file(&want);
  close_file(&got);
}

static void compare_losses(const char *want_path, const char *got_path) {
  FILE *want = fopen(want_path, "r"), *got = fopen(got_path, "r");
  if (!want || !got) stop(want ? got_path : want_path, "cannot be read");
  char *line = NULL;
  size_t cap = 0;
  double w, error = 0;
  int step = 0;
  while (fscanf(want, "%lf", &w) == 1) {
    step++;
    if (getline(&line, &cap, got) < 0) {
      wrong("%s ends before step %d", got_path, step);
      break;
    }
    json_error_t why;
    json_t *o = json_loads(line, 0, &why);
    json_t *loss = json_object_get(o, "loss");
    if (json_integer_value(json_object_get(o, "step")) != step || !json_is_number(loss))
      wrong("line %d of %s has no loss of step %d", step, got_path, step);
    double relative = fabs(json_number_value(loss) - w) / fabs(w);
    if (!(relative <= tolerance))
      wrong("step %d: loss %.9g, golden %.9g, relative error %.2g", step, json_number_value(loss),
            w, relative);
    error = fmax(error, relative);
    json_decref(o);
  }
  if (step == 0) wrong("%s has no losses", want_path);
  if (getline(&line, &cap, got) >= 0) wrong("%s goes on after step %d", got_path, step);
  if (n_wrong == 0) printf("%d losses agree; relative error at most %.2g\n", step, error);
  free(line);
  fclose(want);
  fclose(got);
}

int main(int argc, char **argv) {
  if (argc == 5) tolerance = atof(argv[4]);
  if (argc == 5 && strcmp(argv[1], "tensors") == 0)
    compare_files(argv[2], argv[3], false);
  else if (argc == 4 && strcmp(argv[1], "same") == 0)
    compare_files(argv[2], argv[3], true);
  else if (argc == 5 && strcmp(argv[1], "losses") == 0)
    compare_losses(argv[2], argv[3]);
  else {
    fprintf(stderr, "usage: compare tensors|losses WANT GOT TOLERANCE | compare same WANT GOT\n");
    return 2;
  }
  return n_wrong ? 1 : 0;
}
