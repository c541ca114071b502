#!/usr/bin/env bash
# Batch jobs under a real Slurm, four nodes on this machine (root, packages slurm-wlm and munge):
#   sbatch with srun and with mpirun
#   a job that its time limit's signal stops: it is queued again, goes on, and ends like one that was not stopped, to the
#     last bit of its weights
#   a rank that is killed, and a node: the job goes on, elsewhere
#   a sweep as a job array, and as a study whose job loses a rank
set -euo pipefail
for program in slurmctld slurmd munged sbatch; do
  command -v $program > /dev/null || { echo "skipped: Slurm is not installed (launch/setup.sh --tests)"; exit 77; }
done
[ "$(id -u)" -eq 0 ] || { echo "skipped: a cluster for tests needs root"; exit 77; }
source "$SOURCE/tests/end_to_end/common.sh"
cluster="bash $SOURCE/tests/slurm/cluster.sh"
down() {
  scancel --user=root 2> /dev/null || true
  $cluster down "$work/cluster"
  # The controller saves its state as it ends.
  sleep 1
  rm -rf "$work"
}
trap down EXIT
if ! $cluster up "$work/cluster" 4 2> why; then
  cat why
  echo "skipped: no Slurm cluster can be made here: $(tail -1 why)"
  exit 77
fi
export SLURM_CONF=$work/cluster/slurm.conf
# All nodes are this machine.
export OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_include=lo
make_data
export SLUICE CONFIG=$work/config.textproto JOB=$SOURCE/launch/slurm/job.sh
cat >> config.textproto <<'EOF'
cpu { threads: 1 }
checkpoint { every: 10 keep: 2 }
logging { tensorboard: false }
mesh { ep: 2 }
EOF
sed -i '/^logging { every: 1 }$/d; s/^logging { tensorboard: false }/logging { every: 1 tensorboard: false }/' config.textproto

