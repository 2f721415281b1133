/* The grammar. Actions build the ast and nothing more; names are looked up when the program is elaborated. */
%require "3.8"
%define api.pure full
%define api.token.prefix {T_}
%define api.location.type {Span}
%define parse.error custom
%define parse.lac full
%locations
%expect 0
%param {Parse *p}

%code requires {
#include "frontend/build_internal.h"
#include <string.h>
}

%code {
static int yylex(YYSTYPE *value, Span *at, Parse *p) {
  Token t = lex_token(p);
  *at = t.at;
  switch (t.kind) {
  case T_INT: value->whole = t.value.i; break;
  case T_FLOAT: value->fraction = t.value.f; break;
  case T_NAME: case T_STRING: value->text = t.value.name; break;
  default: break;
  }
  return t.kind;
}

static void yyerror(const Span *at, Parse *p, const char *text) {
  (void)text; /* the only message that comes here: bison's stack is full */
  diag_error(p->diag, parse_place(p, *at), "the program is nested too deeply");
}

#define YYLLOC_DEFAULT(current, rhs, n) \
  do { \
    (current).begin = (n) ? YYRHSLOC(rhs, 1).begin : YYRHSLOC(rhs, 0).end; \
    (current).end = (n) ? YYRHSLOC(rhs, n).end : YYRHSLOC(rhs, 0).end; \
  } while (0)
}

%union {
  const char *text;
  int64_t whole;
  double fraction;
  Expr *expr;
  TypeExpr *type;
  Stmt *stmt;
  FnDecl *fn;
  Member *member;
  Decl *decl;
  Operator op;
  DeclKind kind;
  Args args;
  Exprs exprs;
  Formals formals;
  Names names;
  Block block;
  Members members;
  Decls decls;
  Entries entries;
  Arg arg;
  Formal formal;
  Entry entry;
}

/* given first by tokens.c: what is to be parsed */
%token FILE "a file" EXPR "an expression alone"
%token END 0 "the end of the file"
%token SEP "the end of the line"
%token NEWLINE SEMICOLON /* become SEP in tokens.c */
%token <text> NAME "a name" STRING "a string"
%token <whole> INT "a number"
%token <fraction> FLOAT "a fraction"
%token IF "`if`" ELSE "`else`" FOR "`for`" IN "`in`" RETURN "`return`" AND "`and`" OR "`or`" NOT "`not`"
%token TRUE "`true`" FALSE "`false`" NONE "`none`" FN "`fn`"
%token IMPORT "`import`" MODULE "`module`" MODEL "`model`" OPTIMIZER "`optimizer`" SCHEDULE "`schedule`"
%token PARAM "`param`" FROZEN "`frozen`" CONST "`const`" STATE "`state`" CONFIG "`config`" TRAIN "`train`"
%token ARROW "`->`" EQ "`==`" NE "`!=`" LE "`<=`" GE "`>=`" LT "`<`" GT "`>`" ASSIGN "`=`" DOTS "`..`"
%token PLUS "`+`" MINUS "`-`" STAR "`*`" SLASH "`/`" PERCENT "`%`" AT "`@`" CARET "`^`"
%token LPAREN "`(`" RPAREN "`)`" LBRACKET "`[`" RBRACKET "`]`" LBRACE "`{`" RBRACE "`}`"
%token COMMA "`,`" COLON "`:`" QUESTION "`?`" DOT "`.`"

%type <decls> decls decl_list
%type <decl> decl
%type <kind> class_word
%type <text> import_name
%type <entries> entries entry_list
%type <entry> entry
%type <formals> formals formal_list class_formals
%type <formal> formal
%type <type> result type
%type <fn> fn
%type <members> members member_list member_else
%type <member> member
%type <exprs> dims dim_list
%type <expr> expr choose or and not compare sum product unary power postfix atom
%type <op> comparison additive multiplicative
%type <args> args arg_list items item_list list
%type <arg> arg item
%type <block> block stmt_list stmt_else
%type <stmt> stmt
%type <names> targets

