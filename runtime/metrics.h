/* metrics: DIR/metrics.jsonl, one JSON object per step. */
#ifndef RUNTIME_METRICS_H
#define RUNTIME_METRICS_H

#include "base/base.h"

typedef struct Metric {
  int64_t step; /* from 1 */
  double loss, lr, grad_norm;
  double loss_scale; /* of f16, after the step; 0: none */
  int64_t tokens; /* read since the run began */
  double tokens_per_second, ms;
  const char *target; /* whose kernels computed the step */
  bool has_val;
  double val_loss;
  bool skipped;      /* this step's update was not made: not finite */
  int64_t n_skipped; /* of the run so far */
} Metric;

typedef struct Metrics Metrics;
/* Opens the file and keeps the lines of steps 1 … keep_step; what follows, and a line cut short by
 * a kill, is removed. keep_step 0 empties it. *kept is the last step that is there. */
Metrics *metrics_open(const char *path, int64_t keep_step, int64_t *kept, Buf *why);
bool metrics_add(Metrics *, const Metric *, Buf *why);
/* to the disk: before a checkpoint of the same step is written */
bool metrics_flush(Metrics *, Buf *why);
void metrics_close(Metrics *);
/* the JSON object, no newline; what is not finite is null */
void metric_print(Buf *, const Metric *);

#endif
