"""The append-only list of evaluations: the only state of a search, in memory and as ``history.jsonl``.

Responsible for keeping what was found: an evaluation that `HistoryFile.append` returned from survives a killed driver,
and what a killed driver left behind is repaired when it is read.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nas.errors import UserError
from nas.problem.evaluation import Evaluation
from nas.problem.records import evaluation_from_record, evaluation_to_record


class History:
    """The evaluations of a search, in the order in which they ended.

    It only grows. Array views are filled as they are asked for and grow by doubling, so that reading all of them after
    each append costs amortised O(1) an evaluation. Returned arrays are read-only.
    """

    def __init__(self, evaluations: Iterable[Evaluation] = ()) -> None:
        self._evaluations: list[Evaluation] = []
        self._digests: dict[str, int] = {}
        self._rows: dict[bytes, int] = {}
        self._columns: dict[str, _Column] = {}
        for evaluation in evaluations:
            self.append(evaluation)

    def append(self, evaluation: Evaluation, *, tried: bool = True) -> None:
        """Adds an evaluation at the end.

        Args:
            evaluation: what came of a candidate.
            tried: False for an evaluation of another search: it teaches, but its architecture is still to be tried, and
                is neither in `digests` nor in `row_keys`.
        """
        row = evaluation.candidate.architecture.row
        assert not self._evaluations or len(row) == self.num_choices, "all rows of a history belong to one space"
        position = len(self._evaluations)
        self._evaluations.append(evaluation)
        if not tried:
            return
        self._digests.setdefault(evaluation.candidate.architecture.digest, position)
        self._rows.setdefault(np.array(row, dtype=np.int16).tobytes(), position)

    def __len__(self) -> int:
        return len(self._evaluations)

    def __iter__(self) -> Iterator[Evaluation]:
        return iter(self._evaluations)

    def __getitem__(self, position: int) -> Evaluation:
        return self._evaluations[position]

    @property
    def num_choices(self) -> int:
        """Columns of `rows`; 0 while the history is empty."""
        return len(self._evaluations[0].candidate.architecture.row) if self._evaluations else 0

    @property
    def digests(self) -> Set[str]:
        """Digests of all evaluated architectures, failed ones included: a view that grows along."""
        return self._digests.keys()

    @property
    def row_keys(self) -> Set[bytes]:
        """``row.tobytes()`` of all evaluated int16 rows: a view that grows along."""
        return self._rows.keys()

    @property
    def rows(self) -> NDArray[np.int16]:
        """(n, m) int16 population of all evaluations; (0, 0) while there is none."""
        return self._column("rows", lambda e: e.candidate.architecture.row, np.int16, self.num_choices)

    @property
    def complete(self) -> NDArray[np.bool_]:
        """(n,) True where the evaluation has metrics."""
        return self._column("complete", lambda e: e.status == "complete", np.bool_)

    def metric(self, key: str) -> NDArray[np.float64]:
        """(n,) the metric as judged; NaN where it is missing or the evaluation is not complete."""
        return self._column(f"metric {key}", lambda e: _judged(e, key), np.float64)

    def figure(self, key: str) -> NDArray[np.float64]:
        """(n,) like `metric`, but where an evaluation lacks the metric, the value predicted before training."""
        return self._column(f"figure {key}", lambda e: _judged_or_predicted(e, key), np.float64)

    def _column(
        self, name: str, value: Callable[[Evaluation], object], dtype: DTypeLike, width: int | None = None
    ) -> NDArray[Any]:
        column = self._columns.get(name)
        if column is None or column.width != width:
            column = self._columns[name] = _Column(dtype, width)
        column.extend([value(evaluation) for evaluation in self._evaluations[column.length :]])
        return column.view()


class _Column:
    """A numpy array that grows by doubling. Views given out earlier stay as they were."""

    def __init__(self, dtype: DTypeLike, width: int | None) -> None:
        self.width = width
        self.length = 0
        self._array = np.empty((0,) if width is None else (0, width), dtype=dtype)

    def extend(self, values: Sequence[object]) -> None:
        if not values:
            return
        length = self.length + len(values)
        if length > len(self._array):
            grown = np.empty((max(length, 2 * len(self._array), 64), *self._array.shape[1:]), dtype=self._array.dtype)
            grown[: self.length] = self._array[: self.length]
            self._array = grown
        self._array[self.length : length] = values
        self.length = length

    def view(self) -> NDArray[Any]:
        view = self._array[: self.length]
        view.setflags(write=False)
        return view


def _judged(evaluation: Evaluation, key: str) -> float:
    return evaluation.metrics.get(key, np.nan) if evaluation.status == "complete" else np.nan


def _judged_or_predicted(evaluation: Evaluation, key: str) -> float:
    if evaluation.status != "complete":
        return np.nan
    return evaluation.metrics[key] if key in evaluation.metrics else evaluation.candidate.predicted.get(key, np.nan)


class HistoryFile:
    """``history.jsonl``: one strict JSON object a line, in the form of `nas.problem.records`.

    Args:
        path: the file; made at the first append, in a folder that exists.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def append(self, evaluation: Evaluation) -> None:
        """Adds one line, and returns once it is on the disk.

        Raises:
            UserError: the line could not be written (no space, no permission). The file then ends with the last whole
                line as before.
        """
        line = json.dumps(evaluation_to_record(evaluation), allow_nan=False).encode() + b"\n"
        try:
            self._write(line)
        except OSError as error:
            raise UserError(
                str(self.path),
                f"cannot be written: {error.strerror or error}",
                "all earlier results are kept in it; make room or give permission, then resume the run",
            ) from error

    def _write(self, line: bytes) -> None:
        is_new = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            _repair(descriptor)
            size = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, line) != len(line):
                    raise OSError("no space left on the device")
                os.fsync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):  # what went wrong first is what the user needs to know
                    os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)
        if is_new:
            _sync_folder(self.path.parent)


