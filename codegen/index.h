/* Index arithmetic at compile time: sums of coefficient · atom + constant over whole numbers ≥ 0,
 * interned, so that equal indices are equal pointers. An atom is a value of the shader, or the
 * quotient or remainder of an index by a constant. Splitting a linear index into a shape's indices
 * and putting them together again gives the linear index back. */
#ifndef CODEGEN_INDEX_H
#define CODEGEN_INDEX_H

#include "codegen/spirv/builder.h"

typedef struct Ix Ix;
typedef struct IxTable IxTable;

IxTable *ix_table(Arena *, Spv *);
const Ix *ix_const(IxTable *, int64_t);
const Ix *ix_value(IxTable *, SpvId u32_value, int64_t bound); /* 0 <= value < bound */
const Ix *ix_add(IxTable *, const Ix *, const Ix *);
const Ix *ix_mul(IxTable *, const Ix *, int64_t);
const Ix *ix_div(IxTable *, const Ix *, int64_t);
const Ix *ix_mod(IxTable *, const Ix *, int64_t);

int64_t ix_max(const Ix *);    /* no value is larger */
int64_t ix_offset(const Ix *); /* its constant */
int64_t ix_step(const Ix *);   /* greatest common divisor of the coefficients; 0 for a constant */
bool ix_varies(const Ix *, const Ix *value); /* it depends on that ix_value */
SpvId ix_emit(IxTable *, const Ix *);

/* The indices of a row-major shape at a linear index, and back. */
void ix_split(IxTable *, const Ix *linear, int rank, const int64_t *dim, const Ix **index);
const Ix *ix_join(IxTable *, int rank, const int64_t *dim, const Ix *const *index);

#endif
