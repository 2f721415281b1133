/* The evaluator against values found without it: by hand, or from tables of the functions. Every
 * operation has rows; each is evaluated in f64 and in f32. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/ir.h"

enum { MAX_IN = 6, MAX_VALUES = 64 };

typedef struct Row {
  Op op;
  const char *type, *attr;    /* of the result */
  const char *want;           /* numbers with blanks between them */
  const char *in[2 * MAX_IN]; /* type and numbers of each source */
  bool f32_only;              /* the numbers are those after rounding */
} Row;

static const Row rows[] = {
  {OP_const, "f32[3]", "0.5", "0.5 0.5 0.5", {0}, false},
  {OP_const, "f32[]", "0.1", "0.100000001490116119384765625", {0}, false},
  {OP_const, "bf16[2]", "0.1", "0.10009765625 0.10009765625", {0}, false},
  {OP_const, "f32[]", "nan", "nan", {0}, false},
  {OP_iota, "i32[2,3]", "axis=0", "0 0 0 1 1 1", {0}, false},
  {OP_iota, "f32[2,3]", "axis=1", "0 1 2 0 1 2", {0}, false},
  {OP_iota, "f32[2,2,2]", "axis=1", "0 0 1 1 0 0 1 1", {0}, false},
  {OP_position, "i32[4]", "", "0 1 2 3", {0}, false},
  {OP_fold, "f32[2]", "", "0 0.42389235631568783", {0}, false}, /* its own graph: see text_of */
  {OP_random,
   "f32[8]",
   "place=7",
   "0.5826828479766846 0.04011327028274536 0.8234546780586243 0.18221896886825562 "
   "0.5718610882759094 0.44636309146881104 "
   "0.9056286215782166 0.49557358026504517",
   {"i32[4]", "1 2 3 4"},
   false},

  {OP_neg, "f32[3]", "", "-1 2 -inf", {"f32[3]", "1 -2 inf"}, false},
  {OP_neg, "i32[3]", "", "-1 2 -2147483648", {"i32[3]", "1 -2 -2147483648"}, false},
  {OP_abs, "f32[3]", "", "1 2 inf", {"f32[3]", "1 -2 -inf"}, false},
  {OP_abs, "i32[2]", "", "7 -2147483648", {"i32[2]", "-7 -2147483648"}, false},
  {OP_sign, "f32[5]", "", "1 -1 0 0 -1", {"f32[5]", "3 -0.25 0 nan -inf"}, false},
  {OP_sign, "i32[3]", "", "1 -1 0", {"i32[3]", "9 -9 0"}, false},
  {OP_exp,
   "f32[6]",
   "",
   "1 2.718281828459045 0.36787944117144233 1.6487212707001282 0 inf",
   {"f32[6]", "0 1 -1 0.5 -inf inf"},
   false},
  {OP_expm1,
   "f32[4]",
   "",
   "0 1.718281828459045 -0.6321205588285577 9.536747711537455e-07",
   {"f32[4]", "0 1 -1 9.5367431640625e-07"},
   false},
  {OP_log,
   "f32[5]",
   "",
   "0 0.6931471805599453 -0.6931471805599453 -inf nan",
   {"f32[5]", "1 2 0.5 0 -1"},
   false},
  {OP_log1p,
   "f32[5]",
   "",
   "0 0.6931471805599453 -0.6931471805599453 9.536738616591883e-07 -inf",
   {"f32[5]", "0 1 -0.5 9.5367431640625e-07 -1"},
   false},
  {OP_sqrt, "f32[4]", "", "0 3 1.4142135623730951 nan", {"f32[4]", "0 9 2 -1"}, false},
  {OP_rsqrt, "f32[4]", "", "inf 0.5 0.7071067811865476 0", {"f32[4]", "0 4 2 inf"}, false},
  {OP_sin,
   "f32[5]",
   "",
   "0 0.8414709848078965 -0.9092974268256817 -0.5063656411097588 nan",
   {"f32[5]", "0 1 -2 100 inf"},
   false},
  {OP_cos,
   "f32[4]",
   "",
   "1 0.5403023058681398 -0.4161468365471424 0.8623188722876839",
   {"f32[4]", "0 1 -2 100"},
   false},
  {OP_tanh,
   "f32[4]",
   "",
   "0 0.7615941559557649 -0.46211715726000974 1",
   {"f32[4]", "0 1 -0.5 20"},
   false},
  {OP_sigmoid,
   "f32[6]",
   "",
   "0.5 0.7310585786300049 0.11920292202211755 0.9999999979388463 0 1",
   {"f32[6]", "0 1 -2 20 -1000 1000"},
   false},
  {OP_erf,
   "f32[4]",
   "",
   "0 0.8427007929497149 -0.5204998778130465 0.9999779095030014",
   {"f32[4]", "0 1 -0.5 3"},
   false},
  {OP_erfc,
   "f32[4]",
   "",
   "1 0.15729920705028513 1.5204998778130465 1.5374597944280347e-12",
   {"f32[4]", "0 1 -0.5 5"},
   false},
  {OP_relu, "f32[4]", "", "0 2 0 nan", {"f32[4]", "-3 2 0 nan"}, false},
  {OP_relu, "i32[2]", "", "0 2", {"i32[2]", "-3 2"}, false},
  {OP_floor, "f32[4]", "", "1 -2 -1 3", {"f32[4]", "1.5 -1.5 -0.25 3"}, false},
  {OP_ceil, "f32[4]", "", "2 -1 -0 3", {"f32[4]", "1.5 -1.5 -0.25 3"}, false},
  {OP_round, "f32[6]", "", "0 2 2 -2 -2 3", {"f32[6]", "0.5 1.5 2.5 -1.5 -2.5 2.75"}, false},
  {OP_isfinite, "bool[4]", "", "1 0 0 0", {"f32[4]", "1 inf -inf nan"}, false},
  {OP_not, "bool[2]", "", "1 0", {"bool[2]", "0 1"}, false},
  {OP_stop_gradient, "f32[2]", "", "1 -2", {"f32[2]", "1 -2"}, false},

  {OP_cast, "bool[4]", "", "0 1 1 0", {"f32[4]", "0 0.25 nan -0"}, false},
  {OP_cast,
   "i32[8]",
   "",
   "2 -2 0 0 2147483647 -2147483648 2147483647 0",
   {"f32[8]", "2.75 -2.75 -0.5 nan 3e9 -3e9 inf 0.99"},
   false},
  {OP_cast, "f32[2]", "", "16777216 -7", {"i32[2]", "16777217 -7"}, true},
  {OP_cast, "f32[2]", "", "1 0", {"bool[2]", "1 0"}, false},
  /* halves of the last place go to even; from 65520 on nothing is finite; half of the least
     subnormal is zero */
  {OP_cast,
   "f16[9]",
   "",
   "1 1.001953125 65504 inf -inf 5.9604644775390625e-08 0 5.9604644775390625e-08 nan",
   {"f32[9]", "1.00048828125 1.00146484375 65519 65520 -65520 5.9604644775390625e-08 "
              "2.98023223876953125e-08 4.470348358154296875e-08 nan"},
   false},
  {OP_cast,
   "bf16[6]",
   "",
   "1 1.015625 -1 3.3895313892515355e+38 inf 9.1835496157991212e-41",
   {"f32[6]", "1.00390625 1.01171875 -1.00390625 3.3895313892515355e+38 3.4028234663852886e+38 "
              "9.1835496157991212e-41"},
   false},

  {OP_add, "f32[3]", "", "3 inf nan", {"f32[3]", "1 inf inf", "f32[3]", "2 1 -inf"}, false},
  {OP_add, "f32[1]", "", "16777216", {"f32[1]", "16777216", "f32[1]", "1"}, true},
  {OP_add, "f16[1]", "", "2048", {"f16[1]", "2048", "f16[1]", "1"}, true},
  {OP_add, "bf16[2]", "", "256 260", {"bf16[2]", "256 256", "bf16[2]", "1 3"}, true},
  {OP_add, "i32[2]", "", "-2147483648 0", {"i32[2]", "2147483647 -5", "i32[2]", "1 5"}, false},
  {OP_sub, "f32[2]", "", "-1 3.5", {"f32[2]", "1 3", "f32[2]", "2 -0.5"}, false},
  {OP_sub, "i32[1]", "", "2147483647", {"i32[1]", "-2147483648", "i32[1]", "1"}, false},
  {OP_mul, "f32[3]", "", "6 nan -0.5", {"f32[3]", "2 0 0.25", "f32[3]", "3 inf -2"}, false},
  {OP_mul,
   "i32[3]",
   "",
   "-2147479015 1 0",
   {"i32[3]", "46341 2147483647 65536", "i32[3]", "46341 2147483647 65536"},
   false},
  {OP_div, "f32[4]", "", "0.5 inf -inf nan", {"f32[4]", "1 1 -1 0", "f32[4]", "2 0 0 0"}, false},
  {OP_div, "f32[1]", "", "0.3333333432674407958984375", {"f32[1]", "1", "f32[1]", "3"}, true},
  {OP_pow,
   "f32[6]",
   "",
   "8 0.25 -8 nan 1 1.4142135623730951",
   {"f32[6]", "2 -2 -2 -2 0 2", "f32[6]", "3 -2 3 0.5 0 0.5"},
   false},
  {OP_mod,
   "f32[6]",
   "",
   "1 2 -2 -1 0.5 nan",
   {"f32[6]", "7 -7 7 -7 -1.5 1", "f32[6]", "3 3 -3 -3 1 0"},
   false},
  {OP_mod,
   "i32[6]",
   "",
   "1 2 -2 -1 0 0",
   {"i32[6]", "7 -7 7 -7 5 -2147483648", "i32[6]", "3 3 -3 -3 0 -1"},
   false},
  {OP_min, "f32[4]", "", "1 -2 nan nan", {"f32[4]", "1 3 nan 1", "f32[4]", "2 -2 1 nan"}, false},
  {OP_min, "i32[1]", "", "-2", {"i32[1]", "-2", "i32[1]", "9"}, false},
  {OP_max, "f32[4]", "", "2 3 nan nan", {"f32[4]", "1 3 nan 1", "f32[4]", "2 -2 1 nan"}, false},
  {OP_max, "i32[1]", "", "9", {"i32[1]", "-2", "i32[1]", "9"}, false},
  {OP_eq, "bool[3]", "", "1 0 0", {"f32[3]", "1 2 nan", "f32[3]", "1 3 nan"}, false},
  {OP_ne, "bool[3]", "", "0 1 1", {"f32[3]", "1 2 nan", "f32[3]", "1 3 nan"}, false},
  {OP_lt, "bool[4]", "", "1 0 0 0", {"f32[4]", "1 2 3 nan", "f32[4]", "2 2 2 2"}, false},
  {OP_le, "bool[4]", "", "1 1 0 0", {"i32[4]", "1 2 3 9", "i32[4]", "2 2 2 2"}, false},
  {OP_gt, "bool[4]", "", "0 0 1 0", {"f32[4]", "1 2 3 nan", "f32[4]", "2 2 2 2"}, false},
  {OP_ge, "bool[4]", "", "0 1 1 0", {"f32[4]", "1 2 3 nan", "f32[4]", "2 2 2 2"}, false},
  {OP_and, "bool[4]", "", "0 0 0 1", {"bool[4]", "0 0 1 1", "bool[4]", "0 1 0 1"}, false},
  {OP_or, "bool[4]", "", "0 1 1 1", {"bool[4]", "0 0 1 1", "bool[4]", "0 1 0 1"}, false},
  {OP_where,
   "f32[3]",
   "",
   "1 -2 3",
   {"bool[3]", "1 0 1", "f32[3]", "1 nan 3", "f32[3]", "-1 -2 nan"},
   false},

  {OP_reduce_sum, "f32[2,1]", "axes=1", "6 15", {"f32[2,3]", "1 2 3 4 5 6"}, false},
  {OP_reduce_sum, "f32[1,3]", "axes=0", "5 7 9", {"f32[2,3]", "1 2 3 4 5 6"}, false},
  {OP_reduce_sum, "f32[1,2,1]", "axes=0,2", "14 22", {"f32[2,2,2]", "1 2 3 4 5 6 7 8"}, false},
  {OP_reduce_sum, "i32[1]", "axes=0", "-2147483648", {"i32[2]", "2147483647 1"}, false},
  {OP_reduce_sum,
   "f32[1]",
   "axes=0",
   "16777220",
   {"f32[5]", "16777216 1 1 1 1"},
   false}, /* rounded once, at the end */
  {OP_reduce_prod, "f32[2,1]", "axes=1", "6 0", {"f32[2,3]", "1 2 3 4 0 6"}, false},
  {OP_reduce_prod, "i32[1]", "axes=0", "-2147479015", {"i32[3]", "46341 46341 1"}, false},
  {OP_reduce_max, "f32[2,1]", "axes=1", "3 nan", {"f32[2,3]", "1 3 2 nan 9 9"}, false},
  {OP_reduce_max, "f32[1]", "axes=0", "-inf", {"f32[2]", "-inf -inf"}, false},
  {OP_reduce_min, "f32[2,1]", "axes=1", "1 nan", {"f32[2,3]", "1 3 2 9 9 nan"}, false},
  {OP_reduce_min, "i32[1,1]", "axes=0,1", "-7", {"i32[2,2]", "3 -7 5 0"}, false},
  {OP_argmax, "i32[2,1]", "axis=1", "1 0", {"f32[2,3]", "1 3 3 5 -1 5"}, false},
  {OP_argmax, "i32[1,3]", "axis=0", "1 0 1", {"f32[2,3]", "1 nan 3 5 9 nan"}, false},
  {OP_cumsum, "f32[2,3]", "axis=1", "1 3 6 4 9 15", {"f32[2,3]", "1 2 3 4 5 6"}, false},
  {OP_cumsum, "f32[2,3]", "axis=1 reverse", "6 5 3 15 11 6", {"f32[2,3]", "1 2 3 4 5 6"}, false},
  {OP_cumsum, "i32[2,3]", "axis=0", "1 2 3 5 7 9", {"i32[2,3]", "1 2 3 4 5 6"}, false},
  {OP_matmul,
   "f32[2,2]",
   "",
   "22 28 49 64",
   {"f32[2,3]", "1 2 3 4 5 6", "f32[3,2]", "1 2 3 4 5 6"},
   false},
  {OP_matmul, "f32[2,1,1]", "", "11 53", {"f32[2,1,2]", "1 2 5 6", "f32[2,2,1]", "3 4 1 8"}, false},
  {OP_matmul_spans, /* 2 tiles of 3 steps, 4 spans: 0 | 1 2 | 3 | 4 5 */
   "f32[2,1,4]",
   "spans=4,1,2,1",
   "1 1 0 0 5 5 3 3",
   {"f32[1,3]", "1 2 3", "f32[3,4]", "1 1 0 0 1 1 0 0 1 1 1 1"},
   false},
  {OP_matmul, "f32[1,1]", "", "nan", {"f32[1,2]", "0 1", "f32[2,1]", "inf 1"}, false},

  {OP_reshape, "f32[3,2]", "", "1 2 3 4 5 6", {"f32[2,3]", "1 2 3 4 5 6"}, false},
  {OP_expand, "f32[2,3]", "", "1 1 1 2 2 2", {"f32[2,1]", "1 2"}, false},
  {OP_expand, "i32[2,2,2]", "", "1 2 1 2 3 4 3 4", {"i32[2,1,2]", "1 2 3 4"}, false},
  {OP_permute, "f32[3,2]", "perm=1,0", "1 4 2 5 3 6", {"f32[2,3]", "1 2 3 4 5 6"}, false},
  {OP_permute, "f32[2,1,3]", "perm=2,0,1", "1 3 5 2 4 6", {"f32[1,3,2]", "1 2 3 4 5 6"}, false},
  {OP_slice, "f32[2,2]", "range=0:2,1:3", "2 3 5 6", {"f32[2,3]", "1 2 3 4 5 6"}, false},
  {OP_slice, "f32[1,1]", "range=1:2,0:1", "4", {"f32[2,3]", "1 2 3 4 5 6"}, false},
  {OP_pad, "f32[2,4]", "padding=1:0,0:2 fill=9", "9 9 9 9 1 2 9 9", {"f32[1,2]", "1 2"}, false},
  {OP_concat,
   "f32[2,3]",
   "axis=1",
   "1 5 6 2 7 8",
   {"f32[2,1]", "1 2", "f32[2,2]", "5 6 7 8"},
   false},
  {OP_concat, "i32[3,1]", "axis=0", "1 2 3", {"i32[1,1]", "1", "i32[2,1]", "2 3"}, false},
  {OP_gather,
   "f32[4,2]",
   "",
   "3 4 1 2 nan nan nan nan",
   {"f32[2,2]", "1 2 3 4", "i32[4]", "1 0 2 -1"},
   false},
  {OP_gather, "i32[2,1]", "", "7 0", {"i32[2]", "7 8", "i32[2,1]", "0 5"}, false},
  {OP_scatter_add,
   "f32[3,2]",
   "",
   "0 0 6 8 3 4",
   {"i32[4]", "1 2 1 9", "f32[4,2]", "1 2 3 4 5 6 7 8"},
   false},
  {OP_scatter_add,
   "i32[2]",
   "",
   "-2147483648 0",
   {"i32[2]", "0 0", "i32[2]", "2147483647 1"},
   false},
  /* scores 0 and log 3: p = 1/4, 3/4 */
  {OP_attention,
   "f32[1,1,1]",
   "scale=1",
   "7",
   {"f32[1,1,1]", "1", "f32[1,2,1]", "0 1.0986122886681098", "f32[1,2,1]", "4 8"},
   false},
  {OP_attention, /* each of two heads sees its own query's key and the one before */
   "f32[2,3,1]",
   "scale=0 band=-1..0",
   "1 1.5 3 1 1.5 3",
   {"f32[2,3,1]", "1 2 3 4 5 6", "f32[1,3,1]", "7 8 9", "f32[1,3,1]", "1 2 4"},
   false},
  {OP_attention,
   "f32[1,2,1]",
   "scale=1 band=1..1",
   "8 0",
   {"f32[1,2,1]", "1 1", "f32[1,2,1]", "0 1", "f32[1,2,1]", "4 8"},
   false},
  {OP_attention,
   "f32[1,2,1]",
   "scale=1 band=1..1 empty=nan",
   "8 nan",
   {"f32[1,2,1]", "1 1", "f32[1,2,1]", "0 1", "f32[1,2,1]", "4 8"},
   false},
  {OP_attention, /* masked and kept */
   "f32[1,1,1]",
   "scale=0",
   "5",
   {"f32[1,1,1]", "1", "f32[1,3,1]", "0 0 0", "f32[1,3,1]", "4 8 5", "bool[1,1,3]", "1 0 1",
    "f32[1,1,3]", "0 9 2"},
   false},
  {OP_attention_lse,
   "f32[1,1,1]",
   "scale=1",
   "1.3862943611198906",
   {"f32[1,1,1]", "1", "f32[1,2,1]", "0 1.0986122886681098"},
   false},
  {OP_attention_lse, /* 2·tanh(1) = 1.5231883119115297 */
   "f32[1,2,1]",
   "scale=1 band=..0 cap=2",
   "1.5231883119115297 1.9610470319969866",
   {"f32[1,2,1]", "2 1", "f32[1,2,1]", "1 2"},
   false},
  {OP_attention_lse,
   "f32[1,2,1]",
   "scale=1",
   "-inf -inf",
   {"f32[1,2,1]", "2 1", "f32[1,1,1]", "1", "bool[1,2,1]", "0 0"},
   false},
#define BACKWARD                                                                                   \
  "f32[1,1,1]", "1", "f32[1,2,1]", "0 1.0986122886681098", "f32[1,2,1]", "4 8", "f32[1,1,1]",      \
    "1.3862943611198906", "f32[1,1,1]", "7", "f32[1,1,1]", "1"
  {OP_attention_dq, "f32[1,1,1]", "scale=1", "0.8239592165010823", {BACKWARD}, false},
  {OP_attention_dk, "f32[1,2,1]", "scale=1", "-0.75 0.75", {BACKWARD}, false},
  {OP_attention_dv, "f32[1,2,1]", "scale=1", "0.25 0.75", {BACKWARD}, false},
#undef BACKWARD
  {OP_softmax,
   "f32[2,3]",
   "axis=1",
   "0.04201006613406605 0.11419519938459449 0.8437947344813395 0.6224593312018546 "
   "0.37754066879814546 0",
   {"f32[2,3]", "1 2 4 1000 999.5 -1000"},
   false},
  {OP_softmax, "f32[2,2]", "axis=0", "0.5 0 0.5 1", {"f32[2,2]", "7 -inf 7 3"}, false},
  {OP_softmax, "f32[2,2]", "axis=1", "nan nan nan nan", {"f32[2,2]", "-inf -inf 1 nan"}, false},
  {OP_log_softmax,
   "f32[3]",
   "axis=0",
   "-3.1698460195562856 -2.1698460195562856 -0.16984601955628567",
   {"f32[3]", "1 2 4"},
   false},
  {OP_log_softmax, "f32[2]", "axis=0", "0 -2000", {"f32[2]", "1000 -1000"}, false},
  {OP_layer_norm,
   "f32[3]",
   "axes=0 eps=0.5",
   "-0.8798826901281198 -0.4399413450640599 1.3198240351921797",
   {"f32[3]", "1 2 6"},
   false},
  {OP_layer_norm, "f32[2,2]", "axes=0,1 eps=0", "-1 1 -1 1", {"f32[2,2]", "3 5 3 5"}, false},
  {OP_rms_norm,
   "f32[3]",
   "axes=0 eps=0.5",
   "0.2656844656620286 0.5313689313240572 1.5941067939721716",
   {"f32[3]", "1 2 6"},
   false},
  {OP_cross_entropy,
   "f32[4]",
   "",
   "0.16984601955628567 0.6041306053367282 inf inf",
   {"f32[4,3]", "1 2 4 0.5 -1 0 1 2 3 1 2 3", "i32[4]", "2 0 3 -1"},
   false},
  {OP_gelu_tanh,
   "f32[4]",
   "",
   "0 0.8411919906082768 -0.04540230591222494 2.996362607918227",
   {"f32[4]", "0 1 -2 3"},
   false},
  {OP_gelu_erf,
   "f32[4]",
   "",
   "0 0.8413447460685429 -0.04550026389635844 2.99595030590511",
   {"f32[4]", "0 1 -2 3"},
   false},
  {OP_silu,
   "f32[4]",
   "",
   "0 0.7310585786300049 -0.2384058440442351 2.8577223804672998",
   {"f32[4]", "0 1 -2 3"},
   false},
  {OP_rope,
   "f32[2,4]",
   "halves",
   "-3 2 1 4 4 -8 13 6",
   {"f32[2,4]", "1 2 3 4 5 6 7 8", "f32[2,2]", "0 1 1.5 0", "f32[2,2]", "1 0 0.5 1"},
   false},
  {OP_rope,
   "f32[1,4]",
   "interleaved",
   "-2 1 3 4",
   {"f32[1,4]", "1 2 3 4", "f32[1,2]", "0 1", "f32[1,2]", "1 0"},
   false},
  {OP_param, "f32[2]", "\"w\"", "1 2", {"f32[2]", "1 2"}, false},
  {OP_state, "f32[2]", "\"w\"", "1 2", {"f32[2]", "1 2"}, false},
  {OP_input, "i32[2]", "\"w\"", "1 2", {"i32[2]", "1 2"}, false},
};

