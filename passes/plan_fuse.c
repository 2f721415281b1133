/* fuse: which nodes are stored; every other one is computed inside the kernels that use it.
 * Needs a verified graph. Gives `stored` under codegen/plan.h's guarantees, except the limits of
 * one kernel (plan_limit.c).
 *
 * What must be stored is stored: leaves in memory, reductions, products, outputs, what a table or a scatter reads, or a product
 * that cannot compute it. Any other node is stored where that is estimated to be faster. The
 * estimate counts, per node, the kernels that reach it and how often each evaluates it (more often
 * than it has elements where an expand lies between):
 *
 *   inlined:  Σ over kernels (work · evaluations + reads of what it is computed from)
 *   stored:   work · elements + reads + writes + one more dispatch + Σ over kernels (reads of it)
 *
 * in units of one addition on one element. Which kernels reach a node follows from what is stored
 * above it and its work from what is stored below it, so the decision is made for all nodes a few
 * times over.
 */
#include "passes/plan_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct Cost {
  double load, store; /* of an element that comes from memory */
  double cached;      /* of an element that was read before: a broadcast */
  double dispatch;
  double rounding; /* to 16 bits, in a product, whose loads wait for it */
} Cost;

/* A stored value also takes memory, often from the forward pass until the backward pass: it must
 * win clearly. */
#define MARGIN 1.25

/* Measured on lavapipe (15 µs a dispatch, 14 cycles a vector loaded from memory); on a GPU from 60
 * Tflop/s, 2 TB/s, 4 µs. */
static const Cost cost_cpu = {.load = 14, .store = 14, .cached = 3, .dispatch = 5e5, .rounding = 5};
static const Cost cost_gpu = {
  .load = 100, .store = 100, .cached = 8, .dispatch = 2e8, .rounding = 60};

/* More than an addition takes. */
static const double dear[OP_COUNT] = {
  [OP_div] = 10, [OP_sqrt] = 10,    [OP_rsqrt] = 10,  [OP_mod] = 10,   [OP_exp] = 24,
  [OP_log] = 24, [OP_sigmoid] = 24, [OP_expm1] = 40,  [OP_log1p] = 40, [OP_tanh] = 40,
  [OP_erf] = 40, [OP_erfc] = 50,    [OP_random] = 40, [OP_sin] = 60,   [OP_cos] = 60,
  [OP_pow] = 60, [OP_pad] = 3,      [OP_concat] = 3,
};

/* A view is index arithmetic, which is done at compile time; in registers a 16-bit value is f32. */
static double op_work(const Node *n) {
  if (plan_free(n) || n->op == OP_stop_gradient || cg_reads_through(n)) return 0;
  return dear[n->op] > 0 ? dear[n->op] : 1;
}

static bool reduces(const Node *n) {
  return plan_reduces(n) || n->op == OP_argmax || n->op == OP_cumsum || n->op == OP_matmul_spans;
}

/* The kernels that evaluate a node. When there are more than fit, the last entry stands for all the
 * rest. */
enum { MAX_USERS = 12, ROUNDS = 3 };
typedef struct Users {
  int n;
  int root[MAX_USERS]; /* node ids; −1: several */
  double evals[MAX_USERS];
} Users;

static void users_add(Users *u, int root, double evals) {
  for (int i = 0; i < u->n; i++) {
    if (u->root[i] != root || root < 0) continue;
    if (evals > u->evals[i]) u->evals[i] = evals; /* a kernel computes a value once for all uses */
    return;
  }
  if (u->n < MAX_USERS) {
    u->root[u->n] = root;
    u->evals[u->n++] = evals;
    return;
  }
  u->root[MAX_USERS - 1] = -1;
  u->evals[MAX_USERS - 1] += evals;
}

/* How often `root`, as a kernel, evaluates its source. */
static double root_evals(const Planner *p, const Node *root, int source) {
  const Node *src = root->src[source];
  double busy;
  if (root->op == OP_matmul && p->computable[plan_operand(root->src[source])->id])
    return (double)type_count(&src->type) * cg_operand_reads(p->target, root, source, &busy);
  bool each = reduces(root) || root->op == OP_concat || root->op == OP_scatter_add;
  return (double)type_count(each ? &src->type : &root->type);
}

