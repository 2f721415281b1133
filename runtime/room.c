/* Does what a command runs fit on the device? Answered from the image's plan, before anything is
 * allocated; where it does not, the numbers and what would make it fit. */
#include "runtime/runtime.h"

#include <jansson.h>
#include <string.h>

static const char *const class_name[] = {"parameters", "optimizer and other state", "tables",
                                         "inputs and outputs", "intermediate values"};

Room room_of(const Image *m, const ImgProgram *const *program, int n) {
  Room room = {0};
  for (uint32_t c = 0; c < m->n_chunk; c++) {
    uint64_t most = 0;
    for (int i = 0; i < n; i++) {
      uint64_t bytes = program[i] ? image_extent(m, program[i], c) : 0;
      if (bytes > most) most = bytes;
    }
    room.bytes[m->chunk[c].cls] += most;
    room.total += most;
    if (most > room.largest) room.largest = most;
  }
  return room;
}

/* ---- what would make it fit ---- */

typedef struct Setting { /* of the model's train block, as compiled */
  int64_t batch, accumulate, context;
  bool recompute;
} Setting;

static Setting settings(const Image *m) {
  json_t *all = json_loads(m->config, 0, NULL), *train = json_object_get(all, "train");
  Setting s = {.batch = json_integer_value(json_object_get(train, "batch")),
               .accumulate = json_integer_value(json_object_get(train, "accumulate")),
               .context = json_integer_value(json_object_get(train, "context")),
               .recompute = json_is_true(json_object_get(train, "recompute"))};
  json_decref(all);
  return s;
}

static uint64_t trainable_bytes(const Image *m) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < m->n_param; i++)
    if (m->param[i].trainable) sum += m->param[i].t.bytes;
  return sum;
}

/* Of the same step in micro-batches of `batch`: parameters, states and gradients stay, sums of
 * gradients come where there were none, and the rest shrinks with the batch. */
static double estimate(const Image *m, const Room *room, const Setting *s, int64_t batch) {
  double gradients = (double)trainable_bytes(m), scratch = (double)room->bytes[IMG_SCRATCH];
  double stays = gradients < scratch ? gradients : scratch;
  double shrinks = scratch - stays + (double)room->bytes[IMG_IO];
  double sums = s->accumulate > 1 ? 0 : gradients;
  double fixed = (double)(room->total - room->bytes[IMG_SCRATCH] - room->bytes[IMG_IO]);
  return fixed + sums + stays + shrinks * (double)batch / (double)s->batch;
}

static bool is_training(const ImgProgram *const *program, int n) {
  static const char *const name[] = {"train", "micro", "grad"};
  for (int i = 0; i < n; i++)
    for (int k = 0; program[i] && k < COUNT_OF(name); k++)
      if (strcmp(program[i]->name, name[k]) == 0) return true;
  return false;
}

static void print_advice(Buf *b, const Image *m, const ImgProgram *const *program, int n,
                         const Room *room, uint64_t may_use) {
  const char *sep = "; what would help: compile the model with ";
  if (is_training(program, n)) {
    Setting s = settings(m);
    int64_t batch = s.batch - 1;
    while (batch > 0 && (s.batch % batch || estimate(m, room, &s, batch) > (double)may_use))
      batch--;
    if (batch > 0) {
      buf_printf(
        b, "%s-D train.batch=%lld -D train.accumulate=%lld (the same step in parts, about ", sep,
        (long long)batch, (long long)(s.batch / batch * (s.accumulate > 1 ? s.accumulate : 1)));
      cli_bytes(b, estimate(m, room, &s, batch));
      buf_str(b, ")");
      sep = ", or with ";
    }
    if (!s.recompute) {
      buf_printf(b, "%s-D train.recompute=true (of each layer only its input is kept)", sep);
      sep = ", or with ";
    }
    if (s.context > 1) {
      buf_printf(b, "%sa train.context below %lld", sep, (long long)s.context);
      sep = ", or with ";
    }
  }
  buf_printf(b, "%sa smaller configuration (-D KEY=VALUE)", sep);
}

/* ---- the question ---- */

uint64_t room_limit(const Runner *r, const DeviceInfo *device) {
  uint64_t all = device->memory_bytes;
  return r->memory > 0 && r->memory * (1 << 30) < (double)all ? (uint64_t)(r->memory * (1 << 30))
                                                              : all;
}

bool room_fits(const Runner *r, const DeviceInfo *device, const ImgProgram *const *program, int n,
               Buf *why) {
  Room room = room_of(r->image, program, n);
  uint64_t may_use = room_limit(r, device);
  if (room.total <= may_use && room.largest <= device->max_allocation) return true;
  buf_str(why, "does not fit on the device: ");
  const char *sep = "";
  for (int i = 0; i < n; i++)
    if (program[i]) buf_printf(why, "%s%s", sep, program[i]->name), sep = ", ";
  buf_str(why, n > 1 ? " need " : " needs ");
  cli_bytes(why, (double)room.total);
  sep = " (";
  for (int c = 0; c <= IMG_SCRATCH; c++) {
    if (!room.bytes[c]) continue;
    buf_printf(why, "%s%s ", sep, class_name[c]);
    cli_bytes(why, (double)room.bytes[c]);
    sep = ", ";
  }
  buf_printf(why, "), and %s has ", device->name);
  cli_bytes(why, (double)device->memory_bytes);
  if (may_use < device->memory_bytes)
    buf_str(why, ", of which --memory allows "), cli_bytes(why, (double)may_use);
  if (room.largest > device->max_allocation) {
    buf_str(why, ", at most "), cli_bytes(why, (double)device->max_allocation);
    buf_str(why, " in one piece (one of "), cli_bytes(why, (double)room.largest);
    buf_str(why, " is needed: alphac --target native knows this limit)");
  }
  print_advice(why, r->image, program, n, &room, may_use);
  return false;
}
