/* Diagnostics: "FILE:LINE:COL: error: …", the line, and the place underlined with ~~~^~~~. Columns
 * count bytes, as in SrcLoc; the underline counts what a terminal shows (tabs kept, wide and
 * combining characters measured). */
#include "frontend/diag.h"

#include <string.h>
#include <utf8proc.h>

enum { SHOWN_BYTES = 160, MESSAGE_BYTES = 600 };

Source *source_new(Arena *arena, const char *path, const char *text, size_t bytes) {
  Source *s = arena_alloc(arena, sizeof *s);
  s->path = intern(path);
  s->text = arena_str(arena, text, bytes);
  s->bytes = (uint32_t)bytes;
  ARENA_PUSH(arena, s->line, s->n_line, 0);
  for (uint32_t i = 0; i < s->bytes; i++)
    if (text[i] == '\n') ARENA_PUSH(arena, s->line, s->n_line, i + 1);
  return s;
}

/* Index of the line that holds the byte. */
static int line_of(const Source *s, uint32_t byte) {
  int lo = 0, hi = s->n_line - 1;
  while (lo < hi) {
    int mid = (lo + hi + 1) / 2;
    if (s->line[mid] <= byte)
      lo = mid;
    else
      hi = mid - 1;
  }
  return lo;
}

SrcLoc source_loc(Place p) {
  if (!p.src) return (SrcLoc){0};
  int line = line_of(p.src, p.mark);
  return (SrcLoc){
    .file = p.src->path, .line = line + 1, .col = (int)(p.mark - p.src->line[line]) + 1};
}

Place place_join(Place from, Place to) {
  Place p = {from.src, from.begin, to.end, from.begin};
  return p;
}

/* Length of the UTF-8 sequence at p (1 where it is broken) and the columns it takes on a
 * terminal. */
static int char_at(const char *p, const char *end, int *width) {
  utf8proc_int32_t c;
  utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)p, end - p, &c);
  if (n <= 0) {
    *width = 1;
    return 1;
  }
  *width = utf8proc_charwidth(c);
  return (int)n;
}

static bool continues(char c) { return ((unsigned char)c & 0xC0) == 0x80; }

/* The part of the line to show: all of it, or where it is long the surroundings of the place. */
static void window(const Source *s, uint32_t begin, uint32_t *first, uint32_t *last) {
  if (*last - *first <= SHOWN_BYTES) return;
  uint32_t lo = begin - *first > SHOWN_BYTES / 2 ? begin - SHOWN_BYTES / 2 : *first;
  uint32_t hi = lo + SHOWN_BYTES < *last ? lo + SHOWN_BYTES : *last;
  while (lo < begin && continues(s->text[lo])) lo++;
  while (hi > begin && hi < *last && continues(s->text[hi])) hi--;
  *first = lo;
  *last = hi;
}

static void show_line(Buf *out, Place p) {
  const Source *s = p.src;
  int line = line_of(s, p.mark);
  uint32_t first = s->line[line], last = line + 1 < s->n_line ? s->line[line + 1] - 1 : s->bytes;
  if (last > first && s->text[last - 1] == '\r') last--;
  uint32_t begin = p.begin < first ? first : p.begin, end = p.end > last ? last : p.end;
  uint32_t mark = p.mark < first ? first : p.mark > last ? last : p.mark;
  uint32_t from = first, to = last;
  window(s, mark, &from, &to);
  if (begin < from) begin = from;
  if (end > to) end = to;

  const char *cut = from > first ? "…" : "";
  buf_printf(out, "%5d | %s", line + 1, cut);
  for (uint32_t i = from; i < to; i++) { /* control characters would move the cursor */
    char c = s->text[i];
    if ((unsigned char)c < 32 && c != '\t') c = ' ';
    buf_put(out, &c, 1);
  }
  buf_printf(out, "%s\n      | %s", to < last ? "…" : "", *cut ? " " : "");
  for (uint32_t i = from; i < to || i <= mark;) {
    int width = 1, bytes = i < to ? char_at(s->text + i, s->text + to, &width) : 1;
    bool here = i <= mark && mark < i + (uint32_t)bytes, under = i >= begin && i < end;
    if (!here && i >= mark && i >= end) break;
    if (i < to && s->text[i] == '\t' && !here && !under)
      buf_str(out, "\t");
    else
      for (int k = 0; k < width || (k == 0 && here); k++)
        buf_str(out, here && k == 0 ? "^" : under || here ? "~" : " ");
    i += (uint32_t)bytes;
  }
  buf_str(out, "\n");
}

static void put_place(Buf *out, Place p) {
  SrcLoc loc = source_loc(p);
  buf_printf(out, "%s:%d:%d", loc.file, loc.line, loc.col);
}

/* One error is told once at one place: a loop or a second instance meets it again. */
static bool first_time(Diag *d, Place p, const char *text) {
  uint64_t h =
    hash_bytes(text, strlen(text), (uint64_t)(uintptr_t)p.src ^ ((uint64_t)p.begin << 32 | p.end));
  for (int i = 0; i < d->n_seen; i++)
    if (d->seen[i] == h) return false;
  ARENA_PUSH(d->arena, d->seen, d->n_seen, h);
  return true;
}

bool diag_verror(Diag *d, Place p, const char *fmt, va_list args) {
  char text[MESSAGE_BYTES];
  int n = vsnprintf(text, sizeof text, fmt, args);
  if (n >= (int)sizeof text) { /* cut at a whole character */
    n = (int)sizeof text - 1;
    while (n > 0 && continues(text[n])) n--;
    memset(text + n, 0, sizeof text - (size_t)n);
  }
  for (char *c = text; *c; c++)
    if ((unsigned char)*c < 32) *c = ' ';
  d->n_error++;
  if (d->full || !first_time(d, p, text)) return false;
  if (d->n_seen > DIAG_MAX_ERRORS) {
    d->full = true;
    buf_printf(d->out, "more than %d errors; the rest is not shown\n", DIAG_MAX_ERRORS);
    return false;
  }
  if (p.src) {
    put_place(d->out, p);
    buf_printf(d->out, ": error: %s\n", text);
    show_line(d->out, p);
  } else {
    buf_printf(d->out, "error: %s\n", text);
  }
  return true;
}

bool diag_error(Diag *d, Place p, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  bool shown = diag_verror(d, p, fmt, args);
  va_end(args);
  return shown;
}

void diag_note(Diag *d, Place p, const char *fmt, ...) {
  if (!p.src) return;
  va_list args;
  va_start(args, fmt);
  buf_str(d->out, "  note: ");
  buf_vprintf(d->out, fmt, args);
  va_end(args);
  buf_str(d->out, ": ");
  put_place(d->out, p);
  buf_str(d->out, "\n");
  show_line(d->out, p);
}
