/* Products on matrix units: drawn sizes, transpositions and epilogues, f16 and bf16, each with another of the tiles that fit.
 * test_coop_matmul [SEED [N]] */
#include "tests/codegen/products.h"

#include <stdlib.h>

int main(int argc, char **argv) {
  Bench b;
  Buf why = {0};
  uint32_t seed = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 0) : 1;
  int n = argc > 2 ? atoi(argv[2]) : 10;
  if (!bench_open(&b, &why)) {
    printf("skipped: no Vulkan device: %s\n", why.data);
    return 0;
  }
  Target target = b.native;
  target.is_cpu = false;         /* on CPU drivers other kernels are faster, and chosen */
  target.shared_bytes = 6 << 10; /* small tiles: CPU drivers take long over large ones */
  if (!target.matrix_f16.m && !target.matrix_bf16.m) printf("skipped: no matrix units\n");
  for (int i = 0; i < 2; i++) {
    DType d = i ? DT_bf16 : DT_f16;
    if (i ? target.matrix_bf16.m : target.matrix_f16.m) {
      products_16(&b, &target, d, seed, n);
      prologues_any(&b, &target, d, seed, n);
    }
  }
  printf("seed %u: %d kernels, %d wrong\n", seed, b.kernels, b.wrong);
  bench_close(&b);
  return b.wrong != 0;
}
