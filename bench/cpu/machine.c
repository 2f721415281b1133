/* What this machine's own library and memory reach: an f32 matrix product of 1024³ by OpenBLAS, and
 * memcpy of 256 MiB shared by the threads, both with the number of threads given. The best of
 * several; one JSON line: matmul_flops_per_second, copy_bytes_per_second (read and written bytes
 * together). */
#include <cblas.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SIZE = 1024, TIMES = 12, COPY_BYTES = 256 << 20, MAX_THREADS = 64 };

typedef struct Part {
  char *to;
  const char *from;
  size_t bytes;
} Part;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *memory(size_t bytes, int fill) {
  void *p = malloc(bytes);
  if (!p) {
    fprintf(stderr, "machine: no memory\n");
    exit(1);
  }
  return memset(p, fill, bytes);
}

static double best_matmul(void) {
  const size_t bytes = sizeof(float) * SIZE * SIZE;
  float *a = memory(bytes, 0), *b = memory(bytes, 0), *c = memory(bytes, 0);
  for (int i = 0; i < SIZE * SIZE; i++) a[i] = (float)(i % 7) - 3, b[i] = (float)(i % 5) - 2;
  double best = 1e9;
  for (int i = 0; i < TIMES; i++) {
    double start = now();
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, SIZE, SIZE, SIZE, 1, a, SIZE, b, SIZE, 0,
                c, SIZE);
    double s = now() - start;
    if (s < best) best = s;
  }
  free(a);
  free(b);
  free(c);
  return 2.0 * SIZE * SIZE * SIZE / best;
}

static void *copy_part(void *arg) {
  const Part *p = arg;
  memcpy(p->to, p->from, p->bytes);
  return NULL;
}

static double best_copy(int threads) {
  char *from = memory(COPY_BYTES, 1), *to = memory(COPY_BYTES, 2);
  Part part[MAX_THREADS];
  pthread_t thread[MAX_THREADS];
  for (int t = 0; t < threads; t++) {
    size_t first = (size_t)COPY_BYTES / threads * t;
    size_t end = t + 1 < threads ? (size_t)COPY_BYTES / threads * (t + 1) : COPY_BYTES;
    part[t] = (Part){to + first, from + first, end - first};
  }
  double best = 1e9;
  for (int i = 0; i < TIMES; i++) {
    double start = now();
    for (int t = 1; t < threads; t++)
      if (pthread_create(&thread[t], NULL, copy_part, &part[t])) exit(1);
    copy_part(&part[0]);
    for (int t = 1; t < threads; t++) pthread_join(thread[t], NULL);
    double s = now() - start;
    if (s < best) best = s;
  }
  free(from);
  free(to);
  return 2.0 * COPY_BYTES / best;
}

int main(int argc, char **argv) {
  int threads = argc == 2 ? atoi(argv[1]) : 0;
  if (threads < 1 || threads > MAX_THREADS)
    return fprintf(stderr, "usage: machine THREADS (1 to %d)\n", MAX_THREADS), 2;
  openblas_set_num_threads(threads);
  printf("{\"matmul_flops_per_second\":%.4g,\"copy_bytes_per_second\":%.4g,\"library\":\"%s\"}\n",
         best_matmul(), best_copy(threads), openblas_get_config());
  return 0;
}
