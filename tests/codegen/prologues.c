/* Products whose operands their kernels compute as they load them: scaled and shifted by row and column, activated, normalised,
 * masked, dropped out, padded, rounded; one operand or both, every transposition, odd sizes, batches, beside epilogues. */
#include "tests/codegen/products.h"

#include "tests/codegen/leaves.h"

#include <string.h>

enum { MAX_FEED = 14 };

#define DIM(...)                                                                                   \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }

typedef struct Prologue {
  Graph *g;
  Arena *arena;
  DType half; /* the operands are rounded to it; DT_f32: they are not */
  Feed feed[MAX_FEED];
  int n_feed;
} Prologue;

static Node *leaf(Prologue *p, DType d, int rank, const int64_t *dim) {
  return whole_leaf(p->g, p->arena, p->feed, &p->n_feed, type_of(d, rank, dim));
}

static Node *wide(Prologue *p, Node *x, const Node *to) {
  return ir_broadcast(p->g, x, to->type.rank, to->type.dim);
}

static Node *row(Prologue *p, const Node *like) { /* a value for each column */
  return wide(p, leaf(p, DT_f32, DIM(like->type.dim[like->type.rank - 1])), like);
}

static Node *column(Prologue *p, const Node *like) { /* a value for each row */
  Type t = like->type;
  t.dim[t.rank - 1] = 1;
  return wide(p, leaf(p, DT_f32, t.rank, t.dim), like);
}

static Node *number(Prologue *p, double v, const Node *like) {
  return ir_const(p->g, v, &like->type);
}

/* ---- what is computed from x; `exact`: whole numbers stay whole ---- */

static Node *nothing(Prologue *p, Node *x) {
  (void)p;
  return x;
}

static Node *scale(Prologue *p, Node *x) {
  return ir_add(p->g, ir_mul(p->g, x, row(p, x)), column(p, x));
}

static Node *ramp(Prologue *p, Node *x) { /* positive parts, of a sum of two */
  Node *other = leaf(p, DT_f32, x->type.rank, x->type.dim);
  return ir_max(p->g, ir_add(p->g, x, other), number(p, 0, x));
}

static Node *mask(Prologue *p, Node *x) { /* below the diagonal, times −1 above it */
  Type t = type_of(DT_i32, x->type.rank, x->type.dim);
  Node *i = ir_iota(p->g, t.rank - 2, &t), *j = ir_iota(p->g, t.rank - 1, &t);
  return ir_where(p->g, ir_lt(p->g, j, i), x, ir_neg(p->g, x));
}

static Node *dropout(Prologue *p, Node *x) {
  Node *kept =
    ir_lt(p->g, ir_random(p->g, leaf(p, DT_i32, DIM(4)), 3, &x->type), number(p, 0.75, x));
  return ir_where(p->g, kept, ir_mul(p->g, x, number(p, 2, x)), number(p, 0, x));
}

static Node *silu(Prologue *p, Node *x) { return ir_mul(p->g, x, ir_sigmoid(p->g, x)); }

static Node *norm(Prologue *p, Node *x) {
  Node *mean = ir_mul(p->g, column(p, x), number(p, 0.3, x));
  Node *rate = ir_exp(p->g, ir_mul(p->g, column(p, x), number(p, 0.1, x)));
  Node *y = ir_mul(p->g, ir_sub(p->g, x, mean), rate);
  return ir_add(p->g, ir_mul(p->g, y, row(p, x)), row(p, x));
}

static Node *gradient(Prologue *p, Node *x) { /* dy · (1 − tanh²(u)) */
  Node *u = ir_tanh(p->g, leaf(p, DT_f32, x->type.rank, x->type.dim));
  return ir_mul(p->g, x, ir_sub(p->g, number(p, 1, x), ir_mul(p->g, u, u)));
}

typedef struct How {
  const char *title;
  Node *(*make)(Prologue *, Node *);
  bool exact;
} How;

