/* A plan as text (--emit=plan): one line a step with where it writes and reads. */
#include "passes/plan_internal.h"

#include <inttypes.h>

static const char *const class_name[] = {"param", "state", "table", "io", "scratch"};

static void print_place(Buf *b, const Layout *l, const PlanPlace *p) {
  int nth = 0;
  for (int i = 0; i < p->chunk; i++) nth += l->chunk[i].cls == l->chunk[p->chunk].cls;
  buf_printf(b, "%s", class_name[l->chunk[p->chunk].cls]);
  if (nth) buf_printf(b, ".%d", nth);
  buf_printf(b, "+%" PRIu64, p->offset);
  if (p->run) buf_printf(b, " (%" PRIu64 " of every %" PRIu64 ")", p->run, p->pitch);
}

static void print_step(Buf *b, const Plan *plan, const Layout *l, int index) {
  const PlanStep *s = &plan->step[index];
  const Node *n = s->job.out[s->job.n_out - 1];
  if (s->barrier) buf_str(b, "  ---- barrier\n");
  buf_printf(b, "%4d ", index);
  for (int o = 0; o < s->job.n_out; o++) {
    const Node *out = s->job.out[o];
    if (o) buf_str(b, ", ");
    print_place(b, l, &s->result[o]);
    buf_printf(b, " = %s%s %%%d ",
               s->job.copy    ? "copy "
               : s->assembles ? "assembled "
                              : "",
               ir_op[out->op].name, out->id);
    type_print(b, &out->type);
  }
  if (s->job.copy) {
    buf_str(b, " from ");
    print_place(b, l, &s->source);
  } else {
    Node *operand[CG_MAX_SLOTS];
    int n_operand = s->assembles ? 0 : cg_operands(&s->job, operand, CG_MAX_SLOTS);
    for (int o = 0; o < n_operand; o++) {
      buf_printf(b, "%s%%%d ", o ? ", " : " reads ", operand[o]->id);
      print_place(b, l, &plan->place[operand[o]->id]);
    }
  }
  if (n->label) buf_printf(b, "  # %s", n->label);
  if (n->loc.file) buf_printf(b, "%s%s:%d", n->label ? " " : "  # ", n->loc.file, n->loc.line);
  buf_str(b, "\n");
}

void plan_print(Buf *b, const Plan *plan, const Layout *l) {
  const Graph *g = plan->graph;
  int barriers = 0;
  for (int i = 0; i < plan->n_step; i++) barriers += plan->step[i].barrier;
  buf_printf(
    b, "program %s: %d steps, %d barriers, %" PRIu64 " bytes of scratch for %" PRIu64 " at once\n",
    g->name, plan->n_step, barriers, plan->peak_bytes, plan_live_bytes(plan, l));
  for (int i = 0; i < g->n_node; i++) {
    const Node *n = g->node[i];
    if (plan->place[i].chunk < 0 || !plan_given(n)) continue;
    buf_printf(b, "     ");
    print_place(b, l, &plan->place[i]);
    buf_printf(b, " : %s %%%d ", ir_op[n->op].name, n->id);
    type_print(b, &n->type);
    buf_printf(b, "%s%s\n", n->name ? " " : "", n->name ? n->name : "");
  }
  for (int i = 0; i < plan->n_step; i++) print_step(b, plan, l, i);
  for (int i = 0; i < g->n_output; i++) {
    const Output *o = &g->output[i];
    buf_printf(b, "     %s %s = %%%d", o->kind == OUT_update ? "update" : "output", o->name,
               o->node->id);
    if (o->kind == OUT_value) buf_str(b, " at "), print_place(b, l, &plan->output[i]);
    buf_str(b, "\n");
  }
}
