/* Which kernels can compute a product, and what the choice among them depends on. */
#include "codegen/matmul.h"

#include <string.h>

/* Few results with long sums: a team for each, as for any reduction. */
static bool is_reduction(const Matmul *mm) {
  int64_t outputs = mm->m * mm->n * mm->batches;
  bool rows =
    mm->a.unit_k && mm->b.unit_k; /* else the terms lie far apart, and tiles read them better */
  return outputs < 1024 && mm->kk >= (rows ? 512 : 64 * outputs) && !mm->tiles;
}

static int power_from(int64_t n, int most) {
  int p = 1;
  while (p < n && p < most) p *= 2;
  return p;
}

static PortableTile portable_tile(const Matmul *mm) {
  int x = power_from((mm->n + 3) / 4, 8);
  int y = power_from(mm->m, PORTABLE_LANES / x);
  return (PortableTile){.rows = power_from((mm->m + 2 * y - 1) / (2 * y), PORTABLE_ROWS),
                        .lanes = PORTABLE_LANES / y};
}

/* The tile above, and those whose shape differs but fills no more than twice the result. */
static int portable_tiles(const Matmul *mm, PortableTile *out) {
  PortableTile own = portable_tile(mm);
  int n = 0;
  out[n++] = own;
  for (int rows = 4; rows <= PORTABLE_ROWS; rows *= 2)
    for (int lanes = 4; lanes <= 16; lanes *= 2) {
      bool same = rows == own.rows && lanes == own.lanes;
      if (!same && 2 * lanes < mm->n && rows * PORTABLE_LANES / lanes < 2 * mm->m)
        out[n++] = (PortableTile){.rows = rows, .lanes = lanes};
    }
  return n;
}

int matmul_forms(const Matmul *mm, const Target *t, MatmulForm *out) {
  PortableTile portable[8];
  int n = 0;
  bool rows = mm->kk > MATMUL_LONGEST;
  MatmulTile tile[MATMUL_MAX_TILES];
  int tiles = matmul_tiles(mm, t, tile);
  if ((rows && !tiles) || is_reduction(mm)) out[n++] = (MatmulForm){.kind = MATMUL_rows};
  bool fixed =
    tiles && !n && matmul_shares_device(mm, t); /* whatever a tuning says, measured alone */
  for (int i = 0; i < (fixed ? 1 : tiles); i++)
    out[n++] = (MatmulForm){.kind = MATMUL_coop, .tile = tile[i]};
  if (rows || fixed) return n;
  if (t->is_cpu && t->subgroup_shuffle && t->subgroup_size == 8 && mm->n >= 16)
    out[n++] = (MatmulForm){.kind = MATMUL_subgroup};
  SharedTile shared[MATMUL_MAX_SHARED];
  tiles = matmul_shared_tiles(mm, t, shared);
  for (int i = 0; i < tiles; i++)
    out[n++] = (MatmulForm){.kind = MATMUL_shared, .shared = shared[i]};
  tiles = portable_tiles(mm, portable);
  for (int i = 0; i < tiles; i++)
    out[n++] = (MatmulForm){.kind = MATMUL_portable, .portable = portable[i]};
  return n;
}

/* The part of C that shares one load of an element of A (its columns) and of B (its rows). */
static void find_share(const Matmul *mm, const MatmulForm *f, int *columns, int *rows) {
  enum { QUAD = 4 };
  *columns = *rows = 1;
  switch (f->kind) {
  case MATMUL_coop: *columns = f->tile.n, *rows = f->tile.m; break;
  case MATMUL_shared: *columns = f->shared.columns, *rows = f->shared.rows; break;
  case MATMUL_subgroup: matmul_subgroup_tile(mm, rows, columns); break;
  case MATMUL_portable: *columns = QUAD, *rows = f->portable.rows; break;
  case MATMUL_rows: break;
  }
}

