#!/bin/sh
# head.sh ALPHAC MODELS PROFILES: with 16-bit precision no program that trains or evaluates stores a tensor in f32 that is as
# large as the logits, and the gradient of the logits lies where they lay.
alphac=$1 model=$2/gpt2.alpha profile=$3/nvidia-h100.json failed=0

# Every result of a step of the plan: its place, its type and as many elements as that has.
results() {
  sed -n 's/ reads .*//; s/^ *[0-9][0-9]* //p' | sed 's/, \([a-z]*[.+]\)/\n\1/g' |
    awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^(f32|f16|bf16)\[/) {
             n = 1; split(substr($i, index($i, "[") + 1), d, /[],]/)
             for (k = 1; d[k] != ""; k++) n *= d[k]
             print $1, substr($i, 1, index($i, "[") - 1), n } }'
}

# ROWS PRECISION TARGET PROGRAM…
check() {
  rows=$1 precision=$2 target=$3
  shift 3
  for program; do
    "$alphac" "$model" -D vocab=5003 -D layers=2 -D width=64 -D heads=2 -D train.batch=$((rows / 32)) -D context=32 \
      -D train.context=32 --precision "$precision" --target "$target" --program "$program" --emit=plan | results >results
    awk -v least=$((rows * 5003)) '$2 == "f32" && $3 >= least { wrong = 1; print "in f32:", $0 } END { exit wrong }' results ||
      { echo "FAILED: $program, $precision, $target"; failed=1; }
    awk -v n=$((rows * 5056)) '$3 == n { count++; at[$1] = 1 } END { for (a in at) places++; exit !(count && places == 1) }' \
      results || { echo "FAILED: $program, $precision, $target: the padded logits lie at"
        awk -v n=$((rows * 5056)) '$3 == n' results; failed=1; }
  done
}

check 96 bf16 portable train grad eval
check 160 f16 portable train
check 96 bf16 "$profile" train grad eval
exit $failed
