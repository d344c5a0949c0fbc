"""Core ML: ``.mlpackage`` folders for Apple devices, written and checked on any machine, run on none but Apple's.

Responsible for the target; `coreml_convert` calls coremltools in a process of its own, `coreml_program` reads packages
back. The level is ``structure-only``: Core ML exists on Apple systems only, and nothing of it ran. What can be told
without it is told: the saved package is opened again, its interface and the types of its weights are checked, and torch
computes its program from the saved weights.

Two exports of one network differ in identifiers and a date that coremltools writes, not in program or weights.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from nas.deploy.judge import FileJudgement, compare
from nas.deploy.options import DeployOptions
from nas.deploy.targets.calibration import calibration_images
from nas.deploy.targets.coreml_convert import INPUT, OUTPUT
from nas.deploy.targets.executorch_process import ConverterProcess
from nas.deploy.targets.executorch_program import write_images, write_program
from nas.deploy.targets.extras import Extra
from nas.deploy.targets.fallbacks import OperatorTable, by_table
from nas.deploy.targets.target import Artifact, Fallback, Level, Source, Verification, check_precision, gate

COREML = Extra(
    name="coreml", pins={"coremltools": ("9.0", "9.1"), "torchao": ("0.18", "0.19"), "executorch": ("1.5", "1.6")}
)
_CONVERT = "nas.deploy.targets.coreml_convert:convert"
_READ = "nas.deploy.targets.coreml_program:read"
_COMPUTE = "nas.deploy.targets.coreml_program:compute"
# Test images that torch computes a package for, at most; a few milliseconds each.
_IMAGES = 512
# precision -> stored type of the weights, and the system that the package asks for.
_STORED = {
    "float32": ("fp32", "iOS 17 or macOS 14"),
    "float16": ("fp16", "iOS 17 or macOS 14"),
    "int8": ("int8", "iOS 17 or macOS 14"),
    "int8-weights": ("int8", "iOS 17 or macOS 14"),
    "int4": ("int4", "iOS 18 or macOS 15"),
    "palette6": ("palette6", "iOS 17 or macOS 14"),
    "palette4": ("palette4", "iOS 17 or macOS 14"),
}
_NOTHING_RAN = "nothing of Core ML ran where this was made: compare with the golden outputs on an Apple device"
_TAKES = "takes one image at a time, (1, c, h, w) float32, as input; gives logits"
TABLE = OperatorTable(
    source="torch front end of coremltools 9.0; which unit of a device runs an operator is only seen there",
    accelerated=frozenset(
        {"Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "Div", "Elu", "Erf", "Exp", "Flatten"}
        | {"Gather", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "LeakyRelu"}
        | {"LayerNormalization", "MatMul", "Max", "MaxPool", "Min", "Mul", "Pad", "Pow", "PRelu", "ReduceMax"}
        | {"ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize", "Sigmoid", "Slice", "Softmax", "Softplus", "Split"}
        | {"Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze"}
    ),
)


@dataclass(frozen=True, kw_only=True)
class CoreMl:
    """See `nas.deploy.targets.target.Target`.

    ``int8`` rounds weights and activations; ``int8-weights``, ``int4`` and ``palette...`` only weights, activations
    are float16.

    Attributes:
        options: how packages are calibrated and gated.
    """

    options: DeployOptions = field(default_factory=DeployOptions)
    name: str = field(default="coreml", init=False)
    level: Level = field(default="structure-only", init=False)
    precisions: tuple[str, ...] = field(default=tuple(_STORED), init=False)

    @cached_property
    def _process(self) -> ConverterProcess:
        return ConverterProcess(target=self.name)

    def available(self) -> str:
        """Empty where coremltools, and what calibrates INT8, are installed in tested versions."""
        return COREML.missing()

    def export(self, source: Source, folder: Path, precision: str) -> Artifact:
        """Writes ``model.<precision>.mlpackage``, with labels and normalisation in its metadata."""
        COREML.check(self.name)
        check_precision(self, precision)
        path = folder / f"model.{precision.replace('float', 'fp')}.mlpackage"
        with tempfile.TemporaryDirectory(prefix="nas-coreml-") as name:
            scratch = Path(name)
            program, calibration, made = scratch / "program.pt2", scratch / "images.npy", scratch / path.name
            if precision == "int8":
                write_images(calibration_images(source, self.options.calibration_images), calibration)
            write_program(source.module, source.input_shape, program)
            self._process.call(
                _CONVERT,
                program=str(program),
                path=str(made),
                precision=precision,
                calibration=str(calibration),
                metadata=_metadata(source),
            )
            contents = self._process.call(_READ, path=str(made))
            shutil.rmtree(path, ignore_errors=True)
            shutil.copytree(made, path)
        notes = (_NOTHING_RAN, _TAKES, f"needs {_STORED[precision][1]} or later", *_left(contents, precision))
        return Artifact(path=path, precision=precision, notes=notes)

    def verify(self, artifact: Artifact, source: Source) -> Verification:
        """Opens the package again, checks interface and weights, and has torch compute it on some test images."""
        COREML.check(self.name)
        path = str(artifact.path.resolve())
        contents = self._process.call(_READ, path=path)
        judgement, judged_in = self._judgement(path, source)
        figures: dict[str, float | str | None] = {
            "runtime": "coreml",
            "runtime_version": None,
            "coremltools": COREML.versions()["coremltools"],
            "specification": contents["version"],
            "latency_ms": None,
            "peak_bytes": None,
            "judged_in": judged_in,
            "operators": _listed(contents["operators"]),
            "weights_bytes": _listed(contents["weights"]),
        }
        reason = _misfit(contents, artifact.precision, source)
        if not reason and judgement is not None:
            reason = gate(judgement, artifact.precision, self.options)
        return Verification(level=self.level, judgement=judgement, reason=reason, figures=figures)

    def fallbacks(self, float32_file: Path, precision: str) -> Sequence[Fallback]:
        """Operators that coremltools cannot convert. Which unit runs the others is only seen on a device."""
        check_precision(self, precision)
        return by_table(float32_file, TABLE)

    def _judgement(self, path: str, source: Source) -> tuple[FileJudgement | None, str]:
        count = min(_IMAGES, source.samples.test.shape[0])
        picked = np.linspace(0, source.samples.test.shape[0] - 1, count).round().astype(int)
        with tempfile.TemporaryDirectory(prefix="nas-coreml-") as folder:
            images, out = Path(folder) / "images.npy", Path(folder) / "logits.npy"
            write_images(np.ascontiguousarray(source.samples.test[picked], dtype=np.float32), images)
            unknown = self._process.call(_COMPUTE, path=path, images=str(images), logits=str(out))
            if unknown:
                return None, f"nothing: torch does not compute {', '.join(unknown)} here"
            logits = np.load(out)
        if logits.shape[1:] != source.reference.shape[1:]:
            return None, "nothing: its output has another shape"
        labels = np.asarray(source.samples.test_labels)[picked]
        return compare(logits, labels, source.reference[picked]), "torch, operator by operator: not in Core ML"


def _metadata(source: Source) -> dict[str, str]:
    samples = source.samples
    return {
        "labels": json.dumps(list(samples.classes)),
        "mean": json.dumps(list(samples.mean)),
        "std": json.dumps(list(samples.std)),
        "normalisation": "(pixel / 255 - mean) / std, by channel",
    }


def _left(contents: Mapping[str, object], precision: str) -> tuple[str, ...]:
    """A sentence on weights that stayed floats where they should not have."""
    floats = contents["floats"]
    assert isinstance(floats, list)
    if precision in ("float32", "float16") or not floats:
        return ()
    return (f"these weights stay floats: {', '.join(floats)}",)


def _misfit(contents: Mapping[str, dict[str, object]], precision: str, source: Source) -> str:
    """Why a package is not what was asked for; empty if it is."""
    wanted = {INPUT: ["FLOAT32", [1, *source.input_shape]]}
    if contents["inputs"] != wanted:
        return f"its inputs are {contents['inputs']}, must be {wanted}"
    wanted = {OUTPUT: ["FLOAT32", [1, source.reference.shape[1]]]}
    if contents["outputs"] != wanted:
        return f"its outputs are {contents['outputs']}, must be {wanted}"
    kind = _STORED[precision][0]
    if kind not in contents["weights"]:
        return f"stores no weight as {kind}: compression was skipped"
    return ""


def _listed(counts: Mapping[str, object]) -> str:
    return " ".join(f"{name}:{count}" for name, count in sorted(counts.items()))
