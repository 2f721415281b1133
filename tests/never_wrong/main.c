/* never_wrong: random programs compiled in every way must give the same values and gradients:
 * without passes, with each pass alone, with all, in the evaluator and on the device.
 *
 *   never_wrong [--seed S] [--first K] [--cases N] [--jobs J] [--save DIR] [--no-device]
 *   never_wrong --file CASE.ir [--no-device]
 *
 * Cases are checked in child processes, a batch in each, since a bug of the compiler ends the
 * process. A case that fails is reduced and printed, and is a test of its own with --file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/never_wrong/device.h"

enum { BATCH = 20, MAX_JOBS = 64, PLAIN_EVERY = 4, TOLD_EVERY = 1000 };

static struct {
  long seed, first, cases, jobs;
  const char *file, *save;
  bool no_device;
} option = {.seed = 20261121, .cases = 300, .jobs = 2};

/* ---- checking, in a child ---- */
typedef struct Checked {
  Case c;
  Graph *given;
  long number;
  bool open, failed;
} Checked;

static Tally tally_values, tally_slopes;
static long n_programs;

static void fail(Checked *k, FILE *report, const Buf *why) {
  if (!k->failed) fprintf(report, "F %ld %s\n", k->number, why->data);
  k->failed = true;
  fflush(report);
}

static void check_without_device(Checked *k, FILE *report) {
  Buf why = {0};
  k->open = case_open(&k->c, k->given, &why);
  if (!k->open || !check_evaluator(&k->c, NULL, &tally_values, &why) ||
      !check_gradients(&k->c, &tally_slopes, &why))
    fail(k, report, &why);
  buf_free(&why);
}

static void add_job(DeviceJob *job, int *n, Checked *k, Graph *g, const char *how) {
  char name[48];
  snprintf(name, sizeof name, "%s_%ld", how, k->number);
  g->name = intern(name);
  job[(*n)++] = (DeviceJob){.c = &k->c, .g = g};
}

/* On the device as it is, or as the least that Vulkan promises. */
static void check_on_target(RunDevice *device, Checked *k, int n, FILE *report) {
  DeviceJob job[2 * BATCH];
  Checked *of[2 * BATCH];
  Buf why = {0};
  Arena *arena = arena_new();
  int n_job = 0;
  for (int i = 0; i < n; i++) {
    if (!k[i].open || k[i].failed) continue;
    of[n_job] = &k[i];
    add_job(job, &n_job, &k[i], all_passes(k[i].given), "all");
    if (k[i].number % PLAIN_EVERY) continue;
    of[n_job] = &k[i];
    add_job(job, &n_job, &k[i], only_lowered(k[i].c.with_gradients), "plain");
  }
  if (!device_run(device, arena, job, n_job, &why)) die("never_wrong: %s", why.data);
  n_programs += n_job;
  for (int i = 0; i < n_job; i++) {
    buf_clear(&why);
    buf_printf(&why, "device as %s, %s: ", device->target.name,
               strncmp(job[i].g->name, "all", 3) == 0 ? "all passes" : "no pass");
    if (!case_compare(&of[i]->c, job[i].g, job[i].value, &tally_values, &why))
      fail(of[i], report, &why);
    graph_free(job[i].g);
  }
  arena_free(arena);
  buf_free(&why);
}

/* Every third batch as a portable device; a case alone both ways. */
static void check_on_device(Checked *k, int n, FILE *report) {
  RunDevice device;
  Buf why = {0};
  if (!run_open(&device, &why)) {
    fprintf(report, "D\n");
    return;
  }
  bool portable = k[0].number / BATCH % 3 == 2;
  if (!portable || n == 1) check_on_target(&device, k, n, report);
  device.target = target_portable;
  if (portable || n == 1) check_on_target(&device, k, n, report);
  run_close(&device);
}

static void check_batch(Checked *k, int n, FILE *report) {
  for (int i = 0; i < n; i++) check_without_device(&k[i], report);
  if (!option.no_device) check_on_device(k, n, report);
  fprintf(report, "T %lld %lld %lld %lld %ld\n", (long long)tally_values.tight,
          (long long)tally_values.all, (long long)tally_slopes.tight, (long long)tally_slopes.all,
          n_programs);
  fflush(report);
}

static Graph *program_of(long number) {
  const long key[2] = {option.seed, number};
  return random_program((uint32_t)hash_bytes(key, sizeof key, 0));
}

/* ---- children ---- */
typedef struct Child {
  pid_t pid;
  long first;
  int n;
  FILE *report, *said;
} Child;

