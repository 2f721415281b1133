/* Appends to metrics.jsonl; on resuming cuts it back so that no step is there twice. */
#include "runtime/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct Metrics {
  char *path;
  int fd;
};

static bool failed(const Metrics *m, Buf *why) {
  buf_printf(why, "%s: cannot be written: %s", m->path, strerror(errno));
  return false;
}

/* The bytes of the lines of steps up to keep_step. */
static size_t lines_to_keep(const Buf *text, int64_t keep_step, int64_t *kept) {
  size_t at = 0;
  while (at < text->len) {
    const char *line = text->data + at, *end = memchr(line, '\n', text->len - at);
    if (!end) break;
    json_t *object = json_loadb(line, (size_t)(end - line), 0, NULL);
    json_t *step = json_object_get(object, "step");
    int64_t number = json_is_integer(step) ? json_integer_value(step) : INT64_MAX;
    json_decref(object);
    if (number > keep_step) break;
    *kept = number;
    at += (size_t)(end - line) + 1;
  }
  return at;
}

Metrics *metrics_open(const char *path, int64_t keep_step, int64_t *kept, Buf *why) {
  Metrics *m = xcalloc(1, sizeof *m);
  *m = (Metrics){strdup(path), -1};
  *kept = 0;
  Buf text = {0};
  bool ok = keep_step == 0 || buf_read_file(&text, path) || errno == ENOENT;
  if (!ok) buf_printf(why, "%s: cannot be read: %s", path, strerror(errno));
  size_t keep = ok ? lines_to_keep(&text, keep_step, kept) : 0;
  buf_free(&text);
  if (ok) {
    m->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    ok = (m->fd >= 0 && ftruncate(m->fd, (off_t)keep) == 0) || failed(m, why);
  }
  if (ok) return m;
  metrics_close(m);
  return NULL;
}

static void put_number(Buf *out, const char *key, double value) {
  if (isfinite(value))
    buf_printf(out, ", \"%s\": %.9g", key, value);
  else
    buf_printf(out, ", \"%s\": null", key);
}

void metric_print(Buf *out, const Metric *m) {
  buf_printf(out, "{\"step\": %lld", (long long)m->step);
  put_number(out, "loss", m->loss);
  put_number(out, "lr", m->lr);
  put_number(out, "grad_norm", m->grad_norm);
  if (m->loss_scale > 0) put_number(out, "loss_scale", m->loss_scale);
  buf_printf(out, ", \"tokens\": %lld, \"tokens_per_second\": %.1f, \"ms\": %.3f",
             (long long)m->tokens, m->tokens_per_second, m->ms);
  json_t *target = json_string(m->target);
  char *quoted = target ? json_dumps(target, JSON_ENCODE_ANY) : NULL;
  buf_printf(out, ", \"target\": %s", quoted ? quoted : "null");
  free(quoted);
  json_decref(target);
  if (m->has_val) put_number(out, "val_loss", m->val_loss);
  if (m->skipped) buf_printf(out, ", \"skipped\": %lld", (long long)m->n_skipped);
  buf_str(out, "}");
}

bool metrics_add(Metrics *m, const Metric *metric, Buf *why) {
  Buf line = {0};
  metric_print(&line, metric);
  buf_str(&line, "\n");
  bool ok = true;
  for (size_t at = 0; at < line.len && ok;) {
    ssize_t n = write(m->fd, line.data + at, line.len - at);
    if (n >= 0)
      at += (size_t)n;
    else
      ok = errno == EINTR || failed(m, why);
  }
  buf_free(&line);
  return ok;
}

bool metrics_flush(Metrics *m, Buf *why) { return fdatasync(m->fd) == 0 || failed(m, why); }

void metrics_close(Metrics *m) {
  if (!m) return;
  if (m->fd >= 0) close(m->fd);
  free(m->path);
  free(m);
}
