#include "codegen/index.h"

#include <string.h>

enum { MAX_TERMS = 24 };

typedef struct Atom {
  enum { ATOM_value, ATOM_div, ATOM_mod } kind;
  int serial; /* order of creation: terms are sorted by it */
  int64_t max;
  SpvId value;
  const Ix *of; /* quotient or remainder of this */
  int64_t by;
} Atom;

typedef struct Term {
  const Atom *atom;
  int64_t coef;
} Term;

struct Ix {
  int n;
  int64_t c, max;
  Term term[];
};

/* What ix_split was asked: the algebra does not find every way back, and the way back is what
 * matters most. */
enum { MAX_RANK = 8 }; /* as IR_MAX_RANK */
typedef struct Split {
  const Ix *linear;
  int rank; /* without dimensions of 1 */
  int64_t dim[MAX_RANK];
  const Ix *index[MAX_RANK];
} Split;

struct IxTable {
  Arena *arena;
  Spv *b;
  Ix **ix; /* a hash table of cap places */
  int n_ix, cap;
  Atom **atom;
  int n_atom;
  Split **split;
  int n_split;
};

IxTable *ix_table(Arena *a, Spv *b) {
  IxTable *t = arena_alloc(a, sizeof *t);
  t->arena = a;
  t->b = b;
  t->cap = 256;
  t->ix = arena_alloc(a, (size_t)t->cap * sizeof *t->ix);
  return t;
}

/* ---- interning ---- */

static uint64_t hash(int n, const Term *term, int64_t c) {
  uint64_t h = hash_bytes(&c, sizeof c, (uint64_t)n);
  for (int i = 0; i < n; i++)
    h = hash_bytes((int64_t[]){term[i].atom->serial, term[i].coef}, 16, h);
  return h;
}

static Ix **place(IxTable *t, int n, const Term *term, int64_t c) {
  for (int i = (int)(hash(n, term, c) & (uint64_t)(t->cap - 1));; i = (i + 1) & (t->cap - 1)) {
    Ix *x = t->ix[i];
    if (!x || (x->n == n && x->c == c &&
               (n == 0 || memcmp(x->term, term, (size_t)n * sizeof *term) == 0)))
      return &t->ix[i];
  }
}

static void grow(IxTable *t) {
  Ix **old = t->ix;
  int n = t->cap;
  t->cap *= 2;
  t->ix = arena_alloc(t->arena, (size_t)t->cap * sizeof *t->ix);
  for (int i = 0; i < n; i++)
    if (old[i]) *place(t, old[i]->n, old[i]->term, old[i]->c) = old[i];
}

static const Ix *make(IxTable *t, int n, const Term *term, int64_t c) {
  if (2 * t->n_ix > t->cap) grow(t);
  Ix **at = place(t, n, term, c);
  if (*at) return *at;
  Ix *x = arena_alloc(t->arena, sizeof *x + (size_t)n * sizeof *term);
  x->n = n;
  x->c = x->max = c;
  for (int i = 0; i < n; i++) {
    x->term[i] = term[i];
    x->max += term[i].coef * term[i].atom->max;
  }
  t->n_ix++;
  return *at = x;
}

static const Ix *of_atom(IxTable *t, Atom a) {
  Atom *found = NULL;
  for (int i = 0; i < t->n_atom && !found; i++) {
    Atom *x = t->atom[i];
    if (x->kind == a.kind && x->value == a.value && x->of == a.of && x->by == a.by &&
        x->max == a.max)
      found = x;
  }
  if (!found) {
    a.serial = t->n_atom;
    found = arena_copy(t->arena, &a, sizeof a);
    ARENA_PUSH(t->arena, t->atom, t->n_atom, found);
  }
  return make(t, 1, &(Term){found, 1}, 0);
}

/* ---- arithmetic ---- */

const Ix *ix_const(IxTable *t, int64_t c) { return make(t, 0, NULL, c); }

const Ix *ix_value(IxTable *t, SpvId value, int64_t bound) {
  return bound <= 1 ? ix_const(t, 0)
                    : of_atom(t, (Atom){.kind = ATOM_value, .value = value, .max = bound - 1});
}

/* c·(e mod d) + c·d·(e / d) = c·e: finds such a pair among the terms. */
static bool find_pair(const Term *term, int n, int *mod, int *div) {
  for (int i = 0; i < n; i++) {
    const Atom *m = term[i].atom;
    if (m->kind != ATOM_mod) continue;
    for (int j = 0; j < n; j++) {
      const Atom *d = term[j].atom;
      if (d->kind != ATOM_div || term[j].coef != term[i].coef * m->by) continue;
      /* e / d itself, or, where e is a quotient of f by q: f / (q·d) */
      const Ix *e = m->of;
      bool nested =
        e->n == 1 && e->c == 0 && e->term[0].coef == 1 && e->term[0].atom->kind == ATOM_div;
      if ((d->of == e && d->by == m->by) ||
          (nested && d->of == e->term[0].atom->of && d->by == e->term[0].atom->by * m->by)) {
        *mod = i;
        *div = j;
        return true;
      }
    }
  }
  return false;
}

