/* group: which stored values are computed together. Needs fuse's and limit's choice of what is
 * stored; gives the kernels. A value that only its own kernel still reads is no longer stored.
 *
 * At first every stored value is a kernel of its own. Two kernels become one where
 *   a product is followed by elementwise work on its result             epilogue
 *   one reads what the other computes, at the same place                softmax, norms, chains, updates
 *   both read the same large value over the same domain                 siblings
 *   sums over k of a product's operand stand beside the product         bias gradients
 * as long as codegen/plan.h's promises hold for the whole (plan_align.c), its slots suffice, and no
 * third kernel has to run between them. Products come first: what can be done on their accumulators
 * costs no memory traffic at all. */
#include "passes/plan_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
  MAX_BETWEEN = 4096, /* kernels that may stand between two that become one */
  FEW_ROWS = 16,      /* fewer leave a device idle … */
  FEW_VALUES = 16384, /* … unless there is little to do */
  OTHER_SLOTS = 5     /* of a kernel with its own loop that are neither results nor operands */
};

typedef struct Readers {
  int *kernel, n, cap;
} Readers;

typedef struct Grouper {
  Planner *p;
  bool *firm;       /* by id: must be in memory for a reader's sake, or as an output */
  Readers *readers; /* by id: kernels that read the stored node */
  int *order,
    *place; /* kernels so that each comes after what it needs, −1: none; by kernel: where */
  int *mark, serial; /* by kernel: of the search for paths */
  int *stack;
  int *depth; /* by id: stored nodes on the longest path up to this one */
} Grouper;

/* ---- the beginning: every stored value by itself ---- */

static Node *view_base(Node *n, const bool *stored) {
  while (!stored[n->id] && cg_reads_through(n)) n = n->src[0];
  return n;
}

static void find_firm(Grouper *s) {
  const Planner *p = s->p;
  for (int i = 0; i < p->g->n_node; i++) {
    const Node *n = p->g->node[i];
    if (!p->needed[i]) continue;
    for (int k = 0; k < n->n_src; k++)
      if (plan_source(n, k) != SOURCE_any) s->firm[view_base(n->src[k], p->stored)->id] = true;
  }
  for (int i = 0; i < p->g->n_output; i++) s->firm[plan_home(p->g->output[i].node)->id] = true;
  for (int i = 0; i < p->g->n_node; i++)
    if (p->assembles[i] || p->part_of[i]) s->firm[i] = true;
}

static bool is_own_loop(Op op) {
  return op == OP_argmax || op == OP_cumsum || op == OP_scatter_add || plan_is_attention(op);
}

static Kernel single(Planner *p, Node *n) {
  Kernel k = {.out = {n}, .n_out = 1, .domain = {type_count(&n->type), 1, 1}};
  k.assembles = p->assembles[n->id];
  if (n->op == OP_matmul || is_own_loop(n->op) || plan_reduces(n)) k.anchor = n;
  if (plan_reduces(n) && !plan_domain(n, &k.domain)) k.domain = (Domain){0, 0, 0};
  KernelJob job = plan_job(p, &k);
  Node *operand[CG_MAX_SLOTS], **found = operand;
  k.n_operand = cg_operands(&job, operand, CG_MAX_SLOTS);
  if (k.assembles) {
    found = arena_alloc(p->arena, sizeof *found * (size_t)k.n_operand);
    cg_operands(&job, found, k.n_operand);
  } else if (k.n_operand > CG_MAX_SLOTS - 2) {
    die("plan: kernel of %%%d reads %d tensors", n->id, k.n_operand);
  }
  k.operand = arena_copy(p->arena, found, sizeof *found * (size_t)k.n_operand);
  return k;
}

