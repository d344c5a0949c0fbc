"""Labelled images with their splits: what every data source gives.

Responsible for the record `ImageData`, for the protocol of its sources, and for the digest that names its contents.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageData:
    """A set of labelled images, cut into three disjoint splits.

    Attributes:
        name: what people call it.
        images: ``(n, h, w, c)`` uint8, ``c`` 1 or 3. Read-only.
        labels: ``(n,)`` int64, from 0 to ``len(classes) - 1``. Read-only.
        classes: name of each class, in the order of the labels.
        splits: ``train``, ``validation`` and ``test``, each an ascending int64 array of indices into ``images``;
            disjoint, together all images. Read-only.
        origin: ``(n,)`` int64, each image's number in the source's own order (before a limit). Read-only.
        note: how the pixels were got from the source, empty where they are the source's own.
        digest: 16 hexadecimal digits over images, labels, classes and splits.
    """

    name: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    splits: Mapping[SplitName, NDArray[np.int64]]
    origin: NDArray[np.int64]
    note: str
    digest: str

    def summary(self) -> str:
        """One line for people: ``digits  1437 train / 180 val / 180 test, 8x8x1, 10 classes``."""
        train, validation, test = (len(self.splits[split]) for split in SPLITS)
        _, height, width, channels = self.images.shape
        shape = f"{height}x{width}x{channels}"
        return f"{self.name}  {train} train / {validation} val / {test} test, {shape}, {len(self.classes)} classes"


class DataSource(Protocol):
    """Where images come from: a frozen record of options."""

    def load(self) -> ImageData:
        """The images with their splits; the same at each call. Raises `UserError` for data that cannot be used."""
        ...


def image_data(
    *,
    name: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    splits: Mapping[SplitName, NDArray[np.int64]],
    origin: NDArray[np.int64],
    note: str = "",
) -> ImageData:
    """An `ImageData` with its digest; arrays are made read-only, because processes share them."""
    together = np.concatenate([splits[split] for split in SPLITS])
    assert np.array_equal(np.sort(together), np.arange(len(images))), "splits must be disjoint and cover all images"
    assert images.dtype == np.uint8
    assert images.ndim == 4
    assert len(images) == len(labels) == len(origin)
    arrays: list[NDArray[Any]] = [images, labels, origin, *splits.values()]
    for array in arrays:
        array.flags.writeable = False
    return ImageData(
        name=name,
        images=images,
        labels=labels,
        classes=classes,
        splits=dict(splits),
        origin=origin,
        note=note,
        digest=_digest(images, labels, classes, splits),
    )


def write_splits(data: ImageData, path: Path) -> None:
    """Record which image of the source is in which split, as an npz of integer arrays.

    Arrays: ``train``, ``validation``, ``test`` (numbers of the images in the source's own order) and
    ``digest`` (the data's digest, as bytes).
    """
    arrays: dict[str, NDArray[Any]] = {split: data.origin[data.splits[split]] for split in SPLITS}
    arrays["digest"] = np.frombuffer(data.digest.encode(), dtype=np.uint8)
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    os.replace(unfinished, path)


def _digest(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    classes: tuple[str, ...],
    splits: Mapping[SplitName, NDArray[np.int64]],
) -> str:
    state = hashlib.sha256()
    state.update(repr((images.shape, classes)).encode())
    state.update(np.ascontiguousarray(images).data)
    for array in (labels, *(splits[split] for split in SPLITS)):
        state.update(repr(array.shape).encode())
        state.update(np.ascontiguousarray(array, dtype="<i8").data)
    return state.hexdigest()[:16]
