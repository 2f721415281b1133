/* Runs a fuzzer's driver over the files of the folders given: what was found once stays found. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int replay(const char *folder) {
  DIR *d = opendir(folder);
  if (!d) return -1;
  int n = 0;
  for (struct dirent *e; (e = readdir(d));) {
    if (e->d_name[0] == '.') continue;
    Buf path = {0}, data = {0};
    buf_printf(&path, "%s/%s", folder, e->d_name);
    if (buf_read_file(&data, path.data)) {
      LLVMFuzzerTestOneInput((const uint8_t *)(data.data ? data.data : ""), data.len);
      n++;
    }
    buf_free(&path);
    buf_free(&data);
  }
  closedir(d);
  return n;
}

int main(int argc, char **argv) {
  int n = 0;
  for (int i = 1; i < argc; i++) {
    int found = replay(argv[i]);
    if (found <= 0) {
      fprintf(stderr, "%s: no files\n", argv[i]);
      return 1;
    }
    n += found;
  }
  printf("%d files\n", n);
  return n ? 0 : 1;
}
