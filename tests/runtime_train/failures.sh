#!/bin/sh
# failures.sh ALPHAC SOURCE: what can go wrong around training: a message that says it, a status other than 0, and the
# earlier checkpoint as it was.
ALPHAC=$1 SOURCE=$2
. "$(dirname "$0")/lib.sh"
model m
m=$dir/m
run=$dir/run
checkpoint=$run/checkpoint.safetensors

# ---- usage ----
expect 2 "--data is missing" "$m" train --steps 3 --out "$run"
expect 2 "--out is missing" "$m" train --steps 3 --data "$text"
expect 2 "--steps is missing" "$m" train --data "$text" --out "$run"
expect 2 "--on-nan never: there are skip and stop" "$m" train --steps 3 --data "$text" --out "$run" --on-nan never
expect 2 "--resume and --overwrite exclude each other" "$m" train --data "$text" --out "$run" --resume --overwrite
expect 2 "leave --weights out" "$m" train --data "$text" --out "$run" --resume --weights x
expect 2 "--val-every needs --val" "$m" train --steps 3 --data "$text" --out "$run" --val-every 2
expect 2 "--weights is missing" "$m" eval --data "$text"
expect 2 "--data is missing" "$m" eval --weights "$run"
expect 2 "--weights is missing" "$m" generate --prompt x
expect 2 "leave --tokenizer out" "$m" train --data "$text" --out "$run" --resume --tokenizer byte
expect 2 "--temperature expects a number, not 'warm'" "$m" generate --weights x --temperature warm
expect 2 "tokenizer make: there are train, encode and decode" "$m" tokenizer make
expect 2 "--data is missing: which text?" "$m" tokenizer train --out "$dir/tok.json"
expect 2 "--out is missing: which file" "$m" tokenizer train --data "$text"
expect 2 "--kind bpe: there are byte, char and word" "$m" tokenizer train --data "$text" --out "$dir/tok.json" --kind bpe
expect 2 "--vocab 255: byte has 256 ids" "$m" tokenizer train --data "$text" --out "$dir/tok.json" --kind byte --vocab 255
expect 2 "--tokenizer is missing: byte, or a file" "$m" tokenizer encode abc
expect 1 "'256' is not an id of the tokenizer, which has 0 to 255" "$m" tokenizer decode --tokenizer byte 97 256

# ---- data and tokenizers ----
expect 1 "no/such/file: cannot be read: No such file or directory" "$m" train --steps 3 --data no/such/file --out "$run"
printf abc >"$dir/short"
expect 1 "short: 3 tokens are too few: one window needs 17" "$m" train --steps 3 --data "$dir/short" --out "$run"
expect 1 "tok.json: cannot be read" "$m" train --steps 3 --data "$text" --tokenizer "$dir/tok.json" --out "$run"
awk 'BEGIN { for (i = 0; i < 300; i++) printf "word%d ", i }' >"$dir/words"
"$m" tokenizer train --data "$dir/words" --kind word --out "$dir/tok.json" >/dev/null || fail "tokenizer train"
expect 1 "the word tokenizer has 302 ids and the model's vocabulary 256: compile the model with -D vocab=302" \
  "$m" train --steps 3 --data "$text" --tokenizer "$dir/tok.json" --out "$run"
printf 'a\377b' >"$dir/bytes"
expect 1 "bytes: not UTF-8: byte 0xff at offset 1" "$m" train --steps 3 --data "$dir/bytes" --tokenizer char --out "$run"
printf 'not tensors at all' >"$dir/bad.safetensors"
expect 1 "bad.safetensors: not a sound safetensors file" "$m" train --steps 3 --data "$dir/bad.safetensors" --out "$run"
[ -e "$checkpoint" ] && fail "a refused run has a checkpoint"

# what never ends is not read to the end; what is read is not replaced
expect 1 "/dev/zero: cannot be read: File too large" "$m" tokenizer train --data /dev/zero --kind byte --out "$dir/zero.json"
cp "$dir/words" "$dir/kept"
expect 2 "is the text itself" "$m" tokenizer train --data "$dir/words" --kind char --out "$dir/./words"
same "$dir/words" "$dir/kept"
expect 2 "--val-batches needs --val" "$m" train --steps 3 --data "$text" --out "$run" --val-batches 2
expect 2 "--out is missing" "$m" train --steps 3 --data "$text" --out ""
expect 2 "--seed -1: must be at least 0" "$m" train --steps 3 --data "$text" --out "$run" --seed -1

