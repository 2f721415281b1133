/* Sections, interning, types, constants, instructions. Structured control is in control.c. */
#include "codegen/spirv/internal.h"

#include <string.h>

/* ---- words ---- */

void spv_word(Spv *b, Words *s, uint32_t w) { ARENA_PUSH(b->arena, s->word, s->n, w); }

void spv_put(Spv *b, Words *s, SpvOp op, int n, const uint32_t *operand) {
  spv_word(b, s, (uint32_t)(n + 1) << 16 | (uint32_t)op);
  for (int i = 0; i < n; i++) spv_word(b, s, operand[i]);
}

static SpvId new_id(Spv *b, SpvId type) {
  SpvId id = (SpvId)b->n_type;
  ARENA_PUSH(b->arena, b->type, b->n_type, type);
  return id;
}

SpvId spv_new_id(Spv *b) { return new_id(b, 0); }

/* `op type result operands…`; type 0: an instruction without one */
static SpvId put_result(Spv *b, Words *s, SpvOp op, SpvId type, int n, const uint32_t *operand) {
  SpvId id = new_id(b, type);
  spv_word(b, s, (uint32_t)(n + 2 + (type != 0)) << 16 | (uint32_t)op);
  if (type) spv_word(b, s, type);
  spv_word(b, s, id);
  for (int i = 0; i < n; i++) spv_word(b, s, operand[i]);
  return id;
}

#define PUT(b, s, op, ...)                                                                         \
  spv_put(b, s, op, COUNT_OF(((uint32_t[]){__VA_ARGS__})), (uint32_t[]){__VA_ARGS__})
#define PUT_RESULT(b, s, op, type, ...)                                                            \
  put_result(b, s, op, type, COUNT_OF(((uint32_t[]){__VA_ARGS__})), (uint32_t[]){__VA_ARGS__})

/* ---- interning ---- */

struct SpvValue {
  uint64_t hash; /* 0: empty */
  SpvId id;
  uint32_t scope, key, n_key; /* key: op, type, operands… in b->key */
};

static struct SpvValue *find(Spv *b, uint64_t hash, const uint32_t *key, uint32_t n) {
  uint32_t mask = b->value_cap - 1;
  for (uint32_t i = (uint32_t)hash & mask;; i = (i + 1) & mask) {
    struct SpvValue *v = &b->value[i];
    if (!v->hash) return v;
    if (v->hash == hash && v->n_key == n && memcmp(b->key.word + v->key, key, n * sizeof *key) == 0)
      return v;
  }
}

static void grow(Spv *b) {
  struct SpvValue *old = b->value;
  uint32_t n = b->value_cap;
  b->value_cap = n ? 2 * n : 1024;
  b->value = arena_alloc(b->arena, b->value_cap * sizeof *b->value);
  for (uint32_t i = 0; i < n; i++)
    if (old[i].hash) *find(b, old[i].hash, b->key.word + old[i].key, old[i].n_key) = old[i];
}

/* The id of an equal instruction made in a scope that is still open, else a new one in section
 * `s`. */
static SpvId intern_in(Spv *b, Words *s, SpvOp op, SpvId type, uint32_t scope, int n,
                       const uint32_t *operand) {
  enum { MAX = 80 };
  uint32_t key[MAX] = {(uint32_t)op, type}, n_key = (uint32_t)n + 2;
  if (n_key > MAX) die("spirv: an instruction of %d operands", n);
  for (int i = 0; i < n; i++) key[i + 2] = operand[i];
  if (2 * (b->n_value + 1) > b->value_cap) grow(b);
  uint64_t hash = hash_bytes(key, n_key * sizeof *key, 0) | 1;
  struct SpvValue *v = find(b, hash, key, n_key);
  if (v->hash && spv_scope_open(b, v->scope)) return v->id;
  if (!v->hash) {
    b->n_value++;
    v->hash = hash;
    v->key = (uint32_t)b->key.n;
    v->n_key = n_key;
    for (uint32_t i = 0; i < n_key; i++) spv_word(b, &b->key, key[i]);
  }
  v->scope = scope;
  return v->id = put_result(b, s, op, type, n, operand);
}

SpvId spv_global(Spv *b, SpvOp op, SpvId type, int n, const uint32_t *operand) {
  return intern_in(b, &b->global, op, type, 0, n, operand);
}
#define GLOBAL(b, op, type, ...)                                                                   \
  spv_global(b, op, type, COUNT_OF(((uint32_t[]){__VA_ARGS__})), (uint32_t[]){__VA_ARGS__})

/* ---- module ---- */

