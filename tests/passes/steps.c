/* What the programs of the models of models/ compute beside gradients: a step of train is one of micro and update, eval's
 * loss is the sum over the count, rows alone give what the batch gives; steps that are skipped, the loss scale, recomputation. */
#include "tests/passes/small_models.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

static void assert_close(const char *what, double a, double b, double tolerance) {
  if (!(fabs(a - b) <= tolerance * fmax(fabs(a), fabs(b))))
    fail_msg("%s: %.10g and %.10g", what, a, b);
}

/* ---- the other programs ---- */
static void test_eval(void **state) {
  (void)state;
  for (int i = 0; i < COUNT_OF(small); i++) {
    Setup s;
    small_load(&s, &small[i], NULL);
    const Graph *g = small_program(&s, "eval");
    small_fill(&s, g, OP_param);
    small_fill(&s, g, OP_input);
    double loss = small_evaluate(&s, g, EVAL_f64, "loss")[0];
    assert_true(isfinite(loss));
    bool ignores =
      strcmp(small[i].file, "hlx.alpha") == 0 || strcmp(small[i].file, "cajal.alpha") == 0;
    assert_int_equal(ignores, ir_find_output(g, "loss_sum") != NULL);
    if (ignores)
      assert_close("sum / count", loss,
                   small_evaluate(&s, g, EVAL_f64, "loss_sum")[0] /
                     small_evaluate(&s, g, EVAL_f64, "loss_count")[0],
                   1e-12);
    small_unload(&s);
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
  small_load(&s, &longer, NULL);
  const Graph *a = small_program(&s, "forward.16"), *b = small_program(&s, "forward.40");
  small_fill(&s, b, OP_param);
  small_fill(&s, b, OP_input);
  double *all = small_evaluate(&s, b, EVAL_f64, "logits");
  Node tokens = {.op = OP_input, .name = "tokens"};
  assert_non_null(small_value(&s, &tokens)); /* its first 16 tokens are the shorter one's */
  double *first = small_evaluate(&s, a, EVAL_f64, "logits");
  for (int i = 0; i < 16 * 11; i++)
    assert_true(fabs(all[i] - first[i]) <= 1e-9 * fmax(1, fabs(all[i])));
  small_unload(&s);
}

/* Two steps of training with a batch of 4 and with 2 micro-batches of 2: the same parameters up to
 * rounding. */
static void split_rows(Setup *s, const double *all, int64_t row, int half, const char *name) {
  Node leaf = {.op = OP_input, .name = name};
  memcpy(small_value(s, &leaf), all + half * 2 * row, sizeof(double) * (size_t)(2 * row));
}

static void check_accumulate(const Small *base) {
  Setup whole, parts;
  small_load(&whole, base, "train.batch=4");
  Small halved = *base;
  int n_define = 0;
  while (halved.define[n_define]) n_define++;
  halved.define[n_define] = "train.accumulate=2";
  small_load(&parts, &halved, "train.batch=2");
  const Graph *train = small_program(&whole, "train"), *micro = small_program(&parts, "micro"),
              *update = small_program(&parts, "update");
  small_fill(&whole, small_program(&whole, "init"), OP_input);
  small_run(&whole, small_program(&whole, "init"));
  small_fill(&parts, small_program(&parts, "init"), OP_input);
  small_run(&parts, small_program(&parts, "init"));
  small_fill(&whole, train, OP_input);
  small_fill(&parts, micro, OP_input);
  small_fill(&parts, update, OP_input);
  /* the same start */
  const ParamInfo *param;
  int n = fe_params(whole.model, &param);
  for (int i = 0; i < n; i++) {
    Node leaf = {.op = OP_param, .type = param[i].type, .name = param[i].path};
    memcpy(small_value(&parts, &leaf), small_value(&whole, &leaf),
           sizeof(double) * (size_t)type_count(&param[i].type));
  }
  for (int step = 1; step <= 2; step++) {
    Node tokens = {.op = OP_input, .name = "tokens"}, targets = {.op = OP_input, .name = "targets"};
    Node rng = {.op = OP_input, .name = "rng"}, made = {.op = OP_state, .name = "train.step"};
    double loss = small_evaluate(&whole, train, EVAL_f32, "loss")[0],
           norm = small_evaluate(&whole, train, EVAL_f32, "grad_norm")[0];
    assert_close("ok", small_evaluate(&whole, train, EVAL_f32, "ok")[0], 1, 0);
    small_run(&whole, train);
    for (int half = 0; half < 2; half++) {
      split_rows(&parts, small_value(&whole, &tokens), 7, half, "tokens");
      split_rows(&parts, small_value(&whole, &targets), 7, half, "targets");
      small_value(&parts, &rng)[3] = half;
      small_run(&parts, micro);
    }
    assert_close("loss", small_evaluate(&parts, update, EVAL_f32, "loss")[0], loss, 1e-6);
    assert_close("norm", small_evaluate(&parts, update, EVAL_f32, "grad_norm")[0], norm, 1e-5);
    small_run(&parts, update);
    assert_close("step", small_value(&parts, &made)[0], step, 0);
    assert_close("step", small_value(&whole, &made)[0], step, 0);
  }
  for (int i = 0; i < n; i++) {
    Node leaf = {.op = OP_param, .type = param[i].type, .name = param[i].path};
    const double *a = small_value(&whole, &leaf), *b = small_value(&parts, &leaf);
    for (int64_t k = 0; k < type_count(&leaf.type); k++)
      if (fabs(a[k] - b[k]) > 2e-5)
        fail_msg("%s[%d]: %.9g and %.9g", leaf.name, (int)k, a[k], b[k]);
  }
  small_unload(&whole);
  small_unload(&parts);
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
  small_load(&s, &small[2], NULL);
  const Graph *init = small_program(&s, "init"), *train = small_program(&s, "train");
  small_fill(&s, init, OP_input);
  small_run(&s, init);
  Buf before = {0}, after = {0};
  small_fill(&s, train, OP_input);
  Node targets = {.op = OP_input, .name = "targets"}, made = {.op = OP_state, .name = "train.step"};
  small_value(&s, &targets)[0] = 1000; /* outside: the loss is infinite */
  const ParamInfo *param;
  int n = fe_params(s.model, &param);
  for (int round = 0; round < 2; round++) {
    Buf *b = round ? &after : &before;
    for (int i = 0; i < n; i++) {
      Node leaf = {.op = OP_param, .type = param[i].type, .name = param[i].path};
      Node moment = {.op = OP_state,
                     .type = param[i].type,
                     .name = arena_printf(s.arena, "optim.m.%s", param[i].path)};
      buf_put(b, small_value(&s, &leaf), sizeof(double) * (size_t)type_count(&leaf.type));
      buf_put(b, small_value(&s, &moment), sizeof(double) * (size_t)type_count(&leaf.type));
    }
    if (round) break;
    assert_close("ok", small_evaluate(&s, train, EVAL_f32, "ok")[0], 0, 0);
    small_run(&s, train);
    assert_close("step", small_value(&s, &made)[0], 0, 0);
  }
  assert_int_equal(before.len, after.len);
  assert_memory_equal(before.data, after.data, before.len);
  small_fill(&s, train, OP_input); /* with good targets it goes on */
  small_run(&s, train);
  assert_close("step", small_value(&s, &made)[0], 1, 0);
  buf_free(&before);
  buf_free(&after);
  small_unload(&s);
}

/* One step of f16 from this scale after this many good ones; `far`: with a target outside, so that the loss is
 * infinite. Afterwards they must be as given, and the parameters have moved or not. */
static void expect_scale(double scale, double good, bool far, double then, double good_then) {
  bool updates = then >= scale && !far;
  Setup s;
  small_load(&s, &rounded[0], "train.precision=f16");
  const Graph *init = small_program(&s, "init"), *train = small_program(&s, "train");
  Node of_scale = {.op = OP_state, .type = {.dtype = DT_f32}, .name = "train.loss_scale"};
  Node of_good = {.op = OP_state, .type = {.dtype = DT_i32}, .name = "train.good_steps"};
  Node targets = {.op = OP_input, .name = "targets"}, made = {.op = OP_state, .name = "train.step"};
  small_fill(&s, init, OP_input);
  small_run(&s, init);
  assert_close("first scale", small_value(&s, &of_scale)[0], 65536, 0);
  small_fill(&s, train, OP_input);
  if (far) small_value(&s, &targets)[0] = 1000;
  small_value(&s, &of_scale)[0] = scale;
  small_value(&s, &of_good)[0] = good;
  double norm = small_evaluate(&s, train, EVAL_f32, "grad_norm")[0];
  assert_close("loss_scale", small_evaluate(&s, train, EVAL_f32, "loss_scale")[0], then, 0);
  small_run(&s, train);
  assert_close("scale", small_value(&s, &of_scale)[0], then, 0);
  assert_close("good steps", small_value(&s, &of_good)[0], good_then, 0);
  assert_close("updates", small_value(&s, &made)[0], updates, 0);
  if (updates) { /* the norm is that of the loss's gradient, whatever the scale */
    Setup f;
    small_load(&f, &rounded[0], NULL);
    small_fill(&f, small_program(&f, "init"), OP_input);
    small_run(&f, small_program(&f, "init"));
    small_fill(&f, small_program(&f, "train"), OP_input);
    assert_close("norm", norm,
                 small_evaluate(&f, small_program(&f, "train"), EVAL_f64, "grad_norm")[0], 5e-3);
    small_unload(&f);
  }
  small_unload(&s);
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
  small_load(&s, &small[2], NULL);
  const Graph *train = small_program(&s, "train"), *grad = small_program(&s, "grad");
  small_fill(&s, small_program(&s, "init"), OP_input);
  small_fill(&s, train, OP_input);
  small_run(&s, small_program(&s, "init"));
  double *g = small_evaluate(&s, grad, EVAL_f32, "grad.norm.bias");
  double lr = small_evaluate(&s, train, EVAL_f32, "lr")[0];
  assert_close("lr", lr, 3e-4, 1e-7);
  small_run(&s, train);
  Node bias = {.op = OP_param, .name = "norm.bias"};
  for (int i = 0; i < 8; i++)
    assert_close("update", -small_value(&s, &bias)[i], lr * g[i] / (fabs(g[i]) + 1e-8), 5e-7);
  small_unload(&s);
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
    if (!programs_build(s[on].model, &(ProgramOptions){.pass = &small_options}, &s[on].set,
                        &errors))
      fail_msg("%s", errors.data);
    Graph *g = small_program(&s[on], "grad");
    small_fill(&s[on], g, OP_param);
    small_fill(&s[on], g, OP_input);
    int matmuls = 0, randoms = 0;
    for (int i = 0; i < g->n_node; i++) {
      matmuls += g->node[i]->region < 0 && g->node[i]->op == OP_matmul;
      randoms += g->node[i]->region < 0 && g->node[i]->op == OP_random;
    }
    assert_int_equal(matmuls, on ? 3 : 0);
    assert_int_equal(randoms, on ? 3 : 0);
  }
  const Graph *g = small_program(&s[0], "grad"), *with = small_program(&s[1], "grad");
  assert_int_equal(g->n_output, with->n_output);
  for (int i = 0; i < g->n_output; i++) {
    const char *name = g->output[i].name;
    double *a = small_evaluate(&s[0], g, EVAL_f32, name),
           *b = small_evaluate(&s[1], with, EVAL_f32, name);
    assert_memory_equal(a, b, sizeof *a * (size_t)type_count(&g->output[i].node->type));
  }
  small_unload(&s[0]);
  small_unload(&s[1]);
}

static void test_checkpoint(void **state) {
  (void)state;
  check_checkpoint("ck=true");
  check_checkpoint("train.recompute=true");
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_eval),       cmocka_unit_test(test_forward),
    cmocka_unit_test(test_accumulate), cmocka_unit_test(test_not_finite),
    cmocka_unit_test(test_checkpoint), cmocka_unit_test(test_bias_correction),
    cmocka_unit_test(test_loss_scale),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
