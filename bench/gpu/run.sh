#!/bin/sh
# Training and kernels on this machine's GPU beside PyTorch's, one after the other on one device, as a table with ratios:
#   run.sh [--quick] [--no-compile] [--steps N] [--target T] [PART ...]
# PARTs: gpt2 (124M, bf16), f32 (124M), small (4 layers, width 256), matmul, attention; all unless told otherwise. Times are medians
# of N steps, 50 unless told otherwise, after a warm-up; a ratio is PyTorch's time over ours. --quick leaves out most of what takes
# long, --no-compile torch.compile alone. Run it in the folder that pack.sh made. Without PyTorch in python3 the table has our times alone.
# Standard error tells each time as it is measured; where the run is ended early the table has what there is.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
quick='' compiled='' steps=50 target=native parts=''
while [ $# -gt 0 ]; do
  case $1 in
  --quick) quick=--quick steps=20 ;;
  --no-compile) compiled=--no-compile ;;
  --steps) steps=$2 && shift ;;
  --target) target=$2 && shift ;;
  gpt2 | f32 | small | matmul | attention) parts="$parts $1" ;;
  *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
  esac
  shift
done
: "${parts:=gpt2 f32 small matmul attention}"
work=$(mktemp -d)
touch "$work/times" "$work/notes" "$work/sizes"
trap 'table; rm -rf "$work"' EXIT
trap 'exit 143' INT TERM
peer=yes
python3 -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' >/dev/null 2>&1 || peer=

compile() { # NAME MODEL [-D SETTING ...]
  name=$1 model=$2
  shift 2
  "$here/alphac" "$here/$model.alpha" -o "$work/$name" --target "$target" "$@" 2>"$work/said" && return 0
  cat "$work/said" >&2
  return 1
}
# bench NAME WARMUP STEPS [OPTION]: one JSON object
bench() { "$work/$1" bench train --warmup "$2" --steps "$3" ${4:-} --json 2>"$work/said" | tail -n 1 || { cat "$work/said" >&2; return 1; }; }
field() { sed -n 's/.*"'"$1"'":\([-+.0-9e]*\).*/\1/p'; }
ours() { # KEY MS AMOUNT: tokens or flops of one step
  printf '%s\tours\t%s\t%s\n' "$1" "$2" "$3" >>"$work/times"
  echo "$1: $2 ms" >&2
}
theirs() {
  [ -n "$peer" ] || return 0
  python3 "$here/peer.py" "$steps" $quick $compiled $parts <"$work/sizes" 2>"$work/said" | tee -a "$work/times" >&2 || true
  grep '^peer.py' "$work/said" >>"$work/notes" || tail -n 3 "$work/said" >>"$work/notes"
}

step() { # KEY NAME WARMUP TOKENS
  if result=$(bench "$2" "$3" "$steps"); then ours "$1" "$(echo "$result" | field ms_per_step)" "$4"; fi
  rm -f "$work/$2"
}
gpt2() { # VOCAB BATCH PRECISION
  compile gpt2 gpt2 -D vocab="$1" -D train.batch="$2" -D train.precision="$3" &&
    step "gpt2 v$1 b$2 $3" gpt2 6 $(($2 * 1024))
}
small() { # BATCH PRECISION
  compile small gpt2 -D vocab=260 -D layers=4 -D width=256 -D heads=4 -D context=128 -D train.context=128 -D train.batch="$1" \
    -D train.precision="$2" && step "small b$1 $2" small 500 $(($1 * 128))
}

table() {
  [ -s "$work/times" ] || return 0
  "$here/alphac" devices
  sort -u "$work/notes"
  [ -n "$peer" ] || echo "PyTorch with CUDA is not in python3 here: our times alone"
  awk -F'\t' '
    !($1 in seen) { seen[$1] = 1; key[++n] = $1 }
    $2 == "ours" { ours[$1] = $3; amount[$1] = $4; next }
    { time[$1, $2] = $3 }
    function peer(k, mode, t) {
      t = time[k, mode]
      return t == "" ? sprintf("%19s", "") : ours[k] > 0 ? sprintf("%9.3f ms %6.2f", t, t / ours[k]) : sprintf("%9.3f ms %6s", t, "")
    }
    BEGIN { printf "%-38s %9s    %17s  %18s  %18s  %18s\n", "", "ours", "rate", "eager, ratio", "compile, ratio", "+ CUDA graph" }
    END {
      for (i = 1; i <= n; i++) {
        k = key[i]
        rate = ours[k] > 0 ? amount[k] / ours[k] : 0
        what = k ~ /^(gpt2|small)/ ? sprintf("%10.0f tokens/s", rate * 1e3) : sprintf("%10.1f TFLOP/s", rate * 1e-9)
        printf "%-38s %9.3f ms %17s %s %s %s\n", k, ours[k], (ours[k] > 0 ? what : ""), peer(k, "eager"), peer(k, "compile"), peer(k, "compile+graph")
      }
    }' "$work/times"
}