Spv *spv_new(Arena *a) {
  Spv *b = arena_alloc(a, sizeof *b);
  b->arena = a;
  new_id(b, 0); /* ids start at 1 */
  b->open[b->n_open++] = (SpvNest){.serial = 0};
  b->main = new_id(b, 0);
  b->glsl = new_id(b, 0);
  b->push_block = new_id(b, 0);
  spv_capability(b, SpvCapabilityShader);
  spv_capability(b, SpvCapabilityPhysicalStorageBufferAddresses);
  return b;
}

bool spv_has_capability(const Spv *b, SpvCapability c) {
  for (int i = 0; i < b->n_capability; i++)
    if (b->capability[i] == c) return true;
  return false;
}

void spv_capability(Spv *b, SpvCapability c) {
  if (!spv_has_capability(b, c)) ARENA_PUSH(b->arena, b->capability, b->n_capability, c);
}

void spv_extension(Spv *b, const char *name) {
  for (int i = 0; i < b->n_extension; i++)
    if (strcmp(b->extension[i], name) == 0) return;
  ARENA_PUSH(b->arena, b->extension, b->n_extension, name);
}

void spv_decorate(Spv *b, SpvId id, SpvDecoration d, int n, const uint32_t *more) {
  spv_word(b, &b->decoration, (uint32_t)(n + 3) << 16 | SpvOpDecorate);
  spv_word(b, &b->decoration, id);
  spv_word(b, &b->decoration, d);
  for (int i = 0; i < n; i++) spv_word(b, &b->decoration, more[i]);
}

static void member_offset(Spv *b, SpvId type, uint32_t member, uint32_t offset) {
  PUT(b, &b->decoration, SpvOpMemberDecorate, type, member, SpvDecorationOffset, offset);
}

static void append(Spv *b, Words *out, const Words *s) {
  for (int i = 0; i < s->n; i++) spv_word(b, out, s->word[i]);
}

/* An instruction that ends with (or has) a literal string: the words before it, the string, the
 * words after it. */
static void put_string(Spv *b, Words *s, SpvOp op, int n, const uint32_t *before, const char *text,
                       int m, const uint32_t *after) {
  uint32_t word[16] = {0};
  int n_text = (int)strlen(text) / 4 + 1;
  memcpy(word, text, strlen(text));
  spv_word(b, s, (uint32_t)(1 + n + n_text + m) << 16 | (uint32_t)op);
  for (int i = 0; i < n; i++) spv_word(b, s, before[i]);
  for (int i = 0; i < n_text; i++) spv_word(b, s, word[i]);
  for (int i = 0; i < m; i++) spv_word(b, s, after[i]);
}

/* The push constant block's type is known only now; its pointer's variable was used by id all
 * along. */
static void finish_push(Spv *b) {
  if (!b->n_push) return;
  spv_put(b, &b->global, SpvOpTypeStruct, 1 + b->n_push, b->push_member);
  spv_decorate(b, b->push_block, SpvDecorationBlock, 0, NULL);
  for (int i = 0; i < b->n_push; i++) member_offset(b, b->push_block, (uint32_t)i, 8 * (uint32_t)i);
  PUT(b, &b->global, SpvOpTypePointer, b->push_pointer, SpvStorageClassPushConstant, b->push_block);
  PUT(b, &b->global, SpvOpVariable, b->push_pointer, b->push_variable, SpvStorageClassPushConstant);
}

uint32_t *spv_finish(Spv *b, const uint32_t local[3], int *n_word) {
  SpvId function_type = GLOBAL(b, SpvOpTypeFunction, 0, spv_void(b));
  finish_push(b);
  Words out = {0};
  spv_word(b, &out, SpvMagicNumber);
  spv_word(b, &out, 0x10500);
  spv_word(b, &out, 0); /* generator: unregistered */
  spv_word(b, &out, (uint32_t)b->n_type);
  spv_word(b, &out, 0);
  for (int i = 0; i < b->n_capability; i++) PUT(b, &out, SpvOpCapability, b->capability[i]);
  for (int i = 0; i < b->n_extension; i++)
    put_string(b, &out, SpvOpExtension, 0, NULL, b->extension[i], 0, NULL);
  put_string(b, &out, SpvOpExtInstImport, 1, &b->glsl, "GLSL.std.450", 0, NULL);
  PUT(b, &out, SpvOpMemoryModel, SpvAddressingModelPhysicalStorageBuffer64,
      b->vulkan_memory ? SpvMemoryModelVulkan : SpvMemoryModelGLSL450);
  put_string(b, &out, SpvOpEntryPoint, 2, (uint32_t[]){SpvExecutionModelGLCompute, b->main}, "main",
             b->n_interface, b->interface);
  PUT(b, &out, SpvOpExecutionMode, b->main, SpvExecutionModeLocalSize, local[0], local[1],
      local[2]);
  append(b, &out, &b->decoration);
  append(b, &out, &b->global);
  PUT(b, &out, SpvOpFunction, spv_void(b), b->main, 0, function_type);
  PUT(b, &out, SpvOpLabel, new_id(b, 0));
  append(b, &out, &b->variable);
  append(b, &out, &b->prologue);
  append(b, &out, &b->body);
  spv_put(b, &out, SpvOpReturn, 0, NULL);
  spv_put(b, &out, SpvOpFunctionEnd, 0, NULL);
  append(b, &out, &b->function);
  out.word[3] = (uint32_t)b->n_type; /* the bound, now that every id is given */
  *n_word = out.n;
  return out.word;
}

