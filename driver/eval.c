/* alphac eval: a graph's outputs, computed by the reference evaluator. */
#include "driver/args.h"
#include "runtime/safetensors.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Session {
  const Command *command;
  Arena *arena;
  const Graph *g;
  Node **leaf;   /* param, state and input nodes */
  double **data; /* by leaf; NULL: not given */
  int n_leaf;
} Session;

static void find_leaves(Session *s) {
  for (int i = 0; i < s->g->n_node; i++) {
    Node *n = s->g->node[i];
    if (n->op == OP_param || n->op == OP_state || n->op == OP_input)
      ARENA_PUSH(s->arena, s->leaf, s->n_leaf, n);
  }
  s->data = arena_alloc(s->arena, sizeof *s->data * (size_t)(s->n_leaf + 1));
}

static int find_leaf(const Session *s, const char *name) {
  for (int i = 0; i < s->n_leaf; i++)
    if (strcmp(s->leaf[i]->name, name) == 0) return i;
  return -1;
}

/* --input name=1,2.5,-3 : one number for every element, or one for all */
static int take_input(Session *s, const char *text) {
  size_t len = strcspn(text, "=");
  const char *name = arena_str(s->arena, text, len), *at = text + len;
  if (!*at) return args_usage_error(s->command, "--input %s: expected NAME=VALUE,VALUE…", text);
  int i = find_leaf(s, name);
  if (i < 0) {
    const char **names = arena_alloc(s->arena, sizeof *names * (size_t)(s->n_leaf + 1));
    for (int k = 0; k < s->n_leaf; k++) names[k] = s->leaf[k]->name;
    const char *near = suggest(name, names, s->n_leaf);
    return failed("--input %s: the graph has no param, state or input of that name%s%s%s", name,
                  near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
  }
  int64_t count = type_count(&s->leaf[i]->type), n = 0;
  DType d = (DType)s->leaf[i]->type.dtype;
  s->data[i] = arena_alloc(s->arena, sizeof(double) * (size_t)count);
  for (;;) {
    char *end;
    double v = strtod(++at, &end);
    if (end == at || (*end && *end != ','))
      return failed("--input %s: \"%.20s\" is no number", name, at);
    if (!dtype_is_float(d) && dtype_round(d, v) != v)
      return failed("--input %s: %g is no %s", name, v, dtype_name(d));
    if (n < count) s->data[i][n] = v;
    n++;
    at = end;
    if (!*at) break;
  }
  if (n == 1)
    for (int64_t k = 1; k < count; k++) s->data[i][k] = s->data[i][0];
  else if (n != count) {
    Buf type = {0};
    type_print(&type, &s->leaf[i]->type);
    int status =
      failed("--input %s: expected %" PRId64 " values for %s, or one for all; found %" PRId64, name,
             count, type.data, n);
    buf_free(&type);
    return status;
  }
  return -1;
}

static bool read_tensor(Session *s, const Safetensors *file, const StTensor *t, int i, Buf *why) {
  const Type *type = &s->leaf[i]->type;
  bool same = t->rank == type->rank;
  for (int d = 0; same && d < t->rank; d++) same = t->dim[d] == type->dim[d];
  if (!same) {
    buf_printf(why, "%s: %s has shape ", st_path(file), t->name);
    st_print_shape(why, t->rank, t->dim);
    buf_str(why, ", the graph's is ");
    type_print(why, type);
    return false;
  }
  s->data[i] = arena_alloc(s->arena, sizeof(double) * (size_t)t->count);
  enum { PIECE = 4096 };
  for (int64_t at = 0; at < t->count; at += PIECE) {
    int64_t n = t->count - at < PIECE ? t->count - at : PIECE;
    float f[PIECE];
    int32_t whole[PIECE];
    bool is_float = dtype_is_float((DType)type->dtype);
    if (!(is_float ? st_read_f32(file, t, at, n, f, why) : st_read_i32(file, t, at, n, whole, why)))
      return false;
    for (int64_t k = 0; k < n; k++) s->data[i][at + k] = is_float ? f[k] : whole[k];
  }
  return true;
}

/* Every tensor of the file that the graph has a leaf for; others are left alone, so that a
 * checkpoint can be given. */
static int take_file(Session *s, const char *path) {
  Buf why = {0};
  Safetensors *file = st_open(path, &why);
  bool ok = file != NULL;
  for (int i = 0; ok && i < s->n_leaf; i++) {
    const StTensor *t = st_find(file, s->leaf[i]->name);
    if (t) ok = read_tensor(s, file, t, i, &why);
  }
  st_close(file);
  int status = ok ? -1 : failed("%s", why.data);
  buf_free(&why);
  return status;
}

/* What was not given: numbers from −1 to 1, whole numbers from 0 to 9, or bits; a function of the
 * seed and the name. */
static void fill(Session *s, uint32_t seed) {
  for (int i = 0; i < s->n_leaf; i++) {
    const Node *n = s->leaf[i];
    if (s->data[i]) continue;
    int64_t count = type_count(&n->type);
    uint32_t key[2] = {seed, (uint32_t)hash_bytes(n->name, strlen(n->name), 0)};
    s->data[i] = arena_alloc(s->arena, sizeof(double) * (size_t)count);
    for (int64_t k = 0; k < count; k++) {
      uint32_t word[4];
      philox4x32((uint32_t[]){(uint32_t)k, (uint32_t)(k >> 32), 0, 0}, key, word);
      s->data[i][k] = n->type.dtype == DT_bool ? word[0] >> 31
                      : n->type.dtype == DT_i32
                        ? word[0] % 10
                        : dtype_round(n->type.dtype, (word[0] >> 8) * 0x1p-23 - 1);
    }
  }
}

/* ---- printing ---- */
/* The shortest decimal that reads back as the same value. */
static void print_number(double v, DType d, EvalMode mode, bool json) {
  if (!isfinite(v)) {
    printf(json ? "\"%s\"" : "%s", isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
    return;
  }
  DType as = mode == EVAL_f32 || !dtype_is_float(d) ? d : DT_COUNT;
  char text[40];
  for (int digits = 1; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", dtype_is_float(d) ? digits : 17, v);
    double back = strtod(text, NULL);
    if ((as == DT_COUNT ? back : dtype_round(as, back)) == v) break;
  }
  printf("%s", text);
}

/* One line a row of the last dimension, an empty line between matrices. */
static void print_text(const Output *o, const Tensor *t, EvalMode mode) {
  Buf type = {0};
  type_print(&type, &t->type);
  printf("%s \"%s\" %s", o->kind == OUT_update ? "update" : "output", o->name, type.data);
  buf_free(&type);
  int64_t count = type_count(&t->type), cols = t->type.rank ? t->type.dim[t->type.rank - 1] : 1;
  int64_t rows = t->type.rank >= 2 ? t->type.dim[t->type.rank - 2] : count;
  if (t->type.rank == 0) printf(" ");
  for (int64_t i = 0; i < count; i++) {
    if (t->type.rank) printf(i % cols ? " " : i && i / cols % rows == 0 ? "\n\n  " : "\n  ");
    print_number(t->data[i], (DType)t->type.dtype, mode, false);
  }
  printf("\n");
}

static void print_json_string(const char *text) {
  printf("\"");
  for (const char *s = text; *s; s++) {
    unsigned char c = (unsigned char)*s;
    if (c == '"' || c == '\\')
      printf("\\%c", c);
    else if (c < 0x20)
      printf("\\u%04x", c);
    else
      putchar(c);
  }
  printf("\"");
}

static void print_json(const Graph *g, const Tensor *result, EvalMode mode) {
  printf("{\"graph\":");
  print_json_string(g->name);
  printf(",\"mode\":\"%s\",\"outputs\":[", mode == EVAL_f64 ? "f64" : "f32");
  for (int i = 0; i < g->n_output; i++) {
    const Tensor *t = &result[i];
    printf("%s{\"name\":", i ? "," : "");
    print_json_string(g->output[i].name);
    printf(",\"kind\":\"%s\",\"dtype\":\"%s\",\"shape\":[",
           g->output[i].kind == OUT_update ? "update" : "output", dtype_name((DType)t->type.dtype));
    for (int d = 0; d < t->type.rank; d++) printf("%s%" PRId64, d ? "," : "", t->type.dim[d]);
    printf("],\"data\":[");
    for (int64_t k = 0; k < type_count(&t->type); k++) {
      if (k) printf(",");
      print_number(t->data[k], (DType)t->type.dtype, mode, true);
    }
    printf("]}");
  }
  printf("]}\n");
}

static int evaluate(const Session *s, EvalMode mode, bool json) {
  Feed *feed = arena_alloc(s->arena, sizeof *feed * (size_t)(s->n_leaf + 1));
  int n_feed = 0, n = s->g->n_output;
  for (int i = 0; i < s->n_leaf; i++)
    if (s->data[i]) feed[n_feed++] = (Feed){s->leaf[i]->op, s->leaf[i]->name, s->data[i]};
  Node **want = arena_alloc(s->arena, sizeof *want * (size_t)(n + 1));
  Tensor *result = arena_alloc(s->arena, sizeof *result * (size_t)(n + 1));
  for (int i = 0; i < n; i++) want[i] = s->g->output[i].node;
  Buf why = {0};
  if (!ir_eval(s->arena, s->g, mode, feed, n_feed, want, n, result, &why)) {
    int status = failed("%s; give --input, --inputs or --seed", why.data);
    buf_free(&why);
    return status;
  }
  if (json) print_json(s->g, result, mode);
  for (int i = 0; i < n && !json; i++) print_text(&s->g->output[i], &result[i], mode);
  return fflush(stdout) == 0 ? EXIT_ok : failed("cannot write the result: %s", strerror(errno));
}

/* The graph to evaluate: the only one, or the one that --graph names; NULL: what is wrong was
 * printed. */
static const Graph *choose(Graph *const *g, int n, const char *name) {
  Buf names = {0};
  for (int i = 0; i < n; i++) {
    if (name ? strcmp(g[i]->name, name) == 0 : n == 1) {
      buf_free(&names);
      return g[i];
    }
    buf_printf(&names, "%s %s", i ? "," : "", g[i]->name);
  }
  if (name)
    failed("--graph %s: the file has%s", name, names.data);
  else
    failed("the file has %d graphs; choose one with --graph:%s", n, names.data);
  buf_free(&names);
  return NULL;
}

static int run(Session *s, const TextList *input, const char *inputs, const char *seed,
               EvalMode mode, bool json) {
  find_leaves(s);
  int status = inputs ? take_file(s, inputs) : -1;
  for (int i = 0; i < input->n && status < 0; i++) status = take_input(s, input->item[i]);
  if (status < 0 && seed) {
    char *end;
    errno = 0;
    unsigned long v = strtoul(seed, &end, 10);
    if (!isdigit((unsigned char)*seed) || *end || errno || v > UINT32_MAX)
      return args_usage_error(s->command, "--seed %s: expected a number from 0 to 4294967295",
                              seed);
    fill(s, (uint32_t)v);
  }
  return status < 0 ? evaluate(s, mode, json) : status;
}

int eval_main(int argc, char **argv) {
  const char *file, *inputs = NULL, *seed = NULL, *name = NULL;
  TextList input = {0};
  bool f64 = false, json = false;
  const ArgSpec spec[] = {
    {"--input", "NAME=V,V,...", "values of a param, state or input, row by row; one value fills it",
     .list = &input},
    {"--inputs", "FILE", "a safetensors file with values by name", .text = &inputs},
    {"--seed", "S", "fills what is still missing with random numbers", .text = &seed},
    {"--graph", "NAME", "which graph, where the file holds several", .text = &name},
    {"--f64", NULL, "computes in double, without rounding each result to its type", .flag = &f64},
    {"--json", NULL, "prints one JSON object instead of text", .flag = &json},
  };
  const Command command = {
    "eval",
    "alphac eval FILE.ir [--input NAME=V,V,...]",
    "Reads a graph's text (docs/ir.md), computes it with the reference evaluator and prints its "
    "outputs.\n"
    "FILE.ir may be - for standard input.",
    "Example: alphac eval loss.ir --inputs weights.safetensors --input tokens=1,2,3,4\n",
    spec,
    COUNT_OF(spec), false};
  Arena *arena = arena_new();
  int status = args_parse(&command, arena, argc, argv, &file);
  if (status < 0) {
    Graph **all;
    int n = args_graphs(arena, file, &all);
    Session s = {.command = &command, .arena = arena, .g = n > 0 ? choose(all, n, name) : NULL};
    status = s.g ? run(&s, &input, inputs, seed, f64 ? EVAL_f64 : EVAL_f32, json) : EXIT_failed;
    for (int i = 0; i < n; i++) graph_free(all[i]);
  }
  arena_free(arena);
  return status;
}
