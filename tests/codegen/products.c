/* Products with what is computed from them: biases, activations, residuals, dropout, heads apart, sums over k of the operands,
 * several results; every transposition, odd sizes, batches; operands in f32, or stored in 16 bits and widened. */
#include "tests/codegen/products.h"

#include "tests/codegen/leaves.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FEED = 8 };

typedef struct Product {
  Bench *bench;
  const Target *target;
  Graph *g;
  Arena *arena;
  int64_t m, n, k;
  int turned; /* 1: A lies k × m, 2: B lies n × k */
  DType half; /* of A and B in memory, widened by the kernel; DT_f32: as they are */
  Feed feed[MAX_FEED];
  int n_feed;
  Node *a, *b, *y; /* y = a·b, the anchor */
  Node *out[CG_MAX_OUT];
  int n_out;
} Product;

#define DIM(...)                                                                                   \
  (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }

/* ---- graphs ---- */

static Node *leaf(Product *p, DType d, int rank, const int64_t *dim) {
  return whole_leaf(p->g, p->arena, p->feed, &p->n_feed, type_of(d, rank, dim));
}

static Node *like(Product *p, Node *x) { return leaf(p, DT_f32, x->type.rank, x->type.dim); }

static Node *wide(Product *p, Node *x, Node *to) {
  return ir_broadcast(p->g, x, to->type.rank, to->type.dim);
}

static Node *biased(Product *p, Node *x) {
  return ir_add(p->g, x, wide(p, leaf(p, DT_f32, DIM(x->type.dim[x->type.rank - 1])), x));
}

static Node *operand(Product *p, int64_t rows, int64_t columns, bool turned) {
  if (!turned) return ir_cast(p->g, leaf(p, p->half, DIM(rows, columns)), DT_f32);
  Node *x = leaf(p, p->half, DIM(columns, rows));
  return ir_cast(p->g, ir_permute(p->g, x, (int[]){1, 0}), DT_f32);
}

static void out(Product *p, Node *x) { p->out[p->n_out++] = x; }

/* ---- epilogues ---- */

static void alone(Product *p) { out(p, p->y); }

static void bias(Product *p) { out(p, biased(p, p->y)); }

static void activation(Product *p) { /* both are kept */
  Node *x = biased(p, p->y);
  out(p, x);
  out(p, ir_mul(p->g, x, ir_sigmoid(p->g, x)));
}

static void all_of_it(Product *p) {
  Node *x = ir_tanh(p->g, p->y);
  out(p, p->y);
  out(p, x);
  out(p, ir_lt(p->g, x, p->y));
  out(p, ir_cast(p->g, biased(p, p->y), DT_bf16));
}

static void residual(Product *p) { out(p, ir_add(p->g, biased(p, p->y), like(p, p->y))); }

static void half(Product *p) { out(p, ir_cast(p->g, p->y, DT_f16)); }

static void dropout(Product *p) {
  Node *rng = leaf(p, DT_i32, DIM(4));
  Type t = p->y->type;
  Node *kept = ir_lt(p->g, ir_random(p->g, rng, 3, &t), ir_const(p->g, 0.8, &t));
  Node *x = ir_where(p->g, kept, biased(p, p->y), ir_const(p->g, 0, &t));
  out(p, ir_add(p->g, like(p, p->y), x));
}

/* [b·t, h·c] → [b, h, t, c] and [h, c, b, t], beside the plain sum */
static void heads(Product *p) {
  Node *x = biased(p, p->y);
  int64_t b = p->m % 2 == 0 ? 2 : 1, h = p->n % 3 == 0 ? 3 : 1;
  Node *apart = ir_reshape(p->g, x, DIM(b, p->m / b, h, p->n / h));
  out(p, x);
  out(p, ir_permute(p->g, apart, (int[]){0, 2, 1, 3}));
  out(p, ir_permute(p->g, apart, (int[]){2, 3, 0, 1}));
}

static void transposed(Product *p) { out(p, ir_permute(p->g, ir_neg(p->g, p->y), (int[]){1, 0})); }

static void reshaped(Product *p) { /* the residual has another shape */
  Node *x = ir_reshape(p->g, p->y, DIM(1, p->m * p->n));
  out(p, ir_reshape(p->g, ir_add(p->g, x, like(p, x)), DIM(p->m, 1, p->n)));
}

