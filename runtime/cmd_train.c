/* train: options, where the run begins (first values, given weights, its own checkpoint), then
 * trainer.c. */
#include "runtime/tokens.h"
#include "runtime/trainer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Options {
  TextList data, val;
  int64_t steps, seed, val_every, val_batches, save_every;
  const char *out, *tokenizer, *weights, *on_nan;
  bool resume, overwrite, other_kernels;
  bool has_steps, has_seed, has_val_every, has_save_every;
} Options;

static const Usage usage = {
  .args = "--data FILE... --steps N --out DIR [options]",
  .about = "Trains the model on text or .safetensors files. DIR gets checkpoint.safetensors,\n"
           "from which eval and generate work and --resume goes on, and metrics.jsonl, one\n"
           "object per step. Ctrl-C finishes the step under way, writes a checkpoint and ends\n"
           "with status 0. With --json the metrics go to standard output as well.",
  .example = "$0 train --data book.txt --steps 2000 --out run\n"
             "$0 train --data book.txt --out run --resume",
};

static int parse(Runner *r, Options *o, int argc, char **argv) {
  *o = (Options){.steps = 0, .seed = 1, .on_nan = "skip"};
  const Opt opt[] = {
    {"--data", OPT_list, &o->data, "FILE",
     "text, or .safetensors with a tensor [rows, ...] for each input of the loss", 0, 0},
    {"--steps", OPT_int, &o->steps, "N",
     "optimizer steps of the whole run (with --resume: default as begun)", 1, INT32_MAX},
    {"--out", OPT_text, &o->out, "DIR", "the run's directory; made where it is not there", 0, 0},
    {"--tokenizer", OPT_text, &o->tokenizer, "T",
     "byte, char or word (made from the text), or a file that\n"
     "'tokenizer train' wrote (default: that of --weights, else byte)",
     0, 0},
    {"--seed", OPT_int, &o->seed, "S", "of first values, data order and dropout (default 1)", 0,
     (double)INT64_MAX},
    {"--resume", OPT_flag, &o->resume, NULL,
     "go on from DIR's checkpoint, to the same bits as without a stop", 0, 0},
    {"--other-kernels", OPT_flag, &o->other_kernels, NULL,
     "with --resume: go on although the program's kernels, or the target asked for,\n"
     "are not those of the run so far",
     0, 0},
    {"--overwrite", OPT_flag, &o->overwrite, NULL, "begin anew in a DIR that holds a run", 0, 0},
    {"--weights", OPT_text, &o->weights, "F",
     "begin with these parameters: a .safetensors file or a run's directory", 0, 0},
    {"--val", OPT_list, &o->val, "FILE", "data to measure val_loss on", 0, 0},
    {"--val-every", OPT_int, &o->val_every, "N",
     "steps between measurements (default: a tenth of the run)", 1, INT32_MAX},
    {"--val-batches", OPT_int, &o->val_batches, "N",
     "batches of a measurement (default: all of the data)", 1, INT32_MAX},
    {"--save-every", OPT_int, &o->save_every, "N",
     "steps between checkpoints (default: a tenth of the run, at most 1000)", 1, INT32_MAX},
    {"--on-nan", OPT_text, &o->on_nan, "DO",
     "a step whose loss or gradient is not finite changes nothing:\n"
     "skip (and count) it, or stop (default skip)",
     0, 0},
  };
  int status = cli_parse(r, &usage, opt, COUNT_OF(opt), argc, argv, NULL);
  o->has_steps = cli_given(argc, argv, "--steps");
  o->has_seed = cli_given(argc, argv, "--seed");
  o->has_val_every = cli_given(argc, argv, "--val-every");
  o->has_save_every = cli_given(argc, argv, "--save-every");
  return status;
}

static int check(const Runner *r, const Options *o) {
  if (!o->data.n) return cli_misuse(r, "--data is missing: which text or .safetensors file?");
  if (!o->out || !*o->out)
    return cli_misuse(r, "--out is missing: which directory should the run be kept in?");
  if (!o->has_steps && !o->resume) return cli_misuse(r, "--steps is missing: how many steps?");
  if (strcmp(o->on_nan, "skip") != 0 && strcmp(o->on_nan, "stop") != 0)
    return cli_misuse(r, "--on-nan %s: there are skip and stop", o->on_nan);
  if (o->resume && o->overwrite)
    return cli_misuse(r, "--resume and --overwrite exclude each other");
  if (o->resume && o->weights)
    return cli_misuse(r, "--resume takes the run's own weights; leave --weights out");
  if (o->resume && o->tokenizer)
    return cli_misuse(r, "--resume takes the run's own tokenizer; leave --tokenizer out");
  if (o->other_kernels && !o->resume) return cli_misuse(r, "--other-kernels goes with --resume");
  if (o->has_val_every && !o->val.n) return cli_misuse(r, "--val-every needs --val FILE");
  if (o->val_batches && !o->val.n) return cli_misuse(r, "--val-batches needs --val FILE");
  return -1;
}

