/* raise on spellings: each FILE.alpha of the folder raise/ is a model of functions, each with lines
 * "//= OPERATION ATTRIBUTES" above it that name the raised operations it must become, in order, or
 * "//= nothing" for what only looks alike, and "//= exp is left" where not all is replaced. Whatever is raised, the function and its gradient must
 * stay what they were; so must what lower makes of it. */
#include "frontend/frontend.h"
#include "passes/passes.h"
#include "tests/gen/gen.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int wrong; /* functions that became something else */
enum { MAX_FEEDS = 12, MAX_NAME = 64 };

static const PassOptions plain;

/* ---- what is expected ---- */
/* The next function that has expectations: its name and their lines. */
static const char *next_function(const char *at, char *name, Buf *want) {
  buf_clear(want);
  for (; *at; at += strcspn(at, "\n"), at += *at == '\n') {
    const char *line = at + strspn(at, " ");
    if (strncmp(line, "//= ", 4) == 0) {
      buf_printf(want, "%.*s\n", (int)strcspn(line + 4, "\n"), line + 4);
    } else if (want->len && strncmp(line, "//", 2) != 0) {
      if (sscanf(line, "fn %63[a-z0-9_]", name) != 1)
        fail_msg("no function follows %s", want->data);
      return at;
    }
  }
  return NULL;
}

static bool is_attention(Op op) { return ir_attention_sources(op) > 0; }

/* "softmax axis=1": a node's line without number, type, sources, label and place */
static void list_raised(const Graph *g, Buf *out) {
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    if (!(ir_op[n->op].flags & IR_RAISED) && !is_attention(n->op)) continue;
    Buf line = {0};
    ir_print_node(&line, n);
    char *attr = strrchr(line.data, '%'), *end = strstr(line.data, "  ");
    attr += strcspn(attr, " ");
    if (end) *end = 0;
    buf_printf(out, "%s%s\n", ir_op[n->op].name, end && attr > end ? "" : attr);
    buf_free(&line);
  }
  bool exponential = false;
  for (int i = 0; i < g->n_node; i++) exponential = exponential || g->node[i]->op == OP_exp;
  if (!out->len)
    buf_str(out, "nothing\n");
  else if (exponential)
    buf_str(out, "exp is left\n");
}

/* ---- values and gradients ---- */
static uint32_t word(int64_t i, int feed, int round) {
  uint32_t out[4];
  philox4x32((uint32_t[]){(uint32_t)i, (uint32_t)feed, (uint32_t)round, 0}, (uint32_t[]){31, 4},
             out);
  return out[0];
}

/* Integers stay below 4 in the first round, and go from −2 to 7 in the second. */
static int random_feeds(Graph *g, int round, Feed *feed) {
  int n = 0;
  for (int i = 0; i < g->n_node; i++) {
    const Node *leaf = g->node[i];
    if (leaf->op != OP_param && leaf->op != OP_state && leaf->op != OP_input) continue;
    double *data = arena_alloc(g->arena, sizeof *data * (size_t)type_count(&leaf->type));
    for (int64_t k = 0; k < type_count(&leaf->type); k++) {
      uint32_t w = word(k, (int)hash_bytes(leaf->name, strlen(leaf->name), 0), round);
      data[k] = dtype_is_float(leaf->type.dtype) ? w / 1073741824.0 - 2
                : leaf->type.dtype == DT_bool    ? w % 2
                : strcmp(leaf->name, "rng") == 0 ? w % 100
                : round                          ? (double)(w % 10) - 2
                                                 : w % 4;
    }
    assert_in_range(n, 0, MAX_FEEDS - 1);
    feed[n++] = (Feed){leaf->op, leaf->name, data};
  }
  return n;
}

/* Adds Σ y·w as output "loss" and its gradients, where there is something to differentiate by. */
static Graph *differentiated(const Graph *g) {
  Graph *to = graph_copy(g);
  Node *sum = NULL;
  for (int i = 0; i < g->n_output; i++) {
    Node *y = to->output[i].node;
    if (!dtype_is_float(y->type.dtype)) continue;
    Type index = y->type;
    index.dtype = DT_f32;
    int axis[IR_MAX_RANK];
    for (int d = 0; d < y->type.rank; d++) axis[d] = d;
    /* weights that differ from place to place */
    Node *w = ir_const(to, 0.3, &index);
    for (int d = 0; d < y->type.rank; d++)
      w = ir_cos(to, ir_add(to, ir_mul(to, w, ir_const(to, 2.7, &index)), ir_iota(to, d, &index)));
    Node *part =
      ir_reduce(to, OP_reduce_sum, ir_mul(to, ir_cast(to, y, DT_f32), w), y->type.rank, axis);
    part = ir_reshape(to, part, 0, NULL);
    sum = sum ? ir_add(to, sum, part) : part;
  }
  if (!sum) return to;
  ir_output(to, OUT_value, "loss", sum);
  Graph *with = pass_autodiff(to, &plain);
  if (with != to) graph_free(to);
  return with;
}

