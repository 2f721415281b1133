/* The rule by which train, eval and generate find their tokenizer. */
#include "runtime/tokens.h"
#include "runtime/checkpoint.h"

#include <errno.h>
#include <string.h>

TokKind tok_kind_by_name(const char *name) {
  int k = 0;
  while (k < TOK_KINDS && strcmp(name, tok_kind_name[k]) != 0) k++;
  return (TokKind)k;
}

Tokenizer *tokenizer_from_files(TokKind kind, const char *const *file, int n_file,
                                int64_t max_vocab, Buf *why) {
  Buf text = {0};
  Tokenizer *t = NULL;
  bool ok = true;
  for (int i = 0; i < n_file && ok; i++) {
    size_t before = text.len;
    ok = buf_read_file(&text, file[i]);
    if (!ok)
      buf_printf(why, "%s: cannot be read: %s", file[i], strerror(errno));
    else if (kind != TOK_byte)
      ok = utf8_check(text.data + before, text.len - before, file[i], why);
  }
  if (ok) t = tok_train(kind, text.data ? text.data : "", text.len, max_vocab, file[0], why);
  buf_free(&text);
  return t;
}

/* Ids of another tokenizer mean other things to the weights: allowed, but not in silence. */
static void note_other(const Safetensors *weights, const Tokenizer *t) {
  Buf ignored = {0}, own = {0}, given = {0};
  Tokenizer *theirs = NULL;
  if (t && weights && checkpoint_tokenizer(weights, &theirs, &ignored) && theirs) {
    tok_json(theirs, &own);
    tok_json(t, &given);
    if (strcmp(own.data, given.data) != 0)
      fprintf(stderr, "note: %s was trained with another tokenizer than that of --tokenizer\n",
              st_path(weights));
  }
  tok_free(theirs);
  buf_free(&ignored);
  buf_free(&own);
  buf_free(&given);
}

Tokenizer *choose_tokenizer(const Image *image, const char *spec, const Safetensors *weights,
                            const char *const *file, int n_file, Buf *why) {
  int64_t vocab = image_vocab(image);
  TokKind kind = spec ? tok_kind_by_name(spec) : TOK_KINDS;
  Tokenizer *t = NULL;
  if (!spec) {
    if (weights && !checkpoint_tokenizer(weights, &t, why)) return NULL;
    if (!t) t = tok_byte();
  } else if (kind == TOK_byte) {
    t = tok_byte();
  } else if (kind == TOK_KINDS) {
    t = tok_load(spec, why);
  } else if (!n_file) {
    buf_printf(why,
               "--tokenizer %s has no text to be made from: name a tokenizer's file, as 'tokenizer "
               "train' writes it",
               spec);
  } else {
    t = tokenizer_from_files(kind, file, n_file, kind == TOK_word ? vocab : 0, why);
  }
  if (!t || !vocab || tok_size(t) <= vocab) {
    if (spec) note_other(weights, t);
    return t;
  }
  buf_printf(why,
             "the %s tokenizer has %lld ids and the model's vocabulary %lld: compile the model "
             "with -D vocab=%lld",
             tok_kind_name[tok_kind(t)], (long long)tok_size(t), (long long)vocab,
             (long long)tok_size(t));
  tok_free(t);
  return NULL;
}
