/* tokens: what the grammar sees. Newlines become T_SEP where they end a statement, words become
 * keywords where they start a declaration, and after a syntax error the rest of the statement is
 * passed over. */
#include "frontend/parse_internal.h"
#include "frontend/parser.h"

#include <string.h>

Place parse_place(const Parse *p, Span at) { return (Place){p->src, at.begin, at.end, at.begin}; }

static Token take(Parse *p) {
  if (p->n_ahead == 0) return lex_raw(p);
  Token t = p->ahead[0];
  p->ahead[0] = p->ahead[1];
  p->n_ahead--;
  return t;
}

static const Token *peek(Parse *p) {
  if (p->n_ahead == 0) p->ahead[p->n_ahead++] = lex_raw(p);
  return &p->ahead[0];
}

/* After these a newline does not end the statement. */
static bool continues_after(int kind) {
  switch (kind) {
  case 0:
  case T_SEP:
  case T_LBRACE:
  case T_COMMA:
  case T_ASSIGN:
  case T_ARROW:
  case T_COLON:
  case T_QUESTION:
  case T_PLUS:
  case T_MINUS:
  case T_STAR:
  case T_SLASH:
  case T_PERCENT:
  case T_AT:
  case T_CARET:
  case T_EQ:
  case T_NE:
  case T_LT:
  case T_LE:
  case T_GT:
  case T_GE:
  case T_AND:
  case T_OR:
  case T_NOT:
  case T_DOT:
  case T_DOTS:
  case T_IN: return true;
  default: return false;
  }
}

static bool starts_statement(int previous) {
  return previous == 0 || previous == T_SEP || previous == T_LBRACE || previous == T_RBRACE ||
         previous == T_FILE;
}

static const struct {
  const char *text;
  int kind, next, or_next; /* a keyword where one of these tokens follows */
} contextual[] = {
  {"import", T_IMPORT, T_NAME, T_STRING}, {"module", T_MODULE, T_NAME, 0},
  {"model", T_MODEL, T_NAME, 0},          {"optimizer", T_OPTIMIZER, T_NAME, 0},
  {"schedule", T_SCHEDULE, T_NAME, 0},    {"param", T_PARAM, T_NAME, 0},
  {"frozen", T_FROZEN, T_NAME, 0},        {"const", T_CONST, T_NAME, 0},
  {"state", T_STATE, T_NAME, 0},          {"config", T_CONFIG, T_LBRACE, 0},
  {"train", T_TRAIN, T_LBRACE, 0},
};

static int keyword(Parse *p, const Token *t) {
  for (int i = 0; i < COUNT_OF(contextual); i++) {
    if (strcmp(t->value.name, contextual[i].text) != 0) continue;
    int next = peek(p)->kind;
    if (next == contextual[i].next || next == contextual[i].or_next) return contextual[i].kind;
  }
  return T_NAME;
}

static void open_bracket(Parse *p, const Token *t, char c) {
  if (p->n_open < LEX_MAX_NESTING) {
    p->open[p->n_open++] = c;
    return;
  }
  if (!p->stop)
    diag_error(p->diag, parse_place(p, t->at), "brackets are nested more than %d deep",
               LEX_MAX_NESTING);
  p->stop = true;
}

static bool in_parentheses(const Parse *p) { return p->n_open && p->open[p->n_open - 1] != '{'; }

/* A `}` closes what was left open inside its braces; `)` and `]` close each other: the grammar
 * tells them apart. */
static void track(Parse *p, const Token *t) {
  p->open_before = p->n_open;
  switch (t->kind) {
  case T_LPAREN: open_bracket(p, t, '('); break;
  case T_LBRACKET: open_bracket(p, t, '['); break;
  case T_LBRACE: open_bracket(p, t, '{'); break;
  case T_RPAREN:
  case T_RBRACKET:
    if (in_parentheses(p)) p->n_open--;
    break;
  case T_RBRACE:
    while (in_parentheses(p)) p->n_open--;
    if (p->n_open) p->n_open--;
    break;
  default: break;
  }
}

static Token next(Parse *p) {
  for (;;) {
    Token t = take(p);
    if (t.kind == T_SEMICOLON) t.kind = T_SEP;
    if (t.kind == T_NEWLINE) {
      if (in_parentheses(p) || continues_after(p->previous)) continue;
      const Token *after = peek(p);
      while (after->kind == T_NEWLINE) take(p), after = peek(p);
      if (after->kind == T_ELSE) continue;
      t.kind = T_SEP;
    }
    if (t.kind == T_NAME && !in_parentheses(p) && starts_statement(p->previous))
      t.kind = keyword(p, &t);
    track(p, &t);
    p->previous = t.kind;
    return t;
  }
}

Token lex_token(Parse *p) {
  if (p->start) {
    Token t = {.kind = p->start};
    p->start = 0;
    p->previous = t.kind == T_FILE ? 0 : T_LPAREN;
    return t;
  }
  Token t;
  do {
    t = next(p);
    if (p->stop) t.kind = T_END;
    if (t.kind == T_END) p->skip = false;
    if (p->skip && t.kind == T_SEP && p->n_open <= p->skip_depth) p->skip = false;
    if (p->skip && t.kind == T_RBRACE && p->n_open < p->skip_depth) p->skip = false;
  } while (p->skip);
  return t;
}

/* The parentheses of the broken statement are forgotten; braces that it opens are passed over
 * whole. */
void lex_skip_statement(Parse *p) {
  if (p->previous == T_SEP || p->previous == T_RBRACE || p->previous == T_END) return;
  int depth = p->open_before < p->n_open ? p->open_before : p->n_open, keep = depth;
  while (keep && p->open[keep - 1] != '{') keep--;
  memmove(p->open + keep, p->open + depth, (size_t)(p->n_open - depth));
  p->n_open -= depth - keep;
  p->skip_depth = keep;
  p->skip = true;
}