%%

start: FILE decls              { p->file = build_file(p, $2); }
     | EXPR expr opt_sep       { p->expr = $2; }
     ;

opt_sep: %empty | sep ;
sep: SEP | sep SEP ;

/* ---- declarations ---- */

decls: opt_sep                 { $$ = (Decls){0}; }
     | opt_sep decl_list opt_sep { $$ = $2; }
     ;

decl_list: decl                { $$ = (Decls){0}; add_decl(p, &$$, $1); }
         | decl_list sep decl  { $$ = $1; add_decl(p, &$$, $3); }
         ;

decl: IMPORT NAME import_name             { $$ = build_import(p, $3 ? $3 : $2, $3 ? @3 : @2, $2, @2, false); }
    | IMPORT STRING import_name           { $$ = build_import(p, $3, $3 ? @3 : @2, $2, @2, true); }
    | CONFIG LBRACE entries RBRACE        { $$ = build_entries(p, D_config, @1, $3); }
    | TRAIN LBRACE entries RBRACE         { $$ = build_entries(p, D_train, @1, $3); }
    | fn                                  { $$ = build_fn_decl(p, $1); }
    | class_word NAME class_formals LBRACE members RBRACE { $$ = build_class(p, $1, $2, @2, $3, $5); }
    | error                               { $$ = NULL; }
    ;

import_name: %empty            { $$ = NULL; }
           | NAME NAME         { $$ = build_as(p, $1, @1, $2); @$ = @2; }
           ;

class_word: MODULE             { $$ = D_module; }
          | MODEL              { $$ = D_model; }
          | OPTIMIZER          { $$ = D_optimizer; }
          | SCHEDULE           { $$ = D_schedule; }
          ;

class_formals: %empty          { $$ = (Formals){0}; }
             | LPAREN formals RPAREN { $$ = $2; }
             ;

entries: opt_sep               { $$ = (Entries){0}; }
       | opt_sep entry_list opt_sep { $$ = $2; }
       ;

entry_list: entry              { $$ = (Entries){0}; add_entry(p, &$$, $1); }
          | entry_list sep entry { $$ = $1; add_entry(p, &$$, $3); }
          ;

entry: NAME ASSIGN expr        { $$ = (Entry){$1, parse_place(p, @1), $3}; }
     | error                   { $$ = (Entry){0}; }
     ;

fn: FN NAME LPAREN formals RPAREN result ASSIGN expr  { $$ = build_fn(p, $2, @2, $4, $6, $8, (Block){0}); }
  | FN NAME LPAREN formals RPAREN result block        { $$ = build_fn(p, $2, @2, $4, $6, NULL, $7); }
  ;

formals: %empty                { $$ = (Formals){0}; }
       | formal_list
       | formal_list COMMA
       ;

formal_list: formal                    { $$ = (Formals){0}; add_formal(p, &$$, $1); }
           | formal_list COMMA formal  { $$ = $1; add_formal(p, &$$, $3); }
           ;

formal: NAME                           { $$ = (Formal){$1, parse_place(p, @1), NULL, NULL}; }
      | NAME ASSIGN expr               { $$ = (Formal){$1, parse_place(p, @1), NULL, $3}; }
      | NAME COLON type                { $$ = (Formal){$1, parse_place(p, @1), $3, NULL}; }
      | NAME COLON type ASSIGN expr    { $$ = (Formal){$1, parse_place(p, @1), $3, $5}; }
      ;

result: %empty                 { $$ = NULL; }
      | ARROW type             { $$ = $2; }
      ;

type: LBRACKET dims RBRACKET        { $$ = build_type(p, @$, NULL, @1, &$2); }
    | NAME LBRACKET dims RBRACKET   { $$ = build_type(p, @$, $1, @1, &$3); }
    | NAME                          { $$ = build_type(p, @$, $1, @1, NULL); }
    ;

