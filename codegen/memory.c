/* Elements in memory: of 4 bytes, or, for 16-bit types where the target can store them, of 2. In
 * registers a 16-bit value is the f32 that it is; neighbours are read and written as words of two:
 *
 *   bf16   the upper half of an f32: shifts          f16   (Un)PackHalf2x16
 *
 * Stores need values that are rounded already, as expressions give them: nothing is rounded here. */
#include "codegen/kernel.h"

uint32_t cg_element_bytes(const Target *t, DType d) {
  return t->storage16 && (d == DT_f16 || d == DT_bf16) ? 2 : 4;
}

uint64_t cg_bytes(const Target *t, const Type *type) {
  return cg_element_bytes(t, (DType)type->dtype) * (uint64_t)type_count(type);
}

bool kernel_is_16(const Kernel *k, DType d) { return cg_element_bytes(k->target, d) == 2; }

SpvId kernel_element_type(Kernel *k, DType d) {
  return dtype_is_float(d) ? spv_f32(k->b) : spv_u32(k->b);
}

/* What n neighbours are in memory; eight of 4 bytes are two such. */
static SpvId memory_type(Kernel *k, DType d, int n) {
  Spv *b = k->b;
  if (kernel_is_16(k, d)) return n == 1 ? spv_u16(b) : spv_vec(b, spv_u32(b), n / 2);
  SpvId element = kernel_element_type(k, d);
  return n == 1 ? element : spv_vec(b, element, 4);
}

static uint32_t memory_bytes(const Kernel *k, DType d, int n) {
  uint32_t bytes = cg_element_bytes(k->target, d) * (uint32_t)n;
  return bytes < 16 ? bytes : 16;
}

/* What points at a tensor as units of n neighbours. */
static SpvId buffer_type(Kernel *k, DType d, int n) {
  return spv_buffer(k->b, memory_type(k, d, n), memory_bytes(k, d, n));
}

/* Validators look through pointers, and push constants must not hold 16-bit values. */
SpvId kernel_pushed(Kernel *k, DType d) {
  return kernel_is_16(k, d) ? spv_buffer(k->b, spv_u32(k->b), 4) : buffer_type(k, d, 1);
}

static SpvId pointer_of(Kernel *k, const Node *operand) {
  for (int i = 0; i < k->n_operand; i++)
    if (k->operand[i] == operand) return k->pointer[i];
  die("codegen: %%%d is no operand of the kernel for %%%d", operand->id, k->job->out[0]->id);
}

/* Unit `index` of n elements, as it lies in memory. */
static SpvId load_unit(Kernel *k, Node *operand, int n, SpvId index) {
  DType d = (DType)operand->type.dtype;
  SpvId type = memory_type(k, d, n);
  SpvId buffer = spv_bitcast(k->b, buffer_type(k, d, n), pointer_of(k, operand));
  SpvId at = spv_element(k->b, buffer, type, index);
  return spv_load_pure(k->b, type, at, memory_bytes(k, d, n));
}

/* ---- words of two 16-bit values ---- */

static SpvId from_half_word(Kernel *k, DType d, SpvId word, uint32_t half) {
  Spv *b = k->b;
  SpvId f32 = spv_f32(b);
  if (d == DT_f16) {
    SpvId pair = spv_glsl_as(b, GLSLstd450UnpackHalf2x16, spv_vec(b, f32, 2), word);
    return spv_extract(b, pair, half);
  }
  SpvId by = spv_u(b, half ? 0xffff0000u : 16);
  word = spv_bin(b, half ? SpvOpBitwiseAnd : SpvOpShiftLeftLogical, word, by);
  return spv_bitcast(b, f32, word);
}

