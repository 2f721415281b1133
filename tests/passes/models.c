/* The models of models/, at small and odd dimensions: the program "grad" as alphac compiles it
 * against central differences of its own loss, at coordinates of every parameter; and what the
 * other programs compute, on the reference evaluator: a step of train is one of micro and update,
 * eval's loss is the sum over the count, rows alone give what the batch gives. */
#include "driver/programs.h"
#include "tests/passes/numeric.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

enum { PLACES = 5, MAX_DEFINES = 16 };

/* -D values, NULL-terminated; the precision is f32 where no other is asked for */
typedef struct Small {
  const char *file;
  const char *define[MAX_DEFINES];
  int vocab;
} Small;

static const Small small[] = {
  {"gpt2.alpha",
   {"vocab=13", "context=9", "width=8", "layers=2", "heads=2", "train.batch=2", "train.context=7"},
   13},
  {"gpt2.alpha",
   {"vocab=13", "context=7", "width=12", "layers=1", "heads=3", "drop=0.2", "train.batch=3",
    "train.context=5"},
   13},
  {"hlx.alpha",
   {"vocab=11", "context=7", "width=8", "hidden=13", "layers=2", "heads=2", "train.batch=2",
    "train.context=7"},
   11},
  {"hlx.alpha",
   {"vocab=11", "context=7", "width=10", "hidden=9", "layers=1", "heads=5", "mix=true",
    "train.batch=2", "train.context=5"},
   11},
  {"cajal.alpha",
   {"vocab=17", "context=6", "width=12", "hidden=15", "layers=2", "heads=3", "train.batch=2",
    "train.context=5"},
   17},
  {"llama.alpha",
   {"vocab=11", "context=9", "width=8", "hidden=11", "layers=2", "heads=2", "kv_heads=1",
    "head_dim=4", "train.batch=2", "train.context=7"},
   11},
  {"llama.alpha",
   {"vocab=11", "context=5", "width=12", "hidden=7", "layers=1", "heads=2", "kv_heads=2",
    "head_dim=6", "tied=true", "train.batch=1", "train.context=5"},
   11},
};

typedef struct Setup {
  Arena *arena;
  Model *model;
  ProgramSet set;
  Feed *feed; /* params, states and inputs by name */
  int n_feed;
  int vocab;
} Setup;

static const PassOptions no_options;

static void load(Setup *s, const Small *m, const char *more) {
  Override override[MAX_DEFINES + 2];
  Buf path = {0}, errors = {0};
  int n = 0;
  while (n < MAX_DEFINES && m->define[n]) override[n].text = m->define[n], n++;
  if (more) override[n++].text = more;
  if (!more || strncmp(more, "train.precision", 15) != 0)
    override[n++].text = "train.precision=f32";
  buf_printf(&path, "%s/%s", MODELS, m->file);
  *s = (Setup){.arena = arena_new(), .vocab = m->vocab};
  s->model = fe_load(path.data, override, n, &errors);
  if (!s->model) fail_msg("%s", errors.data);
  if (!programs_build(s->model, &(ProgramOptions){.pass = &no_options}, &s->set, &errors))
    fail_msg("%s", errors.data);
  buf_free(&path);
  buf_free(&errors);
}

static void unload(Setup *s) {
  programs_free(&s->set);
  fe_free(s->model);
  arena_free(s->arena);
}

static Graph *program(const Setup *s, const char *name) {
  for (int i = 0; i < s->set.n; i++)
    if (strcmp(s->set.graph[i]->name, name) == 0) return s->set.graph[i];
  fail_msg("%s has no program %s", fe_name(s->model), name);
  return NULL;
}

static double *value_of(Setup *s, const Node *leaf) {
  for (int i = 0; i < s->n_feed; i++)
    if (s->feed[i].op == leaf->op && strcmp(s->feed[i].name, leaf->name) == 0)
      return (double *)s->feed[i].data;
  double *data = arena_alloc(s->arena, sizeof *data * (size_t)type_count(&leaf->type));
  Feed f = {leaf->op, leaf->name, data};
  ARENA_PUSH(s->arena, s->feed, s->n_feed, f);
  return data;
}

