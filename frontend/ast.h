/* ast: the program as written. Everything lives in the arena of the model that it was read for;
 * names are interned. */
#ifndef FRONTEND_AST_H
#define FRONTEND_AST_H

#include "frontend/diag.h"

enum { AST_MAX_DEPTH = 500 }; /* of one expression */

typedef enum Operator {
  O_or,
  O_and,
  O_not,
  O_eq,
  O_ne,
  O_lt,
  O_le,
  O_gt,
  O_ge,
  O_add,
  O_sub,
  O_mul,
  O_div,
  O_mod,
  O_matmul,
  O_neg,
  O_pow
} Operator;
const char *operator_text(Operator);

typedef enum ExprKind {
  E_int,
  E_float,
  E_string,
  E_bool,
  E_none,
  E_name,   /* name */
  E_list,   /* arg */
  E_each,   /* [a for name in b], or [a for name in b..c] */
  E_unary,  /* op a */
  E_binary, /* a op b */
  E_choose, /* a ? b : c */
  E_call,   /* a(arg…) */
  E_index,  /* a[arg…] */
  E_slice,  /* b:c inside an index; either may be missing */
  E_member  /* a.name */
} ExprKind;

typedef struct Expr Expr;

typedef struct Arg {
  const char *name; /* NULL: by position */
  Place name_at;
  Expr *value;
} Arg;

struct Expr {
  ExprKind kind;
  Operator op;
  int depth;
  bool paren; /* written in parentheses */
  Place at;
  SrcLoc loc;
  int64_t i; /* E_int, E_bool */
  double f;
  const char *name; /* also E_string */
  Expr *a, *b, *c;
  Arg *arg;
  int n_arg;
};

/* A type in a signature. */
typedef enum TypeWord { T_float, T_int, T_bool, T_number } TypeWord;
typedef struct TypeExpr {
  TypeWord word;
  Expr **dim; /* not for T_number */
  int n_dim;
  Place at;
} TypeExpr;

typedef struct Formal { /* an argument of a function or module */
  const char *name;
  Place at;
  TypeExpr *type; /* NULL: anything */
  Expr *init;     /* default, or NULL */
} Formal;

typedef struct Stmt Stmt;
typedef struct Block {
  Stmt **stmt;
  int n;
} Block;

typedef enum StmtKind { S_assign, S_for, S_if, S_return } StmtKind;
typedef struct Name {
  const char *name;
  Place at;
} Name;
struct Stmt {
  StmtKind kind;
  Place at;
  Name *name; /* S_assign: targets; S_for: the variable */
  int n_name;
  Expr *a, *b; /* the value; the condition; what is looped over, b: the end of a range */
  Block then, otherwise;
};

typedef struct FnDecl {
  const char *name;
  Place at;
  Formal *formal;
  int n_formal;
  TypeExpr *result; /* or NULL */
  Expr *expr;       /* or NULL: */
  Block body;
} FnDecl;

typedef struct Member Member;
typedef struct Members {
  Member **member;
  int n;
} Members;

typedef enum MemberKind { M_param, M_const, M_state, M_value, M_fn, M_if } MemberKind;
typedef enum Decay { DECAY_by_rank, DECAY_yes, DECAY_no } Decay;
struct Member {
  MemberKind kind;
  const char *name; /* NULL: M_if */
  Place at;
  bool frozen, has_dims;
  Decay decay;
  Expr **dim;
  int n_dim;
  Expr *value; /* initialiser, value, condition */
  FnDecl *fn;
  Members then, otherwise;
};

typedef struct Entry { /* of config or train */
  const char *name;
  Place at;
  Expr *value;
} Entry;

typedef enum DeclKind {
  D_import,
  D_config,
  D_train,
  D_fn,
  D_module,
  D_model,
  D_optimizer,
  D_schedule
} DeclKind;
typedef struct Decl {
  DeclKind kind;
  const char *name; /* D_import: the name it is used by */
  Place at;
  const char *path; /* D_import: the file's path, or the name of one of stdlib */
  Place path_at;
  bool beside; /* D_import: it is a path, relative to the importing file */
  FnDecl *fn;
  Formal *formal;
  int n_formal;
  Members members;
  Entry *entry;
  int n_entry;
} Decl;

typedef struct File {
  const Source *src;
  Decl **decl;
  int n_decl;
} File;

const char *decl_word(DeclKind); /* "module" */

/* ---- parse.c ---- */
/* NULL where the source has syntax errors. */
File *parse_file(Arena *, Diag *, const Source *);
Expr *parse_expression(Arena *, Diag *, const Source *, uint32_t from); /* from that byte on */

/* ---- ast.c ---- */
void ast_print(Buf *, const File *);
void expr_print(Buf *, const Expr *); /* as it may be written */

#endif
