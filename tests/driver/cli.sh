#!/bin/sh
# The command line's mistakes: each must say what was expected, exit with its status and leave nothing half-written.
#   cli.sh ALPHAC MODELS
set -u
alphac=$1 models=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
export XDG_CACHE_HOME="$dir/cache"
failed=0

# expect STATUS TEXT COMMAND...: the command ends with the status and says TEXT (a grep pattern)
expect() {
  status=$1 text=$2
  shift 2
  "$@" >out 2>&1
  got=$?
  if [ $got -ne "$status" ] || ! grep -q -- "$text" out; then
    echo "FAILED: $*"
    echo "  expected status $status and: $text"
    echo "  found status $got and:"
    sed 's/^/    /' out
    failed=1
  fi
}
nothing_left() {
  left=$(ls | grep -v -x -e out -e tiny.alpha -e folder)
  [ -z "$left" ] || { echo "FAILED: left behind: $left"; failed=1; }
}

cat >tiny.alpha <<'END'
config { n = 4 }
model tiny {
  param w[n] = zeros
  fn forward(tokens: int[b, t]) -> [b, t, n] = cast(tokens, "f32")[:, :, none] * w
  fn loss(tokens: int[b, t], targets: int[b, t]) = mean(forward(tokens))
}
END
mkdir folder

expect 2 'no model given: alphac MODEL.alpha' "$alphac"
expect 0 'Examples:' "$alphac" --help
expect 0 'alphac COMMAND --help' "$alphac" --help
# each command explains itself, with its own options and an example
for c in check tune; do
  expect 0 "^alphac $c MODEL.alpha" "$alphac" $c --help
  expect 0 "^  alphac $c models/gpt2.alpha" "$alphac" $c --help
  expect 0 '^  --device N ' "$alphac" $c --help
  expect 2 "alphac $c: error: no model given: alphac $c MODEL.alpha" "$alphac" $c
  expect 2 "alphac $c: error: alphac $c has no option --emit" "$alphac" $c tiny.alpha --emit=ir
  expect 2 "unknown option --devise; did you mean --device?" "$alphac" $c tiny.alpha --devise 1
  expect 2 "^.alphac $c --help. lists the options" "$alphac" $c tiny.alpha --devise 1
