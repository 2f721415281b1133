/* The programs around the loss: init, train or micro + update, eval, eval_row, grad.
 *
 *   train    g = d loss / d p;  norm = √Σ g²;  clipped: g · min(1, clip / (norm + 1e-6))
 *            ok = loss and norm are finite;  every p and state ← where(ok, updated, old);
 *            step counts only what was made
 *   micro    accum.grad.p ← d sum / d p + (first micro-batch ? 0 : accum.grad.p), and so for the
 *            sums of loss and count
 *   update   as train, with loss and g from accum / the count
 *
 * In f16, which ends at 65,504 and loses what is below 6e-8, the loss is multiplied by a scale before its
 * gradients are taken, and they are divided by it as soon as they are f32: a power of two, halved by each
 * step that is not finite, doubled after every GROWTH updates.
 *
 * The gradients are found first, then rounded to the precision of training: what updates compute from
 * them stays f32.
 *
 * With loss = sum / count (loss_split.c) that is the gradient of one large batch; otherwise each
 * micro-batch counts as 1. */
#include "driver/programs_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Trainee { /* a parameter that is trained */
  int index;             /* as in fe_params */
  const ParamInfo *info;
  Node *node, *grad;
} Trainee;

typedef struct Training {
  Builder *b;
  Graph *g;
  Node *scale; /* what the gradients are too large by; NULL: nothing */
  Trainee *p;
  int n;
} Training;

/* PyTorch's, but for the limits: below 1 nothing is won, above MOST only time. */
static const double LEAST_SCALE = 1, FIRST_SCALE = 0x1p16, MOST_SCALE = 0x1p24;
enum {
  GROWTH = 2000,
  GRAD_SCALE = 1024 /* of program grad, which has no training to learn it from */
};

static const Type f32_scalar = {.dtype = DT_f32}, i32_scalar = {.dtype = DT_i32};

static Node *rng_input(Graph *g) {
  return ir_leaf(g, OP_input, "rng", &(Type){.dtype = DT_i32, .rank = 1, .dim = {4}});
}
static Node *step_state(Graph *g) { return ir_leaf(g, OP_state, "train.step", &i32_scalar); }
static Node *scale_state(Graph *g) { return ir_leaf(g, OP_state, "train.loss_scale", &f32_scalar); }
static Node *number(Graph *g, double v) { return ir_const(g, v, &f32_scalar); }
static Node *spread(Graph *g, Node *scalar, const Type *t) {
  return ir_broadcast(g, scalar, t->rank, t->dim);
}
static const char *joined(Graph *g, const char *a, const char *b) {
  return arena_printf(g->arena, "%s.%s", a, b);
}

static Node *state_of(Graph *g, const StateInfo *s, const char *path) {
  return ir_leaf(g, OP_state, arena_printf(g->arena, "optim.%s.%s", s->name, path), &s->type);
}

static bool is_trained(const Builder *b) {
  return fe_train(b->model)->present && fe_train(b->model)->optimizer;
}

static bool is_scaled(const Builder *b) { return is_trained(b) && b->pass.precision == DT_f16; }

/* ---- init ---- */
static bool init_states(Builder *b, Graph *g, int param, const ParamInfo *info, bool accumulates) {
  const StateInfo *state;
  int n = fe_states(b->model, param, &state, b->errors);
  for (int i = 0; i < n; i++)
    ir_output(g, OUT_update, state_of(g, &state[i], info->path)->name,
              ir_const(g, state[i].init, &state[i].type));
  if (accumulates)
    ir_output(g, OUT_update, joined(g, "accum.grad", info->path), ir_const(g, 0, &info->type));
  return n >= 0;
}

