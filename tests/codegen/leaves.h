/* Operands of the kernels' tests. */
#ifndef TESTS_CODEGEN_LEAVES_H
#define TESTS_CODEGEN_LEAVES_H

#include "ir/ir.h"

uint32_t noise(uint32_t i); /* a hash: Wang's */
/* An input with numbers from lo to below hi, in its type's precision, whole ones for integers; its feed is
 * added to the *n_feed that are there. */
Node *uniform_leaf(Graph *, Arena *, Feed *feed, int *n_feed, Type, double lo, double hi);
/* The same with whole numbers from −3 to 3, of integers any from 0 to 2^24: small products and sums of them are exact,
 * and a wrong element of thousands shows. */
Node *whole_leaf(Graph *, Arena *, Feed *feed, int *n_feed, Type);

#endif
