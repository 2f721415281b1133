/* What the files of the cooperative-matrix product share. */
#ifndef CODEGEN_MATMUL_COOP_H
#define CODEGEN_MATMUL_COOP_H

#include "codegen/matmul.h"

enum {
  RUN = 8,          /* 16-bit elements of a uvec4: what invocations move at once */
  MAX_RUNS = 32,    /* of one operand's tile, that an invocation moves */
  MAX_PARTS = 8,    /* of fragments: rows and columns of a subgroup's share of the tile */
  PAD = 1,          /* uvec4s after each row of a shared tile: rows then begin in different banks */
  PACKED = 64 / RUN /* uvec4s in a row of a shared tile, at least */
};

/* One operand's part of a tile: rows × terms, from memory to registers to workgroup memory to
 * fragments. */
typedef struct CoopSide {
  Side *side;
  bool is_b,
    along_k; /* elements that are neighbours in memory follow each other along k, else along the rows */
  int64_t rows; /* of the operand: m or n */
  int tile_rows, tile_k;
  int subgroup_rows, fragment; /* rows that a subgroup reads, that a fragment has */
  int fragment_k;
  int width;       /* elements of one load: 8, 4, 2 or 1 */
  bool edge, tail; /* tiles reach past the rows; past k */
  /* The shared tile: `lines` of `line_runs` uvec4s and a pad. Along k, a line has the terms of `pack` operand rows that lie
   * lines apart. */
  int pack, lines, line_runs, stride, base;
  /* Invocation t moves runs (t / block + sweep · i, t mod block + block · j) of lines and uvec4s, `each` of them. */
  int block, blocks, sweep, each;
  bool guard;         /* the last sweep reaches past the lines */
  SpvId line, column; /* of this invocation's first run */
  SpvId moving;       /* variable: where the tile is, in units of one load */
  SpvId next; /* where the workgroup's next tile of the product begins; 0: it has one only */
  SpvId fixed[MAX_RUNS][RUN]; /* what is added to it for each load of a run; 0: nothing */
  SpvId run[MAX_RUNS];        /* variables: the runs of the next tile */
  SpvId fragment_base;        /* index of the subgroup's first fragment in workgroup memory */
} CoopSide;

typedef struct Coop {
  Matmul *mm;
  MatmulTile tile;
  TargetMatrix shape;
  DType type;
  uint32_t invocations, subgroup_size;
  CoopSide a, b;
  int64_t tiles,
    whole;        /* of the product, in all batches; those that are not cut, which come first */
  int64_t groups; /* workgroups that share the whole ones */
  SpvId group, offsets;                 /* this workgroup; where the operands begin */
  SpvId span_begin, span_end;           /* of a product in spans: the workgroup's steps, … */
  SpvId span_first, span_last;          /* its first and its last tile */
  SpvId matrix_a, matrix_b, matrix_sum; /* types */
  int shared_runs;                      /* uvec4s of workgroup memory */
  SpvId shared;                         /* array of them */
  SpvId lane, subgroup;                 /* index in the subgroup, of the subgroup */
  SpvId subgroup_m, subgroup_n;         /* its place among those of the workgroup */
  SpvId
    first_term; /* variable, where k has a tail or an operand is computed: of the tile that is loaded */
  int parts_m, parts_n;                     /* fragments of a subgroup */
  SpvId sum[MAX_PARTS][MAX_PARTS];          /* variables: fragments of the product */
  SpvId sum_a[MAX_PARTS], sum_b[MAX_PARTS]; /* of the sums over k */
} Coop;

/* ---- matmul_coop_load.c ---- */
/* Lays out the shared tile from uvec4 `base` on; returns how many it takes. */
int matmul_coop_side_layout(Coop *, CoopSide *, Side *, bool is_b, int base);
void matmul_coop_side_begin(Coop *, CoopSide *);
/* Whether all loads lie at the same distances in every tile, and none is past k. */
bool matmul_coop_side_even(const CoopSide *);
/* Where this invocation's first load of the tile is; of an even side. */
SpvId matmul_coop_side_start(Coop *, CoopSide *);
void matmul_coop_side_skip(Coop *, CoopSide *, SpvId steps); /* so many slices of terms */
void matmul_coop_fetch(Coop *, CoopSide *);                  /* memory → registers */
/* To the next terms where there are more, else to where the next tile of the product begins. */
void matmul_coop_advance(Coop *, CoopSide *, SpvId more);
void matmul_coop_put(Coop *, CoopSide *); /* registers → workgroup memory */
SpvId matmul_coop_fragment(Coop *, CoopSide *, int part,
                           int step); /* workgroup memory → fragment */

/* ---- matmul_coop_out.c ---- */
void matmul_coop_store(Coop *);
int matmul_coop_shared_runs(const Coop *); /* uvec4s of workgroup memory that it needs */

/* ---- matmul_tile.c ---- */
void matmul_coop_layout(Coop *, const Matmul *, const Target *, const MatmulTile *);
/* Into how many pieces each tile is cut that whole waves leave, and the pieces' tile. 1: they are not. */
int matmul_coop_pieces(const MatmulTile *, MatmulTile *piece);
/* Workgroups on a core at one time. */
int matmul_coop_resident(const Coop *, const Target *);

/* ---- matmul_coop_grid.c ---- */
/* Opens the kernel's scope. `pieces`: of each tile that is cut. */
void matmul_coop_begin(Coop *, int pieces);
void matmul_coop_edges(Coop *); /* tells the product whether tiles reach past its edges */
/* Sets the tile's place, and where the operands of its batch begin. */
void matmul_coop_go_to(Coop *, SpvId tile);
void matmul_coop_go_to_piece(Coop *, SpvId which, const MatmulTile *of);
SpvId matmul_coop_is_inside(Coop *); /* the tile that was gone to has elements of the product */
void matmul_coop_before(Coop *, SpvId next); /* loads go on to that tile; it is gone to */
/* Opens the loop over this workgroup's tiles. */
void matmul_coop_for_each(Coop *);

/* ---- matmul_coop.c ---- */
/* Whether this workgroup adds up the operand's elements along k. */
SpvId matmul_coop_sums_here(Coop *, bool of_a);
/* Fragment i of `parts` is that subgroup's whose place `mine` among those with the same fragments is i mod `of`. */
typedef struct SumShare {
  int parts, of;
  SpvId mine;
} SumShare;
void matmul_coop_sharing(const Coop *, bool of_a, SumShare *);
void matmul_coop_make_sums(Coop *);          /* zeros */
void matmul_coop_ahead(Coop *, SpvId steps); /* the first loads */
void matmul_coop_loop(Coop *, SpvId steps);

/* ---- matmul_coop_spans.c ---- */
SpvId matmul_coop_span_begin(Coop *); /* finds the workgroup's span; its first tile */
void matmul_coop_span_tile(Coop *, SpvId tile);
void matmul_coop_span(Coop *); /* computes and stores it */

#endif
