#!/usr/bin/env bash
# Runs a program on N ranks of this machine.
#   ranks.sh N PROGRAM ARGUMENTS...
set -euo pipefail
source "$(dirname "$0")/../../launch/mpi_local.sh"
exec mpirun -np "$@"
