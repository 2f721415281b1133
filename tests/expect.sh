# What scripts share that run commands: a folder that goes away, a cache of their own, expectations.
dir=$(mktemp -d)
# What the validation layer said into files is shown too, so that the test fails by it.
cleanup() {
  grep -hIE 'Validation (Error|Warning)|SYNC-HAZARD|VUID-' "$dir"/* 2>/dev/null
  rm -rf "$dir"
}
trap cleanup EXIT
export XDG_CACHE_HOME="$dir/cache"
failed=0

fail() {
  echo "FAILED: $*"
  failed=1
}

# expect STATUS WORDS COMMAND…: its exit status, and words that its output (both streams) must hold.
expect() {
  status=$1 words=$2
  shift 2
  "$@" >"$dir/out" 2>&1
  got=$?
  if [ $got -ne "$status" ] || ! grep -qF -- "$words" "$dir/out"; then
    fail "$* gave $got, expected $status and '$words':"
    cat "$dir/out"
  fi
  grep -E 'Validation (Error|Warning)|SYNC-HAZARD|VUID-' "$dir/out"
}

same() { cmp "$1" "$2" || fail "$1 and $2 differ"; }
