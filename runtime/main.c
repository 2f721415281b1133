/* The runner's main: the image at the end of its own file, the table of commands. `alphac -o NAME`
 * writes this program with a model's image behind it. */
#include "runtime/runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Command {
  const char *name;
  int (*run)(Runner *, int argc, char **argv);
  bool needs_image;
  const char *about;
} Command;

static const Command command[] = {
  {"info", cmd_info, true, "parameters, programs, memory, device"},
  {"train", cmd_train, true, "train on a text or token file"},
  {"eval", cmd_eval, true, "loss and perplexity on a file"},
  {"generate", cmd_generate, true, "continue a text"},
  {"run", cmd_run, true, "run any program on given tensors"},
  {"bench", cmd_bench, true, "measure a training step or the forward pass"},
  {"tokenizer", cmd_tokenizer, false, "train a tokenizer; encode and decode text"},
  {"devices", cmd_devices, false, "list the Vulkan devices"},
};

static uint64_t little_endian(const unsigned char *p) {
  uint64_t x = 0;
  for (int i = 7; i >= 0; i--) x = x << 8 | p[i];
  return x;
}

/* Maps the image that ends this executable. NULL with `why`; what is mapped stays so. */
static const Image *open_image(Arena *a, uint32_t *n_target, Buf *why) {
  int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  const char *executed = (const char *)getauxval(AT_EXECFN);
  if (fd < 0 && executed)
    fd = open(executed, O_RDONLY | O_CLOEXEC); /* where /proc is not mounted */
  struct stat st;
  if (fd < 0 || fstat(fd, &st)) {
    buf_printf(why, "this program's own file could not be read: %s", strerror(errno));
    if (fd >= 0) close(fd);
    return NULL;
  }
  uint64_t size = (uint64_t)st.st_size;
  unsigned char *file = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (file == MAP_FAILED) {
    buf_printf(why, "this program's own file could not be read: %s", strerror(errno));
    return NULL;
  }
  const unsigned char *trailer = file + size - IMG_TRAILER_BYTES;
  if (size < IMG_TRAILER_BYTES || memcmp(trailer + 16, IMG_TRAILER, 8) != 0) {
    buf_str(why, "this runner holds no model, or its file was cut short; "
                 "'alphac MODEL.alpha -o NAME' makes it");
    return NULL;
  }
  uint64_t at = little_endian(trailer), n = little_endian(trailer + 8);
  if (at % IMG_ALIGN || n > size - IMG_TRAILER_BYTES || at > size - IMG_TRAILER_BYTES - n) {
    buf_str(why, "the image is damaged: it is not where the end of this file says");
    return NULL;
  }
  return image_read(a, file + at, n, n_target, why);
}

static void print_help(const Runner *r, FILE *f) {
  fprintf(f, "usage: %s COMMAND [options]\n\ncommands:\n", r->program);
  for (int i = 0; i < COUNT_OF(command); i++)
    fprintf(f, "  %-12s%s\n", command[i].name, command[i].about);
  fprintf(f,
          "\n%s COMMAND --help explains a command's options. Every command takes --device N and "
          "--json.\n",
          r->program);
}

static const Command *find_command(Runner *r, const char *word) {
  const char *name[COUNT_OF(command)];
  for (int i = 0; i < COUNT_OF(command); i++) {
    name[i] = command[i].name;
    if (strcmp(word, name[i]) == 0) return &command[i];
  }
  const char *near = suggest(word, name, COUNT_OF(command));
  if (near)
    cli_misuse(r, "unknown command '%s'; did you mean '%s'?", word, near);
  else
    cli_misuse(r, "unknown command '%s'", word);
  return NULL;
}

static bool only_help(int argc, char **argv) {
  for (int i = 1; i < argc; i++)
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
  return false;
}

static int run_command(Runner *r, const Command *c, int argc, char **argv) {
  r->command = c->name;
  if (c->needs_image && !only_help(argc, argv)) {
    Buf why = {0};
    r->image = r->target = open_image(r->arena, &r->n_target, &why);
    if (!r->image) cli_error(r, "%s", why.data);
    buf_free(&why);
    if (!r->image) return EXIT_failed;
  }
  return c->run(r, argc, argv);
}

/* What was printed has arrived: a full disk or a reader that went away is a failure. */
static int check_output(const Runner *r, int status) {
  errno = 0;
  bool bad = fflush(stdout) != 0 || ferror(stdout);
  if (!bad) return status;
  int saved = errno;
  cli_error(r, "writing to standard output failed%s%s", saved ? ": " : "",
            saved ? strerror(saved) : "");
  return status ? status : EXIT_failed;
}

int main(int argc, char **argv) {
  signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of write(), which is reported */
  signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error to report, not an end without a word */
  Runner r = {.program = argc > 0 ? argv[0] : "runner", .device = -1, .arena = arena_new()};
  int status;
  if (argc < 2) {
    print_help(&r, stderr);
    status = EXIT_usage;
  } else if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
             strcmp(argv[1], "help") == 0) {
    print_help(&r, stdout);
    status = EXIT_ok;
  } else {
    const Command *c = find_command(&r, argv[1]);
    status = c ? run_command(&r, c, argc - 1, argv + 1) : EXIT_usage;
  }
  status = check_output(&r, status);
  exec_free(r.exec);
  vk_close(r.dev);
  arena_free(r.arena);
  return status;
}