static int numbers(const char *text, double *to) {
  int n = 0;
  for (char *end; *text; text = end) {
    to[n++] = strtod(text, &end);
    while (*end == ' ') end++;
    assert_true(n <= MAX_VALUES);
  }
  return n;
}

static bool is_named(Op op) { return op == OP_param || op == OP_state || op == OP_input; }

static Graph *graph_of(const Row *r) {
  Buf text = {0}, errors = {0};
  int n = 0;
  buf_str(&text, "graph \"row\" {\n");
  if (r->op == OP_fold) {
    buf_str(&text, "%0 = iota f32[2] axis=0\n%1 = const f32[2] 3703.5\n%2 = mul f32[2] %0 %1\n%3 = "
                   "sin f32[2] %2\n");
    n = 4;
  }
  for (; r->op != OP_fold && !is_named(r->op) && n < MAX_IN && r->in[2 * n]; n++)
    buf_printf(&text, "%%%d = input %s \"%d\"\n", n, r->in[2 * n], n);
  buf_printf(&text, "%%%d = %s %s", n, ir_op[r->op].name, r->type);
  for (int i = r->op == OP_fold ? 3 : 0; i < n; i++) buf_printf(&text, " %%%d", i);
  buf_printf(&text, " %s\noutput \"y\" %%%d\n}\n", r->attr, n);
  Graph *g = ir_parse("row", text.data, text.len, &errors);
  if (!g || !ir_verify(g, &errors)) fail_msg("%s\n%s", errors.data, text.data);
  buf_free(&text);
  buf_free(&errors);
  return g;
}

