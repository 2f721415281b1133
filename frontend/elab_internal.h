/* elab: the elaborator's own header: values, scopes, modules, and what its files offer each
 * other. */
#ifndef FRONTEND_ELAB_INTERNAL_H
#define FRONTEND_ELAB_INTERNAL_H

#include "frontend/ast.h"
#include "frontend/frontend.h"

typedef struct Elab Elab;
typedef struct Unit Unit;
typedef struct Class Class;
typedef struct Instance Instance;
typedef struct Builtin Builtin;
typedef struct Call Call;

/* What keeps any program from running away; the errors name them. */
enum {
  MAX_CALLS = 200,     /* calls inside each other */
  MAX_STEPS = 2000000, /* expressions and statements elaborated */
  MAX_NODES = 100000,  /* of one graph */
  MAX_DEPTH =
    2000, /* expressions and statements inside each other, calls included: bounds the C stack */
  MAX_MEMORY = 128 << 20, /* bytes of values */
  MAX_TABLE = 1 << 25,    /* elements of all tensors that a const is computed from */
  MAX_LISTS = 64,         /* lists inside each other */
  MAX_STRING = 64 << 10,  /* bytes of one string */
  MAX_FILE = 1 << 20,     /* bytes of one source */
  MAX_UNITS = 64,         /* files */
  MAX_ERRORS = 200,       /* met, repeated ones included */
};

/* ---- values ---- */

typedef enum ValueKind {
  V_error, /* reported already; whatever it meets becomes V_error in silence */
  V_none,
  V_bool,
  V_int,
  V_float,
  V_string,
  V_list,
  V_node,  /* a tensor of the current graph */
  V_param, /* a parameter: a tensor in any graph */
  V_const, /* a const member: a tensor in any graph */
  V_fn,
  V_builtin,
  V_class, /* module, model, optimizer or schedule */
  V_instance,
  V_unit,   /* an imported file */
  V_config, /* `config` itself */
  V_init,   /* an initialiser with its arguments */
} ValueKind;

typedef struct Value Value;
typedef struct List {
  Value *at;
  int n, depth; /* of lists inside lists */
} List;
typedef struct Function { /* where its names are looked up */
  const FnDecl *decl;
  Unit *unit;
  Instance *self; /* NULL: at file level */
} Function;

typedef enum InitKind {
  INIT_constant,
  INIT_normal,
  INIT_uniform,
  INIT_xavier_uniform,
  INIT_xavier_normal,
  INIT_kaiming_uniform,
  INIT_kaiming_normal
} InitKind;
typedef struct Init {
  InitKind kind;
  double a, b; /* constant a; normal of deviation a; uniform from a to b */
} Init;

typedef struct Param {
  const char *name, *path; /* path: NULL until the model's members are numbered */
  int index;               /* as in fe_params; −1 likewise */
  Type type;
  bool trainable, decay;
  Init init;
  Place at;
} Param;
typedef struct Table { /* a const member */
  int index;
  Type type;
  const Member *decl;
  Instance *owner;
} Table;

struct Value {
  ValueKind kind;
  union {
    int64_t i; /* V_int, V_bool */
    double f;
    const char *s;
    List *list;
    Node *node;
    Param *param;
    Table *table;
    Function *fn;
    const Builtin *builtin;
    Class *class;
    Instance *instance;
    Unit *unit;
    Init *init;
  };
};

/* ---- scopes ---- */

typedef struct NameMap { /* interned name → number; −1: absent */
  const char **name;
  int *number;
  int cap, used;
} NameMap;

typedef struct Local {
  const char *name;
  Value value;
  Place at; /* where it was bound */
} Local;

enum { INLINE_LOCALS = 12 };
typedef struct Frame { /* of a function call, or of an initialiser */
  Unit *unit;
  Instance *self;
  int hide_slot;            /* the member being initialised, −1: none */
  const Member *hide_guard; /* the member `if` whose condition is evaluated */
  Local inline_local[INLINE_LOCALS], *local;
  int n_local;
  struct Frame *caller;
  const char *what;     /* name of the function */
  Place call;           /* where it was called */
  const Expr *returned; /* by the `return` that was met */
} Frame;

