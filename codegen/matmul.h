/* What the levels of matrix products share: the operands as strided views, their loads, sums over k,
 * and what is computed from the sums. */
#ifndef CODEGEN_MATMUL_H
#define CODEGEN_MATMUL_H

#include "codegen/kernel.h"

enum { MATMUL_LONGEST = 200000 }; /* terms of a sum, for one loop: see kernel_repeat */

/* One operand seen as rows × k: A's rows are m, B's are n. */
typedef struct Side {
  Node *source; /* the operand */
  bool is_b;
  bool
    computed; /* element by element as it is loaded; what follows is then said of the largest tensor that it is computed from */
  DType type; /* its elements' before they are widened */
  Node *base;
  int64_t offset, row, k;     /* elements */
  int64_t batch[IR_MAX_RANK]; /* strides of the batch dimensions */
  bool unit_row, unit_k;      /* that stride is 1, known to the kernel */
  bool padded; /* unit_row: only the last run reaches past the rows, to what lies there */
  bool aligned; /* runs of four along the unit dimension, from multiples of four on, are aligned */
  SpvId row_id, k_id, offset_id; /* in the shader: strides, and the offset with the batch's share */
  SpvId rows_id; /* how many rows there are, to clamp to; 0: tiles end where the rows end */
} Side;

/* What an out of the kernel is a function of. */
typedef enum MatmulSource { FROM_product, FROM_sum_a, FROM_sum_b } MatmulSource;

typedef struct MatmulOut {
  MatmulSource from;
  Node *source; /* the product, or a reduce_sum over k of an operand's elements */
  bool moved;   /* it lies at another flat index than its source */
} MatmulOut;

/* How a workgroup's share of a cooperative-matrix product is cut: m × n of the product, k terms at a time, among
 * subgroups_m × subgroups_n subgroups. `group` tiles that lie along m go together through n. The tiles that whole waves leave are
 * cut into cut_m × cut_n pieces, each for a workgroup; 0: they are not. */
typedef struct MatmulTile {
  int m, n, k, subgroups_m, subgroups_n, group, cut_m, cut_n;
} MatmulTile;

typedef struct Matmul {
  Kernel *k;
  Node *product;
  MatmulOut out[CG_MAX_OUT];
  bool plain;        /* the product is the only out */
  bool tiles;        /* an out needs tiles: it is moved, or from a sum over k */
  bool sum_a, sum_b; /* an out is from the sum over k of that operand */
  int beside;        /* as in KernelJob */
  Spans spans;       /* of a product in spans, whose slots are its batches; n = 0: it is none */
  int n_batch;
  int64_t batch_dim[IR_MAX_RANK], batches, m, n, kk; /* kk: length of the sum */
  Side a, b;
  int tile_m, tile_n;  /* of one workgroup */
  bool edge_m, edge_n; /* tiles reach past the result */
  int steps;           /* of the sum, taken at once */
  bool tail;           /* the sum's length does not divide by that */
  SpvId m_id, n_id, kk_id, batch_id, tile_m_id,
    tile_n_id; /* tile_*_id: first row and column of this workgroup */
  const Ix *batch[IR_MAX_RANK];
} Matmul;

/* What a job's product is; false for one that no kernel computes. */
bool matmul_make(Matmul *, Kernel *);
/* Sets up push constants, the grid and the tile's place; opens a scope that matmul_end closes.
 * `local`: invocations; `steps`: a multiple of four. */
void matmul_begin(Matmul *, int tile_m, int tile_n, int steps, uint32_t local);
void matmul_end(Matmul *);
/* v[r][j] = side[row + r][k + j] for rows r < rows (1, or a multiple of 4) and j < steps (1 or 4).
 * k = 0: gives nothing, but computes ahead of the loop over k what the loop does not change. */
void matmul_load(Matmul *, Side *, SpvId row, int rows, SpvId k, int steps, SpvId (*v)[4]);
/* Ahead of a loop over k: what a computed side needs of these rows whatever the term. */
void matmul_prepare(Matmul *, Side *, SpvId row, int rows, int steps);
/* Four rows of a side as one vec4 per step, from what matmul_load gave for them. */
void matmul_columns(Matmul *, int steps, SpvId (*v)[4], SpvId *column);
/* acc + s·x for a scalar s and vec4 x, acc */
SpvId matmul_fma(Matmul *, SpvId s, SpvId x, SpvId acc);
/* The loop over the sum: step(…, k, mm->steps, …) advances the vec4 sums acc by so many terms,
 * step(…, k, 1, …) by what is left. */
typedef void MatmulStep(Matmul *, SpvId k, int steps, SpvId *acc, const void *context);
enum { MATMUL_MAX_ROWS = 64, MATMUL_MAX_ACC = MATMUL_MAX_ROWS + 3 };
void matmul_loop(Matmul *, int n_acc, SpvId *acc, MatmulStep *, const void *context);
/* acc + Σ_j x[j] */
SpvId matmul_add(Matmul *, int steps, const SpvId *x, SpvId acc);

