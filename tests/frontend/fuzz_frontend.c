/* The fuzzer of the front end: whatever the bytes are, a program or errors must come out, within
 * the limits of elab_internal.h. What loads is elaborated as `forward` and `loss`, with the
 * optimizer's update of the first parameter. */
#include "frontend/frontend.h"

#include <string.h>

static void entry(Model *m, const char *name, bool training, Buf *errors) {
  static const DimBinding dims[] = {{"b", 2}, {"t", 4}, {"n", 3}};
  if (!fe_has_function(m, name)) return;
  Graph *g = fe_entry(m, name, training, dims, COUNT_OF(dims), errors);
  if (!g) {
    if (!errors->len) die("fuzz: %s failed without a message", name);
    return;
  }
  if (!ir_verify(g, errors)) die("fuzz: the graph of %s is broken:\n%s", name, errors->data);
  graph_free(g);
}

static void update(Model *m, Buf *errors) {
  const ParamInfo *p;
  const StateInfo *s;
  Node *state[16];
  if (fe_params(m, &p) == 0 || !fe_train(m)->optimizer) return;
  int n = fe_states(m, 0, &s, errors);
  if (n < 0 || n > COUNT_OF(state)) return;
  Graph *g = graph_new("update");
  Type scalar = type_scalar(DT_f32), rng = type_of(DT_i32, 1, (int64_t[]){4});
  for (int i = 0; i < n; i++) state[i] = ir_leaf(g, OP_state, s[i].name, &s[i].type);
  Node *old = fe_init(m, g, 0, ir_leaf(g, OP_input, "rng", &rng), errors),
       *grad = ir_leaf(g, OP_input, "grad", &p[0].type);
  Node *lr = ir_leaf(g, OP_input, "lr", &scalar), *step = ir_leaf(g, OP_input, "step", &scalar);
  if (old) fe_update(m, g, 0, old, grad, lr, step, state, errors);
  if (fe_train(m)->schedule) fe_lr(m, g, step, lr, errors);
  graph_free(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  Buf errors = {0};
  Model *m = fe_load_text("fuzz.alpha", (const char *)data, size, NULL, 0, &errors);
  if (!m && !errors.len) die("fuzz: loading failed without a message");
  if (m) {
    entry(m, "forward", false, &errors);
    buf_clear(&errors);
    entry(m, "loss", true, &errors);
    buf_clear(&errors);
    update(m, &errors);
  }
  fe_free(m);
  buf_free(&errors);
  return 0;
}
