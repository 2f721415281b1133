/* What the files of the attention kernels share: the operands as rows of channels, and the place of
 * an invocation. */
#ifndef CODEGEN_ATTENTION_H
#define CODEGEN_ATTENTION_H

#include "codegen/emit_math.h"

enum { ATT_MAX_GROUPS = 2, ATT_MAX_STREAM = 8 };

/* A source [b…, heads, rows, channels] as a strided view of a stored node. */
typedef struct AttRows {
  Strided at;
  int64_t rows, channels;
  int64_t row, channel; /* strides, in elements */
  bool wide;            /* four channels from a multiple of four on are one aligned load */
} AttRows;

/* An array of vec4 that an invocation keeps for one of its rows: a channel quad at an index. */
typedef SpvId AttPrivate;

typedef struct Attention {
  Kernel *k;
  AttentionAttr a;
  const Node *node[OP_COUNT]; /* the job's members of the family, by op */
  int rank, n_batch;
  int64_t batch_dim[IR_MAX_RANK], batches, h, kv, t, s, c, e;
  bool backward, to_keys; /* to_keys: an invocation owns rows of k and v, and queries stream past */

  /* a: q and k, whose products are the scores; b: do and v. Forward has no own b. */
  AttRows own_a, own_b, stream_a, stream_b, lse, delta;
  bool sum_a, sum_b; /* which of the streamed rows are summed: into dq or dk, into o or dv */
  bool together;     /* dq, dk and dv */

  int groups, lanes, stream; /* rows of an invocation; invocations that share loads, 1: none; rows
                                that are streamed at once */
  int64_t own_heads, own_rows, stream_rows;
  int64_t past; /* by how much the last part's keys are shifted */
  bool edge;    /* blocks of streamed rows may reach past the last */
  const Ix *batch[IR_MAX_RANK], *query_head, *key_head;
  SpvId lane;
  SpvId row[ATT_MAX_GROUPS]; /* own rows, unclamped */
  const Ix *row_ix[ATT_MAX_GROUPS];
  AttPrivate a_own[ATT_MAX_GROUPS], b_own[ATT_MAX_GROUPS], a_sum[ATT_MAX_GROUPS],
    b_sum[ATT_MAX_GROUPS];
  SpvId most[ATT_MAX_GROUPS], total[ATT_MAX_GROUPS]; /* variables: running maximum and sum */
  SpvId own_lse[ATT_MAX_GROUPS], own_delta[ATT_MAX_GROUPS];
} Attention;

/* How attention on cooperative matrices shares out rows. A matrix has some rows m and columns n; see
 * attention_coop.c. */
typedef struct AttTile {
  int fragments; /* of m own rows: those of a subgroup */
  int subgroups; /* of a workgroup */
  int block;     /* streamed rows in workgroup memory */
  int step;      /* fragments of n of them that are worked on at a time */
  bool ahead;    /* the next block is read while this one is worked on, into registers */
  int team; /* subgroups that share own rows, each with its part of the channels: a power of two */
} AttTile;

/* ---- attention.c ---- */
/* What the job is: of m, `k` is given, and of that job and target. */
void att_set_up(Attention *);
/* Number `at` of batches · own heads, by rising batch, then head, becomes this invocation's. */
void att_heads(Attention *, const Ix *at);
/* The first of the other side's rows that a row of the tile sees, from which on blocks of `stream` rows are visited, and how many. */
SpvId att_range(Attention *, SpvId tile, int64_t tile_rows, SpvId *blocks);
/* body(…, first) for each block of `stream` rows, from the first to the last row of the other side that a row of the tile sees:
 * key j and query i where lo <= j − i <= hi. `tile` is the first own row; `times`: as for kernel_repeat. */
SpvId att_shift(Attention *); /* what key 0 counts as in the band */
typedef void AttBlock(void *context, SpvId first);
void att_stream(Attention *, SpvId tile, int64_t tile_rows, int64_t times, AttBlock *,
                void *context);
