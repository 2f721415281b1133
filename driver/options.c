/* Options of the commands that take a model: one table for parsing and --help. */
#include "driver/driver.h"

#include <stdlib.h>
#include <string.h>

typedef enum Kind {
  FLAG_help,
  FLAG_version,
  FLAG_time,
  FLAG_strict,
  FLAG_no_tuning,
  ARG_text,
  ARG_list,
  ARG_device,
  ARG_emit,
  ARG_precision
} Kind;

enum { MAKE = 1 << COMMAND_make, CHECK = 1 << COMMAND_check, TUNE = 1 << COMMAND_tune };
enum { ALL = MAKE | CHECK | TUNE };

typedef struct Option {
  const char *name, *arg;
  Kind kind;
  int of;       /* the commands that take it */
  size_t field; /* of Options, for text and lists */
  const char *help;
} Option;

#define FIELD(f) offsetof(Options, f)
static const Option table[] = {
  {"-o", "FILE", ARG_text, MAKE, FIELD(output),
   "where the result goes (a runner: the model's file name without .alpha)"},
  {"-o", "FILE", ARG_text, TUNE, FIELD(output),
   "a profile to keep the results in, instead of the user's cache; --target FILE reads it"},
  {"-D", "KEY=VALUE", ARG_list, ALL, FIELD(define),
   "overrides config or train: -D layers=4 -D train.batch=2"},
  {"--target", "T,...", ARG_text, MAKE, FIELD(target),
   "native: for this machine's device (default); portable: for any Vulkan 1.2 device;\n"
   "nvidia-h100; or a file that `alphac devices --json` wrote. Of several the runner takes\n"
   "the best that its device can run"},
  {"--target", "T", ARG_text, CHECK, FIELD(target),
   "the kernels that would be made for it: native (default), portable, nvidia-h100, or a\n"
   "file that `alphac devices --json` wrote; the device must be able to run them"},
  {"--device", "N", ARG_device, MAKE, 0,
   "the device that native means, as numbered by `alphac devices`"},
  {"--device", "N", ARG_device, CHECK | TUNE, 0,
   "the device to run on, as numbered by `alphac devices` (the best)"},
  {"--no-tuning", NULL, FLAG_no_tuning, MAKE | CHECK, 0,
   "leaves out what `alphac tune` measured on the device"},
  {"--entry", "NAME", ARG_list, ALL, FIELD(entry),
   "also compiles this function of the model; may be repeated"},
  {"--program", "NAME", ARG_list, MAKE, FIELD(program),
   "compiles or emits only this program; may be repeated"},
  {"--program", "NAME", ARG_list, CHECK | TUNE, FIELD(program),
   "only this program; may be repeated"},
  {"--precision", "P", ARG_precision, ALL, 0, "f32, bf16 or f16: the same as -D train.precision=P"},
  {"--emit", "WHAT", ARG_emit, MAKE, FIELD(emit_name),
   "instead of a runner: ast, ir, plan (text, to standard output or -o), dot, dot-kernels\n"
   "(for Graphviz: the graph by modules; the plan by kernels), spirv (one .spv and .spvasm\n"
   "a kernel, into the folder -o), image (without the runner)"},
  {"--dump-after", "PASS", ARG_text, ALL, FIELD(pass.dump_after),
   "prints the graph after this pass, or after all"},
  {"--skip-pass", "PASS", ARG_text, ALL, FIELD(pass.skip), "leaves this pass out"},
  {"--time-passes", NULL, FLAG_time, ALL, 0,
   "prints how long each pass takes, and how often each rule was used"},
  {"--strict", NULL, FLAG_strict, ALL, 0,
   "only rewrites that keep every bit; without it, sums may be rounded in another order"},
  {"--help", NULL, FLAG_help, ALL, 0, "this text"},
  {"--version", NULL, FLAG_version, MAKE, 0, "prints the version"},
};

