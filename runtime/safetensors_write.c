/* Writes safetensors, and files in general, so that a reader sees the earlier file or the new one,
 * whole: by way of "<path>.partial". */
#include "runtime/safetensors_internal.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char PARTIAL[] = ".partial";

bool file_replace(const char *path, const void *bytes, size_t n, Buf *why) {
  Replacement r;
  if (!replace_begin(&r, path, PARTIAL, 0666, why)) return false;
  if (replace_put(&r, bytes, n, why)) return replace_commit(&r, why);
  replace_drop(&r);
  return false;
}

/* ---- safetensors ---- */

struct StWriter {
  Arena *arena;
  Replacement file;
  const char **key, **value;
  int n_meta;
  StTensor *tensor;
  int n_tensor;
  bool begun;         /* the header is written */
  int at;             /* the tensor being written */
  uint64_t left;      /* bytes of it to come */
  uint64_t hash, sum; /* of it; of the contents so far */
  uint8_t *piece;
  size_t filled;
};

static const char HASH_PLACE[] = "{\"__metadata__\":{\"hash\":\""; /* how every header begins */

StWriter *st_create(const char *path, Buf *why) {
  Replacement file;
  if (!replace_begin(&file, path, PARTIAL, 0666, why)) return NULL;
  Arena *arena = arena_new();
  StWriter *w = arena_alloc(arena, sizeof *w);
  w->arena = arena;
  w->file = file;
  w->piece = arena_alloc(arena, ST_HASH_PIECE);
  return w;
}

void st_set_meta(StWriter *w, const char *key, const char *value) {
  int n = w->n_meta;
  ARENA_PUSH(w->arena, w->key, n, arena_str(w->arena, key, strlen(key)));
  ARENA_PUSH(w->arena, w->value, w->n_meta, arena_str(w->arena, value, strlen(value)));
  w->sum += st_hash_meta(key, value);
}

void st_declare(StWriter *w, const char *name, StType type, int rank, const int64_t *dim) {
  if (w->begun) die("st_declare of '%s' after data were written", name);
  StTensor t = {arena_str(w->arena, name, strlen(name)), type, rank, NULL, 1, 0};
  t.dim = arena_copy(w->arena, dim, (size_t)rank * sizeof *dim);
  for (int i = 0; i < rank; i++) t.count *= dim[i];
  ARENA_PUSH(w->arena, w->tensor, w->n_tensor, t);
}

static uint64_t tensor_bytes(const StTensor *t) {
  return (uint64_t)t->count * (uint64_t)st_type_bytes(t->type);
}

static void start_tensor(StWriter *w) {
  w->left = tensor_bytes(&w->tensor[w->at]);
  w->hash = st_hash_begin(&w->tensor[w->at]);
}

/* Moves on to the next tensor that has bytes to come. */
static void next_tensor(StWriter *w) {
  while (w->at < w->n_tensor && w->left == 0) {
    w->sum += w->hash;
    if (++w->at < w->n_tensor) start_tensor(w);
  }
}

static void put_text(Buf *out, const char *text) {
  json_t *value = json_string(text);
  char *quoted = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
  if (!quoted) die("text in a safetensors header is not UTF-8: %s", text);
  buf_str(out, quoted);
  free(quoted);
  json_decref(value);
}

/* {"__metadata__":{"hash":"…",…},"name":{"dtype":…,"shape":…,"data_offsets":…},…} padded with
 * spaces so that the data begin at a multiple of 8. */
static bool write_header(StWriter *w, Buf *why) {
  Buf h = {0};
  buf_printf(&h, "%s" ST_HASH_FORMAT "\"", HASH_PLACE, 0ULL);
  for (int i = 0; i < w->n_meta; i++) {
    buf_str(&h, ",");
    put_text(&h, w->key[i]);
    buf_str(&h, ":");
    put_text(&h, w->value[i]);
  }
  buf_str(&h, "}");
  uint64_t at = 0;
  for (int i = 0; i < w->n_tensor; i++) {
    const StTensor *t = &w->tensor[i];
    buf_str(&h, ",");
    put_text(&h, t->name);
    buf_printf(&h, ":{\"dtype\":\"%s\",\"shape\":", st_type_name(t->type));
    st_print_shape(&h, t->rank, t->dim);
    buf_printf(&h, ",\"data_offsets\":[%llu,", (unsigned long long)at);
    at += tensor_bytes(t);
    buf_printf(&h, "%llu]}", (unsigned long long)at);
  }
  buf_str(&h, "}");
  while (h.len % 8) buf_str(&h, " ");
  uint64_t n = h.len;
  bool ok = replace_put(&w->file, &n, 8, why) && replace_put(&w->file, h.data, h.len, why);
  buf_free(&h);
  w->begun = true;
  if (w->n_tensor) {
    start_tensor(w);
    next_tensor(w);
  }
  return ok;
}

static bool flush_piece(StWriter *w, Buf *why) {
  w->hash = hash_bytes(w->piece, w->filled, w->hash);
  bool ok = replace_put(&w->file, w->piece, w->filled, why);
  w->filled = 0;
  return ok;
}

bool st_write(StWriter *w, const void *data, uint64_t bytes, Buf *why) {
  if (!w->begun && !write_header(w, why)) return false;
  const uint8_t *p = data;
  while (bytes) {
    if (w->at == w->n_tensor) die("more data than tensors were declared for %s", w->file.path);
    uint64_t m = ST_HASH_PIECE - w->filled;
    if (m > bytes) m = bytes;
    if (m > w->left) m = w->left;
    memcpy(w->piece + w->filled, p, (size_t)m);
    w->filled += (size_t)m;
    w->left -= m;
    p += m;
    bytes -= m;
    if ((w->filled == ST_HASH_PIECE || w->left == 0) && !flush_piece(w, why)) return false;
    next_tensor(w);
  }
  return true;
}

StType st_type_for(ImgType t) { return t == IMG_bool ? ST_BOOL : t == IMG_i32 ? ST_I32 : ST_F32; }

bool st_write_device(StWriter *w, ImgType type, const void *data, int64_t count, Buf *why) {
  if (type != IMG_bool) return st_write(w, data, (uint64_t)count * 4, why);
  const uint32_t *v = data;
  for (int64_t i = 0; i < count; i++) {
    uint8_t b = v[i] != 0;
    if (!st_write(w, &b, 1, why)) return false;
  }
  return true;
}

bool st_commit(StWriter *w, Buf *why) {
  bool ok = w->begun || write_header(w, why);
  if (ok && w->at < w->n_tensor) die("tensor '%s' was not written whole", w->tensor[w->at].name);
  if (ok) {
    char hash[32];
    snprintf(hash, sizeof hash, ST_HASH_FORMAT, (unsigned long long)w->sum);
    ok = replace_patch(&w->file, hash, strlen(hash), 8 + strlen(HASH_PLACE), why);
  }
  if (!ok) {
    st_abandon(w);
    return false;
  }
  ok = replace_commit(&w->file, why);
  arena_free(w->arena);
  return ok;
}

void st_abandon(StWriter *w) {
  if (!w) return;
  replace_drop(&w->file);
  arena_free(w->arena);
}
