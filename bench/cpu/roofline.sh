#!/bin/sh
# What each kernel of GPT-2 124M's training step (batch 4, context 64, f32) achieves on the CPU, against what OpenBLAS's matrix
# product (1024³, f32) and memcpy reach on the same threads in the same run:
#   bench/cpu/roofline.sh BUILD [STEPS [-D SETTING ...]]
# BUILD is a folder that cmake configured for this project where libopenblas-dev was installed. 3 steps unless told otherwise;
# THREADS in the environment is 2 unless set. The last line is one JSON object, with the kernels under "kernels".
set -eu
[ $# -ge 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
build=$1 steps=${2:-3}
if [ $# -gt 2 ]; then shift 2; else set --; fi
threads=${THREADS:-2}
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --build "$build" --target alphac machine >"$work/log" 2>&1 || {
  cat "$work/log" >&2
  echo "roofline.sh: program machine needs OpenBLAS (on Debian libopenblas-dev), then cmake once more" >&2
  exit 1
}
machine=$("$build/bench/cpu/machine" "$threads")
number() { echo "$machine" | sed -n 's/.*"'"$1"'":\([^,}]*\).*/\1/p'; }
echo "$machine"
"$build/driver/alphac" "$here/../../models/gpt2.alpha" -o "$work/gpt2" -D train.batch=4 -D train.context=64 \
  -D train.precision=f32 "$@"
LP_NUM_THREADS=$threads "$work/gpt2" bench train --profile --warmup 1 --steps "$steps" \
  --peak-flops "$(number matmul_flops_per_second)" --peak-bytes "$(number copy_bytes_per_second)"
