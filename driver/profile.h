/* profile: what a device can do, as a file: `alphac devices --json` writes it, `--target FILE` reads
 * it. docs/formats.md lists the keys. */
#ifndef DRIVER_PROFILE_H
#define DRIVER_PROFILE_H

#include "codegen/target.h"
#include "runtime/vk/vk.h"

/* The device's target in the format of a profile; the target's name is the profile's. */
void profile_print(Buf *, const Target *, const DeviceInfo *);
/* The target that a profile describes; its texts live in the arena. False with the place, what was expected
 * there and what was found. */
bool profile_parse(Arena *, const char *path, const char *text, size_t n, Target *, Buf *why);
/* The text of a profile that comes with alphac; NULL where there is none of that name. */
const char *profile_builtin(const char *name, size_t *n);
/* All names of such, NULL after the last. */
extern const char *const profile_builtin_name[];

#endif
