/* The profiles that come with alphac: profiles/NAME.json. */
#include "driver/profile.h"

#include <string.h>

#define PROFILE(id, name)                                                                          \
  __asm__(".pushsection .rodata\n"                                                                 \
          "alphac_profile_" id "_begin:\n"                                                         \
          ".incbin \"" PROFILE_DIR "/" name ".json\"\n"                                            \
          "alphac_profile_" id "_end:\n"                                                           \
          ".byte 0\n"                                                                              \
          ".popsection\n");

PROFILE("nvidia_h100", "nvidia-h100")
extern const char alphac_profile_nvidia_h100_begin[], alphac_profile_nvidia_h100_end[];

static const struct {
  const char *begin, *end;
} text[] = {{alphac_profile_nvidia_h100_begin, alphac_profile_nvidia_h100_end}};

const char *const profile_builtin_name[] = {"nvidia-h100", NULL};

const char *profile_builtin(const char *name, size_t *n) {
  for (int i = 0; profile_builtin_name[i]; i++) {
    if (strcmp(profile_builtin_name[i], name) != 0) continue;
    *n = (size_t)(text[i].end - text[i].begin);
    return text[i].begin;
  }
  return NULL;
}
