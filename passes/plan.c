/* plan: graph → kernels in order, with their memory. fuse → limit → group → schedule →
 * level → memory → barriers. */
#include "passes/plan_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
  WIDE = 8,
  FEW_PARTS = 8
}; /* sources of one concat: a kernel reads a bounded number of tensors */

/* The leaf that each update replaces, and which leaves get another value. */
static void find_leaves(Planner *p) {
  const Graph *g = p->g;
  int size = 1;
  while (size < 2 * (g->n_node + g->n_output)) size *= 2;
  const char **name = xcalloc((size_t)size, sizeof *name);
  Node **leaf = xcalloc((size_t)size, sizeof *leaf);
  bool *updated = xcalloc((size_t)size, 1);
  p->old = arena_alloc(p->arena, sizeof *p->old * ((size_t)g->n_output + 1));
  p->replaced = arena_alloc(p->arena, (size_t)g->n_node + 1);
  for (int i = 0; i < g->n_node + g->n_output; i++) {
    Node *n = i < g->n_node ? g->node[i] : NULL;
    const Output *o = n ? NULL : &g->output[i - g->n_node];
    if (n ? n->op != OP_param && n->op != OP_state : o->kind != OUT_update) continue;
    const char *key = n ? n->name : o->name;
    int at = (int)(hash_bytes(&key, sizeof key, 0) & (uint64_t)(size - 1));
    while (name[at] && name[at] != key) at = (at + 1) & (size - 1);
    name[at] = key;
    if (n) {
      leaf[at] = n;
      continue;
    }
    if (updated[at]) die("program %s: two updates of %s", g->name, key);
    updated[at] = true;
    p->old[i - g->n_node] = leaf[at];
    if (leaf[at] && plan_home(o->node) != leaf[at]) p->replaced[leaf[at]->id] = true;
  }
  free(name);
  free(leaf);
  free(updated);
}

static Node *narrow_concat(Graph *to, const Node *n, int n_src, Node *const *src) {
  Node *part[IR_MAX_SRC];
  while (n_src > WIDE) {
    int n_part = 0;
    for (int i = 0; i < n_src; i += WIDE) {
      int m = n_src - i < WIDE ? n_src - i : WIDE;
      part[n_part++] = m == 1 ? src[i]
                              : ir_make(to, OP_concat, NULL,
                                        &(Attr){.n_int = 1, .ints = {n->ints[0]}}, m, src + i);
    }
    n_src = n_part;
    src = part;
  }
  return ir_rebuild(to,
                    &(Node){.op = n->op,
                            .type = n->type,
                            .n_src = n_src,
                            .n_int = n->n_int,
                            .ints = n->ints,
                            .region = n->region,
                            .label = n->label,
                            .loc = n->loc},
                    src);
}

/* x's dimension `axis` of 2 in equal parts, the parts first: [m, k] → [parts, m, k / parts]. */
static Node *in_parts(Graph *to, Node *x, int axis, int64_t parts) {
  int64_t rows = x->type.dim[0], columns = x->type.dim[1];
  if (axis == 0) return ir_reshape(to, x, 3, (int64_t[]){parts, rows / parts, columns});
  x = ir_reshape(to, x, 3, (int64_t[]){rows, parts, columns / parts});
  return ir_permute(to, x, (int[]){1, 0, 2});
}

/* On a CPU what a tile reads then stays in its caches. (50,257 terms in 29 parts: 55 GFLOP/s instead of 40.) */
static int64_t cpu_parts(int64_t k) {
  enum { LONG = 16384, PART = 1024 };
  int64_t parts = k < LONG ? 1 : k / PART;
  while (k % parts) parts--;
  return k / parts > LONG / 2 ? 1 : parts;
}

/* The 16-bit type that both operands are widened from; DT_f32: none. */
static DType widened_from(const Node *a, const Node *b) {
  const Node *source[] = {a, b};
  DType type[2];
  for (int i = 0; i < 2; i++) {
    const Node *n = source[i];
    while (ir_op[n->op].flags & IR_VIEW) n = n->src[0];
    type[i] = cg_widens(n) ? (DType)n->src[0]->type.dtype : DT_f32;
  }
  return type[0] == type[1] ? type[0] : DT_f32;
}

static const Node *read_by(const Node *n, int operand) {
  const Node *x = n->src[operand];
  while (cg_reads_through(x)) x = x->src[0];
  return x;
}

/* Whether another product reads the later one of n's operands, a cotangent of which it is the other gradient, and has so
 * many tiles that it can fill the cores that n leaves: it runs beside n. */
static bool is_filled(const Planner *p, const Node *n) {
  enum { WAVES = 2, TILE = 128 * 192 };
  const Node *a = read_by(n, 0), *b = read_by(n, 1), *last = a->id > b->id ? a : b;
  int64_t cores = p->target->cores ? p->target->cores : 32;
  for (int i = last->id + 1; i < p->g->n_node; i++) {
    const Node *other = p->g->node[i];
    if (other != n && p->needed[i] && other->op == OP_matmul &&
        (read_by(other, 0) == last || read_by(other, 1) == last) &&
        type_count(&other->type) >= WAVES * TILE * cores)
      return true;
  }
  return false;
}

