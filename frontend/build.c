/* build: makes the ast for the grammar's actions, with the checks that a grammar cannot say
 * well. */
#include "frontend/build_internal.h"

#include <string.h>

#define DEFINE_ADD(function, List, Element)                                                        \
  void function(Parse *p, List *list, Element e) { ARENA_PUSH(p->arena, list->at, list->n, e); }
DEFINE_ADD(add_arg, Args, Arg)
DEFINE_ADD(add_expr, Exprs, Expr *)
DEFINE_ADD(add_formal, Formals, Formal)
#undef DEFINE_ADD

void add_name(Parse *p, Names *list, const char *name, Span at) {
  Name n = {name, parse_place(p, at)};
  ARENA_PUSH(p->arena, list->at, list->n, n);
}

void add_decl(Parse *p, Decls *list, Decl *d) {
  if (d) ARENA_PUSH(p->arena, list->at, list->n, d);
}

void add_entry(Parse *p, Entries *list, Entry e) {
  if (e.name) ARENA_PUSH(p->arena, list->at, list->n, e);
}

void add_member(Parse *p, Members *list, Member *m) {
  if (m) ARENA_PUSH(p->arena, list->member, list->n, m);
}

void add_stmt(Parse *p, Block *list, Stmt *s) {
  if (s) ARENA_PUSH(p->arena, list->stmt, list->n, s);
}

/* ---- declarations ---- */

File *build_file(Parse *p, Decls decls) {
  File *f = arena_alloc(p->arena, sizeof *f);
  *f = (File){p->src, decls.at, decls.n};
  return f;
}

static Decl *new_decl(Parse *p, DeclKind kind, const char *name, Span at) {
  Decl *d = arena_alloc(p->arena, sizeof *d);
  d->kind = kind;
  d->name = name;
  d->at = parse_place(p, at);
  return d;
}

Decl *build_import(Parse *p, const char *name, Span name_at, const char *target, Span target_at,
                   bool path) {
  if (path && !name) {
    diag_error(p->diag, parse_place(p, name_at),
               "an import of a file needs a name: import \"%.80s\" as name", target);
    return NULL;
  }
  Decl *d = new_decl(p, D_import, name, name_at);
  d->path = path ? target : intern_n(target, strlen(target));
  d->path_at = parse_place(p, target_at);
  d->beside = path;
  return d;
}

const char *build_as(Parse *p, const char *word, Span word_at, const char *name) {
  if (strcmp(word, "as") != 0)
    diag_error(p->diag, parse_place(p, word_at), "expected `as` and a name, found `%.40s`", word);
  return name;
}

Decl *build_entries(Parse *p, DeclKind kind, Span at, Entries entries) {
  Decl *d = new_decl(p, kind, intern(kind == D_config ? "config" : "train"), at);
  d->entry = entries.at;
  d->n_entry = entries.n;
  return d;
}

Decl *build_fn_decl(Parse *p, FnDecl *fn) {
  Decl *d = new_decl(p, D_fn, fn->name, (Span){fn->at.begin, fn->at.end});
  d->fn = fn;
  return d;
}

Decl *build_class(Parse *p, DeclKind kind, const char *name, Span name_at, Formals formals,
                  Members members) {
  Decl *d = new_decl(p, kind, name, name_at);
  d->formal = formals.at;
  d->n_formal = formals.n;
  d->members = members;
  return d;
}

FnDecl *build_fn(Parse *p, const char *name, Span name_at, Formals formals, TypeExpr *result,
                 Expr *expr, Block body) {
  FnDecl *fn = arena_alloc(p->arena, sizeof *fn);
  *fn = (FnDecl){name, parse_place(p, name_at), formals.at, formals.n, result, expr, body};
  return fn;
}

TypeExpr *build_type(Parse *p, Span at, const char *word, Span word_at, Exprs *dims) {
  static const char *const words[] = {"int", "bool", "number"};
  static const TypeWord meaning[] = {T_int, T_bool, T_number};
  TypeExpr *t = arena_alloc(p->arena, sizeof *t);
  t->at = parse_place(p, at);
  t->word = T_float;
  if (dims) {
    t->dim = dims->at;
    t->n_dim = dims->n;
  }
  if (!word) return t;
  int i = 0;
  while (i < COUNT_OF(words) && strcmp(words[i], word) != 0) i++;
  bool known = i < COUNT_OF(words) && (meaning[i] == T_number) == !dims;
  if (!known)
    diag_error(p->diag, parse_place(p, word_at),
               "a type is [dims], int[dims], bool[dims] or number, found `%.40s`", word);
  else
    t->word = meaning[i];
  return t;
}

/* ---- members ---- */

Member *build_member(Parse *p, MemberKind kind, const char *name, Span name_at, Expr *value) {
  Member *m = arena_alloc(p->arena, sizeof *m);
  m->kind = kind;
  m->name = name;
  m->at = parse_place(p, name_at);
  m->value = value;
  return m;
}

Member *build_tensor(Parse *p, MemberKind kind, const char *name, Span name_at, Exprs *dims,
                     Expr *value) {
  Member *m = build_member(p, kind, name, name_at, value);
  m->has_dims = dims != NULL;
  if (dims) {
    m->dim = dims->at;
    m->n_dim = dims->n;
  }
  return m;
}

Member *build_param(Parse *p, Span at, bool frozen, const char *decay, Span decay_at,
                    const char *name, Span name_at, Exprs *dims, Expr *init) {
  (void)at;
  Member *m = build_tensor(p, M_param, name, name_at, dims, init);
  m->frozen = frozen;
  if (!decay) return m;
  if (strcmp(decay, "decay") == 0)
    m->decay = DECAY_yes;
  else if (strcmp(decay, "nodecay") == 0)
    m->decay = DECAY_no;
  else
    diag_error(p->diag, parse_place(p, decay_at),
               "expected `decay` or `nodecay` before the name, found `%.40s`", decay);
  return m;
}