static double draw(uint32_t stream, int64_t i) {
  uint32_t out[4];
  philox4x32((uint32_t[]){(uint32_t)i, stream, 0, 0}, (uint32_t[]){5, 8}, out);
  return out[0] / 4294967296.0;
}

/* Inputs: tokens and targets over the vocabulary; 0, which some models ignore, is among them.
 * Parameters: within ±0.6. */
static void fill(Setup *s, const Graph *g, Op op) {
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    if (n->op != op) continue;
    double *data = value_of(s, n);
    uint32_t stream = (uint32_t)hash_bytes(n->name, strlen(n->name), 0);
    for (int64_t k = 0; k < type_count(&n->type); k++) {
      double u = draw(stream, k);
      if (n->op == OP_param)
        data[k] = (float)(1.2 * u - 0.6);
      else
        data[k] = strcmp(n->name, "total") == 0 ? 100
                  : strcmp(n->name, "rng") == 0 ? k
                                                : floor(u * s->vocab);
    }
  }
}

/* Outputs by name */
static double *evaluate(Setup *s, const Graph *g, EvalMode mode, const char *name) {
  const Output *o = ir_find_output(g, name);
  if (!o) fail_msg("%s: program %s has no output %s", fe_name(s->model), g->name, name);
  Tensor t;
  Buf why = {0};
  if (!ir_eval(s->arena, g, mode, s->feed, s->n_feed, &o->node, 1, &t, &why))
    fail_msg("%s: %s", g->name, why.data);
  return t.data;
}

/* Runs a program: its updates become the values of params and states. */
static void run(Setup *s, const Graph *g) {
  Node **want = arena_alloc(s->arena, sizeof *want * (size_t)g->n_output);
  Tensor *t = arena_alloc(s->arena, sizeof *t * (size_t)g->n_output);
  Buf why = {0};
  for (int i = 0; i < g->n_output; i++) want[i] = g->output[i].node;
  if (!ir_eval(s->arena, g, EVAL_f32, s->feed, s->n_feed, want, g->n_output, t, &why))
    fail_msg("%s: %s", g->name, why.data);
  for (int i = 0; i < g->n_output; i++) {
    if (g->output[i].kind != OUT_update) continue;
    Node leaf = {.op = OP_state, .type = want[i]->type, .name = g->output[i].name};
    const ParamInfo *param;
    int n = fe_params(s->model, &param);
    for (int k = 0; k < n; k++)
      if (strcmp(param[k].path, leaf.name) == 0) leaf.op = OP_param;
    memcpy(value_of(s, &leaf), t[i].data, sizeof(double) * (size_t)type_count(&want[i]->type));
  }
}

static void assert_close(const char *what, double a, double b, double tolerance) {
  if (!(fabs(a - b) <= tolerance * fmax(fabs(a), fabs(b))))
    fail_msg("%s: %.10g and %.10g", what, a, b);
}

/* ---- gradients ---- */
static void check_gradients(const Small *m) {
  Setup s;
  load(&s, m, NULL);
  Graph *g = program(&s, "grad");
  fill(&s, g, OP_param);
  fill(&s, g, OP_input);
  const ParamInfo *param;
  int n_param = fe_params(s.model, &param), n = 0;
  Node **wrt = arena_alloc(s.arena, sizeof *wrt * (size_t)n_param),
       **grad = arena_alloc(s.arena, sizeof *grad * (size_t)n_param);
  for (int i = 0; i < n_param; i++) {
    Node *leaf = NULL;
    for (int k = 0; k < g->n_node; k++)
      if (g->node[k]->op == OP_param && strcmp(g->node[k]->name, param[i].path) == 0)
        leaf = g->node[k];
    const Output *o = ir_find_output(g, arena_printf(s.arena, "grad.%s", param[i].path));
    if (!leaf || !o) fail_msg("%s: %s has no gradient", m->file, param[i].path);
    wrt[n] = leaf;
    grad[n++] = o->node;
  }
  Buf why = {0};
  if (!gradients_match(g, ir_find_output(g, "loss")->node, wrt, grad, n, s.feed, s.n_feed, PLACES,
                       &why))
    fail_msg("%s (width %s): %s", m->file, m->define[2], why.data);
  print_message("%s: %d parameters, loss %.6f\n", m->file, n, evaluate(&s, g, EVAL_f64, "loss")[0]);
  unload(&s);
}

