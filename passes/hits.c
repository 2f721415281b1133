/* How often each rewrite rule was used, for --time-passes. */
#include "passes/hits.h"

#include <stdlib.h>
#include <string.h>

void pass_hit(const PassOptions *o, const char *name, int times) {
  PassHits *h = o->hits;
  if (!h || times == 0) return;
  for (int i = 0; i < h->n; i++)
    if (strcmp(h->rule[i].name, name) == 0) {
      h->rule[i].times += times;
      return;
    }
  h->rule = xrealloc(h->rule, sizeof *h->rule * (size_t)(h->n + 1));
  h->rule[h->n++] = (RuleHits){name, times};
}

static int by_times(const void *a, const void *b) {
  const RuleHits *x = a, *y = b;
  if (x->times != y->times) return x->times < y->times ? 1 : -1;
  return strcmp(x->name, y->name);
}

void hits_print(FILE *out, PassHits *h) {
  if (h->n == 0) return;
  qsort(h->rule, (size_t)h->n, sizeof *h->rule, by_times);
  fprintf(out, "  %9s  rule\n", "hits");
  for (int i = 0; i < h->n; i++) fprintf(out, "  %9d  %s\n", h->rule[i].times, h->rule[i].name);
}

void hits_free(PassHits *h) { free(h->rule); }
