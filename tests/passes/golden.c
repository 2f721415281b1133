/* Passes on text: each FILE.ir of the folder begins with a comment naming the passes, "// simplify" or "// autodiff,simplify",
 * and FILE.expect holds what they make of it. ALPHAC_BLESS=1 rewrites the expectations. */
#include "passes/passes.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>

static void write_text(const char *path, const Buf *text) {
  FILE *f = fopen(path, "w");
  assert_non_null(f);
  assert_int_equal(fwrite(text->data, 1, text->len, f), text->len);
  assert_int_equal(fclose(f), 0);
}

static void check_file(const char *path) {
  Buf text = {0}, why = {0}, got = {0}, want = {0}, expect = {0};
  assert_true(buf_read_file(&text, path));
  Graph *g = ir_parse(path, text.data, text.len, &why);
  if (!g) fail_msg("%s", why.data);
  char *list = xcalloc(text.len + 1, 1);
  if (sscanf(text.data, "// %[a-z,]", list) != 1) fail_msg("%s: the first line must be // and passes", path);
  PassOptions none = {0};
  Graph *to = pass_run(g, list, &none, &why);
  if (!to) fail_msg("%s: %s", path, why.data);
  ir_print(&got, to);
  buf_printf(&expect, "%.*s.expect", (int)strlen(path) - 3, path);
  if (getenv("ALPHAC_BLESS")) write_text(expect.data, &got);
  if (!buf_read_file(&want, expect.data)) fail_msg("%s does not exist", expect.data);
  if (strcmp(got.data, want.data) != 0) fail_msg("%s: found\n%s", path, got.data);
  if (to != g) graph_free(to);
  graph_free(g);
  free(list);
  buf_free(&text);
  buf_free(&got);
  buf_free(&want);
  buf_free(&expect);
}

static void test_texts(void **state) {
  (void)state;
  glob_t found;
  assert_int_equal(glob(TEXTS "/*.ir", 0, NULL, &found), 0);
  for (size_t i = 0; i < found.gl_pathc; i++) check_file(found.gl_pathv[i]);
  globfree(&found);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_texts)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
