#!/bin/sh
# commands.sh ALPHAC SOURCE: what train, eval and generate do when all goes well, and how they end when stopped.
ALPHAC=$1 SOURCE=$2
. "$(dirname "$0")/lib.sh"
model m
m=$dir/m
field() { sed "s/.*\"$1\": *\([^,}]*\).*/\1/"; }

# ---- metrics, validation, JSON ----
head -c 3000 "$text" >"$dir/val"
expect 0 "step 10" "$m" train --data "$text" --val "$dir/val" --val-every 4 --steps 10 --out "$dir/run"
metrics=$dir/run/metrics.jsonl
[ "$(steps "$metrics")" = 10 ] || fail "metrics have $(steps "$metrics") lines"
[ "$(grep -c val_loss "$metrics")" = 3 ] || fail "val_loss is not in lines 4, 8 and 10"
for key in step loss lr grad_norm tokens tokens_per_second ms; do
  [ "$(grep -c "\"$key\": [0-9]" "$metrics")" = 10 ] || fail "key $key is not in every line"
done
[ "$(tail -1 "$metrics" | field tokens)" = 320 ] || fail "tokens of 10 steps"
"$m" train --json --data "$text" --val "$dir/val" --val-every 4 --steps 10 --out "$dir/json" >"$dir/lines" 2>"$dir/err"
same "$dir/lines" "$dir/json/metrics.jsonl"
[ -s "$dir/err" ] && fail "--json also prints to standard error: $(cat "$dir/err")"
# measuring changes nothing
expect 0 "step 10" "$m" train --data "$text" --steps 10 --out "$dir/unmeasured"
sed 's/, "val_loss": [^,}]*//' "$metrics" >"$dir/stripped"
without_times "$dir/stripped" >"$dir/a"
without_times "$dir/unmeasured/metrics.jsonl" >"$dir/b"
same "$dir/a" "$dir/b"
# the last val_loss is what eval finds
"$m" eval --json --weights "$dir/run" --data "$dir/val" >"$dir/eval" || fail "eval"
[ "$(field loss <"$dir/eval")" = "$(tail -1 "$metrics" | field val_loss)" ] || fail "eval and val_loss differ: $(cat "$dir/eval")"
awk -v l="$(field loss <"$dir/eval")" -v p="$(field perplexity <"$dir/eval")" 'BEGIN { exit !(p / exp(l) - 1 < 1e-6 && 1 - p / exp(l) < 1e-6) }' ||
  fail "perplexity is not exp(loss)"

# ---- eval reads every row once, whatever the batch; the tail is told ----
[ "$(field tokens <"$dir/eval")" = 2992 ] || fail "tokens: $(cat "$dir/eval")"
[ "$(field unused <"$dir/eval")" = 7 ] || fail "unused: $(cat "$dir/eval")"
for batch in 1 5; do
  model batch$batch "adamw(weight_decay = 0.1)" -D train.batch=$batch
  "$dir/batch$batch" eval --json --weights "$dir/run" --data "$dir/val" >"$dir/eval$batch" || fail "eval with batch $batch"
  awk -v a="$(field loss <"$dir/eval")" -v b="$(field loss <"$dir/eval$batch")" 'BEGIN { d = a / b - 1; exit !(d < 1e-6 && d > -1e-6) }' ||
    fail "the loss depends on the batch: $(cat "$dir/eval" "$dir/eval$batch")"
done
expect 0 "7 tokens at the end fill no window" "$m" eval --weights "$dir/run" --data "$dir/val"

# ---- another tokenizer than the weights' own is told ----
"$m" tokenizer train --data "$text" --kind char --out "$dir/char.json" >/dev/null || fail "tokenizer train"
expect 0 "was trained with another tokenizer" "$m" eval --weights "$dir/run" --data "$dir/val" --tokenizer "$dir/char.json"
expect 0 "was trained with another tokenizer" "$m" generate --weights "$dir/run" --prompt fn --tokens 2 --tokenizer "$dir/char.json"
expect 0 "loss" "$m" eval --weights "$dir/run" --data "$dir/val" --tokenizer byte
grep -q "another tokenizer" "$dir/out" && fail "the same tokenizer is told to be another"

# ---- learning, weights of another run ----
model fast "adam()" -D drop=0 -D train.schedule.peak=0.01
expect 0 "step 150" "$dir/fast" train --data "$text" --steps 150 --out "$dir/fastrun"
awk -v a="$(head -1 "$dir/fastrun/metrics.jsonl" | field loss)" -v b="$(tail -1 "$dir/fastrun/metrics.jsonl" | field loss)" \
  'BEGIN { exit !(a > 5 && b < 3.5) }' || fail "the loss did not fall: $(tail -1 "$dir/fastrun/metrics.jsonl")"
expect 0 "step 1" "$dir/fast" train --data "$text" --steps 1 --out "$dir/more" --weights "$dir/fastrun"
awk -v b="$(head -1 "$dir/more/metrics.jsonl" | field loss)" 'BEGIN { exit !(b < 3.8) }' || fail "--weights were not taken"

