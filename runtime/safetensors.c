/* Reads safetensors: the header is checked whole before use, data are converted piecewise. */
#include "runtime/safetensors_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "safetensors data are little endian; this host is not"
#endif

enum { PIECE = 64 << 10, MAX_HEADER = 100 << 20 };

static const struct {
  const char *name;
  int bytes;
} st_type[ST_TYPES] = {
  [ST_BOOL] = {"BOOL", 1}, [ST_U8] = {"U8", 1},   [ST_I8] = {"I8", 1},     [ST_I16] = {"I16", 2},
  [ST_U16] = {"U16", 2},   [ST_I32] = {"I32", 4}, [ST_U32] = {"U32", 4},   [ST_I64] = {"I64", 8},
  [ST_U64] = {"U64", 8},   [ST_F16] = {"F16", 2}, [ST_BF16] = {"BF16", 2}, [ST_F32] = {"F32", 4},
  [ST_F64] = {"F64", 8},
};

struct Safetensors {
  Arena *arena;
  const char *path;
  int fd; /* −1: in memory */
  const uint8_t *bytes;
  uint64_t size; /* of the file */
  StTensor *tensor;
  int n_tensor;
  const char **key, **value; /* metadata */
  int n_meta;
};

const char *st_type_name(StType t) { return st_type[t].name; }
int st_type_bytes(StType t) { return st_type[t].bytes; }
const char *st_path(const Safetensors *st) { return st->path; }
int st_count(const Safetensors *st) { return st->n_tensor; }
const StTensor *st_tensor(const Safetensors *st, int i) { return &st->tensor[i]; }

const StTensor *st_find(const Safetensors *st, const char *name) {
  for (int i = 0; i < st->n_tensor; i++)
    if (strcmp(st->tensor[i].name, name) == 0) return &st->tensor[i];
  return NULL;
}

const char *st_meta(const Safetensors *st, const char *key) {
  for (int i = 0; i < st->n_meta; i++)
    if (strcmp(st->key[i], key) == 0) return st->value[i];
  return NULL;
}

void st_print_shape(Buf *out, int rank, const int64_t *dim) {
  buf_str(out, "[");
  for (int i = 0; i < rank; i++) buf_printf(out, "%s%lld", i ? ", " : "", (long long)dim[i]);
  buf_str(out, "]");
}

