/* driver: alphac's command line. What main's parts share. */
#ifndef DRIVER_DRIVER_H
#define DRIVER_DRIVER_H

#include "codegen/target.h"
#include "frontend/frontend.h"
#include "passes/passes.h"

#define ALPHAC_VERSION "0.1.0"

enum { EXIT_ok = 0, EXIT_failed = 1, EXIT_usage = 2 };

typedef enum Emit {
  EMIT_runner,
  EMIT_ast,
  EMIT_ir,
  EMIT_plan,
  EMIT_spirv,
  EMIT_dot,
  EMIT_kernels,
  EMIT_image
} Emit;

/* The commands that take a model and its options. */
typedef enum ModelCommand { COMMAND_make, COMMAND_check, COMMAND_tune } ModelCommand;

typedef struct TextList {
  const char **item;
  int n;
} TextList;

typedef struct Options {
  Arena *arena;
  ModelCommand command;
  const char *model;  /* path of the .alpha file */
  const char *output; /* -o; NULL: chosen from the model's path */
  TextList define;    /* -D */
  TextList entry;     /* --entry: functions to compile besides the usual programs */
  TextList program;   /* --program: only these; empty: all */
  const char *target; /* --target, as given; NULL: native where there is a device */
  const char *emit_name;
  Emit emit;
  int64_t device;
  bool no_tuning;
  PassOptions pass;
} Options;

/* ---- options.c ---- */
/* −1: go on; else the exit status (help or version was printed, or what is wrong). */
int options_parse(Options *, int argc, char **argv);
bool device_number(const char *text, int64_t *); /* as --device takes it */
int usage_error(const Options *, const char *fmt, ...)
  PRINTF_LIKE(2, 3); /* prints it with a hint at the command's --help; EXIT_usage */
int failed(const char *fmt, ...) PRINTF_LIKE(1, 2); /* prints it; EXIT_failed */

/* ---- main.c ---- */
struct ProgramSet;
void print_errors(const Buf *);
Model *load_model(const Options *, Buf *errors);
bool build_programs(const Options *, Model *, struct ProgramSet *, Buf *errors);

/* ---- check.c ---- */
int check_main(int argc,
               char **argv); /* alphac check: kernels on the device against the evaluator */

/* ---- tune.c ---- */
int tune_main(int argc, char **argv); /* alphac tune: the fastest forms of a model's kernels */

/* ---- targets.c ---- */
enum { MAX_TARGETS = 16 };
typedef struct TargetList {
  Target target[MAX_TARGETS]; /* the one that a runner should prefer first */
  int n;
} TargetList;
/* The targets by name. `note` gets what the user should know about a choice that was made for
 * them. */
bool targets_choose(const Options *, TargetList *, Buf *note, Buf *why);
bool target_choose(const Options *, Target *, Buf *note, Buf *why); /* where one is expected */

/* ---- native.c ---- */
/* That of --device, with what was measured on it, unless --no-tuning asks for none. */
bool target_native(const Options *, Target *, Buf *note, Buf *why);
int devices_main(int argc, char **argv);

/* ---- output.c ---- */
typedef struct Piece {
  const void *data;
  size_t bytes;
} Piece;
/* Writes the pieces one after the other to a file beside `path`, syncs it and renames it: `path` is
 * whole or untouched. */
bool output_write(const char *path, const Piece *, int n, bool executable, Buf *why);
bool output_runner(const char *path, const void *image, size_t bytes,
                   Buf *why); /* the runner followed by the image */

/* ---- dot.c ---- */
void dot_print(Buf *, const Graph *);

/* ---- opt.c ---- */
int opt_main(int argc, char **argv);  /* alphac opt: passes on text */
int eval_main(int argc, char **argv); /* alphac eval: the reference evaluator on text */

#endif
