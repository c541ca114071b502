#!/usr/bin/env bash
# What becomes of a job when something breaks, after how long, and what the next start makes of it: the table of
# docs/stability.md. Two ranks that watch each other with a deadline of 10 s; checkpoints every 20 steps. Those on two
# hosts are started by launch/with_grace.sh. Needs root for disks of its own and network namespaces.
#   SLUICE=build/cpu/bin/sluice SOURCE=. bash tests/bench/failures.sh
set -euo pipefail
SLUICE=$(realpath "$SLUICE") SOURCE=$(realpath "$SOURCE")
export SLUICE SOURCE
source "$SOURCE/tests/end_to_end/common.sh"
source "$SOURCE/launch/mpi_network.sh"
make_data
id=sf$$
cleanup() {
  for host in $id-a $id-b; do
    ip netns pids $host 2> /dev/null | xargs -r kill -9 2> /dev/null || true
    ip netns del $host 2> /dev/null || true
  done
  cd / && umount "$work/disk" 2> /dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

arguments=(train --config config.textproto --set training.micro_batch_size=2 --set optimizer.schedule=CONSTANT --set watchdog.deadline_s=10
  --set checkpoint.every=20 --set data.eval_every=0)
launcher=(mpirun -np 2)
start() {
  "${launcher[@]}" "$SLUICE" "${arguments[@]}" --set training.steps=1000000 --run "$run" > job.log 2>&1 &
  job=$!
  until [ -d "$run/checkpoints/step_00000060" ]; do sleep 0.05; kill -0 $job 2> /dev/null || { cat job.log; fail "$name: it did not start"; }; done
}
rank_1() {
  local pid
  for pid in $(pgrep -f "$SLUICE train.*--run $run"); do
    if grep -qzx OMPI_COMM_WORLD_RANK=1 "/proc/$pid/environ" 2> /dev/null && [ "$(readlink "/proc/$pid/exe")" = "$SLUICE" ]; then echo "$pid"; fi
  done
}
# ends: waits for the job, for two minutes at most.
ends() {
  local began code=0
  began=$(date +%s%N)
  for ((i = 0; i < 1200; ++i)); do kill -0 $job 2> /dev/null || break; sleep 0.1; done
  if kill -0 $job 2> /dev/null; then kill -9 $job; result="does not end within 120 s"; else
    wait $job || code=$?
    result="ends after $((($(date +%s%N) - began) / 100000000))"
    result="${result%?}.${result: -1} s, exit code $code"
  fi
  said=$(grep -aoE 'error: .*|mpirun noticed.*signal [0-9]+|ORTE has lost communication' job.log | sed -n 1p | cut -c1-160) || said="-"
}
# again: the next start, for some more steps.
again() {
  local code from
  sleep 1
  code=0
  from=$(ls -d $run/checkpoints/step_* | tail -1)
  "${launcher[@]}" "$SLUICE" "${arguments[@]}" --set training.steps=$((10#${from##*_} + 5)) --run "$run" > again.log 2>&1 || code=$?
  next=$(grep -aoE 'the run goes on from .*step_[0-9]+' again.log | sed "s#$run/checkpoints/##") || next=$(grep -a error again.log | head -1)
  [ $code -eq 0 ] || next="$next; exit code $code"
}
row() { echo "| $name | $result | $said | $next |"; }

echo "| what happens | the job | it says | the next start |"
echo "|---|---|---|---|"
name="kill -9 of a rank" run=killed
start
kill -9 "$(rank_1)"
ends
again
row
name="SIGSTOP of a rank" run=stopped
start
kill -STOP "$(rank_1)"
ends
again
row

mkdir disk
name="full disk" run=disk/full
mount -t tmpfs -o size=24m none disk
start
# What retention gives back is taken too.
for ((i = 0; i < 6; ++i)); do
  dd if=/dev/zero of=disk/filler$i bs=1M count=100 2> /dev/null || true
  sleep 0.5
done
state=$(kill -0 $job 2> /dev/null && echo "goes on, warns of each checkpoint" || echo "has ended")
rm disk/filler*
sleep 3
kill -USR1 $job 2> /dev/null || true
ends
result="$state; with room again and a signal it $result"
said=$(grep -am1 -oE 'no checkpoint: .*' job.log | cut -c1-160) || said=-
again
row
umount disk

name="read-only folder" run=disk/readonly next=-
mount -t tmpfs -o ro none disk
"${launcher[@]}" "$SLUICE" "${arguments[@]}" --set training.steps=10 --run "$run" > job.log 2>&1 &
job=$!
ends
row
umount disk

name="link between two hosts goes down" run=unlinked
ip netns add $id-a && ip netns add $id-b && ip link add eth0 netns $id-a type veth peer name eth0 netns $id-b
address=10
for host in $id-a $id-b; do
  ip -n $host link set lo up && ip -n $host addr add 10.77.0.$address/24 dev eth0 && ip -n $host link set eth0 up
  address=$((address + 1))
done
printf '%s\n' '#!/bin/bash' shift "exec nsenter --net=/run/netns/$id-b unshare --uts bash -c \"hostname $id-b; cd $PWD; \$*\"" > agent
chmod +x agent
launcher=(nsenter --net=/run/netns/$id-a unshare --uts bash -c "hostname $id-a; exec \"\$@\"" two_hosts
  bash "$SOURCE/launch/with_grace.sh" mpirun --host 10.77.0.10:1,10.77.0.11:1 -np 2 --bind-to none --mca plm_rsh_agent "$PWD/agent" --mca btl tcp,self
  --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24)
start
ip -n $id-b link set eth0 down
ends
ip -n $id-b link set eth0 up
ip netns pids $id-b | xargs -r kill -9 2> /dev/null || true
again
row
