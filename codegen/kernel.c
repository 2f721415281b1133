/* One kernel under construction: push constants, operands, loops. */
#include "codegen/kernel.h"

#include <stdlib.h>
#include <string.h>

/* ---- operands ---- */

typedef struct Walk {
  const KernelJob *job;
  Node **found;
  int n, max;
  bool *seen; /* by node id */
} Walk;

bool cg_is_out(const KernelJob *job, const Node *n) {
  for (int i = 0; i < job->n_out; i++)
    if (job->out[i] == n) return !job->copy;
  return false;
}

static void visit(Walk *w, Node *n) {
  if (w->seen[n->id]) return;
  w->seen[n->id] = true;
  if (w->job->stored[n->id] && !cg_is_out(w->job, n)) {
    if (w->n < w->max) w->found[w->n] = n;
    w->n++;
    return;
  }
  for (int i = 0; i < n->n_src; i++) visit(w, n->src[i]);
}

int cg_operands(const KernelJob *job, Node **operand, int max) {
  size_t n = (size_t)job->out[job->n_out - 1]->id + 1;
  Walk w = {.job = job, .found = operand, .max = max, .seen = xcalloc(n, 1)};
  for (int i = 0; i < job->n_out; i++) visit(&w, job->out[i]);
  free(w.seen);
  return w.n;
}

static void count_uses(const KernelJob *job, const Node *n, uint8_t *uses) {
  if (uses[n->id] < UINT8_MAX) uses[n->id]++;
  if (uses[n->id] > 1 || (job->stored[n->id] && !cg_is_out(job, n))) return;
  for (int i = 0; i < n->n_src; i++) count_uses(job, n->src[i], uses);
}

/* ---- begin and end ---- */

/* A column of the argument table at this kernel's instance. */
static SpvId from_table(Kernel *k, uint32_t column, SpvId type) {
  Spv *b = k->b;
  SpvId index = spv_u(b, column);
  index = spv_bin(b, SpvOpIMul, index, k->table.instances);
  index = spv_bin(b, SpvOpIAdd, index, k->table.instance);
  SpvId buffer = spv_bitcast(b, spv_buffer(b, type, 8), k->table.buffer);
  SpvId at = spv_element(b, buffer, type, index);
  return spv_load_pure(b, type, at, 8);
}

SpvId kernel_slot(Kernel *k, int slot) {
  return k->job->tabled ? from_table(k, 1 + (uint32_t)slot, k->slot_type[slot])
                        : k->slot_value[slot];
}

static SpvId new_slot(Kernel *k, KernelSlot slot, SpvId type) {
  int most = CG_MAX_SLOTS;
  if (k->n_slot == most)
    die("codegen: a kernel for %s needs more than %d slots", ir_op[k->job->out[0]->op].name, most);
  k->out->slot[k->n_slot] = slot;
  k->slot_type[k->n_slot] = type;
  if (!k->job->tabled) k->slot_value[k->n_slot] = spv_push(k->b, type);
  return kernel_slot(k, k->n_slot++);
}

/* The instance whose workgroups this one is among: the last that begins no later. Each round looks at seven instances
 * `stride` apart at once, since what each such look takes is the wait for memory, and the stride is an eighth of the
 * round's before. */
static void find_instance(Kernel *k) {
  enum { WAYS = 8, BITS = 3 };
  Spv *b = k->b;
  SpvId pair = spv_vec(b, spv_u32(b), 2);
  k->table.buffer = spv_push(b, spv_buffer(b, pair, 8));
  SpvId size = spv_push(b, pair);
  SpvId n = k->table.instances = spv_extract(b, size, 0);
  SpvId rounds = spv_extract(b, size, 1), up = spv_u(b, BITS - 1), bits = spv_u(b, BITS);
  rounds = spv_bin(b, SpvOpIAdd, rounds, up);
  rounds = spv_bin(b, SpvOpUDiv, rounds, bits);
  SpvId group = kernel_group(k), zero = spv_u(b, 0), one = spv_u(b, 1);
  SpvId last = spv_bin(b, SpvOpISub, n, one);
  SpvId found = spv_local(b, spv_u32(b));
  spv_set(b, found, zero);
  SpvId i = spv_for(b, rounds);
  SpvId shift = spv_bin(b, SpvOpISub, rounds, one);
  shift = spv_bin(b, SpvOpISub, shift, i);
  shift = spv_bin(b, SpvOpIMul, shift, bits);
  SpvId from = spv_get(b, found), to = from;
  for (uint32_t way = 1; way < WAYS; way++) {
    SpvId step = spv_bin(b, SpvOpShiftLeftLogical, spv_u(b, way), shift);
    SpvId probe = spv_bin(b, SpvOpIAdd, from, step);
    SpvId there = spv_cmp(b, SpvOpULessThanEqual, probe, last);
    SpvId at = spv_select(b, there, probe, last);
    SpvId first = spv_load_pure(b, pair, spv_element(b, k->table.buffer, pair, at), 8);
    first = spv_extract(b, first, 0);
    SpvId begun = spv_cmp(b, SpvOpULessThanEqual, first, group);
    begun = spv_bin(b, SpvOpLogicalAnd, begun, there);
    to = spv_select(b, begun, probe, to);
  }
  spv_set(b, found, to);
  spv_end(b);
  k->table.instance = spv_get(b, found);
  SpvId begin = from_table(k, 0, pair);
  begin = spv_extract(b, begin, 0);
  k->table.group = spv_bin(b, SpvOpISub, group, begin);
}