dims: %empty                   { $$ = (Exprs){0}; }
    | dim_list
    | dim_list COMMA
    ;

dim_list: expr                 { $$ = (Exprs){0}; add_expr(p, &$$, $1); }
        | dim_list COMMA expr  { $$ = $1; add_expr(p, &$$, $3); }
        ;

/* ---- members ---- */

members: opt_sep               { $$ = (Members){0}; }
       | opt_sep member_list opt_sep { $$ = $2; }
       ;

member_list: member                    { $$ = (Members){0}; add_member(p, &$$, $1); }
           | member_list sep member    { $$ = $1; add_member(p, &$$, $3); }
           ;

member: PARAM NAME ASSIGN expr                           { $$ = build_param(p, @1, false, NULL, @2, $2, @2, NULL, $4); }
      | PARAM NAME LBRACKET dims RBRACKET ASSIGN expr    { $$ = build_param(p, @1, false, NULL, @2, $2, @2, &$4, $7); }
      | PARAM NAME NAME LBRACKET dims RBRACKET ASSIGN expr { $$ = build_param(p, @1, false, $2, @2, $3, @3, &$5, $8); }
      | FROZEN NAME ASSIGN expr                          { $$ = build_param(p, @1, true, NULL, @2, $2, @2, NULL, $4); }
      | FROZEN NAME LBRACKET dims RBRACKET ASSIGN expr   { $$ = build_param(p, @1, true, NULL, @2, $2, @2, &$4, $7); }
      | CONST NAME LBRACKET dims RBRACKET ASSIGN expr    { $$ = build_tensor(p, M_const, $2, @2, &$4, $7); }
      | STATE NAME ASSIGN expr                           { $$ = build_tensor(p, M_state, $2, @2, NULL, $4); }
      | STATE NAME LBRACKET dims RBRACKET ASSIGN expr    { $$ = build_tensor(p, M_state, $2, @2, &$4, $7); }
      | NAME ASSIGN expr                                 { $$ = build_member(p, M_value, $1, @1, $3); }
      | fn                                               { $$ = build_fn_member(p, $1); }
      | IF expr LBRACE members RBRACE member_else        { $$ = build_member_if(p, @1, $2, $4, $6); }
      | error                                            { $$ = NULL; }
      ;

member_else: %empty                                      { $$ = (Members){0}; }
           | ELSE LBRACE members RBRACE                  { $$ = $3; }
           | ELSE IF expr LBRACE members RBRACE member_else
                                        { $$ = (Members){0}; add_member(p, &$$, build_member_if(p, @2, $3, $5, $7)); }
           ;

/* ---- statements ---- */

block: LBRACE opt_sep RBRACE                   { $$ = (Block){0}; }
     | LBRACE opt_sep stmt_list opt_sep RBRACE { $$ = $3; }
     ;

stmt_list: stmt                        { $$ = (Block){0}; add_stmt(p, &$$, $1); }
         | stmt_list sep stmt          { $$ = $1; add_stmt(p, &$$, $3); }
         ;

stmt: targets ASSIGN expr              { $$ = build_assign(p, @1, $1, $3); }
    | RETURN expr                      { $$ = build_return(p, @1, $2); }
    | FOR NAME IN expr block           { $$ = build_for(p, @1, $2, @2, $4, NULL, $5); }
    | FOR NAME IN expr DOTS expr block { $$ = build_for(p, @1, $2, @2, $4, $6, $7); }
    | IF expr block stmt_else          { $$ = build_if(p, @1, $2, $3, $4); }
    | expr                             { $$ = build_unused(p, $1); }
    | error                            { $$ = NULL; }
    ;

stmt_else: %empty                      { $$ = (Block){0}; }
         | ELSE block                  { $$ = $2; }
         | ELSE IF expr block stmt_else { $$ = (Block){0}; add_stmt(p, &$$, build_if(p, @2, $3, $4, $5)); }
         ;

