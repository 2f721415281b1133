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

enum {
  LOCAL = 64,
  TWO_ROWS = 64 /* channels kept for a row, at most: more spill, and compile slowly */
};

/* ---- rows of this invocation ---- */

static SpvId variable(Attention *m, float value) {
  SpvId v = spv_local(m->k->b, spv_f32(m->k->b));
  SpvId start = const_f(m->k, value);
  spv_set(m->k->b, v, start);
  return v;
}

static void begin_rows(Attention *m) {
  const Ix *head = m->to_keys ? m->key_head : m->query_head;
  for (int g = 0; g < m->groups; g++) {
    m->a_own[g] = att_keep(m, &m->own_a, m->c, head, g);
    if (m->backward) m->b_own[g] = att_keep(m, &m->own_b, m->e, head, g);
    if (m->sum_a) m->a_sum[g] = att_keep(m, NULL, m->c, head, g);
    if (m->sum_b) m->b_sum[g] = att_keep(m, NULL, m->e, head, g);
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

static void store_lse(Attention *m, int g, SpvId total) {
  const KernelJob *job = m->k->job;
  for (int i = 0; i < job->n_out; i++) {
    if (att_member(job->out[i]) != m->node[OP_attention_lse]) continue;
    AttRows to = att_out(m, job->out[i]);
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
    att_store(m, OP_attention, g, m->b_sum[g], factor);
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
    att_store(m, OP_attention_dq, g, m->a_sum[g], scale);
    att_store(m, OP_attention_dk, g, m->a_sum[g], scale);
    att_store(m, OP_attention_dv, g, m->b_sum[g], one);
    if (edge) spv_end(k->b);
  }
}

/* ---- the streamed rows ---- */

SpvId att_shift(Attention *m) {
  return ix_emit(m->k->ix, ix_mul(m->k->ix, m->batch[m->n_batch - 1], m->a.shift));
}

/* max(row + by, 0) */
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

SpvId att_range(Attention *m, SpvId tile, int64_t tile_rows, SpvId *blocks) {
  Kernel *k = m->k;
  int64_t lo = m->to_keys ? -m->a.hi : m->a.lo, hi = m->to_keys ? -m->a.lo : m->a.hi;
  int64_t own_rows = m->own_rows + (m->to_keys ? m->past : 0),
          stream_rows = m->stream_rows + (m->to_keys ? 0 : m->past);
  SpvId all = const_u(k, (uint32_t)m->stream_rows), first = const_u(k, 0), end = all;
  if (m->a.shift) { /* what the tile counts as among the other side's rows */
    SpvId by = att_shift(m);
    tile = spv_bin(k->b, m->to_keys ? SpvOpIAdd : SpvOpISub, tile, by);
  }
  if (lo > -own_rows) {
    first = shifted(m, tile, lo);
    first = smaller(m, first, all);
  }
  if (hi < stream_rows) {
    end = shifted(m, tile, hi + tile_rows); /* one past that of the last own row */
    end = smaller(m, end, all);
    SpvId none = spv_cmp(k->b, SpvOpULessThan, end, first);
    end = choose(k, none, first, end);
  }
  bool whole = lo <= -own_rows ||
               (lo % m->stream == 0 && tile_rows % m->stream == 0 && m->a.shift % m->stream == 0);
  m->edge = m->stream_rows % m->stream != 0 || !whole;
  SpvId n = spv_bin(k->b, SpvOpISub, end, first);
  n = op_u(k, SpvOpIAdd, n, (uint32_t)m->stream - 1);
  *blocks = op_u(k, SpvOpUDiv, n, (uint32_t)m->stream);
  return first;
}

typedef struct Stream {
  Attention *m;
  SpvId tile, first;
  int64_t tile_rows, times;
  AttBlock *body;
  void *context;
} Stream;

static void stream_block(void *context, SpvId i) {
  const Stream *s = context;
  Kernel *k = s->m->k;
  SpvId row = op_u(k, SpvOpIMul, i, (uint32_t)s->m->stream);
  row = spv_bin(k->b, SpvOpIAdd, row, s->first);
  s->body(s->context, row);
}

static void stream(void *context) {
  Stream *s = context;
  Attention *m = s->m;
  SpvId n;
  s->first = att_range(m, s->tile, s->tile_rows, &n);
  kernel_repeat(m->k, n, (m->stream_rows + m->stream - 1) / m->stream, s->times, stream_block, s);
}

void att_stream(Attention *m, SpvId tile, int64_t tile_rows, int64_t times, AttBlock *body,
                void *context) {
  stream(&(Stream){m, tile, 0, tile_rows, times, body, context});
}

void att_query_heads(Attention *m, void (*body)(void *context), void *context) {
  Kernel *k = m->k;
  int64_t per_key = m->h / m->kv;
  if (!m->to_keys || per_key == 1) {
    body(context);
    return;
  }
  SpvId n = const_u(k, (uint32_t)per_key);
  SpvId i = spv_for(k->b, n);
  m->query_head = ix_add(k->ix, ix_mul(k->ix, m->key_head, per_key), ix_value(k->ix, i, per_key));
  body(context);
  spv_end(k->b);
}

void att_stream_heads(Attention *m, SpvId tile, int64_t tile_rows, int64_t times, AttBlock *body,
                      void *context) {
  if (m->to_keys) times *= m->h / m->kv;
  att_query_heads(m, stream, &(Stream){m, tile, 0, tile_rows, times, body, context});
}

/* ---- the whole ---- */

static void find_members(Attention *m) {
  const KernelJob *job = m->k->job;
  for (int i = 0; i < job->n_out; i++) {
    const Node *n = att_member(job->out[i]);
    if (!ir_attention_sources(n->op))
      die("codegen: %%%d is no out of a kernel for attention", job->out[i]->id);
    m->node[n->op] = n;
  }
}

/* A band that every key or query is within is none; beyond its rows it ends. */
static void clip_band(Attention *m) {
  if (m->a.lo < -m->t) m->a.lo = -m->t;
  if (m->a.hi < -m->t) m->a.hi = -m->t;
  int64_t keys = m->s + m->past;
  if (m->a.lo > keys) m->a.lo = keys;
  if (m->a.hi > keys) m->a.hi = keys;
}

void att_set_up(Attention *m) {
  find_members(m);
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
  m->together = m->to_keys && node[OP_attention_dq];
  AttRows q = att_rows(m, n->src[0]), k = att_rows(m, n->src[1]), none = {0};
  AttRows v = lse_alone ? none : att_rows(m, n->src[2]);
  AttRows d = m->backward ? att_rows(m, n->src[5]) : none;
  if (m->backward) m->lse = att_rows(m, n->src[3]), m->delta = att_rows(m, n->src[4]);
  m->own_a = m->to_keys ? k : q;
  m->own_b = m->to_keys ? v : d;
  m->stream_a = m->to_keys ? q : k;
  m->stream_b = m->to_keys ? d : v;
  m->own_heads = m->to_keys ? m->kv : m->h;
  m->own_rows = m->to_keys ? m->s : m->t;
  m->stream_rows = m->to_keys ? m->t : m->s;
  m->past = m->a.shift ? m->a.shift * (m->batch_dim[m->n_batch - 1] - 1) : 0;
  clip_band(m);
}

/* 2 flops for each term of the products of rows: as many as the band leaves of s·t in the average part. */
static double count_flops(const Attention *m) {
  double pairs = 0;
  int64_t parts = m->a.shift ? m->batch_dim[m->n_batch - 1] : 1;
  for (int64_t n = 0; n < parts; n++)
    for (int64_t i = 0; i < m->t; i++) {
      int64_t query = i - n * m->a.shift, first = query + m->a.lo > 0 ? query + m->a.lo : 0;
      int64_t last = query + m->a.hi < m->s - 1 ? query + m->a.hi : m->s - 1;
      if (last >= first) pairs += (double)(last - first + 1) / (double)parts;
    }
  int64_t channels = m->c * (1 + m->sum_a + m->together) + m->e * (m->backward + m->sum_b);
  return 2 * pairs * (double)(channels * m->h * m->batches);
}

void att_heads(Attention *m, const Ix *at) {
  Kernel *k = m->k;
  m->query_head = ix_mod(k->ix, at, m->own_heads);
  m->key_head = m->to_keys ? m->query_head : ix_div(k->ix, m->query_head, m->h / m->kv);
  ix_split(k->ix, ix_div(k->ix, at, m->own_heads), m->n_batch, m->batch_dim, m->batch);
}

/* How rows are shared out among invocations, and which this one owns; opens a scope. Returns the
 * workgroup's first row. */
static SpvId place_rows(Attention *m, int64_t tile_rows) {
  Kernel *k = m->k;
  Spv *b = k->b;
  int64_t tiles = (m->own_rows + tile_rows - 1) / tile_rows;
  int64_t total = tiles * m->own_heads * m->batches;
  kernel_groups(k, total, (uint32_t)(tile_rows / m->groups));
  SpvId group = kernel_group(k), limit = const_u(k, (uint32_t)total);
  SpvId within = spv_cmp(b, SpvOpULessThan, group, limit);
  spv_if(b, within);
  const Ix *at = ix_value(k->ix, group, total), *rest = ix_div(k->ix, at, tiles);
  SpvId tile = ix_emit(k->ix, ix_mul(k->ix, ix_mod(k->ix, at, tiles), tile_rows));
  att_heads(m, rest);
  m->lane = m->lanes > 1 ? spv_builtin(b, SpvBuiltInSubgroupLocalInvocationId, spv_u32(b))
                         : kernel_lane(k, 0);
  for (int g = 0; g < m->groups; g++) {
    SpvId row = op_u(k, SpvOpIAdd, m->lane, (uint32_t)g * k->out->local[0]);
    m->row[g] = spv_bin(b, SpvOpIAdd, tile, row);
    SpvId last = const_u(k, (uint32_t)(m->own_rows - 1));
    row = smaller(m, m->row[g], last);
    m->row_ix[g] = ix_value(k->ix, row, m->own_rows);
  }
  return tile;
}

static void block(void *context, SpvId first) { att_block(context, first); }

static void portable(Attention *m) {
  Kernel *k = m->k;
  const Target *t = k->target;
  bool share = t->is_cpu && t->subgroup_shuffle && t->subgroup_size == ATT_MAX_STREAM;
  int64_t kept = m->c * (1 + m->sum_a) + m->e * (m->backward + m->sum_b);
  m->groups = share && kept <= TWO_ROWS && m->own_rows > ATT_MAX_STREAM ? 2 : 1;
  m->lanes = share ? ATT_MAX_STREAM : 1;
  m->stream = share ? ATT_MAX_STREAM : 4;
  if (share) k->out->subgroup_size = t->subgroup_size;
  int64_t tile_rows = (share ? ATT_MAX_STREAM : LOCAL) * (int64_t)m->groups;
  SpvId tile = place_rows(m, tile_rows);
  begin_rows(m);
  att_stream_heads(m, tile, tile_rows, att_channel_loops(m), block, m);
  finish(m);
  spv_end(k->b);
}

void emit_attention(Kernel *k) {
  Attention m = {.k = k};
  AttForm form[ATT_MAX_FORMS];
  KernelForm name[ATT_MAX_FORMS];
  att_set_up(&m);
  k->out->flops = count_flops(&m);
  int n = att_forms(&m, form);
  for (int i = 0; i < n; i++) att_form_name(&form[i], &name[i]);
  const AttForm *f = &form[form_choose(k, name, n)];
  switch (f->kind) {
  case ATT_portable: portable(&m); break;
  case ATT_shared: att_shared(&m, &f->shared); break;
  case ATT_matrices: att_coop(&m, &f->tile);
  }
}