typedef struct ConfigVar {
  const char *name;
  Entry *entry;
  Unit *unit;
  Expr *given; /* -D */
  int state;   /* 0 not evaluated, 1 under way, 2 done */
  Value value;
} ConfigVar;

struct Unit {       /* a file */
  const char *path; /* as shown; imports are found beside it */
  const char *key;  /* one unit a key */
  File *file;
  NameMap names; /* → index into file->decl, or n_decl + index into Model.config */
  Value *value;  /* by decl, V_error: no value */
};

typedef struct Slot { /* a member of a class; those under `if` are slots too */
  Member *decl;
  struct Guard *guard; /* NULL: always there */
  int same_name;       /* the next slot of that name, −1: none */
} Slot;
typedef struct Guard {
  const Member *decl;
  bool then;
  int index;
  struct Guard *outer;
} Guard;
struct Class {
  const Decl *decl;
  Unit *unit;
  Slot *slot;
  int n_slot, n_guard;
  NameMap names; /* → first slot of the name */
};
struct Instance {
  Class *class;
  Local *arg;
  int n_arg;
  Value *value; /* by slot */
  char *state;  /* by slot: 0 not evaluated, 1 under way, 2 done */
  char *guard;  /* by guard index: 0 not evaluated, 1 under way, 2 false, 3 true */
  const char *path;
  bool in_list; /* an element of a list that is a member: a layer */
  Place at;
};

struct Model {
  Arena *arena;
  Unit *main, **unit;
  int n_unit;
  ConfigVar *config;
  int n_config;
  NameMap config_names;
  Instance *root;
  Param **param;
  ParamInfo *info;
  int n_param, n_table;
  TrainInfo train;
  Place train_at; /* of the train block */
  Instance *optimizer, *schedule; /* NULL: none */
  const char *json;
  StateInfo **states; /* by parameter; NULL: not asked yet */
  int *n_states;
};

struct Elab {
  Model *m;
  Arena *arena; /* of values: the model's while loading */
  Diag diag;
  Graph *g;
  bool loading, training, stop;
  Frame *frame;
  int n_call;
  int64_t steps;
  int depth;
  size_t memory; /* of the arena at the start */
  Node *rng;
  bool no_random; /* where random has no meaning: `why_not` */
  const char *why_not;
  int64_t place; /* of the next call of random */
  int regions;
  const Member *in_const; /* the const under evaluation */
  Node **table_node;      /* by Table.index, in this graph; NULL: not made yet */
  int n_table_node;
  struct {
    Node *power;
    double base;
  } power[16]; /* the latest c ^ x with a number c, see subtract_power */
  int n_power;
};

/* ---- elab.c: start, end, limits, errors ---- */
Elab *elab_open(Model *, Arena *, Graph *, Buf *errors);
bool elab_ok(const Elab *);
bool elab_close(Elab *);       /* frees the arena; whether there were no errors */
bool elab_step(Elab *, Place); /* false: stop */
bool elab_room(Elab *, Place); /* checks nodes and memory; false: stop */
Value fail(Elab *, Place, const char *fmt, ...) PRINTF_LIKE(3, 4); /* V_error */
bool report(Elab *, Place, const char *fmt, ...)
  PRINTF_LIKE(3, 4); /* true: shown, notes may follow */
void note_calls(Elab *);
void note_value(Elab *, const Expr *, Value); /* its type and where it comes from */

