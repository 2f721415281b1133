#!/bin/sh
# tune.sh ALPHAC SOURCE: alphac tune keeps the fastest forms of a model's kernels; later compilations for the device take them,
# and what does not fit is refused or left out with a note.
ALPHAC=$1 SOURCE=$2
. "$SOURCE/tests/runtime_train/lib.sh"
"$ALPHAC" devices >/dev/null 2>&1 || { echo "skipped: no Vulkan device"; exit 0; }
m=$dir/m.alpha
cp "$SOURCE/models/gpt2.alpha" "$m"
small="-D vocab=256 -D context=32 -D width=32 -D layers=1 -D heads=2 -D train.batch=2 -D train.context=32 -D train.precision=f32"
tune() { "$ALPHAC" tune "$m" $small --program forward.32 "$@"; }
compile() { "$ALPHAC" "$m" $small "$@"; }
file=$dir/device.json

# ---- a file of one's own ----
expect 0 "the first of" tune -o "$file"
[ "$(grep -c '"kernel": "matmul ' "$file")" -ge 5 ] || fail "fewer kernels than the model has"
grep -q "^  1/[0-9]*  matmul 32 x " "$dir/out" || fail "no line for the first kernel"
compile --target native --no-tuning -o "$dir/native"
compile --target "$file" --no-tuning -o "$dir/untuned"
same "$dir/native" "$dir/untuned"

# other_form FILE: $dir/other and other.json, where the first kernel of the file has a form that shows: neither the one in the
# file nor the one that is taken without it
other_form() {
  kernel=$(sed -n 's/.*"kernel": "\([^"]*\)".*/\1/p' "$1" | head -1)
  compile --target "$1" -o "$dir/tuned" || exit 1
  for rows in 1 2 4 8; do
    for lanes in 4 8 16 32; do
      form="portable $rows rows, $lanes lanes"
      sed "s/\"kernel\": \"$kernel\", \"form\": \"[^\"]*\"/\"kernel\": \"$kernel\", \"form\": \"$form\"/" "$1" >"$dir/other.json"
      compile --target "$dir/other.json" -o "$dir/other" || exit 1
      cmp -s "$dir/other" "$dir/tuned" || cmp -s "$dir/other" "$dir/native" || return
    done
  done
  fail "no other form of $kernel changes the runner"
}
other_form "$file"
expect 0 "matmul" "$dir/other" bench prefill --steps 1 --warmup 1 --profile
sed 's/"form": "[^"]*"/"form": "no such form"/' "$file" >"$dir/unknown.json"
compile --target "$dir/unknown.json" -o "$dir/unknown" && same "$dir/native" "$dir/unknown"
for bad in '"tuned": 3' '"tuned": [3]' '"tuned": [{"kernel": "a", "form": "b"}]' '"tuned": [{"kernel": "a", "form": 1, "us": 1}]' \
  '"tuned": [{"kernel": "a", "form": "b", "us": 1, "x": 1}]'; do
  sed '/^  "tuned"/,$d' "$file" >"$dir/bad.json"
  echo "  $bad }" >>"$dir/bad.json"
  line=$(wc -l <"$dir/bad.json")
  expect 1 "bad.json:$line: \"tuned\": expected a list of " compile --target "$dir/bad.json"
done

# ---- the user's cache ----
compile -o "$dir/before" && same "$dir/native" "$dir/before"
expect 0 "$XDG_CACHE_HOME/alphac/tuned-" tune
kept=$(ls "$XDG_CACHE_HOME"/alphac/tuned-*.json)
cp "$dir/other.json" "$kept"
compile -o "$dir/cached" && same "$dir/other" "$dir/cached"
compile --target native -o "$dir/cached" && same "$dir/other" "$dir/cached"
compile --no-tuning -o "$dir/cached" && same "$dir/native" "$dir/cached"
sed 's/^  "driver": ".*"/  "driver": "another"/' "$dir/other.json" >"$kept"
expect 0 "not of this device and driver; what \`alphac tune\` kept is not used" compile -o "$dir/cached"
same "$dir/native" "$dir/cached"
echo '{' >"$kept"
expect 0 "is not JSON" compile -o "$dir/cached"
same "$dir/native" "$dir/cached"
expect 0 "is not JSON" "$ALPHAC" check "$m" $small -D context=16 --program init
expect 0 "$kept: " tune
grep -q '"tuned"' "$kept" || fail "a damaged file was not written anew"
# what is there of other kernels stays
lines=$(grep -c '"kernel"' "$kept")
"$ALPHAC" tune "$m" $small -D context=48 --program forward.48 >"$dir/out" 2>&1
[ "$(grep -c '"kernel"' "$kept")" -gt "$lines" ] || fail "kernels of another model took the place of the first's"

# ---- a run goes on with its own kernels ----
rm "$kept"
compile -o "$dir/first"
"$ALPHAC" tune "$m" $small --program train -o "$dir/train.json" >/dev/null 2>&1 || fail "tune --program train"
other_form "$dir/train.json"
expect 0 "step 2" "$dir/first" train --data "$text" --out "$dir/run" --steps 2
expect 1 "which this program does not hold: it was compiled anew" "$dir/other" train --data "$text" --out "$dir/run" --resume --steps 3
expect 0 "step 3" "$dir/first" train --data "$text" --out "$dir/run" --resume --steps 3

# ---- mistakes ----
expect 1 "m.alpha:1: is not JSON" tune -o "$m"
cmp "$m" "$SOURCE/models/gpt2.alpha" || fail "the model was overwritten"
expect 2 "alphac tune has no option --target" tune --target portable
expect 1 "there is no device 77" tune --device 77
expect 2 "no model given" "$ALPHAC" tune
exit $failed
