"""Microcontrollers: an INT8 network as C files for TensorFlow Lite Micro.

Responsible for the target. The ``.tflite`` is LiteRT's static INT8 file with int8 input and output; beside it stand the
array (``nas_model_data``), an interface in C (``nas_model``) and an example (``main.c``) that compares one answer.

The level is ``script-only``: no build of TensorFlow Lite Micro comes with the packages that this target needs, so
nothing of it ran. The array is compiled by this machine's C compiler and compared with the file byte by byte; the
answers of the file are judged by LiteRT's reference kernels, from which those of TensorFlow Lite Micro were taken.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from nas.deploy.options import DeployOptions
from nas.deploy.targets.executorch_process import ConverterProcess
from nas.deploy.targets.executorch_program import write_images
from nas.deploy.targets.fallbacks import OperatorTable, by_table
from nas.deploy.targets.litert_files import LITERT, TfliteFiles
from nas.deploy.targets.litert_flatbuffer import read_contents
from nas.deploy.targets.microcontroller_code import (
    Example,
    Interface,
    arena_bytes,
    check_operators,
    compiled_bytes,
    write_code,
)
from nas.deploy.targets.target import Artifact, Effect, Fallback, Level, Source, Verification, check_precision, verified

_FILE = "model.int8.tflite"
_NOTES = (
    "input and output are int8; nas_model.h has their scales, the labels and the size of the arena",
    "nothing of TensorFlow Lite Micro ran where this was made: build main.c and nas_model.cc for the controller, its "
    "exit code tells whether the answer is right",
    "the size of the arena is computed, not measured",
)
_SPELT = frozenset(
    {"Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "Div", "Flatten", "Gemm"}
    | {"GlobalAveragePool", "HardSigmoid", "HardSwish", "MatMul", "Max", "MaxPool", "Min", "Mul", "Pad"}
    | {"ReduceMean", "ReduceSum", "Relu", "Reshape", "Sigmoid", "Slice", "Softmax", "Split", "Squeeze", "Sub", "Tanh"}
    | {"Transpose", "Unsqueeze", "LayerNormalization"}
)
_IN_FLOAT: tuple[Effect, str] = (
    "float",
    "has no 8-bit form in the quantizer: runs in float32, in software where there is no FPU",
)
TABLE = OperatorTable(
    source="operators of MicroMutableOpResolver and the default policy of ai-edge-quantizer 0.10; not run here",
    accelerated=_SPELT,
    others=dict.fromkeys(("Elu", "Exp", "LeakyRelu", "Log", "PRelu"), _IN_FLOAT),
    unknown="refused",
)


@dataclass(frozen=True, kw_only=True)
class Microcontroller:
    """See `nas.deploy.targets.target.Target`.

    Attributes:
        options: how files are calibrated and gated.
    """

    options: DeployOptions = field(default_factory=DeployOptions)
    name: str = field(default="microcontroller", init=False)
    level: Level = field(default="script-only", init=False)
    precisions: tuple[str, ...] = field(default=("int8",), init=False)

    @cached_property
    def _files(self) -> TfliteFiles:
        return TfliteFiles(options=self.options, process=ConverterProcess(target=self.name))

    def available(self) -> str:
        """Empty where LiteRT's packages, which make the file, are installed in tested versions."""
        return LITERT.missing()

    def export(self, source: Source, folder: Path, precision: str) -> Artifact:
        """Writes the ``.tflite`` and, as extras, the C files.

        Raises:
            UserError: an operator that TensorFlow Lite Micro lacks.
        """
        LITERT.check(self.name)
        check_precision(self, precision)
        made = self._files.integer_file(source)
        contents = read_contents(made.path)
        check_operators(contents)
        interface, example = self._example(made.path, source)
        path = folder / _FILE
        shutil.copyfile(made.path, path)
        extras = write_code(
            folder,
            path,
            contents,
            interface=interface,
            labels=source.samples.classes,
            mean=source.samples.mean,
            std=source.samples.std,
            example=example,
        )
        return Artifact(path=path, precision=precision, extras=extras, notes=(*_NOTES, *made.notes))

    def verify(self, artifact: Artifact, source: Source) -> Verification:
        """Compiles the array, compares it with the file, and judges the file by LiteRT's reference kernels."""
        LITERT.check(self.name)
        contents = read_contents(artifact.path)
        with tempfile.TemporaryDirectory(prefix="nas-microcontroller-") as folder:
            images = Path(folder) / "images.npy"
            write_images(source.samples.test, images)
            logits, _ = self._files.logits(artifact.path, images, reference=True)
        built, problem = compiled_bytes(artifact.path.parent)
        figures: dict[str, float | str | None] = {
            "runtime": "tensorflow lite micro",
            "runtime_version": None,
            "judged_in": f"reference kernels of ai-edge-litert {LITERT.versions()['ai-edge-litert']}",
            "latency_ms": None,
            "peak_bytes": contents.arena_bytes,
            "arena_bytes": arena_bytes(contents),
            "arena_bytes_is": "computed",
            "compiled": problem or "the array is the file, byte by byte",
        }
        found = verified(logits, source, artifact, level=self.level, options=self.options, figures=figures)
        reason = ""
        if built is not None and built != artifact.path.read_bytes():
            reason = "the compiled array is not the .tflite file"
        elif built is None and "refuses" in problem:
            reason = problem
        return Verification(level=self.level, judgement=found.judgement, reason=reason or found.reason, figures=figures)

    def fallbacks(self, float32_file: Path, precision: str) -> Sequence[Fallback]:
        """Operators that TensorFlow Lite Micro lacks, or that stay float32 on a controller."""
        check_precision(self, precision)
        return by_table(float32_file, TABLE)

    def _example(self, path: Path, source: Source) -> tuple[Interface, Example]:
        image = np.ascontiguousarray(source.samples.test[:1], dtype=np.float32)
        with tempfile.TemporaryDirectory(prefix="nas-microcontroller-") as folder:
            images = Path(folder) / "images.npy"
            write_images(image, images)
            logits, seen = self._files.logits(path, images, reference=True)
        numbers = {name: float(str(seen[name])) for name in _NUMBERS}
        interface = Interface(
            shape=source.input_shape,
            input_scale=numbers["input_scale"],
            input_zero_point=int(numbers["input_zero_point"]),
            output_scale=numbers["output_scale"],
            output_zero_point=int(numbers["output_zero_point"]),
        )
        return interface, Example(
            image=_integers(image[0], interface.input_scale, interface.input_zero_point),
            logits=_integers(logits[0], interface.output_scale, interface.output_zero_point),
        )


_NUMBERS = ("input_scale", "input_zero_point", "output_scale", "output_zero_point")


def _integers(values: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    steps = np.round(values / np.float32(scale)) + zero_point
    return np.clip(steps, -128, 127).astype(np.int8)
