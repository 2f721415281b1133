/* The models of models/, at small and odd dimensions: the program "grad" as alphac compiles it
 * against central differences of its own loss, at coordinates of every parameter; the same in 16 bits; raised and not. */
#include "tests/passes/numeric.h"
#include "tests/passes/small_models.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

enum { PLACES = 5 };

/* ---- gradients ---- */
static void check_gradients(const Small *m) {
  Setup s;
  small_load(&s, m, NULL);
  Graph *g = small_program(&s, "grad");
  small_fill(&s, g, OP_param);
  small_fill(&s, g, OP_input);
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
  print_message("%s: %d parameters, loss %.6f\n", m->file, n,
                small_evaluate(&s, g, EVAL_f64, "loss")[0]);
  small_unload(&s);
}

static void test_gradients(void **state) {
  (void)state;
  for (int i = 0; i < COUNT_OF(small); i++) check_gradients(&small[i]);
}

/* ---- 16 bits ---- */
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
  small_load(&exact, m, NULL);
  small_load(&s, m, precision);
  const Graph *g = small_program(&s, "grad"), *f = small_program(&exact, "grad");
  small_fill(&s, g, OP_param);
  small_fill(&s, g, OP_input);
  small_fill(&exact, f, OP_param);
  small_fill(&exact, f, OP_input);
  assert_int_equal(g->n_output, f->n_output);
  double all = 0, worst = 0;
  for (int pass = 0; pass < 2; pass++)
    for (int k = 0; k < g->n_output; k++) {
      const char *name = g->output[k].name;
      int64_t n = type_count(&g->output[k].node->type);
      double *zero = arena_alloc(s.arena, sizeof *zero * (size_t)n);
      double *x = small_evaluate(&s, g, EVAL_f32, name),
             *y = small_evaluate(&exact, f, EVAL_f64, name);
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
  small_unload(&s);
  small_unload(&exact);
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
  small_load(s, m, NULL);
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
    small_load(&raised, &small[i], NULL);
    load_skipping(&written, &small[i], "raise");
    const Graph *a = small_program(&raised, "grad"), *b = small_program(&written, "grad");
    small_fill(&raised, a, OP_param);
    small_fill(&raised, a, OP_input);
    small_fill(&written, b, OP_param);
    small_fill(&written, b, OP_input);
    assert_int_equal(a->n_output, b->n_output);
    for (int k = 0; k < a->n_output; k++) {
      const char *name = a->output[k].name;
      double *x = small_evaluate(&raised, a, EVAL_f64, name),
             *y = small_evaluate(&written, b, EVAL_f64, name);
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
    small_unload(&raised);
    small_unload(&written);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients),
                                     cmocka_unit_test(test_precision),
                                     cmocka_unit_test(test_raise)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
