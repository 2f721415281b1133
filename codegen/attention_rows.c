/* Attention's operands and results as rows of channels, four at a time: in memory through the strides
 * of views, and those that an invocation keeps. */
#include "codegen/attention.h"

enum { UNROLL = 32 /* quads of channels, at most */, STEP = 8 /* in a loop */ };

/* ---- operands ---- */

static bool is_wide(const Attention *m, const AttRows *r, const Type *t) {
  bool wide = r->channel == 1 && r->channels % 4 == 0 && r->at.offset % 4 == 0;
  for (int i = 0; i < m->rank - 1; i++) wide = wide && (r->at.stride[i] % 4 == 0 || t->dim[i] == 1);
  return wide;
}

AttRows att_rows(Attention *m, const Node *n) {
  AttRows r = {.rows = n->type.dim[m->rank - 2], .channels = n->type.dim[m->rank - 1]};
  if (!cg_strided(n, m->k->job->stored, &r.at))
    die("codegen: attention for %%%d: source %%%d has no strides", m->k->job->out[0]->id, n->id);
  r.row = r.at.stride[m->rank - 2];
  r.channel = r.at.stride[m->rank - 1];
  r.wide = is_wide(m, &r, &n->type);
  return r;
}

SpvId att_row(Attention *m, const AttRows *r, const Ix *head, SpvId row) {
  IxTable *ix = m->k->ix;
  const Ix *sum =
    ix_add(ix, ix_const(ix, r->at.offset), ix_mul(ix, head, r->at.stride[m->n_batch]));
  for (int i = 0; i < m->n_batch; i++)
    sum = ix_add(ix, sum, ix_mul(ix, m->batch[i], r->at.stride[i]));
  SpvId origin = ix_emit(ix, sum);
  SpvId distance = op_u(m->k, SpvOpIMul, row, (uint32_t)r->row);
  return spv_bin(m->k->b, SpvOpIAdd, origin, distance);
}

SpvId att_load(Attention *m, const AttRows *r, SpvId row_at, SpvId quad, int n) {
  Kernel *k = m->k;
  SpvId value[4];
  if (r->wide && n == 4) {
    SpvId at = op_u(k, SpvOpShiftRightLogical, row_at, 2);
    at = spv_bin(k->b, SpvOpIAdd, at, quad);
    return kernel_load4_at(k, r->at.base, at);
  }
  SpvId first = op_u(k, SpvOpIMul, quad, (uint32_t)(4 * r->channel));
  first = spv_bin(k->b, SpvOpIAdd, row_at, first);
  for (int i = 0; i < 4; i++) {
    SpvId at = op_u(k, SpvOpIAdd, first, (uint32_t)(i * r->channel));
    value[i] = i < n ? kernel_load_at(k, r->at.base, at) : const_f(k, 0);
  }
  SpvId vec4 = spv_vec(k->b, spv_f32(k->b), 4);
  return spv_pure_n(k->b, SpvOpCompositeConstruct, vec4, 4, value);
}

void att_each_quad(Attention *m, int64_t channels, AttQuad *body, void *context) {
  Kernel *k = m->k;
  int64_t whole = channels / 4, done = 0;
  if (whole > UNROLL) {
    SpvId n = const_u(k, (uint32_t)(whole / STEP));
    SpvId i = spv_for(k->b, n);
    i = op_u(k, SpvOpIMul, i, STEP);
    for (uint32_t u = 0; u < STEP; u++) {
      SpvId quad = op_u(k, SpvOpIAdd, i, u);
      body(m, quad, 4, context);
    }
    spv_end(k->b);
    done = whole / STEP * STEP;
  }
  for (; 4 * done < channels; done++) {
    SpvId quad = const_u(k, (uint32_t)done);
    body(m, quad, channels - 4 * done < 4 ? (int)(channels - 4 * done) : 4, context);
  }
}

/* ---- rows kept by an invocation ---- */

static AttPrivate private_rows(Attention *m, int64_t channels) {
  SpvId vec4 = spv_vec(m->k->b, spv_f32(m->k->b), 4);
  SpvId type = spv_array(m->k->b, vec4, (uint32_t)((channels + 3) / 4));
  return spv_local(m->k->b, type);
}

