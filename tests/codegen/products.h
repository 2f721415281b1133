/* Products and what kernels compute from them, against the evaluator. */
#ifndef TESTS_CODEGEN_PRODUCTS_H
#define TESTS_CODEGEN_PRODUCTS_H

#include "tests/codegen/check.h"

/* Every epilogue, of operands of all types; with arguments only those of these titles
 * (batches: what needs several dimensions). */
void products_any(Bench *, const Target *, int argc, char **argv);
/* Every tile in workgroup memory, of GPUs without matrix units. */
void products_tiles(Bench *, const Target *gpu);
/* n products of 16-bit operands drawn by a seed: epilogue, sizes, transpositions, form of the
 * kernel; and some with batches. */
void products_16(Bench *, const Target *, DType, uint32_t seed, int n);

/* ---- prologues.c ---- */
/* n products drawn by a seed whose operands are computed, rounded to the type; by several forms of their kernel. */
void prologues_any(Bench *, const Target *, DType, uint32_t seed, int n);

#endif
