#!/usr/bin/env bash
# Sets up, builds and runs every test: the cpu preset with all of them, the sanitizers with the unit tests.
set -uo pipefail
cd "$(dirname "$0")/.."
source launch/mpi_local.sh

failed_steps=0
run() { "$@" || { echo "error: failed: $*" >&2; failed_steps=$((failed_steps + 1)); return 1; }; }

passed=0 failed=0 skipped=0
failures=$(mktemp) times=
# failures_of LOG: the tests that ctest reports as failed, each with what is said of failures and the end of its output.
failures_of() {
  awk 'function flush(i) {
         for (i = 0; failed && i < n; ++i) {
           if (lines[i] ~ /: Failure$|Sanitizer|runtime error:/) shown = i + 12
           if (i < shown || i >= n - 40) print lines[i]
         }
         failed = n = shown = 0
       }
       /^ *[0-9]+\/[0-9]+ Test +#/ { flush(); failed = /\*\*\*/ && !/\*\*\*Skipped/; if (failed) print; next }
       /^ +Start +[0-9]+: / || /^[0-9]+% tests passed/ { flush(); next }
       failed { lines[n++] = $0 }' "$1"
}
# inside LOG RESULT: how many tests the programs of GoogleTest report with a result.
inside() { sed -nE "s/^\[  $2 *\] ([0-9]+) tests?.*/\1/p" "$1" | awk '{ all += $1 } END { print all + 0 }'; }
# test_preset PRESET TARGET CTEST-ARGUMENTS...: builds and adds up what ctest reports, of sanitizers what its parts do.
test_preset() {
  local preset=$1 target=$2 log total bad skip began=$SECONDS built parts=build/$1/Testing/Temporary/LastTest.log
  shift 2
  run cmake --preset "$preset" || return
  run cmake --build "build/$preset" --target "$target" || return
  log=build/$preset/ctest.log built=$SECONDS
  ctest --test-dir "build/$preset" -j2 --output-on-failure "$@" 2>&1 | tee "$log"
  total=$(sed -nE 's/.*tests failed out of ([0-9]+).*/\1/p' "$log")
  bad=$(sed -nE 's/.* ([0-9]+) tests failed out of .*/\1/p' "$log")
  skip=$(grep -c '\*\*\*Skipped' "$log")
  if [ "$target" = unit_tests ] || [ "$target" = thread_tests ]; then
    skip=$(inside "$parts" SKIPPED) total=$(($(inside "$parts" PASSED) + bad + skip))
  fi
  [ "${total:-0}" -gt 0 ] || { run false "no tests ran in preset $preset"; return; }
  passed=$((passed + total - bad - skip)) failed=$((failed + bad)) skipped=$((skipped + skip))
  failures_of "$log" >> "$failures"
  times+="preset $preset: built in $((built - began)) s, tested in $((SECONDS - built)) s"$'\n'
}

run bash launch/setup.sh --tests
test_preset cpu all
# The sanitizers see nothing inside MPI, and whole runs are long under them: unit tests only. Which thread touches what
# depends neither on a kernel's instructions nor on how a run is disturbed.
export SLUICE_LAYOUTS=20
test_preset debug unit_tests -L unit
GTEST_FILTER='*avx2_*3threads*:*ThreadGroup*:TrainStep*:Evaluate*:Agree*:ThreadPool*:ParallelFor*:Prefetcher*:DataBuild*:OutputFile*:Watchdog*:Calibrate*:-*Disturbed*:F32*:*InWhateverPortions' \
  test_preset tsan thread_tests -L threads
# libFuzzer comes with clang, which nothing else needs.
probe=$(mktemp)
if clang++ -fsanitize=fuzzer -x c++ -o "$probe" - <<< 'extern "C" int LLVMFuzzerTestOneInput(const char*, long) { return 0; }' 2>/dev/null; then
  test_preset fuzz fuzzers -L fuzz
else
  echo "skipped: fuzzing guided by coverage, there is no clang++ with libFuzzer (package libclang-rt-dev)"
fi
rm -f "$probe"
cat "$failures"
rm -f "$failures"
# Why a check was skipped, each reason once.
grep -h '^skipped: ' build/cpu/Testing/Temporary/LastTest.log | sort -u
printf %s "$times"
echo "$passed passed, $((failed + failed_steps)) failed, $skipped skipped"
[ $((failed + failed_steps)) -eq 0 ]
