/* vjp: what a gradient rule that is a function sees (autodiff.c, vjp_shape.c; private). */
#ifndef PASSES_VJP_H
#define PASSES_VJP_H

#include "ir/ir.h"

typedef struct VjpCall {
  Graph *g;
  Node *node; /* types and attributes are read here; values through vjp_src and vjp_out */
  int which;  /* the source whose cotangent is asked for */
  Node *grad; /* cotangent of node */
  struct Autodiff *ad;
} VjpCall;

/* A source's value, or the node's own, as the backward pass has it: recomputed inside checkpoint
 * regions. Asking for a value is what makes it needed. */
Node *vjp_src(const VjpCall *, int i);
Node *vjp_out(const VjpCall *);

typedef Node *VjpFn(const VjpCall *); /* cotangent of source `which`, of its type; NULL: none */
VjpFn vjp_cast, vjp_reduce_sum, vjp_reduce_prod, vjp_reduce_extreme, vjp_cumsum, vjp_matmul,
  vjp_attention, vjp_reshape, vjp_expand, vjp_permute, vjp_slice, vjp_pad, vjp_concat, vjp_gather,
  vjp_scatter_add, vjp_cross_entropy, vjp_rope;

#endif
