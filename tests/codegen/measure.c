#include "tests/codegen/measure.h"

#include <stdio.h>
#include <string.h>

static bool wanted(const char *name, int argc, char **argv, bool all) {
  for (int i = 1 + all; i < argc; i++)
    if (strncmp(name, argv[i], strlen(argv[i])) == 0) return true;
  return argc == 1 + all;
}

int measure_main(const Measured *cases, int argc, char **argv) {
  Buf why = {0};
  bool f32 = argc > 1 && strcmp(argv[1], "f32") == 0;
  if (f32) argc--, argv++;
  bool all = argc > 1 && strcmp(argv[1], "all") == 0;
  Device *device = vk_open(-1, &why);
  if (!device) {
    printf("skipped: no Vulkan device: %s\n", why.data);
    buf_free(&why);
    return 0;
  }
  Target target = device_target(vk_info(device), vk_info(device)->name);
  DType d = f32 ? DT_f32 : target.matrix_bf16.m ? DT_bf16 : DT_f16;
  int wrong = 0;
  printf("%s, %s; %s, time of the chosen form, TFLOP/s, form (if another is faster: its TFLOP/s: "
         "it)\n",
         target.name, dtype_name(d), cases->what);
  for (int i = 0; i < cases->n; i++)
    if (wanted(cases->name(i), argc, argv, all))
      wrong += cases->run(device, &target, d, i, all ? CG_MAX_FORMS : 4);
  printf("%d wrong\n", wrong);
  vk_close(device);
  return wrong != 0;
}
