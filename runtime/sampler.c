/* p_i = exp((x_i − max x) / T) / Σ; the tail is cut three ways; one uniform number chooses. */
#include "runtime/sampler.h"

#include <math.h>
#include <stdlib.h>

typedef struct Candidate {
  float logit;
  int32_t id;
} Candidate;

struct Sampler {
  Sampling s;
  int64_t vocab, n;
  Candidate *candidate;
  int32_t *id;
  double *p;
};

Sampler *sampler_new(int64_t vocab, const Sampling *s) {
  Sampler *out = xcalloc(1, sizeof *out);
  size_t n = (size_t)vocab;
  *out = (Sampler){*s,
                   vocab,
                   0,
                   xcalloc(n, sizeof(Candidate)),
                   xcalloc(n, sizeof(int32_t)),
                   xcalloc(n, sizeof(double))};
  return out;
}

void sampler_free(Sampler *s) {
  if (!s) return;
  free(s->candidate);
  free(s->id);
  free(s->p);
  free(s);
}

int64_t sampler_last(const Sampler *s, const int32_t **id, const double **probability) {
  *id = s->id;
  *probability = s->p;
  return s->n;
}

static int by_logit(const void *a, const void *b) {
  const Candidate *x = a, *y = b;
  if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
  return x->id < y->id ? -1 : 1;
}

/* 53 bits in [0, 1). */
static double uniform(uint64_t seed, int64_t sequence, int64_t position) {
  uint32_t key[2] = {(uint32_t)seed ^ 0x706d6173u, (uint32_t)(seed >> 32)}, out[4];
  uint32_t counter[4] = {(uint32_t)position, (uint32_t)((uint64_t)position >> 32),
                         (uint32_t)sequence, (uint32_t)((uint64_t)sequence >> 32)};
  philox4x32(counter, key, out);
  return (double)(((uint64_t)out[1] << 32 | out[0]) >> 11) * 0x1p-53;
}

static void keep(Sampler *s, int64_t n) {
  double sum = 0;
  s->n = n;
  for (int64_t i = 0; i < n; i++) sum += s->p[i];
  for (int64_t i = 0; i < n; i++) s->p[i] /= sum;
}

int32_t sampler_pick(Sampler *s, const float *logit, int64_t sequence, int64_t position) {
  int64_t best = 0;
  for (int64_t i = 0; i < s->vocab; i++) {
    if (isnan(logit[i]) || logit[i] == INFINITY) return -1;
    if (logit[i] > logit[best]) best = i;
    s->candidate[i] = (Candidate){logit[i], (int32_t)i};
  }
  if (logit[best] == -INFINITY) return -1;
  if (s->s.temperature == 0) {
    s->n = 1;
    s->id[0] = (int32_t)best;
    s->p[0] = 1;
    return s->id[0];
  }
  qsort(s->candidate, (size_t)s->vocab, sizeof *s->candidate, by_logit);
  int64_t n = s->s.top_k && s->s.top_k < s->vocab ? s->s.top_k : s->vocab;
  for (int64_t i = 0; i < n; i++) {
    s->id[i] = s->candidate[i].id;
    s->p[i] = exp(((double)s->candidate[i].logit - (double)logit[best]) / s->s.temperature);
  }
  keep(s, n);
  double sum = 0;
  int64_t m = 0;
  if (s->s.top_p < 1) {
    while (m < n && (m == 0 || sum < s->s.top_p)) sum += s->p[m++];
    keep(s, n = m);
  }
  for (m = 1; m < n && s->p[m] >= s->s.min_p * s->p[0];) m++;
  keep(s, m);
  double u = uniform(s->s.seed, sequence, position), reached = 0;
  for (int64_t i = 0; i < m; i++) {
    reached += s->p[i];
    if (u < reached) return s->id[i];
  }
  int64_t last = m - 1; /* rounding left the sum below u */
  while (s->p[last] == 0) last--;
  return s->id[last];
}
