/* replay: gives each file named on the command line to the fuzzer's entry, and fails where one
 * takes longer than a second. */
#include "base/base.h"

#include <time.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv) {
  int failed = 0;
  for (int i = 1; i < argc; i++) {
    Buf text = {0};
    if (!buf_read_file(&text, argv[i])) {
      fprintf(stderr, "cannot read %s\n", argv[i]);
      failed = 1;
      continue;
    }
    double start = seconds();
    LLVMFuzzerTestOneInput((const uint8_t *)(text.data ? text.data : ""), text.len);
    double took = seconds() - start;
    if (took > 1) {
      fprintf(stderr, "%s: %.2f s\n", argv[i], took);
      failed = 1;
    }
    buf_free(&text);
  }
  printf("%d files\n", argc - 1);
  return failed;
}
