/* Attention past what generated cases cover: kernels with two results, results stored through views,
 * many blocks of streamed rows and their edges, loops over channels, loops of more iterations than
 * Mesa 22.3 lets an invocation run, more than 65,535 workgroups. */
#include "tests/codegen/check.h"
#include "tests/codegen/leaves.h"

#include <math.h>
#include <string.h>

typedef struct Sizes {
  int64_t h, kv, t, s, c, e;
  int64_t lo, hi;
  double cap;
  bool keep; /* with random factors */
} Sizes;

typedef struct Setup {
  Bench *bench;
  const Target *target;
  const Sizes *n;
  DType half; /* of q, k, v and do in memory, and of results that are merged; DT_f32: none */
  Graph *g;
  Arena *arena;
  Feed feed[8];
  int n_feed;
  Node *src[6];
  AttentionAttr a;
} Setup;

static Node *leaf(Setup *s, DType d, int rank, const int64_t *dim, double lo, double hi) {
  return uniform_leaf(s->g, s->arena, s->feed, &s->n_feed, type_of(d, rank, dim), lo, hi);
}

/* [1, heads, rows, channels], stored as rows of all heads */
static Node *heads(Setup *s, int64_t heads, int64_t rows, int64_t channels) {
  Node *x = leaf(s, s->half, 4, (int64_t[]){1, rows, heads, channels}, -1, 1);
  return ir_cast(s->g, ir_permute(s->g, x, (int[]){0, 2, 1, 3}), DT_f32);
}

static void begin(Setup *s, const Sizes *n, bool backward) {
  s->n = n;
  s->g = graph_new("attention");
  s->arena = arena_new();
  s->n_feed = 0;
  s->a = (AttentionAttr){.scale = 1 / sqrt((double)n->c), .cap = n->cap, .lo = n->lo, .hi = n->hi};
  s->src[0] = heads(s, n->h, n->t, n->c);
  s->src[1] = heads(s, n->kv, n->s, n->c);
  s->src[2] = heads(s, n->kv, n->s, n->e);
  if (backward) {
    /* about log Σ exp: what p sums to does not matter */
    double lse = log((double)n->s);
    s->src[3] = leaf(s, DT_f32, 4, (int64_t[]){1, n->h, n->t, 1}, lse, lse + 1);
    s->src[4] = leaf(s, DT_f32, 4, (int64_t[]){1, n->h, n->t, 1}, -1, 1);
    s->src[5] = heads(s, n->h, n->t, n->e);
  }
  if (n->keep) {
    Type t = type_of(DT_f32, 4, (int64_t[]){1, n->h, n->t, n->s});
    Node *rng = leaf(s, DT_i32, 1, (int64_t[]){4}, 0, 1000);
    Node *kept = ir_ge(s->g, ir_random(s->g, rng, 5, &t), ir_const(s->g, 0.25, &t));
    s->a.keep = ir_where(s->g, kept, ir_const(s->g, 4.0 / 3, &t), ir_const(s->g, 0, &t));
  }
}

static Node *make(Setup *s, Op op) { return ir_attend(s->g, op, s->src, &s->a); }

/* Merged heads, rounded: [1, heads, rows, channels] → [1, rows, heads · channels] */
static Node *merged(Setup *s, Node *x) {
  x = ir_cast(s->g, x, s->half);
  const int64_t *d = x->type.dim;
  Node *rows = ir_permute(s->g, x, (int[]){0, 2, 1, 3});
  return ir_reshape(s->g, rows, 3, (int64_t[]){1, d[2], d[1] * d[3]});
}

static void end(Setup *s, const char *what, int n_out, Node **out, Node *anchor) {
  const Sizes *n = s->n;
  const char *title =
    arena_printf(s->arena, "%s %s h=%lld/%lld t=%lld s=%lld c=%lld e=%lld", what,
                 dtype_name(s->half), (long long)n->h, (long long)n->kv, (long long)n->t,
                 (long long)n->s, (long long)n->c, (long long)n->e);
  check_job(s->bench, s->target, s->g, s->feed, s->n_feed, title, n_out, out, anchor, NULL);
  graph_free(s->g);
  arena_free(s->arena);
}

enum { KERNELS = 6 };
static void one(Setup *s, const Sizes *n, int which) {
  begin(s, n, which >= 3);
  Node *out[2];
  switch (which) {
  case 0:
    out[0] = make(s, OP_attention);
    out[1] = make(s, OP_attention_lse);
    end(s, "o, lse", 2, out, out[0]);
    break;
  case 1: {
    Node *o = make(s, OP_attention);
    out[0] = make(s, OP_attention_lse);
    out[1] = merged(s, o);
    end(s, "lse, merged o", 2, out, o);
    break;
  }
  case 2:
    out[0] = make(s, OP_attention);
    out[1] = merged(s, out[0]);
    end(s, "o, merged o", 2, out, out[0]);
    break;
  case 3: {
    Node *dq = make(s, OP_attention_dq);
    out[0] = merged(s, dq);
    end(s, "merged dq", 1, out, dq);
    break;
  }
  case 4:
    out[0] = make(s, OP_attention_dk);
    out[1] = make(s, OP_attention_dv);
    end(s, "dk, dv", 2, out, out[1]);
    break;
  case 5: {
    Node *dk = make(s, OP_attention_dk), *dv = make(s, OP_attention_dv);
    out[0] = merged(s, dv);
    out[1] = merged(s, dk);
    end(s, "merged dv, dk", 2, out, dk);
  }
  }
}

