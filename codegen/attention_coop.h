/* What the files of attention on cooperative matrices share. Own and streamed rows, sides a and b are those of
 * attention.h. */
#ifndef CODEGEN_ATTENTION_COOP_H
#define CODEGEN_ATTENTION_COOP_H

#include "codegen/attention.h"

enum {
  RUN = 8,           /* 16-bit elements of a uvec4: what an invocation moves at once */
  MAX_FRAGMENTS = 2, /* of own rows of a subgroup */
  COOP_MAX_STEP = 4, /* fragments of streamed rows at a time */
  MAX_UNITS = 32,    /* of channels: 256 by 8 */
  MAX_OWN = 128,     /* uvec4s of a subgroup's own rows that an invocation moves, of one side */
  MAX_MOVES = 32, /* uvec4s of a block that an invocation moves, of one side; on a GPU half of it */
  MAX_NUMBERS = 16 /* the same of numbers */
};

/* Rows on their way from memory to workgroup memory: `rows` rows of `runs` uvec4s, which lie `pitch` apart there. */
typedef struct CoopSide {
  const AttRows *from;
  bool used;
  int units, runs, pitch; /* units: of channels, as matrices have them, of a member of a team; runs:
                             of a row, with zeros up to whole units of all members */
  int base;               /* in the pool */
  int n_move;
  SpvId moved[MAX_MOVES]; /* variables: the next block's */
} CoopSide;

typedef struct CoopOwn {
  int units;
  SpvId moved[MAX_OWN];
} CoopOwn;

typedef struct Coop {
  Attention *m;
  AttTile tile;
  DType low; /* the 16-bit type */
  int rows, unit,
    lanes; /* of a sum matrix: rows, and columns, which are a factor's terms too; a subgroup's size */
  int invocations, own; /* own: rows of a workgroup */
  int a_units, b_units; /* of channels, of a member of a team */
  bool direct;          /* rows are reduced and sums become factors in registers */
  bool bends;   /* a score is capped, or its sign turned: an exponent of 2 before it is used */
  float factor; /* what a score is then multiplied with: 1, else scale · log2 e */
  bool at_lse, at_delta;         /* backward: the products begin there instead of at 0 */
  SpvId factor_a, factor_b, sum; /* matrix types */
  SpvId invocation, subgroup, lane;
  SpvId tile_row, own_row;       /* first row of the workgroup, of the subgroup */
  SpvId row_in_tile;             /* the difference */
  SpvId first_block, n_block;    /* of those that the band lets the workgroup see */
  SpvId part;                    /* which member of its team the subgroup is; 0: the only one */
  int pool_size;                 /* uvec4s of workgroup memory */
  SpvId pool, numbers;           /* arrays of uvec4, of f32 */
  int lse_at, delta_at, rows_at; /* in `numbers`, after 0, 1, 2 … */
  int scratch, scratch_size;     /* a subgroup's part of the pool, from there on */
  int meeting, n_meeting;        /* where teams meet in the pool, and how often so far in a block */
  CoopSide a, b;                 /* streamed */
  int n_number;                  /* lse and delta of streamed rows that an invocation moves */
  SpvId moved_lse[MAX_NUMBERS], moved_delta[MAX_NUMBERS];
  SpvId own_a[MAX_FRAGMENTS][MAX_UNITS], own_b[MAX_FRAGMENTS][MAX_UNITS]; /* variables: factors */
  int a_sums, b_sums; /* units that are summed, of dq or dk and of o or dv */
  SpvId a_sum[MAX_FRAGMENTS][MAX_UNITS], b_sum[MAX_FRAGMENTS][MAX_UNITS]; /* variables: sums */
  /* variables: of own queries, the same in all columns: −maximum of scores in powers of two, sums of weights by element;
   * −lse in powers of two over factor, −delta */
  SpvId most[MAX_FRAGMENTS], total[MAX_FRAGMENTS], lse[MAX_FRAGMENTS], delta[MAX_FRAGMENTS];
  SpvId score[COOP_MAX_STEP][MAX_FRAGMENTS], dp[COOP_MAX_STEP][MAX_FRAGMENTS]; /* variables */
} Coop;

