/* Reads data files and cuts them into rows. */
#include "runtime/data.h"
#include "runtime/safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CHECK_PIECE = 16 << 10, MAX_INPUTS = 32 };
static const char SUFFIX[] = ".safetensors";

typedef enum Role { ROLE_none, ROLE_rows, ROLE_constant } Role; /* none: rng, total */

typedef struct Input {
  const ImgTensor *t;
  Role role;
  bool ids;    /* tokens or targets: ids of the vocabulary */
  int shift;   /* text: 0 for tokens, 1 for targets */
  int64_t row; /* elements of one row, or of the whole constant */
} Input;

typedef struct RowFile {
  Safetensors *st;
  int64_t rows;
  const StTensor *tensor[MAX_INPUTS]; /* by input */
} RowFile;

struct Data {
  Arena *arena;
  Input input[MAX_INPUTS];
  int n_input;
  int64_t batch, context, rows, unused;
  TokIds text;
  bool is_text, shifted; /* shifted: there are targets, so a window needs one id more */
  RowFile *file;
  int n_file;
  uint64_t hash;
};

int64_t data_row_count(const Data *d) { return d->rows; }
int64_t data_row_tokens(const Data *d) { return d->context; }
int64_t data_unused(const Data *d) { return d->unused; }
int64_t data_batch_size(const Data *d) { return d->batch; }
uint64_t data_hash(const Data *d) { return d->hash; }

bool data_is_text(const char *const *file, int n_file, bool *text, Buf *why) {
  int n_text = 0;
  for (int i = 0; i < n_file; i++) {
    size_t n = strlen(file[i]), m = strlen(SUFFIX);
    n_text += n < m || strcmp(file[i] + n - m, SUFFIX) != 0;
  }
  *text = n_text > 0;
  if (n_text == 0 || n_text == n_file) return true;
  buf_str(why, "data files are either all text or all .safetensors, not some of each");
  return false;
}

/* ---- the program's inputs ---- */

static bool is_id(const char *name) {
  return strcmp(name, "tokens") == 0 || strcmp(name, "targets") == 0;
}

static bool describe_inputs(Data *d, const ImgProgram *p, Buf *why) {
  if (p->n_input > MAX_INPUTS) {
    buf_printf(why, "program %s has %u inputs; data files can fill %d", p->name, p->n_input,
               MAX_INPUTS);
    return false;
  }
  d->n_input = (int)p->n_input;
  for (int i = 0; i < d->n_input; i++) {
    const ImgTensor *t = &p->input[i];
    bool mine = strcmp(t->name, "rng") != 0 && strcmp(t->name, "total") != 0;
    if (mine && t->rank && !d->batch) d->batch = t->dim[0];
    if (mine && t->rank > 1 && t->dtype == IMG_i32 && !d->context) d->context = t->dim[1];
    d->input[i] = (Input){.t = t, .role = mine ? ROLE_rows : ROLE_none, .row = 1};
    d->input[i].ids = t->dtype == IMG_i32 && is_id(t->name);
  }
  if (!d->context) d->context = 1;
  for (int i = 0; i < d->n_input; i++) {
    Input *in = &d->input[i];
    if (in->role == ROLE_rows && (in->t->rank == 0 || in->t->dim[0] != d->batch))
      in->role = ROLE_constant;
    for (uint32_t k = in->role == ROLE_rows; k < in->t->rank; k++) in->row *= in->t->dim[k];
  }
  if (d->batch) return true;
  buf_printf(why, "program %s has no input that data could fill", p->name);
  return false;
}

/* ---- text ---- */

static bool text_fits(Data *d, const ImgProgram *p, Buf *why) {
  bool tokens = false;
  for (int i = 0; i < d->n_input; i++) {
    Input *in = &d->input[i];
    if (in->role == ROLE_none) continue;
    bool sequence =
      in->ids && in->role == ROLE_rows && in->t->rank == 2 && in->t->dim[1] == d->context;
    if (!sequence) {
      buf_printf(why,
                 "text gives 'tokens' and 'targets', int[batch, context]; program %s also takes "
                 "'%s': use a .safetensors file with a tensor of that name",
                 p->name, in->t->name);
      return false;
    }
    in->shift = strcmp(in->t->name, "targets") == 0;
    if (in->shift)
      d->shifted = true;
    else
      tokens = true;
  }
  if (!tokens) buf_printf(why, "program %s takes no 'tokens': use a .safetensors file", p->name);
  return tokens;
}

