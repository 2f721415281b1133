#include "base/base.h"

#include <string.h>

enum { LONGEST = 63 };

/* Optimal string alignment distance: insert, delete, replace, swap of neighbours cost 1 each. */
static int distance(const char *a, int n, const char *b, int m) {
  int row[3][LONGEST + 1];
  for (int j = 0; j <= m; j++) row[0][j] = j;
  for (int i = 1; i <= n; i++) {
    int *now = row[i % 3], *up = row[(i + 2) % 3], *up2 = row[(i + 1) % 3];
    now[0] = i;
    for (int j = 1; j <= m; j++) {
      int best = up[j - 1] + (a[i - 1] != b[j - 1]);
      if (up[j] + 1 < best) best = up[j] + 1;
      if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && up2[j - 2] + 1 < best)
        best = up2[j - 2] + 1;
      now[j] = best;
    }
  }
  return row[n % 3][m];
}

const char *suggest(const char *word, const char *const *candidate, int n) {
  size_t len = strlen(word);
  if (len > LONGEST) return NULL;
  const char *best = NULL;
  int least = (int)len / 3 + 1; /* a third of the letters may be wrong */
  for (int i = 0; i < n; i++) {
    size_t m = strlen(candidate[i]);
    if (m > LONGEST) continue;
    int d = distance(word, (int)len, candidate[i], (int)m);
    if (d <= least && d < (int)m) {
      least = d - 1;
      best = candidate[i];
      if (d == 0) return best;
    }
  }
  return best;
}
