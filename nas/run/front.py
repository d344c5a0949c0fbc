"""``front.csv``: one row an exported file, with what was predicted and what was measured.

Responsible for the columns, and for the marks: which files keep the budgets, and which of those nothing beats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas.problem.front import non_dominated
from nas.problem.goals import Budget, Objective
from nas.run.atomic import write_atomically
from nas.space.architecture import Architecture
from nas.units import format_quantity

_COSTS = ("macs", "parameters", "size_bytes", "peak_activation_bytes")
_MARKS = ("non_dominated", "accepted", "reason", "path")
_OF_DEVICE = ("latency_ms", "energy_mj")


@dataclass(frozen=True, kw_only=True)
class DeviceCost:
    """What a file costs on a device: its latency in ms, or its energy in mJ.

    Attributes:
        measured: NaN where it was not.
        predicted: before it was exported; NaN where nothing predicts this precision.
        upper: bound at the search's confidence; NaN likewise.
        measurable: False for a device that is known by its card or its predictor only: there the prediction counts,
            and the bound is held against budgets.
    """

    measured: float = math.nan
    predicted: float = math.nan
    upper: float = math.nan
    measurable: bool = True

    @property
    def figure(self) -> float:
        """What the file is compared by."""
        return self.measured if self.measurable else self.predicted

    @property
    def deciding(self) -> float:
        """What a budget is held against."""
        return self.measured if self.measurable else self.upper


@dataclass(frozen=True, kw_only=True)
class FrontFile:
    """An exported file, judged.

    Attributes:
        architecture: of the network in it.
        precision: ``float32``, ``int8``, …
        accuracy: of the file on the test split.
        on_device: metric key (``latency_ms.pixel3``) -> its cost there; the first is that of the run's first device.
        macs: multiply-accumulates an input.
        parameters: weights, biases and running statistics that the network has.
        size_bytes: of the file.
        peak_activation_bytes: of the file in its runtime.
        path: of the file, relative to the run folder.
        accepted: False where the file failed its verification.
        reason: why not; "" where accepted.
        derived: metric key -> value, for metrics that follow from several of these.
    """

    architecture: Architecture
    precision: str
    accuracy: float
    macs: float
    parameters: float
    size_bytes: float
    peak_activation_bytes: float
    path: str
    on_device: Mapping[str, DeviceCost] = field(default_factory=dict)
    accepted: bool = True
    reason: str = ""
    derived: Mapping[str, float] = field(default_factory=dict)

    @property
    def latency_ms(self) -> float:
        """On the run's first device; NaN where it has none."""
        return next((cost.figure for cost in self.on_device.values()), math.nan)

    def figure(self, key: str) -> float:
        """The file's value of a metric key, as measured or counted; NaN for a metric that files do not have."""
        if key in self.on_device:
            return self.on_device[key].figure
        figures = {"accuracy": self.accuracy, **{name: float(getattr(self, name)) for name in _COSTS}, **self.derived}
        return figures.get(key, math.nan)

    def deciding(self, key: str) -> float:
        """What a budget on the metric is held against."""
        return self.on_device[key].deciding if key in self.on_device else self.figure(key)


def broken_budgets(file: FrontFile, budgets: Sequence[Budget]) -> str:
    """Which budgets a file breaks as measured, and by what value; "" if none. What was not measured breaks any."""
    reasons = []
    for budget in budgets:
        value = file.deciding(budget.key)
        if not budget.holds(value):
            scale = 100.0 if budget.metric.dimension == "share" else 1.0
            shown = format_quantity(value * scale, budget.metric.dimension)
            reasons.append(f"{budget.metric.short} {shown} breaks the budget {budget}")
    return "; ".join(reasons)


