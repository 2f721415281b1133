#include "base/base.h"

#include <stdlib.h>

void die(const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  fflush(stdout);
  fputs("internal error (please report it): ", stderr);
  vfprintf(stderr, fmt, args);
  fputc('\n', stderr);
  va_end(args);
  exit(70);
}

static void *checked(void *p, size_t bytes) {
  if (!p && bytes) {
    fprintf(stderr, "out of memory: %zu bytes could not be had\n", bytes);
    exit(71);
  }
  return p;
}

void *xmalloc(size_t bytes) { return checked(malloc(bytes), bytes); }
void *xcalloc(size_t n, size_t bytes) {
  return checked(calloc(n, bytes), n && bytes ? n * bytes : 0);
}
void *xrealloc(void *p, size_t bytes) { return checked(realloc(p, bytes), bytes); }