targets: NAME                          { $$ = (Names){0}; add_name(p, &$$, $1, @1); }
       | targets COMMA NAME            { $$ = $1; add_name(p, &$$, $3, @3); }
       ;

/* ---- expressions, from the loosest to the tightest ---- */

expr: choose ;

choose: or
      | or QUESTION expr COLON choose  { $$ = build_expr(p, E_choose, @$, @2, $1, $3, $5); }
      ;

or: and
  | or OR and                          { $$ = build_binary(p, O_or, @$, @2, $1, $3); }
  ;

and: not
   | and AND not                       { $$ = build_binary(p, O_and, @$, @2, $1, $3); }
   ;

not: compare
   | NOT not                           { $$ = build_unary(p, O_not, @$, $2); }
   ;

compare: sum
       | compare comparison sum        { $$ = build_compare(p, $2, @$, @2, $1, $3); }
       ;

comparison: EQ { $$ = O_eq; } | NE { $$ = O_ne; } | LT { $$ = O_lt; } | LE { $$ = O_le; } | GT { $$ = O_gt; }
          | GE { $$ = O_ge; } ;

sum: product
   | sum additive product              { $$ = build_binary(p, $2, @$, @2, $1, $3); }
   ;

additive: PLUS { $$ = O_add; } | MINUS { $$ = O_sub; } ;

product: unary
       | product multiplicative unary  { $$ = build_binary(p, $2, @$, @2, $1, $3); }
       ;

multiplicative: STAR { $$ = O_mul; } | SLASH { $$ = O_div; } | PERCENT { $$ = O_mod; } | AT { $$ = O_matmul; } ;

unary: power
     | MINUS unary                     { $$ = build_unary(p, O_neg, @$, $2); }
     ;

power: postfix
     | postfix CARET unary             { $$ = build_binary(p, O_pow, @$, @2, $1, $3); }
     ;

postfix: atom
       | postfix LPAREN args RPAREN      { $$ = build_call(p, E_call, @$, @1, $1, $3); }
       | postfix LBRACKET items RBRACKET { $$ = build_call(p, E_index, @$, @2, $1, $3); }
       | postfix DOT NAME                { $$ = build_name(p, E_member, @$, @3, $1, $3); }
       ;

atom: INT                      { $$ = build_expr(p, E_int, @$, @1, NULL, NULL, NULL); $$->i = $1; $$->f = (double)$1; }
    | FLOAT                    { $$ = build_expr(p, E_float, @$, @1, NULL, NULL, NULL); $$->f = $1; }
    | STRING                   { $$ = build_name(p, E_string, @$, @1, NULL, $1); }
    | TRUE                     { $$ = build_expr(p, E_bool, @$, @1, NULL, NULL, NULL); $$->i = 1; }
    | FALSE                    { $$ = build_expr(p, E_bool, @$, @1, NULL, NULL, NULL); }
    | NONE                     { $$ = build_expr(p, E_none, @$, @1, NULL, NULL, NULL); }
    | NAME                     { $$ = build_name(p, E_name, @$, @1, NULL, $1); }
    | LPAREN expr RPAREN       { $$ = build_paren(p, @$, $2); }
    | LBRACKET list RBRACKET   { $$ = build_call(p, E_list, @$, @1, NULL, $2); }
    | LBRACKET expr FOR NAME IN expr RBRACKET           { $$ = build_each(p, @$, $2, $4, $6, NULL); }
    | LBRACKET expr FOR NAME IN expr DOTS expr RBRACKET { $$ = build_each(p, @$, $2, $4, $6, $8); }
    ;

list: %empty                   { $$ = (Args){0}; }
    | arg_list
    | arg_list COMMA
    ;

args: list ;

