/* A device's profile: a JSON object whose keys are the fields of Target, beside what names the device. One
 * table for writing, reading and messages; every key must be there, so that a profile never means more than
 * it says; but "tuned", a list of kernels with their fastest forms, is only there where they were
 * measured. */
#include "driver/profile.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { PROFILE_VERSION = 1 };
static const char version_key[] = "alphac_profile", tuned_key[] = "tuned";

typedef enum Kind {
  KIND_name,   /* Target.name */
  KIND_text,   /* for people: what device and driver it was */
  KIND_number, /* the same */
  KIND_bool,
  KIND_u32,
  KIND_u64,
  KIND_power, /* u32: a power of two, or 0 */
  KIND_matrix /* three u32, or null where there is none */
} Kind;

typedef struct Field {
  const char *key;
  Kind kind;
  size_t at; /* in Target */
  uint64_t least, most;
} Field;

/* The bounds are what every Vulkan 1.2 device has, and what no kernel goes beyond. */
static const Field field[] = {
  {"name", KIND_name, offsetof(Target, name), 0, 0},
  {"device", KIND_text, 0, 0, 0},
  {"driver", KIND_text, 0, 0, 0},
  {"api_version", KIND_text, 0, 0, 0},
  {"memory_bytes", KIND_number, 0, 0, INT64_MAX},
  {"subgroup_size", KIND_power, offsetof(Target, subgroup_size), 0, 128},
  {"subgroup_shuffle", KIND_bool, offsetof(Target, subgroup_shuffle), 0, 0},
  {"subgroup_arithmetic", KIND_bool, offsetof(Target, subgroup_arithmetic), 0, 0},
  {"is_cpu", KIND_bool, offsetof(Target, is_cpu), 0, 0},
  {"shared_bytes", KIND_u32, offsetof(Target, shared_bytes), 16 << 10, 1 << 30},
  {"max_invocations", KIND_u32, offsetof(Target, max_invocations), 128, 1 << 16},
  {"storage16", KIND_bool, offsetof(Target, storage16), 0, 0},
  {"matrix_f16", KIND_matrix, offsetof(Target, matrix_f16), 1, 256},
  {"matrix_bf16", KIND_matrix, offsetof(Target, matrix_bf16), 1, 256},
  {"matrix_rows", KIND_bool, offsetof(Target, matrix_rows), 0, 0},
  {"cores", KIND_u32, offsetof(Target, cores), 0, 1 << 20},
  {"chunk_bytes", KIND_u64, offsetof(Target, chunk_bytes), 1 << 20, (uint64_t)1 << 48},
};

/* ---- writing ---- */

static void put_text(Buf *out, const char *s) {
  json_t *text = json_string(s); /* NULL where a driver's name is not UTF-8 */
  char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
  buf_str(out, quoted ? quoted : "\"?\"");
  free(quoted);
  json_decref(text);
}

static void put_value(Buf *out, const Field *f, const Target *t, const DeviceInfo *d) {
  const char *at = (const char *)t + f->at;
  switch (f->kind) {
  case KIND_name: put_text(out, t->name); break;
  case KIND_text:
    if (strcmp(f->key, "api_version") == 0)
      buf_printf(out, "\"%u.%u.%u\"", d->api_version >> 22 & 127, d->api_version >> 12 & 1023,
                 d->api_version & 4095);
    else
      put_text(out, strcmp(f->key, "device") == 0 ? d->name : d->driver);
    break;
  case KIND_number: buf_printf(out, "%" PRIu64, d->memory_bytes); break;
  case KIND_bool: buf_str(out, *(const bool *)at ? "true" : "false"); break;
  case KIND_u32:
  case KIND_power: buf_printf(out, "%" PRIu32, *(const uint32_t *)(const void *)at); break;
  case KIND_u64: buf_printf(out, "%" PRIu64, *(const uint64_t *)(const void *)at); break;
  case KIND_matrix: {
    const TargetMatrix *m = (const void *)at;
    if (m->m)
      buf_printf(out, "[%u, %u, %u]", m->m, m->n, m->k);
    else
      buf_str(out, "null");
  }
  }
}

