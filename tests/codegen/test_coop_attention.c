/* Attention on matrix units, forward and backward, against the evaluator: heads of 16 to 256 channels, lengths that
 * divide by nothing, grouped queries, bands, caps, masks, dropout, results rounded and stored through views; with and
 * without reductions of rows in registers. Every kernel has to be one with matrices. */
#include "tests/codegen/check.h"
#include "tests/codegen/leaves.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALL = 1 << 30, CAPABILITY_MATRIX = 6022 };

typedef struct Sizes {
  int64_t b, h, kv, t, s, c, e;
  int64_t lo, hi;
  double cap, scale; /* 0: 1 / √c */
  bool keep, mask;
} Sizes;

typedef struct Setup {
  Bench *bench;
  const Target *target;
  const Sizes *n;
  DType low;
  Graph *g;
  Arena *arena;
  Feed feed[8];
  int n_feed;
  Node *src[6];
  AttentionAttr a;
  bool all_forms; /* not only the first */
} Setup;

static Node *leaf(Setup *s, DType d, int rank, const int64_t *dim, double lo, double hi) {
  return uniform_leaf(s->g, s->arena, s->feed, &s->n_feed, type_of(d, rank, dim), lo, hi);
}

/* [b, heads, rows, channels], stored in 16 bits as rows of all heads, the last of two such tensors side by side. */
static Node *heads(Setup *s, int64_t heads, int64_t rows, int64_t channels) {
  int64_t b = s->n->b, width = heads * channels;
  Node *x = leaf(s, s->low, 3, (int64_t[]){b, rows, 2 * width}, -2, 2);
  x = ir_slice(s->g, x, (int64_t[]){0, 0, width}, (int64_t[]){b, rows, 2 * width});
  x = ir_reshape(s->g, x, 4, (int64_t[]){b, rows, heads, channels});
  return ir_cast(s->g, ir_permute(s->g, x, (int[]){0, 2, 1, 3}), DT_f32);
}

static void extras(Setup *s) {
  const Sizes *n = s->n;
  Type pairs = type_of(DT_f32, 4, (int64_t[]){n->b, n->h, n->t, n->s});
  if (n->keep) {
    Node *rng = leaf(s, DT_i32, 1, (int64_t[]){4}, 0, 1000);
    Node *kept = ir_ge(s->g, ir_random(s->g, rng, 5, &pairs), ir_const(s->g, 0.25, &pairs));
    s->a.keep = ir_where(s->g, kept, ir_const(s->g, 4.0 / 3, &pairs), ir_const(s->g, 0, &pairs));
  }
  if (n->mask) {
    Node *x = leaf(s, DT_f32, 4, (int64_t[]){n->b, 1, 1, n->s}, -1, 2);
    x = ir_broadcast(s->g, x, 4, pairs.dim);
    s->a.mask = ir_ge(s->g, x, ir_const(s->g, 0, &pairs));
  }
}

/* What log Σ exp of the scores is, or up to 1 more: then no weight is larger than 1, as it would be in f16's range. */
static void know_lse(Setup *s) {
  enum { LSE = 3 };
  double *given = (double *)s->feed[LSE].data;
  Node *lse = ir_attend(s->g, OP_attention_lse, s->src, &s->a);
  Tensor t;
  Buf why = {0};
  if (!ir_eval(s->arena, s->g, EVAL_f64, s->feed, s->n_feed, &lse, 1, &t, &why))
    die("lse: %s", why.data);
  for (int64_t i = 0; i < type_count(&t.type); i++)
    if (isfinite(t.data[i])) given[i] = (float)(given[i] + t.data[i]);
}

static void begin(Setup *s, bool backward) {
  const Sizes *n = s->n;
  s->g = graph_new("attention");
  s->arena = arena_new();
  s->n_feed = 0;
  double scale = n->scale != 0 ? n->scale : 1 / sqrt((double)n->c);
  s->a = (AttentionAttr){.scale = (float)scale, .cap = n->cap, .lo = n->lo, .hi = n->hi};
  s->src[0] = heads(s, n->h, n->t, n->c);
  s->src[1] = heads(s, n->kv, n->s, n->c);
  s->src[2] = heads(s, n->kv, n->s, n->e);
  if (backward) {
    s->src[3] = leaf(s, DT_f32, 4, (int64_t[]){n->b, n->h, n->t, 1}, 0, 1);
    s->src[4] = leaf(s, DT_f32, 4, (int64_t[]){n->b, n->h, n->t, 1}, -1, 1);
    s->src[5] = heads(s, n->h, n->t, n->e);
  }
  extras(s);
  if (backward) know_lse(s);
}

static Node *make(Setup *s, Op op) { return ir_attend(s->g, op, s->src, &s->a); }

