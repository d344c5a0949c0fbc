"""The border between a trained network and the runtimes that it is shipped to.

Responsible for the protocol of a target, for what goes into it and comes out of it, and for the gates that every file
passes before it may be shipped. How a file is made and run is each target's own.

A *level* says how far a file was checked on the machine that made it: ``executed`` (it ran in the target's runtime, in
its optimised session), ``simulated`` (it ran in the vendor's simulator: answers are the device's, times are not),
``structure-only`` (it was read back and its contents checked; nothing ran), ``script-only`` (the file and a script that
builds and times it on the device; nothing of the target is here).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
from torch import nn

from nas.deploy.judge import FileJudgement, compare
from nas.deploy.options import DeployOptions
from nas.deploy.records import Samples
from nas.errors import UserError, unknown_name

Level = Literal["executed", "simulated", "structure-only", "script-only"]
LEVELS: tuple[Level, ...] = get_args(Level)

Effect = Literal["refused", "leaves", "float"]

FLOAT32_AGREEMENT, FLOAT32_ERROR = 0.99, 1e-4
"""Gates of a float32 file: share of torch's classes; largest error of a logit as a share of the logits' range. Files of
other precisions are held to `DeployOptions.min_agreement`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """What is exported.

    Attributes:
        module: trained, float32, evaluation mode, on the CPU; no target changes it.
        input_shape: channels, height, width of what it takes.
        samples: images to calibrate with and to judge by.
        reference: ``(m, classes)`` float32, torch's logits on ``samples.test``.
        files: precision -> ONNX file of the model folder; float32 is always among them.
    """

    module: nn.Module
    input_shape: tuple[int, int, int]
    samples: Samples
    reference: np.ndarray
    files: Mapping[str, Path]

    def __post_init__(self) -> None:
        shape = tuple(self.samples.test.shape)
        if not shape[0]:
            raise UserError("data.test", "must hold at least one sample to judge a file, got none")
        for name, found in (("test", shape), ("calibration", self.samples.calibration.shape)):
            if tuple(found[1:]) != tuple(self.input_shape):
                wanted = " x ".join(map(str, self.input_shape))
                problem = f"must be images {wanted} as the model takes them, got {' x '.join(map(str, found[1:]))}"
                raise UserError(f"data.{name}", problem, "resize them as the model's manifest says")
        if len(self.reference) != shape[0] or len(self.samples.test_labels) != shape[0]:
            counts = f"{shape[0]} images, {len(self.samples.test_labels)} labels, {len(self.reference)} logits"
            raise UserError("data.test", f"must have one label and one row of logits an image, got {counts}")
        assert "float32" in self.files


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """What an export leaves.

    Attributes:
        path: the file, or the folder where the format is one.
        precision: of its weights and activations.
        extras: scripts, headers and weight files that belong to it; beside it.
        notes: what a deployer has to know, a sentence each.
    """

    path: Path
    precision: str
    extras: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Of the file, or of all files in the folder, and of weights beside it (``.bin`` for ``.xml``)."""
        files = [file for file in self.path.rglob("*") if file.is_file()] if self.path.is_dir() else [self.path]
        weights = [extra for extra in self.extras if extra.suffix in (".bin", ".data")]
        return sum(file.stat().st_size for file in (*files, *weights))


@dataclass(frozen=True, kw_only=True)
class Verification:
    """How far a file was checked, and what came of it.

    Attributes:
        level: how far.
        judgement: of the file's answers in the target's runtime; None where nothing ran.
        reason: why it must not be shipped; empty if it may.
        figures: what else was seen: ``runtime``, ``runtime_version``, ``latency_ms``, ``peak_bytes``...; None: unknown.
    """

    level: Level
    judgement: FileJudgement | None = None
    reason: str = ""
    figures: Mapping[str, float | str | None] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether the file may be shipped, as far as ``level`` can tell."""
        return not self.reason


