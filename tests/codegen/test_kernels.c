/* Every operation's generated cases and programs of several operations, on the device against the
 * evaluator. test_kernels [PART/PARTS] [OP|programs ...]: every PARTS-th case, only those */
#include "tests/codegen/check.h"
#include "passes/passes.h"
#include "tests/gen/gen.h"

#include <string.h>

/* Products in spans are for matrix units: test_coop_matmul. */
static bool wanted(const char *name, int argc, char **argv) {
  if (strcmp(name, ir_op[OP_matmul_spans].name) == 0) return false;
  for (int i = 1; i < argc; i++)
    if (strcmp(argv[i], name) == 0) return true;
  return argc == 1;
}

/* A CPU's device taken for a GPU: what differs are kernels with loops of their own. */
static bool differs_on_gpu(Op op) {
  return (op >= OP_reduce_sum && op <= OP_reduce_min) || op == OP_argmax || op == OP_matmul ||
         op == OP_scatter_add || (ir_op[op].flags & IR_RAISED);
}

/* The portable target with 16-bit storage differs in nothing else. */
static bool only_16(const Target *t) { return t->storage16 && !t->subgroup_size; }

/* Raised operations have no kernels: their definitions have, and those cut at random too. */
static void run_case(Bench *b, const Target *t, Graph *given, const GenFeed *feed, unsigned more) {
  Graph *g = pass_lower(given, &(PassOptions){0});
  unsigned flags = more | (feed->flags & GEN_exact ? CHECK_exact : 0) |
                   (feed->flags & GEN_boundary ? CHECK_boundary : 0);
  check_graph(b, t, g, feed->feed, feed->n, feed->title, flags);
  if (g != given) {
    check_graph(b, t, g, feed->feed, feed->n, feed->title, flags | CHECK_cut);
    graph_free(g);
  }
}

/* ---- 16-bit types ---- */

/* The same on leaves of type d: every value behind them is of that type too (`all`), or they are
 * widened at once, and results are stored as d besides. NULL where an operation has no such form. */
static Graph *in_16_bits(const Graph *g, DType d, bool all, GenFeed *feed) {
  Graph *to = graph_new(g->name);
  Node **map = arena_alloc(to->arena, sizeof *map * (size_t)g->n_node);
  Buf why = {0};
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    Node *src[IR_MAX_SRC];
    Type type = n->type, found;
    bool leaf = n->op == OP_input || n->op == OP_param || n->op == OP_state;
    for (int s = 0; s < n->n_src; s++) src[s] = map[n->src[s]->id];
    if (type.dtype == DT_f32 && (all || leaf)) type.dtype = (uint8_t)d;
    Attr attr = {.value = n->value, .name = n->name, .n_int = n->n_int};
    if (n->n_int) memcpy(attr.ints, n->ints, sizeof *n->ints * (size_t)n->n_int);
    if (n->op == OP_const) attr.value = dtype_round((DType)type.dtype, n->value);
    const Type *given = ir_op[n->op].given ? &type : NULL;
    if (!ir_infer(n->op, given, &attr, n->n_src, src, &found, &why)) {
      buf_free(&why);
      graph_free(to);
      return NULL;
    }
    map[i] = ir_make(to, n->op, given, &attr, n->n_src, src);
    if (leaf && !all && n->type.dtype == DT_f32) map[i] = ir_cast(to, map[i], DT_f32);
  }
  for (int i = 0; i < g->n_output; i++) {
    Node *y = map[g->output[i].node->id];
    ir_output(to, OUT_value, g->output[i].name, y);
    if (y->type.dtype == DT_f32)
      ir_output(to, OUT_value, arena_printf(to->arena, "half%d", i), ir_cast(to, y, d));
  }
  for (int f = 0; f < feed->n; f++)
    for (int i = 0; i < to->n_node; i++) {
      const Node *n = to->node[i];
      bool is_it = n->op == feed->feed[f].op && strcmp(n->name, feed->feed[f].name) == 0;
      for (int64_t k = 0; is_it && k < type_count(&n->type); k++)
        gen_data(feed, f)[k] = dtype_round((DType)n->type.dtype, gen_data(feed, f)[k]);
    }
  return to;
}

/* Case i in one of four forms. */
static void run_16_bits(Bench *b, const Target *t, const Graph *g, GenFeed *feed, int i) {
  bool all = i / 2 % 2;
  Graph *half = in_16_bits(g, i % 2 ? DT_bf16 : DT_f16, all, feed);
  if (!half) return;
  run_case(b, t, half, feed, all ? CHECK_store_all : 0);
  graph_free(half);
}

static void everything(Bench *b, const Target *target, int argc, char **argv) {
  bool as_gpu = target->cores == 1;
  for (int op = 0; op < OP_COUNT; op++)
    for (int i = 0; (!as_gpu || differs_on_gpu((Op)op)) && wanted(ir_op[op].name, argc, argv) &&
                    i < gen_count((Op)op);
         i++) {
      if (!bench_takes(b)) continue;
      GenFeed feed;
      Graph *g = gen_case((Op)op, i, &feed);
      if (!only_16(target)) run_case(b, target, g, &feed, 0);
      run_16_bits(b, target, g, &feed, i);
      graph_free(g);
    }
  for (int i = 0; wanted("programs", argc, argv) && i < GEN_PROGRAMS; i += as_gpu ? 4 : 1) {
    if (!bench_takes(b)) continue;
    GenFeed feed;
    Graph *g = gen_program(i, &feed);
    if (!only_16(target)) {
      run_case(b, target, g, &feed, 0);
      run_case(b, target, g, &feed, CHECK_cut);
    }
    run_16_bits(b, target, g, &feed, i);
    graph_free(g);
  }
}

int main(int argc, char **argv) { return bench_main(everything, argc, argv); }
