/* Text to a graph: the inverse of print.c, for any text that people write or a fuzzer finds. A line
 * that is wrong is reported and skipped; what uses its node is then not reported again. Grammar in
 * docs/ir.md. */
#include "ir/attention.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ERRORS = 20, MAX_NAME = 4096, MAX_NUMBER = 48 };

typedef struct Parser {
  const char *file, *end;
  const char *p; /* next byte */
  const char *line_start;
  int line;
  const char *bad; /* where this line is wrong; NULL: fine so far */
  Buf *errors;
  int n_error;
  Graph *g;
  Node **node;     /* by number in the text; */
  bool *seen;      /* defined in this graph, perhaps by a line that is wrong */
  int64_t highest; /* number seen in this graph; −1: none */
  int64_t cap;     /* numbers must stay below it, so that memory stays in proportion to the text */
} Parser;

/* ---- errors ---- */
/* The line around `at`, at most `width` bytes, with a caret under it. Control bytes show as
 * spaces. */
static void show_line(Buf *b, const Parser *q, const char *at) {
  enum { WIDTH = 120 };
  const char *start = q->line_start, *stop = start;
  if (at - start > WIDTH - 20) start = at - (WIDTH - 20);
  while (start < at && start > q->line_start && ((unsigned char)*start & 0xC0) == 0x80) start++;
  stop = start;
  while (stop < q->end && *stop != '\n' && stop - start < WIDTH) stop++;
  while (stop > at && stop < q->end && ((unsigned char)*stop & 0xC0) == 0x80) stop--;
  buf_str(b, "  ");
  for (const char *s = start; s < stop; s++)
    buf_printf(b, "%c", (unsigned char)*s < 0x20 || *s == 0x7f ? ' ' : *s);
  buf_str(b, "\n  ");
  for (const char *s = start; s < at; s++)
    if (((unsigned char)*s & 0xC0) != 0x80) buf_str(b, " ");
  buf_str(b, "^\n");
}

/* Reports the first error of a line; false, for `return fail(…)`. */
static bool fail_at(Parser *q, const char *at, const char *fmt, ...) PRINTF_LIKE(3, 4);
static bool fail_at(Parser *q, const char *at, const char *fmt, ...) {
  if (q->bad) return false;
  q->bad = at;
  if (q->n_error++ >= MAX_ERRORS) return false;
  buf_printf(q->errors, "%s:%d:%d: error: ", q->file, q->line, (int)(at - q->line_start) + 1);
  va_list args;
  va_start(args, fmt);
  buf_vprintf(q->errors, fmt, args);
  va_end(args);
  buf_str(q->errors, "\n");
  show_line(q->errors, q, at);
  return false;
}
#define fail(q, ...) fail_at(q, (q)->p, __VA_ARGS__)

/* ---- words ---- */
static void skip_blank(Parser *q) {
  while (q->p < q->end && (*q->p == ' ' || *q->p == '\t' || *q->p == '\r')) q->p++;
  if (q->end - q->p >= 2 && q->p[0] == '/' && q->p[1] == '/')
    while (q->p < q->end && *q->p != '\n') q->p++;
}

static bool at_end_of_line(Parser *q) {
  skip_blank(q);
  return q->p == q->end || *q->p == '\n';
}

static void next_line(Parser *q) {
  while (q->p < q->end && *q->p != '\n') q->p++;
  if (q->p < q->end) q->p++;
  q->line_start = q->p;
  q->line++;
  q->bad = NULL;
}

/* To the next line that has something on it; false at the end of the text. */
static bool skip_empty_lines(Parser *q) {
  while (at_end_of_line(q)) {
    if (q->p == q->end) return false;
    next_line(q);
  }
  return true;
}

static bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Takes `word` where it stands next, as a whole. */
static bool take(Parser *q, const char *word) {
  skip_blank(q);
  size_t n = strlen(word);
  if ((size_t)(q->end - q->p) < n || memcmp(q->p, word, n) != 0) return false;
  if (is_word(word[n - 1]) && q->p + n < q->end && is_word(q->p[n])) return false;
  q->p += n;
  return true;
}

static bool expect(Parser *q, const char *word) {
  return take(q, word) || fail(q, "expected %s", word);
}

static bool peek(Parser *q, char c) {
  skip_blank(q);
  return q->p < q->end && *q->p == c;
}

