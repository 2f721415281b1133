/* What the benches of kernels have in common. */
#ifndef TESTS_CODEGEN_MEASURE_H
#define TESTS_CODEGEN_MEASURE_H

#include "codegen/plan.h"
#include "driver/device_target.h"

typedef struct Measured {
  const char *what; /* is measured: "product" */
  int n;            /* cases */
  const char *(*name)(int i);
  /* Measures case i in at most that many forms, prints a line; how many forms were wrong. */
  int (*run)(Device *, const Target *, DType, int i, int most);
} Measured;

/* BENCH [f32] [all] [NAME ...]: cases whose name begins with a NAME, or every one; all: in every form. In bf16 where the device's
 * matrix units have it, else f16, or in f32. The program's exit status: 1 where a form was wrong. */
int measure_main(const Measured *, int argc, char **argv);

#endif
