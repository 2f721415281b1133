/* einsum: "bthd,bshd->bhts" over any number of operands, as NumPy's. Two operands at a time:
 * letters that only one of them has and nothing later needs are summed away; the rest becomes one
 * batched matrix product [batch…, left…, sum…] · [batch…, sum…, right…] or, where no letter is
 * summed, an elementwise product. `...` stands for leading dimensions, which broadcast. A letter
 * twice in one operand takes its diagonal. */
#include "frontend/elab_internal.h"

#include <string.h>

/* Letters are small numbers: a–z, A–Z, then the dimensions of `...`, the last one first. */
enum { DOTS = 52, LETTERS = DOTS + IR_MAX_RANK, MAX_OPERANDS = 32 };

typedef struct Term { /* a tensor with a letter for each dimension */
  Node *node;
  int rank;
  int letter[IR_MAX_RANK + 1];
} Term;

typedef struct Sum {
  Elab *e;
  Call *c;
  int64_t size[LETTERS]; /* 0: not met */
  Term term[MAX_OPERANDS], out;
  int n_term;
} Sum;

static int number_of_letter(char c) {
  if (c >= 'a' && c <= 'z') return c - 'a';
  if (c >= 'A' && c <= 'Z') return c - 'A' + 26;
  return -1;
}

static char letter_text(int letter) {
  return letter >= DOTS ? '.' : (char)(letter < 26 ? 'a' + letter : 'A' + letter - 26);
}

static int find(const Term *t, int letter) {
  for (int i = 0; i < t->rank; i++)
    if (t->letter[i] == letter) return i;
  return -1;
}

static bool bad(Sum *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
static bool bad(Sum *s, const char *fmt, ...) {
  char text[200];
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, sizeof text, fmt, args);
  va_end(args);
  fail(s->e, s->c->expr[0]->at, "einsum: %s", text);
  return false;
}

/* ---- the equation ---- */

/* The letters up to `,`, `-` or the end, of an operand or of the result; `dots`: how many
 * dimensions `...` stands for. */
static bool read_term(Sum *s, const char **text, Term *t, int dots) {
  bool seen_dots = false;
  for (; **text && **text != ',' && **text != '-'; (*text)++) {
    if (**text == ' ') continue;
    if (strncmp(*text, "...", 3) == 0) {
      if (seen_dots) return bad(s, "`...` twice in one %s", t == &s->out ? "result" : "operand");
      seen_dots = true;
      *text += 2;
      for (int i = dots - 1; i >= 0; i--) {
        if (t->rank >= IR_MAX_RANK) return bad(s, "more than %d dimensions", IR_MAX_RANK);
        t->letter[t->rank++] = DOTS + i;
      }
      continue;
    }
    int letter = number_of_letter(**text);
    if (letter < 0) return bad(s, "expected letters, `,`, `->` and `...`, found `%.4s`", *text);
    if (t == &s->out && find(t, letter) >= 0)
      return bad(s, "the letter `%c` twice in the result", **text);
    if (t->rank >= IR_MAX_RANK) return bad(s, "more than %d dimensions", IR_MAX_RANK);
    t->letter[t->rank++] = letter;
  }
  return true;
}

static int count_letters(const char *text, bool *dots) {
  int n = 0;
  *dots = false;
  for (; *text && *text != ',' && *text != '-'; text++) {
    n += number_of_letter(*text) >= 0;
    *dots = *dots || *text == '.';
  }
  return n;
}

static bool bind_sizes(Sum *s, const Term *t, const Expr *x) {
  for (int i = 0; i < t->rank; i++) {
    int64_t *size = &s->size[t->letter[i]], d = t->node->type.dim[i];
    if (*size == 0 || (t->letter[i] >= DOTS && *size == 1)) *size = d;
    if (*size == d || (t->letter[i] >= DOTS && d == 1)) continue;
    if (t->letter[i] >= DOTS)
      return bad(s, "the dimensions of `...` do not broadcast: %lld and %lld", (long long)*size,
                 (long long)d);
    if (report(s->e, s->c->expr[0]->at, "einsum: `%c` is %lld in one place and %lld in another",
               letter_text(t->letter[i]), (long long)*size, (long long)d)) {
      for (int k = 0; k < s->c->n_rest; k++)
        note_value(s->e, s->c->rest[k].expr ? s->c->rest[k].expr : x, s->c->rest[k].value);
      note_calls(s->e);
    }
    return false;
  }
  return true;
}

