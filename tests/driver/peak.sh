#!/bin/sh
# The peak of a plan is at most 1.1 times the largest live set of its order: every program of the models, large and small, with and
# without recomputation, for a device that can do little and for one with matrix units.
#   peak.sh ALPHAC MODELS
set -eu
alphac=$1 models=$2
small='-D width=64 -D heads=4 -D layers=3 -D vocab=300 -D context=32 -D train.context=32'
peaks() { # TARGET SETTINGS: of every program a line
  for model in gpt2 llama hlx cajal; do
    # shellcheck disable=SC2086
    "$alphac" "$models/$model.alpha" $2 --target "$1" --emit=plan 2>/dev/null |
      sed -n "s/^program \(.*\): .* \([0-9]*\) bytes of scratch for \([0-9]*\) at once/$model \1 \2 \3/p"
  done
}
{
  peaks nvidia-h100 ''
  for settings in '' '-D train.batch=3' '-D train.batch=3 -D train.precision=f32' '-D train.recompute=true' '-D train.batch=4 -D train.context=64' "$small" "$small -D train.accumulate=2"; do
    peaks portable "$settings"
  done
} | awk '
  { n++; if ($4 > 0 && $3 / $4 > worst) worst = $3 / $4 }
  $3 < $4 || $3 > 1.1 * $4 { print "FAILED: " $0; failed = 1 }
  END { print n " programs, at worst " worst " times"; exit failed || n < 200 }'