static bool read_raw(const Safetensors *st, uint64_t at, size_t n, void *to, Buf *why) {
  if (st->fd < 0) {
    if (at > st->size || n > st->size - at) {
      buf_printf(why, "%s: ends before its data", st->path);
      return false;
    }
    if (n) memcpy(to, st->bytes + at, n);
    return true;
  }
  for (size_t done = 0; done < n;) {
    ssize_t got = pread(st->fd, (char *)to + done, n - done, (off_t)(at + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      buf_printf(why, "%s: cannot be read: %s", st->path,
                 got ? strerror(errno) : "it became shorter while in use");
      return false;
    }
    done += (size_t)got;
  }
  return true;
}

/* ---- the header ---- */

static bool bad(const Safetensors *st, Buf *why, const char *fmt, ...) PRINTF_LIKE(3, 4);
static bool bad(const Safetensors *st, Buf *why, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  buf_printf(why, "%s: not a sound safetensors file: ", st->path);
  buf_vprintf(why, fmt, args);
  va_end(args);
  return false;
}

static bool read_metadata(Safetensors *st, json_t *meta, Buf *why) {
  if (!json_is_object(meta)) return bad(st, why, "__metadata__ is not an object");
  size_t n = json_object_size(meta);
  st->key = arena_alloc(st->arena, n * sizeof *st->key);
  st->value = arena_alloc(st->arena, n * sizeof *st->value);
  const char *key;
  json_t *value;
  json_object_foreach(meta, key, value) {
    if (!json_is_string(value)) return bad(st, why, "the metadata '%s' is not a string", key);
    st->key[st->n_meta] = arena_str(st->arena, key, strlen(key));
    st->value[st->n_meta++] =
      arena_str(st->arena, json_string_value(value), json_string_length(value));
  }
  return true;
}

static bool read_entry(Safetensors *st, const char *name, json_t *entry, uint64_t data_begin,
                       Buf *why) {
  StTensor *t = &st->tensor[st->n_tensor];
  t->name = arena_str(st->arena, name, strlen(name));
  const char *dtype = json_string_value(json_object_get(entry, "dtype"));
  json_t *shape = json_object_get(entry, "shape"),
         *offsets = json_object_get(entry, "data_offsets");
  if (!dtype || !json_is_array(shape) || !json_is_array(offsets) || json_array_size(offsets) != 2)
    return bad(st, why, "tensor '%s' lacks dtype, shape or data_offsets", name);
  int type = 0;
  while (type < ST_TYPES && strcmp(dtype, st_type[type].name) != 0) type++;
  if (type == ST_TYPES) {
    buf_printf(why, "%s: tensor '%s' has the type %s, which is not supported", st->path, name,
               dtype);
    return false;
  }
  t->type = (StType)type;
  t->rank = (int)json_array_size(shape);
  int64_t *dim = arena_alloc(st->arena, (size_t)t->rank * sizeof *dim);
  bool empty = false;
  for (int i = 0; i < t->rank; i++) {
    json_t *d = json_array_get(shape, (size_t)i);
    if (!json_is_integer(d) || json_integer_value(d) < 0)
      return bad(st, why, "tensor '%s': its shape holds something that is not a length", name);
    dim[i] = json_integer_value(d);
    empty |= dim[i] == 0;
  }
  t->dim = dim;
  int64_t bytes = st_type[type].bytes;
  for (int i = 0; i < t->rank && !empty; i++)
    if (__builtin_mul_overflow(bytes, dim[i], &bytes))
      return bad(st, why, "tensor '%s' is too large", name);
  if (empty) bytes = 0;
  t->count = bytes / st_type[type].bytes;
  json_t *b = json_array_get(offsets, 0), *e = json_array_get(offsets, 1);
  if (!json_is_integer(b) || !json_is_integer(e) || json_integer_value(b) < 0 ||
      json_integer_value(e) < json_integer_value(b))
    return bad(st, why, "tensor '%s': its data_offsets are not two ascending numbers", name);
  uint64_t begin = (uint64_t)json_integer_value(b), end = (uint64_t)json_integer_value(e);
  if (end > st->size - data_begin)
    return bad(st, why,
               "tensor '%s' ends at byte %llu of %llu bytes of data: the file was cut short", name,
               (unsigned long long)end, (unsigned long long)(st->size - data_begin));
  if (end - begin != (uint64_t)bytes)
    return bad(st, why, "tensor '%s' has %llu bytes where its shape and type need %lld", name,
               (unsigned long long)(end - begin), (long long)bytes);
  t->begin = data_begin + begin;
  st->n_tensor++;
  return true;
}

static int by_place(const void *a, const void *b) {
  const StTensor *x = a, *y = b;
  if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
  /* empty ones before what starts at the same place */
  if (x->count != y->count) return x->count < y->count ? -1 : 1;
  return strcmp(x->name, y->name);
}

/* The data must be the tensors side by side, as the format demands: no byte in two tensors, none in
 * none. */
static bool check_coverage(Safetensors *st, uint64_t at, Buf *why) {
  qsort(st->tensor, (size_t)st->n_tensor, sizeof *st->tensor, by_place);
  for (int i = 0; i < st->n_tensor; i++) {
    const StTensor *t = &st->tensor[i];
    if (t->begin < at)
      return bad(st, why, "tensor '%s' overlaps '%s'", t->name, st->tensor[i - 1].name);
    if (t->begin > at) return bad(st, why, "there are unused bytes before tensor '%s'", t->name);
    at += (uint64_t)t->count * (uint64_t)st_type[t->type].bytes;
  }
  if (at != st->size)
    return bad(st, why, "%llu bytes follow the last tensor", (unsigned long long)(st->size - at));
  return true;
}

static bool read_header(Safetensors *st, Buf *why) {
  uint64_t n;
  if (st->size < 8) return bad(st, why, "it has %llu bytes", (unsigned long long)st->size);
  if (!read_raw(st, 0, 8, &n, why)) return false;
  if (n > MAX_HEADER)
    return bad(st, why, "its header would have %llu bytes", (unsigned long long)n);
  if (n > st->size - 8)
    return bad(st, why,
               "its header should have %llu bytes and %llu are there: the file was cut short",
               (unsigned long long)n, (unsigned long long)(st->size - 8));
  char *text = xmalloc((size_t)n + 1);
  json_error_t error;
  json_t *header = NULL;
  bool ok = read_raw(st, 8, (size_t)n, text, why);
  if (ok) {
    header = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &error);
    if (!header)
      ok = bad(st, why, "its header is not JSON: %s at byte %d", error.text, error.position);
    else if (!json_is_object(header))
      ok = bad(st, why, "its header is not a JSON object");
  }
  free(text);
  if (ok) {
    st->tensor = arena_alloc(st->arena, json_object_size(header) * sizeof *st->tensor);
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry) {
      ok = strcmp(name, "__metadata__") == 0 ? read_metadata(st, entry, why)
                                             : read_entry(st, name, entry, 8 + n, why);
      if (!ok) break;
    }
  }
  json_decref(header);
  return ok && check_coverage(st, 8 + n, why);
}

