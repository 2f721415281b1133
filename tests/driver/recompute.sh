#!/bin/sh
# train.recompute=true keeps of each layer what the layer got, and nothing else: with 4 layers more the most that the training
# program has in scratch at once grows by 4 tensors f32[batch, context, width], to the byte.
#   recompute.sh ALPHAC GPT2.alpha
set -eu
alphac=$1 model=$2 batch=32 context=128 width=64

scratch() { # LAYERS RECOMPUTE: bytes at once
  "$alphac" "$model" -D layers="$1" -D vocab=256 -D width=$width -D heads=4 -D context=$context -D train.batch=$batch \
    -D train.context=$context -D train.precision=f32 -D train.recompute="$2" --target portable --program train --emit=plan |
    sed -n 's/^program train: .* bytes of scratch for \([0-9]*\) at once/\1/p'
}
kept=$(scratch 4 false) four=$(scratch 4 true) eight=$(scratch 8 true)
echo "scratch of 4 layers: $kept bytes, recomputed $four; of 8 layers recomputed: $eight"
predicted=$((4 * 4 * batch * context * width)) grown=$((eight - four))
[ "$grown" -eq $predicted ] || { echo "FAILED: 4 layers take $grown bytes, not $predicted"; exit 1; }
[ "$four" -lt $((kept / 2)) ] || { echo "FAILED: not less than half"; exit 1; }
