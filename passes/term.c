/* Terms: parsing, and building nodes. See term.h. */
#include "passes/term.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PARAMETERS = 4, MAX_WORD = 32 };

static const char *const var_name[TV_COUNT] = {"x", "y", "z", "w", "v", "g", "out", "c", "d"};

/* ---- parsing ---- */
typedef struct Reader {
  Arena *arena;
  const char *text, *at;
  const TermForm *form;
  int n_form;
  int n_parameter; /* inside a form: its parameters and what they stand for */
  TermVar parameter[MAX_PARAMETERS];
  Term *value[MAX_PARAMETERS];
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

static bool at_word(const Reader *r) { return isalpha((unsigned char)*r->at); }

static void read_word(Reader *r, char *word) {
  int n = 0;
  skip_space(r);
  for (; isalnum((unsigned char)*r->at) || *r->at == '_'; r->at++)
    if (n < MAX_WORD - 1) word[n++] = *r->at;
  word[n] = 0;
}

static TermVar var_by_name(const Reader *r, const char *name) {
  for (int v = 0; v < TV_COUNT; v++)
    if (strcmp(name, var_name[v]) == 0) return (TermVar)v;
  die("term '%s': no variable '%s'", r->text, name);
}

static Term *new_term(Reader *r, int kind) {
  Term *t = arena_alloc(r->arena, sizeof *t);
  t->kind = kind;
  t->var = TV_COUNT;
  return t;
}

static void add_source(Reader *r, Term *t, Term *s) {
  ARENA_PUSH(r->arena, t->src, t->n_src, s);
  t->vars |= s->vars;
}

static Term *read_term(Reader *r);

static void read_sources(Reader *r, Term *t) {
  do add_source(r, t, read_term(r));
  while (accept(r, ','));
  if (!accept(r, ')')) die("term '%s': expected ')' at '%s'", r->text, r->at);
}

/* The body of a form, its parameters standing for the sources of `use`. */
static Term *read_form(const Reader *r, const TermForm *form, const Term *use) {
  Reader in = {.arena = r->arena, .form = r->form, .n_form = (int)(form - r->form)};
  char word[MAX_WORD];
  in.text = in.at = form->head;
  read_word(&in, word);
  for (bool more = accept(&in, '('); more; more = accept(&in, ',')) {
    if (in.n_parameter == MAX_PARAMETERS || in.n_parameter == use->n_src)
      die("term '%s': %s has more parameters", r->text, form->head);
    read_word(&in, word);
    in.value[in.n_parameter] = use->src[in.n_parameter];
    in.parameter[in.n_parameter++] = var_by_name(&in, word);
  }
  in.text = in.at = form->body;
  Term *t = read_term(&in);
  if (*in.at) die("term '%s': '%s' follows its end", form->body, in.at);
  return t;
}

/* All forms of the name of `use` as alternatives; NULL where there are none. */
static Term *read_forms(Reader *r, const char *name, const Term *use) {
  Term *any = new_term(r, TERM_any);
  size_t n = strlen(name);
  for (int i = 0; i < r->n_form; i++)
    if (strncmp(r->form[i].head, name, n) == 0 && r->form[i].head[n] == '(')
      add_source(r, any, read_form(r, &r->form[i], use));
  return any->n_src ? any : NULL;
}

static const struct Along {
  const char *name;
  int kind;
  Op op;
} along[] = {{"sum", TERM_along, OP_reduce_sum},
             {"max", TERM_along, OP_reduce_max},
             {"mean", TERM_mean, OP_reduce_sum}};

/* What follows NAME and '('. max with two sources is the operation. */
static Term *read_call(Reader *r, const char *name) {
  Term *t = new_term(r, TERM_op);
  read_sources(r, t);
  Term *forms = read_forms(r, name, t);
  if (forms) return forms;
  if (strcmp(name, "cubic") == 0 && t->n_src == 3) {
    t->kind = TERM_cubic;
    return t;
  }
  for (int i = 0; i < COUNT_OF(along); i++) {
    if (t->n_src != 1 || strcmp(name, along[i].name) != 0) continue;
    t->kind = along[i].kind;
    t->op = along[i].op;
    return t;
  }
  t->op = ir_op_by_name(name);
  if (t->op == OP_COUNT) die("term '%s': no operation '%s'", r->text, name);
  if (t->n_src != ir_op[t->op].n_src && ir_op[t->op].n_src >= 0)
    die("term '%s': %s has %d sources", r->text, name, ir_op[t->op].n_src);
  return t;
}

static Term *read_var(Reader *r, const char *name) {
  TermVar v = var_by_name(r, name);
  for (int i = 0; i < r->n_parameter; i++)
    if (r->parameter[i] == v) return r->value[i];
  Term *t = new_term(r, TERM_var);
  t->var = v;
  t->vars = 1u << v;
  return t;
}

static Term *read_number(Reader *r) {
  Term *t = new_term(r, TERM_number);
  char *end;
  t->number = strtod(r->at, &end);
  if (end == r->at) die("term '%s': expected a term at '%s'", r->text, r->at);
  r->at = end;
  return t;
}

/* [variable ':'] (number | true | false | variable | name '(' term {',' term} ')') */
static Term *read_term(Reader *r) {
  char name[MAX_WORD];
  skip_space(r);
  if (!at_word(r)) return read_number(r);
  read_word(r, name);
  if (accept(r, '(')) return read_call(r, name);
  if (accept(r, ':')) {
    Term *t = read_term(r);
    t->var = var_by_name(r, name);
    t->vars |= 1u << t->var;
    return t;
  }
  if (strcmp(name, "true") != 0 && strcmp(name, "false") != 0) return read_var(r, name);
  Term *t = new_term(r, TERM_number);
  t->number = *name == 't';
  return t;
}

Term *term_parse_pattern(Arena *arena, const char *text, const TermForm *form, int n_form) {
  Reader r = {.arena = arena, .text = text, .at = text, .form = form, .n_form = n_form};
  Term *t = read_term(&r);
  skip_space(&r);
  if (*r.at) die("term '%s': '%s' follows its end", text, r.at);
  return t;
}

Term *term_parse(Arena *arena, const char *text) {
  return term_parse_pattern(arena, text, NULL, 0);
}

/* ---- building ---- */
/* Whether source i of an operation has the operation's common source type; all but where's
 * condition do. */
static bool is_common(Op op, int i) { return op != OP_where || i > 0; }

static Node *build_along(const Term *t, const TermMaker *m, Node *x) {
  int axis[IR_MAX_RANK], n_axis = m->attr->n_int;
  for (int i = 0; i < n_axis; i++) axis[i] = (int)m->attr->ints[i];
  Node *y =
    t->kind == TERM_mean ? ir_mean(m->g, x, n_axis, axis) : ir_reduce(m->g, t->op, x, n_axis, axis);
  return ir_expand(m->g, y, x->type.rank, x->type.dim);
}

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
  if (t->kind != TERM_op) return build_along(t, m, src[0]);
  if (ir_op[t->op].attr != ATTR_none) return ir_make(m->g, t->op, NULL, m->attr, t->n_src, src);
  return m->make(m->context, t->op, ir_op[t->op].given ? want : NULL, t->n_src, src);
}
