/* Products on the device's matrix units, timed: TFLOP/s of the form that is chosen and of the fastest one, each checked against
 * the portable kernel on whole numbers, bit by bit.
 *   bench_products [all] [NAME …]     all: every form of each, not the best four expected; NAME: only cases whose name begins so
 * The shapes are those of GPT-2 124M at 16,384 tokens, of a small transformer, and squares. */
#include "driver/tune.h"
#include "tests/codegen/measure.h"

#include <stdlib.h>
#include <string.h>

typedef enum Epilogue { NOTHING, ROUNDED, GELU, GELU_GRADIENT, RESIDUAL, SUM_OF_B } Epilogue;

typedef struct Case {
  const char *name;
  int64_t batches, m, n, k;
  int
    turned; /* 1: A lies k × m, 2: B lies n × k, 4: as part of longer rows, as where classes are padded */
  Epilogue epilogue;
} Case;

static const Case cases[] = {
  {"square NN", 1, 4096, 4096, 4096, 0, NOTHING},
  {"square TN", 1, 4096, 4096, 4096, 1, NOTHING},
  {"square NT", 1, 4096, 4096, 4096, 2, NOTHING},
  {"square TT", 1, 4096, 4096, 4096, 3, NOTHING},
  {"square odd", 1, 4099, 4098, 4097, 0, ROUNDED},
  {"gpt2 qkv", 1, 16384, 2304, 768, 0, ROUNDED},
  {"gpt2 projection", 1, 16384, 768, 768, 0, ROUNDED},
  {"gpt2 projection, residual", 1, 16384, 768, 768, 0, RESIDUAL},
  {"gpt2 up", 1, 16384, 3072, 768, 0, ROUNDED},
  {"gpt2 up, gelu", 1, 16384, 3072, 768, 0, GELU},
  {"gpt2 down", 1, 16384, 768, 3072, 0, ROUNDED},
  {"gpt2 down, residual", 1, 16384, 768, 3072, 0, RESIDUAL},
  {"gpt2 head", 1, 16384, 50304, 768, 2, ROUNDED},
  {"gpt2 d qkv", 1, 16384, 768, 2304, 2, ROUNDED},
  {"gpt2 d projection", 1, 16384, 768, 768, 2, ROUNDED},
  {"gpt2 d up", 1, 16384, 768, 3072, 2, ROUNDED},
  {"gpt2 d down", 1, 16384, 3072, 768, 2, ROUNDED},
  {"gpt2 d down, gelu", 1, 16384, 3072, 768, 2, GELU_GRADIENT},
  {"gpt2 d head", 1, 16384, 768, 50304, 0, ROUNDED},
  {"gpt2 w up", 4, 768, 3072, 4096, 1, NOTHING},
  {"gpt2 w up, bias", 4, 768, 3072, 4096, 1, SUM_OF_B},
  {"gpt2 w down", 4, 3072, 768, 4096, 1, NOTHING},
  {"gpt2 w down, bias", 4, 3072, 768, 4096, 1, SUM_OF_B},
  {"gpt2 w qkv", 2, 768, 2304, 8192, 1, NOTHING},
  {"gpt2 w qkv, bias", 2, 768, 2304, 8192, 1, SUM_OF_B},
  {"gpt2 w qkv whole, bias", 1, 768, 2304, 16384, 1, SUM_OF_B},
  {"gpt2 w projection", 4, 768, 768, 4096, 1, NOTHING},
  {"gpt2 w projection, bias", 4, 768, 768, 4096, 1, SUM_OF_B},
  {"gpt2 w head", 1, 50304, 768, 16384, 1, NOTHING},
  {"gpt2 w head, cut", 1, 50257, 768, 16384, 5, NOTHING},
  {"small 256", 1, 640, 256, 256, 0, ROUNDED},
  {"small up", 1, 640, 1024, 256, 0, GELU},
  {"small down", 1, 640, 256, 1024, 0, RESIDUAL},
  {"small w", 1, 256, 256, 640, 1, NOTHING},
  {"middle 384", 1, 2560, 384, 384, 0, ROUNDED},
  {"middle up", 1, 2560, 1536, 384, 0, GELU},
};

/* ---- graphs ---- */

static Node *operand(Graph *g, const char *name, DType d, const Case *c, int64_t rows,
                     int64_t columns, bool turned) {
  int first = c->batches == 1;
  int64_t dim[3] = {c->batches, turned ? columns : rows, turned ? rows : columns};
  int64_t all[3] = {dim[0], dim[1], dim[2]}, zero[3] = {0};
  if (c->turned & 4) all[2] = (dim[2] + 63) / 64 * 64;
  Type t = type_of(d, 3 - first, all + first);
  Node *x = ir_cast(g, ir_leaf(g, OP_input, intern(name), &t), DT_f32);
  if (c->turned & 4) x = ir_slice(g, x, zero, dim + first);
  if (!turned) return x;
  return first ? ir_permute(g, x, (int[]){1, 0}) : ir_permute(g, x, (int[]){0, 2, 1});
}

static Node *gelu(Graph *g, Node *x) {
  const Type *t = &x->type;
  Node *cube = ir_mul(g, ir_mul(g, ir_mul(g, x, ir_const(g, 0.044715, t)), x), x);
  Node *u = ir_mul(g, ir_add(g, x, cube), ir_const(g, 1.5957691216057308, t));
  return ir_mul(g, x, ir_sigmoid(g, u));
}

