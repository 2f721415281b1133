#!/bin/sh
# GPT-2 124M on the CPU: tokens a second of a full training step (forward, backward, AdamW; batch 4, context 64, f32, 2 threads),
# ours through lavapipe against llm.c's train_gpt2, one after the other in each round:
#   bench/cpu/run.sh BUILD TRAIN_GPT2 [ROUNDS [STEPS [-D SETTING ...]]]
# BUILD is a folder that cmake configured for this project; TRAIN_GPT2 is llm.c's program (https://github.com/karpathy/llm.c),
# optimised for this machine. 3 rounds of 5 steps unless told otherwise; THREADS in the environment is 2 unless set. The last
# line is one JSON object. Steps 1 and 2 of each round are not counted. Both start from random weights on random tokens.
set -eu
[ $# -ge 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
build=$(cd "$1" && pwd) train_gpt2=$2 rounds=${3:-3} steps=${4:-5}
if [ $# -gt 4 ]; then shift 4; else set --; fi
threads=${THREADS:-2}
here=$(cd "$(dirname "$0")" && pwd)
[ -x "$train_gpt2" ] || {
  echo "run.sh: there is no program $train_gpt2: it is llm.c's train_gpt2, from git clone https://github.com/karpathy/llm.c" >&2
  exit 2
}
train_gpt2=$(cd "$(dirname "$train_gpt2")" && pwd)/$(basename "$train_gpt2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --build "$build" --target alphac llmc_files >"$work/log" || { cat "$work/log" >&2; exit 1; }
"$build/driver/alphac" "$here/../../models/gpt2.alpha" -o "$work/gpt2" -D train.batch=4 -D train.context=64 \
  -D train.precision=f32 "$@"
"$build/bench/cpu/llmc_files" "$work"

# Each gives "LEAST MEDIAN": milliseconds of the counted steps. train_gpt2 has no option for the number of steps: it is ended.
theirs() {
  (cd "$work" && OMP_NUM_THREADS=$threads exec stdbuf -oL "$train_gpt2" >"$work/steps" 2>&1) &
  pid=$!
  while [ "$(grep -c '^step [0-9]' "$work/steps")" -lt $((steps + 2)) ] && kill -0 "$pid" 2>/dev/null; do sleep 0.5; done
  kill "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  sed -n 's/^step [0-9].*took \([0-9.]*\) ms.*/\1/p' "$work/steps" | sed -n "3,$((steps + 2))p" >"$work/ms"
  spread "$work/ms"
}
ours() {
  LP_NUM_THREADS=$threads "$work/gpt2" bench train --warmup 2 --steps "$steps" --json >"$work/json"
  sed -n 's/.*"ms_per_step":\([^,]*\),"ms_min":\([^,]*\),.*/\2 \1/p' "$work/json"
}
spread() { # least and median of the numbers in a file
  sort -g "$1" | awk '{ x[NR] = $1 } END { if (NR) print x[1], (x[int((NR + 1) / 2)] + x[int(NR / 2) + 1]) / 2 }'
}

printf '%-6s %24s %24s\n' round 'alphac ms least, median' 'llm.c ms least, median'
: >"$work/steps"
for round in $(seq "$rounds"); do
  a=$(ours) b=$(theirs)
  [ -n "$a" ] && [ -n "$b" ] || { echo "run.sh: a program gave no times" >&2; exit 1; }
  echo "$a $b" >>"$work/rounds"
  printf '%-6s %24s %24s\n' "$round" "$a" "$b"
done
driver=$(sed -n 's/.*"driver":"\([^"]*\)".*/\1/p' "$work/json")
column() { cut -d' ' -f"$1" "$work/rounds" >"$work/column"; spread "$work/column"; }
echo "$(column 1) $(column 2) $(column 3) $(column 4)" | awk -v threads="$threads" -v driver="$driver" '{
  tokens = 4 * 64 * 1000 # of 1,000 steps: a step takes $1 (least) and $4 (median of the rounds) ms here, $5 and $8 there
  printf "tokens/s by the median step: alphac %.1f, llm.c %.1f, ratio %.3f; by the fastest: %.1f, %.1f, ratio %.3f\n",
    tokens / $4, tokens / $8, $8 / $4, tokens / $1, tokens / $5, $5 / $1
  printf "{\"bench\":\"cpu\",\"threads\":%d,\"alphac_tokens_per_second\":%.2f,\"llmc_tokens_per_second\":%.2f,\"ratio\":%.4f,", \
    threads, tokens / $4, tokens / $8, $8 / $4
  printf "\"alphac_ms\":{\"min\":%.1f,\"median\":%.1f},\"llmc_ms\":{\"min\":%.1f,\"median\":%.1f},\"ratio_of_fastest\":%.4f,\"driver\":\"%s\"}\n",
    $1, $4, $5, $8, $5 / $1, driver
}'