static const struct {
  const char *name, *about, *examples;
} help[] = {
  [COMMAND_make] =
    {"alphac",
     "alphac compiles a transformer written in the .alpha language into a program that trains\n"
     "it and generates from it on any Vulkan device.\n\n"
     "  alphac MODEL.alpha [-o FILE] [options]    makes the runner\n"
     "  alphac check MODEL.alpha [options]        tests every kernel on the device\n"
     "  alphac tune MODEL.alpha [options]         measures the forms of its kernels on the "
     "device,\n"
     "                                            for later compilations\n"
     "  alphac opt --passes=LIST FILE.ir          runs passes on a graph's text\n"
     "  alphac eval FILE.ir                       computes a graph with the reference evaluator\n"
     "  alphac devices [--json]                   lists the devices of this machine; a profile\n\n"
     "`alphac COMMAND --help` explains a command and its options.",
     "  alphac models/gpt2.alpha -D layers=4 -D width=128 -D heads=4 -D context=64 -o small\n"
     "  ./small train --data text.txt --steps 1000 --out run\n"
     "  ./small generate --weights run --prompt \"Once\"\n"
     "  alphac models/gpt2.alpha --emit=ir --program train"},
  [COMMAND_check] =
    {"alphac check",
     "alphac check MODEL.alpha [options]\n\n"
     "Tests every kernel of the model's programs on the device. Each program runs once on made-up\n"
     "values; then each kernel's results are compared with the reference evaluator, in f64, on "
     "the\n"
     "values that the kernel had read, so that a wrong kernel is named and not those after it. A\n"
     "line for each program tells its kernels, how many are wrong, and the largest error in units\n"
     "of what is allowed. The exit status is 1 where one is wrong. The evaluator is slow: make "
     "the\n"
     "model small with -D.",
     "  alphac check models/gpt2.alpha -D vocab=48 -D context=16 -D width=32 -D layers=1 -D "
     "heads=4\n"
     "  alphac check models/gpt2.alpha -D layers=1 -D context=16 --program eval --target portable"},
  [COMMAND_tune] =
    {"alphac tune",
     "alphac tune MODEL.alpha [options]\n\n"
     "Measures on the device those kernels of the model that have several forms, as the tiles of "
     "a\n"
     "product, with the sizes that the model has there. Later compilations for this device take "
     "the\n"
     "fastest of each (--no-tuning leaves them out). Kernels with the most work come first, and "
     "what\n"
     "was found is kept after each, so that it may be stopped at any time. A form that computes\n"
     "other values than the first is reported as wrong, and the exit status is 1.",
     "  alphac tune models/gpt2.alpha -D train.batch=16\n"
     "  alphac models/gpt2.alpha -D train.batch=16 -o gpt2       takes what was measured\n"
     "  alphac tune models/gpt2.alpha -o mine.json               for compilations elsewhere:\n"
     "  alphac models/gpt2.alpha --target mine.json -o gpt2"},
};

static const char *const emit_names[] = {"runner", "ast", "ir",          "plan",
                                         "spirv",  "dot", "dot-kernels", "image"};

int usage_error(const Options *o, const char *fmt, ...) {
  const char *name = help[o->command].name;
  va_list args;
  va_start(args, fmt);
  fprintf(stderr, "%s: error: ", name);
  vfprintf(stderr, fmt, args);
  fprintf(stderr, "\n`%s --help` lists the options.\n", name);
  va_end(args);
  return EXIT_usage;
}

int failed(const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  fputs("alphac: error: ", stderr);
  vfprintf(stderr, fmt, args);
  fputs("\n", stderr);
  va_end(args);
  return EXIT_failed;
}

static bool takes(const Options *o, const Option *option) { return option->of & 1 << o->command; }

