/* Writing results: whole or not at all. */
#include "driver/driver.h"
#include "driver/stub.h"
#include "image/image.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool output_write(const char *path, const Piece *piece, int n, bool executable, Buf *why) {
  struct stat st;
  if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
    buf_printf(why, "%s: cannot be written: it is a folder", path);
    return false;
  }
  char suffix[32]; /* two runs may write the same file */
  snprintf(suffix, sizeof suffix, ".%ld.part", (long)getpid());
  Replacement r;
  if (!replace_begin(&r, path, suffix, executable ? 0777 : 0666, why)) return false;
  for (int i = 0; i < n; i++) {
    if (replace_put(&r, piece[i].data, piece[i].bytes, why)) continue;
    replace_drop(&r);
    return false;
  }
  return replace_commit(&r, why);
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
