"""How well does one model of a device's kernels predict the networks of spaces that it has never seen?

    python experiments/operator_model/run.py --keep /tmp/operators

Fits the operators model to probes of this machine (`nas.commands.operators`, in the folder that is kept, so that a
second run measures nothing again), measures random networks of each space, and judges three predictors on them: the
model as it is, the model after eight of the networks have been measured, and what the usual calibration makes of 20 or
40 networks with and without the model's rates to start from. Then the number of probes and how they are chosen.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls

from nas.commands.display import Silent
from nas.commands.operators import OperatorsRun, calibrate_operators
from nas.deploy.untrained import export_untrained
from nas.device.bound import bound_factor
from nas.device.card import Precision, load_device
from nas.device.formula import FITS, Fit, Formula, Samples
from nas.device.host import host_facts
from nas.device.operators import OperatorsModel, fit_rates
from nas.device.operators_design import choose_probes
from nas.device.operators_predictor import network_errors
from nas.device.predictor import figures_of
from nas.device.protocol import CALIBRATION
from nas.device.quality import Quality, judge
from nas.device.samples import designed_rows
from nas.device.selection import select
from nas.device.timing import measure
from nas.locate import resource_folder
from nas.model.population_costs import PopulationCosts
from nas.model.shapes import InputShape
from nas.space.encodings import one_hot
from nas.space.load import load_space
from nas.space.moves import sample

CLASSES, CONFIDENCE = 10, 0.95
SPACES: dict[str, InputShape] = {
    "mobilenet-tiny": (1, 8, 8),
    "resnet-tiny": (1, 8, 8),
    "nasbench-macro": (3, 32, 32),
    "nasbench201": (3, 32, 32),
}
MEASURED_NETWORKS, TEST_NETWORKS, SEEDS = 8, 20, 20
NEAR = (0.1, 1.0, 10.0)


@dataclass(frozen=True, eq=False)
class Networks:
    """Measured random networks of a space."""

    name: str
    samples: Samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, required=True, help="folder for models, files and measurements")
    parser.add_argument("--networks", type=int, default=100, help="of each space")
    parser.add_argument("--probes", type=int, default=200)
    parser.add_argument("--plans", type=int, default=10, help="calibrations of each size")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.keep.mkdir(parents=True, exist_ok=True)
    os.chdir(given.keep)
    device = load_device("this-machine", [resource_folder("latency_models")])
    print(f"{host_facts().cpu}, load at the start {os.getloadavg()[0]:.1f}")
    precisions: tuple[Precision, ...] = ("float32", "int8")
    models = calibrate_operators(device, precisions, OperatorsRun(probes=given.probes), Silent())
    for precision, model in models.items():
        spaces = [measured(name, precision, given.networks) for name in SPACES]
        print(f"\n## {precision}: {len(model.probed)} probes, {model.quality}\n")
        without_networks(model, spaces)
        few_networks(model, spaces, given.plans)
        ways_to_choose(model, spaces)
    print(f"\nload at the end {os.getloadavg()[0]:.1f}")


def measured(name: str, precision: Precision, count: int) -> Networks:
    """Random networks of a space with their latencies; measured once."""
    space, shape = load_space(resource_folder("search_spaces") / f"{name}.yaml"), SPACES[name]
    costs = PopulationCosts(space, input_shape=shape, num_classes=CLASSES)
    rows = sample(space, 4 * count, np.random.default_rng(7))
    _, first = np.unique(rows, axis=0, return_index=True)
    rows = rows[np.sort(first)][:count]
    stored = Path(f"{name}-{precision}-{count}.npy")
    if not stored.is_file():
        folder = Path(f"{name}-{precision}")
        folder.mkdir(exist_ok=True)
        files = [
            export_untrained(
                space.network(row),
                folder,
                [precision],
                input_shape=shape,
                num_classes=CLASSES,
                exporter="torchscript",
            )[precision]
            for row in rows
        ]
        device = load_device("this-machine", [resource_folder("latency_models")])
        np.save(stored, [entry.latency_ms for entry in measure(files, device=device, protocol=CALIBRATION)])
    samples = Samples(
        features=costs.features(rows),
        one_hot=one_hot(space, rows).astype(float),
        latency_ms=np.load(stored),
        figures=figures_of(costs.feature_names),
    )
    return Networks(name, samples)


def without_networks(model: OperatorsModel, spaces: list[Networks]) -> None:
    """The model as it is, its bound from the other spaces, and both after some networks were measured."""
    print("| space | networks measured | Spearman | MAPE | off by | bound held | bound / predicted |")
    print("|---|---|---|---|---|---|---|")
    logs = {net.name: np.log(net.samples.latency_ms / (net.samples.features @ model.rates)) for net in spaces}
    for net in spaces:
        sums, latency_ms = net.samples.features @ model.rates, net.samples.latency_ms
        others = {name: values for name, values in logs.items() if name != net.name}
        factor = network_errors(None, None, others, model.log_residuals).factor(CONFIDENCE)
        row(net.name, "0", [quality(latency_ms, sums, factor)], np.expm1(logs[net.name].mean()), factor)
        found, factors = [], []
        for seed in range(SEEDS):
            order = np.random.default_rng(seed).permutation(len(sums))
            own, rest = order[:MEASURED_NETWORKS], order[MEASURED_NETWORKS:]
            errors = network_errors(sums[own], latency_ms[own], others, model.log_residuals)
            factors.append(errors.factor(CONFIDENCE))
            found.append(quality(latency_ms[rest], sums[rest] * np.exp(errors.log_offset), factors[-1]))
        row(net.name, str(MEASURED_NETWORKS), found, float("nan"), float(np.mean(factors)))


def few_networks(model: OperatorsModel, spaces: list[Networks], plans: int) -> None:
    """The usual calibration, with the model's rates among what weights may be drawn to, and without."""
    print("\n| space | n | without: Spearman | MAPE | bound held | with: Spearman | MAPE | bound held |")
    print("|---|---|---|---|---|---|---|---|")
    usual = dict(FITS)
    near = {f"near operators {penalty:g}": near_rates(model.rates, penalty) for penalty in NEAR}
    for net in spaces:
        for size in (20, 40):
            cells = []
            for fits in (usual, {**usual, **near}):
                FITS.clear()
                FITS.update(fits)
                found = list(calibrations(net.samples, size, plans))
                cells += [
                    f"{mean(found, 'spearman'):.3f}",
                    f"{mean(found, 'mape'):.1%}",
                    f"{mean(found, 'coverage'):.1%}",
                ]
            print(f"| {net.name} | {size} | {' | '.join(cells)} |", flush=True)
    FITS.clear()
    FITS.update(usual)