Member *build_fn_member(Parse *p, FnDecl *fn) {
  Member *m = build_member(p, M_fn, fn->name, (Span){fn->at.begin, fn->at.end}, NULL);
  m->fn = fn;
  return m;
}

Member *build_member_if(Parse *p, Span at, Expr *cond, Members then, Members otherwise) {
  Member *m = build_member(p, M_if, NULL, at, cond);
  m->then = then;
  m->otherwise = otherwise;
  return m;
}

/* ---- statements ---- */

static Stmt *new_stmt(Parse *p, StmtKind kind, Span at, Expr *a) {
  Stmt *s = arena_alloc(p->arena, sizeof *s);
  s->kind = kind;
  s->at = parse_place(p, at);
  s->a = a;
  return s;
}

Stmt *build_assign(Parse *p, Span targets_at, Names names, Expr *value) {
  Stmt *s = new_stmt(p, S_assign, targets_at, value);
  s->name = names.at;
  s->n_name = names.n;
  for (int i = 0; i < names.n; i++)
    for (int j = 0; j < i && j < 64; j++)
      if (names.at[i].name == names.at[j].name)
        diag_error(p->diag, names.at[i].at, "`%.40s` is bound twice by one assignment",
                   names.at[i].name);
  return s;
}

Stmt *build_return(Parse *p, Span at, Expr *value) { return new_stmt(p, S_return, at, value); }

Stmt *build_for(Parse *p, Span at, const char *name, Span name_at, Expr *over, Expr *end,
                Block body) {
  Names names = {0};
  Stmt *s = new_stmt(p, S_for, at, over);
  add_name(p, &names, name, name_at);
  s->name = names.at;
  s->n_name = 1;
  s->b = end;
  s->then = body;
  return s;
}

Stmt *build_if(Parse *p, Span at, Expr *cond, Block then, Block otherwise) {
  Stmt *s = new_stmt(p, S_if, at, cond);
  s->then = then;
  s->otherwise = otherwise;
  return s;
}

Stmt *build_unused(Parse *p, Expr *e) {
  diag_error(p->diag, e->at,
             "nothing uses this value; a statement is `name = …`, `return …`, `for` or `if`");
  return NULL;
}

/* ---- expressions ---- */

static void deepen(Parse *p, Expr *e, const Expr *part) {
  if (!part || part->depth < e->depth) return;
  e->depth = part->depth + 1;
  if (e->depth != AST_MAX_DEPTH + 1) return; /* tell it once */
  diag_error(p->diag, e->at, "the expression is nested more than %d deep; name its parts",
             AST_MAX_DEPTH);
}

Expr *build_expr(Parse *p, ExprKind kind, Span at, Span mark, Expr *a, Expr *b, Expr *c) {
  Expr *e = arena_alloc(p->arena, sizeof *e);
  e->kind = kind;
  e->at = (Place){p->src, at.begin, at.end, mark.begin};
  e->loc = source_loc(e->at);
  e->depth = 1;
  e->a = a, e->b = b, e->c = c;
  deepen(p, e, a);
  deepen(p, e, b);
  deepen(p, e, c);
  return e;
}

Expr *build_unary(Parse *p, Operator op, Span at, Expr *a) {
  Expr *e = build_expr(p, E_unary, at, at, a, NULL, NULL);
  e->op = op;
  return e;
}

Expr *build_binary(Parse *p, Operator op, Span at, Span mark, Expr *a, Expr *b) {
  Expr *e = build_expr(p, E_binary, at, mark, a, b, NULL);
  e->op = op;
  return e;
}

static bool compares(const Expr *e) {
  return e->kind == E_binary && e->op >= O_eq && e->op <= O_ge && !e->paren;
}

Expr *build_compare(Parse *p, Operator op, Span at, Span mark, Expr *a, Expr *b) {
  if (compares(a))
    diag_error(p->diag, parse_place(p, mark),
               "comparisons do not chain: write `a < b and b < c`, or use parentheses");
  return build_binary(p, op, at, mark, a, b);
}

Expr *build_call(Parse *p, ExprKind kind, Span at, Span mark, Expr *callee, Args args) {
  Expr *e = build_expr(p, kind, at, mark, callee, NULL, NULL);
  e->arg = args.at;
  e->n_arg = args.n;
  bool named = false;
  for (int i = 0; i < args.n; i++) {
    deepen(p, e, args.at[i].value);
    if (args.at[i].name && kind == E_list)
      diag_error(p->diag, args.at[i].name_at, "expected an expression, found `name =` in a list");
    else if (!args.at[i].name && named && kind != E_list)
      diag_error(p->diag, args.at[i].name_at, "an argument by position after one by name");
    named = args.at[i].name != NULL;
  }
  return e;
}

Expr *build_name(Parse *p, ExprKind kind, Span at, Span mark, Expr *object, const char *name) {
  Expr *e = build_expr(p, kind, at, mark, object, NULL, NULL);
  e->name = name;
  return e;
}

Expr *build_paren(Parse *p, Span at, Expr *inner) {
  inner->paren = true;
  inner->at.begin = at.begin;
  inner->at.end = at.end;
  (void)p;
  return inner;
}

Expr *build_each(Parse *p, Span at, Expr *value, const char *name, Expr *over, Expr *end) {
  Expr *e = build_expr(p, E_each, at, at, value, over, end);
  e->name = name;
  return e;
}

Arg slice_arg(Parse *p, Span at, Expr *begin, Expr *end) {
  return (Arg){NULL, parse_place(p, at), build_expr(p, E_slice, at, at, NULL, begin, end)};
}
