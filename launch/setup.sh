#!/usr/bin/env bash
# Installs what Sluice needs from Debian's packages. Repeatable; needs root or sudo.
#   launch/setup.sh [--studies] [--tests]    --studies adds what `sluice fit` and `report` need, --tests that and what only tests need
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config ccache
  libopenmpi-dev openmpi-bin
  libprotobuf-dev protobuf-compiler libgoogle-glog-dev libgtest-dev libgmock-dev
  libopenblas-openmp-dev librandom123-dev
  libfmt-dev libcli11-dev nlohmann-json3-dev
  libxxhash-dev libzstd-dev zlib1g-dev libpcre2-dev libutf8proc-dev
  libzmq3-dev cppzmq-dev
  ca-certificates xz-utils
)
for argument in "$@"; do
  case "$argument" in
    --studies) packages+=(libceres-dev) ;;
    --tests) packages+=(libceres-dev clang-format iproute2 dpkg-dev file slurm-wlm munge) ;;
    *) echo "error: unknown argument $argument; usage: launch/setup.sh [--studies] [--tests]" >&2; exit 1 ;;
  esac
done

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "setup: all ${#packages[@]} packages are installed"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "error: setup needs root or sudo to install: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "setup: installing ${missing[*]}"
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
echo "setup: done"