/* Within 1e-6 of the tensor's largest element, or of `least`: written constants are f32. */
static void compare(const char *name, const char *what, const Graph *a, const Graph *b,
                    const Feed *feed, int n_feed, double least) {
  Arena *arena = arena_new();
  Buf why = {0};
  assert_int_equal(a->n_output, b->n_output);
  for (int i = 0; i < a->n_output; i++) {
    Tensor x, y;
    if (!ir_eval(arena, a, EVAL_f64, feed, n_feed, &a->output[i].node, 1, &x, &why) ||
        !ir_eval(arena, b, EVAL_f64, feed, n_feed, &b->output[i].node, 1, &y, &why))
      fail_msg("%s: %s", name, why.data);
    assert_true(type_eq(&x.type, &y.type));
    bool is_gradient = strncmp(a->output[i].name, "grad.", 5) == 0;
    double scale = least;
    for (int64_t k = 0; k < type_count(&x.type); k++)
      if (isfinite(x.data[k])) scale = fmax(scale, fabs(x.data[k]));
    for (int64_t k = 0; k < type_count(&x.type); k++) {
      double u = x.data[k], w = y.data[k];
      if (u == w || (isnan(u) && isnan(w)) || fabs(u - w) <= 1e-6 * scale) continue;
      if (isnan(u) && is_gradient) continue; /* of a function that is NaN: anything */
      fail_msg("%s: %s[%d] is %.9g, %s %.9g", name, a->output[i].name, (int)k, u, what, w);
    }
  }
  arena_free(arena);
}

static void check_values(const char *name, const Graph *g, const Graph *raised) {
  Graph *copy = graph_copy(raised), *lowered = pass_lower(copy, &plain);
  Graph *dg = differentiated(g), *draised = differentiated(raised);
  for (int i = 0; i < lowered->n_node; i++)
    assert_false(ir_op[lowered->node[i]->op].flags & IR_RAISED);
  for (int round = 0; round < 2; round++) {
    Feed feed[MAX_FEEDS];
    int n = random_feeds(copy, round, feed);
    compare(name, "raised", g, raised, feed, n, 1e-3);
    compare(name, "lowered", g, lowered, feed, n, 1e-3);
    if (round == 0) compare(name, "raised", dg, draised, feed, n, 1e-3);
  }
  graph_free(dg);
  graph_free(draised);
  if (lowered != copy) graph_free(lowered);
  graph_free(copy);
}

static void check_function(Model *m, const char *path, const char *name, const Buf *want) {
  Buf errors = {0}, got = {0};
  Graph *g = fe_entry(m, name, true, NULL, 0, &errors);
  if (!g) fail_msg("%s: %s: %s", path, name, errors.data);
  Graph *simple = pass_run(g, "simplify", &plain, &errors);
  Graph *raised = pass_run(simple, "raise", &plain, &errors);
  list_raised(raised, &got);
  if (strcmp(got.data, want->data) != 0) {
    print_error("%s: %s: expected\n%sfound\n%s", path, name, want->data, got.data);
    wrong++;
  }
  if (raised != simple && pass_run(raised, "raise", &plain, &errors) != raised)
    fail_msg("%s: %s: a second raise changes the graph", path, name);
  if (pass_raise(simple, &(PassOptions){.strict = true}) != simple)
    fail_msg("%s: %s: raised in spite of --strict", path, name);
  if (raised != simple) check_values(name, simple, raised);
  if (raised != simple) graph_free(raised);
  if (simple != g) graph_free(simple);
  graph_free(g);
  buf_free(&got);
}

static void check_file(const char *path) {
  Buf text = {0}, errors = {0}, want = {0};
  assert_true(buf_read_file(&text, path));
  Model *m = fe_load(path, NULL, 0, &errors);
  if (!m) fail_msg("%s", errors.data);
  char name[MAX_NAME];
  int n = 0;
  for (const char *at = text.data; (at = next_function(at, name, &want)); n++)
    check_function(m, path, name, &want);
  print_message("%s: %d functions\n", strrchr(path, '/') + 1, n);
  assert_true(n > 0);
  fe_free(m);
  buf_free(&text);
  buf_free(&want);
}

