/* One kernel on the device, in a memory of its own that is poisoned around and below every tensor,
 * against the evaluator. */
#ifndef TESTS_CODEGEN_BENCH_H
#define TESTS_CODEGEN_BENCH_H

#include "codegen/plan.h"
#include "runtime/vk/vk.h"

typedef struct Bench {
  Device *device;
  Target native;
  bool
    foreign; /* kernels for targets with other subgroups run where they use none; else they are only validated */
  int kernels, wrong;
  int form; /* of its kernel, of those there are, that check_job runs; 0: the one that is chosen */
  int part, parts, next; /* see bench_takes */
  int
    sample; /* of cases for GPUs every so-manieth is taken: a CPU's driver may take seconds for each kernel with barriers */
  bool as_gpu; /* the target at hand is the CPU taken for a GPU */
  struct Seen
    *seen; /* kernels that were run, and what was expected: the same again is the same (check.c) */
  int n_seen;
  Arena *arena;
} Bench;

bool bench_open(Bench *, Buf *why);
void bench_close(Bench *);

/* Runs a kernel on operand values (dense, in double) and gives each result's, as many. Result
 * i lies in a place of its own, or over operand over[i] (`over` and its entries may be NULL).
 * Everything else in memory must be as before: false with the reason in `why`. */
bool bench_run(Bench *, Arena *, const Target *, const KernelJob *, const KernelCode *,
               const double *(*value)(const Node *, void *), void *, Node *const *over,
               double *const *result, Buf *why);

/* Whether the next case is one of this process: every parts-th is, of those there are samples of. The cases are numbered anew for
 * each target, so that those which are the same for several fall to one process. */
bool bench_takes(Bench *);

/* main of a test of kernels: `cases` for the portable target, the device's own, a GPU with
 * subgroups of 32, whose modules are only validated where the device has others, and the portable one
 * with 16-bit storage where the device has it. A CPU driver's device is taken for a GPU as well: by samples, since drivers
 * may take many seconds for a kernel with barriers. A first argument is taken away: PART/PARTS, or gpu, where this is all that is done,
 * and with every case. Exit status. */
typedef void BenchCases(Bench *, const Target *, int argc, char **argv);
int bench_main(BenchCases *, int argc, char **argv);

#endif
