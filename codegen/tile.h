/* What kernels for GPUs without matrix units are made of: slices of operands in workgroup memory, and products of them that
 * invocations keep in registers. */
#ifndef CODEGEN_TILE_H
#define CODEGEN_TILE_H

#include "codegen/emit_math.h"

enum {
  TILE_PAD =
    1, /* vec4s between the terms of a slice: invocations that store to one row meet other banks */
  TILE_MAX_STAGE = 8,  /* vec4s that an invocation reads of a slice */
  TILE_MAX_BLOCKS = 4, /* of 4 × 4, of an invocation, each way */
  TILE_MAX_ACC = 4 * TILE_MAX_BLOCKS * TILE_MAX_BLOCKS
};

/* An operand in memory as rows × terms, what products add up being terms. */
typedef struct TileSource {
  Node *base;
  SpvId offset, row, term;  /* of the first element; strides, in elements */
  bool unit_row, unit_term; /* that stride is 1, at most one of them */
  bool four; /* runs of four along the unit dimension, from multiples of four on, are aligned */
  SpvId first_row,
    rows;      /* of the slices; rows past the operand's last repeat it, 0: there are none */
  SpvId terms; /* terms from there on are zeros; 0: slices end where terms end */
  /* NULL: from memory; else gives n neighbours' values, from a multiple of n on */
  void (*value)(const void *context, SpvId row, SpvId term, bool along_term, int n, SpvId *value);
  const void *context;
} TileSource;

/* Its way: slices of so many terms, in workgroup memory as vec4[term][rows / 4 + TILE_PAD] whatever the operand's layout. They
 * are read in the order in which elements lie in memory: invocation L of N reads runs L, N + L, 2·N + L … of four elements, or
 * of one where runs of four are not aligned. */
typedef struct TileStage {
  int rows, terms, lanes; /* set by the caller, as what follows up to add_up */
  SpvId shared;           /* array of vec4 */
  int at;                 /* the slice's place in it */
  SpvId lane;             /* of the workgroup */
  SpvId counted;          /* whether sums take in what is written next; 0: they do */
  bool add_up;            /* sums over all terms are wanted */
  TileSource source;
  int n, run;                      /* vec4s that an invocation reads; elements of a run */
  SpvId fixed[4 * TILE_MAX_STAGE]; /* by run: its address without the slice's share */
  SpvId term[4 * TILE_MAX_STAGE], row[4 * TILE_MAX_STAGE]; /* within the slice */
  SpvId from_row[4 * TILE_MAX_STAGE];                      /* of the operand */
  SpvId value[TILE_MAX_STAGE], sum[TILE_MAX_STAGE];        /* variables */
} TileStage;

SpvId tile_vec4(Kernel *), tile_zero(Kernel *); /* the type, and a value of it */
SpvId tile_mad(Kernel *, SpvId x, uint32_t by, SpvId plus);
SpvId tile_shared(Kernel *, int quads); /* workgroup memory of so many vec4s */
int tile_quads(int rows, int terms);    /* that a slice takes */
/* Element `index` of component `part` there. */
SpvId tile_component(Kernel *, SpvId shared, SpvId index, SpvId part);

void tile_stage(Kernel *, TileStage *, const TileSource *);
/* The same with registers of its own and another place: two slices of one operand are then on their way. */
TileStage tile_stage_twin(Kernel *, const TileStage *, int at);
void tile_read(Kernel *, const TileStage *, SpvId slice); /* memory → registers */
void tile_write(Kernel *, const TileStage *);             /* registers → workgroup memory */
void tile_write_sums(Kernel *, const TileStage *);        /* the sums so far in the slice's place */

/* Where an invocation of `across` in a row lies: groups of 32 are `wide` = 8 or 4 by 4 or 8, whatever the subgroup's size, so
 * that one such group reads 8 and 4 different vec4s; half of one is 8 × 2 or 4 × 4, neighbours lying above one another: some
 * devices read what two of them share at once. */
void tile_lane(Kernel *, SpvId lane, int across, int wide, SpvId *x, SpvId *y);

/* One side of a product: what an invocation reads for each term. */
typedef struct TileFactor {
  SpvId shared, own; /* the vec4 of its first block, of term 0 */
  int pitch;         /* vec4s between terms */
  int blocks, apart; /* of four rows; vec4s from one to the next */
} TileFactor;

/* A term's vec4s, from workgroup memory. */
void tile_fragments(Kernel *, const TileFactor *, int term, SpvId *out);
/* With those of one term of a and b: acc[r · b.blocks + j] += a's row r · b's block j */
void tile_add_term(Kernel *, const TileFactor *a, const TileFactor *b, const SpvId *of_a,
                   const SpvId *of_b, SpvId *acc);
/* The same of all terms of a slice. */
void tile_multiply(Kernel *, const TileFactor *a, const TileFactor *b, int terms, SpvId *acc);

#endif
