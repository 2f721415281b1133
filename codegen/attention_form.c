/* Which kernels can compute attention, and what the choice among them depends on: the portable one, and where q, k, v
 * and the cotangent lie in memory as 16-bit values and the target multiplies matrices of them, those of attention_coop.c
 * with tiles of several sizes; on other GPUs that of attention_shared.c. */
#include "codegen/attention_coop.h"

#include <stdio.h>
#include <string.h>

enum {
  LEAST_BLOCK = 32, /* of streamed rows, before a workgroup gets smaller */
  MAX_ROW = 2400,   /* bytes of a row that a subgroup holds: 200 channels of dk and dv */
  CPU_ROW = 384,    /* more compile long */
  WIDE = 128,       /* channels: own rows alone fill most registers if there are more */
  MAX_HEAD = 256
};

int coop_pieces(int64_t n, int64_t of) { return (int)((n + of - 1) / of); }

/* ---- what matrix units take ---- */

/* Rows whose channels can be moved eight at a time. */
static bool moves_runs(const Attention *m, const AttRows *r, DType low) {
  bool ok = r->at.base->type.dtype == low && r->channel == 1 && r->channels % RUN == 0 &&
            r->channels <= MAX_HEAD && r->at.offset % RUN == 0;
  for (int i = 0; i < m->rank - 1; i++) ok = ok && r->at.stride[i] % RUN == 0;
  return ok;
}

static bool is_taken(const Attention *m, DType *low) {
  const AttRows *side[] = {&m->own_a, &m->stream_a, &m->own_b, &m->stream_b};
  *low = (DType)m->own_a.at.base->type.dtype;
  if (!dtype_is_16(*low) || !m->k->target->storage16 || m->a.shift) return false;
  for (int i = 0; i < COUNT_OF(side); i++)
    if (side[i]->at.base && !moves_runs(m, side[i], *low)) return false;
  return true;
}

bool coop_make(Coop *c, Attention *m) {
  const Target *t = m->k->target;
  *c = (Coop){.m = m};
  if (!is_taken(m, &c->low)) return false;
  const TargetMatrix *shape = c->low == DT_f16 ? &t->matrix_f16 : &t->matrix_bf16;
  if (!shape->m || shape->n != shape->k || shape->n % RUN != 0) return false;
  c->rows = (int)shape->m;
  c->unit = (int)shape->n;
  c->lanes = (int)t->subgroup_size;
  c->direct = t->matrix_rows;
  return true;
}

/* The fewest subgroups that hold a row together: its factors in 16 bits, its sums in 32. Some more than there are registers
 * for may be: drivers put factors into memory then, which many products at once make up for; sums there are slow. */
static int least_team(const Coop *c) {
  const Attention *m = c->m;
  int64_t factors = m->c + (m->backward && m->sum_a ? m->e : 0);
  int64_t sums = (m->sum_a ? m->c : 0) + (m->sum_b ? m->e : 0), held = 2 * factors + 4 * sums;
  int team = 1, most = m->k->target->is_cpu ? CPU_ROW : MAX_ROW;
  while (team * most < held) team *= 2;
  return team;
}

int coop_units(const Coop *c, const AttTile *t, int64_t channels) {
  return coop_pieces(coop_pieces(channels, c->unit), t->team);
}

/* ---- workgroup memory ---- */

int coop_own_rows(const Coop *c, const AttTile *t) {
  return t->subgroups / t->team * t->fragments * c->rows;
}

int coop_scratch_size(const Coop *c, const AttTile *t) {
  return t->fragments * c->rows * (c->unit / 4 + 1);
}

static int runs_of(const Coop *c, const AttTile *t, int64_t channels) {
  return t->team * coop_units(c, t, channels) * c->unit / RUN;
}

int coop_pool_size(const Coop *c, const AttTile *t) {
  int a = runs_of(c, t, c->m->c) + 1, b = c->m->e ? runs_of(c, t, c->m->e) + 1 : 0;
  int size = t->block * (a + b) + coop_meeting_size(c, t),
      own = t->fragments * c->rows * (a > b ? a : b);
  if (!c->direct) size += t->subgroups * coop_scratch_size(c, t);
  int results = t->subgroups * c->rows * (c->unit / 4 + 1);
  if (size < own) size = own;
  return size < results ? results : size;
}

static int up_to_4(int n) { return coop_pieces(n, 4) * 4; }