/* ---- types and constants ---- */

SpvId spv_void(Spv *b) { return spv_global(b, SpvOpTypeVoid, 0, 0, NULL); }
SpvId spv_bool(Spv *b) { return spv_global(b, SpvOpTypeBool, 0, 0, NULL); }
SpvId spv_u32(Spv *b) { return GLOBAL(b, SpvOpTypeInt, 0, 32, 0); }
SpvId spv_f32(Spv *b) { return GLOBAL(b, SpvOpTypeFloat, 0, 32); }

/* The side table of types also tells what a composite or pointer type is made of. */
static SpvId of(Spv *b, SpvId type, SpvId element) { return b->type[type] = element, type; }

SpvId spv_vec(Spv *b, SpvId element, int n) {
  return of(b, GLOBAL(b, SpvOpTypeVector, 0, element, (uint32_t)n), element);
}

SpvId spv_array(Spv *b, SpvId element, uint32_t n) {
  SpvId length = spv_u(b, n);
  return of(b, GLOBAL(b, SpvOpTypeArray, 0, element, length), element);
}

SpvId spv_pointer(Spv *b, SpvStorageClass c, SpvId type) {
  int before = b->n_type;
  SpvId id = of(b, GLOBAL(b, SpvOpTypePointer, 0, c, type), type);
  if (c == SpvStorageClassWorkgroup && b->n_type > before)
    ARENA_PUSH(b->arena, b->shared_pointer, b->n_shared_pointer, id);
  return id;
}

bool spv_is_shared(Spv *b, SpvId pointer) {
  for (int i = 0; i < b->n_shared_pointer; i++)
    if (b->shared_pointer[i] == b->type[pointer]) return b->shared_accessed = true;
  return false;
}

SpvId spv_pair(Spv *b, SpvId element) {
  return of(b, GLOBAL(b, SpvOpTypeStruct, 0, element, element), element);
}

SpvId spv_buffer(Spv *b, SpvId element, uint32_t bytes) {
  int before = b->n_type;
  SpvId array = GLOBAL(b, SpvOpTypeRuntimeArray, 0, element);
  SpvId block = GLOBAL(b, SpvOpTypeStruct, 0, array);
  if (b->n_type > before) {
    spv_decorate(b, array, SpvDecorationArrayStride, 1, &bytes);
    spv_decorate(b, block, SpvDecorationBlock, 0, NULL);
    member_offset(b, block, 0, 0);
  }
  return spv_pointer(b, SpvStorageClassPhysicalStorageBuffer, block);
}

SpvId spv_u(Spv *b, uint32_t v) {
  SpvId type = spv_u32(b);
  return GLOBAL(b, SpvOpConstant, type, v);
}

SpvId spv_f(Spv *b, float v) {
  SpvId type = spv_f32(b);
  uint32_t bits;
  memcpy(&bits, &v, sizeof bits);
  return GLOBAL(b, SpvOpConstant, type, bits);
}

SpvId spv_b(Spv *b, bool v) {
  SpvId type = spv_bool(b);
  return spv_global(b, v ? SpvOpConstantTrue : SpvOpConstantFalse, type, 0, NULL);
}

/* Of a value; of a vector or array type its element's; of a pointer type what it points at. */
SpvId spv_type(const Spv *b, SpvId value) { return b->type[value]; }

/* ---- global things ---- */

static SpvId interface_variable(Spv *b, SpvStorageClass c, SpvId type) {
  SpvId pointer = spv_pointer(b, c, type);
  SpvId id = PUT_RESULT(b, &b->global, SpvOpVariable, pointer, c);
  ARENA_PUSH(b->arena, b->interface, b->n_interface, id);
  return id;
}

