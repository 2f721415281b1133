/* place: where in scratch each tensor lies while it lives. Tensors that live at one step never
 * overlap; the peak is to be little above the most bytes that live at one step, which no placement
 * undercuts. Finding the least peak is NP-hard (dynamic storage allocation); a few greedy orders come within a few
 * percent, except where tensors of many sizes must share many chunks none of which they may straddle. */
#include "passes/plan_internal.h"

#include <stdlib.h>
#include <string.h>

/* The heavier first, then the earlier. */
static int by_weight(const void *a, const void *b) {
  const Live *x = a, *y = b;
  if (x->weight != y->weight) return x->weight < y->weight ? 1 : -1;
  if (x->first != y->first) return x->first < y->first ? -1 : 1;
  return (x->node->id > y->node->id) - (x->node->id < y->node->id);
}

typedef enum Weight { WEIGHT_size, WEIGHT_early, WEIGHT_long, WEIGHT_area } Weight;

static void sort(Live *live, int n, Weight by) {
  for (int i = 0; i < n; i++) {
    Live *t = &live[i];
    double size = (double)t->bytes, length = t->last - t->first + 1;
    t->weight = by == WEIGHT_size    ? size
                : by == WEIGHT_early ? -t->first
                : by == WEIGHT_long  ? length
                                     : size * length;
  }
  qsort(live, (size_t)n, sizeof *live, by_weight);
}

typedef enum Fit { FIT_tightest, FIT_lowest } Fit;

/* The gap of the chunk in which the tensor fits while it lives, the tightest or the lowest, or the
 * end; false where there is neither. `placed` is in order of offset. */
static bool find_gap(Fit fit, uint64_t room, Live *const *placed, int n, const Live *t,
                     uint64_t *at) {
  uint64_t end = 0, waste = UINT64_MAX;
  for (int i = 0; i < n; i++) {
    const Live *l = placed[i];
    if (l->nth != t->nth || l->first > t->last || l->last < t->first) continue;
    if (l->at >= end + t->bytes && l->at - end - t->bytes < waste) {
      waste = l->at - end - t->bytes;
      *at = end;
      if (fit == FIT_lowest) return true;
    }
    uint64_t after = (l->at + l->bytes + PLAN_ALIGN - 1) / PLAN_ALIGN * PLAN_ALIGN;
    if (after > end) end = after;
  }
  if (waste != UINT64_MAX) return true;
  if (end + t->bytes > room) return false;
  *at = end;
  return true;
}

/* Gives each its chunk and offset, in the order of the list: the chunk whose peak grows least, the
 * first of such. The sum of the peaks. */
static uint64_t place_list(Fit fit, uint64_t room, Live *live, int n, Live **placed) {
  uint64_t *peak = xcalloc((size_t)n, sizeof *peak), sum = 0; /* a chunk holds one at least */
  int n_chunk = 0;
  for (int i = 0; i < n; i++) {
    Live *t = &live[i];
    uint64_t least = UINT64_MAX, at = 0;
    int nth = 0;
    for (t->nth = 0; t->nth <= n_chunk && t->nth < n && least; t->nth++) {
      if (!find_gap(fit, room, placed, i, t, &t->at)) continue;
      uint64_t end = t->at + t->bytes, most = peak[t->nth], growth = end > most ? end - most : 0;
      if (growth < least) least = growth, at = t->at, nth = t->nth;
    }
    t->at = at, t->nth = nth;
    t->grew = least > 0;
    if (nth == n_chunk) n_chunk++;
    peak[nth] += least;
    sum += least;
    int to = i;
    while (to > 0 && placed[to - 1]->at > t->at) placed[to] = placed[to - 1], to--;
    placed[to] = t;
  }
  free(peak);
  return sum;
}

/* The most bytes that live at one step. */
uint64_t plan_at_once(const Live *live, int n, int n_time) {
  int64_t *change = xcalloc((size_t)n_time + 1, sizeof *change), now = 0, most = 0;
  for (int i = 0; i < n; i++) {
    change[live[i].first] += (int64_t)live[i].bytes;
    change[live[i].last + 1] -= (int64_t)live[i].bytes;
  }
  for (int i = 0; i < n_time; i++) {
    now += change[i];
    if (now > most) most = now;
  }
  free(change);
  return (uint64_t)most;
}

/* The tensors past the first quarter that made a chunk grow go before all others. */
static void raise_growers(Live *live, int n) {
  double most = live[0].weight;
  for (int i = n / 4; i < n; i++)
    if (live[i].grew) live[i].weight += most;
  qsort(live, (size_t)n, sizeof *live, by_weight);
}

/* Large tensors first, where they fit tightest, is good enough as a rule; where it leaves gaps, other ways are tried, then, as
 * long as the peak is not close to what no placement undercuts, those that did not fit come first in another round. The best one
 * stays. */
uint64_t plan_place(Live *live, int n, int n_time, uint64_t room) {
  enum { ROUNDS = 8 };
  static const struct {
    Weight by;
    Fit fit;
  } way[] = {{WEIGHT_size, FIT_tightest},
             {WEIGHT_size, FIT_lowest},
             {WEIGHT_early, FIT_tightest},
             {WEIGHT_area, FIT_tightest},
             {WEIGHT_long, FIT_tightest}};
  if (!n) return 0;
  Live **placed = xcalloc((size_t)n, sizeof(Live *)), *best = xcalloc((size_t)n, sizeof *best);
  uint64_t at_once = plan_at_once(live, n, n_time), least = UINT64_MAX;
  for (int t = 0; t < COUNT_OF(way) + ROUNDS; t++) {
    bool again = t >= COUNT_OF(way);
    if (least <= at_once + at_once / (again ? 20 : 50)) break;
    if (again)
      raise_growers(live, n);
    else
      sort(live, n, way[t].by);
    uint64_t peak = place_list(again ? FIT_tightest : way[t].fit, room, live, n, placed);
    if (peak >= least) continue;
    least = peak;
    memcpy(best, live, sizeof *best * (size_t)n);
  }
  memcpy(live, best, sizeof *live * (size_t)n);
  free(placed);
  free(best);
  return least;
}
