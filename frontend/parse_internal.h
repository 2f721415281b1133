/* What lexer.l, tokens.c and parser.y share. */
#ifndef FRONTEND_PARSE_INTERNAL_H
#define FRONTEND_PARSE_INTERNAL_H

#include "frontend/ast.h"

typedef struct Span {
  uint32_t begin, end;
} Span;

enum { LEX_MAX_NESTING = 1000 };

typedef struct Token {
  int kind;
  Span at;
  union {
    const char *name;
    int64_t i;
    double f;
  } value;
  bool newline_before;
} Token;

typedef struct Parse {
  Arena *arena;
  Diag *diag;
  const Source *src;
  void *scanner;
  uint32_t pos; /* of the raw scanner */
  int start; /* the first token given to the parser, which chooses the grammar; 0 when it has been
                given */
  int previous;   /* kind of the last token given; 0: none */
  Token ahead[2]; /* read from the scanner, not given yet */
  int n_ahead;
  char open[LEX_MAX_NESTING]; /* brackets that are open */
  int n_open;
  int open_before; /* n_open before the last token given */
  bool skip; /* after a syntax error: to the end of the statement, at this depth of brackets: */
  int skip_depth;
  bool stop;  /* brackets are nested too deeply: give the end */
  File *file; /* results */
  Expr *expr;
} Parse;

Place parse_place(const Parse *, Span);

/* lexer.l: the next token as written (newlines included), with no context. */
void lex_open(Parse *);
void lex_close(Parse *);
Token lex_raw(Parse *);

/* tokens.c: the next token as the grammar sees it. */
Token lex_token(Parse *);
void lex_skip_statement(Parse *); /* after a syntax error at the last token given */

#endif
