/* Kernels of equal structure are emitted once. A job's key is all of it that its kernel depends on:
 * the graph from the outs down to the operands, its nodes numbered as a walk meets them, and of
 * operands the type alone. Not in the key: ids, names, source places, and the numbers of random
 * calls, of which only the order matters, since they travel in slots. So the layers of a model give
 * one key, and its kernel's slots need only be told the nodes at hand. */
#include "codegen/plan.h"

#include <stdlib.h>
#include <string.h>

typedef struct Cached {
  uint64_t hash;
  const char *key;
  size_t key_bytes;
  KernelCode code;        /* its slots' nodes are another job's */
  int slot[CG_MAX_SLOTS]; /* number of the slot's node in the walk; −1: none */
} Cached;

struct KernelCache {
  Arena *arena;
  const Target *target;
  Cached *kernel;
  int n_kernel;
  /* of one walk */
  Buf key;
  int *number; /* by node id; 0: not met, else 1 + its number */
  int cap_number;
  Node **met; /* by number */
  int n_met, cap_met;
  int64_t place[CG_MAX_SLOTS]; /* of random calls, in the order of the walk */
  int n_place;
};

KernelCache *cg_cache(Arena *arena, const Target *target) {
  KernelCache *c = arena_alloc(arena, sizeof *c);
  c->arena = arena;
  c->target = target;
  return c;
}

void cg_cache_end(KernelCache *c) {
  buf_free(&c->key);
  free(c->number);
  free(c->met);
}

/* ---- the key ---- */

static void put(KernelCache *c, const void *value, size_t bytes) { buf_put(&c->key, value, bytes); }
static void put_int(KernelCache *c, int64_t value) { put(c, &value, sizeof value); }

static int place_number(KernelCache *c, int64_t place) {
  for (int i = 0; i < c->n_place; i++)
    if (c->place[i] == place) return i;
  if (c->n_place == CG_MAX_SLOTS)
    die("codegen: a kernel has more than %d random calls", c->n_place);
  c->place[c->n_place] = place;
  return c->n_place++;
}

static void put_node(KernelCache *c, const KernelJob *job, const Node *n) {
  bool out = cg_is_out(job, n), operand = job->stored[n->id] && !out;
  put_int(c, operand ? -1 : (int64_t)n->op);
  put_int(c, n->type.dtype << 16 | n->type.rank << 8 | out);
  put(c, n->type.dim, sizeof *n->type.dim * n->type.rank);
  if (operand) return;
  put(c, &n->value, sizeof n->value);
  put_int(c, n->n_src);
  put_int(c, n->n_int);
  if (ir_op[n->op].attr == ATTR_place)
    put_int(c, place_number(c, n->ints[0]));
  else
    put(c, n->ints, sizeof *n->ints * (size_t)n->n_int);
}

/* A node is described where it is first met, and named by its number afterwards. */
static void walk(KernelCache *c, const KernelJob *job, Node *n) {
  if (c->number[n->id]) {
    put_int(c, -1 - c->number[n->id]);
    return;
  }
  if (c->n_met == c->cap_met) {
    c->cap_met = c->cap_met ? 2 * c->cap_met : 64;
    c->met = xrealloc(c->met, sizeof *c->met * (size_t)c->cap_met);
  }
  c->met[c->n_met++] = n;
  c->number[n->id] = c->n_met;
  put_node(c, job, n);
  if (job->stored[n->id] && !cg_is_out(job, n)) return;
  for (int i = 0; i < n->n_src; i++) walk(c, job, n->src[i]);
}

static void reserve_numbers(KernelCache *c, int n) {
  if (n <= c->cap_number) return;
  c->number = xrealloc(c->number, sizeof *c->number * (size_t)n);
  memset(c->number + c->cap_number, 0, sizeof *c->number * (size_t)(n - c->cap_number));
  c->cap_number = n;
}

static void make_key(KernelCache *c, const KernelJob *job) {
  buf_clear(&c->key);
  c->n_met = c->n_place = 0;
  int last = job->out[job->n_out - 1]->id;
  reserve_numbers(c, (job->anchor && job->anchor->id > last ? job->anchor->id : last) + 1);
  put_int(c, job->copy | job->tabled << 1);
  put_int(c, job->beside);
  put_int(c, job->n_out);
  for (int i = 0; i < job->n_out; i++) walk(c, job, job->out[i]);
  put_int(c, job->runs != NULL);
  if (job->runs) put(c, job->runs, sizeof *job->runs * (size_t)job->n_out);
  if (job->anchor) walk(c, job, job->anchor);
}

/* ---- looking up ---- */

static int number_of(const KernelCache *c, const Node *n) {
  if (!n) return -1;
  int number = n->id < c->cap_number ? c->number[n->id] : 0;
  if (!number || c->met[number - 1] != n)
    die("codegen: slot of %%%d, which is no part of its kernel", n->id);
  return number - 1;
}

static const Cached *add(KernelCache *c, const KernelJob *job, uint64_t hash) {
  Cached k = {
    .hash = hash, .key = arena_copy(c->arena, c->key.data, c->key.len), .key_bytes = c->key.len};
  cg_emit(c->arena, job, c->target, &k.code);
  for (int i = 0; i < k.code.n_slot; i++) k.slot[i] = number_of(c, k.code.slot[i].node);
  ARENA_PUSH(c->arena, c->kernel, c->n_kernel, k);
  return &c->kernel[c->n_kernel - 1];
}

int cg_emit_once(KernelCache *c, const KernelJob *job, KernelCode *out) {
  make_key(c, job);
  uint64_t hash = hash_bytes(c->key.data, c->key.len, 0);
  const Cached *k = NULL;
  for (int i = 0; i < c->n_kernel && !k; i++)
    if (c->kernel[i].hash == hash && c->kernel[i].key_bytes == c->key.len &&
        memcmp(c->kernel[i].key, c->key.data, c->key.len) == 0)
      k = &c->kernel[i];
  if (!k) k = add(c, job, hash);
  *out = k->code;
  for (int i = 0; i < out->n_slot; i++) {
    KernelSlot *s = &out->slot[i];
    if (k->slot[i] < 0) continue;
    s->node = c->met[k->slot[i]];
    if (s->kind == SLOT_raw) s->raw = (uint32_t)s->node->ints[0];
  }
  for (int i = 0; i < c->n_met; i++) c->number[c->met[i]->id] = 0;
  return (int)(k - c->kernel);
}
