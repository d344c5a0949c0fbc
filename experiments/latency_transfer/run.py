"""Latency on a new device from a few measurements there and tables of other devices: how good, how sure, how wide.

    python experiments/latency_transfer/run.py --table T.parquet --choices c1,c2,... --sources s1,s2,... \\
        --targets t1,t2,... --samples 20 --source-samples 800 --seeds 5 --out results.csv [--space nasbench201]

For each seed: random architectures are labelled on all sources and predictors fitted to them; for each target, some
architectures are chosen from a random pool (random ones for the bound, D-optimal ones for the fit), labelled, and all
others are predicted. One row a target and seed is written. Nothing is known of the space but the columns' codes,
unless --space names one.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau
from table import Table, read_table

from nas.device.bound import MIN_RESIDUALS, bound_factor
from nas.device.card import Device
from nas.device.encoders import Encoder
from nas.device.predictor import Scope
from nas.device.quality import judge
from nas.device.transfer import Sources, TransferPredictor, choose_transfer_samples, fit_sources, fit_transfer
from nas.errors import UserError

COLUMNS = (
    "target", "seed", "spearman", "kendall", "mape", "within_10_percent", "coverage", "relative_width", "fit_seconds",
)  # fmt: skip
POOL = 5_000
REFERENCE = 2_000
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Plain:
    """What the plain bound would give: the residual quantile of the same samples, as a factor."""

    coverage: float
    relative_width: float


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    try:
        _check(options)
        table = read_table(
            options.table, choices=options.choices, devices=[*options.sources, *options.targets], space=options.space
        )
        for note in table.notes:
            print(f"note: {note}", file=sys.stderr)
        rows, plain = _results(table, options)
        _write(options.out, rows)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    _summarise(rows, plain, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = lambda text: [part.strip() for part in text.split(",") if part.strip()]  # noqa: E731
    parser.add_argument("--table", type=Path, required=True, help="parquet or CSV")
    parser.add_argument("--choices", type=names, required=True, help="columns of category codes")
    parser.add_argument("--sources", type=names, required=True, help="columns of latencies of known devices")
    parser.add_argument("--targets", type=names, required=True, help="columns of latencies of new devices")
    parser.add_argument("--samples", type=int, default=20, help="labels on a target")
    parser.add_argument("--source-samples", type=int, default=800, help="labels on each source")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0")
    parser.add_argument("--out", type=Path, required=True, help="CSV, a row for each target and seed")
    parser.add_argument("--space", default="", help="search space that the codes are options of")
    return parser


def _check(options: argparse.Namespace) -> None:
    for name in ("choices", "sources", "targets"):
        if not getattr(options, name):
            raise UserError(f"--{name}", "must name at least one column, got none")
    for name, least in (("samples", 10), ("source_samples", 20), ("seeds", 1)):
        if getattr(options, name) < least:
            raise UserError(f"--{name.replace('_', '-')}", f"must be at least {least}, got {getattr(options, name)}")
    both = sorted(set(options.sources) & set(options.targets))
    if both:
        raise UserError("--targets", f"must not be sources too, got {', '.join(both)}")
    if not options.out.absolute().parent.is_dir():
        raise UserError("--out", f"must be in a folder that exists, got {options.out}")


def _results(table: Table, options: argparse.Namespace) -> tuple[list[dict[str, object]], list[Plain]]:
    encoder = Encoder(space=table.space)
    rows, plain = [], []
    for seed in range(options.seeds):
        rng = np.random.default_rng(seed)
        started = time.perf_counter()
        sources = _sources(table, encoder, options, rng)
        print(f"seed {seed}: {len(sources.names)} sources in {time.perf_counter() - started:.1f} s", file=sys.stderr)
        order = rng.permutation(len(table.population))
        for target in options.targets:
            row, quantile = _result(table, sources, order, target, options.samples)
            rows.append({"target": target, "seed": seed, **row})
            plain.append(quantile)
    return rows, plain


def _sources(table: Table, encoder: Encoder, options: argparse.Namespace, rng: np.random.Generator) -> Sources:
    """Every source labelled on the same random architectures, but for those that it has no latency of."""
    order = rng.permutation(len(table.population))
    measured = {}
    for name in options.sources:
        latency = table.latency_ms[name]
        chosen = [k for k in order if np.isfinite(latency[k])][: options.source_samples]
        measured[name] = (table.population[chosen], latency[chosen])
    return fit_sources(encoder, measured, reference=table.population[order[:REFERENCE]])


def _result(
    table: Table, sources: Sources, order: np.ndarray, target: str, samples: int
) -> tuple[dict[str, object], Plain]:
    latency = table.latency_ms[target]
    known = order[np.isfinite(latency[order])]
    started = time.perf_counter()
    pool = table.population[known[:POOL]]
    plan = choose_transfer_samples(sources, pool, samples)
    place = {row.tobytes(): index for row, index in zip(np.ascontiguousarray(pool), known, strict=False)}
    chosen = np.array([place[row.tobytes()] for row in np.ascontiguousarray(plan.population)])
    predictor = fit_transfer(sources, plan.population, latency[chosen], scope=_scope(table, target), random=plan.random)
    seconds = time.perf_counter() - started
    others = np.setdiff1d(known, chosen)
    if len(others) < 2:
        raise UserError(f"latencies of {target}", f"must have more than the {samples} samples to judge on, got too few")
    rows, measured = table.population[others], latency[others]
    predicted, upper = predictor.predict_ms(rows), predictor.upper_ms(rows, CONFIDENCE)
    quality = judge(measured, predicted, upper, confidence=CONFIDENCE, num_train=samples)
    factor = _plain_factor(predictor)
    plain = Plain(coverage=float((measured <= predicted * factor).mean()), relative_width=factor - 1)
    return {
        "spearman": quality.spearman,
        "kendall": float(kendalltau(predicted, measured)[0]),
        "mape": quality.mape,
        "within_10_percent": quality.within_10_percent,
        "coverage": quality.coverage,
        "relative_width": float((upper / predicted - 1).mean()),
        "fit_seconds": seconds,
    }, plain


def _plain_factor(predictor: TransferPredictor) -> float:
    """The conformal factor from the random samples' residuals alone."""
    known = predictor.calibration
    drawn = known.random
    residuals = np.log(known.latency_ms[drawn] / known.predicted_ms[drawn])
    assert len(residuals) >= MIN_RESIDUALS
    return bound_factor(residuals, CONFIDENCE)