void profile_print(Buf *out, const Target *t, const DeviceInfo *d) {
  buf_printf(out, "{\n  \"%s\": %d", version_key, PROFILE_VERSION);
  for (int i = 0; i < COUNT_OF(field); i++) {
    buf_printf(out, ",\n  \"%s\": ", field[i].key);
    put_value(out, &field[i], t, d);
  }
  const Tuning *tuning = t->tuning;
  for (int i = 0; tuning && i < tuning->n; i++) {
    buf_str(out, i ? ",\n    {\"kernel\": " : ",\n  \"tuned\": [\n    {\"kernel\": ");
    put_text(out, tuning->of[i].kernel);
    buf_str(out, ", \"form\": ");
    put_text(out, tuning->of[i].form);
    buf_printf(out, ", \"us\": %.3f}", tuning->of[i].us);
  }
  buf_str(out, tuning && tuning->n ? "\n  ]\n}\n" : "\n}\n");
}

/* ---- reading ---- */

typedef struct Reader {
  Arena *arena;
  const char *path, *text;
  Buf *why;
} Reader;

/* The line on which a key of the object stands. */
static int line_of(const Reader *r, const char *key) {
  size_t len = strlen(key);
  int line = 1;
  for (const char *s = r->text; *s; s++) {
    if (*s == '\n') line++;
    if (*s != '"' || strncmp(s + 1, key, len) != 0 || s[len + 1] != '"') continue;
    const char *colon = s + len + 2 + strspn(s + len + 2, " \t\r\n");
    if (*colon == ':') return line;
  }
  return 1;
}

static bool wrong(Reader *r, const char *key, const char *expected, const json_t *found) {
  char *text = json_dumps(found, JSON_ENCODE_ANY | JSON_COMPACT);
  buf_printf(r->why, "%s:%d: \"%s\": expected %s, found %s", r->path, line_of(r, key), key,
             expected, text ? text : "?");
  free(text);
  return false;
}

static bool read_number(Reader *r, const Field *f, const json_t *v, uint64_t *out) {
  json_int_t x = json_integer_value(v);
  bool ok = json_is_integer(v) && x >= 0 && (uint64_t)x >= f->least && (uint64_t)x <= f->most;
  if (f->kind == KIND_power) ok = ok && (x & (x - 1)) == 0;
  *out = (uint64_t)x;
  return ok || wrong(r, f->key,
                     arena_printf(r->arena, "%s from %" PRIu64 " to %" PRIu64,
                                  f->kind == KIND_power ? "0 or a power of two" : "a whole number",
                                  f->least, f->most),
                     v);
}

static bool read_matrix(Reader *r, const Field *f, const json_t *v, TargetMatrix *out) {
  uint32_t *to[] = {&out->m, &out->n, &out->k};
  *out = (TargetMatrix){0};
  if (json_is_null(v)) return true;
  bool ok = json_array_size(v) == COUNT_OF(to);
  for (size_t i = 0; i < COUNT_OF(to) && ok; i++) {
    json_int_t x = json_integer_value(json_array_get(v, i));
    ok = x >= (json_int_t)f->least && x <= (json_int_t)f->most;
    *to[i] = (uint32_t)x;
  }
  return ok || wrong(r, f->key, "null, or [m, n, k] of one product, each from 1 to 256", v);
}

static bool read_text(Reader *r, const Field *f, const json_t *v, Profile *p) {
  const char *s = json_string_value(v);
  if (!s || !*s) return wrong(r, f->key, "a text", v);
  const char *text = arena_str(r->arena, s, strlen(s));
  if (f->kind == KIND_name) p->target.name = text;
  if (strcmp(f->key, "device") == 0) p->device = text;
  if (strcmp(f->key, "driver") == 0) p->driver = text;
  return true;
}

