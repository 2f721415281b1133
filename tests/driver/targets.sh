#!/bin/sh
# targets.sh ALPHAC MODEL: one runner for several targets takes the one that suits each device, and profiles are read as they
# are written, or refused with the place.
alphac=$1 model=$2
. "$(dirname "$0")/../expect.sh"
compile() {
  "$alphac" "$model" -D vocab=32 -D context=8 -D width=16 -D layers=1 -D heads=2 -D train.batch=2 -D train.context=8 \
    -D train.precision=f32 "$@"
}

"$alphac" devices >/dev/null 2>&1 || { echo "skipped: no Vulkan device"; exit 0; }

# A product in parts of its terms reads attention's result, whose heads are merged first.
"$alphac" "$model" -D vocab=32 -D layers=1 -D train.precision=f32 --target nvidia-h100 --program forward.1024 -o "$dir/parts" ||
  failed=1

# ---- profiles ----
p=$dir/device.json
"$alphac" devices --json >"$p" || exit 1
name=$(sed -n 's/^  "name": "\(.*\)",$/\1/p' "$p")
compile --target native -o "$dir/native" || exit 1
compile --target "$p" -o "$dir/profile" || exit 1
cmp "$dir/native" "$dir/profile" || fail "the device and its profile give different runners"
for key in $(sed -n 's/^  "\([a-z0-9_]*\)": .*/\1/p' "$p" | grep -v alphac_profile); do
  sed "/^  \"$key\":/d; s/^  \"cores\": \(.*\),\$/  \"cores\": \1,/" "$p" | sed ':a;N;$!ba;s/,\n}/\n}/' >"$dir/less.json"
  expect 1 "less.json: \"$key\" is missing" compile --target "$dir/less.json"
done

# wrong VALUE-LINE WORDS: the line that replaces the key's own, and what is said of it
wrong() {
  key=${1%%:*}
  sed "s/^  $key: .*/  $1,/" "$p" >"$dir/bad.json"
  line=$(grep -n "^  $key" "$dir/bad.json" | cut -d: -f1)
  expect 1 "bad.json:$line: $key: expected $2" compile --target "$dir/bad.json"
}
wrong '"alphac_profile": 2' '1, found 2'
wrong '"name": 3' 'a text, found 3'
wrong '"name": ""' 'a text, found ""'
wrong '"driver": null' 'a text, found null'
wrong '"subgroup_size": 12' '0 or a power of two from 0 to 128, found 12'
wrong '"subgroup_size": 256' '0 or a power of two from 0 to 128, found 256'
wrong '"subgroup_size": true' '0 or a power of two from 0 to 128, found true'
wrong '"subgroup_shuffle": 1' 'true or false, found 1'
wrong '"is_cpu": "yes"' 'true or false, found "yes"'
wrong '"shared_bytes": 100' 'a whole number from 16384 to 1073741824, found 100'
wrong '"max_invocations": 1.5' 'a whole number from 128 to 65536, found 1.5'
wrong '"storage16": null' 'true or false, found null'
wrong '"matrix_f16": [16, 16]' 'null, or [m, n, k] of one product, each from 1 to 256, found [16,16]'
wrong '"matrix_bf16": [16, 0, 16]' 'null, or [m, n, k] of one product, each from 1 to 256, found [16,0,16]'
wrong '"cores": -1' 'a whole number from 0 to 1048576, found -1'
sed 's/^  "cores":/  "coers":/' "$p" >"$dir/bad.json"
line=$(grep -n coers "$dir/bad.json" | cut -d: -f1)
expect 1 "bad.json:$line: \"coers\" is no key of a profile; did you mean \"cores\"?" compile --target "$dir/bad.json"
sed 's/^  "cores": \([0-9]*\),/  "cores": \1, "cores": 1,/' "$p" >"$dir/bad.json"
expect 1 "bad.json:$line: is not JSON: duplicate object key" compile --target "$dir/bad.json"
head -c 100 "$p" >"$dir/bad.json"
expect 1 "is not JSON: " compile --target "$dir/bad.json"
: >"$dir/bad.json"
expect 1 "bad.json:1: is not JSON" compile --target "$dir/bad.json"
echo '{"a": 1}' >"$dir/bad.json"
expect 1 "bad.json: is no profile of a device" compile --target "$dir/bad.json"
expect 1 "--target $dir/none.json: cannot be read: No such file" compile --target "$dir/none.json"
expect 1 "--target portable,: a name is missing" compile --target portable,
expect 1 "two of them have the name portable" compile --target portable,portable
expect 1 "expected native, portable, nvidia-h100, or the file of a profile" compile --target h200
expect 1 "did you mean nvidia-h100?" compile --target portable,nvidia-h10
expect 2 "--emit plan shows one target; --target portable,nvidia-h100 names 2" compile --target portable,nvidia-h100 --emit plan
expect 2 "--device goes with --json" "$alphac" devices --device 0
expect 2 "--device x: expected a number" "$alphac" devices --json --device x
expect 1 "there is no device 77" "$alphac" devices --json --device 77
expect 2 "takes no arguments: x" "$alphac" devices x

# ---- one runner, several devices ----
both=$dir/both
compile --target portable,native,nvidia-h100 -o "$both" || exit 1
expect 0 "\"target\": \"$name\"" "$both" info --json
expect 0 "nvidia-h100: " "$both" info
expect 0 "compiled for portable" "$both" info --target portable
expect 0 "\"target\":\"$name\"" "$both" bench train --steps 1 --warmup 1
expect 0 '"target":"portable"' "$both" bench train --steps 1 --warmup 1 --target portable
if "$both" info | grep -q "nvidia-h100: .*could run"; then
  expect 0 '"target":"nvidia-h100"' "$both" bench train --steps 1 --warmup 1 --target nvidia-h100
else
  expect 1 "the model was compiled for nvidia-h100; " "$both" bench train --steps 1 --warmup 1 --target nvidia-h100
fi
sizes=$(wc -c <"$both")
compile --target portable -o "$dir/portable"
[ "$sizes" -gt "$(wc -c <"$dir/portable")" ] && [ "$sizes" -gt "$(wc -c <"$dir/native")" ] || fail "nothing was added"

# lavapipe with narrower vectors is another device, with subgroups of 4
if grep -q '"is_cpu": true' "$p" && grep -q '"subgroup_size": 8' "$p"; then
  expect 0 "compiled for portable" env LP_NATIVE_VECTOR_WIDTH=128 "$both" info
  expect 0 "lacks: subgroups of 8 (it has 4)" env LP_NATIVE_VECTOR_WIDTH=128 "$both" info
  expect 0 '"target":"portable"' env LP_NATIVE_VECTOR_WIDTH=128 "$both" bench train --steps 1 --warmup 1
  compile --target native,nvidia-h100 -o "$dir/none"
  expect 1 "the device can run none of the targets that the model was compiled for:" \
    env LP_NATIVE_VECTOR_WIDTH=128 "$dir/none" bench train --steps 1
  expect 1 "  nvidia-h100: device " env LP_NATIVE_VECTOR_WIDTH=128 "$dir/none" bench train --steps 1
  expect 1 "  $name: device " env LP_NATIVE_VECTOR_WIDTH=128 "$dir/none" bench train --steps 1
fi
exit $failed