static void test_gradients(void **state) {
  (void)state;
  for (int i = 0; i < COUNT_OF(small); i++) check_gradients(&small[i]);
}

/* ---- 16 bits ---- */
/* Large enough for products and attention to be rounded, all sizes odd multiples or none of 16. */
static const Small rounded[] = {
  {"gpt2.alpha",
   {"vocab=29", "context=17", "width=48", "layers=2", "heads=3", "train.batch=2",
    "train.context=17"},
   29},
  {"llama.alpha",
   {"vocab=23", "context=19", "width=32", "hidden=35", "layers=1", "heads=2", "kv_heads=1",
    "head_dim=16", "train.batch=2", "train.context=19"},
   23},
  {"hlx.alpha",
   {"vocab=21", "context=16", "width=32", "hidden=37", "layers=1", "heads=2", "mix=true",
    "train.batch=2", "train.context=16"},
   21},
  {"cajal.alpha",
   {"vocab=37", "context=18", "width=48", "hidden=53", "layers=2", "heads=3", "train.batch=2",
    "train.context=18", "train.recompute=true"},
   37},
};

static double norm(const double *x, const double *minus, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += (x[i] - minus[i]) * (x[i] - minus[i]);
  return sqrt(sum);
}

/* Loss and gradients with 16-bit operands, rounded as the device rounds, against those in f64: within
 * some of the type's units, and not equal, since then nothing would be rounded. Gradients that are small
 * because their terms cancel, as those of queries, count as 4e-3 of all. */
static void check_rounded(const Small *m, const char *precision, double tolerance) {
  Setup s, exact;
  load(&exact, m, NULL);
  load(&s, m, precision);
  const Graph *g = program(&s, "grad"), *f = program(&exact, "grad");
  fill(&s, g, OP_param);
  fill(&s, g, OP_input);
  fill(&exact, f, OP_param);
  fill(&exact, f, OP_input);
  assert_int_equal(g->n_output, f->n_output);
  double all = 0, worst = 0;
  for (int pass = 0; pass < 2; pass++)
    for (int k = 0; k < g->n_output; k++) {
      const char *name = g->output[k].name;
      int64_t n = type_count(&g->output[k].node->type);
      double *zero = arena_alloc(s.arena, sizeof *zero * (size_t)n);
      double *x = evaluate(&s, g, EVAL_f32, name), *y = evaluate(&exact, f, EVAL_f64, name);
      double size = norm(y, zero, n), error = norm(x, y, n);
      if (pass == 0) {
        all = hypot(all, size);
        continue;
      }
      assert_int_equal(g->output[k].node->type.dtype, DT_f32);
      worst = fmax(worst, error / fmax(size, 4e-3 * all));
      if (!(error <= tolerance * fmax(size, 4e-3 * all)))
        fail_msg("%s, %s: %s differs by %.3g of %.3g, of all %.3g", m->file, precision, name, error,
                 size, all);
    }
  print_message("%s, %s: at most %.2g\n", m->file, precision, worst);
  assert_true(worst > tolerance / 100);
  unload(&s);
  unload(&exact);
}

static void test_precision(void **state) {
  (void)state;
  for (int i = 0; i < COUNT_OF(rounded); i++) {
    check_rounded(&rounded[i], "train.precision=bf16", 0.05);
    check_rounded(&rounded[i], "train.precision=f16", 0.05 / 8);
  }
}

/* ---- raised or not ---- */
static void load_skipping(Setup *s, const Small *m, const char *skip) {
  Buf errors = {0};
  load(s, m, NULL);
  programs_free(&s->set);
  PassOptions o = {.skip = skip};
  if (!programs_build(s->model, &(ProgramOptions){.pass = &o}, &s->set, &errors))
    fail_msg("%s", errors.data);
}

static int count_op(const Graph *g, Op op) {
  int n = 0;
  for (int i = 0; i < g->n_node; i++) n += g->node[i]->op == op;
  return n;
}

