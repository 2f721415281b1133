/* Encodes and decodes; training and the JSON form are in tokenizer_train.c. */
#include "runtime/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

const char *const tok_kind_name[TOK_KINDS] = {"byte", "char", "word"};

TokKind tok_kind(const Tokenizer *t) { return t->kind; }
int64_t tok_size(const Tokenizer *t) { return t->kind == TOK_byte ? 256 : t->n; }

void tok_push(TokIds *ids, int32_t id) {
  if (ids->n == ids->cap) {
    ids->cap = ids->cap ? 2 * ids->cap : 1024;
    ids->id = xrealloc(ids->id, (size_t)ids->cap * sizeof *ids->id);
  }
  ids->id[ids->n++] = id;
}

/* ---- UTF-8 ---- */

bool utf8_check(const char *text, size_t bytes, const char *name, Buf *why) {
  const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)text;
  for (size_t at = 0; at < bytes;) {
    utf8proc_int32_t code;
    utf8proc_ssize_t left = (utf8proc_ssize_t)(bytes - at);
    utf8proc_ssize_t n = p[at] < 0x80 ? 1 : utf8proc_iterate(p + at, left, &code);
    if (n <= 0) {
      buf_printf(why, "%s: not UTF-8: byte 0x%02x at offset %zu", name, p[at], at);
      return false;
    }
    at += (size_t)n;
  }
  return true;
}

size_t utf8_whole(const char *text, size_t bytes) {
  size_t back = 0;
  while (back < 3 && back < bytes && ((uint8_t)text[bytes - 1 - back] & 0xC0) == 0x80) back++;
  if (back == bytes) return bytes;
  uint8_t lead = (uint8_t)text[bytes - 1 - back];
  size_t need = lead >= 0xF5 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 1;
  return back + 1 < need ? bytes - back - 1 : bytes;
}

void utf8_clean(const char *text, size_t bytes, Buf *out) {
  for (size_t at = 0; at < bytes;) {
    utf8proc_int32_t code;
    utf8proc_ssize_t n =
      utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(bytes - at), &code);
    if (n <= 0)
      buf_str(out, "\xEF\xBF\xBD");
    else
      buf_put(out, text + at, (size_t)n);
    at += n <= 0 ? 1 : (size_t)n;
  }
}

/* Text is normalised line by line: a newline neither composes nor reorders with anything, and plain
 * ASCII stays as it is. */
void tok_normalise(const char *text, size_t bytes, Buf *out) {
  for (size_t at = 0; at < bytes;) {
    const char *newline = memchr(text + at, '\n', bytes - at);
    size_t n = newline ? (size_t)(newline - (text + at)) + 1 : bytes - at;
    bool ascii = true;
    for (size_t i = 0; i < n && ascii; i++) ascii = (uint8_t)text[at + i] < 0x80;
    utf8proc_uint8_t *composed = NULL;
    if (ascii) {
      buf_put(out, text + at, n);
    } else {
      utf8proc_ssize_t m = utf8proc_map((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)n,
                                        &composed, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
      if (m < 0) die("normalising checked text: %s", utf8proc_errmsg(m));
      buf_put(out, composed, (size_t)m);
      free(composed);
    }
    at += n;
  }
}

/* ---- pieces of text ---- */

typedef enum Class { WORD, SPACE, OTHER } Class;

static Class class_of(int32_t code) {
  switch (utf8proc_category(code)) {
  case UTF8PROC_CATEGORY_LU:
  case UTF8PROC_CATEGORY_LL:
  case UTF8PROC_CATEGORY_LT:
  case UTF8PROC_CATEGORY_LM:
  case UTF8PROC_CATEGORY_LO:
  case UTF8PROC_CATEGORY_MN:
  case UTF8PROC_CATEGORY_MC:
  case UTF8PROC_CATEGORY_ME:
  case UTF8PROC_CATEGORY_ND:
  case UTF8PROC_CATEGORY_NL:
  case UTF8PROC_CATEGORY_NO:
  case UTF8PROC_CATEGORY_PC: return WORD;
  case UTF8PROC_CATEGORY_ZS:
  case UTF8PROC_CATEGORY_ZL:
  case UTF8PROC_CATEGORY_ZP: return SPACE;
  default: return (code >= 9 && code <= 13) || code == 0x85 ? SPACE : OTHER;
  }
}

static size_t code_at(const char *text, size_t bytes, int32_t *code) {
  utf8proc_ssize_t n =
    utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes, code);
  if (n <= 0) die("text that was not checked reached the tokenizer");
  return (size_t)n;
}

