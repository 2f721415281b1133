/* schedule: the order of kernels. Needs the kernels and what they read. Keeps few values alive at a
 * time: kernels run in the graph's order, which is the order of the source text and, backward, of
 * its reverse; parameters' 16-bit copies come first, since together they are one dispatch; a recomputed node (region < 0) runs when the first kernel asks for it, else
 * checkpoint() would save nothing; the parts of an assembled concat run one after the other when it is
 * asked for, since they may become one dispatch; an update that only the next run reads waits for all readers of
 * the old value, so that it can be written in place; a kernel whose result is no larger than what
 * it is the last to read runs as soon as it
 * can. */
#include "passes/plan_internal.h"

#include <string.h>

typedef struct Scheduler {
  Planner *p;
  int n_order;
  bool *done;
  bool *lazy;   /* by kernel: not run before it is asked for */
  bool *sink;   /* by kernel: an update that no kernel reads */
  int **reader; /* by node: kernels that read it */
  int *n_reader;
  int *left;  /* by node: readers that have not run */
  int *waits; /* by kernel: operands not computed, and for an update readers of the old value that
                 have not run */
  Node *(*replaced)[CG_MAX_OUT]; /* by kernel and out: the leaf whose value it replaces, or NULL */
  int *updater;                  /* by node: the sink kernel that replaces its value, or −1 */
  int *ready, n_ready;           /* kernels that nothing holds back since the last choice */
} Scheduler;

static bool reads(const Kernel *k, const Node *n) {
  for (int i = 0; i < k->n_operand; i++)
    if (k->operand[i] == n) return true;
  return false;
}

static void find_readers(Scheduler *s) {
  Planner *p = s->p;
  for (int pass = 0; pass < 2; pass++) {
    for (int i = 0; pass && i < p->g->n_node; i++)
      s->reader[i] = arena_alloc(p->arena, sizeof **s->reader * (size_t)s->left[i]);
    for (int k = 0; k < p->n_kernel; k++)
      for (int o = 0; o < p->kernel[k].n_operand; o++) {
        int id = p->kernel[k].operand[o]->id;
        if (pass)
          s->reader[id][s->n_reader[id]++] = k;
        else
          s->left[id]++;
      }
  }
}

static void find_updates(Scheduler *s) {
  Planner *p = s->p;
  bool *updates = arena_alloc(p->arena, (size_t)p->g->n_node + 1);
  for (int i = 0; i < p->g->n_output; i++) {
    const Output *o = &p->g->output[i];
    const Node *home = plan_home(o->node);
    int k = p->kernel_of[home->id];
    if (o->kind != OUT_update || k < 0) continue;
    updates[home->id] = true;
    for (int j = 0; j < p->kernel[k].n_out; j++)
      if (p->kernel[k].out[j] == home && !s->replaced[k][j]) s->replaced[k][j] = p->old[i];
  }
  for (int k = 0; k < p->n_kernel; k++) {
    const Kernel *kernel = &p->kernel[k];
    s->sink[k] = true;
    for (int j = 0; j < kernel->n_out; j++) {
      const Node *n = kernel->out[j];
      s->sink[k] = s->sink[k] && updates[n->id] && s->n_reader[n->id] == 0;
    }
    for (int j = 0; s->sink[k] && j < kernel->n_out; j++)
      if (s->replaced[k][j]) s->updater[s->replaced[k][j]->id] = k;
  }
}

static void find_waits(Scheduler *s) {
  Planner *p = s->p;
  for (int k = 0; k < p->n_kernel; k++) {
    const Kernel *kernel = &p->kernel[k];
    for (int o = 0; o < kernel->n_operand; o++)
      s->waits[k] += p->kernel_of[kernel->operand[o]->id] >= 0;
    for (int j = 0; s->sink[k] && j < kernel->n_out; j++)
      if (s->replaced[k][j] && s->updater[s->replaced[k][j]->id] == k)
        s->waits[k] += s->n_reader[s->replaced[k][j]->id] - reads(kernel, s->replaced[k][j]);
  }
}

