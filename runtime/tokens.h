/* tokens: which tokenizer a command uses, and whether the model can take its ids. */
#ifndef RUNTIME_TOKENS_H
#define RUNTIME_TOKENS_H

#include "runtime/runtime.h"
#include "runtime/safetensors.h"
#include "runtime/tokenizer.h"

/* spec: "byte"; "char" or "word", made from the texts of `file`, where there are any; a tokenizer's
 * file; NULL: the one that `weights` (may be NULL) was trained with, else byte. One with more ids
 * than the model's vocabulary is refused. NULL with `why`. */
Tokenizer *choose_tokenizer(const Image *, const char *spec, const Safetensors *weights,
                            const char *const *file, int n_file, Buf *why);
/* One made from the files' texts together; see tok_train. */
Tokenizer *tokenizer_from_files(TokKind, const char *const *file, int n_file, int64_t max_vocab,
                                Buf *why);
TokKind tok_kind_by_name(const char *); /* TOK_KINDS where there is none */

#endif
