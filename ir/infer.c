/* One rule per row of ops.def's column `rule`: checks sources and attributes and gives the type. */
#include "ir/attention.h"

#include <math.h>
#include <string.h>

typedef struct Ask {
  Op op;
  const Type *given;
  const Attr *attr;
  int n_src;
  Node *const *src;
  Type *out;
  Buf *why;
} Ask;

static bool fail(Ask *q, const char *fmt, ...) PRINTF_LIKE(2, 3);
static bool fail(Ask *q, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  buf_vprintf(q->why, fmt, args);
  va_end(args);
  return false;
}

static bool fail_types(Ask *q, const char *what) {
  buf_str(q->why, what);
  for (int i = 0; i < q->n_src; i++) {
    buf_str(q->why, i ? " and " : ": found ");
    type_print(q->why, &q->src[i]->type);
  }
  if (q->given) {
    buf_str(q->why, ", result ");
    type_print(q->why, q->given);
  }
  return false;
}

static const Type *src_type(const Ask *q, int i) { return &q->src[i]->type; }
static bool is_number(const Type *t) { return t->dtype != DT_bool; }

static bool equal_sources(Ask *q) {
  for (int i = 1; i < q->n_src; i++)
    if (!type_eq(src_type(q, 0), src_type(q, i)))
      return fail_types(q, "the sources must have one type");
  return true;
}

/* The value must be one that the type has. */
static bool check_value(Ask *q, const Type *t) {
  double v = q->attr->value;
  if (isnan(v) ? dtype_is_float(t->dtype) : dtype_round(t->dtype, v) == v) return true;
  return fail(q, "the value %.17g is no %s", v, dtype_name(t->dtype));
}

static bool rule_given(Ask *q) {
  *q->out = *q->given;
  if (q->op == OP_position && (q->given->rank != 1 || q->given->dtype != DT_i32))
    return fail_types(q, "a position has type i32[t]");
  if (q->op == OP_iota) {
    if (!is_number(q->given)) return fail_types(q, "an iota has numbers");
    if (q->attr->ints[0] < 0 || q->attr->ints[0] >= q->given->rank)
      return fail(q, "axis %lld of rank %d", (long long)q->attr->ints[0], q->given->rank);
  }
  return q->op == OP_const ? check_value(q, q->given) : true;
}

static bool rule_same(Ask *q) { return *q->out = *src_type(q, 0), true; }

static bool rule_number(Ask *q) {
  *q->out = *src_type(q, 0);
  return is_number(q->out) ? equal_sources(q) : fail_types(q, "needs numbers");
}

static bool rule_float(Ask *q) {
  *q->out = *src_type(q, 0);
  return dtype_is_float(q->out->dtype) ? equal_sources(q) : fail_types(q, "needs floating point");
}

static bool rule_logic(Ask *q) {
  *q->out = *src_type(q, 0);
  return q->out->dtype == DT_bool ? equal_sources(q) : fail_types(q, "needs bool");
}

static bool rule_compare(Ask *q) {
  *q->out = *src_type(q, 0);
  q->out->dtype = DT_bool;
  return equal_sources(q);
}

static bool rule_test(Ask *q) {
  *q->out = *src_type(q, 0);
  q->out->dtype = DT_bool;
  return dtype_is_float(src_type(q, 0)->dtype) ? true : fail_types(q, "needs floating point");
}

static bool rule_where(Ask *q) {
  *q->out = *src_type(q, 1);
  if (src_type(q, 0)->dtype != DT_bool) return fail_types(q, "the condition must be bool");
  if (!shape_eq(src_type(q, 0), src_type(q, 1)) || !type_eq(src_type(q, 1), src_type(q, 2)))
    return fail_types(q, "condition and choices must have one shape, the choices one type");
  return true;
}

static bool rule_cast(Ask *q) {
  *q->out = *q->given;
  return shape_eq(src_type(q, 0), q->given) ? true : fail_types(q, "a cast keeps the shape");
}

static bool rule_random(Ask *q) {
  const Type *r = src_type(q, 0);
  *q->out = *q->given;
  if (r->dtype != DT_i32 || r->rank != 1 || r->dim[0] != 4)
    return fail_types(q, "the source must be rng, i32[4]");
  if (q->attr->ints[0] < 0 || q->attr->ints[0] > UINT32_MAX)
    return fail(q, "the place must be a 32-bit number, found %lld", (long long)q->attr->ints[0]);
  return q->given->dtype == DT_f32 ? true : fail_types(q, "gives f32");
}

