/* barriers: a memory barrier stands before a step that reads or writes bytes which a step since the
 * last barrier wrote, or writes bytes which one read. Steps between two barriers may run at
 * once; products are told how many they are. */
#include "passes/plan_internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct Ranges {
  PlanPlace *at;
  int n, cap;
} Ranges;

static bool meets(const Ranges *r, const PlanPlace *p) {
  for (int i = 0; i < r->n; i++)
    if (plan_overlap(&r->at[i], p)) return true;
  return false;
}

static void push(Ranges *r, const PlanPlace *p) {
  if (r->n == r->cap) {
    r->cap = r->cap ? 2 * r->cap : 64;
    r->at = xrealloc(r->at, sizeof *r->at * (size_t)r->cap);
  }
  r->at[r->n++] = *p;
}

void plan_barriers(Plan *plan) {
  Ranges written = {0}, read = {0};
  for (int i = 0; i < plan->n_step; i++) {
    PlanStep *s = &plan->step[i];
    if (s->assembles) continue;
    PlanPlace operand[CG_MAX_SLOTS];
    int n = plan_step_reads(plan, s, operand);
    s->barrier = false;
    for (int o = 0; o < s->job.n_out && !s->barrier; o++)
      s->barrier = meets(&written, &s->result[o]) || meets(&read, &s->result[o]);
    for (int o = 0; o < n && !s->barrier; o++) s->barrier = meets(&written, &operand[o]);
    if (s->barrier) written.n = read.n = 0;
    for (int o = 0; o < n; o++) push(&read, &operand[o]);
    for (int o = 0; o < s->job.n_out; o++) push(&written, &s->result[o]);
  }
  free(written.at);
  free(read.at);
}

static bool is_product(const PlanStep *s) {
  return !s->assembles && s->job.anchor && s->job.anchor->op == OP_matmul;
}

void plan_beside(Plan *plan) {
  for (int i = 0, end; i < plan->n_step; i = end) {
    int n = is_product(&plan->step[i]);
    for (end = i + 1; end < plan->n_step && !plan->step[end].barrier; end++)
      n += is_product(&plan->step[end]);
    for (int k = i; k < end; k++)
      if (is_product(&plan->step[k])) plan->step[k].job.beside = n - 1;
  }
}
