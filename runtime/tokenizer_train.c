/* Makes tokenizers from text, and writes and reads their JSON form (docs/formats.md):
 * {"format": "alphac tokenizer", "version": 1, "kind": "char", "vocabulary": ["\n", " ", …]} */
#include "runtime/tokenizer_internal.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static const char UNKNOWN[] = "<unk>";

/* ---- from text ---- */

typedef struct Counted {
  TokPiece piece;
  int64_t count;
} Counted;

static int by_text(const TokPiece *a, const TokPiece *b) {
  size_t n = a->bytes < b->bytes ? a->bytes : b->bytes;
  int order = memcmp(a->text, b->text, n);
  return order ? order : (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

/* UTF-8 sorts by code point when sorted by bytes. */
static int by_code(const void *a, const void *b) {
  return by_text(&((const Counted *)a)->piece, &((const Counted *)b)->piece);
}

static int by_frequency(const void *a, const void *b) {
  const Counted *x = a, *y = b;
  if (x->count != y->count) return x->count > y->count ? -1 : 1;
  return by_text(&x->piece, &y->piece);
}

static Counted *count_pieces(TokKind kind, const Buf *text, Tokenizer *seen) {
  int64_t *count = NULL;
  int32_t cap = 0;
  for (size_t at = 0; at < text->len;) {
    size_t n = tok_piece(kind, text->data + at, text->len - at);
    int32_t id = seen->n ? tok_find(seen, text->data + at, n) : -1;
    if (id < 0) id = tok_add(seen, text->data + at, n);
    if (id >= cap) {
      int32_t more = cap ? 2 * cap : 256;
      count = xrealloc(count, (size_t)more * sizeof *count);
      memset(count + cap, 0, (size_t)(more - cap) * sizeof *count);
      cap = more;
    }
    count[id]++;
    at += n;
  }
  Counted *all = xcalloc((size_t)seen->n, sizeof *all);
  for (int32_t i = 0; i < seen->n; i++) all[i] = (Counted){seen->piece[i], count[i]};
  free(count);
  return all;
}

Tokenizer *tok_train(TokKind kind, const char *text, size_t bytes, int64_t max_vocab,
                     const char *name, Buf *why) {
  if (kind == TOK_byte) return tok_byte();
  if (!utf8_check(text, bytes, name, why)) return NULL;
  Buf normal = {0};
  tok_normalise(text, bytes, &normal);
  Tokenizer *seen = tok_new(kind), *t = NULL;
  Counted *all = count_pieces(kind, &normal, seen);
  int64_t n = seen->n;
  if (n == 0) {
    buf_printf(why, "%s: there is no text to make a tokenizer from", name);
  } else if (kind == TOK_char && max_vocab && n > max_vocab) {
    buf_printf(why, "%s: the text has %lld different characters and at most %lld are wanted", name,
               (long long)n, (long long)max_vocab);
  } else {
    qsort(all, (size_t)n, sizeof *all, kind == TOK_char ? by_code : by_frequency);
    t = tok_new(kind);
    if (kind == TOK_word) {
      t->unknown = 0;
      tok_add(t, UNKNOWN, strlen(UNKNOWN));
      if (max_vocab && n > max_vocab - 1) n = max_vocab - 1;
    }
    for (int64_t i = 0; i < n; i++) tok_add(t, all[i].piece.text, all[i].piece.bytes);
  }
  free(all);
  tok_free(seen);
  buf_free(&normal);
  return t;
}

/* ---- JSON ---- */

void tok_json(const Tokenizer *t, Buf *out) {
  json_t *top = json_object(), *vocabulary = json_array();
  json_object_set_new(top, "format", json_string("alphac tokenizer"));
  json_object_set_new(top, "version", json_integer(1));
  json_object_set_new(top, "kind", json_string(tok_kind_name[t->kind]));
  for (int32_t i = 0; i < t->n; i++)
    json_array_append_new(vocabulary, json_stringn(t->piece[i].text, t->piece[i].bytes));
  if (t->kind != TOK_byte) json_object_set(top, "vocabulary", vocabulary);
  json_decref(vocabulary);
  char *text = json_dumps(top, JSON_PRESERVE_ORDER);
  if (!text) die("a tokenizer has no JSON form");
  buf_str(out, text);
  free(text);
  json_decref(top);
}

static bool read_vocabulary(Tokenizer *t, const json_t *list, const char *name, Buf *why) {
  size_t n = json_array_size(list);
  if (n == 0 || n > INT32_MAX / 2) {
    buf_printf(why, "%s: a tokenizer of kind %s needs a list \"vocabulary\"", name,
               tok_kind_name[t->kind]);
    return false;
  }
  for (size_t i = 0; i < n; i++) {
    const json_t *item = json_array_get(list, i);
    const char *text = json_string_value(item);
    size_t bytes = text ? json_string_length(item) : 0;
    if (t->kind == TOK_word && i == 0 && (!text || strcmp(text, UNKNOWN) != 0)) {
      buf_printf(why, "%s: the vocabulary of a word tokenizer begins with \"%s\"", name, UNKNOWN);
      return false;
    }
    bool one = bytes && (t->unknown == (int32_t)i || tok_piece(t->kind, text, bytes) == bytes);
    if (!one || (t->n > t->unknown + 1 && tok_find(t, text, bytes) >= 0)) {
      buf_printf(why, "%s: entry %zu of the vocabulary is not %s", name, i,
                 !one ? t->kind == TOK_char ? "one character" : "one word, space or character"
                      : "new");
      return false;
    }
    tok_add(t, text, bytes);
  }
  return true;
}

Tokenizer *tok_parse(const char *json, size_t bytes, const char *name, Buf *why) {
  json_error_t error;
  json_t *top = json_loadb(json, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
  if (!top) {
    buf_printf(why, "%s:%d:%d: not a tokenizer: %s", name, error.line, error.column, error.text);
    return NULL;
  }
  const char *format = json_string_value(json_object_get(top, "format"));
  const char *kind = json_string_value(json_object_get(top, "kind"));
  Tokenizer *t = NULL;
  int k = 0;
  while (kind && k < TOK_KINDS && strcmp(kind, tok_kind_name[k]) != 0) k++;
  if (!format || strcmp(format, "alphac tokenizer") != 0) {
    buf_printf(why,
               "%s: not a tokenizer that 'tokenizer train' wrote (\"format\" should be \"alphac "
               "tokenizer\")",
               name);
  } else if (json_integer_value(json_object_get(top, "version")) != 1) {
    buf_printf(why, "%s: a tokenizer of another version; this program reads version 1", name);
  } else if (!kind || k == TOK_KINDS) {
    buf_printf(why, "%s: the tokenizer's kind is %s; there are byte, char and word", name,
               kind ? kind : "missing");
  } else {
    t = tok_new((TokKind)k);
    if (k == TOK_word) t->unknown = 0;
    if (k != TOK_byte && !read_vocabulary(t, json_object_get(top, "vocabulary"), name, why)) {
      tok_free(t);
      t = NULL;
    }
  }
  json_decref(top);
  return t;
}

Tokenizer *tok_load(const char *path, Buf *why) {
  Buf text = {0};
  Tokenizer *t = NULL;
  if (!buf_read_file(&text, path))
    buf_printf(why, "%s: cannot be read: %s", path, strerror(errno));
  else
    t = tok_parse(text.data ? text.data : "", text.len, path, why);
  buf_free(&text);
  return t;
}