static bool rule_reduce(Ask *q) {
  const Type *x = src_type(q, 0);
  *q->out = *x;
  if (!is_number(x)) return fail_types(q, "needs numbers");
  if (q->attr->n_int == 0) return fail(q, "no axes");
  for (int i = 0; i < q->attr->n_int; i++) {
    int64_t a = q->attr->ints[i];
    if (a < 0 || a >= x->rank || (i && a <= q->attr->ints[i - 1]))
      return fail(q, "axes must ascend from 0 to %d: axis %lld", x->rank - 1, (long long)a);
    q->out->dim[a] = 1;
  }
  return true;
}

static bool rule_arg(Ask *q) {
  const Type *x = src_type(q, 0);
  int64_t a = q->attr->ints[0];
  if (!is_number(x)) return fail_types(q, "needs numbers");
  if (a < 0 || a >= x->rank) return fail(q, "axis %lld of rank %d", (long long)a, x->rank);
  *q->out = *x;
  q->out->dtype = DT_i32;
  q->out->dim[a] = 1;
  return true;
}

static bool rule_cumsum(Ask *q) {
  const Type *x = src_type(q, 0);
  int64_t a = q->attr->ints[0];
  *q->out = *x;
  if (!is_number(x)) return fail_types(q, "needs numbers");
  if (a < 0 || a >= x->rank) return fail(q, "axis %lld of rank %d", (long long)a, x->rank);
  if (q->attr->ints[1] != 0 && q->attr->ints[1] != 1) return fail(q, "reverse must be 0 or 1");
  return true;
}

static bool rule_matmul(Ask *q) {
  const Type *a = src_type(q, 0), *b = src_type(q, 1);
  int r = a->rank;
  if (r < 2 || b->rank != r || a->dtype != b->dtype || !dtype_is_float(a->dtype))
    return fail_types(q, "needs two matrices or batches of them, of one floating type and rank");
  for (int i = 0; i < r - 2; i++)
    if (a->dim[i] != b->dim[i]) return fail_types(q, "leading dimensions differ");
  if (a->dim[r - 1] != b->dim[r - 2]) return fail_types(q, "inner dimensions differ");
  *q->out = *a;
  q->out->dim[r - 1] = b->dim[r - 1];
  return true;
}

static bool rule_matmul_spans(Ask *q) {
  const Type *a = src_type(q, 0), *b = src_type(q, 1);
  Spans s;
  if (!rule_matmul(q)) return false;
  if (a->rank != 2) return fail_types(q, "needs two matrices");
  if (!ir_spans_make(a->dim[0], b->dim[1], a->dim[1], q->attr->ints, &s))
    return fail_types(q, "needs spans, tiles and steps of at least 1, no more spans than steps, "
                         "and fewer steps times spans than 2^31");
  *q->out = type_of(a->dtype, 3, (int64_t[]){s.slots, a->dim[0], b->dim[1]});
  return true;
}

/* ---- attention ---- */

static bool attention_values(Ask *q) {
  const Attr *a = q->attr;
  double cap = attention_cap(a->ints);
  if (!isfinite(a->value) || dtype_round(DT_f32, a->value) != a->value)
    return fail(q, "the scale %.17g is no finite f32", a->value);
  if (!isfinite(cap) || cap < 0 || signbit(cap)) return fail(q, "the cap %.9g must be ≥ 0", cap);
  if (a->ints[ATT_lo] < -IR_UNBOUNDED || a->ints[ATT_hi] > IR_UNBOUNDED ||
      a->ints[ATT_lo] > a->ints[ATT_hi])
    return fail(q, "the band %lld..%lld is empty", (long long)a->ints[ATT_lo],
                (long long)a->ints[ATT_hi]);
  int64_t shift = a->ints[ATT_shift];
  if (shift < 0 || shift > IR_MAX_ELEMENTS)
    return fail(q, "the shift %lld must be ≥ 0", (long long)shift);
  if (shift && src_type(q, 0)->rank < 4)
    return fail_types(q, "a shift goes along a batch dimension");
  if (a->ints[ATT_empty] != 0 && (a->ints[ATT_empty] != 1 || q->op != OP_attention))
    return fail(q, "only attention says what a query without keys gives");
  return true;
}

