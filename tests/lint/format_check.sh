#!/usr/bin/env bash
# Every source as .clang-format wants it. Exit code 77: clang-format is not installed.
#   format_check.sh ROOT
set -euo pipefail
cd "$1"
command -v clang-format >/dev/null || { echo "clang-format is not installed: launch/setup.sh --tests does it"; exit 77; }
find kernels parallel models runtime launch tests \( -name '*.h' -o -name '*.cc' \) -print0 | xargs -0 clang-format --dry-run -Werror
