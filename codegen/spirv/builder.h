/* spirv: assembles SPIR-V 1.5 compute modules (Vulkan 1.2, PhysicalStorageBuffer64). One word
 * buffer per section; types, constants and pure instructions are interned; ids are given in order
 * of emission, so equal emission gives equal words. */
#ifndef CODEGEN_SPIRV_BUILDER_H
#define CODEGEN_SPIRV_BUILDER_H

#include "base/base.h"

#include <spirv/unified1/GLSL.std.450.h>
#include <spirv/unified1/spirv.h>

typedef struct Spv Spv;

Spv *spv_new(Arena *); /* everything it makes lives in the arena */
void spv_capability(Spv *, SpvCapability);
/* Ends the module: entry point "main" with this local size. */
uint32_t *spv_finish(Spv *, const uint32_t local[3], int *n_word);

/* ---- types and constants, interned ---- */
SpvId spv_void(Spv *), spv_bool(Spv *), spv_u32(Spv *), spv_f32(Spv *);
SpvId spv_vec(Spv *, SpvId element, int n);
SpvId spv_array(Spv *, SpvId element, uint32_t n);
SpvId spv_pair(Spv *, SpvId element); /* struct { element a, b; }: results of wide multiplication */
SpvId spv_pointer(Spv *, SpvStorageClass, SpvId type);
SpvId spv_buffer(
  Spv *, SpvId element,
  uint32_t bytes); /* pointer to struct { element x[]; }, physical, of such elements */
SpvId spv_u(Spv *, uint32_t);
SpvId spv_f(Spv *, float);
SpvId spv_b(Spv *, bool);
SpvId spv_type(const Spv *, SpvId value); /* the type of a value */

/* ---- global things ---- */
SpvId spv_builtin(Spv *, SpvBuiltIn, SpvId type); /* its value */
SpvId spv_shared(Spv *, SpvId type);              /* a workgroup variable */
/* The push constant block grows by 8-byte members; gives the member's value (type: a buffer
 * pointer, or uvec2). */
SpvId spv_push(Spv *, SpvId type);

/* ---- instructions. Pure ones are value-numbered within the open scopes. ---- */
SpvId spv_pure_n(Spv *, SpvOp, SpvId type, int n, const SpvId *operand);
#define spv_pure(b, op, type, ...)                                                                 \
  spv_pure_n(b, op, type, COUNT_OF(((SpvId[]){__VA_ARGS__})), (SpvId[]){__VA_ARGS__})
SpvId spv_result_n(Spv *, SpvOp, SpvId type, int n, const SpvId *operand); /* not value-numbered */
#define spv_result(b, op, type, ...)                                                               \
  spv_result_n(b, op, type, COUNT_OF(((SpvId[]){__VA_ARGS__})), (SpvId[]){__VA_ARGS__})
void spv_effect_n(Spv *, SpvOp, int n, const SpvId *operand); /* without result */
#define spv_effect(b, op, ...)                                                                     \
  spv_effect_n(b, op, COUNT_OF(((SpvId[]){__VA_ARGS__})), (SpvId[]){__VA_ARGS__})

SpvId spv_un(Spv *, SpvOp, SpvId x);           /* result of x's type */
SpvId spv_bin(Spv *, SpvOp, SpvId x, SpvId y); /* result of x's type */
SpvId spv_cmp(Spv *, SpvOp, SpvId x, SpvId y); /* result bool */
SpvId spv_select(Spv *, SpvId c, SpvId x, SpvId y);
SpvId spv_bitcast(Spv *, SpvId type, SpvId x);
SpvId spv_glsl(Spv *, enum GLSLstd450, SpvId x);                /* result of x's type */
SpvId spv_glsl_as(Spv *, enum GLSLstd450, SpvId type, SpvId x); /* result of another type */
SpvId spv_glsl_2(Spv *, enum GLSLstd450, SpvId x, SpvId y);     /* the same */
SpvId spv_clamp(Spv *, SpvId x, float low, float high);
SpvId spv_fma(Spv *, SpvId x, SpvId y, SpvId z);
SpvId spv_extract(Spv *, SpvId composite, uint32_t i);
/* x ∘ y that no driver may contract or reassociate: for error-free transforms. */
SpvId spv_exact(Spv *, SpvOp, SpvId x, SpvId y);

/* Element `index` of a physical buffer; a pure load (its memory is not written by this kernel
 * before), a load, a store. */
