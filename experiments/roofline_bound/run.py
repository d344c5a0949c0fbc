"""How far a latency estimated from a device card is off, on devices that the rates were not fitted to.

    python experiments/roofline_bound/run.py [--here 60]

Needs the tables of NAS-Bench-201 ($NAS_DATA, or ../shared/data beside the checkout). `--here` exports and times that
many networks of each of two spaces on this machine, as float32 and INT8; without it, this machine is left out.
Prints the rates that `nas.device.roofline` holds, and the tables of the README.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import torch
from devices import EDGE_TPU_MS, EDGE_TPU_OPERATIONS, ESPRESSIF, HELP, TINY
from networks import ds_cnn, mobilenet_v1, mobilenet_v2, resnet8, squeezenet
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import spearmanr
from torch import nn

from nas.deploy.export import export_onnx
from nas.deploy.quantise import quantise
from nas.device.card import Device, Kind, Precision
from nas.device.card_figures import Peak
from nas.device.protocol import CALIBRATION
from nas.device.roofline import Rates, terms
from nas.device.timing import measure
from nas.locate import resource_folder
from nas.model.build import build
from nas.model.costs import figures_of
from nas.model.features import FEATURE_NAMES
from nas.model.fusion import fuse
from nas.model.layer_table import volume
from nas.model.population_costs import PopulationCosts
from nas.model.shapes import input_shape_of
from nas.model.trace import trace
from nas.space.load import load_space
from nas.space.moves import sample

Floats = NDArray[np.float64]
GROUPS: tuple[tuple[Kind, str], ...] = (
    ("cpu", "pytorch"),
    ("gpu", "pytorch"),
    ("microcontroller", "litert"),
    ("npu", "litert"),
    ("cpu", "onnxruntime"),
)
# Where the search for rates starts, and what it is drawn to a little: us a call, and three factors.
START = np.log([10.0, 3.0, 6.0, 2.0])
PENALTY, PENALTY_OF_ONE = 2e-3, 2e-2  # the second where all samples are of one board
EDGES = ("op_0>1", "op_0>2", "op_1>2", "op_0>3", "op_1>3", "op_2>3")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Latencies of networks on one device: ``terms`` (n, 4) as in `nas.device.roofline.terms`, ``ms`` (n,)."""

    kind: Kind
    runtime: str
    board: str
    name: str
    terms: Floats
    ms: Floats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--here", type=int, default=0, help="networks of each space to time on this machine")
    parser.add_argument("--rows", type=int, default=300, help="networks of NAS-Bench-201")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(given.seed)
    samples = [*help_samples(given.rows, rng), *tiny_samples(), *edge_tpu_samples()]
    if given.here:
        samples += here_samples(given.here, rng)
    overlap(given.rows, rng)
    power()
    for group in GROUPS:
        found = [one for one in samples if (one.kind, one.runtime) == group]
        if found:
            report(group, found)


def device(kind: Kind, operations: float, bandwidth: float | None, precision: Precision, batch: int = 1) -> Device:
    numbers = "int8" if precision.startswith("int8") else precision
    peaks = {numbers: Peak(per_second=operations, source="see devices.py")}
    if bandwidth is not None:
        peaks["memory_bandwidth"] = Peak(per_second=bandwidth, source="see devices.py")
    return Device(name="published", kind=kind, batch=batch, precision=precision, peaks=peaks)


def features_of(module: nn.Module, shape: tuple[int, int, int]) -> Floats:
    return np.array(figures_of(trace(module.eval(), shape), 0).features)


def table_folder() -> Path:
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("NAS_DATA", beside)) / "nasbench201"


