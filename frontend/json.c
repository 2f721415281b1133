/* json: the configuration and settings of a loaded program, for the image and for people. */
#include "frontend/elab_internal.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *number_json(double f) {
  return isfinite(f) ? json_real(f) : json_string(f > 0 ? "inf" : "-inf");
}

static json_t *value_json(Value v) {
  switch (v.kind) {
  case V_bool: return json_boolean(v.i);
  case V_int: return json_integer(v.i);
  case V_float: return number_json(v.f);
  case V_string: {
    json_t *s = json_string(v.s);
    return s ? s : json_string("(not UTF-8)"); /* an escape like \xff may have made it so */
  }
  default: return json_null();
  }
}

static json_t *optional_text(const char *s) { return s ? json_string(s) : json_null(); }

static json_t *train_json(const TrainInfo *t) {
  json_t *o = json_object();
  json_object_set_new(o, "batch", json_integer(t->batch));
  json_object_set_new(o, "context", json_integer(t->context));
  json_object_set_new(o, "accumulate", json_integer(t->accumulate));
  json_object_set_new(o, "recompute", json_boolean(t->recompute));
  json_object_set_new(o, "clip", number_json(t->clip));
  json_object_set_new(o, "precision", optional_text(t->precision));
  json_object_set_new(o, "loss", optional_text(t->loss));
  json_object_set_new(o, "optimizer", optional_text(t->optimizer));
  json_object_set_new(o, "schedule", optional_text(t->schedule));
  return o;
}

void make_json(Elab *e) {
  Model *m = e->m;
  json_t *o = json_object(), *config = json_object();
  for (int i = 0; i < m->n_config; i++)
    json_object_set_new(config, m->config[i].name, value_json(m->config[i].value));
  json_object_set_new(o, "model", json_string(fe_name(m)));
  json_object_set_new(o, "config", config);
  json_object_set_new(o, "train", train_json(&m->train));
  char *text = json_dumps(o, JSON_PRESERVE_ORDER | JSON_COMPACT);
  m->json = arena_str(m->arena, text ? text : "{}", text ? strlen(text) : 2);
  free(text);
  json_decref(o);
}