SpvId spv_builtin(Spv *b, SpvBuiltIn which, SpvId type) {
  for (int i = 0; i < b->n_builtin; i++)
    if (b->builtin[i].which == which) return b->builtin[i].value;
  if (which == SpvBuiltInSubgroupId || which == SpvBuiltInSubgroupLocalInvocationId)
    spv_capability(b, SpvCapabilityGroupNonUniform);
  SpvId variable = interface_variable(b, SpvStorageClassInput, type);
  spv_decorate(b, variable, SpvDecorationBuiltIn, 1, (uint32_t[]){which});
  SpvId value = PUT_RESULT(b, &b->prologue, SpvOpLoad, type, variable);
  SpvInput found = {which, value};
  ARENA_PUSH(b->arena, b->builtin, b->n_builtin, found);
  return value;
}

SpvId spv_shared(Spv *b, SpvId type) {
  return interface_variable(b, SpvStorageClassWorkgroup, type);
}

SpvId spv_push(Spv *b, SpvId type) {
  if (b->n_push == SPV_MAX_PUSH) die("spirv: more than %d push constants", SPV_MAX_PUSH);
  if (!b->n_push) {
    b->push_pointer = new_id(b, 0);
    b->push_variable = new_id(b, b->push_pointer);
    b->push_member[0] = b->push_block;
    ARENA_PUSH(b->arena, b->interface, b->n_interface, b->push_variable);
  }
  SpvId member = spv_u(b, (uint32_t)b->n_push);
  b->push_member[++b->n_push] = type;
  SpvId pointer_type = spv_pointer(b, SpvStorageClassPushConstant, type);
  SpvId pointer =
    PUT_RESULT(b, &b->prologue, SpvOpAccessChain, pointer_type, b->push_variable, member);
  return PUT_RESULT(b, &b->prologue, SpvOpLoad, type, pointer);
}

SpvId spv_local(Spv *b, SpvId type) {
  SpvId pointer = spv_pointer(b, SpvStorageClassFunction, type);
  return PUT_RESULT(b, &b->variable, SpvOpVariable, pointer, SpvStorageClassFunction);
}

/* ---- instructions ---- */

SpvId spv_pure_n(Spv *b, SpvOp op, SpvId type, int n, const SpvId *operand) {
  return intern_in(b, &b->body, op, type, spv_scope(b), n, operand);
}

SpvId spv_result_n(Spv *b, SpvOp op, SpvId type, int n, const SpvId *operand) {
  return put_result(b, &b->body, op, type, n, operand);
}

void spv_effect_n(Spv *b, SpvOp op, int n, const SpvId *operand) {
  spv_put(b, &b->body, op, n, operand);
}

SpvId spv_un(Spv *b, SpvOp op, SpvId x) { return spv_pure(b, op, spv_type(b, x), x); }
SpvId spv_bin(Spv *b, SpvOp op, SpvId x, SpvId y) { return spv_pure(b, op, spv_type(b, x), x, y); }

SpvId spv_cmp(Spv *b, SpvOp op, SpvId x, SpvId y) {
  SpvId type = spv_bool(b);
  return spv_pure(b, op, type, x, y);
}

SpvId spv_select(Spv *b, SpvId c, SpvId x, SpvId y) {
  return x == y ? x : spv_pure(b, SpvOpSelect, spv_type(b, x), c, x, y);
}

SpvId spv_bitcast(Spv *b, SpvId type, SpvId x) {
  return spv_type(b, x) == type ? x : spv_pure(b, SpvOpBitcast, type, x);
}

SpvId spv_glsl_as(Spv *b, enum GLSLstd450 f, SpvId type, SpvId x) {
  return spv_pure(b, SpvOpExtInst, type, b->glsl, (uint32_t)f, x);
}

SpvId spv_glsl(Spv *b, enum GLSLstd450 f, SpvId x) { return spv_glsl_as(b, f, spv_type(b, x), x); }

SpvId spv_glsl_2(Spv *b, enum GLSLstd450 f, SpvId x, SpvId y) {
  return spv_pure(b, SpvOpExtInst, spv_type(b, x), b->glsl, (uint32_t)f, x, y);
}

SpvId spv_clamp(Spv *b, SpvId x, float low, float high) {
  SpvId lo = spv_f(b, low);
  SpvId hi = spv_f(b, high);
  return spv_pure(b, SpvOpExtInst, spv_type(b, x), b->glsl, GLSLstd450FClamp, x, lo, hi);
}

SpvId spv_fma(Spv *b, SpvId x, SpvId y, SpvId z) {
  return spv_pure(b, SpvOpExtInst, spv_type(b, x), b->glsl, GLSLstd450Fma, x, y, z);
}

