#!/bin/sh
# Trains a small GPT on the first 90 % of a text, by characters (ASCII), and prints its loss on the last 10 %:
#   bench/shakespeare.sh ALPHAC TEXT [STEPS [-D SETTING ...]]
# models/gpt2.alpha at 4 layers, 4 heads, width 128, context 64, batch 12; f32; peak 1e-3, beta2 0.99, warm-up 100 steps; 2,000
# steps unless told otherwise. On tinyshakespeare.txt nanoGPT documents 1.88 for a CPU run of this size.
set -eu
[ $# -ge 2 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
alphac=$1 text=$2 steps=${3:-2000}
if [ $# -gt 3 ]; then shift 3; else set --; fi
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

size=$(wc -c < "$text")
head -c $((size * 9 / 10)) "$text" > "$work/train.txt"
tail -c +$((size * 9 / 10 + 1)) "$text" > "$work/val.txt"

# An ASCII text has as many characters as different bytes.
vocab=$(od -An -v -tx1 "$text" | tr -s ' ' '\n' | sort -u | grep -c .)

"$alphac" "$here/../models/gpt2.alpha" -o "$work/gpt" -D vocab="$vocab" -D context=64 -D width=128 -D layers=4 -D heads=4 \
  -D train.batch=12 -D train.context=64 -D train.precision=f32 -D train.schedule.peak=1e-3 -D train.schedule.warmup=100 \
  -D train.optimizer.beta2=0.99 "$@"
"$work/gpt" tokenizer train --kind char --data "$text" --out "$work/chars.json" >&2
"$work/gpt" train --data "$work/train.txt" --tokenizer "$work/chars.json" --steps "$steps" --seed 1 --out "$work/out" >&2
"$work/gpt" eval --weights "$work/out" --data "$work/val.txt" --json > "$work/eval"
cat "$work/eval" >&2
sed -n 's/.*"loss": *\([^,}]*\).*/validation_loss \1/p' "$work/eval"
