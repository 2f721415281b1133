# What the scripts here share beside tests/expect.sh: a small model of the given settings, a text, what runs write.
# Reads ALPHAC and SOURCE (the repository's root).
. "$SOURCE/tests/expect.sh"

# model NAME [OPTIMIZER] [SETTING…]: compiles gpt2, tiny, with dropout, to $dir/NAME.
model() {
  name=$1 optimizer=${2:-adamw(weight_decay = 0.1)}
  [ $# -ge 2 ] && shift
  shift
  sed "s/^  optimizer = .*/  optimizer = optim.$optimizer/" "$SOURCE/models/gpt2.alpha" >"$dir/$name.alpha"
  "$ALPHAC" "$dir/$name.alpha" -o "$dir/$name" -D vocab=256 -D context=16 -D width=16 -D layers=1 -D heads=2 -D drop=0.1 \
    -D train.batch=2 -D train.context=16 -D train.precision=f32 "$@" || exit 1
}

# steps FILE: lines that are there.
steps() { cat "$1" 2>/dev/null | wc -l; }

# wait_steps RUN N PID: until metrics.jsonl of the run has N lines or the process has ended.
wait_steps() {
  while [ "$(steps "$1/metrics.jsonl")" -lt "$2" ] && kill -0 "$3" 2>/dev/null; do sleep 0.01; done
}

# without_times FILE: the metrics without what a clock says.
without_times() { sed 's/, "tokens_per_second": [^,}]*, "ms": [^,}]*//' "$1"; }

text=$dir/text
cat "$SOURCE"/models/*.alpha >"$text"
