#!/bin/sh
# commands.sh STUB MAKE_RUNNER TENSORS: the runner's command line on the sample image: exit codes, messages, JSON, files.
stub=$1 make_runner=$2 tensors=$3
. "$(dirname "$0")/../expect.sh"

p=$dir/sample
"$make_runner" "$stub" "$p" || exit 1

# usage
expect 2 "usage: $p COMMAND" "$p"
expect 0 "devices     list the Vulkan devices" "$p" --help
expect 0 "devices     list the Vulkan devices" "$p" help
expect 2 "unknown command 'trian'; did you mean 'train'?" "$p" trian
expect 2 "unknown command 'xyzzy'" "$p" xyzzy
for c in info train eval generate run bench tokenizer devices; do
  expect 0 "--device N" "$p" $c --help
  expect 0 "usage: $p $c" "$p" $c -h
done
expect 2 "unknown option --prams; did you mean --params?" "$p" info --prams
expect 2 "unknown option --zzz" "$p" info --zzz=3
expect 2 "--params takes no value" "$p" info --params=1
expect 2 "unexpected argument 'now'" "$p" info now
expect 2 "--device expects N" "$p" info --device
expect 2 "--device expects a whole number, not 'one'" "$p" info --device one
expect 2 "--device -1: must be from 0 to 1000" "$p" info --device -1
expect 2 "--steps 0: must be from 1 to 1000000" "$p" bench train --steps 0
expect 2 "--seed 99999999999999999999: the number is too large" "$p" run step --seed 99999999999999999999
expect 2 "--weights expects FILE; to pass --seed itself, join them with =" "$p" run step --weights --seed 3
expect 2 "expected: $p run ENTRY [options]" "$p" run
expect 2 "try: $p run --help" "$p" run

# the image and the device
expect 1 "this runner holds no model" "$stub" info
expect 0 "usage: $stub info" "$stub" info --help
for damage in edited truncated trailer; do
  "$make_runner" "$stub" "$dir/bad" $damage
  expect 1 "the image is damaged" "$dir/bad" info
done
expect 0 "1,000" "$p" info
expect 0 "parameter" "$p" info --params
expect 0 '"parameters": 1000,' "$p" info --json
expect 0 '"dispatches": 3,' "$p" info --json
expect 0 '"peak_bytes": 4000,' "$p" info --json
expect 0 '"flops": 6000000.0,' "$p" info --json
expect 0 '"vocab": 7' "$p" info --json
expect 0 '"batch": 2,' "$p" info --json
expect 0 "config      vocab 7" "$p" info
expect 0 "train       batch 2, clip 1.0" "$p" info
expect 1 "there is no device 77; there" "$p" run init --device 77
expect 1 "no Vulkan driver was found; install" env VK_DRIVER_FILES=/nonexistent VK_INSTANCE_LAYERS= "$p" run init
expect 1 "no Vulkan driver was found; install" env VK_DRIVER_FILES=/nonexistent VK_INSTANCE_LAYERS= "$p" devices
expect 0 "device      none: no Vulkan driver" env VK_DRIVER_FILES=/nonexistent VK_INSTANCE_LAYERS= "$p" info
mkdir "$dir/lib" && echo no library >"$dir/lib/libvulkan.so.1"
expect 1 "the Vulkan loader could not be opened" env LD_LIBRARY_PATH="$dir/lib" "$p" devices
expect 0 "--temperature" env LD_LIBRARY_PATH="$dir/lib" "$p" generate --help
"$make_runner" "$stub" "$dir/giant" target
expect 1 "the model was compiled for giant" "$dir/giant" run init
expect 1 "268435456 bytes of workgroup memory (it has" "$dir/giant" run init
expect 0 '"usable": true' "$p" devices --json

# targets: the first that the device has all for, or the one named
"$make_runner" "$stub" "$dir/several" targets
q=$dir/several
expect 0 "compiled for small" "$q" info
expect 0 "small: 1 kernels, chosen" "$q" info
expect 0 "lacks: subgroups of 64" "$q" info
expect 0 "huge: 1 kernels, could run" "$q" info
expect 0 "portable: 1 kernels, could run" "$q" info
expect 0 '"target": "small"' "$q" info --json
expect 0 "compiled for giant" "$q" info --target giant
expect 0 "compiled for portable" env VK_DRIVER_FILES=/nonexistent VK_INSTANCE_LAYERS= "$q" info
expect 1 "no Vulkan driver was found" env VK_DRIVER_FILES=/nonexistent VK_INSTANCE_LAYERS= "$q" run init
expect 0 '"target":"small"' "$q" bench train --steps 1 --warmup 1
expect 0 '"target":"portable"' "$q" bench train --steps 1 --warmup 1 --target portable
expect 1 "the model was compiled for giant; device" "$q" run init --target giant
expect 1 "--target smal: the model was not compiled for it; did you mean small?; it was for: giant, huge, small, portable" "$q" run init --target smal

