"""Ridge regression on predictions of other devices and operator counts, against what the project does; with bounds.

    python experiments/latency_transfer/compare.py --data ../shared/data

Goes through splits of the published tables of NAS-Bench-201 and of once-for-all networks, and of a simulated one, into
devices that are known and devices that are new, most of them unlike. Both methods get the same source predictors and
as many labels. Prints the tables of README.md.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import simulated
from run import POOL, REFERENCE
from scipy.stats import spearmanr

from nas.device.bound import bound_factor
from nas.device.card import Device
from nas.device.encoders import Encoder
from nas.device.predictor import Scope
from nas.device.samples import augmented_design
from nas.device.transfer import Sources, choose_transfer_samples, fit_sources, fit_transfer
from nas.space.flat import flat_space
from nas.space.moves import Population
from nas.space.space import SearchSpace

GPUS = ("1080ti_1", "2080ti_1", "titan_rtx_1", "titanx_1", "titanxp_1")
PHONES = ("essential_ph_1", "pixel3", "samsung_a50", "samsung_s7")
KNOWN_GPUS = ("1080ti_1", "1080ti_32", "titanx_32", "titanxp_1", "titanxp_32")
MIXED = ("1080ti_1", "1080ti_32", "1080ti_256", "silver_4114", "silver_4210r", *PHONES)

# Split -> known devices, new devices.
NASBENCH201 = {
    "GPUs to phones, CPU": (KNOWN_GPUS, ("pixel3", "samsung_a50", "samsung_s7", "essential_ph_1", "silver_4114")),
    "phones to GPUs": (PHONES, ("1080ti_1", "2080ti_1", "titan_rtx_1", "titanx_1", "2080ti_32", "titan_rtx_32")),
    "mixed to GPUs": (MIXED, ("2080ti_256", "titan_rtx_1", "titan_rtx_32", "2080ti_32", "titanx_1")),
    "batch 1 to others": (GPUS, ("2080ti_256", "titanxp_256", "silver_4114", "pixel3", "samsung_a50")),
    "batch 256, CPU, phone to batch 1": (
        ("2080ti_256", "titanx_256", "silver_4114", "pixel3"),
        ("1080ti_1", "2080ti_1", "titan_rtx_1", "titanxp_1", "titan_rtx_32"),
    ),
    "five to phones, CPU": (
        ("2080ti_1", "essential_ph_1", "silver_4114", "titan_rtx_1", "titan_rtx_32"),
        ("samsung_a50", "samsung_s7", "pixel3", "2080ti_256", "silver_4210r"),
    ),
}
OFA = {
    "batch 1 to 64": (
        ("2080ti_1", "titan_rtx_1", "titan_xp_1", "v100_1"),
        ("2080ti_64", "titan_xp_64", "v100_64", "titan_rtx_32"),
    ),
    "batch 64 to 1": (
        ("2080ti_64", "titan_rtx_64", "titan_xp_64", "v100_64"),
        ("2080ti_1", "titan_rtx_1", "titan_xp_1", "v100_1"),
    ),
    "one GPU to others": (("2080ti_1", "2080ti_32", "2080ti_64"), ("v100_1", "titan_xp_32", "titan_rtx_1", "v100_64")),
    "batch 32 to others": (("2080ti_32", "v100_32"), ("titan_xp_1", "titan_rtx_1", "titan_xp_64", "v100_1")),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    space: SearchSpace
    population: Population
    latency_ms: dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, nargs="+", default=[20, 50])
    options = parser.parse_args()
    everything: dict[int, list[list[float]]] = {samples: [] for samples in options.samples}
    benches = (
        (nasbench201(options.data), NASBENCH201),
        (once_for_all(options.data), OFA),
        (bench_of("simulated", *simulated.table(0)), simulated.SPLITS),
    )
    for bench, splits in benches:
        known: dict[tuple[int, str], Sources] = {}
        for name, (sources, targets) in splits.items():
            for samples in options.samples:
                rows = [
                    row
                    for seed in range(options.seeds)
                    for row in compare(bench, sources_of(bench, sources, seed, known), targets, seed, samples)
                ]
                report(f"{bench.space.name}: {name}", samples, np.array(rows))
                everything[samples] += rows
    for samples, rows in everything.items():
        report("all targets", samples, np.array(rows))


def nasbench201(data: Path) -> Bench:
    table = pd.read_parquet(data / "nasbench201" / "latency_ms.parquet")
    table = table.merge(pd.read_parquet(data / "nasbench201" / "accuracy.parquet"), on="index")
    codes = table[[name for name in table.columns if name.startswith("op_")]].to_numpy()
    devices = pd.read_parquet(data / "nasbench201" / "latency_ms.parquet").columns.drop("index")
    return bench_of("NAS-Bench-201", codes, {name: table[name].to_numpy() for name in devices})


def once_for_all(data: Path) -> Bench:
    """Kernel and expansion of each block, depths and resolution; a block beyond the depth has the code 0."""
    table = pd.read_parquet(data / "ofa" / "ofa_latency.parquet")
    kernels, expansions, depths = (np.array(table[name].tolist()) for name in ("ks", "e", "d"))
    there = np.tile(np.arange(4), 5) < np.repeat(depths, 4, axis=1)
    codes = np.column_stack([kernels * there, expansions * there, depths, table["r"].to_numpy()])
    return bench_of("once-for-all", codes, {name[4:]: table[name].to_numpy() for name in table if name[:4] == "lat_"})


def bench_of(name: str, codes: np.ndarray, latency_ms: dict[str, np.ndarray]) -> Bench:
    labels = {f"c{k}": [str(code) for code in np.unique(codes[:, k])] for k in range(codes.shape[1])}
    numbered = [np.unique(codes[:, k], return_inverse=True)[1] for k in range(codes.shape[1])]
    return Bench(
        space=flat_space(name, labels), population=np.stack(numbered, axis=1).astype(np.int16), latency_ms=latency_ms
    )


def sources_of(bench: Bench, names: tuple[str, ...], seed: int, known: dict[tuple[int, str], Sources]) -> Sources:
    """Predictors from 800 random labels each; those of a device are fitted once a seed."""
    order = np.random.default_rng(seed).permutation(len(bench.population))
    encoder = Encoder(space=bench.space)
    reference = bench.population[order[:REFERENCE]]
    for name in names:
        if (seed, name) not in known:
            measured = {name: (bench.population[order[:800]], bench.latency_ms[name][order[:800]])}
            known[seed, name] = fit_sources(encoder, measured, reference=reference)
    lookups = tuple(known[seed, name].lookups[0] for name in names)
    return Sources(encoder=encoder, names=names, lookups=lookups, reference=reference)


def compare(bench: Bench, sources: Sources, targets: tuple[str, ...], seed: int, samples: int) -> list[list[float]]:
    """Rows: Spearman of ridge and transfer, then MAPE, coverage and width of the transfer and of the plain bound."""
    order = np.random.default_rng([seed, 1]).permutation(len(bench.population))
    pool = bench.population[order[:POOL]]
    features = ridge_features(sources, bench.population)
    designed = order[augmented_design(np.insert(features[order[:1000]], 0, 1.0, axis=1), 0, samples)]
    plan = choose_transfer_samples(sources, pool, samples)
    place = {row.tobytes(): index for row, index in zip(np.ascontiguousarray(pool), order, strict=False)}
    chosen = np.array([place[row.tobytes()] for row in np.ascontiguousarray(plan.population)])
    rows = []
    for target in targets:
        latency = bench.latency_ms[target]
        baseline = np.delete(ridge(features[designed], latency[designed], features), designed)
        scope = Scope(
            space=bench.space, input_shape=(0, 0, 0), num_classes=0, device=Device(name=target), precision="float32"
        )
        fitted = fit_transfer(sources, plan.population, latency[chosen], scope=scope, random=plan.random)
        others = np.setdiff1d(order, chosen)
        # Some latencies are those of networks that folded to nothing; relative errors of these mean nothing.
        others = others[latency[others] >= 0.05]
        measured, predicted = latency[others], fitted.predict_ms(bench.population[others])
        upper = fitted.upper_ms(bench.population[others])
        drawn = plan.random
        residuals = np.log(fitted.calibration.latency_ms[drawn] / fitted.calibration.predicted_ms[drawn])
        plain = bound_factor(residuals, 0.95)
        rows.append([
            float(spearmanr(baseline, np.delete(latency, designed))[0]),
            float(spearmanr(predicted, measured)[0]),
            float(np.abs(predicted / measured - 1).mean()),
            float((measured <= upper).mean()),
            float((upper / predicted - 1).mean()),
            float((measured <= predicted * plain).mean()),
            plain - 1,
        ])  # fmt: skip
    return rows


def ridge_features(sources: Sources, population: Population) -> np.ndarray:
    predicted, counts = sources.blocks(population)[-3:-1]
    features = np.concatenate([predicted, counts], axis=1)
    return (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9)


def ridge(features: np.ndarray, target: np.ndarray, everything: np.ndarray) -> np.ndarray:
    """Predictions of ridge regression with the penalty, of 13, whose leave-one-out error is smallest."""
    mean, level = features.mean(axis=0), target.mean()
    gram = (features - mean) @ (features - mean).T
    best = None
    for penalty in np.logspace(-3, 3, 13):
        dual = np.linalg.solve(gram + penalty * np.eye(len(target)), np.eye(len(target)))
        leverage = np.diag(gram @ dual) + 1 / len(target)
        error = np.square((target - level - gram @ dual @ (target - level)) / np.maximum(1 - leverage, 1e-4)).mean()
        if best is None or error < best[0]:
            best = (error, dual @ (target - level))
    return (everything - mean) @ ((features - mean).T @ best[1]) + level


def report(name: str, samples: int, rows: np.ndarray) -> None:
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    print(
        f"| {name} | {samples} | {mean[0]:.3f} | {mean[1]:.3f} | {mean[2] * 100:.1f} % "
        f"| {mean[3] * 100:.1f} ± {spread[3] * 100:.1f} % | {mean[4] * 100:.0f} % "
        f"| {mean[5] * 100:.1f} ± {spread[5] * 100:.1f} % | {mean[6] * 100:.0f} % |",
        flush=True,
    )


if __name__ == "__main__":
    main()