/* body(…) for all query heads that use the own key head, where an invocation owns keys; else for the own one. */
void att_query_heads(Attention *, void (*body)(void *context), void *context);
/* att_stream for all of those. */
void att_stream_heads(Attention *, SpvId tile, int64_t tile_rows, int64_t times, AttBlock *,
                      void *context);

/* ---- attention_coop.c ---- */
void att_coop(Attention *, const AttTile *);

/* ---- attention_shared.c ---- */
/* How attention with tiles in workgroup memory shares out rows; see there. */
typedef struct AttShared {
  int own;     /* rows of a tile */
  int across;  /* invocations that share them */
  int columns; /* blocks of four streamed rows, of an invocation */
} AttShared;
enum { ATT_MAX_SHARED = 6 };
/* The tiles that it can have, the one that is expected to be best first; how many. */
int att_shared_tiles(Attention *, AttShared out[ATT_MAX_SHARED]);
void att_shared(Attention *, const AttShared *);

/* ---- attention_form.c ---- */
enum { ATT_MAX_TILES = 16, ATT_MAX_FORMS = ATT_MAX_TILES + ATT_MAX_SHARED + 1 };
typedef struct AttForm {
  enum { ATT_portable, ATT_shared, ATT_matrices } kind;
  AttShared shared;
  AttTile tile; /* matrices */
} AttForm;
/* The tiles that matrix units can take, the one that is expected to be best first; at most ATT_MAX_TILES. */
int att_tiles(Attention *, AttTile *);
/* The forms likewise, at most ATT_MAX_FORMS, at least 1. */
int att_forms(Attention *, AttForm *);
void att_form_name(const AttForm *, KernelForm *);
int att_form_names(const KernelJob *, const Target *, KernelForm *);
void att_form_key(const KernelJob *, const Target *, Buf *);

/* ---- attention_rows.c ---- */
AttRows att_rows(Attention *, const Node *source);
/* Element offset of a row for this invocation's batch and the head. */
SpvId att_row(Attention *, const AttRows *, const Ix *head, SpvId row);
/* Channels 4·quad … 4·quad + 3 of the row at that offset; zeros past the last. `quad` is a constant
 * where it may be the last. */
SpvId att_load(Attention *, const AttRows *, SpvId row_at, SpvId quad, int n);
/* body(…, quad, n) for every quad of channels, n of which there are: unrolled, or in a loop. */
typedef void AttQuad(Attention *, SpvId quad, int n, void *context);
void att_each_quad(Attention *, int64_t channels, AttQuad *, void *context);
/* Iterations of such loops for each time that rows stream past, at least 1. */
int64_t att_channel_loops(const Attention *);
/* Own row g, read from its source (NULL: zeros), to be kept by the invocation. */
AttPrivate att_keep(Attention *, const AttRows *from, int64_t channels, const Ix *head, int g);
/* The member of the family that an out is a view of, and where its rows lie in the out. */
const Node *att_member(const Node *out);
AttRows att_out(Attention *, const Node *out);
/* Own row g, times the factor, to every out that is this member of the family. */
void att_store(Attention *, Op, int g, AttPrivate from, SpvId factor);

/* ---- attention_block.c ---- */
/* An own row and a streamed one: unclamped, and within the tensors, which is needed with mask or keep. */
typedef struct AttPair {
  SpvId own, streamed;
  const Ix *own_ix, *streamed_ix;
} AttPair;
/* Whether the two rows see each other; 0: always. */
SpvId att_visible(Attention *, const AttPair *);
/* scale · product, capped; −∞ where not visible. *slope: d score / d (scale · product), 0: 1 */
SpvId att_score(Attention *, const AttPair *, SpvId product, SpvId *slope);
SpvId att_times_keep(Attention *, const AttPair *, SpvId x);
/* A query without keys passes no gradient: p = exp(score − lse) is 0 with lse = ∞. */
void att_without_keys(Attention *, SpvId *lse, SpvId *delta);
/* Lets rows first … first + stream − 1 of the other side pass. */
void att_block(Attention *, SpvId first);

#endif