/* How a product is computed: whole, in parts of k, or in spans (OP_matmul_spans). */
typedef struct Cut {
  int64_t parts;    /* 1: whole; 0: in spans */
  int64_t spans[4]; /* as in ATTR_spans */
} Cut;

/* On matrix units a product with few tiles leaves cores idle that no other one fills: as many parts as make it
 * and the sum over parts fastest, or spans. Few parts are added wherever the sum is read, which takes no kernel, unless an update
 * reads it: its kernels want what they read at their own place (flat.c). along_k: as of cg_spans_time; NULL: no spans. */
static Cut cut_for_units(const Target *t, DType d, int64_t m, int64_t n, int64_t k, bool updates,
                         bool filled, const bool *along_k) {
  enum { MOST = 64, PART = 256, TERMS = 64 /* of a step */ };
  const double ANOTHER = 5e6; /* for one kernel more */
  const double GAIN = 0.95;   /* parts are memory: more of them must be worth it */
  double cores = t->cores ? t->cores : 32, best = cg_matmul_time(t, d, 1, m, n, k, filled);
  Cut found = {.parts = 1};
  for (int64_t parts = 2; parts <= MOST && k / parts >= PART && best > 0; parts++) {
    if (k % (parts * TERMS)) continue;
    double bytes = 4.0 * (double)(m * n) * (double)(parts + 1);
    double time = cg_matmul_time(t, d, parts, m, n, k / parts, filled) + bytes * CG_BALANCE / cores;
    if (parts > FEW_PARTS || updates) time += ANOTHER;
    if (time >= GAIN * best) continue;
    best = time;
    found.parts = parts;
  }
  double time = along_k ? cg_spans_time(t, d, m, n, k, along_k, found.spans) : 0;
  if (time > 0 && time + ANOTHER < GAIN * best) found.parts = 0;
  return found;
}

/* Whether rows or terms of an operand lie together in memory, wherever it is stored. */
static bool lies_together(const Planner *p, const Node *product, int operand, bool *along_k) {
  Strided s;
  Node *n = product->src[operand], *base = plan_operand(n);
  bool *stored = xcalloc((size_t)p->g->n_node + 1, sizeof *stored);
  stored[base->id] = true;
  bool ok = cg_strided(n, stored, &s) && (s.stride[0] == 1 || s.stride[1] == 1);
  free(stored);
  *along_k = ok && s.stride[!operand] == 1;
  return ok;
}

static Cut cut_of(const Planner *p, const Node *n) {
  enum { FEW = 1024 };
  const Target *t = p->target;
  const Node *a = n->src[0];
  if (a->type.rank != 2 || type_count(&n->type) < FEW || n->type.dtype != DT_f32)
    return (Cut){.parts = 1};
  int64_t k = a->type.dim[1];
  DType d = widened_from(a, n->src[1]);
  if (t->is_cpu) return (Cut){.parts = cpu_parts(k)};
  bool filled = is_filled(p, n), along_k[2];
  bool spans =
    !filled && lies_together(p, n, 0, &along_k[0]) && lies_together(p, n, 1, &along_k[1]);
  return cut_for_units(t, d, n->type.dim[0], n->type.dim[1], k, p->updating[n->id], filled,
                       spans ? along_k : NULL);
}

int64_t plan_product_parts(const Planner *p, const Node *n) { return cut_of(p, n).parts; }

Node *plan_add_parts(Graph *to, Node *x, int axis) {
  int64_t begin[IR_MAX_RANK] = {0}, end[IR_MAX_RANK], parts = x->type.dim[axis];
  Node *part[FEW_PARTS];
  if (parts > FEW_PARTS) die("plan: %lld parts", (long long)parts);
  memcpy(end, x->type.dim, sizeof end);
  for (int64_t i = 0; i < parts; i++) {
    begin[axis] = i;
    end[axis] = i + 1;
    part[i] = ir_slice(to, x, begin, end);
  }
  for (int64_t step = 1; step < parts; step *= 2)
    for (int64_t i = 0; i + step < parts; i += 2 * step)
      part[i] = ir_add(to, part[i], part[i + step]);
  return part[0];
}

/* A product as the sum of products over parts of k, or of its spans' slots. */
static Node *split_product(const Planner *p, Graph *to, const Node *n, Node *const *src) {
  Cut cut = cut_of(p, n);
  if (cut.parts == 1) return ir_rebuild(to, n, src);
  Node *x;
  if (cut.parts) {
    Node *part[] = {in_parts(to, src[0], 1, cut.parts), in_parts(to, src[1], 0, cut.parts)};
    x = ir_matmul(to, part[0], part[1]);
  } else {
    Attr spans = {.n_int = 4};
    memcpy(spans.ints, cut.spans, sizeof cut.spans);
    x = ir_make(to, OP_matmul_spans, NULL, &spans, 2, src);
  }
  int64_t parts = x->type.dim[0];
  x = parts <= FEW_PARTS && !p->updating[n->id] ? plan_add_parts(to, x, 0)
                                                : ir_reduce(to, OP_reduce_sum, x, 1, (int[]){0});
  return ir_reshape(to, x, 2, n->type.dim);
}

