/* Products whose operands are computed as they are loaded, timed: the kernel that computes the operand and the product that reads
 * it, against the product that computes it itself. Form by form of those expected to be best, each checked.
 *   bench_prologues [NAME …]: only cases whose name begins so */
#include "driver/device_target.h"
#include "driver/tune.h"

#include <stdlib.h>
#include <string.h>

typedef enum What { SCALED_A, ROUNDED_B, ACTIVATED_A, MASKED_B } What;

typedef struct Case {
  const char *name;
  int64_t m, n, k;
  bool half;
  What what;
} Case;

static const Case cases[] = {
  {"few columns f32 4", 262144, 4, 64, false, SCALED_A},
  {"few columns f32 16", 262144, 16, 64, false, SCALED_A},
  {"few columns f32 64", 262144, 64, 64, false, SCALED_A},
  {"few columns f32 256", 65536, 256, 256, false, SCALED_A},
  {"large f32", 16384, 768, 768, false, SCALED_A},
  {"small f32", 640, 256, 256, false, SCALED_A},
  {"one row f32", 1, 4096, 4096, false, MASKED_B},
  {"few rows f32 16", 16, 4096, 4096, false, MASKED_B},
  {"few columns 16 16", 262144, 16, 64, true, SCALED_A},
  {"few columns 16 64", 262144, 64, 64, true, SCALED_A},
  {"few columns 16 256", 65536, 256, 256, true, SCALED_A},
  {"large 16", 16384, 768, 768, true, SCALED_A},
  {"small 16", 640, 256, 256, true, SCALED_A},
  {"weights, small", 640, 256, 256, true, ROUNDED_B},
  {"weights, one row", 1, 4096, 4096, true, ROUNDED_B},
  {"gpt2 row, qkv", 1, 2304, 768, true, ROUNDED_B},
  {"gpt2 row, up", 1, 3072, 768, true, ROUNDED_B},
  {"gpt2 row, down", 1, 768, 3072, true, ROUNDED_B},
  {"gpt2 16 rows, qkv", 16, 2304, 768, true, ROUNDED_B},
  {"gpt2 16 rows, down", 16, 768, 3072, true, ROUNDED_B},
  {"weights, 16 rows", 16, 4096, 4096, true, ROUNDED_B},
  {"weights, 64 rows", 64, 4096, 4096, true, ROUNDED_B},
  {"weights, 256 rows", 256, 4096, 4096, true, ROUNDED_B},
  {"weights, 1024 rows", 1024, 4096, 4096, true, ROUNDED_B},
  {"silu f32 64", 262144, 64, 64, false, ACTIVATED_A},
  {"silu f32 256", 65536, 256, 256, false, ACTIVATED_A},
};

static Node *leaf(Graph *g, const char *name, DType d, int64_t rows, int64_t columns) {
  Type t = type_of(d, 2, (int64_t[]){rows, columns});
  return ir_leaf(g, OP_input, intern(name), &t);
}

/* The operand that is computed, before it is widened. */
static Node *make(Graph *g, const Case *c, DType d) {
  bool of_b = c->what == ROUNDED_B || c->what == MASKED_B;
  Node *x =
    of_b ? leaf(g, "b", DT_f32, c->k, c->n) : leaf(g, "a", c->half ? d : DT_f32, c->m, c->k);
  x = ir_cast(g, x, DT_f32);
  const Type *t = &x->type;
  if (c->what == SCALED_A)
    x = ir_max(g, ir_mul(g, x, ir_broadcast(g, leaf(g, "gain", DT_f32, 1, c->k), 2, t->dim)),
               ir_const(g, 0, t));
  if (c->what == ACTIVATED_A) x = ir_mul(g, x, ir_sigmoid(g, x));
  if (c->what == MASKED_B) x = ir_mul(g, x, ir_const(g, 2, t));
  return c->half ? ir_cast(g, x, d) : x;
}

/* Microseconds of the fastest of the best forms. */
static double measure(Device *device, const Target *target, Graph *g, Node *out, Node *anchor,
                      const Node *stored_too, char *name, int *wrong) {
  enum { MOST = 3 };
  Arena *a = arena_new();
  bool *stored = arena_alloc(a, (size_t)g->n_node);
  for (int i = 0; i < g->n_node; i++) stored[i] = g->node[i]->op == OP_input;
  stored[out->id] = true;
  if (stored_too) stored[stored_too->id] = true;
  KernelJob job = {.out = &out, .n_out = 1, .anchor = anchor, .stored = stored};
  KernelForm form[CG_MAX_FORMS] = {{.name = "map"}};
  int n = anchor ? cg_forms(&job, target, form) : 1;
  if (n > MOST) n = MOST;
  Buf why = {0};
  double best = 1e30;
  TuneJob *t = tune_begin(device, target, &job, form, n, &why);
  for (int i = 0; t && i < n; i++) {
    TuneResult r;
    if (!tune_form(t, i, 0, &r, &why)) break;
    if (!r.right) ++*wrong, printf("WRONG: %s\n", form[i].name);
    if (r.us < best) best = r.us, snprintf(name, 64, "%d %.50s", i, form[i].name);
  }
  if (why.len) printf("%s\n", why.data);
  tune_end(t);
  buf_free(&why);
  arena_free(a);
  return best;
}

static int run(Device *device, const Target *target, DType d, const Case *c) {
  Graph *g = graph_new("product");
  bool of_b = c->what == ROUNDED_B || c->what == MASKED_B;
  Node *made = make(g, c, d);
  Node *other = of_b ? leaf(g, "x", c->half ? d : DT_f32, c->m, c->k)
                     : leaf(g, "w", c->half ? d : DT_f32, c->k, c->n);
  Node *x = ir_cast(g, of_b ? other : made, DT_f32), *w = ir_cast(g, of_b ? made : other, DT_f32);
  Node *y = ir_matmul(g, x, w);
  char name[3][64] = {"", "", ""};
  int wrong = 0;
  double alone = measure(device, target, g, made, NULL, NULL, name[0], &wrong);
  double plain = measure(device, target, g, y, y, made, name[1], &wrong);
  double both = measure(device, target, g, y, y, NULL, name[2], &wrong);
  printf("%-22s %6lldx%5lldx%5lld | %8.1f + %8.1f = %8.1f, together %8.1f us | %s | %s\n", c->name,
         (long long)c->m, (long long)c->n, (long long)c->k, alone, plain, alone + plain, both,
         name[1], name[2]);
  fflush(stdout);
  graph_free(g);
  return wrong;
}

int main(int argc, char **argv) {
  Buf why = {0};
  Device *device = vk_open(-1, &why);
  if (!device) {
    printf("skipped: no Vulkan device: %s\n", why.data);
    return 0;
  }
  Target target = device_target(vk_info(device), vk_info(device)->name);
  DType d = DT_bf16;
  int wrong = 0;
  for (int i = 0; i < COUNT_OF(cases); i++) {
    bool wanted = argc == 1;
    for (int j = 1; j < argc; j++)
      wanted = wanted || strncmp(cases[i].name, argv[j], strlen(argv[j])) == 0;
    if (wanted) wrong += run(device, &target, d, &cases[i]);
  }
  printf("%d wrong\n", wrong);
  vk_close(device);
  return wrong != 0;
}