/* ---- sums over k ---- */

static Node *sum_of(Product *p, Node *x, int axis) {
  return ir_reduce(p->g, OP_reduce_sum, x, 1, (int[]){axis});
}

static void sum_b(Product *p) {
  out(p, p->y);
  out(p, sum_of(p, p->b, 0));
}

static void sum_a(Product *p) {
  out(p, ir_reshape(p->g, sum_of(p, p->a, 1), DIM(1, p->m)));
  out(p, p->y);
}

static void both_sums(Product *p) {
  Node *s = sum_of(p, p->b, 0);
  out(p, ir_add(p->g, p->y, like(p, p->y)));
  out(p, sum_of(p, p->a, 1));
  out(p, s);
  out(p, ir_mul(p->g, s, like(p, s)));
}

typedef struct Case {
  const char *title;
  void (*build)(Product *);
} Case;

static const Case all[] = {
  {"bias", bias},
  {"activation", activation},
  {"all of it", all_of_it},
  {"residual", residual},
  {"half", half},
  {"dropout", dropout},
  {"reshaped", reshaped},
  {"heads", heads},
  {"transposed", transposed},
  {"sum of B", sum_b},
  {"sum of A", sum_a},
  {"both sums", both_sums},
};

/* ---- running ---- */

static int by_id(const void *x, const void *y) {
  return (*(Node *const *)x)->id - (*(Node *const *)y)->id;
}

static void finish(Product *p, const char *title) {
  char name[80];
  snprintf(name, sizeof name, "%s, %s %lldx%lldx%lld turned %d", title, dtype_name(p->half),
           (long long)p->m, (long long)p->n, (long long)p->k, p->turned);
  qsort(p->out, (size_t)p->n_out, sizeof *p->out, by_id);
  check_job(p->bench, p->target, p->g, p->feed, p->n_feed, name, p->n_out, p->out, p->y, NULL);
  graph_free(p->g);
  arena_free(p->arena);
}

static Product begin(Bench *b, const Target *t, const int64_t *size, int turned, DType half) {
  Product p = {.bench = b,
               .target = t,
               .g = graph_new("product"),
               .arena = arena_new(),
               .m = size[0],
               .n = size[1],
               .k = size[2],
               .turned = turned,
               .half = half};
  p.a = operand(&p, p.m, p.k, turned & 1);
  p.b = operand(&p, p.k, p.n, turned & 2);
  p.y = ir_matmul(p.g, p.a, p.b);
  return p;
}

static void cases(Bench *b, const Target *t, int argc, char **argv) {
  static const int64_t size[][3] = {{32, 48, 32}, {33, 31, 7}, {6, 21, 12}, {70, 36, 40},
                                    {2, 4, 5},    {1, 64, 9},  {12, 3, 16}, {33, 36, 4100}};
  static const int64_t few[] = {6, 9, 700}; /* a reduction, where no out needs tiles */
  for (int c = 0; c < COUNT_OF(all); c++) {
    bool wanted = argc == 1;
    for (int i = 1; i < argc; i++) wanted = wanted || strcmp(argv[i], all[c].title) == 0;
    if (!wanted) continue;
    for (int i = 0; i < COUNT_OF(size); i++)
      for (int turned = 0; turned<4; turned += size[i][2]> 1000 ? 3 : 1) {
        /* A transposition has one 16-bit type, the next one the other; long sums f32 alone. On a CPU every other case: of what
         * follows, size and transposition any two meet with both kinds of operands. */
        for (int f32 = 0; f32 < 2; f32++) {
          if (!f32 && size[i][2] > 1000) continue;
          if (b->native.is_cpu && size[i][2] <= 1000 && (c + i + turned) % 2 != f32) continue;
          DType half = turned % 2 ? DT_bf16 : DT_f16;
          Product p = begin(b, t, size[i], turned, f32 ? DT_f32 : half);
          all[c].build(&p);
          finish(&p, all[c].title);
        }
      }
    for (int f32 = 0; f32 < 2; f32++) {
      Product p = begin(b, t, few, 2, f32 ? DT_f32 : DT_bf16);
      all[c].build(&p);
      finish(&p, all[c].title);
    }
  }
}

