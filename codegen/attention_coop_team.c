/* Teams of subgroups in attention on cooperative matrices: they share own rows, and each has a part of the channels, of
 * factors and of sums.
 *
 *   scores = Σ over members  own part · streamed partᵀ          sums of a part += weights · streamed part
 *
 *                 channels                    Members' partial scores (and dp, which likewise are sums over all
 *              part 0 │ part 1                channels) meet in workgroup memory, in pairs of members at distances
 *   own rows  ░░░░░░░░│░░░░░░░░  a team       1, 2, 4 …: x + y = y + x, so all have the same bits at the end. What
 *             subgroup│subgroup               follows from scores each member computes for itself.
 *
 * A subgroup writes to its own place and reads another one's after a barrier. It may write there again before that one
 * has read: it takes a second place, and the first again after one more barrier. */
#include "codegen/attention_coop.h"

static bool has_dp(const Coop *c) { return c->m->backward && c->m->sum_a; }

/* Fragments that meet at a time, and the uvec4s of one. */
static int fragments(const Coop *c, int steps, const AttTile *t) {
  return steps * t->fragments * (has_dp(c) ? 2 : 1);
}
static int fragment_size(const Coop *c) { return c->rows * (c->unit / 4 + 1); }
static int place_size(const Coop *c, const AttTile *t) {
  return t->subgroups * fragments(c, t->step, t) * fragment_size(c);
}

int coop_meeting_size(const Coop *c, const AttTile *t) {
  if (t->team == 1) return 0;
  int meetings = coop_pieces(t->block / c->unit, t->step) * (t->team > 2 ? 2 : 1);
  return (meetings > 1 ? 2 : 1) * place_size(c, t);
}

/* Fragment i of those that a subgroup has in the place of this meeting. */
static SpvId place(Coop *c, SpvId subgroup, int i) {
  Kernel *k = c->m->k;
  int base = c->meeting + (c->n_meeting % 2) * place_size(c, &c->tile) + i * fragment_size(c);
  int all = fragments(c, c->tile.step, &c->tile) * fragment_size(c);
  SpvId at = op_u(k, SpvOpIMul, subgroup, (uint32_t)all);
  return coop_pool(c, op_u(k, SpvOpIAdd, at, (uint32_t)base));
}

/* The variable of fragment i. */
static SpvId fragment(const Coop *c, int i) {
  int of = c->tile.fragments, x = i / of;
  if (!has_dp(c)) return c->score[x][i % of];
  return x % 2 ? c->dp[x / 2][i % of] : c->score[x / 2][i % of];
}

void coop_send(Coop *c, int n) {
  Kernel *k = c->m->k;
  SpvId stride = const_u(k, (uint32_t)(c->unit / 4 + 1));
  for (int i = 0; i < fragments(c, n, &c->tile); i++) {
    SpvId x = spv_get(k->b, fragment(c, i));
    spv_matrix_store(k->b, place(c, c->subgroup, i), x, false, stride, 0);
  }
}

void coop_receive(Coop *c, int n, int distance) {
  Kernel *k = c->m->k;
  SpvId other = op_u(k, SpvOpBitwiseXor, c->subgroup, (uint32_t)distance);
  SpvId stride = const_u(k, (uint32_t)(c->unit / 4 + 1));
  for (int i = 0; i < fragments(c, n, &c->tile); i++) {
    SpvId x = spv_get(k->b, fragment(c, i));
    SpvId y = spv_matrix_load(k->b, c->sum, place(c, other, i), false, stride, 0);
    spv_set(k->b, fragment(c, i), add_f(k, x, y));
  }
  c->n_meeting++;
}
