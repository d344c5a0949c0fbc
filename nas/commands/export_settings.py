"""Everything that `nas export` can be told, as a frozen record that checks itself. Mirrors `conf/export.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nas.deploy.bundle.write import Licences
from nas.deploy.options import DeployOptions
from nas.deploy.targets.registry import TARGETS
from nas.errors import UserError, unknown_name
from nas.train.data.images import DataSource

FRONT, ALL = "front", "all"
PRECISIONS = ("float32", "int8")
"""What is exported where no precisions are named and a target has none of the model folder's."""


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What goes into a bundle.

    Attributes:
        run: folder with ``models/``: of a search, or of anything else that writes model folders.
        targets: names of targets.
        models: ``front`` (those that nothing beats and that keep the budgets), ``all``, or digests or their beginnings.
        precisions: to make for each target; None: those of the model folder, as far as a target has them.
        out: folder of the bundle, made or replaced; the zip file lies beside it. None: ``<run>/<run's name>-bundle``.
        data: that the models were trained on; None: only what is in the model folders is there, and nothing can be
            calibrated.
        images: test images that each file is judged on, at the most.
        measure: time the files of onnxruntime again, instead of taking over what the run measured.
        device: that they are timed on.
        profile: whether files of onnxruntime are profiled.
        licences: of weights and data.
        deploy: how files are made and gated.
        workers: processes; None: one a core, at most one a job; 0: in this process.
        keep_rejected: files that must not be shipped go into the bundle, marked.
        archive: write the zip file too.
        allow: packages that custom operators may come from.
    """

    run: Path
    targets: Sequence[str] = ("onnxruntime",)
    models: str | Sequence[str] = FRONT
    precisions: Sequence[str] | None = None
    out: Path | None = None
    data: DataSource | None = None
    images: int = 1000
    measure: bool = False
    device: str = "this-machine"
    profile: bool = True
    licences: Licences = field(default_factory=Licences)
    deploy: DeployOptions = field(default_factory=DeployOptions)
    workers: int | None = None
    keep_rejected: bool = False
    archive: bool = True
    allow: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("targets", "precisions"):
            given = getattr(self, name)
            if given is not None and (not given or len(set(given)) != len(given)):
                raise UserError(name, f"must name at least one, and each once, got {list(given)}")
        for target in self.targets:
            if target not in TARGETS:
                raise unknown_name("targets", "target", target, TARGETS)
        if not isinstance(self.images, int) or isinstance(self.images, bool) or self.images < 1:
            raise UserError("images", f"must be a whole number of at least 1, got {self.images!r}")
        workers = self.workers
        if workers is not None and (not isinstance(workers, int) or isinstance(workers, bool) or workers < 0):
            raise UserError("workers", f"must be a whole number of at least 0 or null, got {workers!r}")
        for text in self.licences.texts:
            if not text.is_file():
                raise UserError("licence.texts", f"must name files, there is no {text}")

    @property
    def place(self) -> Path:
        """The bundle's folder."""
        return self.out or self.run / f"{self.run.resolve().name}-bundle"
