/* The pass manager: lists, skipping, dumps, times, and catching a pass that is wrong about what it
 * did. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "passes/passes.h"

static const PassOptions no_options;

static Graph *graph(void) {
  static const char text[] =
    "graph \"g\" {\n  %0 = input f32[3] \"x\"\n  %1 = exp f32[3] %0\n  %2 = tanh f32[3] %0\n"
    "  output \"y\" %2\n}\n";
  Buf errors = {0};
  Graph *g = ir_parse("g", text, sizeof text - 1, &errors);
  assert_non_null(g);
  return g;
}

static char *run(const char *list, PassOptions o, Graph **result) {
  char *said;
  size_t size;
  Buf why = {0};
  o.out = open_memstream(&said, &size);
  Graph *g = graph(), *to = pass_run(g, list, &o, &why);
  if (!to) fputs(why.data, o.out);
  fclose(o.out);
  if (to != g) graph_free(g);
  *result = to;
  buf_free(&why);
  return said;
}

static void expect_said(const char *list, PassOptions o, int n_node, const char *want) {
  Graph *g;
  char *said = run(list, o, &g);
  assert_string_equal(said, want);
  assert_int_equal(g ? g->n_node : -1, n_node);
  graph_free(g);
  free(said);
}

static const char live[] = "// after dead\ngraph \"g\" {\n  %0 = input f32[3] \"x\"\n  %1 = tanh "
                           "f32[3] %0\n  output \"y\" %1\n}\n";

static void lists_run_in_order(void **unused) {
  (void)unused;
  expect_said("", (PassOptions){0}, 3, "");
  expect_said("dead", (PassOptions){0}, 2, "");
  expect_said("dead,simplify,dead", (PassOptions){0}, 2, "");
}

static void a_pass_can_be_skipped(void **unused) {
  (void)unused;
  expect_said("dead", (PassOptions){.skip = "dead"}, 3, "");
  expect_said("dead", (PassOptions){.skip = "simplify"}, 2, "");
}

static void graphs_are_dumped(void **unused) {
  (void)unused;
  expect_said("dead", (PassOptions){.dump_after = "dead"}, 2, live);
  expect_said("dead", (PassOptions){.dump_after = "all"}, 2, live);
  expect_said("dead", (PassOptions){.dump_after = "simplify"}, 2, "");
  expect_said("dead", (PassOptions){.dump_after = "all", .skip = "dead"}, 3, "");
}

/* ", simplify, dead, …" */
static const char all_names[] =
#define PASS(name, function, what) ", " #name
#include "passes/passes.def"
#undef PASS
  ;

static void unknown_names_are_refused(void **unused) {
  (void)unused;
  expect_said("simplfy", (PassOptions){0}, -1,
              "there is no pass \"simplfy\"; did you mean simplify?");
  Buf want = {0};
  buf_printf(&want, "there is no pass \"\"; there are %s", all_names + 2);
  expect_said("dead,,dead", (PassOptions){0}, -1, want.data);
  expect_said("dead", (PassOptions){.skip = "ded"}, -1,
              "there is no pass \"ded\"; did you mean dead?");
  buf_clear(&want);
  buf_printf(&want, "there is no pass \"everything\"; there are %s, and all", all_names + 2);
  expect_said("dead", (PassOptions){.dump_after = "everything"}, -1, want.data);
  buf_free(&want);
}

static void times_are_a_table(void **unused) {
  (void)unused;
  Graph *g;
  char *said = run("dead,dead", (PassOptions){.time = true}, &g), name[32];
  double ms, total;
  int before[2], after[2], used = 0;
  assert_int_equal(
    sscanf(said, "graph g pass ms nodes after dead %lf %d %d dead %lf %d %d %31s %lf %n", &ms,
           &before[0], &after[0], &ms, &before[1], &after[1], name, &total, &used),
    8);
  assert_true(before[0] == 3 && after[0] == 2 && before[1] == 2 && after[1] == 2 &&
              said[used] == 0);
  assert_string_equal(name, "total");
  graph_free(g);
  free(said);
}

