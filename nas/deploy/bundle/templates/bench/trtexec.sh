#!/usr/bin/env bash
# Builds and times each TensorRT file of model {{digest}} on this device: calls the script beside each file.
#
# Needs trtexec (comes with TensorRT; on Jetson /usr/src/tensorrt/bin/trtexec). Checked for syntax only where it was
# made; no GPU has run it.
# SPDX-License-Identifier: Apache-2.0
#
# usage: [TRTEXEC=/path/to/trtexec] ./trtexec.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0
for script in {{scripts}}; do
    echo "==== $script"
    bash "$script" || failed=1
done
exit "$failed"