# ---- ids outside the vocabulary, a file that is read and written ----
# one row of 16 ids, 300 among them, as int32: a header of 72 bytes
ids=$dir/ids.safetensors
header='{"tokens":{"dtype":"I32","shape":[1,16],"data_offsets":[0,64]}}         '
[ ${#header} = 72 ] || fail "the header has ${#header} bytes"
id_file() { { printf '\110\0\0\0\0\0\0\0%s' "$header"; printf "$1"; head -c 60 /dev/zero; } >"$ids"; }
id_file '\054\001\0\0'
expect 1 "tensor 'tokens', element 0: id 300 is not in the model's vocabulary of 256" "$m" run forward.16 --inputs "$ids"
id_file '\377\377\377\377'
expect 1 "element 0: id -1 is not in the model's vocabulary" "$m" run forward.16 --inputs "$ids"
id_file '\377\0\0\0'
cp "$ids" "$dir/kept"
expect 2 "is the file that is read" "$m" run forward.16 --inputs "$ids" --outputs "$ids"
same "$ids" "$dir/kept"
expect 0 "logits: f32 [1, 16, 256]" "$m" run forward.16 --inputs "$ids" --outputs "$dir/logits.safetensors"

# ---- an existing run ----
expect 0 "step 6" "$m" train --steps 6 --data "$text" --out "$run"
cp "$checkpoint" "$dir/good"
expect 1 "holds a run (checkpoint.safetensors): --resume goes on with it, --overwrite begins anew" \
  "$m" train --steps 3 --data "$text" --out "$run"
same "$checkpoint" "$dir/good"
expect 1 "there is no checkpoint in this directory" "$m" train --data "$text" --out "$dir" --resume
expect 1 "nowhere: the directory cannot be opened" "$m" train --data "$text" --out "$dir/nowhere" --resume
expect 1 "has the seed 1; leave --seed out" "$m" train --data "$text" --out "$run" --resume --seed 3
expect 1 "is at step 6 already, past --steps 3" "$m" train --data "$text" --out "$run" --resume --steps 3
expect 0 "the data are not those that the run was trained on" "$m" train --data "$dir/words" --out "$run" --resume
same "$checkpoint" "$dir/good"

# ---- files that are no checkpoint of this program ----
printf '\2\0\0\0\0\0\0\0{}' >"$dir/none.safetensors"
mkdir "$dir/weights" && cp "$dir/none.safetensors" "$dir/weights/checkpoint.safetensors"
expect 1 "holds weights and no training state; begin a new run with --weights" "$m" train --data "$text" --out "$dir/weights" --resume
expect 1 "these are not the model's weights" "$m" eval --weights "$dir/none.safetensors" --data "$text"
cp -r "$run" "$dir/longer"
expect 0 "the run was begun for 6 steps: from here on its schedule is that of 8" \
  "$m" train --data "$text" --out "$dir/longer" --resume --steps 8
head -2 "$run/metrics.jsonl" >"$dir/longer/metrics.jsonl" && cp "$dir/good" "$dir/longer/checkpoint.safetensors"
expect 0 "metrics.jsonl: ends at step 2 where the checkpoint is of step 6" \
  "$m" train --data "$text" --out "$dir/longer" --resume --steps 7
model other "adamw(weight_decay = 0.1)" --target portable
cp "$dir/good" "$dir/longer/checkpoint.safetensors"
expect 1 "which this program does not hold: it was compiled anew" "$dir/other" train --data "$text" --out "$dir/longer" --resume --steps 7
expect 1 "--other-kernels goes on so" "$dir/other" train --data "$text" --out "$dir/longer" --resume --steps 7
same "$checkpoint" "$dir/good"
expect 0 "with those for portable its last bits differ" "$dir/other" train --data "$text" --out "$dir/longer" --resume --steps 7 --other-kernels
expect 2 "--other-kernels goes with --resume" "$m" train --data "$text" --out "$dir/fresh" --steps 1 --other-kernels
# one program for both: it goes on with the kernels that the run was begun with, whichever the device prefers
model both "adamw(weight_decay = 0.1)" --target native,portable
for target in portable native; do
  model one "adamw(weight_decay = 0.1)" --target $target
  expect 0 "step 4" "$dir/one" train --data "$text" --out "$dir/whole.$target" --steps 4
  without_times "$dir/whole.$target/metrics.jsonl" | sed 's/, "target": "[^"]*"//' >"$dir/$target.metrics"
  "$dir/one" train --data "$text" --out "$dir/part.$target" --steps 4 --save-every 2 --on-nan stop >"$dir/log" 2>&1 &
  wait_steps "$dir/part.$target" 2 $!
  kill -KILL $! 2>/dev/null
  wait $! 2>/dev/null
  expect 0 "step 4" "$dir/both" train --data "$text" --out "$dir/part.$target" --resume
  without_times "$dir/part.$target/metrics.jsonl" | sed 's/, "target": "[^"]*"//' >"$dir/part.metrics"
  same "$dir/$target.metrics" "$dir/part.metrics"
  expect 1 "was computed with the kernels for target" "$dir/both" train --data "$text" --out "$dir/part.$target" --resume --steps 5 \
    --target "$([ $target = native ] && echo portable || "$dir/both" info --json | sed -n 's/^  "target": "\(.*\)",$/\1/p')"
done
cmp -s "$dir/portable.metrics" "$dir/native.metrics" && fail "the two targets round alike: nothing was tested"

# ---- another program ----
cat >"$dir/rows.alpha" <<'END'
import optim
model rows {
  param w[4] = normal(1)
  fn loss(x: [b, 4], targets: int[b, 4]) = mean(x * w)
}
train { batch = 1; context = 4; optimizer = optim.adam(); schedule = optim.constant(peak = 1) }
END
"$ALPHAC" "$dir/rows.alpha" -o "$dir/rows" || exit 1
expect 1 "use a .safetensors file" "$dir/rows" train --steps 1 --data "$text" --out "$dir/fresh"
{ printf '\70\0\0\0\0\0\0\0%s' '{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}} '; head -c 16 /dev/zero; } >"$dir/rows.safetensors"
expect 1 "has no program 'forward.<length>' from tokens" "$dir/rows" generate --weights "$dir/rows.safetensors" --prompt x

# ---- another configuration ----
model wide adamw -D width=32 -D train.clip=2
expect 1 "config.width is 16 in the checkpoint and 32 in this program" "$dir/wide" train --data "$text" --out "$run" --resume
expect 1 "train.clip is 1.0 in the checkpoint and 2.0 in this program" "$dir/wide" train --data "$text" --out "$run" --resume
expect 1 "wte.weight has the shape [256, 16] where the model's is [256, 32]" "$dir/wide" eval --weights "$run" --data "$text"
model deep adamw -D layers=2
expect 1 "h.1.ln_1.weight is missing" "$dir/deep" eval --weights "$run" --data "$text"
expect 0 "tensors that the model does not have:" "$dir/m" train --steps 1 --data "$text" --out "$dir/deepless" --weights "$(
  "$dir/deep" train --steps 1 --data "$text" --out "$dir/deeprun" 2>/dev/null && echo "$dir/deeprun")"
same "$checkpoint" "$dir/good"

# ---- a damaged checkpoint ----
size=$(wc -c <"$checkpoint")
truncated() { head -c "$1" "$dir/good" >"$checkpoint"; }
edited() { cp "$dir/good" "$checkpoint" && printf '\125' | dd of="$checkpoint" bs=1 seek="$1" conv=notrunc 2>/dev/null; }
for command in "train --data $text --out $run --resume" "eval --data $text --weights $run" "generate --weights $run" \
  "train --steps 2 --data $text --out $dir/fresh --weights $run"; do
  truncated $((size - 1)); expect 1 "the file was cut short" "$m" $command
  truncated 100; expect 1 "the file was cut short" "$m" $command
  truncated 0; expect 1 "not a sound safetensors file" "$m" $command
  edited $((size - 5)); expect 1 "its contents were changed or damaged after it was written" "$m" $command
  edited $((size / 2)); expect 1 "its contents were changed or damaged after it was written" "$m" $command
done
sed 's/"seed":"1"/"seed":"2"/' "$dir/good" >"$checkpoint"
expect 1 "its contents were changed or damaged after it was written" "$m" train --data "$text" --out "$run" --resume
cp "$dir/good" "$checkpoint"

# ---- a damaged image, a device that is not there ----
size=$(wc -c <"$m")
head -c $((size - 100)) "$m" >"$dir/cut"
cp "$m" "$dir/edit" && printf '\125\252' | dd of="$dir/edit" bs=1 seek=$((size - 200)) conv=notrunc 2>/dev/null
chmod +x "$dir/cut" "$dir/edit"
expect 1 "this runner holds no model, or its file was cut short" "$dir/cut" train --steps 3 --data "$text" --out "$dir/fresh"
expect 1 "damaged" "$dir/edit" train --steps 3 --data "$text" --out "$dir/fresh"
expect 1 "error: " "$m" train --data "$text" --out "$run" --resume --device 77
expect 1 "error: " env VK_DRIVER_FILES=/nonexistent VK_ICD_FILENAMES=/nonexistent "$m" train --data "$text" --out "$run" --resume
same "$checkpoint" "$dir/good"

# ---- no space, no permission ----
# a full disk: what is written first goes to a device that is always full
mkdir -p "$dir/fresh" && rm -f "$dir"/fresh/*
ln -s /dev/full "$dir/fresh/checkpoint.safetensors.partial"
expect 1 "fresh/checkpoint.safetensors: writing failed: No space left on device" \
  "$m" train --steps 9 --data "$text" --out "$dir/fresh"
[ -e "$dir/fresh/checkpoint.safetensors" ] && fail "a checkpoint that could not be written is there"
ln -s /dev/full "$checkpoint.partial"
expect 1 "run/checkpoint.safetensors: writing failed: No space left on device" \
  "$m" train --steps 9 --data "$text" --out "$run" --resume
same "$checkpoint" "$dir/good"
[ -e "$checkpoint.partial" ] && fail "what was written of a checkpoint was left"
expect 0 "step 9" "$m" train --steps 9 --data "$text" --out "$run" --resume
expect 1 "/proc/run: the directory cannot be made" "$m" train --steps 9 --data "$text" --out /proc/run
: >"$dir/file"
expect 1 "file: the directory cannot be made: it is a file" "$m" train --steps 9 --data "$text" --out "$dir/file"
expect 1 "tok: cannot be written: No such file or directory" "$m" tokenizer train --data "$text" --out "$dir/none/tok"
# A file system of its own needs a user namespace or root.
if unshare -rm true 2>/dev/null; then
  cp "$dir/good" "$checkpoint"
  mkdir "$dir/mount"
  cat >"$dir/mounted" <<END
mount -t tmpfs -o size=300k none "$dir/mount" && mkdir "$dir/mount/run" && cp "$checkpoint" "$dir/mount/run/" || exit 9
dd if=/dev/zero of="$dir/mount/filler" bs=1k 2>/dev/null
"$m" train --steps 9 --data "$text" --out "$dir/mount/run" --resume && exit 8
cmp "$checkpoint" "$dir/mount/run/checkpoint.safetensors" || exit 7
rm "$dir/mount/filler" && mount -o remount,ro "$dir/mount" || exit 6
"$m" train --steps 9 --data "$text" --out "$dir/mount/run" --resume && exit 5
cmp "$checkpoint" "$dir/mount/run/checkpoint.safetensors" || exit 4
exit 0
END
  expect 0 "No space left on device" unshare -rm sh "$dir/mounted"
  grep -q "Read-only file system" "$dir/out" || fail "a read-only file system: $(cat "$dir/out")"
else
  echo "note: no file systems can be mounted here: full disks and read-only directories only as above"
fi
exit $failed
