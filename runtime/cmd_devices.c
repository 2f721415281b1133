/* devices: what Vulkan finds, which of it can be used, and what the rest lacks. */
#include "runtime/runtime.h"

#include <jansson.h>
#include <stdlib.h>

enum { MAX_DEVICES = 64 };

static void print_json(const DeviceInfo *info, int n) {
  json_t *list = json_array();
  for (int i = 0; i < n; i++) {
    const DeviceInfo *d = &info[i];
    json_t *o =
      json_pack("{s:i, s:s, s:s, s:b, s:b, s:s, s:i, s:b, s:b, s:i, s:i, s:I, s:I}", "index", i,
                "name", d->name, "driver", d->driver, "cpu", d->is_cpu, "usable", d->usable,
                "missing", d->missing, "subgroup_size", (int)d->subgroup_size, "subgroup_shuffle",
                d->subgroup_shuffle, "subgroup_arithmetic", d->subgroup_arithmetic, "shared_bytes",
                (int)d->shared_bytes, "max_invocations", (int)d->max_invocations, "memory_bytes",
                (json_int_t)d->memory_bytes, "max_allocation", (json_int_t)d->max_allocation);
    json_array_append_new(list, o);
  }
  char *text = json_dumps(list, JSON_INDENT(2));
  puts(text ? text : "[]");
  free(text);
  json_decref(list);
}

static void print_table(const DeviceInfo *info, int n) {
  for (int i = 0; i < n; i++) {
    const DeviceInfo *d = &info[i];
    Buf memory = {0}, piece = {0};
    cli_bytes(&memory, (double)d->memory_bytes);
    cli_bytes(&piece, (double)d->max_allocation);
    printf("%d  %s\n", i, d->name);
    printf("   %s, Vulkan %u.%u, %s\n", d->is_cpu ? "CPU" : "GPU", d->api_version >> 22 & 127,
           d->api_version >> 12 & 1023, d->driver);
    printf("   memory %s, %s in one piece; subgroups of %u%s%s; workgroups of %u with %u KiB\n",
           memory.data, piece.data, d->subgroup_size, d->subgroup_shuffle ? ", shuffle" : "",
           d->subgroup_arithmetic ? ", arithmetic" : "", d->max_invocations, d->shared_bytes >> 10);
    if (!d->usable) printf("   cannot be used: it lacks %s\n", d->missing);
    buf_free(&memory);
    buf_free(&piece);
  }
}

int cmd_devices(Runner *r, int argc, char **argv) {
  static const Usage usage = {
    .args = "[options]",
    .about = "Lists the Vulkan devices of this machine. The numbers are those that --device takes.",
    .example = "$0 devices --json"};
  int status = cli_parse(r, &usage, NULL, 0, argc, argv, NULL);
  if (status >= 0) return status;
  DeviceInfo *info = arena_alloc(r->arena, sizeof *info * MAX_DEVICES);
  Buf why = {0};
  int n = vk_devices(info, MAX_DEVICES, &why);
  if (n < 0) {
    status = cli_error(r, "%s", why.data);
  } else {
    if (n > MAX_DEVICES) n = MAX_DEVICES;
    if (r->json)
      print_json(info, n);
    else if (n)
      print_table(info, n);
    else
      printf("no Vulkan device\n");
    status = EXIT_ok;
  }
  buf_free(&why);
  return status;
}
