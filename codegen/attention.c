/* attention and its gradients, without the T×T matrix: an invocation owns rows of one side, keeps
 * them and their sums to itself, and lets the rows of the other side stream past, a few at a time.
 *
 *   o, lse   owns queries; keys stream    score = q·k, online softmax, o += p·v
 *   dq       owns queries; keys stream    p from lse, dp = do·v, ds = p·(dp − delta), dq += ds·k
 *   dk, dv   owns keys; queries stream    the same p and ds, dv += p·do, dk += ds·q
 *
 *                 streamed rows, all channels                 one workgroup: own rows of one head,
 *                 ┌─┬─┬─┬─┐ ┌─┬─┬─┬─┐                         from all streamed rows that the band
 *      own rows   │0│1│2│3│ │ block │ …                       lets them see: tiles outside of it are
 *      0   ░░░░░  ├─┼─┼─┼─┤                                   not visited, so causal costs half
 *      1   ░░░░░  │ scores │   p → sums of own rows
 *
 * Two levels. Portable: 64 invocations with a row each; streamed rows are read at one address by
 * all. Subgroup (a CPU driver with subgroups of 8): 8 invocations with one row each, or two where
 * heads are small; lane L loads streamed row L of a block of eight, and all lanes get it by shuffles
 * from constant lanes.
 *
 * A block's sum is made by itself and then added, o = o·exp(m − m') + Σ p·v, so that the error grows
 * with the number of blocks. Keys that are not visible have score −∞. */
#include "codegen/attention.h"

#include <math.h>
#include <string.h>

enum {
  UNROLL = 32, /* quads of channels, at most */
  STEP = 8,    /* in a loop */
  LOCAL = 64,
  TWO_ROWS = 64 /* channels kept for a row, at most: more spill, and compile slowly */
};

/* ---- operands ---- */

