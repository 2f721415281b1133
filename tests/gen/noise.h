/* noise: what a device's rounding may do to a graph's results, from what each operation may err by.
 *
 * noise_graph writes the graph out several times over, each copy with an error of its own after
 * each operation, as large as a device's may be and of random sign: how far the copies' results are
 * from the exact ones tells the errors to expect, whatever cancels, grows, or falls to the other
 * side of a comparison on the way. What the graph keeps between runs is kept by each copy for
 * itself.
 *
 *   Graph *noisy = noise_graph(g);
 *   feed = noise_feeds(arena, noisy, feed, n_feed, &n_feed);
 *   ... evaluate all outputs of `noisy` in f64, as often as g is run: result[] ...
 *   bound = noise_bound(arena, result, i), exact = result[i * NOISE_COPIES], of g's output i */
#ifndef TESTS_GEN_NOISE_H
#define TESTS_GEN_NOISE_H

#include "ir/ir.h"

enum {
  NOISE_COPIES = 11
}; /* without errors, with all upward, with all downward and no subnormals, 8 at random */

/* Output i · NOISE_COPIES + c is output i of `g` from copy c; a last one updates the noise's state. */
Graph *noise_graph(const Graph *g);
/* Those given, of all copies, and the noise's. */
Feed *noise_feeds(Arena *, const Graph *noisy, const Feed *, int n_feed, int *n);
/* By element, what |result − exact| may be: twice what any copy has; infinite where one is NaN. What
 * an output of a 16-bit type is rounded by at last is not in it. */
Tensor noise_bound(Arena *, const Tensor *result, int output);

#endif
