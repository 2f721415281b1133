/* Plans: goldens (plans/NAME.ir → plans/NAME.plan) and the planner's referee over every generated
 * program with random updates and outputs, for several sizes of chunk. ALPHAC_BLESS=1 rewrites the
 * goldens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "passes/plan.h"
#include "tests/driver/graphs.h"
#include "tests/gen/gen.h"

static Target cpu_target(void) {
  Target t = target_portable;
  t.is_cpu = true;
  return t;
}

/* "gpu_…": a GPU that can do little; "tiles_…": one with subgroups; "units_…": one with matrix units. */
static Target target_of(const char *name) {
  Target t = cpu_target();
  bool tiles = strncmp(name, "tiles_", 6) == 0, units = strncmp(name, "units_", 6) == 0;
  t.is_cpu = strncmp(name, "gpu_", 4) != 0 && !tiles && !units;
  if (!tiles && !units) return t;
  t.subgroup_size = 32;
  t.shared_bytes = 48 << 10;
  t.max_invocations = 1024;
  t.subgroup_shuffle = tiles;
  if (!units) return t;
  t.storage16 = true;
  t.matrix_bf16 = (TargetMatrix){16, 16, 16};
  return t;
}

static Graph *read_graph(const char *name) {
  Buf path = {0}, text = {0}, errors = {0};
  buf_printf(&path, "%s/%s.ir", PLANS, name);
  assert_true(buf_read_file(&text, path.data));
  Graph *g = ir_parse(name, text.data, text.len, &errors);
  if (!g || !ir_verify(g, &errors)) fail_msg("%s: %s", name, errors.data);
  buf_free(&path);
  buf_free(&text);
  return g;
}

static void golden(const char *name) {
  Target target = target_of(name);
  Graph *g = read_graph(name);
  Arena *arena = arena_new();
  Layout *layout = layout_new(arena, &target);
  Buf got = {0}, want = {0}, path = {0}, why = {0};
  Plan *plan = plan_graph(layout, g, &target, &why);
  if (!plan) fail_msg("%s: %s", name, why.data);
  if (!plan_check(plan, layout, &why)) fail_msg("%s: %s", name, why.data);
  plan_print(&got, plan, layout);
  buf_printf(&path, "%s/%s.plan", PLANS, name);
  if (getenv("ALPHAC_BLESS")) {
    FILE *f = fopen(path.data, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(got.data, 1, got.len, f), got.len);
    fclose(f);
  }
  assert_true(buf_read_file(&want, path.data));
  assert_string_equal(got.data, want.data);
  graph_free(plan->graph);
  graph_free(g);
  arena_free(arena);
  buf_free(&got);
  buf_free(&want);
  buf_free(&path);
}

#define DEFINE(name)                                                                               \
  static void golden_##name(void **s) {                                                            \
    (void)s;                                                                                       \
    golden(#name);                                                                                 \
  }
GRAPHS(DEFINE)
#undef DEFINE

static void referee(void **state) {
  (void)state;
  static const uint64_t chunk[] = {1 << 30, 16 << 10};
  for (int i = 0; i < GEN_PROGRAMS; i++)
    for (int c = 0; c < COUNT_OF(chunk); c++)
      for (uint32_t seed = 0; seed < 3; seed++) {
        GenFeed feed;
        Graph *g = gen_program(i, &feed);
        if (seed) add_updates(g, seed * 77 + (uint32_t)i);
        Target target = cpu_target();
        target.is_cpu = seed != 2;
        target.chunk_bytes = chunk[c];
        Arena *arena = arena_new();
        Layout *layout = layout_new(arena, &target);
        Buf why = {0};
        Plan *plan = plan_graph(layout, g, &target, &why);
        if (!plan || !plan_check(plan, layout, &why))
          fail_msg("program %d, seed %u: %s", i, seed, why.data);
        graph_free(plan->graph);
        graph_free(g);
        arena_free(arena);
      }
}