static Safetensors *begin(const char *path) {
  Arena *arena = arena_new();
  Safetensors *st = arena_alloc(arena, sizeof *st);
  st->arena = arena;
  st->path = arena_str(arena, path, strlen(path));
  st->fd = -1;
  return st;
}

Safetensors *st_open(const char *path, Buf *why) {
  Safetensors *st = begin(path);
  struct stat info;
  st->fd = open(path, O_RDONLY | O_CLOEXEC);
  bool ok = st->fd >= 0 && fstat(st->fd, &info) == 0;
  if (ok && S_ISDIR(info.st_mode)) {
    ok = false;
    errno = EISDIR;
  }
  if (!ok) {
    buf_printf(why, "%s: cannot be opened: %s", path, strerror(errno));
  } else if (!S_ISREG(info.st_mode)) {
    buf_printf(why, "%s: not a regular file", path);
    ok = false;
  } else {
    st->size = (uint64_t)info.st_size;
    ok = read_header(st, why);
  }
  if (ok) return st;
  st_close(st);
  return NULL;
}

Safetensors *st_parse(const void *bytes, size_t n, const char *name, Buf *why) {
  Safetensors *st = begin(name);
  st->bytes = bytes;
  st->size = n;
  if (read_header(st, why)) return st;
  st_close(st);
  return NULL;
}

void st_close(Safetensors *st) {
  if (!st) return;
  if (st->fd >= 0) close(st->fd);
  arena_free(st->arena);
}

/* ---- values ---- */

#define CASE_FROM(tag, T, expr)                                                                    \
  case tag:                                                                                        \
    for (size_t i = 0; i < n; i++) {                                                               \
      T v;                                                                                         \
      memcpy(&v, from + i * sizeof v, sizeof v);                                                   \
      to[i] = (expr);                                                                              \
    }                                                                                              \
    break;

static void convert_f32(StType type, const uint8_t *from, size_t n, float *to) {
  switch (type) {
    CASE_FROM(ST_BOOL, uint8_t, v != 0)
    CASE_FROM(ST_U8, uint8_t, v)
    CASE_FROM(ST_I8, int8_t, v)
    CASE_FROM(ST_I16, int16_t, v)
    CASE_FROM(ST_U16, uint16_t, v)
    CASE_FROM(ST_I32, int32_t, (float)v)
    CASE_FROM(ST_U32, uint32_t, (float)v)
    CASE_FROM(ST_I64, int64_t, (float)v)
    CASE_FROM(ST_U64, uint64_t, (float)v)
    CASE_FROM(ST_F16, uint16_t, half_to_float(false, v))
    CASE_FROM(ST_BF16, uint16_t, half_to_float(true, v))
    CASE_FROM(ST_F32, float, v)
    CASE_FROM(ST_F64, double, (float)v)
  case ST_TYPES: break;
  }
}

static void convert_i64(StType type, const uint8_t *from, size_t n, int64_t *to) {
  switch (type) {
    CASE_FROM(ST_BOOL, uint8_t, v != 0)
    CASE_FROM(ST_U8, uint8_t, v)
    CASE_FROM(ST_I8, int8_t, v)
    CASE_FROM(ST_I16, int16_t, v)
    CASE_FROM(ST_U16, uint16_t, v)
    CASE_FROM(ST_I32, int32_t, v)
    CASE_FROM(ST_U32, uint32_t, v)
    CASE_FROM(ST_I64, int64_t, v)
    CASE_FROM(ST_U64, uint64_t, v > INT64_MAX ? INT64_MAX : (int64_t)v)
  default: die("convert_i64 of %s", st_type[type].name);
  }
}

