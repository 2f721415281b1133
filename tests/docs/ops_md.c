/* docs/ops.md from the table of operations.
 *   ops_md            prints it
 *   ops_md FILE       says whether FILE is current; with ALPHAC_BLESS=1 rewrites it */
#include "ir/ir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ANY -1
static const char *const rule_name[OP_COUNT] = {
#define OP(name, sources, rule, attribute, flags, meaning) [OP_##name] = #rule,
#include "ir/ops.def"
#undef OP
};

/* What a rule of the table's column `rule` demands and gives. */
static const char *const rules[][2] = {
  {"given", "the type is part of the node"},
  {"same", "x: any → the type of x"},
  {"random", "rng: i32[4] → f32, the shape is part of the node"},
  {"number", "sources of one numeric type → that type"},
  {"float", "sources of one floating type → that type"},
  {"test", "x: floating → bool of its shape"},
  {"logic", "bool sources of one shape → bool"},
  {"compare", "sources of one type → bool of their shape"},
  {"where", "c: bool, y and z of one type, one shape → the type of y"},
  {"cast", "x: any → the given element type, same shape"},
  {"reduce", "x: numeric → the same, the axes with length 1"},
  {"arg", "x: numeric → i32, the axis with length 1"},
  {"cumsum", "x: numeric → the type of x"},
  {"matmul", "a: floating […, m, k], b: […, k, n] → […, m, n]"},
  {"matmul_spans", "a: floating [m, k], b: [k, n] → [slots, m, n]"},
  {"attention", "q: floating [b…, h, t, c], k: [b…, kv, s, c], v: [b…, kv, s, e], mask: bool "
                "[b…, h, t, s], keep: [b…, h, t, s] → [b…, h, t, e]"},
  {"attention_lse", "q, k, mask as of attention → f32 [b…, h, t, 1]"},
  {"attention_grad", "q, k, v, mask, keep as of attention, lse and delta: f32 [b…, h, t, 1], do: "
                     "[b…, h, t, e] → the type of q, k or v"},
  {"reshape", "x: any → the given shape with as many elements"},
  {"expand", "x: any → the given shape; lengths of 1 grow"},
  {"permute", "x: any → its dimensions in another order"},
  {"slice", "x: any → end − begin in each dimension"},
  {"pad", "x: any → lo + length + hi in each dimension"},
  {"concat", "sources of one element type, equal outside the axis → the sum of lengths on it"},
  {"gather", "table: any [n, r…], ids: i32 [i…] → [i…, r…]"},
  {"scatter", "ids: i32 [i…], x: numeric [i…, r…] → the given [n, r…]"},
  {"along", "x: floating → the type of x"},
  {"norm", "x: floating → the type of x"},
  {"loss", "logits: floating [n…, v], targets: i32 [n…] → [n…]"},
  {"rope", "x: floating […, c], cos and sin […, c/2] → the type of x"},
};

static const char *const attribute[] = {
  [ATTR_none] = "",
  [ATTR_value] = "`0.5`: the value",
  [ATTR_name] = "`\"h.0.w\"`: the name",
  [ATTR_axes] = "`axes=0,2`",
  [ATTR_axis] = "`axis=1`",
  [ATTR_scan] = "`axis=1`, `reverse`",
  [ATTR_perm] = "`perm=1,0`",
  [ATTR_range] = "`range=0:2,1:5`: begin:end",
  [ATTR_padding] = "`padding=1:0,0:2 fill=0`: lo:hi",
  [ATTR_place] = "`place=3`",
  [ATTR_attention] = "`scale=0.125 band=-7..0 shift=256 cap=30 empty=nan`: band, shift, cap and "
                     "empty where there are; a band's "
                     "end may be left out",
  [ATTR_norm] = "`axes=1 eps=1e-05`",
  [ATTR_spans] = "`spans=132,128,192,64`: spans, tile_m, tile_n, step",
  [ATTR_layout] = "`halves` or `interleaved`",
};

