/* Products by every kernel but those for matrix units. test_products [TITLE …]: only the epilogues of these titles; tiles: only
 * the tiles in workgroup memory */
#include "tests/codegen/products.h"

#include <string.h>

static void everything(Bench *b, const Target *target, int argc, char **argv) {
  bool gpu = !target->is_cpu && target->subgroup_size;
  products_any(b, target, argc, argv);
  bool other = target != &b->native && target->matrix_bf16.m; /* the same tiles again */
  if (gpu && !other && (argc == 1 || strcmp(argv[1], "tiles") == 0)) products_tiles(b, target);
}

int main(int argc, char **argv) { return bench_main(everything, argc, argv); }
