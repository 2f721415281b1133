/* How a node of the attention family keeps its attributes (private to ir/): Attr.value = scale,
 * ints as below. Everything else reads them through ir_attention. */
#ifndef IR_ATTENTION_H
#define IR_ATTENTION_H

#include "ir/ir.h"

enum { ATT_lo, ATT_hi, ATT_empty, ATT_cap, ATT_shift, ATT_COUNT }; /* cap: the bits of an f32 */

double attention_cap(const int64_t *ints);
Attr attention_pack(const AttentionAttr *);

#endif
