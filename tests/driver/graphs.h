/* Graphs that the planner's and the device's tests share. */
#ifndef TESTS_DRIVER_GRAPHS_H
#define TESTS_DRIVER_GRAPHS_H

#include "ir/ir.h"

/* plans/<name>.ir, each with its plan as plans/<name>.plan; for a CPU driver, those named gpu_…,
 * tiles_… or units_… for a GPU */
#define GRAPHS(X)                                                                                  \
  X(chain)                                                                                         \
  X(softmax)                                                                                       \
  X(rsqrt)                                                                                         \
  X(mlp)                                                                                           \
  X(swap)                                                                                          \
  X(update)                                                                                        \
  X(reversed)                                                                                      \
  X(aliases)                                                                                       \
  X(checkpoint)                                                                                    \
  X(attention) X(concat) X(operands) X(reuse) X(one_row) X(long_sums) X(runs) X(levels)            \
    X(side_by_side) X(gpu_side_by_side) X(gpu_columns) X(units_parts) X(units_beside) X(prologue)  \
      X(no_prologue) X(gpu_prologue) X(tiles_attention)

/* Every param and state gets a random node of its type as its next value. */
void add_updates(Graph *, uint32_t seed);

#endif
