#!/bin/sh
# Every module that alphac writes for a model, for the device at hand, for a GPU with matrix units and for any, is accepted by the
# spirv-val at hand:
#   spirv.sh ALPHAC PROFILE MODEL.alpha [-D SETTING ...]
set -eu
alphac=$1 profile=$2 model=$3 dir=$(mktemp -d)
shift 3
trap 'rm -rf "$dir"' EXIT
for precision in bf16 f16 f32; do
  for target in native "$profile" portable; do
    "$alphac" "$model" -D vocab=256 -D width=128 -D heads=2 -D layers=1 -D train.batch=2 -D train.precision=$precision "$@" \
      --target "$target" --emit=spirv -o "$dir/$precision.$(basename "$target")"
  done
done
modules=0 refused=0 matrices=0
for module in "$dir"/*/*.spv; do
  modules=$((modules + 1))
  spirv-dis --raw-id "$module" | grep -q '^ *OpCapability CooperativeMatrixKHR' && matrices=$((matrices + 1))
  spirv-val --target-env vulkan1.2 "$module" >"$dir/said" 2>&1 && continue
  echo "FAILED: $module" && cat "$dir/said"
  refused=$((refused + 1))
done
echo "$modules modules, $matrices with matrices, $refused refused"
[ $modules -ge 150 ] && [ $matrices -ge 20 ] && [ $refused = 0 ]
