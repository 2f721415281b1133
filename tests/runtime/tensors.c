/* tensors make FILE (NAME TYPE DIMS VALUE)…: a safetensors file of tensors filled with one value;
 * DIMS as 2x4, or - for none. tensors get FILE NAME INDEX: one element. */
#include <stdlib.h>
#include <string.h>

#include "runtime/safetensors.h"

static StType type_named(const char *name) {
  for (int t = 0; t < ST_TYPES; t++)
    if (strcmp(st_type_name((StType)t), name) == 0) return (StType)t;
  exit(2);
}

static int64_t parse_dims(const char *text, int64_t *dim, int *rank) {
  int64_t count = 1;
  *rank = 0;
  for (char *p = (char *)text; *p && *p != '-'; p += *p == 'x') {
    dim[*rank] = strtoll(p, &p, 10);
    count *= dim[(*rank)++];
  }
  return count;
}

static bool write_filled(StWriter *w, StType type, int64_t n, const char *value, Buf *why) {
  float real = strtof(value, NULL);
  int64_t whole = strtoll(value, NULL, 10);
  const void *one = type == ST_F32
                      ? (void *)&real
                      : (void *)&whole; /* the first bytes of a little-endian integer */
  for (int64_t i = 0; i < n; i++)
    if (!st_write(w, one, (uint64_t)st_type_bytes(type), why)) return false;
  return true;
}

static bool make(const char *path, int n, char **arg, Buf *why) {
  StWriter *w = st_create(path, why);
  int64_t dim[8];
  int rank;
  for (int i = 0; w && i + 3 < n; i += 4) {
    parse_dims(arg[i + 2], dim, &rank);
    st_declare(w, arg[i], type_named(arg[i + 1]), rank, dim);
  }
  for (int i = 0; w && i + 3 < n; i += 4)
    if (!write_filled(w, type_named(arg[i + 1]), parse_dims(arg[i + 2], dim, &rank), arg[i + 3],
                      why))
      return false;
  return w && st_commit(w, why);
}

static bool get(const char *path, const char *name, int64_t index, Buf *why) {
  Safetensors *st = st_open(path, why);
  const StTensor *t = st ? st_find(st, name) : NULL;
  float x;
  bool ok = t && st_read_f32(st, t, index, 1, &x, why);
  if (ok) printf("%.9g\n", x);
  st_close(st);
  return ok;
}

int main(int argc, char **argv) {
  Buf why = {0};
  bool ok = false;
  if (argc > 3 && strcmp(argv[1], "make") == 0)
    ok = make(argv[2], argc - 3, argv + 3, &why);
  else if (argc == 5 && strcmp(argv[1], "get") == 0)
    ok = get(argv[2], argv[3], atoll(argv[4]), &why);
  if (!ok) fprintf(stderr, "%s\n", why.data ? why.data : "failed");
  buf_free(&why);
  return ok ? 0 : 1;
}
