/* Each kernel is compared with the evaluator on the very values its operands had: the job's
 * expression is copied into a graph whose inputs are the operands. How far a result may be from the
 * evaluator's in f64 follows from what each operation of the expression may err by (noise.h), and
 * from what is rounded to 16 bits at last. */
#include "tests/codegen/check.h"

#include "tests/codegen/cut.h"
#include "tests/gen/gen.h"
#include "tests/gen/noise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Check {
  Bench *bench;
  const Target *target;
  const Graph *g;
  const Feed *feed;
  int n_feed;
  const char *title;
  unsigned flags;
  bool *stored;
  const double **value; /* by id, of stored nodes, as the device has them */
  Arena *arena;
} Check;

/* ---- a plan ---- */

static bool is_leaf(Op op) { return op == OP_param || op == OP_state || op == OP_input; }

static bool always_stored(Op op) {
  return is_leaf(op) || op == OP_fold || ir_attention_sources(op) || op == OP_matmul ||
         op == OP_matmul_spans || op == OP_cumsum || op == OP_scatter_add || op == OP_argmax ||
         (op >= OP_reduce_sum && op <= OP_reduce_min);
}

static void choose_stored(Check *c) {
  const Graph *g = c->g;
  for (int i = 0; i < g->n_node; i++)
    c->stored[i] = always_stored(g->node[i]->op) || (c->flags & CHECK_store_all);
  for (int i = 0; i < g->n_output; i++) c->stored[g->output[i].node->id] = true;
  for (int i = 0; i < g->n_node; i++) {
    Node *n = g->node[i];
    Strided s;
    bool product = n->op == OP_matmul || n->op == OP_matmul_spans;
    int strided = product ? 2 : ir_attention_sources(n->op);
    for (int k = 0; k < strided; k++)
      if (!cg_strided(n->src[k], c->stored, &s)) c->stored[n->src[k]->id] = true;
    if (n->op == OP_gather || n->op == OP_random) c->stored[n->src[0]->id] = true;
    for (int k = 0; k < n->n_src && n->op == OP_scatter_add; k++) c->stored[n->src[k]->id] = true;
  }
  for (int i = 0; i < g->n_node; i++) { /* too many operands: cut at the sources */
    KernelJob job = {.out = &g->node[i], .n_out = 1, .stored = c->stored};
    for (int k = 0;
         c->stored[i] && k < job.out[0]->n_src && cg_operands(&job, NULL, 0) > CG_MAX_SLOTS - 4;
         k++)
      c->stored[job.out[0]->src[k]->id] = true;
  }
}

/* ---- the oracle ---- */

typedef struct Copy {
  Check *c;
  const KernelJob *job;
  Graph *to;
  Node **made; /* by id of the old graph */
  Feed *feed;
  int n_feed;
} Copy;

static Node *copy_node(Copy *t, Node *n) {
  if (t->made[n->id]) return t->made[n->id];
  Node *r;
  if (t->c->stored[n->id] && !cg_is_out(t->job, n)) {
    char name[32];
    snprintf(name, sizeof name, "v%d", n->id);
    r = ir_leaf(t->to, OP_input, intern(name), &n->type);
    Feed f = {OP_input, intern(name), t->c->value[n->id]};
    ARENA_PUSH(t->c->arena, t->feed, t->n_feed, f);
  } else {
    Node *src[IR_MAX_SRC];
    for (int i = 0; i < n->n_src; i++) src[i] = copy_node(t, n->src[i]);
    r = ir_rebuild(t->to, n, src);
  }
  return t->made[n->id] = r;
}

typedef struct Want {
  Tensor value, bound, rounded; /* f64; by how much results may differ from it; f32 mode */
  struct Want *flushed; /* of boundary cases: the same where subnormal operands are zero, as devices
                           may have it */
} Want;

/* Kernels that round weights of attention to 16 bits: the most that each is off by, and by how much
 * results are then. NULL where none is rounded, or by another kernel, of which this one moves the results. */