bool add_init(Builder *b) {
  if (!wants_program(b, "init")) return true;
  Graph *g = graph_new("init");
  Node *rng = rng_input(g);
  const ParamInfo *param;
  int n = fe_params(b->model, &param);
  bool trained = is_trained(b), accumulates = trained && fe_train(b->model)->accumulate > 1,
       ok = true;
  for (int i = 0; i < n && ok; i++) {
    Node *value = fe_init(b->model, g, i, rng, b->errors);
    ok = value != NULL;
    if (ok) ir_output(g, OUT_update, param[i].path, value);
    if (ok && trained && param[i].trainable) ok = init_states(b, g, i, &param[i], accumulates);
  }
  if (trained) ir_output(g, OUT_update, "train.step", ir_const(g, 0, &i32_scalar));
  if (is_scaled(b)) {
    ir_output(g, OUT_update, "train.loss_scale", number(g, FIRST_SCALE));
    ir_output(g, OUT_update, "train.good_steps", ir_const(g, 0, &i32_scalar));
  }
  for (int i = 0; i < 2 && accumulates; i++)
    ir_output(g, OUT_update, i ? "accum.loss_count" : "accum.loss_sum", number(g, 0));
  if (ok) return add_program(b, "init", g);
  graph_free(g);
  return false;
}

/* ---- the loss ---- */
/* Graph of the loss with its outputs taken off; NULL with errors. */
static Graph *loss_graph(Builder *b, bool training, int64_t batch, Node **loss) {
  const char *name = fe_train(b->model)->loss;
  Graph *g = function_graph(b, name, training, (int64_t[]){batch, b->context}, 2);
  if (g) g = passed(b, g, "pad");
  if (!g) return NULL;
  *loss = ir_cast(g, g->output[0].node, DT_f32);
  g->n_output = 0;
  return g;
}

static void list_trainees(Training *t) {
  const ParamInfo *param;
  int n = fe_params(t->b->model, &param);
  t->p = xcalloc((size_t)n + 1, sizeof *t->p);
  t->n = 0;
  for (int i = 0; i < n; i++)
    if (param[i].trainable)
      t->p[t->n++] =
        (Trainee){i, &param[i], ir_leaf(t->g, OP_param, param[i].path, &param[i].type), NULL};
}

/* The graph so far through passes, with the values that the program is made of. false with errors. */
static bool pass_values(Training *t, const char *list, Node **value, int n_value) {
  Graph *g = t->g;
  int n = 0;
  for (int i = 0; i < t->n; i++)
    ir_output(g, OUT_value, arena_printf(g->arena, "%d", i), t->p[i].grad);
  for (int i = 0; i < n_value; i++)
    ir_output(g, OUT_value, arena_printf(g->arena, "%d", t->n + i), value[i]);
  t->g = g = passed(t->b, g, list);
  if (!g) return false;
  for (int i = 0; i < t->n; i++) {
    t->p[i].grad = g->output[n++].node;
    t->p[i].node = ir_leaf(g, OP_param, t->p[i].info->path, &t->p[i].info->type);
  }
  for (int i = 0; i < n_value; i++) value[i] = g->output[n++].node;
  g->n_output = 0;
  return true;
}

/* What the loss is multiplied by in f16 before its gradients are taken: a constant, and what training has
 * reached. */
typedef struct Scale {
  double constant;
  bool state;
} Scale;

static Node *scale_of(Graph *g, Scale s) {
  Node *constant = number(g, s.constant);
  return s.state ? ir_mul(g, scale_state(g), constant) : constant;
}

static void multiply_gradients(Training *t, Node *factor) {
  for (int i = 0; i < t->n; i++)
    t->p[i].grad = ir_mul(t->g, t->p[i].grad, spread(t->g, factor, &t->p[i].info->type));
}

static void unscale(Training *t) {
  if (t->scale) multiply_gradients(t, ir_div(t->g, number(t->g, 1), t->scale));
  t->scale = NULL;
}

/* Lists the parameters and finds the gradients of value[0], times t->scale; all values are then as the precision
 * of training has them. false with errors, and nothing to free. */
