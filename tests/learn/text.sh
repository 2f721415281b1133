#!/bin/sh
# Short character training on the project's own pages: text.sh ALPHAC SOURCE_DIR WORK STEPS [-D SETTING ...]
set -eu
alphac=$1 source=$2 work=$3 steps=$4
shift 4
mkdir -p "$work"
cat "$source/docs/language.md" "$source"/stdlib/*.alpha "$source"/models/*.alpha | tr -cd '\11\12\40-\176' > "$work/text.txt"
exec "$source/bench/shakespeare.sh" "$alphac" "$work/text.txt" "$steps" "$@"