# Times of kernels: lines of milliseconds and label.
kernels() { bench "$1" 20 "$steps" --profile | tr '{' '\n' | sed -n 's/.*"label":"\([^"]*\)".*"ms":\([^,]*\),.*/\2 \1/p'; }
# total PATTERN: milliseconds of the kernels whose line matches, from standard input; nothing where none does
total() { grep -E "$1" | awk '{ ms += $1 } END { if (NR) print ms }'; }
product() { # M N K PRECISION
  key="product $1x$2x$3 $4" flops=$(awk "BEGIN { print 2 * $1 * $2 * $3 }")
  for of in a b; do
    compile product products -D m="$1" -D n="$2" -D k="$3" -D of=$of -D train.precision="$4" || return 0
    kernels product >"$work/kernels"
    rm -f "$work/product"
    # a long k may be summed in parts by a kernel of its own, which counts
    case $of in
    a)
      ours "$key ab" "$(grep -v ' matmul\.matmul' "$work/kernels" | total ' matmul\.')" "$flops"
      ours "$key dy bT" "$(total " matmul\.matmul|reduce.*[[,]$1,$3]" <"$work/kernels")" "$flops"
      ;;
    b) ours "$key aT dy" "$(total " matmul\.matmul|reduce.*[[,]$3,$2]" <"$work/kernels")" "$flops" ;;
    esac
  done
}
attend() { # BATCH HEADS KV T C PRECISION
  key="attention $1x$2/$3x$4x$5 $6" flops=$(awk "BEGIN { print 2 * $1 * $2 * $4 * $4 * $5 }") # half of the scores are seen
  compile attention attention -D rows="$1" -D heads="$2" -D kv="$3" -D t="$4" -D c="$5" -D train.precision="$6" || return 0
  kernels attention >"$work/kernels"
  rm -f "$work/attention"
  ours "$key forward" "$(total ' attention\.[^ ]*(attention|lse) ' <"$work/kernels")" "$flops"
  ours "$key backward" "$(total " attention\.[^ ]*_d[qkv] |reduce.*\[$1,$2,$4,1\]" <"$work/kernels")" "$(awk "BEGIN { print 2.5 * $flops }")"
}

size() { echo "$@" >>"$work/sizes"; }
for part in $parts; do
  case $part in
  gpt2)
    gpt2 50304 16 bf16
    [ -n "$quick" ] || { gpt2 50304 32 bf16 && gpt2 50257 16 bf16 && gpt2 50257 32 bf16; }
    ;;
  f32)
    gpt2 50257 8 f32
    [ -n "$quick" ] || gpt2 50257 16 f32
    ;;
  small)
    small 5 bf16
    [ -n "$quick" ] || { small 32 bf16 && small 5 f32 && small 32 f32; }
    ;;
  matmul)
    size matmul 4096 4096 4096 bf16
    size matmul 4096 4096 4096 f32
    [ -n "$quick" ] || for mnk in "8192 8192 8192" "16384 2304 768" "16384 768 768" "16384 3072 768" "16384 768 3072" "16384 50304 768"; do
      size matmul $mnk bf16
    done
    ;;
  attention)
    size attention 16 12 12 1024 64 bf16
    size attention 16 12 12 1024 64 f32
    [ -n "$quick" ] || { size attention 4 16 16 2048 128 bf16 && size attention 8 16 4 1024 64 bf16; }
    ;;
  esac
done
while read -r part numbers; do
  case $part in
  matmul) product $numbers ;;
  attention) attend $numbers ;;
  esac
done <"$work/sizes"
theirs