static Node *rounded_weights(Check *c, Graph *g, const Node *root, Node *exact) {
  double part = cg_rounded_terms(root, c->stored, c->target);
  if (part == 0 || exact->op == OP_input) return NULL;
  if (exact->op == OP_permute || exact->op == OP_reshape || exact->op == OP_cast) {
    Node *below = rounded_weights(c, g, root, exact->src[0]);
    return below ? ir_rebuild(g, exact, &below) : NULL;
  }
  Node *sum = gen_attention_definition(g, exact, true);
  return ir_mul(g, sum, ir_const(g, part, &sum->type));
}

/* ---- what was seen before ---- */

/* Kernels for several targets and in several forms are the same, or compute the same expression, on the same values: by a hash
 * of all that, the results of a kernel that was run and compared, or what was expected. */
typedef struct Seen {
  uint64_t hash;
  Tensor *of;
} Seen;

static const Tensor *seen_before(const Bench *b, uint64_t hash) {
  for (int i = 0; i < b->n_seen; i++)
    if (b->seen[i].hash == hash) return b->seen[i].of;
  return NULL;
}

static void remember(Bench *b, uint64_t hash, const Tensor *of, int n) {
  Seen s = {hash, arena_copy(b->arena, of, sizeof *of * (size_t)n)};
  for (int i = 0; i < n; i++) {
    size_t bytes = sizeof(double) * (size_t)type_count(&of[i].type);
    s.of[i].data = arena_copy(b->arena, of[i].data, bytes);
  }
  ARENA_PUSH(b->arena, b->seen, b->n_seen, s);
}

/* The expression and its operands' values. */
static uint64_t hash_expected(const Copy *t, const Node *r, const Node *weights) {
  int id[] = {r->id, weights ? weights->id : -1};
  uint64_t h = hash_bytes(id, sizeof id, graph_hash(t->to));
  for (int i = 0; i < t->to->n_node; i++)
    for (int f = 0; f < t->n_feed; f++) {
      const Node *n = t->to->node[i];
      if (n->op == OP_input && n->name == t->feed[f].name)
        h = hash_bytes(t->feed[f].data, sizeof(double) * (size_t)type_count(&n->type), h);
    }
  return h;
}

/* ---- expected values ---- */

static void eval_bounds(Check *c, const Graph *g, const Copy *t, Want *w) {
  Graph *noisy = noise_graph(g);
  Buf why = {0};
  int n;
  const Feed *feed = noise_feeds(c->arena, noisy, t->feed, t->n_feed, &n);
  Node *want[NOISE_COPIES];
  Tensor result[NOISE_COPIES];
  for (int i = 0; i < NOISE_COPIES; i++) want[i] = noisy->output[i].node;
  if (!ir_eval(c->arena, noisy, EVAL_f64, feed, n, want, NOISE_COPIES, result, &why))
    die("%s: %s", c->title, why.data);
  w->value = result[0];
  w->bound = noise_bound(c->arena, result, 0);
  graph_free(noisy);
}

/* The same graph on operands without subnormals. */
static Feed *flushed(Check *c, const Graph *g, const Copy *t) {
  Feed *feed = arena_alloc(c->arena, sizeof *feed * (size_t)(t->n_feed + 1));
  for (int i = 0; i < t->n_feed; i++) {
    const Node *leaf = NULL;
    for (int n = 0; n < g->n_node; n++)
      if (g->node[n]->op == OP_input && g->node[n]->name == t->feed[i].name) leaf = g->node[n];
    int64_t n = type_count(&leaf->type);
    double *x = arena_copy(c->arena, t->feed[i].data, sizeof *x * (size_t)n);
    for (int64_t k = 0; k < n; k++)
      if (fabs(x[k]) < 0x1p-126) x[k] = copysign(0, x[k]);
    feed[i] = (Feed){OP_input, t->feed[i].name, x};
  }
  return feed;
}

