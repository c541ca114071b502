#!/usr/bin/env bash
# Runs a check of this folder with $PYTHON (default python3). Exit code 77, skipped, when there is no such program.
#   run.sh CHECK.py ARGUMENTS...
set -euo pipefail
python=${PYTHON:-python3}
command -v "$python" >/dev/null || { echo "skipped: there is no $python"; exit 77; }
check=$(cd "$(dirname "$0")" && pwd)/$1
shift
exec "$python" "$check" "$@"
