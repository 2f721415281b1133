/* runtime: the runner. What its commands share: the image in use, the device, options, errors.
 * Knows no operation. A command is `int cmd_NAME(Runner *, int argc, char **argv)`; argv[0] is the
 * command's name; it returns EXIT_ok, EXIT_failed or EXIT_usage. main checks after it that standard
 * output could be written. */
#ifndef RUNTIME_RUNTIME_H
#define RUNTIME_RUNTIME_H

#include "image/image.h"
#include "runtime/vk/vk.h"

enum { EXIT_ok = 0, EXIT_failed = 1, EXIT_usage = 2 };

typedef struct Runner {
  const char *program; /* as the user typed it */
  const char *command; /* being run */
  const Image *target; /* the model's targets, the one to prefer first */
  uint32_t n_target;
  const char *target_name; /* --target; NULL: what suits the device */
  const Image *image;      /* one of them; never NULL in a command that has `needs_image` */
  int device;              /* --device: −1 for the best */
  double memory;           /* --memory: GiB of the device that may be used; 0: all */
  bool json;               /* --json */
  bool times;              /* each dispatch is measured; set before runner_exec */
  Arena *arena;            /* lives as long as the process */
  Device *dev;             /* set by runner_exec */
  Exec *exec;
} Runner;

/* ---- cli.c: options ---- */
typedef enum OptKind {
  OPT_flag,  /* bool *value; takes no argument */
  OPT_text,  /* const char **value */
  OPT_int,   /* int64_t *value, within min … max unless both are 0 */
  OPT_float, /* double *value, within min … max unless both are 0 */
  OPT_list   /* TextList *value: one or more, up to the next that starts with --; may be repeated */
} OptKind;

typedef struct TextList {
  const char **item;
  int n;
} TextList;

typedef struct Opt {
  const char *name; /* "--steps" */
  OptKind kind;
  void *value;      /* holds the default beforehand */
  const char *arg;  /* how --help calls its argument: "N", "FILE"; NULL for a flag */
  const char *help; /* one line or more, the default included where it is not obvious */
  double min, max;
} Opt;

typedef struct Usage {    /* what --help prints around the table of options */
  const char *args;       /* what follows the command's name: "ENTRY --outputs FILE [options]" */
  const char *about;      /* what it does: whole sentences */
  const char *example;    /* lines; in each, $0 becomes the program's name */
  int min_args, max_args; /* arguments that are not options */
} Usage;

/* Reads argv by the table `opt` (and --device N, --target NAME, --json, --help, which every command has).
 * Arguments that are not options are collected in `args`, which may be NULL where max_args is 0.
 * Returns −1 to go on; else the exit status to return at once (help was printed, or the mistake
 * was). An option given twice: the last counts. */
int cli_parse(Runner *, const Usage *, const Opt *opt, int n_opt, int argc, char **argv,
              TextList *args);
/* Was the option given? (For "these two exclude each other" and defaults that depend on others.) */
bool cli_given(int argc, char **argv, const char *name);
/* "gpt2 train: error: …" to stderr; EXIT_failed. cli_misuse adds a hint at --help; EXIT_usage. */
int cli_error(const Runner *, const char *fmt, ...) PRINTF_LIKE(2, 3);
int cli_misuse(const Runner *, const char *fmt, ...) PRINTF_LIKE(2, 3);
void cli_bytes(Buf *, double bytes);                /* "1.5 GiB" */
void cli_amount(Buf *, double n, const char *unit); /* "3.2 GFLOP": factors of 1000 */

/* ---- room.c ---- */
typedef struct Room {              /* device memory, in bytes */
  uint64_t bytes[IMG_SCRATCH + 1]; /* by ImgClass */
  uint64_t total, largest;         /* of all, in one piece */
} Room;
/* What the programs need together; NULL ones need nothing. */
Room room_of(const Image *, const ImgProgram *const *, int n);
uint64_t room_limit(const Runner *, const DeviceInfo *); /* bytes that may be used */
/* False with the numbers and what would make them fit. */
bool room_fits(const Runner *, const DeviceInfo *, const ImgProgram *const *, int n, Buf *why);

/* ---- choose.c ---- */
/* Sets r->image to the target that --target names, or that suits the device best, which is opened where
 * there are several. False after printing why there is none. */
bool runner_choose(Runner *);
/* The same by the device alone; false with `why`, and the image stays what it was. */
bool runner_suits(Runner *, Buf *why);

/* ---- runner.c ---- */
/* Opens the device and puts the image on it (once; later calls return the same), showing on a
 * terminal the kernels being compiled; `program`: all that will run, NULL ones apart, which must
 * fit on the device together. NULL after printing why: return EXIT_failed then. */
Exec *runner_exec(Runner *, const ImgProgram *const *program, int n);
/* The program, or NULL after printing which programs the image has and, in `purpose`, what it was
 * needed for. */
const ImgProgram *runner_program(Runner *, const char *name, const char *purpose);
/* Gives all params and states their initial values: runs program init with this seed. False with
 * `why`. */
bool runner_init(Exec *, const Image *, uint64_t seed, Buf *why);
/* The programs' input `rng`. */
void rng_fill(int32_t rng[4], uint64_t seed, int64_t data_step, int micro);

/* ---- one file each ---- */
int cmd_info(Runner *, int argc, char **argv);
int cmd_train(Runner *, int argc, char **argv);
int cmd_eval(Runner *, int argc, char **argv);
int cmd_generate(Runner *, int argc, char **argv);
int cmd_run(Runner *, int argc, char **argv);
int cmd_bench(Runner *, int argc, char **argv);
int cmd_tokenizer(Runner *, int argc, char **argv);
int cmd_devices(Runner *, int argc, char **argv);

#endif
