/* Whole programs on the device against the evaluator: the goldens' graphs and the generated
 * programs, each with updates of params and states (a ← b, b ← a; one node under several names;
 * what feeds another's update), run several times over. Its argument is the goldens' folder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/driver/run_graph.h"
#include "tests/driver/graphs.h"
#include "tests/gen/gen.h"

enum { TIMES = 3 };

static RunDevice device;
static const char *plans;

/* The device must be as near to the evaluator in f64 as rounding puts it, or have just what the
 * evaluator has in f32. */
static void compare(const Graph *g, const char *title, const Feed *feed, int n_feed, int times) {
  Arena *arena = arena_new();
  Buf why = {0};
  size_t n = (size_t)g->n_output;
  Tensor *got = arena_alloc(arena, sizeof *got * n), *f32 = arena_alloc(arena, sizeof *f32 * n);
  Tensor *f64 = arena_alloc(arena, sizeof *f64 * n), *bound = arena_alloc(arena, sizeof *bound * n);
  if (!run_graph(&device, arena, g, feed, n_feed, times, got, &why))
    fail_msg("%s: %s", title, why.data);
  assert_true(run_reference(arena, g, EVAL_f32, feed, n_feed, times, f32, &why));
  assert_true(run_bounds(arena, g, feed, n_feed, times, f64, bound, &why));
  for (int i = 0; i < g->n_output; i++) {
    buf_clear(&why);
    if (run_close_enough(&got[i], &f64[i], &f32[i], &bound[i], &why)) continue;
    Buf text = {0};
    ir_print(&text, g);
    fputs(text.data, stderr); /* fail_msg cuts long messages */
    fail_msg("%s: output %s: %s", title, g->output[i].name, why.data);
  }
  arena_free(arena);
  buf_free(&why);
}

static void read_and_compare(const char *name) {
  Buf path = {0}, text = {0}, errors = {0};
  if (device.target.is_cpu && strncmp(name, "tiles_", 6) == 0) skip(); /* minutes to compile */
  buf_printf(&path, "%s/%s.ir", plans, name);
  assert_true(buf_read_file(&text, path.data));
  Graph *g = ir_parse(name, text.data, text.len, &errors);
  if (!g) fail_msg("%s", errors.data);
  Feed feed[128];
  int n = 0;
  uint32_t seed = 1;
  for (int i = 0; i < g->n_node; i++) {
    const Node *leaf = g->node[i];
    if (leaf->op != OP_param && leaf->op != OP_state && leaf->op != OP_input) continue;
    int64_t count = type_count(&leaf->type);
    double *data = arena_alloc(g->arena, sizeof *data * (size_t)count);
    for (int64_t e = 0; e < count; e++) {
      seed = seed * 1664525 + 1013904223;
      data[e] = dtype_round((DType)leaf->type.dtype, (double)(seed >> 8) / (1 << 23) - 1);
    }
    feed[n++] = (Feed){leaf->op, leaf->name, data};
  }
  bool is_cpu = device.target.is_cpu;
  if (strncmp(name, "gpu_", 4) == 0) device.target.is_cpu = false;
  compare(g, name, feed, n, TIMES);
  device.target.is_cpu = is_cpu;
  graph_free(g);
  buf_free(&path);
  buf_free(&text);
}

#define DEFINE(name)                                                                               \
  static void run_##name(void **s) {                                                               \
    (void)s;                                                                                       \
    read_and_compare(#name);                                                                       \
  }
GRAPHS(DEFINE)
#undef DEFINE

static void generated(void **state) {
  (void)state;
  for (int i = 0; i < GEN_PROGRAMS; i += 1) {
    GenFeed feed;
    Graph *g = gen_program(i, &feed);
    add_updates(g, (uint32_t)i);
    char title[32];
    snprintf(title, sizeof title, "program %d", i);
    compare(g, title, feed.feed, feed.n, i % 2 ? 1 : 2);
    graph_free(g);
  }
}

int main(int argc, char **argv) {
  if (argc != 2) die("usage: test_run PLANS");
  plans = argv[1];
  Buf why = {0};
  if (!run_open(&device, &why)) {
    printf("skipped: no Vulkan device: %s\n", why.data);
    return 0;
  }
  const struct CMUnitTest tests[] = {
#define LIST(name) cmocka_unit_test(run_##name),
    GRAPHS(LIST)
#undef LIST
      cmocka_unit_test(generated),
  };
  int failures = cmocka_run_group_tests_name("run", tests, NULL, NULL);
  run_close(&device);
  return failures;
}
