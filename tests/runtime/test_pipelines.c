/* Pipelines: which are made, in threads, what a failure says, and the cache's file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/vk/internal.h"
#include "tests/runtime/sample.h"

enum { MODULES = 24, HEAD = 32 /* bytes of the cache's file ahead of the modules */ };

static Device *device;
static Image *image;
static Buf why, note;
static int shown; /* kernels that progress named as being compiled */

#define OK(call)                                                                                   \
  do {                                                                                             \
    if (!(call)) fail_msg("%s: %s", #call, why.data ? why.data : "");                              \
  } while (0)

static void take_progress(void *arg, int done, int total, const char *what) {
  (void)arg, (void)what;
  if (done < total) shown++;
}

static void take_note(void *arg, const char *text) {
  (void)arg;
  buf_printf(&note, "%s\n", text);
}

static Exec *open_exec(bool no_cache) {
  buf_clear(&why);
  buf_clear(&note);
  shown = 0;
  Exec *e = exec_new(
    device, image,
    &(ExecOptions){.no_cache = no_cache, .progress = take_progress, .note = take_note}, &why);
  if (!e) fail_msg("%s", why.data);
  return e;
}

static bool run(Exec *e, const char *name) {
  static float x[SAMPLE_N], y[SAMPLE_N], c[SAMPLE_N];
  static const int32_t rng[4];
  const void *input[] = {strcmp(name, "init") == 0 ? (const void *)rng : x};
  void *output[] = {y, c};
  buf_clear(&why);
  return exec_run(e, image_program(image, name), input, output, &why);
}

/* ---- counted, and made to fail ---- */

static PFN_vkCreateComputePipelines create_pipelines;
static atomic_int made, fails_at; /* calls so far; the call that fails, 0: none */

static VkResult counted(VkDevice d, VkPipelineCache cache, uint32_t n,
                        const VkComputePipelineCreateInfo *info, const VkAllocationCallbacks *a,
                        VkPipeline *out) {
  if (atomic_fetch_add(&made, 1) + 1 == fails_at) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
  return create_pipelines(d, cache, n, info, a, out);
}

static void count_from(int failing) {
  if (vk.CreateComputePipelines != counted) create_pipelines = vk.CreateComputePipelines;
  vk.CreateComputePipelines = counted;
  made = 0;
  fails_at = failing;
}

static void count_no_more(void) { vk.CreateComputePipelines = create_pipelines; }

/* Pipelines of the programs that run, each once. */
static void test_only_needed(void **state) {
  (void)state;
  count_from(0);
  Exec *e = open_exec(true);
  assert_int_equal(made, 0);
  OK(run(e, "init"));
  assert_int_equal(made, 2);
  OK(run(e, "step")); /* two of its three modules are new: init's second is its first */
  assert_int_equal(made, 5);
  OK(run(e, "step"));
  assert_int_equal(made, 5);
  exec_prepare(e, image_program(image, "long"));
  exec_prepare(e, image_program(image, "long"));
  OK(run(e, "long"));
  assert_int_equal(made, MODULES);
  assert_int_equal(shown, MODULES); /* nothing was known before */
  exec_free(e);
  count_no_more();
}

/* Threads make what programs of one module each ask for, too, as soon as two do. */
static void test_one_each(void **state) {
  (void)state;
  uint32_t *n[] = {&image->program[0].n_dispatch, &image->program[1].n_dispatch};
  uint32_t before[] = {*n[0], *n[1]};
  *n[0] = *n[1] = 1;
  Exec *e = open_exec(true);
  exec_prepare(e, &image->program[0]);
  assert_int_equal(e->makers.n_thread, 0); /* who waits for it makes it */
  exec_prepare(e, &image->program[1]);
  if (sysconf(_SC_NPROCESSORS_ONLN) > 1) assert_true(e->makers.n_thread > 0);
  exec_free(e);
  *n[0] = before[0], *n[1] = before[1];
}

/* What a run waits for is counted once, and what was made meanwhile is not. */
static void test_waiting(void **state) {
  (void)state;
  Exec *e = open_exec(true);
  assert_true(exec_pipeline_seconds(e) == 0);
  exec_prepare(e, image_program(image, "long"));
  assert_true(exec_pipeline_seconds(e) == 0);
  OK(run(e, "init"));
  double first = exec_pipeline_seconds(e);
  assert_true(first > 0);
  OK(run(e, "init"));
  assert_true(exec_pipeline_seconds(e) == first);
  OK(run(e, "long"));
  assert_true(exec_pipeline_seconds(e) > first);
  exec_free(e);
}

/* Modules that a CPU driver makes while kernels run, whose pipelines no thread can bring to an end before: all the same
 * they are begun, each by a thread of its own. */
static pthread_mutex_t stuck = PTHREAD_MUTEX_INITIALIZER;
static atomic_int begun;

static VkResult held(VkDevice d, VkPipelineCache cache, uint32_t n,
                     const VkComputePipelineCreateInfo *info, const VkAllocationCallbacks *a,
                     VkPipeline *out) {
  begun++;
  pthread_mutex_lock(&stuck);
  pthread_mutex_unlock(&stuck);
  return create_pipelines(d, cache, n, info, a, out);
}

static void test_held(void **state) {
  (void)state;
  if (!vk_info(device)->is_cpu) skip();
  create_pipelines = vk.CreateComputePipelines;
  vk.CreateComputePipelines = held;
  Exec *e = open_exec(true);
  begun = 0;
  pthread_mutex_lock(&stuck);
  pipelines_ask(e, image_program(image, "step"));
  pipelines_meanwhile(e);
  for (int ms = 0; ms < 10000 && begun < 3; ms++) usleep(1000);
  assert_int_equal(begun, 3);
  pthread_mutex_unlock(&stuck);
  OK(run(e, "step"));
  exec_free(e);
  vk.CreateComputePipelines = create_pipelines;
}

/* What was asked for and never run is no trouble, done or not. */
static void test_unused(void **state) {
  (void)state;
  for (int i = 0; i < 5; i++) {
    Exec *e = open_exec(true);
    exec_prepare(e, image_program(image, "long"));
    if (i % 2) OK(run(e, "init"));
    exec_free(e);
  }
}

static void test_failure(void **state) {
  (void)state;
  for (int at = 1; at <= MODULES; at += 7) {
    count_from(at);
    Exec *e = open_exec(true);
    if (at % 2) exec_prepare(e, image_program(image, "long"));
    assert_false(run(e, "long"));
    assert_non_null(strstr(why.data, "add."));
    assert_non_null(strstr(why.data, "out of device memory"));
    OK(run(e, "init")); /* the rest still works, and so does another attempt */
    OK(run(e, "long"));
    exec_free(e);
    count_no_more();
  }
}

static VkResult lost(VkDevice d, const VkSemaphoreWaitInfo *info, uint64_t timeout) {
  (void)d, (void)info, (void)timeout;
  return VK_ERROR_DEVICE_LOST;
}

static void test_lost(void **state) {
  (void)state;
  Exec *e = open_exec(true);
  PFN_vkWaitSemaphores wait = vk.WaitSemaphores;
  vk.WaitSemaphores = lost;
  assert_false(pipelines_need(e, image_program(image, "long"), &why));
  assert_non_null(strstr(why.data, "device lost"));
  assert_false(run(e, "long"));
  assert_non_null(strstr(why.data, "device lost"));
  vk.WaitSemaphores = wait;
  exec_free(e);
}

/* ---- the file ---- */

static char cache_dir[] = "/tmp/alphac-cache-XXXXXX";

/* The only file there; false where there is none. */
static bool cache_file(Buf *path) {
  Buf command = {0};
  buf_printf(&command, "ls %s/alphac/driver/alphac-pipelines-* 2>/dev/null", cache_dir);
  FILE *p = popen(command.data, "r");
  char line[512] = "", more[512];
  bool there = p && fgets(line, sizeof line, p);
  if (there) assert_null(fgets(more, sizeof more, p));
  if (p) pclose(p);
  line[strcspn(line, "\n")] = 0;
  buf_clear(path);
  buf_str(path, line);
  buf_free(&command);
  return there;
}

static void write_file(const char *path, const Buf *bytes) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(bytes->data, 1, bytes->len, f), bytes->len);
  assert_int_equal(fclose(f), 0);
}

