#!/bin/sh
# Compiles every example marked `alpha` in a page: examples.sh ALPHAC PAGE WORK
set -eu
alphac=$1 page=$2 work=$3
rm -rf "$work"
mkdir -p "$work"
awk -v work="$work" '
  /^```alpha$/ { inside = 1; n++; file = sprintf("%s/example%d.alpha", work, n); next }
  /^```/ { if (inside) close(file); inside = 0 }
  inside { print > file }' "$page"
count=0
for file in "$work"/*.alpha; do
  "$alphac" --emit=ir "$file" > "$file.ir"
  count=$((count + 1))
done
[ "$count" -gt 0 ]
echo "$count examples compile"
