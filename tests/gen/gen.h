/* gen: the generated cases that gradients, kernels and the text form are tested on. One table for all of them, expanded from
 * ops.def: an operation without cases does not link.
 *
 *   for (int op = 0; op < OP_COUNT; op++)
 *     for (int i = 0; i < gen_count(op); i++) {
 *       GenFeed feed;
 *       Graph *g = gen_case(op, i, &feed);
 *       ... ir_eval(arena, g, mode, feed.feed, feed.n, &ir_find_output(g, "y")->node, 1, &result, &why) ...
 *       graph_free(g);
 *     }
 *
 * Ranks 0 to 4, lengths of 1, odd lengths and lengths past a workgroup, every axis, sources that are dense, expanded, permuted,
 * sliced or a broadcast scalar; i32, bool, f16 and bf16 where the operation takes them. Everything is a function of
 * (op, i) alone: the same numbers each time, on each machine. Inputs are values of their type (f32 numbers for f32). */
#ifndef TESTS_GEN_GEN_H
#define TESTS_GEN_GEN_H

#include "ir/ir.h"

enum {
  GEN_OPS = OP_matmul_spans
}; /* programs are drawn from the operations before; the planner makes the others */

enum {
  /* The float leaves lie where the function is smooth, at a distance of at least 0.02 from any kink
   * or pole: for central differences in f64 by every leaf of float type (i32 and bool leaves stay
   * fixed). Only where the op has IR_DIFF, and neither for stop_gradient, whose gradient is not the
   * derivative, nor for cast, which rounds to 16 bits in f64 too. */
  GEN_smooth = 1,
  /* Values at the edges: ±0, ±inf, NaN, subnormal, largest, halves, ids out of range. Subnormal
   * inputs or results may be flushed to zero by a device. Never smooth. */
  GEN_boundary = 2,
  /* The result must have the evaluator's (f32 mode) bits: data movement, comparisons, integers, and
   * arithmetic on small whole numbers, where no rounding happens. */
  GEN_exact = 4
};

enum { GEN_MAX_FEEDS = 8, GEN_PROGRAMS = 240 };

typedef struct GenFeed {
  unsigned flags;
  const char *title;        /* for messages: "reduce_sum 7: f32[3,1]"; lives in the graph's arena */
  int n;                    /* values of the graph's param, state and input nodes; */
  Feed feed[GEN_MAX_FEEDS]; /* their data lives in the graph's arena: writable through gen_data */
} GenFeed;

int gen_count(Op);
/* Case i of an operation: the graph's only output "y" is a node of that op (for leaves too). */
Graph *gen_case(Op, int i, GenFeed *);
/* A small random program of several operations with shared subexpressions and one to four outputs
 * "y0", "y1", …: for fusion, planning, text. 0 <= i < GEN_PROGRAMS; values stay within some tens.
 * Every second one is GEN_smooth. */
Graph *gen_program(int i, GenFeed *);
/* The value of a node of the attention family from primitives (with its T×T matrix); or, for bounds
 * of errors, the same sum over the magnitudes of its terms. */
Node *gen_attention_definition(Graph *, const Node *, bool magnitudes);
double *gen_data(const GenFeed *, int i); /* the values of feed[i], to change them in place */

#endif
