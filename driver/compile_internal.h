/* What the files that make an image share. */
#ifndef DRIVER_COMPILE_INTERNAL_H
#define DRIVER_COMPILE_INTERNAL_H

#include "codegen/plan.h"
#include "driver/compile.h"
#include "driver/validate.h"
#include "passes/plan.h"

typedef struct ParamFlags {
  const char *name; /* interned */
  bool trainable, decay;
  const char *init;
} ParamFlags;

typedef struct CompiledKernel { /* by its number in the cache */
  uint64_t hash;
  const KernelCode *code;
  int same;   /* the first kernel with these words */
  int module; /* of the first one: its module, −1 until it is used */
} CompiledKernel;

struct Compiler {
  Arena *arena;
  CompileOptions option;
  Layout *layout;
  Image image;
  ParamFlags *flags;
  int n_flags;
  KernelCache *kernels;
  Validator *validator; /* NULL once it has ended */
  CompiledKernel *kernel;
  int n_kernel, n_module, n_program;
  bool halves; /* a program stores 16-bit elements in 2 bytes */
};

/* ---- dispatch.c ---- */
/* The plan's steps as the program's dispatches. false with `why` where a module cannot be written. */
bool add_dispatches(Compiler *, const Plan *, ImgProgram *, Buf *why);

#endif
