#!/bin/sh
# What fusion promises of GPT-2's training step: at most 22 dispatches a layer and 14 besides, all parameters' updates with the
# norm in 4 of them; scratch that grows linearly with the context; 124M parameters at batch 1, context 1,024 within 3.3 GiB.
#   dispatches.sh ALPHAC GPT2.alpha
set -eu
alphac=$1 model=$2 dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() { echo "FAILED: $1"; exit 1; }

dispatches() { # LAYERS
  "$alphac" "$model" -D layers="$1" -D vocab=256 -D width=64 -D heads=4 -D context=64 -D train.batch=2 -D train.context=64 \
    -D train.precision=f32 --program train -o "$dir/gpt2" 2>/dev/null
  "$dir/gpt2" info --dispatches train >"$dir/kernels"
  "$dir/gpt2" info --json | tr -d ' \n' | sed -n 's/.*"name":"train","dispatches":\([0-9]*\).*/\1/p'
}
two=$(dispatches 2) four=$(dispatches 4)
echo "dispatches: $two with 2 layers, $four with 4"
[ $((four - two)) -le 44 ] || fail "2 layers more take $((four - two)) dispatches"
[ $((four - 4 * 22)) -le 14 ] || fail "$((four - 4 * 22)) dispatches besides 22 a layer"
tail=$(grep -c '×' "$dir/kernels") || fail "no dispatch runs many instances"
[ "$tail" -le 3 ] || fail "the updates and their norm take $tail dispatches of many instances, not 3"

plan() { # CONTEXT: the plan of GPT-2's training program at batch 1
  "$alphac" "$model" -D context="$1" -D train.batch=1 -D train.context="$1" -D train.precision=f32 --target portable \
    --program train --emit=plan
}
scratch() { plan "$1" | sed -n 's/^program train: .* \([0-9]*\) bytes of scratch.*/\1/p'; }
one=$(scratch 1024) short=$(scratch 4096) long=$(scratch 8192)
all=$((one + 3 * 4 * 124439808))
echo "scratch at context 1024, 4096, 8192: $one $short $long; with parameters and states at 1024: $all"
[ $all -le 3543348019 ] || fail "$all bytes are more than 3.3 GiB"
# fixed + context · slope, within 1 %
[ $((100 * (long - short))) -le $((101 * 4 * (short - one) / 3)) ] || fail "scratch grows faster than the context"
