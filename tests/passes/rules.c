/* Every RULE of rules.def (its SHAPEs: shape_rules.c): both sides are evaluated at boundary values, all combinations of them,
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
enum { N_VAR = TV_w + 1 }; /* x, y, z, w */

static const double bools[] = {0, 1};
static const double consts[] = {0.5, 2, -4, 3, 0.1, 0.999, 1e-3, -1, 3e4, 7e4, 0x1p-120, 0x1p120, 1e30};

/* One side as a graph over inputs x, y, z, w; NULL where the pattern does not take the type. */
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
  const Rule *rule;
  const Term *from;
  DType dtype;
  bool is_bool[TV_COUNT];
  int64_t n;               /* points */
  double *value[TV_COUNT]; /* of x, y, z, w at each point */
  Feed feed[N_VAR];
  double c, d;
  Arena *arena;
} Check;

static const double *list_of(const Check *k, int v, int *n) {
  if (k->is_bool[v]) return *n = COUNT_OF(bools), bools;
  if (k->dtype == DT_i32) return *n = COUNT_OF(ints), ints;
  return *n = COUNT_OF(floats), floats;
}

static void make_points(Check *k) {
  k->n = 1;
  for (int v = 0, n; v < N_VAR; v++)
    if (k->from->vars >> v & 1) list_of(k, v, &n), k->n *= n;
  int64_t stride = 1;
  for (int v = 0, n; v < N_VAR; v++) {
    if (!(k->from->vars >> v & 1)) continue;
    const double *list = list_of(k, v, &n);
    DType d = k->is_bool[v] ? DT_bool : k->dtype;
    k->value[v] = arena_alloc(k->arena, sizeof(double) * (size_t)k->n);
    for (int64_t i = 0; i < k->n; i++) k->value[v][i] = dtype_round(d, list[i / stride % n]);
    stride *= n;
  }
  static const char *const name[] = {"x", "y", "z", "w"};
  for (int v = 0; v < N_VAR; v++) k->feed[v] = (Feed){OP_input, name[v], k->value[v]};
}

static bool build(Check *k, const Term *t, Side *s) {
  *s = (Side){graph_new("side"), true};
  static const char *const name[] = {"x", "y", "z", "w"};
  Type type = {.dtype = k->dtype, .rank = 1, .dim = {k->n}},
       logic = {.dtype = DT_bool, .rank = 1, .dim = {k->n}};
  Node *var[TV_COUNT] = {0};
  for (int v = 0; v < N_VAR; v++)
    if (k->from->vars >> v & 1)
      var[v] = ir_leaf(s->g, OP_input, name[v], k->is_bool[v] ? &logic : &type);
  if (k->from->vars >> TV_c & 1) var[TV_c] = ir_const(s->g, k->c, &type);
  if (k->from->vars >> TV_d & 1) var[TV_d] = ir_const(s->g, k->d, &type);
  Node *y = term_build(t, &(TermMaker){.g = s->g, .make = make, .context = s}, var,
                       gives_bool(k->from) ? &logic : &type);
  ir_output(s->g, OUT_value, "y", y);
  return s->ok;
}

static double unit_of(DType d) { return d == DT_f16 ? 0x1p-10 : d == DT_bf16 ? 0x1p-7 : 0x1p-23; }
static double least_of(DType d) {
  return d == DT_f16 ? 0x1p-24 : d == DT_bf16 ? 0x1p-133 : 0x1p-149;
}

static bool same_bits(double a, double b) {
  return (isnan(a) && isnan(b)) || (a == b && !signbit(a) == !signbit(b));
}

static bool agree(const Check *k, int64_t i, double a, double b) {
  int kind = k->rule->kind;
  if (k->dtype == DT_i32) return a == b;
  for (int v = 0; v < N_VAR; v++) {
    if (!k->value[v]) continue;
    if ((kind & INF) && isinf(k->value[v][i])) return true;
    if ((kind & ZERO) && k->value[v][i] == 0 && signbit(k->value[v][i])) return true;
  }
  if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
  if (kind & BETTER)
    return a == b || fabs(a - b) <= 1e-13 * fmax(1, fmax(fabs(a), fabs(k->value[TV_x][i])));
  if (kind & NEAR)
    return a == b || fabs(a - b) <= 4 * (unit_of(k->dtype) * fabs(a) + least_of(k->dtype));
  return (kind & ZERO) ? a == b : same_bits(a, b);
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
    fail_msg("%s, %s: simplify makes\n%sfrom one side and\n%sfrom the other", k->rule->name,
             dtype_name(k->dtype), a.data, b.data);
  buf_free(&a);
  buf_free(&b);
}

