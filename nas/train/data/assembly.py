"""From what a source found to `ImageData`: labels, limit, splits, pixels.

Responsible for the steps that all sources share, in an order that reads no image that is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.errors import UserError
from nas.train.data.images import ImageData, SplitName, image_data
from nas.train.data.labels import encode_labels
from nas.train.data.options import DataOptions
from nas.train.data.pixels import conform
from nas.train.data.splits import Ints, apportion, counts_of, draw

_PART: dict[SplitName, int] = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True, kw_only=True, eq=False)
class RawImages:
    """What a source found, before any pixel is read.

    Attributes:
        name: of the data set.
        labels: ``(n,)`` as the source has them.
        class_names: declared names of the classes 0, 1, ..., or None.
        parts: ``(n,)`` the source's own split of each image; all ``train`` where it has none.
        read: the pixels of one image, ``(h, w, c)`` uint8.
        name_of: what to call an image in an error.
        note: how pixels were got.
    """

    name: str
    labels: NDArray[Any] | Sequence[object]
    class_names: tuple[str, ...] | None = None
    parts: Sequence[SplitName]
    read: Callable[[int], NDArray[np.uint8]]
    name_of: Callable[[int], str]
    note: str = ""


def assemble(raw: RawImages, options: DataOptions) -> ImageData:
    """The data set that ``options`` ask for.

    Raises:
        UserError: no images, labels that are none, too few images of a class for its splits, a class that is only
            judged and never trained on, images of several sizes or channels, an image that cannot be read.
    """
    if len(raw.labels) == 0:
        raise UserError("data", f"{raw.name} holds no images", "give at least 3 of each class")
    labels, classes = encode_labels(raw.labels, names=raw.class_names, name_of=raw.name_of)
    parts = np.array([_PART[part] for part in raw.parts], dtype=np.int64)
    _check_counts(labels, parts, classes)
    rng = np.random.default_rng(np.random.SeedSequence(options.seed))
    kept = _limited(labels, parts, num_classes=len(classes), limit=options.limit, rng=rng)
    labels, parts = labels[kept], parts[kept]
    splits = _split(labels, parts, num_classes=len(classes), options=options, rng=rng)
    images = _read(raw, kept, options)
    return image_data(
        name=raw.name, images=images, labels=labels, classes=classes, splits=splits, origin=kept, note=raw.note
    )


def _splits_to_cut(parts: Ints) -> int:
    """Into how many splits the source's training part must be cut: 1 to 3."""
    return 1 + sum(not np.any(parts == part) for part in (_PART["validation"], _PART["test"]))


def _check_counts(labels: Ints, parts: Ints, classes: tuple[str, ...]) -> None:
    if len(labels) < len(classes):
        raise UserError("data", f"must have more images than classes, got {len(labels)} of {len(classes)} classes")
    need = _splits_to_cut(parts)
    counts = counts_of(labels[parts == _PART["train"]], len(classes))
    short = np.flatnonzero(counts < need)
    if not len(short):
        return
    names = ", ".join(f"'{classes[index]}' has {counts[index]}" for index in short[:3])
    more = f" and {len(short) - 3} more classes have too few" if len(short) > 3 else ""
    rule = "each class must have at least 3 images, one a split" if need == 3 else f"must have {need} training images"
    rule = rule if need == 3 else f"each class {rule}"
    advice = "add images or leave the class out"
    if len(short) > len(classes) // 2 and len(classes) > 20:
        advice += "; are the labels class numbers?"
    raise UserError("data", f"{rule}, but {names}{more}", advice)


def _limited(labels: Ints, parts: Ints, *, num_classes: int, limit: int | None, rng: np.random.Generator) -> Ints:
    """Ascending positions of the images that are kept."""
    if limit is None or limit >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    sizes = counts_of(parts, 3)
    least = np.where(sizes > 0, num_classes, 0)
    least[0] *= _splits_to_cut(parts)
    if limit < least.sum():
        rule = f"must leave every class in every split: at least {least.sum()} images for {num_classes} classes"
        raise UserError("data.limit", f"{rule}, got {limit}")
    shares = apportion(sizes, limit, minimum=least)
    kept = []
    for part, share in enumerate(shares):
        members = np.flatnonzero(parts == part)
        counts = counts_of(labels[members], num_classes)
        minimum = _splits_to_cut(parts) if part == 0 else 1
        kept.append(members[draw(labels[members], apportion(counts, int(share), minimum=minimum), rng)])
    return np.sort(np.concatenate(kept)).astype(np.int64)


def _split(
    labels: Ints, parts: Ints, *, num_classes: int, options: DataOptions, rng: np.random.Generator
) -> dict[SplitName, Ints]:
    """Ascending indices of each split: the source's own, and what is missing cut from its training part."""
    train = np.flatnonzero(parts == _PART["train"])
    total = len(train)
    splits: dict[SplitName, Ints] = {}
    wanted: tuple[tuple[SplitName, float], ...] = (
        ("test", options.test_share),
        ("validation", options.validation_share),
    )
    for position, (split, share) in enumerate(wanted):
        own = np.flatnonzero(parts == _PART[split])
        if len(own):
            splits[split] = own
            continue
        later = sum(not np.any(parts == _PART[name]) for name, _ in wanted[position + 1 :])
        counts = counts_of(labels[train], num_classes)
        # What later splits and training itself need stays: one image of each class for each.
        take = apportion(counts, round(share * total), minimum=1, most=counts - 1 - later)
        chosen = train[draw(labels[train], take, rng)]
        splits[split] = chosen
        train = np.setdiff1d(train, chosen)
    splits["train"] = train
    return splits


def _read(raw: RawImages, kept: Ints, options: DataOptions) -> NDArray[np.uint8]:
    """``(n, h, w, c)`` uint8, all alike."""
    images: NDArray[np.uint8] | None = None
    for position, index in enumerate(kept.tolist()):
        name = raw.name_of(index)
        pixels = conform(raw.read(index), channels=options.channels, resolution=options.resolution, name=name)
        if images is None:
            images = np.empty((len(kept), *pixels.shape), dtype=np.uint8)
        elif pixels.shape != images.shape[1:]:
            raise _mixed(images.shape[1:], raw.name_of(int(kept[0])), pixels.shape, name)
        images[position] = pixels
    assert images is not None
    return images


def _mixed(first: tuple[int, ...], first_name: str, other: tuple[int, ...], other_name: str) -> UserError:
    if first[:2] != other[:2]:
        problem = f"{other_name} is {other[1]}x{other[0]} and {first_name} is {first[1]}x{first[0]}"
        return UserError("data", problem, "set data.resolution to resize them all.")
    problem = f"{other_name} has {_channels(other[2])} and {first_name} has {_channels(first[2])}"
    return UserError("data", problem, "set data.channels to 1 or 3 to convert them all.")


def _channels(count: int) -> str:
    return f"{count} channel" + ("s" if count > 1 else "")
