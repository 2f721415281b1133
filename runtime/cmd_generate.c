/* generate: continues a prompt, printing characters as they become whole. */
#include "runtime/checkpoint.h"
#include "runtime/generator.h"
#include "runtime/progress.h"
#include "runtime/sampler.h"
#include "runtime/tokens.h"

#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Options {
  const char *weights, *prompt, *tokenizer;
  int64_t tokens, count, seed, top_k;
  double temperature, top_p, min_p;
} Options;

typedef struct Generation {
  Runner *r;
  const Options *o;
  const Tokenizer *tok;
  Generator *generator;
  Sampler *sampler;
  TokIds prompt;
  bool said_slide;
  Buf why;
} Generation;

static const Usage usage = {
  .args = "--weights F --prompt TEXT [options]",
  .about = "Continues the prompt. Each token is drawn on the host in 64 bits from the model's\n"
           "logits; the same seed gives the same text. The whole context is computed anew for\n"
           "each token; past the model's context the window slides, and the earliest tokens\n"
           "are forgotten. An empty prompt begins after a newline (or, where the tokenizer has\n"
           "none, after token 0), which is not printed.",
  .example = "$0 generate --weights run --prompt \"Once upon a time\" --temperature 0.8",
};

static int parse(Runner *r, Options *o, int argc, char **argv) {
  *o = (Options){.prompt = "", .tokens = 100, .count = 1, .seed = 1, .temperature = 1, .top_p = 1};
  const Opt opt[] = {
    {"--weights", OPT_text, &o->weights, "F", "a .safetensors file or a run's directory", 0, 0},
    {"--prompt", OPT_text, &o->prompt, "TEXT", "the text to continue", 0, 0},
    {"--tokens", OPT_int, &o->tokens, "N", "how many tokens to add (default 100)", 1, INT_MAX},
    {"--temperature", OPT_float, &o->temperature, "X",
     "divides the logits; 0 takes the likeliest (default 1)", 0, 1e6},
    {"--top-k", OPT_int, &o->top_k, "K", "only the K likeliest tokens; 0: all (default)", 0,
     INT_MAX},
    {"--top-p", OPT_float, &o->top_p, "P",
     "only the likeliest that together reach P (default 1: all)", 0, 1},
    {"--min-p", OPT_float, &o->min_p, "P",
     "only those with at least P times the likeliest's probability (default 0)", 0, 1},
    {"--seed", OPT_int, &o->seed, "S", "of the draws (default 1)", 0, (double)INT64_MAX},
    {"--count", OPT_int, &o->count, "N", "how many continuations (default 1)", 1, INT_MAX},
    {"--tokenizer", OPT_text, &o->tokenizer, "T",
     "byte or a tokenizer's file (default: that of the weights, else byte)", 0, 0},
  };
  return cli_parse(r, &usage, opt, COUNT_OF(opt), argc, argv, NULL);
}

/* Prints what has become whole characters; `all`: the rest too. */
static void emit(Generation *g, Buf *pending, bool all) {
  size_t n = all ? pending->len : utf8_whole(pending->data ? pending->data : "", pending->len);
  if (g->r->json || !n) return;
  fwrite(pending->data, 1, n, stdout);
  fflush(stdout);
  memmove(pending->data, pending->data + n, pending->len - n);
  pending->len -= n;
}

static int64_t vocab_of(const Generation *g) {
  int64_t model = generator_vocab(g->generator), known = tok_size(g->tok);
  return known < model ? known : model; /* ids that the tokenizer does not have are never drawn */
}

/* One continuation: its ids to `ids`, which holds the prompt's on entry. */
static bool continue_text(Generation *g, int64_t sequence, TokIds *ids) {
  Buf pending = {0};
  bool ok = true;
  for (int64_t i = 0; i < g->o->tokens && ok; i++) {
    if (ids->n > generator_context(g->generator) && !g->said_slide) {
      g->said_slide = true;
      fflush(stdout);
      fprintf(
        stderr,
        "\nnote: the text is longer than the model's context of %lld tokens; the window slides\n",
        (long long)generator_context(g->generator));
    }
    const float *logits = generator_next(g->generator, ids->id, ids->n, &g->why);
    int32_t id = logits ? sampler_pick(g->sampler, logits, sequence, i) : 0;
    ok = logits && id >= 0;
    if (logits && id < 0)
      buf_printf(&g->why, "after %lld tokens the model's logits are not finite", (long long)ids->n);
    if (!ok) break;
    tok_push(ids, id);
    tok_decode(g->tok, id, &pending);
    emit(g, &pending, false);
    ok = !ferror(stdout); /* nobody reads on; main says so */
  }
  emit(g, &pending, true);
  buf_free(&pending);
  return ok;
}