/* Checks n cases from number `first`, or the graph given, in a process of its own. */
static Child start(long first, int n, const Graph *given) {
  Child c = {.first = first, .n = n, .report = tmpfile(), .said = tmpfile()};
  if (!c.report || !c.said) die("never_wrong: no temporary file");
  fflush(NULL);
  c.pid = fork();
  if (c.pid < 0) die("never_wrong: cannot fork");
  if (c.pid > 0) return c;
  Checked k[BATCH] = {0};
  dup2(fileno(c.said), 2);
  for (int i = 0; i < n; i++) {
    k[i].number = first + i;
    k[i].given = given ? graph_copy(given) : program_of(first + i);
  }
  check_batch(k, n, c.report);
  fflush(NULL);
  _exit(0);
}

/* What went wrong, "" for nothing: of one case, or of the first of its batch. */
static bool crashed(int status) { return !WIFEXITED(status) || WEXITSTATUS(status) != 0; }

static void append_file(Buf *to, FILE *f) {
  char piece[512];
  rewind(f);
  for (size_t n; (n = fread(piece, 1, sizeof piece, f)) > 0;) buf_put(to, piece, n);
}

static void finish(Child *c) {
  fclose(c->report);
  fclose(c->said);
}

/* One graph alone: why it fails, empty where it does not. */
static void check_alone(const Graph *g, long number, Buf *why) {
  int status;
  char line[4096];
  Child c = start(number, 1, g);
  if (waitpid(c.pid, &status, 0) != c.pid) die("never_wrong: lost a child");
  rewind(c.report);
  buf_clear(why);
  buf_str(why, "");
  while (why->len == 0 && fgets(line, sizeof line, c.report))
    if (line[0] == 'F') buf_printf(why, "%s", strchr(line + 2, ' ') + 1);
  if (why->len == 0 && crashed(status)) {
    buf_str(why, "the compiler stopped: ");
    append_file(why, c.said);
  }
  while (why->len && why->data[why->len - 1] == '\n') why->data[--why->len] = 0;
  finish(&c);
}

/* ---- failures ---- */
typedef struct Same { /* the kind of failure that a reduced case must keep */
  char kind[48];
} Same;

static void kind_of(const Buf *why, char *kind, size_t size) {
  size_t len = strcspn(why->data, ":");
  snprintf(kind, size, "%.*s", (int)len, why->data);
}

static bool fails_the_same(void *context, const Graph *g) {
  Same *s = context;
  char kind[sizeof s->kind];
  Buf why = {0};
  check_alone(g, 0, &why);
  kind_of(&why, kind, sizeof kind);
  bool same = why.len > 0 && strcmp(kind, s->kind) == 0;
  buf_free(&why);
  return same;
}

static void save(const char *text, long number) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%ld.ir", option.save, number);
  FILE *f = fopen(path, "w");
  if (f && fputs(text, f) >= 0 && fclose(f) == 0) return;
  fprintf(stderr, "never_wrong: cannot write %s: %s\n", path, strerror(errno));
  exit(2);
}

static void report_failure(const Graph *g, long number, const Buf *why) {
  Same same;
  Buf text = {0}, now = {0};
  kind_of(why, same.kind, sizeof same.kind);
  Graph *small = reduce_case(g, fails_the_same, &same);
  check_alone(small, 0, &now); /* in every way, as --file does */
  buf_printf(&text, "// case %ld, seed %ld: %.400s\n", number, option.seed, now.data);
  for (size_t i = 3; i + 1 < text.len; i++)
    if (text.data[i] == '\n') text.data[i] = ' ';
  ir_print(&text, small);
  printf("FAILED: case %ld: %.400s\nreduced from %d to %d nodes; save it as case.ir and run\n"
         "  never_wrong --file case.ir\n%s",
         number, why->data, g->n_node, small->n_node, text.data);
  if (option.save) save(text.data, number);
  fflush(stdout);
  graph_free(small);
  buf_free(&text);
  buf_free(&now);
}

/* ---- all cases ---- */
static struct {
  long cases, failed, programs;
  Tally values, slopes;
  bool no_device;
  struct timespec start;
} sum;

static void print_sum(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  printf("%ld cases, %ld failed; %ld programs on the device; %lld values, %.1f%% within tight "
         "bounds; %lld slopes, %.1f%% smooth; %ld s\n",
         sum.cases, sum.failed, sum.programs, (long long)sum.values.all,
         100.0 * (double)sum.values.tight / (double)(sum.values.all + !sum.values.all),
         (long long)sum.slopes.all,
         100.0 * (double)sum.slopes.tight / (double)(sum.slopes.all + !sum.slopes.all),
         (long)(now.tv_sec - sum.start.tv_sec));
  fflush(stdout);
}