int coop_lay_out_numbers(Coop *c, const AttTile *t) {
  int n = c->m->backward ? up_to_4(c->m->to_keys ? t->block : coop_own_rows(c, t)) : 0;
  c->lse_at = up_to_4(c->rows > c->unit ? c->rows : c->unit);
  c->delta_at = c->lse_at + n;
  c->rows_at = c->delta_at + n;
  return c->rows_at + (c->direct ? 0 : t->subgroups * t->fragments * c->rows);
}

/* uvec4s of that many rows that one of n invocations moves. */
static int moves(const Coop *c, const AttTile *t, int rows, int n) {
  int64_t widest = c->m->c > c->m->e ? c->m->c : c->m->e;
  return coop_pieces((int64_t)rows * runs_of(c, t, widest), n);
}

static bool fits(Coop *c, const AttTile *t) {
  const Target *target = c->m->k->target;
  int64_t shared = 16 * (int64_t)coop_pool_size(c, t) + 4 * coop_lay_out_numbers(c, t);
  int invocations = t->subgroups * c->lanes;
  return t->subgroups % t->team == 0 && shared <= target->shared_bytes &&
         (uint32_t)invocations <= target->max_invocations && t->step <= COOP_MAX_STEP &&
         t->block % c->unit == 0 &&
         moves(c, t, t->block, invocations) <= (target->is_cpu ? MAX_MOVES : MAX_MOVES / 2) &&
         t->block <= invocations * MAX_NUMBERS &&
         moves(c, t, t->fragments * c->rows, c->lanes * t->team) <= MAX_OWN / 2;
}

/* ---- tiles ---- */

static bool is_wide(const Coop *c) { return c->m->c > WIDE || c->m->e > WIDE; }

/* Twice as many own rows for a subgroup halve what is read from workgroup memory, if the registers hold them; else twice
 * as many subgroups share what is brought there. Of a row with many channels nothing is read ahead: there are no registers
 * for it, but for those that a team saves. */
static AttTile first_tile(const Coop *c) {
  const Attention *m = c->m;
  int team = least_team(c);
  bool narrow = m->c <= 64 && m->e <= 64;
  if (team > 1) return (AttTile){1, 8, c->unit, 1, true, team};
  if (is_wide(c)) return (AttTile){1, 8, 2 * c->unit, 2, false, 1};
  if (narrow) return (AttTile){2, 4, m->to_keys && c->direct ? 64 : 32, 1, !m->to_keys, 1};
  /* forward a product with one fragment waits for the one before */
  return (AttTile){1, 8, m->to_keys ? 32 : 64, m->backward ? 1 : 2, true, 1};
}

static AttTile best_tile(Coop *c) {
  const Attention *m = c->m;
  AttTile t = first_tile(c);
  while (t.subgroups > t.team && m->own_rows <= coop_own_rows(c, &t) / 2) t.subgroups /= 2;
  while (t.block > LEAST_BLOCK && !fits(c, &t)) t.block /= 2;
  while (t.subgroups > t.team && !fits(c, &t)) t.subgroups /= 2;
  while (t.block > c->unit && !fits(c, &t)) t.block /= 2;
  int64_t tiles = coop_pieces(m->own_rows, coop_own_rows(c, &t)) * m->own_heads * m->batches;
  if (tiles < m->k->target->cores && t.fragments > 1) { /* rather soon than shared */
    t.fragments = 1;
    t.ahead = true;
  }
  if (t.step > t.block / c->unit) t.step = t.block / c->unit;
  return t;
}

/* On a CPU small ones, which its driver compiles soon. */
int att_tiles(Attention *m, AttTile *out) {
  static const AttTile forward[] = {
    {2, 4, 32, 2, true, 1}, {2, 4, 64, 2, false, 1}, {1, 4, 32, 2, true, 1}, {1, 4, 64, 4, true, 1},
    {1, 8, 64, 2, true, 1}, {1, 8, 64, 4, true, 1},  {1, 2, 32, 2, true, 1}};
  static const AttTile backward[] = {
    {2, 4, 32, 1, false, 1}, {2, 4, 32, 1, true, 1}, {2, 4, 64, 1, false, 1},
    {2, 4, 64, 1, true, 1},  {1, 4, 32, 1, true, 1}, {1, 4, 64, 1, false, 1},
    {1, 4, 64, 1, true, 1},  {1, 8, 64, 1, true, 1}, {1, 8, 32, 1, true, 1},
    {1, 8, 32, 1, false, 1}, {1, 2, 32, 1, true, 1}};
  static const AttTile wide[] = {{1, 8, 32, 2, false, 1}, {1, 8, 32, 1, false, 1},
                                 {1, 8, 16, 1, true, 1},  {1, 8, 16, 1, true, 2},
                                 {1, 8, 16, 1, false, 2}, {1, 4, 16, 1, true, 2}};
  Coop c;
  int n = 0;
  if (!coop_make(&c, m)) return 0;
  if (m->k->target->is_cpu) {
    int team = least_team(&c);
    AttTile t = {1, (c.direct ? 2 : 1) * team, 2 * c.unit, m->backward ? 1 : 2, m->to_keys, team};
    if (!fits(&c, &t)) t.block = c.unit, t.step = 1;
    if (!fits(&c, &t)) t.subgroups = team;
    if (fits(&c, &t)) out[n++] = t;
    return n;
  }
  const AttTile *other = is_wide(&c) ? wide : m->backward ? backward : forward;
  int n_other = is_wide(&c) ? COUNT_OF(wide) : m->backward ? COUNT_OF(backward) : COUNT_OF(forward);
  AttTile best = best_tile(&c);
  if (!fits(&c, &best)) return 0;
  out[n++] = best;
  for (int i = 0; i < n_other; i++) {
    AttTile t = other[i];
    bool same = t.fragments == best.fragments && t.subgroups == best.subgroups &&
                t.block == best.block && t.step == best.step && t.ahead == best.ahead &&
                t.team == best.team;
    if (!same && fits(&c, &t)) out[n++] = t;
  }
  return n;
}

