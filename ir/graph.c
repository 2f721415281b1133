/* The graph itself: hash-consing construction, outputs, copying what is needed. */
#include "ir/ir.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ANY -1
#define EW IR_EW
#define COMM IR_COMM
#define VIEW IR_VIEW
#define EFFECT IR_EFFECT
#define DIFF IR_DIFF
#define LEAF IR_LEAF
#define RAISED IR_RAISED
/* rules whose type cannot follow from the sources alone */
enum {
  given_given = 1,
  given_random = 1,
  given_cast = 1,
  given_reshape = 1,
  given_expand = 1,
  given_scatter = 1,
  given_same = 0,
  given_number = 0,
  given_float = 0,
  given_test = 0,
  given_logic = 0,
  given_compare = 0,
  given_where = 0,
  given_reduce = 0,
  given_arg = 0,
  given_cumsum = 0,
  given_matmul = 0,
  given_matmul_spans = 0,
  given_attention = 0,
  given_attention_lse = 0,
  given_attention_grad = 0,
  given_permute = 0,
  given_slice = 0,
  given_pad = 0,
  given_concat = 0,
  given_gather = 0,
  given_along = 0,
  given_norm = 0,
  given_loss = 0,
  given_rope = 0
};

const OpInfo ir_op[OP_COUNT] = {
#define OP(name, sources, rule, attribute, flags, meaning)                                         \
  [OP_##name] = {#name, sources, ATTR_##attribute, flags, given_##rule, meaning},
#include "ir/ops.def"
#undef OP
};

Op ir_op_by_name(const char *name) {
  for (int i = 0; i < OP_COUNT; i++)
    if (strcmp(ir_op[i].name, name) == 0) return (Op)i;
  return OP_COUNT;
}

typedef struct ConsSlot {
  uint64_t hash;
  Node *node; /* NULL: free */
} ConsSlot;

typedef struct ConsTable {
  ConsSlot *slot;
  size_t cap, used;
} ConsTable;

Graph *graph_new(const char *name) {
  Arena *arena = arena_new();
  Graph *g = arena_alloc(arena, sizeof *g);
  g->arena = arena;
  g->name = intern(name);
  g->cons = arena_alloc(arena, sizeof *g->cons);
  return g;
}

void graph_free(Graph *g) {
  if (!g) return;
  free(g->cons->slot);
  arena_free(g->arena);
}

static uint64_t node_hash(const Node *n) {
  uint64_t head[4 + IR_MAX_RANK] = {(uint64_t)n->op << 32 | (uint32_t)n->region,
                                    (uint64_t)n->type.dtype << 8 | n->type.rank,
                                    (uintptr_t)n->name};
  int at = 4;
  memcpy(&head[3], &n->value, sizeof n->value);
  for (int i = 0; i < n->type.rank; i++) head[at++] = (uint64_t)n->type.dim[i];
  uint64_t h = hash_bytes(head, sizeof *head * (size_t)at, 0);
  if (n->n_src) h = hash_bytes(n->src, sizeof *n->src * (size_t)n->n_src, h);
  return n->n_int ? hash_bytes(n->ints, sizeof *n->ints * (size_t)n->n_int, h) : h;
}

static bool node_eq(const Node *a, const Node *b) {
  return a->op == b->op && a->region == b->region && a->n_src == b->n_src && a->n_int == b->n_int &&
         a->name == b->name && memcmp(&a->value, &b->value, sizeof a->value) == 0 &&
         type_eq(&a->type, &b->type) &&
         (!a->n_src || memcmp(a->src, b->src, sizeof *a->src * (size_t)a->n_src) == 0) &&
         (!a->n_int || memcmp(a->ints, b->ints, sizeof *a->ints * (size_t)a->n_int) == 0);
}

static void cons_grow(ConsTable *t) {
  size_t old_cap = t->cap;
  ConsSlot *old = t->slot;
  t->cap = old_cap ? 2 * old_cap : 256;
  t->slot = xcalloc(t->cap, sizeof *t->slot);
  for (size_t i = 0; i < old_cap; i++) {
    if (!old[i].node) continue;
    size_t h = old[i].hash & (t->cap - 1);
    while (t->slot[h].node) h = (h + 1) & (t->cap - 1);
    t->slot[h] = old[i];
  }
  free(old);
}

/* The slot of the node equal to `n`, or the free slot where it belongs, with its hash. */
static ConsSlot *cons_slot(ConsTable *t, const Node *n) {
  if (2 * t->used >= t->cap) cons_grow(t);
  uint64_t hash = node_hash(n);
  size_t h = hash & (t->cap - 1);
  while (t->slot[h].node && !(t->slot[h].hash == hash && node_eq(t->slot[h].node, n)))
    h = (h + 1) & (t->cap - 1);
  t->slot[h].hash = hash;
  return &t->slot[h];
}

Node *ir_make(Graph *g, Op op, const Type *given, const Attr *attr, int n_src, Node *const *src) {
  static const Attr no_attr;
  if (!attr) attr = &no_attr;
  Node *ordered[2];
  if ((ir_op[op].flags & IR_COMM) && n_src == 2 && src[0]->id > src[1]->id) {
    ordered[0] = src[1], ordered[1] = src[0];
    src = ordered;
  }
  Type type;
  Buf why = {0};
  if (!ir_infer(op, given, attr, n_src, src, &type, &why))
    die("graph %s: %s: %s", g->name, ir_op[op].name, why.data);

  Node key = {.op = op,
              .type = type,
              .n_src = n_src,
              .n_int = attr->n_int,
              .src = (Node **)src,
              .ints = (int64_t *)attr->ints,
              .value = attr->value,
              .region = g->region,
              .name = attr->name ? intern(attr->name) : NULL};
  if (ir_op[op].flags & IR_LEAF) key.region = 0;
  if (isnan(key.value)) key.value = NAN; /* one NaN: sign and payload are no part of the meaning */
  ConsSlot *slot = cons_slot(g->cons, &key);
  if (slot->node) return slot->node;
  Node *n = arena_copy(g->arena, &key, sizeof key);
  n->src = arena_copy(g->arena, src, sizeof *src * (size_t)n_src);
  n->ints = arena_copy(g->arena, attr->ints, sizeof *attr->ints * (size_t)attr->n_int);
  n->loc = g->loc;
  n->id = g->n_node;
  ARENA_PUSH(g->arena, g->node, g->n_node, n);
  g->cons->used++;
  return slot->node = n;
}

Node *ir_rebuild(Graph *g, const Node *old, Node *const *src) {
  Attr attr = {.value = old->value, .name = old->name, .n_int = old->n_int};
  if (old->n_int) memcpy(attr.ints, old->ints, sizeof *old->ints * (size_t)old->n_int);
  int region = g->region;
  SrcLoc loc = g->loc;
  g->region = old->region;
  g->loc = old->loc;
  Node *n = ir_make(g, old->op, &old->type, &attr, old->n_src, src);
  if (!n->label) n->label = old->label;
  g->region = region;
  g->loc = loc;
  return n;
}

void ir_output(Graph *g, OutKind kind, const char *name, Node *node) {
  Output o = {kind, intern(name), node};
  ARENA_PUSH(g->arena, g->output, g->n_output, o);
}

const Output *ir_find_output(const Graph *g, const char *name) {
  for (int i = 0; i < g->n_output; i++)
    if (strcmp(g->output[i].name, name) == 0) return &g->output[i];
  return NULL;
}

Graph *graph_copy(const Graph *g) {
  Graph *to = graph_new(g->name);
  bool *needed = xcalloc((size_t)g->n_node + 1, 1);
  Node **map = xcalloc((size_t)g->n_node + 1, sizeof *map);
  for (int i = 0; i < g->n_output; i++) needed[g->output[i].node->id] = true;
  for (int i = g->n_node - 1; i >= 0; i--)
    for (int s = 0; needed[i] && s < g->node[i]->n_src; s++) needed[g->node[i]->src[s]->id] = true;
  for (int i = 0; i < g->n_node; i++) {
    if (!needed[i]) continue;
    Node *src[IR_MAX_SRC];
    for (int s = 0; s < g->node[i]->n_src; s++) src[s] = map[g->node[i]->src[s]->id];
    map[i] = ir_rebuild(to, g->node[i], src);
  }
  for (int i = 0; i < g->n_output; i++)
    ir_output(to, g->output[i].kind, g->output[i].name, map[g->output[i].node->id]);
  free(needed);
  free(map);
  return to;
}

enum { HEAD_WORDS = 10 };

static uint64_t hash_node(const Node *n, uint64_t seed) {
  int64_t word[HEAD_WORDS + IR_MAX_RANK + IR_MAX_SRC + 2 * IR_MAX_RANK] = {
    (int64_t)n->op,
    n->region,
    (int64_t)n->type.dtype << 8 | n->type.rank,
    n->n_src,
    n->n_int,
    0,
    (intptr_t)n->name,
    (intptr_t)n->label,
    (intptr_t)n->loc.file,
    (int64_t)n->loc.line << 32 | n->loc.col};
  int at = HEAD_WORDS;
  memcpy(&word[5], &n->value, sizeof n->value);
  for (int i = 0; i < n->type.rank; i++) word[at++] = n->type.dim[i];
  for (int i = 0; i < n->n_src; i++) word[at++] = n->src[i]->id;
  for (int i = 0; i < n->n_int; i++) word[at++] = n->ints[i];
  return hash_bytes(word, sizeof *word * (size_t)at, seed);
}

uint64_t graph_hash(const Graph *g) {
  uint64_t h = hash_bytes(&g->name, sizeof g->name, (uint64_t)g->n_node);
  for (int i = 0; i < g->n_node; i++) h = hash_node(g->node[i], h);
  for (int i = 0; i < g->n_output; i++) {
    const Output *o = &g->output[i];
    int64_t word[3] = {o->kind, (intptr_t)o->name, o->node->id};
    h = hash_bytes(word, sizeof word, h);
  }
  return h;
}