/* Source i is [b…, heads, rows, columns] with the leading dimensions of q. */
static bool attention_shape(Ask *q, int i, DType d, int64_t heads, int64_t rows, int64_t columns) {
  const Type *x = src_type(q, i), *like = src_type(q, 0);
  int r = like->rank;
  bool ok = x->dtype == d && x->rank == r;
  for (int j = 0; ok && j < r - 3; j++) ok = x->dim[j] == like->dim[j];
  return ok && x->dim[r - 3] == heads && x->dim[r - 2] == rows && x->dim[r - 1] == columns;
}

/* mask and keep, after the n sources that the operation always has */
static bool attention_extras(Ask *q, int n, int64_t h, int64_t t, int64_t s) {
  for (int i = n; i < q->n_src; i++) {
    bool mask = i == n && src_type(q, i)->dtype == DT_bool;
    if (!mask && (i < q->n_src - 1 || q->op == OP_attention_lse))
      return fail_types(q, q->op == OP_attention_lse
                             ? "expects q, k and at most a bool mask"
                             : "after its tensors come at most a bool mask and a factor");
    if (!attention_shape(q, i, mask ? DT_bool : (DType)src_type(q, 0)->dtype, h, t, s))
      return fail_types(q, mask ? "the mask must be bool[b…, h, t, s]"
                                : "the factor must be [b…, h, t, s] of q's type");
  }
  return true;
}

/* What the family shares; gives the type of q. */
static bool check_attention(Ask *q) {
  int n = ir_attention_sources(q->op), r = src_type(q, 0)->rank;
  DType d = (DType)src_type(q, 0)->dtype;
  if (q->n_src < n || q->n_src > n + 2)
    return fail(q, "expects %d to %d sources, found %d", n, n + 1 + (q->op != OP_attention_lse),
                q->n_src);
  const int64_t *a = src_type(q, 0)->dim, *b = src_type(q, 1)->dim;
  const Type *value = src_type(q, n > 2 ? 2 : 1);
  if (r < 3 || !dtype_is_float(d) || src_type(q, 1)->rank != r || value->rank != r)
    return fail_types(q, "needs floating tensors of one rank ≥ 3");
  int64_t h = a[r - 3], t = a[r - 2], c = a[r - 1], kv = b[r - 3], s = b[r - 2];
  int64_t e = value->dim[r - 1];
  if (!attention_shape(q, 1, d, kv, s, c) || (n > 2 && !attention_shape(q, 2, d, kv, s, e)))
    return fail_types(q, "needs q [b…, h, t, c], k [b…, kv, s, c], v [b…, kv, s, e] of one type");
  if (h % kv != 0)
    return fail(q, "%lld query heads do not divide among %lld key heads", (long long)h,
                (long long)kv);
  if (n == 6 && (!attention_shape(q, 3, DT_f32, h, t, 1) ||
                 !attention_shape(q, 4, DT_f32, h, t, 1) || !attention_shape(q, 5, d, h, t, e)))
    return fail_types(q, "needs lse and delta f32[b…, h, t, 1] and do [b…, h, t, e]");
  *q->out = *src_type(q, 0);
  return attention_values(q) && attention_extras(q, n, h, t, s);
}

static bool rule_attention(Ask *q) {
  if (!check_attention(q)) return false;
  int last = q->out->rank - 1;
  q->out->dim[last] = src_type(q, 2)->dim[last];
  return true;
}

static bool rule_attention_lse(Ask *q) {
  if (!check_attention(q)) return false;
  q->out->dim[q->out->rank - 1] = 1;
  q->out->dtype = DT_f32;
  return true;
}

static bool rule_attention_grad(Ask *q) {
  if (!check_attention(q)) return false;
  *q->out = *src_type(q, q->op == OP_attention_dq ? 0 : q->op == OP_attention_dk ? 1 : 2);
  return true;
}

static bool rule_reshape(Ask *q) {
  *q->out = *q->given;
  if (q->given->dtype != src_type(q, 0)->dtype)
    return fail_types(q, "a reshape keeps the element type");
  return type_count(q->given) == type_count(src_type(q, 0))
           ? true
           : fail_types(q, "the counts of elements differ");
}

static bool rule_expand(Ask *q) {
  const Type *x = src_type(q, 0);
  *q->out = *q->given;
  if (q->given->dtype != x->dtype || q->given->rank != x->rank)
    return fail_types(q, "an expand keeps type and rank");
  for (int i = 0; i < x->rank; i++)
    if (x->dim[i] != q->given->dim[i] && x->dim[i] != 1)
      return fail_types(q, "only dimensions of 1 expand");
  return true;
}