/* Loss and gradients do not depend on whether operations were raised before differentiation. What
 * a normalisation's gradient needs again, it has from the forward pass. */
static void test_raise(void **state) {
  (void)state;
  for (int i = 0; i < COUNT_OF(small); i++) {
    Setup raised, written;
    load(&raised, &small[i], NULL);
    load_skipping(&written, &small[i], "raise");
    const Graph *a = program(&raised, "grad"), *b = program(&written, "grad");
    fill(&raised, a, OP_param);
    fill(&raised, a, OP_input);
    fill(&written, b, OP_param);
    fill(&written, b, OP_input);
    assert_int_equal(a->n_output, b->n_output);
    for (int k = 0; k < a->n_output; k++) {
      const char *name = a->output[k].name;
      double *x = evaluate(&raised, a, EVAL_f64, name), *y = evaluate(&written, b, EVAL_f64, name);
      double size = 1e-6;
      int64_t n = type_count(&a->output[k].node->type);
      for (int64_t e = 0; e < n; e++) size = fmax(size, fabs(y[e]));
      for (int64_t e = 0; e < n; e++)
        if (!(fabs(x[e] - y[e]) <= 1e-6 * size)) /* constants that are written are f32 */
          fail_msg("%s: %s[%d] is %.9g, not raised %.9g", small[i].file, name, (int)e, x[e], y[e]);
    }
    assert_true(a->n_node < b->n_node);
    assert_int_equal(count_op(a, OP_rsqrt), count_op(b, OP_rsqrt));
    assert_int_equal(count_op(a, OP_sigmoid), count_op(b, OP_sigmoid));
    bool attends = count_op(a, OP_attention) > 0;
    assert_int_equal(attends, strcmp(small[i].file, "hlx.alpha") != 0 || i == 3);
    assert_int_equal(count_op(a, OP_exp), 1); /* the loss's, forward and backward */
    unload(&raised);
    unload(&written);
  }
}

/* ---- the other programs ---- */
static void test_eval(void **state) {
  (void)state;
  for (int i = 0; i < COUNT_OF(small); i++) {
    Setup s;
    load(&s, &small[i], NULL);
    const Graph *g = program(&s, "eval");
    fill(&s, g, OP_param);
    fill(&s, g, OP_input);
    double loss = evaluate(&s, g, EVAL_f64, "loss")[0];
    assert_true(isfinite(loss));
    bool ignores =
      strcmp(small[i].file, "hlx.alpha") == 0 || strcmp(small[i].file, "cajal.alpha") == 0;
    assert_int_equal(ignores, ir_find_output(g, "loss_sum") != NULL);
    if (ignores)
      assert_close("sum / count", loss,
                   evaluate(&s, g, EVAL_f64, "loss_sum")[0] /
                     evaluate(&s, g, EVAL_f64, "loss_count")[0],
                   1e-12);
    unload(&s);
  }
}

/* The last row of logits of a longer program agrees with a shorter one: forward.<t> are one
 * function, and causal. */
static void test_forward(void **state) {
  (void)state;
  static const Small longer = {"llama.alpha",
                               {"vocab=11", "context=40", "width=8", "hidden=11", "layers=1",
                                "heads=2", "kv_heads=1", "head_dim=4", "train.batch=1",
                                "train.context=8"},
                               11};
  Setup s;
  load(&s, &longer, NULL);
  const Graph *a = program(&s, "forward.16"), *b = program(&s, "forward.40");
  fill(&s, b, OP_param);
  fill(&s, b, OP_input);
  double *all = evaluate(&s, b, EVAL_f64, "logits");
  Node tokens = {.op = OP_input, .name = "tokens"};
  assert_non_null(value_of(&s, &tokens)); /* its first 16 tokens are the shorter one's */
  double *first = evaluate(&s, a, EVAL_f64, "logits");
  for (int i = 0; i < 16 * 11; i++)
    assert_true(fabs(all[i] - first[i]) <= 1e-9 * fmax(1, fabs(all[i])));
  unload(&s);
}

/* Two steps of training with a batch of 4 and with 2 micro-batches of 2: the same parameters up to
 * rounding. */