/* ---- attention_form.c ---- */
/* What holds for all tiles; false where the target's matrices do not take the job. */
bool coop_make(Coop *, Attention *);
int coop_pieces(int64_t n, int64_t of);
int coop_units(const Coop *, const AttTile *, int64_t channels); /* of a member of a team */
int coop_own_rows(const Coop *, const AttTile *);                /* of a workgroup */
/* uvec4s of a subgroup's scratch: its fragments, one unit wide. */
int coop_scratch_size(const Coop *, const AttTile *);
/* uvec4s of workgroup memory: the blocks, and along with them scratches and where teams meet, where they are needed; before
 * and after, all of it is for own rows, at least those of a subgroup, then for results, at least a unit of each one's. */
int coop_pool_size(const Coop *, const AttTile *);
/* Numbers in it: places of elements; −lse and delta, of the block's queries or of own ones; maxima of own rows. */
int coop_lay_out_numbers(Coop *, const AttTile *);

/* ---- attention_coop_team.c ---- */
/* uvec4s of the pool where teams meet. */
int coop_meeting_size(const Coop *, const AttTile *);
/* A subgroup's partial scores, and dp, of n fragments of streamed rows go there; what the one `distance` members away left
 * there is added. Between the two there is a barrier. */
void coop_send(Coop *, int n);
void coop_receive(Coop *, int n, int distance);

/* ---- attention_coop_rows.c ---- */
void coop_side(Coop *, CoopSide *, const AttRows *, int units, int base, int rows);
/* Rows of the block from `first` on: memory → variables → workgroup memory. */
void coop_fetch(Coop *, CoopSide *, const Ix *head, SpvId first);
void coop_put(Coop *, CoopSide *);
void coop_fetch_numbers(Coop *, SpvId first);
void coop_put_numbers(Coop *);
/* The own rows of a side: memory → values → scratch → factors. */
void coop_fetch_own(Coop *, CoopOwn *, const AttRows *, int units, const Ix *head);
void coop_own(Coop *, const CoopOwn *, SpvId (*to)[MAX_UNITS]);
void coop_own_numbers(Coop *);
SpvId coop_pool(Coop *, SpvId index); /* pointer to uvec4 `index` of the pool */
SpvId coop_pool_at(Coop *, int index);
SpvId coop_number(Coop *, int base, SpvId index);
/* A sum matrix whose rows (by_row) or columns are the numbers from there on. */
SpvId coop_spread(Coop *, SpvId number, bool by_row);

/* ---- attention_coop_out.c ---- */
SpvId coop_scratch_at(Coop *,
                      SpvId index); /* pointer to uvec4 `index` of this subgroup's scratch */
/* For each row of the fragments the largest or the sum of its elements, in all columns, to variables. */
void coop_reduce_rows(Coop *, const SpvId *fragment, bool sum, SpvId *to);
/* The fragments, rounded, as left factors. */
void coop_as_factors(Coop *, const SpvId *fragment, SpvId *to);
/* Own rows to every out that is this member of the family. */
void coop_store(Coop *, Op, SpvId (*sum)[MAX_UNITS], int units);
void coop_store_lse(Coop *, const SpvId *lse);

/* ---- attention_coop_pairs.c ---- */
/* Whether the band or the rows' end hides something of the block from `first` on from the subgroup's rows; `all`:
 * whether the band hides all of it. 0: never. */
SpvId coop_hidden(Coop *, SpvId first, bool all);
/* Hidden elements of the fragments of scores become `value`. `some`: whether there are any but masked ones; 0: none. */
void coop_hide(Coop *, SpvId first, int from, int n, SpvId some, float value);
/* Weights (and dp, where they are `also`) times keep. */
void coop_times_keep(Coop *, SpvId first, int from, int n, bool also);

/* ---- attention_coop_block.c ---- */
/* Lets a subgroup's own rows meet the block, whose first row is `first`. */
void coop_block(Coop *, SpvId first);

/* ---- the elements of matrices ---- */
SpvId coop_elements(Coop *); /* opens a loop over them and gives the index */
static inline SpvId coop_get(Coop *c, SpvId variable, SpvId e) {
  SpvId at = spv_local_at(c->m->k->b, variable, e);
  return spv_get(c->m->k->b, at);
}
static inline void coop_set(Coop *c, SpvId variable, SpvId e, SpvId value) {
  SpvId at = spv_local_at(c->m->k->b, variable, e);
  spv_set(c->m->k->b, at, value);
}

#endif
