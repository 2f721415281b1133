/* What the files of attention with tiles in workgroup memory share. Own and streamed rows, sides a and b are those of
 * attention.h. */
#ifndef CODEGEN_ATTENTION_SHARED_H
#define CODEGEN_ATTENTION_SHARED_H

#include "codegen/attention.h"
#include "codegen/tile.h"

enum {
  BLOCKS = 2,        /* of four own rows, of an invocation */
  ROWS = 4 * BLOCKS, /* its own rows */
  TERMS = 16,        /* of a slice */
  MAX_COLUMNS = 8,   /* its streamed ones, of a tile */
  PART = 32,         /* streamed rows whose weights are in workgroup memory at a time */
  MAX_SUMS = 4 * ROWS
};

typedef struct AttTiles {
  Attention *m;
  AttShared t;
  int lanes, streamed, columns; /* invocations; streamed rows of a tile, and of an invocation */
  int a_blocks,
    b_blocks;     /* of four channels of what is summed, that an invocation has; 0: nothing is */
  int own_at;     /* place of own rows' slices, and of weights, in the pool */
  uint32_t apart; /* of neighbours in a row, in the subgroup */
  SpvId pool, lane, x,
    y; /* x: which four streamed rows and channels of a block; y: which four own rows of a block */
  SpvId tile;                           /* first own row */
  SpvId row[ROWS], column[MAX_COLUMNS]; /* own and streamed rows, unclamped */
  const Ix *row_ix[ROWS];
  SpvId a_sum[MAX_SUMS], b_sum[MAX_SUMS]; /* variables, by row and block */
  SpvId most[ROWS], total[ROWS]; /* variables: maxima so far; sums of this invocation's weights */
  SpvId lse[ROWS], delta[ROWS];  /* lse in powers of two */
  bool plain;                    /* scores are products that want their scale, else finished */
  int tiles;                     /* of own rows, that the workgroup takes one after the other */
  SpvId begun;                   /* condition: this is not the first of them */
  float factor;                  /* makes them powers of two */
} AttTiles;

typedef SpvId AttWeights[ROWS][MAX_COLUMNS];

/* ---- attention_tiles.c ---- */
/* Products of own rows with the streamed ones from `first` on. */
void att_tile_scores(AttTiles *, const AttRows *own, const AttRows *streamed, const Ix *stream_head,
                     SpvId first, AttWeights score);
typedef struct AttSummed { /* rows that a product adds up */
  const AttRows *rows;
  const Ix *head;
  SpvId first;
  bool edge; /* they may reach past the last */
} AttSummed;
/* Slice i begins a part: whoever has weights of it puts them to their places. att_tile_part: weights of streamed rows, which are
 * added up for each own one. */
typedef void AttPart(AttTiles *, SpvId slice, AttWeights);
AttPart att_tile_part;
/* sums += weights · rows */
void att_tile_sums(AttTiles *, const AttSummed *, AttPart *, AttWeights, const SpvId *sum,
                   int blocks);
/* Own rows, each times its factor, to every out that is this member of the family. */
void att_tile_store(AttTiles *, Op, const SpvId *sum, int blocks, const SpvId *factor);
/* Four channels from column on of one row. */
void att_tile_store_four(AttTiles *, int out, const AttRows *to, SpvId row_at, SpvId column,
                         SpvId x, SpvId by);
/* Of own rows. */
void att_tile_store_lse(AttTiles *, const SpvId *lse);

/* ---- attention_together.c: dq beside dk and dv ---- */
/* Zeros for the queries that the first tile does not see. */
void att_together_begin(AttTiles *);
/* dq of the streamed rows += weightᵀ · own rows of k */
void att_together_add(AttTiles *, SpvId first, AttWeights weight);

#endif
