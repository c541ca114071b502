#!/usr/bin/env bash
# Two ranks on two hosts, joined by a link of 1 Gbit/s: compute hides a good part of what gradients need on it. The hosts
# are network namespaces of this machine, each rank has a core of its own. Needs root, and two cores that do nothing else.
# Calls that are over when they return would expose all of it, every time; a core that others take time of now and then is
# seen as exposed too, so that one of a few tries has to do.
#   shaped_link_test.sh SLUICE
set -euo pipefail
sluice=$(realpath "$1")
cd "$(dirname "$0")/../.."
source launch/mpi_local.sh
bits_per_second=1000000000

skip() {
  echo "skipped: $*"
  exit 77
}
[[ $(id -u) == 0 ]] || skip "network namespaces need root"
[[ $(nproc) -ge 2 ]] || skip "needs two cores"
for tool in ip tc nsenter taskset; do
  command -v "$tool" > /dev/null || skip "needs $tool of the packages iproute2 and util-linux"
done

id=sl$$
work=$(mktemp -d)
cleanup() {
  for host in "$id-a" "$id-b"; do
    ip netns pids "$host" 2> /dev/null | xargs -r kill -9 2> /dev/null || true
    ip netns del "$host" 2> /dev/null || true
  done
  rm -rf "$work"
}
trap cleanup EXIT

# A link whose ends are in two namespaces; what leaves either end is shaped.
connect() {
  ip netns add "$id-a" && ip netns add "$id-b" &&
    ip link add eth0 netns "$id-a" type veth peer name eth0 netns "$id-b" || return 1
  local address=10 host
  for host in "$id-a" "$id-b"; do
    ip -n "$host" link set lo up && ip -n "$host" addr add "10.77.0.$address/24" dev eth0 &&
      ip -n "$host" link set eth0 mtu 9000 up &&
      ip netns exec "$host" tc qdisc add dev eth0 root tbf rate "${bits_per_second}bit" burst 64kb latency 50ms || return 1
    address=$((address + 1))
  done
}
connect 2> "$work/why" || skip "no shaped link between network namespaces: $(head -1 "$work/why")"

# mpirun starts its daemon on the other host through this.
cat > "$work/agent" << AGENT
#!/bin/bash
shift
exec nsenter --net=/run/netns/$id-b unshare --uts bash -c "hostname $id-b; \$*"
AGENT
# Both daemons would bind their rank to the first core.
printf '%s\n' '#!/bin/bash' 'exec taskset -c "$OMPI_COMM_WORLD_RANK" "$@"' > "$work/pinned"
chmod +x "$work/agent" "$work/pinned"

# step ARGUMENTS...: what bench step prints
step() {
  nsenter --net="/run/netns/$id-a" unshare --uts bash -c "hostname $id-a; exec \"\$@\"" shaped \
    mpirun --host 10.77.0.10:1,10.77.0.11:1 -np 2 --bind-to none --mca plm_rsh_agent "$work/agent" --mca btl tcp,self \
    --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 "$work/pinned" \
    "$sluice" bench step --config "$PWD/configs/quickstart.textproto" --set cpu.threads=1 --set mesh.dp=2 \
    --set training.global_batch_size=32 --set training.micro_batch_size=16 --set model.num_layers=8 --warm-up 1 --steps 8 \
    "$@" 2> "$work/errors" || { tail -20 "$work/errors" >&2; exit 1; }
}

# Of each operation on gradients and weights: the time that its bytes need on the link, and what of it is exposed. The
# weights of the last step are waited for at its end, and so exposed in full.
hides() {
  local zero=$1
  step --set "optimizer.zero_stage=$zero" > "$work/out"
  awk -v zero="$zero" -v rate="$bits_per_second" '
    $1 == "dp" || $1 == "edp" { bytes[$2] += $4; exposed[$2] += $6 }
    END {
      for (operation in bytes) {
        ++operations
        wire = bytes[operation] * 8e3 / rate
        printf "ZeRO-%d, %s: %d bytes a step and rank take %.0f ms on the link; exposed %.0f ms, hidden %.0f %%\n", zero,
               operation, bytes[operation], wire, exposed[operation], 100 * (1 - exposed[operation] / wire)
        low += exposed[operation] > 0.8 * wire
      }
      exit low > 0 || operations != zero + 1
    }' "$work/out"
}
tries=5
for zero in 0 1; do
  for ((try = 1; ; ++try)); do
    ! hides "$zero" || break
    [ $try -lt $tries ] || { echo "compute hides too little of:" >&2; cat "$work/out" >&2; exit 1; }
  done
done
