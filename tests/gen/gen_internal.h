/* Shared by the generators of cases (gen_*.c). */
#ifndef TESTS_GEN_GEN_INTERNAL_H
#define TESTS_GEN_GEN_INTERNAL_H

#include "tests/gen/gen.h"

/* A walk over an operation's cases in a fixed order: counts them, and builds the one that is
 * wanted. */
typedef struct Gen {
  Op op;
  int want, seen; /* want −1: only count */
  Graph *g;
  Node *y;
  GenFeed *feed;
  uint32_t stream; /* Philox: distinguishes programs from cases */
} Gen;

/* The next case; true where it is the wanted one and has to be built into k->y. */
bool gen_next(Gen *, unsigned flags);

/* How an input's values are chosen, from lo to hi. */
typedef enum Fill {
  FILL_uniform,  /* lo … hi */
  FILL_signed,   /* magnitude lo … hi, either sign */
  FILL_whole,    /* whole numbers lo … hi */
  FILL_fraction, /* whole numbers lo … hi plus .1 to .4 or .6 to .9 */
  FILL_distinct, /* any two differ by at least lo, of either sign; hi unused */
  FILL_list      /* `list`, repeated */
} Fill;
typedef struct Values {
  Fill fill;
  double lo, hi;
  const double *list;
  int n_list;
} Values;

/* How an operand of some type comes to be. */
typedef enum How { DENSE, EXPANDED, PERMUTED, SLICED, SCALAR } How;

Node *gen_leaf(Gen *, Op, const char *name, Type, Values);
Node *gen_in(Gen *, const char *name, Type, Values);
Node *gen_operand(Gen *, const char *name, Type, Values, How);
uint32_t gen_word(const Gen *, uint32_t index, uint32_t which); /* random bits of this case */
Type gen_retype(Type, DType);

#define SHAPE(d, ...)                                                                              \
  type_of(d, (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

/* ranks 0 to 4, with 1s and odd lengths */
extern const Type gen_shapes[];
extern const int gen_n_shapes;
/* edges of f32 and of i32 */
extern const double gen_edge_f32[], gen_edge_i32[];
extern const int gen_n_edge_f32, gen_n_edge_i32;
#define EDGES_F32 ((Values){FILL_list, 0, 0, gen_edge_f32, gen_n_edge_f32})
#define EDGES_I32 ((Values){FILL_list, 0, 0, gen_edge_i32, gen_n_edge_i32})
#define UNIFORM(a, b) ((Values){FILL_uniform, a, b, NULL, 0})
#define WHOLE(a, b) ((Values){FILL_whole, a, b, NULL, 0})
#define DISTINCT(gap) ((Values){FILL_distinct, gap, 0, NULL, 0})
#define LIST(array) ((Values){FILL_list, 0, 0, array, COUNT_OF(array)})

#define OP(name, sources, rule, attribute, flags, meaning) void gen_##name(Gen *);
#include "ir/ops.def"
#undef OP

#endif