# ---- accumulation: two micro-batches of one row give what one batch of two rows gives, also where rows count differently ----
# 6 rows of 16 bytes of the text as ids: a header of 127 bytes, then the data
tensors=$dir/rows.safetensors
header='{"tokens":{"dtype":"U8","shape":[6,16],"data_offsets":[0,96]},"targets":{"dtype":"U8","shape":[6,16],"data_offsets":[96,192]}} '
[ ${#header} = 127 ] || fail "the header has ${#header} bytes"
{ printf '\177\0\0\0\0\0\0\0%s' "$header"; head -c 96 "$text"; head -c 97 "$text" | tail -c 96; } >"$tensors"
sed 's/cross_entropy(forward(tokens), targets)/cross_entropy(forward(tokens), targets, ignore = 101)/' \
  "$SOURCE/models/gpt2.alpha" >"$dir/ignore.alpha"
small="-D vocab=256 -D context=16 -D width=16 -D layers=1 -D heads=2 -D train.context=16 -D train.precision=f32 -D train.clip=0.5"
"$ALPHAC" "$dir/ignore.alpha" -o "$dir/half" $small -D train.batch=1 -D train.accumulate=2 || exit 1
"$ALPHAC" "$dir/ignore.alpha" -o "$dir/full" $small -D train.batch=2 || exit 1
for size in half full; do
  expect 0 "step 7" "$dir/$size" train --data "$tensors" --steps 7 --out "$dir/$size.run"
done
for key in loss grad_norm tokens; do
  for size in half full; do sed "s/.*\"$key\": *\([^,}]*\).*/\1/" "$dir/$size.run/metrics.jsonl" >"$dir/$size.$key"; done
  paste "$dir/half.$key" "$dir/full.$key" | awk '{ d = $1 / $2 - 1; if (d > 1e-5 || d < -1e-5) bad = 1 } END { exit bad || NR != 7 }' ||
    fail "$key differs between one batch and micro-batches: $(paste "$dir/half.$key" "$dir/full.$key")"
done
"$dir/full" eval --json --weights "$dir/full.run" --data "$tensors" >"$dir/eval" || fail "eval of tensors"
targets=$(head -c 97 "$text" | tail -c 96 | tr -d e | wc -c)
[ "$(field counted <"$dir/eval")" = "$targets" ] || fail "counted, not $targets: $(cat "$dir/eval")"
[ "$(field tokens <"$dir/eval")" = 96 ] || fail "tokens: $(cat "$dir/eval")"
"$dir/half" eval --json --weights "$dir/full.run" --data "$tensors" >"$dir/eval1" || fail "eval of tensors"
awk -v a="$(field loss <"$dir/eval")" -v b="$(field loss <"$dir/eval1")" 'BEGIN { d = a / b - 1; exit !(d < 1e-6 && d > -1e-6) }' ||
  fail "the loss depends on the batch: $(cat "$dir/eval" "$dir/eval1")"

# ---- no target counts ----
{ printf '\177\0\0\0\0\0\0\0%s' "$(echo "$header" | sed 's/ *$//') "; head -c 96 "$text"; head -c 96 /dev/zero | tr '\0' e; } >"$dir/none.safetensors"
expect 0 "loss nan" "$dir/full" train --data "$dir/none.safetensors" --steps 2 --out "$dir/none.run"
grep -q -- -nan "$dir/out" && fail "a loss that is not there has a sign: $(cat "$dir/out")"
grep -q '"loss": null.*"skipped": 1' "$dir/none.run/metrics.jsonl" || fail "metrics without a loss: $(cat "$dir/none.run/metrics.jsonl")"
expect 0 "loss nan  perplexity nan  tokens 96" "$dir/full" eval --weights "$dir/full.run" --data "$dir/none.safetensors"
expect 0 '{"loss": null, "perplexity": null, "tokens": 96, "counted": 0,' "$dir/full" eval --json --weights "$dir/full.run" \
  --data "$dir/none.safetensors"
expect 0 '"drop": 0.1' "$m" info --json
grep -q '0.10000000000000001' "$dir/out" && fail "numbers of the configuration are not as written"

# ---- generate ----
gen() { "$dir/fast" generate --weights "$dir/fastrun" --prompt "  fn " "$@"; }
gen --tokens 40 >"$dir/g1" 2>"$dir/note" || fail "generate"
gen --tokens 40 >"$dir/g2" 2>/dev/null
same "$dir/g1" "$dir/g2"
gen --tokens 40 --seed 2 2>/dev/null | cmp -s - "$dir/g1" && fail "another seed, the same text"
[ "$(grep -c "the window slides" "$dir/note")" = 1 ] || fail "the window's sliding is said once: $(cat "$dir/note")"
gen --tokens 20 --temperature 0 >"$dir/g1" 2>/dev/null
gen --tokens 20 --top-k 1 >"$dir/g2" 2>/dev/null
same "$dir/g1" "$dir/g2"
gen --tokens 20 --top-p 0.000001 >"$dir/g2" 2>/dev/null
same "$dir/g1" "$dir/g2"
gen --tokens 20 --min-p 1 >"$dir/g2" 2>/dev/null
same "$dir/g1" "$dir/g2"
gen --tokens 5 --count 3 --json >"$dir/g1" 2>/dev/null
[ "$(grep -o '"tokens":\[' "$dir/g1" | wc -l)" = 3 ] || fail "three samples: $(cat "$dir/g1")"
expect 0 '"prompt":""' "$dir/fast" generate --weights "$dir/fastrun" --tokens 2 --json

# nobody reads on: it ends
expect 1 "writing to standard output failed" sh -c "timeout 60 '$dir/fast' generate --weights '$dir/fastrun' --tokens 2000000000 >/dev/full"

# ---- a forward that looks ahead cannot be continued ----
sed 's/causal = true/causal = false/' "$SOURCE/models/gpt2.alpha" >"$dir/ahead.alpha"
"$ALPHAC" "$dir/ahead.alpha" -o "$dir/ahead" -D vocab=256 -D context=16 -D width=16 -D layers=1 -D heads=2 \
  -D train.batch=2 -D train.context=16 -D train.precision=f32 || exit 1
expect 0 "step 1" "$dir/ahead" train --data "$text" --steps 1 --out "$dir/aheadrun"
expect 1 "forward is not causal" "$dir/ahead" generate --weights "$dir/aheadrun" --prompt "abc"
expect 1 "forward is not causal" "$dir/ahead" generate --weights "$dir/aheadrun" --prompt "abcdefghijklmnopqrstuv"

# ---- not finite ----
model wild "sgd()" -D train.clip=0 -D train.schedule.warmup=0 -D train.schedule.peak=1e30
expect 0 "steps were skipped" "$dir/wild" train --data "$text" --steps 8 --out "$dir/wildrun"
[ "$(tail -1 "$dir/wildrun/metrics.jsonl" | field skipped)" -ge 6 ] || fail "skipped: $(tail -1 "$dir/wildrun/metrics.jsonl")"
expect 1 "is not finite" "$dir/wild" train --data "$text" --steps 8 --out "$dir/wildstop" --on-nan stop
expect 1 "stopped as --on-nan=stop asks. The last checkpoint, of step" "$dir/wild" train --data "$text" --steps 8 --out "$dir/wildstop" \
  --on-nan stop --overwrite

# ---- f16: a scale that is too large is halved until the gradients are finite, and goes on in the checkpoint ----
sed 's/nn.cross_entropy(forward(tokens), targets)/1e5 * &/' "$SOURCE/models/gpt2.alpha" >"$dir/scaled.alpha"
"$ALPHAC" "$dir/scaled.alpha" -o "$dir/scaled" -D vocab=256 -D context=16 -D width=16 -D layers=1 -D heads=2 -D train.batch=2 \
  -D train.context=16 --precision f16 || exit 1
expect 0 "step 20" "$dir/scaled" train --data "$text" --steps 20 --out "$dir/scaledrun" --on-nan stop
skipped=$(sed -n '/"skipped"/p' "$dir/scaledrun/metrics.jsonl" | tail -1 | field skipped)
[ "${skipped:-0}" -ge 3 ] && [ "$skipped" -le 17 ] || fail "f16: $skipped of 20 steps were skipped"
[ "$(tail -1 "$dir/scaledrun/metrics.jsonl" | field loss_scale)" = $((65536 >> skipped)) ] ||
  fail "f16: the scale after $skipped halvings: $(tail -1 "$dir/scaledrun/metrics.jsonl")"
tail -1 "$dir/scaledrun/metrics.jsonl" | grep -q '"loss": null\|"grad_norm": null' && fail "f16: still not finite"
grep -aq '"train.loss_scale":.*"train.good_steps":\|"train.good_steps":.*"train.loss_scale":' "$dir/scaledrun/checkpoint.safetensors" ||
  fail "f16: the checkpoint has no loss scale"

# ---- stopped by a signal, and a second process in the same directory ----
for signal in INT TERM; do
  run=$dir/stopped$signal
  # a shell ignores SIGINT for what it starts in the background; env gives it back
  env --default-signal=INT "$m" train --data "$text" --steps 300000 --out "$run" 2>"$dir/log" &
  pid=$!
  wait_steps "$run" 5 $pid
  expect 1 "another process is training in this directory" "$m" train --data "$text" --out "$run" --resume
  kill -$signal $pid
  wait $pid || fail "SIG$signal: status $?: $(cat "$dir/log")"
  grep -q "stopped at step .* of 300000; --resume goes on" "$dir/log" || fail "SIG$signal: $(cat "$dir/log")"
  last=$(steps "$run/metrics.jsonl")
  grep -q "\"step\":\"$last\"" "$run/checkpoint.safetensors" || fail "SIG$signal: the checkpoint is not of step $last"
done
exit $failed
