#!/usr/bin/env bash
# Certifies layouts of the quick start's configuration on N ranks of this machine.
#   verify_test.sh N SLUICE
set -euo pipefail
cd "$(dirname "$0")/../.."
source launch/mpi_local.sh
ranks=$1 sluice=$2

certify() {
  local out
  out=$(mpirun -np "$ranks" "$sluice" verify --json --config configs/quickstart.textproto \
    --set training.global_batch_size=$((ranks * 16)) "$@")
  grep -q '"equal":true' <<< "$out" || { echo "not certified: $*: $out"; exit 1; }
}
certify
certify --set mesh.tp=2 --set mesh.ep="$ranks" --set optimizer.zero_stage=1
certify --set mesh.tp=2 --set mesh.ep=$((ranks / 2)) --set mesh.etp=2 --set optimizer.zero_stage=2
certify --set mesh.ep="$ranks" --set mesh.expert_budget=0.3

message=$(mpirun -np "$ranks" "$sluice" verify --config configs/quickstart.textproto --set mesh.dp=3 2>&1) &&
  { echo "a mesh of 3 ranks was accepted"; exit 1; }
grep -q "does not match a world of $ranks ranks" <<< "$message" || { echo "no error about the ranks: $message"; exit 1; }
