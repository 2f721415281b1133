/* eval: loss and perplexity over all of the data. */
#include "runtime/checkpoint.h"
#include "runtime/evaluate.h"
#include "runtime/progress.h"
#include "runtime/tokens.h"

#include <limits.h>
#include <math.h>

typedef struct Options {
  const char *weights, *tokenizer;
  TextList data;
  int64_t batches;
} Options;

static const Usage usage = {
  .args = "--weights F --data FILE... [options]",
  .about = "Measures the loss over the data, every row once. Text is cut into windows side by\n"
           "side; the tokens at the end that do not fill a window are not used, and eval says\n"
           "how many. perplexity is exp(loss). With --json: loss, perplexity, tokens (read),\n"
           "counted (those that the loss counts), rows, unused.",
  .example = "$0 eval --weights run --data test.txt",
};

static void show(void *arg, int64_t rows, int64_t of) {
  progress_show(arg, rows, of, "rows", false);
}

static void print_result(const Runner *r, const EvalResult *e, const Data *data) {
  int64_t unused = data_unused(data) + (data_row_count(data) - e->rows) * data_row_tokens(data);
  if (!r->json) {
    printf("loss %.6f  perplexity %.4f  tokens %lld\n", e->loss, exp(e->loss),
           (long long)e->tokens);
    if (e->counted != (double)e->tokens) printf("the loss counts %.0f of them\n", e->counted);
    if (e->rows < data_row_count(data))
      printf("%lld of %lld rows were read\n", (long long)e->rows, (long long)data_row_count(data));
    if (data_unused(data))
      printf("%lld tokens at the end fill no window and were not used\n",
             (long long)data_unused(data));
    return;
  }
  Buf b = {0};
  const double value[] = {e->loss, exp(e->loss)};
  const char *const key[] = {"loss", "perplexity"};
  for (int i = 0; i < 2; i++) {
    if (isfinite(value[i]))
      buf_printf(&b, "\"%s\": %.9g, ", key[i], value[i]);
    else
      buf_printf(&b, "\"%s\": null, ", key[i]);
  }
  printf("{%s\"tokens\": %lld, \"counted\": %.0f, \"rows\": %lld, \"unused\": %lld}\n", b.data,
         (long long)e->tokens, e->counted, (long long)e->rows, (long long)unused);
  buf_free(&b);
}

static Data *open_data(const Options *o, const Runner *r, const ImgProgram *eval,
                       const Safetensors *st, Buf *why) {
  bool text;
  if (!data_is_text(o->data.item, o->data.n, &text, why)) return NULL;
  Tokenizer *tok = text ? choose_tokenizer(r->image, o->tokenizer, st, NULL, 0, why) : NULL;
  if (text && !tok) return NULL;
  Data *data = data_open(o->data.item, o->data.n, eval, tok, image_vocab(r->image), why);
  tok_free(tok);
  return data;
}

int cmd_eval(Runner *r, int argc, char **argv) {
  Options o = {0};
  const Opt opt[] = {
    {"--weights", OPT_text, &o.weights, "F", "a .safetensors file or a run's directory", 0, 0},
    {"--data", OPT_list, &o.data, "FILE",
     "text, or .safetensors with a tensor [rows, ...] for each input of the loss", 0, 0},
    {"--tokenizer", OPT_text, &o.tokenizer, "T",
     "byte or a tokenizer's file (default: that of the weights, else byte)", 0, 0},
    {"--batches", OPT_int, &o.batches, "N", "stop after so many batches (default: all of the data)",
     1, INT_MAX},
  };
  int status = cli_parse(r, &usage, opt, COUNT_OF(opt), argc, argv, NULL);
  if (status >= 0) return status;
  if (!o.weights) return cli_misuse(r, "--weights is missing: which .safetensors file or run?");
  if (!o.data.n) return cli_misuse(r, "--data is missing: which text or .safetensors file?");
  if (!runner_choose(r)) return EXIT_failed;
  const ImgProgram *eval = runner_program(r, "eval", "eval needs a model with a loss");
  if (!eval) return EXIT_failed;
  Buf why = {0}, notes = {0};
  Safetensors *st = checkpoint_open(o.weights, &why);
  Data *data = st ? open_data(&o, r, eval, st, &why) : NULL;
  const ImgProgram *program[] = {eval, image_program(r->image, "eval_row")};
  bool ok = data && runner_exec(r, program, COUNT_OF(program));
  ok = ok && checkpoint_load_params(st, r->exec, r->image, &notes, &why);
  if (notes.len) fprintf(stderr, "note: %s\n", notes.data);
  EvalResult result;
  Progress p;
  progress_begin(&p, 0, r->json);
  ok = ok && evaluate(r->exec, r->image, data, o.batches, show, &p, &result, &why);
  progress_clear(&p);
  if (ok) print_result(r, &result, data);
  if (why.len) cli_error(r, "%s", why.data);
  data_close(data);
  st_close(st);
  buf_free(&why);
  buf_free(&notes);
  return ok ? EXIT_ok : EXIT_failed;
}