static void split_rows(Setup *s, const double *all, int64_t row, int half, const char *name) {
  Node leaf = {.op = OP_input, .name = name};
  memcpy(value_of(s, &leaf), all + half * 2 * row, sizeof(double) * (size_t)(2 * row));
}

static void check_accumulate(const Small *base) {
  Setup whole, parts;
  load(&whole, base, "train.batch=4");
  Small halved = *base;
  int n_define = 0;
  while (halved.define[n_define]) n_define++;
  halved.define[n_define] = "train.accumulate=2";
  load(&parts, &halved, "train.batch=2");
  const Graph *train = program(&whole, "train"), *micro = program(&parts, "micro"),
              *update = program(&parts, "update");
  fill(&whole, program(&whole, "init"), OP_input);
  run(&whole, program(&whole, "init"));
  fill(&parts, program(&parts, "init"), OP_input);
  run(&parts, program(&parts, "init"));
  fill(&whole, train, OP_input);
  fill(&parts, micro, OP_input);
  fill(&parts, update, OP_input);
  /* the same start */
  const ParamInfo *param;
  int n = fe_params(whole.model, &param);
  for (int i = 0; i < n; i++) {
    Node leaf = {.op = OP_param, .type = param[i].type, .name = param[i].path};
    memcpy(value_of(&parts, &leaf), value_of(&whole, &leaf),
           sizeof(double) * (size_t)type_count(&param[i].type));
  }
  for (int step = 1; step <= 2; step++) {
    Node tokens = {.op = OP_input, .name = "tokens"}, targets = {.op = OP_input, .name = "targets"};
    Node rng = {.op = OP_input, .name = "rng"}, made = {.op = OP_state, .name = "train.step"};
    double loss = evaluate(&whole, train, EVAL_f32, "loss")[0],
           norm = evaluate(&whole, train, EVAL_f32, "grad_norm")[0];
    assert_close("ok", evaluate(&whole, train, EVAL_f32, "ok")[0], 1, 0);
    run(&whole, train);
    for (int half = 0; half < 2; half++) {
      split_rows(&parts, value_of(&whole, &tokens), 7, half, "tokens");
      split_rows(&parts, value_of(&whole, &targets), 7, half, "targets");
      value_of(&parts, &rng)[3] = half;
      run(&parts, micro);
    }
    assert_close("loss", evaluate(&parts, update, EVAL_f32, "loss")[0], loss, 1e-6);
    assert_close("norm", evaluate(&parts, update, EVAL_f32, "grad_norm")[0], norm, 1e-5);
    run(&parts, update);
    assert_close("step", value_of(&parts, &made)[0], step, 0);
    assert_close("step", value_of(&whole, &made)[0], step, 0);
  }
  for (int i = 0; i < n; i++) {
    Node leaf = {.op = OP_param, .type = param[i].type, .name = param[i].path};
    const double *a = value_of(&whole, &leaf), *b = value_of(&parts, &leaf);
    for (int64_t k = 0; k < type_count(&leaf.type); k++)
      if (fabs(a[k] - b[k]) > 2e-5)
        fail_msg("%s[%d]: %.9g and %.9g", leaf.name, (int)k, a[k], b[k]);
  }
  unload(&whole);
  unload(&parts);
}

static void test_accumulate(void **state) {
  (void)state;
  /* a sum over the targets that count, of different number in each half; and a mean over all */
  static const Small ignoring = {"hlx.alpha",
                                 {"vocab=11", "context=7", "width=8", "hidden=13", "layers=1",
                                  "heads=2", "mix=true", "train.context=7", "train.clip=0.5"},
                                 11};
  static const Small mean = {
    "gpt2.alpha",
    {"vocab=13", "context=7", "width=8", "layers=1", "heads=2", "train.context=7"},
    13};
  check_accumulate(&ignoring);
  check_accumulate(&mean);
}

