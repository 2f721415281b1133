/* The rules of simplify about constants: what they give is computed now. */
#include "passes/simplify.h"

#include <string.h>

static bool all_const(const Node *n) {
  for (int i = 0; i < n->n_src; i++)
    if (n->src[i]->op != OP_const) return false;
  return n->n_src > 0;
}

/* An elementwise operation on consts has one value in every element: the evaluator computes it on
 * scalars. */
Node *simplify_const_elementwise(Graph *g, Node *n) {
  if (!all_const(n)) return NULL;
  Graph *one = graph_new("fold");
  Node *src[3];
  for (int i = 0; i < n->n_src; i++) {
    Type t = type_scalar(n->src[i]->type.dtype);
    src[i] = ir_const(one, n->src[i]->value, &t);
  }
  Type t = type_scalar(n->type.dtype);
  Node *y = ir_make(one, n->op, ir_op[n->op].given ? &t : NULL, NULL, n->n_src, src);
  Tensor result;
  Buf why = {0};
  if (!ir_eval(one->arena, one, EVAL_f32, NULL, 0, &y, 1, &result, &why))
    die("simplify: %s: %s", ir_op[n->op].name, why.data);
  Node *folded = ir_const(g, result.data[0], &n->type);
  graph_free(one);
  return folded;
}

static bool same_value(const Node *n) {
  for (int i = 1; i < n->n_src; i++)
    if (memcmp(&n->src[i]->value, &n->src[0]->value, sizeof n->src[0]->value) != 0) return false;
  return true;
}

static int64_t count_reduced(const Node *n) {
  int64_t count = 1;
  for (int i = 0; i < n->n_int; i++) count *= n->src[0]->type.dim[n->ints[i]];
  return count;
}

Node *simplify_const_as(Graph *g, Node *n) { return ir_const(g, n->src[0]->value, &n->type); }

Node *simplify_const_argmax(Graph *g, Node *n) { return ir_const(g, 0, &n->type); }

Node *simplify_const_pad(Graph *g, Node *n) {
  double value = n->src[0]->value;
  return memcmp(&n->value, &value, sizeof value) == 0 ? ir_const(g, value, &n->type) : NULL;
}

Node *simplify_const_concat(Graph *g, Node *n) {
  return all_const(n) && same_value(n) ? ir_const(g, n->src[0]->value, &n->type) : NULL;
}

/* Integers wrap to 32 bits, as their sum would. */
Node *simplify_const_sum(Graph *g, Node *n) {
  double value = n->src[0]->value;
  int64_t count = count_reduced(n);
  if (n->type.dtype != DT_i32) return ir_const(g, value * (double)count, &n->type);
  return ir_const(g, (int32_t)((uint32_t)(int32_t)value * (uint32_t)count), &n->type);
}
