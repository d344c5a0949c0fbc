"""Images and labels as arrays in an ``.npz`` file.

Responsible for the names of the arrays and for what their numbers may be. No pickled object is ever read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.device.archives import read_arrays
from nas.errors import UserError
from nas.train.data.assembly import RawImages, assemble
from nas.train.data.images import SPLITS, ImageData, SplitName
from nas.train.data.options import DataOptions, given_path, no_such_path

_ONE_ARRAY = b"\x93NUMPY"  # how a file of np.save begins
# For each split, the names that (images, labels) go by.
_KEYS: dict[SplitName, tuple[tuple[str, str], ...]] = {
    "train": (("images", "labels"), ("x_train", "y_train"), ("train_images", "train_labels"), ("x", "y")),
    "validation": (("x_val", "y_val"), ("x_validation", "y_validation"), ("val_images", "val_labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}


@dataclass(frozen=True, kw_only=True)
class Npz(DataOptions):
    """Arrays ``images`` and ``labels``, or ``x_train``, ``y_train``, ``x_test``, ``y_test`` (``x_val``, ``y_val``).

    Also ``train_images``, ``train_labels`` and so on. Images are ``(n, h, w)``, ``(n, h, w, c)`` or ``(n, c, h, w)``
    with ``c`` 1 or 3, as integers from 0 to 255 or floats from 0 to 1. Labels are ``(n,)`` or ``(n, 1)``, whole
    numbers or strings. An optional array ``classes`` of strings names the classes 0, 1, ...

    Attributes:
        path: the file.
    """

    path: str | None = None

    def load(self) -> ImageData:
        """The images. Raises `UserError`, naming the file and the array that is at fault."""
        path = given_path(self.path, example="scans.npz")
        if not path.is_file():
            raise no_such_path(path)
        arrays = _arrays(path)
        found = [(split, *keys) for split in SPLITS for keys in _KEYS[split] if keys[0] in arrays and keys[1] in arrays]
        _check_names(path, arrays, [split for split, _, _ in found])
        images = {split: _pixels(arrays[key], where=f"{path}: {key}") for split, key, _ in found}
        labels = {split: _labels(arrays[key], where=f"{path}: {key}") for split, _, key in found}
        for split, image_key, label_key in found:
            if len(images[split]) != len(labels[split]):
                problem = f"{path}: {image_key} has {len(images[split])} and {label_key} {len(labels[split])} entries"
                raise UserError("data", problem, "they must agree")
        places = [(split, index, key) for split, key, _ in found for index in range(len(images[split]))]
        raw = RawImages(
            name=path.stem,
            labels=[value for split, _, _ in found for value in labels[split].tolist()],
            class_names=tuple(str(name) for name in arrays["classes"]) if "classes" in arrays else None,
            parts=[split for split, _, _ in places],
            read=lambda number: images[places[number][0]][places[number][1]],
            name_of=lambda number: f"{path}: {places[number][2]}[{places[number][1]}]",
            note=_note(arrays, [key for _, key, _ in found]),
        )
        return assemble(raw, self)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file:
            if file.read(len(_ONE_ARRAY)) == _ONE_ARRAY:
                raise UserError("data", f"{path} must be an npz archive, got a single array", "use np.savez")
        return read_arrays(path, largest=None)
    except UserError:
        raise
    except ValueError as error:
        if "pickle" in str(error).lower():
            problem = f"{path} must hold plain arrays, got pickled objects or no npz at all"
            raise UserError("data", problem, "save numbers or strings with np.savez") from None
        raise UserError("data", f"{path} cannot be read ({error})") from None
    except OSError as error:
        raise UserError("data", f"{path} cannot be read as npz ({error})", "save it with np.savez") from None


def _check_names(path: Path, arrays: Mapping[str, NDArray[Any]], splits: list[SplitName]) -> None:
    if "train" not in splits:
        known = " or ".join(f"{images} and {labels}" for images, labels in _KEYS["train"])
        held = ", ".join(sorted(arrays)) or "nothing"
        raise UserError("data", f"{path} must hold {known}, got {held}")
    if len(set(splits)) < len(splits):
        raise UserError("data", f"{path} must name the arrays of a split once, got {', '.join(sorted(arrays))}")


def _pixels(array: NDArray[Any], *, where: str) -> NDArray[np.uint8]:
    """``(n, h, w, c)`` uint8 from any layout and number type that is allowed."""
    if array.ndim == 3:
        array = array[:, :, :, None]
    if array.ndim != 4:
        rule = "must have the shape (n, h, w), (n, h, w, c) or (n, c, h, w)"
        raise UserError("data", f"{where} {rule}, got {array.shape}")
    if array.shape[3] not in (1, 3):
        if array.shape[1] not in (1, 3):
            raise UserError("data", f"{where} must have 1 or 3 channels, got the shape {array.shape}")
        array = array.transpose(0, 2, 3, 1)
    if 0 in array.shape[1:]:
        raise UserError("data", f"{where} must have at least one pixel an image, got the shape {array.shape}")
    return _bytes(array, where=where)


def _bytes(array: NDArray[Any], *, where: str) -> NDArray[np.uint8]:
    kind = array.dtype.kind
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if kind == "b":
        return np.ascontiguousarray(array).astype(np.uint8) * np.uint8(255)
    if kind not in "iuf":
        raise UserError("data", f"{where} must be numbers, got the type {array.dtype}", "uint8 is usual")
    if not array.size:
        return array.astype(np.uint8)
    if kind == "f" and not np.all(np.isfinite(array)):
        image = int(np.argwhere(~np.isfinite(array))[0][0])
        raise UserError("data", f"{where}[{image}] must be finite, got NaN or infinity", "repair it or leave it out")
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > (1 if kind == "f" else 255):
        rule = "floats from 0 to 1" if kind == "f" else "integers from 0 to 255"
        raise UserError("data", f"{where} must be {rule}, got {low:g} to {high:g}", "scale them, or save uint8")
    return np.ascontiguousarray(np.round(array * 255.0) if kind == "f" else array).astype(np.uint8)


def _labels(array: NDArray[Any], *, where: str) -> NDArray[Any]:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise UserError("data", f"{where} must have the shape (n,), got {array.shape}", "one label an image")
    return array


def _note(arrays: Mapping[str, NDArray[Any]], keys: list[str]) -> str:
    return "floats times 255, rounded" if any(arrays[key].dtype.kind == "f" for key in keys) else ""