/* The referee itself: a plan that was tampered with is refused. */
static void referee_refuses(void **state) {
  (void)state;
  Target target = cpu_target();
  Graph *g = read_graph("reuse");
  Arena *arena = arena_new();
  Layout *layout = layout_new(arena, &target);
  Buf why = {0};
  Plan *plan = plan_graph(layout, g, &target, &why);
  assert_non_null(plan);
  assert_true(plan_check(plan, layout, &why));
  plan->step[1].barrier = false;
  assert_false(plan_check(plan, layout, &why));
  assert_non_null(strstr(why.data, "with no barrier between"));
  plan->step[1].barrier = true;
  PlanPlace was = plan->step[1].result[0];
  plan->step[1].result[0] = plan->step[0].result[0];
  buf_clear(&why);
  assert_false(plan_check(plan, layout, &why));
  assert_non_null(strstr(why.data, "while it reads it"));
  plan->step[1].result[0] = was;
  PlanStep swap = plan->step[1];
  plan->step[1] = plan->step[2];
  plan->step[2] = swap;
  buf_clear(&why);
  assert_false(plan_check(plan, layout, &why));
  assert_non_null(strstr(why.data, "where it is not"));
  graph_free(plan->graph);
  graph_free(g);
  arena_free(arena);
  buf_free(&why);
}

/* Parts in runs: one that reaches into its neighbour's, and a kernel that is told other runs. */
static void referee_refuses_runs(void **state) {
  (void)state;
  Target target = cpu_target();
  Graph *g = read_graph("runs");
  Arena *arena = arena_new();
  Layout *layout = layout_new(arena, &target);
  Buf why = {0};
  Plan *plan = plan_graph(layout, g, &target, &why);
  assert_non_null(plan);
  PlanStep *s = &plan->step[0];
  assert_int_equal(s->job.n_out, 3);
  assert_int_equal(s->result[2].run, 64);
  s->result[2].offset -= 16;
  assert_false(plan_check(plan, layout, &why));
  assert_non_null(strstr(why.data, "writes two results to one place"));
  s->result[2].offset += 16;
  s->job.runs = NULL;
  buf_clear(&why);
  assert_false(plan_check(plan, layout, &why));
  assert_non_null(strstr(why.data, "in other runs than its place has"));
  graph_free(plan->graph);
  graph_free(g);
  arena_free(arena);
  buf_free(&why);
}

/* A tensor larger than a chunk is refused by name. */
static void too_large(void **state) {
  (void)state;
  Target target = cpu_target();
  target.chunk_bytes = 4096;
  const char *expect[] = {
    "x f32[32,32] takes 4096 bytes, and the device gives at most 3840 in one piece"};
  Graph *g = read_graph("reuse");
  Arena *arena = arena_new();
  Buf why = {0};
  assert_null(plan_graph(layout_new(arena, &target), g, &target, &why));
  assert_string_equal(why.data, expect[0]);
  graph_free(g);
  arena_free(arena);
  buf_free(&why);
}

/* What one program writes in scratch may be where another has its inputs' copies, but params and
 * states are shared. */
static void programs_share(void **state) {
  (void)state;
  Target target = cpu_target();
  Arena *arena = arena_new();
  Layout *layout = layout_new(arena, &target);
  Buf why = {0};
  Graph *a = read_graph("update"), *b = read_graph("update");
  Plan *p = plan_graph(layout, a, &target, &why), *q = plan_graph(layout, b, &target, &why);
  assert_non_null(p);
  assert_non_null(q);
  assert_int_equal(layout->param.n, 1);
  assert_int_equal(layout->state.n, 1);
  for (int i = 0; i < p->graph->n_node; i++)
    assert_true(p->place[i].chunk == q->place[i].chunk && p->place[i].offset == q->place[i].offset);
  graph_free(p->graph);
  graph_free(q->graph);
  graph_free(a);
  graph_free(b);
  arena_free(arena);
}

/* A graph, for a target with matrix units and as many cores. */
static Graph *on_132_cores(const char *text, Target *target) {
  Buf why = {0};
  *target = target_of("units_");
  target->cores = 132;
  Graph *g = ir_parse("text", text, strlen(text), &why);
  if (!g || !ir_verify(g, &why)) fail_msg("%s", why.data);
  return g;
}

