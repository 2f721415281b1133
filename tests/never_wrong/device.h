/* Programs of cases on the device. */
#ifndef TESTS_NEVER_WRONG_DEVICE_H
#define TESTS_NEVER_WRONG_DEVICE_H

#include "tests/driver/run_graph.h"
#include "tests/never_wrong/never_wrong.h"

typedef struct DeviceJob {
  const Case *c;
  Graph *g;      /* its name and those of its params and states: no other job's of another case */
  Tensor *value; /* result, by output of g */
} DeviceJob;

/* Compiles all jobs into one image and runs them one after the other; values live in `arena`. */
bool device_run(RunDevice *, Arena *, DeviceJob *, int n, Buf *why);

#endif
