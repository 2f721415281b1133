#!/bin/sh
# Trains models/hlx.alpha and prints the mean loss per valid token over the last epoch's 4 steps:
#   bench/hlx.sh ALPHAC DATA [EPOCHS [-D SETTING ...]]
# DATA is hlx.safetensors: 16 rows of tokens and targets, 4 rows a step in file order; target 0 is padding. 100 epochs unless
# told otherwise. PyTorch reaches 0.51 to 0.52 in them, and no model without attention can pass 0.4711. With "-D mix=true"
# 30 epochs bring it below 0.05; the floor is 0.0311.
set -eu
[ $# -ge 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
alphac=$1 data=$2 epochs=${3:-100}
if [ $# -gt 3 ]; then shift 3; else set --; fi
here=$(dirname "$0")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Valid targets of each step of an epoch: those that are not 0, from the file itself.
header=$(od -An -tu8 -N8 "$data" | tr -d ' ')
range=$(tail -c +9 "$data" | head -c "$header" | tr -d " " |
  sed 's/.*"targets":{[^}]*"data_offsets":\[\([0-9]*\),\([0-9]*\)\].*/\1 \2/')
valid=$(od -An -v -td4 -w256 -j $((8 + header + ${range% *})) -N $((${range#* } - ${range% *})) "$data" |
  awk '{ n = 0; for (i = 1; i <= NF; i++) n += $i != 0; print n }')

"$alphac" "$here/../models/hlx.alpha" -o "$work/hlx" "$@"
"$work/hlx" train --data "$data" --steps $((4 * epochs)) --seed 1 --out "$work/out" >&2

{ echo "$valid"; tail -n 4 "$work/out/metrics.jsonl" | sed 's/.*"loss": *\([^,}]*\).*/\1/'; } |
  awk 'NR <= 4 { n[NR] = $1; all += $1 } NR > 4 { sum += n[NR - 4] * $1 }
       END { if (NR != 8 || all == 0) exit 1; printf "loss_per_valid_token %.4f\n", sum / all }'
