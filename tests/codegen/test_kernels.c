/* Every operation's generated cases and programs of several operations, on the device against the
 * evaluator. test_kernels [OP|programs ...]: only those */
#include "tests/codegen/check.h"
#include "passes/passes.h"
#include "tests/gen/gen.h"

#include <string.h>

static bool wanted(const char *name, int argc, char **argv) {
  for (int i = 1; i < argc; i++)
    if (strcmp(argv[i], name) == 0) return true;
  return argc == 1;
}

/* Raised operations have no kernels: their definitions have, and those cut at random too. */
static void run_case(Bench *b, const Target *t, Graph *given, const GenFeed *feed, unsigned more) {
  Graph *g = pass_lower(given, &(PassOptions){0});
  unsigned flags = more | (feed->flags & GEN_exact ? CHECK_exact : 0) |
                   (feed->flags & GEN_boundary ? CHECK_boundary : 0);
  check_graph(b, t, g, feed->feed, feed->n, feed->title, flags);
  if (g != given) {
    check_graph(b, t, g, feed->feed, feed->n, feed->title, flags | CHECK_cut);
    graph_free(g);
  }
}

static void everything(Bench *b, const Target *target, int argc, char **argv) {
  for (int op = 0; op < OP_COUNT; op++)
    for (int i = 0; wanted(ir_op[op].name, argc, argv) && i < gen_count((Op)op); i++) {
      GenFeed feed;
      Graph *g = gen_case((Op)op, i, &feed);
      run_case(b, target, g, &feed, 0);
      graph_free(g);
    }
  for (int i = 0; wanted("programs", argc, argv) && i < GEN_PROGRAMS; i++) {
    GenFeed feed;
    Graph *g = gen_program(i, &feed);
    run_case(b, target, g, &feed, 0);
    run_case(b, target, g, &feed, CHECK_cut);
    graph_free(g);
  }
}

int main(int argc, char **argv) { return bench_main(everything, argc, argv); }
