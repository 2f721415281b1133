/* This machine's devices: as targets, as a list, as profiles. */
#include "driver/args.h"
#include "driver/device_target.h"
#include "driver/profile.h"

#include <string.h>

enum { MAX_DEVICES = 64 };

static Target target_of(const DeviceInfo *d, Arena *arena) {
  return device_target(d, arena_str(arena, d->name, strlen(d->name)));
}

bool target_native(const Options *o, Target *t, Buf *note, Buf *why) {
  Device *device = vk_open((int)o->device, why);
  if (!device) return false;
  *t = target_of(vk_info(device), o->arena);
  if (!o->no_tuning) t->tuning = tuning_load(o->arena, vk_info(device), note);
  vk_close(device);
  return true;
}

static int print_list(void) {
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

static int print_profile(int index) {
  Arena *arena = arena_new();
  Buf text = {0}, why = {0};
  Device *device = vk_open(index, &why);
  Target t;
  if (device) {
    t = target_of(vk_info(device), arena);
    profile_print(&text, &t, vk_info(device));
    fputs(text.data, stdout);
  }
  int status = device ? EXIT_ok : failed("%s", why.data);
  vk_close(device);
  buf_free(&text);
  buf_free(&why);
  arena_free(arena);
  return status;
}

int devices_main(int argc, char **argv) {
  static bool json;
  static const char *device;
  static const ArgSpec spec[] = {
    {.name = "--json",
     .help = "the profile of one device, which alphac --target FILE compiles for",
     .flag = &json},
    {.name = "--device",
     .value = "N",
     .help = "with --json: which device (default: the best)",
     .text = &device},
  };
  static const Command self = {
    .name = "devices",
    .usage = "alphac devices [--json [--device N]]",
    .about = "Lists the Vulkan devices of this machine, with the number that --device takes.",
    .more = "Example: alphac devices --json >mine.json\n"
            "         alphac models/gpt2.alpha --target mine.json -o gpt2\n",
    .spec = spec,
    .n_spec = COUNT_OF(spec),
    .no_file = true};
  Arena *arena = arena_new();
  const char *file;
  int64_t index = -1;
  int status = args_parse(&self, arena, argc, argv, &file);
  if (status < 0 && device && !json) status = args_usage_error(&self, "--device goes with --json");
  if (status < 0 && device && !device_number(device, &index))
    status =
      args_usage_error(&self, "--device %s: expected a number from `alphac devices`", device);
  if (status < 0) status = json ? print_profile((int)index) : print_list();
  arena_free(arena);
  return status;
}
