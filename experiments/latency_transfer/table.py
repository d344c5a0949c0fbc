"""Reads a table of architectures and their latencies on devices, and refuses one that cannot be used, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nas.errors import UserError, unknown_name
from nas.space.flat import flat_space
from nas.space.load import load_space
from nas.space.moves import Population, is_canonical
from nas.space.space import SearchSpace

_MAX_OPTIONS = 1_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Architectures and latencies.

    Attributes:
        space: flat, or the one that rows were said to belong to.
        population: ``(n, m)`` canonical rows, each once.
        latency_ms: device -> ``(n,)``; NaN where there is none that can be used.
        notes: what was dropped, a line each.
    """

    space: SearchSpace
    population: Population
    latency_ms: Mapping[str, np.ndarray]
    notes: tuple[str, ...]


def read_table(path: Path, *, choices: Sequence[str], devices: Sequence[str], space: str = "") -> Table:
    """The columns of a parquet or CSV file that an experiment needs.

    Args:
        path: of the file.
        choices: columns of category codes; what they hold is taken as labels, whatever the type.
        devices: columns of latencies, in any unit of time.
        space: name or path of a search space whose options the codes are, column by column; "": flat.

    Raises:
        UserError: no such file or column, a column that is named twice, holds nothing usable or is constant, or codes
            that the space does not have.
    """
    frame = _read(path)
    for where, names in (("choices", choices), ("sources and targets", devices)):
        for name in names:
            if name not in frame.columns:
                raise unknown_name(f"{path.name}: {where}", "column", name, map(str, frame.columns))
    twice = next((name for name in choices if list(choices).count(name) > 1), None)
    if twice is not None:
        raise UserError("choices", f"must name each column once, got '{twice}' twice")
    notes: list[str] = []
    empty = frame[list(choices)].isna().any(axis=1)
    if empty.any():
        notes.append(f"{int(empty.sum())} rows without a code in every choice are dropped")
        frame = frame[~empty]
    if not len(frame):
        raise UserError(path.name, "must have a row with a code in every choice, got none")
    columns, population, dropped = (
        _codes(frame, choices) if not space else (list(choices), _options(frame, choices), [])
    )
    notes += [f"choice '{name}' has one code only and is dropped" for name in dropped]
    if not columns:
        raise UserError("choices", "must have a column with two codes or more, all are constant")
    known = load_space(_space_file(space)) if space else flat_space(path.stem, _labels(frame, columns))
    if space:
        _check_rows(known, population)
    population, first = np.unique(population, axis=0, return_index=True)
    if len(first) < len(frame):
        notes.append(f"{len(frame) - len(first)} rows repeat an architecture and are dropped")
    frame = frame.iloc[first]
    latency_ms = {name: _latency(frame, name, notes) for name in dict.fromkeys(devices)}
    return Table(space=known, population=np.asfortranarray(population), latency_ms=latency_ms, notes=tuple(notes))


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise UserError("table", f"must be a file, there is none at {path}")
    try:
        return pd.read_csv(path) if path.suffix in (".csv", ".gz") else pd.read_parquet(path)
    except (OSError, ValueError, pd.errors.ParserError) as error:
        reason = str(error).splitlines()[0]
        raise UserError("table", f"must be parquet or CSV, {path} cannot be read ({reason})") from error


def _labels(frame: pd.DataFrame, columns: Sequence[str]) -> dict[str, list[str]]:
    return {name: [str(value) for value in np.unique(frame[name].to_numpy())] for name in columns}


def _codes(frame: pd.DataFrame, choices: Sequence[str]) -> tuple[list[str], np.ndarray, list[str]]:
    """Columns that vary, their codes numbered from 0 in rising order, and the columns that do not vary."""
    kept, codes, dropped = [], [], []
    for name in choices:
        try:
            values, numbers = np.unique(frame[name].to_numpy(), return_inverse=True)
        except TypeError as error:
            raise UserError(f"choices: {name}", "must hold codes of one kind, got a mixture of types") from error
        if len(values) > _MAX_OPTIONS:
            problem = f"must hold category codes, got {len(values)} different values"
            raise UserError(f"choices: {name}", problem, f"at most {_MAX_OPTIONS} are categories")
        if len(values) < 2:
            dropped.append(name)
            continue
        kept.append(name)
        codes.append(numbers.astype(np.int16))
    return kept, np.stack(codes, axis=1) if codes else np.zeros((len(frame), 0), dtype=np.int16), dropped


def _options(frame: pd.DataFrame, choices: Sequence[str]) -> np.ndarray:
    """Codes as they are: option indices of a search space."""
    try:
        return frame[list(choices)].to_numpy().astype(np.int16)
    except (TypeError, ValueError) as error:
        raise UserError("choices", "must hold option indices where a space is given, got something else") from error


def _space_file(space: str) -> Path:
    shipped = Path(__file__).resolve().parents[2] / "search_spaces" / f"{space}.yaml"
    return shipped if shipped.is_file() else Path(space)


def _check_rows(space: SearchSpace, population: np.ndarray) -> None:
    if population.shape[1] != space.num_choices:
        problem = f"must be the {space.num_choices} columns of {space.name}, got {population.shape[1]}"
        raise UserError("choices", problem, f"its choices are {', '.join(choice.name for choice in space.choices[:8])}")
    wrong = np.flatnonzero(~is_canonical(space, population))
    if len(wrong):
        row = population[wrong[0]].tolist()
        problem = f"must hold option indices of {space.name}, {len(wrong)} rows do not, the first is {row}"
        raise UserError("choices", problem, "leave --space out to take the codes as they are")


def _latency(frame: pd.DataFrame, name: str, notes: list[str]) -> np.ndarray:
    values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    usable = np.isfinite(values) & (values > 0)
    if not usable.any():
        raise UserError(f"latencies of {name}", "must have a number above 0, got none")
    if not usable.all():
        notes.append(f"{int((~usable).sum())} latencies of '{name}' are missing or not above 0 and are dropped")
    if np.ptp(values[usable]) == 0:
        raise UserError(f"latencies of {name}", f"must differ, got {values[usable][0]} in every row")
    return np.where(usable, values, np.nan)
