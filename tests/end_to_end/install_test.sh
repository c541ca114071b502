#!/usr/bin/env bash
# What `cmake --install` puts in place runs from there; and so does a Debian package, with what it depends on.
set -euo pipefail
source "$SOURCE/tests/end_to_end/common.sh"
build=$(cd "$(dirname "$SLUICE")/.." && pwd)
cmake --install "$build" --prefix "$work/prefix" > log 2>&1 || { cat log; fail "cmake --install"; }
share=$work/prefix/share/sluice
for file in configs/quickstart.textproto configs/paper/moe_15a2b.textproto configs/train.proto slurm/train.sbatch slurm/array.sbatch slurm/sweep.sbatch slurm/job.sh with_grace.sh mpi_network.sh; do
  [ -s "$share/$file" ] || fail "$file is not installed"
done
"$work/prefix/bin/sluice" plan --config "$share/configs/paper/moe_15a2b.textproto" --world 64 --device h100 --set mesh.ep=8 > log 2>&1 ||
  { cat log; fail "the installed program"; }
bash "$share/slurm/job.sh" mpirun -np 2 -- "$work/prefix/bin/sluice" plan --config "$share/configs/quickstart.textproto" --world 2 \
  --device h100 > log 2>&1 || { cat log; fail "the installed launcher"; }

(cd "$work" && cpack --config "$build/CPackConfig.cmake" -B "$work/package" > log 2>&1) || { cat log; fail "cpack"; }
package=$(ls "$work"/package/sluice_*.deb)
dpkg-deb --fsys-tarfile "$package" | tar -x -C "$work"
"$work/usr/bin/sluice" --help > /dev/null || fail "the packaged program"
for dependency in openmpi-bin libprotobuf libopenblas libgoogle-glog; do
  dpkg-deb --field "$package" Depends | grep -q "$dependency" || fail "the package does not depend on $dependency"
done
dpkg-deb --info "$package" | sed -n '/Package:/,$p'