static const How how[] = {
  {"as it is", nothing, true}, {"scaled", scale, true},       {"ramp", ramp, true},
  {"masked", mask, true},      {"dropped", dropout, true},    {"silu", silu, false},
  {"norm", norm, false},       {"gradient", gradient, false},
};

/* ---- operands ---- */

/* One of [batch,] rows × columns, perhaps lying turned, in memory as f32; rounded at last. `padded`: some of the last rows and
 * columns are not in memory. */
static Node *operand(Prologue *p, int64_t batch, int64_t rows, int64_t columns, bool turned,
                     bool padded, const How *h) {
  int64_t less[] = {padded && rows > 4 ? 4 : 0, padded && columns > 8 ? 8 : 0};
  int64_t r = rows - less[0], c = columns - less[1];
  Node *x = turned ? leaf(p, DT_f32, DIM(batch, c, r)) : leaf(p, DT_f32, DIM(batch, r, c));
  if (turned) x = ir_permute(p->g, x, (int[]){0, 2, 1});
  if (less[0] || less[1])
    x = ir_pad(p->g, x, (int64_t[]){0, 0, 0}, (int64_t[]){0, less[0], less[1]}, 2);
  x = h->make(p, x);
  if (p->half != DT_f32) x = ir_cast(p->g, ir_cast(p->g, x, p->half), DT_f32);
  return batch == 1 ? ir_reshape(p->g, x, DIM(rows, columns)) : x;
}

typedef struct Shape {
  int64_t batch, m, n, k;
} Shape;

static void run(Bench *b, const Target *t, const Shape *s, int turned, DType half, bool padded,
                const How *of_a, const How *of_b) {
  Prologue p = {.g = graph_new("prologue"), .arena = arena_new(), .half = half};
  Node *x = operand(&p, s->batch, s->m, s->k, turned & 1, padded, of_a);
  Node *w = operand(&p, s->batch, s->k, s->n, turned & 2, padded, of_b);
  Node *y = ir_matmul(p.g, x, w), *out = ir_add(p.g, y, row(&p, y));
  char title[120];
  snprintf(title, sizeof title, "%s x %s%s, %s %lldx%lldx%lldx%lld turned %d", of_a->title,
           of_b->title, padded ? " padded" : "", dtype_name(half), (long long)s->batch,
           (long long)s->m, (long long)s->n, (long long)s->k, turned);
  check_job(b, t, p.g, p.feed, p.n_feed, title, 1, &out, y, NULL);
  graph_free(p.g);
  arena_free(p.arena);
}

void prologues_any(Bench *b, const Target *t, DType half, uint32_t seed, int n) {
  static const Shape size[] = {{1, 32, 48, 32},  {1, 33, 31, 7},  {1, 1, 64, 40},   {1, 70, 36, 44},
                               {1, 2, 4, 5},     {3, 20, 36, 8},  {2, 5, 7, 3},     {1, 16, 64, 72},
                               {1, 6, 9, 700},   {1, 40, 24, 66}, {1, 64, 100, 16}, {1, 17, 1, 32},
                               {1, 33, 36, 4100}};
  for (int i = 0; i < n; i++) {
    uint32_t draw[6];
    for (uint32_t j = 0; j < 6; j++) draw[j] = noise(seed * 4096 + 8 * (uint32_t)i + j);
    int most = COUNT_OF(how);
    while (half != DT_f32 && !how[most - 1].exact) most--;
    const How *of_a = &how[(i + 1) % most],
              *of_b = &how[draw[0] % 3 ? 0 : draw[1] % (uint32_t)most];
    if (of_b->make == norm && of_a->make == norm) of_b = how; /* too many tensors for one kernel */
    if (draw[2] % 3 == 0) {                                   /* the other operand instead */
      const How *other = of_a;
      of_a = of_b;
      of_b = other;
    }
    b->form = (int)(draw[3] % 4);
    run(b, t, &size[draw[4] % COUNT_OF(size)], (int)(draw[5] % 4), half, draw[5] % 5 == 0, of_a,
        of_b);
  }
  b->form = 0;
}
