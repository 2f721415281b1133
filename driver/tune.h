/* tune: one kernel on the device, alone, in its forms. */
#ifndef DRIVER_TUNE_H
#define DRIVER_TUNE_H

#include "codegen/plan.h"
#include "runtime/vk/vk.h"

typedef struct TuneJob TuneJob;
enum {
  TUNE_FAR = 3
}; /* a form that is expected to take more than so many times as long as the first */
/* The job in its n forms; threads begin to compile them, but for those that are TUNE_FAR. It takes the device's memory
 * when its first form runs. NULL with `why` where it does not fit there. */
TuneJob *tune_begin(Device *, const Target *, const KernelJob *, const KernelForm *, int n,
                    Buf *why);
void tune_prepare(TuneJob *, int form); /* has it compiled, where it is not */
void tune_end(TuneJob *);

typedef struct TuneResult {
  double us;  /* the median of its times */
  bool right; /* it gives what the first form measured gives */
} TuneResult;
/* Runs a form, on operands with made-up values. It is measured only as long as it takes to see that it is slower than
 * `best_us` (0: to the end). False with `why` where the device would not run it. */
bool tune_form(TuneJob *, int form, double best_us, TuneResult *, Buf *why);

#endif