static void find_users(const Planner *p, Users *users) {
  memset(users, 0, sizeof *users * (size_t)p->g->n_node);
  for (int i = p->g->n_node - 1; i >= 0; i--) {
    const Node *n = p->g->node[i];
    if (!p->needed[i] || n->op == OP_fold) continue;
    for (int s = 0; s < n->n_src; s++) {
      const Node *src = n->src[s];
      if (p->stored[i]) {
        users_add(&users[src->id], i, root_evals(p, n, s));
        continue;
      }
      double part =
        n->op == OP_concat ? (double)type_count(&src->type) / (double)type_count(&n->type) : 1;
      for (int u = 0; u < users[i].n; u++)
        users_add(&users[src->id], users[i].root[u], part * users[i].evals[u]);
    }
  }
}

/* What evaluating an inlined node takes: arithmetic per evaluation, and the stored nodes read. */
enum { MAX_WALK = 96, MAX_READ = 24, MAX_COMPUTED = 32 /* of a prologue */ };
typedef struct Work {
  double arithmetic;
  const Node *seen[MAX_WALK], *read[MAX_READ];
  int n_seen, n_read;
} Work;

static void work_add(const Planner *p, const Node *n, Work *w) {
  if (p->stored[n->id]) {
    for (int i = 0; i < w->n_read; i++)
      if (w->read[i] == n) return;
    if (w->n_read < MAX_READ) w->read[w->n_read++] = n;
    return;
  }
  for (int i = 0; i < w->n_seen; i++)
    if (w->seen[i] == n) return;
  if (w->n_seen == MAX_WALK) return;
  w->seen[w->n_seen++] = n;
  w->arithmetic += op_work(n);
  for (int s = 0; s < n->n_src; s++) work_add(p, n->src[s], w);
}

static double read_cost(const Cost *c, const Node *n, double evals) {
  double elements = (double)type_count(&n->type);
  return evals * c->cached + (elements < evals ? elements : evals) * c->load;
}

static double work_cost(const Cost *c, const Work *w, double evals) {
  double sum = w->arithmetic * evals;
  for (int i = 0; i < w->n_read; i++) sum += read_cost(c, w->read[i], evals);
  return sum;
}

/* Whether a user of the value is nothing but its rounding to 16 bits: the kernel that computes that may
 * store both. */
static bool is_rounding(const Planner *p, const Node *n, int user) {
  const Node *root = user >= 0 ? p->g->node[user] : n;
  return root->op == OP_cast && root->src[0] == n && dtype_is_16((DType)root->type.dtype);
}

static bool worth_storing(const Planner *p, const Cost *c, const Node *n, const Users *u) {
  double elements = (double)type_count(&n->type);
  if (plan_free(n) || u->n == 0 || (u->n == 1 && u->root[0] >= 0 && u->evals[0] <= elements))
    return false;
  Work w = {0};
  bool *self = &p->stored[n->id], was = *self;
  *self = false;
  work_add(p, n, &w);
  *self = was;
  double inlined = 0, stored = work_cost(c, &w, elements) + elements * c->store;
  bool alone = true;
  for (int i = 0; i < u->n; i++) {
    bool beside = is_rounding(p, n, u->root[i]);
    inlined += work_cost(c, &w, u->evals[i]);
    if (!beside) stored += read_cost(c, n, u->evals[i]);
    alone = alone && !beside;
  }
  if (alone) stored += c->dispatch;
  return (alone ? MARGIN : 1) * stored < inlined;
}

/* ---- prologues ---- */

/* The same in bytes: what an element of 4 takes, of this one. */
static double part_of(const Planner *p, const Node *n) {
  return cg_element_bytes(p->target, (DType)n->type.dtype) / 4.0;
}

static double reads(const Planner *p, const Cost *c, const Work *w, double evals) {
  double sum = 0;
  for (int i = 0; i < w->n_read; i++)
    sum += part_of(p, w->read[i]) * read_cost(c, w->read[i], evals);
  return sum;
}

/* Whether a kernel that is there anyway could compute the value as well: one with a result as large, or a reduction over a source
 * as large, that it is computed from. */
static bool joins(const Work *w, int64_t elements) {
  for (int i = 0; i < w->n_read; i++) {
    const Node *n = w->read[i];
    if (plan_given(n)) continue;
    if (type_count(&(plan_reduces(n) ? n->src[0] : n)->type) == elements) return true;
  }
  return false;
}