/* Rounded, heads merged: [b, heads, rows, channels] → [b, rows, heads · channels] */
static Node *merged(Setup *s, Node *x) {
  const int64_t *d = x->type.dim;
  Node *rows = ir_permute(s->g, ir_cast(s->g, x, s->low), (int[]){0, 2, 1, 3});
  return ir_reshape(s->g, rows, 3, (int64_t[]){d[0], d[2], d[1] * d[3]});
}

static bool has_matrices(const KernelCode *code) {
  bool found = false;
  for (int i = 5; i + 1 < code->n_word && (code->word[i] & 0xffff) == 17; i += 2)
    found = found || code->word[i + 1] == CAPABILITY_MATRIX;
  return found;
}

/* The job in one of its forms, which has to be one with matrices. */
static void run_form(Setup *s, const char *what, const KernelJob *job, const KernelForm *form) {
  const Sizes *n = s->n;
  Buf key = {0};
  cg_form_key(job, s->target, &key);
  TunedForm tuned = {.kernel = key.data, .form = form->name};
  Tuning tuning = {&tuned, 1};
  Target target = *s->target;
  target.tuning = &tuning;
  const char *title =
    arena_printf(s->arena, "%s %s b=%lld h=%lld/%lld t=%lld s=%lld c=%lld e=%lld, %s", what,
                 dtype_name(s->low), (long long)n->b, (long long)n->h, (long long)n->kv,
                 (long long)n->t, (long long)n->s, (long long)n->c, (long long)n->e, form->name);
  KernelCode code;
  cg_emit(s->arena, job, &target, &code);
  if (!has_matrices(&code)) {
    printf("FAILED %s, target %s: a kernel without matrices\n", title, target.name);
    s->bench->wrong++;
  }
  check_job(s->bench, &target, s->g, s->feed, s->n_feed, title, job->n_out, job->out, job->anchor,
            NULL);
  buf_free(&key);
}

static void end(Setup *s, const char *what, int n_out, Node **out, Node *anchor) {
  bool *stored = arena_alloc(s->arena, (size_t)s->g->n_node);
  for (int i = 0; i < s->g->n_node; i++) stored[i] = s->g->node[i]->op == OP_input;
  for (int o = 0; o < n_out; o++) stored[out[o]->id] = true;
  KernelJob job = {.out = out, .n_out = n_out, .anchor = anchor, .stored = stored};
  KernelForm form[CG_MAX_FORMS];
  int n = cg_forms(&job, s->target, form), run = 0;
  for (int i = 0; i < n && (!run || s->all_forms); i++)
    if (strncmp(form[i].name, "matrices", 8) == 0) {
      run_form(s, what, &job, &form[i]);
      run++;
    }
  if (!run) {
    printf("FAILED %s: matrix units do not take it\n", what);
    s->bench->wrong++;
  }
  graph_free(s->g);
  arena_free(s->arena);
}

static void forward(Setup *s, bool few) {
  begin(s, false);
  Node *lse = make(s, OP_attention_lse), *o = make(s, OP_attention);
  end(s, "lse, merged o", 2, (Node *[]){lse, merged(s, o)}, o);
  begin(s, false);
  lse = make(s, OP_attention_lse);
  end(s, "lse", 1, (Node *[]){lse}, lse);
  if (few) return;
  begin(s, false);
  o = make(s, OP_attention), lse = make(s, OP_attention_lse);
  end(s, "o, lse", 2, (Node *[]){o, lse}, o);
}

static void backward(Setup *s, bool few) {
  begin(s, true);
  Node *dq = make(s, OP_attention_dq);
  end(s, "merged dq", 1, (Node *[]){merged(s, dq)}, dq);
  begin(s, true);
  Node *dk = make(s, OP_attention_dk), *dv = make(s, OP_attention_dv);
  end(s, "dk, merged dv", 2, (Node *[]){dk, merged(s, dv)}, dv);
  if (few) return;
  begin(s, true);
  dv = make(s, OP_attention_dv);
  end(s, "dv", 1, (Node *[]){dv}, dv);
}

static const double *fed(const Node *leaf, void *setup) {
  const Setup *s = setup;
  for (int i = 0; i < s->n_feed; i++)
    if (s->feed[i].name == leaf->name) return s->feed[i].data;
  return NULL;
}

/* Weights that sum to 1, times values of 1: rounding each to the nearest 16 bits may err either way, and does so evenly.
 * Cutting bits off would make all results less. */
