/* [==========>         ]  512/1000  loss 2.314  18.2k tok/s  1:04 min left */
#include "runtime/progress.h"

#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { BAR = 24 };
static const double REDRAW = 0.1, NEW_LINE = 5; /* seconds between: on a terminal, elsewhere */

double clock_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void print_duration(Buf *out, double seconds) {
  long s = (long)(seconds + 0.5);
  if (s < 60)
    buf_printf(out, "%ld s", s);
  else if (s < 3600)
    buf_printf(out, "%ld:%02ld min", s / 60, s % 60);
  else
    buf_printf(out, "%ld:%02ld:%02ld h", s / 3600, s / 60 % 60, s % 60);
}

void print_rate(Buf *out, double x) {
  if (x < 1000)
    buf_printf(out, "%.0f", x);
  else if (x < 1e6)
    buf_printf(out, "%.1fk", x / 1e3);
  else
    buf_printf(out, "%.1fM", x / 1e6);
}

void progress_begin(Progress *p, int64_t first, bool quiet) {
  *p = (Progress){
    .quiet = quiet, .terminal = isatty(STDERR_FILENO), .began = clock_seconds(), .first = first};
}

void progress_clear(Progress *p) {
  if (!p->visible) return;
  fputs("\r\033[K", stderr);
  p->visible = false;
}

static void print_bar(Buf *line, int64_t done, int64_t total) {
  int full = total > 0 ? (int)(done * BAR / total) : BAR;
  buf_str(line, "[");
  for (int i = 0; i < BAR; i++) buf_str(line, i < full ? "=" : i == full ? ">" : " ");
  buf_str(line, "]  ");
}

static int columns(void) {
  struct winsize size;
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void progress_show(Progress *p, int64_t done, int64_t total, const char *text, bool always) {
  double now = clock_seconds(), wait = p->terminal ? REDRAW : NEW_LINE;
  if (!p->warm && done > p->first) { /* kernels are compiled in the first: it tells nothing */
    p->warm = true;
    p->began = now;
    p->first = done;
  }
  if (p->quiet || (!always && p->drawn > 0 && now - p->drawn < wait)) return;
  p->drawn = now;
  Buf line = {0};
  if (p->terminal) print_bar(&line, done, total);
  buf_printf(&line, "%lld/%lld  %s", (long long)done, (long long)total, text);
  if (done > p->first && done < total) {
    buf_str(&line, "  ");
    print_duration(&line, (now - p->began) / (double)(done - p->first) * (double)(total - done));
    buf_str(&line, " left");
  }
  if (p->terminal)
    fprintf(stderr, "\r\033[K%.*s", columns() - 1, line.data);
  else
    fprintf(stderr, "%s\n", line.data);
  fflush(stderr);
  p->visible = p->terminal;
  buf_free(&line);
}

void progress_note(Progress *p, const char *fmt, ...) {
  if (p->quiet) return;
  progress_clear(p);
  va_list args;
  va_start(args, fmt);
  vfprintf(stderr, fmt, args);
  va_end(args);
  fputc('\n', stderr);
}
