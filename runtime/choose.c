/* Which of the model's targets a command runs: what --target names, else what suits the device best. */
#include "runtime/runtime.h"

#include <string.h>

static bool named(Runner *r) {
  const char *name[IMG_MAX_TARGETS];
  Buf list = {0};
  for (uint32_t i = 0; i < r->n_target; i++) {
    name[i] = r->target[i].target.name;
    buf_printf(&list, "%s%s", i ? ", " : "", name[i]);
    if (strcmp(name[i], r->target_name) == 0) {
      r->image = &r->target[i];
      buf_free(&list);
      return true;
    }
  }
  const char *near = suggest(r->target_name, name, (int)r->n_target);
  cli_error(r, "--target %s: the model was not compiled for it%s%s%s; it was for: %s",
            r->target_name, near ? "; did you mean " : "", near ? near : "", near ? "?" : "",
            list.data);
  buf_free(&list);
  return false;
}

bool runner_suits(Runner *r, Buf *why) {
  Buf lack = {0};
  if (!r->dev) r->dev = vk_open(r->device, why);
  const Image *found = r->dev ? vk_choose(r->dev, r->target, r->n_target, &lack) : NULL;
  if (found)
    r->image = found;
  else if (r->dev)
    buf_printf(why,
               "the device can run none of the targets that the model was compiled for:\n  %s\n"
               "compile it with --target portable, or with --target native on that machine",
               lack.data);
  buf_free(&lack);
  return found != NULL;
}

bool runner_choose(Runner *r) {
  if (r->target_name) return named(r);
  if (r->n_target == 1) return true; /* exec_new says what the device lacks for it */
  Buf why = {0};
  bool ok = runner_suits(r, &why);
  if (!ok) cli_error(r, "%s", why.data);
  buf_free(&why);
  return ok;
}