/* Stored nodes that an output reaches through what is inlined. */
static void find_kernels(Planner *p) {
  int n = p->g->n_node;
  bool *used = arena_alloc(p->arena, (size_t)n + 1);
  p->kernel_of = arena_alloc(p->arena, sizeof *p->kernel_of * ((size_t)n + 1));
  for (int i = 0; i < p->g->n_output; i++) used[plan_home(p->g->output[i].node)->id] = true;
  for (int i = n - 1; i >= 0; i--) {
    p->kernel_of[i] = -1;
    if (!used[i] || plan_given(p->g->node[i])) continue;
    for (int s = 0; s < p->g->node[i]->n_src; s++) used[p->g->node[i]->src[s]->id] = true;
  }
  for (int i = 0; i < n; i++) {
    if (!used[i] || !p->stored[i] || plan_given(p->g->node[i])) continue;
    p->kernel_of[i] = p->n_kernel;
    Kernel k = single(p, p->g->node[i]);
    ARENA_PUSH(p->arena, p->kernel, p->n_kernel, k);
  }
}

static void add_reader(Grouper *s, const Node *n, int kernel) {
  Readers *r = &s->readers[n->id];
  for (int i = 0; i < r->n; i++)
    if (r->kernel[i] == kernel) return;
  if (r->n == r->cap) {
    r->cap = r->cap ? 2 * r->cap : 4;
    r->kernel = xrealloc(r->kernel, sizeof *r->kernel * (size_t)r->cap);
  }
  r->kernel[r->n++] = kernel;
}

static void find_depths(Grouper *s) {
  const Planner *p = s->p;
  for (int k = 0; k < p->n_kernel; k++) {
    int depth = 0;
    for (int o = 0; o < p->kernel[k].n_operand; o++) {
      int below = s->depth[p->kernel[k].operand[o]->id];
      if (below > depth) depth = below;
    }
    s->depth[p->kernel[k].out[0]->id] = depth + 1;
  }
}

static void drop_reader(Grouper *s, const Node *n, int kernel) {
  Readers *r = &s->readers[n->id];
  for (int i = 0; i < r->n; i++)
    if (r->kernel[i] == kernel) {
      memmove(r->kernel + i, r->kernel + i + 1, sizeof *r->kernel * (size_t)(r->n - i - 1));
      r->n--;
      return;
    }
}

/* ---- paths ---- */

/* Marks the kernels between two places of the order that need, directly or not, a result of `a`,
 * which stands at the first one. */
static void mark_dependents(Grouper *s, int a, int to) {
  const Planner *p = s->p;
  s->serial++;
  s->mark[a] = s->serial;
  for (int at = s->place[a] + 1; at < to; at++) {
    int k = s->order[at];
    if (k < 0) continue;
    for (int o = 0; o < p->kernel[k].n_operand && s->mark[k] != s->serial; o++) {
      int before = p->kernel_of[p->kernel[k].operand[o]->id];
      if (before >= 0 && s->mark[before] == s->serial) s->mark[k] = s->serial;
    }
  }
}

/* Whether one of the two needs, through a third kernel, a result of the other; true also where too
 * many stand between them. Leaves the third ones that need the earlier one marked. */
static bool path(Grouper *s, int a, int b) {
  const Planner *p = s->p;
  if (s->place[a] > s->place[b]) {
    int t = a;
    a = b;
    b = t;
  }
  if (s->place[b] - s->place[a] > MAX_BETWEEN) return true;
  mark_dependents(s, a, s->place[b]);
  for (int o = 0; o < p->kernel[b].n_operand; o++) {
    int before = p->kernel_of[p->kernel[b].operand[o]->id];
    if (before >= 0 && before != a && s->mark[before] == s->serial) return true;
  }
  return false;
}

/* One kernel stands for two in the order: after what neither needs from the earlier one, before what
 * does. Needs the marks that path() has left. */
