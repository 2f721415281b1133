/* The roofline table: what each kernel achieves, and which part that is of what the machine can
 * (a kernel is as good as the better of its two parts: flops bound the products, bytes the rest). */
#include "runtime/profile.h"

#include <stdlib.h>

Profile *profile_new(Arena *arena, const Image *m) {
  Profile *p = arena_alloc(arena, sizeof *p);
  p->image = m;
  p->kernel = arena_alloc(arena, sizeof *p->kernel * (m->n_module + 1));
  return p;
}

bool profile_add(Profile *p, Exec *e, const ImgProgram *program, Buf *why) {
  double *seconds = xcalloc((size_t)program->n_dispatch + 1, sizeof *seconds);
  bool ok = exec_times(e, program, seconds, why);
  for (uint32_t i = 0; ok && i < program->n_dispatch; i++) {
    const ImgDispatch *d = &program->dispatch[i];
    KernelTime *k = &p->kernel[d->module];
    if (!k->dispatches++) k->label = *d->label ? d->label : program->name;
    k->seconds += seconds[i];
    k->flops += d->flops;
    k->bytes += d->bytes;
    p->seconds += seconds[i];
  }
  free(seconds);
  return ok;
}

typedef struct Row {
  const char *name;
  const KernelTime *k;
} Row;

static int by_time(const void *a, const void *b) {
  const Row *x = a, *y = b;
  if (x->k->seconds != y->k->seconds) return x->k->seconds < y->k->seconds ? 1 : -1;
  return (x->k > y->k) - (x->k < y->k);
}

/* The kernels that ran, by time. */
static uint32_t rows(const Profile *p, Row *row) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < p->image->n_module; i++)
    if (p->kernel[i].dispatches) row[n++] = (Row){p->image->module[i].name, &p->kernel[i]};
  if (n) qsort(row, n, sizeof *row, by_time);
  return n;
}

static double rate(double amount, double seconds) { return seconds > 0 ? amount / seconds : 0; }

static double part_of_peak(const Profile *p, const KernelTime *k) {
  double flops = p->peak_flops > 0 ? rate(k->flops, k->seconds) / p->peak_flops : 0;
  double bytes = p->peak_bytes > 0 ? rate(k->bytes, k->seconds) / p->peak_bytes : 0;
  return flops > bytes ? flops : bytes;
}

static bool has_peak(const Profile *p) { return p->peak_flops > 0 || p->peak_bytes > 0; }

void profile_print(const Profile *p) {
  Row *row = xcalloc(p->image->n_module + 1, sizeof *row);
  uint32_t n = rows(p, row);
  double steps = p->steps ? (double)p->steps : 1;
  bool tera = false; /* a device's matrix units reach hundreds of them */
  for (uint32_t i = 0; i < n; i++) tera |= rate(row[i].k->flops, row[i].k->seconds) >= 1e12;
  printf("%6s %9s %6s %9s %8s %s kernel, and where it first runs\n", "times", "ms/step", "share",
         tera ? "TFLOP/s" : "GFLOP/s", "GB/s", has_peak(p) ? "  roof" : "");
  for (uint32_t i = 0; i < n; i++) {
    const KernelTime *k = row[i].k;
    printf("%6.0f %9.3f %5.1f%% %9.2f %8.2f ", (double)k->dispatches / steps,
           k->seconds * 1e3 / steps, 100 * rate(k->seconds, p->seconds),
           rate(k->flops, k->seconds) * (tera ? 1e-12 : 1e-9), rate(k->bytes, k->seconds) * 1e-9);
    if (has_peak(p)) printf("%5.1f%%", 100 * part_of_peak(p, k));
    printf(" %s\n", k->label);
  }
  printf("%6s %9.3f all, one after the other\n", "", p->seconds * 1e3 / steps);
  free(row);
}

json_t *profile_json(const Profile *p) {
  Row *row = xcalloc(p->image->n_module + 1, sizeof *row);
  uint32_t n = rows(p, row);
  double steps = p->steps ? (double)p->steps : 1;
  json_t *list = json_array();
  for (uint32_t i = 0; i < n; i++) {
    const KernelTime *k = row[i].k;
    json_t *o =
      json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f}", "kernel", row[i].name, "label", k->label,
                "dispatches", (double)k->dispatches / steps, "ms", k->seconds * 1e3 / steps,
                "share", rate(k->seconds, p->seconds), "flops_per_second",
                rate(k->flops, k->seconds), "bytes_per_second", rate(k->bytes, k->seconds));
    if (has_peak(p)) json_object_set_new(o, "of_peak", json_real(part_of_peak(p, k)));
    json_array_append_new(list, o);
  }
  free(row);
  return list;
}
