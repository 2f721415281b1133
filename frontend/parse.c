/* parse: runs lexer and grammar over one source. */
#include "frontend/build_internal.h"
#include "frontend/parser.h"

#include <utf8proc.h>

/* Everything after this may rely on whole UTF-8 sequences and on the absence of NUL. */
static bool check_bytes(Diag *diag, const Source *src) {
  for (uint32_t i = 0; i < src->bytes;) {
    utf8proc_int32_t c;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)src->text + i,
                                          (utf8proc_ssize_t)(src->bytes - i), &c);
    if (n <= 0 || c == 0) {
      Place at = {src, i, i + 1, i};
      diag_error(diag, at,
                 c == 0 && n > 0 ? "the file holds a NUL byte" : "the file is not UTF-8 text");
      return false;
    }
    i += (uint32_t)n;
  }
  return true;
}

static bool parse(Parse *p, int start) {
  int errors = p->diag->n_error;
  if (!check_bytes(p->diag, p->src)) return false;
  p->start = start;
  if (p->pos == 0 && p->src->bytes >= 3 && (unsigned char)p->src->text[0] == 0xEF &&
      (unsigned char)p->src->text[1] == 0xBB)
    p->pos = 3; /* a byte order mark */
  lex_open(p);
  int failed = yyparse(p);
  lex_close(p);
  return !failed && p->diag->n_error == errors;
}

File *parse_file(Arena *arena, Diag *diag, const Source *src) {
  Parse *p = arena_alloc(arena, sizeof *p);
  *p = (Parse){.arena = arena, .diag = diag, .src = src};
  return parse(p, T_FILE) ? p->file : NULL;
}

Expr *parse_expression(Arena *arena, Diag *diag, const Source *src, uint32_t from) {
  Parse *p = arena_alloc(arena, sizeof *p);
  *p = (Parse){.arena = arena, .diag = diag, .src = src, .pos = from};
  return parse(p, T_EXPR) ? p->expr : NULL;
}
