/* libFuzzer's driver for the safetensors reader and for the tokenizers' JSON, which checkpoints
 * carry. Whatever is accepted is read whole. Without ALPHAC_FUZZ it is linked with
 * tests/image/replay.c, which runs it over the corpus. */
#include "runtime/safetensors.h"
#include "runtime/tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void read_all(const Safetensors *st) {
  Buf why = {0};
  for (int i = 0; i < st_count(st); i++) {
    const StTensor *t = st_tensor(st, i);
    void *to = malloc((size_t)t->count * 4 + 1);
    st_read_f32(st, t, 0, t->count, to, &why);
    st_read_i32(st, t, 0, t->count, to, &why);
    st_read_device(st, t, IMG_f16, to, &why);
    if (!st_find(st, t->name)) abort();
    free(to);
  }
  st_verify(st, &why);
  buf_free(&why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  Buf why = {0};
  Safetensors *st = st_parse(data, n, "input", &why);
  if (st)
    read_all(st);
  else if (!why.len)
    abort();
  st_close(st);
  buf_clear(&why);
  Tokenizer *t = tok_parse((const char *)data, n, "input", &why);
  if (t) {
    Buf json = {0};
    TokIds ids = {0};
    tok_json(t, &json);
    Tokenizer *again = tok_parse(json.data, json.len, "printed", &why);
    if (!again) abort();
    tok_encode(t, (const char *)data, n, "input", &ids, &why);
    for (int64_t i = 0; i < ids.n; i++)
      if (ids.id[i] < 0 || ids.id[i] >= tok_size(t)) abort();
    free(ids.id);
    buf_free(&json);
    tok_free(again);
  } else if (!why.len) {
    abort();
  }
  tok_free(t);
  buf_free(&why);
  return 0;
}