size_t tok_piece(TokKind kind, const char *text, size_t bytes) {
  int32_t first, code;
  size_t n = code_at(text, bytes, &first);
  Class class = class_of(first);
  if (kind == TOK_char || class == OTHER) return n;
  while (n < bytes) {
    size_t m = code_at(text + n, bytes - n, &code);
    if (class == WORD ? class_of(code) != WORD : code != first) break;
    n += m;
  }
  return n;
}

/* ---- ids ---- */

static size_t place_of(const Tokenizer *t, const char *piece, size_t bytes) {
  size_t h = hash_bytes(piece, bytes, 0) & (t->n_slot - 1);
  for (; t->slot[h] >= 0; h = (h + 1) & (t->n_slot - 1)) {
    const TokPiece *p = &t->piece[t->slot[h]];
    if (p->bytes == bytes && memcmp(p->text, piece, bytes) == 0) break;
  }
  return h;
}

int32_t tok_find(const Tokenizer *t, const char *piece, size_t bytes) {
  return t->slot[place_of(t, piece, bytes)];
}

int32_t tok_add(Tokenizer *t, const char *piece, size_t bytes) {
  if (2 * ((size_t)t->n + 1) > t->n_slot) {
    t->n_slot = t->n_slot ? 2 * t->n_slot : 512;
    t->slot = xrealloc(t->slot, t->n_slot * sizeof *t->slot);
    for (size_t i = 0; i < t->n_slot; i++) t->slot[i] = -1;
    for (int32_t i = t->unknown + 1; i < t->n; i++)
      t->slot[place_of(t, t->piece[i].text, t->piece[i].bytes)] = i;
  }
  if (t->n == t->cap) {
    t->cap = t->cap ? 2 * t->cap : 256;
    t->piece = xrealloc(t->piece, (size_t)t->cap * sizeof *t->piece);
  }
  t->piece[t->n] = (TokPiece){arena_str(t->arena, piece, bytes), bytes};
  if (t->n > t->unknown) t->slot[place_of(t, piece, bytes)] = t->n;
  return t->n++;
}

Tokenizer *tok_new(TokKind kind) {
  Arena *arena = arena_new();
  Tokenizer *t = arena_alloc(arena, sizeof *t);
  *t = (Tokenizer){.arena = arena, .kind = kind, .unknown = -1};
  return t;
}

Tokenizer *tok_byte(void) { return tok_new(TOK_byte); }

void tok_free(Tokenizer *t) {
  if (!t) return;
  free(t->slot);
  free(t->piece);
  arena_free(t->arena);
}

static bool unknown_char(const Tokenizer *t, const char *text, size_t at, size_t n,
                         const char *name, Buf *why) {
  int64_t line = 1, column = 1;
  for (size_t i = 0; i < at; i++) {
    if (text[i] == '\n')
      line++, column = 1;
    else
      column += ((uint8_t)text[i] & 0xC0) != 0x80;
  }
  int32_t code;
  code_at(text + at, n, &code);
  const char *shown = utf8proc_category(code) == UTF8PROC_CATEGORY_CC ? "" : text + at;
  buf_printf(
    why, "%s:%lld:%lld: the character %s%.*s%sU+%04X is not among the %d that the tokenizer knows",
    name, (long long)line, (long long)column, *shown ? "'" : "", *shown ? (int)n : 0, shown,
    *shown ? "' " : "", (unsigned)code, t->n);
  return false;
}

bool tok_encode(const Tokenizer *t, const char *text, size_t bytes, const char *name, TokIds *out,
                Buf *why) {
  if (t->kind == TOK_byte) {
    for (size_t i = 0; i < bytes; i++) tok_push(out, (uint8_t)text[i]);
    return true;
  }
  if (!utf8_check(text, bytes, name, why)) return false;
  Buf normal = {0};
  tok_normalise(text, bytes, &normal);
  bool ok = true;
  for (size_t at = 0; at < normal.len && ok;) {
    size_t n = tok_piece(t->kind, normal.data + at, normal.len - at);
    int32_t id = tok_find(t, normal.data + at, n);
    if (id < 0) id = t->unknown;
    if (id < 0)
      ok = unknown_char(t, normal.data, at, n, name, why);
    else
      tok_push(out, id);
    at += n;
  }
  buf_free(&normal);
  return ok;
}

void tok_decode(const Tokenizer *t, int32_t id, Buf *out) {
  if (id < 0 || id >= tok_size(t)) {
    buf_str(out, "\xEF\xBF\xBD");
  } else if (t->kind == TOK_byte) {
    char c = (char)(uint8_t)id;
    buf_put(out, &c, 1);
  } else {
    buf_put(out, t->piece[id].text, t->piece[id].bytes);
  }
}
