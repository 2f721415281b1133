/* Runs passes by name: verifies the graph after each, dumps and times on demand, and catches a pass
 * that is wrong about what it changed. */
#include "passes/hits.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct Pass {
  const char *name;
  PassFunction *run;
  const char *what;
} Pass;

static const Pass passes[] = {
#define PASS(name, function, what) {#name, function, what},
#include "passes/passes.def"
#undef PASS
};

typedef struct Row { /* of the table of times */
  const char *name;
  double ms;
  int before, after;
} Row;

void pass_list(Buf *out) {
  for (int i = 0; i < COUNT_OF(passes); i++)
    buf_printf(out, "  %-10s %s\n", passes[i].name, passes[i].what);
}

/* Names are cut from lists, so not terminated. */
static const Pass *find_pass(const char *name, size_t len) {
  for (int i = 0; i < COUNT_OF(passes); i++)
    if (strlen(passes[i].name) == len && strncmp(passes[i].name, name, len) == 0) return &passes[i];
  return NULL;
}

static bool unknown(const char *name, size_t len, const char *also, Buf *why) {
  const char *known[COUNT_OF(passes)];
  for (int i = 0; i < COUNT_OF(passes); i++) known[i] = passes[i].name;
  Buf word = {0};
  buf_put(&word, name, len);
  const char *near = suggest(word.data, known, COUNT_OF(passes));
  buf_printf(why, "there is no pass \"%s\"", word.data);
  if (near) {
    buf_printf(why, "; did you mean %s?", near);
  } else {
    buf_str(why, "; there are");
    for (int i = 0; i < COUNT_OF(passes); i++)
      buf_printf(why, "%s %s", i ? "," : "", passes[i].name);
    buf_str(why, also);
  }
  buf_free(&word);
  return false;
}

static bool check_names(const char *list, const PassOptions *o, Buf *why) {
  for (const char *s = list; *s; s += *s == ',') {
    size_t len = strcspn(s, ",");
    if (!find_pass(s, len)) return unknown(s, len, "", why);
    s += len;
  }
  if (o->skip && !find_pass(o->skip, strlen(o->skip)))
    return unknown(o->skip, strlen(o->skip), "", why);
  if (o->dump_after && strcmp(o->dump_after, "all") != 0 &&
      !find_pass(o->dump_after, strlen(o->dump_after)))
    return unknown(o->dump_after, strlen(o->dump_after), ", and all", why);
  return true;
}

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

Graph *pass_apply(const char *name, PassFunction *run, Graph *g, const PassOptions *o, double *ms) {
  Buf errors = {0};
  uint64_t before = graph_hash(g);
  double start = now_ms();
  Graph *to = run(g, o);
  *ms = now_ms() - start;
  bool same = graph_hash(to) == before;
  if (to == g && !same) die("pass %s changed the graph %s in place", name, g->name);
  if (to != g && same) die("pass %s made a new graph of %s, equal to the old one", name, g->name);
  if (to != g && !ir_verify(to, &errors))
    die("pass %s broke the graph %s:\n%s", name, g->name, errors.data);
  buf_free(&errors);
  return to;
}

static void dump(FILE *out, const char *name, const Graph *g) {
  Buf text = {0};
  ir_print(&text, g);
  fprintf(out, "// after %s\n%s", name, text.data);
  buf_free(&text);
}

static void print_times(FILE *out, const Graph *g, const Row *row, int n) {
  double total = 0;
  fprintf(out, "graph %s\n  %-12s %9s %9s %9s\n", g->name, "pass", "ms", "nodes", "after");
  for (int i = 0; i < n; i++) {
    fprintf(out, "  %-12s %9.2f %9d %9d\n", row[i].name, row[i].ms, row[i].before, row[i].after);
    total += row[i].ms;
  }
  fprintf(out, "  %-12s %9.2f\n", "total", total);
}

Graph *pass_run(Graph *given, const char *list, const PassOptions *o, Buf *why) {
  if (!check_names(list, o, why)) return NULL;
  Buf errors = {0};
  if (!ir_verify(given, &errors))
    die("graph %s is broken before any pass:\n%s", given->name, errors.data);
  Arena *arena = arena_new();
  PassHits hits = {0};
  PassOptions told = *o;
  if (o->time) told.hits = &hits;
  Row *row = NULL;
  int n_row = 0;
  Graph *g = given;
  for (const char *s = list; *s; s += *s == ',') {
    size_t len = strcspn(s, ",");
    const Pass *pass = find_pass(s, len);
    s += len;
    if (o->skip && strcmp(o->skip, pass->name) == 0) continue;
    Row r = {.name = pass->name, .before = g->n_node};
    Graph *to = pass_apply(pass->name, pass->run, g, &told, &r.ms);
    if (to != g && g != given) graph_free(g);
    g = to;
    r.after = g->n_node;
    ARENA_PUSH(arena, row, n_row, r);
    if (o->dump_after &&
        (strcmp(o->dump_after, "all") == 0 || strcmp(o->dump_after, pass->name) == 0))
      dump(o->out, pass->name, g);
  }
  if (o->time) {
    print_times(o->out, g, row, n_row);
    hits_print(o->out, &hits);
    hits_free(&hits);
  }
  arena_free(arena);
  return g;
}
