#!/usr/bin/env bash
# Runs a job under Open MPI's mpirun so that SIGTERM to this script lets it save what it has done:
#   with_grace.sh mpirun -np 2 sluice train ...
# mpirun itself would kill its ranks within a second, but hands SIGUSR1 on to them, once they heed it. A second signal ends
# the job at once.
# And it ends when its ranks on this host have ended but mpirun waits on, as for a host whose link is down: after
# SLUICE_LAUNCHER_PATIENCE_S seconds (default 20), with exit code 3 whatever they ended with.
set -uo pipefail
patience_s=${SLUICE_LAUNCHER_PATIENCE_S:-20}
if ! [[ $patience_s =~ ^[1-9][0-9]*$ ]]; then
  echo "error: SLUICE_LAUNCHER_PATIENCE_S=$patience_s must be whole seconds, at least 1" >&2
  exit 1
fi
asked=0 passed_on=0 job= starting=1
ask() {
  asked=$((asked + 1))
  [ $starting -eq 1 ] || pass_on
}
# pass_on: a signal that was not yet. Others may come in between.
pass_on() {
  while [ $passed_on -lt $asked ]; do
    passed_on=$((passed_on + 1))
    if [ $passed_on -eq 1 ]; then stop_gently & else kill -TERM "$job"; fi
  done
}
# ranks: the job's processes on this host.
ranks() {
  local pid
  for pid in $(cat /proc/"$job"/task/*/children 2> /dev/null); do
    if grep -qsz '^OMPI_COMM_WORLD_RANK=' "/proc/$pid/environ"; then echo "$pid"; fi
  done
}
# stop_gently: once all ranks of this host heed SIGUSR1, the 10th, which kills a process that is still being loaded, and
# mpirun too; ten seconds after the first of them is there in any case. A host that has had none for half a minute from the
# beginning will have none: mpirun hands it on to others.
stop_gently() {
  trap '' TERM INT USR1
  local tenths=0 pid all heed
  while kill -0 "$job" 2> /dev/null; do
    all=1 heed=0
    for pid in $(ranks); do
      all=$(tr '\0' '\n' < "/proc/$pid/environ" | sed -n 's/^OMPI_COMM_WORLD_LOCAL_SIZE=//p') || true
      heed=$((heed + (0x0$(sed -n 's/^SigCgt:\t//p' "/proc/$pid/status") >> 9 & 1)))
    done 2> /dev/null
    [ "$heed" -lt "${all:-1}" ] || break
    if [ -n "$(ranks)" ]; then tenths=$((tenths + 1)); elif [ $SECONDS -ge 30 ]; then break; fi
    [ $tenths -lt 100 ] || break
    sleep 0.1
  done
  kill -USR1 "$job"
}
trap ask TERM INT USR1
# In a session of its own, since a terminal sends its signals to all of a group.
setsid "$@" &
job=$!
end_launcher() {
  local seen=0 alone_s=0
  while kill -0 "$job" 2> /dev/null; do
    if [ -n "$(ranks)" ]; then seen=1 alone_s=0; elif [ $seen -eq 1 ]; then alone_s=$((alone_s + 1)); fi
    if [ $alone_s -gt "$patience_s" ]; then
      echo "error: the ranks of this host have ended, mpirun has not: it is killed" >&2
      kill -KILL -- "-$job"
      return 3
    fi
    sleep 1
  done
}
(
  # Whoever sends a signal to all of the group means the job.
  trap '' TERM INT USR1
  end_launcher
) &
watcher=$!
# Not before, since what it starts would be the last that was started.
starting=0
pass_on
# A signal ends the wait, not the job.
while wait $job; code=$?; kill -0 $job 2> /dev/null; do :; done
# Of a job that ended while a signal ended the wait.
if [ $code -gt 128 ]; then
  wait $job
  code=$?
fi
if [ $code -eq 137 ]; then
  wait $watcher
  [ $? -ne 3 ] || code=3
else
  # Whose end is not worth a word.
  { kill -KILL $watcher; wait $watcher; } 2> /dev/null
fi
exit $code
