"""Fits the latency models of published devices that the project ships, from a table of NAS-Bench-201 latencies.

    python experiments/shipped_devices/fit.py --table latency_ms.parquet --codes accuracy.parquet

Writes ``latency_models/<device>/``: the device's card, fitted weights for the space `nasbench201`, and a model card.
The table itself is not kept: the bound needs a few hundred quantiles of its errors only.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from nas.device.card import load_device
from nas.device.encoded import fit_encoded
from nas.device.model_card import write_model_card
from nas.device.predictor import Calibration, Scope
from nas.device.store import save_predictor
from nas.space.load import load_space
from nas.space.moves import Population

ROOT = Path(__file__).resolve().parents[2]
EDGES = [f"op_{edge}" for edge in ("0>1", "0>2", "1>2", "0>3", "1>3", "2>3")]
SOURCE = "latencies of NAS-Bench-201 from HELP (H. Lee et al., NeurIPS 2021), github.com/HayeonLee/HELP, MIT licence"
# Cells that a runtime folded to nothing; they are not what a search is about, and no logarithm survives them.
FOLDED_MS = 0.05

# Column of the table -> kind and name of the device. Batch sizes are in the columns' names.
DEVICES = {
    "1080ti": ("gpu", "NVIDIA GeForce GTX 1080 Ti"),
    "2080ti": ("gpu", "NVIDIA GeForce RTX 2080 Ti"),
    "titan_rtx": ("gpu", "NVIDIA Titan RTX"),
    "titanx": ("gpu", "NVIDIA Titan X"),
    "titanxp": ("gpu", "NVIDIA Titan Xp"),
    "silver_4114": ("cpu", "Intel Xeon Silver 4114"),
    "silver_4210r": ("cpu", "Intel Xeon Silver 4210R"),
    "pixel3": ("cpu", "Google Pixel 3"),
    "essential_ph_1": ("cpu", "Essential Phone PH-1 (whole milliseconds)"),
    "samsung_a50": ("cpu", "Samsung Galaxy A50 (whole milliseconds)"),
    "samsung_s7": ("cpu", "Samsung Galaxy S7 (whole milliseconds)"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="latencies, a column a device, rows by index")
    parser.add_argument("--codes", type=Path, required=True, help="operators of the cells, rows by index")
    parser.add_argument("--out", type=Path, default=ROOT / "latency_models")
    parser.add_argument("--only", default="", help="one column of the table")
    options = parser.parse_args()
    table = pd.read_parquet(options.table).merge(pd.read_parquet(options.codes)[["index", *EDGES]], on="index")
    population = table[EDGES].to_numpy().astype(np.int16)
    for column in table.columns:
        if column not in ("index", *EDGES) and options.only in ("", column):
            fit(column, population, table[column].to_numpy(dtype=np.float64), options.out)


def fit(column: str, population: Population, latency_ms: np.ndarray, out: Path) -> None:
    """Card, weights and model card of one device."""
    folder = out / column
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "device.yaml").write_text(card(column), encoding="utf-8")
    device = load_device(column, [out])
    space = load_space(ROOT / "search_spaces" / "nasbench201.yaml")
    scope = Scope(space=space, input_shape=(3, 32, 32), num_classes=10, device=device, precision="float32")
    usable = latency_ms >= FOLDED_MS
    circumstances = Calibration.empty(space).described(
        protocol=f"published table, {usable.sum()} of {len(usable)} cells ({(~usable).sum()} folded away), batch "
        f"{device.batch}; how they were timed is not known in full",
        host={"cpu": device.description, "source": SOURCE},
    )
    started = time.perf_counter()
    predictor = fit_encoded(
        population[usable], latency_ms[usable], scope=scope, calibration=circumstances, keep_samples=False
    )
    path = folder / scope.file_name
    save_predictor(predictor, path)
    write_model_card(folder)
    print(
        f"| {column} | {predictor.regression.method} | {predictor.quality.spearman:.3f} "
        f"| {predictor.quality.mape * 100:.1f} % | {predictor.quality.within_10_percent:.0%} "
        f"| {predictor.quality.coverage * 100:.1f} % | {(predictor.bound_factor() - 1) * 100:.1f} % "
        f"| {path.stat().st_size / 1e3:.0f} kB | {time.perf_counter() - started:.0f} s |",
        flush=True,
    )


def card(column: str) -> str:
    """``device.yaml`` of a column."""
    name, _, batch = column.rpartition("_")
    name, size = (name, int(batch)) if batch in ("1", "32", "256") and name in DEVICES else (column, 1)
    kind, description = DEVICES[name]
    return (
        f"# Known by published latencies only: {SOURCE}.\n"
        "# They do not say what ran the networks; it is taken to be PyTorch.\n"
        f"name: {column}\n"
        f"description: {description}{f', batch {size}' if kind == 'gpu' else ''}\n"
        f"kind: {kind}\nruntime: pytorch\nthreads: 1\nbatch: {size}\nprecision: float32\nwhere: none\n"
    )


if __name__ == "__main__":
    main()