/* A loss that is not finite changes nothing and does not count. */
static void test_not_finite(void **state) {
  (void)state;
  Setup s;
  load(&s, &small[2], NULL);
  const Graph *init = program(&s, "init"), *train = program(&s, "train");
  fill(&s, init, OP_input);
  run(&s, init);
  Buf before = {0}, after = {0};
  fill(&s, train, OP_input);
  Node targets = {.op = OP_input, .name = "targets"}, made = {.op = OP_state, .name = "train.step"};
  value_of(&s, &targets)[0] = 1000; /* outside: the loss is infinite */
  const ParamInfo *param;
  int n = fe_params(s.model, &param);
  for (int round = 0; round < 2; round++) {
    Buf *b = round ? &after : &before;
    for (int i = 0; i < n; i++) {
      Node leaf = {.op = OP_param, .type = param[i].type, .name = param[i].path};
      Node moment = {.op = OP_state,
                     .type = param[i].type,
                     .name = arena_printf(s.arena, "optim.m.%s", param[i].path)};
      buf_put(b, value_of(&s, &leaf), sizeof(double) * (size_t)type_count(&leaf.type));
      buf_put(b, value_of(&s, &moment), sizeof(double) * (size_t)type_count(&leaf.type));
    }
    if (round) break;
    assert_close("ok", evaluate(&s, train, EVAL_f32, "ok")[0], 0, 0);
    run(&s, train);
    assert_close("step", value_of(&s, &made)[0], 0, 0);
  }
  assert_int_equal(before.len, after.len);
  assert_memory_equal(before.data, after.data, before.len);
  fill(&s, train, OP_input); /* with good targets it goes on */
  run(&s, train);
  assert_close("step", value_of(&s, &made)[0], 1, 0);
  buf_free(&before);
  buf_free(&after);
  unload(&s);
}

/* One step of f16 from this scale after this many good ones; `far`: with a target outside, so that the loss is
 * infinite. Afterwards they must be as given, and the parameters have moved or not. */
static void expect_scale(double scale, double good, bool far, double then, double good_then) {
  bool updates = then >= scale && !far;
  Setup s;
  load(&s, &rounded[0], "train.precision=f16");
  const Graph *init = program(&s, "init"), *train = program(&s, "train");
  Node of_scale = {.op = OP_state, .type = {.dtype = DT_f32}, .name = "train.loss_scale"};
  Node of_good = {.op = OP_state, .type = {.dtype = DT_i32}, .name = "train.good_steps"};
  Node targets = {.op = OP_input, .name = "targets"}, made = {.op = OP_state, .name = "train.step"};
  fill(&s, init, OP_input);
  run(&s, init);
  assert_close("first scale", value_of(&s, &of_scale)[0], 65536, 0);
  fill(&s, train, OP_input);
  if (far) value_of(&s, &targets)[0] = 1000;
  value_of(&s, &of_scale)[0] = scale;
  value_of(&s, &of_good)[0] = good;
  double norm = evaluate(&s, train, EVAL_f32, "grad_norm")[0];
  assert_close("loss_scale", evaluate(&s, train, EVAL_f32, "loss_scale")[0], then, 0);
  run(&s, train);
  assert_close("scale", value_of(&s, &of_scale)[0], then, 0);
  assert_close("good steps", value_of(&s, &of_good)[0], good_then, 0);
  assert_close("updates", value_of(&s, &made)[0], updates, 0);
  if (updates) { /* the norm is that of the loss's gradient, whatever the scale */
    Setup f;
    load(&f, &rounded[0], NULL);
    fill(&f, program(&f, "init"), OP_input);
    run(&f, program(&f, "init"));
    fill(&f, program(&f, "train"), OP_input);
    assert_close("norm", norm, evaluate(&f, program(&f, "train"), EVAL_f64, "grad_norm")[0], 5e-3);
    unload(&f);
  }
  unload(&s);
}

static void test_loss_scale(void **state) {
  (void)state;
  expect_scale(65536, 0, false, 65536, 1);
  expect_scale(65536, 1998, false, 65536, 1999);
  expect_scale(65536, 1999, false, 131072, 0);
  expect_scale(0x1p24, 1999, false, 0x1p23, 0); /* gradients leave f16 */
  expect_scale(65536, 1999, true, 32768, 0);
  expect_scale(1, 7, true, 1, 0);
}

/* Adam's first step is lr · g / (|g| + eps): a bias that was 0 shows it to f32's precision, which
 * 1 − 0.999¹ computed in f32 would miss by 7e-6. */
