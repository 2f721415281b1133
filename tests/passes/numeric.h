/* numeric: symbolic gradients against central differences, both on the reference evaluator in
 * f64. */
#ifndef TESTS_PASSES_NUMERIC_H
#define TESTS_PASSES_NUMERIC_H

#include "ir/ir.h"

enum { NUMERIC_MAX_FEEDS = 4096 };

/* Whether grad[i] is d loss / d wrt[i] (float leaves that have feeds): for each, ‖Δ‖ ≤ 1e-6 ·
 * max(‖g‖, 1e-3 · the norm of all gradients, 1e-5), norms over at most `places` coordinates spread
 * over the leaf. A sixth-order difference with steps of 1e-3 · |x|, from 1e-3 to 5e-3, so what is
 * compared is right to about 1e-11. The first failure is told in `why`. */
bool gradients_match(const Graph *, Node *loss, Node *const *wrt, Node *const *grad, int n_wrt,
                     const Feed *, int n_feed, int places, Buf *why);

#endif