/* Batches: a bias per column, a scale per batch, the batch moved inside. */
static void batches(Bench *b, const Target *t, DType half, int64_t m, int64_t n, int64_t k) {
  Product p = begin(b, t, (int64_t[]){m, n, k}, 0, half);
  Node *x = ir_cast(p.g, leaf(&p, half, DIM(2, 3, m, k)), DT_f32);
  Node *w = ir_cast(p.g, leaf(&p, half, DIM(2, 3, k, n)), DT_f32);
  p.y = ir_matmul(p.g, x, w);
  Node *scaled = ir_mul(p.g, p.y, wide(&p, leaf(&p, DT_f32, DIM(2, 3, 1, 1)), p.y));
  Node *moved = ir_permute(p.g, biased(&p, scaled), (int[]){0, 2, 1, 3});
  out(&p, scaled);
  out(&p, ir_reshape(p.g, moved, DIM(2 * m, 3 * n)));
  finish(&p, "batches");
}

/* The bias gradient as it is written: dY [b, t, n], flattened for the product, summed over b and t. */
static void bias_gradient(Bench *b, const Target *t, DType half) {
  Product p = begin(b, t, (int64_t[]){40, 36, 24}, 1, half);
  Node *dy = ir_cast(p.g, leaf(&p, half, DIM(2, 12, 36)), DT_f32);
  p.y = ir_matmul(p.g, ir_reshape(p.g, p.a, DIM(1, 40, 24)), ir_reshape(p.g, dy, DIM(1, 24, 36)));
  out(&p, p.y);
  out(&p, ir_reduce(p.g, OP_reduce_sum, dy, 2, (int[]){0, 1}));
  finish(&p, "bias gradient");
}

/* The same where k is in parts, products and sums of their own: dY [parts · k, n]. */
static void bias_gradient_in_parts(Bench *b, const Target *t, DType half) {
  enum { PARTS = 3, M = 40, N = 36, K = 24 };
  Product p = begin(b, t, (int64_t[]){M, N, K}, 0, half);
  Node *x = ir_cast(p.g, leaf(&p, half, DIM(PARTS * K, M)), DT_f32);
  Node *dy = ir_cast(p.g, leaf(&p, half, DIM(PARTS * K, N)), DT_f32);
  x = ir_permute(p.g, ir_reshape(p.g, x, DIM(PARTS, K, M)), (int[]){0, 2, 1});
  p.y = ir_matmul(p.g, x, ir_reshape(p.g, dy, DIM(PARTS, K, N)));
  out(&p, p.y);
  out(&p, sum_of(&p, ir_reshape(p.g, dy, DIM(1, PARTS, K, N)), 2));
  finish(&p, "bias gradient in parts");
}

/* ---- what is refused ---- */

static int refused(Bench *b) {
  int wrong = 0;
  for (int i = 0; i < 7; i++) {
    bool few = i == 6; /* too long for tiles */
    Product p =
      begin(b, &b->native, few ? (int64_t[]){2, 2, 200001} : (int64_t[]){24, 24, 24}, 2, DT_f32);
    Node *square = ir_permute(p.g, p.y, (int[]){1, 0});
    switch (i) {
    case 0: out(&p, ir_add(p.g, p.y, square)); break;             /* two indices */
    case 1: out(&p, sum_of(&p, p.y, 1)); break;                   /* of the product */
    case 2: out(&p, sum_of(&p, p.b, 1)); break;                   /* not over k */
    case 3: out(&p, sum_of(&p, ir_mul(p.g, p.b, p.b), 0)); break; /* not the operand */
    case 4: out(&p, ir_neg(p.g, p.a)); break;                     /* not the product */
    case 5: out(&p, ir_add(p.g, p.y, wide(&p, sum_of(&p, p.b, 0), p.y))); break; /* both */
    case 6: transposed(&p); break;
    }
    bool *stored = arena_alloc(p.arena, (size_t)p.g->n_node);
    for (int n = 0; n < p.g->n_node; n++) stored[n] = p.g->node[n]->op == OP_input;
    stored[p.out[0]->id] = true;
    KernelJob job = {.out = p.out, .n_out = 1, .anchor = p.y, .stored = stored};
    if (cg_matmul_accepts(&job)) {
      printf("FAILED: case %d is not refused\n", i);
      wrong++;
    }
    graph_free(p.g);
    arena_free(p.arena);
  }
  return wrong;
}

