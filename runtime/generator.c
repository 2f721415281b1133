/* Rows shorter than a program's t are filled up: causal models do not see what comes later. That is
 * checked, not assumed. */
#include "runtime/generator.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_LENGTHS = 16 };

struct Generator {
  Exec *exec;
  const ImgProgram *program[MAX_LENGTHS]; /* by rising t */
  int64_t t[MAX_LENGTHS], vocab;
  int n;
  int32_t *token; /* the largest t */
  float *logits, *other;
};

int64_t generator_context(const Generator *g) { return g->t[g->n - 1]; }
int64_t generator_vocab(const Generator *g) { return g->vocab; }

static void add_program(Generator *g, const ImgProgram *p) {
  const ImgTensor *in = image_input(p, "tokens"), *out = image_output(p, "logits");
  bool fits = p->n_input == 1 && in && in->dtype == IMG_i32 && in->rank == 2 && in->dim[0] == 1 &&
              out && out->rank == 3 && out->dim[0] == 1 && out->dim[1] == in->dim[1];
  if (!fits || g->n == MAX_LENGTHS) return;
  int at = g->n++;
  for (; at && g->t[at - 1] > in->dim[1]; at--)
    g->t[at] = g->t[at - 1], g->program[at] = g->program[at - 1];
  g->t[at] = in->dim[1];
  g->program[at] = p;
  g->vocab = out->dim[2];
}

Generator *generator_new(Exec *exec, const Image *image, Buf *why) {
  Generator *g = xcalloc(1, sizeof *g);
  g->exec = exec;
  for (uint32_t i = 0; i < image->n_program; i++)
    if (strncmp(image->program[i].name, "forward.", 8) == 0) add_program(g, &image->program[i]);
  if (!g->n) {
    buf_printf(
      why,
      "model %s has no program 'forward.<length>' from tokens int[1, t] to logits [1, t, vocab]",
      image->model);
    free(g);
    return NULL;
  }
  size_t t = (size_t)generator_context(g), logits = t * (size_t)g->vocab;
  g->token = xcalloc(t, sizeof *g->token);
  g->logits = xcalloc(logits, sizeof *g->logits);
  g->other = xcalloc(logits, sizeof *g->other);
  return g;
}

void generator_free(Generator *g) {
  if (!g) return;
  free(g->token);
  free(g->logits);
  free(g->other);
  free(g);
}

static int program_for(const Generator *g, int64_t n) {
  int i = 0;
  while (i < g->n - 1 && g->t[i] < n) i++;
  return i;
}

static bool forward(Generator *g, int i, const int32_t *token, int64_t n, int32_t fill,
                    float *logits, Buf *why) {
  memcpy(g->token, token, (size_t)n * sizeof *token);
  for (int64_t k = n; k < g->t[i]; k++) g->token[k] = fill;
  const ImgProgram *p = g->program[i];
  void **output = xcalloc(p->n_output, sizeof *output);
  for (uint32_t k = 0; k < p->n_output; k++)
    if (strcmp(p->output[k].name, "logits") == 0) output[k] = logits;
  const void *input[] = {g->token};
  bool ok = exec_run(g->exec, p, input, output, why);
  free(output);
  return ok;
}

const float *generator_next(Generator *g, const int32_t *token, int64_t n, Buf *why) {
  int64_t context = generator_context(g);
  if (n > context) token += n - context, n = context;
  if (!forward(g, program_for(g, n), token, n, 0, g->logits, why)) return NULL;
  return g->logits + (n - 1) * g->vocab;
}

bool generator_check(Generator *g, const int32_t *token, int64_t n, Buf *why) {
  int i = program_for(g, n);
  if (n >= g->t[i]) n = g->t[i] - 1; /* at least one place must differ */
  if (n < 1 || g->vocab < 2) return true;
  if (!forward(g, i, token, n, 0, g->logits, why) ||
      !forward(g, i, token, n, (int32_t)(g->vocab - 1), g->other, why))
    return false;
  for (int64_t k = 0; k < n; k++) {
    if (memcmp(g->logits + k * g->vocab, g->other + k * g->vocab,
               (size_t)g->vocab * sizeof(float)) == 0)
      continue;
    buf_printf(why,
               "the model's forward is not causal: the logits at position %lld change with the "
               "tokens after position "
               "%lld, so it cannot continue a text",
               (long long)k, (long long)(n - 1));
    return false;
  }
  return true;
}