static void even(Bench *b, const Target *target, DType low) {
  static const Sizes size = {1, 2, 2, 130, 130, 64, 64, -ALL, 0, 0, 0, false, false};
  Setup s = {.bench = b, .target = target, .low = low, .n = &size};
  begin(&s, false);
  double *v = (double *)s.feed[2].data, sum = 0;
  for (int64_t i = 0; i < 2 * size.s * size.kv * size.e; i++) v[i] = 1;
  Node *o = make(&s, OP_attention);
  int64_t n = type_count(&o->type);
  double *result = arena_alloc(s.arena, sizeof *result * (size_t)n);
  bool *stored = arena_alloc(s.arena, (size_t)s.g->n_node);
  for (int i = 0; i < s.g->n_node; i++)
    stored[i] = s.g->node[i]->op == OP_input || s.g->node[i] == o;
  KernelJob job = {.out = &o, .n_out = 1, .anchor = o, .stored = stored};
  KernelCode code;
  Buf why = {0};
  cg_emit(s.arena, &job, target, &code);
  if (!bench_run(b, s.arena, target, &job, &code, fed, &s, NULL, &result, &why))
    die("%s", why.data);
  for (int64_t i = 0; i < n; i++) sum += (result[i] - 1) / (double)n;
  if (!(fabs(sum) <= cg_unit_roundoff(low) / 8)) {
    printf("FAILED %s, target %s: weights are %.2g too large on average\n", dtype_name(low),
           target->name, sum);
    b->wrong++;
  }
  graph_free(s.g);
  arena_free(s.arena);
}

/* `few` where matrices are computed by a CPU, which compiles long for wide heads, and longer still to reduce rows in
 * registers; a GPU, which can do that mostly, takes some cases without. */
static void run(Bench *b, const Target *target, DType low, bool few, const char *only) {
  static const Sizes sizes[] = {
    {1, 2, 2, 40, 40, 16, 16, -ALL, 0, 0, 0, false, false},
    {2, 3, 3, 70, 70, 32, 32, -ALL, 0, 0, 0, false, false},
    {1, 2, 1, 45, 61, 16, 24, -ALL, 0, 0, 0, true, false},
    {2, 4, 2, 35, 83, 40, 32, -ALL, 24, 0, 0, false, true},
    {1, 2, 2, 83, 35, 48, 48, -31, 8, 5, 0, false, false},
    {1, 1, 1, 61, 45, 32, 16, -ALL, -7, 0, -0.4, false, false},
    {1, 6, 1, 35, 3, 16, 16, -ALL, ALL, 0, 2, false, false},
    {1, 2, 1, 130, 130, 64, 64, -ALL, 0, 0, 0, false, false},
    {1, 1, 1, 33, 47, 80, 96, -ALL, ALL, 0, 0, false, false},
    {1, 2, 2, 100, 100, 128, 128, -ALL, 0, 0, 0, false, false},
    {1, 1, 1, 65, 65, 256, 256, -ALL, 0, 0, 0, false, false},
    {1, 1, 1, 150, 150, 200, 152, -60, 0, 30, 0, true, true},
    {2, 4, 2, 259, 259, 64, 64, -ALL, 0, 0, 0, false, false},
    {1, 2, 2, 350, 350, 64, 64, -100, 0, 0, 0, true, false},
    {1, 2, 2, 300, 133, 96, 40, -ALL, ALL, 0, 0, false, true},
    {1, 2, 2, 16, 16, 128, 128, -ALL, 0, 0, 0, false, false},
    {1, 2, 1, 1, 70, 64, 64, -ALL, ALL, 0, 0, false, false},
  };
  enum { FEW = 6, EVERY_FORM = 1 };
  for (int i = 0; i < (few && !only ? FEW : COUNT_OF(sizes)); i++) {
    Setup s = {.bench = b,
               .target = target,
               .low = low,
               .n = &sizes[i],
               .all_forms = i == EVERY_FORM && low == DT_bf16 && target->matrix_rows};
    bool sparse = few ? target->matrix_rows && i % 4 != 0 : !target->matrix_rows && i % 4 != 1;
    if (only ? atoi(only) != i : sparse || (!few && low == DT_f16 && i % 3 != 0)) continue;
    forward(&s, few || s.all_forms || i > FEW);
    backward(&s, few || s.all_forms || i > FEW);
  }
}

int main(int argc, char **argv) {
  Bench b;
  Buf why = {0};
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (!bench_open(&b, &why)) {
    printf("skipped: no Vulkan device: %s\n", why.data);
    return 0;
  }
  Target plain = b.native;
  plain.name = "the device without reductions of rows";
  plain.matrix_rows = false;
  if (!plain.matrix_f16.m && !plain.matrix_bf16.m)
    printf("skipped: device %s has no matrix units\n", b.native.name);
  const Target *target[] = {&plain, &b.native};
  const char *only = argc > 1 ? argv[1] : NULL;
  for (int t = 0; t < (b.native.matrix_rows ? 2 : 1); t++) {
    if (plain.matrix_f16.m) even(&b, target[t], DT_f16);
    if (plain.matrix_bf16.m) even(&b, target[t], DT_bf16);
    if (plain.matrix_f16.m) run(&b, target[t], DT_f16, plain.is_cpu, only);
    if (plain.matrix_bf16.m) run(&b, target[t], DT_bf16, plain.is_cpu, only);
  }
  printf("%d kernels, %d wrong\n", b.kernels, b.wrong);
  bench_close(&b);
  return b.wrong != 0;
}
