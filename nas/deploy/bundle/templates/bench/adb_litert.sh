#!/usr/bin/env bash
# Times the LiteRT files of model {{digest}} on an Android device by benchmark_model.
#
# Needs adb with one device, and LiteRT's benchmark binary for it: BENCHMARK=/path/to/benchmark_model (android_arm64, of
# the interpreter). Checked for syntax only where it was made; it has run on no phone.
# SPDX-License-Identifier: Apache-2.0
#
# usage: BENCHMARK=... [RUNS=200] [THREADS=1] [CORES=f0] ./adb_litert.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

BENCHMARK="${BENCHMARK:?set BENCHMARK to benchmark_model built for the device}"
RUNS="${RUNS:-200}"
THREADS="${THREADS:-1}"
CORES="${CORES:-}" # a mask for taskset, e.g. f0 for the last four of eight cores
FILES=({{files}})
PLACE=/data/local/tmp/nas_{{digest}}

command -v adb >/dev/null || { echo "adb is not found; install Android's platform tools" >&2; exit 2; }
adb shell mkdir -p "$PLACE"
adb push "$BENCHMARK" "$PLACE/benchmark_model" >/dev/null
adb shell chmod 755 "$PLACE/benchmark_model"
echo "device  $(adb shell getprop ro.product.model | tr -d '\r')  $(adb shell getprop ro.build.fingerprint | tr -d '\r')"
for file in "${FILES[@]}"; do
    name="$(basename "$file")"
    adb push "$file" "$PLACE/$name" >/dev/null
    echo "== $name, $THREADS thread(s), $RUNS runs"
    run="./benchmark_model --graph=$name --num_threads=$THREADS --use_xnnpack=true --warmup_runs=20 --num_runs=$RUNS"
    run="$run --min_secs=0 --enable_op_profiling=true --report_peak_memory_footprint=true"
    adb shell "cd $PLACE && ${CORES:+taskset $CORES }$run" 2>&1 | tr -d '\r'
done
adb shell rm -r "$PLACE"