static bool read_text(Data *d, const char *const *file, int n_file, const Tokenizer *tok,
                      Buf *why) {
  for (int i = 0; i < n_file; i++) {
    Buf text = {0};
    bool ok = buf_read_file(&text, file[i]);
    if (!ok)
      buf_printf(why, "%s: cannot be read: %s", file[i], strerror(errno));
    else
      ok = tok_encode(tok, text.data ? text.data : "", text.len, file[i], &d->text, why);
    buf_free(&text);
    if (!ok) return false;
  }
  int64_t need = d->context + d->shifted;
  if (d->text.n < need) {
    buf_printf(why, "%s%s: %lld %s too few: one window needs %lld (context %lld%s)", file[0],
               n_file > 1 ? " and the others" : "", (long long)d->text.n,
               d->text.n == 1 ? "token is" : "tokens are", (long long)need, (long long)d->context,
               d->shifted ? " and one more to predict" : "");
    return false;
  }
  d->rows = (d->text.n - d->shifted) / d->context;
  d->unused = d->text.n - d->shifted - d->rows * d->context;
  d->hash = hash_bytes(d->text.id, (size_t)d->text.n * sizeof *d->text.id, 0);
  return true;
}

static void put_window(const Data *d, int64_t start, int64_t row, void *const *to) {
  for (int i = 0; i < d->n_input; i++) {
    const Input *in = &d->input[i];
    if (in->role == ROLE_none) continue;
    memcpy((int32_t *)to[i] + row * d->context, d->text.id + start + in->shift,
           (size_t)d->context * sizeof(int32_t));
  }
}

/* A window's place: uniform over all places where one fits. The key differs from the device's, so
 * that the two are independent. */
static int64_t random_start(const Data *d, uint64_t seed, int64_t step, int micro, int64_t row) {
  uint32_t key[2] = {(uint32_t)seed ^ 0x61746164u, (uint32_t)(seed >> 32)}, out[4];
  uint32_t counter[4] = {(uint32_t)step, (uint32_t)((uint64_t)step >> 32), (uint32_t)micro,
                         (uint32_t)row};
  philox4x32(counter, key, out);
  uint64_t random = (uint64_t)out[1] << 32 | out[0],
           places = (uint64_t)(d->text.n - d->context - d->shifted + 1);
  return (int64_t)(((unsigned __int128)random * places) >> 64);
}

/* ---- safetensors ---- */

static bool shape_matches(const Input *in, const StTensor *t) {
  int skip = in->role == ROLE_rows;
  if (t->rank != (int)in->t->rank || (skip && t->dim[0] == 0)) return false;
  for (int k = skip; k < t->rank; k++)
    if (t->dim[k] != in->t->dim[k]) return false;
  return true;
}

static bool wrong_shape(const Input *in, const RowFile *f, const StTensor *t, Buf *why) {
  buf_printf(why, "%s: tensor '%s' has the shape ", st_path(f->st), t->name);
  st_print_shape(why, t->rank, t->dim);
  buf_str(why, in->role == ROLE_rows ? " where [rows" : " where [");
  for (uint32_t k = in->role == ROLE_rows; k < in->t->rank; k++)
    buf_printf(why, "%s%lld", k ? ", " : "", (long long)in->t->dim[k]);
  buf_str(why, "] is expected");
  return false;
}

/* All ids of one input, before training begins rather than in the middle of the night. */
static bool check_ids(Data *d, const Input *in, const RowFile *f, const StTensor *t, int64_t vocab,
                      Buf *why) {
  int32_t id[CHECK_PIECE];
  /* what a loss ignores is often -1 or -100 */
  bool may_be_negative = strcmp(in->t->name, "targets") == 0;
  for (int64_t at = 0; at < t->count; at += CHECK_PIECE) {
    int64_t n = t->count - at < CHECK_PIECE ? t->count - at : CHECK_PIECE;
    if (!st_read_i32(f->st, t, at, n, id, why)) return false;
    d->hash = hash_bytes(id, (size_t)n * sizeof *id, d->hash);
    for (int64_t i = 0; i < n; i++) {
      if ((id[i] >= 0 || may_be_negative) && (!vocab || id[i] < vocab)) continue;
      buf_printf(why,
                 "%s: tensor '%s', row %lld, column %lld: id %d is not in the model's vocabulary",
                 st_path(f->st), t->name, (long long)((at + i) / in->row),
                 (long long)((at + i) % in->row), id[i]);
      if (vocab) buf_printf(why, " of %lld", (long long)vocab);
      return false;
    }
  }
  return true;
}

static void name_inputs(const Data *d, Buf *why) {
  int n = 0;
  for (int i = 0; i < d->n_input; i++)
    if (d->input[i].role != ROLE_none)
      buf_printf(why, "%s'%s'", n++ ? ", " : "", d->input[i].t->name);
}

