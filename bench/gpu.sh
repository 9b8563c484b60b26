#!/usr/bin/env bash
# Everything that needs a GPU, in one call of under eight minutes: the kernels' contract, their
# laws at 1e9 values, compute-sanitizer where it is found, and the bench.  The table goes to
# bench/results/, or to the folder given.  Uses the Python of the environment (or $PYTHON) with
# CuPy, torch and the test extra; the package is built if it cannot be imported.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${1:-bench/results}
status=0
summary=()

step() {
  local name=$1
  shift
  local begun=$SECONDS
  local said=passed
  if ! "$@"; then
    said=FAILED
    status=1
  fi
  summary+=("== $name: $said ($((SECONDS - begun)) s)")
  echo "${summary[-1]}"
}

if ! "$PYTHON" -c "import cert_core, cert_core.native.drawing" 2> /dev/null; then
  step build "$PYTHON" -m pip install -q --no-build-isolation --no-deps -e .
fi
# Warnings are errors of the project's own pins, not of whatever versions are here.
TEST=("$PYTHON" -m pytest -q -W default -p no:cacheprovider)
step "contract" timeout 110 "${TEST[@]}" tests/core/test_kernels.py tests/core/test_lattice.py -k "gpu"
step "laws, indices, streams" timeout 170 "${TEST[@]}" tests/core/test_device.py
SANITIZER=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2> /dev/null | head -1)
if [ -n "$SANITIZER" ]; then
  for tool in memcheck racecheck; do
    step "compute-sanitizer $tool" timeout 45 "$SANITIZER" --tool "$tool" --error-exitcode 1 \
      "$PYTHON" bench/gpu_small.py
  done
else
  summary+=("== compute-sanitizer: not found")
fi
step "bench" timeout 140 "$PYTHON" bench/gpu.py --out "$OUT"
printf '%s\n' "${summary[@]}"
exit $status
