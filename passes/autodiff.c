/* Reverse-mode differentiation, symbolic: walks the graph backwards once and adds, for each node
 * that the loss depends on and that depends on a variable, the cotangents of its sources as new
 * nodes; vjp.def has one rule per operation.
 *
 * needs: a verified graph.  gives: gradients with their variables' types.
 * breaks: nothing; existing nodes stay.
 *
 * Order: nodes by falling id, sources from first to last; so a sum of cotangents has one order on
 * every run.
 * Checkpoints: where a rule needs a value from inside region r to differentiate that region, it
 * gets a copy with region −r, computed from the region's inputs; a random operation's copy draws
 * the same numbers, since its place is the same. */
#include "passes/passes.h"
#include "passes/term.h"
#include "passes/vjp.h"

#include <stdlib.h>
#include <string.h>

enum {
#define DIFF IR_DIFF
#define EW 0
#define COMM 0
#define VIEW 0
#define EFFECT 0
#define LEAF 0
#define RAISED 0
#define OP(name, sources, rule, attribute, flags, meaning) DIFF_##name = (flags) != 0,
#include "ir/ops.def"
#undef OP
#undef DIFF
#undef EW
#undef COMM
#undef VIEW
#undef EFFECT
#undef LEAF
#undef RAISED
};
/* One line per operation, and a gradient exactly where ops.def promises one. */
enum {
#define VJP(op, ...) HAS_##op = 1,
#define VJP_BY(op, function) HAS_##op = 1,
#define VJP_NONE(op) HAS_##op = 0,
#include "passes/vjp.def"
#undef VJP
#undef VJP_BY
#undef VJP_NONE
};
#define OP(name, sources, rule, attribute, flags, meaning)                                         \
  _Static_assert((int)HAS_##name == (int)DIFF_##name, "vjp.def and ops.def disagree "              \
                                                      "about " #name);
#include "ir/ops.def"
#undef OP

typedef struct VjpRule {
  const char *text[3];
  VjpFn *function;
} VjpRule;

static const VjpRule vjp_rule[OP_COUNT] = {
#define VJP(op, ...) [OP_##op] = {.text = {__VA_ARGS__}},
#define VJP_BY(op, fn) [OP_##op] = {.function = fn},
#define VJP_NONE(op)
#include "passes/vjp.def"
#undef VJP
#undef VJP_BY
#undef VJP_NONE
};

static const Term *vjp_term[OP_COUNT][3];

static void parse_rules(void) {
  if (vjp_term[OP_neg][0]) return;
  static Arena *arena; /* lives as long as the tables: to the end */
  arena = arena_new();
  for (int op = 0; op < OP_COUNT; op++)
    for (int s = 0; s < 3; s++)
      if (vjp_rule[op].text[s]) vjp_term[op][s] = term_parse(arena, vjp_rule[op].text[s]);
}

typedef struct Autodiff {
  Graph *g;
  int n;        /* nodes before differentiation */
  bool *active; /* by id: depends on a variable through operations that pass gradients */
  Node **grad;  /* by id: cotangent so far */
  Node **clone; /* by id: the recomputed copy */
  Node **stack; /* of recompute() */
} Autodiff;

/* ---- recomputation ---- */
static bool is_recomputed(const Node *n, int region) {
  return region > 0 && n->region == region && n->op != OP_fold;
}

static Node *copy_of(const Autodiff *ad, Node *n, int region) {
  return is_recomputed(n, region) ? ad->clone[n->id] : n;
}

static Node *clone_node(Autodiff *ad, const Node *n) {
  Graph *g = ad->g;
  Attr attr = {.value = n->value, .name = n->name, .n_int = n->n_int};
  if (n->n_int) memcpy(attr.ints, n->ints, sizeof *n->ints * (size_t)n->n_int);
  Node *src[IR_MAX_SRC];
  for (int i = 0; i < n->n_src; i++) src[i] = copy_of(ad, n->src[i], n->region);
  g->region = -n->region;
  g->loc = n->loc;
  Node *copy = ir_make(g, n->op, &n->type, &attr, n->n_src, src);
  if (!copy->label) copy->label = n->label;
  g->region = 0;
  return copy;
}

/* The value of `n` for differentiating a node of `region`. */
static Node *recompute(Autodiff *ad, Node *n, int region) {
  if (!is_recomputed(n, region)) return n;
  int top = 0;
  ad->stack[top++] = n;
  while (top) {
    Node *at = ad->stack[top - 1];
    int before = top;
    for (int i = 0; i < at->n_src && !ad->clone[at->id] && top == before; i++)
      if (!copy_of(ad, at->src[i], region)) ad->stack[top++] = at->src[i];
    if (top > before) continue;
    if (!ad->clone[at->id]) ad->clone[at->id] = clone_node(ad, at);
    top--;
  }
  return ad->clone[n->id];
}

Node *vjp_src(const VjpCall *c, int i) {
  return recompute(c->ad, c->node->src[i], c->node->region);
}
Node *vjp_out(const VjpCall *c) { return recompute(c->ad, c->node, c->node->region); }

/* ---- the rules applied ---- */
static Node *make_plain(void *g, Op op, const Type *given, int n_src, Node *const *src) {
  return ir_make(g, op, given, NULL, n_src, src);
}

static Node *cotangent(const VjpCall *c) {
  const VjpRule *rule = &vjp_rule[c->node->op];
  if (rule->function) return rule->function(c);
  const Term *t = vjp_term[c->node->op][c->which];
  if (t->kind == TERM_number) return NULL;
  Node *var[TV_COUNT] = {[TV_g] = c->grad};
  for (int i = 0; i < c->node->n_src; i++)
    if (t->vars >> (TV_x + i) & 1) var[TV_x + i] = vjp_src(c, i);
  if (t->vars >> TV_out & 1) var[TV_out] = vjp_out(c);
  c->g->loc = c->node->loc;
  Attr attr = {.value = c->node->value, .n_int = c->node->n_int};
  if (attr.n_int) memcpy(attr.ints, c->node->ints, sizeof *attr.ints * (size_t)attr.n_int);
  if (t->vars >> TV_c & 1) var[TV_c] = ir_const(c->g, attr.value, &c->node->type);
  return term_build(t, &(TermMaker){c->g, make_plain, c->g, &attr}, var,
                    &c->node->src[c->which]->type);
}

static void differentiate(Autodiff *ad, Node *n) {
  for (int i = 0; i < n->n_src; i++) {
    Node *src = n->src[i];
    if (!ad->active[src->id]) continue;
    ad->g->loc = n->loc;
    Node *part = cotangent(&(VjpCall){ad->g, n, i, ad->grad[n->id], ad});
    if (!part) continue;
    Node **sum = &ad->grad[src->id];
    *sum = *sum ? ir_add(ad->g, *sum, part) : part;
  }
}

static void mark_active(Autodiff *ad, Node *const *wrt, int n_wrt) {
  for (int i = 0; i < n_wrt; i++) ad->active[wrt[i]->id] = dtype_is_float(wrt[i]->type.dtype);
  for (int id = 0; id < ad->n; id++) {
    const Node *n = ad->g->node[id];
    if (!(ir_op[n->op].flags & IR_DIFF) || !dtype_is_float(n->type.dtype)) continue;
    for (int s = 0; s < n->n_src; s++) ad->active[id] = ad->active[id] || ad->active[n->src[s]->id];
  }
}

void autodiff(Graph *g, Node *loss, Node *const *wrt, int n_wrt, Node **grad) {
  if (loss->type.rank != 0 || !dtype_is_float(loss->type.dtype))
    die("autodiff: the loss is no floating scalar");
  parse_rules();
  size_t n = (size_t)g->n_node;
  Autodiff ad = {.g = g,
                 .n = g->n_node,
                 .active = xcalloc(n, sizeof(bool)),
                 .grad = xcalloc(n, sizeof(Node *)),
                 .clone = xcalloc(n, sizeof(Node *)),
                 .stack = xcalloc(n, sizeof(Node *))};
  int region = g->region;
  SrcLoc loc = g->loc;
  g->region = 0;
  mark_active(&ad, wrt, n_wrt);
  ad.grad[loss->id] = ir_const(g, 1, &loss->type);
  for (int id = loss->id; id >= 0; id--)
    if (ad.grad[id] && ad.active[id]) differentiate(&ad, g->node[id]);
  for (int i = 0; i < n_wrt; i++) {
    Node *d = ad.grad[wrt[i]->id];
    grad[i] = d && ad.active[wrt[i]->id] ? d : ir_const(g, 0, &wrt[i]->type);
  }
  g->region = region;
  g->loc = loc;
  free(ad.active);
  free(ad.grad);
  free(ad.clone);
  free(ad.stack);
}

static int float_leaves(const Graph *g, Op op, Node **leaf) {
  int n = 0;
  for (int i = 0; i < g->n_node; i++)
    if (g->node[i]->op == op && dtype_is_float(g->node[i]->type.dtype)) leaf[n++] = g->node[i];
  return n;
}

Graph *pass_autodiff(Graph *g, const PassOptions *o) {
  (void)o;
  const Output *found = ir_find_output(g, "loss");
  if (!found || found->node->type.rank != 0 || !dtype_is_float(found->node->type.dtype)) return g;
  for (int i = 0; i < g->n_output; i++)
    if (strncmp(g->output[i].name, "grad.", 5) == 0) return g; /* it has run */
  Graph *to = graph_copy(g);
  Node **wrt = xcalloc((size_t)to->n_node, sizeof *wrt),
       **grad = xcalloc((size_t)to->n_node, sizeof *grad);
  int n = float_leaves(to, OP_param, wrt);
  if (n == 0) n = float_leaves(to, OP_input, wrt);
  autodiff(to, ir_find_output(to, "loss")->node, wrt, n, grad);
  for (int i = 0; i < n; i++)
    ir_output(to, OUT_value, arena_printf(to->arena, "grad.%s", wrt[i]->name), grad[i]);
  free(wrt);
  free(grad);
  if (n > 0) return to;
  graph_free(to);
  return g;
}