SpvId spv_extract(Spv *b, SpvId composite, uint32_t i) {
  SpvId type = spv_type(b, composite);
  return spv_pure(b, SpvOpCompositeExtract, spv_type(b, type), composite, i);
}

SpvId spv_exact(Spv *b, SpvOp op, SpvId x, SpvId y) {
  int before = b->n_type;
  SpvId id = spv_bin(b, op, x, y);
  /* an equal instruction made before without the decoration gets it now: it is only a
   * restriction */
  for (int i = 0; id < (SpvId)before && i < b->n_exact; i++)
    if (b->exact[i] == id) return id;
  ARENA_PUSH(b->arena, b->exact, b->n_exact, id);
  spv_decorate(b, id, SpvDecorationNoContraction, 0, NULL);
  return id;
}

/* ---- memory ---- */

SpvId spv_element(Spv *b, SpvId buffer, SpvId element, SpvId index) {
  SpvId zero = spv_u(b, 0);
  SpvId type = spv_pointer(b, SpvStorageClassPhysicalStorageBuffer, element);
  return spv_pure(b, SpvOpAccessChain, type, buffer, zero, index);
}

SpvId spv_load_pure(Spv *b, SpvId type, SpvId pointer, uint32_t align) {
  return spv_pure(b, SpvOpLoad, type, pointer, SpvMemoryAccessAlignedMask, align);
}

void spv_store_aligned(Spv *b, SpvId pointer, SpvId value, uint32_t align) {
  spv_effect(b, SpvOpStore, pointer, value, SpvMemoryAccessAlignedMask, align);
}

SpvId spv_get(Spv *b, SpvId variable) {
  SpvId type = spv_type(b, spv_type(b, variable));
  if (spv_is_shared(b, variable) && b->vulkan_memory)
    return spv_result(b, SpvOpLoad, type, variable, SpvMemoryAccessNonPrivatePointerMask);
  return spv_result(b, SpvOpLoad, type, variable);
}

void spv_set(Spv *b, SpvId variable, SpvId value) {
  if (spv_is_shared(b, variable) && b->vulkan_memory)
    spv_effect(b, SpvOpStore, variable, value, SpvMemoryAccessNonPrivatePointerMask);
  else
    spv_effect(b, SpvOpStore, variable, value);
}

static SpvId element_of(Spv *b, SpvStorageClass c, SpvId variable, SpvId index) {
  SpvId array = spv_type(b, spv_type(b, variable));
  SpvId type = spv_pointer(b, c, spv_type(b, array));
  return spv_pure(b, SpvOpAccessChain, type, variable, index);
}

SpvId spv_at(Spv *b, SpvId shared_array, SpvId index) {
  return element_of(b, SpvStorageClassWorkgroup, shared_array, index);
}

SpvId spv_local_at(Spv *b, SpvId local_array, SpvId index) {
  return element_of(b, SpvStorageClassFunction, local_array, index);
}

static void barrier(Spv *b, SpvScope of) {
  SpvId scope = spv_u(b, of);
  uint32_t mask = SpvMemorySemanticsAcquireReleaseMask | SpvMemorySemanticsWorkgroupMemoryMask;
  if (b->vulkan_memory)
    mask |= SpvMemorySemanticsMakeAvailableMask | SpvMemorySemanticsMakeVisibleMask;
  SpvId semantics = spv_u(b, mask);
  spv_effect(b, SpvOpControlBarrier, scope, scope, semantics);
}

void spv_barrier(Spv *b) { barrier(b, SpvScopeWorkgroup); }

void spv_barrier_subgroup(Spv *b) {
  spv_capability(b, SpvCapabilityGroupNonUniform);
  barrier(b, SpvScopeSubgroup);
}

SpvId spv_shuffle(Spv *b, SpvId x, SpvId lane) {
  spv_capability(b, SpvCapabilityGroupNonUniform);
  spv_capability(b, SpvCapabilityGroupNonUniformShuffle);
  SpvId scope = spv_u(b, SpvScopeSubgroup);
  return spv_result(b, SpvOpGroupNonUniformShuffle, spv_type(b, x), scope, x, lane);
}

SpvId spv_shuffle_xor(Spv *b, SpvId x, uint32_t mask) {
  spv_capability(b, SpvCapabilityGroupNonUniform);
  spv_capability(b, SpvCapabilityGroupNonUniformShuffle);
  SpvId scope = spv_u(b, SpvScopeSubgroup);
  SpvId m = spv_u(b, mask);
  return spv_result(b, SpvOpGroupNonUniformShuffleXor, spv_type(b, x), scope, x, m);
}
