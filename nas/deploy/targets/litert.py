"""LiteRT (once TensorFlow Lite): ``.tflite`` files, made without TensorFlow and run in its interpreter.

Responsible for the target; `litert_files` makes the files, `litert_convert` calls the converters in a process of their
own. Files take one image at a time, in torch's layout ``(1, c, h, w)`` float32, and give ``logits``.

INT8 here is for phones: on x86 XNNPACK's integer kernels were no faster than its float ones for most networks of
`experiments/targets_mobile`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nas.deploy.options import DeployOptions
from nas.deploy.targets.executorch_process import ConverterProcess
from nas.deploy.targets.executorch_program import write_images
from nas.deploy.targets.fallbacks import OperatorTable, by_table
from nas.deploy.targets.litert_files import LITERT, TfliteFiles
from nas.deploy.targets.litert_flatbuffer import read_contents
from nas.deploy.targets.target import Artifact, Fallback, Level, Source, Verification, check_precision, verified

_FILES = {
    "float32": "model.fp32.tflite",
    "float16": "model.fp16.tflite",
    "int8": "model.int8.tflite",
    "int8-dynamic": "model.int8-dynamic.tflite",
    "int4": "model.int4.tflite",
}
_NOTES = ("takes one image at a time, (1, c, h, w) float32, by the signature serving_default: input -> logits",)
_CONVERTED = frozenset(
    {"Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "Div", "Erf", "Flatten", "Gather", "Gelu"}
    | {"Gemm", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "LayerNormalization", "MatMul", "Max"}
    | {"MaxPool", "Min", "Mul", "Pad", "Pow", "ReduceMean", "ReduceSum", "ReduceMax", "Relu", "Reshape", "Sigmoid"}
    | {"Slice", "Softmax", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze"}
)
_IN_FLOAT = frozenset({"Elu", "Exp", "LeakyRelu", "Log", "PRelu", "Softplus"})
FLOAT_TABLE = OperatorTable(
    source="litert-torch 0.10 and the operators of XNNPACK in ai-edge-litert 2.3; each operator not run here",
    accelerated=_CONVERTED | _IN_FLOAT,
)
INT8_TABLE = OperatorTable(
    source="default policy of ai-edge-quantizer 0.10; each operator not run here",
    accelerated=_CONVERTED,
    others=dict.fromkeys(_IN_FLOAT, ("float", "has no 8-bit form in the quantizer: runs in float32")),
)


@dataclass(frozen=True, kw_only=True)
class LiteRt:
    """See `nas.deploy.targets.target.Target`.

    One object starts one converters' process (10 to 15 s of imports), at its first export, and uses it for all models.

    Attributes:
        options: how files are calibrated and gated.
    """

    options: DeployOptions = field(default_factory=DeployOptions)
    name: str = field(default="litert", init=False)
    level: Level = field(default="executed", init=False)
    precisions: tuple[str, ...] = field(default=tuple(_FILES), init=False)

    @cached_property
    def _files(self) -> TfliteFiles:
        return TfliteFiles(options=self.options, process=ConverterProcess(target=self.name))

    def available(self) -> str:
        """Empty where litert-torch, the interpreter and the quantizer are installed in tested versions."""
        return LITERT.missing()

    def export(self, source: Source, folder: Path, precision: str) -> Artifact:
        """Writes ``model.<precision>.tflite``."""
        LITERT.check(self.name)
        check_precision(self, precision)
        made = self._files.make(source, precision, folder / _FILES[precision])
        return Artifact(path=made.path, precision=precision, notes=(*_NOTES, *made.notes))

    def verify(self, artifact: Artifact, source: Source) -> Verification:
        """Runs the file on all test images in the interpreter with XNNPACK, on one thread."""
        LITERT.check(self.name)
        contents = read_contents(artifact.path)
        with tempfile.TemporaryDirectory(prefix="nas-litert-") as folder:
            images = Path(folder) / "images.npy"
            write_images(source.samples.test, images)
            logits, seen = self._files.logits(artifact.path, images)
        latency = seen["latency_ms"]
        figures: dict[str, float | str | None] = {
            "runtime": "ai-edge-litert",
            "runtime_version": LITERT.versions()["ai-edge-litert"],
            "latency_ms": float(latency) if isinstance(latency, float) else None,
            "peak_bytes": contents.arena_bytes,
            "peak_bytes_is": "planned over the file's tensors; XNNPACK's own scratch memory is not in it",
            "layout": "NCHW",
            "operators": " ".join(f"{name}:{count}" for name, count in sorted(contents.operators.items())),
        }
        return verified(logits, source, artifact, level=self.level, options=self.options, figures=figures)

    def fallbacks(self, float32_file: Path, precision: str) -> Sequence[Fallback]:
        """Operators without an 8-bit form (they run in float32), or that no converter was seen to take."""
        check_precision(self, precision)
        return by_table(float32_file, INT8_TABLE if precision == "int8" else FLOAT_TABLE)
