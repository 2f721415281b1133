/* Rechecks a whole graph, after every pass and on every text. Collects all violations, one line
 * each with its node. */
#include "ir/ir.h"

#include <stdlib.h>
#include <string.h>

typedef struct Verifier {
  const Graph *g;
  Buf *errors;
  int n_error;
  const Node **
    unfixed; /* by id: a leaf below the node whose value is not known at compile time; NULL: none */
} Verifier;

static void report(Verifier *v, const Node *n, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void report(Verifier *v, const Node *n, const char *fmt, ...) {
  v->n_error++;
  if (n) {
    ir_print_node(v->errors, n);
    buf_str(v->errors, ": ");
  }
  va_list args;
  va_start(args, fmt);
  buf_vprintf(v->errors, fmt, args);
  va_end(args);
  buf_str(v->errors, "\n");
}

static bool belongs(const Graph *g, const Node *n) {
  return n && n->id >= 0 && n->id < g->n_node && g->node[n->id] == n;
}

/* Sources come first and are nodes of this graph; false where the node cannot even be printed. */
static bool check_sources(Verifier *v, int place) {
  const Node *n = v->g->node[place];
  if ((unsigned)n->op >= OP_COUNT)
    return report(v, NULL, "node %d: there is no operation %d", place, (int)n->op), false;
  for (int i = 0; i < n->n_src; i++)
    if (!n->src[i])
      return report(v, NULL, "node %d, %s: source %d is missing", place, ir_op[n->op].name, i),
             false;
  bool ok = true;
  if (n->id != place) report(v, n, "stands at place %d", place), ok = false;
  for (int i = 0; i < n->n_src; i++) {
    if (n->src[i]->id >= place)
      report(v, n, "source %%%d does not come before it", n->src[i]->id), ok = false;
    else if (!belongs(v->g, n->src[i]))
      report(v, n, "source %d is of another graph", i), ok = false;
  }
  return ok;
}

static void check_type(Verifier *v, const Node *n) {
  Attr attr = {.value = n->value, .name = n->name, .n_int = n->n_int};
  if (n->n_int < 0 || n->n_int > COUNT_OF(attr.ints)) {
    report(v, n, "%d attribute numbers", n->n_int);
    return;
  }
  if (n->n_int) memcpy(attr.ints, n->ints, sizeof *n->ints * (size_t)n->n_int);
  Type type;
  Buf why = {0};
  if (!ir_infer(n->op, &n->type, &attr, n->n_src, n->src, &type, &why))
    report(v, n, "%s", why.data);
  else if (!type_eq(&type, &n->type)) {
    type_print(&why, &type);
    report(v, n, "its type should be %s", why.data);
  }
  buf_free(&why);
  if ((ir_op[n->op].flags & IR_COMM) && n->n_src == 2 && n->src[0]->id > n->src[1]->id)
    report(v, n, "the sources of a commuting operation are ordered by id");
}

static void check_region(Verifier *v, const Node *n) {
  if ((ir_op[n->op].flags & IR_LEAF) && n->region) report(v, n, "a leaf belongs to no region");
  for (int i = 0; i < n->n_src && n->region > 0; i++)
    if (n->src[i]->region == -n->region)
      report(v, n, "in region %d it reads %%%d, which is recomputed from that region", n->region,
             n->src[i]->id);
}

static void check_fold(Verifier *v, const Node *n) {
  bool unfixed = n->op == OP_param || n->op == OP_state || n->op == OP_input ||
                 n->op == OP_random || n->op == OP_position;
  const Node *from = unfixed ? n : NULL;
  for (int i = 0; i < n->n_src && !from; i++) from = v->unfixed[n->src[i]->id];
  v->unfixed[n->id] = from;
  if (n->op == OP_fold && from)
    report(v, n, "a fold is computed at compile time, but depends on %%%d, %s%s%s", from->id,
           ir_op[from->op].name, from->name ? " " : "", from->name ? from->name : "");
}

static bool is_named(const Node *n) {
  return n->op == OP_param || n->op == OP_state || n->op == OP_input;
}

static int by_name(const void *a, const void *b) {
  const Node *x = *(Node *const *)a, *y = *(Node *const *)b;
  int names = strcmp(x->name, y->name);
  return names ? names : x->id - y->id;
}

/* A name is one leaf: one kind, one type. Gives the leaves, sorted by name. */
static Node **check_leaves(Verifier *v, int *count) {
  Node **leaf = xcalloc((size_t)v->g->n_node + 1, sizeof *leaf);
  int n = 0;
  for (int i = 0; i < v->g->n_node; i++)
    if (is_named(v->g->node[i]) && v->g->node[i]->name) leaf[n++] = v->g->node[i];
  qsort(leaf, (size_t)n, sizeof *leaf, by_name);
  for (int i = 0; i < n; i++) {
    if (!leaf[i]->name[0]) report(v, leaf[i], "its name is empty");
    if (i && strcmp(leaf[i]->name, leaf[i - 1]->name) == 0)
      report(v, leaf[i], "the same name is %%%d with another %s", leaf[i - 1]->id,
             leaf[i]->op == leaf[i - 1]->op ? "type" : "kind");
  }
  *count = n;
  return leaf;
}

static const Node *find_leaf(Node *const *leaf, int n, const char *name) {
  int lo = 0, hi = n;
  while (lo < hi) {
    int mid = (lo + hi) / 2, c = strcmp(leaf[mid]->name, name);
    if (c == 0) return leaf[mid];
    if (c < 0)
      lo = mid + 1;
    else
      hi = mid;
  }
  return NULL;
}

static void check_update(Verifier *v, const Output *o, Node *const *leaf, int n_leaf) {
  const Node *old = find_leaf(leaf, n_leaf, o->name);
  if (!old) return;
  if (old->op == OP_input)
    report(v, o->node, "update \"%s\": that is an input, which a program cannot change", o->name);
  else if (!type_eq(&old->type, &o->node->type)) {
    Buf type = {0};
    type_print(&type, &old->type);
    report(v, o->node, "update \"%s\": that %s has type %s", o->name, ir_op[old->op].name,
           type.data);
    buf_free(&type);
  }
}

static int output_order(const void *a, const void *b) {
  const Output *x = *(const Output *const *)a, *y = *(const Output *const *)b;
  return x->kind != y->kind ? (int)x->kind - (int)y->kind : strcmp(x->name, y->name);
}

static void check_outputs(Verifier *v) {
  int n_leaf, n = v->g->n_output;
  Node **leaf = check_leaves(v, &n_leaf);
  const Output **sorted = xcalloc((size_t)n + 1, sizeof *sorted);
  for (int i = 0; i < n; i++) {
    const Output *o = sorted[i] = &v->g->output[i];
    if (!belongs(v->g, o->node))
      report(v, NULL, "output \"%s\" is no node of this graph", o->name);
    else if (o->kind == OUT_update)
      check_update(v, o, leaf, n_leaf);
  }
  qsort(sorted, (size_t)n, sizeof *sorted, output_order);
  for (int i = 1; i < n; i++)
    if (output_order(&sorted[i - 1], &sorted[i]) == 0)
      report(v, NULL, "two %s \"%s\"", sorted[i]->kind == OUT_update ? "updates" : "outputs",
             sorted[i]->name);
  free(sorted);
  free(leaf);
}

bool ir_verify(const Graph *g, Buf *errors) {
  Verifier v = {.g = g, .errors = errors};
  v.unfixed = xcalloc((size_t)g->n_node + 1, sizeof *v.unfixed);
  bool sound = true; /* ids can be trusted */
  for (int i = 0; i < g->n_node; i++) sound = check_sources(&v, i) && sound;
  for (int i = 0; i < g->n_node && sound; i++) {
    check_type(&v, g->node[i]);
    check_region(&v, g->node[i]);
    check_fold(&v, g->node[i]);
  }
  if (sound) check_outputs(&v);
  free(v.unfixed);
  return v.n_error == 0;
}