static Tensor eval_one(Check *c, const Copy *t, EvalMode mode, Node *n) {
  Buf why = {0};
  Tensor result;
  if (!ir_eval(c->arena, t->to, mode, t->feed, t->n_feed, &n, 1, &result, &why))
    die("%s: %s", c->title, why.data);
  return result;
}

/* r: the root's copy; exact: before it is rounded to 16 bits; weights: of rounded_weights. */
static void eval_all(Check *c, const Copy *t, Node *r, Node *weights, Want *w) {
  uint64_t hash = hash_expected(t, r, weights);
  const Tensor *seen = seen_before(c->bench, hash);
  if (seen) {
    w->value = seen[0], w->bound = seen[1], w->rounded = seen[2];
    return;
  }
  eval_bounds(c, t->to, t, w);
  w->rounded = eval_one(c, t, EVAL_f32, r);
  Tensor more = weights ? eval_one(c, t, EVAL_f64, weights) : (Tensor){0};
  for (int64_t i = 0; weights && i < type_count(&more.type); i++) w->bound.data[i] += more.data[i];
  remember(c->bench, hash, (Tensor[]){w->value, w->bound, w->rounded}, 3);
}

static Copy begin_copy(Check *c, const KernelJob *job) {
  return (Copy){.c = c,
                .job = job,
                .to = graph_new("want"),
                .made = arena_alloc(c->arena, sizeof(Node *) * (size_t)c->g->n_node)};
}

static void evaluate(Check *c, const KernelJob *job, Node *root, Want *w) {
  Copy t = begin_copy(c, job);
  Node *r = copy_node(&t, root), *exact = cg_unrounded(t.to, r);
  ir_output(t.to, OUT_value, "y", exact);
  Node *weights = rounded_weights(c, t.to, root, exact);
  eval_all(c, &t, r, weights, w);
  if (c->flags & CHECK_boundary) {
    t.feed = flushed(c, t.to, &t);
    w->flushed = arena_alloc(c->arena, sizeof *w);
    eval_all(c, &t, r, weights, w->flushed);
  }
  graph_free(t.to);
}

/* ---- comparing ---- */

static bool element_ok(const Check *c, const Node *root, const Want *w, int64_t i, double got) {
  if (w->flushed && element_ok(c, root, w->flushed, i, got)) return true;
  double want = w->value.data[i], rounded = w->rounded.data[i];
  DType d = (DType)root->type.dtype;
  if (got == rounded || (isnan(got) && isnan(rounded))) return true;
  if ((c->flags & CHECK_exact) || !dtype_is_float(d)) {
    bool flushed =
      (c->flags & CHECK_boundary) && dtype_is_float(d) && fabs(got - rounded) < 0x1p-126;
    return flushed;
  }
  if (!isfinite(got) || !isfinite(rounded)) return false;
  double bound = w->bound.data[i] + cg_unit_roundoff(d) * fabs(want);
  if (d == DT_bf16) bound += 0x1p-134; /* half of the least subnormal number */
  if (d == DT_f16) bound += 0x1p-25;
  return fabs(got - want) <= bound + 0x1p-126;
}

static void fail(Check *c, const Node *root, const KernelCode *code, const char *fmt, ...)
  PRINTF_LIKE(4, 5);
static void fail(Check *c, const Node *root, const KernelCode *code, const char *fmt, ...) {
  Buf text = {0};
  va_list args;
  c->bench->wrong++;
  if (c->bench->wrong > 40) return;
  ir_print_node(&text, root);
  buf_printf(&text, "\n  %s: ", code->name);
  va_start(args, fmt);
  buf_vprintf(&text, fmt, args);
  va_end(args);
  printf("FAILED %s, target %s: %s\n", c->title, c->target->name, text.data);
  buf_free(&text);
}

/* For a target that is not this device: only the module is checked, and the evaluator's values go
 * on. */
static void skip(Check *c, const KernelJob *job, Node *root) {
  Copy t = begin_copy(c, job);
  Node *r = copy_node(&t, root);
  c->value[root->id] = eval_one(c, &t, EVAL_f32, r).data;
  graph_free(t.to);
}

