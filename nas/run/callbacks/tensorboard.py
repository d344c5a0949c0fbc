"""TensorBoard: figures of each candidate and of the search as event files.

Needs the package ``tensorboard``, not TensorFlow. Look at it by ``tensorboard --logdir runs/<name>/tensorboard``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nas.run.callbacks.callback import Ended, Evaluated, Started
from nas.run.callbacks.extras import check_package, load
from nas.run.callbacks.figures import event_figures

_PACKAGE = "tensorboard"


@dataclass(frozen=True, kw_only=True)
class TensorBoard:
    """Writes an event file a session of a search; a resumed search adds one to the same folder.

    Attributes:
        folder: of the event files; None: ``tensorboard`` in the run folder.
    """

    folder: str | None = None
    name = "tensorboard"

    def check(self) -> None:
        """See `nas.run.callbacks.callback.Callback`."""
        check_package(self.name, _PACKAGE)

    def open(self, started: Started) -> _Listener:
        """See `nas.run.callbacks.callback.Callback`."""
        folder = started.folder / "tensorboard" if self.folder is None else Path(self.folder)
        return _Listener(folder)


class _Listener:
    def __init__(self, folder: Path) -> None:
        writing = load(TensorBoard.name, _PACKAGE, "tensorboard.summary.writer.event_file_writer")
        self._events = load(TensorBoard.name, _PACKAGE, "tensorboard.compat.proto.event_pb2")
        self._summaries = load(TensorBoard.name, _PACKAGE, "tensorboard.compat.proto.summary_pb2")
        self._writer: Any = writing.EventFileWriter(str(folder), flush_secs=10)

    def __call__(self, event: Evaluated | Ended) -> None:
        if isinstance(event, Ended):
            self._writer.close()
            return
        values = [
            self._summaries.Summary.Value(tag=name, simple_value=value) for name, value in event_figures(event).items()
        ]
        summary = self._summaries.Summary(value=values)
        self._writer.add_event(self._events.Event(wall_time=time.time(), step=event.position, summary=summary))