static bool read_operands(Sum *s, const char **text) {
  DType d = DT_f16;
  for (int i = 0; i < s->c->n_rest; i++)
    d =
      i == 0 ? (DType)s->term[0].node->type.dtype : promote(d, (DType)s->term[i].node->type.dtype);
  for (int i = 0; i < s->n_term; i++) {
    Term *t = &s->term[i];
    bool dots;
    int letters = count_letters(*text, &dots), rank = t->node->type.rank;
    if (dots ? letters > rank : letters != rank)
      return bad(s, "operand %d has %d dimensions, but the equation gives it %d letters", i + 1,
                 rank, letters);
    t->node = ir_cast(s->e->g, t->node, d);
    if (!read_term(s, text, t, rank - letters) || !bind_sizes(s, t, s->c->whole)) return false;
    if (i + 1 == s->n_term)
      return **text != ',' ? true
                           : bad(s, "more operands in the equation than given (%d)", s->n_term);
    if (**text != ',') return bad(s, "fewer operands in the equation than given (%d)", s->n_term);
    (*text)++;
  }
  return true;
}

/* Without `->`: the dimensions of `...`, then the letters that occur once, in the alphabet's
 * order. */
static bool implied_result(Sum *s) {
  for (int k = IR_MAX_RANK - 1; k >= 0; k--)
    if (s->size[DOTS + k]) s->out.letter[s->out.rank++] = DOTS + k;
  for (int i = 0; i < DOTS; i++) {
    int letter = (i + 26) % 52, n = 0; /* capitals first, as in NumPy */
    for (int t = 0; t < s->n_term; t++)
      for (int k = 0; k < s->term[t].rank; k++) n += s->term[t].letter[k] == letter;
    if (n != 1) continue;
    if (s->out.rank >= IR_MAX_RANK) return bad(s, "more than %d dimensions", IR_MAX_RANK);
    s->out.letter[s->out.rank++] = letter;
  }
  return true;
}

static bool read_result(Sum *s, const char *text) {
  if (!*text) return implied_result(s);
  if (strncmp(text, "->", 2) != 0) return bad(s, "expected `->`, found `%.4s`", text);
  text += 2;
  int dots = 0;
  for (int k = 0; k < IR_MAX_RANK; k++) dots += s->size[DOTS + k] != 0;
  if (!read_term(s, &text, &s->out, dots)) return false;
  if (*text) return bad(s, "unexpected `%.4s` after the result", text);
  for (int i = 0; i < s->out.rank; i++)
    if (!s->size[s->out.letter[i]])
      return bad(s, "`%c` is in the result but in no operand", letter_text(s->out.letter[i]));
  return true;
}

/* ---- products ---- */

/* x[…i…i…] as x[…i…]: what is off the diagonal is replaced by 0, and summed away. */
static void take_diagonals(Sum *s, Term *t) {
  Graph *g = s->e->g;
  for (int j = 1; j < t->rank;) {
    int i = find(t, t->letter[j]);
    if (i == j) {
      j++;
      continue;
    }
    Type place = t->node->type;
    place.dtype = DT_i32;
    Node *on = ir_eq(g, ir_iota(g, i, &place), ir_iota(g, j, &place));
    Node *x = ir_where(g, on, t->node, ir_const(g, 0, &t->node->type));
    t->node = ir_squeeze(g, ir_reduce(g, OP_reduce_sum, x, 1, &j), 1, &j);
    t->rank--;
    memmove(t->letter + j, t->letter + j + 1, sizeof *t->letter * (size_t)(t->rank - j));
  }
}

static bool needed(const Sum *s, int letter, int from) {
  if (find(&s->out, letter) >= 0) return true;
  for (int i = from; i < s->n_term; i++)
    if (find(&s->term[i], letter) >= 0) return true;
  return false;
}

