/* What commands share beside options: the device with the image on it, programs by name, first
 * values. */
#include "runtime/runtime.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LABEL_COLUMNS = 48 };

/* One line on the terminal while kernels are compiled; nothing where standard error is not one. */
static void show_progress(void *arg, int done, int total, const char *what) {
  (void)arg;
  if (!isatty(STDERR_FILENO)) return;
  if (done < total)
    fprintf(stderr, "\r\033[Kcompiling kernels %d/%d %.*s", done + 1, total, LABEL_COLUMNS, what);
  else
    fprintf(stderr, "\r\033[K");
  fflush(stderr);
}

static void show_note(void *arg, const char *text) {
  (void)arg;
  fprintf(stderr, "note: %s\n", text);
}

Exec *runner_exec(Runner *r, const ImgProgram *const *program, int n) {
  if (r->exec) return r->exec;
  Buf why = {0};
  if (!r->dev) r->dev = vk_open(r->device, &why);
  ExecOptions option = {.times = r->times, .progress = show_progress, .note = show_note};
  if (r->dev && room_fits(r, vk_info(r->dev), program, n, &why))
    r->exec = exec_new(r->dev, r->image, &option, &why);
  if (!r->exec) cli_error(r, "%s", why.data);
  for (int i = 0; i < n && r->exec; i++)
    if (program[i]) exec_prepare(r->exec, program[i]);
  buf_free(&why);
  return r->exec;
}

const ImgProgram *runner_program(Runner *r, const char *name, const char *purpose) {
  const Image *m = r->image;
  const ImgProgram *p = image_program(m, name);
  if (p) return p;
  Buf list = {0};
  const char **names = arena_alloc(r->arena, sizeof *names * m->n_program);
  for (uint32_t i = 0; i < m->n_program; i++) {
    names[i] = m->program[i].name;
    buf_printf(&list, "%s%s", i ? ", " : "", names[i]);
  }
  const char *near = suggest(name, names, (int)m->n_program);
  cli_error(r, "%s: model %s has no program '%s'%s%s%s; it has: %s", purpose, m->model, name,
            near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "",
            list.data ? list.data : "none");
  buf_free(&list);
  return NULL;
}

void rng_fill(int32_t rng[4], uint64_t seed, int64_t data_step, int micro) {
  rng[0] = (int32_t)(uint32_t)seed;
  rng[1] = (int32_t)(uint32_t)(seed >> 32);
  rng[2] = (int32_t)(uint32_t)(uint64_t)data_step;
  rng[3] = micro;
}

bool runner_init(Exec *e, const Image *m, uint64_t seed, Buf *why) {
  const ImgProgram *init = image_program(m, "init");
  if (!init) {
    buf_printf(why, "model %s has no program 'init' to give its parameters values; pass --weights",
               m->model);
    return false;
  }
  int32_t rng[4];
  rng_fill(rng, seed, 0, 0);
  if (init->n_input > 1 || (init->n_input && (strcmp(init->input[0].name, "rng") ||
                                              init->input[0].bytes != sizeof rng))) {
    buf_str(why, "program 'init' of the image has inputs other than rng");
    return false;
  }
  const void *input[] = {rng};
  void **output = xcalloc(init->n_output, sizeof *output);
  bool ok = exec_run(e, init, input, output, why);
  free(output);
  return ok;
}
