/* alphac: text → graphs → image → runner. The pipeline is compile_model; what may be printed on the
 * way is emit_*. */
#include "driver/driver.h"
#include "driver/compile.h"
#include "driver/programs.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const struct {
  const char *name;
  int (*run)(int argc, char **argv);
} command[] = {{"opt", opt_main},
               {"eval", eval_main},
               {"check", check_main},
               {"tune", tune_main},
               {"devices", devices_main}};

/* The model's file name without folder and .alpha, and with `suffix`. */
static const char *default_output(const Options *o, const char *suffix) {
  const char *slash = strrchr(o->model, '/'), *base = slash ? slash + 1 : o->model;
  size_t len = strlen(base);
  if (len > 6 && strcmp(base + len - 6, ".alpha") == 0)
    len -= 6;
  else if (!*suffix)
    suffix = ".runner";
  return arena_printf(o->arena, "%.*s%s", (int)len, base, suffix);
}

/* A result never takes the place of a text: not the model's, nor that of a file it may import. */
static bool replaces_source(const Options *o, const char *path) {
  size_t n = strlen(path);
  if (same_file(path, o->model))
    failed("-o %s is the model itself", path);
  else if (n > 6 && strcmp(path + n - 6, ".alpha") == 0 && access(path, F_OK) == 0)
    failed("-o %s: there is a source file of that name; results do not replace it", path);
  else
    return false;
  return true;
}

/* Text to -o, or to standard output. */
static int emit_text(const Options *o, const Buf *text) {
  Buf why = {0};
  if (o->output)
    return output_write(o->output, &(Piece){text->data, text->len}, 1, false, &why)
             ? EXIT_ok
             : failed("%s", why.data);
  if (fwrite(text->data, 1, text->len, stdout) != text->len || fflush(stdout) != 0)
    return failed("cannot write to standard output: %s", strerror(errno));
  return EXIT_ok;
}

/* ---- a line on the terminal that says how far a long compilation is ---- */
typedef struct Progress {
  bool on, shown;
  struct timespec last;
  int programs, program; /* how many, and which is being compiled */
  const char *name;
} Progress;

static double seconds_since(const struct timespec *t) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)(now.tv_sec - t->tv_sec) + 1e-9 * (double)(now.tv_nsec - t->tv_nsec);
}

static void progress_show(void *arg, const char *name, int done, int total) {
  Progress *p = arg;
  if (p->name != name) p->program++;
  p->name = name;
  if (!p->on || seconds_since(&p->last) < (p->shown ? 0.1 : 0.5)) return;
  fprintf(stderr, "\r\033[Kcompiling program %d of %d, %s: kernel %d of %d", p->program,
          p->programs, name, done, total);
  p->shown = true;
  clock_gettime(CLOCK_MONOTONIC, &p->last);
}

static void progress_end(Progress *p) {
  if (p->shown) fputs("\r\033[K", stderr);
}

/* ---- the steps ---- */
void print_errors(const Buf *errors) {
  if (errors->len == 0) return;
  if (errors->data[errors->len - 1] == '\n')
    fputs(errors->data, stderr); /* with their places */
  else
    failed("%s", errors->data);
}

Model *load_model(const Options *o, Buf *errors) {
  Override *list = arena_alloc(o->arena, sizeof *list * ((size_t)o->define.n + 1));
  for (int i = 0; i < o->define.n; i++) list[i].text = o->define.item[i];
  return fe_load(o->model, list, o->define.n, errors);
}

bool build_programs(const Options *o, Model *m, ProgramSet *out, Buf *errors) {
  ProgramOptions option = {.entry = o->entry.item,
                           .n_entry = o->entry.n,
                           .only = o->program.item,
                           .n_only = o->program.n,
                           .pass = &o->pass};
  return programs_build(m, &option, out, errors);
}

static int emit_graphs(const Options *o, const ProgramSet *p) {
  Buf text = {0};
  for (int i = 0; i < p->n; i++) {
    if (o->emit == EMIT_dot)
      dot_print(&text, p->graph[i]);
    else
      ir_print(&text, p->graph[i]);
  }
  int status = emit_text(o, &text);
  buf_free(&text);
  return status;
}

static bool compile_all(Compiler *c, Model *m, const ProgramSet *p, Buf *why) {
  const ParamInfo *param;
  int n = fe_params(m, &param);
  for (int i = 0; i < n; i++)
    if (!compile_param(c, param[i].path, &param[i].type, param[i].trainable, param[i].decay,
                       param[i].init, why))
      return false;
  for (int i = 0; i < p->n; i++)
    if (!compile_program(c, p->graph[i], why)) return false;
  return true;
}

static int write_image(const Options *o, const Image *target, int n) {
  Buf bytes = {0}, why = {0};
  const char *path = o->output ? o->output : default_output(o, o->emit == EMIT_image ? ".img" : "");
  if (replaces_source(o, path)) return EXIT_failed;
  if (!image_write(&bytes, target, (uint32_t)n))
    return failed("%s: the image is larger than its format allows", path);
  bool ok = o->emit == EMIT_image
              ? output_write(path, &(Piece){bytes.data, bytes.len}, 1, false, &why)
              : output_runner(path, bytes.data, bytes.len, &why);
  int status = ok ? EXIT_ok : failed("%s", why.data);
  buf_free(&bytes);
  buf_free(&why);
  return status;
}