def read_history(path: Path | str, *, repair: bool = True) -> tuple[History, str]:
    """Reads ``history.jsonl``, after repairing a last line that a killed driver left unfinished.

    An index that comes again is left out: the first evaluation under it stands. A missing file is an empty history.

    Args:
        path: the file.
        repair: False to leave the file as it is, because another search may be writing it; a last line that is not
            whole is then passed over without a note.

    Returns:
        The history, and a note on what was repaired or left out, or "".

    Raises:
        UserError: the file cannot be read, or a line other than a torn last one is not an evaluation.
    """
    path = Path(path)
    try:
        if not path.exists():
            return History(), ""
        if not path.is_file():  # a pipe: one would wait for ever
            raise OSError("it is no plain file")
        note = _repair_file(path) if repair else ""
        notes = [note] if note else []
        return History(_read_lines(path, notes)), "; ".join(notes)
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror or error}") from error


def iterate_history(path: Path) -> Iterator[Evaluation]:
    """The evaluations that `read_history` gives, one after the other: a long file is never in memory as a whole.

    The file is left as it is.

    Raises:
        UserError: as there.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no plain file")
        if path.exists():
            yield from _read_lines(path, [])
    except OSError as error:
        raise UserError(str(path), f"cannot be read: {error.strerror or error}") from error


def _read_lines(path: Path, notes: list[str]) -> Iterator[Evaluation]:
    """The evaluations of the whole lines; what is left out is added to ``notes``."""
    first_line: dict[int, int] = {}
    num_choices: int | None = None
    for number, line in enumerate(_whole_lines(path), start=1):
        if not line.strip():
            continue
        evaluation = _evaluation_of(line, where=f"{path}: line {number}")
        index = evaluation.candidate.index
        if index in first_line:
            notes.append(f"{path}: line {number} repeats candidate {index} of line {first_line[index]}: left out")
            continue
        row = evaluation.candidate.architecture.row
        num_choices = len(row) if num_choices is None else num_choices
        if len(row) != num_choices:
            raise UserError(f"{path}: line {number}", f"row must have {num_choices} choices as in line 1")
        first_line[index] = number
        yield evaluation


def _evaluation_of(line: bytes, *, where: str) -> Evaluation:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        problem = f"must be a JSON object, got {line[:40]!r} ({error})"
        raise UserError(where, problem, "correct or delete this line; only a torn last line is repaired") from None
    return evaluation_from_record(record, where=where)


def _whole_lines(path: Path) -> Iterator[bytes]:
    """The file's lines but for a last one that is not whole."""
    with path.open("rb") as file:
        keep, _ = _fault(file.fileno())
        for line in file:
            keep -= len(line)
            if keep < 0:
                return
            yield line


def _repair_file(path: Path) -> str:
    """Repairs the end of the file if it needs it (a sound file may be read-only); gives the note, or ""."""
    with path.open("rb") as file:
        if not _fault(file.fileno())[1]:
            return ""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
    try:
        note = _repair(descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return f"{path}: {note}" if note else ""


def _repair(descriptor: int) -> str:
    """Makes the file end with a whole line; gives a note on what was done, or ""."""
    keep, note = _fault(descriptor)
    if not note:
        return ""
    if keep < os.fstat(descriptor).st_size:
        os.ftruncate(descriptor, keep)
    else:
        os.write(descriptor, b"\n")
    return note


def _fault(descriptor: int) -> tuple[int, str]:
    """How many bytes of the file are to be kept, and what is wrong with its end ("" if nothing is).

    A last line that is no JSON was never acknowledged, and goes. One that is whole but for its line end stays.
    """
    size = os.fstat(descriptor).st_size
    start, tail = _last_line(descriptor, size)
    if tail.endswith(b"\n") and (tail.rstrip().endswith(b"}") or not tail.strip()):
        return size, ""
    try:
        json.loads(tail)
    except (ValueError, RecursionError):
        if not tail:
            return size, ""
        return start, f"the last line was torn and is cut off ({size - start} bytes); nothing else is lost"
    return size, "" if tail.endswith(b"\n") else "the last line lacked its line end, which is added"


def _last_line(descriptor: int, size: int) -> tuple[int, bytes]:
    """Offset and bytes of the last line, its newline included if it has one."""
    block, tail = 1 << 14, b""
    start = size
    while start > 0:
        length = min(block, start)
        start -= length
        tail = os.pread(descriptor, length, start) + tail
        newline = tail.rfind(b"\n", 0, len(tail) - 1)
        if newline >= 0:
            return start + newline + 1, tail[newline + 1 :]
    return 0, tail


def _sync_folder(folder: Path) -> None:
    """Makes the entry of a new file durable, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
