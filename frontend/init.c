/* init: initialisers of parameters, as values and as the nodes that compute the initial tensor. */
#include "frontend/elab_internal.h"

#include <math.h>
#include <string.h>

static const char *const kind_name[] = {"constant",       "normal",        "uniform",
                                        "xavier_uniform", "xavier_normal", "kaiming_uniform",
                                        "kaiming_normal"};

static const Builtin *init_builtin(const char *name) {
  bool is = strcmp(name, "zeros") == 0 || strcmp(name, "ones") == 0;
  for (int i = 0; i < COUNT_OF(kind_name); i++) is = is || strcmp(name, kind_name[i]) == 0;
  return is ? builtin_find(intern(name)) : NULL;
}

/* An initialiser's name means the initialiser here, whatever else the program calls so. */
Value eval_init(Elab *e, const Expr *x) {
  const Expr *name = x->kind == E_call ? x->a : x;
  const Builtin *b = name->kind == E_name ? init_builtin(name->name) : NULL;
  if (x->kind == E_choose) {
    bool holds;
    Value c = eval(e, x->a);
    return truth(e, x->a, c, &holds) ? eval_init(e, holds ? x->b : x->c) : v_error;
  }
  if (!b) return eval(e, x);
  if (x->kind == E_name) return (Value){.kind = V_builtin, .builtin = b};
  Given given[4];
  if (x->n_arg > COUNT_OF(given)) return fail(e, x->at, "`%s` takes fewer arguments", b->name);
  for (int i = 0; i < x->n_arg; i++) {
    given[i] = (Given){x->arg[i].name, eval(e, x->arg[i].value), x->arg[i].value};
    if (given[i].value.kind == V_error) return v_error;
  }
  return call_builtin(e, x, b, x->n_arg, given);
}

/* constant(c), normal(std), uniform(a, b), xavier_uniform() … */
Value do_init(Elab *e, Call *c) {
  Init *init = arena_alloc(e->arena, sizeof *init);
  int kind = 0;
  while (strcmp(kind_name[kind], c->builtin->name) != 0) kind++;
  init->kind = (InitKind)kind;
  if (kind <= INIT_uniform &&
      !want_number(e, c->expr[0], c->value[0], "an initialiser's argument", &init->a))
    return v_error;
  if (kind == INIT_uniform &&
      !want_number(e, c->expr[1], c->value[1], "an initialiser's argument", &init->b))
    return v_error;
  if (kind == INIT_normal && init->a < 0)
    return fail(e, c->expr[0]->at, "a standard deviation is not negative");
  if (kind == INIT_uniform && init->b < init->a)
    return fail(e, c->whole->at, "uniform(a, b) needs a <= b");
  return (Value){.kind = V_init, .init = init};
}

bool init_of(Elab *e, const Expr *x, Value v, Init *out) {
  if (v.kind == V_error) return false;
  if (v.kind == V_init) return *out = *v.init, true;
  if (is_number(v)) return *out = (Init){INIT_constant, number_of(v), 0}, true;
  if (v.kind == V_builtin && init_builtin(v.builtin->name)) {
    const char *name = v.builtin->name;
    if (strcmp(name, "zeros") == 0) return *out = (Init){INIT_constant, 0, 0}, true;
    if (strcmp(name, "ones") == 0) return *out = (Init){INIT_constant, 1, 0}, true;
    for (int i = INIT_xavier_uniform; i <= INIT_kaiming_normal; i++)
      if (strcmp(name, kind_name[i]) == 0) return *out = (Init){(InitKind)i, 0, 0}, true;
    fail(e, x->at, "`%s` needs arguments: constant(c), normal(std), uniform(a, b)", name);
    return false;
  }
  fail(e, x->at,
       "expected an initialiser (zeros, ones, constant(c), normal(std), uniform(a, b), "
       "xavier_uniform, xavier_normal, "
       "kaiming_uniform, kaiming_normal), found %s",
       describe(e, v));
  return false;
}

const char *init_text(Elab *e, const Init *init) {
  if (init->kind == INIT_constant && init->a == 0) return "zeros";
  if (init->kind == INIT_constant && init->a == 1) return "ones";
  const char *a = number_text(e, v_float(init->a));
  if (init->kind == INIT_uniform)
    return arena_printf(e->arena, "uniform(%s, %s)", a, number_text(e, v_float(init->b)));
  if (init->kind >= INIT_xavier_uniform) return kind_name[init->kind];
  return arena_printf(e->arena, "%s(%s)", kind_name[init->kind], a);
}

/* Weights are [in, out, …]; further dimensions multiply both fans, as in PyTorch's nn.init. */
static void fans(const Type *t, double *in, double *out) {
  double rest = 1;
  for (int i = 2; i < t->rank; i++) rest *= (double)t->dim[i];
  *in = (double)t->dim[0] * rest;
  *out = (double)t->dim[1] * rest;
}

/* The kinds with fans as normal(std) or uniform(−a, a): Glorot and Bengio 2010; He et al. 2015 with
 * gain √2. */
static Init plain(const Init *init, const Type *t) {
  double in, out;
  if (init->kind < INIT_xavier_uniform) return *init;
  fans(t, &in, &out);
  double variance = init->kind >= INIT_kaiming_uniform ? 2 / in : 2 / (in + out),
         bound = sqrt(3 * variance);
  if (init->kind == INIT_xavier_uniform || init->kind == INIT_kaiming_uniform)
    return (Init){INIT_uniform, -bound, bound};
  return (Init){INIT_normal, sqrt(variance), 0};
}

Node *init_node(Elab *e, const Param *p, Node *rng, int64_t place) {
  Graph *g = e->g;
  const Type *t = &p->type;
  Init init = plain(&p->init, t);
  if (init.kind == INIT_constant) return ir_const(g, init.a, t);
  Node *u = ir_random(g, rng, place, t);
  if (init.kind == INIT_uniform) {
    Node *wide = ir_mul(g, u, ir_const(g, init.b - init.a, t));
    return ir_add(g, wide, ir_const(g, init.a, t));
  }
  Node *normal = normal_node(e, u, ir_random(g, rng, place + 1, t));
  return ir_mul(g, normal, ir_const(g, init.a, t));
}
