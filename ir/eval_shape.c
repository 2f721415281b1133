/* Evaluator: leaves, random numbers, views and indexing. */
#include "ir/eval_internal.h"

#include <math.h>
#include <string.h>

void eval_walk(const EvalWalk *w,
               void (*row)(void *ctx, int64_t n, int64_t pa, int64_t sa, int64_t pb, int64_t sb),
               void *ctx) {
  if (w->rank == 0) {
    row(ctx, 1, 0, 0, 0, 0);
    return;
  }
  int inner = w->rank - 1;
  int64_t at[IR_MAX_RANK] = {0}, pa = 0, pb = 0;
  for (;;) {
    row(ctx, w->dim[inner], pa, w->a[inner], pb, w->b[inner]);
    int d = inner - 1;
    for (; d >= 0; d--) {
      pa += w->a[d];
      pb += w->b[d];
      if (++at[d] < w->dim[d]) break;
      pa -= w->a[d] * w->dim[d];
      pb -= w->b[d] * w->dim[d];
      at[d] = 0;
    }
    if (d < 0) return;
  }
}

typedef struct Copy {
  double *to;
  const double *from;
} Copy;

static void copy_row(void *ctx, int64_t n, int64_t pa, int64_t sa, int64_t pb, int64_t sb) {
  Copy *c = ctx;
  for (int64_t i = 0; i < n; i++) c->to[pa + i * sa] = c->from[pb + i * sb];
}

/* ---- leaves ---- */
void eval_const(EvalStep *s) {
  for (int64_t i = 0; i < s->count; i++) s->out[i] = s->n->value;
}

void eval_iota(EvalStep *s) {
  int64_t stride[IR_MAX_RANK];
  int axis = (int)s->n->ints[0];
  shape_strides(&s->n->type, stride);
  for (int64_t i = 0; i < s->count; i++)
    s->out[i] = (double)(i / stride[axis] % s->n->type.dim[axis]);
}

void eval_position(EvalStep *s) {
  for (int64_t i = 0; i < s->count; i++) s->out[i] = (double)i;
}

static void take_feed(EvalStep *s) {
  DType d = (DType)s->n->type.dtype;
  for (int64_t i = 0; i < s->count; i++)
    s->out[i] = dtype_is_float(d) ? s->feed[i] : dtype_round(d, s->feed[i]);
}

void eval_param(EvalStep *s) { take_feed(s); }
void eval_state(EvalStep *s) { take_feed(s); }
void eval_input(EvalStep *s) { take_feed(s); }

/* Element i is word i mod 4 of philox(counter = {i / 4, place, rng[2], rng[3]}, key = {rng[0],
 * rng[1]}), its upper 24 bits. */
void eval_random(EvalStep *s) {
  uint32_t rng[4], word[4] = {0};
  for (int i = 0; i < 4; i++) rng[i] = (uint32_t)(int32_t)s->src[0][i];
  for (int64_t i = 0; i < s->count; i++) {
    if (i % 4 == 0)
      philox4x32((uint32_t[]){(uint32_t)(i / 4), (uint32_t)s->n->ints[0], rng[2], rng[3]}, rng,
                 word);
    s->out[i] = (word[i % 4] >> 8) * 0x1p-24;
  }
}

/* ---- views ---- */
void eval_reshape(EvalStep *s) { memcpy(s->out, s->src[0], sizeof *s->out * (size_t)s->count); }

/* Reads x at the strides b of a walk over the result, from element `from` of x on. */
static void read_view(EvalStep *s, EvalWalk *w, int64_t from) {
  const Type *t = &s->n->type;
  w->rank = t->rank;
  shape_strides(t, w->a);
  for (int i = 0; i < t->rank; i++) w->dim[i] = t->dim[i];
  eval_walk(w, copy_row, &(Copy){s->out, s->src[0] + from});
}

void eval_expand(EvalStep *s) {
  const Type *x = eval_src_type(s, 0);
  EvalWalk w;
  shape_strides(x, w.b);
  for (int i = 0; i < x->rank; i++)
    if (x->dim[i] == 1) w.b[i] = 0;
  read_view(s, &w, 0);
}

void eval_permute(EvalStep *s) {
  const Type *x = eval_src_type(s, 0);
  EvalWalk w;
  int64_t stride[IR_MAX_RANK];
  shape_strides(x, stride);
  for (int i = 0; i < x->rank; i++) w.b[i] = stride[s->n->ints[i]];
  read_view(s, &w, 0);
}

void eval_slice(EvalStep *s) {
  const Type *x = eval_src_type(s, 0);
  EvalWalk w;
  shape_strides(x, w.b);
  int64_t from = 0;
  for (int i = 0; i < x->rank; i++) from += s->n->ints[i] * w.b[i];
  read_view(s, &w, from);
}

/* Writes all of x into the result, its first element at `to`. */
static void place(EvalStep *s, const double *x, const Type *t, int64_t to) {
  EvalWalk w = {.rank = t->rank};
  shape_strides(&s->n->type, w.a);
  shape_strides(t, w.b);
  for (int i = 0; i < t->rank; i++) w.dim[i] = t->dim[i];
  eval_walk(&w, copy_row, &(Copy){s->out + to, x});
}

void eval_pad(EvalStep *s) {
  const Type *x = eval_src_type(s, 0);
  int64_t stride[IR_MAX_RANK], to = 0;
  shape_strides(&s->n->type, stride);
  for (int i = 0; i < x->rank; i++) to += s->n->ints[i] * stride[i];
  for (int64_t i = 0; i < s->count; i++) s->out[i] = s->n->value;
  place(s, s->src[0], x, to);
}

void eval_concat(EvalStep *s) {
  int axis = (int)s->n->ints[0];
  int64_t stride[IR_MAX_RANK], to = 0;
  shape_strides(&s->n->type, stride);
  for (int i = 0; i < s->n->n_src; i++) {
    place(s, s->src[i], eval_src_type(s, i), to);
    to += eval_src_type(s, i)->dim[axis] * stride[axis];
  }
}

/* ---- indexing ---- */
void eval_gather(EvalStep *s) {
  const Type *table = eval_src_type(s, 0);
  int64_t rows = table->dim[0], row = type_count(table) / rows;
  double outside = dtype_is_float(table->dtype) ? NAN : 0;
  for (int64_t i = 0; i < s->count / row; i++) {
    int64_t id = (int64_t)s->src[1][i];
    double *out = s->out + i * row;
    if (id >= 0 && id < rows) {
      memcpy(out, s->src[0] + id * row, sizeof *out * (size_t)row);
    } else {
      for (int64_t j = 0; j < row; j++) out[j] = outside;
    }
  }
}

void eval_scatter_add(EvalStep *s) {
  int64_t rows = s->n->type.dim[0], row = s->count / rows, n_id = type_count(eval_src_type(s, 0));
  bool is_int = s->n->type.dtype == DT_i32;
  memset(s->out, 0, sizeof *s->out * (size_t)s->count);
  for (int64_t i = 0; i < n_id; i++) {
    int64_t id = (int64_t)s->src[0][i];
    if (id < 0 || id >= rows) continue;
    double *out = s->out + id * row;
    const double *x = s->src[1] + i * row;
    for (int64_t j = 0; j < row; j++)
      out[j] = is_int ? eval_wrap((int64_t)out[j] + (int64_t)x[j]) : out[j] + x[j];
  }
}
