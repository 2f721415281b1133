/* Every rule of rules.def: both sides are evaluated at boundary values, all combinations of them,
 * in every type that the pattern takes, and must agree as the rule's kind says; and simplify must
 * use the rule. */
#include "passes/passes.h"
#include "passes/simplify.h"
#include "passes/term.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <string.h>

static const struct Rule {
  const char *pattern, *result;
  int line, kind;
} rules[] = {
#define RULE(pattern, result, kind, guard) {pattern, result, __LINE__, kind},
#include "passes/rules.def"
#undef RULE
};

static bool guard(int line, double c, bool is_int) {
  switch (line) {
#define RULE(pattern, result, kind, guard)                                                         \
  case __LINE__:                                                                                   \
    return guard;
#include "passes/rules.def"
#undef RULE
  default: return false;
  }
}

static const double floats[] = {0,
                                -0.0,
                                1,
                                -1,
                                0.5,
                                -0.5,
                                2,
                                -2,
                                3,
                                -3,
                                0.999,
                                1.0000001,
                                1e-3,
                                -1e-3,
                                0x1p-126,
                                -0x1p-130,
                                0x1p-149,
                                1e-10,
                                10,
                                -88.5,
                                100,
                                65504,
                                1e19,
                                -1e30,
                                0x1.fffffep127,
                                -0x1.fffffep127,
                                INFINITY,
                                -INFINITY,
                                NAN};
static const double ints[] = {0, 1, -1, 2, -2, 3, 7, 46341, -65536, 2147483647, -2147483648.0};
static const double bools[] = {0, 1};
static const double consts[] = {0.5, 2, -4, 3, 0.1, 0.999, 1e-3, -1, 7e4, 0x1p-120, 0x1p120, 1e30};

/* One side as a graph over inputs x, y, z; NULL where the pattern does not take the type. */
typedef struct Side {
  Graph *g;
  bool ok;
} Side;

static Node *make(void *context, Op op, const Type *given, int n_src, Node *const *src) {
  Side *s = context;
  static const Attr none;
  Type type;
  Buf why = {0};
  s->ok = s->ok && ir_infer(op, given, &none, n_src, src, &type, &why);
  buf_free(&why);
  return s->ok ? ir_make(s->g, op, given, NULL, n_src, src) : src[0];
}

/* Which variables are bool: sources of logical operations, and what where chooses by. */
static void find_bools(const Term *t, bool is_bool, bool *var) {
  if (t->kind == TERM_var && is_bool) var[t->var] = true;
  for (int i = 0; t->kind == TERM_op && i < t->n_src; i++)
    find_bools(
      t->src[i],
      t->op == OP_not || t->op == OP_and || t->op == OP_or || (t->op == OP_where && i == 0), var);
}

static bool gives_bool(const Term *t) {
  switch (t->op) {
  case OP_not:
  case OP_and:
  case OP_or:
  case OP_eq:
  case OP_ne: return true;
  default: return false;
  }
}

typedef struct Check {
  const struct Rule *rule;
  const Term *from, *to;
  DType dtype;
  bool is_bool[TV_COUNT];
  int64_t n;               /* points */
  double *value[TV_COUNT]; /* of x, y, z at each point */
  Feed feed[3];
  double c;
  Arena *arena;
} Check;

static const double *list_of(const Check *k, int v, int *n) {
  if (k->is_bool[v]) return *n = COUNT_OF(bools), bools;
  if (k->dtype == DT_i32) return *n = COUNT_OF(ints), ints;
  return *n = COUNT_OF(floats), floats;
}

static void make_points(Check *k) {
  k->n = 1;
  for (int v = 0, n; v < 3; v++)
    if (k->from->vars >> v & 1) list_of(k, v, &n), k->n *= n;
  int64_t stride = 1;
  for (int v = 0, n; v < 3; v++) {
    if (!(k->from->vars >> v & 1)) continue;
    const double *list = list_of(k, v, &n);
    DType d = k->is_bool[v] ? DT_bool : k->dtype;
    k->value[v] = arena_alloc(k->arena, sizeof(double) * (size_t)k->n);
    for (int64_t i = 0; i < k->n; i++) k->value[v][i] = dtype_round(d, list[i / stride % n]);
    stride *= n;
  }
  static const char *const name[] = {"x", "y", "z"};
  for (int v = 0; v < 3; v++) k->feed[v] = (Feed){OP_input, name[v], k->value[v]};
}

static bool build(Check *k, const Term *t, Side *s) {
  *s = (Side){graph_new("side"), true};
  static const char *const name[] = {"x", "y", "z"};
  Type type = {.dtype = k->dtype, .rank = 1, .dim = {k->n}},
       logic = {.dtype = DT_bool, .rank = 1, .dim = {k->n}};
  Node *var[TV_COUNT] = {0};
  for (int v = 0; v < 3; v++)
    if (k->from->vars >> v & 1)
      var[v] = ir_leaf(s->g, OP_input, name[v], k->is_bool[v] ? &logic : &type);
  if (k->from->vars >> TV_c & 1) var[TV_c] = ir_const(s->g, k->c, &type);
  Node *y = term_build(t, &(TermMaker){.g = s->g, .make = make, .context = s}, var,
                       gives_bool(k->from) ? &logic : &type);
  ir_output(s->g, OUT_value, "y", y);
  return s->ok;
}

