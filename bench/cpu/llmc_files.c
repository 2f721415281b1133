/* The files that llm.c's train_gpt2 reads, with made-up contents, in the folder given:
 *   gpt2_124M.bin                             GPT-2 124M with random weights
 *   dev/data/tinyshakespeare/…_{train,val}.bin  tokens
 * A file begins with 256 i32: magic, version, then sizes. Weights follow as f32, tensor after
 * tensor, layers together; tokens as u16. */
#include "base/base.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

enum {
  HEAD = 256,
  CONTEXT = 1024,
  VOCAB = 50257,
  VOCAB_PADDED = 50304,
  LAYERS = 12,
  HEADS = 12,
  WIDTH = 768,
  TOKENS = 1 << 15
};
enum { MODEL_MAGIC = 20240326, MODEL_VERSION = 3, TOKENS_MAGIC = 20240520, TOKENS_VERSION = 1 };

static void must(bool ok, const char *path) {
  if (ok) return;
  fprintf(stderr, "llmc_files: cannot write %s: %s\n", path, strerror(errno));
  _Exit(1);
}

static void put(FILE *f, const char *path, const void *data, size_t bytes) {
  must(fwrite(data, 1, bytes, f) == bytes, path);
}

static FILE *begin(const char *path, const int32_t *head, int n) {
  int32_t whole[HEAD] = {0};
  memcpy(whole, head, sizeof *head * (size_t)n);
  FILE *f = fopen(path, "wb");
  must(f != NULL, path);
  put(f, path, whole, sizeof whole);
  return f;
}

/* Normal numbers of this deviation (Box and Muller 1958), or `mean` alone where it is 0. */
static void put_weights(FILE *f, const char *path, uint32_t tensor, size_t n, float mean,
                        float deviation) {
  const uint32_t key[2] = {tensor, 0};
  float block[4096];
  for (size_t done = 0; done < n;) {
    size_t m = n - done < 4096 ? n - done : 4096;
    for (size_t i = 0; i < m; i += 2) {
      uint32_t counter[4] = {(uint32_t)(done + i), (uint32_t)((uint64_t)(done + i) >> 32), 0, 0};
      uint32_t r[4];
      if (deviation > 0) philox4x32(counter, key, r);
      float radius = deviation > 0 ? sqrtf(-2 * logf(((float)(r[0] >> 8) + 1) * 0x1p-24f)) : 0;
      float angle = deviation > 0 ? 6.2831853f * (float)(r[1] >> 8) * 0x1p-24f : 0;
      block[i] = mean + deviation * radius * cosf(angle);
      block[i + 1] = mean + deviation * radius * sinf(angle);
    }
    put(f, path, block, sizeof *block * m);
    done += m;
  }
}

static void write_model(const char *path) {
  const int32_t head[] = {MODEL_MAGIC, MODEL_VERSION, CONTEXT, VOCAB,
                          LAYERS,      HEADS,         WIDTH,   VOCAB_PADDED};
  const size_t l = LAYERS, w = WIDTH;
  const struct {
    size_t n;
    float mean, deviation;
  } tensor[] = {
    {VOCAB_PADDED * w, 0, 0.02f}, /* token embedding, and head */
    {CONTEXT * w, 0, 0.02f},      /* position embedding */
    {l * w, 1, 0},
    {l * w, 0, 0}, /* first norm */
    {l * 3 * w * w, 0, 0.02f},
    {l * 3 * w, 0, 0}, /* q, k, v */
    {l * w * w, 0, 0.004f},
    {l * w, 0, 0}, /* attention's projection */
    {l * w, 1, 0},
    {l * w, 0, 0}, /* second norm */
    {l * 4 * w * w, 0, 0.02f},
    {l * 4 * w, 0, 0}, /* wide */
    {l * w * 4 * w, 0, 0.004f},
    {l * w, 0, 0}, /* and narrow again */
    {w, 1, 0},
    {w, 0, 0}, /* last norm */
  };
  FILE *f = begin(path, head, COUNT_OF(head));
  for (int i = 0; i < COUNT_OF(tensor); i++)
    put_weights(f, path, (uint32_t)i, tensor[i].n, tensor[i].mean, tensor[i].deviation);
  must(fclose(f) == 0, path);
}

static void write_tokens(const char *path, uint32_t seed) {
  const int32_t head[] = {TOKENS_MAGIC, TOKENS_VERSION, TOKENS};
  const uint32_t key[2] = {seed, 1};
  uint16_t token[TOKENS];
  for (uint32_t i = 0; i < TOKENS; i++) {
    const uint32_t counter[4] = {i, 0, 0, 0};
    uint32_t r[4];
    philox4x32(counter, key, r);
    token[i] = (uint16_t)(r[0] % VOCAB);
  }
  FILE *f = begin(path, head, COUNT_OF(head));
  put(f, path, token, sizeof token);
  must(fclose(f) == 0, path);
}

int main(int argc, char **argv) {
  if (argc != 2) return fprintf(stderr, "usage: llmc_files FOLDER\n"), 2;
  static const char *const folder[] = {"dev", "dev/data", "dev/data/tinyshakespeare"};
  Arena *a = arena_new();
  for (int i = 0; i < COUNT_OF(folder); i++) {
    const char *path = arena_printf(a, "%s/%s", argv[1], folder[i]);
    must(mkdir(path, 0777) == 0 || errno == EEXIST, path);
  }
  write_model(arena_printf(a, "%s/gpt2_124M.bin", argv[1]));
  write_tokens(arena_printf(a, "%s/%s/tiny_shakespeare_train.bin", argv[1], folder[2]), 1);
  write_tokens(arena_printf(a, "%s/%s/tiny_shakespeare_val.bin", argv[1], folder[2]), 2);
  arena_free(a);
  return 0;
}
