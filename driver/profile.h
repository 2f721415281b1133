/* profile: what a device can do, as a file: `alphac devices --json` writes it, `--target FILE` reads
 * it. docs/formats.md lists the keys. */
#ifndef DRIVER_PROFILE_H
#define DRIVER_PROFILE_H

#include "codegen/target.h"
#include "runtime/vk/vk.h"

typedef struct Profile {
  Target target; /* with the tuning */
  Tuning tuning;
  const char *device, *driver; /* that it was made on */
} Profile;

/* The device's target, with its tuning, in the format of a profile; the target's name is the
 * profile's. */
void profile_print(Buf *, const Target *, const DeviceInfo *);
/* What a profile says, in the arena. NULL with the place, what was expected there and what was
 * found. */
const Profile *profile_parse(Arena *, const char *path, const char *text, size_t n, Buf *why);
/* The text of a profile that comes with alphac; NULL where there is none of that name. */
const char *profile_builtin(const char *name, size_t *n);
/* All names of such, NULL after the last. */
extern const char *const profile_builtin_name[];

/* ---- tuning.c: what `alphac tune` keeps of the device at hand ---- */
/* Where that is, in the user's cache; false where there is no home. Makes the folder when asked. */
bool tuning_path(const DeviceInfo *, bool make, Buf *path);
/* What is kept there; NULL where nothing is, or, with a note, what is not of this device and driver. */
const Tuning *tuning_load(Arena *, const DeviceInfo *, Buf *note);

#endif