done
for c in opt eval devices; do expect 0 "^Example: *alphac" "$alphac" $c --help; done
expect 0 'reference evaluator' "$alphac" check --help
grep -q -e '^  -o' -e '^  --emit' out && { echo "FAILED: check lists what it does not take"; failed=1; }
expect 0 '^  -o FILE .*profile' "$alphac" tune --help
grep -q -e '^  --target' -e '^  --emit' out && { echo "FAILED: tune lists what it does not take"; failed=1; }
expect 2 'alphac check has no option -o' "$alphac" check tiny.alpha -o x
expect 0 '^alphac 0' "$alphac" --version
expect 2 'unknown option --emitt; did you mean --emit?' "$alphac" --emitt=ir tiny.alpha
expect 2 'unknown option -x$' "$alphac" -x tiny.alpha
expect 2 'expected ast, ir, dot, dot-kernels, plan, spirv or image; did you mean ir?' "$alphac" --emit=irr tiny.alpha
cat >parts.alpha <<'END'
module part(n) {
  param w[n] = zeros
  fn forward(x) = twice(x) * w
}
fn twice(x) = x + x
model whole {
  h = [part(4) for i in 0..2]
  fn loss(x: [4]) = sum(h[1](h[0](x)))
}
END
expect 0 'subgraph "cluster_h.1" { label="h.1"' "$alphac" parts.alpha --emit=dot --program eval
[ "$(grep -c 'label="%' out)" -gt 0 ] && [ "$(grep -c '{' out)" = "$(grep -c '}' out)" ] || { echo "FAILED: dot"; failed=1; }
sed -n '/cluster_h.0"/,/  }/p' out | grep -q 'add' || { echo "FAILED: a function called from a module is not drawn in it"; failed=1; }
expect 0 'label="0: reduce_sum' "$alphac" parts.alpha --emit=dot-kernels --program eval --target portable
[ "$(grep -c '{' out)" = "$(grep -c '}' out)" ] || { echo "FAILED: dot-kernels"; failed=1; }
rm parts.alpha

expect 2 '--time-passes takes no argument' "$alphac" --time-passes=1 tiny.alpha
expect 2 '-o needs an argument: -o FILE' "$alphac" tiny.alpha -o
expect 2 '--device x: expected a number' "$alphac" tiny.alpha --device x
expect 2 'two models: tiny.alpha and b.alpha' "$alphac" tiny.alpha b.alpha
expect 1 'missing.alpha' "$alphac" missing.alpha
expect 1 'No such file' "$alphac" missing.alpha
expect 1 'folder' "$alphac" folder
expect 2 'there is no file and no command chekc; did you mean alphac check?' "$alphac" chekc tiny.alpha
expect 1 'error: --skip-pass=lower: kernels are made of what lower gives' "$alphac" tiny.alpha --skip-pass=lower --emit=ir
expect 1 'alphac: error: there is no pass "simplfy"' "$alphac" tiny.alpha --skip-pass=simplfy --emit=ir
expect 1 'cannot make the folder nowhere/x: No such file' "$alphac" tiny.alpha --emit=spirv -o nowhere/x --target portable
expect 1 'expected native, portable, nvidia-h100, or the file.*; did you mean portable?' "$alphac" tiny.alpha --target portible
expect 1 '--program trian: the model tiny has no such program' "$alphac" tiny.alpha --program trian --emit ir
expect 1 'widht' "$alphac" tiny.alpha -D widht=3
expect 1 'folder: cannot be written: it is a folder' "$alphac" tiny.alpha -o folder --target portable
expect 1 'nowhere/x: cannot be written: No such file' "$alphac" tiny.alpha -o nowhere/x --target portable
expect 1 '-o tiny.alpha is the model itself' "$alphac" tiny.alpha -o tiny.alpha --target portable
expect 1 'small: writing failed: File too large' sh -c "ulimit -f 8; '$alphac' tiny.alpha -o small --target portable"
expect 1 'cannot write to standard output: No space left' sh -c "'$alphac' '$models/gpt2.alpha' --emit=ir >/dev/full"
expect 2 'alphac devices: error: takes no arguments: now' "$alphac" devices now
for emit in ast ir dot plan spirv image; do
  expect 1 '-o ./tiny.alpha is the model itself' "$alphac" tiny.alpha --emit=$emit -o ./tiny.alpha --target portable
done
grep -q '^model tiny' tiny.alpha || { echo "FAILED: the model was replaced"; failed=1; }
echo 'fn f(x) = x' >part.alpha
expect 1 '-o part.alpha: there is a source file of that name' "$alphac" tiny.alpha -o part.alpha --target portable
grep -q '^fn f' part.alpha || { echo "FAILED: a source file was replaced"; failed=1; }
rm -f part.alpha
expect 1 'cannot write to standard output' sh -c "'$alphac' --help >/dev/full"
nothing_left
# compiling never allocates the weights: 2 s of processor and 1 GiB for 6.7 billion parameters (a sanitizer needs more)
if (ulimit -v 1048576 && "$alphac" --version) >/dev/null 2>&1; then
  expect 0 '^graph "train"' sh -c "ulimit -v 1048576; ulimit -t 2; exec '$alphac' '$models/llama.alpha' --emit=ir"
fi
# the precision of training
expect 1 'the precision is "f32", "bf16" or "f16", found "bf8"' "$alphac" "$models/cajal.alpha" --precision=bf8 --emit=ir
expect 0 'cast bf16' "$alphac" "$models/cajal.alpha" -D train.precision=bf16 --emit=ir --program train
expect 0 'cast f16' "$alphac" "$models/cajal.alpha" --precision f16 --emit=ir --program eval
for emit in ast ir dot plan; do expect 0 "init\|tiny" "$alphac" tiny.alpha --emit=$emit --target portable; done
"$alphac" tiny.alpha --emit=spirv -o kernels --target portable
ls kernels/*.spv >/dev/null && grep -q OpEntryPoint kernels/000.*.spvasm || { echo "FAILED: --emit=spirv"; failed=1; }
rm -rf kernels
"$alphac" tiny.alpha --emit=image --target portable
[ -s tiny.img ] || { echo "FAILED: --emit=image"; failed=1; }
rm -f tiny.img
# a smaller context makes a smaller training program too
expect 0 'input i32\[8,16\] "tokens"' "$alphac" "$models/cajal.alpha" -D context=16 --emit=ir --program eval

# a file that was there stays as it was when the new one cannot be written whole
echo before >keep
expect 1 'keep: writing failed: File too large' sh -c "ulimit -f 8; '$alphac' tiny.alpha -o keep --target portable"
[ "$(cat keep)" = before ] || { echo "FAILED: keep was damaged"; failed=1; }

# the same model gives the same bytes
"$alphac" tiny.alpha -o once --target portable && "$alphac" tiny.alpha -o twice --target portable && cmp once twice ||
  { echo "FAILED: two compilations differ"; failed=1; }

# what opens no device makes no folder for a driver's cache
[ ! -e cache ] || { echo "FAILED: a cache of kernels, without any"; failed=1; }
"$alphac" tiny.alpha -o tiny --target portable >out 2>&1 && [ -x tiny ] && ./tiny info --json >out 2>&1 ||
  { echo "FAILED: the runner"; cat out; failed=1; }
grep -q '"parameters": *4' out || { echo "FAILED: info"; cat out; failed=1; }
exit $failed