static void check(const Row *r, EvalMode mode) {
  Graph *g = graph_of(r);
  Arena *arena = arena_new();
  double in[MAX_IN][MAX_VALUES], want[MAX_VALUES];
  Feed feed[MAX_IN];
  int n_feed = 0;
  for (; n_feed < MAX_IN && r->in[2 * n_feed]; n_feed++) {
    static const char *const names[] = {"0", "1", "2", "3", "4", "5"};
    numbers(r->in[2 * n_feed + 1], in[n_feed]);
    bool named = is_named(r->op);
    feed[n_feed] = (Feed){named ? r->op : OP_input, named ? "w" : names[n_feed], in[n_feed]};
  }
  Tensor y;
  Buf why = {0};
  if (!ir_eval(arena, g, mode, feed, n_feed, &g->output[0].node, 1, &y, &why))
    fail_msg("%s", why.data);
  int n = numbers(r->want, want);
  assert_int_equal(n, type_count(&y.type));
  for (int i = 0; i < n; i++) {
    double w = mode == EVAL_f32 ? dtype_round(y.type.dtype, want[i]) : want[i];
    bool good = isnan(w)                       ? isnan(y.data[i])
                : mode == EVAL_f32 || isinf(w) ? y.data[i] == w
                                               : fabs(y.data[i] - w) <= 1e-15 * fabs(w);
    if (!good)
      fail_msg("%s %s %s in %s, element %d: %.17g, expected %.17g", ir_op[r->op].name, r->type,
               r->attr, mode == EVAL_f32 ? "f32" : "f64", i, y.data[i], w);
  }
  buf_free(&why);
  arena_free(arena);
  graph_free(g);
}

