"""A table of architectures as a search problem: no training, no torch, thousands of evaluations a second.

Responsible for reading the table, for what a strategy may see of it, and for the errors of a table that will not do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nas.errors import UserError, unknown_name
from nas.problem.evaluation import Candidate, Evaluation, Fidelity
from nas.problem.goals import Objective
from nas.problem.metrics import Metric
from nas.space.flat import flat_space
from nas.space.space import SearchSpace
from nas.strategy.problem import Population, SearchProblem
from nas.strategy.screening import Screen

Floats = NDArray[np.float64]

DENSE = 0.5  # share of a space that a table holds, from which draws from the space hit it often enough


@dataclass(frozen=True, kw_only=True)
class Table:
    """Architectures with their figures.

    Attributes:
        space: of the choice columns, flat: two rows are one architecture exactly where all their choices are equal.
        structure: a space whose networks the rows are; None: nothing is known of them but their choices.
        rows: ``(n, m)`` option indices, all different.
        expensive: ``(n,)`` what the search is judged on, minimised.
        judged: ``(n,)`` what the search sees of it, minimised.
        cheap: column -> ``(n,)`` known for every architecture; the first is the second objective.
        names: of the expensive column.
        dropped: rows of the file that were left out, for a missing figure or as repetitions.
    """

    space: SearchSpace
    structure: SearchSpace | None
    rows: Population
    expensive: Floats
    judged: Floats
    cheap: Mapping[str, Floats]
    name: str
    dropped: int

    @property
    def points(self) -> Floats:
        """``(n, 2)`` the two objectives as they are."""
        return np.column_stack([self.expensive, next(iter(self.cheap.values()))])


def read_table(
    path: Path,
    *,
    choices: Sequence[str],
    expensive: str,
    cheap: Sequence[str],
    valid: str | None = None,
    structure: SearchSpace | None = None,
) -> Table:
    """The table in a Parquet file.

    Choice columns hold category codes or labels. With a ``structure`` they stand in the order of its choices, and hold
    option indices or labels of it; without, the different values of a column are its options, in sorted order.

    Raises:
        UserError: no such file or column, figures that are no numbers, too few rows, or choices the structure lacks.
    """
    if not path.is_file():
        raise UserError("--table", f"must be a Parquet file, got {path}")
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError("--table", f"must be a Parquet file, got {path} ({str(error).splitlines()[0]})") from None
    figures = [expensive, *cheap, *([valid] if valid else [])]
    for column in (*choices, *figures):
        if column not in frame.columns:
            raise unknown_name(f"{path.name}", "column", column, [str(name) for name in frame.columns])
    for column in figures:
        if not pd.api.types.is_numeric_dtype(frame[column]):
            raise UserError(f"{path.name}", f"{column} must hold numbers, got {frame[column].dtype}")
    values = frame[figures].to_numpy(dtype=np.float64)
    usable = np.isfinite(values).all(axis=1)
    columns, labels = zip(*(_codes(frame[name], k, structure) for k, name in enumerate(choices)), strict=True)
    codes = np.stack(columns, axis=1).astype(np.int16)
    if structure is not None and len(choices) != structure.num_choices:
        rule = f"must name the {structure.num_choices} choices of {structure.name} in order, got {len(choices)}"
        raise UserError("--choices", rule)
    _, first = np.unique(codes[usable], axis=0, return_index=True)
    kept = np.flatnonzero(usable)[np.sort(first)]
    if len(kept) < 2:
        raise UserError(f"{path.name}", f"must hold two usable rows at least, got {len(kept)} of {len(frame)}")
    known = {name: values[kept, 1 + k] for k, name in enumerate(cheap)}
    return Table(
        space=flat_space(path.stem, dict(zip(choices, labels, strict=True))),
        structure=structure,
        rows=codes[kept],
        expensive=values[kept, 0],
        judged=values[kept, -1] if valid else values[kept, 0],
        cheap=known,
        name=expensive,
        dropped=len(frame) - len(kept),
    )


def _codes(column: pd.Series, place: int, structure: SearchSpace | None) -> tuple[NDArray[np.int64], list[str]]:
    """Option index of each row, and the labels of the options."""
    if structure is None or place >= structure.num_choices:
        codes, values = pd.factorize(column.astype(str) if column.dtype == object else column, sort=True)
        missing = (codes < 0).any()
        labels = [str(value) for value in values] + (["missing"] if missing else [])
        return np.where(codes < 0, len(values), codes), labels
    options = list(structure.choices[place].labels)
    where = f"column {column.name}"
    if pd.api.types.is_integer_dtype(column):
        codes = column.to_numpy(dtype=np.int64)
        if codes.min() < 0 or codes.max() >= len(options):
            raise UserError(where, f"must hold option indices below {len(options)}, got {codes.min()} to {codes.max()}")
        return codes, options
    for value in column.unique():
        if str(value) not in options:
            raise unknown_name(where, "option", str(value), options)
    return column.astype(str).map({label: k for k, label in enumerate(options)}).to_numpy(dtype=np.int64), options


class TableCosts:
    """The cheap columns, as the screen asks for them; a row that the table lacks cannot be built.

    Args:
        table: with the rows.
        cheap: column -> ``(n,)`` as the search sees them.
    """

    def __init__(self, table: Table, cheap: Mapping[str, Floats]) -> None:
        self._cheap = cheap
        self._radices = np.array([choice.num_options for choice in table.space.choices], dtype=object)
        self._weights = [int(np.prod(self._radices[k + 1 :], dtype=object)) for k in range(len(self._radices))]
        wide = int(np.prod(self._radices, dtype=object)) >= 2**62
        self._kind = object if wide else np.int64
        keys = self._keys(table.rows)
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def places(self, population: Population) -> NDArray[np.int64]:
        """``(n,)`` place of each row in the table, -1 where it has none."""
        keys = self._keys(population)
        found = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return np.where(self._sorted[found] == keys, self._order[found], -1)

    def costs(self, population: Population) -> dict[str, Floats]:
        """See `nas.strategy.screening.Costs`."""
        places = self.places(population)
        return {name: np.where(places >= 0, values[places], np.nan) for name, values in self._cheap.items()}

    def buildable(self, population: Population) -> NDArray[np.bool_]:
        """See `nas.strategy.screening.Costs`."""
        return np.asarray(self.places(population) >= 0, dtype=np.bool_)

    def _keys(self, population: Population) -> NDArray[np.int64]:
        keys = np.zeros(len(population), dtype=self._kind)
        for column, weight in zip(np.asarray(population).T, self._weights, strict=True):
            keys += column.astype(self._kind) * weight
        return keys


@dataclass(frozen=True, kw_only=True)
class TableProblem:
    """A table with what one search sees of it.

    Attributes:
        table: the truth.
        costs: what is known before an evaluation; noisy if asked.
        problem: for strategies.
    """

    table: Table
    costs: TableCosts
    problem: SearchProblem

    def evaluation(self, index: int, row: Population) -> Evaluation:
        """What comes of a row of the table."""
        place = int(self.costs.places(row[None])[0])
        known = {key: float(values[0]) for key, values in self.costs.costs(row[None]).items()}
        candidate = Candidate(
            index=index,
            architecture=self.table.space.architecture(row),
            fidelity=Fidelity(epochs=1),
            seed=0,
            predicted=known,
        )
        metrics = {self.table.name: float(self.table.judged[place])}
        return Evaluation(candidate=candidate, status="complete", metrics=metrics)


def problem_of(table: Table, *, noise: float, rng: np.random.Generator) -> TableProblem:
    """The problem of one search; with ``noise`` the first cheap column is off by a factor ``exp(noise * normal)``."""
    first, *_ = table.cheap
    cheap = dict(table.cheap)
    if noise:
        cheap[first] = cheap[first] * np.exp(noise * rng.standard_normal(len(table.rows)))
    costs = TableCosts(table, cheap)
    objectives = tuple(
        Objective(
            key=name,
            metric=Metric(name=name, short=name, dimension="count", known_before_training=name != table.name),
        )
        for name in (table.name, first)
    )
    problem = SearchProblem(space=table.space, objectives=objectives, screen=Screen(costs=costs))
    sparse = len(table.rows) < DENSE * table.space.size
    problem = replace(problem, rows=table.rows if sparse else None, structure=table.structure)
    return TableProblem(table=table, costs=costs, problem=problem)
