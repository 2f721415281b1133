/* Every SHAPE of rules.def, alone: small random graphs of its root over its source, with lengths of
 * 1 and values at the edges, must compute the same with what it gives as before, as its kind says. */
#include "passes/passes.h"
#include "passes/simplify.h"
#include "tests/gen/gen.h"
#include "tests/gen/grow.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

enum { TRIES = 6000, ENOUGH = 60, LARGEST = 200 };

static const DType dtypes[] = {DT_f32, DT_i32, DT_f32, DT_bf16, DT_bool};
/* what rules look for in sources other than the first */
static const Op favourites[] = {OP_expand, OP_pad, OP_slice, OP_concat, OP_neg, OP_add, OP_reshape};

static bool moderate; /* no edges among the values: sums are compared within rounding */

static Node *grow(Grow *k, Op, const Type *, Op below, int depth);

static Node *leaf(Grow *k, const Type *t, int limit) {
  static const double number[] = {0, -0.0, 1, -2, 0.5, INFINITY, NAN};
  int pick = (int)grow_draw(k, 14);
  if (limit && t->rank == 1 && pick < 6) return ir_iota(k->g, 0, t);
  if (limit) return grow_leaf(k, OP_input, 'i', limit, t);
  if (pick < 3) return ir_const(k->g, t->dtype == DT_bool ? pick % 2 : pick, t);
  if (pick < 7 && !moderate && dtype_is_float(t->dtype)) return ir_const(k->g, number[pick], t);
  return grow_leaf(k, OP_input, pick % 2 || moderate ? 'u' : 'e', 0, t);
}

/* The source of one that was grown, or a new one. */
static Node *source(Grow *k, const GrowSources *s, int i, Node *before, Op below, int depth) {
  const Type *t = &s->src[i];
  if (before && type_eq(&before->type, t) && grow_draw(k, 4) == 0) return before;
  if (i == 0 && below != OP_COUNT) return grow(k, below, t, OP_COUNT, depth - 1);
  Op op = before && ir_op[before->op].n_src != 0 ? before->op : OP_COUNT;
  if (op == OP_COUNT || grow_draw(k, 3) == 0) op = favourites[grow_draw(k, COUNT_OF(favourites))];
  Node *x =
    depth > 0 && !s->limit[i] && grow_draw(k, 3) ? grow(k, op, t, OP_COUNT, depth - 1) : NULL;
  return x ? x : leaf(k, t, s->limit[i]);
}

/* The sources of a concat as slices of one tensor, mostly side by side. */
static bool split(Grow *k, const GrowSources *s, const Type *want, Node **src) {
  int64_t axis = s->attr.ints[0], begin[IR_MAX_RANK] = {0}, end[IR_MAX_RANK], at = 0;
  memcpy(end, want->dim, sizeof end);
  Node *x = leaf(k, want, 0);
  for (int i = 0; i < s->n_src; i++) {
    int64_t length = s->src[i].dim[axis];
    begin[axis] = grow_draw(k, 5) ? at : want->dim[axis] - length;
    end[axis] = begin[axis] + length;
    at += length;
    src[i] = ir_slice(k->g, x, begin, end);
  }
  return true;
}

/* Two tensors that tile one of this type along an axis, mostly, each padded with zeros to be as
 * large; to one of them something may be added. false: the type has no such axis. */
static bool tile(Grow *k, const Type *want, Node **src) {
  int axis = 0, swap = (int)grow_draw(k, 2);
  while (axis < want->rank && want->dim[axis] == 1) axis++;
  if (axis == want->rank) return false;
  int64_t cut = 1 + grow_draw(k, (uint32_t)want->dim[axis] - 1), n = want->dim[axis];
  for (int i = 0; i < 2; i++) {
    Type t = *want;
    int64_t lo[IR_MAX_RANK] = {0}, hi[IR_MAX_RANK] = {0};
    t.dim[axis] = i ? n - cut : cut;
    if (i && t.dim[axis] > 1 && grow_draw(k, 5) == 0) t.dim[axis]--;
    lo[axis] = i ? n - t.dim[axis] : 0;
    hi[axis] = n - t.dim[axis] - lo[axis];
    src[i ^ swap] = ir_pad(k->g, leaf(k, &t, 0), lo, hi, 0);
  }
  if (grow_draw(k, 2)) src[0] = ir_add(k->g, leaf(k, want, 0), src[0]);
  return true;
}

