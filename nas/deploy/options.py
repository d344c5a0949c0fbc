"""What is exported and how: the configuration group ``deploy``.

Responsible for the options and their rules; it imports no runtime, so that help and checks are quick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from nas.errors import UserError, unknown_name

Exporter = Literal["torchscript", "dynamo"]
Activations = Literal["unsigned", "signed"]
Method = Literal["minmax", "entropy", "percentile"]
Precision = Literal["float32", "int8"]

EXPORTERS: tuple[Exporter, ...] = get_args(Exporter)
ACTIVATIONS: tuple[Activations, ...] = get_args(Activations)
METHODS: tuple[Method, ...] = get_args(Method)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True, kw_only=True)
class DeployOptions:
    """What becomes of a trained network, for onnxruntime.

    Attributes:
        exporter: what turns torch modules into ONNX.
        precisions: one file each; float32 is always among them, the others are made from it.
        activations: sign of 8-bit activations; None: the one that is fast on the processor that exports.
        method: how the ranges of activations are found in calibration.
        calibration_images: taken from the training split, at most.
        golden_images: test images in ``golden.npz``, at most.
        min_agreement: share of test images on which the INT8 file must give torch's class; below it the file is marked
            as not accepted.
    """

    exporter: Exporter = "torchscript"
    precisions: tuple[Precision, ...] = PRECISIONS
    activations: Activations | None = None
    method: Method = "minmax"
    calibration_images: int = 256
    golden_images: int = 8
    min_agreement: float = 0.9

    def __post_init__(self) -> None:
        _one_of("exporter", self.exporter, EXPORTERS)
        _one_of("method", self.method, METHODS)
        if self.activations is not None:
            _one_of("activations", self.activations, ACTIVATIONS)
        if isinstance(self.precisions, str):
            raise UserError("deploy.precisions", f"must be a list, got {self.precisions!r}", "e.g. [float32]")
        for precision in self.precisions:
            _one_of("precisions", precision, PRECISIONS)
        if "float32" not in self.precisions or len(set(self.precisions)) != len(self.precisions):
            problem = f"must name float32, and each precision once, got {list(self.precisions)}"
            raise UserError("deploy.precisions", problem, "the other precisions are made from float32")
        for name in ("calibration_images", "golden_images"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"deploy.{name}", f"must be a whole number of at least 1, got {value!r}")
        if not 0 <= self.min_agreement <= 1:
            problem = f"must be a share between 0 and 1, got {self.min_agreement!r}"
            raise UserError("deploy.min_agreement", problem)


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise unknown_name(f"deploy.{name}", name, value, known)
