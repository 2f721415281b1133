/* Finding by name. */
#include "image/image.h"

#include <string.h>

const char *image_type_name(uint32_t dtype) {
  static const char *const name[] = {"bool", "i32", "f16", "bf16", "f32"};
  return dtype < COUNT_OF(name) ? name[dtype] : "?";
}

const ImgProgram *image_program(const Image *m, const char *name) {
  for (uint32_t i = 0; i < m->n_program; i++)
    if (strcmp(m->program[i].name, name) == 0) return &m->program[i];
  return NULL;
}

static const ImgTensor *find(const ImgTensor *t, uint32_t n, const char *name) {
  for (uint32_t i = 0; i < n; i++)
    if (strcmp(t[i].name, name) == 0) return &t[i];
  return NULL;
}

const ImgTensor *image_input(const ImgProgram *p, const char *name) {
  return find(p->input, p->n_input, name);
}
const ImgTensor *image_output(const ImgProgram *p, const char *name) {
  return find(p->output, p->n_output, name);
}
