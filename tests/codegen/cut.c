/* Groups grow by taking in others, chosen at random, where the result is legal: every value is asked at
 * the index where the kernel has it, and no two groups wait for each other. */
#include "tests/codegen/cut.h"

#include <stdlib.h>
#include <string.h>

/* At which index a value is asked: the results' own (of all terms), that without the reduced
 * dimensions, any other. */
typedef enum At { AT_full = 1, AT_kept = 2, AT_other = 4 } At;

typedef struct Span {
  int64_t outer, red, inner;
} Span;

typedef struct Cut {
  const Graph *g;
  bool *stored;
  CutGroup *group;
  int n_group;
  int *group_of; /* by node id; −1: none */
  uint32_t seed;
  /* of the group being looked at */
  const CutGroup *in;
  unsigned char *seen; /* by node id: At bits */
  Node *anchor;
  Span span;
  int n_random;
  bool legal;
} Cut;

static uint32_t next(Cut *c, uint32_t n) {
  c->seed = c->seed * 1664525u + 1013904223u;
  return (c->seed >> 8) % n;
}

static bool is_reduction(const Node *n) { return n->op >= OP_reduce_sum && n->op <= OP_reduce_min; }

static bool is_given(const Node *n) {
  return n->op == OP_param || n->op == OP_state || n->op == OP_input || n->op == OP_fold;
}

/* Computed wherever it is asked. */
static bool is_open(const Node *n) {
  return (ir_op[n->op].flags & (IR_EW | IR_VIEW)) || n->op == OP_const || n->op == OP_iota ||
         n->op == OP_position || n->op == OP_pad || n->op == OP_concat || n->op == OP_random ||
         n->op == OP_gather;
}

/* false where reduced dimensions do not lie together */
static bool span_of(const Node *n, Span *s) {
  const Type *x = &n->src[0]->type;
  *s = (Span){1, 1, 1};
  for (int d = 0, next = 0; d < x->rank; d++) {
    bool reduced = next < n->n_int && n->ints[next] == d;
    next += reduced;
    if (x->dim[d] == 1) continue;
    if (reduced && s->inner > 1) return false;
    *(reduced ? &s->red : s->red > 1 ? &s->inner : &s->outer) *= x->dim[d];
  }
  return true;
}

static bool is_out(const CutGroup *g, const Node *n) {
  for (int i = 0; i < g->n_out; i++)
    if (g->out[i] == n) return true;
  return false;
}

static int64_t full(const Span *s) { return s->outer * s->red * s->inner; }

static At at_of_out(const Cut *c, const Node *n) {
  int64_t count = type_count(&n->type);
  if (!c->anchor || count == c->span.outer * c->span.inner) return c->anchor ? AT_kept : AT_full;
  return count == full(&c->span) && c->span.inner == 1 ? AT_full : AT_other;
}

/* Where an expand's source is asked: it repeats the values of KEPT along the reduced dimensions. */
static At below_expand(const Cut *c, const Node *n, At at) {
  const Type *from = &n->src[0]->type, *to = &n->type;
  Span s = {1, 1, 1};
  if (type_count(from) == type_count(to)) return at;
  if (at != AT_full || !c->anchor) return AT_other;
  for (int d = 0; d < to->rank; d++) {
    bool repeated = from->dim[d] != to->dim[d];
    if (to->dim[d] == 1) continue;
    if (repeated && s.inner > 1) return AT_other;
    *(repeated ? &s.red : s.red > 1 ? &s.inner : &s.outer) *= to->dim[d];
  }
  bool same = s.outer == c->span.outer && s.red == c->span.red && s.inner == c->span.inner;
  return same ? AT_kept : AT_other;
}

static void look(Cut *c, Node *n, At at) {
  if (c->seen[n->id] & at) return;
  c->n_random += n->op == OP_random && !c->seen[n->id];
  c->seen[n->id] |= at;
  if (c->stored[n->id] && !is_out(c->in, n)) return;
  if (c->stored[n->id] && at != at_of_out(c, n)) c->legal = false;
  if (is_reduction(n)) {
    Span s;
    c->legal = c->legal && c->anchor && span_of(n, &s) && at == AT_kept &&
               memcmp(&s, &c->span, sizeof s) == 0;
    if (c->legal) look(c, n->src[0], AT_full);
    return;
  }
  if (!is_open(n)) c->legal = false;
  for (int i = 0; i < n->n_src && c->legal; i++) {
    At below = AT_other;
    if ((ir_op[n->op].flags & IR_EW) || n->op == OP_reshape) below = at;
    if (n->op == OP_expand) below = below_expand(c, n, at);
    look(c, n->src[i], below);
  }
}

static Node *find_reduction(Cut *c, Node *n) {
  if (c->seen[n->id] || (c->stored[n->id] && !is_out(c->in, n))) return NULL;
  c->seen[n->id] = 1;
  if (is_reduction(n)) return n;
  Node *found = NULL;
  for (int i = 0; i < n->n_src && !found; i++) found = find_reduction(c, n->src[i]);
  return found;
}

