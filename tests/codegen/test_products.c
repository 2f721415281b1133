/* Products by every kernel but those for matrix units. test_products [TITLE …]: only the epilogues of these titles */
#include "tests/codegen/products.h"

int main(int argc, char **argv) { return bench_main(products_any, argc, argv); }
