/* Attention on the device's matrix units, or of f32 with tiles in workgroup memory, timed: TFLOP/s of the form that is chosen
 * and of the fastest one, each checked against a kernel without. The chosen form is measured several times: from the least to
 * the largest of these times is its span.
 *   bench_attention [f32] [all] [NAME …]   all: every form, not the best four expected; NAME: only cases whose name begins so
 * A causal mask halves the work that is counted. Backward is 2.5 times the forward's work, though its two kernels do 3.5
 * times: both compute the scores. */
#include "driver/tune.h"
#include "tests/codegen/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ALL = 1 << 30 };

typedef struct Case {
  const char *name;
  int64_t b, h, kv, t, s, c;
  int64_t lo, hi;
} Case;

static const Case cases[] = {
  {"gpt2", 16, 12, 12, 1024, 1024, 64, -ALL, 0},
  {"long", 2, 12, 12, 8192, 8192, 64, -ALL, 0},
  {"whole", 16, 12, 12, 1024, 1024, 64, -ALL, ALL},
  {"heads of 32", 16, 12, 12, 1024, 1024, 32, -ALL, 0},
  {"heads of 80", 16, 12, 12, 1024, 1024, 80, -ALL, 0},
  {"heads of 96", 16, 12, 12, 1024, 1024, 96, -ALL, 0},
  {"heads of 128", 4, 16, 16, 2048, 2048, 128, -ALL, 0},
  {"heads of 200", 4, 12, 12, 1024, 1024, 200, -ALL, 0},
  {"heads of 256", 4, 8, 8, 2048, 2048, 256, -ALL, 0},
  {"grouped", 8, 16, 4, 1024, 1024, 64, -ALL, 0},
  {"grouped 128", 4, 32, 8, 1024, 1024, 128, -ALL, 0},
  {"window", 4, 12, 12, 4096, 4096, 64, -511, 0},
  {"odd", 15, 12, 12, 1001, 1001, 64, -ALL, 0},
  {"small", 5, 4, 4, 128, 128, 64, -ALL, 0},
};

typedef struct Setup {
  Graph *g;
  const Case *n;
  DType low;
  Node *src[6];
  AttentionAttr a;
} Setup;

/* Part `part` of `parts` tensors side by side, as [b, heads, rows, channels]. */
static Node *heads(Setup *s, const char *name, int64_t heads, int64_t rows, int64_t from,
                   int64_t all) {
  int64_t width = heads * s->n->c;
  Type t = type_of(s->low, 3, (int64_t[]){s->n->b, rows, all});
  Node *x = ir_leaf(s->g, OP_input, intern(name), &t);
  x = ir_slice(s->g, x, (int64_t[]){0, 0, from}, (int64_t[]){s->n->b, rows, from + width});
  x = ir_reshape(s->g, x, 4, (int64_t[]){s->n->b, rows, heads, s->n->c});
  return ir_cast(s->g, ir_permute(s->g, x, (int[]){0, 2, 1, 3}), DT_f32);
}

static Node *numbers(Setup *s, const char *name) {
  Type t = type_of(DT_f32, 4, (int64_t[]){s->n->b, s->n->h, s->n->t, 1});
  return ir_leaf(s->g, OP_input, intern(name), &t);
}

/* Queries, keys and values lie side by side where they have as many rows. */
static void begin(Setup *s) {
  const Case *n = s->n;
  int64_t q = n->h * n->c, k = n->kv * n->c;
  s->a = (AttentionAttr){.scale = (float)(1 / sqrt((double)n->c)), .lo = n->lo, .hi = n->hi};
  s->src[0] = heads(s, "qkv", n->h, n->t, 0, q + 2 * k);
  s->src[1] = heads(s, n->t == n->s ? "qkv" : "kv", n->kv, n->s, q, q + 2 * k);
  s->src[2] = heads(s, n->t == n->s ? "qkv" : "kv", n->kv, n->s, q + k, q + 2 * k);
  s->src[3] = numbers(s, "lse");
  s->src[4] = numbers(s, "delta");
  s->src[5] = heads(s, "do", n->h, n->t, 0, q);
}

static Node *merged(Setup *s, Op op) {
  Node *x = ir_attend(s->g, op, s->src, &s->a);
  const int64_t *d = x->type.dim;
  Node *rows = ir_permute(s->g, ir_cast(s->g, x, s->low), (int[]){0, 2, 1, 3});
  return ir_reshape(s->g, rows, 3, (int64_t[]){d[0], d[2], d[1] * d[3]});
}

/* Pairs of a query and a key that it sees. */
static double pairs(const Case *n) {
  double all = 0;
  for (int64_t i = 0; i < n->t; i++) {
    int64_t first = i + n->lo > 0 ? i + n->lo : 0, last = i + n->hi < n->s ? i + n->hi : n->s - 1;
    if (last >= first) all += (double)(last - first + 1);
  }
  return all * (double)(n->b * n->h);
}

