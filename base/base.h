/* base: what every part needs: memory arenas, growing text, fatal errors. Knows nothing of the
 * others. */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdarg.h>
#include <stdio.h>

#if defined(__GNUC__)
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define NORETURN __attribute__((noreturn))
#else
#define PRINTF_LIKE(fmt, args)
#define NORETURN
#endif

#define COUNT_OF(a) ((int)(sizeof(a) / sizeof *(a)))

/* ---- arena.c: memory that is freed all at once ---- */
typedef struct Arena Arena;
Arena *arena_new(void);
void arena_free(Arena *);
void *arena_alloc(Arena *, size_t bytes); /* zeroed, 16-byte aligned, never NULL */
void *arena_copy(Arena *, const void *, size_t bytes);
char *arena_str(Arena *, const char *text, size_t bytes); /* copy, NUL-terminated */
char *arena_printf(Arena *, const char *fmt, ...) PRINTF_LIKE(2, 3);
size_t arena_used(const Arena *); /* bytes handed out */

/* Appends one element to an arena-backed array of `n` elements; the array moves as it grows. */
#define ARENA_PUSH(arena, array, n, element)                                                       \
  do {                                                                                             \
    if (((n) & ((n)-1)) == 0) {                                                                    \
      void *grown_ = arena_alloc((arena), sizeof *(array) * ((n) ? 2 * (size_t)(n) : 1));          \
      if (n) memcpy(grown_, (array), sizeof *(array) * (size_t)(n));                               \
      (array) = grown_;                                                                            \
    }                                                                                              \
    (array)[(n)++] = (element);                                                                    \
  } while (0)

/* ---- buf.c: bytes that grow, malloc'ed; start from {0}, end with buf_free ---- */
typedef struct Buf {
  char *data; /* always NUL-terminated once anything was put */
  size_t len, cap;
} Buf;
void buf_put(Buf *, const void *, size_t bytes);
void buf_str(Buf *, const char *);
void buf_printf(Buf *, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_vprintf(Buf *, const char *fmt, va_list);
void buf_clear(Buf *);
void buf_free(Buf *);
/* Appends the file; false and errno set on failure. A pipe or device may give 1 GiB at most. */
bool buf_read_file(Buf *, const char *path);

/* ---- replace.c: a file that takes another's place, whole or not at all ---- */
typedef struct Replacement {
  char *path, *partial;
  int fd;
} Replacement;
/* Opens `path` + `suffix` for writing. Every failure is put in `why` with the path and its reason.
 */
bool replace_begin(Replacement *, const char *path, const char *suffix, int mode, Buf *why);
bool replace_put(Replacement *, const void *, size_t bytes, Buf *why);
bool replace_patch(Replacement *, const void *, size_t bytes, size_t at, Buf *why);
bool replace_commit(Replacement *, Buf *why); /* flushed and renamed; ends with drop either way */
void replace_drop(Replacement *);             /* removes what was not committed */
bool same_file(const char *a, const char *b); /* both are there and are one file */

/* ---- die.c ---- */
/* A bug of the compiler: says so with what is known and exits with status 70. Never for a user's
 * mistake. */
void die(const char *fmt, ...) PRINTF_LIKE(1, 2) NORETURN;
void *xmalloc(size_t), *xcalloc(size_t n, size_t bytes), *xrealloc(void *, size_t);

/* ---- intern.c: one pointer per distinct string, so names compare with == ---- */
const char *intern(const char *text);
const char *intern_n(const char *text, size_t bytes);

/* ---- half.c: f16 and bf16 in 16 bits; a float between two of them rounds to the nearest, ties to
 * even ---- */
float half_to_float(bool bf16, uint16_t);
uint16_t half_from_float(bool bf16, float);
/* n values from 4-byte floats to 16 bits each, and back. `to` may be `from`. */
void half_pack(bool bf16, const void *from, size_t n, void *to);
void half_unpack(bool bf16, const void *from, size_t n, void *to);

/* ---- suggest.c ---- */
/* The candidate nearest to `word` by edit distance, NULL where none is near enough to be meant. */
const char *suggest(const char *word, const char *const *candidate, int n);

/* Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"): out =
 * bijection(counter; key). */
void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

uint64_t hash_bytes(const void *, size_t bytes, uint64_t seed); /* XXH3, 64 bits */

#endif
