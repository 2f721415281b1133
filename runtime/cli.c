/* Options of the runner's commands: one table gives parsing, defaults, --help and suggestions. */
#include "runtime/runtime.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OPTIONS = 48, HELP_COLUMN = 26 };

static int report(const Runner *r, int status, const char *fmt, va_list args) {
  fflush(stdout);
  fprintf(stderr, "%s%s%s: error: ", r->program, r->command ? " " : "",
          r->command ? r->command : "");
  vfprintf(stderr, fmt, args);
  fputc('\n', stderr);
  if (status == EXIT_usage)
    fprintf(stderr, "try: %s%s%s --help\n", r->program, r->command ? " " : "",
            r->command ? r->command : "");
  return status;
}

int cli_error(const Runner *r, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  int status = report(r, EXIT_failed, fmt, args);
  va_end(args);
  return status;
}

int cli_misuse(const Runner *r, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  int status = report(r, EXIT_usage, fmt, args);
  va_end(args);
  return status;
}

void cli_bytes(Buf *b, double bytes) {
  static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int i = 0;
  while (bytes >= 1024 && i < COUNT_OF(unit) - 1) bytes /= 1024, i++;
  buf_printf(b, i ? "%.1f %s" : "%.0f %s", bytes, unit[i]);
}

void cli_amount(Buf *b, double n, const char *unit) {
  static const char *const prefix[] = {"", "k", "M", "G", "T", "P"};
  int i = 0;
  while (n >= 1000 && i < COUNT_OF(prefix) - 1) n /= 1000, i++;
  buf_printf(b, i ? "%.2f %s%s" : "%.0f %s%s", n, prefix[i], unit);
}

/* ---- help ---- */

static void print_option(const Opt *o) {
  int col = printf("  %s%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "",
                   o->kind == OPT_list ? "..." : "");
  if (col > HELP_COLUMN - 2) printf("\n"), col = 0;
  for (const char *line = o->help; *line;) {
    size_t n = strcspn(line, "\n");
    printf("%*s%.*s\n", HELP_COLUMN - col, "", (int)n, line);
    col = 0;
    line += n + (line[n] == '\n');
  }
}

static void print_example(const char *text, const char *program) {
  printf("  ");
  for (; *text; text++) {
    if (text[0] == '$' && text[1] == '0') {
      printf("%s", program);
      text++;
    } else {
      putchar(*text);
      if (*text == '\n') printf("  ");
    }
  }
  putchar('\n');
}

static void print_help(const Runner *r, const Usage *u, const Opt *opt, int n_opt) {
  printf("usage: %s %s%s%s\n\n%s\n\noptions:\n", r->program, r->command, *u->args ? " " : "",
         u->args, u->about);
  for (int i = 0; i < n_opt; i++) print_option(&opt[i]);
  if (u->example) {
    printf("\nexample:\n");
    print_example(u->example, r->program);
  }
}

/* ---- parsing ---- */

static const Opt *find(const Opt *opt, int n, const char *name, size_t len) {
  for (int i = 0; i < n; i++)
    if (strlen(opt[i].name) == len && strncmp(opt[i].name, name, len) == 0) return &opt[i];
  return NULL;
}

static int unknown(const Runner *r, const Opt *opt, int n, const char *arg) {
  const char *name[MAX_OPTIONS];
  for (int i = 0; i < n; i++) name[i] = opt[i].name;
  size_t len = strcspn(arg, "=");
  char *word = arena_str(r->arena, arg, len);
  const char *near = suggest(word, name, n);
  return near ? cli_misuse(r, "unknown option %s; did you mean %s?", word, near)
              : cli_misuse(r, "unknown option %s", word);
}

static bool in_range(const Opt *o, double x) {
  return (o->min == 0 && o->max == 0) || (x >= o->min && x <= o->max);
}

static int bad_range(const Runner *r, const Opt *o, const char *text) {
  if (isinf(o->max) || o->max >= 0x1p63)
    return cli_misuse(r, "%s %s: must be at least %.10g", o->name, text, o->min);
  return cli_misuse(r, "%s %s: must be from %.10g to %.10g", o->name, text, o->min, o->max);
}

