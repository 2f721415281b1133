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
#include "passes/plan_group.h"

#include <stdlib.h>
#include <string.h>

/* ---- the beginning: every stored value by itself ---- */

/* What a product's operand is computed from. */
static void firm_below(Grouper *s, const Node *n, bool *seen) {
  if (seen[n->id]) return;
  seen[n->id] = true;
  s->firm[n->id] = s->p->stored[n->id];
  for (int i = 0; i < n->n_src && !s->firm[n->id]; i++) firm_below(s, n->src[i], seen);
}

static void find_firm(Grouper *s) {
  const Planner *p = s->p;
  bool *seen = xcalloc((size_t)p->g->n_node + 1, 1);
  for (int i = 0; i < p->g->n_node; i++) {
    const Node *n = p->g->node[i];
    if (!p->needed[i]) continue;
    for (int k = 0; k < n->n_src; k++)
      if (plan_source(n, k) != SOURCE_any) firm_below(s, n->src[k], seen);
  }
  free(seen);
  for (int i = 0; i < p->g->n_output; i++) s->firm[plan_home(p->g->output[i].node)->id] = true;
  for (int i = 0; i < p->g->n_node; i++)
    if (p->assembles[i] || p->part_of[i]) s->firm[i] = true;
}

static bool is_own_loop(Op op) {
  return op == OP_argmax || op == OP_cumsum || op == OP_scatter_add || op == OP_matmul_spans ||
         plan_is_attention(op);
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

/* ---- which to try, in which order ---- */

static bool merge_users(Grouper *s, int *at) {
  const Kernel *k = &s->p->kernel[*at];
  for (int o = 0; o < k->n_out; o++) {
    const Readers *r = &s->readers[k->out[o]->id];
    for (int i = 0; i < r->n; i++) {
      int user = r->kernel[i];
      if (s->p->kernel[user].anchor || !group_merge(s, *at, user, true)) continue;
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
    if (group_merge(s, p->kernel_of[kernel->operand[last]->id], k, true)) return true;
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
        if ((parts || sum || large || tiny) && group_merge(s, r->kernel[x], r->kernel[y], false)) {
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
    for (int o = 0; o < p->kernel[k].n_operand; o++)
      group_add_reader(&s, p->kernel[k].operand[o], k);
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
