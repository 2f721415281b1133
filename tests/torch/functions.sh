#!/bin/sh
# stdlib.alpha against PyTorch: functions.sh ALPHAC COMPARE HERE WORK
# The values of the library's functions (entry `values`) to 1e-5, loss and gradients to 1e-4.
set -eu
alphac=$1 compare=$2 here=$3 work=$4 golden=$3/golden/stdlib

rm -rf "$work"
mkdir -p "$work"
"$alphac" "$here/stdlib.alpha" -o "$work/stdlib" --entry values
for entry in values grad; do
  "$work/stdlib" run $entry --weights "$golden/weights.safetensors" --inputs "$golden/grad_in.safetensors" \
    --outputs "$work/$entry.safetensors"
done
"$compare" tensors "$golden/values.safetensors" "$work/values.safetensors" 1e-5
"$compare" tensors "$golden/grad.safetensors" "$work/grad.safetensors" 1e-4