static double unit_of(DType d) { return d == DT_f16 ? 0x1p-10 : d == DT_bf16 ? 0x1p-7 : 0x1p-23; }
static double least_of(DType d) {
  return d == DT_f16 ? 0x1p-24 : d == DT_bf16 ? 0x1p-133 : 0x1p-149;
}

static bool agree(const Check *k, int64_t i, double a, double b) {
  int kind = k->rule->kind;
  for (int v = 0; v < 3; v++) {
    if (!k->value[v]) continue;
    if ((kind & INF) && isinf(k->value[v][i])) return true;
    if ((kind & ZERO) && k->value[v][i] == 0 && signbit(k->value[v][i])) return true;
  }
  if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
  if (kind & BETTER)
    return a == b || fabs(a - b) <= 1e-13 * fmax(1, fmax(fabs(a), fabs(k->value[TV_x][i])));
  if (kind & NEAR)
    return a == b || fabs(a - b) <= 4 * (unit_of(k->dtype) * fabs(a) + least_of(k->dtype));
  return (kind & ZERO) ? a == b : a == b && !signbit(a) == !signbit(b);
}

static void print_graph(const Graph *g, Buf *out) {
  buf_clear(out);
  ir_print(out, g);
}

static Graph *simplify(Graph *g) {
  Graph *to = pass_simplify(g, &(PassOptions){0});
  if (to != g) graph_free(g);
  return to;
}

/* Both sides become the same graph, so the rule is not in another's shadow, nor undone. */
static void check_used(const Check *k, Side *from, Side *to) {
  Buf a = {0}, b = {0};
  from->g = simplify(from->g);
  to->g = simplify(to->g);
  print_graph(from->g, &a);
  print_graph(to->g, &b);
  if (strcmp(a.data, b.data) != 0)
    fail_msg("rule %s → %s, %s: simplify makes\n%sfrom one side and\n%sfrom the other",
             k->rule->pattern, k->rule->result, dtype_name(k->dtype), a.data, b.data);
  buf_free(&a);
  buf_free(&b);
}

static bool check_values(Check *k) {
  Side from, to;
  make_points(k);
  bool ok = build(k, k->from, &from);
  bool also = build(k, k->to, &to);
  if (ok) {
    assert_true(also);
    EvalMode mode = k->rule->kind & BETTER ? EVAL_f64 : EVAL_f32;
    Tensor a, b;
    Buf why = {0};
    assert_true(ir_eval(k->arena, from.g, mode, k->feed, 3, &from.g->output[0].node, 1, &a, &why));
    assert_true(ir_eval(k->arena, to.g, mode, k->feed, 3, &to.g->output[0].node, 1, &b, &why));
    for (int64_t i = 0; i < k->n; i++)
      if (!agree(k, i, a.data[i], b.data[i]))
        fail_msg("rule %s → %s, %s, x = %.9g, y = %.9g, c = %.9g: %.9g and %.9g", k->rule->pattern,
                 k->rule->result, dtype_name(k->dtype), k->value[0][i],
                 k->value[1] ? k->value[1][i] : 0, k->c, a.data[i], b.data[i]);
    check_used(k, &from, &to);
  }
  graph_free(from.g);
  graph_free(to.g);
  return ok;
}

static int check_rule(const struct Rule *rule, DType dtype) {
  int checked = 0;
  Arena *arena = arena_new();
  Check k = {.rule = rule,
             .from = term_parse(arena, rule->pattern),
             .to = term_parse(arena, rule->result),
             .dtype = dtype,
             .arena = arena};
  find_bools(k.from, false, k.is_bool);
  bool has_c = k.from->vars >> TV_c & 1;
  for (int i = 0; i < (has_c ? COUNT_OF(consts) : 1); i++) {
    k.c = has_c ? dtype_round(dtype, consts[i]) : 0;
    if (dtype == DT_i32 && k.c != consts[i] && has_c) continue;
    if (guard(rule->line, k.c, dtype == DT_i32)) checked += check_values(&k);
  }
  arena_free(arena);
  return checked;
}

static void test_rules(void **state) {
  (void)state;
  static const DType dtypes[] = {DT_f32, DT_i32, DT_f16, DT_bf16};
  int total = 0;
  for (int i = 0; i < COUNT_OF(rules); i++) {
    int checked = 0;
    for (int d = 0; d < COUNT_OF(dtypes); d++) checked += check_rule(&rules[i], dtypes[d]);
    if (!checked) fail_msg("rule %s is never checked", rules[i].pattern);
    total += checked;
  }
  print_message("%d rules, %d checks\n", COUNT_OF(rules), total);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_rules)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
