/* All three gradients of attention by one kernel with tiles in workgroup memory (attention_shared.c), so that scores and their
 * cotangents are computed once: five products of tiles instead of seven.
 *
 *              streamed queries                   a workgroup owns all keys of a head: tile by tile they stay in registers with
 *            ┌──────────────────┐                 their dk and dv, while all queries that see them pass. Those pick up
 *   ┌──────┐ ├──────────────────┤
 *   │ keys │ │ dS, keys × query │                   dq += dSᵀ·K
 *   ├──────┤ ├──────────────────┤
 *   │ keys │ │                  │                 in memory, where each element has one invocation that adds to it, from
 *   └──────┘ └──────────────────┘                 tile to tile: no atomics, no barriers, a fixed order.
 *
 * The keys of a head would be too few workgroups, and too uneven ones: the planner cuts them into parts, as a batch dimension more
 * with a band that is shifted, and adds up their dq (plan_attention.c). The first tile of keys stores instead of adding; queries that
 * it does not see begin as zeros. */
#include "codegen/attention_shared.h"

/* Where dq goes. */
static int out_of(const AttTiles *s) {
  const KernelJob *job = s->m->k->job;
  for (int o = 0; o < job->n_out; o++)
    if (att_member(job->out[o]) == s->m->node[OP_attention_dq]) return o;
  die("codegen: no out for %%%d", s->m->node[OP_attention_dq]->id);
}

typedef struct Queries { /* of a tile, as this invocation has them */
  AttRows to;
  int out;
  SpvId at[ROWS]; /* offset of its row */
  SpvId row[ROWS], column;
} Queries;

static Queries place_queries(AttTiles *s, SpvId first) {
  Attention *m = s->m;
  Kernel *k = m->k;
  Queries q = {.out = out_of(s)};
  q.to = att_out(m, k->job->out[q.out]);
  if (!q.to.wide) die("codegen: dq of %%%d is not moved by fours", k->job->out[q.out]->id);
  SpvId mine = tile_mad(k, s->y, 4, first);
  for (int r = 0; r < ROWS; r++) {
    q.row[r] = op_u(k, SpvOpIAdd, mine, (uint32_t)(r / 4 * s->streamed / BLOCKS + r % 4));
    q.at[r] = att_row(m, &q.to, m->query_head, q.row[r]);
  }
  q.column = op_u(k, SpvOpIMul, s->x, 4);
  return q;
}

static SpvId column_of(AttTiles *s, const Queries *q, int block) {
  return op_u(s->m->k, SpvOpIAdd, q->column, (uint32_t)(4 * s->t.across * block));
}

/* A scope for a row that may be past the last. */
static void begin_row(AttTiles *s, const Queries *q, int r) {
  Kernel *k = s->m->k;
  if (!s->m->edge) return;
  SpvId rows = const_u(k, (uint32_t)s->m->stream_rows);
  SpvId within = spv_cmp(k->b, SpvOpULessThan, q->row[r], rows);
  spv_if(k->b, within);
}

static void end_row(AttTiles *s) {
  if (s->m->edge) spv_end(s->m->k->b);
}

static void store_queries(AttTiles *s, const Queries *q, const SpvId *sum) {
  Kernel *k = s->m->k;
  SpvId one = const_f(k, 1);
  for (int r = 0; r < ROWS; r++) {
    begin_row(s, q, r);
    for (int j = 0; j < s->a_blocks; j++) {
      SpvId column = column_of(s, q, j), x = spv_get(k->b, sum[r * s->a_blocks + j]);
      att_tile_store_four(s, q->out, &q->to, q->at[r], column, x, one);
    }
    end_row(s);
  }
}

/* ---- queries that the first tile does not see ---- */

typedef struct Unseen {
  AttTiles *s;
  SpvId before, seen; /* blocks */
  SpvId zero[MAX_SUMS];
} Unseen;

static void clear_block(void *context, SpvId i) {
  Unseen *u = context;
  Kernel *k = u->s->m->k;
  SpvId past = spv_bin(k->b, SpvOpIAdd, i, u->seen);
  SpvId earlier = spv_cmp(k->b, SpvOpULessThan, i, u->before);
  SpvId block = choose(k, earlier, i, past);
  SpvId first = op_u(k, SpvOpIMul, block, (uint32_t)u->s->streamed);
  Queries q = place_queries(u->s, first);
  store_queries(u->s, &q, u->zero);
}

static void clear(void *context) {
  Unseen *u = context;
  AttTiles *s = u->s;
  Kernel *k = s->m->k;
  int64_t blocks = (s->m->stream_rows + s->streamed - 1) / s->streamed;
  SpvId first = att_range(s->m, s->tile, s->t.own, &u->seen);
  u->before = op_u(k, SpvOpUDiv, first, (uint32_t)s->streamed);
  SpvId all = const_u(k, (uint32_t)blocks), n = spv_bin(k->b, SpvOpISub, all, u->seen);
  kernel_repeat(k, n, blocks, 1, clear_block, u);
}