SpvId spv_element(Spv *, SpvId buffer, SpvId element_type, SpvId index);
SpvId spv_load_pure(Spv *, SpvId type, SpvId pointer, uint32_t align);
void spv_store_aligned(Spv *, SpvId pointer, SpvId value, uint32_t align);

SpvId spv_local(Spv *, SpvId type); /* a variable of the function */
SpvId spv_get(Spv *, SpvId variable);
void spv_set(Spv *, SpvId variable, SpvId value);
SpvId spv_at(Spv *, SpvId shared_array,
             SpvId index); /* pointer to an element, for spv_get and spv_set */
SpvId spv_local_at(Spv *, SpvId local_array,
                   SpvId index);  /* the same in a variable of the function */
void spv_barrier(Spv *);          /* of the workgroup, with its memory */
void spv_barrier_subgroup(Spv *); /* the same of the subgroup */
SpvId spv_shuffle(Spv *, SpvId x, SpvId lane);
SpvId spv_shuffle_xor(Spv *, SpvId x, uint32_t mask);

/* ---- 16-bit elements and cooperative matrices (matrix.c). Each adds the capability and extension that
 * it needs; matrix types are made before workgroup memory is first accessed. ---- */
SpvId spv_u16(Spv *), spv_f16(Spv *), spv_bf16(Spv *); /* u16: to load, store and convert */
typedef enum SpvMatrixUse { SPV_matrix_a, SPV_matrix_b, SPV_matrix_sum } SpvMatrixUse;
SpvId spv_matrix(Spv *, SpvId element, uint32_t rows, uint32_t columns,
                 SpvMatrixUse);                  /* of a subgroup */
SpvId spv_matrix_zero(Spv *, SpvId matrix_type); /* of f32 */
SpvId spv_matrix_ones(Spv *, SpvId matrix_type); /* of f16 or bf16 */
/* From and to workgroup or physical memory: `pointer` to the first element, of any scalar or vector type;
 * `stride` between rows (columns: column_major) in what it points at; `align`: bytes, of a pointer into
 * physical memory. All invocations of the subgroup. Both pointer and stride must be multiples of 16 bytes,
 * or of the bytes of a row (column) of the matrix, where those are fewer. */
SpvId spv_matrix_load(Spv *, SpvId matrix_type, SpvId pointer, bool column_major, SpvId stride,
                      uint32_t align);
void spv_matrix_store(Spv *, SpvId pointer, SpvId matrix, bool column_major, SpvId stride,
                      uint32_t align);
SpvId spv_matrix_mul_add(Spv *, SpvId a, SpvId b, SpvId sum); /* a·b + sum */

/* ---- what a subgroup does with its matrices besides products (fragment.c). A variable of a matrix type
 * (spv_local) is an array of the elements that an invocation holds: which ones the device decides, the same in
 * all matrices of a type. spv_local_at gives them. ---- */
SpvId spv_matrix_length(Spv *, SpvId matrix_type);      /* how many */
SpvId spv_matrix_fill(Spv *, SpvId matrix_type, float); /* of f32 */
/* With SPV_NV_cooperative_matrix2: in every column the largest, or the sum, of the row; a sum as a factor of the
 * next product, of another element type. */
typedef enum SpvRowReduction { SPV_row_max, SPV_row_sum } SpvRowReduction;
SpvId spv_matrix_reduce_rows(Spv *, SpvId matrix, SpvRowReduction);
SpvId spv_matrix_as_factor(Spv *, SpvId matrix_type, SpvId sum);
SpvId spv_any(Spv *, SpvId condition); /* in any invocation of the subgroup */

/* ---- structured control: each opened scope is closed by spv_end ---- */
void spv_if(Spv *, SpvId condition);
void spv_else(Spv *);
/* for (i = 0; i < n; i++); n must stay below 65,535: Mesa 22.3 ends longer loops silently. Gives
 * i. */
SpvId spv_for(Spv *, SpvId n);
SpvId spv_for_unrolled(Spv *, SpvId n); /* the same, which the driver is asked to unroll */
SpvId spv_for_rolled(Spv *, SpvId n);   /* … is asked not to unroll, where that would only cost time to compile */
void spv_end(Spv *);
uint32_t spv_scope(const Spv *);            /* the serial of the innermost scope */
bool spv_scope_open(const Spv *, uint32_t); /* values made under that serial may still be used */

#endif
