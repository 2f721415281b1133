/* progress: what a person sees while a long command runs, on standard error: one line that is
 * redrawn on a terminal, now and then a plain line elsewhere. */
#ifndef RUNTIME_PROGRESS_H
#define RUNTIME_PROGRESS_H

#include "base/base.h"

typedef struct Progress {
  bool quiet, terminal;
  bool warm;           /* something was done: from then on the time left is estimated */
  double began, drawn; /* seconds; drawn: when a line was last shown */
  int64_t first;       /* what was done when `began` */
  bool visible;        /* a redrawn line stands on the terminal */
} Progress;

void progress_begin(Progress *, int64_t first, bool quiet);
/* done of total, with what to say beside the bar. `always`: shown even where it is not yet time for
 * another line. */
void progress_show(Progress *, int64_t done, int64_t total, const char *text, bool always);
/* before something else is printed */
void progress_clear(Progress *);
void progress_note(Progress *, const char *fmt, ...) PRINTF_LIKE(2, 3); /* a line that stays */
double clock_seconds(void);                                             /* monotonic */
/* 4 s, 3:07 min, 2:04:10 h */
void print_duration(Buf *, double seconds);
void print_rate(Buf *, double per_second); /* 12.3k */

#endif