/* Bytes that the kernel's run would free, less what it would take. */
static int64_t gain(const Scheduler *s, int k) {
  const Kernel *kernel = &s->p->kernel[k];
  int64_t bytes = 0;
  for (int j = 0; j < kernel->n_out; j++)
    if (!s->replaced[k][j]) bytes -= (int64_t)plan_bytes(s->p, kernel->out[j]);
  for (int o = 0; o < kernel->n_operand; o++) {
    const Node *n = kernel->operand[o];
    if (s->left[n->id] == 1 && !plan_given(n)) bytes += (int64_t)plan_bytes(s->p, n);
  }
  return bytes;
}

/* One thing less that `k` waits for. */
static void release(Scheduler *s, int k) {
  if (--s->waits[k] == 0 && !s->lazy[k]) s->ready[s->n_ready++] = k;
}

/* Runs the kernel after what it reads. */
static void run(Scheduler *s, int k) {
  Planner *p = s->p;
  const Kernel *kernel = &p->kernel[k];
  for (int o = 0; o < kernel->n_operand; o++) {
    int before = p->kernel_of[kernel->operand[o]->id];
    if (before >= 0 && !s->done[before]) run(s, before);
  }
  s->done[k] = true;
  p->order[s->n_order++] = k;
  for (int o = 0; o < kernel->n_operand; o++) {
    int id = kernel->operand[o]->id, updater = s->updater[id];
    s->left[id]--;
    if (updater >= 0 && updater != k) release(s, updater);
  }
  for (int j = 0; j < kernel->n_out; j++) {
    int id = kernel->out[j]->id;
    for (int r = 0; r < s->n_reader[id]; r++) release(s, s->reader[id][r]);
  }
}

/* Runs the kernel, and then those that it made ready and that make room. */
static void run_on(Scheduler *s, int k) {
  run(s, k);
  for (int i = 0; i < s->n_ready; i++)
    if (!s->done[s->ready[i]] && gain(s, s->ready[i]) >= 0) run(s, s->ready[i]);
  s->n_ready = 0;
}

/* The 16-bit copy of a parameter: nothing but the parameter rounded. */
static bool copies_param(const Kernel *k) {
  const Node *n = k->out[0];
  return k->n_out == 1 && n->op == OP_cast && n->region >= 0 && dtype_is_16((DType)n->type.dtype) &&
         n->src[0]->op == OP_param;
}

void plan_schedule(Planner *p) {
  size_t n_kernel = (size_t)p->n_kernel + 1, n_node = (size_t)p->g->n_node + 1;
  Scheduler s = {.p = p};
  s.done = arena_alloc(p->arena, n_kernel);
  s.lazy = arena_alloc(p->arena, n_kernel);
  s.sink = arena_alloc(p->arena, n_kernel);
  s.waits = arena_alloc(p->arena, sizeof *s.waits * n_kernel);
  s.replaced = arena_alloc(p->arena, sizeof *s.replaced * n_kernel);
  s.reader = arena_alloc(p->arena, sizeof *s.reader * n_node);
  s.n_reader = arena_alloc(p->arena, sizeof *s.n_reader * n_node);
  s.left = arena_alloc(p->arena, sizeof *s.left * n_node);
  s.updater = arena_alloc(p->arena, sizeof *s.updater * n_node);
  memset(s.updater, -1, sizeof *s.updater * n_node);
  s.ready = arena_alloc(p->arena, sizeof *s.ready * n_kernel);
  p->order = arena_alloc(p->arena, sizeof *p->order * n_kernel);
  find_readers(&s);
  find_updates(&s);
  find_waits(&s);
  for (int k = 0; k < p->n_kernel; k++) {
    s.lazy[k] = true;
    for (int j = 0; j < p->kernel[k].n_out; j++) {
      const Node *n = p->kernel[k].out[j];
      s.lazy[k] = s.lazy[k] && (n->region < 0 || p->part_of[n->id] || p->assembles[n->id]);
    }
  }
  for (int k = 0; k < p->n_kernel; k++)
    if (!s.done[k] && copies_param(&p->kernel[k])) run(&s, k);
  for (int phase = 0; phase < 3;
       phase++) /* what the run itself needs, updates, recomputed values that are outputs */
    for (int k = 0; k < p->n_kernel; k++)
      if (!s.done[k] && (phase == 2 || (!s.lazy[k] && (phase == 1 || !s.sink[k])))) run_on(&s, k);
  if (s.n_order != p->n_kernel) die("schedule: %d of %d kernels", s.n_order, p->n_kernel);
}
