"""The JSON form of an evaluation: one flat object a line of ``history.jsonl``.

Responsible for that form alone, in both directions. It is strict JSON: a metric that is NaN or infinite is written as
``null`` and read back as NaN.
"""

from __future__ import annotations

import math
import string
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TypeVar, get_args

from nas.errors import UserError
from nas.problem.evaluation import Candidate, Evaluation, Fidelity, Status
from nas.space.architecture import Architecture

T = TypeVar("T")
_LARGEST_OPTION = 2**15 - 1  # populations are of int16
_PLAIN = frozenset(string.ascii_letters + string.digits + "_-")  # of digests, which name folders
_LARGEST_NUMBER = 10**300  # beyond it a whole number is no float
STATUSES: tuple[Status, ...] = get_args(Status)


def evaluation_to_record(evaluation: Evaluation) -> dict[str, object]:
    """The evaluation as plain JSON types, in the order in which a person reads a line."""
    candidate = evaluation.candidate
    fidelity = candidate.fidelity
    return {
        "index": int(candidate.index),
        "digest": candidate.architecture.digest,
        "status": evaluation.status,
        "metrics": _to_numbers(evaluation.metrics),
        "predicted": _to_numbers(candidate.predicted),
        "upper": _to_numbers(candidate.upper),
        "choices": dict(candidate.architecture.choices),
        "row": [int(option) for option in candidate.architecture.row],
        "fidelity": {
            "epochs": int(fidelity.epochs),
            "resolution": float(fidelity.resolution),
            "data_share": float(fidelity.data_share),
        },
        "seed": int(candidate.seed),
        "seconds": _number(evaluation.seconds),
        "error": evaluation.error,
        "worker": evaluation.worker,
        "finished": evaluation.finished,
        "curve": [_number(value) for value in evaluation.curve],
        "stop_below": [float(value) for value in candidate.stop_below],
    }


def evaluation_from_record(record: Mapping[str, object], *, where: str = "record") -> Evaluation:
    """The evaluation that `evaluation_to_record` wrote. Keys that it does not know are ignored.

    ``curve`` and ``stop_below`` may be missing: runs of before there were any go on.

    Args:
        record: the decoded object of one line.
        where: its place, for errors, e.g. ``runs/a/history.jsonl: line 17``.

    Raises:
        UserError: a key is missing, or holds something of another kind.
    """
    if not isinstance(record, Mapping):
        raise UserError(where, f"must be an object, got {_shown(record)}")
    fidelity = _read(record, "fidelity", _mapping, where)
    return Evaluation(
        candidate=Candidate(
            index=_read(record, "index", _integer, where),
            architecture=Architecture(
                row=_read(record, "row", _integers, where),
                choices=_read(record, "choices", _texts, where),
                digest=_read(record, "digest", _name, where),
            ),
            fidelity=_fidelity(
                _read(fidelity, "epochs", _integer, where),
                _read(fidelity, "resolution", _float, where),
                _read(fidelity, "data_share", _float, where),
            ),
            seed=_read(record, "seed", _integer, where),
            predicted=_read(record, "predicted", _numbers, where),
            upper=_read(record, "upper", _numbers, where),
            stop_below=_read({"stop_below": [], **record}, "stop_below", _floats, where),
        ),
        status=_read(record, "status", _status, where),
        metrics=_read(record, "metrics", _numbers, where),
        seconds=_read(record, "seconds", _float, where),
        error=_read(record, "error", _text, where),
        worker=sys.intern(_read(record, "worker", _text, where)),
        finished=_read(record, "finished", _text, where),
        curve=_read({"curve": [], **record}, "curve", _floats, where),
    )


@lru_cache(maxsize=64)
def _fidelity(epochs: int, resolution: float, data_share: float) -> Fidelity:
    """One object for all evaluations that share it."""
    return Fidelity(epochs=epochs, resolution=resolution, data_share=data_share)


def _read(record: Mapping[str, object], key: str, kind: Callable[[object], T], where: str) -> T:
    try:
        return kind(record[key])
    except KeyError:
        raise UserError(where, f"must have the key '{key}'", "the line was not written by this program") from None
    except TypeError as error:
        raise UserError(where, f"{key} must be {error}, got {_shown(record[key])}") from None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _number(value: float) -> float | None:
    value = float(value)
    return value if math.isfinite(value) else None


def _to_numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    return {str(key): _number(value) for key, value in values.items()}


# Each of the following gives the value, or raises TypeError with the words for what it should have been.
def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError("an integer")
    return value


def _integers(value: object) -> tuple[int, ...]:
    if type(value) is not list or any(type(item) is not int for item in value):
        raise TypeError("a list of integers")
    if any(not -1 <= item <= _LARGEST_OPTION for item in value):
        raise TypeError(f"a list of integers from -1 to {_LARGEST_OPTION}")
    return tuple(value)


def _float(value: object) -> float:
    if type(value) is float:
        return value
    if value is None:
        return math.nan
    if type(value) is not int or abs(value) > _LARGEST_NUMBER:
        raise TypeError("a number or null")
    return float(value)


def _floats(value: object) -> tuple[float, ...]:
    if type(value) is not list:
        raise TypeError("a list of numbers")
    return tuple(_float(item) for item in value)


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError("a string")
    return value


def _name(value: object) -> str:
    if type(value) is not str or not set(value) <= _PLAIN:
        raise TypeError("a word of letters and digits")
    return value


def _status(value: object) -> Status:
    for status in STATUSES:
        if value == status:
            return status
    raise TypeError(f"one of {', '.join(STATUSES)}")


def _mapping(value: object) -> dict[str, object]:
    if type(value) is not dict:
        raise TypeError("an object")
    return value


def _numbers(value: object) -> dict[str, float]:
    return {sys.intern(key): _float(item) for key, item in _mapping(value).items()}


def _texts(value: object) -> dict[str, str]:
    # The evaluations of a long run share the few names and labels that there are: half of its memory.
    return {sys.intern(key): sys.intern(_text(item)) for key, item in _mapping(value).items()}