double cg_operand_reads(const Target *t, const Node *product, int operand, double *busy) {
  enum { CORES = 32, RESIDENT = 2 };
  const Node *a = product->src[0], *b = product->src[1];
  int r = product->type.rank;
  Matmul mm = {.batches = 1,
               .m = product->type.dim[r - 2],
               .n = product->type.dim[r - 1],
               .kk = a->type.dim[r - 1]};
  for (int i = 0; i < r - 2; i++) mm.batches *= product->type.dim[i];
  mm.a = (Side){.type = matmul_type(a, NULL), .row = mm.kk, .k = 1, .unit_k = true};
  mm.b = (Side){.type = matmul_type(b, NULL), .row = 1, .k = mm.n, .unit_row = true};
  MatmulForm form[CG_MAX_FORMS];
  matmul_forms(&mm, t, form);
  int columns, rows;
  double cores = t->cores ? t->cores : CORES;
  find_share(&mm, &form[0], &columns, &rows);
  double across = (double)mm.n / columns, down = (double)mm.m / rows;
  if (across < 1) across = 1;
  if (down < 1) down = 1;
  *busy = across * down * (double)mm.batches / (RESIDENT * cores);
  if (form[0].kind != MATMUL_coop || *busy > 1) *busy = 1;
  return operand == 0 ? across : down;
}

void matmul_form_name(const MatmulForm *f, KernelForm *out) {
  size_t most = sizeof out->name;
  switch (f->kind) {
  case MATMUL_rows: snprintf(out->name, most, "rows"); break;
  case MATMUL_coop:
    snprintf(out->name, most, "units %d x %d x %d, %d x %d subgroups, group %d", f->tile.m,
             f->tile.n, f->tile.k, f->tile.subgroups_m, f->tile.subgroups_n, f->tile.group);
    if (f->tile.cut_m) {
      size_t n = strlen(out->name);
      snprintf(out->name + n, most - n, ", cut %d x %d", f->tile.cut_m, f->tile.cut_n);
    }
    break;
  case MATMUL_subgroup: snprintf(out->name, most, "subgroup"); break;
  case MATMUL_shared:
    snprintf(out->name, most, "tiles %d x %d, %d terms", f->shared.rows, f->shared.columns,
             f->shared.terms);
    break;
  case MATMUL_portable:
    snprintf(out->name, most, "portable %d rows, %d lanes", f->portable.rows, f->portable.lanes);
  }
}

/* In operations of a core, as cg_matmul_time; 0: unknown. */
static double form_time(const Matmul *mm, const Target *t, const MatmulForm *f) {
  enum { SLOWER = 24 /* without tiles of operands, than matrix units */, CORES = 32 };
  if (f->kind == MATMUL_coop) return matmul_tile_time(mm, t, &f->tile);
  if (f->kind == MATMUL_shared) return matmul_shared_time(mm, t, &f->shared);
  if (f->kind != MATMUL_portable || t->is_cpu) return 0;
  double terms = (double)mm->batches * (double)mm->m * (double)mm->n * (double)mm->kk;
  return 2.0 * SLOWER * terms / (t->cores ? t->cores : CORES);
}

int matmul_form_names(const KernelJob *job, const Target *target, KernelForm *out) {
  Kernel k = {.job = job, .target = target};
  Matmul mm;
  MatmulForm form[CG_MAX_FORMS];
  if (!matmul_make(&mm, &k)) return 0;
  int n = matmul_forms(&mm, target, form);
  double first = form_time(&mm, target, form);
  for (int i = 0; i < n; i++) {
    matmul_form_name(&form[i], &out[i]);
    out[i].times = first > 0 ? form_time(&mm, target, &form[i]) / first : 0;
  }
  return n;
}

/* An operand's type, which of its dimensions lies together in memory, whether runs of four are aligned. */
static void put_side(Buf *key, const Side *s) {
  buf_printf(key, " %s %s%s", dtype_name(s->type),
             s->unit_k     ? "k"
             : s->unit_row ? "rows"
                           : "apart",
             s->aligned ? "" : "?");
  if (s->computed) buf_printf(key, " computed from %s", dtype_name((DType)s->base->type.dtype));
}

void matmul_form_key(const KernelJob *job, const Target *target, Buf *key) {
  Kernel k = {.job = job, .target = target};
  Matmul mm;
  if (!matmul_make(&mm, &k)) die("codegen: the key of what is no product");
  buf_printf(key, "matmul %lld x %lld x %lld", (long long)mm.m, (long long)mm.n, (long long)mm.kk);
  if (mm.batches > 1) buf_printf(key, " x %lld", (long long)mm.batches);
  buf_str(key, ",");
  put_side(key, &mm.a);
  put_side(key, &mm.b);
  if (mm.sum_a || mm.sum_b)
    buf_printf(key, ", sums%s%s", mm.sum_a ? " a" : "", mm.sum_b ? " b" : "");
}