def front_table(
    files: Sequence[FrontFile],
    *,
    keys: Sequence[str],
    choices: Sequence[str],
    objectives: Sequence[Objective],
    budgets: Sequence[Budget] = (),
) -> pd.DataFrame:
    """The table of all files, best first objective first.

    ``accepted`` is True where a file was verified and keeps every budget as measured, and ``reason`` says what it
    breaks; such a file stays in the table. ``non_dominated`` is True where no other accepted file is at least as good
    in all objectives, as measured, and better in one.

    Args:
        files: in any order.
        keys: metric keys of costs on devices (``latency_ms.pixel3``); each has a column of what was measured, one of
            what was predicted and one of the bound.
        choices: names of all choices of the space; each is a column with the option's label, empty where the choice is
            inactive. A name that another column has already becomes ``choice.<name>``.
        objectives: that decide what is dominated.
        budgets: that a file must keep.
    """
    broken = [_wrong_with(file, budgets) for file in files]
    best = _non_dominated(files, objectives, accepted=[not text for text in broken])
    rows = [
        {**_figures(file, keys), "non_dominated": bool(best[place]), "accepted": not broken[place]}
        | {"reason": broken[place], "path": file.path}
        | {column: file.architecture.choices.get(name, "") for name, column in _choice_columns(choices, keys).items()}
        for place, file in enumerate(files)
    ]
    table = pd.DataFrame(rows, columns=columns(keys, choices))
    first = objectives[0]
    order = np.argsort([_last(first.sign * file.figure(first.key)) for file in files], kind="stable")
    return table.iloc[order].reset_index(drop=True)


def write_front_csv(table: pd.DataFrame, path: Path) -> None:
    """Writes a table of `front_table`; figures without loss, a missing one as an empty field. Replaces at once.

    Raises:
        UserError: it cannot be written.
    """
    write_atomically(path, table.to_csv(index=False, lineterminator="\n"))


def read_front_csv(path: Path) -> pd.DataFrame:
    """The table that `write_front_csv` wrote; digests and labels are text, also where they look like numbers."""
    header = pd.read_csv(path, nrows=0).columns
    texts = {name: str for name in header if not _is_figure(name) and name not in ("non_dominated", "accepted")}
    return pd.read_csv(
        path, dtype=texts, keep_default_na=False, na_values={name: [""] for name in header if _is_figure(name)}
    )


def columns(keys: Sequence[str], choices: Sequence[str]) -> list[str]:
    """All columns, in their order."""
    return [*_figure_columns(keys), *_MARKS, *_choice_columns(choices, keys).values()]


def _figure_columns(keys: Sequence[str]) -> list[str]:
    return ["digest", "precision", "accuracy", *(name for key in keys for name in device_columns(key)), *_COSTS]


def device_columns(key: str) -> tuple[str, str, str]:
    """``latency_ms.d`` -> itself, ``predicted_latency_ms.d``, ``latency_upper_ms.d``."""
    name, _, device = key.partition(".")
    quantity, _, unit = name.rpartition("_")
    return key, f"predicted_{name}.{device}", f"{quantity}_upper_{unit}.{device}"


def _choice_columns(choices: Sequence[str], keys: Sequence[str]) -> dict[str, str]:
    """Choice -> column."""
    taken = {*_figure_columns(keys), *_MARKS}
    return {name: f"choice.{name}" if name in taken else name for name in choices}


def _figures(file: FrontFile, keys: Sequence[str]) -> dict[str, object]:
    values: list[object] = [file.architecture.digest, file.precision, file.accuracy]
    for key in keys:
        cost = file.on_device.get(key, DeviceCost())
        values += [cost.measured, cost.predicted, cost.upper]
    values += [_whole(getattr(file, name)) for name in _COSTS]
    return dict(zip(_figure_columns(keys), values, strict=True))


def _wrong_with(file: FrontFile, budgets: Sequence[Budget]) -> str:
    """Why a file is not accepted, or ""."""
    unverified = "" if file.accepted else file.reason or "not verified"
    return "; ".join(text for text in (unverified, broken_budgets(file, budgets)) if text)


def _non_dominated(
    files: Sequence[FrontFile], objectives: Sequence[Objective], *, accepted: Sequence[bool]
) -> NDArray[np.bool_]:
    costs = np.array(
        [[objective.sign * file.figure(objective.key) for objective in objectives] for file in files]
    ).reshape(len(files), len(objectives))
    costs[~np.asarray(accepted, dtype=bool)] = np.nan
    return non_dominated(costs)


def _whole(value: float) -> object:
    """Counts and bytes as integers, so that they are not written as 1.2e6."""
    return int(value) if math.isfinite(value) and value == int(value) else value


def _last(cost: float) -> float:
    return math.inf if math.isnan(cost) else cost


def _is_figure(column: str) -> bool:
    of_device = tuple(f"{name}." for one in _OF_DEVICE for name in _names_of(one))
    return column in (*_COSTS, "accuracy") or column.startswith(of_device)


def _names_of(name: str) -> tuple[str, ...]:
    return tuple(column.partition(".")[0] for column in device_columns(f"{name}.d"))
