"""Labels as sources have them -> 0 .. k-1 with names.

Responsible for refusing what is no label: missing, fractional, out of the declared classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.errors import UserError


def encode_labels(
    values: NDArray[Any] | Sequence[object],
    *,
    names: tuple[str, ...] | None,
    name_of: Callable[[int], str],
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels from 0 without gaps, and the names of the classes.

    Args:
        values: ``(n,)`` integers (also as floats or booleans) or strings.
        names: names of the classes 0, 1, ... where the source declares them; classes without an image are dropped.
        name_of: what to call an image in an error, by its position.

    Returns:
        ``(n,)`` int64 and the names; without declared names a class is called by its label. Integers are put in
        ascending, strings in alphabetical order.

    Raises:
        UserError: a missing or fractional label, one outside the declared names, or a single class.
    """
    codes = _comparable(values, name_of)
    if names is not None:
        _check_declared(codes, names, name_of)
    elif codes.dtype.kind == "i" and len(codes) and bool(np.all(codes == -1)):
        raise UserError("data", f"{name_of(0)} and all others are unlabelled (label -1)", "give labelled images")
    present, labels = np.unique(codes, return_inverse=True)
    classes = tuple(names[int(code)] if names is not None else str(code) for code in present)
    if len(classes) < 2:
        raise UserError("data", f"must have at least two classes, got one ({', '.join(classes)})", "add another class")
    return labels.astype(np.int64), classes


def _comparable(values: NDArray[Any] | Sequence[object], name_of: Callable[[int], str]) -> NDArray[Any]:
    array = values if isinstance(values, np.ndarray) else np.array(values, dtype=object)
    if array.dtype.kind == "O":
        array = _from_objects(array, name_of)
    if array.dtype.kind == "f":
        array = _from_floats(array, name_of)
    if array.dtype.kind in "bu":
        return array.astype(np.int64)
    if array.dtype.kind not in "iU":
        raise UserError("data", f"labels must be whole numbers or names, got the type {array.dtype} ({name_of(0)})")
    return array


def _from_objects(array: NDArray[Any], name_of: Callable[[int], str]) -> NDArray[Any]:
    kinds = set()
    for index, value in enumerate(array):
        if value is None or value == "":
            raise UserError("data", f"{name_of(index)} is unlabelled", "give it a label or leave it out")
        if not isinstance(value, str | int | float | np.integer | np.floating):
            raise UserError(
                "data", f"labels must be whole numbers or names, got {type(value).__name__} for {name_of(index)}"
            )
        kinds.add(isinstance(value, str))
    if len(kinds) > 1:
        odd = next(i for i, value in enumerate(array) if isinstance(value, str) != isinstance(array[0], str))
        raise UserError("data", f"labels must be all numbers or all names, got {array[0]!r} and {array[odd]!r}")
    return np.array(array.tolist())


def _from_floats(array: NDArray[Any], name_of: Callable[[int], str]) -> NDArray[np.int64]:
    missing = np.flatnonzero(~np.isfinite(array))
    if len(missing):
        raise UserError("data", f"{name_of(int(missing[0]))} is unlabelled (NaN)", "give it a label or leave it out")
    odd = np.flatnonzero(array != np.round(array))
    if len(odd):
        value = array[odd[0]]
        raise UserError("data", f"labels must be whole numbers, got {value} for {name_of(int(odd[0]))}")
    return array.astype(np.int64)


def _check_declared(codes: NDArray[Any], names: tuple[str, ...], name_of: Callable[[int], str]) -> None:
    if codes.dtype.kind == "U":
        raise UserError("data", f"labels must be numbers from 0 to {len(names) - 1}, got {str(codes[0])!r}")
    outside = np.flatnonzero((codes < 0) | (codes >= len(names)))
    if len(outside):
        index = int(outside[0])
        if codes[index] == -1:
            raise UserError("data", f"{name_of(index)} is unlabelled (label -1)", "give it a label or leave it out")
        rule = f"labels must be from 0 to {len(names) - 1}, as {len(names)} classes are declared"
        raise UserError("data", f"{rule}, got {codes[index]} for {name_of(index)}")
