/* From a job to its kernel: one row per family. */
#include "codegen/kernel.h"

const Target target_portable = {.name = "portable",
                                .shared_bytes = 16 << 10,
                                .max_invocations = 128,
                                .chunk_bytes = (uint64_t)1 << 31};

static const struct Family {
  const char *name;
  void (*emit)(Kernel *);
} map = {"map", emit_map}, reduce = {"reduce", emit_reduce}, scan = {"scan", emit_scan},
  flat_sum = {"sum", emit_flat_sum}, matmul = {"matmul", emit_matmul},
  matmul_spans = {"matmul", emit_matmul_spans}, scatter = {"scatter", emit_scatter_add},
  attention = {"attention", emit_attention};

static const struct Family *family(const KernelJob *job) {
  if (job->copy) return &map;
  if (flat_is_sum(job)) return &flat_sum;
  Node *root = job->anchor ? job->anchor : job->out[0];
  switch (root->op) {
  case OP_reduce_sum:
  case OP_reduce_prod:
  case OP_reduce_max:
  case OP_reduce_min:
  case OP_argmax: return &reduce;
  case OP_cumsum: return &scan;
  case OP_matmul: return &matmul;
  case OP_matmul_spans: return &matmul_spans;
  case OP_scatter_add: return &scatter;
  case OP_attention:
  case OP_attention_lse:
  case OP_attention_dq:
  case OP_attention_dk:
  case OP_attention_dv: return &attention;
  case OP_param:
  case OP_state:
  case OP_input:
  case OP_fold:
    die("codegen: %%%d %s is stored before any kernel runs", root->id, ir_op[root->op].name);
  default: return &map;
  }
}

void cg_emit(Arena *arena, const KernelJob *job, const Target *target, KernelCode *out) {
  Arena *scratch = arena_new();
  const struct Family *f = family(job);
  Kernel k;
  kernel_begin(&k, arena, scratch, job, target, out);
  f->emit(&k);
  kernel_end(&k, f->name);
  arena_free(scratch);
}