/* Sets the group's anchor. */
static bool is_legal(Cut *c, CutGroup *g) {
  size_t bytes = (size_t)c->g->n_node;
  c->in = g;
  c->anchor = NULL;
  c->n_random = 0;
  memset(c->seen, 0, bytes);
  for (int i = 0; i < g->n_out && !c->anchor; i++) c->anchor = find_reduction(c, g->out[i]);
  g->anchor = c->anchor;
  Node *only = g->n_out == 1 ? g->out[0] : NULL;
  if (only && !is_open(only) && !is_reduction(only)) return !c->anchor;
  if (only && is_reduction(only) && !span_of(only, &c->span)) { /* nothing else is reduced inside */
    memset(c->seen, 0, bytes);
    return !find_reduction(c, only->src[0]);
  }
  if (c->anchor && !span_of(c->anchor, &c->span)) return false;
  memset(c->seen, 0, bytes);
  c->legal = true;
  for (int i = 0; i < g->n_out && c->legal; i++) {
    At at = at_of_out(c, g->out[i]);
    if (at == AT_other ||
        (!c->anchor && type_count(&g->out[i]->type) != type_count(&g->out[0]->type)))
      return false;
    look(c, g->out[i], at);
  }
  KernelJob job = {.out = g->out, .n_out = g->n_out, .stored = c->stored};
  return c->legal && cg_operands(&job, NULL, 0) + g->n_out + c->n_random <= CG_MAX_SLOTS - 3;
}

/* ---- order: a group after those whose results it reads ---- */

typedef struct Order {
  Cut *c;
  char *state; /* by group: 0 new, 1 entered, 2 done */
  int *order, n;
  bool cycle;
} Order;

static void enter(Order *o, int group);

static void below(Order *o, int group, const Node *n, char *seen) {
  if (seen[n->id]) return;
  seen[n->id] = 1;
  int of = o->c->group_of[n->id];
  if (of >= 0 && of != group)
    enter(o, of);
  else if (of == group || !o->c->stored[n->id])
    for (int i = 0; i < n->n_src; i++) below(o, group, n->src[i], seen);
}

static void enter(Order *o, int group) {
  const CutGroup *g = &o->c->group[group];
  if (o->state[group] == 2) return;
  if (o->state[group] == 1) {
    o->cycle = true;
    return;
  }
  o->state[group] = 1;
  char *seen = xcalloc((size_t)o->c->g->n_node, 1);
  for (int i = 0; i < g->n_out; i++) below(o, group, g->out[i], seen);
  free(seen);
  o->state[group] = 2;
  o->order[o->n++] = group;
}

/* false where groups wait for each other */
static bool sort(Cut *c, int *order, int *n) {
  Order o = {.c = c, .state = xcalloc((size_t)c->n_group + 1, 1), .order = order};
  for (int i = 0; i < c->n_group; i++)
    if (c->group[i].n_out) enter(&o, i);
  free(o.state);
  *n = o.n;
  return !o.cycle;
}

/* ---- putting together ---- */

static void merge(Cut *c, int a, int b, int *order) {
  CutGroup was_a = c->group[a], was_b = c->group[b], *g = &c->group[a];
  int n;
  if (a == b || !was_a.n_out || !was_b.n_out || was_a.n_out + was_b.n_out > CG_MAX_OUT) return;
  if (!is_open(was_a.out[0]) && !is_reduction(was_a.out[0])) return;
  if (!is_open(was_b.out[0]) && !is_reduction(was_b.out[0])) return;
  for (int i = 0; i < was_b.n_out; i++) {
    int at = g->n_out++;
    for (; at > 0 && g->out[at - 1]->id > was_b.out[i]->id; at--) g->out[at] = g->out[at - 1];
    g->out[at] = was_b.out[i];
    c->group_of[was_b.out[i]->id] = a;
  }
  c->group[b].n_out = 0;
  if (is_legal(c, g) && sort(c, order, &n)) return;
  c->group[a] = was_a;
  c->group[b] = was_b;
  for (int i = 0; i < was_b.n_out; i++) c->group_of[was_b.out[i]->id] = b;
}

static bool all_legal(Cut *c) {
  bool ok = true;
  for (int i = 0; i < c->n_group && ok; i++) ok = !c->group[i].n_out || is_legal(c, &c->group[i]);
  return ok;
}

/* Some reductions need no place of their own: those that are no outputs, where all kernels that ask
 * them can compute them. */
static void inline_reductions(Cut *c) {
  for (int i = 0; i < c->n_group; i++) {
    CutGroup was = c->group[i];
    Node *n = was.n_out ? was.out[0] : NULL;
    bool output = false;
    for (int o = 0; o < c->g->n_output; o++) output = output || c->g->output[o].node == n;
    if (!n || !is_reduction(n) || output || next(c, 2)) continue;
    c->stored[n->id] = false;
    c->group[i].n_out = 0;
    c->group_of[n->id] = -1;
    if (all_legal(c)) continue;
    c->stored[n->id] = true;
    c->group[i] = was;
    c->group_of[n->id] = i;
  }
}

int cut_graph(Arena *a, const Graph *g, bool *stored, uint32_t seed, CutGroup **out) {
  size_t n_node = (size_t)g->n_node;
  Cut c = {.g = g, .stored = stored, .seed = seed};
  c.group = arena_alloc(a, sizeof *c.group * n_node);
  c.group_of = arena_alloc(a, sizeof *c.group_of * n_node);
  c.seen = arena_alloc(a, n_node);
  int *order = arena_alloc(a, sizeof *order * n_node), n = 0;
  for (int i = 0; i < g->n_node; i++) {
    c.group_of[i] = -1;
    if (!stored[i] || is_given(g->node[i])) continue;
    c.group_of[i] = c.n_group;
    c.group[c.n_group++] = (CutGroup){.out = {g->node[i]}, .n_out = 1};
  }
  inline_reductions(&c);
  for (int t = 0; t < 6 * c.n_group; t++)
    merge(&c, (int)next(&c, (uint32_t)c.n_group), (int)next(&c, (uint32_t)c.n_group), order);
  all_legal(&c); /* their anchors */
  if (!sort(&c, order, &n)) die("cut: kernels wait for each other");
  *out = arena_alloc(a, sizeof **out * (size_t)(n + 1));
  for (int i = 0; i < n; i++) (*out)[i] = c.group[order[i]];
  return n;
}