static void print_help(const Options *of) {
  printf("%s\n\nOptions:\n", help[of->command].about);
  for (int i = 0; i < COUNT_OF(table); i++) {
    const Option *o = &table[i];
    if (!takes(of, o)) continue;
    int n = printf("  %s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
    for (const char *s = o->help; *s;) {
      const char *end = strchr(s, '\n');
      int len = end ? (int)(end - s) : (int)strlen(s);
      printf("%*s%.*s\n", 22 - n, "", len, s);
      n = 0;
      s += len + (end != NULL);
    }
  }
  printf("\nExamples:\n%s\n", help[of->command].examples);
}

/* That of the command, else that of another one. */
static const Option *find_option(const Options *o, const char *name, size_t len) {
  const Option *other = NULL;
  for (int i = 0; i < COUNT_OF(table); i++) {
    if (strlen(table[i].name) != len || strncmp(table[i].name, name, len) != 0) continue;
    if (takes(o, &table[i])) return &table[i];
    other = &table[i];
  }
  return other;
}

static int unknown_option(const Options *o, const char *arg) {
  const char *name[COUNT_OF(table)];
  int n = 0;
  for (int i = 0; i < COUNT_OF(table); i++)
    if (takes(o, &table[i])) name[n++] = table[i].name;
  const char *word = arena_str(o->arena, arg, strcspn(arg, "="));
  const char *near = arg[1] == '-' ? suggest(word, name, n) : NULL;
  return near ? usage_error(o, "unknown option %s; did you mean %s?", word, near)
              : usage_error(o, "unknown option %s", word);
}

static void push(Options *o, TextList *list, const char *text) {
  ARENA_PUSH(o->arena, list->item, list->n, text);
}

static int set_emit(Options *o, const char *value) {
  for (int i = 0; i < COUNT_OF(emit_names); i++)
    if (strcmp(emit_names[i], value) == 0)
      return o->emit = (Emit)i, o->emit_name = emit_names[i], -1;
  const char *near = suggest(value, emit_names, COUNT_OF(emit_names));
  return usage_error(o, "--emit %s: expected ast, ir, dot, dot-kernels, plan, spirv or image%s%s%s",
                     value, near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
}

bool device_number(const char *text, int64_t *number) {
  char *end;
  *number = strtol(text, &end, 10);
  return *text && !*end && *number >= 0 && *number < 1000;
}

static int set_value(Options *o, const Option *option, const char *value) {
  void *field = (char *)o + option->field;
  switch (option->kind) {
  case ARG_text: *(const char **)field = value; return -1;
  case ARG_list: push(o, field, value); return -1;
  case ARG_emit: return set_emit(o, value);
  case ARG_precision:
    push(o, &o->define, arena_printf(o->arena, "train.precision=%s", value));
    return -1;
  case ARG_device:
    if (device_number(value, &o->device)) return -1;
    return usage_error(o, "--device %s: expected a number from `alphac devices`", value);
  default: die("option %s", option->name);
  }
}

static int set_flag(Options *o, const Option *option) {
  switch (option->kind) {
  case FLAG_help: print_help(o); return EXIT_ok;
  case FLAG_version: puts("alphac " ALPHAC_VERSION); return EXIT_ok;
  case FLAG_no_tuning: o->no_tuning = true; return -1;
  case FLAG_strict: o->pass.strict = true; return -1;
  default: o->pass.time = true; return -1;
  }
}

/* One option at argv[*i], with its argument in the same word (--emit=ir, -Dk=v) or the next. */
static int parse_option(Options *o, int argc, char **argv, int *i) {
  const char *arg = argv[*i];
  bool is_short = arg[1] != '-';
  size_t len = is_short ? 2 : strcspn(arg, "=");
  const Option *option = find_option(o, arg, len);
  if (!option) return unknown_option(o, arg);
  if (!takes(o, option))
    return usage_error(o, "%s has no option %s", help[o->command].name, option->name);
  const char *value = arg[len] == '=' ? arg + len + 1 : arg[len] ? arg + len : NULL;
  if (!option->arg)
    return value ? usage_error(o, "%s takes no argument", option->name) : set_flag(o, option);
  if (!value && ++*i < argc) value = argv[*i];
  if (!value || !*value)
    return usage_error(o, "%s needs an argument: %s %s", option->name, option->name, option->arg);
  return set_value(o, option, value);
}

int options_parse(Options *o, int argc, char **argv) {
  o->device = -1;
  o->emit_name = emit_names[EMIT_runner];
  o->pass.out = stderr;
  for (int i = 1; i < argc; i++) {
    if (argv[i][0] == '-' && argv[i][1]) {
      int status = parse_option(o, argc, argv, &i);
      if (status >= 0) return status;
    } else if (o->model) {
      return usage_error(o, "two models: %s and %s; %s takes one", o->model, argv[i],
                         help[o->command].name);
    } else {
      o->model = argv[i];
    }
  }
  return o->model ? -1
                  : usage_error(o, "no model given: %s MODEL.alpha%s", help[o->command].name,
                                o->command == COMMAND_make ? " [-o FILE]" : "");
}