/* ---- matmul_side.c ---- */
/* One of the product's operands; the batches are set. False where no kernel can read or compute it. */
bool matmul_side(const Matmul *, const KernelJob *, Side *, bool is_b);
/* An operand's elements' type before they are widened; of what is stored (NULL: nothing) as it lies in memory. */
DType matmul_type(const Node *, const bool *stored);
/* Elements of a computed side at n = 1, 2, 4 or 8 neighbouring rows (along_k: terms), from a multiple of n on. */
void matmul_values(const Matmul *, const Side *, SpvId row, SpvId term, bool along_k, int n,
                   SpvId *value);
/* The same at one index of the batch, a row and a term. */
SpvId matmul_value_at(const Matmul *, const Side *, const Ix *const *batch, const Ix *row,
                      const Ix *term);
/* Ahead of a loop over the terms: what values of those rows need whatever the term. */
void matmul_values_hoist(const Matmul *, const Side *, SpvId row, int n);

/* ---- matmul_out.c ---- */
/* Whether an operation has a value at any index of its own. */
bool matmul_anywhere(Op);
/* False for an out that the tiles cannot compute. */
bool matmul_out(const KernelJob *, Node *product, Node *out, MatmulOut *);
/* Computes and stores the outs from the product's rows row … row + rows − 1, four neighbouring
 * columns each; what lies past the result's edge is not stored. */
void matmul_store(Matmul *, SpvId row, int rows, SpvId column, const SpvId *value4);
/* n vec4s in an array of the function, for loops over them. */
SpvId matmul_keep(Matmul *, int n, const SpvId *value4);
/* Ahead of a loop over rows: computes what the outs need of these four columns whatever the row, as a bias. */
void matmul_hoist_columns(Matmul *, SpvId column);
/* The same of quads of columns that lie anywhere: what all of them read is asked for before the first of
 * them is stored, as loads cannot go past stores. */
enum { MATMUL_MAX_QUADS = 8 };
typedef struct MatmulQuad {
  SpvId row, column, value4;
} MatmulQuad;
void matmul_store_quads(Matmul *, int n, const MatmulQuad *);
/* The same from an operand's sums over k: of its rows row, row + step … in the first n
 * components. */
void matmul_store_sum(Matmul *, MatmulSource, SpvId row, int step, int n, SpvId value4);

/* ---- matmul_portable.c ---- */
enum { PORTABLE_LANES = 64, PORTABLE_ROWS = 8 };
typedef struct PortableTile {
  int rows;  /* of an invocation, at most PORTABLE_ROWS */
  int lanes; /* invocations along n, of PORTABLE_LANES */
} PortableTile;
void matmul_portable(Matmul *, const PortableTile *);

/* ---- matmul_tile.c ---- */
/* The matrix units' shape for products of these operands; false where there are none. */
bool matmul_units(const Matmul *, const Target *, TargetMatrix *);
/* The tiles that could serve the product, best first; how many, 0 where other kernels are better. */
enum { MATMUL_MAX_TILES = 40 };
int matmul_tiles(const Matmul *, const Target *, MatmulTile *);
/* Whether others run beside it, of which it leaves a device time enough: how fast it is alone says little then. */
bool matmul_shares_device(const Matmul *, const Target *);
/* With one of them, as cg_matmul_time. */
double matmul_tile_time(const Matmul *, const Target *, const MatmulTile *);

/* The tile of a product in spans. */
MatmulTile matmul_spans_tile(const Matmul *, const Target *);

void matmul_coop(Matmul *, const MatmulTile *);

/* ---- matmul_subgroup.c ---- */
void matmul_subgroup(Matmul *);
/* The part of C that a workgroup of it computes. */
void matmul_subgroup_tile(const Matmul *, int *rows, int *columns);

/* ---- matmul_shared.c ---- */
typedef struct SharedTile {
  int rows, columns,
    terms; /* of a workgroup: its part of C; terms of the sum that it takes at once */
  int blocks_m, blocks_n; /* of an invocation: so many blocks of 4 × 4 */
  int wide;               /* invocations of a group of 32 that lie beside each other */
  int slices;             /* of each operand in workgroup memory: 1 or 2 */
  double speed;           /* of a core with enough of them, relative */
  int resident;           /* how many are enough */
} SharedTile;
/* The tiles that could serve the product, best first; how many, 0 where other kernels are better. */
enum { MATMUL_MAX_SHARED = 8 };
int matmul_shared_tiles(const Matmul *, const Target *, SharedTile *);
/* With one of them, as cg_matmul_time. */
double matmul_shared_time(const Matmul *, const Target *, const SharedTile *);
void matmul_shared(Matmul *, const SharedTile *);

/* ---- matmul_form.c ---- */
typedef struct MatmulForm {
  enum { MATMUL_rows, MATMUL_coop, MATMUL_subgroup, MATMUL_shared, MATMUL_portable } kind;
  MatmulTile tile; /* MATMUL_coop */
  SharedTile shared;
  PortableTile portable;
} MatmulForm;
/* The forms that can compute the product, the one that is expected to be best first; at most
 * CG_MAX_FORMS, at least 1. */
int matmul_forms(const Matmul *, const Target *, MatmulForm *);
void matmul_form_name(const MatmulForm *, KernelForm *);
/* Their names, and how long they are expected to take. */
int matmul_form_names(const KernelJob *, const Target *, KernelForm *);
void matmul_form_key(const KernelJob *, const Target *, Buf *);

#endif
