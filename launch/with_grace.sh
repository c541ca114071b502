#!/usr/bin/env bash
# Runs a job under Open MPI's mpirun so that SIGTERM to this script lets it save what it has done:
#   with_grace.sh mpirun -np 2 sluice train ...
# mpirun itself would kill its ranks within a second, but hands SIGUSR1 on to them. A second signal ends the job at once.
set -uo pipefail
asked=0 job=
ask() {
  asked=$((asked + 1))
  if [ $asked -eq 1 ]; then kill -USR1 "$job"; else kill -TERM "$job"; fi
}
# In a session of its own, since a terminal sends its signals to all of a group.
setsid "$@" &
job=$!
trap ask TERM INT USR1
# A signal ends the wait, not the job.
while wait $job; code=$?; kill -0 $job 2> /dev/null; do :; done
# Of a job that ended while a signal ended the wait.
if [ $code -gt 128 ]; then
  wait $job
  code=$?
fi
exit $code