static void find_updating(Planner *p) {
  const Graph *g = p->g;
  bool *updating = p->updating = arena_alloc(p->arena, (size_t)g->n_node + 1);
  for (int i = 0; i < g->n_output; i++)
    if (g->output[i].kind == OUT_update) updating[g->output[i].node->id] = true;
  for (int i = g->n_node - 1; i >= 0; i--) {
    const Node *n = g->node[i];
    if (!updating[i] || !((ir_op[n->op].flags & IR_EW) || n->op == OP_reshape)) continue;
    for (int s = 0; s < n->n_src; s++)
      if (type_count(&n->src[s]->type) == type_count(&n->type)) updating[n->src[s]->id] = true;
  }
}

/* A copy of the graph that suits kernels: no concat that is not assembled has more than WIDE
 * sources, long sums and some attention's keys are split. Inputs stay, though nothing may need them. */
static void adapt(Planner *p) {
  const Graph *g = p->g;
  find_updating(p);
  const bool *assembles = p->assembles, *operand = plan_product_operands(p);
  Graph *to = graph_new(g->name);
  Node **map = xcalloc((size_t)g->n_node + 1, sizeof *map), **chosen = NULL, **product = NULL;
  int n_chosen = 0, n_product = 0;
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    Node *src[IR_MAX_SRC];
    for (int s = 0; s < n->n_src; s++) src[s] = map[n->src[s]->id];
    to->region = n->region;
    to->loc = n->loc;
    if (n->op == OP_concat && n->n_src > WIDE && !assembles[i])
      map[i] = narrow_concat(to, n, n->n_src, src);
    else if (n->op == OP_matmul)
      map[i] = split_product(p, to, n, src);
    else if (plan_is_attention(n->op))
      map[i] = plan_attention(p, to, n, src);
    else
      map[i] = plan_reduces(n) ? plan_split(p, operand, n, to, src[0]) : ir_rebuild(to, n, src);
    if (assembles[i]) ARENA_PUSH(p->arena, chosen, n_chosen, map[i]);
    if (n->op == OP_matmul) ARENA_PUSH(p->arena, product, n_product, plan_home(map[i]));
  }
  for (int i = 0; i < g->n_output; i++)
    ir_output(to, g->output[i].kind, g->output[i].name, map[g->output[i].node->id]);
  free(map);
  p->g = to;
  p->product = arena_alloc(p->arena, (size_t)to->n_node + 1);
  for (int i = 0; i < n_product; i++) p->product[product[i]->id] = true;
  plan_assemble_as(p, chosen, n_chosen);
}

static void find_needed(Planner *p) {
  p->needed = arena_alloc(p->arena, (size_t)p->g->n_node + 1);
  for (int i = 0; i < p->g->n_output; i++) p->needed[p->g->output[i].node->id] = true;
  for (int i = p->g->n_node - 1; i >= 0; i--) {
    const Node *n = p->g->node[i];
    if (!p->needed[i] || n->op == OP_fold) continue;
    for (int s = 0; s < n->n_src; s++) p->needed[n->src[s]->id] = true;
  }
}

int plan_step_reads(const Plan *plan, const PlanStep *s, PlanPlace *out) {
  if (s->job.copy) return out[0] = s->source, 1;
  Node *operand[CG_MAX_SLOTS];
  int n = cg_operands(&s->job, operand, CG_MAX_SLOTS);
  for (int i = 0; i < n; i++) out[i] = plan->place[operand[i]->id];
  return n;
}

Plan *plan_graph(Layout *layout, const Graph *g, const Target *target, Buf *why) {
  Planner p = {.arena = layout->arena, .g = (Graph *)g, .target = target, .layout = layout};
  find_needed(&p);
  plan_assemble(&p);
  adapt(&p);
  find_leaves(&p);
  size_t n = (size_t)p.g->n_node + 1;
  Plan *plan = arena_alloc(p.arena, sizeof *plan);
  plan->graph = p.g;
  plan->stored = p.stored = arena_alloc(p.arena, n);
  plan->place = arena_alloc(p.arena, sizeof *plan->place * n);
  plan->output = arena_alloc(p.arena, sizeof *plan->output * ((size_t)p.g->n_output + 1));
  find_needed(&p);
  plan_fuse(&p);
  plan_limit(&p);
  plan_group(&p);
  plan_schedule(&p);
  if (!plan_memory(&p, plan, why)) {
    graph_free(p.g);
    return NULL;
  }
  plan_barriers(plan);
  plan_beside(plan);
  return plan;
}