static void start(int expect_shown, const char *expect_note) {
  Exec *e = open_exec(false);
  OK(run(e, "long"));
  assert_int_equal(shown, expect_shown);
  if (!expect_note)
    assert_int_equal(note.len, 0);
  else if (!strstr(note.data ? note.data : "", expect_note))
    fail_msg("'%s' does not say '%s'", note.data ? note.data : "", expect_note);
  exec_free(e);
}

static void set_hash(Buf *file) {
  uint64_t hash = hash_bytes(file->data + 16, file->len - 16, 0);
  memcpy(file->data + 8, &hash, 8);
}

static void test_cache(void **state) {
  (void)state;
  Buf path = {0}, good = {0}, bad = {0};
  start(MODULES, NULL);
  assert_true(cache_file(&path));
  assert_true(buf_read_file(&good, path.data));
  assert_true(good.len >= HEAD + sizeof(KnownModule) * MODULES);
  start(0, NULL); /* all are known */

  buf_put(&bad, good.data, good.len);
  bad.data[good.len / 2] ^= 1;
  write_file(path.data, &bad);
  start(MODULES, "is ignored: it is damaged");
  buf_clear(&bad); /* and was made anew */
  assert_true(buf_read_file(&bad, path.data));
  assert_int_equal(bad.len, good.len);
  start(0, NULL);

  static const size_t cut[] = {0, 7, 20, HEAD + sizeof(KnownModule) * 3};
  for (int i = 0; i < COUNT_OF(cut); i++) {
    assert_int_equal(truncate(path.data, (off_t)cut[i]), 0);
    start(MODULES, "is ignored: it is");
  }

  buf_clear(&bad); /* whole, with more hashes than bytes */
  buf_put(&bad, good.data, good.len);
  uint64_t many = UINT64_MAX / sizeof(KnownModule) + 2;
  memcpy(bad.data + 16, &many, 8);
  set_hash(&bad);
  write_file(path.data, &bad);
  start(MODULES, "is ignored: it is damaged");

  size_t driver = HEAD + sizeof(KnownModule) * MODULES; /* whole, of another device */
  assert_true(good.len >= driver + 32);
  buf_clear(&bad);
  buf_put(&bad, good.data, good.len);
  bad.data[driver + 8] ^= 1; /* vendor */
  set_hash(&bad);
  write_file(path.data, &bad);
  start(MODULES, "is ignored: it belongs to another device");
  start(0, NULL);

  assert_int_equal(unlink(path.data), 0);
  assert_int_equal(mkdir(path.data, 0700), 0); /* cannot be read, nor replaced */
  start(MODULES, "is ignored: it cannot be read");
  assert_int_equal(rmdir(path.data), 0);
  assert_false(cache_file(&path)); /* nothing half-written stays beside */

  start(MODULES, NULL); /* where the driver's own cache goes, it will compile all of them again */
  buf_clear(&path);
  buf_printf(&path, "rm -rf %s/alphac", cache_dir);
  assert_int_equal(system(path.data), 0);
  start(MODULES, NULL);

  setenv("MESA_SHADER_CACHE_DIR", "/proc/no/such/place", 1); /* cannot be written */
  start(MODULES, NULL);
  unsetenv("MESA_SHADER_CACHE_DIR"); /* as without a home */
  start(MODULES, NULL);
  buf_clear(&path);
  buf_printf(&path, "rm -rf %s", cache_dir);
  assert_int_equal(system(path.data), 0);
  buf_free(&path);
  buf_free(&good);
  buf_free(&bad);
}

int main(void) {
  if (!mkdtemp(cache_dir)) return 1;
  setenv("XDG_CACHE_HOME", cache_dir, 1); /* before the first device is asked for */
  unsetenv("MESA_SHADER_CACHE_DIR");
  DeviceInfo info;
  int n = vk_devices(&info, 1, &why);
  if (n <= 0) {
    printf("skipped: no Vulkan device (%s)\n", why.data ? why.data : "none");
    buf_free(&why);
    return 0;
  }
  Arena *arena = arena_new();
  image = sample_modules(arena, MODULES);
  device = vk_open(-1, &why);
  if (!device) return 1;
  device->shader_objects = false; /* what is counted and held here are pipelines */
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_only_needed), cmocka_unit_test(test_one_each),
    cmocka_unit_test(test_waiting),     cmocka_unit_test(test_held),
    cmocka_unit_test(test_unused),      cmocka_unit_test(test_failure),
    cmocka_unit_test(test_lost),        cmocka_unit_test(test_cache),
  };
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  vk_close(device);
  arena_free(arena);
  buf_free(&why);
  buf_free(&note);
  return failed;
}