/* The table's sections, told by flags and sources. */
typedef struct Section {
  const char *title;
  unsigned flag; /* 0: none of the others */
  int n_src;     /* 0: any */
} Section;
static const Section sections[] = {
  {"Leaves", IR_LEAF, 0},
  {"Elementwise, one source", IR_EW, 1},
  {"Elementwise, two sources", IR_EW, 2},
  {"Elementwise, three sources", IR_EW, 3},
  {"Views", IR_VIEW, 0},
  {"Reductions, products, movement, indexing, and the rest", 0, 0},
  {"Raised", IR_RAISED, 0},
};

static bool in_section(const Section *s, const OpInfo *op) {
  if (s->flag == IR_RAISED || (op->flags & IR_RAISED)) return s->flag & op->flags & IR_RAISED;
  if (s->flag == 0) return !(op->flags & (IR_LEAF | IR_EW | IR_VIEW));
  return (op->flags & s->flag) && (s->n_src == 0 || s->n_src == op->n_src);
}

static const char *rule_text(Op op) {
  for (int i = 0; i < COUNT_OF(rules); i++)
    if (strcmp(rules[i][0], rule_name[op]) == 0) return rules[i][1];
  die("ops_md: the rule %s has no text", rule_name[op]);
}

static void print_flags(Buf *b, unsigned flags) {
  static const struct {
    unsigned flag;
    const char *word;
  } words[] = {
    {IR_COMM, "commutes"}, {IR_VIEW, "view"}, {IR_EFFECT, "effect"}, {IR_DIFF, "differentiable"}};
  const char *sep = "";
  for (int i = 0; i < COUNT_OF(words); i++)
    if (flags & words[i].flag) {
      buf_printf(b, "%s%s", sep, words[i].word);
      sep = ", ";
    }
}

static void print_doc(Buf *b) {
  buf_printf(
    b,
    "# Operations\n\n"
    "<!-- made from ir/ops.def by tests/docs/ops_md.c: `cmake --build build --target docs` -->\n\n"
    "The %d operations of the tensor graph, from the one table that defines them, `ir/ops.def`. "
    "[ir.md](ir.md) explains\n"
    "the graph and its text. Shapes of an elementwise operation's sources are equal: broadcasting "
    "is written out with\n"
    "`reshape` and `expand`. Numeric: i32, f16, bf16, f32; floating: f16, bf16, f32.\n",
    OP_COUNT);
  for (int s = 0; s < COUNT_OF(sections); s++) {
    buf_printf(b, "\n## %s\n\n| operation | meaning | types | written | |\n|---|---|---|---|---|\n",
               sections[s].title);
    for (int op = 0; op < OP_COUNT; op++) {
      if (!in_section(&sections[s], &ir_op[op])) continue;
      buf_printf(b, "| `%s` | ", ir_op[op].name);
      for (const char *m = ir_op[op].meaning; *m; m++) /* a bar would end the cell */
        if (*m == '|')
          buf_str(b, "\\|");
        else
          buf_put(b, m, 1);
      buf_printf(b, " | %s | %s | ", rule_text((Op)op), attribute[ir_op[op].attr]);
      print_flags(b, ir_op[op].flags);
      buf_str(b, " |\n");
    }
  }
}

static int check(const char *path, const Buf *doc) {
  Buf have = {0};
  if (getenv("ALPHAC_BLESS")) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(doc->data, 1, doc->len, f) != doc->len || fclose(f) != 0) {
      fprintf(stderr, "cannot write %s: %s\n", path, strerror(errno));
      return 1;
    }
  }
  bool same = buf_read_file(&have, path) && have.len == doc->len &&
              memcmp(have.data, doc->data, doc->len) == 0;
  if (!same)
    fprintf(stderr, "%s is not what ir/ops.def gives: cmake --build build --target docs\n", path);
  buf_free(&have);
  return same ? 0 : 1;
}

int main(int argc, char **argv) {
  Buf doc = {0};
  print_doc(&doc);
  int status = argc > 1 ? check(argv[1], &doc) : fwrite(doc.data, 1, doc.len, stdout) != doc.len;
  buf_free(&doc);
  return status;
}
