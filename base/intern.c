#include "base/base.h"

#include <stdlib.h>
#include <string.h>

/* Open addressing, never shrinks: names live as long as the process. */
static const char **slot;
static size_t cap, used;
static Arena *text_arena;

static void grow(void) {
  size_t old_cap = cap;
  const char **old = slot;
  cap = cap ? 2 * cap : 1024;
  slot = xcalloc(cap, sizeof *slot);
  for (size_t i = 0; i < old_cap; i++) {
    if (!old[i]) continue;
    size_t h = hash_bytes(old[i], strlen(old[i]), 0) & (cap - 1);
    while (slot[h]) h = (h + 1) & (cap - 1);
    slot[h] = old[i];
  }
  free(old);
}

const char *intern_n(const char *text, size_t bytes) {
  if (2 * used >= cap) grow();
  size_t h = hash_bytes(text, bytes, 0) & (cap - 1);
  for (; slot[h]; h = (h + 1) & (cap - 1))
    if (strlen(slot[h]) == bytes && memcmp(slot[h], text, bytes) == 0) return slot[h];
  if (!text_arena) text_arena = arena_new();
  used++;
  return slot[h] = arena_str(text_arena, text, bytes);
}

const char *intern(const char *text) { return intern_n(text, strlen(text)); }
