/* The evaluator's own parts: what the file per group of operations (eval_*.c) gets and gives. */
#ifndef IR_EVAL_INTERNAL_H
#define IR_EVAL_INTERNAL_H

#include "ir/ir.h"

/* One node to compute. Every tensor is dense and row-major; i32 and bool are whole numbers in
 * doubles. */
typedef struct EvalStep {
  const Graph *graph;
  const Node *n;
  EvalMode mode;
  const double *src[IR_MAX_SRC];
  double *out;
  int64_t count;      /* elements of out */
  const double *feed; /* param, state, input: the value given */
} EvalStep;

/* One function per operation. A new operation without one does not link. */
#define OP(name, sources, rule, attribute, flags, meaning) void eval_##name(EvalStep *);
#include "ir/ops.def"
#undef OP

/* 32-bit wrap of a whole number */
static inline double eval_wrap(int64_t x) { return (double)(int32_t)(uint32_t)(uint64_t)x; }

/* What a 16-bit or f32 operation leaves in memory: computed in f32, then rounded to the type. */
double eval_narrow(DType, double);

static inline const Type *eval_src_type(const EvalStep *s, int i) { return &s->n->src[i]->type; }

/* For each element of `dim` in row-major order: its place in out by `out_stride` and in x by
 * `x_stride`, in elements. */
typedef struct EvalWalk {
  int rank;
  int64_t dim[IR_MAX_RANK], a[IR_MAX_RANK], b[IR_MAX_RANK]; /* lengths, strides of two tensors */
} EvalWalk;
/* Calls `row` for each innermost run: n elements, from places pa and pb with steps sa and sb. */
void eval_walk(const EvalWalk *,
               void (*row)(void *ctx, int64_t n, int64_t pa, int64_t sa, int64_t pb, int64_t sb),
               void *ctx);

#endif
