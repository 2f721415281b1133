/* memory: where every stored value lies, and the copies that follow from it. Needs kernels in
 * order; gives the plan's steps.
 *
 * Params, states and tables lie where the layout has them; inputs and outputs one after the other;
 * everything else in scratch, reused by liveness. An update is written over the old value by the
 * kernel that computes it where nothing reads the old value later or at another index; else it is
 * computed elsewhere and copied when all kernels have run. A leaf that is both replaced and wanted
 * elsewhere (a ← b, b ← a) is set aside before the first
 * kernel. */
#include "passes/plan_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct Draft {  /* a step whose places are not all known yet */
  const Kernel *kernel; /* NULL: `node` alone, computed or copied */
  Node *node;
  bool copy;
  PlanPlace *result, *source; /* of `node` */
} Draft;

typedef struct Memory {
  Planner *p;
  Plan *plan;
  Draft *head, *tail; /* before the first kernel, after the last */
  int n_head, n_tail;
  Draft *draft; /* all */
  int n_draft;
  int *turn;   /* by node: the kernel's level, −1 where there is none */
  int *last;   /* by node: the level of its last reader, −1 */
  int *reader; /* by node: the only kernel of that level that reads it, −1 */
  Node **over; /* by node: the value in whose place it is computed, or NULL */
  Live *live;  /* tensors of scratch */
  int n_live;
  int io_chunk;
  uint64_t io_used;
} Memory;

static PlanPlace io_place(Memory *m, const Node *n) {
  uint64_t bytes = plan_bytes(m->p, n);
  if (m->io_used + bytes > layout_room(m->p->layout)) m->io_chunk++, m->io_used = 0;
  PlanPlace place = layout_at(m->p->layout, IMG_IO, m->io_chunk, m->io_used, bytes);
  m->io_used += (bytes + PLAN_ALIGN - 1) / PLAN_ALIGN * PLAN_ALIGN;
  return place;
}

static bool has_param(const Layout *l, const char *name) {
  for (int i = 0; i < l->param.n; i++)
    if (l->param.tensor[i].name == name) return true;
  return false;
}

/* A constant as it lies in memory. */
static void *table_bytes(const Planner *p, const Tensor *t) {
  DType d = (DType)t->type.dtype;
  int64_t n = type_count(&t->type);
  uint32_t *word = xmalloc(4 * (size_t)n);
  for (int64_t i = 0; i < n; i++) {
    double x = dtype_round(d, t->data[i]);
    if (dtype_is_float(d))
      memcpy(&word[i], &(float){(float)x}, 4);
    else
      word[i] = (uint32_t)(int32_t)x;
  }
  if (cg_element_bytes(p->target, d) == 2) half_pack(d == DT_bf16, word, (size_t)n, word);
  return word;
}

/* fold nodes: computed now, in f64, and kept with the image. */
static bool place_tables(Memory *m, Buf *why) {
  const Graph *g = m->p->g;
  Node **want = xcalloc((size_t)g->n_node + 1, sizeof *want);
  Tensor *value = xcalloc((size_t)g->n_node + 1, sizeof *value);
  int n_want = 0;
  for (int i = 0; i < g->n_node; i++)
    if (m->p->needed[i] && g->node[i]->op == OP_fold) want[n_want++] = g->node[i];
  Arena *arena = arena_new();
  Buf problem = {0};
  if (n_want && !ir_eval(arena, g, EVAL_f64, NULL, 0, want, n_want, value, &problem))
    die("program %s: folding constants: %s", g->name, problem.data);
  bool ok = true;
  for (int i = 0; ok && i < n_want; i++) {
    void *bytes = table_bytes(m->p, &value[i]);
    ok = layout_table(m->p->layout, &want[i]->type, bytes, &m->plan->place[want[i]->id], why);
    free(bytes);
  }
  arena_free(arena);
  free(want);
  free(value);
  return ok;
}