/* ---- value.c ---- */
Value v_int(int64_t), v_float(double), v_bool(bool), v_string(const char *), v_node(Node *);
Value v_list(Elab *, Place, int n, const Value *); /* a copy */
Value v_list_of(Elab *, Place, int n, Value *);    /* the array itself */
extern const Value v_none, v_error;
bool is_number(Value); /* int, float or bool */
bool is_tensor(Value); /* node, param or const */
double number_of(Value);
bool is_whole(Value, int64_t *);
const char *describe(Elab *, Value); /* "the number 3", "a tensor f32[4,16]" */
const char *shape_text(Elab *, int rank, const int64_t *dim);
const char *type_text(Elab *, const Type *);
const char *number_text(Elab *, Value);
Type tensor_type(Value);
bool truth(Elab *, const Expr *, Value, bool *);
bool same_value(Value, Value);
bool want_int(Elab *, const Expr *, Value, const char *what, int64_t *);
bool want_number(Elab *, const Expr *, Value, const char *what, double *);
bool want_shape(Elab *, const Expr *, Value, const char *what, int *rank, int64_t *dim,
                int64_t least);
bool shape_fits(Elab *, Place, int rank,
                const int64_t *dim); /* rank and elements within the limits, else an error */

/* ---- scope.c ---- */
int name_find(const NameMap *, const char *);
void name_put(Arena *, NameMap *, const char *, int);
void frame_open(Elab *, Frame *, Unit *, Instance *self, const char *what, Place call);
void frame_close(Elab *, Frame *);
void bind(Elab *, Frame *, const char *, Value, Place);
Local *find_local(Frame *, const char *);
Value lookup(Elab *, const char *, Place); /* in the current frame */
bool lookup_bound(Elab *, const char *, Place,
                  Value *); /* the same without builtins and errors; false where absent */
Value unit_member(Elab *, Unit *, const char *, Place); /* nn.linear */
Value config_value(Elab *, ConfigVar *);
const char *near_name(Elab *, const char *); /* for "did you mean" */

/* ---- eval.c ---- */
Value eval(Elab *, const Expr *);
Value run_body(Elab *, const FnDecl *); /* in the current frame */

/* ---- call.c ---- */
typedef struct Given { /* an argument at a call */
  const char *name;    /* NULL: by position */
  Value value;
  const Expr *expr;
} Given;
/* Finds each formal's argument: from[i] is an index into `given`, or −1 for the default. False:
 * reported. */
bool match_arguments(Elab *, const Expr *call, const char *what, Place declared, const Formal *,
                     int n_formal, int n, const Given *, int *from);
Value call_function(Elab *, const Expr *call, const Function *, int n, const Given *);
Value call_value(Elab *, const Expr *call, Value callee, int n, const Given *);
Value eval_call(Elab *, const Expr *);
/* Nodes made from here on are recomputed in the backward pass; gives the region to go back to. */
int open_region(Elab *);

/* ---- signature.c ---- */
/* In the frame of the function: binds the dimensions that the signature names. Gives the value to
 * bind. */
Value check_argument(Elab *, const Formal *, Value, const Expr *);
Value check_result(Elab *, const FnDecl *, Value);

/* ---- module.c ---- */
Class *class_new(Elab *, const Decl *, Unit *);
void force_members(Elab *, Instance *);
void eval_dims(Elab *, const Member *, Type *, bool *ok); /* in the current frame */
Value instantiate(Elab *, const Expr *call, Class *, int n, const Given *);
bool has_member(Elab *, Instance *, const char *, Place,
                Value *); /* members that are there, then arguments */
void number_params(Elab *, Instance *root);
Node *table_node(Elab *, Table *);
Value slot_value(Elab *, Instance *, int slot, Place);
bool slot_there(Elab *, Instance *, int slot);

/* ---- init.c ---- */
Value eval_init(Elab *, const Expr *);
bool init_of(Elab *, const Expr *, Value, Init *);
const char *init_text(Elab *, const Init *);
Node *init_node(Elab *, const Param *, Node *rng, int64_t place);

/* ---- number.c ---- */
Value number_binary(Elab *, const Expr *, Operator, Value, Value);
Value number_unary(Elab *, Place, Op, Value);

/* ---- tensor.c ---- */
void at(Elab *, const Expr *); /* nodes made from here on come from there */
Node *to_node(Elab *, Value);  /* of is_tensor */
Node *number_node(Elab *, const Expr *, Value, DType, int rank,
                  const int64_t *dim); /* NULL: reported */
