/* What the kernel families share: one kernel under construction, its operands, and the value of any
 * expression at an index. */
#ifndef CODEGEN_KERNEL_H
#define CODEGEN_KERNEL_H

#include "codegen/index.h"
#include "codegen/plan.h"

typedef struct Kernel {
  Arena *arena; /* the caller's: words and name */
  Arena *scratch;
  Spv *b;
  IxTable *ix;
  const KernelJob *job;
  const Target *target;
  KernelCode *out;
  Node **operand; /* as cg_operands lists them; slot n_out + i */
  int n_operand;
  uint8_t *uses; /* by node id: how often the kernel's nodes and outs ask it; 255: or more */
  SpvId result[CG_MAX_OUT], pointer[CG_MAX_SLOTS]; /* as kernel_pushed: of outs, of operands */
  SpvId slot_type[CG_MAX_SLOTS], slot_value[CG_MAX_SLOTS]; /* no values where tabled */
  int n_slot;
  struct { /* tabled: */
    SpvId buffer, instances, instance, group;
  } table;
  bool wide; /* read four neighbours at once where an index allows it */
  struct {
    int64_t number;
    int slot;
  } place[CG_MAX_SLOTS]; /* of random calls: raw slots */
  int n_place;
  struct Memo *memo; /* values of nodes at indices */
  int n_memo, memo_cap;
} Kernel;

/* ---- kernel.c ---- */
void kernel_begin(Kernel *, Arena *, Arena *scratch, const KernelJob *, const Target *,
                  KernelCode *out);
void kernel_end(Kernel *, const char *family);
SpvId kernel_raw(Kernel *, uint32_t low, uint32_t high); /* a uvec2 slot */
SpvId kernel_slot(Kernel *, int slot); /* its value, for use in the scopes that are open */
void kernel_groups(Kernel *, int64_t groups,
                   uint32_t local); /* a 1-dimensional dispatch, folded into y where it is large */
SpvId kernel_group(Kernel *);       /* its linear workgroup */
SpvId kernel_lane(Kernel *, int axis); /* LocalInvocationId */

/* for i < n: body(context, i); n <= bound. Mesa 22.3 lets an invocation run no more than 65,535
 * iterations of all its loops together and then goes on as if they had ended, so a long loop is
 * unrolled until it stays below: `times` is how often kernel_repeat itself is run by loops around
 * it. */
typedef void LoopBody(void *context, SpvId i);
void kernel_repeat(Kernel *, SpvId n, int64_t bound, int64_t times, LoopBody *, void *context);

/* ---- memory.c: values in registers are f32 for floats, rounded to their type, and u32 for i32 and
 * bool ---- */
SpvId kernel_element_type(Kernel *, DType); /* in registers */
SpvId kernel_pushed(Kernel *,
                    DType); /* the type of pointers in slots: a buffer of 4-byte scalars */
bool kernel_is_16(const Kernel *, DType); /* elements of 2 bytes in memory */
/* An element of an operand at a linear index; where an index allows it, read with its neighbours. */
SpvId kernel_load(Kernel *, Node *operand, const Ix *);
/* The same, always four at once, where the last four may reach past the tensor's end: nothing else
 * lies there. */
SpvId kernel_load_flat(Kernel *, Node *operand, const Ix *);
SpvId kernel_load_at(Kernel *, Node *operand, SpvId index);
SpvId kernel_load4_at(Kernel *, Node *operand, SpvId index4); /* a vec4; index in units of four */
/* `width` = 1, 2, 4 or 8 neighbouring 16-bit elements as they lie in memory: u32 (one, in its low half), u32,
 * uvec2, uvec4; index in units of that many. */
SpvId kernel_load_raw(Kernel *, Node *operand, int width, SpvId index);
/* Eight values of a 16-bit type as they lie in memory: uvec4. */
SpvId kernel_pack8(Kernel *, DType, const SpvId value[8]);
/* n = 1, 4 or 8 values of the out's type to its result, from element n · index on, wherever the job
 * has it lie. */
void kernel_store(Kernel *, int out, SpvId index, int n, const SpvId *value);
/* Four values of a result of 4-byte elements that this invocation stored before, a vec4. */
SpvId kernel_reload4(Kernel *, int out, SpvId index4);

SpvId kernel_from_memory(Kernel *, DType, SpvId raw); /* bool: 0 or 1 becomes a condition */
SpvId kernel_to_memory(Kernel *, DType, SpvId value);

