/* Fuzzes the text form: any bytes are parsed or refused with messages; what is accepted and
 * verified prints to a text that parses to the same text, and small graphs are evaluated in both
 * modes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/ir.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void wrong(const char *what, const Buf *text) {
  fprintf(stderr, "%s\n%s\n", what, text->data ? text->data : "");
  abort();
}

static void check_round_trip(const Graph *g) {
  Buf first = {0}, second = {0}, errors = {0};
  ir_print(&first, g);
  Graph *h = ir_parse("again", first.data, first.len, &errors);
  if (!h) wrong("the printed graph does not parse:", &errors);
  ir_print(&second, h);
  if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
    wrong("no fixpoint:", &second);
  graph_free(h);
  buf_free(&first);
  buf_free(&second);
  buf_free(&errors);
}

/* Rough cost of evaluating a graph, in elements touched. */
static double work(const Graph *g) {
  double sum = 0;
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    double own = (double)type_count(&n->type), from = 0;
    for (int s = 0; s < n->n_src; s++) from += (double)type_count(&n->src[s]->type);
    sum += n->op == OP_matmul ? own * (double)n->src[0]->type.dim[n->src[0]->type.rank - 1] + from
                              : own + from;
    if (n->op == OP_fold) sum *= 2; /* computed apart, with all that is below it */
  }
  return sum;
}

static void evaluate(const Graph *g) {
  Arena *arena = arena_new();
  Feed *feed = NULL;
  int n_feed = 0;
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    if (n->op != OP_param && n->op != OP_state && n->op != OP_input) continue;
    int64_t count = type_count(&n->type);
    double *data = arena_alloc(arena, sizeof *data * (size_t)count);
    for (int64_t k = 0; k < count; k++) data[k] = (double)(k % 7) - 2.5;
    Feed f = {n->op, n->name, data};
    ARENA_PUSH(arena, feed, n_feed, f);
  }
  Node **want = arena_alloc(arena, sizeof *want * (size_t)(g->n_output + 1));
  Tensor *result = arena_alloc(arena, sizeof *result * (size_t)(g->n_output + 1));
  for (int i = 0; i < g->n_output; i++) want[i] = g->output[i].node;
  Buf why = {0};
  for (int mode = EVAL_f32; mode <= EVAL_f64; mode++) {
    if (!ir_eval(arena, g, (EvalMode)mode, feed, n_feed, want, g->n_output, result, &why))
      wrong("not evaluated:", &why);
    for (int i = 0; i < g->n_output; i++) {
      double v =
        result[i].data[type_count(&result[i].type) - 1]; /* every result is whole and of its type */
      if (v == v && (mode == EVAL_f32 || !dtype_is_float((DType)result[i].type.dtype)) &&
          dtype_round((DType)result[i].type.dtype, v) != v)
        wrong("a value that its type does not have", &why);
    }
  }
  buf_free(&why);
  arena_free(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Buf errors = {0};
  Graph *g = ir_parse("fuzz", (const char *)data, size, &errors);
  if (!g != (errors.len > 0)) wrong("a graph and errors, or neither:", &errors);
  if (g) {
    bool good = ir_verify(g, &errors);
    if (good == (errors.len > 0)) wrong("verified and errors, or neither:", &errors);
    check_round_trip(g);
    if (good && work(g) < 1e5) evaluate(g);
  }
  graph_free(g);
  buf_free(&errors);
  return 0;
}
