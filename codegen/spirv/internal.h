/* The builder's inside, shared by its files. */
#ifndef CODEGEN_SPIRV_INTERNAL_H
#define CODEGEN_SPIRV_INTERNAL_H

#include "codegen/spirv/builder.h"

enum { SPV_MAX_PUSH = 16, SPV_MAX_SCOPES = 32 };

typedef struct Words {
  uint32_t *word;
  int n;
} Words;

typedef struct SpvNest {
  uint32_t serial;
  enum { SCOPE_function, SCOPE_if, SCOPE_loop } kind;
  SpvId merge, other, next; /* labels: merge; if: the else block; loop: header and continue */
  SpvId variable, index;    /* of a loop */
  bool has_else;
} SpvNest;

typedef struct SpvInput {
  SpvBuiltIn which;
  SpvId value;
} SpvInput;

struct Spv {
  Arena *arena;
  Words decoration, global, variable, prologue, body, key;
  Words function;         /* besides main */
  SpvId row_reduction[2]; /* functions, by SpvRowReduction; 0: not made */
  SpvId *type;            /* by id: the type of a value, 0 for what has none */
  int n_type;             /* = the next id */
  SpvCapability *capability;
  int n_capability;
  const char **extension;
  int n_extension;
  SpvId *shared_pointer; /* pointer types into workgroup memory */
  int n_shared_pointer;
  bool shared_accessed;
  bool vulkan_memory; /* the module uses the Vulkan memory model */
  SpvId *interface;
  int n_interface;
  SpvInput *builtin;
  int n_builtin;
  SpvId *exact;
  int n_exact;
  struct SpvValue *value; /* interned instructions */
  uint32_t n_value, value_cap;
  SpvId main, glsl, push_block, push_pointer, push_variable;
  SpvId push_member[SPV_MAX_PUSH + 1]; /* the block's id, then its members' types */
  int n_push;
  SpvNest open[SPV_MAX_SCOPES];
  int n_open;
  uint32_t n_scope; /* serials given */
};

void spv_word(Spv *, Words *, uint32_t);
void spv_put(Spv *, Words *, SpvOp, int n, const uint32_t *operand);
void spv_decorate(Spv *, SpvId, SpvDecoration, int n, const uint32_t *more);
SpvId spv_new_id(Spv *);
SpvId spv_global(Spv *, SpvOp, SpvId type, int n, const uint32_t *operand); /* interned */
void spv_extension(Spv *, const char *name);
bool spv_has_capability(const Spv *, SpvCapability);
/* Whether the pointer points into workgroup memory; notes that it is accessed. */
bool spv_is_shared(Spv *, SpvId pointer);

#endif
