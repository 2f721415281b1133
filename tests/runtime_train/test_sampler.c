/* The sampler's cuts against their definitions, its draws against the distribution; and the metrics
 * file. */
#include "runtime/metrics.h"
#include "runtime/sampler.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { V = 6 };
/* Probabilities 0.4 0.25 0.2 0.1 0.05 0 in the order of ids 2 0 5 1 4 3. */
static float logit[V];

static int setup(void **state) {
  (void)state;
  static const double p[V] = {0.25, 0.1, 0.4, 0, 0.05, 0.2};
  for (int i = 0; i < V; i++) logit[i] = p[i] > 0 ? (float)log(p[i]) + 3 : -INFINITY;
  return 0;
}

static void expect(Sampling s, int n, const int32_t *id, const double *p) {
  Sampler *sampler = sampler_new(V, &s);
  const int32_t *got;
  const double *q;
  assert_true(sampler_pick(sampler, logit, 0, 0) >= 0);
  assert_int_equal(sampler_last(sampler, &got, &q), n);
  double sum = 0;
  for (int i = 0; i < n; i++) sum += p[i];
  for (int i = 0; i < n; i++) {
    assert_int_equal(got[i], id[i]);
    if (fabs(q[i] - p[i] / sum) > 1e-6) fail_msg("probability %d: %g, not %g", i, q[i], p[i] / sum);
  }
  sampler_free(sampler);
}

static const int32_t ORDER[] = {2, 0, 5, 1, 4, 3};
static const double P[] = {0.4, 0.25, 0.2, 0.1, 0.05, 0};

static void cuts(void **state) {
  (void)state;
  expect((Sampling){1, 0, 1, 0, 1}, 6, ORDER, P);
  expect((Sampling){1, 3, 1, 0, 1}, 3, ORDER, P);
  expect((Sampling){1, 100, 1, 0, 1}, 6, ORDER, P);
  expect((Sampling){1, 0, 0.6, 0, 1}, 2, ORDER, P);
  expect((Sampling){1, 0, 0.66, 0, 1}, 3, ORDER, P);
  expect((Sampling){1, 0, 0, 0, 1}, 1, ORDER, P);
  expect((Sampling){1, 0, 1, 0.24, 1}, 4, ORDER, P);
  expect((Sampling){1, 0, 1, 0.26, 1}, 3, ORDER, P);
  expect((Sampling){1, 0, 1, 1, 1}, 1, ORDER, P);
  expect((Sampling){1, 3, 0.7, 0, 1}, 2, ORDER, P); /* top-k first: of 0.85, 0.7 · 0.85 = 0.595 */
  expect((Sampling){0.5, 0, 1, 0, 1}, 6, ORDER,
         (const double[]){0.16, 0.0625, 0.04, 0.01, 0.0025, 0});
  expect((Sampling){0, 3, 1, 0, 1}, 1, ORDER, P);
}

static void draws(void **state) {
  (void)state;
  enum { N = 20000 };
  const Sampling s = {1, 0, 1, 0, 42};
  Sampler *a = sampler_new(V, &s);
  int count[V] = {0}, same = 0;
  for (int i = 0; i < N; i++) count[sampler_pick(a, logit, i % 3, i)]++;
  for (int i = 0; i < V; i++) {
    double expected = P[i] * N, deviation = sqrt(N * P[i] * (1 - P[i]));
    if (fabs(count[ORDER[i]] - expected) > 4 * deviation)
      fail_msg("id %d: %d times, not %g", ORDER[i], count[ORDER[i]], expected);
  }
  Sampler *b = sampler_new(V, &s);
  for (int i = 0; i < 100; i++) {
    int32_t x = sampler_pick(a, logit, 0, i);
    assert_int_equal(x, sampler_pick(b, logit, 0, i)); /* the same seed, sequence and position */
    same += x == sampler_pick(b, logit, 1, i);
  }
  assert_true(same < 60);
  sampler_free(a);
  sampler_free(b);
}