static bool differentiate(Training *t, Scale scale, Node **value, int n_value) {
  bool scaled = t->b->pass.precision == DT_f16, ok = true;
  Node *loss = scaled ? ir_mul(t->g, value[0], scale_of(t->g, scale)) : value[0];
  list_trainees(t);
  Node **wrt = xcalloc((size_t)t->n + 1, sizeof *wrt),
       **grad = xcalloc((size_t)t->n + 1, sizeof *grad);
  for (int i = 0; i < t->n; i++) wrt[i] = t->p[i].node;
  autodiff(t->g, loss, wrt, t->n, grad);
  for (int i = 0; i < t->n; i++) t->p[i].grad = grad[i];
  free(wrt);
  free(grad);
  if (dtype_is_16(t->b->pass.precision)) ok = pass_values(t, "simplify,precision", value, n_value);
  t->scale = ok && scaled ? scale_of(t->g, scale) : NULL;
  if (!ok) free(t->p);
  return ok;
}

static bool add_eval(Builder *b, const char *name, int64_t batch) {
  if (!wants_program(b, name)) return true;
  Node *loss;
  Graph *g = loss_graph(b, false, batch, &loss);
  if (!g) return false;
  ir_output(g, OUT_value, "loss", loss);
  LossParts part;
  if (loss_split(g, loss, &part)) {
    ir_output(g, OUT_value, "loss_sum", part.sum);
    ir_output(g, OUT_value, "loss_count", part.count);
  }
  return add_program(b, name, passed(b, g, "precision"));
}

static bool add_grad(Builder *b) {
  if (!wants_program(b, "grad")) return true;
  Node *loss;
  Training t = {.b = b, .g = loss_graph(b, true, b->batch, &loss)};
  if (!t.g) return false;
  if (!differentiate(&t, (Scale){GRAD_SCALE, false}, &loss, 1)) return false;
  unscale(&t);
  ir_output(t.g, OUT_value, "loss", loss);
  for (int i = 0; i < t.n; i++)
    ir_output(t.g, OUT_value, joined(t.g, "grad", t.p[i].info->path), t.p[i].grad);
  free(t.p);
  return add_program(b, "grad", t.g);
}

/* ---- one update ---- */
/* Σ x² in sums of equally many terms, f32[parts]: more where one of them would take longer than all of
 * the other tensors. */
static Node *squares(Graph *g, Node *x) {
  enum { PARTS = 64, MORE = 256, LARGE = 1 << 22 };
  int64_t n = type_count(&x->type), parts = n < LARGE ? PARTS : MORE;
  int64_t length = ((n + parts - 1) / parts + 3) / 4 * 4;
  x = ir_reshape(g, x, 1, &n);
  x = ir_mul(g, x, x);
  if (n < parts * length) x = ir_pad(g, x, (int64_t[]){0}, (int64_t[]){parts * length - n}, 0);
  x = ir_reshape(g, x, 2, (int64_t[]){parts, length});
  return ir_reshape(g, ir_reduce(g, OP_reduce_sum, x, 1, (int[]){1}), 1, &parts);
}

/* The partial sums of all gradients side by side, so that one kernel of few instructions adds them
 * up. */
static Node *gradient_norm(Training *t) {
  Graph *g = t->g;
  Node **part = xcalloc((size_t)t->n + 1, sizeof *part);
  int n = t->n;
  for (int i = 0; i < n; i++) part[i] = squares(g, t->p[i].grad);
  while (n > 1) {
    int joined = 0;
    for (int i = 0; i < n; i += IR_MAX_SRC)
      part[joined++] = ir_concat(g, 0, n - i < IR_MAX_SRC ? n - i : IR_MAX_SRC, part + i);
    n = joined;
  }
  Node *sum = n ? ir_reduce(g, OP_reduce_sum, part[0], 1, (int[]){0}) : number(g, 0);
  free(part);
  return ir_sqrt(g, ir_reshape(g, sum, 0, NULL));
}

/* min(1, clip / norm), and no scale any more: one factor for all. */
static void clip_gradients(Training *t, Node *norm, double clip) {
  Graph *g = t->g;
  Node *factor = NULL;
  if (clip > 0)
    factor = ir_min(g, number(g, 1), ir_div(g, number(g, clip), ir_add(g, norm, number(g, 1e-6))));
  if (t->scale) factor = ir_div(g, factor ? factor : number(g, 1), t->scale);
  if (factor) multiply_gradients(t, factor);
}