/* The part of the device that the product keeps busy which reads the value. */
static double busy_part(const Planner *p, const Node *n, const Node *product) {
  double busy = 1;
  cg_operand_reads(p->target, product, plan_operand(product->src[0]) != n, &busy);
  return busy;
}

/* Whether the products that read the stored value had better compute it themselves. No kernel is saved where another would compute
 * it too, nor of what depends on given values alone, which runs beside other kernels. */
static bool worth_computing(const Planner *p, const Cost *c, const Node *n, const Users *u) {
  double elements = (double)type_count(&n->type);
  Work w = {0};
  bool given = true;
  p->stored[n->id] = false;
  work_add(p, n, &w);
  p->stored[n->id] = true;
  bool joined = joins(&w, type_count(&n->type));
  double inlined = 0, stored = w.arithmetic * elements + part_of(p, n) * elements * c->store;
  if (dtype_is_16((DType)n->type.dtype)) w.arithmetic += c->rounding;
  for (int i = 0; i < w.n_read; i++) given = given && plan_given(w.read[i]);
  if (!joined) stored += reads(p, c, &w, elements);
  if (!joined && !given) stored += c->dispatch;
  for (int i = 0; i < u->n; i++) {
    if (u->root[i] < 0 || p->g->node[u->root[i]]->op != OP_matmul) return false;
    double busy = busy_part(p, n, p->g->node[u->root[i]]);
    inlined += (w.arithmetic * u->evals[i] + reads(p, c, &w, u->evals[i])) / busy;
    stored += part_of(p, n) * read_cost(c, n, u->evals[i]) / busy;
  }
  return MARGIN * inlined < stored && w.n_seen <= MAX_COMPUTED;
}

/* The last node, as kernels run in the order of the graph, that needs what the node stores. */
static int *find_last(const Planner *p) {
  int *last = xcalloc((size_t)p->g->n_node + 1, sizeof *last);
  for (int i = p->g->n_node - 1; i >= 0; i--) {
    int here = p->stored[i] ? i : last[i];
    const Node *n = p->g->node[i];
    for (int s = 0; p->needed[i] && s < n->n_src; s++)
      if (last[n->src[s]->id] < here) last[n->src[s]->id] = here;
  }
  return last;
}

/* Whether what the value is computed from would stay longer in memory for that, and be larger than it. */
static bool keeps_more(const Planner *p, const Node *n, const int *last) {
  Work w = {0};
  uint64_t bytes = 0;
  p->stored[n->id] = false;
  work_add(p, n, &w);
  p->stored[n->id] = true;
  for (int i = 0; i < w.n_read; i++)
    if (!plan_given(w.read[i]) && last[w.read[i]->id] < last[n->id])
      bytes += plan_bytes(p, w.read[i]);
  return bytes > plan_bytes(p, n);
}

static void choose_prologues(Planner *p, const Cost *cost, const bool *must, Users *users) {
  find_users(p, users);
  int *last = find_last(p);
  for (int i = 0; i < p->g->n_node; i++) {
    const Node *n = p->g->node[i];
    if (p->computable[i] && !must[i] && worth_computing(p, cost, n, &users[i]) &&
        !keeps_more(p, n, last))
      p->stored[i] = false;
  }
  free(last);
}

/* ---- the choice ---- */

/* Marks in `must` what plan.h demands, whatever it costs. */
static void find_forced(const Planner *p, bool *must) {
  for (int i = 0; i < p->g->n_node; i++) {
    Node *n = p->g->node[i];
    if (!p->needed[i]) continue;
    must[i] = plan_given(n) || reduces(n) || n->op == OP_matmul || n->op == OP_scatter_add ||
              plan_is_attention(n->op) || p->assembles[i] || p->part_of[i] || must[i];
    for (int s = 0; s < n->n_src; s++) {
      SourceNeed need = plan_source(n, s);
      const Node *asked = need == SOURCE_strided ? plan_operand(n->src[s]) : n->src[s];
      if (need != SOURCE_any && !p->computable[asked->id]) must[asked->id] = true;
    }
  }
  for (int i = 0; i < p->g->n_output; i++) {
    const Node *home = plan_home(p->g->output[i].node);
    if (!plan_free(home)) must[home->id] = true;
  }
}

/* Single elements that follow from a state of one element that gets another value, where something larger asks for them: the
 * kernels that go over all parameters would else read the state (the step's number) itself, and its update would have to wait
 * for them. */
