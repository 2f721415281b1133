/* safetensors: named tensors in a file: 8 bytes of header length (little endian), a JSON header,
 * the data. docs/formats.md has the details and what is refused. The reader checks everything that
 * it relies on and reads data with pread, so a file that shrinks later is an error, not a crash.
 * Functions that can fail say why, for the user, in `why`. */
#ifndef RUNTIME_SAFETENSORS_H
#define RUNTIME_SAFETENSORS_H

#include "image/image.h"

typedef enum StType {
  ST_BOOL,
  ST_U8,
  ST_I8,
  ST_I16,
  ST_U16,
  ST_I32,
  ST_U32,
  ST_I64,
  ST_U64,
  ST_F16,
  ST_BF16,
  ST_F32,
  ST_F64,
  ST_TYPES
} StType;
const char *st_type_name(StType); /* "F32" as in the header */
int st_type_bytes(StType);        /* of one element */

typedef struct StTensor {
  const char *name;
  StType type;
  int rank;
  const int64_t *dim;
  int64_t count;  /* elements */
  uint64_t begin; /* of its bytes in the file */
} StTensor;
void st_print_shape(Buf *, int rank, const int64_t *dim); /* [4, 16] */

/* ---- reading ---- */
typedef struct Safetensors Safetensors;
Safetensors *st_open(const char *path, Buf *why);
/* the file's bytes, which must outlive it */
Safetensors *st_parse(const void *bytes, size_t n, const char *name, Buf *why);
void st_close(Safetensors *);
const char *st_path(const Safetensors *);
int st_count(const Safetensors *);
const StTensor *st_tensor(const Safetensors *, int i);          /* in the order of their data */
const StTensor *st_find(const Safetensors *, const char *name); /* NULL where there is none */
/* of __metadata__; NULL where there is none */
const char *st_meta(const Safetensors *, const char *key);

/* Elements first … first+n−1 of the tensor as f32 (from any type) or i32 (from integers and
 * booleans; a value outside 32 bits is an error that names its place). */
bool st_read_f32(const Safetensors *, const StTensor *, int64_t first, int64_t n, float *to,
                 Buf *why);
bool st_read_i32(const Safetensors *, const StTensor *, int64_t first, int64_t n, int32_t *to,
                 Buf *why);
/* The whole tensor in the form that devices use, 4 bytes an element: i32; bool as 0 or 1; f16, bf16
 * as the f32 that they round to. */
bool st_read_device(const Safetensors *, const StTensor *, ImgType, void *to, Buf *why);

/* Where the metadata holds a "hash", as in files that were written with st_create: false where the
 * contents do not match it. true where there is none. */
bool st_verify(const Safetensors *, Buf *why);

/* ---- writing: declare all tensors, then give their data in that order. Nothing appears at `path`
 * before st_commit, which is atomic: an earlier file stays whole until then. ---- */
typedef struct StWriter StWriter;
StWriter *st_create(const char *path, Buf *why);
void st_set_meta(StWriter *, const char *key, const char *value);
void st_declare(StWriter *, const char *name, StType, int rank, const int64_t *dim);
/* the next bytes; any cutting into calls */
bool st_write(StWriter *, const void *data, uint64_t bytes, Buf *why);
/* The next declared tensor from the device's form; its StType must be st_type_for(type). */
bool st_write_device(StWriter *, ImgType type, const void *data, int64_t count, Buf *why);
StType st_type_for(ImgType);          /* bool → BOOL, i32 → I32, all floats → F32 */
bool st_commit(StWriter *, Buf *why); /* frees the writer, also on failure */
/* frees the writer and removes what it wrote; NULL is nothing */
void st_abandon(StWriter *);

/* Replaces the file at `path` by these bytes: written beside it, flushed to the disk, renamed. */
bool file_replace(const char *path, const void *bytes, size_t n, Buf *why);

#endif
