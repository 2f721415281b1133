/* Targets, and this machine's devices. */
#include "driver/device_target.h"
#include "driver/driver.h"
#include "runtime/vk/vk.h"

#include <string.h>

enum { MAX_DEVICES = 64 };

bool target_choose(const Options *o, Target *t, Buf *note, Buf *why) {
  static const char *const names[] = {"native", "portable"};
  *t = target_portable;
  t->strict = o->pass.strict;
  if (o->target && strcmp(o->target, "portable") == 0) return true;
  if (o->target && strcmp(o->target, "native") != 0) {
    const char *near = suggest(o->target, names, COUNT_OF(names));
    buf_printf(why, "--target %s: expected native or portable%s%s%s", o->target,
               near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    return false;
  }
  Buf reason = {0};
  Device *device = vk_open((int)o->device, &reason);
  if (device) {
    const DeviceInfo *d = vk_info(device);
    *t = device_target(d, arena_str(o->arena, d->name, strlen(d->name)));
    t->strict = o->pass.strict;
    vk_close(device);
    return true;
  }
  bool asked = o->target || o->device >= 0;
  buf_printf(asked ? why : note, "%s%s", reason.data,
             asked ? "" : "; compiling for --target portable");
  buf_free(&reason);
  return !asked;
}

int devices_main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--help") == 0) {
    puts("alphac devices: lists the Vulkan devices of this machine, with the number that --device "
         "takes");
    return EXIT_ok;
  }
  if (argc > 1) return usage_error("alphac devices takes no arguments: %s", argv[1]);
  static DeviceInfo info[MAX_DEVICES];
  Buf why = {0};
  int n = vk_devices(info, MAX_DEVICES, &why);
  if (n < 0) return failed("%s", why.data);
  if (n == 0)
    return failed(
      "no Vulkan device: Mesa's lavapipe (package mesa-vulkan-drivers) turns the CPU into one");
  for (int i = 0; i < n && i < MAX_DEVICES; i++) {
    const DeviceInfo *d = &info[i];
    printf("%d  %s (%s)", i, d->name, d->driver);
    if (d->usable)
      printf(", subgroups of %u, %.1f GiB\n", d->subgroup_size,
             (double)d->memory_bytes / (1 << 30));
    else
      printf(": cannot be used: it lacks %s\n", d->missing);
  }
  buf_free(&why);
  return EXIT_ok;
}
