/* What a kernel costs at least, for people who read profiles: `flops`, its arithmetic, each elementwise operation one and each
 * term of a sum one; `bytes`, what it must read and write when everything that it asks is read once. A gather asks the rows that
 * it names, a slice its part. Products and attention count their own flops where they are emitted. */
#include "codegen/kernel.h"

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Of a node of which `asked` elements are computed. */
static double arithmetic(const Node *n, int64_t asked) {
  switch (n->op) {
  case OP_cast:
  case OP_stop_gradient: return 0;
  case OP_reduce_sum:
  case OP_reduce_prod:
  case OP_reduce_max:
  case OP_reduce_min:
  case OP_argmax:
  case OP_cumsum: return (double)type_count(&n->src[0]->type);
  case OP_scatter_add: return (double)type_count(&n->src[n->n_src - 1]->type);
  default: return ir_op[n->op].flags & IR_EW ? (double)asked : 0;
  }
}

/* How many elements of a source `asked` elements of the node need. */
static int64_t needs(const Node *n, int source, int64_t asked) {
  int64_t all = type_count(&n->src[source]->type);
  bool pointwise = ir_op[n->op].flags & (IR_EW | IR_VIEW);
  switch (n->op) {
  case OP_pad:
  case OP_concat:
  case OP_gather: pointwise = true; break;
  default: break;
  }
  return pointwise ? least(all, asked) : all;
}

void kernel_cost(Kernel *k) {
  const KernelJob *job = k->job;
  KernelCode *out = k->out;
  int last = job->out[job->n_out - 1]->id;
  const Node **node = arena_alloc(k->scratch, ((size_t)last + 1) * sizeof *node);
  int64_t *asked = arena_alloc(k->scratch, ((size_t)last + 1) * sizeof *asked);
  for (int i = 0; i < job->n_out; i++) {
    const Node *n = job->out[i];
    node[n->id] = n;
    asked[n->id] = type_count(&n->type);
    out->bytes += (double)cg_bytes(k->target, &n->type);
  }
  for (int id = last; id >= 0; id--) { /* sources have smaller ids */
    const Node *n = node[id];
    if (!n) continue;
    int64_t all = type_count(&n->type), here = least(asked[id], all);
    if (job->copy || (job->stored[id] && !cg_is_out(job, n))) {
      out->bytes += all ? (double)cg_bytes(k->target, &n->type) * (double)here / (double)all : 0;
      continue;
    }
    out->flops += arithmetic(n, here);
    for (int s = 0; s < n->n_src; s++) {
      node[n->src[s]->id] = n->src[s];
      asked[n->src[s]->id] += needs(n, s, here);
    }
  }
}