def help_samples(rows: int, rng: np.random.Generator) -> list[Sample]:
    """NAS-Bench-201 as it was run: eagerly, so that dead parts of cells are computed like live ones."""
    space = load_space(resource_folder("search_spaces") / "nasbench201.yaml")
    accuracy = parquet.read_table(table_folder() / "accuracy.parquet", columns=list(EDGES))
    latency = parquet.read_table(table_folder() / "latency_ms.parquet")
    chosen = rng.choice(accuracy.num_rows, rows, replace=False)
    population = np.stack([accuracy[edge].to_numpy() for edge in EDGES], axis=1)[chosen].astype(np.int16)
    features = []
    for row in population:
        with torch.device("meta"):
            module = build(space.network(row, fold=False), input_shape=(3, 32, 32), num_classes=10)
        features.append(features_of(module, (3, 32, 32)))
    found = []
    for one in HELP:
        ms = latency[one.column].to_numpy()[chosen]
        kept = ms > 0.05  # below, the table holds graphs that were folded away
        card = device(one.kind, one.operations, one.bandwidth, "float32", one.batch)
        matrix = terms(FEATURE_NAMES, card, "float32")
        found.append(
            Sample(
                kind=one.kind,
                runtime=one.runtime,
                board=one.board,
                name=one.column,
                terms=np.array(features)[kept] @ matrix,
                ms=ms[kept],
            )
        )
    return found


def tiny_samples() -> list[Sample]:
    networks = ((resnet8(), (3, 32, 32)), (ds_cnn(), (1, 49, 10)), (mobilenet_v1(0.25, 2), (3, 96, 96)))
    features = np.array([features_of(module, shape) for module, shape in networks])
    found = []
    for one in TINY:
        card = device("microcontroller", one.megahertz * 1e6 * 4, None, "int8")
        found.append(
            Sample(
                kind="microcontroller",
                runtime="litert",
                board=one.board,
                name=f"{one.board}, {one.run}",
                terms=features @ terms(FEATURE_NAMES, card, "int8"),
                ms=1e3 / np.array(one.per_second),
            )
        )
    person = features_of(mobilenet_v1(0.25, 2, 1), (1, 96, 96))[None]
    for board, (megahertz, per_cycle, ms) in ESPRESSIF.items():
        card = device("microcontroller", megahertz * 1e6 * per_cycle * 2, None, "int8")
        found.append(
            Sample(
                kind="microcontroller",
                runtime="litert",
                board=board,
                name=f"{board}, ESP-NN",
                terms=person @ terms(FEATURE_NAMES, card, "int8"),
                ms=np.array([ms]),
            )
        )
    return found


def edge_tpu_samples() -> list[Sample]:
    networks = {"mobilenet_v1": mobilenet_v1(1, 1000), "mobilenet_v2": mobilenet_v2(), "squeezenet": squeezenet()}
    features = np.array([features_of(networks[name], (3, 224, 224)) for name in EDGE_TPU_MS])
    matrix = terms(FEATURE_NAMES, device("npu", EDGE_TPU_OPERATIONS, None, "int8"), "int8")
    return [
        Sample(kind="npu", runtime="litert", board="Edge TPU", name=name, terms=features @ matrix,
               ms=np.array([times[place] for times in EDGE_TPU_MS.values()]))
        for place, name in enumerate(("USB accelerator", "development board"))
    ]  # fmt: skip


def here_samples(count: int, rng: np.random.Generator) -> list[Sample]:
    """This machine: one core of an AMD EPYC (Zen 4, about 3.5 GHz: 32 float32 or 128 INT8 operations a cycle)."""
    found = []
    shape = (1, 8, 8)
    for name in ("mobilenet-tiny", "resnet-tiny"):
        space = load_space(resource_folder("search_spaces") / f"{name}.yaml")
        costs = PopulationCosts(space, input_shape=shape, num_classes=10)
        population = sample(space, 2 * count, rng)
        population = population[costs.buildable(population)][:count]
        with tempfile.TemporaryDirectory() as scratch:
            files: dict[Precision, list[Path]] = {"float32": [], "int8": []}
            for number, row in enumerate(population):
                network = space.network(row)
                module = build(network, input_shape=shape, num_classes=10)
                path = Path(scratch) / f"{number}.onnx"
                takes = input_shape_of(network, shape)
                export_onnx(module, takes, path)
                files["float32"].append(path)
                files["int8"].append(path.with_name(f"{number}.int8.onnx"))
                images = rng.random((16, *takes), dtype=np.float32)
                quantise(path, files["int8"][-1], images, activations="unsigned")
            for precision, per_cycle in (("float32", 32), ("int8", 128)):
                card = device("cpu", 3.5e9 * per_cycle, 460e9, precision)
                timed = measure(files[precision], device=Device(name="this-machine"), protocol=CALIBRATION)
                found.append(
                    Sample(
                        kind="cpu",
                        runtime="onnxruntime",
                        board="this machine",
                        name=f"this machine, {name}, {precision}",
                        terms=costs.features(population) @ terms(costs.feature_names, card, precision),
                        ms=np.array([one.latency_ms for one in timed]),
                    )
                )
    return found