static int store(const Runner *r, const Opt *o, const char *text) {
  char *end;
  errno = 0;
  switch (o->kind) {
  case OPT_text: *(const char **)o->value = text; return -1;
  case OPT_int: {
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X'); /* 010 is ten */
    long long x = strtoll(text, &end, hex ? 16 : 10);
    if (end == text || *end)
      return cli_misuse(r, "%s expects a whole number, not '%s'", o->name, text);
    if (errno || !in_range(o, (double)x)) {
      if (errno) return cli_misuse(r, "%s %s: the number is too large", o->name, text);
      return bad_range(r, o, text);
    }
    *(int64_t *)o->value = x;
    return -1;
  }
  default: {
    double x = strtod(text, &end);
    if (end == text || *end || !isfinite(x))
      return cli_misuse(r, "%s expects a number, not '%s'", o->name, text);
    if (!in_range(o, x)) return bad_range(r, o, text);
    *(double *)o->value = x;
    return -1;
  }
  }
}

static void collect(Arena *a, TextList *list, const char *text) {
  ARENA_PUSH(a, list->item, list->n, text);
}

static bool is_option(const char *arg) { return arg[0] == '-' && arg[1] == '-' && arg[2]; }

/* One option at argv[i], with what it takes; *next is the first argument after it. */
static int parse_option(const Runner *r, const Opt *o, int argc, char **argv, int i, int *next) {
  const char *value = strchr(argv[i], '=');
  *next = i + 1;
  if (o->kind == OPT_flag) {
    if (value) return cli_misuse(r, "%s takes no value", o->name);
    *(bool *)o->value = true;
    return -1;
  }
  if (value) {
    if (o->kind != OPT_list) return store(r, o, value + 1);
    collect(r->arena, o->value, value + 1);
    return -1;
  }
  if (i + 1 >= argc || is_option(argv[i + 1]))
    return cli_misuse(r, "%s expects %s%s%s%s", o->name, o->arg, i + 1 < argc ? "; to pass " : "",
                      i + 1 < argc ? argv[i + 1] : "",
                      i + 1 < argc ? " itself, join them with =" : "");
  if (o->kind != OPT_list) {
    *next = i + 2;
    return store(r, o, argv[i + 1]);
  }
  for (; *next < argc && !is_option(argv[*next]) && strcmp(argv[*next], "--") != 0; ++*next)
    collect(r->arena, o->value, argv[*next]);
  return -1;
}

static bool help_wanted(int argc, char **argv) {
  for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
  return false;
}

int cli_parse(Runner *r, const Usage *u, const Opt *own, int n_own, int argc, char **argv,
              TextList *args) {
  static bool help; /* handled before the table is read; listed so that --help shows it */
  int64_t device = r->device;
  const Opt common[] = {
    {"--device", OPT_int, &device, "N",
     "the device to run on, as 'devices' numbers them (default: the best)", 0, 1000},
    {"--target", OPT_text, &r->target_name, "NAME",
     "the target to run, of those that the model was compiled for and that\n"
     "'info' lists (default: the best that the device can run)",
     0, 0},
    {"--memory", OPT_float, &r->memory, "GIB",
     "uses at most so much of the device's memory (default: all)", 1e-6, 1e9},
    {"--json", OPT_flag, &r->json, NULL, "results as JSON on standard output", 0, 0},
    {"--help", OPT_flag, &help, NULL, "this text", 0, 0},
  };
  Opt opt[MAX_OPTIONS];
  if (n_own + COUNT_OF(common) > MAX_OPTIONS) die("%s has %d options", r->command, n_own);
  for (int i = 0; i < n_own; i++) opt[i] = own[i];
  for (int i = 0; i < COUNT_OF(common); i++) opt[n_own + i] = common[i];
  int n_opt = n_own + COUNT_OF(common);

  if (help_wanted(argc, argv)) {
    print_help(r, u, opt, n_opt);
    return EXIT_ok;
  }
  TextList found = {0};
  bool only_args = false;
  for (int i = 1; i < argc;) {
    if (!only_args && strcmp(argv[i], "--") == 0) {
      only_args = true, i++;
      continue;
    }
    if (only_args || argv[i][0] != '-' || !argv[i][1]) {
      collect(r->arena, &found, argv[i++]);
      continue;
    }
    const Opt *o = find(opt, n_opt, argv[i], strcspn(argv[i], "="));
    if (!o) return unknown(r, opt, n_opt, argv[i]);
    int status = parse_option(r, o, argc, argv, i, &i);
    if (status >= 0) return status;
  }
  if (found.n > u->max_args)
    return cli_misuse(r, "unexpected argument '%s'", found.item[u->max_args]);
  if (found.n < u->min_args)
    return cli_misuse(r, "expected: %s %s %s", r->program, r->command, u->args);
  if (args) *args = found;
  r->device = (int)device;
  return -1;
}

bool cli_given(int argc, char **argv, const char *name) {
  size_t n = strlen(name);
  for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
    if (strncmp(argv[i], name, n) == 0 && (argv[i][n] == 0 || argv[i][n] == '=')) return true;
  return false;
}