bool st_read_f32(const Safetensors *st, const StTensor *t, int64_t first, int64_t n, float *to,
                 Buf *why) {
  if (first < 0 || n < 0 || first > t->count || n > t->count - first)
    die("st_read_f32 outside '%s'", t->name);
  uint8_t piece[PIECE];
  int64_t size = st_type[t->type].bytes, step = PIECE / size;
  for (int64_t i = 0; i < n; i += step) {
    size_t m = (size_t)(n - i < step ? n - i : step);
    if (!read_raw(st, t->begin + (uint64_t)((first + i) * size), m * (size_t)size, piece, why))
      return false;
    convert_f32(t->type, piece, m, to + i);
  }
  return true;
}

bool st_read_i32(const Safetensors *st, const StTensor *t, int64_t first, int64_t n, int32_t *to,
                 Buf *why) {
  if (first < 0 || n < 0 || first > t->count || n > t->count - first)
    die("st_read_i32 outside '%s'", t->name);
  if (t->type >= ST_F16) {
    buf_printf(why, "%s: tensor '%s' is %s where integers are expected", st->path, t->name,
               st_type[t->type].name);
    return false;
  }
  uint8_t piece[PIECE];
  int64_t wide[PIECE / 8];
  int64_t size = st_type[t->type].bytes, step = COUNT_OF(wide);
  for (int64_t i = 0; i < n; i += step) {
    size_t m = (size_t)(n - i < step ? n - i : step);
    if (!read_raw(st, t->begin + (uint64_t)((first + i) * size), m * (size_t)size, piece, why))
      return false;
    convert_i64(t->type, piece, m, wide);
    for (size_t j = 0; j < m; j++) {
      if (wide[j] < INT32_MIN || wide[j] > INT32_MAX) {
        buf_printf(why, "%s: tensor '%s': element %lld is %lld, outside 32 bits", st->path, t->name,
                   (long long)(first + i + (int64_t)j), (long long)wide[j]);
        return false;
      }
      to[i + (int64_t)j] = (int32_t)wide[j];
    }
  }
  return true;
}

bool st_read_device(const Safetensors *st, const StTensor *t, ImgType type, void *to, Buf *why) {
  if (type == IMG_i32 || type == IMG_bool) {
    int32_t *v = to;
    if (!st_read_i32(st, t, 0, t->count, v, why)) return false;
    for (int64_t i = 0; type == IMG_bool && i < t->count; i++) v[i] = v[i] != 0;
    return true;
  }
  float *v = to;
  if (!st_read_f32(st, t, 0, t->count, v, why)) return false;
  bool bf16 = type == IMG_bf16;
  for (int64_t i = 0; (bf16 || type == IMG_f16) && i < t->count; i++)
    v[i] = half_to_float(bf16, half_from_float(bf16, v[i]));
  return true;
}

/* ---- the hash of the contents ---- */

uint64_t st_hash_meta(const char *key, const char *value) {
  return hash_bytes(value, strlen(value), hash_bytes(key, strlen(key), 1));
}

uint64_t st_hash_begin(const StTensor *t) {
  uint64_t h = hash_bytes(t->name, strlen(t->name), 2 + (uint64_t)t->type);
  return hash_bytes(t->dim, (size_t)t->rank * sizeof *t->dim, h);
}

bool st_verify(const Safetensors *st, Buf *why) {
  const char *want = st_meta(st, "hash");
  if (!want) return true;
  uint64_t sum = 0;
  for (int i = 0; i < st->n_meta; i++)
    if (strcmp(st->key[i], "hash") != 0) sum += st_hash_meta(st->key[i], st->value[i]);
  uint8_t *piece = xmalloc(ST_HASH_PIECE);
  bool ok = true;
  for (int i = 0; i < st->n_tensor && ok; i++) {
    const StTensor *t = &st->tensor[i];
    uint64_t h = st_hash_begin(t), n = (uint64_t)t->count * (uint64_t)st_type[t->type].bytes;
    for (uint64_t at = 0; at < n && ok; at += ST_HASH_PIECE) {
      size_t m = n - at < ST_HASH_PIECE ? (size_t)(n - at) : ST_HASH_PIECE;
      ok = read_raw(st, t->begin + at, m, piece, why);
      if (ok) h = hash_bytes(piece, m, h);
    }
    sum += h;
  }
  free(piece);
  if (!ok) return false;
  char is[32];
  snprintf(is, sizeof is, ST_HASH_FORMAT, (unsigned long long)sum);
  if (strcmp(is, want) == 0) return true;
  buf_printf(why,
             "%s: its contents were changed or damaged after it was written (hash %s, recorded %s)",
             st->path, is, want);
  return false;
}
