#!/usr/bin/env bash
# Runs the ranks of a batch job under Slurm, and sees to it that the run goes on after what ends the job early:
#   job.sh srun|mpirun [OPTIONS OF THE LAUNCHER --] sluice train --config F --run DIR
# To be called by the batch script (train.sbatch). What happens:
#   SIGUSR1 to the batch script (sbatch --signal=B:USR1@300: so long before the time limit) has the run save what it has
#     done; then the job is queued again, and goes on from there.
#   SIGTERM (scancel, preemption) has it save too; Slurm alone decides whether the job is queued again.
#   A rank that hangs or dies (exit code 3, or a signal) has the job queued again, at most SLUICE_RESTARTS times (3).
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
case $kind in
  # A rank that ends with an error takes the others along.
  srun) command=(srun --mpi=pmix --kill-on-bad-exit=1 "${options[@]}" "$@") ;;
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
trap 'pass_on TERM' TERM
"${command[@]}" &
job=$!
# A signal ends the wait, not the job.
while wait "$job"; code=$?; kill -0 "$job" 2> /dev/null; do :; done
if [ $code -gt 128 ]; then
  wait "$job" 2> /dev/null
  later=$?
  [ $later -eq 127 ] || code=$later
fi

again=
if [ $code -eq 5 ] && [ $warned -eq 1 ]; then
  again="what it has done is saved"
elif [ $code -eq 3 ] || [ $code -gt 128 ]; then
  if [ "${SLURM_RESTART_COUNT:-0}" -lt "$restarts" ]; then again="it ended with code $code"; fi
fi
if [ -n "$again" ] && [ -n "${SLURM_JOB_ID:-}" ]; then
  echo "job $SLURM_JOB_ID is queued again: $again" >&2
  scontrol requeue "$SLURM_JOB_ID" || echo "error: job $SLURM_JOB_ID cannot be queued again" >&2
fi
exit $code