/* ---- the directory ---- */

static bool make_directories(const char *path, Buf *why) {
  char *part = strdup(path);
  bool ok = true;
  for (char *p = part + 1; ok; p++) {
    if (*p && *p != '/') continue;
    char end = *p;
    *p = 0;
    struct stat info;
    ok = mkdir(part, 0777) == 0 || (stat(part, &info) == 0 && S_ISDIR(info.st_mode));
    if (!ok)
      buf_printf(why, "%s: the directory cannot be made: %s", part,
                 errno == EEXIST ? "it is a file" : strerror(errno));
    *p = end;
    if (!end) break;
  }
  free(part);
  return ok;
}

/* The lock goes with the process, however it ends. */
static bool lock_directory(const char *path, Buf *why) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) {
    buf_printf(why, "%s: the directory cannot be opened: %s", path, strerror(errno));
    return false;
  }
  /* some file systems have no locks */
  if (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return true;
  close(fd);
  buf_printf(why, "%s: another process is training in this directory", path);
  return false;
}

static bool claim_directory(const Options *o, Buf *why) {
  static const char *const file[] = {"checkpoint.safetensors", "metrics.jsonl"};
  if (!o->resume && !make_directories(o->out, why)) return false;
  if (!lock_directory(o->out, why)) return false;
  for (int i = 0; i < COUNT_OF(file) && !o->resume && !o->overwrite; i++) {
    Buf path = {0};
    buf_printf(&path, "%s/%s", o->out, file[i]);
    bool there = access(path.data, F_OK) == 0;
    buf_free(&path);
    if (!there) continue;
    buf_printf(why,
               "%s holds a run (%s): --resume goes on with it, --overwrite begins anew, or choose "
               "another directory",
               o->out, file[i]);
    return false;
  }
  return true;
}

/* ---- where the run begins ---- */

static bool resume(const Options *o, Runner *r, const Safetensors *st, RunState *run, Buf *notes,
                   Buf *why) {
  if (!checkpoint_load_run(st, r->exec, r->image, run, notes, why)) return false;
  if (o->has_seed && (uint64_t)o->seed != run->seed) {
    buf_printf(why, "the run in %s has the seed %llu; leave --seed out", o->out,
               (unsigned long long)run->seed);
    return false;
  }
  if (!o->has_steps || o->steps == run->total) return true;
  if (o->steps < run->step) {
    buf_printf(why, "the run in %s is at step %lld already, past --steps %lld", o->out,
               (long long)run->step, (long long)o->steps);
    return false;
  }
  buf_printf(notes, "%sthe run was begun for %lld steps: from here on its schedule is that of %lld",
             notes->len ? "\n" : "", (long long)run->total, (long long)o->steps);
  run->total = o->steps;
  return true;
}

static bool first_values(const Options *o, Runner *r, const Safetensors *weights, RunState *run,
                         Buf *notes, Buf *why) {
  *run = (RunState){.total = o->steps, .seed = (uint64_t)o->seed};
  return runner_init(r->exec, r->image, run->seed, why) &&
         (!weights || checkpoint_load_params(weights, r->exec, r->image, notes, why));
}

static bool open_data(const Options *o, Runner *r, const Safetensors *st, TrainPlan *p, Data **data,
                      Data **val, Tokenizer **tok, Buf *why) {
  const ImgProgram *first = train_data_program(r), *eval = image_program(r->image, "eval");
  bool text, val_text = false;
  if (!first || !data_is_text(o->data.item, o->data.n, &text, why)) return false;
  if (o->val.n && !data_is_text(o->val.item, o->val.n, &val_text, why)) return false;
  if (o->val.n && !eval) {
    buf_str(why, "--val needs a program 'eval' in the image, which it does not have");
    return false;
  }
  bool needs_tok = text || val_text || o->tokenizer || (st && st_meta(st, "tokenizer"));
  if (needs_tok) {
    *tok = choose_tokenizer(r->image, o->tokenizer, st, o->data.item, text ? o->data.n : 0, why);
    if (!*tok) return false;
  }
  int64_t vocab = image_vocab(r->image);
  *data = data_open(o->data.item, o->data.n, first, *tok, vocab, why);
  if (*data && o->val.n) *val = data_open(o->val.item, o->val.n, eval, *tok, vocab, why);
  p->data = *data, p->val = *val, p->tok = *tok;
  return *data && (!o->val.n || *val);
}