/* high 0: nothing there */
static SpvId to_word(Kernel *k, DType d, SpvId low, SpvId high) {
  Spv *b = k->b;
  SpvId u32 = spv_u32(b);
  if (d == DT_f16) {
    SpvId zero = spv_f(b, 0), vec2 = spv_vec(b, spv_f32(b), 2);
    SpvId pair = spv_pure(b, SpvOpCompositeConstruct, vec2, low, high ? high : zero);
    return spv_glsl_as(b, GLSLstd450PackHalf2x16, u32, pair);
  }
  SpvId by = spv_u(b, 16), mask = spv_u(b, 0xffff0000u);
  low = spv_bitcast(b, u32, low);
  low = spv_bin(b, SpvOpShiftRightLogical, low, by);
  if (!high) return low;
  high = spv_bitcast(b, u32, high);
  high = spv_bin(b, SpvOpBitwiseAnd, high, mask);
  return spv_bin(b, SpvOpBitwiseOr, low, high);
}

/* ---- loads ---- */

/* Element i of a unit of n in memory. */
static SpvId element(Kernel *k, DType d, int n, SpvId unit, uint32_t i) {
  if (!kernel_is_16(k, d)) return n == 1 ? unit : spv_extract(k->b, unit, i);
  if (n > 1) return from_half_word(k, d, spv_extract(k->b, unit, i / 2), i % 2);
  SpvId word = spv_pure(k->b, SpvOpUConvert, spv_u32(k->b), unit);
  return from_half_word(k, d, word, 0);
}

SpvId kernel_load_at(Kernel *k, Node *operand, SpvId index) {
  SpvId unit = load_unit(k, operand, 1, index);
  return element(k, (DType)operand->type.dtype, 1, unit, 0);
}

SpvId kernel_load4_at(Kernel *k, Node *operand, SpvId index4) {
  DType d = (DType)operand->type.dtype;
  SpvId unit = load_unit(k, operand, 4, index4), value[4];
  if (!kernel_is_16(k, d)) return unit;
  for (uint32_t i = 0; i < 4; i++) value[i] = element(k, d, 4, unit, i);
  SpvId vec4 = spv_vec(k->b, kernel_element_type(k, d), 4);
  return spv_pure_n(k->b, SpvOpCompositeConstruct, vec4, 4, value);
}

SpvId kernel_load_raw(Kernel *k, Node *operand, int width, SpvId index) {
  if (!kernel_is_16(k, (DType)operand->type.dtype))
    die("codegen: %%%d has no 16-bit elements", operand->id);
  Spv *b = k->b;
  SpvId u32 = spv_u32(b), type = u32;
  if (width == 1) type = spv_u16(b);
  if (width > 2) type = spv_vec(b, u32, width / 2);
  SpvId buffer = spv_bitcast(b, spv_buffer(b, type, 2 * (uint32_t)width), pointer_of(k, operand));
  SpvId at = spv_element(b, buffer, type, index);
  SpvId value = spv_load_pure(b, type, at, 2 * (uint32_t)width);
  return width == 1 ? spv_pure(b, SpvOpUConvert, u32, value) : value;
}

/* The element at an index, out of a unit of n that begins at a multiple of n. */
static SpvId load_from_unit(Kernel *k, Node *operand, int n, const Ix *ix) {
  SpvId index = ix_emit(k->ix, ix_div(k->ix, ix, n));
  SpvId unit = load_unit(k, operand, n, index);
  return element(k, (DType)operand->type.dtype, n, unit, (uint32_t)(ix_offset(ix) % n));
}

SpvId kernel_load(Kernel *k, Node *operand, const Ix *ix) {
  int64_t step = k->wide ? ix_step(ix) : 0;
  for (int n = kernel_is_16(k, (DType)operand->type.dtype) ? 8 : 4; step && n >= 4; n /= 2)
    if (step % n == 0 && (ix_max(ix) / n + 1) * n <= type_count(&operand->type))
      return load_from_unit(k, operand, n, ix);
  SpvId index = ix_emit(k->ix, ix);
  return kernel_load_at(k, operand, index);
}

SpvId kernel_load_flat(Kernel *k, Node *operand, const Ix *ix) {
  return load_from_unit(k, operand, 4, ix);
}

SpvId kernel_from_memory(Kernel *k, DType d, SpvId raw) {
  return d == DT_bool ? spv_cmp(k->b, SpvOpINotEqual, raw, spv_u(k->b, 0)) : raw;
}

/* ---- stores ---- */