static void compare(Check *c, const KernelJob *job, Node *root, const KernelCode *code) {
  Want w = {0};
  const double *got = c->value[root->id];
  evaluate(c, job, root, &w);
  int64_t n = type_count(&root->type), bad = 0, first = 0;
  for (int64_t i = 0; i < n; i++)
    if (!element_ok(c, root, &w, i, got[i]) && bad++ == 0) first = i;
  if (bad)
    fail(c, root, code,
         "%lld of %lld elements differ, first [%lld]: got %.9g, want %.9g (f64 %.17g ± %.2g)",
         (long long)bad, (long long)n, (long long)first, got[first], w.rounded.data[first],
         w.value.data[first], w.bound.data[first]);
}

/* ---- running ---- */

static const double *value_of(const Node *n, void *context) {
  return ((Check *)context)->value[n->id];
}

/* Else its module is only validated. */
static bool runs_here(const Check *c, const KernelCode *code) {
  uint32_t own = c->bench->foreign ? code->subgroup_size : c->target->subgroup_size;
  return own == 0 || own == c->bench->native.subgroup_size;
}

static bool is_valid(Check *c, const KernelJob *job, const KernelCode *code) {
  Buf why = {0};
  bool ok = cg_validate(code->word, code->n_word, &why);
  if (!ok) fail(c, job->out[0], code, "invalid: %s", why.data);
  buf_free(&why);
  return ok;
}

/* The same kernel for the same expression on the same values. */
static uint64_t hash_code(const Check *c, const KernelJob *job, const KernelCode *code,
                          Node *const *over) {
  uint64_t h = hash_bytes(code->word, sizeof *code->word * code->n_word, graph_hash(c->g));
  h = hash_bytes(code->groups, sizeof code->groups, h ^ c->flags);
  for (int o = 0; o < job->n_out; o++) {
    int id[] = {job->out[o]->id, over && over[o] ? over[o]->id : -1};
    h = hash_bytes(id, sizeof id, h);
  }
  for (int i = 0; i < code->n_slot; i++) {
    const KernelSlot *s = &code->slot[i];
    if (s->kind == SLOT_raw) h = hash_bytes(&s->raw, sizeof s->raw, h);
    if (s->kind == SLOT_operand)
      h = hash_bytes(c->value[s->node->id], sizeof(double) * (size_t)type_count(&s->node->type), h);
  }
  return h;
}

/* Results go into c->value. */
static void run_code(Check *c, const KernelJob *job, const KernelCode *code, Node *const *over) {
  uint64_t hash = hash_code(c, job, code, over);
  const Tensor *seen = seen_before(c->bench, hash);
  for (int o = 0; o < job->n_out && seen; o++) c->value[job->out[o]->id] = seen[o].data;
  if (seen) return;
  Buf why = {0};
  double *result[CG_MAX_OUT];
  Tensor got[CG_MAX_OUT];
  for (int o = 0; o < job->n_out; o++) {
    const Type *t = &job->out[o]->type;
    result[o] = arena_alloc(c->arena, sizeof **result * (size_t)type_count(t));
    got[o] = (Tensor){*t, result[o]};
    c->value[job->out[o]->id] = result[o];
  }
  if (!is_valid(c, job, code)) return;
  if (!bench_run(c->bench, c->arena, c->target, job, code, value_of, c, over, result, &why))
    fail(c, job->out[0], code, "%s", why.data);
  for (int o = 0; o < job->n_out && !why.len; o++) compare(c, job, job->out[o], code);
  remember(c->bench, hash, got, job->n_out);
  buf_free(&why);
}

static void run_job(Check *c, const KernelJob *job) {
  KernelCode code;
  cg_emit(c->arena, job, c->target, &code);
  if (runs_here(c, &code)) {
    run_code(c, job, &code, NULL);
  } else {
    is_valid(c, job, &code);
    for (int o = 0; o < job->n_out; o++) skip(c, job, job->out[o]);
  }
}

