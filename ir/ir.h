/* ir: the tensor graph. Nodes are immutable and hash-consed in the graph's arena; a node's id is
 * its place in a topological order, so sources come first. A pass takes a graph and returns one.
 * Facts about nodes are side arrays by id. */
#ifndef IR_IR_H
#define IR_IR_H

#include "base/base.h"

enum { IR_MAX_RANK = 8, IR_MAX_SRC = 64 };
#define IR_MAX_ELEMENTS ((int64_t)1 << 31) /* of one tensor: kernels index with 32 bits */

typedef enum DType { DT_bool, DT_i32, DT_f16, DT_bf16, DT_f32, DT_COUNT } DType;
/* An operation of 16-bit type computes in f32 and rounds its result. In device memory bool takes 4 bytes, 0 or 1,
 * and f16 and bf16 take 2 where the target's buffers can hold such elements, else 4, as the f32 that they
 * round to (cg_element_bytes). */

typedef struct Type {
  uint8_t dtype; /* DType */
  uint8_t rank;
  int64_t dim[IR_MAX_RANK]; /* each >= 1; zero past rank */
} Type;

typedef enum Op {
#define OP(name, sources, rule, attribute, flags, meaning) OP_##name,
#include "ir/ops.def"
#undef OP
  OP_COUNT
} Op;

/* What a node carries beside its sources; where in the node. */
typedef enum AttrKind {
  ATTR_none,
  ATTR_value,    /* value */
  ATTR_name,     /* name */
  ATTR_axes,     /* ints = the axes, ascending */
  ATTR_axis,     /* ints = {axis} */
  ATTR_scan,     /* ints = {axis, reverse 0 or 1} */
  ATTR_perm,     /* ints = permutation, one per dimension */
  ATTR_range,    /* ints = begin per dimension, then end per dimension */
  ATTR_padding,  /* ints = lo per dimension, then hi per dimension; value = fill */
  ATTR_place,    /* ints = {place}: distinguishes calls of random */
  ATTR_norm,     /* ints = the axes, ascending; value = eps */
  ATTR_layout,   /* ints = {0: pairs in halves, 1: interleaved} */
  ATTR_spans,    /* ints = {spans, rows of a tile, columns of a tile, terms of a step} */
  ATTR_attention /* AttentionAttr: read by ir_attention, made by ir_attend */
} AttrKind;

enum {
  IR_EW = 1,
  IR_COMM = 2,
  IR_VIEW = 4,
  IR_EFFECT = 8,
  IR_DIFF = 16,
  IR_LEAF = 32,
  IR_RAISED = 64
};

typedef struct OpInfo {
  const char *name;
  int n_src; /* -1: any */
  AttrKind attr;
  unsigned flags;
  bool given; /* the type is not inferred: it must be told */
  const char *meaning;
} OpInfo;
extern const OpInfo ir_op[OP_COUNT];
Op ir_op_by_name(const char *name); /* OP_COUNT where there is none */

typedef struct SrcLoc {
  const char *file; /* interned; NULL: none */
  int line, col;    /* from 1; col counts bytes */
  const char
    *module; /* path of the module it was elaborated in, interned; NULL: none. Not in texts */
} SrcLoc;

typedef struct Node Node;
struct Node {
  int id;
  Op op;
  Type type;
  int n_src, n_int;
  Node **src;
  int64_t *ints;
  double value;
  const char *name; /* interned */
  int region; /* 0: none; r > 0: inside checkpoint() call r; −r: recomputed copy of it for the
                 backward pass */
  /* not part of the identity: */
  const char *label; /* source name, interned; may be NULL */
  SrcLoc loc;
};

/* What a node carries, when asking for one; zero what its AttrKind does not use. */
typedef struct Attr {
  double value;
  const char *name;
  int n_int;
  int64_t ints[2 * IR_MAX_RANK];
} Attr;

typedef enum OutKind {
  OUT_value, /* handed to the caller under its name */
  OUT_update /* becomes the value of the param or state of that name when the program has run */
} OutKind;

typedef struct Output {
  OutKind kind;
  const char *name;
  Node *node;
} Output;

typedef struct Graph {
  Arena *arena;
  const char *name;
  Node **node; /* by id */
  int n_node;
  Output *output;
  int n_output;
  /* what ir_make gives to the nodes that it makes */
  int region;
  SrcLoc loc;
  struct ConsTable *cons;
} Graph;