/* A lower-case word into `out`, cut off at its size. */
static bool get_word(Parser *q, char *out, size_t size) {
  skip_blank(q);
  size_t n = 0;
  const char *s = q->p;
  for (; s < q->end && is_word(*s); s++)
    if (n + 1 < size) out[n++] = *s;
  out[n] = 0;
  if (s == q->p) return false;
  q->p = s;
  return true;
}

static bool get_int(Parser *q, int64_t lo, int64_t hi, const char *what, int64_t *out) {
  skip_blank(q);
  const char *s = q->p;
  bool negative = s < q->end && *s == '-';
  if (negative) s++;
  int64_t v = 0;
  const char *digits = s;
  for (; s < q->end && *s >= '0' && *s <= '9'; s++)
    if (v <= INT64_MAX / 16) v = 10 * v + (*s - '0');
  if (s == digits) return fail(q, "expected %s", what);
  if (negative) v = -v;
  if (v < lo || v > hi)
    return fail(q, "%s must be from %lld to %lld", what, (long long)lo, (long long)hi);
  q->p = s;
  *out = v;
  return true;
}

static bool get_value(Parser *q, DType d, double *out) {
  skip_blank(q);
  char text[MAX_NUMBER], *stop;
  size_t n = 0;
  while (q->p + n < q->end && n < sizeof text - 1 &&
         (is_word(q->p[n]) || q->p[n] == '.' || q->p[n] == '-' || q->p[n] == '+')) {
    text[n] = q->p[n];
    n++;
  }
  text[n] = 0;
  double v = strtod(text, &stop);
  if (n == 0 || *stop) return fail(q, "expected a number");
  if (dtype_is_float(d))
    v = dtype_round(d, v);
  else if (!(dtype_round(d, v) == v))
    return fail(q, "%s is no value of type %s", text, dtype_name(d));
  q->p += n;
  *out = v;
  return true;
}

static int hex_digit(char c) {
  return c >= '0' && c <= '9'   ? c - '0'
         : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                : -1;
}

/* One character of a string after its backslash; 0 where there is no such escape. */
static char get_escape(Parser *q) {
  const char *s = q->p;
  if (q->end - s >= 2 && (s[1] == '"' || s[1] == '\\' || s[1] == 'n' || s[1] == 't')) {
    q->p += 2;
    return s[1] == 'n' ? '\n' : s[1] == 't' ? '\t' : s[1];
  }
  if (q->end - s < 4 || s[1] != 'x' || hex_digit(s[2]) < 0 || hex_digit(s[3]) < 0) return 0;
  q->p += 4;
  return (char)(hex_digit(s[2]) * 16 + hex_digit(s[3]));
}

static bool get_string(Parser *q, const char *what, const char **out) {
  if (!peek(q, '"')) return fail(q, "expected %s in quotes", what);
  const char *open = q->p++;
  char text[MAX_NAME];
  size_t n = 0;
  for (;;) {
    if (q->p == q->end || *q->p == '\n')
      return fail_at(q, open, "the quotes are not closed on this line");
    if (*q->p == '"') break;
    char c = *q->p;
    const char *at = q->p;
    if (c == '\\')
      c = get_escape(q);
    else
      q->p++;
    if (c == 0)
      return fail_at(q, at, "expected a character, or one of \\\" \\\\ \\n \\t \\xHH (not \\x00)");
    if (n == sizeof text) return fail_at(q, open, "%s is longer than %d bytes", what, MAX_NAME);
    text[n++] = c;
  }
  q->p++;
  *out = intern_n(text, n);
  return true;
}

/* ---- parts of a node ---- */
static bool get_type(Parser *q, Type *t) {
  char name[8];
  DType d;
  skip_blank(q);
  const char *at = q->p;
  *t = (Type){0};
  if (!get_word(q, name, sizeof name) || !dtype_by_name(name, &d))
    return fail_at(q, at,
                   "expected a type: bool, i32, f16, bf16 or f32 with its shape, as f32[4,16]");
  t->dtype = (uint8_t)d;
  if (!expect(q, "[")) return false;
  while (!take(q, "]")) {
    int64_t dim;
    if (t->rank && !expect(q, ",")) return false;
    if (t->rank == IR_MAX_RANK) return fail(q, "a tensor has at most %d dimensions", IR_MAX_RANK);
    if (!get_int(q, 1, IR_MAX_ELEMENTS, "a dimension", &dim)) return false;
    t->dim[t->rank++] = dim;
  }
  return true;
}