static void keep_unless_ok(Graph *g, Node *ok, Node *old, Node *fresh) {
  ir_output(g, OUT_update, old->name, ir_where(g, spread(g, ok, &old->type), fresh, old));
}

static bool update_parameter(Training *t, const Trainee *p, Node *lr, Node *step, Node *ok) {
  Graph *g = t->g;
  Model *m = t->b->model;
  const StateInfo *info;
  Node *old[FE_MAX_STATES], *state[FE_MAX_STATES];
  int n = fe_states(m, p->index, &info, t->b->errors);
  if (n < 0) return false;
  for (int i = 0; i < n; i++) old[i] = state[i] = state_of(g, &info[i], p->info->path);
  Node *fresh = fe_update(m, g, p->index, p->node, p->grad, lr, step, state, t->b->errors);
  if (!fresh) return false;
  keep_unless_ok(g, ok, p->node, fresh);
  for (int i = 0; i < n; i++) keep_unless_ok(g, ok, old[i], state[i]);
  return true;
}

/* The next step's scale, output loss_scale too. */
static void adapt_scale(Graph *g, Node *ok) {
  Node *scale = scale_state(g), *good = ir_leaf(g, OP_state, "train.good_steps", &i32_scalar);
  Node *none = ir_const(g, 0, &i32_scalar), *more = ir_add(g, good, ir_const(g, 1, &i32_scalar));
  Node *grows = ir_ge(g, more, ir_const(g, GROWTH, &i32_scalar));
  Node *twice = ir_min(g, ir_mul(g, scale, number(g, 2)), number(g, MOST_SCALE));
  Node *half = ir_max(g, ir_mul(g, scale, number(g, 0.5)), number(g, LEAST_SCALE));
  Node *next = ir_where(g, ok, ir_where(g, grows, twice, scale), half);
  ir_output(g, OUT_update, scale->name, next);
  ir_output(g, OUT_update, good->name, ir_where(g, ok, ir_where(g, grows, none, more), none));
  ir_output(g, OUT_value, "loss_scale", next);
}

/* Everything from the gradients on; outputs loss, grad_norm, lr, step, ok, in f16 loss_scale. */
static bool finish_training(Training *t, Node *loss) {
  Graph *g = t->g;
  double clip = fe_train(t->b->model)->clip;
  Node *norm = gradient_norm(t), *old_step = step_state(g);
  Node *next = ir_add(g, old_step, ir_const(g, 1, &i32_scalar)), *step = ir_cast(g, next, DT_f32);
  Node *ok = ir_and(g, ir_isfinite(g, loss), ir_isfinite(g, norm));
  if (t->scale) norm = ir_div(g, norm, t->scale);
  clip_gradients(t, norm, clip);
  Node *lr = fe_lr(t->b->model, g, step, ir_leaf(g, OP_input, "total", &f32_scalar), t->b->errors);
  if (!lr) return false;
  for (int i = 0; i < t->n; i++)
    if (!update_parameter(t, &t->p[i], lr, step, ok)) return false;
  Node *made = ir_where(g, ok, next, old_step);
  ir_output(g, OUT_update, "train.step", made);
  ir_output(g, OUT_value, "loss", loss);
  ir_output(g, OUT_value, "grad_norm", norm);
  ir_output(g, OUT_value, "lr", lr);
  ir_output(g, OUT_value, "step", made);
  ir_output(g, OUT_value, "ok", ok);
  if (is_scaled(t->b)) adapt_scale(g, ok);
  return true;
}

static bool finish(Training *t, const char *name, bool ok) {
  free(t->p);
  if (ok) return add_program(t->b, name, t->g);
  graph_free(t->g);
  return false;
}