/* Several tiles of 64 rows on a CPU, the last of them not full. */
static void high_tiles(Bench *b, const Target *t) {
  static void (*const build[])(Product *) = {alone, both_sums, heads, all_of_it};
  for (int turned = 0; turned < 4; turned++) {
    Product p = begin(b, t, (int64_t[]){126, 124, 37}, turned, turned % 3 ? DT_bf16 : DT_f32);
    build[turned](&p);
    finish(&p, "high tiles");
  }
}

void products_any(Bench *b, const Target *target, int argc, char **argv) {
  cases(b, target, argc, argv);
  if (target == &target_portable) b->wrong += refused(b);
  if (argc == 1 || strcmp(argv[1], "high") == 0) high_tiles(b, target);
  if (argc > 1 && strcmp(argv[1], "batches") != 0) return;
  batches(b, target, DT_f32, 20, 36, 8);
  batches(b, target, DT_f32, 5, 7, 3);
  bias_gradient(b, target, DT_f32);
  bias_gradient(b, target, DT_bf16);
  bias_gradient_in_parts(b, target, DT_f32);
}

/* Operands that are the first m, n of longer rows, of which whole runs are read. */
static void cut_rows(Bench *b, const Target *t, DType half, int64_t m, int64_t n, int64_t k) {
  Product p = begin(b, t, (int64_t[]){m, n, k}, 1, half);
  int64_t m_up = (m + 7) / 8 * 8, n_up = (n + 7) / 8 * 8, zero[2] = {0};
  Node *x = ir_cast(p.g, leaf(&p, half, DIM(k, m_up)), DT_f32);
  Node *w = ir_cast(p.g, leaf(&p, half, DIM(k, n_up)), DT_f32);
  x = ir_permute(p.g, ir_slice(p.g, x, zero, (int64_t[]){k, m}), (int[]){1, 0});
  p.y = ir_matmul(p.g, x, ir_slice(p.g, w, zero, (int64_t[]){k, n}));
  residual(&p);
  finish(&p, "cut rows");
}

/* Each tile of the kernels for GPUs: on one core these sizes are best cut into so many. */
void products_tiles(Bench *b, const Target *gpu) {
  static const struct {
    int64_t size[3];
    uint32_t groups[2]; /* an operand lies along its terms; none does */
  } cut[] = {{{250, 255, 40}, {2, 8}},
             {{380, 60, 35}, {3, 3}},
             {{58, 380, 9}, {3, 3}},
             {{100, 120, 20}, {4, 4}},
             {{33, 36, 4100}, {4, 4}}};
  static void (*const build[])(Product *) = {bias, both_sums, heads, all_of_it};
  Target one = *gpu;
  one.cores = 1;
  one.matrix_f16 = one.matrix_bf16 = (TargetMatrix){0};
  b->foreign = true;
  for (int i = 0; i < COUNT_OF(cut); i++)
    for (int turned = 0; turned < 4; turned++) {
      Product p = begin(b, &one, cut[i].size, turned, (i + turned) % 3 ? DT_f32 : DT_bf16);
      build[(i + turned) % 4](&p);
      bool *stored = arena_alloc(p.arena, (size_t)p.g->n_node);
      for (int n = 0; n < p.g->n_node; n++) stored[n] = p.g->node[n]->op == OP_input;
      stored[p.y->id] = true;
      KernelCode code;
      cg_emit(p.arena, &(KernelJob){.out = &p.y, .n_out = 1, .anchor = p.y, .stored = stored}, &one,
              &code);
      uint32_t groups = cut[i].groups[turned == 1];
      if (code.groups[0] != groups) {
        printf("FAILED: %u tiles, not %u\n", code.groups[0], groups);
        b->wrong++;
      }
      finish(&p, "tiles");
    }
  cut_rows(b, &one, DT_f32, 97, 66, 40);
  b->foreign = false;
}

/* On one core a workgroup computes tile after tile. */
static void several_tiles(Bench *b, const Target *t, DType half) {
  Target one = *t;
  one.cores = 1;
  for (int turned = 0; turned < 4; turned++) {
    Product p = begin(b, &one, (int64_t[]){96, 96, 128}, turned, half);
    bool *stored = arena_alloc(p.arena, (size_t)p.g->n_node);
    for (int n = 0; n < p.g->n_node; n++) stored[n] = p.g->node[n]->op == OP_input;
    stored[p.y->id] = true;
    KernelCode code;
    cg_emit(p.arena, &(KernelJob){.out = &p.y, .n_out = 1, .anchor = p.y, .stored = stored}, &one,
            &code);
    if (code.groups[0] > 4) {
      printf("FAILED: %u workgroups on one core\n", code.groups[0]);
      b->wrong++;
    }
    residual(&p);
    finish(&p, "several tiles");
  }
  batches(b, &one, half, 32, 64, 64);
}