static bool place_given(Memory *m, Buf *why) {
  const Graph *g = m->p->g;
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    PlanPlace *place = &m->plan->place[i];
    if (n->op == OP_param || n->op == OP_state) {
      ImgClass cls = n->op == OP_param ? IMG_PARAM : IMG_STATE;
      if (!layout_tensor(m->p->layout, cls, n->name, &n->type, place, why)) return false;
    } else if (n->op == OP_input) {
      if (!layout_fits(m->p->layout, &n->type, n->name, why)) return false;
      *place = io_place(m, n);
    }
  }
  return place_tables(m, why);
}

static PlanPlace *new_place(Memory *m, PlanPlace value) {
  return arena_copy(m->p->arena, &value, sizeof value);
}

/* A step beside the kernels: `n` computed, where that costs nothing, or copied from `source`. */
static void push_step(Memory *m, bool at_end, Node *n, PlanPlace *result, PlanPlace *source) {
  Draft d = {NULL, n, !plan_free(n), result, plan_free(n) ? NULL : source};
  if (at_end)
    ARENA_PUSH(m->p->arena, m->tail, m->n_tail, d);
  else
    ARENA_PUSH(m->p->arena, m->head, m->n_head, d);
}

/* Whether the kernel reads `old` only at the place where it computes its out `n`, in the same
 * bytes. */
static bool lies_over(const Memory *m, const Kernel *k, const Node *n, const Node *old) {
  KernelJob job = plan_job(m->p, k);
  Reach reach;
  return type_count(&n->type) == type_count(&old->type) &&
         plan_bytes(m->p, n) == plan_bytes(m->p, old) &&
         plan_reach(&job, &k->domain, old, &reach) && reach.flat;
}

static bool may_replace(const Memory *m, const Node *n, const Node *leaf) {
  if (m->plan->place[n->id].chunk >= 0) return false;
  if (!leaf) return true;
  int kernel = m->p->kernel_of[n->id], last = m->last[leaf->id];
  if (last > m->turn[n->id] || (last == m->turn[n->id] && m->reader[leaf->id] != kernel))
    return false;
  return lies_over(m, &m->p->kernel[kernel], n, leaf);
}

static bool place_update(Memory *m, int index, Buf *why) {
  const Output *o = &m->p->g->output[index];
  Node *n = plan_home(o->node);
  const Node *leaf = m->p->old[index];
  if (leaf == n) return true;
  PlanPlace *place = &m->plan->place[n->id], to;
  bool is_param = leaf ? leaf->op == OP_param : has_param(m->p->layout, o->name);
  if (!layout_tensor(m->p->layout, is_param ? IMG_PARAM : IMG_STATE, o->name, &o->node->type, &to,
                     why))
    return false;
  if (m->turn[n->id] >= 0 && may_replace(m, n, leaf)) {
    *place = to;
  } else if ((n->op == OP_param || n->op == OP_state) && m->p->replaced[n->id]) {
    PlanPlace *aside = new_place(m, (PlanPlace){.chunk = -1, .bytes = plan_bytes(m->p, n)});
    push_step(m, false, n, aside, place);
    push_step(m, true, n, new_place(m, to), aside);
  } else {
    push_step(m, true, n, new_place(m, to), place);
  }
  return true;
}

/* A value that already has a place, as an update's or another output's, is handed over from there. */
static bool place_output(Memory *m, int index, Buf *why) {
  const Output *o = &m->p->g->output[index];
  if (!layout_fits(m->p->layout, &o->node->type, o->name, why)) return false;
  Node *n = plan_home(o->node);
  PlanPlace *place = &m->plan->place[n->id], *to = &m->plan->output[index];
  bool computed = m->turn[n->id] >= 0;
  if (computed && place->chunk >= 0) {
    *to = *place;
    return true;
  }
  *to = io_place(m, n);
  if (computed)
    *place = *to;
  else
    push_step(m, false, n, to, place);
  return true;
}

static bool place_outputs(Memory *m, Buf *why) {
  const Graph *g = m->p->g;
  for (int i = 0; i < g->n_output; i++)
    if (g->output[i].kind == OUT_update && !place_update(m, i, why)) return false;
  for (int i = 0; i < g->n_output; i++)
    if (g->output[i].kind == OUT_value && !place_output(m, i, why)) return false;
  return true;
}

