"""How well the cheap judgements of a search rank networks as the final one does.

Responsible for the pairs of judgements that a run folder allows, and for rank correlations with their intervals. Few
networks are judged twice, and those were chosen for their first judgement, so an interval says more than the figure.

References:
    [Bonett2000] D. G. Bonett, T. A. Wright. Sample size requirements for estimating Pearson, Kendall and Spearman
        correlations. Psychometrika 65, 2000. (Variances of Fisher's z.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from nas.report.judged import Fidelity, Judged, fidelity_cost, fidelity_of, fidelity_text, figure
from nas.report.records import Record, mapping, number

Floats = NDArray[np.float64]

MIN_PAIRS = 3  # fewer have no rank correlation worth a figure
_MIN_INTERVAL = 5  # fewer pairs have no interval
_Z = 1.959963984540054  # 97.5 % point of the normal distribution


@dataclass(frozen=True, kw_only=True)
class Finals:
    """What became of the networks that were trained in full, by digest.

    Attributes:
        epochs: of their training; None if unknown.
        validation: accuracy on the validation split.
        test: precision -> accuracy of the exported file on the test split.
    """

    epochs: int | None
    validation: Mapping[str, float]
    test: Mapping[str, Mapping[str, float]]


def finals_of(models: Mapping[str, Record], files: Sequence[Mapping[str, Any]]) -> Finals:
    """Final judgements from the manifests of model folders and the entries of exported files."""
    trainings = {digest: mapping(manifest.get("training")) for digest, manifest in models.items()}
    validation = {digest: number(training.get("validation_accuracy")) for digest, training in trainings.items()}
    epochs = {value for training in trainings.values() if (value := number(training.get("epochs"))) is not None}
    test: dict[str, dict[str, float]] = {}
    for file in files:
        if file["accuracy"] is not None:
            test.setdefault(str(file["precision"]), {})[file["digest"]] = file["accuracy"]
    return Finals(
        epochs=int(epochs.pop()) if len(epochs) == 1 else None,
        validation={digest: value for digest, value in validation.items() if value is not None},
        test=test,
    )


def rank_agreement(cheap: Floats, final: Floats) -> dict[str, float | int | None] | None:
    """Rank correlations of two judgements ``(n,)``, with 95 % intervals [Bonett2000].

    Returns:
        ``n``, ``spearman``, ``kendall`` (tau-b, which allows for ties), and of each ``_low`` and ``_high``, None below
        5 pairs. None where fewer than three pairs are finite, or one side does not vary.
    """
    known = np.isfinite(cheap) & np.isfinite(final)
    first, second = cheap[known], final[known]
    if len(first) < MIN_PAIRS or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    spearman, kendall = float(spearmanr(first, second).statistic), float(kendalltau(first, second).statistic)
    count = len(first)
    return {
        "n": count,
        "spearman": spearman,
        **_interval("spearman", spearman, count, (1 + spearman**2 / 2) / (count - 3) if count > 3 else math.inf),
        "kendall": kendall,
        **_interval("kendall", kendall, count, 0.437 / (count - 4) if count > 4 else math.inf),
    }


def agreements(
    records: Sequence[Record], search: Judged, finals: Finals, *, left_out: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Each pair of a cheap and a dearer judgement that at least three networks have, as a row for the page.

    Args:
        records: the history.
        search: its architectures at one fidelity.
        finals: of those that were trained in full.
        left_out: digest -> accuracy that a model of the other networks says of it.
    """
    rows = []
    for kind, cheap_text, cheap, final_text, final in _pairs(records, search, finals, left_out):
        shared = [digest for digest in cheap if digest in final]
        one, other = (np.array([side[digest] for digest in shared], dtype=np.float64) for side in (cheap, final))
        found = rank_agreement(one, other)
        if found is not None:
            rows.append({"kind": kind, "cheap": cheap_text, "final": final_text, **found})
    return rows


_Pair = tuple[str, str, Mapping[str, float], str, Mapping[str, float]]


def _pairs(records: Sequence[Record], search: Judged, finals: Finals, left_out: Mapping[str, float]) -> Iterator[_Pair]:
    length = f" after {finals.epochs} epochs" if finals.epochs else ""
    ends = [(f"validation accuracy in full{length}", finals.validation)]
    ends += [(f"test accuracy of the {precision} file", found) for precision, found in finals.test.items()]
    rungs = _by_fidelity(records)
    for fidelity, short in rungs:
        text = f"accuracy after {fidelity_text(fidelity) or 'the search’s training'}"
        yield from (("short", text, short, name, final) for name, final in ends)
    for (low, cheap), (high, dear) in pairwise(rungs):
        texts = [f"accuracy after {fidelity_text(fidelity)}" for fidelity in (low, high)]
        yield "rung", texts[0], cheap, texts[1], dear
    trained = dict(zip(search.digests, search.accuracy.tolist(), strict=True))
    judged_text = f"accuracy after {fidelity_text(search.fidelity) or 'the search’s training'}"
    others = [(judged_text, trained), *ends[1:2]]
    yield from (("model", "model of the other networks", left_out, name, final) for name, final in others if left_out)
    for key, text in _scores(search):
        values = dict(zip(search.digests, search.cost(key).tolist(), strict=True))
        yield from (("score", text, values, name, final) for name, final in others)


def _by_fidelity(records: Sequence[Record]) -> list[tuple[Fidelity, Mapping[str, float]]]:
    """Digest -> accuracy at each fidelity, from the cheapest to the dearest."""
    found: dict[Fidelity, dict[str, float]] = {}
    for record in records:
        accuracy = figure(record, "accuracy", "metrics")
        if record.get("status") == "complete" and accuracy is not None:
            found.setdefault(fidelity_of(record), {})[str(record.get("digest", ""))] = accuracy
    return sorted(found.items(), key=lambda item: fidelity_cost(item[0]))


def _scores(search: Judged) -> list[tuple[str, str]]:
    """Keys of scores of untrained networks, with the MACs as what each of them has to beat."""
    sources = ("predicted", "metrics")
    keys = {key for record in search.records[:50] for name in sources for key in mapping(record.get(name))}
    scores = sorted(key for key in keys if key.startswith("score."))
    known = [("macs", "multiply-accumulates alone")] if "macs" in keys else []
    return [*known, *((key, f"score {key.removeprefix('score.')}") for key in scores)]


def _interval(name: str, value: float, count: int, variance: float) -> dict[str, float | None]:
    if count < _MIN_INTERVAL:
        return {f"{name}_low": None, f"{name}_high": None}
    # A perfect order of a few networks is no certainty: without this, z would be infinite.
    centre = math.atanh(math.copysign(min(abs(value), 1 - 1 / count**2), value))
    half = _Z * math.sqrt(variance)
    low, high = math.tanh(centre - half), math.tanh(centre + half)
    return {f"{name}_low": min(low, value), f"{name}_high": max(high, value)}
