/* driver: graphs → image. One Compiler makes one image; programs are added one after the other. */
#ifndef DRIVER_COMPILE_H
#define DRIVER_COMPILE_H

#include "codegen/target.h"
#include "image/image.h"
#include "ir/ir.h"

typedef struct CompileOptions {
  const Target *target;
  Buf *plan;   /* plans as text are appended; may be NULL */
  Buf *dot;    /* drawings of them likewise */
  FILE *times; /* what the steps take; may be NULL */
  const char
    *spirv_dir; /* every distinct kernel is written there as .spv and .spvasm; may be NULL */
  void (*progress)(void *arg, const char *program, int done,
                   int total); /* kernels of a program; may be NULL */
  void *progress_arg;
} CompileOptions;

typedef struct Compiler Compiler;
Compiler *compile_new(const CompileOptions *);
void compile_free(Compiler *); /* and the image that it made */
/* A parameter of the model, whether or not a program mentions it. false with `why` for one larger
 * than a chunk of memory. */
bool compile_param(Compiler *, const char *name, const Type *, bool trainable, bool decay,
                   const char *init, Buf *why);
/* Plans a verified graph and generates its kernels; the program is named as the graph. */
bool compile_program(Compiler *, const Graph *, Buf *why);
/* The image, which lives as long as the compiler. */
const Image *compile_image(Compiler *, const char *model, const char *config_json);

#endif