@dataclass(frozen=True, kw_only=True)
class Fallback:
    """An operator that would not run as it should on a target.

    Attributes:
        operator: ONNX type, e.g. ``HardSigmoid``.
        node: name in the file, ``/<module path>/<operator>``.
        effect: ``refused`` (the target takes no model with it), ``leaves`` (it runs outside the accelerator, on the
            processor), ``float`` (it runs on the target, but in a higher precision than the file's).
        reason: one sentence.
        source: where that is known from: a document with its version, or ``run here`` with the version that ran.
    """

    operator: str
    node: str
    effect: Effect
    reason: str
    source: str


class Target(Protocol):
    """A runtime, or a format, that models are shipped in. Frozen: all state is in files."""

    @property
    def name(self) -> str:
        """As in the registry and in ``targets=[...]``."""

    @property
    def level(self) -> Level:
        """How far `verify` goes at best."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """That `export` can make, from the safest to the smallest."""

    def available(self) -> str:
        """Empty where everything is installed; else one line: what is missing, and the pip command."""

    def export(self, source: Source, folder: Path, precision: str) -> Artifact:
        """Writes the file, and what belongs to it, into an existing folder.

        Equal sources give equal bytes wherever the tools of the target allow it; the file is there whole or not at all.

        Raises:
            UserError: the target is not available, the precision is none of its own, or an operator cannot be told.
        """

    def verify(self, artifact: Artifact, source: Source) -> Verification:
        """Reads the file back and runs it, in the target's optimised session, as far as `level` says.

        Raises:
            UserError: the file is missing or the runtime cannot load it.
        """

    def fallbacks(self, float32_file: Path, precision: str) -> Sequence[Fallback]:
        """Operators that would leave the accelerator, or refuse the export; told before anything is made.

        Args:
            float32_file: of `nas.deploy.export`, trained or not.
            precision: in which it is to be shipped.
        """


def check_precision(target: Target, precision: str) -> None:
    """Raises `UserError` where the target has no such precision."""
    if precision not in target.precisions:
        raise unknown_name("precisions", f"precision of target {target.name}", precision, target.precisions)


def gate(judgement: FileJudgement, precision: str, options: DeployOptions) -> str:
    """Why a file with this judgement must not be shipped; empty if it may.

    float32: at least 99 % of torch's classes, no logit farther off than 1e-4 of the logits' range. Others: at least
    ``options.min_agreement`` of torch's classes, as in a search.
    """
    least = FLOAT32_AGREEMENT if precision == "float32" else options.min_agreement
    if not judgement.agreement >= least:
        return f"gives torch's class for {judgement.agreement:.1%} of the test samples, must be at least {least:.0%}"
    if precision == "float32" and not judgement.relative_error <= FLOAT32_ERROR:
        off = f"{judgement.relative_error:.1g}"
        return f"a logit is off by {off} of the logits' range, must be at most {FLOAT32_ERROR:g}"
    return ""


def verified(
    logits: np.ndarray,
    source: Source,
    artifact: Artifact,
    *,
    level: Level,
    options: DeployOptions,
    figures: Mapping[str, float | str | None],
    images: np.ndarray | None = None,
) -> Verification:
    """The verification of a file that gave these logits ``(k, classes)`` for images of ``source.samples.test``.

    Args:
        logits: as the file gave them; not finite is a disagreement.
        source: with torch's logits.
        artifact: whose file it was.
        level: how it was run.
        options: for the gates.
        figures: what else was seen.
        images: indices ``(k,)`` of the images, where a slow simulator ran a part; None: all of them, in order.

    Raises:
        UserError: the logits have another shape than torch's.
    """
    picked = np.arange(len(source.reference)) if images is None else images
    reference = source.reference[picked]
    if logits.shape != reference.shape:
        problem = f"must give {reference.shape} logits as torch does, got {logits.shape}"
        raise UserError(str(artifact.path), problem)
    judgement = compare(logits, np.asarray(source.samples.test_labels)[picked], reference)
    reason = gate(judgement, artifact.precision, options)
    return Verification(level=level, judgement=judgement, reason=reason, figures=figures)
