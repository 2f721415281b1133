/* A small image made by hand from one kernel (add.spvasm), for tests that need no compiler. */
#ifndef TESTS_RUNTIME_SAMPLE_H
#define TESTS_RUNTIME_SAMPLE_H

#include "image/image.h"

enum { SAMPLE_N = 1000, SAMPLE_LONG = 120, SAMPLE_ARGUMENTS = 300 };

/* w: parameter f32[1000]; c: state f32[1000]; t: table f32[1000] with t[i] = i; programs:
 *   init   (rng) w = t + t; c = 0
 *   step   (x f32[1000]) s = x + w; y = s + t; c = c + x; outputs y and c (which lies in the state)
 *   tabled () y[i] = i + t[i] for i < 600, the first term from an argument table
 *   hole   () y = s + t with s never written
 *   long   (x) c = c + x, 120 times, each said to take 1 GFLOP; outputs c
 *   train  (tokens i32[2,4], targets i32[2,4], rng, total) loss, grad_norm, lr, step, ok: constants;
 *          w = w + t */
Image *sample_image(Arena *);
/* The sample's kernel n times, told apart by the generator's number in the header, which means nothing: `long` uses all of
 * up to SAMPLE_LONG, `init` two and `step` three of them. */
Image *sample_modules(Arena *, uint32_t n);
/* The sample for four targets: "giant", which no device has all for; "huge", with a piece of memory that no
 * device gives; "small"; "portable". */
enum { SAMPLE_TARGETS = 4 };
Image *sample_targets(Arena *);
/* The same as bytes that image_read accepts, in the arena. */
void *sample_bytes(Arena *, const Image *, uint32_t n_target, size_t *n);

#endif
