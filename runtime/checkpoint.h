/* checkpoint: a run's parameters and states in one safetensors file, with what is needed to go on
 * from there. */
#ifndef RUNTIME_CHECKPOINT_H
#define RUNTIME_CHECKPOINT_H

#include "runtime/safetensors.h"
#include "runtime/tokenizer.h"
#include "runtime/vk/vk.h"

typedef struct RunState { /* where a run stands; its counters besides what lives on the device */
  int64_t step;           /* steps done, skipped ones included: the next data step */
  int64_t total;          /* steps of the whole run */
  int64_t tokens;         /* read so far */
  int64_t skipped;        /* steps whose update was skipped: not finite */
  uint64_t seed;
  uint64_t data_hash;
} RunState;

/* Writes parameters, states that are not transient, and metadata; atomic. `tok` may be NULL. */
bool checkpoint_save(const char *path, Exec *, const Image *, const RunState *,
                     const Tokenizer *tok, Buf *why);

/* Opens weights: a file, or a directory, of which its checkpoint.safetensors. Checks the hash where
 * there is one. */
Safetensors *checkpoint_open(const char *path, Buf *why);
/* Parameters by path. A missing one or one of another shape is an error that names all such;
 * tensors that belong to nothing are named in `notes`. */
bool checkpoint_load_params(const Safetensors *, Exec *, const Image *, Buf *notes, Buf *why);
/* Whether the file holds a run of this configuration; else false with what it lacks, or with the
 * differences. */
bool checkpoint_is_run(const Safetensors *, const Image *, Buf *why);
/* What a resumed run needs beside: states, counters. */
bool checkpoint_load_run(const Safetensors *, Exec *, const Image *, RunState *, Buf *notes,
                         Buf *why);
/* A number for the kernels that the training programs of a target run: where it is the same, so is every
 * bit of a run on the same device. */
uint64_t checkpoint_kernels(const Image *);
/* Of an image's targets the one whose kernels the run was computed with; NULL where there is none. */
const Image *checkpoint_target(const Safetensors *, const Image *target, uint32_t n);
/* The tokenizer that the file was trained with; *tok is NULL where it names none. */
bool checkpoint_tokenizer(const Safetensors *, Tokenizer **tok, Buf *why);

/* The model's vocabulary: the last dimension of logits, or config.vocab; 0: unknown. */
int64_t image_vocab(const Image *);
int64_t image_accumulate(const Image *); /* micro-batches of one step */

#endif