static void find_turns(Memory *m) {
  const Planner *p = m->p;
  size_t n = (size_t)p->g->n_node + 1;
  m->turn = arena_alloc(p->arena, sizeof *m->turn * n);
  m->last = arena_alloc(p->arena, sizeof *m->last * n);
  m->reader = arena_alloc(p->arena, sizeof *m->reader * n);
  memset(m->turn, -1, sizeof *m->turn * n);
  memset(m->last, -1, sizeof *m->last * n);
  for (int i = 0; i < p->n_kernel; i++) {
    const Kernel *k = &p->kernel[p->order[i]];
    for (int o = 0; o < k->n_out; o++) m->turn[k->out[o]->id] = p->level[i];
    for (int o = 0; o < k->n_operand; o++) {
      int id = k->operand[o]->id;
      m->reader[id] = m->last[id] == p->level[i] ? -1 : p->order[i];
      m->last[id] = p->level[i];
    }
  }
}

static void join_drafts(Memory *m) {
  Planner *p = m->p;
  m->n_draft = m->n_head + p->n_kernel + m->n_tail;
  m->draft = arena_alloc(p->arena, sizeof *m->draft * ((size_t)m->n_draft + 1));
  Draft *d = m->draft;
  for (int i = 0; i < m->n_head; i++) *d++ = m->head[i];
  for (int i = 0; i < p->n_kernel; i++)
    *d++ = (Draft){&p->kernel[p->order[i]], NULL, false, NULL, NULL};
  for (int i = 0; i < m->n_tail; i++) *d++ = m->tail[i];
}

static int by_place(const void *a, const void *b) {
  const Live *x = a, *y = b;
  if (x->place != y->place) return x->place < y->place ? -1 : 1;
  return (x->first > y->first) - (x->first < y->first);
}

/* ---- values computed over others ---- */

/* The place that a node's value shares: of the value it is computed over, of the concat that it is a
 * part of. */
static PlanPlace *home_of(const Memory *m, const Node *n) {
  for (;;) {
    const Node *in = m->over[n->id] ? m->over[n->id] : m->p->part_of[n->id];
    if (!in) return &m->plan->place[n->id];
    n = in;
  }
}

static PlanPlace place_of(const Memory *m, const Node *n) {
  if (m->over[n->id]) return place_of(m, m->over[n->id]);
  const Node *whole = m->p->part_of[n->id];
  if (!whole) return m->plan->place[n->id];
  PlanPlace in = place_of(m, whole), part = m->p->part[n->id];
  part.chunk = in.chunk;
  part.offset += in.offset;
  return part;
}

/* A result takes the place of an operand that its kernel is the last to read, with no other beside it. */
static void find_overlays(Memory *m) {
  const Planner *p = m->p;
  const PlanPlace *place = m->plan->place;
  bool *taken = arena_alloc(p->arena, (size_t)p->g->n_node + 1);
  m->over = arena_alloc(p->arena, sizeof *m->over * ((size_t)p->g->n_node + 1));
  for (int i = 0; i < m->n_tail; i++) taken[m->tail[i].node->id] = true;
  for (int i = 0; i < p->g->n_node; i++) taken[i] = taken[i] || p->part_of[i];
  for (int t = 0; t < p->n_kernel; t++) {
    const Kernel *k = &p->kernel[p->order[t]];
    for (int o = 0; o < k->n_out && !k->assembles; o++)
      for (int x = 0; x < k->n_operand && !taken[k->out[o]->id] && place[k->out[o]->id].chunk < 0 &&
                      !m->over[k->out[o]->id];
           x++) {
        Node *old = k->operand[x];
        if (place[old->id].chunk >= 0 || taken[old->id] || m->last[old->id] != p->level[t] ||
            m->reader[old->id] != p->order[t] || !lies_over(m, k, k->out[o], old))
          continue;
        m->over[k->out[o]->id] = old;
        taken[old->id] = true;
      }
  }
  for (int i = 0; i < m->n_tail; i++) {
    Draft *d = &m->tail[i];
    if (d->copy && d->source == &place[d->node->id]) d->source = home_of(m, d->node);
  }
}

