"""What goes into a bundle and what comes of it.

Responsible for the value types between the command, the worker processes and the writer. Plain values only, so that
processes can send them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nas.deploy.options import DeployOptions


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """One model for one target: what a worker process does in one go.

    Attributes:
        model: its model folder.
        samples: folder with the images, see `nas.deploy.bundle.images`.
        target: name of the target.
        precisions: to make.
        out: folder that the files go into; made by the job.
        barred: precision -> why its file of the model folder must not be shipped, e.g. a budget that it breaks.
        keep_rejected: files that must not be shipped are kept, and marked.
        profile: whether files of onnxruntime are profiled.
        options: how files are made and gated.
        allow: packages that custom operators may come from.
    """

    model: Path
    samples: Path
    target: str
    precisions: tuple[str, ...]
    out: Path
    barred: Mapping[str, str] = field(default_factory=dict)
    keep_rejected: bool = False
    profile: bool = True
    options: DeployOptions = field(default_factory=DeployOptions)
    allow: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Of the network: the model folder's name."""
        return self.model.name


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A file that was asked for and is not in the bundle.

    Attributes:
        digest: of the network.
        target, precision: of the file.
        reason: one line.
    """

    digest: str
    target: str
    precision: str
    reason: str

    def to_record(self) -> dict[str, object]:
        """As plain JSON."""
        return {"model": self.digest, "target": self.target, "precision": self.precision, "reason": self.reason}


@dataclass(frozen=True, kw_only=True, eq=False)
class MadeFile:
    """A file that was made, run and judged.

    Attributes:
        digest: of the network.
        entry: what the manifest says of it; paths are absolute until the bundle is written.
        outputs: ``(k, classes)`` float32, its answers to the golden inputs; None: nothing here can run it.
        profile: what the profiler says; None where it was not profiled.
    """

    digest: str
    entry: Mapping[str, Any]
    outputs: np.ndarray | None
    profile: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What came of a job.

    Attributes:
        files: that were made.
        missing: that were not.
        seconds: wall time by precision.
    """

    files: tuple[MadeFile, ...] = ()
    missing: tuple[Missing, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


def all_missing(job: ExportJob, reason: str) -> Outcome:
    """The outcome of a job that could not begin."""
    return Outcome(missing=_missing(job, job.precisions, reason))


def _missing(job: ExportJob, precisions: Sequence[str], reason: str) -> tuple[Missing, ...]:
    return tuple(
        Missing(digest=job.digest, target=job.target, precision=precision, reason=reason) for precision in precisions
    )
