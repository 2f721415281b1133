/* Products in spans: the steps of all tiles of [m, k] · [k, n] in a row, cut into spans of equal length, however many tiles there are
 * for them. A span may begin and end inside a tile; what it adds up of each tile lies in a slot of its own.
 *
 *   tile       0       |       1       |       2       |        3 tiles of 8 steps
 *   span   0    |    1    |    2     |    3    |    4           5 spans of 4 or 5
 *   slot   0    |1 |  0   |    1  |0 |     1   | 0    …         of their tiles
 */
#include "ir/ir.h"

int64_t ir_span_begin(const Spans *s, int64_t span) { return span * s->all / s->n; }

int64_t ir_span_at(const Spans *s, int64_t step) { return ((step + 1) * s->n - 1) / s->all; }

bool ir_spans_make(int64_t m, int64_t n, int64_t k, const int64_t ints[4], Spans *s) {
  for (int i = 0; i < 4; i++)
    if (ints[i] < 1 || ints[i] > INT32_MAX) return false;
  *s = (Spans){.n = ints[0], .tile_m = ints[1], .tile_n = ints[2], .step = ints[3]};
  s->by_m = (m + s->tile_m - 1) / s->tile_m;
  s->by_n = (n + s->tile_n - 1) / s->tile_n;
  s->steps = (k + s->step - 1) / s->step;
  s->all = s->by_m * s->by_n * s->steps;
  if (s->n > s->all || s->all > INT32_MAX / (s->n + 1)) return false;
  for (int64_t t = 0; t < s->by_m * s->by_n; t++) {
    int64_t slots = ir_span_at(s, (t + 1) * s->steps - 1) - ir_span_at(s, t * s->steps) + 1;
    if (slots > s->slots) s->slots = slots;
  }
  return true;
}

Spans ir_spans(const Node *n) {
  const Type *a = &n->src[0]->type, *b = &n->src[1]->type;
  Spans s;
  if (!ir_spans_make(a->dim[0], b->dim[1], a->dim[1], n->ints, &s)) die("ir: %%%d: spans", n->id);
  return s;
}

void ir_span_tile(const Spans *s, int64_t tile, int64_t *row, int64_t *column) {
  bool along_n = s->by_n >= s->by_m;
  *row = along_n ? tile / s->by_n : tile % s->by_m;
  *column = along_n ? tile % s->by_n : tile / s->by_m;
}