arg_list: arg                  { $$ = (Args){0}; add_arg(p, &$$, $1); }
        | arg_list COMMA arg   { $$ = $1; add_arg(p, &$$, $3); }
        ;

arg: expr                      { $$ = (Arg){NULL, parse_place(p, @1), $1}; }
   | NAME ASSIGN expr          { $$ = (Arg){$1, parse_place(p, @1), $3}; }
   ;

items: item_list
     | item_list COMMA
     ;

item_list: item                { $$ = (Args){0}; add_arg(p, &$$, $1); }
         | item_list COMMA item { $$ = $1; add_arg(p, &$$, $3); }
         ;

item: expr                     { $$ = (Arg){NULL, parse_place(p, @1), $1}; }
    | COLON                    { $$ = slice_arg(p, @$, NULL, NULL); }
    | expr COLON               { $$ = slice_arg(p, @$, $1, NULL); }
    | COLON expr               { $$ = slice_arg(p, @$, NULL, $2); }
    | expr COLON expr          { $$ = slice_arg(p, @$, $1, $3); }
    ;

%%

/* ---- syntax errors: what stands there and what may stand there ---- */

static bool among(const yysymbol_kind_t *set, int n, yysymbol_kind_t kind) {
  for (int i = 0; i < n; i++)
    if (set[i] == kind) return true;
  return false;
}

static int without(yysymbol_kind_t *set, int n, const yysymbol_kind_t *drop, int n_drop) {
  int kept = 0;
  for (int i = 0; i < n; i++)
    if (!among(drop, n_drop, set[i])) set[kept++] = set[i];
  return kept;
}

static void found_text(Buf *out, Parse *p, yysymbol_kind_t kind, Span at) {
  if (kind == YYSYMBOL_NAME || kind == YYSYMBOL_INT || kind == YYSYMBOL_FLOAT)
    buf_printf(out, "`%.*s`", (int)(at.end - at.begin > 40 ? 40 : at.end - at.begin), p->src->text + at.begin);
  else
    buf_str(out, yysymbol_name(kind));
}

/* A misspelt keyword: the name found instead of one, or, where two names stand side by side, the first (`parm bias[d]`). */
static const char *meant(const yysymbol_kind_t *set, int n, Parse *p, Span at) {
  static const char *const words[] = {"import", "module", "model", "optimizer", "schedule", "param", "frozen", "const", "state"};
  const char *text = p->src->text, *keyword[YYNTOKENS];
  int n_keyword = 0;
  for (int i = 0; i < n; i++)
    if (set[i] >= YYSYMBOL_IF && set[i] <= YYSYMBOL_TRAIN) { /* `if` without its quotes */
      const char *name = yysymbol_name(set[i]);
      keyword[n_keyword++] = intern_n(name + 1, strlen(name) - 2);
    }
  const char *found = suggest(intern_n(text + at.begin, at.end - at.begin), keyword, n_keyword);
  if (found) return found;
  uint32_t end = at.begin;
  while (end > 0 && text[end - 1] == ' ') end--;
  uint32_t begin = end;
  while (begin > 0 && (text[begin - 1] | 32) >= 'a' && (text[begin - 1] | 32) <= 'z') begin--;
  return end == at.begin || begin == end ? NULL : suggest(intern_n(text + begin, end - begin), words, COUNT_OF(words));
}