typedef struct Fill {
  AttPrivate to;
  const AttRows *from; /* NULL: zeros */
  SpvId row_at;
} Fill;

static void fill_quad(Attention *m, SpvId quad, int n, void *context) {
  const Fill *f = context;
  Kernel *k = m->k;
  SpvId zero = const_f(k, 0);
  SpvId vec4 = spv_vec(k->b, spv_f32(k->b), 4);
  SpvId value = f->from ? att_load(m, f->from, f->row_at, quad, n)
                        : spv_pure(k->b, SpvOpCompositeConstruct, vec4, zero, zero, zero, zero);
  SpvId at = spv_local_at(k->b, f->to, quad);
  spv_set(k->b, at, value);
}

AttPrivate att_keep(Attention *m, const AttRows *from, int64_t channels, const Ix *head, int g) {
  Fill f = {private_rows(m, channels), from, 0};
  if (from) {
    SpvId row = ix_emit(m->k->ix, m->row_ix[g]);
    f.row_at = att_row(m, from, head, row);
  }
  att_each_quad(m, channels, fill_quad, &f);
  return f.to;
}

/* ---- results ---- */

typedef struct Store {
  int out;
  AttPrivate from;
  SpvId factor, row_at;
  int64_t channel; /* stride */
  bool wide;
} Store;

static void store_quad(Attention *m, SpvId quad, int n, void *context) {
  const Store *s = context;
  Kernel *k = m->k;
  SpvId value[4];
  SpvId at = spv_local_at(k->b, s->from, quad);
  SpvId sum = spv_get(k->b, at);
  for (int i = 0; i < n; i++) {
    value[i] = spv_extract(k->b, sum, (uint32_t)i);
    value[i] = mul_f(k, value[i], s->factor);
    value[i] = math_round(k, (DType)k->job->out[s->out]->type.dtype, value[i]);
  }
  if (s->wide) {
    at = op_u(k, SpvOpShiftRightLogical, s->row_at, 2);
    at = spv_bin(k->b, SpvOpIAdd, at, quad);
    kernel_store(k, s->out, at, 4, value);
    return;
  }
  SpvId first = op_u(k, SpvOpIMul, quad, (uint32_t)(4 * s->channel));
  first = spv_bin(k->b, SpvOpIAdd, s->row_at, first);
  for (int i = 0; i < n; i++) {
    at = op_u(k, SpvOpIAdd, first, (uint32_t)(i * s->channel));
    kernel_store(k, s->out, at, 1, &value[i]);
  }
}

const Node *att_member(const Node *n) {
  while (!ir_attention_sources(n->op) && n->n_src == 1) n = n->src[0];
  return n;
}

AttRows att_out(Attention *m, const Node *out) {
  const Node *n = att_member(out);
  AttRows r = {.channels = n->type.dim[m->rank - 1]};
  if (!cg_store_strides(n, out, r.at.stride))
    die("codegen: %%%d is no view that %%%d can be stored through", out->id, n->id);
  r.row = r.at.stride[m->rank - 2];
  r.channel = r.at.stride[m->rank - 1];
  r.wide = is_wide(m, &r, &n->type);
  return r;
}

void att_store(Attention *m, Op op, int g, AttPrivate from, SpvId factor) {
  const KernelJob *job = m->k->job;
  const Ix *head = m->to_keys ? m->key_head : m->query_head;
  for (int i = 0; i < job->n_out; i++) {
    if (att_member(job->out[i]) != m->node[op]) continue;
    AttRows to = att_out(m, job->out[i]);
    Store s = {i, from, factor, att_row(m, &to, head, m->row[g]), to.channel, to.wide};
    att_each_quad(m, to.channels, store_quad, &s);
  }
}

int64_t att_channel_loops(const Attention *m) {
  int64_t c = m->c / 4 > UNROLL ? m->c / 4 / STEP : 0, e = m->e / 4 > UNROLL ? m->e / 4 / STEP : 0;
  return 1 + 2 * (c + e);
}