static void reorder(Sum *s, Term *t, int n, const int *letter) {
  int perm[IR_MAX_RANK];
  for (int i = 0; i < n; i++) perm[i] = find(t, letter[i]);
  t->node = ir_permute(s->e->g, t->node, perm);
  memcpy(t->letter, letter, sizeof *letter * (size_t)n);
}

/* Sums away the letters that neither `other` nor anything from `from` on has. */
static void drop_unneeded(Sum *s, Term *t, const Term *other, int from) {
  int axis[IR_MAX_RANK], n = 0, kept = 0;
  for (int i = 0; i < t->rank; i++) {
    int letter = t->letter[i];
    if (needed(s, letter, from) || (other && find(other, letter) >= 0))
      t->letter[kept++] = letter;
    else
      axis[n++] = i;
  }
  t->rank = kept;
  t->node = ir_squeeze(s->e->g, ir_reduce(s->e->g, OP_reduce_sum, t->node, n, axis), n, axis);
}

/* `...` of length 1 in one operand is repeated to the other's. */
static bool widen_dots(Sum *s, Term *t, const Term *other) {
  int64_t dim[IR_MAX_RANK];
  for (int i = 0; i < t->rank; i++) {
    int o = find(other, t->letter[i]);
    dim[i] = o >= 0 && t->node->type.dim[i] == 1 ? other->node->type.dim[o] : t->node->type.dim[i];
  }
  if (!shape_fits(s->e, s->c->whole->at, t->rank, dim)) return false;
  t->node = ir_expand(s->e->g, t->node, t->rank, dim);
  return true;
}

typedef struct Groups {
  int batch[2 * IR_MAX_RANK], left[IR_MAX_RANK], right[IR_MAX_RANK], sum[IR_MAX_RANK];
  int n_batch, n_left, n_right, n_sum;
} Groups;

static Groups group(const Sum *s, const Term *a, const Term *b, int from) {
  Groups g = {0};
  for (int i = 0; i < a->rank; i++) {
    int letter = a->letter[i];
    if (find(b, letter) < 0)
      g.left[g.n_left++] = letter;
    else if (needed(s, letter, from))
      g.batch[g.n_batch++] = letter;
    else
      g.sum[g.n_sum++] = letter;
  }
  for (int i = 0; i < b->rank; i++)
    if (find(a, b->letter[i]) < 0) g.right[g.n_right++] = b->letter[i];
  return g;
}

static int64_t product(const Term *t, int n, const int *letter) {
  int64_t p = 1;
  for (int i = 0; i < n; i++) p *= t->node->type.dim[find(t, letter[i])];
  return p;
}

/* The term as [batch…, one, two], with several letters in one dimension each. */
static Node *as_matrix(Sum *s, Term *t, const Groups *g, int n1, const int *one, int n2,
                       const int *two) {
  int order[IR_MAX_RANK], n = 0;
  int64_t dim[IR_MAX_RANK + 2], rows = product(t, n1, one), columns = product(t, n2, two);
  for (int i = 0; i < g->n_batch; i++)
    dim[n] = t->node->type.dim[find(t, g->batch[i])], order[n++] = g->batch[i];
  for (int i = 0; i < n1; i++) order[n++] = one[i];
  for (int i = 0; i < n2; i++) order[n++] = two[i];
  dim[g->n_batch] = rows;
  dim[g->n_batch + 1] = columns;
  if (!shape_fits(s->e, s->c->whole->at, g->n_batch + 2, dim)) return NULL;
  reorder(s, t, n, order);
  return ir_reshape(s->e->g, t->node, g->n_batch + 2, dim);
}