def fit(samples: list[Sample]) -> Floats:
    """Logarithms of the four rates: least mean absolute error of the logarithm, all boards counting the same."""
    boards = sorted({one.board for one in samples})

    penalty = PENALTY if len(boards) > 1 else PENALTY_OF_ONE

    def loss(rates: Floats) -> float:
        errors = [
            np.mean(
                [np.abs(np.log(one.terms @ np.exp(rates) / one.ms)).mean() for one in samples if one.board == board]
            )
            for board in boards
        ]
        return float(np.mean(errors) + penalty * ((rates - START) ** 2).sum())

    options = {"maxiter": 1000, "fatol": 1e-6, "xatol": 1e-3}
    step = np.array([2.0, 0.0, 0.0, 0.0])
    starts = [START, START + step, START - step]
    results = [minimize(loss, start, method="Nelder-Mead", options=options) for start in starts]
    return min(results, key=lambda result: float(result.fun)).x


def report(group: tuple[Kind, str], samples: list[Sample]) -> None:
    boards = sorted({one.board for one in samples})
    print(f"\n## {group[0]}, {group[1]}: {len(boards)} devices")
    rates = np.exp(fit(samples))
    left_out: dict[str, dict[str, Floats]] = {}
    for board in boards:
        others = [one for one in samples if one.board != board]
        used = np.exp(fit(others)) if others else rates
        left_out[board] = {one.name: np.log(one.ms / (one.terms @ used)) for one in samples if one.board == board}
    print("| device | measured / estimated | spread within | Spearman |\n|---|---|---|---|")
    for one in samples:
        residuals = left_out[one.board][one.name]
        rank = f"{spearmanr(one.ms, one.terms @ rates)[0]:.2f}" if len(one.ms) > 2 else "-"
        print(f"| {one.name} | {np.exp(np.median(residuals)):.2f} | {residuals.std():.2f} | {rank} |")
    spread = rms(left_out, boards)
    print(f"\nrates: call {rates[0]:.2f} us, compute {rates[1]:.2f}, depthwise {rates[2]:.2f}, traffic {rates[3]:.2f};")
    print(f"spread {spread:.3f} over {len(boards)} devices left out")
    if len(boards) > 2:
        coverage(rates, left_out, boards)


def rms(left_out: dict[str, dict[str, Floats]], boards: list[str]) -> float:
    """Root mean square of the logarithm, each board counting the same."""
    squares = [np.mean([np.mean(residuals**2) for residuals in left_out[board].values()]) for board in boards]
    return float(np.sqrt(np.mean(squares)))


def coverage(rates: Floats, left_out: dict[str, dict[str, Floats]], boards: list[str]) -> None:
    """How often the bound holds on a board, with a spread from the other boards."""
    print("| confidence | bound / estimate | held, mean over devices | on the worst device |\n|---|---|---|---|")
    for confidence in (0.8, 0.9, 0.95):
        held, factors = [], []
        for board in boards:
            others = [other for other in boards if other != board]
            known = as_rates(rates, rms(left_out, others), len(others))
            factors.append(known.bound_factor(confidence))
            held.append(np.mean([(r <= np.log(factors[-1])).mean() for r in left_out[board].values()]))
        print(f"| {confidence:.0%} | {np.mean(factors):.1f} | {np.mean(held):.1%} | {np.min(held):.1%} |")


