/* levels: which kernels run between the same two barriers. Needs the schedule's order; gives the order again, sorted by level,
 * and the level at each place of it.
 *
 * A kernel's level is one more than the highest of those that compute what it reads: as few barriers as the program can have,
 * each kernel as early as it can run, and what is independent side by side (a product's two gradients; the next layer's
 * activations beside this one's weight gradients). Not earlier than scheduled:
 *
 *   recomputed values               checkpoint() would save nothing
 *   parts of an assembled concat    all of one concat have one level: equal kernels become one dispatch
 *   updates                         above all that reads the old value, which they overwrite
 *   what needs nothing computed     a few levels before its first reader (the 16-bit copies of weights: all at once they would
 *                                   hold up the first level, one by one they would be many dispatches)
 *   sums that nothing soon reads    beside the next products
 *
 * Of a level's products those with by far the longest sums begin.
 *
 * Kernels of one level need their operands and results at the same time: plan_memory.c compares with the schedule's order, one
 * kernel after the other. */
#include "passes/plan_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct Levels {
  Planner *p;
  int *level;  /* by kernel */
  int *least;  /* by kernel: what it may not be below */
  int *update; /* by node: the kernel that replaces this leaf's value, −1 */
  int n;       /* levels */
} Levels;

static bool recomputed(const Kernel *k) {
  for (int o = 0; o < k->n_out; o++)
    if (k->out[o]->region >= 0) return false;
  return true;
}

static void raise_to(int *level, int at_least) {
  if (*level < at_least) *level = at_least;
}

/* Needs the levels of all kernels before it. `front` is the highest of them. */
static int level_of(const Levels *s, int k, int front) {
  const Planner *p = s->p;
  const Kernel *kernel = &p->kernel[k];
  int level = s->least[k];
  if (recomputed(kernel)) raise_to(&level, front);
  for (int o = 0; o < kernel->n_operand; o++) {
    int before = p->kernel_of[kernel->operand[o]->id];
    if (before >= 0) raise_to(&level, s->level[before] + !kernel->assembles);
  }
  return level;
}

static void find_updates(Levels *s) {
  const Planner *p = s->p;
  memset(s->update, -1, sizeof *s->update * (size_t)p->g->n_node);
  for (int i = 0; i < p->g->n_output; i++)
    if (p->g->output[i].kind == OUT_update && p->old[i])
      s->update[p->old[i]->id] = p->kernel_of[plan_home(p->g->output[i].node)->id];
}

static void find_levels(Levels *s) {
  const Planner *p = s->p;
  int front = 0;
  for (int i = 0; i < p->n_kernel; i++) {
    int k = p->order[i];
    s->level[k] = level_of(s, k, front);
    raise_to(&front, s->level[k]);
    for (int o = 0; o < p->kernel[k].n_operand; o++) {
      int update = s->update[p->kernel[k].operand[o]->id];
      if (update >= 0 && update != k) raise_to(&s->least[update], s->level[k] + 1);
    }
  }
  s->n = front + 1;
}

/* Whether another part of the concat is computed, by whatever kernels, from what this one's computes. */
static bool precedes(const Levels *s, const Kernel *concat, int part) {
  const Planner *p = s->p;
  bool *needs = xcalloc((size_t)p->n_kernel + 1, sizeof *needs), found = false;
  for (int i = 0; i < p->n_kernel; i++) {
    const Kernel *k = &p->kernel[p->order[i]];
    for (int o = 0; o < k->n_operand && k != concat; o++) {
      int before = p->kernel_of[k->operand[o]->id];
      if (before >= 0 && (before == part || needs[before])) needs[p->order[i]] = true;
    }
  }
  for (int o = 0; o < concat->n_operand; o++) {
    int other = p->kernel_of[concat->operand[o]->id];
    found = found || (other >= 0 && needs[other]);
  }
  free(needs);
  return found;
}

/* The parts of a concat get the level of the highest, where they can; whether any was lower. */
static bool level_parts(Levels *s) {
  const Planner *p = s->p;
  bool changed = false;
  for (int c = 0; c < p->n_kernel; c++) {
    const Kernel *concat = &p->kernel[c];
    for (int o = 0; concat->assembles && o < concat->n_operand; o++) {
      int part = p->kernel_of[concat->operand[o]->id];
      if (part < 0 || s->level[part] == s->level[c] || precedes(s, concat, part)) continue;
      raise_to(&s->least[part], s->level[c]);
      changed = true;
    }
  }
  return changed;
}

/* Whether something that the kernel reads has its next value at that level or before. */
static bool updated_by(const Levels *s, int k, int level) {
  const Kernel *kernel = &s->p->kernel[k];
  for (int o = 0; o < kernel->n_operand; o++) {
    int update = s->update[kernel->operand[o]->id];
    if (update >= 0 && s->level[update] <= level) return true;
  }
  return false;
}

