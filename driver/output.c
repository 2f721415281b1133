/* Writing results: whole or not at all. */
#include "driver/driver.h"
#include "driver/stub.h"
#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool write_all(int fd, const char *data, size_t bytes) {
  while (bytes > 0) {
    ssize_t n = write(fd, data, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    data += n;
    bytes -= (size_t)n;
  }
  return true;
}

static bool fill(int fd, const Piece *piece, int n) {
  for (int i = 0; i < n; i++)
    if (!write_all(fd, piece[i].data, piece[i].bytes)) return false;
  return fsync(fd) == 0;
}

/* The new name is on disk only when its folder is. A file system that cannot sync folders has done
 * what it can. */
static void sync_folder(const char *path) {
  char *copy = strdup(path);
  int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY) : -1;
  if (fd >= 0) {
    fsync(fd);
    close(fd);
  }
  free(copy);
}

bool output_write(const char *path, const Piece *piece, int n, bool executable, Buf *why) {
  struct stat st;
  if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
    buf_printf(why, "cannot write %s: it is a folder", path);
    return false;
  }
  Buf temp = {0};
  buf_printf(&temp, "%s.%ld.part", path, (long)getpid());
  int fd = open(temp.data, O_WRONLY | O_CREAT | O_EXCL, executable ? 0777 : 0666);
  bool ok = fd >= 0 && fill(fd, piece, n);
  int reason = errno;
  if (fd >= 0 && close(fd) != 0 && ok) ok = false, reason = errno;
  if (ok && rename(temp.data, path) != 0) ok = false, reason = errno;
  if (ok)
    sync_folder(path);
  else {
    if (fd >= 0) unlink(temp.data);
    buf_printf(why, "cannot write %s: %s", path, strerror(reason));
  }
  buf_free(&temp);
  return ok;
}

bool output_runner(const char *path, const void *image, size_t bytes, Buf *why) {
  static const char zero[IMG_ALIGN];
  size_t padding = (IMG_ALIGN - stub_bytes() % IMG_ALIGN) % IMG_ALIGN;
  unsigned char trailer[IMG_TRAILER_BYTES];
  uint64_t at = stub_bytes() + padding, n = bytes;
  for (int i = 0; i < 8; i++) {
    trailer[i] = (unsigned char)(at >> 8 * i);
    trailer[8 + i] = (unsigned char)(n >> 8 * i);
  }
  memcpy(trailer + 16, IMG_TRAILER, 8);
  Piece piece[] = {
    {stub_data(), stub_bytes()}, {zero, padding}, {image, bytes}, {trailer, sizeof trailer}};
  return output_write(path, piece, COUNT_OF(piece), true, why);
}