state() { scontrol show job "$1" | sed -nE 's/.*JobState=([A-Z_]+).*/\1/p'; }
# Jobs that are queued again wait for two minutes; a start right behind the end of what was there before fails.
hurry() {
  sleep 3
  scontrol update jobid="$1" StartTime=now 2> /dev/null || true
}
# ended JOB SECONDS: waits for its end.
ended() {
  local i
  for ((i = 0; i < 5 * $2; ++i)); do
    case $(state "$1") in
      COMPLETED) return 0 ;;
      FAILED | CANCELLED | TIMEOUT | NODE_FAIL) cat "$1.log"; scontrol show job "$1"; fail "job $1: $(state "$1")" ;;
      PENDING) hurry "$1" ;;
    esac
    sleep 0.2
  done
  cat "$1.log"
  fail "job $1 has not ended after $2 s: $(state "$1")"
}
# submit RUN OPTIONS...: a job of two nodes with two ranks.
submit() {
  local run=$1
  shift
  RUN=$work/$run sbatch --parsable --nodes=2 --ntasks-per-node=1 --cpus-per-task=1 --output="$work/%j.log" "$@" \
    "$SOURCE/launch/slurm/train.sbatch"
}
until_step() {
  local i
  for ((i = 0; i < 300; ++i)); do
    if [ -s "$1/metrics.jsonl" ] && [ "$(wc -l < "$1/metrics.jsonl")" -ge "$2" ]; then return 0; fi
    sleep 0.1
  done
  fail "$1 has not come to step $2"
}
same_weights() {
  local shard
  for shard in "$1"/checkpoints/"$3"/*.safetensors; do cmp "$shard" "$2/checkpoints/$3/$(basename "$shard")"; done
}

began=$SECONDS
by_srun=$(LAUNCHER=srun submit by_srun)
ended "$by_srun" 60
by_mpirun=$(LAUNCHER=mpirun submit by_mpirun)
ended "$by_mpirun" 60
diff <(losses by_srun) <(losses by_mpirun) || fail "srun and mpirun compute different losses"
same_weights by_srun by_mpirun step_00000020
echo "srun and mpirun: $((SECONDS - began)) s"

sed -i 's/steps: 20 /steps: 1500 /' config.textproto
straight=$(LAUNCHER=srun submit straight)
ended "$straight" 120
for launcher in srun mpirun; do
  began=$SECONDS
  job=$(LAUNCHER=$launcher submit "stopped_$launcher")
  until_step "stopped_$launcher" 100
  # What --signal=B:USR1@300 sends before the time limit.
  scancel --batch --signal=USR1 "$job"
  ended "$job" 180
  [ "$(scontrol show job "$job" | sed -nE 's/.* Restarts=([0-9]+).*/\1/p')" = 1 ] || fail "job $job was not queued again"
  grep -q '"event":"preempted"' "stopped_$launcher/audit.jsonl" || fail "stopped_$launcher was not stopped"
  diff <(losses straight) <(losses "stopped_$launcher") || fail "losses of stopped_$launcher"
  same_weights straight "stopped_$launcher" step_00001500
  echo "stopped and queued again, $launcher: $((SECONDS - began)) s"
done

began=$SECONDS
job=$(LAUNCHER=srun submit cancelled)
until_step cancelled 100
scancel "$job"
for ((i = 0; i < 150; ++i)); do
  [ "$(state "$job")" != CANCELLED ] || [ -n "$(scontrol show job "$job" | grep -o 'JobState=COMPLETING')" ] || break
  sleep 0.2
done
sleep 6
grep -q '"event":"preempted"' cancelled/audit.jsonl || { cat "$job.log"; fail "scancel: nothing was saved"; }
job=$(LAUNCHER=srun submit cancelled)
ended "$job" 120
diff <(losses straight) <(losses cancelled) || fail "losses of the run that was cancelled"
same_weights straight cancelled step_00001500
echo "cancelled and submitted again: $((SECONDS - began)) s"

# What no start could mend is not queued again.
job=$(CONFIG=$work/nowhere.textproto LAUNCHER=srun submit mistaken)
for ((i = 0; i < 150; ++i)); do
  [ "$(state "$job")" != FAILED ] || break
  sleep 0.2
done
scontrol show job "$job" | grep -q 'Restarts=0' || fail "a job with a mistake was queued again"
scontrol show job "$job" | grep -q 'ExitCode=1:0' || { cat "$job.log"; fail "the exit code of a job with a mistake"; }

began=$SECONDS
job=$(SLUICE_RESTARTS=1 LAUNCHER=srun submit killed)
until_step killed 100
pkill -KILL -n -f "train .*--run $work/killed"
ended "$job" 180
scontrol show job "$job" | grep -q 'Comment=sluice-failures:1' || fail "the job of the rank that was killed was not queued again"
diff <(losses straight) <(losses killed) || fail "losses of the run whose rank was killed"
same_weights straight killed step_00001500
echo "a rank killed in mid-run: the job ended after $((SECONDS - began)) s"

began=$SECONDS
job=$(LAUNCHER=srun submit lost)
until_step lost 100
victim=$(scontrol show job "$job" | sed -nE 's/^ *BatchHost=(n[0-9]+).*/\1/p')
other=$(scontrol show hostnames "$(scontrol show job "$job" | sed -nE 's/^ *NodeList=([^ ]+).*/\1/p')" | grep -v "^$victim$")
$cluster kill "$work/cluster" "$other"
ended "$job" 240
grep -q '"event":"resume"' lost/audit.jsonl || fail "the run did not go on from a checkpoint"
diff <(losses straight) <(losses lost) || fail "losses of the run that lost a node"
same_weights straight lost step_00001500
echo "node $other lost in mid-run: the job ended after $((SECONDS - began)) s"
$cluster node "$work/cluster" "$other"

began=$SECONDS
sed -i 's/steps: 1500 /steps: 20 /' config.textproto
array=$(RUNS=$work/sweep LAUNCHER=srun sbatch --parsable --nodes=1 --ntasks-per-node=2 --cpus-per-task=1 --output="$work/%A_%a.log" \
  "$SOURCE/launch/slurm/array.sbatch")
for ((i = 0; i < 600; ++i)); do
  [ -n "$(squeue -h -j "$array" 2> /dev/null)" ] || break
  sleep 0.2
done
[ "$(ls -d sweep/lr_*/checkpoints/step_00000020 | wc -l)" -eq 6 ] || { cat ./*_*.log; fail "runs of the array: $(ls sweep)"; }
[ "$(for run in sweep/*; do losses "$run" | tail -1; done | sort -u | wc -l)" -eq 6 ] || fail "all learning rates do the same"
echo "six runs as a job array: $((SECONDS - began)) s"

began=$SECONDS
cat > study.textproto <<'EOF'
config: "config.textproto"
set: "mesh.ep=1" set: "training.steps=200"
axis { name: "lr" field: "optimizer.lr" value: "5e-4" value: "1e-3" value: "2e-3" value: "4e-3" value: "8e-3" value: "1.6e-2" }
EOF
job=$(STUDY=$work/study.textproto RUN=$work/study sbatch --parsable --nodes=2 --ntasks-per-node=1 --cpus-per-task=1 --output="$work/%j.log" \
  "$SOURCE/launch/slurm/sweep.sbatch")
until_step "study/cells/lr=5e-4" 50
pkill -KILL -n -f "sweep --study $work/study.textproto" || fail "there is no rank to kill"
ended "$job" 240
"$SLUICE" sweep --study study.textproto --run study > table 2> sweep.log || { cat "$job.log" sweep.log; fail "the study is not complete"; }
[ "$(grep -c ' done ' table)" -eq 6 ] || { cat table; fail "not all cells are done"; }
[ "$(grep -Lh '"starts":1,' study/cells/*/cell.json | wc -l)" -eq 1 ] || { cat table "$job.log"; fail "not one cell was started twice"; }
echo "a study of six cells, one rank killed: $((SECONDS - began)) s"
