"""How well a few measurements predict the latency of architectures that were not measured.

    python experiments/latency_prediction/run.py --space mobilenet-tiny --shape 1 8 8

Exports random architectures as float32 and INT8 files, times them, and then repeats, many times over: plan a
calibration of 20, 28 or 40 of them (random and designed ones, as `nas.device.samples` does), fit, and judge on 200
that no plan ever sees. The noise floor is a second measurement of the same files, in new sessions.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from nas.deploy.export import export_onnx
from nas.deploy.quantise import quantise
from nas.device.bound import bound_factor
from nas.device.card import load_device
from nas.device.formula import Samples
from nas.device.host import host_facts
from nas.device.predictor import figures_of
from nas.device.protocol import CALIBRATION
from nas.device.quality import Quality, judge
from nas.device.samples import DESIGNED_SHARE, designed_rows
from nas.device.selection import select
from nas.device.timing import measure
from nas.locate import resource_folder
from nas.model.build import build
from nas.model.population_costs import PopulationCosts
from nas.model.shapes import InputShape, input_shape_of
from nas.space.encodings import one_hot
from nas.space.load import load_space
from nas.space.moves import Population, sample
from nas.space.space import SearchSpace

CLASSES, CONFIDENCE = 10, 0.95
TRAIN_SIZES = (20, 28, 40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="mobilenet-tiny")
    parser.add_argument("--shape", type=int, nargs=3, default=[1, 8, 8])
    parser.add_argument("--pool", type=int, default=120, help="architectures that plans choose from")
    parser.add_argument("--test", type=int, default=200, help="architectures that plans never see")
    parser.add_argument("--plans", type=int, default=20, help="calibrations a size")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=None, help="folder for files and measurements, used again")
    given = parser.parse_args()
    torch.set_num_threads(1)
    shape: InputShape = tuple(given.shape)
    space = load_space(resource_folder("search_spaces") / f"{given.space}.yaml")
    costs = PopulationCosts(space, input_shape=shape, num_classes=CLASSES)
    population = distinct(space, costs, given.pool + given.test, given.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        export(space, population, shape, folder)
        print(f"{given.space} {shape}, load at the start {os.getloadavg()[0]:.1f}, {host_facts().cpu}")
        print("| precision | n | Spearman | MAPE | within 10 % | bound held | bound / measured | fits |")
        print("|---|---|---|---|---|---|---|---|")
        for precision in ("float32", "int8"):
            latency_ms, again_ms, note = times(folder, precision, len(population), given.test)
            report(space, costs, population, latency_ms, again_ms, given, precision)
            print(note)


def distinct(space: SearchSpace, costs: PopulationCosts, n: int, seed: int) -> Population:
    rng = np.random.default_rng(seed)
    rows = sample(space, 4 * n, rng)
    rows = rows[costs.buildable(rows)]
    _, first = np.unique(rows, axis=0, return_index=True)
    return rows[np.sort(first)][:n]


def export(space: SearchSpace, population: Population, shape: InputShape, folder: Path) -> None:
    """Files `<index>-float32.onnx` and `<index>-int8.onnx`; weights are random, which time does not see."""
    for index, row in enumerate(population):
        path32, path8 = folder / f"{index}-float32.onnx", folder / f"{index}-int8.onnx"
        if path8.exists():
            continue
        network = space.network(row)
        torch.manual_seed(index)
        module = build(network, input_shape=shape, num_classes=CLASSES)
        module_shape = input_shape_of(network, shape)
        export_onnx(module, module_shape, path32)
        images = np.random.default_rng(0).standard_normal((8, *module_shape)).astype(np.float32)
        quantise(path32, path8, images)


def times(folder: Path, precision: str, total: int, num_test: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Latencies of all files, those of the last ``num_test`` measured anew, and a line about the measurement."""
    device = load_device("this-machine", [resource_folder("latency_models")])
    files = [folder / f"{index}-{precision}.onnx" for index in range(total)]
    first = measure(files, device=device, protocol=CALIBRATION)
    again = measure(files[-num_test:], device=device, protocol=CALIBRATION, reference_ms=first[0].anchor_ms)
    settled = np.mean([entry.settled for entry in first + again])
    note = f"\n{precision}: {settled:.0%} settled, load at the end {os.getloadavg()[0]:.1f}\n"
    return (
        np.array([entry.latency_ms for entry in first]),
        np.array([entry.latency_ms for entry in again]),
        note,
    )


def report(
    space: SearchSpace,
    costs: PopulationCosts,
    population: Population,
    latency_ms: np.ndarray,
    again_ms: np.ndarray,
    given: argparse.Namespace,
    precision: str,
) -> None:
    everything = Samples(
        features=costs.features(population),
        one_hot=one_hot(space, population).astype(float),
        latency_ms=latency_ms,
        figures=figures_of(costs.feature_names),
    )
    test = np.arange(given.pool, len(population))
    for size in TRAIN_SIZES:
        qualities, ratios, fits = [], [], []
        for plan in range(given.plans):
            trained, random = planned(everything.features, given.pool, size, seed=plan)
            selected = select(everything.rows(trained), random)
            held_out = everything.rows(test)
            predicted = selected.formula.apply(held_out.features, held_out.one_hot)
            upper = predicted * bound_factor(selected.log_residuals, CONFIDENCE)
            qualities.append(judge(latency_ms[test], predicted, upper, confidence=CONFIDENCE, num_train=size))
            ratios.append(float(np.mean(upper / latency_ms[test])))
            fits.append(selected.fit)
        common = max(set(fits), key=fits.count)
        print_row(precision, str(size), qualities, f"{np.mean(ratios):.2f}", f"{common} ({fits.count(common)})")
    floor = judge(latency_ms[test], again_ms, again_ms, confidence=CONFIDENCE, num_train=0)
    low, high = latency_ms.min(), latency_ms.max()
    print_row(precision, "measured again", [floor], "-", f"{low:.3f} to {high:.3f} ms")


def planned(features: np.ndarray, pool: int, size: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the pool to train on, and which of them are random: `choose_samples` on measured rows."""
    order = np.random.default_rng(seed).permutation(pool)
    num_designed = int(size * DESIGNED_SHARE)
    num_random = size - num_designed
    chosen = np.concatenate([np.arange(num_random), designed_rows(features[order], num_random, num_designed)])
    return order[chosen], np.arange(size) < num_random


def print_row(precision: str, size: str, qualities: list[Quality], ratio: str, fit: str) -> None:
    def mean(name: str) -> float:
        return float(np.mean([getattr(quality, name) for quality in qualities]))

    coverage = f"{mean('coverage'):.1%}" if ratio != "-" else "-"
    print(
        f"| {precision} | {size} | {mean('spearman'):.3f} | {mean('mape'):.1%} | {mean('within_10_percent'):.0%} "
        f"| {coverage} | {ratio} | {fit} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
