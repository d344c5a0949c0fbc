"""What is exported and how: the configuration group ``deploy``.

Responsible for the options and their rules; it imports no runtime, so that help and checks are quick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from nas.errors import UserError, unknown_name

Exporter = Literal["torchscript", "dynamo"]
Activations = Literal["unsigned", "signed"]
Method = Literal["minmax", "entropy", "percentile", "auto"]
Precision = Literal["float32", "float16", "int8", "int8-dynamic", "int4"]
Rest = Literal["int8", "float32"]

EXPORTERS: tuple[Exporter, ...] = get_args(Exporter)
ACTIVATIONS: tuple[Activations, ...] = get_args(Activations)
METHODS: tuple[Method, ...] = get_args(Method)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
RESTS: tuple[Rest, ...] = get_args(Rest)
MIN_BLOCK = 16
"""Least weights that share a scale in an INT4 file: what onnxruntime has kernels for."""


@dataclass(frozen=True, kw_only=True)
class DeployOptions:
    """What becomes of a trained network, for onnxruntime.

    Attributes:
        exporter: what turns torch modules into ONNX.
        precisions: one file each; float32 is always among them, the others are made from it.
        activations: sign of 8-bit activations; None: the one that is fast on the processor that exports.
        method: how the ranges of activations are found in calibration; ``auto``: by each method, and the one is taken
            whose file gives the float file's class for most calibration images.
        calibration_images: taken from the training split, at most.
        golden_images: test images in ``golden.npz``, at most.
        min_agreement: share of test images on which a file of 8 or fewer bits must give torch's class; below it the
            file is marked as not accepted.
        revert: the most operators that go back to float32, the most sensitive first, where the calibration images say
            that a file would fall below ``min_agreement``; 0: none.
        int4_block: weights that share a scale in INT4 files, a power of 2 of at least 16.
        int4_rest: what an INT4 file holds beside matrix products in 4 bits: ``int8`` (smallest) or ``float32``.
        sensitivities: whether the manifest tells the noise of each operator of a file of 8 or fewer bits, for the plot
            in the report; a fraction of a second a file.
    """

    exporter: Exporter = "torchscript"
    precisions: tuple[Precision, ...] = ("float32", "int8")
    activations: Activations | None = None
    method: Method = "minmax"
    calibration_images: int = 256
    golden_images: int = 8
    min_agreement: float = 0.9
    revert: int = 4
    int4_block: int = 32
    int4_rest: Rest = "int8"
    sensitivities: bool = True

    def __post_init__(self) -> None:
        _one_of("exporter", self.exporter, EXPORTERS)
        _one_of("method", self.method, METHODS)
        _one_of("int4_rest", self.int4_rest, RESTS)
        if self.activations is not None:
            _one_of("activations", self.activations, ACTIVATIONS)
        if isinstance(self.precisions, str):
            raise UserError("deploy.precisions", f"must be a list, got {self.precisions!r}", "e.g. [float32]")
        for precision in self.precisions:
            _one_of("precisions", precision, PRECISIONS)
        if "float32" not in self.precisions or len(set(self.precisions)) != len(self.precisions):
            problem = f"must name float32, and each precision once, got {list(self.precisions)}"
            raise UserError("deploy.precisions", problem, "the other precisions are made from float32")
        for name, least in (("calibration_images", 1), ("golden_images", 1), ("revert", 0), ("int4_block", MIN_BLOCK)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UserError(f"deploy.{name}", f"must be a whole number of at least {least}, got {value!r}")
        if self.int4_block & (self.int4_block - 1):
            raise UserError("deploy.int4_block", f"must be a power of 2, got {self.int4_block}", "32 is usual")
        if not isinstance(self.sensitivities, bool):
            problem = f"must be true or false, got {self.sensitivities!r}"
            raise UserError("deploy.sensitivities", problem)
        if not 0 <= self.min_agreement <= 1:
            problem = f"must be a share between 0 and 1, got {self.min_agreement!r}"
            raise UserError("deploy.min_agreement", problem)


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise unknown_name(f"deploy.{name}", name, value, known)
