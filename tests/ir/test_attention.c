/* The attention family: the evaluator against the definition in primitives, and what nodes carry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "tests/gen/gen.h"

static bool close_to(double a, double b) {
  return a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= 1e-12 * fmax(fabs(a), 1);
}

static void compare(Op op, int i) {
  GenFeed feed;
  Graph *g = gen_case(op, i, &feed);
  Arena *arena = arena_new();
  Buf why = {0};
  Node *y = g->output[0].node;
  Node *want[] = {y, gen_attention_definition(g, y, false), gen_attention_definition(g, y, true)};
  Tensor t[3];
  if (!ir_eval(arena, g, EVAL_f64, feed.feed, feed.n, want, 3, t, &why)) fail_msg("%s", why.data);
  assert_true(type_eq(&t[0].type, &t[1].type));
  for (int64_t k = 0; k < type_count(&t[0].type); k++) {
    double a = t[0].data[k], b = t[1].data[k], most = t[2].data[k];
    if (!close_to(a, b))
      fail_msg("%s: element %lld is %.17g, by definition %.17g", feed.title, (long long)k, a, b);
    if (isfinite(a) && !(fabs(a) <= most * 1.0000001 + 1e-12))
      fail_msg("%s: element %lld is %g, its terms sum to %g", feed.title, (long long)k, a, most);
  }
  buf_free(&why);
  arena_free(arena);
  graph_free(g);
}

static void the_evaluator_follows_the_definition(void **unused) {
  (void)unused;
  static const Op family[] = {OP_attention, OP_attention_lse, OP_attention_dq, OP_attention_dk,
                              OP_attention_dv};
  for (int f = 0; f < COUNT_OF(family); f++)
    for (int i = 0; i < gen_count(family[f]); i++) {
      GenFeed feed;
      Graph *g = gen_case(family[f], i, &feed);
      /* 16-bit values round elsewhere; with infinities the definition multiplies 0 by them */
      bool same = g->output[0].node->src[0]->type.dtype == DT_f32 && !(feed.flags & GEN_boundary);
      graph_free(g);
      if (same) compare(family[f], i);
    }
}

static void attributes_are_kept(void **unused) {
  (void)unused;
  Graph *g = graph_new("g");
  Type t = type_of(DT_f32, 3, (int64_t[]){2, 3, 4}), of = type_of(DT_f32, 3, (int64_t[]){2, 3, 3}),
       seen = of;
  seen.dtype = DT_bool;
  Node *q = ir_leaf(g, OP_input, "q", &t), *keep = ir_leaf(g, OP_input, "keep", &of),
       *mask = ir_leaf(g, OP_input, "mask", &seen), *src[] = {q, q, q};
  AttentionAttr a = {0.1, 30, -3 * (int64_t)IR_UNBOUNDED, -0, 0, true, mask, keep};
  Node *o = ir_attend(g, OP_attention, src, &a);
  AttentionAttr b = ir_attention(o);
  assert_true(b.scale == (float)0.1 && b.cap == 30 && b.lo == -IR_UNBOUNDED && b.hi == 0);
  assert_true(b.empty_nan && b.mask == mask && b.keep == keep);
  assert_ptr_equal(ir_attend(g, OP_attention, src, &b), o);
  AttentionAttr lse = ir_attention(ir_attend(g, OP_attention_lse, src, &a));
  assert_true(lse.mask == mask && !lse.keep && !lse.empty_nan && lse.cap == 30);
  a.keep = NULL;
  b = ir_attention(ir_attend(g, OP_attention, src, &a));
  assert_true(b.mask == mask && !b.keep);
  a.mask = NULL, a.keep = keep;
  b = ir_attention(ir_attend(g, OP_attention, src, &a));
  assert_true(!b.mask && b.keep == keep);
  a.cap = 29;
  assert_ptr_not_equal(ir_attend(g, OP_attention, src, &a), o);
  graph_free(g);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(the_evaluator_follows_the_definition),
    cmocka_unit_test(attributes_are_kept),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
