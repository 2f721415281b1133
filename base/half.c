/* f16 and bf16 in 16 bits, from and to the f32 that holds the same value. */
#include "base/base.h"

#include <math.h>
#include <string.h>

static float from_bits(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}

static uint32_t to_bits(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  return u;
}

float half_to_float(bool bf16, uint16_t h) {
  if (bf16) return from_bits((uint32_t)h << 16);
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 0x3ff;
  if (exponent == 31) return from_bits(sign | 0x7f800000u | mantissa << 13);
  if (exponent) return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
  float small = (float)mantissa * 0x1p-24f; /* zero or subnormal: exact in f32 */
  return sign ? -small : small;
}

/* u without its low `bits`, rounded to nearest, ties to even; a carry into the exponent is right. */
static uint32_t without(uint32_t u, int bits) {
  return (u + (1u << (bits - 1)) - 1 + (u >> bits & 1)) >> bits;
}

uint16_t half_from_float(bool bf16, float f) {
  uint32_t u = to_bits(f), sign = u >> 31 << 15, magnitude = u & 0x7fffffff;
  if (magnitude > 0x7f800000u) return (uint16_t)(sign | (bf16 ? 0x7fc0 : 0x7e00));
  if (bf16) return (uint16_t)(sign | without(magnitude, 16));
  if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* 65520 and more round to ∞ */
  if (magnitude < 0x38800000u) /* below 2^-14: the unit is 2^-24 */
    return (uint16_t)(sign | (uint32_t)lrintf(from_bits(magnitude) * 0x1p24f));
  return (uint16_t)(sign | without(magnitude - (112u << 23), 13));
}

void half_pack(bool bf16, const void *from, size_t n, void *to) {
  for (size_t i = 0; i < n; i++) {
    float f;
    memcpy(&f, (const char *)from + 4 * i, 4);
    uint16_t h = half_from_float(bf16, f);
    memcpy((char *)to + 2 * i, &h, 2);
  }
}

void half_unpack(bool bf16, const void *from, size_t n, void *to) {
  for (size_t i = n; i-- > 0;) {
    uint16_t h;
    memcpy(&h, (const char *)from + 2 * i, 2);
    float f = half_to_float(bf16, h);
    memcpy((char *)to + 4 * i, &f, 4);
  }
}
