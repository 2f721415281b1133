/* What --target means: one or more of native, portable, a profile's file, a built-in profile's name. */
#include "driver/driver.h"
#include "driver/profile.h"

#include <errno.h>
#include <string.h>

enum { MAX_NAMES = 32 };

static bool unknown(const char *name, Buf *why) {
  const char *known[MAX_NAMES] = {"native", "portable"};
  int n = 2;
  for (int i = 0; profile_builtin_name[i] && n < MAX_NAMES; i++)
    known[n++] = profile_builtin_name[i];
  buf_printf(why, "--target %s: expected ", name);
  for (int i = 0; i < n; i++) buf_printf(why, "%s, ", known[i]);
  buf_str(why, "or the file of a profile (`alphac devices --json` writes one)");
  const char *near = suggest(name, known, n);
  if (near) buf_printf(why, "; did you mean %s?", near);
  return false;
}

static bool parse(const Options *o, const char *path, const char *text, size_t n, Target *t,
                  Buf *why) {
  const Profile *p = profile_parse(o->arena, path, text, n, why);
  if (p) *t = p->target;
  if (o->no_tuning) t->tuning = NULL;
  return p != NULL;
}

static bool from_file(const Options *o, const char *path, Target *t, Buf *why) {
  Buf text = {0};
  buf_str(&text, "");
  bool ok = buf_read_file(&text, path);
  if (ok)
    ok = parse(o, path, text.data, text.len, t, why);
  else if (errno == ENOENT && !strpbrk(path, "./"))
    unknown(path, why);
  else
    buf_printf(why, "--target %s: cannot be read: %s", path, strerror(errno));
  buf_free(&text);
  return ok;
}

static bool by_name(const Options *o, const char *name, Target *t, Buf *note, Buf *why) {
  size_t n;
  const char *profile = profile_builtin(name, &n);
  bool ok = true;
  if (strcmp(name, "portable") == 0)
    *t = target_portable;
  else if (strcmp(name, "native") == 0)
    ok = target_native(o, t, note, why);
  else if (profile)
    ok = parse(o, name, profile, n, t, why);
  else
    ok = from_file(o, name, t, why);
  return ok;
}

/* The more a target asks of a device, the earlier it stands: a runner takes the first that its device has
 * all for. Matrix units count most, then subgroups, then the rest. */
static int compare(const Target *a, const Target *b) {
  const uint64_t has[][2] = {
    {(a->matrix_bf16.m != 0) + (a->matrix_f16.m != 0),
     (b->matrix_bf16.m != 0) + (b->matrix_f16.m != 0)},
    {a->subgroup_size != 0, b->subgroup_size != 0},
    {a->subgroup_shuffle + a->subgroup_arithmetic, b->subgroup_shuffle + b->subgroup_arithmetic},
    {a->storage16, b->storage16},
    {a->shared_bytes, b->shared_bytes},
    {a->max_invocations, b->max_invocations},
    {a->chunk_bytes, b->chunk_bytes},
  };
  for (int i = 0; i < COUNT_OF(has); i++)
    if (has[i][0] != has[i][1]) return has[i][0] > has[i][1] ? -1 : 1;
  return 0;
}

/* Before those that are less; equal ones stay in the order in which they were named. */
static bool insert(const Options *o, TargetList *list, const Target *t, Buf *why) {
  if (list->n == MAX_TARGETS) {
    buf_printf(why, "--target: more than %d targets", MAX_TARGETS);
    return false;
  }
  for (int i = 0; i < list->n; i++)
    if (strcmp(list->target[i].name, t->name) == 0) {
      buf_printf(why,
                 "--target %s: two of them have the name %s, by which a runner tells them apart",
                 o->target, t->name);
      return false;
    }
  int at = list->n++;
  for (; at > 0 && compare(t, &list->target[at - 1]) < 0; at--)
    list->target[at] = list->target[at - 1];
  list->target[at] = *t;
  list->target[at].strict = o->pass.strict;
  return true;
}

bool targets_choose(const Options *o, TargetList *out, Buf *note, Buf *why) {
  Target t;
  *out = (TargetList){0};
  if (!o->target) {
    Buf reason = {0};
    bool asked = o->device >= 0, found = target_native(o, &t, note, &reason);
    if (!found) {
      buf_printf(asked ? why : note, "%s%s", reason.data,
                 asked ? "" : "; compiling for --target portable");
      t = target_portable;
    }
    buf_free(&reason);
    return (found || !asked) && insert(o, out, &t, why);
  }
  for (const char *s = o->target;; s++) {
    size_t n = strcspn(s, ",");
    if (!n) {
      buf_printf(why, "--target %s: a name is missing", o->target);
      return false;
    }
    if (!by_name(o, arena_str(o->arena, s, n), &t, note, why)) return false;
    if (!insert(o, out, &t, why)) return false;
    s += n;
    if (!*s) return true;
  }
}

bool target_choose(const Options *o, Target *t, Buf *note, Buf *why) {
  TargetList list;
  if (!targets_choose(o, &list, note, why)) return false;
  if (list.n > 1) {
    buf_printf(why, "--target %s: expected one target here", o->target);
    return false;
  }
  *t = list.target[0];
  return true;
}
