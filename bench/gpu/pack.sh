#!/bin/sh
# Puts all that bench/gpu needs on another machine into one folder: alphac, the models, run.sh and its peer.
#   bench/gpu/pack.sh BUILD DIR       BUILD is a folder where this project is built
# Then, on the machine with the GPU: DIR/run.sh.
set -eu
[ $# = 2 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd) build=$1 to=$2
mkdir -p "$to"
cp "$build/driver/alphac" "$here/run.sh" "$here/peer.py" "$here/products.alpha" "$here/attention.alpha" \
  "$here/../../models/gpt2.alpha" "$to/"
strip "$to/alphac" 2>/dev/null || true