/* ---- cost.c ---- */
void kernel_cost(Kernel *); /* adds to out->flops what no family counts itself; sets out->bytes */

/* ---- expr.c ---- */
/* The value of a node at a multi-index, one Ix per dimension: f32 for floats, u32 for i32, bool. */
SpvId expr_value(Kernel *, Node *, const Ix *const *index);
SpvId expr_at(Kernel *, Node *, const Ix *linear); /* by row-major position */
/* The same of a flat value (flat.c), whose type the index may leave by up to three elements: what is
 * then found means nothing. */
SpvId expr_flat(Kernel *, Node *, const Ix *linear);
/* Before a loop: computes what the value at an index needs and what does not depend on `varying`, an
 * ix_value without instruction that stands for the loop's own, so that the loop finds it. */
void expr_hoist(Kernel *, Node *, const Ix *const *index, const Ix *varying);
void expr_hoist_flat(Kernel *, Node *); /* of a flat value: scalars */
SpvId expr_const(Kernel *, DType, double);
/* From here to the end of the innermost open scope, a node that no expression can compute (a
 * reduction or product inside the kernel) has this value at one flat index: expressions that ask it
 * there, by whatever views, get it. The value is as expr_value gives it, rounded to the node's type.
 * A node that is asked where it was not bound breaks the planner's guarantee and dies. */
void kernel_bind(Kernel *, const Node *, const Ix *linear, SpvId value);

/* ---- math.c: operations on values of a type ---- */
SpvId math_unary(Kernel *, Op, DType, SpvId x);
SpvId math_binary(Kernel *, Op, DType of_sources, SpvId x, SpvId y);
/* x / y of floats, where many x are divided by one y: by its reciprocal, which is computed once. */
SpvId math_divide_many(Kernel *, DType, SpvId x, SpvId y);
SpvId math_cast(Kernel *, DType to, DType from, SpvId x);
SpvId math_round(Kernel *, DType,
                 SpvId x); /* f32 to the nearest value of a 16-bit type; others unchanged */
SpvId math_is_nan(Kernel *, SpvId x);
/* s + x where the rounding error goes to *lost: exact as a pair */
SpvId math_two_sum(Kernel *, SpvId s, SpvId x, SpvId *lost);
/* x·y = product + *low exactly, for |x|, |y| < 2^115 */
SpvId math_two_product(Kernel *, SpvId x, SpvId y, SpvId *low);
SpvId math_uniform(Kernel *, SpvId index, SpvId place,
                   const SpvId rng[4]); /* OP_random at a linear index */
SpvId math_add_c(Kernel *, SpvId x, float c), math_mul_c(Kernel *, SpvId x, float c);
SpvId math_poly(Kernel *, SpvId x, int n,
                const float *coef); /* coef[0] + coef[1]·x + … by Horner's rule */

/* ---- math_special.c ---- */
SpvId math_exp(Kernel *, SpvId), math_expm1(Kernel *, SpvId), math_log(Kernel *, SpvId),
  math_log1p(Kernel *, SpvId);
SpvId math_pow(Kernel *, SpvId x, SpvId y);
SpvId math_mod(Kernel *, SpvId x, SpvId y);

/* ---- math_curves.c ---- */
SpvId math_sin_cos(Kernel *, SpvId x, bool cosine), math_tanh(Kernel *, SpvId),
  math_erf(Kernel *, SpvId), math_erfc(Kernel *, SpvId);

/* ---- flat.c: values that depend on what lies at their own place and at constant ones ---- */
/* Whether the value at a row-major position needs other values only at that position or at a
 * constant one, so that no shape remains in its kernel. */
bool flat_value(const KernelJob *, const Node *);
const Ix *flat_index(Kernel *,
                     SpvId unit); /* of the unit's first element: nothing is known of it */
/* A sum over rows of such values, which sum_rows computes. */
bool flat_is_sum(const KernelJob *);

/* ---- form.c ---- */
int form_choose(const Kernel *, const KernelForm *, int n); /* the tuned one of n; else 0 */

/* ---- the families ---- */
void emit_map(Kernel *);
void emit_flat_sum(Kernel *);
void emit_reduce(Kernel *);
void emit_scan(Kernel *);
void emit_matmul(Kernel *), emit_matmul_spans(Kernel *);
void emit_scatter_add(Kernel *);
void emit_attention(Kernel *);

#endif