typedef struct LiveList {
  Live *at;
  int n;
} LiveList;

static void live_at(Memory *m, LiveList *list, const Node *n, PlanPlace *place, int time) {
  Live use = {.node = n, .place = place, .first = time, .last = time};
  if (place->chunk < 0) ARENA_PUSH(m->p->arena, list->at, list->n, use);
}

/* Steps of one level share a time, steps beside the kernels have their own. */
static int time_of(const Memory *m, int draft) {
  const Planner *p = m->p;
  int kernel = draft - m->n_head, levels = p->n_kernel ? p->level[p->n_kernel - 1] + 1 : 0;
  if (kernel < 0) return draft;
  return m->n_head + (kernel < p->n_kernel ? p->level[kernel] : levels + kernel - p->n_kernel);
}

/* Tensors that have no place yet, each with its first and last time. */
static int find_live(Memory *m, Live **out) {
  LiveList list = {0};
  for (int i = 0; i < m->n_draft; i++) {
    const Draft *d = &m->draft[i];
    int time = time_of(m, i);
    if (!d->kernel) {
      live_at(m, &list, d->node, d->result, time);
      if (d->copy) live_at(m, &list, d->node, d->source, time);
      continue;
    }
    for (int o = 0; o < d->kernel->n_out; o++)
      live_at(m, &list, d->kernel->out[o], home_of(m, d->kernel->out[o]), time);
    for (int o = 0; o < d->kernel->n_operand; o++)
      live_at(m, &list, d->kernel->operand[o], home_of(m, d->kernel->operand[o]), time);
  }
  Live *live = list.at;
  if (list.n) qsort(live, (size_t)list.n, sizeof *live, by_place);
  int kept = 0;
  for (int i = 0; i < list.n; i++) {
    if (kept && live[kept - 1].place == live[i].place)
      live[kept - 1].last = live[i].last;
    else
      live[kept++] = live[i];
  }
  for (int i = 0; i < kept; i++) live[i].bytes = live[i].place->bytes;
  *out = live;
  return kept;
}

static bool intermediate_fits(const Memory *m, const Node *n, Buf *why) {
  Buf what = {0};
  if (n->loc.file) buf_printf(&what, "%s:%d:%d: ", n->loc.file, n->loc.line, n->loc.col);
  buf_str(&what, n->label ? n->label : ir_op[n->op].name);
  bool ok = layout_fits(m->p->layout, &n->type, what.data, why);
  buf_free(&what);
  return ok;
}

static bool place_scratch(Memory *m, Buf *why) {
  Live *live = m->live;
  int n = m->n_live;
  for (int i = 0; i < n; i++)
    if (!intermediate_fits(m, live[i].node, why)) return false;
  m->plan->peak_bytes = plan_place(live, n, m->n_draft, layout_room(m->p->layout));
  for (int i = 0; i < n; i++)
    *live[i].place = layout_at(m->p->layout, IMG_SCRATCH, live[i].nth, live[i].at, live[i].bytes);
  for (int i = 0; i < m->p->g->n_node; i++) m->plan->place[i] = place_of(m, m->p->g->node[i]);
  return true;
}

/* How the results lie, for their kernel; NULL where each lies in one piece. */
static const KernelRuns *runs_of(const Planner *p, const PlanStep *s) {
  KernelRuns *runs = NULL;
  for (int o = 0; o < s->job.n_out; o++) {
    const PlanPlace *at = &s->result[o];
    int64_t element = cg_element_bytes(p->target, (DType)s->job.out[o]->type.dtype);
    if (!at->run) continue;
    if (!runs) runs = arena_alloc(p->arena, sizeof *runs * (size_t)s->job.n_out);
    runs[o] = (KernelRuns){(int64_t)at->run / element, (int64_t)at->pitch / element};
  }
  return runs;
}