static bool rule_permute(Ask *q) {
  const Type *x = src_type(q, 0);
  bool seen[IR_MAX_RANK] = {0};
  *q->out = *x;
  if (q->attr->n_int != x->rank) return fail(q, "%d entries for rank %d", q->attr->n_int, x->rank);
  for (int i = 0; i < x->rank; i++) {
    int64_t p = q->attr->ints[i];
    if (p < 0 || p >= x->rank || seen[p])
      return fail(q, "not a permutation of 0 … %d", x->rank - 1);
    seen[p] = true;
    q->out->dim[i] = x->dim[p];
  }
  return true;
}

static bool rule_slice(Ask *q) {
  const Type *x = src_type(q, 0);
  *q->out = *x;
  if (q->attr->n_int != 2 * x->rank)
    return fail(q, "%d pairs for rank %d", q->attr->n_int / 2, x->rank);
  for (int i = 0; i < x->rank; i++) {
    int64_t lo = q->attr->ints[i], hi = q->attr->ints[x->rank + i];
    if (lo < 0 || hi <= lo || hi > x->dim[i])
      return fail(q, "%lld:%lld of a dimension of %lld", (long long)lo, (long long)hi,
                  (long long)x->dim[i]);
    q->out->dim[i] = hi - lo;
  }
  return true;
}

static bool rule_pad(Ask *q) {
  const Type *x = src_type(q, 0);
  *q->out = *x;
  if (q->attr->n_int != 2 * x->rank)
    return fail(q, "%d pairs for rank %d", q->attr->n_int / 2, x->rank);
  for (int i = 0; i < x->rank; i++) {
    int64_t lo = q->attr->ints[i], hi = q->attr->ints[x->rank + i];
    if (lo < 0 || hi < 0 || lo > IR_MAX_ELEMENTS || hi > IR_MAX_ELEMENTS)
      return fail(q, "padding out of range");
    q->out->dim[i] += lo + hi;
  }
  return check_value(q, x);
}

static bool rule_concat(Ask *q) {
  const Type *first = src_type(q, 0);
  int64_t a = q->attr->ints[0];
  *q->out = *first;
  if (a < 0 || a >= first->rank) return fail(q, "axis %lld of rank %d", (long long)a, first->rank);
  for (int i = 1; i < q->n_src; i++) {
    const Type *x = src_type(q, i);
    if (x->dtype != first->dtype || x->rank != first->rank)
      return fail_types(q, "one type and rank needed");
    for (int d = 0; d < first->rank; d++)
      if (d != a && x->dim[d] != first->dim[d])
        return fail_types(q, "shapes differ outside the axis");
    q->out->dim[a] += x->dim[a];
  }
  return true;
}

static bool rule_gather(Ask *q) {
  const Type *table = src_type(q, 0), *ids = src_type(q, 1);
  if (ids->dtype != DT_i32 || table->rank < 1)
    return fail_types(q, "needs a table of rank ≥ 1 and i32 ids");
  if (ids->rank + table->rank - 1 > IR_MAX_RANK)
    return fail_types(q, "the result's rank is too large");
  *q->out = type_of(table->dtype, ids->rank, ids->dim);
  for (int i = 1; i < table->rank; i++) q->out->dim[q->out->rank++] = table->dim[i];
  return true;
}

static bool rule_scatter(Ask *q) {
  const Type *ids = src_type(q, 0), *x = src_type(q, 1), *out = q->given;
  *q->out = *out;
  bool ok = ids->dtype == DT_i32 && x->dtype == out->dtype && is_number(x) && out->rank >= 1 &&
            x->rank == ids->rank + out->rank - 1;
  for (int i = 0; ok && i < ids->rank; i++) ok = x->dim[i] == ids->dim[i];
  for (int i = 1; ok && i < out->rank; i++) ok = x->dim[ids->rank + i - 1] == out->dim[i];
  return ok ? true : fail_types(q, "needs ids i32[i…], x[i…, r…], result [n, r…]");
}

/* ---- raised operations ---- */

static bool rule_along(Ask *q) {
  int64_t a = q->attr->ints[0];
  *q->out = *src_type(q, 0);
  if (a < 0 || a >= q->out->rank)
    return fail(q, "axis %lld of rank %d", (long long)a, q->out->rank);
  return dtype_is_float(q->out->dtype) ? true : fail_types(q, "needs floating point");
}

static bool rule_norm(Ask *q) {
  Type x = *src_type(q, 0);
  if (!dtype_is_float(x.dtype)) return fail_types(q, "needs floating point");
  bool ok = rule_reduce(q) && check_value(q, &x);
  *q->out = x;
  return ok;
}