/* A node by its number; *out is NULL, without an error, where its own line was wrong. */
static bool get_node(Parser *q, Node **out) {
  skip_blank(q);
  const char *at = q->p;
  int64_t id;
  if (!take(q, "%")) return fail(q, "expected a node, as %%3");
  if (!get_int(q, 0, INT32_MAX, "a node's number", &id)) return false;
  if (id >= q->cap || !q->seen[id])
    return fail_at(q, at, "%%%lld is not defined above", (long long)id);
  *out = q->node[id];
  return true;
}

static bool at_number(Parser *q) {
  return peek(q, '-') || (q->p < q->end && *q->p >= '0' && *q->p <= '9');
}

static bool get_ints(Parser *q, const char *key, int64_t hi, Attr *a) {
  if (!expect(q, key) || !expect(q, "=")) return false;
  for (bool more = at_number(q); more; more = take(q, ",")) {
    if (a->n_int == 2 * IR_MAX_RANK) return fail(q, "more numbers than a node can have");
    if (!get_int(q, 0, hi, key, &a->ints[a->n_int++])) return false;
  }
  return true;
}

static bool get_pairs(Parser *q, const char *key, Attr *a) {
  int64_t second[IR_MAX_RANK];
  int n = 0;
  if (!expect(q, key) || !expect(q, "=")) return false;
  for (bool more = at_number(q); more; more = take(q, ",")) {
    if (n == IR_MAX_RANK) return fail(q, "more numbers than a node can have");
    if (!get_int(q, 0, IR_MAX_ELEMENTS, key, &a->ints[n]) || !expect(q, ":") ||
        !get_int(q, 0, IR_MAX_ELEMENTS, key, &second[n]))
      return false;
    n++;
  }
  for (int i = 0; i < n; i++) a->ints[n + i] = second[i];
  a->n_int = 2 * n;
  return true;
}

/* scale=0.125 [band=[lo]..[hi]] [shift=256] [cap=30] [empty=nan] */
static bool get_attention(Parser *q, Attr *a) {
  AttentionAttr t = {.lo = -IR_UNBOUNDED, .hi = IR_UNBOUNDED};
  if (!expect(q, "scale") || !expect(q, "=") || !get_value(q, DT_f32, &t.scale)) return false;
  if (take(q, "band")) {
    if (!expect(q, "=")) return false;
    if (at_number(q) && !get_int(q, -IR_UNBOUNDED, IR_UNBOUNDED, "a band's begin", &t.lo))
      return false;
    if (!expect(q, "..")) return false;
    if (at_number(q) && !get_int(q, -IR_UNBOUNDED, IR_UNBOUNDED, "a band's end", &t.hi))
      return false;
  }
  if (take(q, "shift") &&
      (!expect(q, "=") || !get_int(q, 0, IR_MAX_ELEMENTS, "a band's shift", &t.shift)))
    return false;
  if (take(q, "cap") && (!expect(q, "=") || !get_value(q, DT_f32, &t.cap))) return false;
  if (take(q, "empty")) {
    if (!expect(q, "=") || !expect(q, "nan")) return false;
    t.empty_nan = true;
  }
  *a = attention_pack(&t);
  return true;
}

static bool get_attr(Parser *q, Op op, const Type *t, Attr *a) {
  switch (ir_op[op].attr) {
  case ATTR_none: return true;
  case ATTR_value: return get_value(q, (DType)t->dtype, &a->value);
  case ATTR_name: return get_string(q, "a name", &a->name);
  case ATTR_axes: return get_ints(q, "axes", IR_MAX_RANK, a);
  case ATTR_axis: return get_ints(q, "axis", IR_MAX_RANK, a);
  case ATTR_scan:
    if (!get_ints(q, "axis", IR_MAX_RANK, a)) return false;
    if (a->n_int != 1) return fail(q, "expected one axis");
    a->ints[a->n_int++] = take(q, "reverse");
    return true;
  case ATTR_perm: return get_ints(q, "perm", IR_MAX_RANK, a);
  case ATTR_range: return get_pairs(q, "range", a);
  case ATTR_padding:
    return get_pairs(q, "padding", a) && expect(q, "fill") && expect(q, "=") &&
           get_value(q, (DType)t->dtype, &a->value);
  case ATTR_place: return get_ints(q, "place", UINT32_MAX, a);
  case ATTR_spans: return get_ints(q, "spans", INT32_MAX, a);
  case ATTR_attention: return get_attention(q, a);
  case ATTR_norm:
    return get_ints(q, "axes", IR_MAX_RANK, a) && expect(q, "eps") && expect(q, "=") &&
           get_value(q, (DType)t->dtype, &a->value);
  case ATTR_layout:
    a->ints[a->n_int++] = take(q, "interleaved");
    return a->ints[0] || expect(q, "halves");
  }
  die("parse: attribute of %s", ir_op[op].name);
}