static void extremes(void **state) {
  (void)state;
  Sampler *s = sampler_new(V, &(Sampling){1, 0, 1, 0, 1});
  float x[V] = {1, 1, 1, 1, 1, 1};
  Sampler *greedy = sampler_new(V, &(Sampling){0, 0, 1, 0, 1});
  assert_int_equal(sampler_pick(greedy, x, 0, 0), 0); /* of equal ones the lowest */
  x[4] = 1e30f;
  for (int i = 0; i < 50; i++) assert_int_equal(sampler_pick(s, x, 0, i), 4);
  x[2] = NAN;
  assert_int_equal(sampler_pick(s, x, 0, 0), -1);
  assert_int_equal(sampler_pick(greedy, x, 0, 0), -1);
  x[2] = INFINITY;
  assert_int_equal(sampler_pick(s, x, 0, 0), -1);
  for (int i = 0; i < V; i++) x[i] = -INFINITY;
  assert_int_equal(sampler_pick(s, x, 0, 0), -1);
  x[5] = -1e30f;
  assert_int_equal(sampler_pick(s, x, 0, 0), 5);
  sampler_free(s);
  sampler_free(greedy);
}

/* ---- metrics ---- */

static void add(Metrics *m, int64_t step) {
  Buf why = {0};
  const Metric metric = {.step = step,
                         .loss = step == 2 ? NAN : 1.5,
                         .lr = 1e-3,
                         .grad_norm = 0.25,
                         .tokens = 8 * step,
                         .tokens_per_second = 100,
                         .ms = 80,
                         .target = step == 1 ? "any \"8\"" : NULL,
                         .has_val = step == 3,
                         .val_loss = 2.5,
                         .skipped = step == 2,
                         .n_skipped = 1};
  assert_true(metrics_add(m, &metric, &why));
}

static void expect_file(const char *path, const char *text) {
  Buf is = {0};
  assert_true(buf_read_file(&is, path));
  assert_string_equal(is.len ? is.data : "", text);
  buf_free(&is);
}

#define LINE1                                                                                      \
  "{\"step\": 1, \"loss\": 1.5, \"lr\": 0.001, \"grad_norm\": 0.25, \"tokens\": 8, "               \
  "\"tokens_per_second\": 100.0, \"ms\": 80.000, \"target\": \"any \\\"8\\\"\"}\n"
#define LINE2                                                                                      \
  "{\"step\": 2, \"loss\": null, \"lr\": 0.001, \"grad_norm\": 0.25, \"tokens\": 16, "             \
  "\"tokens_per_second\": 100.0, \"ms\": 80.000, \"target\": null, \"skipped\": 1}\n"
#define LINE3                                                                                      \
  "{\"step\": 3, \"loss\": 1.5, \"lr\": 0.001, \"grad_norm\": 0.25, \"tokens\": 24, "              \
  "\"tokens_per_second\": 100.0, \"ms\": 80.000, \"target\": null, \"val_loss\": 2.5}\n"

static void metrics(void **state) {
  (void)state;
  char path[] = "metrics_XXXXXX";
  int fd = mkstemp(path);
  assert_true(fd >= 0 && write(fd, "old\n", 4) == 4 && close(fd) == 0);
  Buf why = {0};
  int64_t kept;
  Metrics *m = metrics_open(path, 0, &kept, &why);
  for (int i = 1; i <= 3; i++) add(m, i);
  assert_true(metrics_flush(m, &why));
  metrics_close(m);
  expect_file(path, LINE1 LINE2 LINE3);
  FILE *f = fopen(path, "a");
  fputs("{\"step\": 4, \"lo", f); /* cut short by a kill */
  fclose(f);
  metrics_close(metrics_open(path, 9, &kept, &why));
  assert_int_equal(kept, 3);
  expect_file(path, LINE1 LINE2 LINE3);
  m = metrics_open(path, 2, &kept, &why); /* back to a checkpoint of step 2 */
  assert_int_equal(kept, 2);
  add(m, 3);
  metrics_close(m);
  expect_file(path, LINE1 LINE2 LINE3);
  unlink(path);
  assert_null(metrics_open("no/such/place", 0, &kept, &why));
  assert_string_equal(why.data, "no/such/place: cannot be written: No such file or directory");
  buf_free(&why);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(cuts), cmocka_unit_test(draws),
                                     cmocka_unit_test(extremes), cmocka_unit_test(metrics)};
  return cmocka_run_group_tests_name("sampler", tests, setup, NULL);
}
