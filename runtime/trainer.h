/* trainer: the steps of a run, their metrics, its checkpoints. */
#ifndef RUNTIME_TRAINER_H
#define RUNTIME_TRAINER_H

#include "runtime/checkpoint.h"
#include "runtime/data.h"
#include "runtime/runtime.h"

typedef struct TrainPlan {
  Runner *runner;         /* with its exec; parameters and states hold their values */
  const char *dir;        /* exists and is locked */
  RunState run;           /* where to begin; run.total: where to end */
  const Data *data, *val; /* val may be NULL */
  const Tokenizer *tok;   /* goes into checkpoints; may be NULL */
  int64_t val_every, val_batches, save_every;
  bool stop_on_nan;
} TrainPlan;

/* Runs the steps. Returns the command's exit status after saying what went wrong. */
int train(TrainPlan *);
/* The program that takes the data: train, or micro where micro-batches accumulate; NULL after
 * saying what is missing. */
const ImgProgram *train_data_program(Runner *);

#endif