static int add_term(Term *term, int n, Term x) {
  int i = 0;
  while (i < n && term[i].atom->serial < x.atom->serial) i++;
  if (i < n && term[i].atom == x.atom) {
    term[i].coef += x.coef;
    return n;
  }
  if (n == MAX_TERMS) die("codegen: an index of more than %d terms", MAX_TERMS);
  memmove(term + i + 1, term + i, (size_t)(n - i) * sizeof *term);
  term[i] = x;
  return n + 1;
}

const Ix *ix_add(IxTable *t, const Ix *x, const Ix *y) {
  Term term[MAX_TERMS];
  int n = 0, mod, div;
  int64_t c = x->c + y->c;
  for (int i = 0; i < x->n; i++) n = add_term(term, n, x->term[i]);
  for (int i = 0; i < y->n; i++) n = add_term(term, n, y->term[i]);
  while (find_pair(term, n, &mod, &div)) {
    int64_t coef = term[mod].coef;
    const Ix *e = term[mod].atom->of;
    Term kept[MAX_TERMS];
    int n_kept = 0;
    for (int i = 0; i < n; i++)
      if (i != mod && i != div) kept[n_kept++] = term[i];
    memcpy(term, kept, sizeof kept);
    n = n_kept;
    for (int i = 0; i < e->n; i++)
      n = add_term(term, n, (Term){e->term[i].atom, e->term[i].coef * coef});
    c += e->c * coef;
  }
  return make(t, n, term, c);
}

const Ix *ix_mul(IxTable *t, const Ix *x, int64_t f) {
  if (f == 0) return ix_const(t, 0);
  Term term[MAX_TERMS];
  for (int i = 0; i < x->n; i++) term[i] = (Term){x->term[i].atom, x->term[i].coef * f};
  return make(t, x->n, term, x->c * f);
}

/* x = by · whole + rest, where rest has only coefficients below `by` (not yet: rest < by). */
static void divide(IxTable *t, const Ix *x, int64_t by, const Ix **whole, const Ix **rest) {
  Term w[MAX_TERMS], r[MAX_TERMS];
  int n_w = 0, n_r = 0;
  for (int i = 0; i < x->n; i++) {
    int64_t q = x->term[i].coef / by, m = x->term[i].coef % by;
    if (q) w[n_w++] = (Term){x->term[i].atom, q};
    if (m) r[n_r++] = (Term){x->term[i].atom, m};
  }
  *whole = make(t, n_w, w, x->c / by);
  *rest = make(t, n_r, r, x->c % by);
}

static int64_t gcd(int64_t a, int64_t b) {
  while (b) {
    int64_t m = a % b;
    a = b;
    b = m;
  }
  return a;
}

/* (e mod a) → its e and a, where x is just that */
static const Atom *single(const Ix *x, int kind) {
  return x->n == 1 && x->c == 0 && x->term[0].coef == 1 && (int)x->term[0].atom->kind == kind
           ? x->term[0].atom
           : NULL;
}

/* x = g · high + low with low < g, for the largest g > 1 that divides `by`; 1 where there is none.
 * Then x / by = high / (by / g), and x mod by = g · (high mod (by / g)) + low. */
static int64_t peel(IxTable *t, const Ix *x, int64_t by, const Ix **high, const Ix **low) {
  int64_t best = 1;
  for (int i = 0; i < x->n; i++) {
    int64_t g = gcd(x->term[i].coef, by);
    if (g <= best || g == by) continue;
    const Ix *whole, *rest;
    divide(t, x, g, &whole, &rest);
    if (rest->max >= g) continue;
    best = g;
    *high = whole;
    *low = rest;
  }
  return best;
}

const Ix *ix_div(IxTable *t, const Ix *x, int64_t by) {
  const Ix *whole, *rest, *high, *low;
  divide(t, x, by, &whole, &rest);
  if (rest->max < by) return whole;
  int64_t g = peel(t, rest, by, &high, &low);
  if (g > 1) return ix_add(t, whole, ix_div(t, high, by / g));
  const Atom *a = single(rest, ATOM_div);
  if (a) return ix_add(t, whole, ix_div(t, a->of, a->by * by));
  a = single(rest, ATOM_mod);
  if (a && a->by % by == 0) return ix_add(t, whole, ix_mod(t, ix_div(t, a->of, by), a->by / by));
  const Ix *q = of_atom(t, (Atom){.kind = ATOM_div, .of = rest, .by = by, .max = rest->max / by});
  return ix_add(t, whole, q);
}