/* The forms to run, of matrices or tiles, after one without: those are compared with it. */
static int choose(const KernelForm *all, int n, int most, DType low, KernelForm *out) {
  const char *kind = low == DT_f32 ? "tiles" : "matrices";
  int found = 1, units = 0;
  bool other = false;
  for (int i = 0; i < n; i++) {
    if (strncmp(all[i].name, kind, strlen(kind)) == 0) {
      if (units++ < most) out[found++] = all[i];
    } else if (!other) {
      out[0] = all[i];
      other = true;
    }
  }
  return other ? found : 0;
}

/* The span of a form's times, of which `us` is one. */
static bool measure_again(TuneJob *t, int form, double us, double span[2], Buf *why) {
  enum { TIMES = 4 };
  span[0] = span[1] = us;
  for (int i = 0; i < TIMES; i++) {
    TuneResult r;
    if (!tune_form(t, form, 0, &r, why)) return false;
    if (r.us < span[0]) span[0] = r.us;
    if (r.us > span[1]) span[1] = r.us;
  }
  return true;
}

/* Microseconds of the chosen form; 0: not measured. *wrong grows by the forms that are. */
static double run(Device *device, const Target *target, Setup *s, const char *what, int n_out,
                  Node **out, int products, int most, int *wrong) {
  Arena *a = arena_new();
  bool *stored = arena_alloc(a, (size_t)s->g->n_node);
  for (int i = 0; i < s->g->n_node; i++) stored[i] = s->g->node[i]->op == OP_input;
  for (int i = 0; i < n_out; i++) stored[out[i]->id] = true;
  Node *anchor = out[n_out - 1];
  while (!ir_attention_sources(anchor->op)) anchor = anchor->src[0];
  KernelJob job = {.out = out, .n_out = n_out, .anchor = anchor, .stored = stored};
  KernelForm all[CG_MAX_FORMS], form[CG_MAX_FORMS];
  int n = choose(all, cg_forms(&job, target, all), most, s->low, form), best = 1;
  Buf why = {0};
  TuneJob *t = n > 1 ? tune_begin(device, target, &job, form, n, &why) : NULL;
  double us[CG_MAX_FORMS] = {0}, span[2], work = 2e-6 * pairs(s->n) * (double)(s->n->c * products);
  for (int i = 0; t && i < n; i++) {
    TuneResult r;
    if (!tune_form(t, i, i == 0 ? 1 : i == 1 ? 0 : us[best], &r, &why)) break;
    us[i] = r.us;
    if (i && us[i] < us[best]) best = i;
    if (!r.right) printf("WRONG %s: %s\n", s->n->name, form[i].name);
    *wrong += !r.right;
  }
  bool measured = n > 1 && t && !why.len && measure_again(t, 1, us[1], span, &why);
  if (measured)
    printf("%-14s %-8s |%9.1f us (%.1f to %.1f) %4.0f | %s", s->n->name, what, us[1], span[0],
           span[1], work / us[1], form[1].name);
  else
    printf("%-14s %-8s not measured: %s", s->n->name, what, why.len ? why.data : "no such form");
  if (measured && best > 1) printf(" (%.0f: %s)", work / us[best], form[best].name);
  puts("");
  fflush(stdout);
  tune_end(t);
  buf_free(&why);
  arena_free(a);
  return measured ? us[1] : 0;
}

/* Both directions; how many forms were wrong. */
static int run_case(Device *device, const Target *target, DType low, const Case *c, int most) {
  Setup s = {.g = graph_new("attention"), .n = c, .low = low};
  int wrong = 0;
  begin(&s);
  Node *lse = ir_attend(s.g, OP_attention_lse, s.src, &s.a), *o = merged(&s, OP_attention);
  run(device, target, &s, "forward", 2, (Node *[]){lse, o}, 2, most, &wrong);
  Node *dq = merged(&s, OP_attention_dq);
  double us = run(device, target, &s, "queries", 1, &dq, 3, most, &wrong);
  Node *dk = merged(&s, OP_attention_dk), *dv = merged(&s, OP_attention_dv);
  us += run(device, target, &s, "keys", 2, (Node *[]){dk, dv}, 4, most, &wrong);
  if (us > 0)
    printf("%-14s backward |%9.1f us %4.0f\n", c->name, us,
           2e-6 * pairs(c) * (double)c->c * 5 / us);
  graph_free(s.g);
  return wrong;
}

static const char *name_of(int i) { return cases[i].name; }

static int bench_case(Device *device, const Target *target, DType low, int i, int most) {
  return run_case(device, target, low, &cases[i], most);
}

int main(int argc, char **argv) {
  return measure_main(&(Measured){"attention", COUNT_OF(cases), name_of, bench_case}, argc, argv);
}