/* @file:line:col; the file in quotes where its name has other characters than letters, digits and
 * _./-+ */
static bool get_loc(Parser *q, SrcLoc *loc) {
  if (peek(q, '"')) {
    if (!get_string(q, "a file's name", &loc->file)) return false;
  } else {
    const char *s = q->p;
    while (s < q->end && (is_word(*s) || strchr("./-+", *s)) && *s) s++;
    if (s == q->p || s - q->p > MAX_NAME)
      return fail(q, "expected a place in a source file, as gpt2.alpha:21:9");
    loc->file = intern_n(q->p, (size_t)(s - q->p));
    q->p = s;
  }
  int64_t line, col;
  if (!expect(q, ":") || !get_int(q, 0, INT32_MAX, "a line", &line) || !expect(q, ":") ||
      !get_int(q, 0, INT32_MAX, "a column", &col))
    return false;
  loc->line = (int)line;
  loc->col = (int)col;
  return true;
}

static bool get_op(Parser *q, Op *op) {
  char name[32];
  skip_blank(q);
  const char *at = q->p;
  if (!get_word(q, name, sizeof name)) return fail(q, "expected an operation");
  *op = ir_op_by_name(name);
  if (*op < OP_COUNT) return true;
  const char *known[OP_COUNT];
  for (int i = 0; i < OP_COUNT; i++) known[i] = ir_op[i].name;
  const char *near = suggest(name, known, OP_COUNT);
  return near ? fail_at(q, at, "there is no operation %s; did you mean %s?", name, near)
              : fail_at(q, at, "there is no operation %s", name);
}

/* ---- lines ---- */
/* op TYPE %src … attributes [region=r] ["label"] [@place]. *out stays NULL where a source's own
 * line was wrong. */
static bool parse_op(Parser *q, Node **out) {
  Op op = OP_COUNT;
  Type told, type;
  Attr attr = {0};
  Node *src[IR_MAX_SRC];
  int n_src = 0;
  bool whole = true; /* all sources are there */
  int64_t region = 0;
  const char *label = NULL;
  SrcLoc loc = {0};
  skip_blank(q);
  const char *at = q->p;
  if (!get_op(q, &op) || !get_type(q, &told)) return false;
  for (; peek(q, '%'); n_src++) {
    if (n_src == IR_MAX_SRC) return fail(q, "a node has at most %d sources", IR_MAX_SRC);
    if (!get_node(q, &src[n_src])) return false;
    whole = whole && src[n_src];
  }
  if (!get_attr(q, op, &told, &attr)) return false;
  if (take(q, "region") &&
      (!expect(q, "=") || !get_int(q, -INT32_MAX, INT32_MAX, "a region", &region)))
    return false;
  if (peek(q, '"') && !get_string(q, "a label", &label)) return false;
  if (take(q, "@") && !get_loc(q, &loc)) return false;
  if (!at_end_of_line(q)) return fail(q, "expected the end of the line");
  if (!whole) return true;

  Buf why = {0};
  bool ok = ir_infer(op, &told, &attr, n_src, src, &type, &why);
  if (ok && !type_eq(&type, &told)) {
    buf_str(&why, "its type follows from its sources: expected ");
    type_print(&why, &type);
    buf_str(&why, ", found ");
    type_print(&why, &told);
    ok = false;
  }
  if (!ok) fail_at(q, at, "%s: %s", ir_op[op].name, why.data);
  buf_free(&why);
  if (!ok) return false;
  q->g->region = (int)region;
  q->g->loc = loc;
  *out = ir_make(q->g, op, &told, &attr, n_src, src);
  if (!(*out)->label) (*out)->label = label;
  return true;
}

