/* Do two images hold one model, compiled for different targets? */
#include "image/image.h"

#include <string.h>

static bool differ(const Image *a, const Image *b, const char *what, const char *name, Buf *why) {
  buf_printf(why, "targets %s and %s differ in %s%s%s", a->target.name, b->target.name, what,
             *name ? " " : "", name);
  return false;
}

/* All but the place. */
static bool same_tensor(const ImgTensor *a, const ImgTensor *b) {
  return strcmp(a->name, b->name) == 0 && a->dtype == b->dtype && a->rank == b->rank &&
         memcmp(a->dim, b->dim, sizeof a->dim) == 0;
}

static bool same_tensors(const ImgTensor *a, const ImgTensor *b, uint32_t n) {
  for (uint32_t i = 0; i < n; i++)
    if (!same_tensor(&a[i], &b[i])) return false;
  return true;
}

static bool same_program(const ImgProgram *a, const ImgProgram *b) {
  return strcmp(a->name, b->name) == 0 && a->n_input == b->n_input && a->n_output == b->n_output &&
         same_tensors(a->input, b->input, a->n_input) &&
         same_tensors(a->output, b->output, a->n_output);
}

static bool same_param(const ImgParam *a, const ImgParam *b) {
  return same_tensor(&a->t, &b->t) && a->trainable == b->trainable && a->decay == b->decay &&
         strcmp(a->init, b->init) == 0;
}

bool image_agree(const Image *a, const Image *b, Buf *why) {
  if (strcmp(a->model, b->model) != 0 || strcmp(a->config, b->config) != 0)
    return differ(a, b, "their model", "", why);
  if (a->n_param != b->n_param) return differ(a, b, "how many parameters they have", "", why);
  for (uint32_t i = 0; i < a->n_param; i++)
    if (!same_param(&a->param[i], &b->param[i]))
      return differ(a, b, "parameter", a->param[i].t.name, why);
  if (a->n_state != b->n_state) return differ(a, b, "how many states they have", "", why);
  for (uint32_t i = 0; i < a->n_state; i++)
    if (!same_tensor(&a->state[i].t, &b->state[i].t) ||
        a->state[i].transient != b->state[i].transient)
      return differ(a, b, "state", a->state[i].t.name, why);
  if (a->n_program != b->n_program) return differ(a, b, "how many programs they have", "", why);
  for (uint32_t i = 0; i < a->n_program; i++)
    if (!same_program(&a->program[i], &b->program[i]))
      return differ(a, b, "program", a->program[i].name, why);
  return true;
}
