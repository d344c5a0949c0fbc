"""How much a latency changes from one process to the next.

    python experiments/timing_stability/run.py

Three networks of `mobilenet-tiny` for 3x32x32 images (small, middle, large by multiply-accumulates) are timed in fresh
processes by the full protocol. The mean of 200 runs, taken without any care, shows what the protocol is worth.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from nas.device.card import load_device
from nas.device.host import host_facts
from nas.device.protocol import FULL
from nas.device.session import ready
from nas.device.timing import measure
from nas.locate import resource_folder

SHAPE, CLASSES = (3, 32, 32), 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between two processes")
    parser.add_argument("--once", type=Path, help="time the files in this folder, and print them as JSON")
    given = parser.parse_args()
    if given.once is not None:
        print(json.dumps(once(sorted(given.once.glob("*.onnx")))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        names = export(Path(temporary))
        runs = []
        for index in range(given.processes):
            time.sleep(given.pause if index else 0.0)
            command = [sys.executable, __file__, "--once", temporary]
            result = subprocess.run(command, check=True, capture_output=True, text=True)
            runs.append(json.loads(result.stdout))
            print(f"process {index + 1}: {runs[-1]}", file=sys.stderr)
    report(names, runs)


def export(folder: Path) -> list[str]:
    """Three files, named so that they sort by size."""
    import torch

    from nas.deploy.export import export_onnx
    from nas.model.build import build
    from nas.model.population_costs import PopulationCosts
    from nas.model.shapes import input_shape_of
    from nas.space.load import load_space
    from nas.space.moves import sample

    torch.set_num_threads(1)
    space = load_space(resource_folder("search_spaces") / "mobilenet-tiny.yaml")
    rows = sample(space, 100, np.random.default_rng(0))
    macs = PopulationCosts(space, input_shape=SHAPE, num_classes=CLASSES).costs(rows)["macs"]
    order = np.argsort(macs)
    names = []
    for index in (order[0], order[50], order[-1]):
        network = space.network(rows[index])
        torch.manual_seed(0)
        name = f"{macs[index] / 1e6:05.1f}M"
        module = build(network, input_shape=SHAPE, num_classes=CLASSES)
        export_onnx(module, input_shape_of(network, SHAPE), folder / f"{name}.onnx")
        names.append(name)
    return names


def once(files: list[Path]) -> dict[str, object]:
    """Latencies by the protocol, and the mean of as many runs without any care."""
    device = load_device("this-machine", [resource_folder("latency_models")])
    plain = []
    for path in files:
        model = ready(path, device)
        model.warm_up(FULL.warmups)
        times_ms, _ = model.timed_runs(FULL.blocks * FULL.runs)
        plain.append(float(times_ms.mean()))
    started = time.perf_counter()
    taken = measure(files, device=device)
    return {
        "protocol_ms": [entry.latency_ms for entry in taken],
        "plain_mean_ms": plain,
        "settled": [entry.settled for entry in taken],
        "seconds": round(time.perf_counter() - started, 1),
        "load": round(os.getloadavg()[0], 2),
    }


def report(names: list[str], runs: list[dict[str, object]]) -> None:
    protocol = np.array([run["protocol_ms"] for run in runs])
    plain = np.array([run["plain_mean_ms"] for run in runs])
    settled = np.array([run["settled"] for run in runs])
    seconds, load = [run["seconds"] for run in runs], [run["load"] for run in runs]
    span = f"{len(runs)} processes of {min(seconds)} to {max(seconds)} s; load {min(load)} to {max(load)}"
    print(f"{host_facts().cpu}; {span}")
    print("| model | latency | CV over processes | largest / smallest | settled | CV of a plain mean |")
    print("|---|---|---|---|---|---|")
    for index, name in enumerate(names):
        values = protocol[:, index]
        print(
            f"| {name}ACs | {np.median(values):.3f} ms | {cv(values):.1%} | {values.max() / values.min():.3f} "
            f"| {settled[:, index].sum()} of {len(runs)} | {cv(plain[:, index]):.1%} |"
        )


def cv(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / values.mean())


if __name__ == "__main__":
    main()