/* ---- graph.c ---- */
Graph *graph_new(const char *name);
void graph_free(Graph *);
/* The node {op, type, attributes, sources}; an existing equal one where there is one. Commuting
 * sources are ordered by id. `given` is needed exactly where ir_op[op].given. An ill-typed request
 * is a bug: dies naming it. `attr` may be NULL. */
Node *ir_make(Graph *, Op, const Type *given, const Attr *attr, int n_src, Node *const *src);
void ir_output(Graph *, OutKind, const char *name, Node *);
const Output *ir_find_output(const Graph *, const char *name); /* NULL where there is none */
/* `old` with other sources, in `g` (which may be another graph); keeps label, location and
 * region. */
Node *ir_rebuild(Graph *g, const Node *old, Node *const *src);
/* A copy of `g` with only the nodes that outputs need, in topological order. */
Graph *graph_copy(const Graph *);
/* Of all that ir_print shows: equal graphs of one process, equal hashes. */
uint64_t graph_hash(const Graph *);

/* ---- infer.c ---- */
/* The type of such a node, or false with the reason, one line, appended to `why`. Checks everything
 * that the verifier demands of one node: counts, types, shapes, attributes, sizes. */
bool ir_infer(Op, const Type *given, const Attr *attr, int n_src, Node *const *src, Type *out,
              Buf *why);

/* ---- type.c ---- */
Type type_of(DType, int rank, const int64_t *dim);
Type type_scalar(DType);
bool type_eq(const Type *, const Type *);
bool shape_eq(const Type *, const Type *);
int64_t type_count(const Type *);     /* elements */
void type_print(Buf *, const Type *); /* f32[4,16] */
const char *dtype_name(DType);
bool dtype_by_name(const char *, DType *);
bool dtype_is_float(DType);
bool dtype_is_16(DType);           /* f16, bf16 */
double dtype_round(DType, double); /* the nearest value of that type; i32 wraps to 32 bits */
void shape_strides(const Type *, int64_t *stride); /* row-major, in elements */

/* ---- build.c: one function per common operation ---- */
#define IR_UNARY(X)                                                                                \
  X(neg)                                                                                           \
  X(abs)                                                                                           \
  X(sign)                                                                                          \
  X(exp)                                                                                           \
  X(expm1) X(log) X(log1p) X(sqrt) X(rsqrt) X(sin) X(cos) X(tanh) X(sigmoid) X(erf) X(erfc) X(relu)        \
    X(floor) X(ceil) X(round) X(isfinite) X(not ) X(stop_gradient) X(fold)
#define IR_BINARY(X)                                                                               \
  X(add)                                                                                           \
  X(sub)                                                                                           \
  X(mul)                                                                                           \
  X(div)                                                                                           \
  X(pow) X(mod) X(min) X(max) X(eq) X(ne) X(lt) X(le) X(gt) X(ge) X(and) X(or) X(matmul) X(gather)
#define DECLARE(op) Node *ir_##op(Graph *, Node *x);
IR_UNARY(DECLARE)
#undef DECLARE
#define DECLARE(op)                                                                                \
  Node *ir_##op(Graph *, Node *x, Node *y); /* sources of equal shape: see ir_broadcast */
IR_BINARY(DECLARE)
#undef DECLARE
Node *ir_const(Graph *, double value, const Type *);
Node *ir_leaf(Graph *, Op, const char *name, const Type *); /* param, state, input */
Node *ir_iota(Graph *, int axis, const Type *);
Node *ir_where(Graph *, Node *c, Node *y, Node *z);
Node *ir_cast(Graph *, Node *, DType);
Node *ir_reduce(Graph *, Op, Node *, int n_axis,
                const int *axis); /* axes in any order, none twice; keeps them as 1 */
Node *ir_mean(Graph *, Node *, int n_axis, const int *axis); /* the sum divided by the count */
Node *ir_argmax(Graph *, Node *, int axis);
Node *ir_cumsum(Graph *, Node *, int axis, bool reverse);
Node *ir_reshape(Graph *, Node *, int rank, const int64_t *dim);
Node *ir_expand(Graph *, Node *, int rank, const int64_t *dim);
Node *ir_permute(Graph *, Node *, const int *perm);
Node *ir_slice(Graph *, Node *, const int64_t *begin, const int64_t *end);
Node *ir_pad(Graph *, Node *, const int64_t *lo, const int64_t *hi, double fill);
Node *ir_concat(Graph *, int axis, int n, Node *const *src);
Node *ir_scatter_add(Graph *, Node *ids, Node *x, int64_t rows);
Node *ir_random(Graph *, Node *rng, int64_t place, const Type *);
Node *ir_broadcast(Graph *, Node *, int rank,
                   const int64_t *dim); /* NumPy's rule: reshape, then expand, where needed */