/* [1, heads, rows, channels] → [1, parts, heads, rows / parts, channels], or repeated */
static Node *in_parts(Setup *s, Node *x, int64_t parts, bool repeated) {
  const int64_t *d = x->type.dim, rows = repeated ? d[2] : d[2] / parts;
  Node *y = ir_reshape(s->g, x, 5, (int64_t[]){1, d[1], d[2] / rows, rows, d[3]});
  y = ir_permute(s->g, y, (int[]){0, 2, 1, 3, 4});
  return repeated ? ir_expand(s->g, y, 5, (int64_t[]){1, parts, d[1], rows, d[3]}) : y;
}

/* All three gradients by one kernel, of keys in parts. */
static void together(Setup *s, const Sizes *n, int64_t parts) {
  begin(s, n, true);
  for (int i = 0; i < 6; i++) s->src[i] = in_parts(s, s->src[i], parts, i != 1 && i != 2);
  s->a.shift = n->s / parts;
  Node *dq = make(s, OP_attention_dq), *dk = make(s, OP_attention_dk);
  Node *keys = ir_permute(s->g, dk, (int[]){0, 2, 1, 3, 4});
  Node *out[] = {dq, make(s, OP_attention_dv),
                 ir_reshape(s->g, keys, 4, (int64_t[]){1, n->kv, n->s, n->c})};
  out[2] = ir_permute(s->g, out[2], (int[]){0, 2, 1, 3});
  end(s, "dq, dv, dk", 3, out, dq);
}

static void all(Setup *s, const Sizes *n) {
  for (int which = 0; which < KERNELS; which++) one(s, n, which);
}

enum { ALL = 1 << 30 };
static const Sizes sizes[] = {
  {3, 3, 64, 64, 64, 64, -ALL, 0, 0, false},    {2, 1, 150, 131, 20, 24, -ALL, 0, 0, true},
  {4, 2, 75, 203, 9, 6, -ALL, 128, 0, false},   {2, 2, 203, 75, 16, 16, -31, 8, 5, false},
  {1, 1, 40, 47, 200, 152, -ALL, ALL, 0, true}, {2, 2, 33, 33, 6, 166, -ALL, 0, 0, false},
  {1, 1, 1, 300000, 4, 3, -ALL, ALL, 0, false}, {1, 1, 300000, 1, 4, 4, -ALL, ALL, 0, false},
  {6, 1, 30000, 3, 2, 2, -ALL, ALL, 0, false},  {70000, 70000, 2, 1, 1, 1, -ALL, 0, 0, false},
};

/* Tiles in workgroup memory. On a CPU every kernel is tried once, in several forms. */
static void tiles(Bench *b, const Target *gpu) {
  enum { FORMS = 4 };
  static const struct {
    Sizes n;
    int which, form;
    bool few; /* rows for each core */
  } tried[] = {
    {{3, 3, 64, 64, 64, 64, -ALL, 0, 0, false}, 0, 0, false},
    {{2, 1, 150, 131, 20, 24, -ALL, 0, 0, true}, 4, 0, true},
    {{4, 2, 75, 203, 9, 6, -ALL, 128, 0, false}, 3, 0, true},
    {{2, 2, 203, 75, 16, 16, -31, 8, 5, false}, 1, 0, false},
    {{1, 1, 70, 130, 128, 100, -ALL, 60, 0, false}, 5, 0, false},
    {{3, 1, 100, 100, 32, 36, -40, 0, 0, false}, 2, 0, true},
  };
  Target t = *gpu;
  t.matrix_f16 = t.matrix_bf16 = (TargetMatrix){0};
  b->foreign = true;
  static const Sizes in_two[] = {{2, 1, 150, 256, 16, 24, -ALL, 0, 0, false},
                                 {1, 1, 200, 256, 12, 8, -70, 64, 5, false},
                                 {1, 1, 64, 256, 8, 8, -ALL, ALL, 0, false}};
  for (int i = 0; i < (b->native.is_cpu ? 1 : COUNT_OF(in_two)); i++)
    together(&(Setup){.bench = b, .target = &t, .half = i % 2 ? DT_bf16 : DT_f32}, &in_two[i], 2);
  for (int i = 0; i < COUNT_OF(tried); i++) {
    DType half = i % 2 ? DT_f32 : i % 3 ? DT_bf16 : DT_f16;
    Setup s = {.bench = b, .target = &t, .half = half};
    t.cores = tried[i].few ? 100 : 1;
    b->form = tried[i].form;
    if (b->native.is_cpu) {
      one(&s, &tried[i].n, tried[i].which);
      continue;
    }
    for (b->form = 0; b->form < FORMS; b->form++) all(&s, &tried[i].n);
  }
  b->form = 0;
  b->foreign = false;
}

static void everything(Bench *b, const Target *target, int argc, char **argv) {
  bool gpu = !target->is_cpu && target->subgroup_size;
  if (gpu && (target == &b->native || !target->matrix_bf16.m)) tiles(b, target);
  if ((gpu && target != &b->native) || (argc > 1 && strcmp(argv[1], "tiles") == 0)) return;
  Target t = *target; /* matrix units have a test of their own, with other bounds */
  t.matrix_f16 = t.matrix_bf16 = (TargetMatrix){0};
  for (int i = 0; i < COUNT_OF(sizes); i++)
    for (DType half = DT_f16; half <= DT_f32; half++)
      if (half == DT_f32 || i < 5) /* the others try long loops and many workgroups */
        all(&(Setup){.bench = b, .target = &t, .half = half}, &sizes[i]);
}

int main(int argc, char **argv) { return bench_main(everything, argc, argv); }
