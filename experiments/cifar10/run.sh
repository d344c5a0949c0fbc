#!/bin/sh
# Searches mobilenet-tiny on 10,000 images of CIFAR-10 under a latency budget in ms, on this machine.
#
# Usage: experiments/cifar10/run.sh [FOLDER] [field=value ...]
#   FOLDER holds CIFAR-10 as Parquet files in the layout of Hugging Face; $NAS_DATA/cifar10 if it is left out.
#   Further fields override those below, e.g. budget.latency="0.4 ms" run.candidates=32.
# Writes runs/cifar10-0.25ms and latency_models/this-machine in the folder from which it is called.
set -eu

case "${1:-}" in
    "" | *=* | -*) data="${NAS_DATA:?give the folder of CIFAR-10, or set NAS_DATA to the folder that holds cifar10/}/cifar10" ;;
    *) data="$1" && shift ;;
esac

exec nas search \
    data=parquet data.path="$data" data.limit=10000 recipe=photos \
    space=mobilenet-tiny budget.latency="0.25 ms" strategy=tpe seed=0 \
    run.name=cifar10-0.25ms run.workers=2 \
    run.candidates=16 run.epochs=2 run.final_epochs=8 run.front=4 "$@"