SpvId kernel_to_memory(Kernel *k, DType d, SpvId value) {
  if (d != DT_bool) return value;
  SpvId one = spv_u(k->b, 1);
  SpvId zero = spv_u(k->b, 0);
  return spv_select(k->b, value, one, zero);
}

/* n values as they lie in memory: the parts of a vector, or one. Returns how many. */
static int to_parts(Kernel *k, DType d, int n, const SpvId *value, SpvId *part) {
  for (int i = 0; i < n; i++) part[i] = kernel_to_memory(k, d, value[i]);
  if (!kernel_is_16(k, d)) return n;
  if (n == 1) {
    SpvId word = to_word(k, d, part[0], 0);
    part[0] = spv_pure(k->b, SpvOpUConvert, spv_u16(k->b), word);
    return 1;
  }
  for (int i = 0; i < n; i += 2) part[i / 2] = to_word(k, d, part[i], part[i + 1]);
  return n / 2;
}

SpvId kernel_pack8(Kernel *k, DType d, const SpvId value[8]) {
  SpvId word[4], uvec4 = spv_vec(k->b, spv_u32(k->b), 4);
  for (int i = 0; i < 4; i++) word[i] = to_word(k, d, value[2 * i], value[2 * i + 1]);
  return spv_pure_n(k->b, SpvOpCompositeConstruct, uvec4, 4, word);
}

/* Where in memory unit `index` of an out lies that lies in runs of that many units. */
static SpvId in_runs(Kernel *k, SpvId index, int64_t run, int64_t pitch) {
  Spv *b = k->b;
  SpvId length = spv_u(b, (uint32_t)run);
  SpvId before = spv_bin(b, SpvOpUDiv, index, length);
  SpvId gap = spv_u(b, (uint32_t)(pitch - run));
  gap = spv_bin(b, SpvOpIMul, before, gap);
  return spv_bin(b, SpvOpIAdd, index, gap);
}

/* Unit `index` of n elements, wherever that lies. */
static void store_unit(Kernel *k, int out, SpvId index, int n, const SpvId *value) {
  Spv *b = k->b;
  DType d = (DType)k->job->out[out]->type.dtype;
  SpvId part[8], type = memory_type(k, d, n);
  int n_part = to_parts(k, d, n, value, part);
  if (n > 1) part[0] = spv_pure_n(b, SpvOpCompositeConstruct, type, n_part, part);
  SpvId buffer = spv_bitcast(b, buffer_type(k, d, n), k->result[out]);
  SpvId at = spv_element(b, buffer, type, index);
  spv_store_aligned(b, at, part[0], memory_bytes(k, d, n));
}

SpvId kernel_reload4(Kernel *k, int out, SpvId index4) {
  Spv *b = k->b;
  DType d = (DType)k->job->out[out]->type.dtype;
  if (kernel_is_16(k, d)) die("codegen: %%%d is added to in 16 bits", k->job->out[out]->id);
  const KernelRuns *lies = k->job->runs ? &k->job->runs[out] : NULL;
  if (lies && lies->run) index4 = in_runs(k, index4, lies->run / 4, lies->pitch / 4);
  SpvId type = memory_type(k, d, 4), buffer = spv_bitcast(b, buffer_type(k, d, 4), k->result[out]);
  SpvId at = spv_element(b, buffer, type, index4);
  return spv_result(b, SpvOpLoad, type, at, SpvMemoryAccessAlignedMask, memory_bytes(k, d, 4));
}

void kernel_store(Kernel *k, int out, SpvId index, int n, const SpvId *value) {
  Spv *b = k->b;
  const KernelRuns *lies = k->job->runs ? &k->job->runs[out] : NULL;
  if (lies && lies->run) index = in_runs(k, index, lies->run / n, lies->pitch / n);
  if (n < 8 || kernel_is_16(k, (DType)k->job->out[out]->type.dtype)) {
    store_unit(k, out, index, n, value);
    return;
  }
  SpvId one = spv_u(b, 1);
  index = spv_bin(b, SpvOpShiftLeftLogical, index, one);
  store_unit(k, out, index, 4, value);
  index = spv_bin(b, SpvOpIAdd, index, one);
  store_unit(k, out, index, 4, value + 4);
}