static void test_bias_correction(void **state) {
  (void)state;
  Setup s;
  load(&s, &small[2], NULL);
  const Graph *train = program(&s, "train"), *grad = program(&s, "grad");
  fill(&s, program(&s, "init"), OP_input);
  fill(&s, train, OP_input);
  run(&s, program(&s, "init"));
  double *g = evaluate(&s, grad, EVAL_f32, "grad.norm.bias");
  double lr = evaluate(&s, train, EVAL_f32, "lr")[0];
  assert_close("lr", lr, 3e-4, 1e-7);
  run(&s, train);
  Node bias = {.op = OP_param, .name = "norm.bias"};
  for (int i = 0; i < 8; i++)
    assert_close("update", -value_of(&s, &bias)[i], lr * g[i] / (fabs(g[i]) + 1e-8), 5e-7);
  unload(&s);
}

/* ---- checkpoint ---- */
static const char blocks[] = "import nn\n"
                             "config { ck = false }\n"
                             "module block(d) {\n"
                             "  fc = nn.linear(d, d)\n"
                             "  fn forward(x) = x + dropout(tanh(fc(x)), 0.25)\n"
                             "}\n"
                             "model blocks {\n"
                             "  token = nn.embedding(11, 8)\n"
                             "  h = [block(8) for i in 0..3]\n"
                             "  fn loss(tokens: int[b, t], targets: int[b, t]) {\n"
                             "    x = token(tokens)\n"
                             "    for blk in h { x = ck ? checkpoint(blk, x) : blk(x) }\n"
                             "    return nn.cross_entropy(token.attend(x), targets)\n"
                             "  }\n"
                             "}\n"
                             "train { batch = 2; context = 5 }\n";

/* The program "grad" with checkpoints has the same loss and gradients, and recomputes what lies in
 * the regions; `setting` asks for them. */
static void check_checkpoint(const char *setting) {
  Setup s[2];
  for (int on = 0; on < 2; on++) {
    Buf errors = {0};
    Override o = {setting};
    s[on] = (Setup){.arena = arena_new(), .vocab = 11};
    s[on].model = fe_load_text("blocks.alpha", blocks, strlen(blocks), &o, on, &errors);
    if (!s[on].model) fail_msg("%s", errors.data);
    if (!programs_build(s[on].model, &(ProgramOptions){.pass = &no_options}, &s[on].set, &errors))
      fail_msg("%s", errors.data);
    Graph *g = program(&s[on], "grad");
    fill(&s[on], g, OP_param);
    fill(&s[on], g, OP_input);
    int matmuls = 0, randoms = 0;
    for (int i = 0; i < g->n_node; i++) {
      matmuls += g->node[i]->region < 0 && g->node[i]->op == OP_matmul;
      randoms += g->node[i]->region < 0 && g->node[i]->op == OP_random;
    }
    assert_int_equal(matmuls, on ? 3 : 0);
    assert_int_equal(randoms, on ? 3 : 0);
  }
  const Graph *g = program(&s[0], "grad"), *with = program(&s[1], "grad");
  assert_int_equal(g->n_output, with->n_output);
  for (int i = 0; i < g->n_output; i++) {
    const char *name = g->output[i].name;
    double *a = evaluate(&s[0], g, EVAL_f32, name), *b = evaluate(&s[1], with, EVAL_f32, name);
    assert_memory_equal(a, b, sizeof *a * (size_t)type_count(&g->output[i].node->type));
  }
  unload(&s[0]);
  unload(&s[1]);
}

static void test_checkpoint(void **state) {
  (void)state;
  check_checkpoint("ck=true");
  check_checkpoint("train.recompute=true");
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_gradients),       cmocka_unit_test(test_precision),
    cmocka_unit_test(test_raise),           cmocka_unit_test(test_eval),
    cmocka_unit_test(test_forward),         cmocka_unit_test(test_accumulate),
    cmocka_unit_test(test_not_finite),      cmocka_unit_test(test_checkpoint),
    cmocka_unit_test(test_bias_correction), cmocka_unit_test(test_loss_scale),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
