#!/usr/bin/env bash
# A rank that stops, skips a call or gets a count wrong must be named, in time, again and again.
#   watchdog_test.sh PROGRAM FAULT TRANSPORT TIMES
set -euo pipefail
source "$(dirname "$0")/../../launch/mpi_local.sh"
program=$1 fault=$2 transport=$3 times=$4
ranks=4 deadline=2 log=$(mktemp)
trap 'rm -f "$log"' EXIT
fail() { echo "run $seed, $fault of rank $culprit by $transport: $*"; cat "$log"; exit 1; }

for ((seed = 1; seed <= times; ++seed)); do
  culprit=$((seed % ranks)) code=0
  mpirun -np $ranks "$program" "$fault" $culprit $seed "$transport" $deadline > "$log" 2>&1 || code=$?
  ended=$(date +%s%3N)
  [ $code -eq 3 ] || fail "exit code $code"
  began=$(sed -n 's/^fault at \([0-9]*\) ms.*/\1/p' "$log")
  [ $((ended - began)) -lt $(((deadline + 5) * 1000)) ] || fail "took $((ended - began)) ms"
  # One message, and nobody else in it before those who wait.
  [ "$(grep -c 'error: ' "$log")" -eq 1 ] || fail "not one message"
  blamed=$(grep -o 'error: .*' "$log" | sed 's/; waiting.*//; s/, where rank.*//' | grep -o 'rank [0-9]* (' | tr -dc '0-9\n' | xargs || true)
  [ "$blamed" = "$culprit" ] || fail "blamed: $blamed"
  # What a stopped rank of another node has last told may be from before its first call.
  told='[^;]*'
  [ "$fault $transport" != 'stop messages' ] || told='.*'
  grep -Eq "error: $told at watchdog_ranks.cc:[0-9]+$told step [0-9]+" "$log" || fail "no call site"
  # Where the culprit is, or those are that wait for it.
  place=$(sed -n 's/^fault at .*, \([a-z0-9 ]*\)$/\1/p' "$log")
  [ -n "$place" ] || fail "the program does not say where the fault is"
  grep -q "error: rank $culprit .*$place" "$log" || fail "not in $place"
  grep -q '; waiting: rank' "$log" || fail "nobody waits"
done
echo "$times times the right rank"