/* What whole waves of tiles leave is cut, on two cores, as every form of the kernel can have it: tiles that lie alike, so that each
 * core computes several and then pieces, and such that reach past the edges, some of them so far that a piece lies there whole. */
static void cut_tiles(Bench *b, const Target *t, DType half) {
  static const int64_t size[][3] = {{96, 160, 64}, {160, 96, 64}, {80, 144, 72}, {81, 70, 40}};
  Target two = *t;
  two.cores = 2;
  const TargetMatrix *units = half == DT_bf16 ? &t->matrix_bf16 : &t->matrix_f16;
  two.shared_bytes =
    t->shared_bytes / 64 * units->m * units->n; /* tiles as large as 8 × 8 fragments have them */
  int cut = 0;
  for (int i = 0; i < COUNT_OF(size); i++)
    for (int nth = 0, more = 1; more && nth < 3; nth++) {
      Product p = begin(b, &two, size[i], i, half);
      bool *stored = arena_alloc(p.arena, (size_t)p.g->n_node);
      for (int n = 0; n < p.g->n_node; n++) stored[n] = p.g->node[n]->op == OP_input;
      stored[p.y->id] = true;
      KernelJob job = {.out = &p.y, .n_out = 1, .anchor = p.y, .stored = stored};
      KernelForm form[CG_MAX_FORMS];
      int n = cg_forms(&job, &two, form), seen = 0;
      b->form = more = 0;
      for (int f = 0; f < n && !more; f++)
        if (strstr(form[f].name, ", cut ") && seen++ == nth) b->form = f, more = 1;
      cut += more;
      (nth % 2 ? residual : alone)(&p);
      finish(&p, "cut tiles");
    }
  b->form = 0;
  if (cut < 6) {
    printf("FAILED: only %d forms with tiles cut\n", cut);
    b->wrong++;
  }
}

/* Sums cut into spans: more than tiles and fewer, that meet tiles at any step; each layout of the operands. Some slots of some
 * tiles are spare. */
static void in_spans(Bench *b, const Target *t, DType half) {
  static const int64_t size[][3] = {{64, 96, 256}, {96, 32, 192}};
  static const int64_t spans[] = {1, 2, 5, 7, 12, 18};
  for (int i = 0; i < COUNT_OF(size) * COUNT_OF(spans); i++) {
    Product p = begin(b, t, size[i % 2], (i + i / 2) % 4, half);
    Attr attr = {.n_int = 4, .ints = {spans[i / 2], 32, 32, 32}};
    p.y = ir_make(p.g, OP_matmul_spans, NULL, &attr, 2, (Node *[]){p.a, p.b});
    alone(&p);
    finish(&p, "in spans");
  }
}

void products_16(Bench *b, const Target *target, DType half, uint32_t seed, int n) {
  static const int64_t length[] = {1, 2, 7, 8, 12, 16, 17, 24, 31, 32, 40, 56, 64, 66, 96, 130};
  for (int i = 0; i < n; i++) {
    uint32_t draw[6];
    for (uint32_t j = 0; j < 6; j++) draw[j] = noise(seed * 1000 + 8 * (uint32_t)i + j);
    int64_t size[3];
    for (int j = 0; j < 3; j++) size[j] = length[draw[j] % COUNT_OF(length)];
    const Case *c = &all[draw[3] % COUNT_OF(all)];
    Product p = begin(b, target, size, (int)(draw[4] % 4), half);
    b->form = (int)(draw[5] % 4);
    c->build(&p);
    finish(&p, c->title);
  }
  b->form = 0;
  batches(b, target, half, 20, 36, 8);
  batches(b, target, half, 33, 24, 70);
  several_tiles(b, target, half);
  cut_tiles(b, target, half);
  in_spans(b, target, half);
  cut_rows(b, target, half, 37, 20, 40);
  cut_rows(b, target, half, 66, 43, 24);
  bias_gradient(b, target, half);
  bias_gradient_in_parts(b, target, half);
}
