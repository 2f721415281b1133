/* alphac opt: passes on a graph's text. */
#include "driver/args.h"

#include <errno.h>
#include <string.h>

static int write_graph(const Graph *g, const char *path) {
  Buf text = {0}, why = {0};
  int status = EXIT_ok;
  ir_print(&text, g);
  if (path) {
    if (!output_write(path, &(Piece){text.data, text.len}, 1, false, &why)) status = failed("%s", why.data);
  } else {
    fwrite(text.data, 1, text.len, stdout);
    if (fflush(stdout) != 0) status = failed("cannot write the graph: %s", strerror(errno));
  }
  buf_free(&text);
  buf_free(&why);
  return status;
}

int opt_main(int argc, char **argv) {
  const char *file, *output = NULL, *list = "";
  PassOptions option = {.out = stderr};
  const ArgSpec spec[] = {
    {"--passes", "LIST", "names with commas between them, run in this order", .text = &list},
    {"-o", "FILE", "where the result goes (standard output)", .text = &output},
    {"--dump-after", "PASS", "prints the graph to standard error after this pass, or after all", .text = &option.dump_after},
    {"--skip-pass", "PASS", "leaves this pass out", .text = &option.skip},
    {"--time-passes", NULL, "prints how long each pass took, and nodes before and after it", .flag = &option.time},
  };
  Buf more = {0}, why = {0};
  buf_str(&more, "Passes:\n");
  pass_list(&more);
  buf_str(&more, "\nExample: alphac models/hlx.alpha --emit=ir --program loss -o hlx.ir\n"
                 "         alphac opt --passes=simplify hlx.ir\n");
  const Command command = {"opt", "alphac opt [--passes=LIST] FILE.ir [-o OUT]",
                           "Reads a graph's text (docs/ir.md), checks it, runs passes on it and prints the result.\n"
                           "Without passes it prints the graph in its normal form. FILE.ir may be - for standard input.",
                           more.data, spec, COUNT_OF(spec)};
  Arena *arena = arena_new();
  int status = args_parse(&command, arena, argc, argv, &file);
  if (status < 0) {
    Graph *g = args_graph(file), *to = g ? pass_run(g, list, &option, &why) : NULL;
    status = to ? write_graph(to, output) : g ? args_usage_error(&command, "%s", why.data) : EXIT_failed;
    if (to != g) graph_free(to);
    graph_free(g);
  }
  buf_free(&more);
  buf_free(&why);
  arena_free(arena);
  return status;
}
