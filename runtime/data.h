/* data: what a program's inputs are filled with. Two forms of files:
 *   text          read whole, files one after another, turned into ids by a tokenizer.
 *                 A row is a window of context + 1 ids: input `tokens` gets all but the
 *                 last, `targets` all but the first.
 *   .safetensors  a tensor [rows, …] for each input, named as the input; files one after another
 * A batch is a function of its number alone, so a run that goes on after a kill sees what it would
 * have seen. */
#ifndef RUNTIME_DATA_H
#define RUNTIME_DATA_H

#include "image/image.h"
#include "runtime/tokenizer.h"

typedef struct Data Data;

/* False where the files are some of each. */
bool data_is_text(const char *const *file, int n_file, bool *text, Buf *why);
/* For the inputs of `program` other than rng and total; its batch is the first dimension of its
 * first input that has one. `tok` is needed for text. Ids of `tokens` and `targets` must be below
 * `vocab` (0: unknown) and those of `tokens` not negative. False with the file, row and column of
 * the first that is not. */
Data *data_open(const char *const *file, int n_file, const ImgProgram *, const Tokenizer *tok,
                int64_t vocab, Buf *why);
void data_close(Data *);

/* The batch of micro-batch `micro` of `n_micro` in step `step` (from 0): to[i] is filled for each
 * of the program's inputs other than rng and total, 4 bytes an element. Text: windows at random
 * places, by Philox from seed, step, micro and row. safetensors: rows in the files' order, from the
 * beginning again after the last. */
bool data_batch(const Data *, uint64_t seed, int64_t step, int micro, int n_micro, void *const *to,
                Buf *why);
/* Rows first … first+n−1: for text, windows side by side. */
bool data_rows(const Data *, int64_t first, int64_t n, void *const *to, Buf *why);
int64_t data_row_count(const Data *);
int64_t data_row_tokens(const Data *); /* targets in one row; 1 where rows are not sequences */
int64_t data_unused(const Data *);     /* text: targets at the end that fill no window */
int64_t data_batch_size(const Data *); /* rows of one batch */
uint64_t data_hash(const Data *);      /* tells other data from the same */

#endif