static void find_ahead(const Planner *p, bool *must) {
  bool *follows = arena_alloc(p->arena, (size_t)p->g->n_node + 1);
  for (int i = 0; i < p->g->n_node; i++) {
    const Node *n = p->g->node[i];
    bool single = type_count(&n->type) == 1;
    follows[i] = single && plan_given(n) && p->replaced[i];
    for (int s = 0; p->needed[i] && n->op != OP_fold && s < n->n_src; s++) {
      if (!follows[n->src[s]->id]) continue;
      follows[i] = single;
      if (!single) must[plan_home(n->src[s])->id] = true;
    }
  }
}

/* Whether the kernel of a product or of attention can go on to the value. */
static bool follows(const Node *n, bool attends) {
  if (n->op == OP_reshape) return true;
  if (attends)
    return n->op == OP_permute || (n->op == OP_cast && dtype_is_16((DType)n->type.dtype));
  return ir_op[n->op].flags & IR_EW;
}

/* Elementwise work that only follows a product or a scatter is done on its accumulators, so its
 * result is stored instead, and attention rounds and permutes what it stores; where it is rounded to 16
 * bits on the way, the last such value. */
static void find_epilogues(const Planner *p, bool *must) {
  int n_node = p->g->n_node;
  int *n_user = xcalloc((size_t)n_node + 1, sizeof *n_user);
  Node **user = xcalloc((size_t)n_node + 1, sizeof *user);
  bool *taken = xcalloc((size_t)n_node + 1, sizeof *taken); /* by another product */
  for (int i = 0; i < n_node; i++) {
    Node *n = p->g->node[i];
    for (int s = 0; p->needed[i] && n->op != OP_fold && s < n->n_src; s++) {
      n_user[n->src[s]->id] += user[n->src[s]->id] != n;
      user[n->src[s]->id] = n;
    }
  }
  for (int i = 0; i < p->g->n_output; i++) n_user[p->g->output[i].node->id] += 2;
  for (int i = 0; i < n_node; i++) {
    Node *n = p->g->node[i], *last = n, *narrow = NULL;
    bool attends = plan_is_attention(n->op);
    bool computes = p->product[i] || n->op == OP_matmul || n->op == OP_scatter_add;
    if (!p->needed[i] || (!computes && !attends)) continue;
    for (Node *next; n_user[last->id] == 1 && follows(next = user[last->id], attends);
         last = next) {
      if (taken[next->id]) break;
      taken[next->id] = true;
      if (dtype_is_16((DType)next->type.dtype)) narrow = next;
    }
    if (narrow || !attends) must[plan_home(narrow ? narrow : last)->id] = true;
  }
  free(n_user);
  free(user);
  free(taken);
}

/* Views between a product and what it reads are not stored, and no widenings. */
static void find_pinned(const Planner *p, bool *pinned) {
  for (int i = 0; i < p->g->n_node; i++) {
    const Node *n = p->g->node[i];
    if (!p->needed[i]) continue;
    pinned[i] = pinned[i] || cg_widens(n);
    for (int s = 0; s < n->n_src; s++)
      for (Node *v = n->src[s]; plan_source(n, s) == SOURCE_strided && cg_reads_through(v);
           v = v->src[0])
        pinned[v->id] = true;
  }
}

void plan_fuse(Planner *p) {
  int n = p->g->n_node;
  const Cost *cost = p->target->is_cpu ? &cost_cpu : &cost_gpu;
  bool *must = arena_alloc(p->arena, (size_t)n + 1), *pinned = arena_alloc(p->arena, (size_t)n + 1);
  Users *users = xcalloc((size_t)n + 1, sizeof *users);
  plan_prologues(p);
  find_forced(p, must);
  find_ahead(p, must);
  find_epilogues(p, must);
  find_pinned(p, pinned);
  for (int i = 0; i < n; i++) p->stored[i] = must[i] || p->computable[i];
  for (int round = 0; round < ROUNDS; round++) {
    find_users(p, users);
    for (int i = 0; i < n; i++)
      if (p->needed[i] && !must[i] && !p->computable[i])
        p->stored[i] = !pinned[i] && worth_storing(p, cost, p->g->node[i], &users[i]);
  }
  choose_prologues(p, cost, must, users);
  free(users);
}
