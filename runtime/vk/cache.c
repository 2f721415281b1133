/* The pipeline cache's file, one for each device and driver: the driver's own bytes, and the hashes
 * of the modules that were compiled before, so that one can tell a start that will compile from one
 * that will not, with what the driver made of each where it tells. A file that is missing, damaged or
 * cannot be written costs time and nothing else. */
#include "runtime/vk/internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* magic; XXH3-64 of the rest; how many modules; bytes of binaries; the modules; the binaries; the driver's bytes */
static const char cache_magic[8] = "alphapc3";
enum { HEAD = 32, DRIVER_HEAD = 32, MAX_KNOWN = 1 << 14 };
static const size_t MAX_DRIVER = (size_t)256 << 20; /* it only grows: larger, it is begun anew */
static const size_t MAX_BINARY = (size_t)32 << 20;

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

static const char driver_folder[] =
  "MESA_SHADER_CACHE_DIR"; /* what Mesa asks the environment for */

void cache_own_driver(void) {
  Buf path = {0};
  if (!getenv(driver_folder) && vk_cache_folder(true, &path)) {
    buf_str(&path, "/driver");
    setenv(driver_folder, path.data, false);
  }
  buf_free(&path);
}

/* The file's path in `out`; false where there is no home. It lies in the folder of Mesa's own cache, so that it
 * knows no module that the driver has forgotten. Makes the folder when asked. */
static bool cache_path(const Device *d, bool make, Buf *out) {
  const char *folder = getenv(driver_folder);
  if (!folder || !*folder) return false;
  if (make) mkdir(folder, 0755);
  buf_printf(out, "%s/alphac-pipelines-", folder);
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

static int n_known(const PipelineCache *c) { return (int)(c->known.len / sizeof(KnownModule)); }

static KnownModule known_at(const PipelineCache *c, int i) {
  KnownModule m;
  memcpy(&m, c->known.data + (size_t)i * sizeof m, sizeof m);
  return m;
}

/* What is wrong with the file; NULL where it is good, and then taken into *c. */
static const char *take(const Device *d, const Buf *file, PipelineCache *c) {
  uint64_t hash, n, n_binary;
  if (file->len < HEAD || memcmp(file->data, cache_magic, 8) != 0) return "it is not one";
  memcpy(&hash, file->data + 8, 8);
  if (hash != hash_bytes(file->data + 16, file->len - 16, 0)) return "it is damaged";
  memcpy(&n, file->data + 16, 8);
  memcpy(&n_binary, file->data + 24, 8);
  size_t left = file->len - HEAD;
  if (n > left / sizeof(KnownModule)) return "it is damaged";
  left -= (size_t)n * sizeof(KnownModule);
  if (n_binary > left) return "it is damaged";
  const char *known = file->data + HEAD, *binary = known + n * sizeof(KnownModule);
  const char *driver = binary + n_binary;
  size_t n_driver = left - (size_t)n_binary;
  if (!is_of_device(d, driver, n_driver)) return "it belongs to another device";
  if (n_driver > MAX_DRIVER) return NULL;
  buf_put(&c->known, known, (size_t)n * sizeof(KnownModule));
  for (int i = 0; i < n_known(c); i++) {
    KnownModule m = known_at(c, i);
    if (m.at <= n_binary && m.bytes <= n_binary - m.at) continue;
    buf_clear(&c->known);
    return "it is damaged";
  }
  buf_put(&c->binary, binary, (size_t)n_binary);
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

bool cache_knows(const PipelineCache *c, uint64_t hash, Buf *binary) {
  for (int i = 0; i < n_known(c); i++) {
    KnownModule m = known_at(c, i);
    if (m.hash != hash) continue;
    if (m.bytes) buf_put(binary, c->binary.data + m.at, (size_t)m.bytes);
    return true;
  }
  return false;
}

static void put(PipelineCache *c, uint64_t hash, const char *binary, size_t bytes) {
  KnownModule m = {.hash = hash, .at = c->binary.len, .bytes = bytes};
  buf_put(&c->known, &m, sizeof m);
  buf_put(&c->binary, binary, bytes);
}

static void forget_older_half(PipelineCache *c) {
  PipelineCache half = {0};
  for (int i = n_known(c) / 2; i < n_known(c); i++) {
    KnownModule m = known_at(c, i);
    put(&half, m.hash, m.bytes ? c->binary.data + m.at : NULL, (size_t)m.bytes);
  }
  buf_free(&c->known);
  buf_free(&c->binary);
  c->known = half.known;
  c->binary = half.binary;
}

void cache_learn(PipelineCache *c, uint64_t hash, const Buf *binary) {
  bool full = n_known(c) >= MAX_KNOWN || c->binary.len + binary->len > MAX_BINARY;
  if (full && n_known(c)) forget_older_half(c);
  put(c, hash, binary->data, binary->len);
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
    uint64_t n = (uint64_t)n_known(c), n_binary = c->binary.len, hash = 0;
    buf_put(&file, cache_magic, 8);
    buf_put(&file, &hash, 8);
    buf_put(&file, &n, 8);
    buf_put(&file, &n_binary, 8);
    buf_put(&file, c->known.data, c->known.len);
    buf_put(&file, c->binary.data, c->binary.len);
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
