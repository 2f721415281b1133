#!/bin/sh
# golden.sh SHOW DIR: runs `SHOW FILE ARGS` for each DIR/*.alpha, with ARGS from its first line "// show: ARGS", and
# compares what it prints with DIR/*.expected. In errors/ it must fail, elsewhere succeed. ALPHAC_BLESS=1 writes the expectations.
show=$1; dir=$2
cd "$(dirname "$0")" || exit 2
wanted=0
case $dir in errors*) wanted=1 ;; esac
out=$(mktemp) || exit 2
trap 'rm -f "$out"' EXIT
failed=0; count=0
for file in "$dir"/*.alpha; do
  count=$((count + 1))
  expected=${file%.alpha}.expected
  args=$(sed -n '1s|^// show: ||p' "$file" | tr -d '\r')
  eval "set -- $args"
  "$show" "$file" "$@" > "$out" 2>&1
  status=$?
  if [ "$status" != "$wanted" ]; then
    echo "$file: exit status $status, expected $wanted"; cat "$out"; failed=$((failed + 1))
  elif [ "${ALPHAC_BLESS:-}" = 1 ]; then
    cmp -s "$out" "$expected" || { diff -u "$expected" "$out" 2> /dev/null; cp "$out" "$expected"; }
  elif ! diff -u "$expected" "$out"; then
    failed=$((failed + 1))
  fi
done
echo "$dir: $count files, $failed failed"
[ "$failed" = 0 ] && [ "$count" -gt 0 ]
