/* sampler: the next token from its logits, in f64 on the host. */
#ifndef RUNTIME_SAMPLER_H
#define RUNTIME_SAMPLER_H

#include "base/base.h"

typedef struct Sampling {
  double temperature; /* 0: always the likeliest */
  int64_t top_k;      /* only the k likeliest; 0: all */
  double top_p;       /* only the likeliest that together reach this probability; 1: all */
  /* only those with at least this share of the likeliest's probability; 0: all */
  double min_p;
  uint64_t seed;
} Sampling;

typedef struct Sampler Sampler;
Sampler *sampler_new(int64_t vocab, const Sampling *);
void sampler_free(Sampler *);
/* Divides the logits by the temperature, then keeps the k likeliest, of them the least number whose
 * probabilities reach top_p, of them those within min_p of the likeliest (the order of Hugging
 * Face's transformers), and draws by Philox from (seed, sequence, position). Equal logits: the
 * lower id is the likelier. Returns the id; −1 where a logit is NaN or +inf, or all are −inf. */
int32_t sampler_pick(Sampler *, const float *logit, int64_t sequence, int64_t position);
/* The distribution that the last pick drew from: ids by falling probability. Returns how many. */
int64_t sampler_last(const Sampler *, const int32_t **id, const double **probability);

#endif