static Tensor evaluate(const Check *k, const Graph *g, EvalMode mode) {
  Tensor t;
  Buf why = {0};
  assert_true(ir_eval(k->arena, g, mode, k->feed, N_VAR, &g->output[0].node, 1, &t, &why));
  return t;
}

/* Under --strict the pattern keeps its bits. */
static void check_strict(const Check *k, Graph *from) {
  Graph *to = pass_simplify(from, &(PassOptions){.strict = true});
  Tensor a = evaluate(k, from, EVAL_f32), b = evaluate(k, to, EVAL_f32);
  for (int64_t i = 0; i < k->n; i++)
    if (!same_bits(a.data[i], b.data[i]))
      fail_msg("%s, %s, strict: %.9g and %.9g", k->rule->name, dtype_name(k->dtype), a.data[i],
               b.data[i]);
  if (to != from) graph_free(to);
}

static bool check_values(Check *k) {
  Side from, to;
  make_points(k);
  bool ok = build(k, k->rule->from, &from);
  bool also = build(k, k->rule->to, &to);
  ok = ok && simplify_allows(k->rule->kind, false, from.g->output[0].node);
  if (ok) {
    assert_true(also);
    EvalMode mode = k->rule->kind & BETTER ? EVAL_f64 : EVAL_f32;
    Tensor a = evaluate(k, from.g, mode), b = evaluate(k, to.g, mode);
    for (int64_t i = 0; i < k->n; i++)
      if (!agree(k, i, a.data[i], b.data[i]))
        fail_msg("%s, %s, x = %.9g, y = %.9g, c = %.9g, d = %.9g: %.9g and %.9g", k->rule->name,
                 dtype_name(k->dtype), k->value[0][i], k->value[1] ? k->value[1][i] : 0, k->c, k->d,
                 a.data[i], b.data[i]);
    check_strict(k, from.g);
    check_used(k, &from, &to);
  }
  graph_free(from.g);
  graph_free(to.g);
  return ok;
}

static int n_consts(const Rule *rule, TermVar v) {
  return rule->from->vars >> v & 1 ? COUNT_OF(consts) : 1;
}

static int check_rule(const Rule *rule, DType dtype) {
  int checked = 0, n_c = n_consts(rule, TV_c), n_d = n_consts(rule, TV_d);
  Arena *arena = arena_new();
  Check k = {.rule = rule, .from = rule->from, .dtype = dtype, .arena = arena};
  find_bools(k.from, false, k.is_bool);
  for (int i = 0; i < n_c * n_d; i++) {
    double c = consts[i % n_c], d = consts[i / n_c];
    k.c = n_c > 1 ? dtype_round(dtype, c) : 0;
    k.d = n_d > 1 ? dtype_round(dtype, d) : 0;
    if (dtype == DT_i32 && ((n_c > 1 && k.c != c) || (n_d > 1 && k.d != d))) continue;
    if (rule->holds(k.c, k.d, dtype == DT_i32)) checked += check_values(&k);
  }
  arena_free(arena);
  return checked;
}

static void test_rules(void **state) {
  (void)state;
  static const DType dtypes[] = {DT_f32, DT_i32, DT_f16, DT_bf16};
  const Rule *rule;
  int total = 0, n = simplify_rules(&rule), n_term = 0;
  for (int i = 0; i < n; i++) {
    int checked = 0;
    if (!rule[i].pattern) continue;
    for (int d = 0; d < COUNT_OF(dtypes); d++) checked += check_rule(&rule[i], dtypes[d]);
    if (!checked) fail_msg("rule %s is never checked", rule[i].name);
    total += checked;
    n_term++;
  }
  print_message("%d rules, %d checks\n", n_term, total);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_rules)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
