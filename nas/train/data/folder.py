"""Image files in folders, one folder a class.

Responsible for finding them: ``path/<class>/*.png``, or ``path/train/<class>/*.png`` with ``validation`` and ``test``
beside it where these exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.errors import UserError
from nas.train.data.assembly import RawImages, assemble
from nas.train.data.images import ImageData, SplitName
from nas.train.data.options import DataOptions, given_path, no_such_path
from nas.train.data.pixels import IMAGE_ENDINGS, decode

SPLIT_FOLDERS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, kw_only=True)
class Folder(DataOptions):
    """Image files in one folder a class; the class is called as the folder.

    Files that are no images and hidden files are passed over; images deeper in a class folder belong to the class.

    Attributes:
        path: the folder; with a sub-folder ``train``, its split folders hold the class folders.
    """

    path: str | None = None

    def load(self) -> ImageData:
        """The images. Raises `UserError`, naming the file or folder that is at fault."""
        root = given_path(self.path, example="photos")
        if not root.exists():
            raise no_such_path(root)
        if not root.is_dir():
            raise UserError("data.path", f"must be a folder of class folders, got the file {root}")
        found = [
            (split, label, file)
            for split, folder in _split_folders(root)
            for label, files in _class_folders(folder)
            for file in files
        ]
        if not found:
            kinds = " ".join(sorted(IMAGE_ENDINGS))
            raise UserError("data", f"{root} holds no images ({kinds})", f"put them into {root}/<class>/")
        files = [str(file) for _, _, file in found]
        raw = RawImages(
            name=root.resolve().name,
            labels=[label for _, label, _ in found],
            parts=[split for split, _, _ in found],
            read=lambda index: _read(files[index]),
            name_of=lambda index: files[index],
        )
        return assemble(raw, self)


def _split_folders(root: Path) -> list[tuple[SplitName, Path]]:
    named = [(SPLIT_FOLDERS[folder.name.lower()], folder) for folder in _folders(root, SPLIT_FOLDERS)]
    if not any(split == "train" for split, _ in named):
        return [("train", root)]
    splits = [split for split, _ in named]
    if len(set(splits)) < len(splits):
        listed = ", ".join(str(folder) for _, folder in named)
        raise UserError("data", f"{root} must have one folder a split, got {listed}")
    others = [folder for folder in _folders(root) if folder not in [known for _, known in named]]
    if others:
        problem = f"{others[0]} stands beside {root}/train but is no split"
        raise UserError("data", problem, f"known: {', '.join(SPLIT_FOLDERS)}")
    return named


def _class_folders(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    loose = [file for file in _sorted(folder) if file.is_file() and _is_image(file)]
    if loose:
        raise UserError("data", f"{loose[0]} is unlabelled", f"move it to {folder}/<class>/{loose[0].name}")
    for class_folder in _folders(folder):
        files = [file for file in sorted(class_folder.rglob("*")) if file.is_file() and _is_image(file)]
        if not files:
            raise UserError("data", f"{class_folder} holds no images", "fill it or remove it")
        yield class_folder.name, files


def _folders(folder: Path, names: dict[str, SplitName] | None = None) -> list[Path]:
    folders = [child for child in _sorted(folder) if child.is_dir() and not child.name.startswith(".")]
    return folders if names is None else [child for child in folders if child.name.lower() in names]


def _sorted(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise UserError("data", f"{folder} cannot be read ({error.strerror})") from None


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_ENDINGS and not file.name.startswith(".")


def _read(file: str) -> NDArray[np.uint8]:
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise UserError("data", f"{file} cannot be read ({error.strerror})") from None
    return decode(content, name=file)