static bool rule_loss(Ask *q) {
  const Type *x = src_type(q, 0), *y = src_type(q, 1);
  bool ok = dtype_is_float(x->dtype) && y->dtype == DT_i32 && x->rank == y->rank + 1;
  for (int i = 0; ok && i < y->rank; i++) ok = x->dim[i] == y->dim[i];
  *q->out = type_of(x->dtype, y->rank, y->dim);
  return ok ? true : fail_types(q, "needs logits [n…, v] and targets i32[n…]");
}

static bool rule_rope(Ask *q) {
  const Type *x = src_type(q, 0);
  Type half = *x;
  int64_t layout = q->attr->ints[0];
  *q->out = *x;
  if (layout != 0 && layout != 1) return fail(q, "no layout %lld", (long long)layout);
  bool ok = dtype_is_float(x->dtype) && x->rank > 0 && x->dim[x->rank - 1] % 2 == 0;
  if (ok) half.dim[x->rank - 1] /= 2;
  ok = ok && type_eq(&half, src_type(q, 1)) && type_eq(&half, src_type(q, 2));
  return ok ? true : fail_types(q, "needs x […, c] of even c, cosines and sines […, c/2]");
}

static bool (*const rule[OP_COUNT])(Ask *) = {
#define OP(name, sources, rule, attribute, flags, meaning) [OP_##name] = rule_##rule,
#include "ir/ops.def"
#undef OP
};

/* Attributes that the kind does not use must be zero, so that equal nodes compare equal. */
static bool check_attr(Ask *q) {
  const Attr *a = q->attr;
  AttrKind kind = ir_op[q->op].attr;
  int want = kind == ATTR_axis || kind == ATTR_place || kind == ATTR_layout ? 1
             : kind == ATTR_scan                                            ? 2
             : kind == ATTR_spans                                           ? 4
             : kind == ATTR_attention                                       ? ATT_COUNT
                                                                            : -1;
  bool counted = kind == ATTR_axes || kind == ATTR_perm || kind == ATTR_range ||
                 kind == ATTR_padding || kind == ATTR_norm;
  if (a->n_int < 0 || a->n_int > 2 * IR_MAX_RANK) return fail(q, "%d attribute numbers", a->n_int);
  if (want >= 0 ? a->n_int != want : !counted && a->n_int != 0)
    return fail(q, "expects %d attribute numbers, found %d", want < 0 ? 0 : want, a->n_int);
  if ((kind == ATTR_name) != (a->name != NULL))
    return fail(q, kind == ATTR_name ? "needs a name" : "takes no name");
  if (kind != ATTR_value && kind != ATTR_padding && kind != ATTR_norm && kind != ATTR_attention &&
      (a->value != 0 || signbit(a->value)))
    return fail(q, "takes no value");
  return true;
}

static bool check_size(Ask *q, const Type *t) {
  if (t->dtype >= DT_COUNT || t->rank > IR_MAX_RANK) return fail(q, "a type of rank %d", t->rank);
  int64_t count = 1;
  for (int i = 0; i < t->rank; i++) {
    if (t->dim[i] < 1 || t->dim[i] > IR_MAX_ELEMENTS)
      return fail(q, "a dimension of %lld", (long long)t->dim[i]);
    count *= t->dim[i];
    if (count > IR_MAX_ELEMENTS) return fail(q, "more than 2^31 elements");
  }
  return true;
}

bool ir_infer(Op op, const Type *given, const Attr *attr, int n_src, Node *const *src, Type *out,
              Buf *why) {
  const OpInfo *info = &ir_op[op];
  Ask q = {op, info->given ? given : NULL, attr, n_src, src, out, why};
  *out = (Type){0};
  if (info->given && !given) return fail(&q, "the result's type must be given");
  if (info->n_src >= 0 ? n_src != info->n_src : n_src < 1 || n_src > IR_MAX_SRC)
    return info->n_src < 0 ? fail(&q, "expects 1 to %d sources, found %d", IR_MAX_SRC, n_src)
                           : fail(&q, "expects %d source%s, found %d", info->n_src,
                                  info->n_src == 1 ? "" : "s", n_src);
  if (info->given && !check_size(&q, given)) return false;
  if (!check_attr(&q) || !rule[op](&q) || !check_size(&q, out)) return false;
  for (int i = out->rank; i < IR_MAX_RANK; i++) out->dim[i] = 0;
  return true;
}
