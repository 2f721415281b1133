#!/bin/sh
# A short run in f32, bf16 and f16 on the project's own pages: precision.sh ALPHAC SOURCE_DIR WORK TARGET
set -eu
alphac=$1 source=$2 work=$3 target=$4
mkdir -p "$work"
cat "$source/docs/language.md" "$source"/stdlib/*.alpha "$source"/models/*.alpha >"$work/text.txt"
for precision in f32 bf16 f16; do
  "$alphac" "$source/models/gpt2.alpha" -o "$work/$precision" -D vocab=256 -D layers=2 -D heads=2 -D width=64 -D context=32 \
    -D train.context=32 -D train.batch=4 -D train.schedule.peak=1e-3 --precision $precision --target "$target"
done
exec "$source/bench/precision.sh" "$work/text.txt" 60 20 "$work/f32" "$work/bf16" "$work/f16"
