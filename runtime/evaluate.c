/* Full batches go through program eval, what is left over through eval_row; up to EXEC_RING runs
 * are under way at once. */
#include "runtime/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Under { /* a run under way */
  uint64_t ticket;
  const ImgProgram *program;
  int64_t rows;
} Under;

typedef struct Evaluation {
  Exec *exec;
  const Data *data;
  void **input; /* large enough for eval */
  void **output;
  uint32_t n_input, n_output;
  Under under[EXEC_RING];
  int n_under;
  double sum, count;
  bool has_count;
} Evaluation;

/* Values of one run's loss: a sum over a count where the model says so, else a mean over rows. */
static bool collect(Evaluation *e, Buf *why) {
  Under u = e->under[0];
  memmove(e->under, e->under + 1, (size_t)--e->n_under * sizeof u);
  float loss = 0, sum = 0, count = 0;
  for (uint32_t i = 0; i < u.program->n_output; i++) {
    const char *name = u.program->output[i].name;
    e->output[i] = strcmp(name, "loss") == 0         ? &loss
                   : strcmp(name, "loss_sum") == 0   ? &sum
                   : strcmp(name, "loss_count") == 0 ? &count
                                                     : NULL;
  }
  if (!exec_wait(e->exec, u.ticket, e->output, why)) return false;
  e->has_count = image_output(u.program, "loss_sum") && image_output(u.program, "loss_count");
  e->sum += e->has_count ? (double)sum : (double)loss * (double)u.rows;
  e->count += e->has_count ? (double)count : (double)u.rows;
  return true;
}

static bool submit(Evaluation *e, const ImgProgram *p, int64_t first, int64_t rows, Buf *why) {
  if (e->n_under == EXEC_RING && !collect(e, why)) return false;
  if (!data_rows(e->data, first, rows, e->input, why)) return false;
  uint64_t ticket;
  if (!exec_submit(e->exec, p, (const void *const *)e->input, &ticket, why)) return false;
  e->under[e->n_under++] = (Under){ticket, p, rows};
  return true;
}

static bool all_rows(Evaluation *e, const ImgProgram *batch, const ImgProgram *single, int64_t rows,
                     void (*progress)(void *, int64_t, int64_t), void *arg, Buf *why) {
  int64_t size = data_batch_size(e->data);
  for (int64_t at = 0; at < rows;) {
    int64_t n = rows - at < size ? 1 : size;
    if (!submit(e, n == size ? batch : single, at, n, why)) return false;
    at += n;
    if (progress) progress(arg, at, rows);
  }
  while (e->n_under)
    if (!collect(e, why)) return false;
  return true;
}

bool evaluate(Exec *exec, const Image *image, const Data *data, int64_t max_batches,
              void (*progress)(void *, int64_t rows, int64_t of), void *arg, EvalResult *out,
              Buf *why) {
  const ImgProgram *batch = image_program(image, "eval"),
                   *single = image_program(image, "eval_row");
  int64_t size = data_batch_size(data), rows = data_row_count(data);
  if (max_batches && rows / size >= max_batches) rows = max_batches * size;
  if (!batch || (!single && rows % size)) {
    buf_printf(why, "model %s has no program '%s'", image->model, batch ? "eval_row" : "eval");
    return false;
  }
  Evaluation e = {
    .exec = exec, .data = data, .n_input = batch->n_input, .n_output = batch->n_output};
  if (single && single->n_output > e.n_output) e.n_output = single->n_output;
  e.input = xcalloc(e.n_input, sizeof *e.input);
  e.output = xcalloc(e.n_output, sizeof *e.output);
  for (uint32_t i = 0; i < e.n_input; i++)
    e.input[i] = xcalloc(1, image_host_bytes(&batch->input[i]));
  bool ok = all_rows(&e, batch, single, rows, progress, arg, why);
  for (uint32_t i = 0; i < e.n_input; i++) free(e.input[i]);
  free(e.input);
  free(e.output);
  if (!ok) return false;
  int64_t tokens = rows * data_row_tokens(data);
  double loss = e.sum / e.count;
  if (isnan(loss)) loss = NAN; /* without a sign, which printf would show */
  *out = (EvalResult){loss, tokens, e.has_count ? e.count : (double)tokens, rows};
  return true;
}
