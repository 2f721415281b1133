#!/bin/sh
# Trains the same model on the same text in several precisions and compares the loss curves with the first one's:
#   bench/precision.sh TEXT STEPS WINDOW RUNNER RUNNER...
# Runners are compiled models, best named by their precision; all start from the same values (seed 1). Curves are means over
# WINDOW steps; prints for each runner its last mean, how far its curve is from the first one's at most, steps whose loss was not
# finite and updates that were skipped, and last
#   worst_percent P
# infinite where some loss was not finite. The model of the loss-curve figures, 1,000 steps, windows of 50:
#   for p in f32 bf16 f16; do
#     alphac models/gpt2.alpha -o $p -D vocab=256 -D layers=6 -D heads=6 -D width=384 -D context=256 -D train.context=256 \
#       -D train.batch=16 --precision $p
#   done
#   bench/precision.sh tinyshakespeare.txt 1000 50 ./f32 ./bf16 ./f16
set -eu
[ $# -ge 5 ] || { sed -n '2,3s/^# \{0,1\}//p' "$0" >&2; exit 2; }
text=$1 steps=$2 window=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for runner; do
  name=$(basename "$runner")
  "$runner" train --data "$text" --steps "$steps" --seed 1 --out "$work/$name" --save-every "$steps" >"$work/log" 2>&1 || {
    cat "$work/log" >&2
    exit 1
  }
  # loss, milliseconds and skipped updates by step
  sed 's/.*"loss": \([^,]*\),.*"ms": \([^,}]*\)\(.*\)}/\1 \2 \3/; s/ , .*"skipped": \([0-9]*\).*/ \1/' \
    "$work/$name/metrics.jsonl" >"$work/$name.loss"
  awk -v steps="$steps" -v window="$window" -v name="$name" -v first="$work/first" '
    BEGIN { worst = 0; while ((getline line < first) > 0) want[++n] = line }
    $1 + 0 != $1 { lost++; $1 = 0 }
    { loss[NR] = $1; sum += $1 - (NR > window ? loss[NR - window] : 0); if (NF > 2) skipped = $3; ms[NR] = $2 }
    NR >= window { mean[++m] = sum / window }
    END {
      for (i = 1; i <= m; i++) {
        if (!n) print mean[i] >first
        d = n ? 100 * (mean[i] / want[i] - 1) : 0
        if (d < 0) d = -d
        if (d > worst) worst = d
      }
      if (NR != steps || m < 1 || lost) worst = "inf"
      printf "%-8s last mean %.4f, at most %s %% off, %d losses not finite, %d updates skipped, %.2f ms at the last step\n",
        name, mean[m], worst, lost, skipped, ms[NR]
      print worst >(first ".worst." name)
    }' "$work/$name.loss"
done
awk '$1 == "inf" { worst = 1e30 } $1 + 0 > worst { worst = $1 + 0 } END { print "worst_percent", worst < 1e30 ? worst + 0 : "inf" }' \
  "$work"/first.worst.*
