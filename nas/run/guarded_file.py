"""``history.jsonl`` as the one driver writes it: each evaluation once, and nobody else's among them.

Responsible for what `nas.problem.history.HistoryFile` cannot know, because it keeps nothing between two lines: how
long the file has to be. A file that is longer or shorter than this process left it is another's work; what a failed
attempt of this process left behind is cut off before the next.
"""

from __future__ import annotations

import os
from pathlib import Path

from nas.errors import UserError
from nas.problem.evaluation import Evaluation
from nas.problem.history import HistoryFile
from nas.run.heartbeat import this_driver
from nas.run.lease import check_holder


class GuardedFile:
    """A store for `nas.run.loop.search_loop`. Made after the history was read, by the holder of the folder's lock.

    Args:
        path: of the file, which may be missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = HistoryFile(path)
        self._driver = this_driver()
        self._size = path.stat().st_size if path.exists() else 0
        self._failed = False

    def append(self, evaluation: Evaluation) -> None:
        """Keeps an evaluation durably before it returns. May be called again after an error that an `OSError` caused.

        Raises:
            UserError: with an `OSError` as its cause, the file cannot be written or is away for now; without one,
                another process writes the run.
        """
        check_holder(self._path.parent, self._driver)
        try:
            self._check_size()
        except OSError as error:
            raise UserError(str(self._path), f"cannot be reached: {error.strerror or error}") from error
        self._failed = True
        self._file.append(evaluation)
        self._failed = False
        self._size = self._path.stat().st_size

    def _check_size(self) -> None:
        # A missing file is storage that is away: a new one must not take its place.
        size = self._path.stat().st_size if self._size or self._path.exists() else 0
        if self._failed and size > self._size:
            os.truncate(self._path, self._size)
        elif size != self._size:
            problem = f"has {size} bytes, but this search left it with {self._size}: another process changed it"
            raise UserError(str(self._path), problem, "end the other one, then go on with run.resume")