# run
"$tensors" make "$dir/x" x F32 1000 5 || exit 1
expect 0 "y: f32 [1000]" "$p" run step --inputs "$dir/x" --outputs "$dir/y"
[ "$("$tensors" get "$dir/y" y 10)" = 35 ] || fail "y[10] is not 5 + 3 · 10"
[ "$("$tensors" get "$dir/y" c 999)" = 5 ] || fail "c[999] is not 5"
"$tensors" make "$dir/w" w F32 1000 1.5 || exit 1
expect 0 "y: f32 [1000]" "$p" run step --inputs "$dir/x" --outputs "$dir/y" --weights "$dir/w"
[ "$("$tensors" get "$dir/y" y 10)" = 16.5 ] || fail "y[10] is not 5 + 1.5 + 10"
expect 1 "run: model sample has no program 'stepp'; did you mean 'step'?; it has: init, step" "$p" run stepp
expect 1 "has no tensor 'x'; the program needs it as f32 [1000]" "$p" run step
expect 1 "No such file" "$p" run step --inputs "$dir/none"
"$tensors" make "$dir/bad" x F32 10x100 5
expect 1 "'x' is F32 [10, 100]; the program needs f32 [1000]" "$p" run step --inputs "$dir/bad"
"$tensors" make "$dir/bad" xx F32 1000 5
expect 1 "program step has no input 'xx'; its inputs are x" "$p" run step --inputs "$dir/bad"
"$tensors" make "$dir/tokens" tokens I64 2x4 3 targets I32 2x4 1 total F32 - 10
expect 0 "loss: 1" "$p" run train --inputs "$dir/tokens"
expect 0 '"loss": 1.0' "$p" run train --inputs "$dir/tokens" --json
"$tensors" make "$dir/bad" token I32 2x4 3 targets I32 2x4 1 total F32 - 10
expect 1 "program train has no input 'token'; did you mean 'tokens'?" "$p" run train --inputs "$dir/bad"
"$tensors" make "$dir/bad" tokens F32 2x4 3 targets I32 2x4 1 total F32 - 10
expect 1 "tokens" "$p" run train --inputs "$dir/bad"
expect 1 "cannot" "$p" run step --inputs "$dir/x" --outputs "$dir/no/such/place"
[ -c /dev/full ] && expect 1 "writing to standard output failed: No space left on device" sh -c "$p info >/dev/full"
expect 1 "writing to standard output failed: Broken pipe" sh -c "{ $p info --json; echo \$? >$dir/status; } 2>$dir/err | true; cat $dir/err; exit \$(cat $dir/status)"

expect 1 "has no program 'tarin'; did you mean 'train'?" "$p" info --dispatches tarin
expect 0 "dispatches of train" "$p" info --dispatches train
[ "$(grep -c "^ *[0-5]  .* FLOP " "$dir/out")" = 5 ] && grep -q "^ *5 .* kFLOP .*  w = w + t\$" "$dir/out" || fail "info --dispatches"
expect 0 '"dispatch_list": [' "$p" info --dispatches train --json
expect 0 '"memory_bytes": ' "$p" info --json
expect 1 "does not fit on the device: init, train need" "$p" bench train --memory 1e-6

# bench
expect 0 '"ms_per_step":' "$p" bench train --steps 3
for key in tokens_per_second model_flops_per_second bytes_moved pipelines_ms device; do
  tail -1 "$dir/out" | grep -q "^{.*\"$key\":.*}$" || fail "bench has no $key"
done
tail -1 "$dir/out" | grep -q '"dispatches":6,' || fail "bench counts other dispatches"
expect 0 "all, one after the other" "$p" bench train --steps 2 --profile
grep -q '^ *6 .* 100.0% .* loss$' "$dir/out" || fail "bench --profile does not show the kernel"
expect 0 '"kernels":[{"kernel":"add","label":"loss","dispatches":6.0,' "$p" bench train --steps 2 --profile --json --peak-bytes 1e9
grep -q '"of_peak":[0-9]' "$dir/out" || fail "bench --peak-bytes shows no part of the peak"
expect 2 "go with --profile" "$p" bench train --peak-flops 1e9
expect 1 "there is no decoding step" "$p" bench decode
expect 1 "has no program forward.N" "$p" bench prefill
expect 2 "unknown measurement 'tarin'" "$p" bench tarin
exit $failed
