#!/bin/sh
# A plan larger than the memory that may be used is refused before anything is allocated, with the numbers and with settings that
# make it fit: the model compiled with those trains. Other programs of the same file are not refused for training's needs.
#   room.sh ALPHAC GPT2.alpha
set -eu
alphac=$1 model=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
fail() { echo "FAILED: $1"; cat out; exit 1; }
compile() { # RUNNER [-D SETTING ...]
  to=$1
  shift
  "$alphac" "$model" -o "$to" --target portable -D layers=2 -D vocab=256 -D width=64 -D heads=4 -D context=32 \
    -D train.context=32 -D train.batch=16 -D train.precision=f32 "$@"
}
memory_of() { # RUNNER PROGRAM: bytes
  ./"$1" info --json | tr -d ' \n' | sed 's/.*"name":"'"$2"'"[^}]*"memory_bytes":\([0-9]*\).*/\1/'
}
run() { ./"$1" train --data text --tokenizer byte --steps 2 --out run --overwrite --memory "$limit" >out 2>&1; }
head -c 4000 "$model" >text

compile whole
need=$(memory_of whole train)
limit=$(echo "$need" | awk '{ print 0.6 * $1 / 2^30 }') # GiB

run whole && fail "training ran in 0.6 of what it needs"
for text in 'does not fit on the device: init, train need' 'intermediate values' 'optimizer and other state' 'of which --memory allows' \
  'train.recompute=true' 'train.context below 32'; do
  grep -q -- "$text" out || fail "the refusal does not say: $text"
done
[ ! -e run/metrics.jsonl ] || [ ! -s run/metrics.jsonl ] || fail "steps were made"
batch=$(sed -n 's/.*-D train.batch=\([0-9]*\) -D train.accumulate=\([0-9]*\) .*/\1/p' out)
accumulate=$(sed -n 's/.*-D train.batch=\([0-9]*\) -D train.accumulate=\([0-9]*\) .*/\2/p' out)
[ "$((batch * accumulate))" = 16 ] || fail "the settings named are not those of the same step"

./whole bench prefill --steps 1 --memory "$limit" >out 2>&1 || fail "the forward pass was refused"
./whole bench train --steps 1 --memory 1000 >out 2>&1 || fail "a limit above the device's memory refuses"
./whole info --memory "$limit" >out 2>&1 || fail "info failed"
grep -q 'does not fit on the device: train needs' out || fail "info does not say that training does not fit"
compile parts -D train.batch="$batch" -D train.accumulate="$accumulate"
run parts || fail "the settings named do not make it fit"
compile again -D train.recompute=true
[ "$(memory_of again train)" -lt "$need" ] || fail "train.recompute=true saves nothing"