static json_t *sample_json(const Generation *g, const TokIds *ids) {
  Buf bytes = {0}, text = {0};
  json_t *list = json_array();
  for (int64_t i = g->prompt.n; i < ids->n; i++) {
    tok_decode(g->tok, ids->id[i], &bytes);
    json_array_append_new(list, json_integer(ids->id[i]));
  }
  utf8_clean(bytes.data ? bytes.data : "", bytes.len, &text);
  json_t *sample = json_pack("{s:o, s:o}", "text",
                             json_stringn(text.data ? text.data : "", text.len), "tokens", list);
  buf_free(&bytes);
  buf_free(&text);
  return sample;
}

static void print_json(const Generation *g, json_t *samples, double seconds) {
  Buf prompt = {0};
  utf8_clean(g->o->prompt, strlen(g->o->prompt), &prompt);
  double drawn = (double)g->o->tokens * (double)g->o->count;
  json_t *top =
    json_pack("{s:s, s:I, s:O, s:f}", "prompt", prompt.data ? prompt.data : "", "prompt_tokens",
              (json_int_t)g->prompt.n, "samples", samples, "tokens_per_second", drawn / seconds);
  char *text = json_dumps(top, JSON_PRESERVE_ORDER | JSON_COMPACT | JSON_REAL_PRECISION(6));
  printf("%s\n", text);
  free(text);
  json_decref(top);
  buf_free(&prompt);
}

static bool generate(Generation *g) {
  const Options *o = g->o;
  if (!generator_check(g->generator, g->prompt.id, g->prompt.n, &g->why)) return false;
  json_t *samples = json_array();
  double began = clock_seconds();
  bool ok = true;
  for (int64_t s = 0; s < o->count && ok; s++) {
    if (!g->r->json && o->count > 1)
      printf("%s--- %lld of %lld ---\n", s ? "\n" : "", (long long)s + 1, (long long)o->count);
    if (!g->r->json) printf("%s", o->prompt);
    TokIds ids = {0};
    for (int64_t i = 0; i < g->prompt.n; i++) tok_push(&ids, g->prompt.id[i]);
    ok = continue_text(g, s, &ids);
    if (!g->r->json) printf("\n");
    json_array_append_new(samples, sample_json(g, &ids));
    free(ids.id);
  }
  if (ok && g->r->json) print_json(g, samples, clock_seconds() - began);
  json_decref(samples);
  return ok;
}

/* Something must stand before the first token that is drawn. */
static bool encode_prompt(Generation *g) {
  const char *text = g->o->prompt;
  if (!tok_encode(g->tok, text, strlen(text), "--prompt", &g->prompt, &g->why)) return false;
  if (g->prompt.n) return true;
  Buf ignored = {0};
  if (!tok_encode(g->tok, "\n", 1, "", &g->prompt, &ignored)) tok_push(&g->prompt, 0);
  buf_free(&ignored);
  return true;
}

static bool run(Generation *g, const Safetensors *st) {
  Runner *r = g->r;
  const Options *o = g->o;
  Buf notes = {0};
  const Image *m = r->image;
  const ImgProgram **program = arena_alloc(r->arena, sizeof *program * m->n_program);
  for (uint32_t i = 0; i < m->n_program; i++)
    if (strncmp(m->program[i].name, "forward.", 8) == 0) program[i] = &m->program[i];
  if (!runner_exec(r, program, (int)m->n_program)) return false;
  bool ok = checkpoint_load_params(st, r->exec, r->image, &notes, &g->why);
  if (notes.len) fprintf(stderr, "note: %s\n", notes.data);
  buf_free(&notes);
  g->generator = ok ? generator_new(r->exec, r->image, &g->why) : NULL;
  if (!g->generator || !encode_prompt(g)) return false;
  const Sampling s = {o->temperature, o->top_k, o->top_p, o->min_p, (uint64_t)o->seed};
  g->sampler = sampler_new(vocab_of(g), &s);
  return generate(g);
}

int cmd_generate(Runner *r, int argc, char **argv) {
  Options o;
  int status = parse(r, &o, argc, argv);
  if (status >= 0) return status;
  if (!o.weights) return cli_misuse(r, "--weights is missing: which .safetensors file or run?");
  if (!runner_choose(r)) return EXIT_failed;
  Generation g = {.r = r, .o = &o};
  Safetensors *st = checkpoint_open(o.weights, &g.why);
  Tokenizer *tok = st ? choose_tokenizer(r->image, o.tokenizer, st, NULL, 0, &g.why) : NULL;
  g.tok = tok;
  bool ok = tok && run(&g, st);
  if (g.why.len) cli_error(r, "%s", g.why.data);
  generator_free(g.generator);
  sampler_free(g.sampler);
  tok_free(tok);
  st_close(st);
  free(g.prompt.id);
  buf_free(&g.why);
  return ok ? EXIT_ok : EXIT_failed;
}
