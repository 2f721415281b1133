#!/bin/sh
# compile_time.sh ALPHAC GPT2.alpha: what compiling costs grows with the layers and no faster. Processor time, the least of three
# runs of each depth: 48 layers take at most 4.5 times what 12 take, and 12 take no more than a generous second.
set -eu
alphac=$1 model=$2
out=$(mktemp)
trap 'rm -f "$out" "$out".*' EXIT

# user and system seconds of a shell's children
seconds() {
  sh -c '"$@" >/dev/null 2>&1 || exit 1; times' sh "$@" |
    awk 'NR == 2 { gsub(/[ms]/, " "); print $1 * 60 + $2 + $3 * 60 + $4; found = 1 } END { exit !found }'
}
least() {
  for run in 1 2 3; do
    seconds "$alphac" "$model" --target portable --emit=image -o "$out" -D layers="$1" || return 1
  done | sort -n | head -1
}
few=$(least 12)
many=$(least 48)
echo "12 layers: $few s, 48 layers: $many s"
awk -v few="$few" -v many="$many" 'BEGIN {
  if (few <= 0) { print "12 layers took no time: nothing was measured"; exit 1 }
  if (few > 1) { print "12 layers: expected at most 1 s"; exit 1 }
  if (many > 4.5 * few) { print "48 layers: expected at most 4.5 times as long"; exit 1 }
}'