static void used_rules_are_counted(void **unused) {
  (void)unused;
  static const char text[] = "graph \"g\" {\n  %0 = input f32[3] \"x\"\n  %1 = const f32[3] 1\n"
                             "  %2 = mul f32[3] %0 %1\n  %3 = neg f32[3] %2\n  %4 = neg f32[3] %3\n"
                             "  %5 = mul f32[3] %4 %1\n  output \"y\" %5\n}\n";
  Buf why = {0};
  char *said;
  size_t size;
  Graph *g = ir_parse("g", text, sizeof text - 1, &why);
  assert_non_null(g);
  PassOptions o = {.time = true, .out = open_memstream(&said, &size)};
  Graph *to = pass_run(g, "simplify,simplify", &o, &why);
  fclose(o.out);
  const char *table = strstr(said, "hits");
  assert_non_null(table);
  assert_string_equal(table, "hits  rule\n          2  mul(x, 1) = x\n"
                             "          1  neg(neg(x)) = x\n");
  graph_free(to);
  graph_free(g);
  free(said);
}

static void a_pass_that_changes_nothing_gives_the_same_graph(void **unused) {
  (void)unused;
  Graph *g = graph(), *once = pass_dead(g, &no_options);
  assert_ptr_not_equal(g, once);
  assert_ptr_equal(pass_dead(once, &no_options), once);
  graph_free(g);
  graph_free(once);
}

/* ---- passes that are wrong ---- */
static Graph *copies(Graph *g, const PassOptions *o) {
  (void)o;
  return graph_copy(g);
}
static Graph *edits(Graph *g, const PassOptions *o) {
  (void)o;
  g->output[0].node = g->node[1];
  return g;
}
static Graph *breaks(Graph *g, const PassOptions *o) {
  (void)o;
  Graph *to = graph_copy(g);
  to->node[1]->type.dim[0] = 4;
  return to;
}

/* The child leaves its memory behind, which a leak checker would make another exit status of. */
static void leave_at_once(int status, void *unused) {
  (void)unused;
  fflush(NULL);
  _exit(status);
}

/* What die says, in a process of its own. */
static void expect_death(PassFunction *pass, Graph *g, const char *want) {
  int pipe_to[2];
  assert_int_equal(pipe(pipe_to), 0);
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    double ms;
    on_exit(leave_at_once, NULL);
    dup2(pipe_to[1], 2);
    pass_apply("wrong", pass, g, &no_options, &ms);
    _exit(0);
  }
  close(pipe_to[1]);
  Buf said = {0};
  char piece[256];
  buf_str(&said, "");
  for (ssize_t n; (n = read(pipe_to[0], piece, sizeof piece)) > 0;)
    buf_put(&said, piece, (size_t)n);
  close(pipe_to[0]);
  int status;
  assert_int_equal(waitpid(child, &status, 0), child);
  assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 70);
  if (!strstr(said.data, want)) fail_msg("said %s, expected %s", said.data, want);
  buf_free(&said);
}

static void wrong_passes_are_caught(void **unused) {
  (void)unused;
  Graph *g = graph(), *whole = pass_dead(g, &no_options);
  expect_death(copies, whole, "pass wrong made a new graph of g, equal to the old one");
  expect_death(edits, g, "pass wrong changed the graph g in place");
  expect_death(breaks, g,
               "pass wrong broke the graph g:\n%1 = tanh f32[4] %0: its type should be f32[3]");
  graph_free(g);
  graph_free(whole);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(lists_run_in_order),
    cmocka_unit_test(a_pass_can_be_skipped),
    cmocka_unit_test(graphs_are_dumped),
    cmocka_unit_test(unknown_names_are_refused),
    cmocka_unit_test(times_are_a_table),
    cmocka_unit_test(used_rules_are_counted),
    cmocka_unit_test(a_pass_that_changes_nothing_gives_the_same_graph),
    cmocka_unit_test(wrong_passes_are_caught),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