def calibrations(samples: Samples, size: int, plans: int) -> Iterator[Quality]:
    """Each with a quarter of designed samples, judged on the networks that none of the plans may use."""
    pool = len(samples) - TEST_NETWORKS
    assert pool >= size
    test = samples.rows(np.arange(pool, len(samples)))
    for seed in range(plans):
        order = np.random.default_rng(seed).permutation(pool)
        num_random = size - size // 4
        designed = designed_rows(samples.features[order], num_random, size // 4)
        chosen = np.concatenate([np.arange(num_random), designed])
        selected = select(samples.rows(order[chosen]), np.arange(size) < num_random)
        predicted = selected.formula.apply(test.features, test.one_hot)
        yield quality(test.latency_ms, predicted, bound_factor(selected.log_residuals, CONFIDENCE))


def near_rates(rates: np.ndarray, penalty: float) -> Fit:
    """Non-negative weights drawn to the model's rates, scaled to the samples."""

    def fit(samples: Samples) -> Formula:
        aim = rates * np.exp(np.median(np.log(samples.latency_ms / (samples.features @ rates))))
        mean = samples.features.mean(axis=0)
        scale = samples.latency_ms.mean() / np.where(mean > 0, mean, samples.latency_ms.mean())
        matrix = samples.features * scale / samples.latency_ms[:, None]
        root = np.sqrt(penalty)
        weights, _ = nnls(
            np.vstack([matrix, root * np.eye(len(scale))]),
            np.concatenate([np.ones(len(samples)), root * aim / scale]),
            maxiter=50 * len(scale),
        )
        return Formula(
            weights=weights * scale,
            log_factors=np.zeros(samples.one_hot.shape[1]),
            log_offset=0.0,
            floor_ms=float(samples.latency_ms.min() / 2),
        )

    return fit


def ways_to_choose(model: OperatorsModel, spaces: list[Networks], seeds: int = 5) -> None:
    """Error on the spaces by number of probes and by how the second half of them is chosen."""
    print("\n| probes | second half | mean MAPE over spaces | mean Spearman |")
    print("|---|---|---|---|")
    probed = model.probed
    ways: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
        "random": lambda chosen, n, rng: rng.permutation(np.setdiff1d(np.arange(len(probed)), chosen))[:n],
        "D-optimal": lambda chosen, n, rng: by_design(probed.features, chosen, n),
        "D-optimal, by error": lambda chosen, n, rng: choose_probes(
            probed.features, chosen, probed.latency_ms[chosen], n
        ),
    }
    for total in (80, 120, 160):
        for name, way in ways.items():
            found = []
            for seed in range(seeds):
                rng = np.random.default_rng(seed)
                chosen = rng.permutation(len(probed))[: total // 2]
                for _ in range(2):
                    chosen = np.concatenate([chosen, way(chosen, total // 4, rng)])
                rates = fit_rates(probed.features[chosen], probed.latency_ms[chosen])
                found += [quality(net.samples.latency_ms, net.samples.features @ rates, 1.0) for net in spaces]
            print(f"| {total} | {name} | {mean(found, 'mape'):.1%} | {mean(found, 'spearman'):.3f} |", flush=True)


def by_design(features: np.ndarray, chosen: np.ndarray, n: int) -> np.ndarray:
    order = np.concatenate([chosen, np.setdiff1d(np.arange(len(features)), chosen)])
    return order[designed_rows(features[order], len(chosen), n)]


def quality(latency_ms: np.ndarray, predicted: np.ndarray, factor: float) -> Quality:
    return judge(latency_ms, predicted, predicted * factor, confidence=CONFIDENCE, num_train=0)


def mean(found: list[Quality], name: str) -> float:
    return float(np.mean([getattr(one, name) for one in found]))


def row(name: str, count: str, found: list[Quality], off: float, factor: float) -> None:
    shown = "-" if np.isnan(off) else f"{off:+.1%}"
    print(
        f"| {name} | {count} | {mean(found, 'spearman'):.3f} | {mean(found, 'mape'):.1%} | {shown} "
        f"| {mean(found, 'coverage'):.1%} | {factor:.2f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
