/* libFuzzer's driver for the image reader. The header's length and hash are mended, so that what
 * follows is reached. Without ALPHAC_FUZZ it is linked with replay.c, which runs it over files that
 * a fuzzer found worth keeping. */
#include <stdlib.h>
#include <string.h>

#include "tests/image/walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
  void *copy;
  if (posix_memalign(&copy, IMG_ALIGN, n)) return 0;
  memcpy(copy, data, n);
  image_mend(copy, n);
  Arena *a = arena_new();
  Buf why = {0};
  uint32_t targets;
  const Image *m = image_read(a, copy, n, &targets, &why);
  for (uint32_t i = 0; m && i < targets; i++) image_walk(&m[i]);
  if (!m && !why.len) abort();
  buf_free(&why);
  arena_free(a);
  free(copy);
  return 0;
}
