/* generator: the logits after a row of tokens, by running forward over all of them. */
#ifndef RUNTIME_GENERATOR_H
#define RUNTIME_GENERATOR_H

#include "runtime/vk/vk.h"

typedef struct Generator Generator;
/* NULL with `why` where the image has no program forward.<t>. */
Generator *generator_new(Exec *, const Image *, Buf *why);
void generator_free(Generator *);
int64_t generator_context(const Generator *); /* the largest t */
int64_t generator_vocab(const Generator *);

/* Runs the smallest forward.<t> that holds the tokens; what fills the rest cannot matter
 * (generator_check). Of more tokens than the context the last are taken. The vocab logits after the
 * last token; valid until the next call. NULL with `why`. */
const float *generator_next(Generator *, const int32_t *token, int64_t n, Buf *why);

/* Is forward causal? Runs it twice on these tokens with different ones behind: the logits at the
 * tokens' places must be equal bit for bit. False with `why` where they are not. */
bool generator_check(Generator *, const int32_t *token, int64_t n, Buf *why);

#endif