/* Kernels that read nothing computed are put off to the batch of levels that needs them. */
static void put_off(Levels *s, const int *first) {
  enum { BATCH = 8 /* levels */ };
  const Planner *p = s->p;
  for (int k = 0; k < p->n_kernel; k++) {
    int level = (first[k] - 1) / BATCH * BATCH;
    if (s->level[k] == 0 && s->least[k] == 0 && first[k] > 0 && first[k] < s->n &&
        !updated_by(s, k, level))
      s->level[k] = level;
  }
}

/* Sums that nothing soon reads (the gradient of a norm's gain) wait for a level with products, where a device has room
 * beside them, instead of holding up what their own level is about. */
static void put_beside_products(Levels *s, const int *first) {
  enum { SOON = 3 /* levels */ };
  const Planner *p = s->p;
  bool *products = xcalloc((size_t)s->n + 1, sizeof *products);
  for (int k = 0; k < p->n_kernel; k++)
    products[s->level[k]] |= p->kernel[k].anchor && p->kernel[k].anchor->op == OP_matmul;
  for (int k = 0; k < p->n_kernel; k++) {
    const Node *anchor = p->kernel[k].anchor;
    int at = s->level[k], end = first[k] - 1;
    if (!anchor || anchor->op != OP_reduce_sum || products[at] || end < at + SOON) continue;
    for (end = at + SOON; at < end && !products[at]; at++) {}
    if (products[at] && !updated_by(s, k, at)) s->level[k] = at;
  }
  free(products);
}

/* By kernel: the lowest level of a reader, n where there is none. */
static int *first_readers(const Levels *s) {
  const Planner *p = s->p;
  int *first = xcalloc((size_t)p->n_kernel + 1, sizeof *first);
  for (int k = 0; k < p->n_kernel; k++) first[k] = s->n;
  for (int k = 0; k < p->n_kernel; k++)
    for (int o = 0; o < p->kernel[k].n_operand; o++) {
      int before = p->kernel_of[p->kernel[k].operand[o]->id];
      if (before >= 0 && s->level[k] < first[before]) first[before] = s->level[k];
    }
  return first;
}

/* The order sorted by level, what is of one level as it was. */
static void sort(const Levels *s, int *order, int *level) {
  const Planner *p = s->p;
  int *at = xcalloc((size_t)s->n + 1, sizeof *at);
  for (int k = 0; k < p->n_kernel; k++) at[s->level[k] + 1]++;
  for (int l = 0; l < s->n; l++) at[l + 1] += at[l];
  for (int i = 0; i < p->n_kernel; i++) {
    int k = p->order[i], to = at[s->level[k]]++;
    order[to] = k;
    level[to] = s->level[k];
  }
  free(at);
}

/* Terms of a product's sums; −1: it is none. */
static int64_t terms_of(const Planner *p, int k) {
  const Node *product = p->kernel[k].anchor;
  if (!product || product->op != OP_matmul) return -1;
  const Node *a = product->src[0];
  return a->type.dim[a->type.rank - 1];
}

/* Of neighbouring products of a level those with by far the longest sums begin: workgroups of the shorter ones fill the cores
 * that they leave. */
static void longest_first(const Planner *p, int *order, const int *level) {
  enum { FAR = 4 };
  for (int i = 1; i < p->n_kernel; i++)
    for (int j = i; j > 0 && level[j] == level[j - 1]; j--) {
      int64_t before = terms_of(p, order[j - 1]), terms = terms_of(p, order[j]);
      if (before < 0 || terms < FAR * before) break;
      int k = order[j];
      order[j] = order[j - 1];
      order[j - 1] = k;
    }
}

void plan_level(Planner *p) {
  size_t n_kernel = (size_t)p->n_kernel + 1, n_node = (size_t)p->g->n_node + 1;
  Levels s = {.p = p};
  s.level = arena_alloc(p->arena, sizeof *s.level * n_kernel);
  s.least = arena_alloc(p->arena, sizeof *s.least * n_kernel);
  s.update = arena_alloc(p->arena, sizeof *s.update * n_node);
  int *order = arena_alloc(p->arena, sizeof *order * n_kernel);
  int *level = arena_alloc(p->arena, sizeof *level * n_kernel);
  find_updates(&s);
  do find_levels(&s);
  while (level_parts(&s));
  int *first = first_readers(&s);
  put_off(&s, first);
  put_beside_products(&s, first);
  free(first);
  sort(&s, order, level);
  longest_first(p, order, level);
  p->order = order;
  p->level = level;
}

void plan_one_by_one(Planner *p, int *order) {
  p->order = order;
  p->level = arena_alloc(p->arena, sizeof *p->level * ((size_t)p->n_kernel + 1));
  for (int i = 0; i < p->n_kernel; i++) p->level[i] = i;
}