static void test_spellings(void **state) {
  (void)state;
  glob_t found;
  assert_int_equal(glob(TEXTS "/*.alpha", 0, NULL, &found), 0);
  for (size_t i = 0; i < found.gl_pathc; i++) check_file(found.gl_pathv[i]);
  globfree(&found);
  assert_int_equal(wrong, 0);
}

/* ---- definitions ---- */
/* Every generated case of a raised operation against its definition. */
static void test_definitions(void **state) {
  (void)state;
  int checked = 0;
  for (int op = 0; op < OP_COUNT; op++)
    for (int i = 0; (ir_op[op].flags & IR_RAISED) && i < gen_count((Op)op); i++, checked++) {
      GenFeed feed;
      Graph *g = gen_case((Op)op, i, &feed), *lowered = pass_lower(g, &plain);
      assert_ptr_not_equal(g, lowered);
      /* in 16 bits every operation of a definition rounds */
      if (g->output[0].node->type.dtype == DT_f32)
        compare(feed.title, "by its definition", g, lowered, feed.feed, feed.n, 1e-9);
      graph_free(lowered);
      graph_free(g);
    }
  assert_true(checked > 100);
}

/* Whatever graph is given, simplified or not. */
static void check_graph(Graph *g, const GenFeed *feed, int *changed) {
  Graph *raised = pass_raise(g, &plain);
  Buf errors = {0};
  if (raised == g) return;
  if (!ir_verify(raised, &errors)) fail_msg("%s: %s", feed->title, errors.data);
  compare(feed->title, "raised", g, raised, feed->feed, feed->n, 1);
  graph_free(raised);
  ++*changed;
}

static void test_generated(void **state) {
  (void)state;
  int changed = 0;
  for (int i = 0; i < GEN_PROGRAMS; i++) {
    GenFeed feed;
    Graph *g = gen_program(i, &feed);
    Graph *simple = pass_simplify(g, &plain);
    check_graph(g, &feed, &changed);
    if (simple != g) check_graph(simple, &feed, &changed);
    if (simple != g) graph_free(simple);
    graph_free(g);
  }
  print_message("%d graphs raised\n", changed);
  assert_true(changed > 0);
}

/* ---- the library in whole models ---- */
/* After raise a function of a model has these operations, and none that they replace is left. */
static void expect_counts(const char *file, const char *define, const char *want) {
  Buf path = {0}, errors = {0}, got = {0};
  buf_printf(&path, MODELS "/%s", file);
  Override o = {define};
  Model *m = fe_load(path.data, &o, define != NULL, &errors);
  if (!m) fail_msg("%s", errors.data);
  DimBinding dims[] = {{intern("b"), 2}, {intern("t"), 8}};
  Graph *g = fe_entry(m, "loss", true, dims, 2, &errors);
  if (!g) fail_msg("%s", errors.data);
  Graph *raised = pass_run(g, "simplify,raise", &plain, &errors);
  int count[OP_COUNT] = {0};
  for (int i = 0; i < raised->n_node; i++) count[raised->node[i]->op]++;
  for (int op = 0; op < OP_COUNT; op++)
    if (count[op] && ((ir_op[op].flags & IR_RAISED) || is_attention((Op)op)))
      buf_printf(&got, "%d %s\n", count[op], ir_op[op].name);
  assert_string_equal(got.data, want);
  assert_int_equal(count[OP_tanh] + count[OP_sigmoid] + count[OP_rsqrt], 0);
  graph_free(raised);
  graph_free(g);
  fe_free(m);
  buf_free(&path);
  buf_free(&got);
}

static void test_models(void **state) {
  (void)state;
  expect_counts("gpt2.alpha", NULL, "12 attention\n25 layer_norm\n1 cross_entropy\n12 gelu_tanh\n");
  expect_counts("gpt2.alpha", "drop=0.1",
                "12 attention\n25 layer_norm\n1 cross_entropy\n12 gelu_tanh\n");
  expect_counts("cajal.alpha", NULL, "4 attention\n9 layer_norm\n1 cross_entropy\n4 gelu_tanh\n");
  expect_counts("hlx.alpha", "mix=true",
                "4 attention\n9 layer_norm\n1 cross_entropy\n4 gelu_tanh\n");
  expect_counts("llama.alpha", "layers=3",
                "3 attention\n7 rms_norm\n1 cross_entropy\n3 silu\n6 rope\n");
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_spellings), cmocka_unit_test(test_definitions),
    cmocka_unit_test(test_generated), cmocka_unit_test(test_models)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
