#!/usr/bin/env bash
# Runs the ranks of a batch job under Slurm, and sees to it that the run goes on after what ends the job early:
#   job.sh srun|mpirun [OPTIONS OF THE LAUNCHER --] sluice train --config F --run DIR
# To be called by the batch script (train.sbatch). What happens:
#   SIGUSR1 to the batch script (sbatch --signal=B:USR1@300: so long before the time limit) has the run save what it has
#     done; then the job is queued again, and goes on from there.
#   SIGTERM (scancel, preemption): Slurm sends it to the ranks too, which save; Slurm alone decides whether the job is queued
#     again. Not under mpirun, whose daemons it ends: there only the signal before a time limit saves.
#   A rank that hangs or dies (exit code 3, or a signal) has the job queued again, at most SLUICE_RESTARTS times (3) between
#     two of its time limits; a start that lasts less than a minute counts as one of these. The job's comment counts them.
#   A node that is lost: Slurm queues the job again by itself, if it may (sbatch --requeue).
# Whatever else the run ends with is the exit code.
set -uo pipefail
usage="usage: job.sh srun|mpirun [OPTIONS --] PROGRAM ARGUMENTS"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ $# -ge 2 ] || { echo "error: $usage" >&2; exit 1; }
kind=$1
shift
options=()
for argument in "$@"; do
  if [ "$argument" = -- ]; then
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    break
  fi
done
restarts=${SLUICE_RESTARTS:-3}
[[ $restarts =~ ^[0-9]+$ ]] || { echo "error: SLUICE_RESTARTS=$restarts must be a number" >&2; exit 1; }
source "$here/mpi_network.sh"
# Which srun does not take from the job by itself.
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
case $kind in
  # Ranks end together; one that dies takes the others along after half a minute.
  srun) command=(srun --mpi=pmix --kill-on-bad-exit=0 --wait=30 "${options[@]}" "$@") ;;
  mpirun) command=(bash "$here/with_grace.sh" mpirun "${options[@]}" "$@") ;;
  *) echo "error: launcher $kind; $usage" >&2; exit 1 ;;
esac

warned=0
# Both hand SIGUSR1 on to the ranks.
pass_on() {
  [ "$1" != USR1 ] || warned=1
  [ -z "${job:-}" ] || kill -USR1 "$job" 2> /dev/null
}
trap 'pass_on USR1' USR1
# The ranks of srun have it from Slurm: a second signal would end them at once.
if [ "$kind" = srun ]; then trap : TERM; else trap 'pass_on TERM' TERM; fi
"${command[@]}" &
job=$!
# That came before there was a job.
[ $warned -eq 0 ] || pass_on USR1
# A signal ends the wait, not the job.
while wait "$job"; code=$?; kill -0 "$job" 2> /dev/null; do :; done
if [ $code -gt 128 ]; then
  wait "$job" 2> /dev/null
  later=$?
  [ $later -eq 127 ] || code=$later
fi

[ -n "${SLURM_JOB_ID:-}" ] || exit $code
# One task of an array has the number of all of it.
id=$SLURM_JOB_ID
[ -z "${SLURM_ARRAY_JOB_ID:-}" ] || id=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
# queue_again WHY FAILURES: so many since the last time limit. What cannot be counted could go on for ever.
queue_again() {
  echo "job $id is queued again: $1" >&2
  scontrol update jobid="$id" comment="sluice-failures:$2" && scontrol requeue "$id" ||
    echo "error: job $id cannot be queued again" >&2
}
failures=$(scontrol show job "$id" | sed -nE 's/.*Comment=.*sluice-failures:([0-9]+).*/\1/p')
if [ $code -eq 5 ] && [ $warned -eq 1 ] && [ $SECONDS -ge 60 ]; then
  queue_again "what it has done is saved" 0
elif { [ $code -eq 5 ] && [ $warned -eq 1 ]; } || [ $code -eq 3 ] || [ $code -gt 128 ]; then
  if [ "${failures:-0}" -lt "$restarts" ]; then
    queue_again "it ended with code $code after $SECONDS s" $((${failures:-0} + 1))
  else
    echo "error: the job has failed $((failures + 1)) times since it began or last came to its time limit" >&2
  fi
fi
exit $code
