"""ExecuTorch with XNNPACK: ``.pte`` files for phones and other ARM processors, run here by its Python runtime.

Responsible for the target; `executorch_lower` calls ExecuTorch in a process of its own. Lowering is the slowest of all
conversions: the first took 15 to 55 s on two shared cores, with all imports, and later ones in the same process 4 to
15 s, which is why one object of this class serves many models. For networks whose ranges were learned see
`nas.deploy.qat_executorch`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from nas.deploy.options import DeployOptions
from nas.deploy.targets.calibration import calibration_images
from nas.deploy.targets.executorch_process import ConverterProcess
from nas.deploy.targets.executorch_program import write_images, write_program
from nas.deploy.targets.extras import Extra
from nas.deploy.targets.fallbacks import OperatorTable, by_table
from nas.deploy.targets.target import Artifact, Fallback, Level, Source, Verification, check_precision, verified

EXECUTORCH = Extra(name="executorch", pins={"executorch": ("1.5", "1.6"), "torchao": ("0.18", "0.19")})
LOWER = "nas.deploy.targets.executorch_lower:lower"
_RUN = "nas.deploy.targets.executorch_lower:run"
_FILES = {"float32": "model.fp32.pte", "int8": "model.int8.pte"}
_NOTES = ("takes one image at a time, (1, c, h, w) float32, by the method forward",)
TABLE = OperatorTable(
    source="partitioner configurations of executorch 1.5 for XNNPACK; each operator not run here",
    accelerated=frozenset(
        {"Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "Div", "Elu", "Exp", "Flatten", "Gelu"}
        | {"Gemm", "GlobalAveragePool", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "MatMul", "MaxPool", "Mul"}
        | {"Max", "Min", "Pad", "Pow", "PRelu", "ReduceMean", "Relu", "Reshape", "Sigmoid", "Slice", "Softmax"}
        | {"Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze", "Resize"}
    ),
    others={
        "LayerNormalization": ("leaves", "runs in ExecuTorch's portable kernels on the processor, not in XNNPACK"),
        "Gather": ("leaves", "runs in ExecuTorch's portable kernels on the processor, not in XNNPACK"),
        "Erf": ("leaves", "runs in ExecuTorch's portable kernels, unless torch's gelu wrote it"),
    },
)


@dataclass(frozen=True, kw_only=True)
class ExecuTorch:
    """See `nas.deploy.targets.target.Target`.

    Attributes:
        options: how files are calibrated and gated.
    """

    options: DeployOptions = field(default_factory=DeployOptions)
    name: str = field(default="executorch", init=False)
    level: Level = field(default="executed", init=False)
    precisions: tuple[str, ...] = field(default=tuple(_FILES), init=False)

    @cached_property
    def _process(self) -> ConverterProcess:
        return ConverterProcess(target=self.name)

    def available(self) -> str:
        """Empty where executorch and torchao are installed in tested versions."""
        return EXECUTORCH.missing()

    def export(self, source: Source, folder: Path, precision: str) -> Artifact:
        """Writes ``model.<precision>.pte``."""
        EXECUTORCH.check(self.name)
        check_precision(self, precision)
        path = folder / _FILES[precision]
        with tempfile.TemporaryDirectory(prefix="nas-executorch-") as name:
            scratch = Path(name)
            program, calibration = scratch / "program.pt2", scratch / "calibration.npy"
            if precision == "int8":
                write_images(calibration_images(source, self.options.calibration_images), calibration)
            write_program(source.module, source.input_shape, program)
            told = self._process.call(
                LOWER, program=str(program), path=str(path.resolve()), precision=precision, calibration=str(calibration)
            )
        return Artifact(path=path, precision=precision, notes=(*_NOTES, delegation(told)))

    def verify(self, artifact: Artifact, source: Source) -> Verification:
        """Runs the file on all test images in ExecuTorch's runtime, on one thread."""
        EXECUTORCH.check(self.name)
        with tempfile.TemporaryDirectory(prefix="nas-executorch-") as folder:
            images, out = Path(folder) / "images.npy", Path(folder) / "logits.npy"
            write_images(source.samples.test, images)
            seen = self._process.call(_RUN, path=str(artifact.path.resolve()), images=str(images), logits=str(out))
            logits = np.load(out)
        figures: dict[str, float | str | None] = {
            "runtime": "executorch",
            "runtime_version": EXECUTORCH.versions()["executorch"],
            "latency_ms": seen["latency_ms"],
            "peak_bytes": None,  # nearly all activations are in XNNPACK's own buffers, which it does not tell
            "planned_bytes": seen["planned_bytes"],
            "planned_bytes_is": "the method's memory plan; XNNPACK's own buffers are not in it",
            "threads": seen["threads"],
        }
        return verified(logits, source, artifact, level=self.level, options=self.options, figures=figures)

    def fallbacks(self, float32_file: Path, precision: str) -> Sequence[Fallback]:
        """Operators that XNNPACK does not take, which ExecuTorch runs in its portable, slow kernels."""
        check_precision(self, precision)
        return by_table(float32_file, TABLE)


def delegation(told: Mapping[str, object]) -> str:
    """A sentence on what XNNPACK took, from the answer of `executorch_lower.lower`."""
    left = told["left"]
    assert isinstance(left, dict)
    parts = f"{told['delegates']} part{'' if told['delegates'] == 1 else 's'}"
    if not left:
        return f"all operators run in XNNPACK, in {parts}"
    listed = ", ".join(f"{name} ({count})" for name, count in sorted(left.items()))
    return f"XNNPACK takes {parts}; portable kernels run {listed}"