static void move_together(Grouper *s, int a, int b, int into) {
  int from = s->place[a] < s->place[b] ? s->place[a] : s->place[b];
  int to = s->place[a] + s->place[b] - from, n_late = 0, at = from;
  int *late = s->stack;
  for (int i = from; i <= to; i++) {
    int k = s->order[i];
    if (k < 0 || k == a || k == b) continue;
    if (s->mark[k] == s->serial)
      late[n_late++] = k;
    else
      s->order[at++] = k;
  }
  s->order[at++] = into;
  for (int i = 0; i < n_late; i++) s->order[at++] = late[i];
  while (at <= to) s->order[at++] = -1;
  for (int i = from; i <= to; i++)
    if (s->order[i] >= 0) s->place[s->order[i]] = i;
}

/* ---- two kernels as one ---- */

static bool same_domain(const Kernel *a, const Kernel *b) {
  return memcmp(&a->domain, &b->domain, sizeof a->domain) == 0;
}

static bool rows_take(const Domain *d, int64_t elements) {
  int64_t kept = d->outer * d->inner, full = kept * d->red;
  if (elements == kept) return true;
  return elements == full && d->inner == 1 && (kept >= FEW_ROWS || full <= FEW_VALUES);
}

/* Whose loop the union would have; NULL in *anchor: a map. false where the two do not go
 * together. */
static bool common_loop(const Planner *p, const Kernel *a, const Kernel *b, const Kernel **loop) {
  if (!a->anchor) {
    const Kernel *t = a;
    a = b;
    b = t;
  }
  *loop = a;
  if (!a->domain.red || !b->domain.red) return false; /* a reduction over scattered axes */
  if (!a->anchor) return a->domain.outer == b->domain.outer;
  if (!b->anchor) {
    if (plan_reduces(a->anchor)) return rows_take(&a->domain, b->domain.outer);
    return a->domain.outer == b->domain.outer;
  }
  if (plan_reduces(a->anchor) && plan_reduces(b->anchor)) return same_domain(a, b);
  if (plan_reduces(a->anchor) && b->anchor->op == OP_matmul) {
    const Kernel *t = a;
    *loop = a = b;
    b = t;
  }
  if (a->anchor->op == OP_matmul)
    return b->n_out == 1 && plan_is_k_sum(a->anchor, b->out[0], p->stored);
  return plan_siblings(a->anchor, b->anchor);
}

static bool read_elsewhere(const Grouper *s, const Node *n, int a, int b) {
  const Readers *r = &s->readers[n->id];
  for (int i = 0; i < r->n; i++)
    if (r->kernel[i] != a && r->kernel[i] != b) return true;
  return false;
}

/* The results of both by rising id; those that nobody else reads go to `inner`. */
static bool join_outs(const Grouper *s, int a, int b, Kernel *k, Node **inner, int *n_inner) {
  const Kernel *x = &s->p->kernel[a], *y = &s->p->kernel[b];
  int i = 0, j = 0;
  *n_inner = 0;
  while (i < x->n_out || j < y->n_out) {
    bool first = j == y->n_out || (i < x->n_out && x->out[i]->id < y->out[j]->id);
    Node *n = first ? x->out[i++] : y->out[j++];
    if (!s->firm[n->id] && !read_elsewhere(s, n, a, b))
      inner[(*n_inner)++] = n;
    else if (k->n_out == CG_MAX_OUT)
      return false;
    else
      k->out[k->n_out++] = n;
  }
  return k->n_out > 0;
}

static bool slots_suffice(const Kernel *k, const Reach *r) {
  int others = k->anchor && !plan_reduces(k->anchor) ? OTHER_SLOTS : 1;
  return k->n_out + r->n_operand + r->n_random + others <= CG_MAX_SLOTS;
}

static void commit(Grouper *s, int from, int into, Kernel *k, const Reach *r) {
  Planner *p = s->p;
  int part[2] = {from, into};
  for (int i = 0; i < 2; i++) {
    Kernel *old = &p->kernel[part[i]];
    for (int o = 0; o < old->n_operand; o++) drop_reader(s, old->operand[o], part[i]);
    for (int o = 0; o < old->n_out; o++) p->kernel_of[old->out[o]->id] = -1;
  }
  k->n_operand = r->n_operand;
  k->operand = arena_copy(p->arena, r->operand, sizeof *k->operand * (size_t)r->n_operand);
  p->kernel[from].gone = true;
  p->kernel[into] = *k;
  for (int o = 0; o < k->n_operand; o++) add_reader(s, k->operand[o], into);
  for (int o = 0; o < k->n_out; o++) p->kernel_of[k->out[o]->id] = into;
}

