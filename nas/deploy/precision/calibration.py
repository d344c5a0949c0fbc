"""Calibration: the ranges of a network's activations, found once and used as often as wanted.

Responsible for the images that ranges are found on, for the ranges, and for the graph with quantised operators that
they give. Running the images is what takes time; a further graph from the same ranges takes a tenth of it, so that
sensitivities, reverted layers and methods can be tried out.

References:
    [Migacz2017] Migacz, 8-bit Inference with TensorRT, GTC 2017 (the method "entropy").
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto
from onnxruntime import quantization
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
from onnxruntime.quantization.shape_inference import quant_pre_process

from nas.deploy.options import Activations, Method
from nas.errors import UserError

_METHODS: dict[Method, Any] = {
    "minmax": quantization.CalibrationMethod.MinMax,
    "entropy": quantization.CalibrationMethod.Entropy,
    "percentile": quantization.CalibrationMethod.Percentile,
}
_TYPES: dict[Activations, Any] = {"unsigned": quantization.QuantType.QUInt8, "signed": quantization.QuantType.QInt8}
QUANTISABLE: tuple[str, ...] = tuple(sorted({*QDQRegistry, *QLinearOpsRegistry}))
"""Types of operators that onnxruntime can quantise."""

# Images that are run at once: all activations of so many are in memory together.
_MAX_BATCH = 32
# Pixels after resizing are whole numbers of 1/255, so that nothing but rounding leads out of their range.
_ROUNDING = 0.01
_MAX_SHIFT, _MAX_RATIO = 1.0, 2.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibrated:
    """A float network with the ranges of its activations.

    Attributes:
        model: prepared: normalisations folded, shapes inferred, operators named as in the file. Never changed.
        ranges: of its values, as onnxruntime keeps them.
        activations: sign of 8-bit activations.
        method: that the ranges were found by.
    """

    model: ModelProto
    ranges: Any
    activations: Activations
    method: Method

    @property
    def operators(self) -> tuple[str, ...]:
        """Names of the operators that can be quantised, in the order of the graph."""
        return tuple(node.name for node in self.model.graph.node if node.op_type in QUANTISABLE)

    def quantised(self, operators: Collection[str] | None = None) -> ModelProto:
        """The network with these operators in 8 bits (QDQ form) and all others in float; None: as many as can be.

        The result is a new model with the names that onnxruntime gives.
        """
        model = copy.deepcopy(self.model)
        if operators is not None and not operators:
            return model  # for onnxruntime an empty list means all
        signed = self.activations == "signed"
        quantiser = QDQQuantizer(
            model,
            True,  # a scale an output channel
            False,
            quantization.QuantType.QInt8,
            _TYPES[self.activations],
            self.ranges,
            [] if operators is None else sorted(operators),
            [],
            list(QUANTISABLE),
            # Integer biases bring unsigned files their speed on NPUs; signed runtimes want them in float.
            {"ActivationSymmetric": signed, "WeightSymmetric": True, "QuantizeBias": not signed},
        )
        quantiser.quantize_model()
        quantiser.model.topological_sort()
        quantised: ModelProto = quantiser.model.model
        return quantised


def prepare(path_float32: Path) -> ModelProto:
    """The network of a float32 file as quantisers want it: constants and normalisations folded, shapes inferred.

    Names of operators are kept; those that have none get one. Raises whatever onnxruntime raises.
    """
    with tempfile.TemporaryDirectory(prefix="nas-quantise-") as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(path_float32), str(prepared), skip_symbolic_shape=True)
        model = onnx.load(prepared)
    _name_operators(model)
    return model


def _name_operators(model: ModelProto) -> None:
    """Unique names for all operators: quantisers are told by name what to leave alone."""
    taken: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.name or node.op_type}_{number}"
        taken.add(node.name)


def calibrate(prepared: ModelProto, images: np.ndarray, *, activations: Activations, method: Method) -> Calibrated:
    """The ranges that activations have on images.

    Memory stays bounded by the activations of 32 images, however many there are.

    Args:
        prepared: of `prepare`; not changed.
        images: ``(n, c, h, w)`` float32, checked by `check_images`.
        activations: ``unsigned`` (zero point where the range needs it) or ``signed`` (symmetric, every zero point 0).
        method: how the range of an activation follows from what was seen: all of it (``minmax``), the part that loses
            least information [Migacz2017] (``entropy``), or all but the 0.001 % farthest out (``percentile``).
    """
    reader = Reader(np.ascontiguousarray(images, dtype=np.float32), prepared.graph.input[0].name)
    with tempfile.TemporaryDirectory(prefix="nas-calibrate-") as folder:
        source = Path(folder) / "float.onnx"
        onnx.save(prepared, source)
        calibrator = create_calibrator(
            source,
            list(QUANTISABLE),
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=_METHODS[method],
            extra_options={"symmetric": activations == "signed"},
        )
        # Batch by batch: ranges are joined, and the activations behind them let go.
        for start in range(0, len(reader), reader.batch):
            reader.set_range(start, start + reader.batch)
            calibrator.collect_data(reader)
        ranges = calibrator.compute_data()
    return Calibrated(model=prepared, ranges=ranges, activations=activations, method=method)


def check_images(path: Path, images: np.ndarray) -> None:
    """Refuses images that a network cannot be calibrated on.

    Args:
        path: of the float32 file.
        images: ``(n, c, h, w)``.

    Raises:
        UserError: none, of another shape than the file takes, or not finite.
    """
    entry = onnx.load(path, load_external_data=False).graph.input[0]
    shape = tuple(dim.dim_value for dim in entry.type.tensor_type.shape.dim)[1:]
    if images.ndim == 4 and not len(images):
        raise UserError("calibration", "must hold at least one image, got none", "128 of the training split are usual")
    if images.ndim != 4 or images.shape[1:] != shape:
        raise UserError("calibration", f"must be images (n, {', '.join(map(str, shape))}), got {images.shape}")
    if not np.isfinite(images).all():
        raise UserError("calibration", "must be finite, got NaN or infinity", "look at the data's normalisation")


def check_normalisation(
    images: np.ndarray, *, mean: Sequence[float], std: Sequence[float], inputs: np.ndarray | None = None
) -> None:
    """Refuses calibration images that were not normalised as the model's inputs are.

    Two signs are looked at: values that no pixel can have after ``(pixel / 255 - mean) / std``, and a mean or a
    deviation far from those of inputs that the model is known to take (more than a standard deviation away, or
    more than twice or less than half as wide). A normalisation that gives similar figures is not noticed.

    Args:
        images: ``(n, c, h, w)``, for calibration; n > 0.
        mean, std: by channel, of the model.
        inputs: ``(m, c, h, w)``, e.g. of the test split; None: not compared.

    Raises:
        UserError: the first sign, with the figures.
    """
    formula = f"(pixel / 255 - mean) / std with mean {_figures(mean)} and std {_figures(std)}"
    for channel, (centre, width) in enumerate(zip(mean, std, strict=True)):
        values = np.asarray(images[:, channel], dtype=np.float64)
        least, most = -centre / width, (1 - centre) / width
        found = f"got values from {values.min():.3g} to {values.max():.3g} in channel {channel}"
        if values.min() < least - _ROUNDING / width or values.max() > most + _ROUNDING / width:
            problem = f"must be normalised as the model's inputs, {found}, where {least:.3g} to {most:.3g} are possible"
            raise UserError("calibration", problem, f"give {formula}")
        if inputs is None:
            continue
        wanted = np.asarray(inputs[:, channel], dtype=np.float64)
        shift = abs(values.mean() - wanted.mean())
        if shift > _MAX_SHIFT * wanted.std() or not _MAX_RATIO * _ratio(values.std(), wanted.std()) >= 1:
            problem = (
                f"must be normalised as the model's inputs, got a mean of {values.mean():.3g} and a deviation of "
                f"{values.std():.3g} in channel {channel}, the test images have {wanted.mean():.3g} and "
                f"{wanted.std():.3g}"
            )
            raise UserError("calibration", problem, f"give {formula}")


def _ratio(first: float, second: float) -> float:
    """The smaller over the larger, in [0, 1]; 1 where both are 0."""
    return min(first, second) / max(first, second) if max(first, second) > 0 else 1.0


def _figures(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.3g}' for value in values)}]"


class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Hands out equal batches: onnxruntime can join ranges over equal ones only."""

    def __init__(self, images: np.ndarray, name: str) -> None:
        self.images, self._name = images, name
        self.batch = next(size for size in range(min(_MAX_BATCH, len(images)), 0, -1) if len(images) % size == 0)
        self._position, self._end = 0, len(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch as the network takes it; None at the end."""
        if self._position >= self._end:
            return None
        start, self._position = self._position, self._position + self.batch
        return {self._name: self.images[start : self._position]}

    def set_range(self, start_index: int, end_index: int) -> None:
        """Starts over at an image, and ends before another."""
        self._position, self._end = start_index, end_index

    def __len__(self) -> int:
        return len(self.images)