static int yyreport_syntax_error(const yypcontext_t *ctx, Parse *p) {
  static const yysymbol_kind_t atoms[] = {YYSYMBOL_NAME, YYSYMBOL_STRING, YYSYMBOL_INT, YYSYMBOL_FLOAT, YYSYMBOL_TRUE,
    YYSYMBOL_FALSE, YYSYMBOL_NONE, YYSYMBOL_LPAREN, YYSYMBOL_LBRACKET, YYSYMBOL_MINUS, YYSYMBOL_NOT};
  static const yysymbol_kind_t operators[] = {YYSYMBOL_PLUS, YYSYMBOL_MINUS, YYSYMBOL_STAR, YYSYMBOL_SLASH,
    YYSYMBOL_PERCENT, YYSYMBOL_AT, YYSYMBOL_CARET, YYSYMBOL_EQ, YYSYMBOL_NE, YYSYMBOL_LT, YYSYMBOL_LE, YYSYMBOL_GT,
    YYSYMBOL_GE, YYSYMBOL_AND, YYSYMBOL_OR, YYSYMBOL_QUESTION, YYSYMBOL_DOT, YYSYMBOL_LPAREN, YYSYMBOL_LBRACKET};
  static const yysymbol_kind_t declarations[] = {YYSYMBOL_IMPORT, YYSYMBOL_CONFIG, YYSYMBOL_TRAIN, YYSYMBOL_MODULE,
    YYSYMBOL_MODEL, YYSYMBOL_OPTIMIZER, YYSYMBOL_SCHEDULE, YYSYMBOL_FN};
  static const yysymbol_kind_t members[] = {YYSYMBOL_PARAM, YYSYMBOL_FROZEN, YYSYMBOL_CONST, YYSYMBOL_STATE, YYSYMBOL_NAME,
    YYSYMBOL_FN, YYSYMBOL_IF};
  static const yysymbol_kind_t statements[] = {YYSYMBOL_RETURN, YYSYMBOL_FOR, YYSYMBOL_IF};
  if (p->stop) return 0; /* told by tokens.c */
  yysymbol_kind_t set[YYNTOKENS];
  int n = yypcontext_expected_tokens(ctx, set, YYNTOKENS);
  Span at = *yypcontext_location(ctx);
  yysymbol_kind_t found = yypcontext_token(ctx);
  const char *word = found == YYSYMBOL_NAME ? meant(set, n, p, at) : NULL;
  const char *expected[8];
  int n_expected = 0;

  if (among(set, n, YYSYMBOL_MODULE)) {
    expected[n_expected++] = "a declaration";
    n = without(set, n, declarations, COUNT_OF(declarations));
  }
  if (among(set, n, YYSYMBOL_PARAM)) {
    expected[n_expected++] = "a member";
    n = without(set, n, members, COUNT_OF(members));
  }
  if (among(set, n, YYSYMBOL_RETURN)) {
    expected[n_expected++] = "a statement";
    n = without(set, n, statements, COUNT_OF(statements));
    n = without(set, n, atoms, COUNT_OF(atoms));
  }
  if (among(set, n, YYSYMBOL_INT) && among(set, n, YYSYMBOL_LPAREN)) {
    expected[n_expected++] = "an expression";
    n = without(set, n, atoms, COUNT_OF(atoms));
  }
  bool operator = among(set, n, YYSYMBOL_PLUS);
  if (operator) n = without(set, n, operators, COUNT_OF(operators));
  bool ends = n_expected == 0 && among(set, n, YYSYMBOL_SEP);
  n = without(set, n, (yysymbol_kind_t[]){YYSYMBOL_SEP}, ends ? 0 : 1);
  for (int i = 0; i < n && n_expected < 5; i++)
    if (set[i] != YYSYMBOL_YYEOF || n == 1) expected[n_expected++] = yysymbol_name(set[i]);
  if (operator) expected[n_expected++] = "an operator";

  Buf text = {0};
  for (int i = 0; i < n_expected; i++)
    buf_printf(&text, "%s%s", i == 0 ? "expected " : i + 1 == n_expected ? " or " : ", ", expected[i]);
  buf_str(&text, n_expected ? ", found " : "unexpected ");
  found_text(&text, p, found, at);
  if (word) buf_printf(&text, "; did you mean `%s`?", word);
  if (at.end == at.begin && at.begin < p->src->bytes) at.end++;
  diag_error(p->diag, parse_place(p, at), "%s", text.data);
  buf_free(&text);
  lex_skip_statement(p);
  return 0;
}
