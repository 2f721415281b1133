/* Products on GPUs without using matrix units: what the parts of that kernel share. */
#ifndef CODEGEN_MATMUL_SHARED_H
#define CODEGEN_MATMUL_SHARED_H

#include "codegen/matmul.h"
#include "codegen/tile.h"

typedef struct SharedSum {
  const SharedTile *t;
  TileStage a, b;
  SpvId x, y;              /* the invocation's place in the tile */
  SpvId acc[TILE_MAX_ACC]; /* variables: by row and block of columns */
} SharedSum;

int shared_count(const SharedSum *); /* vec4s of sums that an invocation has */

/* ---- matmul_shared_sum.c ---- */
/* The sums over k of the tile, in acc. Terms are added t->slices slices at a time, so that past the end of k there must be zeros
 * up to a multiple of that. */
void shared_sum_up(Matmul *, SharedSum *);

#endif
