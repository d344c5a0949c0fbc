"""A data set of the Hugging Face hub, by its name.

Responsible for the way through the optional package `datasets`; needs a network, or its cache filled before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas.errors import UserError
from nas.train.data.assembly import RawImages, assemble
from nas.train.data.images import ImageData, SplitName
from nas.train.data.options import DataOptions
from nas.train.data.pixels import decode, from_pillow

_SPLITS: tuple[tuple[str, SplitName], ...] = (("train", "train"), ("validation", "validation"), ("test", "test"))


@dataclass(frozen=True, kw_only=True)
class HuggingFace(DataOptions):
    """``datasets.load_dataset(name, config)`` with its splits ``train``, ``validation`` and ``test``.

    Attributes:
        name: of the data set, e.g. ``zalando-datasets/fashion_mnist``, or a folder that `datasets` can load.
        config: the data set's configuration, where it has several.
        revision: a commit or tag of the data set, for a run that can be repeated.
        image_column: holds the images.
        label_column: holds the labels.
    """

    name: str | None = None
    config: str | None = None
    revision: str | None = None
    image_column: str = "image"
    label_column: str = "label"

    def load(self) -> ImageData:
        """The images. Raises `UserError` where `datasets` is missing, finds no such data set, or a column lacks."""
        if not self.name:
            example = "e.g. data.name=zalando-datasets/fashion_mnist"
            raise UserError("data.name", "must name a data set of the Hugging Face hub, got nothing", example)
        found = self._splits()
        for split, part in found:
            for field, column in (("image_column", self.image_column), ("label_column", self.label_column)):
                if column not in part.column_names:
                    listed = ", ".join(part.column_names)
                    raise UserError(
                        f"data.{field}", f"{self.name} ({split}) has no column '{column}'", f"it has: {listed}"
                    )
        places = [(part, split, row) for split, part in found for row in range(len(part))]
        raw = RawImages(
            name=self.name.rstrip("/").split("/")[-1],
            labels=[label for _, part in found for label in part[self.label_column]],
            class_names=_class_names(found[0][1], self.label_column),
            parts=[split for _, split, _ in places],
            read=lambda index: self._pixels(places[index][0], places[index][2], self._name_of(places[index])),
            name_of=lambda index: self._name_of(places[index]),
        )
        return assemble(raw, self)

    def _splits(self) -> list[tuple[SplitName, Any]]:
        try:
            import datasets
        except ImportError:
            advice = "pip install 'nas[huggingface]'"
            raise UserError("data", "Hugging Face data sets need the package 'datasets'", advice) from None
        try:
            loaded = datasets.load_dataset(self.name, self.config, revision=self.revision)
        except Exception as error:  # the package raises errors of its own, of the hub and of the network
            reason = f"{type(error).__name__}: {error}".split("\n")[0]
            raise UserError(
                "data.name", f"{self.name} cannot be loaded ({reason})", "is it spelt so, and is there a network?"
            ) from None
        # Encoded, as far as the column says that it holds images: `decode` knows which formats are harmless.
        encoded = datasets.Image(decode=False)
        for key, part in loaded.items():
            if isinstance(part.features.get(self.image_column), datasets.Image):
                loaded[key] = part.cast_column(self.image_column, encoded)
        found = [(split, loaded[key]) for key, split in _SPLITS if key in loaded]
        if not found or found[0][0] != "train":
            raise UserError("data.name", f"{self.name} must have a split 'train', got {', '.join(loaded)}")
        return found

    def _name_of(self, place: tuple[Any, SplitName, int]) -> str:
        return f"{self.name} {place[1]}[{place[2]}]"

    def _pixels(self, part: Any, row: int, name: str) -> NDArray[np.uint8]:
        value = part[row][self.image_column]
        if isinstance(value, Image.Image):
            return from_pillow(value, name=name)
        if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
            return decode(value["bytes"], name=name)
        if isinstance(value, dict) and isinstance(value.get("path"), str) and Path(value["path"]).is_file():
            return decode(Path(value["path"]).read_bytes(), name=name)
        if isinstance(value, bytes):
            return decode(value, name=name)
        raise UserError("data.image_column", f"must hold images, got {type(value).__name__} for {name}")


def _class_names(part: Any, label_column: str) -> tuple[str, ...] | None:
    names = getattr(part.features[label_column], "names", None)
    return None if names is None else tuple(str(name) for name in names)
