/* Limits that a golden file cannot show: too many imports, too large a file, what is no file; and
 * that nothing leaks between loads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "frontend/frontend.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[] = "/tmp/alphac-files-XXXXXX";

static char *in_dir(const char *name) {
  static char path[200];
  snprintf(path, sizeof path, "%s/%s", dir, name);
  return path;
}

static void write_file(const char *name, const char *text) {
  FILE *f = fopen(in_dir(name), "w");
  assert_non_null(f);
  fputs(text, f);
  assert_int_equal(fclose(f), 0);
}

static void expect_error(const char *path, const char *expected) {
  Buf errors = {0};
  assert_null(fe_load(path, NULL, 0, &errors));
  if (!strstr(errors.data, expected)) fail_msg("expected: %s\nfound: %s", expected, errors.data);
  buf_free(&errors);
}

static void test_many_imports(void **state) {
  (void)state;
  char name[20], text[100];
  for (int i = 0; i < 70; i++) {
    snprintf(name, sizeof name, "u%d.alpha", i);
    snprintf(text, sizeof text, "import \"u%d.alpha\" as next\nmodel a { }\n", i + 1);
    write_file(name, text);
  }
  expect_error(in_dir("u0.alpha"),
               "more than 64 files are imported\n    1 | import \"u64.alpha\" as next\n");
  for (int i = 0; i < 70; i++) {
    snprintf(name, sizeof name, "u%d.alpha", i);
    unlink(in_dir(name));
  }
}

/* Files that import each other are one unit each. */
static void test_circular_imports(void **state) {
  (void)state;
  write_file("a.alpha",
             "import \"b.alpha\" as b\nfn two() = 2\nmodel m { param w[b.three()] = zeros }\n");
  write_file("b.alpha", "import \"a.alpha\" as a\nfn three() = a.two() + 1\n");
  Buf errors = {0};
  const ParamInfo *p;
  Model *m = fe_load(in_dir("a.alpha"), NULL, 0, &errors);
  assert_non_null(m);
  assert_int_equal(fe_params(m, &p), 1);
  assert_int_equal(p[0].type.dim[0], 3);
  fe_free(m);
  unlink(in_dir("a.alpha"));
  unlink(in_dir("b.alpha"));
}

static void test_large_file(void **state) {
  (void)state;
  size_t bytes = (1 << 20) + 10;
  char *text = xmalloc(bytes + 1);
  memset(text, ' ', bytes);
  text[bytes] = 0;
  write_file("large.alpha", text);
  expect_error(in_dir("large.alpha"), "larger than 1 MiB");
  Buf errors = {0};
  assert_null(fe_load_text("large.alpha", text, bytes, NULL, 0, &errors));
  assert_string_equal(errors.data, "error: large.alpha is larger than 1 MiB\n");
  buf_free(&errors);
  free(text);
  unlink(in_dir("large.alpha"));
}

static void test_no_file(void **state) {
  (void)state;
  expect_error(in_dir("none.alpha"), "No such file or directory");
  expect_error(dir, "not a regular file");
  expect_error("/dev/zero", "not a regular file");
  Buf errors = {0}, out = {0};
  assert_false(fe_print_ast(in_dir("none.alpha"), &out, &errors));
  assert_non_null(strstr(errors.data, "No such file or directory"));
  buf_free(&errors);
}

/* What the driver asks: names of free dimensions, functions, configuration. */
static void test_questions(void **state) {
  (void)state;
  static const char text[] = "config { width = 4; rate = 0.5 }\n"
                             "model m { fn loss(x: int[b, t], y: int[t, width], z: [s] = none) = "
                             "1.0\n if width == 3 { fn gone() = 1 } }\n";
  Buf errors = {0};
  const char *names[8];
  int64_t value;
  Model *m = fe_load_text("q.alpha", text, strlen(text), NULL, 0, &errors);
  assert_non_null(m);
  assert_int_equal(fe_entry_dims(m, "loss", names, 8), 2);
  assert_string_equal(names[0], "b");
  assert_string_equal(names[1], "t");
  assert_int_equal(fe_entry_dims(m, "none", names, 8), 0);
  assert_true(fe_has_function(m, "loss"));
  assert_false(fe_has_function(m, "gone"));
  assert_true(fe_config_int(m, "width", &value) && value == 4);
  assert_false(fe_config_int(m, "rate", &value));
  assert_false(fe_config_int(m, "none", &value));
  assert_string_equal(fe_name(m), "m");
  fe_free(m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
    cmocka_unit_test(test_many_imports), cmocka_unit_test(test_circular_imports),
    cmocka_unit_test(test_large_file),   cmocka_unit_test(test_no_file),
    cmocka_unit_test(test_questions),
  };
  if (!mkdtemp(dir)) return 1;
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  rmdir(dir);
  return failed;
}
