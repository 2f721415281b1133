#!/bin/sh
# Runs a benchmark that prints "NAME VALUE" last and fails unless VALUE is a number at most BOUND:
#   below.sh BOUND COMMAND...
set -eu
bound=$1
shift
all=$("$@")
result=$(echo "$all" | tail -n 1)
echo "$result (at most $bound)"
echo "$result" | awk -v bound="$bound" '{ exit !($2 ~ /^[0-9.]+$/ && $2 + 0 <= bound + 0) }'