static bool read_field(Reader *r, const Field *f, const json_t *v, Profile *p) {
  char *at = (char *)&p->target + f->at;
  uint64_t number = 0;
  switch (f->kind) {
  case KIND_name:
  case KIND_text: return read_text(r, f, v, p);
  case KIND_matrix: return read_matrix(r, f, v, (void *)at);
  case KIND_bool:
    *(bool *)at = json_is_true(v);
    return json_is_boolean(v) || wrong(r, f->key, "true or false", v);
  case KIND_number: return read_number(r, f, v, &number);
  case KIND_u64: return read_number(r, f, v, (void *)at);
  default:
    if (!read_number(r, f, v, &number)) return false;
    *(uint32_t *)(void *)at = (uint32_t)number;
    return true;
  }
}

static bool known(const char *key) {
  if (strcmp(key, version_key) == 0 || strcmp(key, tuned_key) == 0) return true;
  for (int i = 0; i < COUNT_OF(field); i++)
    if (strcmp(field[i].key, key) == 0) return true;
  return false;
}

static bool check_keys(Reader *r, const json_t *profile) {
  const char *key, *name[COUNT_OF(field)];
  json_t *value;
  for (int i = 0; i < COUNT_OF(field); i++) name[i] = field[i].key;
  json_object_foreach((json_t *)profile, key, value) {
    if (known(key)) continue;
    const char *near = suggest(key, name, COUNT_OF(name));
    buf_printf(r->why, "%s:%d: \"%s\" is no key of a profile%s%s%s", r->path, line_of(r, key), key,
               near ? "; did you mean \"" : "", near ? near : "", near ? "\"?" : "");
    return false;
  }
  for (int i = 0; i < COUNT_OF(field); i++) {
    if (json_object_get(profile, field[i].key)) continue;
    buf_printf(r->why, "%s: \"%s\" is missing (`alphac devices --json` writes a whole profile)",
               r->path, field[i].key);
    return false;
  }
  return true;
}

static bool read_tuned(Reader *r, const json_t *list, Profile *p) {
  const char *expected = "a list of {\"kernel\": text, \"form\": text, \"us\": number}";
  if (!list) return true;
  if (!json_is_array(list)) return wrong(r, tuned_key, expected, list);
  for (size_t i = 0; i < json_array_size(list); i++) {
    const json_t *o = json_array_get(list, i);
    const char *kernel = json_string_value(json_object_get(o, "kernel"));
    const char *form = json_string_value(json_object_get(o, "form"));
    const json_t *us = json_object_get(o, "us");
    if (json_object_size(o) != 3 || !kernel || !form || !json_is_number(us))
      return wrong(r, tuned_key, expected, o);
    TunedForm t = {arena_str(r->arena, kernel, strlen(kernel)),
                   arena_str(r->arena, form, strlen(form)), json_number_value(us)};
    ARENA_PUSH(r->arena, p->tuning.of, p->tuning.n, t);
  }
  p->target.tuning = &p->tuning;
  return true;
}

static bool read_profile(Reader *r, const json_t *profile, Profile *p) {
  const json_t *version = json_object_get(profile, version_key);
  if (!json_is_object(profile) || !version) {
    buf_printf(r->why,
               "%s: is no profile of a device: expected an object with \"%s\", as `alphac devices "
               "--json` writes it",
               r->path, version_key);
    return false;
  }
  if (!json_is_integer(version) || json_integer_value(version) != PROFILE_VERSION)
    return wrong(r, version_key, arena_printf(r->arena, "%d", PROFILE_VERSION), version);
  if (!check_keys(r, profile)) return false;
  for (int i = 0; i < COUNT_OF(field); i++)
    if (!read_field(r, &field[i], json_object_get(profile, field[i].key), p)) return false;
  return read_tuned(r, json_object_get(profile, tuned_key), p);
}

const Profile *profile_parse(Arena *arena, const char *path, const char *text, size_t n, Buf *why) {
  Reader r = {arena, path, text, why};
  Profile *p = arena_alloc(arena, sizeof *p);
  json_error_t error;
  json_t *profile = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
  if (!profile)
    buf_printf(why, "%s:%d: is not JSON: %s", path, error.line > 0 ? error.line : 1, error.text);
  bool ok = profile && read_profile(&r, profile, p);
  json_decref(profile);
  return ok ? p : NULL;
}
