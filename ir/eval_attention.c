/* Evaluator: the attention family, straight from the definition in ops.def, one query after the
 * other; a row of scores and one of cotangents are all that is kept. */
#include "ir/eval_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One query's row: where its operands lie. */
typedef struct Row {
  int64_t at, kv, i; /* of [b…, h, t] and of [b…, kv]; the query's place in 0 … t−1 */
  int64_t first;     /* what key 0 counts as */
  const double *q, *k, *v;
  const bool *visible;
  const double *score, *slope; /* by key: capped score; d score / d (scale·q·k) */
} Row;

typedef struct Attention {
  EvalStep *s;
  AttentionAttr a;
  int64_t h, kv, t, keys, c, e, parts; /* parts: the last batch dimension */
  const double *mask, *keep;
} Attention;

static Attention begin(EvalStep *s) {
  const Type *q = eval_src_type(s, 0), *k = eval_src_type(s, 1);
  int r = q->rank, n = ir_attention_sources(s->n->op);
  Attention m = {.s = s, .a = ir_attention(s->n)};
  m.h = q->dim[r - 3], m.t = q->dim[r - 2], m.c = q->dim[r - 1];
  m.kv = k->dim[r - 3], m.keys = k->dim[r - 2];
  m.parts = r > 3 ? q->dim[r - 4] : 1;
  m.e = n > 2 ? eval_src_type(s, 2)->dim[r - 1] : 0;
  if (m.a.mask) m.mask = s->src[n++];
  if (m.a.keep) m.keep = s->src[n];
  return m;
}

static void score_row(const Attention *m, const Row *r, bool *visible, double *score,
                      double *slope) {
  for (int64_t j = 0; j < m->keys; j++) {
    int64_t d = r->first + j - r->i;
    double sum = 0;
    for (int64_t c = 0; c < m->c; c++) sum += r->q[c] * r->k[j * m->c + c];
    sum *= m->a.scale;
    double bent = m->a.cap > 0 ? tanh(sum / m->a.cap) : 0;
    score[j] = m->a.cap > 0 ? m->a.cap * bent : sum;
    slope[j] = 1 - bent * bent;
    visible[j] = m->a.lo <= d && d <= m->a.hi && (!m->mask || m->mask[r->at * m->keys + j] != 0);
  }
}

static void each_row(const Attention *m, void (*row)(const Attention *, const Row *)) {
  EvalStep *s = m->s;
  size_t n = (size_t)m->keys;
  bool *visible = xcalloc(n, sizeof *visible);
  double *score = xcalloc(n, sizeof *score), *slope = xcalloc(n, sizeof *slope);
  int64_t rows = type_count(eval_src_type(s, 0)) / m->c;
  for (int64_t at = 0; at < rows; at++) {
    int64_t head = at / m->t, kv = head / m->h * m->kv + head % m->h / (m->h / m->kv);
    Row r = {at,
             kv,
             at % m->t,
             head / m->h % m->parts * m->a.shift,
             s->src[0] + at * m->c,
             s->src[1] + kv * m->keys * m->c,
             m->e ? s->src[2] + kv * m->keys * m->e : NULL,
             visible,
             score,
             slope};
    score_row(m, &r, visible, score, slope);
    row(m, &r);
  }
  free(visible);
  free(score);
  free(slope);
}

/* log Σ exp(score) over what is visible: −inf where nothing is, NaN where a score is. */
static double row_lse(const Attention *m, const Row *r) {
  double most = -INFINITY, sum = 0;
  for (int64_t j = 0; j < m->keys; j++)
    if (r->visible[j] && (isnan(r->score[j]) || r->score[j] > most)) most = r->score[j];
  if (most == -INFINITY) return most;
  for (int64_t j = 0; j < m->keys; j++)
    if (r->visible[j]) sum += exp(r->score[j] - most);
  return most + log(sum);
}

/* keep · x of element (i, j) */
static double kept(const Attention *m, const Row *r, int64_t j, double x) {
  return m->keep ? x * m->keep[r->at * m->keys + j] : x;
}

static void forward_row(const Attention *m, const Row *r) {
  double *out = m->s->out + r->at * m->e, lse = row_lse(m, r);
  bool empty = lse == -INFINITY;
  for (int64_t e = 0; e < m->e; e++) out[e] = empty && m->a.empty_nan ? NAN : 0;
  for (int64_t j = 0; j < m->keys && !empty; j++) {
    if (!r->visible[j]) continue;
    double p = kept(m, r, j, exp(r->score[j] - lse));
    for (int64_t e = 0; e < m->e; e++) out[e] += p * r->v[j * m->e + e];
  }
}

static void lse_row(const Attention *m, const Row *r) { m->s->out[r->at] = row_lse(m, r); }

/* With p from the given lse, dp = keep·(do·v) and ds = p·(dp − delta)·slope·scale:
 * dq = Σⱼ ds·k, dk = Σᵢ ds·q, dv = Σᵢ p·keep·do. */
static void backward_row(const Attention *m, const Row *r) {
  EvalStep *s = m->s;
  double lse = s->src[3][r->at], delta = s->src[4][r->at], *out;
  const double *d = s->src[5] + r->at * m->e;
  if (lse == -INFINITY) return;
  for (int64_t j = 0; j < m->keys; j++) {
    if (!r->visible[j]) continue;
    double p = exp(r->score[j] - lse), dp = 0;
    if (s->n->op == OP_attention_dv) {
      out = s->out + (r->kv * m->keys + j) * m->e;
      for (int64_t e = 0; e < m->e; e++) out[e] += kept(m, r, j, p) * d[e];
      continue;
    }
    for (int64_t e = 0; e < m->e; e++) dp += d[e] * r->v[j * m->e + e];
    double ds = p * (kept(m, r, j, dp) - delta) * r->slope[j] * m->a.scale;
    bool to_q = s->n->op == OP_attention_dq;
    const double *x = to_q ? r->k + j * m->c : r->q;
    out = s->out + (to_q ? r->at : r->kv * m->keys + j) * m->c;
    for (int64_t c = 0; c < m->c; c++) out[c] += ds * x[c];
  }
}

static void backward(EvalStep *s) {
  Attention m = begin(s);
  memset(s->out, 0, sizeof *s->out * (size_t)s->count);
  each_row(&m, backward_row);
}

void eval_attention(EvalStep *s) {
  Attention m = begin(s);
  each_row(&m, forward_row);
}
void eval_attention_lse(EvalStep *s) {
  Attention m = begin(s);
  each_row(&m, lse_row);
}
void eval_attention_dq(EvalStep *s) { backward(s); }
void eval_attention_dk(EvalStep *s) { backward(s); }
void eval_attention_dv(EvalStep *s) { backward(s); }
