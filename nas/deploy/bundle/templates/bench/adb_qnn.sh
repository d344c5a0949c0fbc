#!/usr/bin/env bash
# Times the QNN files of model {{digest}} on a Qualcomm device's NPU (HTP) by onnxruntime_perf_test.
#
# Needs adb with one device; a build of onnxruntime with QNN for it, PERF_TEST=/path/to/onnxruntime_perf_test; and the
# QNN SDK, QNN_SDK_ROOT. HTP names the NPU's version (73: Snapdragon 8 Gen 2). The fallback to the processor is off: an
# operator that the NPU does not take is an error. Checked for syntax only where it was made; it has run on no phone.
# SPDX-License-Identifier: Apache-2.0
#
# usage: PERF_TEST=... QNN_SDK_ROOT=... [HTP=73] [SECONDS_EACH=20] ./adb_qnn.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PERF_TEST="${PERF_TEST:?set PERF_TEST to onnxruntime_perf_test built with QNN for the device}"
QNN_SDK_ROOT="${QNN_SDK_ROOT:?set QNN_SDK_ROOT to the folder of the QNN SDK}"
HTP="${HTP:-73}"
SECONDS_EACH="${SECONDS_EACH:-20}"
FILES=({{files}})
PLACE=/data/local/tmp/nas_{{digest}}

command -v adb >/dev/null || { echo "adb is not found; install Android's platform tools" >&2; exit 2; }
adb shell mkdir -p "$PLACE"
adb push "$PERF_TEST" "$PLACE/perf_test" >/dev/null
for library in "$(dirname "$PERF_TEST")"/*.so; do
    [ -e "$library" ] && adb push "$library" "$PLACE/" >/dev/null
done
for name in libQnnHtp.so libQnnSystem.so libQnnHtpPrepare.so "libQnnHtpV${HTP}Stub.so"; do
    adb push "$QNN_SDK_ROOT/lib/aarch64-android/$name" "$PLACE/" >/dev/null
done
adb push "$QNN_SDK_ROOT/lib/hexagon-v${HTP}/unsigned/libQnnHtpV${HTP}Skel.so" "$PLACE/" >/dev/null
adb shell chmod 755 "$PLACE/perf_test"
echo "device  $(adb shell getprop ro.product.model | tr -d '\r')  $(adb shell getprop ro.soc.model | tr -d '\r')"
for file in "${FILES[@]}"; do
    name="$(basename "$file")"
    adb push "$file" "$PLACE/$name" >/dev/null
    echo "== $name, $SECONDS_EACH s"
    run="LD_LIBRARY_PATH=. ADSP_LIBRARY_PATH=. ./perf_test -e qnn -I -m duration -t $SECONDS_EACH -s"
    run="$run -i 'backend_path|libQnnHtp.so htp_performance_mode|burst' -C 'session.disable_cpu_ep_fallback|1' $name"
    adb shell "cd $PLACE && $run" | tr -d '\r' | grep -E "Latency|Average|rror" || true
done
adb shell rm -r "$PLACE"
