/* Options of alphac's commands (opt, eval, devices): --name VALUE or --name=VALUE, flags, one
 * file. */
#ifndef DRIVER_ARGS_H
#define DRIVER_ARGS_H

#include "driver/driver.h"

typedef struct ArgSpec {
  const char *name;  /* "--passes", "-o" */
  const char *value; /* what its value is called in --help; NULL: a flag */
  const char *help;
  const char **text; /* where the value goes; */
  bool *flag;        /* or that it was given; */
  TextList *list;    /* or every value, in order */
} ArgSpec;

typedef struct Command {
  const char *name; /* "opt" */
  const char *usage, *about,
    *more; /* for --help: first line, what it does, what follows the options */
  const ArgSpec *spec;
  int n_spec;
  bool no_file; /* it takes none; else it takes one */
} Command;

/* −1: go on with the file in *file; else the exit status: help was printed, or what is wrong. Lists
 * live in `arena`. */
int args_parse(const Command *, Arena *arena, int argc, char **argv, const char **file);
int args_usage_error(const Command *, const char *fmt, ...)
  PRINTF_LIKE(2, 3); /* prints it; EXIT_usage */
/* The graphs in a file ("-": standard input), parsed and verified: how many; −1: what is wrong was
 * printed. */
int args_graphs(Arena *, const char *file, Graph ***graphs);

#endif