/* a and b into a: letters batch…, left…, right…. */
static bool multiply(Sum *s, Term *a, Term *b, int from) {
  Graph *graph = s->e->g;
  drop_unneeded(s, a, b, from);
  drop_unneeded(s, b, a, from);
  if (!widen_dots(s, a, b) || !widen_dots(s, b, a)) return false;
  Groups g = group(s, a, b, from);
  Term r = {0};
  int64_t dim[2 * IR_MAX_RANK];
  if (g.n_batch + g.n_left + g.n_right > IR_MAX_RANK)
    return bad(s, "a product of more than %d dimensions", IR_MAX_RANK);
  for (int i = 0; i < g.n_batch; i++) r.letter[r.rank++] = g.batch[i];
  for (int i = 0; i < g.n_left; i++) r.letter[r.rank++] = g.left[i];
  for (int i = 0; i < g.n_right; i++) r.letter[r.rank++] = g.right[i];
  for (int i = 0; i < r.rank; i++) {
    int p = find(a, r.letter[i]);
    dim[i] = p >= 0 ? a->node->type.dim[p] : b->node->type.dim[find(b, r.letter[i])];
  }
  if (!shape_fits(s->e, s->c->whole->at, r.rank, dim)) return false;
  if (g.n_sum == 0) { /* elementwise: each with 1 where the other has a letter */
    int64_t left[IR_MAX_RANK], right[IR_MAX_RANK];
    for (int i = 0; i < r.rank; i++) {
      left[i] = find(a, r.letter[i]) >= 0 ? dim[i] : 1;
      right[i] = find(b, r.letter[i]) >= 0 ? dim[i] : 1;
    }
    int order[IR_MAX_RANK], n = g.n_batch;
    memcpy(order, g.batch, sizeof *order * (size_t)n);
    memcpy(order + n, g.left, sizeof *order * (size_t)g.n_left);
    reorder(s, a, n + g.n_left, order);
    memcpy(order + n, g.right, sizeof *order * (size_t)g.n_right);
    reorder(s, b, n + g.n_right, order);
    Node *x = ir_expand(graph, ir_reshape(graph, a->node, r.rank, left), r.rank, dim);
    Node *y = ir_expand(graph, ir_reshape(graph, b->node, r.rank, right), r.rank, dim);
    r.node = ir_mul(graph, x, y);
  } else {
    Node *x = as_matrix(s, a, &g, g.n_left, g.left, g.n_sum, g.sum);
    Node *y = as_matrix(s, b, &g, g.n_sum, g.sum, g.n_right, g.right);
    if (!x || !y) return false;
    r.node = ir_reshape(graph, ir_matmul(graph, x, y), r.rank, dim);
  }
  *a = r;
  return elab_room(s->e, s->c->whole->at);
}

Value do_einsum(Elab *e, Call *c) {
  Sum *s = arena_alloc(e->arena, sizeof *s);
  s->e = e;
  s->c = c;
  if (c->value[0].kind != V_string)
    return fail(e, c->expr[0]->at,
                "the equation of einsum is a string like \"ij,jk->ik\", found %s",
                describe(e, c->value[0]));
  if (c->n_rest < 1 || c->n_rest > MAX_OPERANDS)
    return fail(e, c->whole->at, "einsum takes 1 to %d operands, found %d", MAX_OPERANDS,
                c->n_rest);
  s->n_term = c->n_rest;
  for (int i = 0; i < c->n_rest; i++) {
    Value v = c->rest[i].value;
    const Expr *x = c->rest[i].expr ? c->rest[i].expr : c->whole;
    if (!is_tensor(v) || !dtype_is_float(tensor_type(v).dtype))
      return fail(e, x->at, "einsum takes floating-point tensors, found %s", describe(e, v));
    if (!(s->term[i].node = to_node(e, v))) return v_error;
  }
  at(e, c->whole);
  const char *text = c->value[0].s;
  if (!read_operands(s, &text) || !read_result(s, text)) return v_error;
  for (int i = 0; i < s->n_term; i++) take_diagonals(s, &s->term[i]);
  Term *all = &s->term[0];
  drop_unneeded(s, all, s->n_term > 1 ? &s->term[1] : NULL, 1);
  for (int i = 1; i < s->n_term; i++)
    if (!multiply(s, all, &s->term[i], i + 1)) return v_error;
  for (int i = 0; i < s->out.rank; i++)
    if (find(all, s->out.letter[i]) < 0)
      die("einsum %s: a letter of the result was lost", c->value[0].s);
  drop_unneeded(s, all, NULL, s->n_term);
  reorder(s, all, s->out.rank, s->out.letter);
  return v_node(all->node);
}
