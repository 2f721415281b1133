/* Options and input of alphac's commands. */
#include "driver/args.h"

#include <errno.h>
#include <string.h>

int args_usage_error(const Command *c, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  fprintf(stderr, "alphac %s: error: ", c->name);
  vfprintf(stderr, fmt, args);
  fprintf(stderr, "\n`alphac %s --help` lists the options.\n", c->name);
  va_end(args);
  return EXIT_usage;
}

static int print_help(const Command *c) {
  printf("%s\n\n%s\n\nOptions:\n", c->usage, c->about);
  for (int i = 0; i < c->n_spec; i++) {
    const ArgSpec *s = &c->spec[i];
    Buf left = {0};
    buf_printf(&left, "%s%s%s", s->name, s->value ? " " : "", s->value ? s->value : "");
    printf("  %-22s %s\n", left.data, s->help);
    buf_free(&left);
  }
  printf("  %-22s %s\n", "--help", "this text");
  if (c->more) printf("\n%s", c->more);
  return EXIT_ok;
}

static const ArgSpec *find(const Command *c, const char *arg, size_t len) {
  for (int i = 0; i < c->n_spec; i++)
    if (strlen(c->spec[i].name) == len && strncmp(c->spec[i].name, arg, len) == 0)
      return &c->spec[i];
  return NULL;
}

static int unknown_option(const Command *c, Arena *arena, const char *arg) {
  const char *name[32];
  int n = 0;
  for (; n < c->n_spec; n++) name[n] = c->spec[n].name;
  name[n++] = "--help";
  const char *word = arena_str(arena, arg, strcspn(arg, "=")), *near = suggest(word, name, n);
  return near ? args_usage_error(c, "unknown option %s; did you mean %s?", word, near)
              : args_usage_error(c, "unknown option %s", word);
}

int args_parse(const Command *c, Arena *arena, int argc, char **argv, const char **file) {
  *file = NULL;
  for (int i = 1; i < argc; i++) {
    const char *arg = argv[i];
    if (arg[0] != '-' || !arg[1]) {
      if (c->no_file) return args_usage_error(c, "takes no arguments: %s", arg);
      if (*file) return args_usage_error(c, "two files: %s and %s", *file, arg);
      *file = arg;
      continue;
    }
    size_t len = strcspn(arg, "=");
    if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) return print_help(c);
    const ArgSpec *s = find(c, arg, len);
    if (!s) return unknown_option(c, arena, arg);
    const char *value = arg[len] ? arg + len + 1 : NULL;
    if (!s->value) {
      if (value) return args_usage_error(c, "%s takes no value", s->name);
      *s->flag = true;
      continue;
    }
    if (!value && i + 1 < argc) value = argv[++i];
    if (!value || !*value)
      return args_usage_error(c, "%s needs a value: %s %s", s->name, s->name, s->value);
    if (s->list)
      ARENA_PUSH(arena, s->list->item, s->list->n, value);
    else
      *s->text = value;
  }
  return *file || c->no_file ? -1 : args_usage_error(c, "no graph given: %s", c->usage);
}

static bool read_stdin(Buf *text) {
  char piece[1 << 14];
  for (size_t n; (n = fread(piece, 1, sizeof piece, stdin)) > 0;) buf_put(text, piece, n);
  return !ferror(stdin);
}

int args_graphs(Arena *arena, const char *file, Graph ***graphs) {
  Buf text = {0}, errors = {0};
  bool is_stdin = strcmp(file, "-") == 0;
  int n = -1;
  buf_str(&text, "");
  if (!(is_stdin ? read_stdin(&text) : buf_read_file(&text, file)))
    failed("cannot read %s: %s", file, strerror(errno));
  else
    n = ir_parse_all(arena, is_stdin ? "<stdin>" : file, text.data, text.len, graphs, &errors);
  for (int i = 0; i < n; i++) {
    size_t before = errors.len;
    if (ir_verify((*graphs)[i], &errors)) continue;
    failed("graph \"%s\" in %s is not well-formed:", (*graphs)[i]->name, file);
    fputs(errors.data + before, stderr);
  }
  if (n < 0 && errors.len) fputs(errors.data, stderr);
  if (errors.len) {
    for (int i = 0; i < n; i++) graph_free((*graphs)[i]);
    n = -1;
  }
  buf_free(&text);
  buf_free(&errors);
  return n;
}