static void check_singly(long number) {
  Buf why = {0};
  Graph *g = program_of(number);
  check_alone(g, number, &why);
  if (why.len) {
    sum.failed++;
    report_failure(g, number, &why);
  }
  graph_free(g);
  buf_free(&why);
}

static void collect(Child *c, int status) {
  char line[4096];
  long long t[4];
  long number, programs;
  rewind(c->report);
  while (!crashed(status) && fgets(line, sizeof line, c->report)) {
    if (line[0] == 'D') sum.no_device = true;
    if (line[0] == 'F' && sscanf(line, "F %ld", &number) == 1) check_singly(number);
    if (sscanf(line, "T %lld %lld %lld %lld %ld", &t[0], &t[1], &t[2], &t[3], &programs) != 5)
      continue;
    sum.values.tight += t[0], sum.values.all += t[1];
    sum.slopes.tight += t[2], sum.slopes.all += t[3];
    sum.programs += programs;
  }
  for (int i = 0; crashed(status) && i < c->n; i++) check_singly(c->first + i);
  finish(c);
}

static void run_all(void) {
  Child child[MAX_JOBS];
  int n_child = 0;
  long next = option.first, end = option.first + option.cases;
  while (next < end || n_child > 0) {
    while (next < end && n_child < option.jobs) {
      int n = end - next < BATCH ? (int)(end - next) : BATCH;
      child[n_child++] = start(next, n, NULL);
      next += n;
    }
    int status;
    pid_t pid = wait(&status);
    int i = 0;
    while (i < n_child && child[i].pid != pid) i++;
    if (i == n_child) die("never_wrong: a child that is none");
    Child done = child[i];
    child[i] = child[--n_child];
    collect(&done, status);
    sum.cases += done.n;
    if (sum.cases / TOLD_EVERY != (sum.cases - done.n) / TOLD_EVERY && sum.cases < option.cases)
      print_sum();
  }
}

static int check_file(void) {
  Buf text = {0}, why = {0};
  if (!buf_read_file(&text, option.file)) {
    fprintf(stderr, "%s: cannot be read\n", option.file);
    return 2;
  }
  Graph *g = ir_parse(option.file, text.data, text.len, &why);
  if (!g) {
    fputs(why.data, stderr);
    return 2;
  }
  check_alone(g, 0, &why);
  printf("%s: %s\n", option.file, why.len ? why.data : "right");
  return why.len > 0;
}

static bool parse_options(int argc, char **argv) {
  const struct {
    const char *name;
    long *number;
    const char **text;
  } known[] = {{"--seed", &option.seed, NULL},   {"--first", &option.first, NULL},
               {"--cases", &option.cases, NULL}, {"--jobs", &option.jobs, NULL},
               {"--file", NULL, &option.file},   {"--save", NULL, &option.save}};
  for (int i = 1; i < argc; i++) {
    int k = 0;
    if (strcmp(argv[i], "--no-device") == 0) {
      option.no_device = true;
      continue;
    }
    while (k < COUNT_OF(known) && strcmp(argv[i], known[k].name) != 0) k++;
    if (k == COUNT_OF(known) || i + 1 == argc) return false;
    i++;
    if (known[k].text)
      *known[k].text = argv[i];
    else
      *known[k].number = atol(argv[i]);
  }
  return option.jobs > 0 && option.jobs <= MAX_JOBS && option.cases >= 0;
}

int main(int argc, char **argv) {
  if (!parse_options(argc, argv)) {
    fputs("never_wrong [--seed S] [--first K] [--cases N] [--jobs J] [--save DIR] [--no-device]\n"
          "never_wrong --file CASE.ir [--no-device]\n",
          stderr);
    return 2;
  }
  if (option.save && mkdir(option.save, 0777) != 0 && errno != EEXIST) {
    fprintf(stderr, "never_wrong: cannot make the folder %s: %s\n", option.save, strerror(errno));
    return 2;
  }
  if (option.file) return check_file();
  clock_gettime(CLOCK_MONOTONIC, &sum.start);
  printf("seed %ld, cases %ld to %ld\n", option.seed, option.first,
         option.first + option.cases - 1);
  run_all();
  print_sum();
  if (sum.no_device) printf("skipped: no Vulkan device; the evaluator alone was compared\n");
  return sum.failed > 0;
}