/* The region that all of its results are recomputed for; 0 where they are not. */
static int recomputed(const Kernel *k) {
  int region = k->out[0]->region;
  for (int i = 1; i < k->n_out; i++)
    if (k->out[i]->region != region) return 0;
  return region < 0 ? region : 0;
}

/* What is recomputed must not come early, with what it is computed from or reads as well; with what
 * asks for it is right. */
static bool keeps_late(const Kernel *a, const Kernel *b, bool b_asks) {
  int x = recomputed(a), y = recomputed(b);
  return x == y || (b_asks && y == 0);
}

/* Makes one kernel of two where that is possible; it gets the later one's number. `b_asks`: b reads
 * what a computes. */
static bool merge(Grouper *s, int a, int b, bool b_asks) {
  Planner *p = s->p;
  if (a == b || a < 0 || b < 0 || p->kernel[a].gone || p->kernel[b].gone) return false;
  if (!keeps_late(&p->kernel[a], &p->kernel[b], b_asks)) return false;
  if (p->kernel[a].assembles || p->kernel[b].assembles) return false;
  const Kernel *loop;
  if (!common_loop(p, &p->kernel[a], &p->kernel[b], &loop)) return false;
  Kernel k = {.anchor = loop->anchor, .domain = loop->domain};
  Node *inner[2 * CG_MAX_OUT];
  int n_inner;
  if (!join_outs(s, a, b, &k, inner, &n_inner)) return false;
  for (int i = 0; i < n_inner; i++) p->stored[inner[i]->id] = false;
  KernelJob job = plan_job(p, &k);
  Reach reach;
  bool ok = plan_reach(&job, &k.domain, NULL, &reach) && slots_suffice(&k, &reach) &&
            (!k.anchor || k.anchor->op != OP_matmul || cg_matmul_accepts(&job)) && !path(s, a, b);
  for (int i = 0; i < n_inner && !ok; i++) p->stored[inner[i]->id] = true;
  if (!ok) return false;
  move_together(s, a, b, a < b ? b : a);
  commit(s, a < b ? a : b, a < b ? b : a, &k, &reach);
  return true;
}

/* ---- which to try, in which order ---- */

static bool merge_users(Grouper *s, int *at) {
  const Kernel *k = &s->p->kernel[*at];
  for (int o = 0; o < k->n_out; o++) {
    const Readers *r = &s->readers[k->out[o]->id];
    for (int i = 0; i < r->n; i++) {
      int user = r->kernel[i];
      if (s->p->kernel[user].anchor || !merge(s, *at, user, true)) continue;
      if (user > *at) *at = user;
      return true;
    }
  }
  return false;
}

/* Work on what a product, or another operation with its own loop, has just computed. A scatter comes
 * first: where its result is added to a product's, as for an embedding that is the output layer too,
 * the product need not keep its operands until the scatter's are there. */
static void epilogues(Grouper *s) {
  const Planner *p = s->p;
  for (int scatters = 1; scatters >= 0; scatters--)
    for (int k = 0; k < p->n_kernel; k++) {
      const Node *anchor = p->kernel[k].anchor;
      if (p->kernel[k].gone || !anchor || plan_reduces(anchor) ||
          (anchor->op == OP_scatter_add) != scatters)
        continue;
      for (int at = k; merge_users(s, &at);) continue;
    }
}

/* A kernel and one of those that compute what it reads: the last of them, since joining an earlier one would make that wait
 * for the others. */