def as_rates(rates: Floats, spread: float, num_devices: int) -> Rates:
    call_us, compute, depthwise, traffic = (float(rate) for rate in rates)
    return Rates(call_us=call_us, compute=compute, depthwise=depthwise, traffic=traffic, spread=spread,
                 num_devices=num_devices, measured=(), basis="")  # fmt: skip


def power() -> None:
    """Whether energy of a microcontroller is its power times the latency: that power, on three networks."""
    print("\n## measured energy over measured latency, mW")
    print("| device | image classification | keyword spotting | visual wake words |\n|---|---|---|---|")
    for one in TINY:
        if one.energy_uj is not None:
            cells = [f"{uj * rate * 1e-3:.1f}" for uj, rate in zip(one.energy_uj, one.per_second, strict=True)]
            print(f"| {one.board}, {one.run} | {' | '.join(cells)} |")


def overlap(rows: int, rng: np.random.Generator) -> None:
    """Whether compute and traffic of a kernel should overlap: the maximum of both against their sum."""
    space = load_space(resource_folder("search_spaces") / "nasbench201.yaml")
    accuracy = parquet.read_table(table_folder() / "accuracy.parquet", columns=list(EDGES))
    latency = parquet.read_table(table_folder() / "latency_ms.parquet")
    chosen = rng.choice(accuracy.num_rows, min(rows, 150), replace=False)
    population = np.stack([accuracy[edge].to_numpy() for edge in EDGES], axis=1)[chosen].astype(np.int16)
    kernels = []
    for row in population:
        with torch.device("meta"):
            module = build(space.network(row, fold=False), input_shape=(3, 32, 32), num_classes=10)
        table = trace(module.eval(), (3, 32, 32))
        kernels.append([
            (kernel.row.macs, sum(volume(table.shape_of(value)) for value in kernel.inputs)
             + volume(kernel.row.out_shape), kernel.stored)
            for kernel in fuse(table)[0]
        ])  # fmt: skip
    print("\n## maximum or sum of compute and traffic: mean absolute error of the logarithm, and rank correlation")
    print("| device | maximum | sum |\n|---|---|---|")
    for one in HELP:
        ms = latency[one.column].to_numpy()[chosen]
        kept = np.flatnonzero(ms > 0.05)
        cells = [_fit_kernels(one, [kernels[place] for place in kept], ms[kept], add=add) for add in (False, True)]
        print(f"| {one.column} | {cells[0]} | {cells[1]} |")


def _fit_kernels(one, kernels, ms: Floats, *, add: bool) -> str:  # type: ignore[no-untyped-def]
    width = max(len(listed) for listed in kernels)
    compute, traffic = np.zeros((2, len(kernels), width))
    for place, listed in enumerate(kernels):
        compute[place, : len(listed)] = [2e3 * one.batch * macs / one.operations for macs, _, _ in listed]
        traffic[place, : len(listed)] = [4e3 * (one.batch * a + w) / one.bandwidth for _, a, w in listed]
    calls = np.array([len(listed) for listed in kernels]) * 1e-3

    def estimate(rates: Floats) -> Floats:
        call, share, moved = np.exp(rates)
        both = compute * share + traffic * moved if add else np.maximum(compute * share, traffic * moved)
        return call * calls + both.sum(axis=1)

    def loss(rates: Floats) -> float:
        return float(np.abs(np.log(estimate(rates) / ms)).mean() + 1e-3 * (rates**2).sum())

    starts = ([4.0, 1.0, 0.5], [2.0, 2.0, 1.0], [4.0, 0.0, 2.0])
    results = [minimize(loss, start, method="Nelder-Mead", options={"maxiter": 600}) for start in starts]
    best = min(results, key=lambda result: float(result.fun)).x
    return f"{np.abs(np.log(estimate(best) / ms)).mean():.3f}, {spearmanr(estimate(best), ms)[0]:.3f}"


if __name__ == "__main__":
    main()