Node *ir_squeeze(Graph *, Node *, int n_axis, const int *axis); /* drops dimensions of length 1 */

/* ---- attention.c: what the attention operations carry ---- */
#define IR_UNBOUNDED                                                                               \
  IR_MAX_ELEMENTS /* a band without an end: lo = −IR_UNBOUNDED, hi = IR_UNBOUNDED */
typedef struct AttentionAttr {
  double scale, cap; /* f32 values; cap 0: scores are not capped */
  int64_t lo, hi;    /* key j is visible to query i where lo <= j − i <= hi */
  int64_t shift;     /* key j of entry n of the last batch dimension counts as j + n·shift there: keys in parts */
  bool empty_nan;    /* OP_attention: a query that sees no key gives NaN; else zeros */
  Node *mask, *keep; /* sources; NULL: none */
} AttentionAttr;
AttentionAttr ir_attention(const Node *);
/* A node of the family: `src` are its sources before mask and keep, as many as
 * ir_attention_sources tells. What the operation has no use for (lse: keep; all but attention:
 * empty_nan) is left out. Bounds beyond the band's ends mean none. */
Node *ir_attend(Graph *, Op, Node *const *src, const AttentionAttr *);
int ir_attention_sources(Op); /* 0: not of the family */

/* ---- spans.c: a product whose sums are cut into spans of equal length (OP_matmul_spans) ---- */
typedef struct Spans {
  int64_t n, tile_m, tile_n, step; /* as in ATTR_spans */
  int64_t by_m, by_n;              /* tiles along m and n */
  int64_t steps, all;              /* of a tile; of all tiles */
  int64_t slots;                   /* the most spans that meet a tile */
} Spans;
/* Of [m, k] · [k, n]; false where there are more spans than steps, or numbers do not fit 31 bits. */
bool ir_spans_make(int64_t m, int64_t n, int64_t k, const int64_t ints[4], Spans *);
Spans ir_spans(const Node *);
int64_t ir_span_begin(const Spans *, int64_t span); /* its first step; of span n: the end */
int64_t ir_span_at(const Spans *, int64_t step);    /* the span that has the step */
void ir_span_tile(const Spans *, int64_t tile, int64_t *row, int64_t *column); /* in tiles */

/* ---- define.c: raised operations in terms of others ---- */
/* The value of `n`, an IR_RAISED operation, computed from `src` in `g` by operations that are not
 * raised; in the region of `g`. Safe where the formula of ops.def is not: the largest is subtracted
 * before an exponential. */
Node *ir_define(Graph *g, const Node *n, Node *const *src);

/* ---- print.c, parse.c, verify.c ---- */
void ir_print(Buf *, const Graph *);
void ir_print_node(Buf *, const Node *); /* one line, as in ir_print, without the newline */
/* Text to a graph; NULL with messages ("FILE:LINE:COL: error: …", the line, a caret) appended to
 * `errors`. */
Graph *ir_parse(const char *file, const char *text, size_t bytes, Buf *errors);
/* The same for a text with one or more graphs: how many, the list in `arena`; −1 with messages. */
int ir_parse_all(Arena *arena, const char *file, const char *text, size_t bytes, Graph ***graphs,
                 Buf *errors);
/* Every violation, one line each with the node, appended to `errors`; true where there is none. */
bool ir_verify(const Graph *, Buf *errors);

/* ---- eval.c: the reference evaluator, the oracle of every test ---- */
typedef struct Tensor {
  Type type;
  double *data; /* row-major; integers and bools as whole numbers */
} Tensor;
typedef enum EvalMode {
  EVAL_f32,
  EVAL_f64
} EvalMode;           /* f32: each node's result is rounded to its type */
typedef struct Feed { /* values of param, state and input nodes, by op and name */
  Op op;
  const char *name;
  const double *data;
} Feed;
/* Computes the nodes wanted (result[i] for want[i], in `arena`). A missing feed: false, with its
 * name in `why`. In f64 mode 16- and 32-bit floats are not rounded, except by an explicit cast.
 * `position` is 0 … t−1. */
bool ir_eval(Arena *, const Graph *, EvalMode, const Feed *, int n_feed, Node *const *want,
             int n_want, Tensor *result, Buf *why);

#endif
