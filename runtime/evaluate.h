/* evaluate: the loss over all rows of data, each read once. */
#ifndef RUNTIME_EVALUATE_H
#define RUNTIME_EVALUATE_H

#include "runtime/data.h"
#include "runtime/vk/vk.h"

typedef struct EvalResult {
  double loss;    /* mean per target that the loss counts */
  int64_t tokens; /* targets read */
  /* targets counted: those that are not ignored; as many as rows · context where the model does not
   * say */
  double counted;
  int64_t rows;
} EvalResult;

/* `data` was opened for program eval. At most max_batches batches (0: all). `progress`
 * may be NULL. */
bool evaluate(Exec *, const Image *, const Data *data, int64_t max_batches,
              void (*progress)(void *, int64_t rows, int64_t of), void *arg, EvalResult *out,
              Buf *why);

#endif