const Ix *ix_mod(IxTable *t, const Ix *x, int64_t by) {
  const Ix *whole, *rest, *high, *low;
  divide(t, x, by, &whole, &rest);
  if (rest->max < by) return rest;
  int64_t g = peel(t, rest, by, &high, &low);
  if (g > 1) return ix_add(t, ix_mul(t, ix_mod(t, high, by / g), g), low);
  const Atom *a = single(rest, ATOM_mod);
  if (a && a->by % by == 0) return ix_mod(t, a->of, by);
  return of_atom(t, (Atom){.kind = ATOM_mod, .of = rest, .by = by, .max = by - 1});
}

int64_t ix_max(const Ix *x) { return x->max; }
int64_t ix_offset(const Ix *x) { return x->c; }

int64_t ix_step(const Ix *x) {
  int64_t g = 0;
  for (int i = 0; i < x->n; i++) g = gcd(g, x->term[i].coef);
  return g;
}

bool ix_varies(const Ix *x, const Ix *value) {
  for (int i = 0; i < x->n; i++) {
    const Atom *a = x->term[i].atom;
    if (a->kind == ATOM_value ? value->n && a == value->term[0].atom : ix_varies(a->of, value))
      return true;
  }
  return false;
}

/* ---- the shader's side ---- */

static int log2_of(int64_t x) {
  for (int i = 0; i < 32; i++)
    if (x == (int64_t)1 << i) return i;
  return -1;
}

static SpvId emit_atom(IxTable *t, const Atom *a) {
  if (a->kind == ATOM_value) return a->value;
  Spv *b = t->b;
  SpvId x = ix_emit(t, a->of);
  int shift = log2_of(a->by);
  if (a->kind == ATOM_div) {
    SpvId by = spv_u(b, shift >= 0 ? (uint32_t)shift : (uint32_t)a->by);
    return spv_bin(b, shift >= 0 ? SpvOpShiftRightLogical : SpvOpUDiv, x, by);
  }
  SpvId by = spv_u(b, shift >= 0 ? (uint32_t)a->by - 1 : (uint32_t)a->by);
  return spv_bin(b, shift >= 0 ? SpvOpBitwiseAnd : SpvOpUMod, x, by);
}

SpvId ix_emit(IxTable *t, const Ix *x) {
  Spv *b = t->b;
  if (x->n == 0) return spv_u(b, (uint32_t)x->c);
  SpvId sum = 0;
  for (int i = 0; i < x->n; i++) {
    SpvId v = emit_atom(t, x->term[i].atom);
    if (x->term[i].coef != 1) {
      int shift = log2_of(x->term[i].coef);
      SpvId f = spv_u(b, shift >= 0 ? (uint32_t)shift : (uint32_t)x->term[i].coef);
      v = spv_bin(b, shift >= 0 ? SpvOpShiftLeftLogical : SpvOpIMul, v, f);
    }
    sum = sum ? spv_bin(b, SpvOpIAdd, sum, v) : v;
  }
  if (x->c == 0) return sum;
  SpvId c = spv_u(b, (uint32_t)x->c);
  return spv_bin(b, SpvOpIAdd, sum, c);
}

static Split without_ones(int rank, const int64_t *dim, const Ix *const *index) {
  Split s = {0};
  for (int i = 0; i < rank; i++) {
    if (dim[i] == 1) continue;
    s.dim[s.rank] = dim[i];
    s.index[s.rank++] = index[i];
  }
  return s;
}

static const Split *find_split(const IxTable *t, const Split *s) {
  for (int i = t->n_split; i-- > 0;) {
    const Split *x = t->split[i];
    if (x->rank == s->rank && memcmp(x->dim, s->dim, sizeof s->dim) == 0 &&
        memcmp(x->index, s->index, sizeof s->index) == 0)
      return x;
  }
  return NULL;
}

void ix_split(IxTable *t, const Ix *linear, int rank, const int64_t *dim, const Ix **index) {
  int64_t stride = 1;
  for (int i = rank - 1; i >= 0; i--) {
    index[i] = ix_mod(t, ix_div(t, linear, stride), dim[i]);
    stride *= dim[i];
  }
  Split s = without_ones(rank, dim, index);
  s.linear = linear;
  if (s.rank < 2 || find_split(t, &s)) return;
  Split *kept = arena_copy(t->arena, &s, sizeof s);
  ARENA_PUSH(t->arena, t->split, t->n_split, kept);
}

const Ix *ix_join(IxTable *t, int rank, const int64_t *dim, const Ix *const *index) {
  Split s = without_ones(rank, dim, index);
  const Split *made = s.rank < 2 ? NULL : find_split(t, &s);
  if (made) return made->linear;
  const Ix *sum = ix_const(t, 0);
  int64_t stride = 1;
  for (int i = s.rank - 1; i >= 0; i--) {
    sum = ix_add(t, sum, ix_mul(t, s.index[i], stride));
    stride *= s.dim[i];
  }
  return sum;
}
