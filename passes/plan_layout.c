/* The memory that all programs of an image share. */
#include "passes/plan.h"

#include <inttypes.h>
#include <string.h>

Layout *layout_new(Arena *arena, const Target *t) {
  Layout *l = arena_alloc(arena, sizeof *l);
  l->arena = arena;
  l->target = t;
  l->chunk_bytes = t->chunk_bytes / PLAN_ALIGN * PLAN_ALIGN;
  if (l->chunk_bytes < 2 * PLAN_ALIGN)
    die("target %s: chunks of %" PRIu64 " bytes", t->name, t->chunk_bytes);
  return l;
}

uint64_t layout_room(const Layout *l) { return l->chunk_bytes - PLAN_ALIGN; }

uint64_t layout_bytes(const Layout *l, const Type *t) { return cg_bytes(l->target, t); }

bool layout_fits(const Layout *l, const Type *t, const char *what, Buf *why) {
  uint64_t bytes = layout_bytes(l, t);
  if (bytes <= layout_room(l)) return true;
  buf_printf(why, "%s ", what);
  type_print(why, t);
  buf_printf(why, " takes %" PRIu64 " bytes, and the device gives at most %" PRIu64 " in one piece",
             bytes, layout_room(l));
  return false;
}

static uint64_t round_up(uint64_t n) { return (n + PLAN_ALIGN - 1) / PLAN_ALIGN * PLAN_ALIGN; }

/* Index of the nth chunk of a class. */
static int chunk_index(Layout *l, ImgClass cls, int nth) {
  for (int i = 0; i < l->n_chunk; i++)
    if (l->chunk[i].cls == cls && nth-- == 0) return i;
  LayoutChunk fresh = {cls, PLAN_ALIGN};
  ARENA_PUSH(l->arena, l->chunk, l->n_chunk, fresh);
  return l->n_chunk - 1;
}

PlanPlace layout_at(Layout *l, ImgClass cls, int nth, uint64_t at, uint64_t bytes) {
  int chunk = chunk_index(l, cls, nth);
  uint64_t end = at + round_up(bytes) + PLAN_ALIGN;
  if (end > l->chunk[chunk].bytes) l->chunk[chunk].bytes = end;
  return (PlanPlace){.chunk = chunk, .offset = at, .bytes = bytes};
}

/* After the last tensor of a list, which is never given back. */
static PlanPlace append(Layout *l, ImgClass cls, const LayoutList *list, const Type *t) {
  uint64_t bytes = layout_bytes(l, t), at = 0;
  int nth = 0;
  if (list->n) {
    const PlanPlace *last = &list->tensor[list->n - 1].place;
    for (int i = 0; i < last->chunk; i++) nth += l->chunk[i].cls == cls;
    at = round_up(last->offset + last->bytes);
    if (at + bytes > layout_room(l)) nth++, at = 0;
  }
  return layout_at(l, cls, nth, at, bytes);
}

bool layout_tensor(Layout *l, ImgClass cls, const char *name, const Type *t, PlanPlace *place,
                   Buf *why) {
  LayoutList *list = cls == IMG_PARAM ? &l->param : &l->state;
  name = intern(name);
  for (int k = 0; k < list->n; k++) {
    int i = (list->next + k) % list->n;
    if (list->tensor[i].name != name) continue;
    if (!type_eq(&list->tensor[i].type, t)) die("layout: %s has two types", name);
    *place = list->tensor[i].place;
    list->next = i + 1;
    return true;
  }
  if (!layout_fits(l, t, name, why)) return false;
  LayoutTensor fresh = {.name = name, .type = *t, .place = append(l, cls, list, t)};
  ARENA_PUSH(l->arena, list->tensor, list->n, fresh);
  *place = fresh.place;
  return true;
}

bool layout_table(Layout *l, const Type *t, const void *data, PlanPlace *place, Buf *why) {
  size_t bytes = (size_t)layout_bytes(l, t);
  uint64_t hash = hash_bytes(data, bytes, t->dtype);
  for (int i = 0; i < l->table.n; i++) {
    const LayoutTensor *old = &l->table.tensor[i];
    if (old->hash != hash || !type_eq(&old->type, t) || memcmp(old->data, data, bytes) != 0)
      continue;
    *place = old->place;
    return true;
  }
  if (!layout_fits(l, t, "a constant table", why)) return false;
  char name[32];
  snprintf(name, sizeof name, "table.%d", l->table.n);
  LayoutTensor fresh = {.name = intern(name),
                        .type = *t,
                        .place = append(l, IMG_TABLE, &l->table, t),
                        .data = arena_copy(l->arena, data, bytes),
                        .hash = hash};
  ARENA_PUSH(l->arena, l->table.tensor, l->table.n, fresh);
  *place = fresh.place;
  return true;
}
