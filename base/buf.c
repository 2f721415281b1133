#include "base/base.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { STREAM_BYTES = 1 << 30 }; /* the most that is read of a pipe or device */

static void reserve(Buf *b, size_t more) {
  size_t need = b->len + more + 1;
  if (need <= b->cap) return;
  size_t cap = b->cap ? b->cap : 256;
  while (cap < need) cap *= 2;
  b->data = xrealloc(b->data, cap);
  b->cap = cap;
}

void buf_put(Buf *b, const void *from, size_t bytes) {
  reserve(b, bytes);
  if (bytes) memcpy(b->data + b->len, from, bytes);
  b->len += bytes;
  b->data[b->len] = 0;
}

void buf_str(Buf *b, const char *s) { buf_put(b, s, strlen(s)); }

void buf_vprintf(Buf *b, const char *fmt, va_list args) {
  va_list again;
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, fmt, args);
  reserve(b, (size_t)n);
  vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
  va_end(again);
  b->len += (size_t)n;
}

void buf_printf(Buf *b, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  buf_vprintf(b, fmt, args);
  va_end(args);
}

void buf_clear(Buf *b) {
  b->len = 0;
  if (b->data) b->data[0] = 0;
}

void buf_free(Buf *b) {
  free(b->data);
  *b = (Buf){0};
}

bool buf_read_file(Buf *b, const char *path) {
  FILE *f = fopen(path, "rb");
  if (!f) return false;
  struct stat st;
  bool known = fstat(fileno(f), &st) == 0;
  if (known && S_ISDIR(st.st_mode)) {
    fclose(f);
    errno = EISDIR;
    return false;
  }
  size_t before = b->len;
  bool endless = known && !S_ISREG(st.st_mode); /* /dev/zero would fill the memory */
  for (;;) {
    reserve(b, 64 << 10);
    size_t n = fread(b->data + b->len, 1, 64 << 10, f);
    b->len += n;
    b->data[b->len] = 0;
    if (n < 64 << 10) break;
    if (endless && b->len - before > STREAM_BYTES) {
      fclose(f);
      errno = EFBIG;
      return false;
    }
  }
  bool ok = !ferror(f);
  int saved = errno;
  fclose(f);
  errno = saved;
  return ok;
}
