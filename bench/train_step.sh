#!/bin/sh
# Milliseconds of one training step of models/gpt2.alpha (124,439,808 parameters) in f32:
#   bench/train_step.sh ALPHAC [BATCH [CONTEXT [-D SETTING ...]]]
# Batch 4 and context 64 unless told otherwise. Prints the runner's own JSON line.
set -eu
[ $# -ge 1 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
alphac=$1 batch=${2:-4} context=${3:-64}
if [ $# -gt 3 ]; then shift 3; else set --; fi
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$alphac" "$here/../models/gpt2.alpha" -o "$work/gpt2" -D train.batch="$batch" -D train.context="$context" \
  -D train.precision=f32 "$@"
result=$("$work/gpt2" bench train --json)
echo "$result" | tail -n 1
