/* Files that appear whole or not at all: the bytes go to a file beside `path`, are flushed to the
 * disk, and then take the path's place by one rename. */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool failed(const Replacement *r, const char *doing, Buf *why) {
  buf_printf(why, "%s: %s: %s", r->path, doing, strerror(errno));
  return false;
}

void replace_drop(Replacement *r) {
  if (r->fd >= 0) {
    close(r->fd);
    unlink(r->partial);
  }
  free(r->path);
  free(r->partial);
  *r = (Replacement){.fd = -1};
}

bool replace_begin(Replacement *r, const char *path, const char *suffix, int mode, Buf *why) {
  Buf name = {0}, partial = {0};
  buf_str(&name, path);
  buf_printf(&partial, "%s%s", path, suffix);
  *r = (Replacement){name.data, partial.data, -1};
  r->fd = open(r->partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (r->fd >= 0) return true;
  failed(r, "cannot be written", why);
  replace_drop(r);
  return false;
}

bool replace_put(Replacement *r, const void *data, size_t n, Buf *why) {
  const char *p = data;
  while (n) {
    ssize_t done = write(r->fd, p, n);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return failed(r, "writing failed", why);
    p += done;
    n -= (size_t)done;
  }
  return true;
}

bool replace_patch(Replacement *r, const void *data, size_t n, size_t at, Buf *why) {
  return pwrite(r->fd, data, n, (off_t)at) == (ssize_t)n || failed(r, "writing failed", why);
}

/* The rename itself must reach the disk: it is in the directory. Some file systems cannot flush
 * one; they answer EINVAL. */
static bool flush_directory(const Replacement *r, Buf *why) {
  const char *slash = strrchr(r->path, '/');
  Buf dir = {0};
  buf_put(&dir, slash ? r->path : ".",
          !slash             ? 1
          : slash == r->path ? 1
                             : (size_t)(slash - r->path));
  int fd = open(dir.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
  if (!ok) failed(r, "its directory cannot be flushed", why);
  if (fd >= 0) close(fd);
  buf_free(&dir);
  return ok;
}

bool replace_commit(Replacement *r, Buf *why) {
  bool ok = fsync(r->fd) == 0 || failed(r, "writing failed", why);
  if (ok) {
    int fd = r->fd;
    r->fd = -1;
    ok = close(fd) == 0 || failed(r, "writing failed", why);
    if (ok) ok = rename(r->partial, r->path) == 0 || failed(r, "cannot be replaced", why);
    if (!ok) unlink(r->partial);
  }
  if (ok) ok = flush_directory(r, why);
  replace_drop(r);
  return ok;
}

bool same_file(const char *a, const char *b) {
  struct stat x, y;
  return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}
