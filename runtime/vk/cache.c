/* The pipeline cache's file, one for each device and driver: the driver's own bytes, and the hashes
 * of the modules that were compiled before, so that one can tell a start that will compile from one
 * that will not. A file that is missing, damaged or cannot be written costs time and nothing else. */
#include "runtime/vk/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* magic; XXH3-64 of the rest; how many hashes; the hashes, oldest first; the driver's bytes */
static const char cache_magic[8] = "alphapc2";
enum { HEAD = 24, DRIVER_HEAD = 32, MAX_HASHES = 1 << 14 };
static const size_t MAX_DRIVER = (size_t)256 << 20; /* it only grows: larger, it is begun anew */

bool vk_cache_folder(bool make, Buf *out) {
  const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  if (base && base[0] == '/') {
    buf_str(out, base);
  } else if (home && home[0] == '/') {
    buf_printf(out, "%s/.cache", home);
  } else {
    return false;
  }
  if (make) mkdir(out->data, 0700);
  buf_str(out, "/alphac");
  if (make) mkdir(out->data, 0755);
  return true;
}

/* The file's path in `out`; false where there is no home. Makes the directories when asked. */
static bool cache_path(const Device *d, bool make, Buf *out) {
  if (!vk_cache_folder(make, out)) return false;
  buf_str(out, "/pipelines-");
  for (unsigned i = 0; i < VK_UUID_SIZE; i++) buf_printf(out, "%02x", d->uuid[i]);
  buf_printf(out, "-%x-%x-%x", d->info.vendor_id, d->device_id, d->driver_version);
  return true;
}

/* Do the driver's bytes begin as the specification says, for this device? */
static bool is_of_device(const Device *d, const char *bytes, size_t n) {
  uint32_t head[4]; /* length, version, vendor, device; the UUID follows */
  if (n == 0) return true;
  if (n < DRIVER_HEAD) return false;
  memcpy(head, bytes, sizeof head);
  return head[0] >= DRIVER_HEAD && head[1] == VK_PIPELINE_CACHE_HEADER_VERSION_ONE &&
         head[2] == d->info.vendor_id && head[3] == d->device_id &&
         memcmp(bytes + sizeof head, d->uuid, VK_UUID_SIZE) == 0;
}

/* What is wrong with the file; NULL where it is good, and then taken into *c. */
static const char *take(const Device *d, const Buf *file, PipelineCache *c) {
  uint64_t hash, n;
  if (file->len < HEAD || memcmp(file->data, cache_magic, 8) != 0) return "it is not one";
  memcpy(&hash, file->data + 8, 8);
  if (hash != hash_bytes(file->data + 16, file->len - 16, 0)) return "it is damaged";
  memcpy(&n, file->data + 16, 8);
  if (n > (file->len - HEAD) / 8) return "it is damaged";
  const char *driver = file->data + HEAD + 8 * n;
  size_t n_driver = file->len - HEAD - 8 * (size_t)n;
  if (!is_of_device(d, driver, n_driver)) return "it belongs to another device";
  if (n_driver > MAX_DRIVER) return NULL;
  buf_put(&c->known, file->data + HEAD, 8 * (size_t)n);
  buf_put(&c->driver, driver, n_driver);
  return NULL;
}

void cache_load(const Device *d, PipelineCache *c, Buf *note) {
  Buf path = {0}, file = {0};
  if (cache_path(d, false, &path) && access(path.data, F_OK) == 0) {
    const char *wrong = buf_read_file(&file, path.data) ? take(d, &file, c) : "it cannot be read";
    if (wrong) buf_printf(note, "the pipeline cache %s is ignored: %s", path.data, wrong);
  }
  buf_free(&file);
  buf_free(&path);
}

bool cache_knows(const PipelineCache *c, uint64_t hash) {
  for (size_t i = 0; i < c->known.len; i += 8)
    if (memcmp(c->known.data + i, &hash, 8) == 0) return true;
  return false;
}

void cache_learn(PipelineCache *c, uint64_t hash) {
  if (c->known.len >= 8 * (size_t)MAX_HASHES) { /* forgets the older half */
    size_t half = c->known.len / 16 * 8;
    memmove(c->known.data, c->known.data + half, c->known.len - half);
    c->known.len -= half;
  }
  buf_put(&c->known, &hash, 8);
}

static bool write_whole(const char *path, const Buf *b) {
  FILE *f = fopen(path, "wb");
  if (!f) return false;
  bool ok = fwrite(b->data, 1, b->len, f) == b->len;
  return fclose(f) == 0 && ok;
}

/* Written beside and renamed, so that a reader never sees half a file. */
void cache_store(const Device *d, const PipelineCache *c) {
  Buf path = {0}, beside = {0}, file = {0};
  if (cache_path(d, true, &path)) {
    uint64_t n = c->known.len / 8, hash = 0;
    buf_put(&file, cache_magic, 8);
    buf_put(&file, &hash, 8);
    buf_put(&file, &n, 8);
    buf_put(&file, c->known.data, c->known.len);
    buf_put(&file, c->driver.data, c->driver.len);
    hash = hash_bytes(file.data + 16, file.len - 16, 0);
    memcpy(file.data + 8, &hash, 8);
    buf_printf(&beside, "%s.%ld", path.data, (long)getpid());
    if (!write_whole(beside.data, &file) || rename(beside.data, path.data)) unlink(beside.data);
  }
  buf_free(&path);
  buf_free(&beside);
  buf_free(&file);
}