static void operations_have_their_values(void **unused) {
  (void)unused;
  bool seen[OP_COUNT] = {0};
  for (int i = 0; i < COUNT_OF(rows); i++) {
    seen[rows[i].op] = true;
    check(&rows[i], EVAL_f32);
    if (!rows[i].f32_only) check(&rows[i], EVAL_f64);
  }
  for (int op = 0; op < OP_COUNT; op++)
    if (!seen[op]) fail_msg("no row for %s", ir_op[op].name);
}

static Graph *parsed(const char *text) {
  Buf errors = {0};
  Graph *g = ir_parse("text", text, strlen(text), &errors);
  if (!g) fail_msg("%s", errors.data);
  return g;
}

/* In f32 mode a fold is computed in f64, also where it shares nodes with what is computed in
 * f32. */
static void folds_are_computed_in_f64(void **unused) {
  (void)unused;
  Graph *g = parsed("graph \"g\" {\n%0 = const f32[] 16777216\n%1 = const f32[] 1\n%2 = add f32[] "
                    "%0 %1\n%3 = sub f32[] %2 %0\n"
                    "%4 = fold f32[] %3\noutput \"plain\" %3\noutput \"fold\" %4\n}\n");
  Arena *arena = arena_new();
  Node *want[] = {g->output[0].node, g->output[1].node};
  Tensor y[2];
  Buf why = {0};
  assert_true(ir_eval(arena, g, EVAL_f32, NULL, 0, want, 2, y, &why));
  assert_true(y[0].data[0] == 0);
  assert_true(y[1].data[0] == 1);
  assert_true(ir_eval(arena, g, EVAL_f64, NULL, 0, want, 2, y, &why));
  assert_true(y[0].data[0] == 1 && y[1].data[0] == 1);
  arena_free(arena);
  graph_free(g);
}

