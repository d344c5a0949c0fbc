#!/usr/bin/env bash
# Times the onnxruntime files of model {{digest}} on an Android device by onnxruntime_perf_test.
#
# Needs adb with one device, and a build of onnxruntime for it: PERF_TEST=/path/to/onnxruntime_perf_test (from
# onnxruntime's build for Android with unit tests; libraries beside it are pushed too). Checked for syntax only where it
# was made; it has run on no phone.
# SPDX-License-Identifier: Apache-2.0
#
# usage: PERF_TEST=... [SECONDS_EACH=20] [THREADS=1] [CORES=f0] ./adb_onnxruntime.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PERF_TEST="${PERF_TEST:?set PERF_TEST to onnxruntime_perf_test built for the device}"
SECONDS_EACH="${SECONDS_EACH:-20}"
THREADS="${THREADS:-1}"
CORES="${CORES:-}" # a mask for taskset, e.g. f0 for the last four of eight cores
FILES=({{files}})
PLACE=/data/local/tmp/nas_{{digest}}

command -v adb >/dev/null || { echo "adb is not found; install Android's platform tools" >&2; exit 2; }
adb shell mkdir -p "$PLACE"
adb push "$PERF_TEST" "$PLACE/perf_test" >/dev/null
for library in "$(dirname "$PERF_TEST")"/*.so; do
    [ -e "$library" ] && adb push "$library" "$PLACE/" >/dev/null
done
adb shell chmod 755 "$PLACE/perf_test"
echo "device  $(adb shell getprop ro.product.model | tr -d '\r')  $(adb shell getprop ro.build.fingerprint | tr -d '\r')"
echo "cpu     $(adb shell 'cat /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor 2>/dev/null | sort | uniq -c' | tr -d '\r' | tr '\n' ' ')"
for file in "${FILES[@]}"; do
    name="$(basename "$file")"
    adb push "$file" "$PLACE/$name" >/dev/null
    echo "== $name, $THREADS thread(s), $SECONDS_EACH s"
    run="LD_LIBRARY_PATH=. ./perf_test -e cpu -I -m duration -t $SECONDS_EACH -s -x $THREADS -y 1 -o 99 $name"
    adb shell "cd $PLACE && ${CORES:+taskset $CORES }sh -c '$run'" | tr -d '\r' | grep -E "Latency|Average|Peak" || true
    echo "temperature $(adb shell 'cat /sys/class/thermal/thermal_zone0/temp 2>/dev/null' | tr -d '\r')"
done
adb shell rm -r "$PLACE"
