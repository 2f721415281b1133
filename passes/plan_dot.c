/* A plan for Graphviz (--emit=dot-kernels): a box for each kernel with the nodes that it computes,
 * bold where it stores them. A node that several kernels compute is drawn in each; an edge between
 * boxes is a value that goes through memory. */
#include "passes/plan_internal.h"

#include <stdlib.h>

typedef struct Drawing {
  Buf *b, edges;
  const Plan *plan;
  int *step;  /* by node: the step that stores it, −1 */
  int *drawn; /* by node: the last step whose box it is in, −1 */
} Drawing;

static void print_name(Buf *b, const Drawing *d, const Node *n, int step) {
  if (step < 0 && d->step[n->id] >= 0) step = d->step[n->id];
  if (step < 0)
    buf_printf(b, "n%d", n->id);
  else
    buf_printf(b, "k%d_n%d", step, n->id);
}

static void print_label(Buf *b, const Node *n) {
  if (n->op == OP_const)
    buf_printf(b, "%.9g", n->value);
  else
    buf_printf(b, "%%%d %s", n->id, ir_op[n->op].name);
  if (n->name) buf_printf(b, "\\n%s", n->name);
  if (n->label) buf_printf(b, "\\n%s", n->label);
  buf_str(b, "\\n");
  type_print(b, &n->type);
}

static bool is_out(const KernelJob *job, const Node *n) {
  for (int o = 0; o < job->n_out; o++)
    if (job->out[o] == n) return true;
  return false;
}

/* The node and all below it that this step computes. */
static void draw_inside(Drawing *d, int step, const Node *n) {
  const KernelJob *job = &d->plan->step[step].job;
  if (d->drawn[n->id] == step) return;
  d->drawn[n->id] = step;
  bool out = is_out(job, n);
  buf_str(d->b, "    "), print_name(d->b, d, n, step);
  buf_str(d->b, " [label=\""), print_label(d->b, n);
  buf_printf(d->b, "\"%s];\n", out ? ", penwidth=2" : "");
  for (int s = 0; s < n->n_src; s++) {
    const Node *src = n->src[s];
    bool inside = is_out(job, src) || !d->plan->stored[src->id];
    if (inside) draw_inside(d, step, src);
    buf_str(&d->edges, "  "), print_name(&d->edges, d, src, inside ? step : -1);
    buf_str(&d->edges, " -> "), print_name(&d->edges, d, n, step);
    buf_str(&d->edges, inside ? ";\n" : " [color=blue];\n");
  }
}

static void draw_step(Drawing *d, int step) {
  const PlanStep *s = &d->plan->step[step];
  const Node *what = s->job.anchor ? s->job.anchor : s->job.out[0];
  bool map = ir_op[what->op].flags & (IR_EW | IR_VIEW);
  if (s->job.copy) {
    buf_printf(d->b, "  k%d_n%d [label=\"%d: copy of %%%d\", penwidth=2];\n", step, what->id, step,
               what->id);
    buf_str(&d->edges, "  "), print_name(&d->edges, d, what, -1);
    buf_printf(&d->edges, " -> k%d_n%d [color=blue];\n", step, what->id);
    return;
  }
  buf_printf(d->b, "  subgraph cluster_%d { label=\"%d: %s%s\"; style=filled; color=grey90;\n",
             step, step, map ? "map" : ir_op[what->op].name, s->barrier ? ", after a barrier" : "");
  for (int o = 0; o < s->job.n_out; o++) draw_inside(d, step, s->job.out[o]);
  buf_str(d->b, "  }\n");
}

static void draw_given(Drawing *d) {
  const Graph *g = d->plan->graph;
  for (int i = 0; i < g->n_node; i++) {
    if (!plan_given(g->node[i]) || d->plan->place[i].chunk < 0) continue;
    buf_printf(d->b, "  n%d [label=\"", i), print_label(d->b, g->node[i]);
    buf_str(d->b, "\", style=filled, fillcolor=lightgrey];\n");
  }
}

void plan_dot(Buf *b, const Plan *plan) {
  const Graph *g = plan->graph;
  Drawing d = {.b = b, .plan = plan};
  d.step = xmalloc(sizeof *d.step * ((size_t)g->n_node + 1));
  d.drawn = xmalloc(sizeof *d.drawn * ((size_t)g->n_node + 1));
  for (int i = 0; i < g->n_node; i++) d.step[i] = d.drawn[i] = -1;
  for (int i = 0; i < plan->n_step; i++)
    for (int o = 0; o < plan->step[i].job.n_out && !plan->step[i].job.copy; o++)
      d.step[plan->step[i].job.out[o]->id] = i;
  buf_printf(b, "digraph \"%s\" {\n  node [shape=box, fontname=monospace, fontsize=10];\n",
             g->name);
  draw_given(&d);
  for (int i = 0; i < plan->n_step; i++) draw_step(&d, i);
  if (d.edges.len) buf_put(b, d.edges.data, d.edges.len);
  for (int i = 0; i < g->n_output; i++) {
    const Output *o = &g->output[i];
    buf_printf(b, "  o%d [label=\"%s\", shape=ellipse%s];\n  ", i, o->name,
               o->kind == OUT_update ? ", style=dashed" : "");
    print_name(b, &d, plan_home(o->node), -1);
    buf_printf(b, " -> o%d;\n", i);
  }
  buf_str(b, "}\n");
  buf_free(&d.edges);
  free(d.step);
  free(d.drawn);
}
