/* The pieces of a program, seen from inside. A lost device: the message names the dispatches that may have been
 * running, and nothing after it hangs or crashes. No driver here loses its device when asked, so the calls that
 * would tell are replaced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/vk/internal.h"
#include "tests/runtime/sample.h"

static uint64_t value_when_lost;

static VkResult lost_wait(VkDevice d, const VkSemaphoreWaitInfo *info, uint64_t timeout) {
  (void)d, (void)info, (void)timeout;
  return VK_ERROR_DEVICE_LOST;
}

static VkResult lost_value(VkDevice d, VkSemaphore s, uint64_t *value) {
  (void)d, (void)s;
  *value = value_when_lost;
  return VK_SUCCESS;
}

/* From here on the device is lost: command buffers up to `done` had ended. */
static struct VkFunctions lose(uint64_t done) {
  struct VkFunctions before = vk;
  vk.WaitSemaphores = lost_wait;
  vk.GetSemaphoreCounterValue = lost_value;
  value_when_lost = done;
  return before;
}

typedef struct Sample { /* the sample image on a device */
  Arena *arena;
  Image *image;
  Device *device;
  Exec *exec;
} Sample;

static Sample sample_open(void) {
  Buf why = {0};
  Sample s = {.arena = arena_new(), .device = vk_open(-1, &why)};
  s.image = sample_image(s.arena);
  assert_non_null(s.device);
  s.exec = exec_new(s.device, s.image, &(ExecOptions){.no_cache = true}, &why);
  assert_non_null(s.exec);
  return s;
}

static void sample_close(Sample *s) {
  exec_free(s->exec);
  vk_close(s->device);
  arena_free(s->arena);
}

static void test_lost(void **state) {
  (void)state;
  Buf why = {0};
  Sample s = sample_open();
  Image *m = s.image;
  Exec *e = s.exec;
  static float x[SAMPLE_N];
  const void *input[] = {x};
  const ImgProgram *slow = image_program(m, "long"), *step = image_program(m, "step");
  assert_true(exec_run(e, step, input, (void *[]){NULL, NULL}, &why));

  uint64_t ticket[2], before = e->submitted;
  assert_true(exec_submit(e, slow, input, &ticket[0], &why));
  uint64_t after_slow = e->submitted;
  assert_true(exec_submit(e, step, input, &ticket[1], &why));
  assert_true(after_slow - before > 3); /* several pieces */
  vk.DeviceWaitIdle(s.device->device);

  struct VkFunctions working = lose(after_slow); /* `long` had ended, `step` had not */
  assert_false(exec_wait(e, ticket[1], NULL, &why));
  assert_non_null(
    strstr(why.data, "device lost; it may have been running step: s = x + w; step: y = s + t"));
  assert_null(strstr(why.data, "long"));

  buf_clear(&why);
  assert_false(exec_wait(e, ticket[0], NULL, &why));
  assert_non_null(strstr(why.data, "device lost"));
  buf_clear(&why);
  assert_false(exec_run(e, step, input, (void *[]){NULL, NULL}, &why));
  assert_false(exec_read(e, &m->param[0].t, x, &why));
  assert_non_null(strstr(why.data, "device lost"));

  vk = working;
  sample_close(&s);
  buf_free(&why);
}

/* The pieces of a program that was under way when the device went: only those not ended, a few by
 * name. */
static void test_lost_within(void **state) {
  (void)state;
  Buf why = {0};
  Sample s = sample_open();
  Image *m = s.image;
  Exec *e = s.exec;
  static float x[SAMPLE_N];
  const void *input[] = {x};
  const ImgProgram *slow = image_program(m, "long");
  uint64_t ticket;
  assert_true(exec_submit(e, slow, input, &ticket, &why));
  const Recorded *q = &e->program[slow - m->program];
  int left = q->pieces.n < 7 ? q->pieces.n - 1 : 6; /* pieces that have not ended */
  uint32_t dispatches = 0;
  for (int k = q->pieces.n - left; k < q->pieces.n; k++) dispatches += q->pieces.item[k].n;
  assert_true(dispatches > 8);
  vk.DeviceWaitIdle(s.device->device);
  struct VkFunctions working = lose(e->submitted - 1 - (uint64_t)left);
  assert_false(exec_wait(e, ticket, NULL, &why));
  Buf more = {0};
  buf_printf(&more, "… and %u more", dispatches - 8);
  assert_non_null(strstr(why.data, more.data));
  vk = working;
  sample_close(&s);
  buf_free(&more);
  buf_free(&why);
}

/* Once a run was measured the program is cut anew: runs of both cuts may be under way together. */
static void test_cut_anew(void **state) {
  (void)state;
  Buf why = {0};
  Sample s = sample_open();
  Image *m = s.image;
  Exec *e = s.exec;
  static float x[SAMPLE_N], c[SAMPLE_N];
  for (int i = 0; i < SAMPLE_N; i++) x[i] = 1;
  const void *input[] = {x};
  const ImgProgram *slow = image_program(m, "long");
  const Recorded *q = &e->program[slow - m->program];
  uint64_t first, second, third;
  assert_true(exec_submit(e, slow, input, &first, &why));
  int guessed = q->pieces.n;
  assert_true(guessed > 1 && q->seconds == 0);
  assert_true(exec_submit(e, slow, input, &second, &why));
  assert_int_equal(q->pieces.n, guessed);
  assert_true(exec_wait(e, first, NULL, &why));
  assert_true(q->seconds > 0 && q->seconds < q->guessed / 2);
  assert_true(exec_submit(e, slow, input, &third, &why));
  assert_true(q->pieces.n < guessed);
  assert_int_equal(q->before.n, guessed);
  uint32_t dispatches = 0;
  for (int k = 0; k < q->pieces.n; k++) dispatches += q->pieces.item[k].n;
  assert_int_equal(dispatches, SAMPLE_LONG);
  void *output[] = {c};
  assert_true(exec_wait(e, third, output, &why));
  for (int i = 0; i < SAMPLE_N; i++) assert_true(c[i] == 3 * SAMPLE_LONG);
  assert_true(exec_wait(e, second, output, &why));
  for (int i = 0; i < SAMPLE_N; i++) assert_true(c[i] == 2 * SAMPLE_LONG);
  sample_close(&s);
  buf_free(&why);
}

int main(void) {
  Buf none = {0};
  DeviceInfo info;
  if (vk_devices(&info, 1, &none) <= 0) {
    printf("skipped: no Vulkan device\n");
    return 0;
  }
  buf_free(&none);
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_lost),
                                     cmocka_unit_test(test_lost_within),
                                     cmocka_unit_test(test_cut_anew)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
