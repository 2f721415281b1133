/* Terms: parsing, matching against nodes, building nodes. See term.h. */
#include "passes/term.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const var_name[TV_COUNT] = {"x", "y", "z", "g", "out", "c"};

/* ---- parsing ---- */
typedef struct Reader {
  Arena *arena;
  const char *text, *at;
} Reader;

static void skip_space(Reader *r) {
  while (*r->at == ' ') r->at++;
}

static bool accept(Reader *r, char c) {
  skip_space(r);
  if (*r->at != c) return false;
  r->at++;
  return true;
}

static Term *read_term(Reader *r);

static void read_sources(Reader *r, Term *t) {
  do {
    if (t->n_src == COUNT_OF(t->src)) die("term '%s': more than %d sources", r->text, t->n_src);
    Term *s = read_term(r);
    t->src[t->n_src++] = s;
    t->n_commuting += s->n_commuting;
    t->vars |= s->vars;
  } while (accept(r, ','));
  if (!accept(r, ')')) die("term '%s': expected ')' at '%s'", r->text, r->at);
}

/* number | true | false | variable | operation '(' term {',' term} ')' */
static Term *read_term(Reader *r) {
  Term *t = arena_alloc(r->arena, sizeof *t);
  skip_space(r);
  const char *start = r->at;
  if (!isalpha((unsigned char)*start)) {
    char *end;
    t->kind = TERM_number;
    t->number = strtod(start, &end);
    if (end == start) die("term '%s': expected a term at '%s'", r->text, start);
    r->at = end;
    return t;
  }
  while (isalnum((unsigned char)*r->at) || *r->at == '_') r->at++;
  char *name = arena_str(r->arena, start, (size_t)(r->at - start));
  if (accept(r, '(')) {
    t->kind = TERM_op;
    t->op = ir_op_by_name(name);
    if (t->op == OP_COUNT) die("term '%s': no operation '%s'", r->text, name);
    t->n_commuting = (ir_op[t->op].flags & IR_COMM) != 0;
    read_sources(r, t);
    if (t->n_src != ir_op[t->op].n_src)
      die("term '%s': %s has %d sources", r->text, name, ir_op[t->op].n_src);
    return t;
  }
  if (strcmp(name, "true") == 0 || strcmp(name, "false") == 0) {
    t->kind = TERM_number;
    t->number = *name == 't';
    return t;
  }
  for (int v = 0; v < TV_COUNT; v++) {
    if (strcmp(name, var_name[v]) != 0) continue;
    t->var = (TermVar)v;
    t->vars = 1u << v;
    return t;
  }
  die("term '%s': no variable '%s'", r->text, name);
}

Term *term_parse(Arena *arena, const char *text) {
  Reader r = {arena, text, text};
  Term *t = read_term(&r);
  skip_space(&r);
  if (*r.at) die("term '%s': '%s' follows its end", text, r.at);
  return t;
}

/* ---- matching ---- */
typedef struct Match {
  Node **var;
  int region;
  unsigned swap;   /* bit per commuting operation, in the order of reading: sources exchanged */
  int n_commuting; /* seen so far */
} Match;

static bool match(Match *m, const Term *t, Node *n) {
  switch (t->kind) {
  case TERM_var:
    if (t->var == TV_c && n->op != OP_const) return false;
    if (m->var[t->var]) return m->var[t->var] == n;
    m->var[t->var] = n;
    return true;
  case TERM_number:
    return n->op == OP_const && n->value == t->number && !signbit(n->value) == !signbit(t->number);
  default: break;
  }
  if (n->op != t->op || n->region != m->region) return false;
  bool swap = (ir_op[t->op].flags & IR_COMM) && m->swap >> m->n_commuting++ & 1;
  for (int i = 0; i < t->n_src; i++)
    if (!match(m, t->src[i], n->src[swap ? 1 - i : i])) return false;
  return true;
}

/* Orders of all commuting operations are tried together: a match is found wherever there is one. */
bool term_match(const Term *pattern, Node *n, Node *var[TV_COUNT]) {
  for (unsigned swap = 0; swap < 1u << pattern->n_commuting; swap++) {
    memset(var, 0, sizeof *var * TV_COUNT);
    Match m = {.var = var, .region = n->region, .swap = swap};
    if (match(&m, pattern, n)) return true;
  }
  return false;
}

/* ---- building ---- */
/* Whether source i of an operation has the operation's common source type; all but where's
 * condition do. */
static bool is_common(Op op, int i) { return op != OP_where || i > 0; }

Node *term_build(const Term *t, const TermMaker *m, Node *const var[TV_COUNT], const Type *want) {
  if (t->kind == TERM_var) return var[t->var];
  if (t->kind == TERM_number) return ir_const(m->g, t->number, want);
  Node *src[3];
  const Type *common = NULL;
  for (int i = 0; i < t->n_src; i++) {
    if (t->src[i]->kind == TERM_number) continue;
    src[i] = term_build(t->src[i], m, var, want);
    if (is_common(t->op, i) && !common) common = &src[i]->type;
  }
  for (int i = 0; i < t->n_src; i++) {
    if (t->src[i]->kind != TERM_number) continue;
    Type type = common ? *common : *want;
    if (!is_common(t->op, i)) type.dtype = DT_bool;
    src[i] = ir_const(m->g, t->src[i]->number, &type);
  }
  return m->make(m->context, t->op, ir_op[t->op].given ? want : NULL, t->n_src, src);
}