static bool bind_tensor(Data *d, int i, RowFile *f, int64_t vocab, Buf *why) {
  const Input *in = &d->input[i];
  const StTensor *t = st_find(f->st, in->t->name);
  if (!t) {
    buf_printf(why, "%s: there is no tensor '%s'; the model's loss takes ", st_path(f->st),
               in->t->name);
    name_inputs(d, why);
    return false;
  }
  if (!shape_matches(in, t)) return wrong_shape(in, f, t, why);
  f->tensor[i] = t;
  if (in->role == ROLE_rows && f->rows && f->rows != t->dim[0]) {
    buf_printf(why, "%s: tensor '%s' has %lld rows where the others have %lld", st_path(f->st),
               t->name, (long long)t->dim[0], (long long)f->rows);
    return false;
  }
  if (in->role == ROLE_rows) f->rows = t->dim[0];
  bool whole = in->t->dtype == IMG_i32 || in->t->dtype == IMG_bool;
  if (whole && t->type >= ST_F16) {
    buf_printf(why, "%s: tensor '%s' is %s where integers are expected", st_path(f->st), t->name,
               st_type_name(t->type));
    return false;
  }
  return !in->ids || check_ids(d, in, f, t, vocab, why);
}

static bool read_files(Data *d, const char *const *file, int n_file, int64_t vocab, Buf *why) {
  d->file = arena_alloc(d->arena, (size_t)n_file * sizeof *d->file);
  for (int k = 0; k < n_file; k++) {
    RowFile *f = &d->file[k];
    f->st = st_open(file[k], why);
    if (!f->st) return false;
    d->n_file++;
    for (int i = 0; i < d->n_input; i++)
      if (d->input[i].role != ROLE_none && !bind_tensor(d, i, f, vocab, why)) return false;
    d->rows += f->rows;
    d->hash = hash_bytes(&f->rows, sizeof f->rows, d->hash);
  }
  return true;
}

static bool read_values(const RowFile *f, const Input *in, const StTensor *t, int64_t first,
                        void *to, Buf *why) {
  if (in->t->dtype != IMG_i32 && in->t->dtype != IMG_bool)
    return st_read_f32(f->st, t, first, in->row, to, why);
  if (!st_read_i32(f->st, t, first, in->row, to, why)) return false;
  for (int64_t i = 0; in->t->dtype == IMG_bool && i < in->row; i++)
    ((int32_t *)to)[i] = ((int32_t *)to)[i] != 0;
  return true;
}

static bool put_row(const Data *d, int64_t from, int64_t row, void *const *to, Buf *why) {
  const RowFile *f = d->file;
  while (from >= f->rows) from -= f++->rows;
  for (int i = 0; i < d->n_input; i++) {
    const Input *in = &d->input[i];
    if (in->role == ROLE_none || (in->role == ROLE_constant && row > 0)) continue;
    int64_t at = in->role == ROLE_rows ? row * in->row : 0,
            first = in->role == ROLE_rows ? from * in->row : 0;
    if (!read_values(f, in, f->tensor[i], first, (int32_t *)to[i] + at, why)) return false;
  }
  return true;
}

/* ---- both ---- */

Data *data_open(const char *const *file, int n_file, const ImgProgram *p, const Tokenizer *tok,
                int64_t vocab, Buf *why) {
  Arena *arena = arena_new();
  Data *d = arena_alloc(arena, sizeof *d);
  d->arena = arena;
  bool ok = data_is_text(file, n_file, &d->is_text, why) && describe_inputs(d, p, why);
  if (ok && d->is_text)
    ok = text_fits(d, p, why) && read_text(d, file, n_file, tok, why);
  else if (ok)
    ok = read_files(d, file, n_file, vocab, why);
  if (ok) return d;
  data_close(d);
  return NULL;
}

void data_close(Data *d) {
  if (!d) return;
  for (int i = 0; i < d->n_file; i++) st_close(d->file[i].st);
  free(d->text.id);
  arena_free(d->arena);
}

bool data_batch(const Data *d, uint64_t seed, int64_t step, int micro, int n_micro, void *const *to,
                Buf *why) {
  int64_t first = (step * n_micro + micro) % d->rows * (d->batch % d->rows) % d->rows;
  for (int64_t row = 0; row < d->batch; row++) {
    if (d->is_text)
      put_window(d, random_start(d, seed, step, micro, row), row, to);
    else if (!put_row(d, (first + row) % d->rows, row, to, why))
      return false;
  }
  return true;
}

bool data_rows(const Data *d, int64_t first, int64_t n, void *const *to, Buf *why) {
  if (first < 0 || n < 0 || first + n > d->rows) die("data_rows outside the data");
  for (int64_t row = 0; row < n; row++) {
    if (d->is_text)
      put_window(d, (first + row) * d->context, row, to);
    else if (!put_row(d, first + row, row, to, why))
      return false;
  }
  return true;
}
