/* tokenizer: make one from text; text ↔ ids. */
#include "runtime/runtime.h"
#include "runtime/safetensors.h"
#include "runtime/tokens.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const Usage usage = {
  .args = "train|encode|decode [ARGUMENT...] [options]",
  .about = "train --data FILE... --kind char --out FILE   makes a tokenizer from text\n"
           "encode --tokenizer T [TEXT]    prints the ids of TEXT, else of standard input\n"
           "decode --tokenizer T [ID...]   prints the text of ids, else of standard input\n"
           "\n"
           "byte has 256 ids. char has one id per character of the texts' NFC form and refuses\n"
           "others. word has words, runs of one white-space character and other characters,\n"
           "the most frequent of them, and <unk> for the rest.",
  .example = "$0 tokenizer train --data book.txt --kind word --vocab 8192 --out book.json\n"
             "$0 tokenizer encode --tokenizer book.json \"To be or not\"",
  .min_args = 1,
  .max_args = INT32_MAX,
};

typedef struct Options {
  TextList data;
  const char *kind, *out, *tokenizer;
  int64_t vocab;
} Options;

static int train_tokenizer(Runner *r, const Options *o) {
  if (!o->data.n) return cli_misuse(r, "--data is missing: which text?");
  if (!o->out)
    return cli_misuse(r, "--out is missing: which file should the tokenizer be written to?");
  for (int i = 0; i < o->data.n; i++)
    if (same_file(o->out, o->data.item[i]))
      return cli_misuse(r, "--out %s is the text itself", o->out);
  TokKind kind = tok_kind_by_name(o->kind);
  if (kind == TOK_KINDS) return cli_misuse(r, "--kind %s: there are byte, char and word", o->kind);
  int64_t most = o->vocab ? o->vocab : kind == TOK_word ? 32768 : 0;
  if (kind == TOK_byte && most && most < 256)
    return cli_misuse(r, "--vocab %lld: byte has 256 ids", (long long)most);
  Buf json = {0}, why = {0};
  Tokenizer *t = tokenizer_from_files(kind, o->data.item, o->data.n, most, &why);
  if (t) tok_json(t, &json);
  bool ok = t && file_replace(o->out, json.data, json.len, &why);
  if (!ok)
    cli_error(r, "%s", why.data);
  else if (r->json)
    printf("{\"kind\": \"%s\", \"vocab\": %lld}\n", o->kind, (long long)tok_size(t));
  else
    printf("%s: %s tokenizer with %lld ids; compile the model with -D vocab=%lld\n", o->out,
           o->kind, (long long)tok_size(t), (long long)tok_size(t));
  tok_free(t);
  buf_free(&json);
  buf_free(&why);
  return ok ? EXIT_ok : EXIT_failed;
}

static void read_input(Buf *to) {
  char piece[4096];
  size_t n;
  while ((n = fread(piece, 1, sizeof piece, stdin)) > 0) buf_put(to, piece, n);
  if (!to->data) buf_str(to, "");
}

static int encode(Runner *r, const Tokenizer *t, const TextList *text) {
  Buf input = {0}, why = {0};
  TokIds ids = {0};
  if (text->n) {
    for (int i = 0; i < text->n; i++) buf_printf(&input, "%s%s", i ? " " : "", text->item[i]);
  } else {
    read_input(&input);
  }
  bool ok = tok_encode(t, input.data, input.len, text->n ? "TEXT" : "standard input", &ids, &why);
  if (!ok) cli_error(r, "%s", why.data);
  if (ok && r->json) printf("{\"tokens\": [");
  for (int64_t i = 0; ok && i < ids.n; i++)
    printf("%s%d", !i ? "" : r->json ? ", " : " ", ids.id[i]);
  if (ok) printf(r->json ? "]}\n" : "\n");
  free(ids.id);
  buf_free(&input);
  buf_free(&why);
  return ok ? EXIT_ok : EXIT_failed;
}

/* Ids parted by spaces or commas. */
static bool decode_ids(Runner *r, const Tokenizer *t, const char *text, Buf *out) {
  static const char BETWEEN[] = " \t\r\n,[]";
  for (text += strspn(text, BETWEEN); *text; text += strspn(text, BETWEEN)) {
    char *end;
    errno = 0;
    long id = strtol(text, &end, 10);
    bool number = end > text && (!*end || strchr(BETWEEN, *end));
    if (!number || errno || id < 0 || id >= tok_size(t)) {
      cli_error(r, "'%.*s' is not an id of the tokenizer, which has 0 to %lld",
                (int)strcspn(text, BETWEEN), text, (long long)tok_size(t) - 1);
      return false;
    }
    tok_decode(t, (int32_t)id, out);
    text = end;
  }
  return true;
}

static int decode(Runner *r, const Tokenizer *t, const TextList *ids) {
  Buf input = {0}, out = {0};
  for (int i = 0; i < ids->n; i++) buf_printf(&input, "%s ", ids->item[i]);
  if (!ids->n) read_input(&input);
  bool ok = decode_ids(r, t, input.data, &out);
  if (ok && r->json) {
    Buf clean = {0};
    utf8_clean(out.data ? out.data : "", out.len, &clean);
    json_t *object =
      json_pack("{s:o}", "text", json_stringn(clean.data ? clean.data : "", clean.len));
    char *text = json_dumps(object, 0);
    printf("%s\n", text);
    free(text);
    json_decref(object);
    buf_free(&clean);
  } else if (ok && out.len) {
    fwrite(out.data, 1, out.len, stdout);
  }
  buf_free(&input);
  buf_free(&out);
  return ok ? EXIT_ok : EXIT_failed;
}

static int use(Runner *r, const Options *o, bool encodes, const TextList *args) {
  if (!o->tokenizer)
    return cli_misuse(r, "--tokenizer is missing: byte, or a file that 'tokenizer train' wrote");
  Buf why = {0};
  Tokenizer *t = strcmp(o->tokenizer, "byte") == 0 ? tok_byte() : tok_load(o->tokenizer, &why);
  int status = !t        ? cli_error(r, "%s", why.data)
               : encodes ? encode(r, t, args)
                         : decode(r, t, args);
  tok_free(t);
  buf_free(&why);
  return status;
}

int cmd_tokenizer(Runner *r, int argc, char **argv) {
  Options o = {.kind = "char"};
  const Opt opt[] = {
    {"--data", OPT_list, &o.data, "FILE", "train: texts", 0, 0},
    {"--kind", OPT_text, &o.kind, "K", "train: byte, char or word (default char)", 0, 0},
    {"--vocab", OPT_int, &o.vocab, "N",
     "train: at most so many ids (default: word 32768, char as many as there are)", 2, INT32_MAX},
    {"--out", OPT_text, &o.out, "FILE", "train: where the tokenizer is written", 0, 0},
    {"--tokenizer", OPT_text, &o.tokenizer, "T", "encode, decode: byte, or a tokenizer's file", 0,
     0},
  };
  TextList args = {0};
  int status = cli_parse(r, &usage, opt, COUNT_OF(opt), argc, argv, &args);
  if (status >= 0) return status;
  const char *what = args.item[0];
  TextList rest = {args.item + 1, args.n - 1};
  bool trains = strcmp(what, "train") == 0, encodes = strcmp(what, "encode") == 0;
  if (!trains && !encodes && strcmp(what, "decode") != 0)
    return cli_misuse(r, "tokenizer %s: there are train, encode and decode", what);
  if (trains && rest.n) return cli_misuse(r, "unexpected argument '%s'", rest.item[0]);
  return trains ? train_tokenizer(r, &o) : use(r, &o, encodes, &rest);
}