void att_together_begin(AttTiles *s) {
  Kernel *k = s->m->k;
  SpvId none = tile_zero(k);
  Unseen u = {.s = s};
  for (int i = 0; i < ROWS * s->a_blocks; i++) {
    u.zero[i] = spv_local(k->b, tile_vec4(k));
    spv_set(k->b, u.zero[i], none);
  }
  att_query_heads(s->m, clear, &u);
}

/* ---- dq += dSᵀ·K ---- */

/* Block c of this invocation's own rows, a part of them, as [own row of the part][streamed row]. */
static void put_turned(AttTiles *s, AttWeights weight, int c) {
  Kernel *k = s->m->k;
  int pitch = s->streamed / 4 + TILE_PAD;
  SpvId first = tile_mad(k, s->y, (uint32_t)(4 * pitch), s->x);
  for (int r = 0; r < 4; r++) {
    SpvId at = op_u(k, SpvOpIAdd, first, (uint32_t)(s->own_at + r * pitch));
    SpvId value = spv_pure_n(k->b, SpvOpCompositeConstruct, tile_vec4(k), 4, weight[4 * c + r]);
    at = spv_at(k->b, s->pool, at);
    spv_set(k->b, at, value);
  }
}

static void turned_part(AttTiles *s, SpvId i, AttWeights weight) {
  Kernel *k = s->m->k;
  for (int c = 0; c < BLOCKS; c++) {
    SpvId when = const_u(k, (uint32_t)(c * PART / TERMS));
    SpvId now = spv_cmp(k->b, SpvOpIEqual, i, when);
    spv_if(k->b, now);
    put_turned(s, weight, c);
    spv_end(k->b);
  }
}

/* What earlier tiles of keys left. */
static void begin_sums(AttTiles *s, const Queries *q, SpvId *sum) {
  Kernel *k = s->m->k;
  SpvId zero = tile_zero(k);
  for (int i = 0; i < ROWS * s->a_blocks; i++) {
    sum[i] = spv_local(k->b, tile_vec4(k));
    spv_set(k->b, sum[i], zero);
  }
  spv_if(k->b, s->begun);
  for (int r = 0; r < ROWS; r++) {
    begin_row(s, q, r);
    for (int j = 0; j < s->a_blocks; j++) {
      SpvId column = column_of(s, q, j);
      SpvId at = spv_bin(k->b, SpvOpIAdd, q->at[r], column);
      at = op_u(k, SpvOpShiftRightLogical, at, 2);
      SpvId x = kernel_reload4(k, q->out, at);
      spv_set(k->b, sum[r * s->a_blocks + j], x);
    }
    end_row(s);
  }
  spv_end(k->b);
}

void att_together_add(AttTiles *s, SpvId first, AttWeights weight) {
  Attention *m = s->m;
  SpvId sum[MAX_SUMS];
  AttSummed keys = {&m->own_a, m->key_head, s->tile, false};
  Queries q = place_queries(s, first);
  begin_sums(s, &q, sum);
  att_tile_sums(s, &keys, turned_part, weight, sum, s->a_blocks);
  store_queries(s, &q, sum);
}

/* ---- where ---- */

/* Whether the tiles take it: so many keys of a part, and a band that tiles of queries begin with. */
static bool suits(const Target *t, const Node *n, int64_t keys) {
  enum { TILE = BLOCKS * PART, CHANNELS = 64 /* more do not stay in registers */, LEAST = 8 };
  const Type *q = &n->src[0]->type, *v = &n->src[2]->type;
  int last = q->rank - 1;
  return !t->is_cpu && t->subgroup_shuffle && t->subgroup_size >= LEAST &&
         ir_attention(n).hi % TILE == 0 && /* as where there is no end */
         q->dtype == DT_f32 && q->dim[last] <= CHANNELS && v->dim[last] <= CHANNELS &&
         q->dim[last] % 4 == 0 && keys % TILE == 0;
}

bool cg_attention_together(const Target *t, const Node *n) {
  int64_t shift = ir_attention(n).shift;
  return shift > 0 && shift % (BLOCKS * PART) == 0 &&
         suits(t, n, n->src[1]->type.dim[n->src[1]->type.rank - 2]);
}

/* Whether matrix units take it. */
static bool is_half(const Target *t, const Node *x) {
  for (; cg_reads_through(x); x = x->src[0])
    if (cg_widens(x)) return t->matrix_f16.m || t->matrix_bf16.m;
  return false;
}

int64_t cg_attention_parts(const Target *t, const Node *n) {
  enum { MOST = 8, WORKGROUPS = 4 /* for each core */, CORES = 32 };
  const Type *k = &n->src[1]->type;
  AttentionAttr a = ir_attention(n);
  int r = k->rank;
  int64_t heads = k->dim[r - 3], cores = t->cores ? t->cores : CORES;
  for (int i = 0; i < r - 3; i++) heads *= k->dim[i];
  if (a.mask || a.keep || is_half(t, n->src[0]) || r == IR_MAX_RANK) return 1;
  for (int64_t parts = 2; parts <= MOST; parts *= 2)
    if (k->dim[r - 2] % parts == 0 && suits(t, n, k->dim[r - 2] / parts) &&
        heads * parts >= WORKGROUPS * cores)
      return parts;
  return 1;
}
