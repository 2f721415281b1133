#!/bin/sh
# The commands of a page are run and what they print is compared with what the page shows.
#   examples.sh ALPHAC PAGE.md
# In a fenced block a line "$ COMMAND" is run by sh in a folder of its own, errors included; the lines up to the next command or the
# end of the block are its output. A block "```alpha NAME" is the file NAME there. ALPHAC_BLESS=1 rewrites the page.
set -eu
alphac=$1 page=$2
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/work" "$dir/bin"
ln -s "$alphac" "$dir/bin/alphac"
PATH=$dir/bin:$PATH
export PATH

block='' file='' shown=true
while IFS= read -r line || [ -n "$line" ]; do
  case $line in
  '```'*)
    if [ -z "$block" ]; then block=yes; else block=''; fi
    file='' shown=true
    case $block$line in 'yes```alpha '*) file=${line#'```alpha '} && : >"$dir/work/$file" ;; esac
    ;;
  '$ '*)
    if [ -n "$block" ]; then
      printf '%s\n' "$line"
      (cd "$dir/work" && sh -c "${line#'$ '}") 2>&1 </dev/null || echo "FAILED: ${line#'$ '}" >&2
      shown=false
      continue
    fi
    ;;
  *) [ -z "$file" ] || printf '%s\n' "$line" >>"$dir/work/$file" ;;
  esac
  if $shown; then printf '%s\n' "$line"; fi
done <"$page" >"$dir/page" 2>"$dir/errors"
if [ -s "$dir/errors" ]; then cat "$dir/errors"; exit 1; fi
if [ -n "${ALPHAC_BLESS:-}" ]; then cat "$dir/page" >"$page"; fi
diff -u "$page" "$dir/page"
