"""How much of the time of exported files a profile maps to layers, and how near its shares are to the truth.

The truth about an operator comes without a profiler: the runtime's graph is cut behind each operator, and the latency
of one cut less that of the one before is the operator's time.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from nas.commands.locate_space import find_space
from nas.deploy.export import export_onnx
from nas.deploy.profiling.graphs import Graphs, read_graphs
from nas.deploy.profiling.profile import operator_profiles
from nas.deploy.profiling.recording import LocalRecorder, Recording
from nas.deploy.quantise import quantise
from nas.device.anchor import anchor_model
from nas.device.card import Device
from nas.device.cores import bound_core
from nas.device.host import host_facts
from nas.device.protocol import TimingProtocol
from nas.device.session import ReadyModel, ready
from nas.device.state import machine_state
from nas.device.timing import Bench, measure, measure_on_bench
from nas.model.build import build
from nas.model.shapes import input_shape_of
from nas.space.moves import sample

DEVICE = Device(name="this-machine")
PROTOCOL = TimingProtocol(blocks=15, max_wait_s=10)
COLUMNS = ("latency_ms", "operators", "inflation", "name", "tensor", "neighbour", "raw", "shifted")
HEAD = ("space", "precision", "latency (ms)", "operators", "slower", "by name", "tensor", "around", "raw", "gauged")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--spaces", default="mobilenet-tiny,resnet-tiny,nasbench201")
    parser.add_argument("--shape", default="3x32x32")
    parser.add_argument("--networks", type=int, default=4)
    parser.add_argument("--exporter", default="torchscript", choices=["torchscript", "dynamo"])
    parser.add_argument("--truth", default="mobilenet-tiny,resnet-tiny", help="spaces whose graphs are cut")
    given = parser.parse_args()
    shape = tuple(int(size) for size in given.shape.split("x"))
    print(f"{given.exporter}, {given.shape}, load {os.getloadavg()[0]:.1f}, {host_facts().cpu}")
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for name in given.spaces.split(","):
        with tempfile.TemporaryDirectory() as folder:
            files = export(name, shape, given.networks, Path(folder), given.exporter)
            for precision, paths in files.items():
                figures = [figures_of(path, Path(folder), cut=name in given.truth.split(",")) for path in paths]
                print(row(name, precision, figures), flush=True)


def export(name: str, shape: tuple[int, ...], count: int, folder: Path, exporter: str) -> dict[str, list[Path]]:
    """Precision -> files of ``count`` random networks; weights are random, which time does not see."""
    space = find_space(name)
    files: dict[str, list[Path]] = {"float32": [], "int8": []}
    for index, choices in enumerate(sample(space, count, np.random.default_rng(0))):
        torch.manual_seed(index)
        network = space.network(choices)
        own = input_shape_of(network, shape)
        paths = folder / f"{index}.onnx", folder / f"{index}.int8.onnx"
        export_onnx(build(network, input_shape=shape, num_classes=10), own, paths[0], exporter=exporter)
        quantise(*paths, np.random.default_rng(0).standard_normal((8, *own)).astype(np.float32), activations="unsigned")
        files["float32"].append(paths[0])
        files["int8"].append(paths[1])
    return files


def figures_of(path: Path, folder: Path, *, cut: bool) -> dict[str, float]:
    """Figures of a file by `COLUMNS`; NaN distances where the graph is not cut."""
    latency_ms = measure([path], device=DEVICE, protocol=PROTOCOL)[0].latency_ms
    options = ready(path, DEVICE).session.get_session_options()
    graphs = read_graphs(path, options, batch=1)
    recording = LocalRecorder().record(graphs.runtime, options, DEVICE, latency_ms=latency_ms)
    operators = operator_profiles(graphs, recording, latency_ms=latency_ms)
    figures = {
        "latency_ms": latency_ms,
        "operators": float(len(operators)),
        "inflation": recording.run_ms / latency_ms,
        **{way: sum(one.share for one in operators if one.mapped == way) for way in ("name", "tensor", "neighbour")},
        "raw": np.nan,
        "shifted": np.nan,
    }
    if cut:
        truth = times_of_cuts(graphs, recording, folder)
        figures["raw"] = distance([one.recorded_us for one in operators], truth)
        figures["shifted"] = distance([one.share for one in operators], truth)
    return figures


def times_of_cuts(graphs: Graphs, recording: Recording, folder: Path) -> np.ndarray:
    """Time of each operator in the order of the recording, in ms: ``(n,)``; what comes out below zero is zero."""
    by_name = {node.name: node for node in graphs.runtime.graph.node}
    nodes = [by_name[name] for name in recording.kernels]
    paths = []
    for end in range(1, len(nodes) + 1):
        model = onnx.ModelProto.FromString(graphs.runtime.SerializeToString())
        del model.graph.node[:]
        model.graph.node.extend(nodes[:end])
        read_later = {name for node in nodes[end:] for name in node.input}
        wanted = read_later | {value.name for value in graphs.runtime.graph.output}
        made = [name for node in nodes[:end] for name in node.output if name in wanted]
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
        paths.append(folder / f"cut{end}.onnx")
        paths[-1].write_bytes(model.SerializeToString())
    with bound_core() as core:
        bench = Bench(
            device=DEVICE.name,
            load=ready_as_it_is,
            anchor=anchor_model(),
            core=core,
            facts=lambda: replace(host_facts(), core=core.current),
            state=partial(machine_state, core.current),
        )
        times = [taken.latency_ms for taken in measure_on_bench(bench, paths, protocol=PROTOCOL)]
    return np.maximum(np.diff([0.0, *times]), 0.0)


def ready_as_it_is(path: Path) -> ReadyModel:
    """A graph that the runtime has optimised already, ready to be timed."""
    options = ready(path, DEVICE).session.get_session_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for entry in session.get_inputs():
        sizes = [size if isinstance(size, int) else 1 for size in entry.shape]
        binding.bind_cpu_input(entry.name, np.random.default_rng(0).standard_normal(sizes).astype(np.float32))
    for entry in session.get_outputs():
        binding.bind_output(entry.name, "cpu")
    return ReadyModel(path=path, session=session, binding=binding)


def distance(found: Sequence[float], truth: np.ndarray) -> float:
    """Total variation distance: the share of the time that is given to the wrong operator."""
    shares = np.asarray(found) / np.sum(found)
    return float(np.abs(shares - truth / truth.sum()).sum() / 2)


def row(space: str, precision: str, figures: Sequence[dict[str, float]]) -> str:
    column = {name: np.array([one[name] for one in figures]) for name in COLUMNS}

    def spread(name: str, form: str) -> str:
        return f"{column[name].min():{form}} to {column[name].max():{form}}"

    def percent(name: str) -> str:
        return "-" if np.isnan(column[name]).all() else f"{100 * column[name].mean():.1f} %"

    cells = [space, precision, spread("latency_ms", ".3f"), spread("operators", ".0f"), spread("inflation", ".1f")]
    return f"| {' | '.join([*cells, *map(percent, COLUMNS[3:])])} |"


if __name__ == "__main__":
    main()
