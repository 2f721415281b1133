/* ast: the printer of --emit=ast: one parenthesised form a line, expressions as they may be
 * written. */
#include "frontend/ast.h"

#include <string.h>

const char *operator_text(Operator op) {
  static const char *const text[] = {
    "or", "and", "not", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "@", "-", "^"};
  return text[op];
}

const char *decl_word(DeclKind kind) {
  static const char *const text[] = {"import", "config", "train",     "fn",
                                     "module", "model",  "optimizer", "schedule"};
  return text[kind];
}

/* ---- expressions ---- */

static void print_string(Buf *b, const char *s) {
  buf_str(b, "\"");
  for (; *s; s++) {
    if (*s == '"' || *s == '\\')
      buf_printf(b, "\\%c", *s);
    else if ((unsigned char)*s < 32)
      buf_printf(b, "\\%03o", (unsigned)*s);
    else
      buf_put(b, s, 1);
  }
  buf_str(b, "\"");
}

/* Every operation in parentheses, so that the tree shows. */
static void print_args(Buf *b, const Expr *e, const char *open, const char *close) {
  buf_str(b, open);
  for (int i = 0; i < e->n_arg; i++) {
    buf_str(b, i ? ", " : "");
    if (e->arg[i].name) buf_printf(b, "%s = ", e->arg[i].name);
    expr_print(b, e->arg[i].value);
  }
  buf_str(b, close);
}

static void print_optional(Buf *b, const char *before, const Expr *e) {
  if (!e) return;
  buf_str(b, before);
  expr_print(b, e);
}

static void print_float(Buf *b, double f) {
  char text[40];
  for (int digits = 1; digits <= 17; digits++) { /* the shortest that reads back as the same */
    snprintf(text, sizeof text, "%.*g", digits, f);
    double back;
    if (sscanf(text, "%lf", &back) == 1 && back == f) break;
  }
  buf_printf(b, "%s%s", text, strpbrk(text, ".en") ? "" : ".0");
}

static void print_operation(Buf *b, const Expr *e) {
  buf_str(b, "(");
  if (e->kind == E_unary) {
    buf_printf(b, "%s%s", operator_text(e->op), e->op == O_not ? " " : "");
    expr_print(b, e->a);
  } else if (e->kind == E_binary) {
    expr_print(b, e->a);
    buf_printf(b, " %s ", operator_text(e->op));
    expr_print(b, e->b);
  } else {
    expr_print(b, e->a);
    print_optional(b, " ? ", e->b);
    print_optional(b, " : ", e->c);
  }
  buf_str(b, ")");
}

void expr_print(Buf *b, const Expr *e) {
  switch (e->kind) {
  case E_int: buf_printf(b, "%lld", (long long)e->i); break;
  case E_float: print_float(b, e->f); break;
  case E_string: print_string(b, e->name); break;
  case E_bool: buf_str(b, e->i ? "true" : "false"); break;
  case E_none: buf_str(b, "none"); break;
  case E_name: buf_str(b, e->name); break;
  case E_list: print_args(b, e, "[", "]"); break;
  case E_each:
    buf_str(b, "[");
    expr_print(b, e->a);
    buf_printf(b, " for %s", e->name);
    print_optional(b, " in ", e->b);
    print_optional(b, "..", e->c);
    buf_str(b, "]");
    break;
  case E_unary:
  case E_binary:
  case E_choose: print_operation(b, e); break;
  case E_call:
    expr_print(b, e->a);
    print_args(b, e, "(", ")");
    break;
  case E_index:
    expr_print(b, e->a);
    print_args(b, e, "[", "]");
    break;
  case E_slice:
    print_optional(b, "", e->b);
    buf_str(b, ":");
    print_optional(b, "", e->c);
    break;
  case E_member:
    expr_print(b, e->a);
    buf_printf(b, ".%s", e->name);
    break;
  }
}

/* ---- statements, members, declarations ---- */

static void line(Buf *b, int indent) { buf_printf(b, "\n%*s", 2 * indent, ""); }

static void print_dims(Buf *b, Expr *const *dim, int n) {
  buf_str(b, "[");
  for (int i = 0; i < n; i++) print_optional(b, i ? ", " : "", dim[i]);
  buf_str(b, "]");
}

static void print_type(Buf *b, const TypeExpr *t) {
  static const char *const word[] = {"", "int", "bool", "number"};
  buf_str(b, word[t->word]);
  if (t->word != T_number) print_dims(b, t->dim, t->n_dim);
}

