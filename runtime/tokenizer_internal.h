/* What encoding and training of tokenizers share. */
#ifndef RUNTIME_TOKENIZER_INTERNAL_H
#define RUNTIME_TOKENIZER_INTERNAL_H

#include "runtime/tokenizer.h"

typedef struct TokPiece {
  const char *text; /* in the arena; may hold NUL */
  size_t bytes;
} TokPiece;

struct Tokenizer {
  Arena *arena;
  TokKind kind;
  TokPiece *piece; /* by id; none for byte */
  int32_t n, cap;
  int32_t unknown; /* the id of <unk>, which is 0, or −1; <unk> is never found by its text */
  int32_t *slot;   /* open addressing: text → id, −1 where free */
  size_t n_slot;   /* a power of two, more than half free */
};

Tokenizer *tok_new(TokKind);
int32_t tok_add(Tokenizer *, const char *piece, size_t bytes); /* gives it the next id */
/* −1 where unknown; needs at least one tok_add */
int32_t tok_find(const Tokenizer *, const char *piece, size_t bytes);
void tok_normalise(const char *text, size_t bytes, Buf *out); /* NFC of valid UTF-8, appended */
/* bytes of the piece that the text begins with */
size_t tok_piece(TokKind, const char *text, size_t bytes);

#endif
