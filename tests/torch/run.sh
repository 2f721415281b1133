#!/bin/sh
# One golden of make_goldens.py against a compiled runner:
#   run.sh ALPHAC COMPARE MODELS GOLDEN/CASE OPTIMIZER WORK TOLERANCE
# Compiles the model with the case's dimensions and the optimizer's train block; compares loss and gradients where the case
# has them, then the losses of training from the golden's weights over its rows in file order.
set -eu
alphac=$1 compare=$2 models=$3 case=$4 optimizer=$5 work=$6 tolerance=$7

rm -rf "$work"
mkdir -p "$work"
model=$(sed -n 's/^model //p' "$case/dims")
{ sed '/^train {/,$d' "$models/$model.alpha"; cat "$case/$optimizer.train"; } > "$work/$model.alpha"
set --
for setting in $(sed 1d "$case/dims"); do set -- "$@" -D "$setting"; done
"$alphac" "$work/$model.alpha" -o "$work/$model" "$@"

if [ -f "$case/grad_in.safetensors" ]; then
  "$work/$model" run grad --weights "$case/weights.safetensors" --inputs "$case/grad_in.safetensors" \
    --outputs "$work/grad.safetensors"
  "$compare" tensors "$case/grad.safetensors" "$work/grad.safetensors" 1e-4
fi

steps=$(wc -l < "$case/$optimizer.losses")
"$work/$model" train --weights "$case/weights.safetensors" --data "$case/data.safetensors" --steps "$steps" --out "$work/out"
"$compare" losses "$case/$optimizer.losses" "$work/out/metrics.jsonl" "$tolerance"
