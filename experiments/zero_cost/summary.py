"""Makes the tables of the README: `python experiments/zero_cost/summary.py FOLDER`, with the files that `run.py` wrote.

For each table, score and accuracy: Spearman and Kendall over the networks, mean over seeds (of weights, images and
signals), with the 95 % interval of a bootstrap over networks for the first seed's Spearman; Spearman among networks of
like MACs (mean over five equal groups), as a search under a budget sees it; and the share of the best tenth that
survives when the worst half is dropped.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr
from spaces import TABLES

from nas.train.scores.aggregate import AGGREGATES, aggregate, ranks
from nas.train.scores.network import SCORES

Floats = NDArray[np.float64]
EXTRA = {
    "naswot + macs": ("naswot", "macs"),
    "jacobian + expressivity + naswot": ("jacobian", "expressivity", "naswot"),
}
GROUPS = 5
RESAMPLES = 500


def within_groups(values: Floats, accuracy: Floats, macs: Floats) -> float:
    """Mean Spearman over groups of equal size by MACs; a constant group counts 0."""
    found = []
    for places in np.array_split(np.argsort(macs, kind="stable"), GROUPS):
        varied = len(np.unique(values[places])) > 1
        found.append(float(spearmanr(values[places], accuracy[places])[0]) if varied else 0.0)
    return float(np.mean(found))


def best_kept(values: Floats, accuracy: Floats) -> float:
    """Share of the best tenth by accuracy that is in the better half by score; ties count in part."""
    best = np.argsort(-accuracy, kind="stable")[: max(1, len(accuracy) // 10)]
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(20):
        order = np.lexsort((rng.random(len(values)), -values))
        kept.append(np.isin(best, order[: (len(values) + 1) // 2]).mean())
    return float(np.mean(kept))


def interval(values: Floats, accuracy: Floats) -> float:
    """Half the width of the 95 % bootstrap interval of Spearman."""
    rng = np.random.default_rng(0)
    picks = (rng.integers(len(values), size=len(values)) for _ in range(RESAMPLES))
    low, high = np.quantile([spearmanr(values[pick], accuracy[pick])[0] for pick in picks], [0.025, 0.975])
    return float(high - low) / 2


def rows_of(frame: pd.DataFrame, accuracies: dict[str, Floats]) -> pd.DataFrame:
    """One row a score and accuracy."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    widths: dict[tuple[str, str], float] = {}
    for seed, part in frame.groupby("seed"):
        scores = {name: part[name].to_numpy(dtype=np.float64) for name in SCORES}
        columns = {name: ranks(values) for name, values in scores.items()}
        columns |= {name: aggregate(scores, names) for name, names in {**AGGREGATES, **EXTRA}.items()}
        for target, values in accuracies.items():
            accuracy = values[part["place"].to_numpy()]
            for name, column in columns.items():
                key = (target, name)
                found.setdefault(key, []).append(
                    [
                        float(spearmanr(column, accuracy)[0]),
                        float(kendalltau(column, accuracy)[0]),
                        within_groups(column, accuracy, scores["macs"]),
                        best_kept(column, accuracy),
                    ]
                )
                if seed == frame["seed"].min():
                    widths[key] = interval(column, accuracy)
    lines = []
    for (target, name), values in found.items():
        mean = np.mean(values, axis=0)
        spread = np.std(values, axis=0)[0] if len(values) > 1 else np.nan
        numbers = dict(zip(["spearman", "kendall", "like macs", "best kept"], mean, strict=True))
        line = {"accuracy": target, "score": name, **numbers, "±": widths[target, name], "sd seeds": spread}
        lines.append(line)
    return pd.DataFrame(lines).round(3)


def main() -> None:
    folder = Path(sys.argv[1])
    for name, load in TABLES.items():
        path = folder / f"{name}.csv"
        if not path.is_file():
            continue
        frame = pd.read_csv(path)
        counts = frame.groupby("seed").size()
        full = frame[frame["seed"].isin(counts.index[counts == counts.max()])]
        print(f"\n{name}: {counts.max()} networks, {full['seed'].nunique()} seeds, images {set(full['images'])}")
        print(f"CPU ms a network, all scores: {full['cpu_ms'].mean():.0f} (median {full['cpu_ms'].median():.0f})")
        missing = full[list(SCORES)].isna().mean()
        print("share without a score:", {key: round(value, 3) for key, value in missing[missing > 0].items()})
        print(rows_of(full, load().accuracies).to_string(index=False))


if __name__ == "__main__":
    main()
