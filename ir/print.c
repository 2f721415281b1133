/* The graph as text. docs/ir.md has the grammar; parse.c reads it. All nodes are printed, by id, so
 * that the text is the graph: parsing it gives the same ids, and print → parse → print is a
 * fixpoint. */
#include "ir/ir.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void print_string(Buf *b, const char *s) {
  buf_str(b, "\"");
  for (; *s; s++) {
    unsigned char c = (unsigned char)*s;
    if (c == '"' || c == '\\')
      buf_printf(b, "\\%c", c);
    else if (c == '\n')
      buf_str(b, "\\n");
    else if (c == '\t')
      buf_str(b, "\\t");
    else if (c < 0x20 || c == 0x7f)
      buf_printf(b, "\\x%02x", c);
    else
      buf_put(b, s, 1);
  }
  buf_str(b, "\"");
}

/* The shortest decimal that reads back as the same value of the type. */
static void print_value(Buf *b, DType d, double v) {
  if (isnan(v)) {
    buf_str(b, "nan");
    return;
  }
  char text[40];
  for (int digits = dtype_is_float(d) ? 1 : 17; digits <= 17; digits++) {
    snprintf(text, sizeof text, "%.*g", digits, v);
    if (dtype_round(d, strtod(text, NULL)) == v) break;
  }
  buf_str(b, text);
}

static void print_ints(Buf *b, const char *key, const Node *n) {
  buf_printf(b, " %s=", key);
  for (int i = 0; i < n->n_int; i++) buf_printf(b, "%s%lld", i ? "," : "", (long long)n->ints[i]);
}

static void print_pairs(Buf *b, const char *key, const Node *n) {
  buf_printf(b, " %s=", key);
  for (int i = 0; i < n->n_int / 2; i++)
    buf_printf(b, "%s%lld:%lld", i ? "," : "", (long long)n->ints[i],
               (long long)n->ints[n->n_int / 2 + i]);
}

/* scale=0.125 band=..0 shift=256 cap=30 empty=nan: what is as usual is left out, except the scale */
static void print_attention(Buf *b, const Node *n) {
  AttentionAttr a = ir_attention(n);
  buf_str(b, " scale=");
  print_value(b, DT_f32, a.scale);
  if (a.lo > -IR_UNBOUNDED || a.hi < IR_UNBOUNDED) buf_str(b, " band=");
  if (a.lo > -IR_UNBOUNDED) buf_printf(b, "%lld", (long long)a.lo);
  if (a.lo > -IR_UNBOUNDED || a.hi < IR_UNBOUNDED) buf_str(b, "..");
  if (a.hi < IR_UNBOUNDED) buf_printf(b, "%lld", (long long)a.hi);
  if (a.shift) buf_printf(b, " shift=%lld", (long long)a.shift);
  if (a.cap > 0) {
    buf_str(b, " cap=");
    print_value(b, DT_f32, a.cap);
  }
  if (a.empty_nan) buf_str(b, " empty=nan");
}

static void print_attr(Buf *b, const Node *n) {
  switch (ir_op[n->op].attr) {
  case ATTR_none: break;
  case ATTR_value:
    buf_str(b, " ");
    print_value(b, (DType)n->type.dtype, n->value);
    break;
  case ATTR_name:
    buf_str(b, " ");
    print_string(b, n->name ? n->name : "");
    break;
  case ATTR_axes: print_ints(b, "axes", n); break;
  case ATTR_axis: print_ints(b, "axis", n); break;
  case ATTR_scan:
    buf_printf(b, " axis=%lld%s", (long long)n->ints[0], n->ints[1] ? " reverse" : "");
    break;
  case ATTR_perm: print_ints(b, "perm", n); break;
  case ATTR_range: print_pairs(b, "range", n); break;
  case ATTR_padding:
    print_pairs(b, "padding", n);
    buf_str(b, " fill=");
    print_value(b, (DType)n->type.dtype, n->value);
    break;
  case ATTR_place: print_ints(b, "place", n); break;
  case ATTR_attention: print_attention(b, n); break;
  case ATTR_norm:
    print_ints(b, "axes", n);
    buf_str(b, " eps=");
    print_value(b, (DType)n->type.dtype, n->value);
    break;
  case ATTR_spans: print_ints(b, "spans", n); break;
  case ATTR_layout: buf_str(b, n->ints[0] ? " interleaved" : " halves"); break;
  }
}

static void print_loc(Buf *b, SrcLoc loc) {
  bool bare = loc.file[0] != 0;
  for (const char *s = loc.file; *s && bare; s++)
    bare = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
           strchr("_./-+", *s);
  buf_str(b, "@");
  if (bare)
    buf_str(b, loc.file);
  else
    print_string(b, loc.file);
  buf_printf(b, ":%d:%d", loc.line, loc.col);
}

void ir_print_node(Buf *b, const Node *n) {
  buf_printf(b, "%%%d = %s ", n->id, ir_op[n->op].name);
  type_print(b, &n->type);
  for (int i = 0; i < n->n_src; i++) buf_printf(b, " %%%d", n->src[i]->id);
  print_attr(b, n);
  if (n->region) buf_printf(b, " region=%d", n->region);
  if (n->label || n->loc.file) buf_str(b, " ");
  if (n->label) {
    buf_str(b, " ");
    print_string(b, n->label);
  }
  if (n->loc.file) {
    buf_str(b, " ");
    print_loc(b, n->loc);
  }
}

void ir_print(Buf *b, const Graph *g) {
  buf_str(b, "graph ");
  print_string(b, g->name);
  buf_str(b, " {\n");
  for (int i = 0; i < g->n_node; i++) {
    buf_str(b, "  ");
    ir_print_node(b, g->node[i]);
    buf_str(b, "\n");
  }
  for (int i = 0; i < g->n_output; i++) {
    buf_str(b, g->output[i].kind == OUT_update ? "  update " : "  output ");
    print_string(b, g->output[i].name);
    buf_printf(b, " %%%d\n", g->output[i].node->id);
  }
  buf_str(b, "}\n");
}
