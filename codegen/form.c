/* Forms: where several kernels compute the same, a family lists them by name, the one that is expected to be
 * best first, and a target's tuning says which was. */
#include "codegen/attention.h"
#include "codegen/matmul.h"

#include <string.h>

int form_choose(const Kernel *k, const KernelForm *form, int n) {
  const Tuning *tuning = k->target->tuning;
  if (!tuning || n < 2) return 0;
  Buf kernel = {0};
  int found = 0;
  cg_form_key(k->job, k->target, &kernel);
  for (int i = 0; i < tuning->n; i++) {
    if (strcmp(tuning->of[i].kernel, kernel.data) != 0) continue;
    for (int f = 0; f < n; f++)
      if (strcmp(tuning->of[i].form, form[f].name) == 0) found = f;
  }
  buf_free(&kernel);
  return found;
}

int cg_forms(const KernelJob *job, const Target *target, KernelForm *out) {
  const Node *anchor = job->anchor ? job->anchor : job->out[0];
  if (job->copy) return 0;
  if (ir_attention_sources(anchor->op)) return att_form_names(job, target, out);
  return anchor->op == OP_matmul ? matmul_form_names(job, target, out) : 0;
}

void cg_form_key(const KernelJob *job, const Target *target, Buf *key) {
  const Node *anchor = job->anchor ? job->anchor : job->out[0];
  if (ir_attention_sources(anchor->op))
    att_form_key(job, target, key);
  else
    matmul_form_key(job, target, key);
  buf_printf(key, ", %d outs, %d operands%s", job->n_out, cg_operands(job, NULL, 0),
             job->runs ? ", in runs" : "");
}
