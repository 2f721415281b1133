#!/bin/sh
# resume.sh ALPHAC SOURCE OPTIMIZER [SETTING…]: a run with dropout gives the same bits twice; killed with SIGKILL at random steps
# and resumed it ends with the bits of one that was not killed, and its metrics have each step once.
ALPHAC=$1 SOURCE=$2 optimizer=$3
shift 3
. "$(dirname "$0")/lib.sh"
total=90
model m "$optimizer" "$@"
train() { "$dir/m" train --data "$text" --seed 7 --save-every 4 "$@"; }

expect 0 "step $total" train --steps $total --out "$dir/whole"
expect 0 "step $total" train --steps $total --out "$dir/again"
same "$dir/whole/checkpoint.safetensors" "$dir/again/checkpoint.safetensors"
without_times "$dir/whole/metrics.jsonl" >"$dir/whole.metrics"

"$dir/m" train --data "$text" --seed 8 --steps 4 --out "$dir/other" 2>/dev/null
cmp -s "$dir/whole/checkpoint.safetensors" "$dir/other/checkpoint.safetensors" && fail "another seed gives the same bits"

# Killed three times, each after one to twelve steps more than were written before.
begun="--steps $total"
for part in 1 2 3; do
  random=$(od -An -N2 -tu2 /dev/urandom)
  at=$(($(steps "$dir/killed/metrics.jsonl") + 1 + random % 12))
  "$dir/m" train --data "$text" --seed 7 --save-every 4 $begun --out "$dir/killed" >"$dir/log" 2>&1 &
  pid=$!
  wait_steps "$dir/killed" $at $pid
  kill -KILL $pid 2>/dev/null
  wait $pid 2>/dev/null
  echo "killed when step $(steps "$dir/killed/metrics.jsonl") was written (wanted $at)"
  [ "$(steps "$dir/killed/metrics.jsonl")" -lt $total ] || fail "the run ended before it was killed"
  begun=--resume
done
expect 0 "step $total" train --resume --out "$dir/killed"
same "$dir/whole/checkpoint.safetensors" "$dir/killed/checkpoint.safetensors"
without_times "$dir/killed/metrics.jsonl" >"$dir/killed.metrics"
same "$dir/whole.metrics" "$dir/killed.metrics"
[ "$(steps "$dir/killed.metrics")" = $total ] || fail "metrics have $(steps "$dir/killed.metrics") lines"
exit $failed
