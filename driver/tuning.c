/* What `alphac tune` measured on a device is kept as a profile in the user's cache, one file for each device
 * and driver: with another driver it says nothing. */
#include "driver/profile.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

bool tuning_path(const DeviceInfo *d, bool make, Buf *path) {
  if (!vk_cache_folder(make, path)) return false;
  uint64_t hash = hash_bytes(d->name, strlen(d->name), 0);
  hash = hash_bytes(d->driver, strlen(d->driver), hash);
  buf_printf(path, "/tuned-%016" PRIx64 ".json", hash);
  return true;
}

const Tuning *tuning_load(Arena *arena, const DeviceInfo *d, Buf *note) {
  Buf path = {0}, text = {0}, why = {0};
  const Profile *p = NULL;
  errno = 0;
  if (tuning_path(d, false, &path) && buf_read_file(&text, path.data))
    p = profile_parse(arena, path.data, text.data ? text.data : "", text.len, &why);
  else if (errno && errno != ENOENT && errno != ENOTDIR)
    buf_printf(&why, "%s: cannot be read: %s", path.data, strerror(errno));
  if (p && (strcmp(p->device, d->name) != 0 || strcmp(p->driver, d->driver) != 0)) {
    buf_printf(&why, "%s: is of %s (%s), not of this device and driver", path.data, p->device,
               p->driver);
    p = NULL;
  }
  if (why.len)
    buf_printf(note, "%s; what `alphac tune` kept is not used", why.data);
  buf_free(&path);
  buf_free(&text);
  buf_free(&why);
  return p && p->tuning.n ? &p->tuning : NULL;
}
