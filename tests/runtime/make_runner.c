/* make_runner STUB OUT [DAMAGE]: a runner with the sample image. DAMAGE: edited, truncated,
 * trailer, target; targets: nothing damaged, the sample for several. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/runtime/sample.h"

static void put64(Buf *b, uint64_t x) {
  for (int i = 0; i < 8; i++) buf_put(b, &(char){(char)(x >> 8 * i)}, 1);
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  const char *damage = argc > 3 ? argv[3] : "";
  Buf out = {0};
  if (!buf_read_file(&out, argv[1])) return 1;
  while (out.len % IMG_ALIGN) buf_put(&out, "", 1);
  Arena *a = arena_new();
  Image *m = sample_image(a);
  if (strcmp(damage, "target") == 0)
    m->target = (ImgTarget){.name = "giant", .subgroup_size = 64, .shared_bytes = 1u << 28};
  size_t n, at = out.len;
  bool several = strcmp(damage, "targets") == 0;
  char *image = sample_bytes(a, several ? sample_targets(a) : m, several ? SAMPLE_TARGETS : 1, &n);
  if (strcmp(damage, "edited") == 0) image[n / 2] ^= 4;
  if (strcmp(damage, "truncated") == 0) n -= 100;
  buf_put(&out, image, n);
  put64(&out, strcmp(damage, "trailer") == 0 ? 1ull << 40 : at);
  put64(&out, n);
  buf_str(&out, IMG_TRAILER);
  FILE *f = fopen(argv[2], "wb");
  bool ok =
    f && fwrite(out.data, out.len, 1, f) == 1 && fclose(f) == 0 && chmod(argv[2], 0755) == 0;
  buf_free(&out);
  arena_free(a);
  return ok ? 0 : 1;
}
