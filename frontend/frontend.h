/* frontend: .alpha text → ast → elaborated tensor graphs. The language: docs/language.md. */
#ifndef FRONTEND_FRONTEND_H
#define FRONTEND_FRONTEND_H

#include "ir/ir.h"

/* A loaded program: parsed, checked, configuration folded, the model's modules instantiated. No
 * tensor data exists. */
typedef struct Model Model;

typedef struct Override { /* -D key=value, as given: "layers=4", "train.batch=2",
                             "train.optimizer.beta2=0.99" */
  const char *text;
} Override;

typedef struct ParamInfo {
  const char *path; /* h.0.attn.c_attn.weight */
  Type type;        /* f32 */
  bool trainable;   /* false: frozen */
  bool decay;       /* weight decay applies */
  const char *init; /* as text, for people: "normal(0.02)" */
  SrcLoc loc;
} ParamInfo;

enum { FE_MAX_STATES = 16 }; /* of one parameter */

typedef struct StateInfo { /* optimizer state of one parameter */
  const char *name;        /* "m"; the program's state is named optim.<name>.<path> */
  Type type;
  double init;
} StateInfo;

typedef struct TrainInfo {
  bool present;
  int64_t batch, context;
  double clip;                      /* 0: off */
  int64_t accumulate;               /* >= 1 */
  bool recompute;                   /* each element of a list of modules is a checkpoint() */
  const char *precision;            /* "f32", "bf16", "f16" */
  const char *loss;                 /* name of the loss function */
  const char *optimizer, *schedule; /* as text, for people */
} TrainInfo;

typedef struct DimBinding { /* a free dimension of an entry's signature: b, t */
  const char *name;
  int64_t value;
} DimBinding;

/* NULL where the program has errors; they are in `errors` as text with the underlined lines
 * (several in one run). */
Model *fe_load(const char *path, const Override *, int n_override, Buf *errors);
/* The same on text that is already in memory: `path` only names it; imports resolve beside it and
 * in stdlib. For tests, fuzzing. */
Model *fe_load_text(const char *path, const char *text, size_t bytes, const Override *,
                    int n_override, Buf *errors);
void fe_free(Model *);
/* The ast as text (--emit=ast); false with errors. */
bool fe_print_ast(const char *path, Buf *out, Buf *errors);

const char *fe_name(const Model *);
/* Configuration and train settings after overrides, one JSON object:
 * {"model":…,"config":{…},"train":{…}}. */
const char *fe_config_json(const Model *);
bool fe_config_int(const Model *, const char *key,
                   int64_t *value); /* a whole number of config; false where absent */
const TrainInfo *fe_train(const Model *);
int fe_params(const Model *, const ParamInfo **);
bool fe_has_function(const Model *, const char *name);

/* The function `name` of the root module as a graph. Inputs are `input` nodes named after its
 * tensor arguments, with the types of the signature; dimensions that stay free are taken from
 * `dims`, else `b`-like first dimensions are an error that names them. Where dropout or random is
 * called, there is an input "rng" i32[4]. Outputs: one named "result", or "result.0" … for a list.
 * `training`: dropout acts. A call of `position` yields op position. NULL with errors as in
 * fe_load. */
Graph *fe_entry(Model *, const char *name, bool training, const DimBinding *dims, int n_dim,
                Buf *errors);
/* The free dimension names of an entry's signature in order of appearance (for loss(tokens: int[b,
 * t], …): b, t). */
int fe_entry_dims(Model *, const char *name, const char *names[], int max);

/* Pieces for the training program, added to `g`; parameters are numbered as in fe_params.
 * NULL/false with errors. */
Node *fe_init(Model *, Graph *g, int param, Node *rng,
              Buf *errors); /* the initial value; random places = the number */
int fe_states(Model *, int param, const StateInfo **, Buf *errors); /* < 0: errors */
/* The optimizer's update of one parameter. state[i] holds the old value on entry and the new one on
 * return. p, grad: the parameter's shape; lr, step: f32 scalars. Returns the new parameter. */
Node *fe_update(Model *, Graph *g, int param, Node *p, Node *grad, Node *lr, Node *step,
                Node **state, Buf *errors);
Node *fe_lr(Model *, Graph *g, Node *step, Node *total,
            Buf *errors); /* f32 scalars; the schedule */

#endif
