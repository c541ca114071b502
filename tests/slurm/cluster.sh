#!/usr/bin/env bash
# A Slurm cluster on this machine, of Debian's packages, for tests (root): a controller and as many nodes, each with its own
# host name, since Open MPI names shared memory by it.
#   cluster.sh up DIR NODES      afterwards: export SLURM_CONF=DIR/slurm.conf
#   cluster.sh node DIR NAME     starts a node again that is gone
#   cluster.sh kill DIR NAME     ends a node as a power cut would: its daemon, steps and ranks
#   cluster.sh down DIR
set -euo pipefail
[ $# -ge 2 ] || { echo "error: usage: cluster.sh up DIR NODES | node DIR NAME | kill DIR NAME | down DIR" >&2; exit 1; }
verb=$1 dir=$2
port=${SLUICE_SLURM_PORT:-17100}

write_config() {
  local nodes=$1
  cat > "$dir/slurm.conf" <<EOF
ClusterName=sluice
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$port
SrunPortRange=$((port + 200))-$((port + 400))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/run/munge.sock
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
TmpFS=$dir/tmp/%n
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,requeue_delay=1
SlurmdParameters=config_overrides
MpiDefault=pmix
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MailProg=/bin/true
NodeName=n[1-$nodes] NodeHostname=n[1-$nodes] NodeAddr=127.0.0.1 Port=[$((port + 10))-$((port + 9 + nodes))] CPUs=4 RealMemory=2000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:4
EOF
}

start_node() {
  mkdir -p "$dir/spool/$1"
  # One each: steps of all nodes would have the same name in it.
  install -d -m 1777 "$dir/tmp/$1"
  unshare --uts sh -c "hostname $1; exec slurmd -f '$dir/slurm.conf' -N $1"
}

# tree PID: it and all its descendants.
tree() {
  local child
  echo "$1"
  for child in $(pgrep -P "$1" || true); do tree "$child"; done
}

wait_for_nodes() {
  local nodes=$1 i
  for ((i = 0; i < 150; ++i)); do
    [ "$(sinfo -h -t idle -o %D 2> /dev/null | awk '{ sum += $1 } END { print sum + 0 }')" -lt "$nodes" ] || return 0
    sleep 0.2
  done
  sinfo -N >&2
  tail -n 5 "$dir"/log/*.log >&2
  echo "error: the cluster has no $nodes idle nodes after 30 s" >&2
  return 1
}

case $verb in
  up)
    mkdir -p "$dir"/{state,spool,log,run,tmp}
    dir=$(realpath "$dir")
    head -c 128 /dev/urandom > "$dir/run/munge.key"
    chmod 600 "$dir/run/munge.key"
    write_config "$3"
    munged --force --key-file="$dir/run/munge.key" --socket="$dir/run/munge.sock" --pid-file="$dir/run/munged.pid" \
      --log-file="$dir/log/munged.log" --seed-file="$dir/run/munge.seed"
    export SLURM_CONF=$dir/slurm.conf
    slurmctld -f "$dir/slurm.conf"
    for ((i = 1; i <= $3; ++i)); do start_node "n$i"; done
    wait_for_nodes "$3"
    ;;
  node)
    dir=$(realpath "$dir")
    start_node "$3"
    ;;
  kill)
    daemon=$(cat "$dir/run/slurmd.$3.pid")
    # Steps are no children of the daemon.
    steps=$(pgrep -f "slurmstepd.*" | while read -r pid; do
      if [ "$(nsenter --target "$pid" --uts hostname 2> /dev/null)" = "$3" ]; then echo "$pid"; fi
    done)
    # shellcheck disable=SC2046
    kill -KILL $(for pid in $daemon $steps; do tree "$pid"; done) 2> /dev/null || true
    ;;
  down)
    for pid_file in "$dir"/run/slurmd.*.pid "$dir"/run/slurmctld.pid "$dir"/run/munged.pid; do
      if [ -f "$pid_file" ]; then kill "$(cat "$pid_file")" 2> /dev/null || true; fi
    done
    ;;
  *)
    echo "error: unknown verb $verb" >&2
    exit 1
    ;;
esac