/* A product's two gradients run at the same time, and what follows alone: kernels for small ones are chosen for that. */
static void products_beside(void **state) {
  (void)state;
  static const char text[] = "graph \"beside\" {\n"
                             "  %0 = input bf16[640,256] \"x\"\n"
                             "  %1 = input bf16[640,1024] \"dy\"\n"
                             "  %2 = input bf16[256,1024] \"w\"\n"
                             "  %3 = cast f32[640,256] %0\n"
                             "  %4 = cast f32[640,1024] %1\n"
                             "  %5 = cast f32[256,1024] %2\n"
                             "  %6 = permute f32[1024,256] %5 perm=1,0\n"
                             "  %7 = permute f32[256,640] %3 perm=1,0\n"
                             "  %8 = matmul f32[640,256] %4 %6\n"
                             "  %9 = matmul f32[256,1024] %7 %4\n"
                             "  %10 = cast bf16[640,256] %8\n"
                             "  %11 = cast f32[640,256] %10\n"
                             "  %12 = matmul f32[640,1024] %11 %5\n"
                             "  output \"dw\" %9\n"
                             "  output \"y\" %12\n"
                             "}\n";
  Target target;
  Arena *arena = arena_new();
  Buf why = {0};
  Graph *g = on_132_cores(text, &target);
  Plan *plan = plan_graph(layout_new(arena, &target), g, &target, &why);
  assert_non_null(plan);
  int n = 0;
  for (int i = 0; i < plan->n_step; i++) {
    KernelJob job = plan->step[i].job;
    if (!job.anchor || job.anchor->op != OP_matmul) continue;
    bool last = job.anchor->type.dim[job.anchor->type.rank - 1] == 1024 &&
                job.anchor->type.dim[job.anchor->type.rank - 2] == 640;
    assert_int_equal(job.beside, !last);
    KernelForm beside[CG_MAX_FORMS], alone[CG_MAX_FORMS];
    int choices = cg_forms(&job, &target, beside);
    job.beside = 0;
    assert_true(cg_forms(&job, &target, alone) > 1);
    if (last)
      assert_true(choices > 1);
    else
      assert_int_equal(choices, 1);
    n++;
  }
  assert_int_equal(n, 3);
  graph_free(plan->graph);
  graph_free(g);
  arena_free(arena);
  buf_free(&why);
}

/* A weight gradient alone, too small for all cores in whole tiles: in spans, one for each core; the bias's gradient is not
 * summed beside it then. */
static void product_in_spans(void **state) {
  (void)state;
  static const char text[] = "graph \"spans\" {\n"
                             "  %0 = input bf16[16384,768] \"x\"\n"
                             "  %1 = input bf16[16384,768] \"dy\"\n"
                             "  %2 = cast f32[16384,768] %0\n"
                             "  %3 = cast f32[16384,768] %1\n"
                             "  %4 = permute f32[768,16384] %2 perm=1,0\n"
                             "  %5 = matmul f32[768,768] %4 %3\n"
                             "  %6 = reduce_sum f32[1,768] %3 axes=0\n"
                             "  output \"dw\" %5\n"
                             "  output \"db\" %6\n"
                             "}\n";
  Target target;
  Arena *arena = arena_new();
  Buf why = {0};
  Graph *g = on_132_cores(text, &target);
  Layout *layout = layout_new(arena, &target);
  Plan *plan = plan_graph(layout, g, &target, &why);
  assert_non_null(plan);
  if (!plan_check(plan, layout, &why)) fail_msg("%s", why.data);
  int n = 0;
  for (int i = 0; i < plan->n_step; i++) {
    const KernelJob *job = &plan->step[i].job;
    if (!job->anchor || job->anchor->op != OP_matmul_spans) continue;
    assert_int_equal(job->n_out, 1);
    assert_in_range(job->anchor->ints[0], 120, 132);
    KernelCode code;
    cg_emit(arena, job, &target, &code);
    assert_int_equal(code.groups[0], job->anchor->ints[0]);
    assert_true(code.flops == 2.0 * 768 * 768 * 16384);
    n++;
  }
  assert_int_equal(n, 1);
  graph_free(plan->graph);
  graph_free(g);
  arena_free(arena);
  buf_free(&why);
}

int main(void) {
  const struct CMUnitTest tests[] = {
#define LIST(name) cmocka_unit_test(golden_##name),
    GRAPHS(LIST)
#undef LIST
      cmocka_unit_test(referee),
    cmocka_unit_test(referee_refuses),
    cmocka_unit_test(referee_refuses_runs),
    cmocka_unit_test(too_large),
    cmocka_unit_test(programs_share),
    cmocka_unit_test(products_beside),
    cmocka_unit_test(product_in_spans),
  };
  return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
