"""Which operators suffer from few bits.

Responsible for the two steps by which sensitive operators are found: the noise that each one adds, for all of them in
one pass; then, for the worst, a file in which nothing but this operator is quantised, and what that file answers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto, numpy_helper

from nas.deploy.graph import write_model
from nas.deploy.judge import run_file
from nas.deploy.options import Precision
from nas.deploy.precision.assignment import Assignment
from nas.deploy.precision.calibration import Calibrated
from nas.deploy.precision.mixed import mixed_model
from nas.deploy.precision.noise import Noise, operator_noise
from nas.deploy.quantise import finished, tool_errors


@dataclass(frozen=True, kw_only=True)
class Alone:
    """What a file answers in which only one operator is quantised.

    Attributes:
        agreement: share of images with the float file's class.
        output_sqnr_db: of its logits; infinite where they are the float file's.
        accuracy_drop: of its accuracy against the float file's, 0.01 is a point; None without labels.
    """

    agreement: float
    output_sqnr_db: float
    accuracy_drop: float | None


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """How an operator takes its precision.

    Attributes:
        operator: its name, which begins with its module.
        op_type: its type.
        precision: that it was given.
        num_weights: constants that it reads, biases included.
        sqnr_db: signal to noise of its output on float inputs; infinite without noise.
        alone: None where it was not among the worst.
    """

    operator: str
    op_type: str
    precision: Precision
    num_weights: int
    sqnr_db: float
    alone: Alone | None = None

    def to_record(self) -> dict[str, object]:
        """Plain JSON, as `nas.report.sensitivity` takes it; numbers that are not finite become None."""
        record = asdict(self)
        record["sqnr_db"] = _finite(self.sqnr_db)
        if self.alone is not None:
            record["alone"] = asdict(self.alone) | {"output_sqnr_db": _finite(self.alone.output_sqnr_db)}
        return record


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A float network, and what it is quantised with.

    Attributes:
        path: of its float32 file.
        prepared: its graph.
        calibrated: ranges of its activations; None where nothing is to be calibrated.
        block: weights that share a scale in 4 bits.
    """

    path: Path
    prepared: ModelProto
    calibrated: Calibrated | None
    block: int = 32

    def model(self, assignment: Assignment) -> ModelProto:
        """The network in these precisions, under the names of the tools."""
        with tool_errors(self.path, "quantised"):
            return mixed_model(self.prepared, assignment, calibrated=self.calibrated, block=self.block)

    def write(self, assignment: Assignment, path: Path) -> None:
        """Writes the file of these precisions."""
        with tool_errors(self.path, "quantised"):
            write_model(finished(self.model(assignment), self.prepared), path)

    def logits(self, assignment: Assignment, images: np.ndarray) -> np.ndarray:
        """What the file of these precisions answers: ``(n, classes)``."""
        with tempfile.TemporaryDirectory(prefix="nas-logits-") as folder:
            path = Path(folder) / self.path.name
            self.write(assignment, path)
            return run_file(path, images)

    def noise(self, assignment: Assignment, images: np.ndarray) -> tuple[Noise, ...]:
        """The noise of each operator in these precisions; float16 adds none that counts, and is left out."""
        counted = {name: given for name, given in assignment.items() if given != "float16"}
        with tool_errors(self.path, "quantised"):
            return operator_noise(self.prepared, self.model(counted), images)


def sensitivities(
    network: Network,
    assignment: Assignment,
    images: np.ndarray,
    *,
    labels: np.ndarray | None = None,
    worst: int = 8,
) -> tuple[Sensitivity, ...]:
    """How each operator takes the precision that it was given, the most sensitive first.

    Args:
        network: in float.
        assignment: operator -> precision.
        images: ``(n, c, h, w)`` float32; 64 to 256 are usual.
        labels: ``(n,)`` class indices; None: agreement is told and accuracy is not.
        worst: operators that are also tried alone, by their signal to noise.

    Raises:
        UserError: the network cannot be quantised or run.
    """
    found = sorted(network.noise(assignment, images), key=lambda noise: noise.sqnr_db)
    known = [noise for noise in found if noise.operator in assignment]
    weights = weight_counts(network.prepared)
    reference = run_file(network.path, images)
    entries = []
    for number, noise in enumerate(known):
        given = assignment[noise.operator]
        alone = None
        if number < worst:
            alone = compared(network.logits({noise.operator: given}, images), reference, labels)
        entries.append(
            Sensitivity(
                operator=noise.operator,
                op_type=noise.op_type,
                precision=given,
                num_weights=weights.get(noise.operator, 0),
                sqnr_db=noise.sqnr_db,
                alone=alone,
            )
        )
    tried = sorted(entries[:worst], key=_damage)
    return (*tried, *entries[worst:])


def compared(logits: np.ndarray, reference: np.ndarray, labels: np.ndarray | None) -> Alone:
    """Logits ``(n, classes)`` held against the float file's."""
    classes, wanted = logits.argmax(axis=1), reference.argmax(axis=1)
    noise, signal = float(np.square(logits - reference).sum()), float(np.square(reference).sum())
    finite = noise > 0 and signal > 0
    drop = None if labels is None else float((wanted == labels).mean() - (classes == labels).mean())
    return Alone(
        agreement=float((classes == wanted).mean()),
        output_sqnr_db=10 * float(np.log10(signal / noise)) if finite else float("inf" if noise == 0 else "-inf"),
        accuracy_drop=drop,
    )


def weight_counts(prepared: ModelProto) -> Mapping[str, int]:
    """Operator -> numbers that it reads from the file, biases included."""
    sizes = {tensor.name: int(numpy_helper.to_array(tensor).size) for tensor in prepared.graph.initializer}
    return {node.name: sum(sizes.get(name, 0) for name in node.input) for node in prepared.graph.node}


def worst_first(entries: Sequence[Sensitivity]) -> tuple[str, ...]:
    """Operators by what they do to the output where that is known, by their own noise otherwise."""
    return tuple(entry.operator for entry in sorted(entries, key=_damage))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _damage(entry: Sensitivity) -> tuple[bool, float, float]:
    """Sorts the worst first: those tried alone by what came out, the others behind them by their noise."""
    if entry.alone is None:
        return True, entry.sqnr_db, 0.0
    return False, entry.alone.output_sqnr_db, entry.sqnr_db