def _scope(table: Table, target: str) -> Scope:
    # A table says nothing of data and classes: the predictor is used here and not stored.
    return Scope(
        space=table.space, input_shape=(0, 0, 0), num_classes=0, device=Device(name=target), precision="float32"
    )


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise UserError("--out", f"must be a file that can be written, {path}: {error.strerror}") from error


def _summarise(rows: list[dict[str, object]], plain: list[Plain], options: argparse.Namespace) -> None:
    """Means over targets, with the spread of these over seeds."""
    print(
        f"{len(options.targets)} targets, {options.seeds} seeds, {options.samples} samples on each; mean over targets"
    )
    for name in COLUMNS[2:]:
        by_seed = [float(np.nanmean([row[name] for row in rows if row["seed"] == k])) for k in range(options.seeds)]
        every = [float(row[name]) for row in rows]
        print(
            f"  {name:18s} {np.nanmean(every):8.4f}   seeds +-{np.std(by_seed):.4f}   "
            f"rows {np.nanmin(every):.4f} to {np.nanmax(every):.4f}"
        )
    coverage, width = np.mean([one.coverage for one in plain]), np.mean([one.relative_width for one in plain])
    print(f"  plain residual quantile: coverage {coverage:.4f}, relative width {width:.4f}")
    for target in options.targets:
        own = [row for row in rows if row["target"] == target]
        figures = "  ".join(f"{name} {np.nanmean([row[name] for row in own]):.3f}" for name in COLUMNS[2:8])
        print(f"  {target:20s} {figures}")


if __name__ == "__main__":
    sys.exit(main())
