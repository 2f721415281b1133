/* How long each dispatch of a program takes: with ExecOptions.times, every dispatch is recorded
 * between two timestamps and waits for the one before it, so that a time is one kernel's alone. */
#include "runtime/vk/internal.h"

#include <stdlib.h>

bool times_open(Exec *e, Recorded *q, uint32_t n_dispatch, Buf *why) {
  if (!e->option.times || n_dispatch == 0) return true;
  if (!e->dev->timestamp_bits) {
    buf_printf(why, "device %s measures no times of kernels", e->dev->info.name);
    return false;
  }
  VkQueryPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                                .queryType = VK_QUERY_TYPE_TIMESTAMP,
                                .queryCount = 2 * n_dispatch};
  VkResult r = vk.CreateQueryPool(e->dev->device, &info, NULL, &q->times);
  return r ? exec_fault(e, r, "making a query pool", why) : true;
}

void times_close(Exec *e, Recorded *q) { vk.DestroyQueryPool(e->dev->device, q->times, NULL); }

void times_reset(VkCommandBuffer c, const Recorded *q, const Piece *piece) {
  if (q->times) vk.CmdResetQueryPool(c, q->times, 2 * piece->first, 2 * piece->n);
}

void times_write(VkCommandBuffer c, const Recorded *q, uint32_t dispatch, bool end) {
  if (q->times)
    vk.CmdWriteTimestamp(c, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, q->times,
                         2 * dispatch + (end ? 1 : 0));
}

bool exec_times(Exec *e, const ImgProgram *p, double *seconds, Buf *why) {
  const Recorded *q = &e->program[p - e->image->program];
  if (!p->n_dispatch) return true;
  if (!q->times) die("exec_times: program %s has not run with ExecOptions.times", p->name);
  uint64_t *tick = xcalloc(2 * (size_t)p->n_dispatch, sizeof *tick);
  VkResult r = vk.GetQueryPoolResults(e->dev->device, q->times, 0, 2 * p->n_dispatch,
                                      2 * sizeof *tick * p->n_dispatch, tick, sizeof *tick,
                                      VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT);
  uint32_t bits = e->dev->timestamp_bits;
  uint64_t mask = bits >= 64 ? UINT64_MAX : ((uint64_t)1 << bits) - 1;
  for (uint32_t i = 0; i < p->n_dispatch; i++)
    seconds[i] =
      1e-9 * e->dev->limit.timestampPeriod * (double)((tick[2 * i + 1] - tick[2 * i]) & mask);
  free(tick);
  return r ? exec_fault(e, r, "reading times", why) : true;
}
