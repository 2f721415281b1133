/* tokenizer: text ↔ token ids. Three kinds:
 *   byte  256 ids, one per byte; takes any bytes
 *   char  one id per Unicode code point of the text's NFC form, ids by ascending code point
 *   word  words, runs of one white-space character, single other characters; id 0 is <unk>, the
 * others by falling frequency decode(encode(text)) is the text, byte for byte, for byte; its NFC
 * form for char, and for word where nothing became <unk>. */
#ifndef RUNTIME_TOKENIZER_H
#define RUNTIME_TOKENIZER_H

#include "base/base.h"

typedef enum TokKind { TOK_byte, TOK_char, TOK_word, TOK_KINDS } TokKind;
extern const char *const tok_kind_name[TOK_KINDS];

typedef struct TokIds { /* malloc'ed; start from {0}, end with free(id) */
  int32_t *id;
  int64_t n, cap;
} TokIds;
void tok_push(TokIds *, int32_t id);

typedef struct Tokenizer Tokenizer;
Tokenizer *tok_byte(void);
/* From text; `name` is what messages call it. At most max_vocab ids (0: no limit): word leaves the
 * rarest out, char refuses. */
Tokenizer *tok_train(TokKind, const char *text, size_t bytes, int64_t max_vocab, const char *name,
                     Buf *why);
Tokenizer *tok_parse(const char *json, size_t bytes, const char *name, Buf *why);
Tokenizer *tok_load(const char *path, Buf *why);
void tok_json(const Tokenizer *, Buf *out);
void tok_free(Tokenizer *);

TokKind tok_kind(const Tokenizer *);
int64_t tok_size(const Tokenizer *); /* ids are 0 … size−1 */
/* Appends the ids of the text. False where it is not UTF-8 (byte takes it) or holds a character
 * that char does not know: `why` names the place. */
bool tok_encode(const Tokenizer *, const char *text, size_t bytes, const char *name, TokIds *out,
                Buf *why);
/* The text of one id; ids outside 0 … size−1 give U+FFFD. */
void tok_decode(const Tokenizer *, int32_t id, Buf *out);

/* false where it is not UTF-8, with the place */
bool utf8_check(const char *text, size_t bytes, const char *name, Buf *why);
/* How many of the bytes end at a character's end: what remains may be the beginning of a character.
 * Bytes that no continuation can make valid count as characters of one byte. */
size_t utf8_whole(const char *text, size_t bytes);
/* Copies the text with U+FFFD for every byte that is not UTF-8. */
void utf8_clean(const char *text, size_t bytes, Buf *out);

#endif
