"""``.tflite`` files run by LiteRT's interpreter.

Responsible for the file's answers. It needs numpy and ai-edge-litert only, so that a deployer can use it as it stands.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nas.deploy.targets.stopwatch import least_ms
from nas.errors import UserError, first_line


@dataclass(frozen=True, kw_only=True)
class End:
    """An input or output of a file.

    Attributes:
        index: the interpreter's.
        shape: with the batch of one.
        kind: numpy's name of the element type.
        scale, zero_point: of integers, ``value = (integer - zero_point) * scale``; 0 where the type is a float.
    """

    index: int
    shape: tuple[int, ...]
    kind: str
    scale: float
    zero_point: int


class TfliteModel:
    """A file that is loaded, with one input and one output, on one thread.

    Args:
        path: of the file.
        reference: take the plain kernels, whose integers are those of TensorFlow Lite Micro, and not XNNPACK's.

    Raises:
        UserError: the file is missing, or LiteRT cannot load it.
    """

    def __init__(self, path: Path, *, reference: bool = False) -> None:
        if not path.is_file():
            raise UserError(str(path), "must be a .tflite file, there is none", "export the model again")
        runtime = importlib.import_module("ai_edge_litert.interpreter")
        kinds = runtime.OpResolverType
        resolver = kinds.BUILTIN_REF if reference else kinds.AUTO
        try:
            self._interpreter = runtime.Interpreter(
                model_content=path.read_bytes(), num_threads=1, experimental_op_resolver_type=resolver
            )
            self._interpreter.allocate_tensors()
        except Exception as error:  # ValueError and RuntimeError of native code
            problem = f"cannot be loaded by LiteRT, {first_line(error)}"
            raise UserError(str(path), problem, "export the model again") from error
        (taken,), (given,) = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.input, self.output = _end(taken), _end(given)

    def answer(self, image: np.ndarray) -> np.ndarray:
        """Logits ``(classes,)`` float32 of one image ``(c, h, w)`` float32."""
        self.set(image)
        self._interpreter.invoke()
        given = self._interpreter.get_tensor(self.output.index)[0]
        if not self.output.scale:
            return np.asarray(given, dtype=np.float32)
        values = np.asarray(given, dtype=np.float32) - np.float32(self.output.zero_point)
        return values * np.float32(self.output.scale)

    def set(self, image: np.ndarray) -> None:
        """Writes the input tensor from an image ``(c, h, w)`` float32."""
        value = image[None]
        if self.input.scale:
            limits = np.iinfo(self.input.kind)
            steps = np.round(value / np.float32(self.input.scale)) + self.input.zero_point
            value = np.clip(steps, limits.min, limits.max)
        self._interpreter.set_tensor(self.input.index, np.ascontiguousarray(value, dtype=self.input.kind))

    def latency_ms(self) -> float:
        """Milliseconds of the quickest run on the input that was set last."""
        return least_ms(self._interpreter.invoke)


def _end(details: Any) -> End:
    scale, zero_point = details["quantization"]
    return End(
        index=int(details["index"]),
        shape=tuple(int(size) for size in details["shape"]),
        kind=np.dtype(details["dtype"]).name,
        scale=float(scale),
        zero_point=int(zero_point),
    )


def run(path: str, images: str, logits: str, reference: bool = False) -> dict[str, Any]:
    """Runs a file on all images; in the converters' process, as LiteRT writes to the standard error.

    Args:
        path: of the file.
        images: ``.npy`` ``(n, c, h, w)`` float32.
        logits: ``.npy`` that is written, ``(n, classes)`` float32.
        reference: see `TfliteModel`.

    Returns:
        ``latency_ms``; ``input_type``, ``input_scale``, ``input_zero_point``, and the same of the output.

    Raises:
        UserError: the file cannot be loaded, or takes other images.
    """
    model = TfliteModel(Path(path), reference=reference)
    held = np.load(images, mmap_mode="r")
    if tuple(model.input.shape[1:]) != tuple(held.shape[1:]):
        found, wanted = (" x ".join(map(str, shape)) for shape in (model.input.shape[1:], held.shape[1:]))
        raise UserError(path, f"takes images {found}, the samples are {wanted}", "export the model again")
    np.save(logits, np.stack([model.answer(np.array(image)) for image in held]))
    figures: dict[str, Any] = {"latency_ms": None if reference else model.latency_ms()}
    for name, end in (("input", model.input), ("output", model.output)):
        figures |= {f"{name}_type": end.kind, f"{name}_scale": end.scale, f"{name}_zero_point": end.zero_point}
    return figures