/* dy · dgelu(x)/dx, with s = σ(u): s + x·s·(1 − s)·u' */
static Node *gelu_gradient(Graph *g, Node *dy, Node *x) {
  const Type *t = &x->type;
  Node *one = ir_const(g, 1, t), *by = ir_const(g, 1.5957691216057308, t);
  Node *square = ir_mul(g, x, x);
  Node *u = ir_add(g, ir_mul(g, square, ir_const(g, 0.044715, t)), one);
  Node *slope = ir_add(g, ir_mul(g, square, ir_const(g, 3 * 0.044715, t)), one);
  Node *s = ir_sigmoid(g, ir_mul(g, ir_mul(g, x, u), by));
  Node *rest = ir_mul(g, ir_mul(g, x, s), ir_sub(g, one, s));
  return ir_mul(g, dy, ir_add(g, s, ir_mul(g, rest, ir_mul(g, slope, by))));
}

/* The outs by rising id; how many. */
static int epilogue(Graph *g, const Case *c, DType d, Node *b, Node *y, Node **out) {
  Type row = type_of(DT_f32, 1, &c->n), low = type_of(d, y->type.rank, y->type.dim);
  Node *x = y;
  if (c->epilogue == GELU || c->epilogue == RESIDUAL) {
    Node *bias = ir_leaf(g, OP_input, intern("bias"), &row);
    x = ir_add(g, y, ir_broadcast(g, bias, y->type.rank, y->type.dim));
  }
  switch (c->epilogue) {
  case NOTHING: out[0] = y; return 1;
  case ROUNDED: out[0] = ir_cast(g, y, d); return 1;
  case RESIDUAL:
    out[0] = ir_add(g, x, ir_leaf(g, OP_input, intern("residual"), &y->type));
    return 1;
  case GELU_GRADIENT:
    x = ir_cast(g, ir_leaf(g, OP_input, intern("saved"), &low), DT_f32);
    out[0] = ir_cast(g, gelu_gradient(g, y, x), d);
    return 1;
  case GELU:
    out[0] = ir_cast(g, x, d);
    out[1] = ir_cast(g, gelu(g, ir_cast(g, out[0], DT_f32)), d);
    return 2;
  case SUM_OF_B:
    out[0] = y;
    out[1] = ir_reduce(g, OP_reduce_sum, b, 1, (int[]){b->type.rank - 2});
    return 2;
  }
  return 0;
}

/* ---- measuring ---- */

static bool is_units(const KernelForm *f) { return strncmp(f->name, "units", 5) == 0; }

/* The forms to run, the portable one first: the others are compared with it. */
static int choose(const KernelForm *all, int n, int most, KernelForm *out) {
  int found = 1, units = 0;
  bool portable = false;
  for (int i = 0; i < n; i++) {
    if (!portable && strncmp(all[i].name, "portable", 8) == 0) {
      out[0] = all[i];
      portable = true;
    } else if (is_units(&all[i]) && units++ < most)
      out[found++] = all[i];
  }
  return portable ? found : 0;
}

/* How many forms were wrong. */
static int run(Device *device, const Target *target, DType d, const Case *c, int most) {
  Arena *a = arena_new();
  Graph *g = graph_new("product");
  Node *x = operand(g, "a", d, c, c->m, c->k, c->turned & 1);
  Node *w = operand(g, "b", d, c, c->k, c->n, c->turned & 2);
  Node *y = ir_matmul(g, x, w), *out[2];
  int n_out = epilogue(g, c, d, w, y, out), wrong = 0;
  bool *stored = arena_alloc(a, (size_t)g->n_node);
  for (int i = 0; i < g->n_node; i++) stored[i] = g->node[i]->op == OP_input;
  for (int i = 0; i < n_out; i++) stored[out[i]->id] = true;
  KernelJob job = {.out = out, .n_out = n_out, .anchor = y, .stored = stored};
  KernelForm all[CG_MAX_FORMS], form[CG_MAX_FORMS];
  int n = choose(all, cg_forms(&job, target, all), most, form), best = 1;
  Buf why = {0};
  TuneJob *t = n ? tune_begin(device, target, &job, form, n, &why) : NULL;
  double us[CG_MAX_FORMS] = {0};
  for (int i = 0; t && i < n; i++) {
    TuneResult r;
    if (!tune_form(t, i, i == 0 ? 1 : i == 1 ? 0 : us[best], &r, &why)) break;
    us[i] = r.us;
    if (us[i] < us[best]) best = i;
    if (!r.right) printf("WRONG %s: %s\n", c->name, form[i].name);
    wrong += !r.right;
  }
  double work = 2e-6 * (double)(c->batches * c->m * c->n) * (double)c->k;
  if (n > 1 && !why.len)
    printf("%-26s %5lld x%6lld x%6lld |%8.1f us %4.0f | %s", c->name,
           (long long)(c->m * c->batches), (long long)c->n, (long long)c->k, us[1], work / us[1],
           form[1].name);
  else
    printf("%-26s not measured: %s", c->name, n > 1 ? why.data : "no form for matrix units");
  if (n > 1 && !why.len && best > 1) printf(" (%.0f: %s)", work / us[best], form[best].name);
  puts("");
  fflush(stdout);
  tune_end(t);
  buf_free(&why);
  graph_free(g);
  arena_free(a);
  return wrong;
}

static const char *name_of(int i) { return cases[i].name; }

static int bench_case(Device *device, const Target *target, DType low, int i, int most) {
  return run(device, target, low, &cases[i], most);
}

int main(int argc, char **argv) {
  return measure_main(&(Measured){"product", COUNT_OF(cases), name_of, bench_case}, argc, argv);
}
