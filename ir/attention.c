/* The attributes of the attention family, packed and unpacked, and the construction of its nodes. */
#include "ir/attention.h"

#include <string.h>

int ir_attention_sources(Op op) {
  switch (op) {
  case OP_attention: return 3;
  case OP_attention_lse: return 2;
  case OP_attention_dq:
  case OP_attention_dk:
  case OP_attention_dv: return 6;
  default: return 0;
  }
}

double attention_cap(const int64_t *ints) {
  uint32_t bits = (uint32_t)ints[ATT_cap];
  float cap;
  memcpy(&cap, &bits, sizeof cap);
  return cap;
}

Attr attention_pack(const AttentionAttr *a) {
  float cap = (float)a->cap + 0.0f; /* −0 is 0 */
  uint32_t bits;
  memcpy(&bits, &cap, sizeof bits);
  return (Attr){.value = dtype_round(DT_f32, a->scale),
                .n_int = ATT_COUNT,
                .ints = {[ATT_lo] = a->lo < -IR_UNBOUNDED ? -IR_UNBOUNDED : a->lo,
                         [ATT_hi] = a->hi > IR_UNBOUNDED ? IR_UNBOUNDED : a->hi,
                         [ATT_empty] = a->empty_nan,
                         [ATT_cap] = bits,
                         [ATT_shift] = a->shift}};
}

AttentionAttr ir_attention(const Node *n) {
  int at = ir_attention_sources(n->op);
  if (!at) die("ir_attention: %%%d is %s", n->id, ir_op[n->op].name);
  AttentionAttr a = {.scale = n->value,
                     .cap = attention_cap(n->ints),
                     .lo = n->ints[ATT_lo],
                     .hi = n->ints[ATT_hi],
                     .shift = n->ints[ATT_shift],
                     .empty_nan = n->ints[ATT_empty] != 0};
  if (at < n->n_src && n->src[at]->type.dtype == DT_bool) a.mask = n->src[at++];
  if (at < n->n_src) a.keep = n->src[at];
  return a;
}

Node *ir_attend(Graph *g, Op op, Node *const *src, const AttentionAttr *a) {
  int n = ir_attention_sources(op);
  if (!n) die("ir_attend: %s", ir_op[op].name);
  Node *all[8];
  memcpy(all, src, sizeof *src * (size_t)n);
  if (a->mask) all[n++] = a->mask;
  if (a->keep && op != OP_attention_lse) all[n++] = a->keep;
  Attr attr = attention_pack(a);
  if (op != OP_attention) attr.ints[ATT_empty] = 0;
  return ir_make(g, op, NULL, &attr, n, all);
}