static void print_formals(Buf *b, const Formal *formal, int n) {
  buf_str(b, " (");
  for (int i = 0; i < n; i++) {
    buf_printf(b, "%s%s", i ? ", " : "", formal[i].name);
    if (formal[i].type) {
      buf_str(b, ": ");
      print_type(b, formal[i].type);
    }
    print_optional(b, " = ", formal[i].init);
  }
  buf_str(b, ")");
}

static void print_block(Buf *, const Block *, int indent);

static void print_stmt(Buf *b, const Stmt *s, int indent) {
  line(b, indent);
  switch (s->kind) {
  case S_assign:
    buf_str(b, "(let");
    for (int i = 0; i < s->n_name; i++) buf_printf(b, " %s", s->name[i].name);
    print_optional(b, " = ", s->a);
    break;
  case S_for:
    buf_printf(b, "(for %s", s->name[0].name);
    print_optional(b, " in ", s->a);
    print_optional(b, "..", s->b);
    print_block(b, &s->then, indent + 1);
    break;
  case S_if:
    print_optional(b, "(if ", s->a);
    print_block(b, &s->then, indent + 1);
    if (s->otherwise.n) {
      line(b, indent);
      buf_str(b, "else");
      print_block(b, &s->otherwise, indent + 1);
    }
    break;
  case S_return: print_optional(b, "(return ", s->a); break;
  }
  buf_str(b, ")");
}

static void print_block(Buf *b, const Block *block, int indent) {
  for (int i = 0; i < block->n; i++) print_stmt(b, block->stmt[i], indent);
}

static void print_fn(Buf *b, const FnDecl *fn, int indent) {
  buf_printf(b, "(fn %s", fn->name);
  print_formals(b, fn->formal, fn->n_formal);
  if (fn->result) {
    buf_str(b, " -> ");
    print_type(b, fn->result);
  }
  if (fn->expr)
    print_optional(b, " = ", fn->expr);
  else
    print_block(b, &fn->body, indent + 1);
  buf_str(b, ")");
}

static void print_members(Buf *, const Members *, int indent);

static void print_member(Buf *b, const Member *m, int indent) {
  static const char *const decay[] = {"", "decay ", "nodecay "};
  line(b, indent);
  switch (m->kind) {
  case M_param:
    buf_printf(b, "(%s %s%s", m->frozen ? "frozen" : "param", decay[m->decay], m->name);
    break;
  case M_const: buf_printf(b, "(const %s", m->name); break;
  case M_state: buf_printf(b, "(state %s", m->name); break;
  case M_value: buf_printf(b, "(member %s", m->name); break;
  case M_fn: print_fn(b, m->fn, indent); return;
  case M_if:
    print_optional(b, "(if ", m->value);
    print_members(b, &m->then, indent + 1);
    if (m->otherwise.n) {
      line(b, indent);
      buf_str(b, "else");
      print_members(b, &m->otherwise, indent + 1);
    }
    buf_str(b, ")");
    return;
  }
  if (m->has_dims) print_dims(b, m->dim, m->n_dim);
  print_optional(b, " = ", m->value);
  buf_str(b, ")");
}

static void print_members(Buf *b, const Members *members, int indent) {
  for (int i = 0; i < members->n; i++) print_member(b, members->member[i], indent);
}

static void print_decl(Buf *b, const Decl *d) {
  switch (d->kind) {
  case D_import:
    buf_str(b, "(import ");
    if (d->beside)
      print_string(b, d->path);
    else
      buf_str(b, d->path);
    buf_printf(b, " as %s)", d->name);
    return;
  case D_config:
  case D_train:
    buf_printf(b, "(%s", decl_word(d->kind));
    for (int i = 0; i < d->n_entry; i++) {
      buf_printf(b, "\n  (%s = ", d->entry[i].name);
      expr_print(b, d->entry[i].value);
      buf_str(b, ")");
    }
    break;
  case D_fn: print_fn(b, d->fn, 0); return;
  default:
    buf_printf(b, "(%s %s", decl_word(d->kind), d->name);
    if (d->n_formal || d->kind != D_model) print_formals(b, d->formal, d->n_formal);
    print_members(b, &d->members, 1);
  }
  buf_str(b, ")");
}

void ast_print(Buf *b, const File *f) {
  for (int i = 0; i < f->n_decl; i++) {
    print_decl(b, f->decl[i]);
    buf_str(b, "\n");
  }
}