static int64_t part_of_run(int64_t total, int64_t most) {
  int64_t n = total / 10;
  return n < 1 ? 1 : most && n > most ? most : n;
}

static void finish_plan(const Options *o, TrainPlan *p, Buf *notes) {
  RunState *run = &p->run;
  uint64_t hash = data_hash(p->data);
  if (o->resume && run->data_hash != hash)
    buf_printf(notes, "%sthe data are not those that the run was trained on so far",
               notes->len ? "\n" : "");
  run->data_hash = hash;
  p->dir = o->out;
  p->val_every = o->has_val_every ? o->val_every : part_of_run(run->total, 0);
  p->val_batches = o->val_batches;
  p->save_every = o->has_save_every ? o->save_every : part_of_run(run->total, 1000);
  p->stop_on_nan = strcmp(o->on_nan, "stop") == 0;
}

/* What stands against going on with the run's own kernels: NULL where nothing does. */
static const char *against(const Options *o, Runner *r, const Image *of_run, Buf *text) {
  if (!of_run) return ", which this program does not hold: it was compiled anew";
  if (r->target_name || o->other_kernels) return "";
  if (!r->dev) r->dev = vk_open(r->device, text);
  Buf lack = {0};
  bool ok = r->dev && vk_accepts(r->dev, of_run, &lack);
  if (r->dev && !ok) buf_printf(text, ", which this device cannot run (%s)", lack.data);
  buf_free(&lack);
  return ok ? NULL : text->data;
}

/* A run goes on with the kernels that it was begun with: other ones may round otherwise. */
static bool choose_kernels(const Options *o, Runner *r, const Safetensors *st, Buf *notes,
                           Buf *why) {
  if (!o->resume) return runner_choose(r);
  if (!checkpoint_is_run(st, r->image, why)) return false;
  const char *was = st_meta(st, "target");
  const Image *of_run = checkpoint_target(st, r->target, r->n_target);
  Buf text = {0};
  const char *reason = against(o, r, of_run, &text);
  bool ok = !reason || runner_choose(r);
  if (!reason) r->image = of_run;
  if (ok && reason && !(of_run && checkpoint_kernels(r->image) == checkpoint_kernels(of_run))) {
    buf_printf(o->other_kernels ? notes : why,
               "the run in %s was computed with the kernels for target %s%s; with those for %s its "
               "last bits differ from a run that never stopped%s",
               o->out, was ? was : "(not named)", reason, r->image->target.name,
               o->other_kernels ? "" : "; --other-kernels goes on so");
    ok = o->other_kernels;
  }
  buf_free(&text);
  return ok;
}

/* Their kernels are made ready while the data are read and parameters get their values. */
static bool open_programs(const Options *o, Runner *r) {
  static const char *const name[] = {"init", "train", "micro", "update", "eval", "eval_row"};
  const ImgProgram *program[COUNT_OF(name)];
  for (int i = 0; i < COUNT_OF(name); i++) program[i] = image_program(r->image, name[i]);
  return runner_exec(r, program, COUNT_OF(name) - (o->val.n ? 0 : 2)) != NULL;
}

static bool prepare(const Options *o, Runner *r, TrainPlan *p, Data **data, Data **val,
                    Tokenizer **tok, Buf *notes, Buf *why) {
  const char *from = o->resume ? o->out : o->weights;
  Safetensors *st = from ? checkpoint_open(from, why) : NULL;
  if (from && !st) return false;
  bool ok = choose_kernels(o, r, st, notes, why) && open_programs(o, r) &&
            open_data(o, r, st, p, data, val, tok, why);
  if (ok)
    ok = (o->resume ? resume(o, r, st, &p->run, notes, why)
                    : first_values(o, r, st, &p->run, notes, why));
  st_close(st);
  if (ok) finish_plan(o, p, notes);
  return ok;
}

int cmd_train(Runner *r, int argc, char **argv) {
  Options o;
  int status = parse(r, &o, argc, argv);
  if (status < 0) status = check(r, &o);
  if (status >= 0) return status;
  TrainPlan plan = {.runner = r};
  Data *data = NULL, *val = NULL;
  Tokenizer *tok = NULL;
  Buf notes = {0}, why = {0};
  bool ok = claim_directory(&o, &why) && prepare(&o, r, &plan, &data, &val, &tok, &notes, &why);
  if (notes.len) fprintf(stderr, "note: %s\n", notes.data);
  if (why.len) cli_error(r, "%s", why.data);
  status = ok ? train(&plan) : EXIT_failed;
  data_close(data);
  data_close(val);
  tok_free(tok);
  buf_free(&notes);
  buf_free(&why);
  return status;
}