/* Floats of f64 mode are not rounded, also those that are given; an explicit cast to 16 bits
 * rounds. */
static void f64_rounds_at_casts_alone(void **unused) {
  (void)unused;
  Graph *g = parsed("graph \"g\" {\n%0 = input f32[] \"x\"\n%1 = mul f32[] %0 %0\n%2 = cast bf16[] "
                    "%1\n%3 = add bf16[] %2 %2\n"
                    "%4 = cast f32[] %3\noutput \"square\" %1\noutput \"cast\" %4\n}\n");
  Arena *arena = arena_new();
  Node *want[] = {g->output[0].node, g->output[1].node};
  Tensor y[2];
  Buf why = {0};
  double x = 1 + 1e-12;
  Feed feed = {OP_input, "x", &x};
  assert_true(ir_eval(arena, g, EVAL_f64, &feed, 1, want, 2, y, &why));
  assert_true(y[0].data[0] == x * x);
  assert_true(y[1].data[0] == 2);
  assert_true(ir_eval(arena, g, EVAL_f32, &feed, 1, want, 2, y, &why));
  assert_true(y[0].data[0] == 1);
  arena_free(arena);
  graph_free(g);
}

/* Every missing value is named; what is not wanted needs none. */
static void missing_values_are_named(void **unused) {
  (void)unused;
  Graph *g =
    parsed("graph \"g\" {\n%0 = input f32[] \"x\"\n%1 = param f32[] \"w\"\n%2 = state f32[] "
           "\"m\"\n%3 = mul f32[] %0 %1\n"
           "%4 = add f32[] %3 %2\n%5 = neg f32[] %0\noutput \"all\" %4\noutput \"some\" %5\n}\n");
  Arena *arena = arena_new();
  Tensor y;
  Buf why = {0};
  double x = 3;
  Feed feed = {OP_input, "x", &x}, wrong = {OP_state, "x", &x};
  assert_false(ir_eval(arena, g, EVAL_f64, &feed, 1, &g->output[0].node, 1, &y, &why));
  assert_string_equal(why.data, "no value for param \"w\", no value for state \"m\"");
  buf_clear(&why);
  assert_true(ir_eval(arena, g, EVAL_f64, &feed, 1, &g->output[1].node, 1, &y, &why));
  assert_true(y.data[0] == -3);
  assert_false(ir_eval(arena, g, EVAL_f64, &wrong, 1, &g->output[1].node, 1, &y, &why));
  buf_free(&why);
  arena_free(arena);
  graph_free(g);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(operations_have_their_values),
    cmocka_unit_test(folds_are_computed_in_f64),
    cmocka_unit_test(f64_rounds_at_casts_alone),
    cmocka_unit_test(missing_values_are_named),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