/* ---- forms ---- */

int att_forms(Attention *m, AttForm *out) {
  AttTile tile[ATT_MAX_TILES];
  AttShared shared[ATT_MAX_SHARED];
  int n_tile = att_tiles(m, tile), n_shared = att_shared_tiles(m, shared), n = 0;
  bool last = m->k->target->is_cpu; /* a CPU's matrices are no faster than its vectors */
  if (last) out[n++] = (AttForm){.kind = ATT_portable};
  for (int i = 0; i < n_tile; i++) out[n++] = (AttForm){.kind = ATT_matrices, .tile = tile[i]};
  for (int i = 0; i < n_shared; i++) out[n++] = (AttForm){.kind = ATT_shared, .shared = shared[i]};
  if (!last) out[n++] = (AttForm){.kind = ATT_portable};
  return n;
}

void att_form_name(const AttForm *f, KernelForm *out) {
  const AttTile *t = &f->tile;
  if (f->kind == ATT_portable)
    snprintf(out->name, sizeof out->name, "portable");
  else if (f->kind == ATT_shared)
    snprintf(out->name, sizeof out->name, "tiles of %d x %d, %d across", f->shared.own,
             4 * f->shared.columns * f->shared.across, f->shared.across);
  else
    snprintf(out->name, sizeof out->name, "matrices %d x %d, block %d, step %d%s%s",
             t->subgroups / t->team, t->fragments, t->block, t->step, t->ahead ? ", ahead" : "",
             t->team > 1 ? ", teams" : "");
}

int att_form_names(const KernelJob *job, const Target *target, KernelForm *out) {
  Kernel k = {.job = job, .target = target};
  Attention m = {.k = &k};
  AttForm form[ATT_MAX_FORMS];
  att_set_up(&m);
  /* expected, on a GPU, of its kinds: on one, matrix units do 185 and tiles in workgroup memory 29 TFLOP/s forward */
  static const double times[] = {[ATT_matrices] = 1, [ATT_shared] = 6, [ATT_portable] = 24};
  int n = att_forms(&m, form);
  for (int i = 0; i < n; i++) {
    att_form_name(&form[i], &out[i]);
    out[i].times = target->is_cpu ? 0 : times[form[i].kind] / times[form[0].kind];
  }
  return n;
}

void att_form_key(const KernelJob *job, const Target *target, Buf *key) {
  Kernel k = {.job = job, .target = target};
  Attention m = {.k = &k};
  att_set_up(&m);
  const char *what = m.to_keys ? "keys" : m.backward ? "queries" : "forward";
  buf_printf(key, "attention %s %lld x %lld/%lld heads, %lld x %lld rows, %lld + %lld channels",
             what, (long long)m.batches, (long long)m.h, (long long)m.kv, (long long)m.t,
             (long long)m.s, (long long)m.c, (long long)m.e);
  if (m.together) buf_str(key, ", together");
  if (m.a.shift) buf_printf(key, ", parts of %lld", (long long)m.a.shift);
  buf_printf(key, ", %s, band %lld to %lld%s%s%s", dtype_name((DType)m.own_a.at.base->type.dtype),
             (long long)m.a.lo, (long long)m.a.hi, m.a.cap > 0 ? ", cap" : "",
             m.a.mask ? ", mask" : "", m.a.keep ? ", keep" : "");
}