static bool join_producer(Grouper *s, int k) {
  const Planner *p = s->p;
  const Kernel *kernel = &p->kernel[k];
  bool tried[CG_MAX_SLOTS] = {false};
  for (int n = 0; n < kernel->n_operand; n++) {
    int last = -1;
    for (int o = 0; o < kernel->n_operand; o++)
      if (!tried[o] &&
          (last < 0 || s->depth[kernel->operand[o]->id] > s->depth[kernel->operand[last]->id]))
        last = o;
    tried[last] = true;
    if (merge(s, p->kernel_of[kernel->operand[last]->id], k, true)) return true;
  }
  return false;
}

static bool chains(Grouper *s) {
  const Planner *p = s->p;
  bool changed = false;
  for (int k = 0; k < p->n_kernel; k++)
    while (!p->kernel[k].gone && !p->kernel[k].assembles && join_producer(s, k)) changed = true;
  return changed;
}

static int64_t kept(const Kernel *k) { return k->domain.outer * k->domain.inner; }

/* Kernels that go over the same large value, are parts of one operation, or have next to nothing to
 * do. */
static void siblings(Grouper *s) {
  Planner *p = s->p;
  for (int i = 0; i < p->g->n_node; i++) {
    Readers *r = &s->readers[i];
    for (int x = 0; x < r->n; x++)
      for (int y = x + 1; y < r->n; y++) {
        const Kernel *a = &p->kernel[r->kernel[x]], *b = &p->kernel[r->kernel[y]];
        int64_t n = type_count(&p->g->node[i]->type);
        bool parts = a->anchor && b->anchor && is_own_loop(a->anchor->op);
        bool sum =
          a->anchor && b->anchor && (a->anchor->op == OP_matmul) != (b->anchor->op == OP_matmul);
        bool tiny = kept(a) == 1 && kept(b) == 1 && (!a->anchor || !b->anchor);
        bool large = n > 1 && a->domain.outer * a->domain.red * a->domain.inner == n &&
                     b->domain.outer * b->domain.red * b->domain.inner == n;
        if ((parts || sum || large || tiny) && merge(s, r->kernel[x], r->kernel[y], false)) {
          x = -1;
          break;
        }
      }
  }
}

static void close_gaps(Planner *p) {
  int n = 0;
  for (int k = 0; k < p->n_kernel; k++) {
    if (p->kernel[k].gone) continue;
    p->kernel[n] = p->kernel[k];
    for (int o = 0; o < p->kernel[n].n_out; o++) p->kernel_of[p->kernel[n].out[o]->id] = n;
    n++;
  }
  p->n_kernel = n;
}

void plan_group(Planner *p) {
  find_kernels(p);
  size_t n_node = (size_t)p->g->n_node + 1, n_kernel = (size_t)p->n_kernel + 1;
  Grouper s = {.p = p,
               .firm = xcalloc(n_node, sizeof *s.firm),
               .readers = xcalloc(n_node, sizeof *s.readers),
               .mark = xcalloc(n_kernel, sizeof *s.mark),
               .order = xcalloc(n_kernel, sizeof *s.order),
               .place = xcalloc(n_kernel, sizeof *s.place),
               .stack = xcalloc(n_kernel, sizeof *s.stack),
               .depth = xcalloc(n_node, sizeof *s.depth)};
  find_firm(&s);
  find_depths(&s);
  for (int k = 0; k < p->n_kernel; k++) s.order[k] = s.place[k] = k;
  for (int k = 0; k < p->n_kernel; k++)
    for (int o = 0; o < p->kernel[k].n_operand; o++) add_reader(&s, p->kernel[k].operand[o], k);
  epilogues(&s);
  for (int round = 0; round < 4 && chains(&s);) round++;
  siblings(&s);
  close_gaps(p);
  for (int i = 0; i < p->g->n_node; i++) free(s.readers[i].kernel);
  free(s.firm);
  free(s.readers);
  free(s.mark);
  free(s.order);
  free(s.place);
  free(s.stack);
  free(s.depth);
}
