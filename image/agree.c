/* What holds of whole images: names that things are looked up by differ, and targets of one file hold one
 * model. */
#include "image/image.h"

#include <stdlib.h>
#include <string.h>

/* ---- within one ---- */

static int by_name(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Of n names, the first of which lies at `first` and the others `stride` bytes apart. */
static bool distinct(const char *of, const void *first, size_t stride, uint32_t n, Buf *why) {
  if (n < 2) return true;
  const char **name = xmalloc(n * sizeof *name);
  for (uint32_t i = 0; i < n; i++) memcpy(&name[i], (const char *)first + i * stride, sizeof *name);
  qsort(name, n, sizeof *name, by_name);
  uint32_t twice = 0;
  while (twice + 1 < n && strcmp(name[twice], name[twice + 1]) != 0) twice++;
  bool ok = twice + 1 == n;
  if (!ok) buf_printf(why, "two of its %s are named %s", of, name[twice]);
  free(name);
  return ok;
}

bool image_distinct(const Image *m, Buf *why) {
  bool ok = distinct("programs", &m->program->name, sizeof *m->program, m->n_program, why) &&
            distinct("parameters", &m->param->t.name, sizeof *m->param, m->n_param, why) &&
            distinct("states", &m->state->t.name, sizeof *m->state, m->n_state, why);
  for (uint32_t i = 0; i < m->n_program && ok; i++) {
    const ImgProgram *p = &m->program[i];
    ok = distinct("inputs", &p->input->name, sizeof *p->input, p->n_input, why) &&
         distinct("outputs", &p->output->name, sizeof *p->output, p->n_output, why);
  }
  return ok;
}

/* ---- between two ---- */

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