static AttRows make_rows(Attention *m, const Node *n) {
  AttRows r = {.rows = n->type.dim[m->rank - 2], .channels = n->type.dim[m->rank - 1]};
  if (!cg_strided(n, m->k->job->stored, &r.at))
    die("codegen: %s %%%d: source %%%d has no strides", ir_op[m->k->job->anchor->op].name,
        m->k->job->anchor->id, n->id);
  r.row = r.at.stride[m->rank - 2];
  r.channel = r.at.stride[m->rank - 1];
  r.wide = (r.channel == 1 || r.channels == 1) && r.channels % 4 == 0 && r.at.offset % 4 == 0;
  for (int i = 0; i < m->rank - 1; i++)
    r.wide = r.wide && (r.at.stride[i] % 4 == 0 || n->type.dim[i] == 1);
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

static AttPrivate kept(Attention *m, const AttRows *from, int64_t channels, const Ix *head, int g) {
  Fill f = {private_rows(m, channels), from, 0};
  if (from) {
    SpvId row = ix_emit(m->k->ix, m->row_ix[g]);
    f.row_at = att_row(m, from, head, row);
  }
  att_each_quad(m, channels, fill_quad, &f);
  return f.to;
}

static SpvId variable(Attention *m, float value) {
  SpvId v = spv_local(m->k->b, spv_f32(m->k->b));
  SpvId start = const_f(m->k, value);
  spv_set(m->k->b, v, start);
  return v;
}

static void begin_rows(Attention *m) {
  const Ix *head = m->to_keys ? m->key_head : m->query_head;
  for (int g = 0; g < m->groups; g++) {
    m->a_own[g] = kept(m, &m->own_a, m->c, head, g);
    if (m->backward) m->b_own[g] = kept(m, &m->own_b, m->e, head, g);
    if (m->sum_a) m->a_sum[g] = kept(m, NULL, m->c, head, g);
    if (m->sum_b) m->b_sum[g] = kept(m, NULL, m->e, head, g);
    if (!m->backward) {
      m->most[g] = variable(m, -INFINITY);
      m->total[g] = variable(m, 0);
    } else if (!m->to_keys) {
      SpvId row = ix_emit(m->k->ix, m->row_ix[g]);
      SpvId at = att_row(m, &m->lse, head, row);
      m->own_lse[g] = kernel_load_at(m->k, m->lse.at.base, at);
      at = att_row(m, &m->delta, head, row);
      m->own_delta[g] = kernel_load_at(m->k, m->delta.at.base, at);
      att_without_keys(m, &m->own_lse[g], &m->own_delta[g]);
    }
  }
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

static const Node *family_member(const Node *n) {
  while (ir_op[n->op].flags & IR_VIEW) n = n->src[0];
  return n;
}

/* Where the rows of an out's member of the family go: through the views that the out is. */
static AttRows out_rows(Attention *m, const Node *out) {
  const Node *n = family_member(out);
  AttRows r = {.channels = n->type.dim[m->rank - 1]};
  if (!cg_store_strides(n, out, r.at.stride))
    die("codegen: %%%d is no view that %%%d can be stored through", out->id, n->id);
  r.row = r.at.stride[m->rank - 2];
  r.channel = r.at.stride[m->rank - 1];
  r.wide = r.channel == 1 && r.channels % 4 == 0;
  for (int i = 0; i < m->rank - 1; i++)
    r.wide = r.wide && (r.at.stride[i] % 4 == 0 || n->type.dim[i] == 1);
  return r;
}

/* To every out that is this member of the family. */
static void store_rows(Attention *m, Op op, int g, AttPrivate from, SpvId factor) {
  const KernelJob *job = m->k->job;
  const Ix *head = m->to_keys ? m->key_head : m->query_head;
  for (int i = 0; i < job->n_out; i++) {
    if (family_member(job->out[i]) != m->node[op]) continue;
    AttRows to = out_rows(m, job->out[i]);
    Store s = {i, from, factor, att_row(m, &to, head, m->row[g]), to.channel, to.wide};
    att_each_quad(m, to.channels, store_quad, &s);
  }
}

static void store_lse(Attention *m, int g, SpvId total) {
  const KernelJob *job = m->k->job;
  for (int i = 0; i < job->n_out; i++) {
    if (family_member(job->out[i]) != m->node[OP_attention_lse]) continue;
    AttRows to = out_rows(m, job->out[i]);
    SpvId most = spv_get(m->k->b, m->most[g]);
    SpvId lse = math_log(m->k, total);
    lse = add_f(m->k, most, lse);
    SpvId at = att_row(m, &to, m->query_head, m->row[g]);
    kernel_store(m->k, i, at, 1, &lse);
  }
}

/* o = sum / total and lse = most + log total; of a query that sees no key zeros or NaN, and −∞. */
static void finish_forward(Attention *m, int g) {
  Kernel *k = m->k;
  SpvId total = spv_get(k->b, m->total[g]), zero = const_f(k, 0), one = const_f(k, 1);
  if (m->node[OP_attention]) {
    SpvId none = equal_f(k, total, zero);
    SpvId factor = div_f(k, one, total);
    SpvId empty = const_f(k, m->a.empty_nan ? NAN : 0);
    factor = choose(k, none, empty, factor);
    store_rows(m, OP_attention, g, m->b_sum[g], factor);
  }
  store_lse(m, g, total);
}

static void finish(Attention *m) {
  Kernel *k = m->k;
  SpvId scale = const_f(k, (float)m->a.scale), one = const_f(k, 1);
  bool edge = m->own_rows % (m->groups * (int64_t)k->out->local[0]) != 0;
  for (int g = 0; g < m->groups; g++) {
    if (edge) {
      SpvId rows = const_u(k, (uint32_t)m->own_rows);
      SpvId within = spv_cmp(k->b, SpvOpULessThan, m->row[g], rows);
      spv_if(k->b, within);
    }
    if (!m->backward) finish_forward(m, g);
    store_rows(m, OP_attention_dq, g, m->a_sum[g], scale);
    store_rows(m, OP_attention_dk, g, m->a_sum[g], scale);
    store_rows(m, OP_attention_dv, g, m->b_sum[g], one);
    if (edge) spv_end(k->b);
  }
}

/* ---- the streamed rows ---- */

/* max(row + by, 0) and min(row + by, most) for a row of this workgroup */
static SpvId shifted(Attention *m, SpvId row, int64_t by) {
  Kernel *k = m->k;
  SpvId at = op_u(k, SpvOpIAdd, row, (uint32_t)by);
  SpvId zero = const_u(k, 0);
  SpvId below = spv_cmp(k->b, SpvOpSLessThan, at, zero);
  return choose(k, below, zero, at);
}

static SpvId smaller(Attention *m, SpvId x, SpvId y) {
  SpvId less = spv_cmp(m->k->b, SpvOpULessThan, x, y);
  return choose(m->k, less, x, y);
}

typedef struct Stream {
  Attention *m;
  SpvId first;
} Stream;

static void stream_block(void *context, SpvId i) {
  const Stream *s = context;
  Kernel *k = s->m->k;
  SpvId row = op_u(k, SpvOpIMul, i, (uint32_t)s->m->stream);
  row = spv_bin(k->b, SpvOpIAdd, row, s->first);
  att_block(s->m, row);
}

/* All rows from the first to the last that a row of this workgroup sees: key j and query i where
 * lo <= j − i <= hi. `tile` is the first own row. */
static void stream_rows(Attention *m, SpvId tile, int64_t tile_rows, int64_t times) {
  Kernel *k = m->k;
  int64_t lo = m->to_keys ? -m->a.hi : m->a.lo, hi = m->to_keys ? -m->a.lo : m->a.hi;
  SpvId all = const_u(k, (uint32_t)m->stream_rows), first = const_u(k, 0), end = all;
  if (lo > -m->own_rows) {
    first = shifted(m, tile, lo);
    first = smaller(m, first, all);
  }
  if (hi < m->stream_rows) {
    end = shifted(m, tile, hi + tile_rows); /* one past that of the last own row */
    end = smaller(m, end, all);
    SpvId none = spv_cmp(k->b, SpvOpULessThan, end, first);
    end = choose(k, none, first, end);
  }
  /* a tile begins at a multiple of a block */
  m->edge = m->stream_rows % m->stream != 0 || (lo > -m->own_rows && lo % m->stream != 0);
  Stream s = {m, first};
  SpvId n = spv_bin(k->b, SpvOpISub, end, first);
  n = op_u(k, SpvOpIAdd, n, (uint32_t)m->stream - 1);
  n = op_u(k, SpvOpUDiv, n, (uint32_t)m->stream);
  kernel_repeat(k, n, (m->stream_rows + m->stream - 1) / m->stream, times, stream_block, &s);
}

/* ---- the whole ---- */

static void find_members(Attention *m) {
  const KernelJob *job = m->k->job;
  for (int i = 0; i < job->n_out; i++) {
    const Node *n = family_member(job->out[i]);
    if (!ir_attention_sources(n->op))
      die("codegen: %%%d is no out of a kernel for attention", job->out[i]->id);
    m->node[n->op] = n;
  }
}

/* A band that every key or query is within is none; beyond its rows it ends. */
static void clip_band(Attention *m) {
  if (m->a.lo < -m->t) m->a.lo = -m->t;
  if (m->a.hi < -m->t) m->a.hi = -m->t;
  if (m->a.lo > m->s) m->a.lo = m->s;
  if (m->a.hi > m->s) m->a.hi = m->s;
}

static void set_up(Attention *m) {
  const Node *const *node = m->node;
  const Node *n = node[OP_attention]      ? node[OP_attention]
                  : node[OP_attention_dq] ? node[OP_attention_dq]
                  : node[OP_attention_dk] ? node[OP_attention_dk]
                  : node[OP_attention_dv] ? node[OP_attention_dv]
                                          : node[OP_attention_lse];
  int r = m->rank = n->src[0]->type.rank;
  bool lse_alone = n->op == OP_attention_lse;
  m->a = ir_attention(n);
  m->n_batch = r - 3;
  m->batches = 1;
  for (int i = 0; i < r - 3; i++) m->batches *= m->batch_dim[i] = n->src[0]->type.dim[i];
  m->h = n->src[0]->type.dim[r - 3];
  m->t = n->src[0]->type.dim[r - 2];
  m->c = n->src[0]->type.dim[r - 1];
  m->kv = n->src[1]->type.dim[r - 3];
  m->s = n->src[1]->type.dim[r - 2];
  m->e = lse_alone ? 0 : n->src[2]->type.dim[r - 1];
  m->to_keys = node[OP_attention_dk] || node[OP_attention_dv];
  m->backward = m->to_keys || node[OP_attention_dq];
  m->sum_a = node[OP_attention_dq] || node[OP_attention_dk];
  m->sum_b = node[OP_attention] || node[OP_attention_dv];
  AttRows q = make_rows(m, n->src[0]), k = make_rows(m, n->src[1]), none = {0};
  AttRows v = lse_alone ? none : make_rows(m, n->src[2]);
  AttRows d = m->backward ? make_rows(m, n->src[5]) : none;
  if (m->backward) m->lse = make_rows(m, n->src[3]), m->delta = make_rows(m, n->src[4]);
  m->own_a = m->to_keys ? k : q;
  m->own_b = m->to_keys ? v : d;
  m->stream_a = m->to_keys ? q : k;
  m->stream_b = m->to_keys ? d : v;
  m->own_heads = m->to_keys ? m->kv : m->h;
  m->own_rows = m->to_keys ? m->s : m->t;
  m->stream_rows = m->to_keys ? m->t : m->s;
  clip_band(m);
}

/* Iterations of the loops over channels, for each time that rows stream past. */
static int64_t channel_loops(const Attention *m) {
  int64_t c = m->c / 4 > UNROLL ? m->c / 4 / STEP : 0, e = m->e / 4 > UNROLL ? m->e / 4 / STEP : 0;
  return 1 + 2 * (c + e);
}

/* 2 flops for each term of the products of rows: as many as the band leaves of s·t. */
static double count_flops(const Attention *m) {
  double pairs = 0;
  for (int64_t i = 0; i < m->t; i++) {
    int64_t first = i + m->a.lo > 0 ? i + m->a.lo : 0;
    int64_t last = i + m->a.hi < m->s - 1 ? i + m->a.hi : m->s - 1;
    if (last >= first) pairs += (double)(last - first + 1);
  }
  int64_t channels = m->c * (1 + m->sum_a) + m->e * (m->backward + m->sum_b);
  return 2 * pairs * (double)(channels * m->h * m->batches);
}

void emit_attention(Kernel *k) {
  const Target *t = k->target;
  Spv *b = k->b;
  Attention all = {.k = k}, *m = &all;
  find_members(m);
  set_up(m);
  bool share = t->is_cpu && t->subgroup_shuffle && t->subgroup_size == ATT_MAX_STREAM;
  int64_t kept = m->c * (1 + m->sum_a) + m->e * (m->backward + m->sum_b);
  m->groups = share && kept <= TWO_ROWS && m->own_rows > ATT_MAX_STREAM ? 2 : 1;
  m->lanes = share ? ATT_MAX_STREAM : 1;
  m->stream = share ? ATT_MAX_STREAM : 4;
  uint32_t local = share ? ATT_MAX_STREAM : LOCAL;
  int64_t tile_rows = (int64_t)local * m->groups;
  int64_t tiles = (m->own_rows + tile_rows - 1) / tile_rows;
  int64_t total = tiles * m->own_heads * m->batches;
  kernel_groups(k, total, local);
  if (share) k->out->subgroup_size = t->subgroup_size;

  SpvId group = kernel_group(k), limit = const_u(k, (uint32_t)total);
  SpvId within = spv_cmp(b, SpvOpULessThan, group, limit);
  spv_if(b, within);
  const Ix *at = ix_value(k->ix, group, total);
  const Ix *rest = ix_div(k->ix, at, tiles);
  SpvId tile = ix_emit(k->ix, ix_mul(k->ix, ix_mod(k->ix, at, tiles), tile_rows));
  const Ix *head = ix_mod(k->ix, rest, m->own_heads);
  ix_split(k->ix, ix_div(k->ix, rest, m->own_heads), m->n_batch, m->batch_dim, m->batch);
  m->lane =
    share ? spv_builtin(b, SpvBuiltInSubgroupLocalInvocationId, spv_u32(b)) : kernel_lane(k, 0);
  for (int g = 0; g < m->groups; g++) {
    SpvId row = op_u(k, SpvOpIAdd, m->lane, (uint32_t)g * local);
    m->row[g] = spv_bin(b, SpvOpIAdd, tile, row);
    SpvId last = const_u(k, (uint32_t)(m->own_rows - 1));
    row = smaller(m, m->row[g], last);
    m->row_ix[g] = ix_value(k->ix, row, m->own_rows);
  }
  int64_t per_key = m->h / m->kv;
  m->query_head = head;
  m->key_head = m->to_keys ? head : ix_div(k->ix, head, per_key);
  begin_rows(m);
  if (m->to_keys && per_key > 1) {
    SpvId n = const_u(k, (uint32_t)per_key);
    SpvId i = spv_for(b, n);
    m->query_head = ix_add(k->ix, ix_mul(k->ix, head, per_key), ix_value(k->ix, i, per_key));
    stream_rows(m, tile, tile_rows, per_key * channel_loops(m));
    spv_end(b);
  } else {
    stream_rows(m, tile, tile_rows, channel_loops(m));
  }
  finish(m);
  spv_end(b);
  k->out->flops = count_flops(m);
}