/* Leaves come from the feeds, folds from the evaluator; both as f32 has them. */
static void given(Check *c, Node *n) {
  Tensor t;
  Buf why = {0};
  if (!ir_eval(c->arena, c->g, EVAL_f64, c->feed, c->n_feed, &n, 1, &t, &why))
    die("%s: %s", c->title, why.data);
  int64_t count = type_count(&n->type);
  for (int64_t i = 0; i < count; i++)
    if (dtype_is_float(n->type.dtype)) t.data[i] = dtype_round((DType)n->type.dtype, t.data[i]);
  c->value[n->id] = t.data;
}

static Check begin(Bench *b, const Target *target, const Graph *g, const Feed *feed, int n_feed,
                   const char *title, unsigned flags) {
  Check c = {b, target, g, feed, n_feed, title, flags, NULL, NULL, arena_new()};
  c.stored = arena_alloc(c.arena, (size_t)g->n_node);
  c.value = arena_alloc(c.arena, sizeof *c.value * (size_t)g->n_node);
  return c;
}

static void run_cut(Check *c) {
  CutGroup *group;
  uint32_t seed = (uint32_t)hash_bytes(c->title, strlen(c->title), 0);
  int n = cut_graph(c->arena, c->g, c->stored, seed, &group);
  for (int i = 0; i < n; i++) {
    KernelJob job = {
      .out = group[i].out, .n_out = group[i].n_out, .anchor = group[i].anchor, .stored = c->stored};
    run_job(c, &job);
  }
}

void check_graph(Bench *b, const Target *target, const Graph *g, const Feed *feed, int n_feed,
                 const char *title, unsigned flags) {
  Check c = begin(b, target, g, feed, n_feed, title, flags);
  choose_stored(&c);
  for (int i = 0; i < g->n_node; i++) {
    Node *n = g->node[i];
    if (!c.stored[i]) continue;
    if (is_leaf(n->op) || n->op == OP_fold)
      given(&c, n);
    else if (!(flags & CHECK_cut))
      run_job(&c, &(KernelJob){.out = &n, .n_out = 1, .stored = c.stored});
  }
  if (flags & CHECK_cut) run_cut(&c);
  arena_free(c.arena);
}

/* The form which % how many there are, as the tuning that has the job's kernel take it. */
static bool choose_form(const KernelJob *job, const Target *target, int which, Arena *arena,
                        Tuning *tuning) {
  KernelForm form[CG_MAX_FORMS];
  Buf key = {0};
  int n = cg_forms(job, target, form);
  if (n < 2) return false;
  cg_form_key(job, target, &key);
  TunedForm t = {.kernel = arena_str(arena, key.data, key.len)};
  t.form = arena_str(arena, form[which % n].name, strlen(form[which % n].name));
  tuning->of = arena_copy(arena, &t, sizeof t);
  buf_free(&key);
  return true;
}

void check_job(Bench *b, const Target *target, const Graph *g, const Feed *feed, int n_feed,
               const char *title, int n_out, Node *const *out, Node *anchor, Node *const *over) {
  if (!bench_takes(b)) return;
  Check c = begin(b, target, g, feed, n_feed, title, 0);
  for (int i = 0; i < g->n_node; i++)
    if ((c.stored[i] = is_leaf(g->node[i]->op))) given(&c, g->node[i]);
  for (int o = 0; o < n_out; o++) c.stored[out[o]->id] = true;
  KernelJob job = {.out = out, .n_out = n_out, .anchor = anchor, .stored = c.stored};
  Target tuned = *target;
  Tuning tuning = {.n = 1};
  if (b->form && choose_form(&job, target, b->form, c.arena, &tuning)) {
    tuned.tuning = &tuning;
    c.target = &tuned;
  }
  KernelCode code;
  cg_emit(c.arena, &job, c.target, &code);
  if (runs_here(&c, &code))
    run_code(&c, &job, &code, over);
  else
    is_valid(&c, &job, &code);
  arena_free(c.arena);
}
