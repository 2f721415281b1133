/* Products by every kernel but those for matrix units. test_products [TITLE …]: only the epilogues of these titles; tiles: only
 * the tiles in workgroup memory; prologues [SEED [N]]: only computed operands */
#include "tests/codegen/products.h"

#include <stdlib.h>
#include <string.h>

static void prologues(Bench *b, const Target *target, int argc, char **argv) {
  uint32_t seed = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 0) : 1;
  int n = argc > 3 ? atoi(argv[3]) : 20;
  prologues_any(b, target, DT_f32, seed, n);
  prologues_any(b, target, DT_bf16, seed, n / 3);
}

static void everything(Bench *b, const Target *target, int argc, char **argv) {
  bool gpu = !target->is_cpu && target->subgroup_size;
  if (argc > 1 && strcmp(argv[1], "prologues") == 0) {
    prologues(b, target, argc, argv);
    return;
  }
  products_any(b, target, argc, argv);
  if (argc == 1) prologues(b, target, argc, argv);
  bool other = target != &b->native && target->matrix_bf16.m; /* the same tiles again */
  if (gpu && !other && (argc == 1 || strcmp(argv[1], "tiles") == 0)) products_tiles(b, target);
}

int main(int argc, char **argv) { return bench_main(everything, argc, argv); }
