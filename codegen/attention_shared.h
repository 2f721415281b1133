/* What the files of attention with tiles in workgroup memory share. Own and streamed rows, sides a and b are those of
 * attention.h. */
#ifndef CODEGEN_ATTENTION_SHARED_H
#define CODEGEN_ATTENTION_SHARED_H

#include "codegen/attention.h"
#include "codegen/tile.h"

enum {
  STREAMED = 64,     /* rows of a tile; channels of a block of results */
  BLOCKS = 2,        /* of four own rows, of an invocation */
  ROWS = 4 * BLOCKS, /* its own rows */
  TERMS = 16,        /* of a slice */
  PART = 32,         /* streamed rows whose weights are in workgroup memory at a time */
  MAX_SUMS = 2 * ROWS
};

typedef struct AttTiles {
  Attention *m;
  int own, lanes; /* rows of the tile; invocations */
  int a_blocks,
    b_blocks; /* of four channels of what is summed, that an invocation has; 0: nothing is */
  int weights_at, base_at, decay_at, quads; /* places in the pool; its size */
  SpvId pool, lane, x,
    y;        /* x: which four streamed rows and channels; y: which four own rows of a block */
  SpvId tile; /* first own row */
  SpvId row[ROWS], column[4]; /* own and streamed rows, unclamped */
  const Ix *row_ix[ROWS];
  SpvId a_sum[MAX_SUMS], b_sum[MAX_SUMS]; /* variables, by row and block */
  SpvId total[ROWS];                      /* variables: sums of this invocation's weights */
  SpvId most; /* variable: the maximum so far of the row this invocation stands for */
  SpvId lse[ROWS], delta[ROWS];
} AttTiles;

/* ---- attention_tiles.c ---- */
/* Products of own rows with the streamed ones from `first` on. */
void att_tile_scores(AttTiles *, const AttRows *own, const AttRows *streamed, const Ix *stream_head,
                     SpvId first, SpvId (*score)[4]);
/* sums += weights · streamed rows */
void att_tile_sums(AttTiles *, const AttRows *streamed, const Ix *stream_head, SpvId first,
                   SpvId (*weight)[4], const SpvId *sum, int blocks);
/* Own rows, each times its factor, to every out that is this member of the family. */
void att_tile_store(AttTiles *, Op, const SpvId *sum, int blocks, const SpvId *factor);
/* Of the row that this invocation stands for. */
void att_tile_store_lse(AttTiles *, SpvId lse);

#endif
