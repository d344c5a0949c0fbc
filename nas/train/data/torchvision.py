"""A data set of torchvision, by its name.

Responsible for the way through the optional package `torchvision`; needs a network, or the files downloaded before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nas.errors import UserError
from nas.train.checks import check_flag, check_one_of
from nas.train.data.assembly import RawImages, assemble
from nas.train.data.images import ImageData, SplitName
from nas.train.data.options import DataOptions
from nas.train.data.pixels import from_pillow

# How the constructor of each data set is told which split is wanted.
_SPLIT_ARGUMENT: dict[str, Literal["train", "split"]] = {
    "CIFAR10": "train",
    "CIFAR100": "train",
    "FashionMNIST": "train",
    "KMNIST": "train",
    "MNIST": "train",
    "QMNIST": "train",
    "USPS": "train",
    "DTD": "split",
    "FGVCAircraft": "split",
    "Flowers102": "split",
    "Food101": "split",
    "GTSRB": "split",
    "Imagenette": "split",
    "OxfordIIITPet": "split",
    "PCAM": "split",
    "STL10": "split",
    "SVHN": "split",
}
# Names of the splits where they are not the usual ones, and splits that exist besides train and test.
_SPLIT_NAMES: dict[str, tuple[tuple[str, SplitName], ...]] = {
    "OxfordIIITPet": (("trainval", "train"), ("test", "test")),
    "DTD": (("train", "train"), ("val", "validation"), ("test", "test")),
    "FGVCAircraft": (("train", "train"), ("val", "validation"), ("test", "test")),
    "Flowers102": (("train", "train"), ("val", "validation"), ("test", "test")),
    "PCAM": (("train", "train"), ("val", "validation"), ("test", "test")),
    "Imagenette": (("train", "train"), ("val", "test")),
}
_USUAL: tuple[tuple[str, SplitName], ...] = (("train", "train"), ("test", "test"))


@dataclass(frozen=True, kw_only=True)
class TorchVision(DataOptions):
    """An image classification set of `torchvision.datasets`.

    Attributes:
        name: of its class, e.g. ``FashionMNIST``.
        root: folder of the files.
        download: whether files that are missing are downloaded.
    """

    name: str | None = None
    root: str = "~/.cache/torchvision"
    download: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag("data.download", self.download)

    def load(self) -> ImageData:
        """The images. Raises `UserError` where torchvision is missing or cannot give the set."""
        if not self.name:
            raise UserError("data.name", "must name a data set of torchvision, got nothing", "e.g. data.name=MNIST")
        check_one_of("data.name", "torchvision data set", self.name, _SPLIT_ARGUMENT)
        found = [(split, self._open(key, split)) for key, split in _SPLIT_NAMES.get(self.name, _USUAL)]
        places = [(part, split, row) for split, part in found for row in range(len(part))]
        raw = RawImages(
            name=self.name.lower(),
            labels=[label for _, part in found for label in _labels(part)],
            class_names=_class_names(found[0][1]),
            parts=[split for _, split, _ in places],
            read=lambda index: from_pillow(places[index][0][places[index][2]][0], name=self._name_of(places[index])),
            name_of=lambda index: self._name_of(places[index]),
        )
        return assemble(raw, self)

    def _open(self, key: str, split: SplitName) -> Any:
        assert self.name is not None
        try:
            import torchvision
        except ImportError:
            problem = "torchvision's data sets need the package 'torchvision'"
            raise UserError("data", problem, "pip install 'nas[torchvision]'") from None
        except RuntimeError as error:  # its operators do not load
            reason = str(error).split("\n")[0]
            problem = f"the package 'torchvision' that is installed is built for another torch ({reason})"
            advice = "install both from one index, e.g. https://download.pytorch.org/whl/cpu"
            raise UserError("data", problem, advice) from None
        by_flag = _SPLIT_ARGUMENT[self.name] == "train"
        choice = {"train": split == "train"} if by_flag else {"split": key}
        root = Path(self.root).expanduser()
        try:
            return getattr(torchvision.datasets, self.name)(str(root), download=self.download, **choice)
        except Exception as error:  # sockets, checksums, archives and torchvision's own RuntimeError
            reason = f"{type(error).__name__}: {error}".split("\n")[0]
            raise UserError("data.name", f"{self.name} cannot be loaded from {root} ({reason})") from None

    def _name_of(self, place: tuple[Any, SplitName, int]) -> str:
        return f"{self.name} {place[1]}[{place[2]}]"


def _labels(part: Any) -> list[object]:
    """Labels without decoding an image where the set has them as a list."""
    for field in ("targets", "labels", "_labels"):
        values = getattr(part, field, None)
        if values is not None and len(values) == len(part):
            return [int(value) for value in values]
    return [int(part[row][1]) for row in range(len(part))]


def _class_names(part: Any) -> tuple[str, ...] | None:
    names = getattr(part, "classes", None)
    if not isinstance(names, list | tuple):
        return None
    return tuple(name if isinstance(name, str) else str(name[0]) for name in names)