/* Everything but the places in scratch. */
static bool lay_out(Memory *m, Planner *p, Plan *plan, Buf *why) {
  *m = (Memory){.p = p, .plan = plan};
  for (int i = 0; i < p->g->n_node; i++)
    plan->place[i] = (PlanPlace){.chunk = -1, .bytes = plan_bytes(p, p->g->node[i])};
  find_turns(m);
  if (!place_given(m, why) || !place_outputs(m, why)) return false;
  find_overlays(m);
  join_drafts(m);
  m->n_live = find_live(m, &m->live);
  return true;
}

/* What is in memory before the program runs. */
static uint64_t given_bytes(const Planner *p) {
  uint64_t sum = 0;
  for (int i = 0; i < p->g->n_node; i++)
    if (p->needed[i] && plan_given(p->g->node[i])) sum += plan_bytes(p, p->g->node[i]);
  return sum;
}

/* The most bytes that live at one time where each kernel is a level of its own. */
static bool one_by_one(Memory *m, Planner *p, Plan *plan, int *order, uint64_t *bytes, Buf *why) {
  plan_one_by_one(p, order);
  if (!lay_out(m, p, plan, why)) return false;
  *bytes = plan_at_once(m->live, m->n_live, m->n_draft);
  return true;
}

/* Whether the levels' tensors find room in next to no more bytes than these. */
static bool fits_in(const Memory *m, uint64_t bytes) {
  Live *copy = xmalloc(sizeof *copy * ((size_t)m->n_live + 1));
  if (m->n_live) memcpy(copy, m->live, sizeof *copy * (size_t)m->n_live);
  uint64_t peak = plan_place(copy, m->n_live, m->n_draft, layout_room(m->p->layout));
  free(copy);
  return peak <= bytes + bytes / 12;
}

/* How many more of these bytes fewer barriers may take: a CPU driver's cost a microsecond or two. */
static uint64_t worth_it(const Planner *p, uint64_t bytes) {
  return bytes / (p->target->is_cpu ? 100 : 20);
}

/* By levels where that needs next to no more memory than one kernel after the other: than its scratch; or than all that the
 * program holds, as long as it is the order that needs more and not that kernels run at one time. */
static bool choose_order(Memory *m, Planner *p, Plan *plan, Buf *why) {
  int *order = p->order;
  uint64_t least, sorted;
  if (!one_by_one(m, p, plan, order, &least, why)) return false;
  plan_level(p);
  int *by_level = p->order, *level = p->level;
  if (!lay_out(m, p, plan, why)) return false;
  uint64_t levels = plan_at_once(m->live, m->n_live, m->n_draft);
  if (levels <= least + worth_it(p, least)) return true;
  if (levels <= least + worth_it(p, least + given_bytes(p))) {
    if (!one_by_one(m, p, plan, by_level, &sorted, why)) return false;
    p->order = by_level;
    p->level = level;
    if (!lay_out(m, p, plan, why)) return false;
    if (fits_in(m, sorted)) return true;
  }
  return one_by_one(m, p, plan, order, &least, why);
}

static void make_step(const Memory *m, const Draft *d, PlanStep *s) {
  Planner *p = m->p;
  if (!d->kernel) {
    s->job = (KernelJob){.out = arena_copy(p->arena, &d->node, sizeof d->node),
                         .n_out = 1,
                         .stored = m->plan->stored,
                         .copy = d->copy};
    s->result[0] = *d->result;
    s->source = d->copy ? *d->source : (PlanPlace){.chunk = -1};
    return;
  }
  s->job = plan_job(p, d->kernel);
  s->assembles = d->kernel->assembles;
  for (int o = 0; o < s->job.n_out; o++) s->result[o] = m->plan->place[s->job.out[o]->id];
  s->job.runs = runs_of(p, s);
}

bool plan_memory(Planner *p, Plan *plan, Buf *why) {
  Memory m;
  if (!choose_order(&m, p, plan, why) || !place_scratch(&m, why)) return false;
  plan->n_step = m.n_draft;
  plan->step = arena_alloc(p->arena, sizeof *plan->step * ((size_t)m.n_draft + 1));
  for (int i = 0; i < m.n_draft; i++) make_step(&m, &m.draft[i], &plan->step[i]);
  return true;
}
