#include "base/base.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 64 << 10, ALIGN = 16 };

typedef struct Block {
  struct Block *next;
  size_t used, cap;
} Block;

struct Arena {
  Block *block;
  size_t used;
};

#define HEADER ((sizeof(Block) + ALIGN - 1) / ALIGN * ALIGN)

static Block *block_new(size_t cap) {
  Block *b = xcalloc(1, HEADER + cap);
  b->cap = cap;
  return b;
}

Arena *arena_new(void) { return xcalloc(1, sizeof(Arena)); }

void arena_free(Arena *a) {
  if (!a) return;
  for (Block *b = a->block, *next; b; b = next) {
    next = b->next;
    free(b);
  }
  free(a);
}

void *arena_alloc(Arena *a, size_t bytes) {
  bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
  Block *b = a->block;
  if (!b || b->cap - b->used < bytes) {
    Block *fresh = block_new(bytes > BLOCK_BYTES / 4 ? bytes : BLOCK_BYTES);
    if (b && bytes > BLOCK_BYTES /
                       4) { /* a large piece gets a block of its own, behind the current one */
      fresh->next = b->next;
      b->next = fresh;
    } else {
      fresh->next = b;
      a->block = fresh;
    }
    b = fresh;
  }
  void *p = (char *)b + HEADER + b->used;
  b->used += bytes;
  a->used += bytes;
  return p;
}

void *arena_copy(Arena *a, const void *from, size_t bytes) {
  void *p = arena_alloc(a, bytes);
  if (bytes) memcpy(p, from, bytes);
  return p;
}

char *arena_str(Arena *a, const char *text, size_t bytes) {
  char *p = arena_alloc(a, bytes + 1);
  memcpy(p, text, bytes);
  return p;
}

char *arena_printf(Arena *a, const char *fmt, ...) {
  va_list args, again;
  va_start(args, fmt);
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, fmt, args);
  va_end(args);
  char *p = arena_alloc(a, (size_t)n + 1);
  vsnprintf(p, (size_t)n + 1, fmt, again);
  va_end(again);
  return p;
}

size_t arena_used(const Arena *a) { return a->used; }