DType promote(DType, DType);
bool broadcast_shape(Elab *, const Expr *whole, int n, const Expr *const *, const Value *,
                     int *rank, int64_t *dim);
/* Nodes of one type and shape for an elementwise operation of `n` values; false: reported. `least`:
 * dtype they have at least. */
bool align(Elab *, const Expr *whole, int n, const Expr *const *, const Value *, DType least,
           Node **);
Value tensor_binary(Elab *, const Expr *whole, Operator, const Expr *, Value, const Expr *, Value);
Value tensor_unary(Elab *, const Expr *whole, Op, const Expr *, Value);
Value elementwise2(Elab *, const Expr *whole, Op, const Expr *, Value, const Expr *, Value);
Value matmul(Elab *, const Expr *whole, const Expr *, Value, const Expr *, Value);
Node *float_node(Elab *, Node *); /* integers and bools as f32 */

/* ---- index.c ---- */
Value eval_index(Elab *, const Expr *);

/* ---- builtin.c and the files of its functions ---- */
enum { MAX_ARGS = 6 };
struct Call {
  const Expr *whole; /* for places; never NULL */
  const Builtin *builtin;
  Value value[MAX_ARGS]; /* by parameter; V_none where not given */
  const Expr *expr[MAX_ARGS];
  bool given[MAX_ARGS];
  Given *rest; /* `...` */
  int n_rest;
};
struct Builtin {
  const char *name;
  const char *params; /* "x axis? keep?", "f x ...": ? may be left out; ... any more by position */
  Value (*run)(Elab *, Call *);
  Op op;
};
const Builtin *builtin_find(const char *name);
bool builtin_constant(const char *name, Value *); /* pi, inf */
int builtin_names(const char **, int max);
Value call_builtin(Elab *, const Expr *whole, const Builtin *, int n, const Given *);
bool call_tensor(Elab *, Call *, int arg,
                 Node **); /* a tensor, or a number as an f32 or i32 scalar */
bool call_axis(Elab *, Call *, int arg, int rank, int *axis);

#define BUILTIN(f) Value f(Elab *, Call *);
BUILTIN(do_unary)
BUILTIN(do_minmax)
BUILTIN(do_where)
BUILTIN(do_cast) /* builtin.c */
  BUILTIN(do_shape) BUILTIN(do_rank) BUILTIN(do_len) BUILTIN(do_checkpoint) BUILTIN(do_reduce)
    BUILTIN(do_mean) BUILTIN(do_var) BUILTIN(do_argmax) BUILTIN(do_cumsum) /* reduce.c */
  BUILTIN(do_reshape) BUILTIN(do_transpose) BUILTIN(do_permute) BUILTIN(do_expand)
    BUILTIN(do_concat) /* shape.c */
  BUILTIN(do_split) BUILTIN(do_stack) BUILTIN(do_pad) BUILTIN(do_one_hot) BUILTIN(do_iota)
    BUILTIN(do_position) BUILTIN(do_full) /* make.c */
  BUILTIN(do_dropout) BUILTIN(do_random_uniform) BUILTIN(do_random_normal) BUILTIN(do_init)
    BUILTIN(do_einsum) /* einsum.c */
#undef BUILTIN
  Node *random_node(Elab *, Place, int rank, const int64_t *dim);
Node *normal_node(Elab *, Node *u, Node *v); /* Box and Muller, of two uniform tensors */

/* ---- check.c ---- */
void check_names(Elab *); /* every name of every file, whether it is elaborated or not */

/* ---- train.c ---- */
/* A setting of -D: the key and where its value stands. */
typedef struct Setting {
  const char *key; /* "layers", "train.optimizer.beta2" */
  Place key_at, value_at;
  Expr *value;
  bool used;
} Setting;
void load_train(Elab *, Setting *, int n_setting);
const char *class_text(Elab *, const Instance *); /* adamw(beta1 = 0.9, …) */
void word_as_string(Expr *, Value like);          /* -D precision=bf16 needs no quotes */

/* ---- json.c ---- */
void make_json(Elab *);

#endif