/* `op` over a first source `below`; NULL where the type cannot be had. */
static Node *grow(Grow *k, Op op, const Type *want, Op below, int depth) {
  GrowSources s;
  Node *src[IR_MAX_SRC];
  if (op == OP_const) return ir_const(k->g, (double)grow_draw(k, 2), want);
  if (op == OP_fold) {
    src[0] = below == OP_const ? grow(k, OP_const, want, 0, 0) : NULL;
    return src[0] ? ir_fold(k->g, src[0]) : NULL;
  }
  if (!grow_sources(k, op, want, &s)) return NULL;
  bool made = grow_draw(k, 2) && below == OP_COUNT;
  made = made && (op == OP_concat ? split(k, &s, want, src) : op == OP_add && tile(k, want, src));
  for (int i = 0; i < s.n_src && !made; i++) {
    src[i] = source(k, &s, i, i ? src[i - 1] : NULL, below, depth);
    if (!src[i]) return NULL;
  }
  return ir_make(k->g, op, ir_op[op].given ? want : NULL, &s.attr, s.n_src, src);
}

static Op draw_elementwise(Grow *k) {
  for (;;) {
    Op op = (Op)grow_draw(k, GEN_OPS);
    if ((ir_op[op].flags & IR_EW) && !(ir_op[op].flags & IR_RAISED)) return op;
  }
}

/* A graph whose last node may be one that the rule speaks of. */
static Node *grow_for(Grow *k, const Rule *r) {
  Op root = r->root == OP_elementwise ? draw_elementwise(k) : (Op)r->root;
  DType d = dtypes[grow_draw(k, COUNT_OF(dtypes))];
  if (root == OP_argmax) d = DT_i32;
  Type want = grow_type(k, d, 4, 4);
  return grow(k, root, &want, r->below == OP_any ? OP_COUNT : (Op)r->below, 2);
}

static double unit_of(DType d) { return d == DT_f16 ? 0x1p-10 : d == DT_bf16 ? 0x1p-7 : 0x1p-23; }

/* Where sums are in another order: within the rounding of all that is summed; infinities, and what
 * may overflow on the way, compare by what stands in the sources. */
static bool agree(int kind, DType d, double scale, double a, double b) {
  if (isnan(a) && isnan(b)) return true;
  if ((kind & SUM) && d != DT_i32)
    return a == b || scale > 0x1p120 || fabs(a - b) <= LARGEST * unit_of(d) * scale;
  return a == b && ((kind & ZERO) || !signbit(a) == !signbit(b));
}

/* The largest magnitude in the leaves; infinite where one is. */
static double largest_of(const Graph *g, const Feed *feed, int n_feed) {
  double largest = 0;
  for (int i = 0, f = 0; i < g->n_node && f < n_feed; i++)
    if (g->node[i]->op == OP_input) {
      const double *x = feed[f++].data;
      for (int64_t e = 0; e < type_count(&g->node[i]->type); e++)
        if (!isnan(x[e])) largest = fmax(largest, fabs(x[e]));
    }
  return largest;
}

/* The rule on the node; whether it gave something. */
static bool check(const Rule *r, Graph *g, Node *n) {
  Tensor t[2];
  Buf why = {0}, text = {0};
  int n_feed;
  g->region = n->region;
  if (!simplify_allows(r->kind, false, n)) return false;
  Node *better = simplify_by(r, &(TermMaker){.g = g}, n);
  if (!better) return false;
  if (better == n) fail_msg("%s gives the node itself", r->name);
  Feed *feed = grow_feeds(g->arena, g, &n_feed);
  Node *pair[2] = {n, better};
  assert_true(type_eq(&n->type, &better->type));
  if (!ir_verify(g, &why)) fail_msg("%s: %s", r->name, why.data);
  assert_true(ir_eval(g->arena, g, EVAL_f32, feed, n_feed, pair, 2, t, &why));
  double scale = fmax(8, largest_of(g, feed, n_feed));
  for (int64_t i = 0; i < type_count(&n->type); i++)
    if (!agree(r->kind, (DType)n->type.dtype, scale, t[0].data[i], t[1].data[i])) {
      ir_print(&text, g);
      fputs(text.data, stderr);
      fail_msg("%s: element %d is %.9g, then %.9g", r->name, (int)i, t[0].data[i], t[1].data[i]);
    }
  buf_free(&text);
  return true;
}

static int check_rule(const Rule *r, uint32_t stream) {
  int used = 0;
  for (uint32_t i = 0; i < TRIES && used < ENOUGH; i++) {
    Grow k = {.g = graph_new("shape"), .seed = stream * TRIES + i, .largest = LARGEST};
    moderate = i % 2;
    Node *n = grow_for(&k, r);
    if (n && n->op != OP_const) used += check(r, k.g, n);
    graph_free(k.g);
  }
  return used;
}

static void test_shapes(void **state) {
  (void)state;
  const Rule *rule;
  int n = simplify_rules(&rule), n_shape = 0, total = 0;
  for (int i = 0; i < n; i++) {
    if (!rule[i].rewrite) continue;
    int used = check_rule(&rule[i], (uint32_t)i);
    if (used < ENOUGH / 4) fail_msg("%s: used %d times", rule[i].name, used);
    total += used;
    n_shape++;
  }
  print_message("%d rules, %d uses\n", n_shape, total);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_shapes)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
