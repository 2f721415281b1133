/* What the files of scatter_add share. */
#ifndef CODEGEN_SCATTER_H
#define CODEGEN_SCATTER_H

#include "codegen/emit_math.h"

typedef struct Scatter {
  Kernel *k;
  Node *root; /* the scatter_add, of which the outs are functions at its own flat index */
  Node *ids, *x;
  DType type;
  int64_t rows, columns, n_id;
  int width; /* columns per lane: 1 or 4 */
} Scatter;

/* *sum += x, where *rest keeps what rounding lost if the type is a float: variables. */
void scatter_add_to(Scatter *, SpvId sum, SpvId rest, SpvId x);
SpvId scatter_total(Scatter *, SpvId sum, SpvId rest); /* of such a pair, rounded to the type */
/* Columns width·unit … of row v are known: what the outs make of them. */
void scatter_store(Scatter *, SpvId v, SpvId unit, const SpvId *value);

/* ---- scatter_scan.c ---- */
/* Whether subgroups can scan the ids, and the kernel that does. */
bool scatter_can_scan(const Scatter *);
void scatter_scan(Scatter *);

#endif
