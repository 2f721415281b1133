/* Every form that a target has for a product gives what the first one gives: chosen by a tuning, run, compared with the evaluator.
 * Names and keys are what `alphac tune` keeps. */
#include "tests/codegen/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Case {
  const char *title;
  int64_t m, n, k;
  int turned;   /* 1: A lies k × m, 2: B lies n × k */
  bool follows; /* a bias and an activation, */
} Case;

static const Case cases[] = {
  {"rows along k", 72, 80, 40, 2, false}, {"columns", 72, 80, 40, 0, true},
  {"A turned", 64, 36, 33, 1, false},     {"both turned, with what follows", 37, 68, 48, 3, true},
  {"few results", 4, 8, 1024, 2, false},  {"low and wide", 5, 200, 64, 0, false},
  {"wide tiles", 40, 128, 36, 0, false},
};

static Node *leaf(Arena *arena, Graph *g, Feed *feed, int *n, int64_t rows, int64_t columns) {
  Type t = type_of(DT_f32, 2, (int64_t[]){rows, columns});
  double *data = arena_alloc(arena, sizeof *data * (size_t)type_count(&t));
  for (int64_t i = 0; i < type_count(&t); i++) data[i] = (double)((i * 37 + *n * 11) % 7) - 3;
  const char *name = intern(arena_printf(arena, "x%d", *n));
  feed[(*n)++] = (Feed){OP_input, name, data};
  return ir_leaf(g, OP_input, name, &t);
}

static Node *operand(Arena *arena, Graph *g, Feed *feed, int *n, int64_t rows, int64_t columns,
                     bool turned) {
  if (!turned) return leaf(arena, g, feed, n, rows, columns);
  return ir_permute(g, leaf(arena, g, feed, n, columns, rows), (int[]){1, 0});
}

/* What the planner is told of a product's loads is what its kernel does: a workgroup loads its part of both operands once. */
static void check_reads(Bench *b, const Target *target, const Case *c, Node *y, const char *form,
                        const KernelCode *code) {
  bool alone = strncmp(form, "portable", 8) == 0; /* invocations share nothing */
  if (c->turned || alone) return;
  double busy, groups = 1;
  for (int i = 0; i < 2; i++) groups *= ceil(cg_operand_reads(target, y, i, &busy));
  double launched = (double)code->groups[0] * code->groups[1] * code->groups[2];
  if (groups == launched) return;
  printf("FAILED %s, target %s: %s has %.0f workgroups, its operands are said to be read by %.0f\n",
         c->title, target->name, form, launched, groups);
  b->wrong++;
}

/* How many of its forms were run; 0 where the words did not differ, so that nothing was chosen. */
static int run(Bench *b, const Target *target, const Case *c) {
  Arena *arena = arena_new();
  Graph *g = graph_new("forms");
  Feed feed[4];
  int n_feed = 0, n_out = 0;
  Node *x = operand(arena, g, feed, &n_feed, c->m, c->k, c->turned & 1);
  Node *w = operand(arena, g, feed, &n_feed, c->k, c->n, c->turned & 2);
  Node *y = ir_matmul(g, x, w), *out[2], *r = y;
  if (c->follows) {
    Node *bias = leaf(arena, g, feed, &n_feed, 1, c->n);
    r = ir_tanh(g, ir_add(g, y, ir_broadcast(g, bias, 2, y->type.dim)));
  }
  out[n_out++] = r;
  bool *stored = arena_alloc(arena, (size_t)g->n_node + 1);
  for (int i = 0; i < g->n_node; i++) stored[i] = g->node[i]->op == OP_input;
  stored[r->id] = true;
  KernelJob job = {.out = out, .n_out = n_out, .anchor = y, .stored = stored};
  KernelForm form[CG_MAX_FORMS];
  int n = cg_forms(&job, target, form), different = 0;
  Buf key = {0};
  cg_form_key(&job, target, &key);
  KernelCode first = {0};
  for (int i = 0; i < n; i++) {
    const TunedForm tuned = {key.data, form[i].name, 1};
    const Tuning tuning = {(TunedForm *)&tuned, 1};
    Target t = *target;
    t.tuning = &tuning;
    KernelCode code = {0};
    cg_emit(arena, &job, &t, &code);
    if (i == 0) {
      first = code;
      check_reads(b, target, c, y, form[0].name, &code);
    }
    different += code.n_word != first.n_word ||
                 memcmp(code.word, first.word, 4 * (size_t)code.n_word) != 0 ||
                 memcmp(code.groups, first.groups, sizeof code.groups) != 0;
    const char *title = arena_printf(arena, "%s: %s", c->title, form[i].name);
    check_job(b, &t, g, feed, n_feed, title, n_out, out, y, NULL);
  }
  if (different < n - 1) {
    printf("FAILED %s, target %s: %d forms, %d of which are others\n", c->title, target->name, n,
           different);
    b->wrong++;
  }
  buf_free(&key);
  graph_free(g);
  arena_free(arena);
  return n;
}

static void all(Bench *b, const Target *target, int argc, char **argv) {
  (void)argc, (void)argv;
  int n = 0;
  for (int i = 0; i < COUNT_OF(cases); i++) n += run(b, target, &cases[i]);
  if (n <= COUNT_OF(cases)) {
    printf("FAILED target %s: no product has a choice of forms\n", target->name);
    b->wrong++;
  }
}

int main(int argc, char **argv) { return bench_main(all, argc, argv); }