static bool add_train(Builder *b) {
  if (!wants_program(b, "train")) return true;
  Node *loss;
  Training t = {.b = b, .g = loss_graph(b, true, b->batch, &loss)};
  if (!t.g) return false;
  if (!differentiate(&t, (Scale){1, true}, &loss, 1)) return false;
  return finish(&t, "train", finish_training(&t, loss));
}

/* ---- several micro-batches a step ---- */
static Node *loss_total(Graph *g, const char *name) {
  return ir_leaf(g, OP_state, name, &f32_scalar);
}

static Node *gradient_total(Graph *g, const ParamInfo *p) {
  return ir_leaf(g, OP_state, joined(g, "accum.grad", p->path), &p->type);
}

static void accumulate(Graph *g, Node *first, Node *acc, Node *x) {
  Node *before = ir_where(g, spread(g, first, &x->type), ir_const(g, 0, &x->type), acc);
  ir_output(g, OUT_update, acc->name, ir_add(g, before, x));
}

/* What a micro-batch adds up; the loss function's own count, or 1. */
static LossParts parts_of(Graph *g, Node *loss) {
  LossParts part;
  return loss_split(g, loss, &part) ? part : (LossParts){loss, number(g, 1), 0};
}

/* The update program needs to know only how the sums are divided: `least` of the split. */
static bool add_micro(Builder *b, double *least) {
  Node *loss;
  Training t = {.b = b, .g = loss_graph(b, true, b->batch, &loss)};
  if (!t.g) return false;
  Graph *g = t.g;
  LossParts part = parts_of(g, loss);
  *least = part.least;
  if (!wants_program(b, "micro")) return graph_free(g), true;
  Node *value[] = {part.sum, part.count};
  double terms = part.sum == loss ? 1 : (double)b->batch * (double)b->context;
  if (!differentiate(&t, (Scale){exp2(-floor(log2(terms))), true}, value, 2)) return false;
  unscale(&t);
  g = t.g;
  Node *index = ir_reshape(g, ir_slice(g, rng_input(g), (int64_t[]){3}, (int64_t[]){4}), 0, NULL);
  Node *first = ir_eq(g, index, ir_const(g, 0, &i32_scalar));
  for (int i = 0; i < t.n; i++) accumulate(g, first, gradient_total(g, t.p[i].info), t.p[i].grad);
  accumulate(g, first, loss_total(g, "accum.loss_sum"), value[0]);
  accumulate(g, first, loss_total(g, "accum.loss_count"), value[1]);
  return finish(&t, "micro", true);
}

static bool add_update(Builder *b, double least) {
  if (!wants_program(b, "update")) return true;
  Training t = {.b = b, .g = graph_new("update")};
  Graph *g = t.g;
  list_trainees(&t);
  Node *count = loss_total(g, "accum.loss_count");
  if (least > 0) count = ir_max(g, count, number(g, least));
  for (int i = 0; i < t.n; i++)
    t.p[i].grad = ir_div(g, gradient_total(g, t.p[i].info), spread(g, count, &t.p[i].info->type));
  Node *loss = ir_div(g, loss_total(g, "accum.loss_sum"), count);
  return finish(&t, "update", finish_training(&t, loss));
}

static bool add_accumulating(Builder *b) {
  double least = 0;
  bool micro = wants_program(b, "micro"), update = wants_program(b, "update");
  return (!micro && !update) || (add_micro(b, &least) && add_update(b, least));
}

bool add_loss_programs(Builder *b) {
  const TrainInfo *train = fe_train(b->model);
  if (!train->loss || !fe_has_function(b->model, train->loss)) return true;
  const char *dim[3];
  int n = fe_entry_dims(b->model, train->loss, dim, COUNT_OF(dim));
  if (!train->present && (n > 2 || (n == 2 && b->context == 0)))
    return true; /* of unknown lengths: only as an entry */
  bool ok = !is_trained(b) || (train->accumulate > 1 ? add_accumulating(b) : add_train(b));
  return ok && add_eval(b, "eval", b->batch) && add_eval(b, "eval_row", 1) && add_grad(b);
}
