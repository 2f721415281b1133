/* alphac opt: passes on a graph's text. */
#include "driver/args.h"

#include <errno.h>
#include <string.h>

static int write_text(const Buf *text, const char *path) {
  Buf why = {0};
  int status = EXIT_ok;
  if (path) {
    if (!output_write(path, &(Piece){text->data, text->len}, 1, false, &why))
      status = failed("%s", why.data);
  } else if (fwrite(text->data, 1, text->len, stdout) != text->len || fflush(stdout) != 0) {
    status = failed("cannot write the graph: %s", strerror(errno));
  }
  buf_free(&why);
  return status;
}

/* The passes on every graph of the file, one after the other. */
static int run(const Command *c, Arena *arena, const char *file, const char *list,
               const PassOptions *o, const char *path) {
  Graph **g;
  Buf text = {0}, why = {0};
  int n = args_graphs(arena, file, &g), status = n < 0 ? EXIT_failed : -1;
  for (int i = 0; i < n && status < 0; i++) {
    Graph *to = pass_run(g[i], list, o, &why);
    if (to)
      ir_print(&text, to);
    else
      status = args_usage_error(c, "%s", why.data);
    if (to != g[i]) graph_free(to);
  }
  if (status < 0) status = write_text(&text, path);
  for (int i = 0; i < n; i++) graph_free(g[i]);
  buf_free(&text);
  buf_free(&why);
  return status;
}

int opt_main(int argc, char **argv) {
  const char *file, *output = NULL, *list = "", *precision = "f32";
  PassOptions option = {.out = stderr};
  const ArgSpec spec[] = {
    {"--passes", "LIST", "names with commas between them, run in this order", .text = &list},
    {"-o", "FILE", "where the result goes (standard output)", .text = &output},
    {"--dump-after", "PASS", "prints the graph to standard error after this pass, or after all",
     .text = &option.dump_after},
    {"--skip-pass", "PASS", "leaves this pass out", .text = &option.skip},
    {"--time-passes", NULL,
     "prints how long each pass took, nodes before and after it, and how often each rule was used",
     .flag = &option.time},
    {"--precision", "P", "f32, bf16 or f16: what pass precision rounds to (f32: nothing)",
     .text = &precision},
    {"--strict", NULL, "only rewrites that keep every bit", .flag = &option.strict},
  };
  Buf more = {0};
  buf_str(&more, "Passes:\n");
  pass_list(&more);
  buf_str(&more, "\nExample: alphac models/hlx.alpha --emit=ir -o hlx.ir\n"
                 "         alphac opt --passes=simplify hlx.ir\n");
  const Command command = {
    "opt",
    "alphac opt [--passes=LIST] FILE.ir [-o OUT]",
    "Reads graphs as text (docs/ir.md), checks them, runs passes on each and prints the results.\n"
    "Without passes it prints them in their normal form. FILE.ir may be - for standard input.",
    more.data,
    spec,
    COUNT_OF(spec), false};
  Arena *arena = arena_new();
  int status = args_parse(&command, arena, argc, argv, &file);
  if (status < 0 &&
      (!dtype_by_name(precision, &option.precision) || !dtype_is_float(option.precision)))
    status = args_usage_error(&command, "--precision %s: expected f32, bf16 or f16", precision);
  if (status < 0) status = run(&command, arena, file, list, &option, output);
  buf_free(&more);
  arena_free(arena);
  return status;
}