/* %N = … */
static void parse_node(Parser *q) {
  const char *at = q->p;
  int64_t id;
  if (!expect(q, "%") || !get_int(q, 0, INT32_MAX, "a node's number", &id)) return;
  if (id >= q->cap) {
    fail_at(q, at, "a text of this size has no node above %%%lld", (long long)q->cap - 1);
    return;
  }
  if (q->seen[id]) {
    fail_at(q, at, "%%%lld is defined twice", (long long)id);
    return;
  }
  q->seen[id] = true;
  if (id > q->highest) q->highest = id;
  if (expect(q, "=")) parse_op(q, &q->node[id]);
}

/* output "name" %N, update "name" %N */
static void parse_output(Parser *q, OutKind kind) {
  const char *name;
  Node *node;
  skip_blank(q);
  const char *at = q->p;
  if (!get_string(q, "a name", &name) || !get_node(q, &node)) return;
  if (!at_end_of_line(q)) {
    fail(q, "expected the end of the line");
    return;
  }
  for (int i = 0; i < q->g->n_output; i++)
    if (q->g->output[i].kind == kind && q->g->output[i].name == name) {
      fail_at(q, at, "there is already an %s of this name",
              kind == OUT_update ? "update" : "output");
      return;
    }
  if (node) ir_output(q->g, kind, name, node);
}

/* graph "name" { lines }; false where what is wrong hides where the graph ends. */
static bool parse_graph(Parser *q) {
  const char *name;
  for (; q->highest >= 0; q->highest--) { /* of the graph before */
    q->node[q->highest] = NULL;
    q->seen[q->highest] = false;
  }
  if (!expect(q, "graph") || !get_string(q, "the graph's name", &name) || !expect(q, "{"))
    return false;
  if (!at_end_of_line(q)) return fail(q, "expected the end of the line");
  q->g = graph_new(name);
  next_line(q);
  for (;; next_line(q)) {
    if (!skip_empty_lines(q)) return fail(q, "expected } at the end of the graph");
    if (take(q, "}")) break;
    if (take(q, "output"))
      parse_output(q, OUT_value);
    else if (take(q, "update"))
      parse_output(q, OUT_update);
    else if (peek(q, '%'))
      parse_node(q);
    else
      fail(q, "expected a node, as %%3 = …, or output, update or }");
  }
  q->g->region = 0;
  q->g->loc = (SrcLoc){0};
  return at_end_of_line(q) || fail(q, "expected the end of the line");
}

int ir_parse_all(Arena *arena, const char *file, const char *text, size_t bytes, Graph ***graphs,
                 Buf *errors) {
  Parser q = {.file = file,
              .end = text + bytes,
              .p = text,
              .line_start = text,
              .line = 1,
              .errors = errors,
              .highest = -1,
              .cap = (int64_t)bytes + 64};
  q.node = xcalloc((size_t)q.cap, sizeof *q.node);
  q.seen = xcalloc((size_t)q.cap, sizeof *q.seen);
  Graph **all = NULL;
  int n = 0;
  if (!skip_empty_lines(&q)) fail(&q, "expected graph \"name\" {");
  for (bool more = q.n_error == 0; more; more = more && skip_empty_lines(&q)) {
    q.g = NULL;
    more = parse_graph(&q);
    if (q.g) ARENA_PUSH(arena, all, n, q.g);
  }
  free(q.node);
  free(q.seen);
  if (q.n_error > MAX_ERRORS)
    buf_printf(errors, "%s: %d more errors\n", file, q.n_error - MAX_ERRORS);
  if (q.n_error) {
    for (int i = 0; i < n; i++) graph_free(all[i]);
    return -1;
  }
  *graphs = all;
  return n;
}

Graph *ir_parse(const char *file, const char *text, size_t bytes, Buf *errors) {
  Arena *arena = arena_new();
  Graph **all;
  int n = ir_parse_all(arena, file, text, bytes, &all, errors);
  Graph *g = n == 1 ? all[0] : NULL;
  if (n > 1) {
    buf_printf(errors, "%s: error: expected one graph, found %d: %s, %s%s\n", file, n, all[0]->name,
               all[1]->name, n > 2 ? " …" : "");
    for (int i = 0; i < n; i++) graph_free(all[i]);
  }
  arena_free(arena);
  return g;
}
