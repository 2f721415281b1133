/* build.c: what the grammar's actions call to make the ast. */
#ifndef FRONTEND_BUILD_INTERNAL_H
#define FRONTEND_BUILD_INTERNAL_H

#include "frontend/parse_internal.h"

#define LIST(Name, Element)                                                                        \
  typedef struct Name {                                                                            \
    Element *at;                                                                                   \
    int n;                                                                                         \
  } Name;
LIST(Args, Arg)
LIST(Exprs, Expr *)
LIST(Formals, Formal)
LIST(Names, Name)
LIST(Decls, Decl *)
LIST(Entries, Entry)
#undef LIST

void add_arg(Parse *, Args *, Arg);
void add_expr(Parse *, Exprs *, Expr *);
void add_formal(Parse *, Formals *, Formal);
void add_name(Parse *, Names *, const char *, Span);
void add_decl(Parse *, Decls *, Decl *);       /* NULL: broken, left out */
void add_entry(Parse *, Entries *, Entry);     /* no name: broken */
void add_member(Parse *, Members *, Member *); /* NULL: broken */
void add_stmt(Parse *, Block *, Stmt *);       /* NULL: broken */

File *build_file(Parse *, Decls);
Decl *build_import(Parse *, const char *name, Span name_at, const char *target, Span target_at,
                   bool path);
const char *build_as(Parse *, const char *word, Span word_at, const char *name);
Decl *build_entries(Parse *, DeclKind, Span, Entries);
Decl *build_fn_decl(Parse *, FnDecl *);
Decl *build_class(Parse *, DeclKind, const char *name, Span name_at, Formals, Members);
FnDecl *build_fn(Parse *, const char *name, Span name_at, Formals, TypeExpr *result, Expr *, Block);
TypeExpr *build_type(Parse *, Span, const char *word, Span word_at, Exprs *dims);

Member *build_param(Parse *, Span, bool frozen, const char *decay, Span decay_at, const char *name,
                    Span name_at, Exprs *dims, Expr *init);
Member *build_tensor(Parse *, MemberKind, const char *name, Span name_at, Exprs *dims, Expr *value);
Member *build_member(Parse *, MemberKind, const char *name, Span name_at, Expr *value);
Member *build_fn_member(Parse *, FnDecl *);
Member *build_member_if(Parse *, Span, Expr *cond, Members then, Members otherwise);

Stmt *build_assign(Parse *, Span targets_at, Names, Expr *);
Stmt *build_return(Parse *, Span, Expr *);
Stmt *build_for(Parse *, Span, const char *name, Span name_at, Expr *over, Expr *end, Block);
Stmt *build_if(Parse *, Span, Expr *cond, Block then, Block otherwise);
Stmt *build_unused(Parse *, Expr *); /* an error */

Expr *build_expr(Parse *, ExprKind, Span, Span mark, Expr *a, Expr *b, Expr *c);
Expr *build_unary(Parse *, Operator, Span, Expr *);
Expr *build_binary(Parse *, Operator, Span, Span mark, Expr *, Expr *);
Expr *build_compare(Parse *, Operator, Span, Span mark, Expr *, Expr *);
Expr *build_call(Parse *, ExprKind, Span, Span mark, Expr *callee, Args);
Expr *build_name(Parse *, ExprKind, Span, Span mark, Expr *object, const char *name);
Expr *build_paren(Parse *, Span, Expr *);
Expr *build_each(Parse *, Span, Expr *value, const char *name, Expr *over, Expr *end);
Arg slice_arg(Parse *, Span, Expr *begin, Expr *end);

#endif
