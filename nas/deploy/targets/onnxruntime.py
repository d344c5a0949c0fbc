"""onnxruntime on the processor: the target that is always there.

Responsible for its files, all of which run in an optimised session on one thread, and for telling which operators of a
file its kernels compute in another precision than the file's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime

from nas.deploy.judge import run_file, session
from nas.deploy.memory import activation_memory
from nas.deploy.options import DeployOptions
from nas.deploy.targets.float_kernels import float_operators
from nas.deploy.targets.onnx_files import check_input, write_onnx, write_untrained
from nas.deploy.targets.stopwatch import least_ms
from nas.deploy.targets.target import Artifact, Fallback, Level, Source, Verification, check_precision, verified

_FILES = {
    "float32": "model.fp32.onnx",
    "float16": "model.fp16.onnx",
    "int8": "model.int8.onnx",
    "int8-dynamic": "model.int8-dynamic.onnx",
    "int4": "model.int4.onnx",
}
# Of these only convolutions and matrix products are meant to be integers.
_WEIGHT_ONLY = frozenset({"int8-dynamic", "int4"})


@dataclass(frozen=True, kw_only=True)
class OnnxRuntime:
    """See `nas.deploy.targets.target.Target`.

    Attributes:
        options: how files are made that the model folder does not have.
    """

    options: DeployOptions = field(default_factory=DeployOptions)
    name: str = field(default="onnxruntime", init=False)
    level: Level = field(default="executed", init=False)
    precisions: tuple[str, ...] = field(default=tuple(_FILES), init=False)

    def available(self) -> str:
        """Empty: the library needs onnxruntime itself."""
        return ""

    def export(self, source: Source, folder: Path, precision: str) -> Artifact:
        """Takes the model folder's file over, or makes it."""
        check_precision(self, precision)
        path = folder / _FILES[precision]
        write_onnx(source, precision, path, self.options)
        return Artifact(path=path, precision=precision)

    def verify(self, artifact: Artifact, source: Source) -> Verification:
        """Runs the file on all test images; figures: latency of one image, memory for activations."""
        loaded = session(artifact.path)
        entry = loaded.get_inputs()[0]
        check_input(entry.shape, source, artifact.path)
        one = {entry.name: np.ascontiguousarray(source.samples.test[:1], dtype=np.float32)}
        memory = activation_memory(artifact.path)
        figures: dict[str, float | str | None] = {
            "runtime": "onnxruntime",
            "runtime_version": onnxruntime.__version__,
            "latency_ms": least_ms(lambda: loaded.run(None, one)),
            "peak_bytes": memory.peak_bytes,
            "arena_bytes": memory.arena_bytes,
        }
        logits = run_file(artifact.path, source.samples.test)
        return verified(logits, source, artifact, level=self.level, options=self.options, figures=figures)

    def fallbacks(self, float32_file: Path, precision: str) -> Sequence[Fallback]:
        """Operators that run in float32 in a file of another precision, from a file that is made and optimised here."""
        check_precision(self, precision)
        if precision == "float32":
            return ()
        with tempfile.TemporaryDirectory(prefix="nas-check-") as folder:
            path = Path(folder) / _FILES[precision]
            write_untrained(precision, float32_file, path, self.options)
            found = float_operators(path, heavy_only=precision in _WEIGHT_ONLY)
        source = f"run here, onnxruntime {onnxruntime.__version__}"
        if precision == "float16":  # the runtime converts the whole file, and its names with it
            return (Fallback(operator="model", node="", effect="float", reason=_HALF, source=source),) if found else ()
        return tuple(
            Fallback(
                operator=operator,
                node=f"/{place}/{operator}" if place else operator,
                effect="float",
                reason=_REASONS[precision],
                source=source,
            )
            for operator, place in found
        )


_HALF = "there are no float16 kernels for this processor, the file is converted to float32 as it is loaded"
_REASONS = {
    "int8": "there is no 8-bit kernel for it, it runs between conversions",
    "int8-dynamic": "it is not quantised at run time",
    "int4": "no kernel takes its weights as they are stored",
}