static int by_name(const void *a, const void *b) {
  return strcmp(((const ImgState *)a)->t.name, ((const ImgState *)b)->t.name);
}

/* Of every target the same states in the same order, as the format asks for: a planner meets them in an
 * order of its own. */
static void check_agreement(Image *target, int n) {
  Buf why = {0};
  for (int i = 0; i < n; i++) {
    qsort(target[i].state, target[i].n_state, sizeof *target[i].state, by_name);
    if (!image_agree(target, &target[i], &why)) die("%s", why.data);
  }
}

/* The model for each target, one after the other. */
static int compile_targets(const Options *o, Model *m, const ProgramSet *p, const TargetList *list,
                           CompileOptions *option) {
  Compiler *c[MAX_TARGETS];
  Image target[MAX_TARGETS];
  Buf why = {0};
  int n = 0, status = EXIT_ok;
  Progress progress = {.on = isatty(STDERR_FILENO), .programs = p->n * list->n};
  clock_gettime(CLOCK_MONOTONIC, &progress.last);
  option->progress = progress_show;
  option->progress_arg = &progress;
  bool ok = true;
  for (; n < list->n && ok; n++) {
    option->target = &list->target[n];
    c[n] = compile_new(option);
    ok = compile_all(c[n], m, p, &why);
  }
  progress_end(&progress);
  if (!ok) {
    status = failed("%s%s%s: %s", o->model, list->n > 1 ? ", for target " : "",
                    list->n > 1 ? option->target->name : "", why.data);
  } else if (o->emit == EMIT_runner || o->emit == EMIT_image) {
    for (int i = 0; i < n; i++) target[i] = *compile_image(c[i], fe_name(m), fe_config_json(m));
    if (n > 1) check_agreement(target, n);
    status = write_image(o, target, n);
  }
  for (int i = 0; i < n; i++) compile_free(c[i]);
  buf_free(&why);
  return status;
}

static int make_image(const Options *o, Model *m, const ProgramSet *p) {
  Buf note = {0}, why = {0}, plan = {0};
  TargetList list;
  if (!targets_choose(o, &list, &note, &why)) return failed("%s", why.data);
  if (note.len) fprintf(stderr, "alphac: note: %s\n", note.data);
  if (list.n > 1 && o->emit != EMIT_runner && o->emit != EMIT_image)
    return usage_error(o, "--emit %s shows one target; --target %s names %d", o->emit_name,
                       o->target, list.n);
  CompileOptions option = {.plan = o->emit == EMIT_plan ? &plan : NULL,
                           .dot = o->emit == EMIT_kernels ? &plan : NULL,
                           .times = o->pass.time ? o->pass.out : NULL};
  if (o->emit == EMIT_spirv) {
    option.spirv_dir = o->output ? o->output : default_output(o, ".spirv");
    if (mkdir(option.spirv_dir, 0777) != 0 && errno != EEXIST)
      return failed("cannot make the folder %s: %s", option.spirv_dir, strerror(errno));
  }
  int status = compile_targets(o, m, p, &list, &option);
  if (status == EXIT_ok && (o->emit == EMIT_plan || o->emit == EMIT_kernels))
    status = emit_text(o, &plan);
  buf_free(&plan);
  buf_free(&why);
  buf_free(&note);
  return status;
}

static int compile_model(const Options *o) {
  if (o->output && replaces_source(o, o->output)) return EXIT_failed;
  Buf errors = {0}, text = {0};
  int status = EXIT_failed;
  Model *m = NULL;
  ProgramSet programs = {0};
  if (o->emit == EMIT_ast) {
    if (fe_print_ast(o->model, &text, &errors)) status = emit_text(o, &text);
  } else if ((m = load_model(o, &errors)) && build_programs(o, m, &programs, &errors)) {
    if (o->emit == EMIT_ir || o->emit == EMIT_dot)
      status = emit_graphs(o, &programs);
    else
      status = make_image(o, m, &programs);
  }
  print_errors(&errors);
  programs_free(&programs);
  fe_free(m);
  buf_free(&errors);
  buf_free(&text);
  return status;
}

/* A first word that is no file may be a command misspelt. */
static int check_command(const Options *o, const char *word) {
  const char *name[COUNT_OF(command)];
  for (int i = 0; i < COUNT_OF(command); i++) name[i] = command[i].name;
  if (word[0] == '-' || strpbrk(word, "./") || access(word, F_OK) == 0) return -1;
  const char *near = suggest(word, name, COUNT_OF(command));
  return near ? usage_error(o, "there is no file and no command %s; did you mean alphac %s?", word,
                            near)
              : -1;
}

/* What was printed has arrived. */
static int check_output(int status) {
  if (fflush(stdout) == 0 && !ferror(stdout)) return status;
  return status ? status : failed("cannot write to standard output");
}

int main(int argc, char **argv) {
  signal(SIGXFSZ, SIG_IGN); /* a file-size limit is an error of write() like a full disk */
  for (int i = 0; i < COUNT_OF(command); i++)
    if (argc > 1 && strcmp(argv[1], command[i].name) == 0)
      return check_output(command[i].run(argc - 1, argv + 1));
  Options o = {.arena = arena_new()};
  int status = argc > 1 ? check_command(&o, argv[1]) : -1;
  if (status < 0) status = options_parse(&o, argc, argv);
  if (status < 0) status = compile_model(&o);
  arena_free(o.arena);
  return check_output(status);
}
