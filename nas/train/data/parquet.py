"""Parquet files in the layout of Hugging Face data sets: ``image: {bytes, path}`` and ``label``.

Responsible for finding the files and their splits, and for reading rows only when they are wanted.
"""

from __future__ import annotations

import glob
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nas.errors import UserError
from nas.train.data.assembly import RawImages, assemble
from nas.train.data.images import ImageData, SplitName
from nas.train.data.options import DataOptions, given_path, no_such_path
from nas.train.data.pixels import decode

_SPLIT_WORDS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, kw_only=True)
class Parquet(DataOptions):
    """Rows with an encoded image and a label.

    Files whose names say so (``train-00000-of-00002.parquet``, ``test.parquet``, or a folder of that name) are the
    source's own splits, as soon as one says ``train``. Names of the classes are taken from the metadata that Hugging
    Face writes.

    Attributes:
        path: a file, a folder (searched to any depth) or a glob.
        test_path: the same for the test set, where the names do not say it.
        image_column: holds the images: ``{bytes, path}`` or bytes.
        label_column: holds the labels: whole numbers or strings.
    """

    path: str | None = None
    test_path: str | None = None
    image_column: str = "image"
    label_column: str = "label"

    def load(self) -> ImageData:
        """The images. Raises `UserError`, naming the file and row that is at fault."""
        path = given_path(self.path, example="'cifar10/*.parquet'")
        files = self._files(path)
        tables = [_Table.read(file, self.image_column, self.label_column) for file, _ in files]
        rows = [(table, row) for table in tables for row in range(len(table.labels))]
        raw = RawImages(
            name=_name(path),
            labels=[label for table in tables for label in table.labels],
            class_names=_agreed_names(tables),
            parts=[split for (_, split), table in zip(files, tables, strict=True) for _ in table.labels],
            read=lambda index: rows[index][0].pixels(rows[index][1]),
            name_of=lambda index: rows[index][0].name_of(rows[index][1]),
        )
        return assemble(raw, self)

    def _files(self, path: Path) -> list[tuple[Path, SplitName]]:
        tests = []
        if self.test_path is not None:
            tests = _matching(given_path(self.test_path, example="test.parquet", where="data.test_path"))
        found = [file for file in _matching(path) if file not in tests]
        if not found:
            raise UserError("data.path", f"must leave files to train on, got only those of data.test_path ({path})")
        if tests:
            return [(file, "train") for file in found] + [(file, "test") for file in tests]
        splits = [_split_of(file, path) for file in found]
        if "train" not in splits:
            return [(file, "train") for file in found]
        named: list[tuple[Path, SplitName]] = []
        for file, split in zip(found, splits, strict=True):
            if split is None:
                problem = f"{file} does not say in its name whether it is train, validation or test, as others do"
                raise UserError("data", problem, "rename it, or narrow data.path to a glob")
            named.append((file, split))
        return named


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    file: Path
    images: Any  # a pyarrow ChunkedArray: bytes, or a struct of bytes and path
    labels: list[object]
    class_names: tuple[str, ...] | None

    @classmethod
    def read(cls, file: Path, image_column: str, label_column: str) -> _Table:
        try:
            schema = pq.read_schema(file)
            _check_columns(file, schema, image_column, label_column)
            table = pq.read_table(file, columns=[image_column, label_column])
        except (pa.ArrowException, OSError) as error:
            reason = str(error).split("\n")[0]
            raise UserError("data", f"{file} cannot be read as Parquet ({reason})") from None
        return cls(
            file=file,
            images=table.column(image_column),
            labels=table.column(label_column).to_pylist(),
            class_names=_class_names(schema, label_column),
        )

    def name_of(self, row: int) -> str:
        return f"{self.file} row {row}"

    def pixels(self, row: int) -> NDArray[np.uint8]:
        value = self.images[row].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is None and isinstance(value, dict) and value.get("path"):
            beside = self._beside(row, str(value["path"]))
            try:
                content = beside.read_bytes()
            except OSError as error:
                problem = f"{self.name_of(row)} names the file {beside}, which cannot be read ({error.strerror})"
                raise UserError("data", problem) from None
        if content is None:
            raise UserError("data", f"{self.name_of(row)} has no image", "leave the row out")
        return decode(content, name=self.name_of(row))

    def _beside(self, row: int, name: str) -> Path:
        """The file that a row names, which must lie with the table: a data set does not read from elsewhere."""
        folder = self.file.parent.resolve()
        beside = (folder / name).resolve()
        if not beside.is_relative_to(folder):
            problem = f"{self.name_of(row)} must name a file below {self.file.parent}, got {name!r}"
            raise UserError("data", problem, "put the images beside the table")
        return beside


def _check_columns(file: Path, schema: Any, image_column: str, label_column: str) -> None:
    listed = ", ".join(schema.names)
    for field, column in (("image_column", image_column), ("label_column", label_column)):
        if column not in schema.names:
            raise UserError(f"data.{field}", f"{file} has no column '{column}'", f"it has: {listed}")
    kind = schema.field(image_column).type
    held = kind.field("bytes").type if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0 else kind
    if not (pa.types.is_binary(held) or pa.types.is_large_binary(held)):
        rule = f"column '{image_column}' must hold {{bytes, path}} or bytes"
        raise UserError("data.image_column", f"{file}: {rule}, got {kind}", "encoded images are wanted (PNG, JPEG)")


def _class_names(schema: Any, label_column: str) -> tuple[str, ...] | None:
    """Names of a ``ClassLabel``, from the metadata of the `datasets` library."""
    content = (schema.metadata or {}).get(b"huggingface")
    if content is None:
        return None
    try:
        names = json.loads(content)["info"]["features"][label_column]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) else None


def _agreed_names(tables: list[_Table]) -> tuple[str, ...] | None:
    for table in tables[1:]:
        if table.class_names != tables[0].class_names:
            problem = f"{table.file} and {tables[0].file} declare different classes"
            raise UserError("data", problem, "narrow data.path to the files of one data set")
    return tables[0].class_names


def _matching(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(path.rglob("*.parquet"))
    elif path.exists():
        files = [path]
    else:
        files = sorted(Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file())
        if not files and not glob.has_magic(str(path)):
            raise no_such_path(path)
    if not files:
        raise UserError("data.path", f"{path} holds no .parquet file", "give a file, a folder or a glob")
    return files


def _split_of(file: Path, path: Path) -> SplitName | None:
    """The split that the file's name, or the nearest folder below ``path``, speaks of."""
    below = file.relative_to(path).parts if path.is_dir() else file.parts[-1:]
    for part in reversed(below):
        for word in re.split(r"[^a-zA-Z]+", part):
            if word.lower() in _SPLIT_WORDS:
                return _SPLIT_WORDS[word.lower()]
    return None


def _name(path: Path) -> str:
    parts = [part for part in path.parts if not glob.has_magic(part)]
    named = Path(*parts) if parts else Path.cwd()
    return named.resolve().stem if named.suffix == ".parquet" else named.resolve().name
