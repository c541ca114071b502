#!/usr/bin/env bash
# Four hosts, one of which is lost in mid-run: the job ends by itself, and started again it ends like one that lost none, to
# the last bit. The hosts are network namespaces of this machine, joined by a bridge. Needs root.
#   four_hosts_test.sh SLUICE
set -euo pipefail
SLUICE=$(realpath "$1")
SOURCE=$(cd "$(dirname "$0")/../.." && pwd)
skip() {
  echo "skipped: $*"
  exit 77
}
[ "$(id -u)" -eq 0 ] || skip "network namespaces need root"
for tool in ip nsenter; do
  command -v "$tool" > /dev/null || skip "needs $tool of the packages iproute2 and util-linux"
done
source "$SOURCE/tests/end_to_end/common.sh"

id=fh$$
cleanup() {
  local host
  for host in 0 1 2 3; do ip netns pids "$id-$host" 2> /dev/null | xargs -r kill -9 2> /dev/null || true; done
  for host in 0 1 2 3 switch; do ip netns del "$id-$host" 2> /dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT
connect() {
  local host
  ip netns add "$id-switch" && ip -n "$id-switch" link add bridge type bridge && ip -n "$id-switch" link set bridge up || return 1
  for host in 0 1 2 3; do
    ip netns add "$id-$host" && ip link add eth0 netns "$id-$host" type veth peer name "port$host" netns "$id-switch" &&
      ip -n "$id-switch" link set "port$host" master bridge up && ip -n "$id-$host" link set lo up &&
      ip -n "$id-$host" addr add "10.78.0.1$host/24" dev eth0 && ip -n "$id-$host" link set eth0 up || return 1
  done
}
connect 2> why || skip "no bridge between network namespaces: $(head -1 why)"
# What mpirun starts its daemons through: agent ADDRESS COMMAND.
cat > agent << AGENT
#!/bin/bash
host=\${1#10.78.0.1}
shift
exec nsenter --net=/run/netns/$id-\$host unshare --uts bash -c "hostname $id-\$host; cd $PWD; \$*"
AGENT
chmod +x agent
cat > hosts << 'HOSTS'
10.78.0.10 slots=1
10.78.0.11 slots=1
10.78.0.12 slots=1
10.78.0.13 slots=1
HOSTS
make_data
source "$SOURCE/launch/mpi_network.sh"
export OMPI_MCA_oob_tcp_keepalive_time=2 OMPI_MCA_oob_tcp_keepalive_intvl=2 SLUICE_LAUNCHER_PATIENCE_S=10
# train RUN: on all hosts, from the first.
train() {
  nsenter --net="/run/netns/$id-0" unshare --uts bash -c "hostname $id-0; exec \"\$@\"" four_hosts \
    bash "$SOURCE/launch/with_grace.sh" mpirun --hostfile hosts -np 4 --bind-to none --mca plm_rsh_agent "$PWD/agent" \
    --mca btl tcp,self --mca btl_tcp_if_include 10.78.0.0/24 --mca oob_tcp_if_include 10.78.0.0/24 \
    "$SLUICE" train --config config.textproto --run "$1" --set mesh.ep=2 --set mesh.tp=2 --set training.steps=400 \
    --set cpu.threads=1 --set checkpoint.every=20 --set checkpoint.keep=2 --set watchdog.deadline_s=5
}

train straight > log 2>&1 || { cat log; fail "four hosts"; }
train lost > log 2>&1 &
job=$!
for ((i = 0; i < 600; ++i)); do
  if [ -s lost/metrics.jsonl ] && [ "$(wc -l < lost/metrics.jsonl)" -ge 100 ]; then break; fi
  kill -0 $job 2> /dev/null || { cat log; fail "the run ended before its host was lost"; }
  sleep 0.1
done
ip -n "$id-2" link set eth0 down
began=$SECONDS code=0
wait $job || code=$?
took=$((SECONDS - began))
[ $code -ne 0 ] || { cat log; fail "a run that lost a host ended with 0"; }
[ $took -le 60 ] || { cat log; fail "it took $took s until the job ended"; }
grep -q 'error: rank 2 ' log || { cat log; fail "nobody names the rank that is gone"; }
echo "a host lost in mid-run: the job ended after $took s with code $code"
ip netns pids "$id-2" | xargs -r kill -9 2> /dev/null || true
ip -n "$id-2" link set eth0 up
train lost > log 2>&1 || { cat log; fail "the next start"; }
grep -q '"event":"resume"' lost/audit.jsonl || fail "it did not go on from a checkpoint"
diff <(losses straight) <(losses lost) || fail "other losses"
for shard in straight/checkpoints/step_00000400/*.safetensors; do cmp "$shard" "lost/${shard#straight/}"; done