void kernel_begin(Kernel *k, Arena *arena, Arena *scratch, const KernelJob *job,
                  const Target *target, KernelCode *out) {
  *k = (Kernel){.arena = arena,
                .scratch = scratch,
                .b = spv_new(scratch),
                .job = job,
                .target = target,
                .out = out};
  *out = (KernelCode){.local = {1, 1, 1}, .groups = {1, 1, 1}};
  k->ix = ix_table(scratch, k->b);
  k->operand = arena_alloc(scratch, CG_MAX_SLOTS * sizeof *k->operand);
  k->n_operand = cg_operands(job, k->operand, CG_MAX_SLOTS);
  k->uses = arena_alloc(scratch, (size_t)job->out[job->n_out - 1]->id + 1);
  for (int i = 0; i < job->n_out; i++) count_uses(job, job->out[i], k->uses);
  if (k->n_operand + job->n_out > CG_MAX_SLOTS - 1)
    die("codegen: a kernel for %s reads %d operands", ir_op[job->out[0]->op].name, k->n_operand);
  if (job->tabled) find_instance(k);
  for (int i = 0; i < job->n_out; i++) {
    SpvId type = kernel_pushed(k, (DType)job->out[i]->type.dtype);
    k->result[i] = new_slot(k, (KernelSlot){.kind = SLOT_result, .node = job->out[i]}, type);
  }
  for (int i = 0; i < k->n_operand; i++) {
    SpvId type = kernel_pushed(k, (DType)k->operand[i]->type.dtype);
    k->pointer[i] = new_slot(k, (KernelSlot){.kind = SLOT_operand, .node = k->operand[i]}, type);
  }
}

void kernel_end(Kernel *k, const char *family) {
  KernelCode *out = k->out;
  const KernelJob *job = k->job;
  const Node *last = job->out[job->n_out - 1];
  Buf name = {0};
  buf_printf(&name, "%s.%s ", family, job->copy ? "copy" : ir_op[last->op].name);
  type_print(&name, &last->type);
  out->family = family;
  out->name = arena_str(k->arena, name.data, name.len);
  buf_free(&name);
  out->n_slot = k->n_slot;
  uint32_t *word = spv_finish(k->b, out->local, &out->n_word);
  out->word = arena_copy(k->arena, word, (size_t)out->n_word * sizeof *word);
  kernel_cost(k);
}

SpvId kernel_raw(Kernel *k, uint32_t low, uint32_t high) {
  SpvId type = spv_vec(k->b, spv_u32(k->b), 2);
  return new_slot(k, (KernelSlot){.kind = SLOT_raw, .raw = (uint64_t)high << 32 | low}, type);
}

/* ---- where this invocation is ---- */

void cg_groups(int64_t groups, uint32_t out[3]) {
  enum { MAX = 65535, ROW = 32768 };
  out[0] = groups <= MAX ? (uint32_t)groups : ROW;
  out[1] = groups <= MAX ? 1 : (uint32_t)((groups + ROW - 1) / ROW);
  out[2] = 1;
}

void kernel_groups(Kernel *k, int64_t groups, uint32_t local) {
  k->out->local[0] = local;
  cg_groups(groups, k->out->groups);
}

static SpvId uvec3(Kernel *k) { return spv_vec(k->b, spv_u32(k->b), 3); }

SpvId kernel_group(Kernel *k) {
  Spv *b = k->b;
  if (k->table.group) return k->table.group;
  SpvId type = uvec3(k);
  SpvId group = spv_builtin(b, SpvBuiltInWorkgroupId, type);
  SpvId size = spv_builtin(b, SpvBuiltInNumWorkgroups, type);
  SpvId x = spv_extract(b, group, 0);
  SpvId y = spv_extract(b, group, 1);
  SpvId row = spv_extract(b, size, 0);
  y = spv_bin(b, SpvOpIMul, y, row);
  return spv_bin(b, SpvOpIAdd, y, x);
}

SpvId kernel_lane(Kernel *k, int axis) {
  SpvId type = uvec3(k);
  SpvId lane = spv_builtin(k->b, SpvBuiltInLocalInvocationId, type);
  return spv_extract(k->b, lane, (uint32_t)axis);
}

/* ---- loops ---- */

void kernel_repeat(Kernel *k, SpvId n, int64_t bound, int64_t times, LoopBody *body,
                   void *context) {
  enum { MOST = 24000, MAX_UNROLL = 256 };
  Spv *b = k->b;
  int64_t unroll = 1;
  while (bound * times / unroll > MOST && unroll < MAX_UNROLL) unroll *= 2;
  if (unroll == 1) {
    SpvId i = spv_for(b, n);
    body(context, i);
    spv_end(b);
    return;
  }
  SpvId by = spv_u(b, (uint32_t)unroll);
  SpvId rounds = spv_bin(b, SpvOpUDiv, n, by);
  SpvId i = spv_for(b, rounds);
  i = spv_bin(b, SpvOpIMul, i, by);
  for (int64_t u = 0; u < unroll; u++) {
    SpvId step = spv_u(b, (uint32_t)u);
    SpvId here = spv_bin(b, SpvOpIAdd, i, step);
    body(context, here);
  }
  spv_end(b);
  SpvId done = spv_bin(b, SpvOpIMul, rounds, by);
  SpvId rest = spv_bin(b, SpvOpISub, n, done);
  i = spv_for(b, rest);
  i = spv_bin(b, SpvOpIAdd, done, i);
  body(context, i);
  spv_end(b);
}
