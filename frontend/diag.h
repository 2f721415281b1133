/* diag: sources and the errors in them, as text with the underlined line. */
#ifndef FRONTEND_DIAG_H
#define FRONTEND_DIAG_H

#include "ir/ir.h"

typedef struct Source {
  const char *path; /* interned; as shown to the user */
  const char *text; /* NUL-terminated */
  uint32_t bytes;
  uint32_t *line; /* offset of each line's first byte */
  int n_line;
} Source;

/* A range of bytes of a source; `mark` is where the caret stands. */
typedef struct Place {
  const Source *src; /* NULL: nowhere */
  uint32_t begin, end, mark;
} Place;

typedef struct Diag {
  Buf *out;
  int n_error;
  bool full; /* so many errors that the rest is not reported */
  uint64_t *seen;
  int n_seen;
  Arena *arena;
} Diag;

enum { DIAG_MAX_ERRORS = 20 };

Source *source_new(Arena *, const char *path, const char *text, size_t bytes);
SrcLoc source_loc(Place);
Place place_join(
  Place from,
  Place to); /* from the first byte of one to the last of the other; the caret at the first */

/* Reports an error; false where the same was reported before at the same place (then its notes are
 * to be left out too). */
bool diag_error(Diag *, Place, const char *fmt, ...) PRINTF_LIKE(3, 4);
bool diag_verror(Diag *, Place, const char *fmt, va_list);
void diag_note(Diag *, Place, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
