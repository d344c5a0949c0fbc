#!/usr/bin/env bash
# Builds a TensorRT engine from @STEM@.onnx on this device, checks one answer, and times it.
#
# Needs trtexec (with TensorRT; on Jetson: /usr/src/tensorrt/bin/trtexec) and python3.
# Written for TensorRT 10 and later. It was checked for syntax where it was made, and has not run there.
#
# usage: [TRTEXEC=/path/to/trtexec] [TOLERANCE=0.05] ./build_and_bench...sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

TRTEXEC="${TRTEXEC:-trtexec}"
TOLERANCE="${TOLERANCE:-0.05}"
if ! command -v "$TRTEXEC" >/dev/null; then
    echo "trtexec is not found; set TRTEXEC=/usr/src/tensorrt/bin/trtexec, or wherever TensorRT is" >&2
    exit 2
fi

# Types are written into the file; without this flag TensorRT 10 would choose others.
flags=()
help="$("$TRTEXEC" --help 2>&1 || true)" # no pipe: grep -q would end trtexec by SIGPIPE, and pipefail report it
if [[ "$help" == *--stronglyTyped* ]]; then
    flags+=(--stronglyTyped)
fi

echo "== build"
"$TRTEXEC" --onnx=@STEM@.onnx --saveEngine=@STEM@.engine --skipInference --profilingVerbosity=detailed \
    --timingCacheFile=@STEM@.timing.cache "${flags[@]+"${flags[@]}"}"

echo "== check"
"$TRTEXEC" --loadEngine=@STEM@.engine --loadInputs=input:@STEM@.input.bin --exportOutput=@STEM@.answer.json \
    --iterations=1 --warmUp=0 --duration=0 >/dev/null
python3 - "$TOLERANCE" <<'PYTHON'
import json
import sys

expected = json.load(open("@STEM@.logits.json"))
found = next(entry["values"] for entry in json.load(open("@STEM@.answer.json")) if entry["name"] == "logits")
extent = max(expected) - min(expected) or 1.0
error = max(abs(a - b) for a, b in zip(expected, found, strict=True)) / extent
same = expected.index(max(expected)) == found.index(max(found))
print(f"off by {error:.2%} of the logits' range, {'same' if same else 'another'} class")
sys.exit(0 if same and error <= float(sys.argv[1]) else 1)
PYTHON

echo "== latency of one image, ms"
"$TRTEXEC" --loadEngine=@STEM@.engine --warmUp=500 --duration=10 --iterations=100 --useCudaGraph --useSpinWait \
    --percentile=50,90,99 --exportTimes=@STEM@.times.json | grep -E "Latency:|GPU Compute Time:|Throughput:"

echo "== layers"
"$TRTEXEC" --loadEngine=@STEM@.engine --dumpProfile --separateProfileRun --exportProfile=@STEM@.layers.json >/dev/null
echo "engine @STEM@.engine, times @STEM@.times.json, layers @STEM@.layers.json"
