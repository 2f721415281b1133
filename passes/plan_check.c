/* The planner's referee: replays a plan on a map of who wrote which bytes. Shares nothing with the
 * planner but the plan. */
#include "passes/plan_internal.h"

#include <inttypes.h>
#include <stdlib.h>

typedef struct Owned { /* bytes that hold the whole value of a node */
  PlanPlace place;
  const Node *node;
  int step;              /* that wrote it, −1: there from the start */
  int read, read_before; /* the last two steps that read it, −1 */
} Owned;

typedef struct Checker {
  const Plan *plan;
  const Layout *layout;
  Buf *errors;
  Owned *owned;
  int n, cap;
  int *epoch; /* by step: barriers up to and before it */
} Checker;

static bool overlap(const PlanPlace *a, const PlanPlace *b) {
  return a->chunk == b->chunk && a->offset < b->offset + b->bytes &&
         b->offset < a->offset + a->bytes;
}

static bool same(const PlanPlace *a, const PlanPlace *b) {
  return a->chunk == b->chunk && a->offset == b->offset && a->bytes == b->bytes;
}

static Owned *find(Checker *c, const PlanPlace *p, const Node *n) {
  for (int i = 0; i < c->n; i++)
    if (c->owned[i].node == n && same(&c->owned[i].place, p)) return &c->owned[i];
  return NULL;
}

static void own(Checker *c, const PlanPlace *p, const Node *n, int step) {
  if (c->n == c->cap) {
    c->cap = c->cap ? 2 * c->cap : 64;
    c->owned = xrealloc(c->owned, sizeof *c->owned * (size_t)c->cap);
  }
  c->owned[c->n++] = (Owned){.place = *p, .node = n, .step = step, .read = -1, .read_before = -1};
}

static void check_read(Checker *c, int step, const Node *n, const PlanPlace *p) {
  Owned *o = find(c, p, n);
  if (!o) {
    buf_printf(c->errors, "step %d reads %%%d where it is not\n", step, n->id);
    return;
  }
  if (o->step >= 0 && c->epoch[o->step] == c->epoch[step])
    buf_printf(c->errors, "step %d reads %%%d of step %d with no barrier between\n", step, n->id,
               o->step);
  o->read_before = o->read;
  o->read = step;
}

/* Whether the kernel reads the leaf only at the flat indices of its outs, so that one of them may
 * lie over it. */
static bool reads_flat(const Checker *c, const KernelJob *job, const Node *leaf) {
  for (int i = 0; i < job->n_out; i++)
    if (!plan_reads_flat(job->out[i], leaf, c->plan->stored)) return false;
  return true;
}

static void check_write(Checker *c, int step, const Node *n, const PlanPlace *p) {
  const PlanStep *s = &c->plan->step[step];
  if (p->chunk < 0 || p->chunk >= c->layout->n_chunk || p->offset % PLAN_ALIGN ||
      p->offset + p->bytes + PLAN_ALIGN > c->layout->chunk[p->chunk].bytes ||
      p->bytes != plan_bytes(n))
    buf_printf(c->errors, "step %d writes out of its chunk\n", step);
  int kept = 0;
  for (int i = 0; i < c->n; i++) {
    const Owned *o = &c->owned[i];
    if (!overlap(&o->place, p)) {
      c->owned[kept++] = *o;
      continue;
    }
    if (o->step == step)
      buf_printf(c->errors, "step %d writes two results to one place\n", step);
    else if (o->step >= 0 && c->epoch[o->step] == c->epoch[step])
      buf_printf(c->errors, "step %d overwrites step %d with no barrier between\n", step, o->step);
    bool reads_it = o->read == step;
    int other = reads_it ? o->read_before : o->read;
    if (other >= 0 && c->epoch[other] == c->epoch[step])
      buf_printf(c->errors, "step %d overwrites what step %d reads with no barrier between\n", step,
                 other);
    if (reads_it && (s->job.copy || !same(&o->place, p) || !reads_flat(c, &s->job, o->node)))
      buf_printf(c->errors, "step %d overwrites %%%d while it reads it\n", step, o->node->id);
  }
  c->n = kept;
  own(c, p, n, step);
}

static void check_ends(Checker *c) {
  const Graph *g = c->plan->graph;
  for (int i = 0; i < g->n_output; i++) {
    const Output *o = &g->output[i];
    PlanPlace to = c->plan->output[i];
    if (o->kind == OUT_update) {
      const LayoutList *list[2] = {&c->layout->param, &c->layout->state};
      for (int l = 0; l < 2; l++)
        for (int t = 0; t < list[l]->n; t++)
          if (list[l]->tensor[t].name == o->name) to = list[l]->tensor[t].place;
    }
    if (!find(c, &to, plan_home(o->node)))
      buf_printf(c->errors, "%s is not in its place at the end\n", o->name);
  }
}

/* Params and states that the program does not replace hold at the end what they held at the
 * start. */
static void check_kept(Checker *c) {
  const Graph *g = c->plan->graph;
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    if (n->op != OP_param && n->op != OP_state) continue;
    bool replaced = false;
    for (int o = 0; o < g->n_output; o++)
      replaced = replaced || (g->output[o].kind == OUT_update && g->output[o].name == n->name);
    if (!replaced && !find(c, &c->plan->place[i], n))
      buf_printf(c->errors, "%s is overwritten\n", n->name);
  }
}

bool plan_check(const Plan *plan, const Layout *layout, Buf *errors) {
  size_t before = errors->len;
  Checker c = {.plan = plan, .layout = layout, .errors = errors};
  c.epoch = xcalloc((size_t)plan->n_step + 1, sizeof *c.epoch);
  for (int i = 0; i < plan->graph->n_node; i++)
    if (plan_given(plan->graph->node[i]) && plan->place[i].chunk >= 0)
      own(&c, &plan->place[i], plan->graph->node[i], -1);
  for (int i = 0; i < plan->n_step; i++) {
    const PlanStep *s = &plan->step[i];
    c.epoch[i] = (i ? c.epoch[i - 1] : 0) + s->barrier;
    if (s->job.copy) {
      check_read(&c, i, s->job.out[0], &s->source);
    } else {
      Node *operand[CG_MAX_SLOTS];
      int n = cg_operands(&s->job, operand, CG_MAX_SLOTS);
      for (int o = 0; o < n; o++) check_read(&c, i, operand[o], &plan->place[operand[o]->id]);
    }
    for (int o = 0; o < s->job.n_out; o++) check_write(&c, i, s->job.out[o], &s->result[o]);
  }
  check_ends(&c);
  check_kept(&c);
  free(c.epoch);
  free(c.owned);
  return errors->len == before;
}
